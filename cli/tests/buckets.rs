//! Packs in buckets, as a user has them: the commands against an S3 server in
//! this process.

#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;
#[path = "../../testdata/pages.rs"]
mod pages;
#[path = "common/s3.rs"]
mod s3;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{build_large_pack, build_pack, text};
use s3::S3;

const AUDIT: &str = "s3://packs/audit";
const GATE: &str = "s3://packs/audit/tenant/1/namespace/1/scenario/release-gate/run/release-1.4.0/spec/sha256/\
                    c34a2889f7f256a3988e1cbee31743177736d2c9939a7119ebe8c274545e5081/";
const GATE_DIGEST: &str = "948df923937964a3135a14f2f6eb7b5a762ddc40375bb16354442381edd314bf";
const RICH: &str = "s3://packs/audit/tenant/7/namespace/3/scenario/change-window/run/change-4711/spec/sha256/\
                    d188f074e07fdd4b64f406079d94f8812f6f9059f4cb1718a425f8fa8fee04ee/";

fn good(name: &str) -> String {
    text(&inputs::testdata("packs/good").join(name)).to_owned()
}

/// Both good packs, published.
fn published() -> S3 {
    let s3 = S3::start();
    let (code, _, err) = s3.told(&["push", &good("release-gate"), &good("rich"), AUDIT]);
    assert_eq!((code, err.as_str()), (0, ""));
    s3
}

