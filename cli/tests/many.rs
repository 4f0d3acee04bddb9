//! Many packs at once, digests known from elsewhere, and reports for programs.

#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{copy_pack, told};
use serde_json::Value;

const DIGEST: &str = "948df923937964a3135a14f2f6eb7b5a762ddc40375bb16354442381edd314bf";
const ROOT: &str = "b761965206fe9d98498b186ea94590c78f6030f601f13a9953fbb1bf0c8c64b1";

/// Three packs: `a/good`, `b/forged`, `c/headless` without its manifest.
fn fleet() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a/good", "b/forged", "c/headless"] {
        copy_pack(&dir.path().join(name));
    }
    let decisions = dir.path().join("b/forged/artifacts/decisions.json");
    fs::write(
        &decisions,
        fs::read_to_string(&decisions).unwrap().replace("release-bot", "other-bot").replace("hold", "HOLD"),
    )
    .unwrap();
    fs::remove_file(dir.path().join("c/headless/manifest.json")).unwrap();
    // An export that goes on is nobody's pack yet.
    fs::create_dir_all(dir.path().join("a/.runpack-x.0000/pack/artifacts")).unwrap();
    dir
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_tree_of_packs_has_one_summary_and_a_fixed_order() {
    let dir = fleet();
    let mut before = None;
    for jobs in ["1", "2", "7"] {
        let (code, out, err) = told(["verify", "--recursive", text(dir.path()), "--jobs", jobs]);
        assert_eq!((code, err.as_str()), (1, ""));
        assert!(out.ends_with("1 passed, 1 refused, 1 could not be checked\n"), "{out}");
        assert!(out.find("a/good: consistent") < out.find("b/forged: refused"), "{out}");
        assert!(out.find("b/forged: refused") < out.find("c/headless: could not tell"), "{out}");
        assert!(before.is_none_or(|before| before == out), "the same answer with {jobs} workers");
        before = Some(out);
    }
    // Without a refused one, what could not be checked decides.
    fs::remove_dir_all(dir.path().join("b")).unwrap();
    assert_eq!(told(["verify", "--recursive", text(dir.path())]).0, 2);
}

