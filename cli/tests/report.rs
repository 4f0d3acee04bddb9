//! The page of HTML: what a hostile pack gets into it, whether it is the same
//! every time, and whether it needs anything from elsewhere.

#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

#[path = "common/attacks.rs"]
mod attacks;
mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;
#[path = "common/long.rs"]
mod long;

use std::fs;
use std::process::{Command, Stdio};

use attacks::hostile;
use base64::Engine as _;
use common::{copy_pack, text, told};
use runpack_core::canon::Digest;

fn good(name: &str) -> String {
    text(&inputs::testdata(&format!("packs/good/{name}"))).to_owned()
}

/// The page, and the exit code.
fn page(args: &[&str]) -> (i32, String) {
    let (code, out, err) = told(["report"].iter().chain(args));
    assert_eq!(err, "", "{args:?}");
    (code, out)
}

/// What a text may not do: run, load, leave its element or its attribute.
fn needs_nothing_from_elsewhere(page: &str) {
    for (start, _) in page.match_indices("href=") {
        assert!(page[start..].starts_with("href=\"#"), "{}", &page[start..start + 40]);
    }
    let body = page.split_once("</style>").unwrap().1;
    for never in [
        "src=", "style=", "<img", "<link", "<iframe", "<object", "<embed", "<base", "<form", "<meta", "@import", "url(",
    ] {
        assert!(!body.contains(never), "{never}");
    }
    assert!(!page.contains("url(") && !page.contains("@import"));
}

/// The only style and script are those that the policy names.
fn runs_only_what_is_ours(page: &str, scripts: usize) {
    let policy = page.split_once("Content-Security-Policy\" content=\"").unwrap().1.split_once('"').unwrap().0;
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert_eq!(page.matches("<script").count(), scripts);
    assert_eq!(page.matches("<style").count(), 1);
    for (element, count) in [("style", 1), ("script", scripts)] {
        for piece in page.split(&format!("<{element}>")).skip(1).take(count) {
            let inner = piece.split_once(&format!("</{element}>")).unwrap().0;
            let hash = base64::engine::general_purpose::STANDARD.encode(Digest::of(inner.as_bytes()).as_bytes());
            assert!(policy.contains(&format!("{element}-src 'sha256-{hash}'")), "{element}");
        }
    }
}

#[test]
fn a_page_tells_verdict_identity_digests_gates_and_decisions() {
    let (code, page) = page(&[&good("rich")]);
    assert_eq!(code, 0);
    needs_nothing_from_elsewhere(&page);
    runs_only_what_is_ours(&page, 1);
    let manifest = fs::read(inputs::testdata("packs/good/rich/manifest.json")).unwrap();
    let digest = Digest::of(&manifest).to_string();
    assert!(page.contains(&format!("data-digest=\"{digest}\"")));
    for (start, end) in [(0, 8), (56, 64)] {
        assert!(page.contains(&format!("<span>{}</span>", &digest[start..end])));
    }
    for said in [
        "✓ consistent",
        "8 files read",
        "gives the same 7 decisions",
        "least lane <strong>verified or asserted</strong>",
        "2 digests that nothing in the pack can confirm: <bdi>request of a refused call</bdi>",
        "True 1 time, False 1, Unknown 1; last in <a href=\"#step-4\">step 4</a>",
        "at least 2 of 2",
        "<bdi>digest-pinned</bdi></code>: found 4 bytes (verified), asked for equals",
        "anchored by <code><bdi>file_path_rooted</bdi></code>",
        "error <code><bdi>trust_lane</bdi></code>",
        "1 completed the run; 2 advanced; 1 started it; 3 held; 3 disclosed packets, 4 submissions; 0 steps with findings",
    ] {
        assert!(page.contains(said), "{said}");
    }
    // Every gate's tree comes to what the log says it came to.
    assert_eq!(page.matches("id=\"step-").count(), 7);
}

#[test]
fn the_same_pack_is_the_same_page_wherever_it_lies_and_however_it_is_named() {
    let work = tempfile::tempdir().unwrap();
    let (there, sealed) = (work.path().join("a <b> & c"), work.path().join("p.runpack.tar"));
    copy_pack(&there);
    let first = page(&[&good("release-gate")]);
    assert_eq!(first.0, 0);
    assert!(!first.1.contains("testdata"), "it says nothing of where the pack was");
    assert_eq!(page(&[&good("release-gate")]), first);
    assert_eq!(page(&[text(&there)]), first);
    assert_eq!(page(&[text(&there.join("manifest.json"))]), first);
    assert_eq!(told(["seal", text(&there), "--out", text(&sealed)]).0, 0);
    assert_eq!(page(&[text(&sealed)]), first);
    assert_eq!(page(&[&format!("file://{}", text(&sealed))]), first);
    let stdin = Command::new(env!("CARGO_BIN_EXE_runpack"))
        .args(["report", "-"])
        .stdin(fs::File::open(&sealed).unwrap())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(stdin.stdout).unwrap(), first.1);
    let out = work.path().join("report.html");
    let (code, stdout, stderr) = told(["report", text(&there), "-o", text(&out)]);
    assert_eq!((code, stdout.as_str()), (0, ""));
    assert_eq!(stderr, format!("{}: written; {}: consistent\n", text(&out), text(&there)));
    assert_eq!(fs::read_to_string(&out).unwrap(), first.1);
    // A second time over the first, and nothing left beside it.
    assert_eq!(told(["report", text(&there), "-o", text(&out)]).0, 0);
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 3);
}