/// Every file below a directory, by its path.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(directory) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let path = entry.path().strip_prefix(directory).unwrap();
            found.insert(text(path).to_owned(), fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn a_pack_is_published_once_and_is_the_same_bytes() {
    let s3 = S3::start();
    let push = || s3.told(&["push", &good("release-gate"), AUDIT]);
    let digest = format!("  pack digest    {GATE_DIGEST}\n");
    assert_eq!(push(), (0, format!("{GATE}: published\n{digest}"), String::new()));
    assert_eq!(push(), (0, format!("{GATE}: the same pack was there\n{digest}"), String::new()));
    assert!(files(&s3.object(GATE)) == files(Path::new(&good("release-gate"))));
    // Besides the pack there is only the key by which the store is tried out.
    let others: Vec<_> = files(&s3.bucket()).into_keys().filter(|key| !key.contains("/run/release-1.4.0/")).collect();
    assert_eq!(others, ["audit/.runpack/probe"]);
}

#[test]
fn another_pack_of_a_run_is_refused_or_goes_beside_it() {
    let s3 = S3::start();
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    build_pack(&one, "r", 1);
    build_pack(&two, "r", 2);
    let (code, out, _) = s3.told(&["push", text(&one), AUDIT]);
    assert_eq!(code, 0);
    let digest = out.trim_end().rsplit(' ').next().unwrap().to_owned();
    let before = files(&s3.bucket());
    let (code, out, err) = s3.told(&["push", text(&two), AUDIT]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains(&format!("with the pack digest {digest}\nhint: ")), "{err}");
    assert!(files(&s3.bucket()) == before, "nothing was written");
    for how in ["published", "the same pack was there"] {
        let (code, out, _) = s3.told(&["push", text(&two), AUDIT, "--on-existing", "snapshot"]);
        let other = out.trim_end().rsplit(' ').next().unwrap();
        let uri = format!("s3://packs/audit/tenant/7/namespace/3/scenario/change-window/run/r/snapshot/{other}/");
        assert_eq!((code, out.as_str()), (0, format!("{uri}: {how}\n  pack digest    {other}\n").as_str()));
        assert!(files(&s3.object(&uri)) == files(&two));
    }
    let (code, out, _) = s3.told(&["verify", "--recursive", AUDIT]);
    assert!(code == 0 && out.ends_with("2 passed, 0 refused, 0 could not be checked\n"), "{out}");
}

#[test]
fn packs_are_read_where_they_are() {
    let s3 = published();
    let there = |args: &[&str], urls: &[&str]| s3.told(&[args, urls].concat());
    let here = |args: &[&str], packs: &[&str]| common::told([args, packs].concat());
    let (gate, rich) = (good("release-gate"), good("rich"));
    for command in ["verify", "replay", "show"] {
        for (url, pack) in [(GATE, gate.as_str()), (RICH, rich.as_str())] {
            let (code, out, err) = here(&[command], &[pack]);
            let answer = there(&[command], &[url]);
            assert_eq!(answer, (code, out.replace(pack, url), err.replace(pack, url)), "{command}");
        }
    }
    // The manifest may be named as well.
    assert_eq!(there(&["verify"], &[&format!("{RICH}manifest.json")]).0, 0);
    let (code, out, _) = there(&["diff"], &[GATE, RICH]);
    let (_, local, _) = here(&["diff"], &[&gate, &rich]);
    assert_eq!((code, out.lines().count()), (1, local.lines().count()));
    assert_eq!(there(&["diff"], &[GATE, &gate]).0, 0);
    // A pin is good for one place and not for another pack there.
    let dir = tempfile::tempdir().unwrap();
    let lock = dir.path().join("lock");
    let (code, out, _) = there(&["pin"], &[GATE]);
    assert_eq!((code, out.as_str()), (0, format!("{GATE_DIGEST}  {GATE}\n").as_str()));
    fs::write(&lock, out).unwrap();
    let (code, out, _) = there(&["verify"], &[GATE, "--expect-file", text(&lock)]);
    assert!(code == 0 && out.contains("pinned"), "{out}");
    let wrong = GATE_DIGEST.replace('9', "8");
    assert_eq!(there(&["verify"], &[GATE, "--expect-digest", &wrong]).0, 1);
    // Nothing there is no answer.
    let (code, out, _) = there(&["verify"], &["s3://packs/audit/none"]);
    assert_eq!(code, 2, "{out}");
}

#[test]
fn a_bucket_is_listed_and_verified_whole() {
    let s3 = published();
    let (code, out, err) = s3.told(&["ls", AUDIT]);
    assert_eq!((code, err.as_str()), (0, ""));
    let bytes = |pack: &str| files(Path::new(&good(pack))).values().map(Vec::len).sum::<usize>();
    let line = |pack: &str, url: &str| format!("{:>12}   9 files  {url}\n", bytes(pack));
    assert_eq!(out, line("release-gate", GATE) + &line("rich", RICH));
    for root in [AUDIT, "s3://packs", "s3://packs/audit/tenant/7"] {
        let (code, out, err) = s3.told(&["verify", "--recursive", root]);
        let passed = if root.ends_with('7') { 1 } else { 2 };
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        if passed > 1 {
            assert!(out.ends_with("2 passed, 0 refused, 0 could not be checked\n"), "{out}");
        }
    }
    // A pack without its manifest is nobody's, and is told apart.
    fs::remove_file(s3.object(GATE).join("manifest.json")).unwrap();
    let (_, out, _) = s3.told(&["ls", AUDIT]);
    assert!(out.contains(&format!("{GATE}  (no manifest: no pack)\n")), "{out}");
    assert_eq!(s3.told(&["verify", "--recursive", AUDIT]).0, 2);
}

#[test]
fn a_pack_is_pulled_verified_or_not_at_all() {
    let s3 = published();
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    let pull = |url: &str| s3.told(&["pull", url, "--out", text(&copy)]);
    let (code, out, _) = pull(GATE);
    assert_eq!((code, out), (0, format!("{}: brought\n  pack digest    {GATE_DIGEST}\n", text(&copy))));
    assert!(files(&copy) == files(Path::new(&good("release-gate"))));
    assert!(pull(GATE).1.contains("the same pack was there"));
    assert_eq!(pull(RICH).0, 2, "another pack is not replaced unasked");
    assert_eq!(s3.told(&["pull", RICH, "--out", text(&copy), "--replace"]).0, 0);
    assert!(files(&copy) == files(Path::new(&good("rich"))));
    flip(&s3.object(GATE).join("artifacts/triggers.json"));
    let other = dir.path().join("other");
    let (code, out, err) = s3.told(&["pull", GATE, "--out", text(&other)]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("was not brought") && err.contains("RP0201") && !other.exists(), "{err}");
    // What the manifest does not name is not left out in silence.
    fs::write(s3.object(RICH).join("artifacts/more.json"), "[]").unwrap();
    let (code, out, err) = s3.told(&["pull", RICH, "--out", text(&other)]);
    assert!(code == 1 && out.is_empty() && err.contains("artifacts/more.json") && !other.exists(), "{err}");
    let (code, out, err) = s3.told(&["mirror", AUDIT, text(&dir.path().join("all"))]);
    assert_eq!((code, out.as_str()), (1, "0 copied, 0 were there, 2 failed\n"), "{err}");
}

#[test]
fn how_far_it_is_is_told_to_programs() {
    let s3 = S3::start();
    let dir = tempfile::tempdir().unwrap();
    let (copy, all) = (dir.path().join("copy"), dir.path().join("all"));
    let two = "{\"done\":1,\"total\":2}\n{\"done\":2,\"total\":2}\n";
    for (args, lines) in [
        (&["push", &good("release-gate"), &good("rich"), AUDIT] as &[_], two),
        (&["mirror", AUDIT, text(&all)], two),
        (&["pull", GATE, "--out", text(&copy)], "{\"done\":1,\"total\":1}\n"),
        (&["verify", "--recursive", AUDIT], two),
    ] {
        let (code, _, err) = s3.told(&[args, &["--progress", "json"]].concat());
        assert_eq!((code, err.as_str()), (0, lines), "{args:?}");
    }
}

#[test]
fn a_mirror_copies_what_is_new() {
    let s3 = S3::start();
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    for run in ["a", "b", "c"] {
        build_pack(&from.join(run), run, 1);
    }
    let up = || s3.told(&["mirror", text(&from), AUDIT]);
    let down = || s3.told(&["mirror", AUDIT, text(&to)]);
    let done = |new, there| (0, format!("{new} copied, {there} were there, 0 failed\n"), String::new());
    assert_eq!(up(), done(3, 0));
    assert_eq!(up(), done(0, 3));
    build_pack(&from.join("deeper/d"), "d", 1);
    assert_eq!(up(), done(1, 3));
    assert_eq!(down(), done(4, 0));
    assert!(files(&from) == files(&to));
    build_pack(&from.join("e"), "e", 1);
    assert_eq!(up(), done(1, 4));
    assert_eq!(down(), done(1, 4));
    assert!(files(&from) == files(&to));
    // From one prefix to another.
    assert_eq!(s3.told(&["mirror", AUDIT, "s3://packs/again"]), done(5, 0));
    // One bad pack does not stop the others, and does not get there.
    flip(&from.join("a/artifacts/triggers.json"));
    let (code, out, err) = s3.told(&["mirror", text(&from), "s3://packs/third"]);
    assert_eq!((code, out.as_str()), (1, "4 copied, 0 were there, 1 failed\n"), "{err}");
    assert!(!s3.bucket().join("third/a").exists());
}

#[test]
fn what_was_cut_off_is_collected_and_packs_are_not() {
    let s3 = published();
    fs::remove_file(s3.object(GATE).join("manifest.json")).unwrap();
    let before = files(&s3.bucket());
    let (code, out, err) = s3.told(&["gc", AUDIT]);
    assert!(code == 0 && out.is_empty() && err.contains("is older than 24 hours"), "young: {out}{err}");
    let (code, out, _) = s3.told(&["gc", AUDIT, "--older-than", "0"]);
    assert!(code == 0 && out.contains(&format!("8 files  {GATE}: no manifest; --delete removes it\n")), "{out}");
    assert!(files(&s3.bucket()) == before, "only asked");
    let (code, out, _) = s3.told(&["gc", AUDIT, "--older-than", "0", "--delete"]);
    assert!(code == 0 && out.contains(&format!("{GATE}: removed\n")), "{out}");
    let left: Vec<_> = files(&s3.bucket()).into_keys().filter(|key| key.contains("/run/release-1.4.0/")).collect();
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(s3.told(&["verify", RICH]).0, 0);
    // What was cut off and is taken up again is a pack.
    fs::remove_file(s3.object(RICH).join("manifest.json")).unwrap();
    fs::remove_file(s3.object(RICH).join("artifacts/packets.json")).unwrap();
    let (code, out, _) = s3.told(&["push", &good("rich"), AUDIT]);
    assert!(code == 0 && out.starts_with(&format!("{RICH}: published\n")), "{out}");
    assert_eq!(s3.told(&["verify", RICH]).0, 0);
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn every_flipped_or_shortened_object_is_found() {
    let s3 = published();
    let pack = s3.object(RICH);
    for path in files(&pack).into_keys() {
        let file = pack.join(&path);
        let whole = fs::read(&file).unwrap();
        flip(&file);
        let (code, out, _) = s3.told(&["verify", RICH, "--checks", "digests"]);
        // A manifest that is no JSON any more leaves nothing to refuse.
        assert!(code == 1 || path == "manifest.json" && code == 2, "flipped {path}: {code} {out}");
        fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        let (code, out, _) = s3.told(&["verify", RICH]);
        assert!(code == 1 || path == "manifest.json" && code == 2, "shortened {path}: {code} {out}");
        fs::write(&file, &whole).unwrap();
    }
    assert_eq!(s3.told(&["verify", RICH]).0, 0);
}

#[test]
fn words_of_error_answers_in_a_run_id_are_only_words() {
    let s3 = S3::start();
    let dir = tempfile::tempdir().unwrap();
    let run = "run-InternalError-SlowDown 7";
    build_pack(&dir.path().join("p"), run, 1);
    let (code, out, err) = s3.told(&["push", text(&dir.path().join("p")), AUDIT]);
    assert_eq!((code, err.as_str()), (0, ""));
    let url = out.split(": published").next().unwrap();
    assert!(url.contains(&format!("/run/{run}/")), "{url}");
    assert_eq!(s3.told(&["verify", url]).0, 0);
    assert_eq!(s3.told(&["verify", "--recursive", AUDIT]).0, 0);
    fs::remove_file(s3.object(url).join("manifest.json")).unwrap();
    let began = Instant::now();
    let (code, out, _) = s3.told(&["gc", AUDIT, "--older-than", "0", "--delete"]);
    assert!(code == 0 && out.contains("removed"), "{out}");
    assert!(began.elapsed() < Duration::from_secs(2), "deleted without retries");
    assert!(files(&s3.bucket()).keys().all(|key| !key.contains("SlowDown")));
}

/// In parts: the answer that finishes an upload names the key.
#[test]
fn words_of_error_answers_in_the_key_of_a_large_file_are_only_words() {
    let s3 = S3::start();
    let dir = tempfile::tempdir().unwrap();
    build_large_pack(&dir.path().join("InternalError/SlowDown"));
    let in_parts = ["--store-option", "parts_above_mib=8"];
    let mirror = || s3.told(&[&["mirror", text(dir.path()), "s3://packs/a"] as &[_], &in_parts].concat());
    let there = "s3://packs/a/InternalError/SlowDown";
    for done in ["1 copied, 0 were there", "0 copied, 1 were there"] {
        let (code, out, err) = mirror();
        assert!(code == 0 && out.starts_with(done), "{out}{err}");
        assert_eq!(s3.told(&["verify", there]).0, 0);
    }
    flip(&s3.object(there).join("artifacts/scenario_spec.json"));
    assert_eq!(s3.told(&["verify", there]).0, 1);
    let (code, out, err) = mirror();
    assert!(code == 2 && err.contains("is damaged"), "{out}{err}");
    fs::remove_file(s3.object(there).join("manifest.json")).unwrap();
    let (code, out, _) = s3.told(&["gc", "s3://packs/a", "--older-than", "0", "--delete"]);
    assert!(code == 0 && out.contains("removed"), "{out}");
}

/// Its decisions do not come out again, and all its digests hold.
#[test]
fn how_deep_a_pack_is_looked_into_before_it_goes_is_asked_for() {
    let s3 = S3::start();
    let dir = tempfile::tempdir().unwrap();
    let pack = dir.path().join("from/pack");
    fs::create_dir_all(pack.join("artifacts")).unwrap();
    let bad = inputs::testdata("packs/bad/RP0604-hold-instead-of-advance/pack");
    for (path, bytes) in files(Path::new(&good("release-gate"))).into_iter().chain(files(&bad)) {
        fs::write(pack.join(path), bytes).unwrap();
    }
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let ways: [&[&str]; 3] = [
        &["push", text(&pack), AUDIT],
        &["mirror", text(&from), "s3://packs/mirrored"],
        &["mirror", text(&from), text(&to)],
    ];
    for args in ways {
        let (code, out, err) = s3.told(args);
        assert!(code == 1 && format!("{out}{err}").contains("RP0604"), "{args:?}: {code} {out}{err}");
        let (code, out, err) = s3.told(&[args, &["--checks", "digests"]].concat());
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}: {out}");
    }
    for root in [AUDIT, "s3://packs/mirrored", text(&to)] {
        let verified = |more: &[&str]| s3.told(&[&["verify", "--recursive", root], more].concat()).0;
        assert_eq!((verified(&[]), verified(&["--checks", "digests"])), (1, 0), "{root}");
    }
    // A wrong digest goes nowhere, however little is asked.
    flip(&pack.join("artifacts/packets.json"));
    let (code, _, err) = s3.told(&["push", text(&pack), "s3://packs/third", "--checks", "digests"]);
    assert!(code == 1 && err.contains("RP0201") && !s3.bucket().join("third").exists(), "{err}");
}

#[test]
fn wrong_credentials_are_told_at_once() {
    let s3 = published();
    for args in [&["verify", GATE] as &[_], &["ls", AUDIT], &["push", &good("rich"), AUDIT], &["gc", AUDIT]] {
        let began = Instant::now();
        let (code, out, err) = s3::told(&mut s3::command(s3.port, "not the secret", args));
        assert_eq!(code, 2, "{args:?}: {out}{err}");
        let said = format!("{out}{err}");
        assert!(said.contains("the store answers 403 Forbidden: SignatureDoesNotMatch"), "{said}");
        assert!(said.contains("s3://packs/") && said.contains("\nhint: the credentials are not"), "{said}");
        assert!(began.elapsed() < Duration::from_secs(2), "{args:?} went on for {:?}", began.elapsed());
    }
}

#[test]
fn without_credentials_nothing_is_asked() {
    let option = ["--store-option", "connect_timeout_s=60"];
    for args in
        [&["verify", GATE] as &[_], &["ls", AUDIT], &["push", &good("rich"), AUDIT], &["pull", GATE, "--out", "x"]]
    {
        let began = Instant::now();
        // A proxy would see every request, also one for credentials.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let mut command = s3::bare(&[args, &option].concat());
        let (code, out, err) = s3::told(command.env("HTTP_PROXY", &proxy).env("http_proxy", &proxy));
        let said = format!("{out}{err}");
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("no credentials for `s3://packs/") && said.contains("set AWS_ACCESS_KEY_ID"), "{said}");
        assert!(!said.contains("169.254"), "{said}");
        assert!(began.elapsed() < Duration::from_secs(1), "{args:?} took {:?}", began.elapsed());
        assert!(listener.accept().is_err(), "nobody was asked");
    }
}

