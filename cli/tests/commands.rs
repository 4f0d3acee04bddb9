//! What people and programs see of `runpack`.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::fs;

use common::{copy_pack, told};
use serde_json::{Value, json};

fn good() -> String {
    inputs::testdata("packs/good/release-gate").to_str().unwrap().to_owned()
}

#[test]
fn verify_says_yes_with_both_digests() {
    let (code, out, err) = told(["verify", &good()]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains(": consistent: the pack agrees with itself"), "{out}");
    assert!(out.contains("  checked files  8\n"), "{out}");
    assert!(
        out.contains("  root digest    b761965206fe9d98498b186ea94590c78f6030f601f13a9953fbb1bf0c8c64b1\n"),
        "{out}"
    );
    assert!(
        out.contains("  pack digest    948df923937964a3135a14f2f6eb7b5a762ddc40375bb16354442381edd314bf\n"),
        "{out}"
    );
}

#[test]
fn a_manifest_names_its_pack_too() {
    let work = tempfile::tempdir().unwrap();
    let pack = work.path().join("with space \u{e9}");
    copy_pack(&pack);
    let manifest = pack.join("manifest.json");
    assert_eq!(told(["verify", manifest.to_str().unwrap()]).0, 0);
    fs::rename(&manifest, pack.join("runpack.json")).unwrap();
    assert_eq!(told(["verify", pack.to_str().unwrap()]).0, 2);
    assert_eq!(told(["verify", pack.to_str().unwrap(), "--manifest", "runpack.json"]).0, 0);
    assert_eq!(told(["verify", pack.join("runpack.json").to_str().unwrap()]).0, 0);
    // A bare name means the working directory.
    let bare = std::process::Command::new(env!("CARGO_BIN_EXE_runpack"))
        .args(["verify", "runpack.json"])
        .current_dir(&pack)
        .output()
        .unwrap();
    assert_eq!(bare.status.code(), Some(0));
}

#[test]
fn json_reports_hold_the_three_members_of_the_wire_and_more() {
    let (code, out, _) = told(["verify", "--format", "json", &good()]);
    assert_eq!(code, 0);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["status"], "pass");
    assert_eq!(report["checked_files"], 8);
    assert_eq!(report["errors"], json!([]));
    assert_eq!(report["verdict"], "consistent");
    assert_eq!(report["subject"]["run_id"], "release-1.4.0");
    assert!(!out.contains(&good()), "a report is the same on every machine");

    let work = tempfile::tempdir().unwrap();
    copy_pack(work.path());
    let decisions = work.path().join("artifacts/decisions.json");
    fs::write(&decisions, fs::read_to_string(&decisions).unwrap().replace("\"hold\"", "\"HOLD\"")).unwrap();
    fs::write(work.path().join("artifacts/extra.json"), "{}").unwrap();
    let (code, out, _) = told(["verify", "--format", "json", work.path().to_str().unwrap()]);
    assert_eq!(code, 1);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["status"], &report["verdict"]), (&json!("fail"), &json!("refused")));
    let codes: Vec<_> =
        report["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["RP0104", "RP0201", "RP0205"]);
    assert_eq!(report["errors"][1], "hash mismatch for artifacts/decisions.json");
    assert_eq!(report["findings"][2]["pointer"], "/0/outcome/kind");
}

#[test]
fn what_cannot_be_told_is_neither_yes_nor_no() {
    let work = tempfile::tempdir().unwrap();
    let empty = work.path().to_str().unwrap();
    for path in [empty, "/nonexistent/pack", &format!("{}/artifacts", good())] {
        let (code, out, err) = told(["verify", path]);
        assert_eq!(code, 2, "{path}: {out}{err}");
    }
    for (path, why) in [("ftp://example.org/x.runpack.tar", "packs are not read from"), ("no.tar", "not found")] {
        let (code, out, _) = told(["verify", path]);
        assert_eq!(code, 2, "{path}");
        assert!(out.contains("could not tell") && out.contains(why), "{path}: {out}");
    }
}

#[test]
fn an_unknown_version_is_refused() {
    let work = tempfile::tempdir().unwrap();
    copy_pack(work.path());
    let manifest = work.path().join("manifest.json");
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap().replace("\"v1\"", "\"v2\"")).unwrap();
    let (code, out, _) = told(["verify", "--format", "json", work.path().to_str().unwrap()]);
    assert_eq!(code, 1);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["errors"], json!(["unsupported manifest version: v2"]));
    assert_eq!(report["checked_files"], 0);
}

#[test]
fn show_tells_who_what_when_and_why() {
    let (code, out, _) = told(["show", &good()]);
    assert_eq!(code, 0);
    let shown = fs::read_to_string(inputs::testdata("transcripts/show.txt")).unwrap();
    assert_eq!(out, shown);
}

