//! Pages of `runpack report` in Chromium: what runs, what is seen, and by which
//! keys. The pictures in `docs/images` are made here with `RUNPACK_BLESS=1`; `RUNPACK_PAGES=DIR` keeps the pages, to be looked at.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test reads its own data and says what it saw")]

#[path = "common/attacks.rs"]
mod attacks;
mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;
#[path = "common/long.rs"]
mod long;

use std::fs;
use std::process::Command;

use common::{copy_pack, text, told};
use serde_json::{Value, json};

/// Bytes of a picture in the documents, at most.
const PICTURE_BYTES_MAX: u64 = 300 * 1024;

#[test]
fn pages_are_seen_as_they_are_meant() {
    let Some((chromium, modules)) = inputs::browser() else { return };
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    let bless = std::env::var_os("RUNPACK_BLESS").is_some();
    let pictures = if bless { inputs::root().join("docs/images") } else { at("images") };
    fs::create_dir_all(&pictures).unwrap();

    // One honest run, one forged pack, many packs, a hostile one, a long one.
    let rich = inputs::testdata("packs/good/rich");
    let forged = at("forged");
    copy_pack(&forged);
    let overlay = inputs::testdata("packs/bad/RP0604-hold-instead-of-advance/pack");
    for entry in fs::read_dir(overlay.join("artifacts")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), forged.join("artifacts").join(entry.file_name())).unwrap();
    }
    fs::copy(overlay.join("manifest.json"), forged.join("manifest.json")).unwrap();
    let fleet = at("fleet");
    for number in 1..=9 {
        copy_pack(&fleet.join(format!("2024-03-{number:02}")));
    }
    let edited = fleet.join("2024-03-04/artifacts/gate_evals.json");
    fs::write(&edited, fs::read_to_string(&edited).unwrap().replacen("\"False\"", "\"True\"", 1)).unwrap();
    fs::remove_file(fleet.join("2024-03-07/manifest.json")).unwrap();
    attacks::hostile(&at("hostile"));
    let long = at("long");
    long::build(&long, 10_000);
    long::forge(&long, 7_777);

    let mut pages = Vec::new();
    for (name, args, code) in [
        ("run", vec![text(&rich)], 0),
        ("forged", vec![text(&forged)], 1),
        ("fleet", vec!["--recursive", text(&fleet)], 1),
        ("hostile", vec![text(&at("hostile"))], 1),
        ("long", vec![text(&long)], 1),
    ] {
        let page = at(&format!("{name}.html"));
        let args = ["report"].iter().chain(&args).copied().chain(["--output", text(&page)]);
        assert_eq!(told(args).0, code, "{name}");
        let mut entry = json!({"page": page, "paper": at(&format!("{name}.pdf")), "height": 1_700});
        if matches!(name, "run" | "forged" | "fleet") {
            entry["shot"] = json!(pictures.join(format!("report-{name}.png")));
        }
        if name == "run" {
            entry["matching"] = json!([rich.join("manifest.json"), rich.join("artifacts/triggers.json")]);
            entry["differing"] = json!([at("run.html"), forged.join("artifacts/triggers.json")]);
        }
        pages.push(entry);
    }
    fs::write(at("job.json"), json!({"chromium": chromium, "pages": pages}).to_string()).unwrap();
    let output = Command::new("node")
        .arg(inputs::testdata("browser/check.mjs"))
        .args([text(&modules), text(&at("job.json"))])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen.len(), 5);
    if let Some(kept) = std::env::var_os("RUNPACK_PAGES") {
        fs::create_dir_all(&kept).unwrap();
        for name in ["run", "forged", "fleet", "hostile", "long"] {
            let page = format!("{name}.html");
            fs::copy(at(&page), std::path::Path::new(&kept).join(page)).unwrap();
        }
    }
    for page in &seen {
        judge(page);
    }
    assert_eq!(seen[0]["matching"], json!(["matches", "matches"]));
    // In the order of their names: run.html, triggers.json.
    assert_eq!(seen[0]["differing"], json!(["unknown", "differs"]));
    assert_eq!(seen[1]["title"], "Run release-1.4.0: \u{2717} refused");
    assert!(seen[3]["title"].as_str().unwrap().contains("<script>alert("), "shown as text: {}", seen[3]["title"]);
    assert!(seen[4]["elements"].as_u64().unwrap() < 5_000, "{}", seen[4]["elements"]);
    for name in ["run", "forged", "fleet"] {
        let picture = fs::metadata(pictures.join(format!("report-{name}.png"))).unwrap().len();
        assert!((10_000..PICTURE_BYTES_MAX).contains(&picture), "report-{name}.png has {picture} bytes");
    }
}

fn judge(seen: &Value) {
    let page = &seen["page"];
    for empty in ["requests", "console", "problems", "foreign", "broken"] {
        assert_eq!(seen[empty], json!([]), "{page}: {empty}");
    }
    assert_eq!(seen["ids"], 0, "{page}: an id stands twice");
    for contrast in ["contrast_light", "contrast_dark"] {
        let least = seen[contrast].as_f64().unwrap();
        assert!(least >= 4.5, "{page}: {contrast} {least}");
    }
    let focus = seen["focus"].as_array().unwrap();
    assert!(focus.len() >= 5, "{page}: {focus:?}");
    assert_eq!(focus[0]["text"], "Skip to the verdict", "{page}");
    let order: Vec<_> = focus.iter().map(|at| at["order"].as_u64().unwrap()).collect();
    assert!(order.is_sorted(), "{page}: keys go in the order of reading: {focus:?}");
    assert!(focus.iter().all(|at| at["outlined"] == true), "{page}: what the keys are on is seen: {focus:?}");
    assert!(seen["unscripted"].as_u64().unwrap() > 500, "{page}: read without script");
    assert_eq!(seen["rehash_hidden"], true, "{page}: without script nothing is offered that needs it");
    assert!(seen["sticks_out"].as_i64().unwrap() <= 0, "{page}: fits a narrow screen");
    assert!(seen["paper_bytes"].as_u64().unwrap() > 5_000, "{page}: prints");
}