#[test]
fn an_address_at_which_nobody_is_is_given_up_soon() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = format!("http://{gone}");
    // No name has a part that long, so nobody is asked for it.
    let unknown = format!("http://{}.invalid", "a".repeat(64));
    let rich = good("rich");
    let [verify, ls, push] = [&["verify", GATE] as &[_], &["ls", AUDIT], &["push", &rich, AUDIT]];
    // Half of all patience, if that is less than ten seconds.
    let cases: [(&[&str], &str, &[&str]); 5] = [
        (ls, &unknown, &[]),
        (verify, &refused, &["--progress", "json"]),
        (verify, &refused, &["--progress", "none"]),
        (ls, &refused, &[]),
        (push, &refused, &[]),
    ];
    std::thread::scope(|scope| {
        for (args, endpoint, more) in cases {
            scope.spawn(move || {
                let began = Instant::now();
                let mut command = s3::command(0, s3::SECRET, &[args, more].concat());
                let (code, out, err) = s3::told(command.args([
                    "--store-option",
                    &format!("endpoint={endpoint}"),
                    "--store-option",
                    "patience_s=8",
                ]));
                let said = format!("{out}{err}");
                assert_eq!(code, 2, "{said}");
                assert!(said.contains(&format!("nothing answers at `{endpoint}`: ")), "{said}");
                assert!(said.contains("hint: is that the store? ") && said.contains("AWS_ENDPOINT_URL"), "{said}");
                let told = err.lines().filter(|line| line.starts_with("still trying: ")).count();
                assert_eq!(told, usize::from(!more.contains(&"--progress")), "{said}");
                let took = began.elapsed();
                assert!(
                    took > Duration::from_secs(3) && took < Duration::from_secs(10),
                    "{args:?} took {took:?}: {said}"
                );
            });
        }
    });
}