#[test]
fn a_page_inside_its_pack_is_refused() {
    let work = tempfile::tempdir().unwrap();
    copy_pack(work.path());
    let pack = text(work.path());
    for args in [vec!["report", pack], vec!["report", "--recursive", pack]] {
        let inside = work.path().join("artifacts/report.html");
        let (code, _, err) = told(args.iter().copied().chain(["--output", text(&inside)]));
        assert_eq!(code, 2);
        assert!(err.contains("would be a file of the pack") && err.contains("hint: write it elsewhere"), "{err}");
        assert!(!inside.exists());
    }
    let nowhere = work.path().with_extension("gone").join("report.html");
    let (code, _, err) = told(["report", pack, "-o", text(&nowhere)]);
    assert_eq!(code, 2);
    assert!(err.contains(&format!("cannot write `{}`", text(&nowhere))), "{err}");
    let (code, _, err) = told(["report"]);
    assert_eq!((code, err.contains("hint: name one, or pass --recursive")), (2, true), "{err}");
    assert_eq!(told(["report", text(&work.path().with_extension("gone"))]).0, 2);
}

#[test]
fn only_pages_and_pins_are_written_over_and_pipes_are_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let (file, pipe) = (dir.path().join("file"), dir.path().join("pipe"));
    for command in ["report", "pin"] {
        fs::write(&file, "").unwrap();
        for _ in 0..2 {
            assert_eq!(told([command, &good("rich"), "--output", text(&file)]).0, 0, "{command}");
        }
        fs::write(&file, "somebody's").unwrap();
        let (code, _, err) = told([command, &good("rich"), "--output", text(&file)]);
        assert!(code == 2 && err.contains("so it is not written over\nhint: choose another name"), "{err}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "somebody's");
    }
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    assert_eq!(told(["report", &good("rich"), "--output", text(&pipe)]).0, 0);
    assert!(reader.join().unwrap().starts_with("<!DOCTYPE html>"));
}

#[test]
fn what_was_expected_from_outside_is_on_the_page() {
    let digest = "948df923937964a3135a14f2f6eb7b5a762ddc40375bb16354442381edd314bf";
    let (code, pinned) = page(&[&good("release-gate"), "--expect-digest", digest]);
    assert_eq!(code, 0);
    assert!(pinned.contains("✓ pinned") && !pinned.contains("may have been replaced whole"));
    let (code, other) = page(&[&good("release-gate"), "--expect-digest", &digest.replace('9', "8")]);
    assert_eq!(code, 1);
    assert!(other.contains("✗ refused") && other.contains("RP0701"));
}

#[test]
fn a_forged_pack_says_so_first_and_names_the_step() {
    let work = tempfile::tempdir().unwrap();
    copy_pack(work.path());
    let path = work.path().join("artifacts/decisions.json");
    fs::write(&path, fs::read_to_string(&path).unwrap().replacen("\"hold\"", "\"HOLD\"", 1)).unwrap();
    let (code, page) = page(&[text(work.path())]);
    assert_eq!(code, 1);
    assert!(page.contains("Do not believe what the records below say."));
    assert!(page.contains("The records cannot be shown"));
    let evals = work.path().join("artifacts/gate_evals.json");
    copy_pack(work.path());
    fs::write(&evals, fs::read_to_string(&evals).unwrap().replacen("\"status\":\"False\"", "\"status\":\"True\"", 1))
        .unwrap();
    let (_, page) = self::page(&[text(work.path())]);
    assert!(page.contains("href=\"#step-1\">step 1</a>"), "the finding leads to its step");
    assert!(page.contains("class=\"step no\" id=\"step-1\""), "the step is marked");
    assert!(page.contains("class=\"alarm\""), "the drawing is marked");
    assert!(page.contains("the file has another"), "the digest is marked");
}