#[test]
fn hostile_text_reaches_no_terminal() {
    let work = tempfile::tempdir().unwrap();
    copy_pack(work.path());
    for name in ["scenario_spec", "decisions", "gate_evals"] {
        let path = work.path().join(format!("artifacts/{name}.json"));
        fs::write(&path, fs::read_to_string(&path).unwrap().replace("freeze-over", "\\u001b[2J\\u202eover")).unwrap();
    }
    let (code, out, _) = told(["show", work.path().to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(out.contains("Do not believe what follows."), "{out}");
    assert!(out.contains("\\u{1b}[2J\\u{202e}over"), "{out}");
    assert!(!out.contains(['\u{1b}', '\u{202e}']));
}

#[test]
fn authoring_says_what_is_wrong_and_where() {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("scenario.json");
    let path = file.to_str().unwrap();
    let scenario = fs::read_to_string(inputs::root().join("daemon/demo/scenario.json")).unwrap();
    for (from, to, message) in [
        ("", "", ""),
        ("\"gates\": []", "\"gates\": [}", "not JSON: expected value at line 31 column 17"),
        (
            "\"Condition\": \"after-freeze\"",
            "\"Condition\": \"no\"",
            "invalid scenario spec: gate references undefined condition: no",
        ),
        ("\"spec_version\"", "\"speck_version\": 1, \"spec_version\"", "unknown member `/speck_version`"),
        (
            "\"kind\": \"linear\"",
            "\"kind\": \"fixed\", \"stage_id\": \"x\"",
            "branch target refers to unknown stage: x",
        ),
    ] {
        fs::write(&file, scenario.replacen(from, to, 1)).unwrap();
        let (code, out, err) = told(["authoring", "validate", path]);
        if message.is_empty() {
            assert_eq!((code, err.as_str()), (0, ""));
            assert!(out.contains("spec digest  "), "{out}");
        } else {
            assert_eq!(code, 1, "{message}");
            assert!(err.contains(message), "{err}");
        }
    }
    assert_eq!(told(["authoring", "validate", "/nonexistent.json"]).0, 2);
}

#[test]
fn normalize_gives_the_bytes_that_digests_cover_and_ron_comes_back() {
    let work = tempfile::tempdir().unwrap();
    let scenario = inputs::root().join("daemon/demo/scenario.json");
    let (code, json, _) = told(["authoring", "normalize", scenario.to_str().unwrap()]);
    assert_eq!(code, 0);
    let artifact =
        fs::read_to_string(inputs::testdata("packs/good/release-gate/artifacts/scenario_spec.json")).unwrap();
    assert_eq!(json.trim_end(), artifact);
    let (_, ron, _) = told(["authoring", "normalize", "--to", "ron", scenario.to_str().unwrap()]);
    let file = work.path().join("scenario.ron");
    fs::write(&file, ron).unwrap();
    let (code, again, err) = told(["authoring", "normalize", file.to_str().unwrap()]);
    assert_eq!((code, again), (0, json), "{err}");
}

/// A state made from the logs of a good pack.
fn state() -> Value {
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(inputs::testdata(&format!("packs/good/release-gate/{name}.json"))).unwrap())
            .unwrap()
    };
    let manifest = read("manifest");
    let log = |name: &str| read(&format!("artifacts/{name}"));
    json!({"tenant_id": 1, "namespace_id": 1, "run_id": manifest["run_id"], "scenario_id": manifest["scenario_id"],
        "spec_hash": manifest["spec_hash"], "current_stage_id": "release",
        "stage_entered_at": {"kind": "logical", "value": 1}, "status": "completed", "dispatch_targets": [],
        "triggers": log("triggers"), "gate_evals": log("gate_evals"), "decisions": log("decisions"),
        "packets": log("packets"), "submissions": log("submissions"), "tool_calls": log("tool_calls")})
}

#[test]
fn build_makes_the_same_pack_from_the_same_state() {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("state.json"), state().to_string()).unwrap();
    fs::write(at("security.json"), r#"{"dev_permissive":false,"namespace_authority":"dg_registry"}"#).unwrap();
    let scenario = inputs::root().join("daemon/demo/scenario.json").to_str().unwrap().to_owned();
    let build = |state: &str, extra: &[&str]| {
        let mut args =
            vec!["build", "--scenario", &scenario, "--state", state, "--generated-at", "2024-03-09T16:02:00Z"];
        let (out, security) = (at("pack"), at("security.json"));
        args.extend(["--out", &out, "--include-verification", "--security", &security]);
        args.extend(extra);
        told(args)
    };
    let (code, out, err) = build(&at("state.json"), &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("948df923937964a3135a14f2f6eb7b5a762ddc40375bb16354442381edd314bf"), "{out}");
    for name in ["manifest.json", "artifacts/tool_calls.json"] {
        let ours = fs::read(work.path().join("pack").join(name)).unwrap();
        assert_eq!(ours, fs::read(inputs::testdata("packs/good/release-gate").join(name)).unwrap(), "{name}");
    }
    let (code, out, _) = build(&at("state.json"), &[]);
    assert_eq!(code, 0);
    assert!(out.contains("the same pack was there"), "{out}");

    // Another pack is not overwritten unless asked.
    let mut other = state();
    // One status call less: another honest pack.
    other["tool_calls"].as_array_mut().unwrap().pop();
    fs::write(at("other.json"), other.to_string()).unwrap();
    let (code, _, err) = build(&at("other.json"), &[]);
    assert_eq!(code, 2);
    assert!(err.contains("--replace"), "{err}");
    assert_eq!(build(&at("other.json"), &["--replace"]).0, 0);

    // What does not verify is never published.
    let mut wrong = state();
    wrong["triggers"][0]["event"]["tenant_id"] = json!(7);
    fs::write(at("wrong.json"), wrong.to_string()).unwrap();
    let (code, _, err) = build(&at("wrong.json"), &["--replace"]);
    assert_eq!(code, 2);
    assert!(err.contains("RP0302 artifacts/triggers.json/0/event/tenant_id is `7`, the manifest says `1`"), "{err}");
    let (code, _, err) = build(&at("state.json"), &["--replace", "--max-artifact-bytes", "500"]);
    assert_eq!(code, 2);
    assert!(err.contains("artifact too large: artifacts/scenario_spec.json"), "{err}");
    assert!(err.contains("--max-artifact-bytes"), "{err}");
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 5, "nothing is left beside the pack");
}