#[test]
fn options_are_refused_by_name() {
    let option = |text: &str| s3::told(&mut s3::bare(&["ls", AUDIT, "--store-option", text]));
    let (code, out, err) = option("help=");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("These can be said:\n  endpoint  "), "{out}");
    for (given, said) in [
        ("end_point=x", "unknown store option `end_point`"),
        ("aws_endpoint=x", "did you mean `endpoint`?"),
        ("allow_http=1", "store option `allow_http`: is `true` or `false`"),
        ("parts_above_mib=100", "store option `parts_above_mib`: is a number of mebibytes from 8 to 72"),
        ("emulator=true", "store option `emulator`: means nothing for s3://"),
        ("endpoint=HTTP://127.0.0.1:1", "`HTTP://127.0.0.1:1`, is without TLS\nhint: if that is meant"),
    ] {
        let (code, out, err) = option(given);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains(said), "{err}");
    }
}

/// The blocks of the documents that need a bucket, with a `runpack` that finds
/// one. Before a block marked `cut-off`, the exports lose their manifests.
#[test]
#[cfg(unix)]
fn what_the_documents_say_of_buckets_is_true() {
    use std::os::unix::fs::PermissionsExt as _;

    let mut ran = 0;
    for page in pages::pages() {
        let s3 = S3::start();
        let dir = tempfile::tempdir().unwrap();
        common::copy_pack(&dir.path().join("runpack-demo/pack"));
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let found = format!(
            "#!/bin/sh\nexec env -i HOME=/nonexistent AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={} {} \"$@\" \\\n    \
             --store-option endpoint=http://127.0.0.1:{} --store-option allow_http=true\n",
            s3::KEY_ID,
            s3::SECRET,
            env!("CARGO_BIN_EXE_runpack"),
            s3.port
        );
        fs::write(bin.join("runpack"), found).unwrap();
        fs::set_permissions(bin.join("runpack"), fs::Permissions::from_mode(0o755)).unwrap();
        let terminal = pages::Terminal::new(dir.path(), &[&bin]);
        let mut printed: Option<String> = None;
        for block in pages::blocks(&page) {
            let has = |word: &str| block.words.iter().any(|known| known == word);
            if block.language == "text" {
                if let Some(printed) = &printed {
                    pages::printed(&page, &block, printed);
                }
            } else if block.language == "sh" && has("bucket") {
                if has("cut-off") {
                    let manifests = files(&s3.bucket()).into_keys().filter(|key| key.ends_with("/manifest.json"));
                    manifests.for_each(|key| fs::remove_file(s3.bucket().join(key)).unwrap());
                }
                printed = Some(terminal.told(&block.text));
                ran += 1;
            } else if block.language == "sh" {
                printed = None;
            }
        }
    }
    assert!(ran >= 5, "{ran}");
}