#[test]
fn no_text_of_a_pack_leaves_its_place() {
    let work = tempfile::tempdir().unwrap();
    let pack = work.path().join("\"><script>alert('path')</script>");
    let count = hostile(&pack);
    assert!(count > 60, "{count} texts of the pack may be any text");
    let (code, page) = page(&[text(&pack)]);
    assert_eq!(code, 1);
    let (_, fleet) = self::page(&["--recursive", text(work.path())]);
    let (_, named) = self::page(&[text(&pack), text(&pack)]);
    for (page, scripts) in [(&page, 1), (&fleet, 0), (&named, 0)] {
        needs_nothing_from_elsewhere(&page.replace("src=x", "").replace("&lt;img", ""));
        runs_only_what_is_ours(page, scripts);
        assert!(!page.contains("<script>alert") && !page.contains("<img") && !page.contains('\u{202e}'));
        assert!(!page.contains("</bdi></svg>") && !page.contains("\"'&gt;&lt;script") && page.contains("&lt;"));
    }
    let escaped = |number: usize| {
        format!(
            "&quot;'&gt;&lt;script&gt;alert({number})&lt;/script&gt;&lt;img src=x onerror=alert({number})&gt;\\u{{202e}}&lt;/bdi&gt;"
        )
    };
    let shown = (0..count).filter(|number| page.contains(&escaped(*number))).count();
    assert!(shown >= 100, "{shown} of {count} attacks are on the page, as text");
    assert!(fleet.contains("&lt;script&gt;alert('path')"));
    // What was opened is closed: no text took an end tag with it.
    for element in
        ["bdi", "code", "span", "li", "ul", "td", "th", "tr", "table", "dd", "dl", "details", "section", "svg", "p"]
    {
        let opened = page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
        assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
    }
}

#[test]
fn a_fleet_loses_nothing_that_needs_attention() {
    let work = tempfile::tempdir().unwrap();
    for number in 0..30 {
        copy_pack(&work.path().join(format!("p{number:02}")));
    }
    for number in [3, 17, 29] {
        let path = work.path().join(format!("p{number:02}/artifacts/decisions.json"));
        fs::write(&path, fs::read_to_string(&path).unwrap().replace("\"hold\"", "\"HOLD\"")).unwrap();
    }
    fs::remove_file(work.path().join("p05/manifest.json")).unwrap();
    let root = text(work.path());
    let (code, page) = page(&["--recursive", root, "--max-details", "4"]);
    assert_eq!(code, 1);
    needs_nothing_from_elsewhere(&page);
    runs_only_what_is_ours(&page, 0);
    assert!(!page.contains(root), "packs are called by their way from the root");
    assert!(
        page.contains("✗ 3 refused")
            && page.contains("26 passed, of these 0 pinned and 0 signed; 3 refused; 1 could not be checked.")
    );
    for name in ["p03", "p17", "p29", "p05"] {
        assert!(page.contains(&format!("<h3><code><bdi>{name}</bdi></code>")), "{name}");
    }
    assert!(page.contains("The first 4 of 26"));
    let whole = self::page(&["--recursive", root]).1;
    assert_eq!(whole.matches("<tr><th scope=\"row\">").count(), 26);
    assert_eq!(
        self::page(&["--recursive", root, "--jobs", "1"]).1,
        self::page(&["--recursive", root, "--jobs", "7"]).1
    );
    let (code, _, err) = told(["report", "--recursive", root, "--expect-digest", &"0".repeat(64)]);
    assert_eq!((code, err.contains("one digest cannot be expected of several packs")), (2, true));
}

/// The most memory it had, in KiB.
#[cfg(target_os = "linux")]
fn peak(args: &[&str]) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_runpack")).args(args).stdout(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    loop {
        let told = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = told.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = peak.max(line.map_or(0, |line| line.trim_end_matches("kB").trim().parse().unwrap()));
        if child.try_wait().unwrap().is_some() {
            return peak;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn a_long_run_stays_readable_and_its_lie_is_seen() {
    let work = tempfile::tempdir().unwrap();
    let pack = work.path().join("long");
    long::build(&pack, 10_000);
    let (code, honest) = page(&[text(&pack)]);
    assert_eq!(code, 0);
    assert!(honest.len() < 200_000, "{} bytes", honest.len());
    assert!(honest.contains("10,000 steps") && honest.contains("each column stands for 250 steps"));
    // The first of each stretch, its end, and what moved the run.
    for step in [1, 4_999, 5_000, 5_001, 9_999, 10_000] {
        assert!(honest.contains(&format!("id=\"step-{step}\"")), "{step}");
    }
    assert!(honest.contains("Steps 2 to 4,998 come out as step 1 does: 4,997 × hold"), "what is alike is said once");
    long::forge(&pack, 7_777);
    let (code, forged) = page(&[text(&pack), "--max-details", "1"]);
    assert_eq!(code, 1);
    assert!(forged.contains("class=\"step no\" id=\"step-7777\""), "no room, and shown all the same");
    assert!(forged.contains("steps 7751 to 8000: findings"), "the drawing is marked there");
    #[cfg(target_os = "linux")]
    {
        let peak = peak(&["report", text(&pack)]);
        assert!(peak < 200 * 1024, "{peak} KiB");
        println!("a page of 10,000 triggers: {} bytes, most memory {peak} KiB", honest.len());
    }
}