#[test]
fn json_is_one_line_for_each_pack() {
    let dir = fleet();
    let (code, out, err) = told(["verify", "--recursive", text(dir.path()), "--format", "json", "--progress", "json"]);
    assert_eq!(code, 1);
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let verdicts: Vec<_> = lines.iter().map(|line| line["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["consistent", "refused", "could_not_tell"]);
    assert!(lines[1]["path"].as_str().unwrap().ends_with("b/forged"));
    let progress: Vec<Value> = err.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(progress.len(), 3);
    assert!(progress.iter().all(|line| line["total"] == 3));
}

#[test]
fn paths_come_from_a_file_or_from_a_pipe() {
    let dir = fleet();
    let list = dir.path().join("list");
    fs::write(&list, format!("{0}/a/good\n\n{0}/b/forged\n", text(dir.path()))).unwrap();
    let (code, out, _) = told(["verify", "--from-file", text(&list)]);
    assert_eq!(code, 1);
    assert!(out.ends_with("1 passed, 1 refused, 0 could not be checked\n"), "{out}");
    let mut child = Command::new(env!("CARGO_BIN_EXE_runpack"))
        .args(["verify", "--from-file", "-"])
        .stdin(Stdio::from(fs::File::open(&list).unwrap()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(told(["verify"]).0, 2);
}

#[test]
fn a_known_digest_pins_a_pack() {
    let dir = fleet();
    let good = dir.path().join("a/good");
    for expected in [["--expect-digest", DIGEST], ["--expect-root", ROOT]] {
        let (code, out, _) = told(["verify", text(&good), expected[0], expected[1]]);
        assert_eq!(code, 0);
        assert!(out.contains(": pinned: "), "{out}");
    }
    for expected in [
        ["--expect-digest", ROOT],
        ["--expect-root", DIGEST],
        ["--expect-tenant", "2"],
        ["--expect-namespace", "2"],
        ["--expect-run", "release-1.4.1"],
        ["--expect-scenario", "other"],
    ] {
        let (code, out, _) = told(["verify", text(&good), expected[0], expected[1]]);
        assert_eq!(code, 1, "{expected:?}");
        assert!(out.contains("RP0701"), "{out}");
    }
    for expected in [["--expect-tenant", "1"], ["--expect-run", "release-1.4.0"], ["--expect-min-lane", "verified"]] {
        let (code, out, _) = told(["verify", text(&good), expected[0], expected[1]]);
        assert_eq!(code, 0, "{expected:?}");
        assert!(out.contains(": consistent: "), "knowing whose run it is pins nothing: {out}");
    }
    let policy = dir.path().join("anchors.json");
    fs::write(
        &policy,
        r#"{"providers":[{"provider_id":"json","requirement":{"anchor_type":"x","required_fields":[]}}]}"#,
    )
    .unwrap();
    assert_eq!(told(["verify", text(&good), "--expect-anchor-policy", text(&policy)]).0, 1);
    fs::write(&policy, "{}").unwrap();
    assert_eq!(told(["verify", text(&good), "--expect-anchor-policy", text(&policy)]).0, 0);
    for (asked, expected) in [
        (r#"{"engine":"permit_all"}"#, 0),
        // The pack discloses packets, which this policy never does.
        (r#"{"engine":"deny_all"}"#, 1),
        (
            r#"{"engine":"static","static":{"default":"deny","rules":[{"effect":"permit","target_kinds":["agent"]}]}}"#,
            0,
        ),
        (
            r#"{"engine":"static","static":{"default":"permit","rules":[{"effect":"deny","target_kinds":["agent"]}]}}"#,
            1,
        ),
        (r#"{"engine":"static"}"#, 2),
        (r#"{"engine":"permit_all","static":{}}"#, 2),
        (r#"{"engine":"static","static":{"rules":[{"effect":"permit"}]}}"#, 2),
    ] {
        fs::write(&policy, asked).unwrap();
        let (code, out, error) = told(["verify", text(&good), "--expect-policy", text(&policy)]);
        assert_eq!(code, expected, "{asked}: {out}{error}");
    }
    let (code, _, error) = told(["verify", text(&good), "--expect-policy", text(&policy), "--checks", "all"]);
    assert!(code == 2 && error.contains("only seen by deciding again"), "{error}");
    assert_eq!(told(["verify", text(&good), "--expect-digest", "xyz"]).0, 2);
}

#[test]
fn a_lock_file_pins_many_and_misses_none() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, lock) = (dir.path().join("one"), dir.path().join("two"), dir.path().join("packs.lock"));
    copy_pack(&one);
    copy_pack(&two);
    let args = ["pin", text(&one), text(&two), "--output", text(&lock)];
    assert_eq!(told(args).0, 0);
    assert_eq!(fs::read_to_string(&lock).unwrap(), format!("{DIGEST}  {}\n{DIGEST}  {}\n", text(&one), text(&two)));
    let (code, out, _) = told(["verify", text(&one), text(&two), "--expect-file", text(&lock)]);
    assert_eq!(code, 0);
    assert_eq!(out.matches(": pinned: ").count(), 2);
    // A pack of the lock that was not given is not silently fine.
    let (code, _, err) = told(["verify", text(&one), "--expect-file", text(&lock)]);
    assert_eq!(code, 2);
    assert!(err.contains("is expected and was not verified"), "{err}");
    // Nor is a pack the lock does not know.
    let three = dir.path().join("three");
    copy_pack(&three);
    let (code, out, _) = told(["verify", text(&one), text(&two), text(&three), "--expect-file", text(&lock)]);
    assert_eq!(code, 2);
    assert!(out.contains("no digest is known for this path"), "{out}");
    // A forged pack is not pinned.
    fs::write(two.join("artifacts/decisions.json"), "[]").unwrap();
    assert_eq!(told(["pin", text(&two)]).0, 1);
}

#[test]
fn sarif_junit_and_annotations_name_the_file_and_the_reason() {
    let dir = fleet();
    let (code, out, _) = told(["verify", "--recursive", text(dir.path()), "--format", "sarif"]);
    assert_eq!(code, 1);
    let log: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let results = log["runs"][0]["results"].as_array().unwrap();
    let rules = log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    for result in results {
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!(rule["id"], result["ruleId"]);
        let uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap();
        assert!(uri.contains("b/forged") || uri.contains("c/headless"), "{uri}");
    }
    assert!(results.iter().any(|result| result["ruleId"] == "RP0201"), "{out}");

    let (code, out, _) = told(["verify", "--recursive", text(dir.path()), "--format", "junit"]);
    assert_eq!(code, 1);
    assert!(out.contains("tests=\"3\" failures=\"1\" errors=\"1\""), "{out}");
    assert!(out.contains("<failure message=\"refused\">RP0201 hash mismatch for artifacts/decisions.json"), "{out}");

    let (code, out, _) = told(["verify", text(&dir.path().join("b/forged")), "--format", "github"]);
    assert_eq!(code, 1);
    assert!(out.lines().all(|line| line.starts_with("::error file=") || line.starts_with("::warning file=")), "{out}");
    assert!(out.contains("title=RP0201::hash mismatch for artifacts/decisions.json\n"), "{out}");
}

#[test]
fn digests_alone_are_checked_when_asked() {
    let dir = fleet();
    let forged = dir.path().join("b/forged");
    let (code, out, _) = told(["verify", text(&forged), "--checks", "digests"]);
    assert_eq!(code, 1);
    assert!(out.contains("RP0201") && !out.contains("RP0205"), "{out}");
    let good = dir.path().join("a/good");
    for checks in ["digests", "all", "replay"] {
        assert_eq!(told(["verify", text(&good), "--checks", checks]).0, 0, "{checks}");
    }
}

#[test]
fn sizes_are_written_as_people_write_them() {
    let dir = fleet();
    let good = dir.path().join("a/good");
    for (size, code) in
        [("1KiB", 2), ("16MiB", 0), ("4GiB", 0), ("18446744073709551615", 0), ("1 MB", 2), ("99999999999GiB", 2)]
    {
        assert_eq!(told(["verify", text(&good), "--max-artifact-bytes", size]).0, code, "{size}");
    }
}

#[test]
fn every_finding_is_explained() {
    let (code, out, _) = told(["explain"]);
    assert_eq!(code, 0);
    for line in out.lines() {
        let finding = &line[..6];
        let (code, out, _) = told(["explain", finding]);
        assert_eq!(code, 0);
        assert!(out.starts_with(finding), "{out}");
    }
    let (code, _, err) = told(["explain", "RP9999"]);
    assert_eq!(code, 2);
    assert!(err.contains("hint: `runpack explain` lists them"), "{err}");
}

#[test]
fn replay_shows_the_working_and_what_another_scenario_would_have_done() {
    let good = inputs::testdata("packs/good/release-gate");
    let (code, out, _) = told(["replay", text(&good)]);
    assert_eq!(code, 0);
    assert!(out.contains("enough-tests is True: 12 greater_than_or_equal 10 (verified)"), "{out}");
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("stricter.json");
    let scenario = fs::read_to_string(inputs::root().join("daemon/demo/scenario.json")).unwrap();
    fs::write(&other, scenario.replace("\"expected\": 10", "\"expected\": 20")).unwrap();
    let (code, out, _) = told(["replay", text(&good), "--scenario", text(&other)]);
    assert_eq!(code, 0);
    assert!(out.contains("* afternoon: hold, unmet: tests (was: advance from review to release)"), "{out}");
    assert!(out.ends_with("3 of 3 decisions would have been others\n"), "{out}");
}

#[test]
fn diff_speaks_of_meaning_and_never_calls_different_packs_the_same() {
    let good = inputs::testdata("packs/good/release-gate");
    let (code, out, _) = told(["diff", text(&good), text(&good)]);
    assert_eq!((code, out.as_str()), (0, "the same pack\n"));
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other");
    copy_pack(&other);
    let manifest = other.join("manifest.json");
    let later = fs::read_to_string(&manifest).unwrap().replace("1710000120000", "1710000120001");
    fs::write(&manifest, later).unwrap();
    let (code, out, _) = told(["diff", text(&good), text(&other)]);
    assert_eq!(code, 1);
    assert!(out.contains("exported at unix_millis:1710000120000 and at unix_millis:1710000120001"), "{out}");
    let evals = other.join("artifacts/gate_evals.json");
    let flipped = fs::read_to_string(&evals).unwrap().replacen("\"status\":\"True\"", "\"status\":\"Unknown\"", 1);
    fs::write(&evals, flipped).unwrap();
    let (code, out, _) = told(["diff", text(&good), text(&other)]);
    assert_eq!(code, 1);
    assert!(out.contains("loss of sight: trigger morning: gate tests was True and is Unknown\n"), "{out}");
}
