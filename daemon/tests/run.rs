//! `runpackd run` and `demo` as a user would use them.

#![allow(clippy::unwrap_used)]

#[path = "common/demo.rs"]
mod demo;
#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

struct Work {
    dir: tempfile::TempDir,
}

impl Work {
    /// The demo's files, ready to be run by hand.
    fn new() -> Self {
        let dir = demo::files();
        let config = "[[providers]]\nname = \"time\"\ntype = \"builtin\"\n\n[[providers]]\nname = \"json\"\ntype = \"builtin\"\n\
                      config = { root = \"evidence\", root_id = \"evidence\" }\n";
        fs::write(dir.path().join("decision-gate.toml"), config).unwrap();
        Self { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        fs::write(self.at(name), text).unwrap();
        self
    }

    /// Runs with the usual files; `extra` comes last and may override them.
    fn run(&self, extra: &[&str]) -> (i32, String, String) {
        let usual =
            ["run", "--scenario", "scenario.json", "--run-config", "run-config.json", "--config", "decision-gate.toml"];
        self.runpackd(usual.iter().chain(extra).copied())
    }

    fn runpackd<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> (i32, String, String) {
        let output =
            Command::new(env!("CARGO_BIN_EXE_runpackd")).args(args).current_dir(self.dir.path()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn artifact(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.at("pack/artifacts").join(name)).unwrap()).unwrap()
    }
}

const CALLS: [&str; 4] = ["--calls", "calls.jsonl", "--out", "pack"];

#[test]
fn a_run_completes_and_its_pack_is_the_one_we_keep() {
    let work = Work::new();
    let (code, out, err) = work.run(&[&CALLS[..], &["--include-verification"]].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.contains(
            "decision-1 decided morning at unix_millis:1709982000000 in stage review: hold, unmet: freeze-over"
        ),
        "{out}"
    );
    let kept = inputs::testdata("packs/good/release-gate");
    for path in ["manifest.json", "artifacts/gate_evals.json", "artifacts/packets.json", "artifacts/tool_calls.json"] {
        assert!(fs::read(work.at("pack").join(path)).unwrap() == fs::read(kept.join(path)).unwrap(), "{path}");
    }
    // Again, onto the same pack: nothing to do, and success.
    assert_eq!(work.run(&[&CALLS[..], &["--include-verification"]].concat()).0, 0);
}

#[test]
fn a_held_run_exits_with_one_and_says_why() {
    let work = Work::new();
    work.write("evidence/report.json", r#"{"summary":{"failed":2,"passed":3}}"#);
    let (code, out, _) = work.run(&CALLS);
    assert_eq!(code, 1);
    assert!(
        out.contains("  gate tests is False\n    - enough-tests is False: {\"kind\":\"json\",\"value\":3}\n"),
        "{out}"
    );
    assert!(out.contains("run release-1.4.0 is active in stage review"), "{out}");
}

#[test]
fn evidence_that_cannot_be_had_holds_the_run() {
    let work = Work::new();
    fs::remove_file(work.at("evidence/report.json")).unwrap();
    let (code, out, _) = work.run(&CALLS);
    assert_eq!(code, 1);
    assert!(out.contains("- no-failures is Unknown: file_not_found: "), "{out}");
    let evals = work.artifact("gate_evals.json");
    assert_eq!(evals[0]["evidence"][0]["result"]["error"]["code"], "file_not_found");
    assert_eq!(evals[0]["evaluation"]["status"], "Unknown");
}

#[test]
fn triggers_are_the_other_way_in() {
    let work = Work::new();
    let event = json!({"trigger_id":"t","tenant_id":1,"namespace_id":1,"run_id":"release-1.4.0","kind":"tick",
        "time":{"kind":"unix_millis","value":1_710_000_000_000_i64},"source_id":"cron","payload":{"kind":"json","value":{"n":1.0}}});
    work.write("triggers.jsonl", format!("{event}\n\n"));
    let (code, _, err) = work.run(&["--triggers", "triggers.jsonl", "--out", "pack", "--issue-entry-packets"]);
    assert_eq!((code, err.as_str()), (1, ""));
    let triggers = work.artifact("triggers.json");
    assert_eq!(triggers[0]["event"]["trigger_id"], "init");
    // 1.0 became 1 before anything was decided or recorded.
    assert_eq!(triggers[1]["event"]["payload"], json!({"kind":"json","value":{"n":1}}));
    assert_eq!(
        work.artifact("decisions.json")[1]["outcome"],
        json!({"kind":"advance","from_stage":"review","to_stage":"release","timeout":false})
    );
}

#[test]
fn submissions_repeat_and_conflict() {
    let work = Work::new();
    let submit = |value: i64, at: i64| {
        json!({"call":"submit","request":{"run_id":"release-1.4.0","tenant_id":1,"namespace_id":1,"submission_id":"s",
            "payload":{"kind":"json","value":value},"content_type":"application/json","submitted_at":{"kind":"logical","value":at}}})
    };
    work.write("calls.jsonl", format!("{}\n{}\n{}\n", submit(1, 1), submit(1, 2), submit(2, 3)));
    let (code, out, _) = work.run(&CALLS);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("line 3: submission_id conflict: s at logical:3"), "{out}");
    assert_eq!(work.artifact("submissions.json").as_array().unwrap().len(), 1);
    let calls = work.artifact("tool_calls.json");
    assert_eq!(calls[2]["error"]["details"], json!({"kind":"message","info":"submission_id=s"}));
}

#[test]
fn every_wrong_step_says_what_to_do_and_leaves_nothing() {
    let cases: [(&str, &str, &[&str], &str); 21] = [
        (
            "decision-gate.toml",
            "[server.auth]\nmod = \"local_only\"\n",
            &CALLS,
            "server.auth.mod: there is no such key\nhint: `server.auth.mode` looks most like it",
        ),
        (
            "decision-gate.toml",
            "[[providers]]\nname = \"x\"\ntype = \"mcp\"\ncommand = [\"x\"]\n",
            &CALLS,
            "providers.x.capabilities_path: an external provider needs the file of its contract",
        ),
        ("", "", &["--calls", "missing.jsonl", "--out", "pack"], "cannot read `missing.jsonl`"),
        ("scenario.json", "{", &CALLS, "`scenario.json`: not JSON: EOF"),
        ("run-config.json", r#"{"tenant_id":1}"#, &CALLS, "`run-config.json`: missing field `dispatch_targets`"),
        (
            "calls.jsonl",
            "{\"call\":\"next\",\"request\":{}}\n",
            &CALLS,
            "`calls.jsonl`: line 1: request of `next`: missing field `agent_id`",
        ),
        (
            "calls.jsonl",
            "{\"call\":\"jump\",\"request\":{}}\n",
            &CALLS,
            "unknown call `jump`, expected `next`, `trigger`, `submit` or `status`",
        ),
        ("calls.jsonl", "\n{\"call\" 1}\n", &CALLS, "`calls.jsonl`: line 2: not JSON: expected `:` at column 9"),
        (
            "run-config.json",
            r#"{"dispatch_targets":[],"namespace_id":1,"policy_tags":[],"run_id":"r","scenari_id":"s","tenant_id":1}"#,
            &CALLS,
            "missing field `scenario_id` at line 1 column 101, and there is an unknown member `/scenari_id`",
        ),
        (
            "scenario.json",
            &include_str!("../demo/scenario.json").replace("\"after\"", "\"afer\""),
            &CALLS,
            "check_missing: condition `after-freeze`: provider time has no check afer\nhint: there are: ",
        ),
        ("calls.jsonl", "", &CALLS, "there are no calls, so --started-at must say when the run starts"),
        ("decision-gate.toml", "[sever]\n", &CALLS, "sever: there is no such key\nhint: `server` looks most like it"),
        (
            "decision-gate.toml",
            "[[provider]]\nname = \"time\"\n",
            &CALLS,
            "provider: there is no such key\nhint: `providers` looks most like it",
        ),
        (
            "decision-gate.toml",
            "[policies]\n",
            &CALLS,
            "policies: there is no such key\nhint: `policy` looks most like it",
        ),
        (
            "decision-gate.toml",
            "[[providers]]\nname = \"time\"\ntype = \"builtin\"\n",
            &CALLS,
            "condition `no-failures` asks provider `json`, which is not configured",
        ),
        (
            "decision-gate.toml",
            "[[providers]]\nname = \"json\"\ntype = \"builtin\"\nconfig = { root = \"nowhere\", root_id = \"e\" }\n",
            &CALLS,
            "providers.json.config.root: cannot open",
        ),
        (
            "decision-gate.toml",
            "[policy]\nengine = \"static\"\n",
            &CALLS,
            "policy.static: is required with engine \"static\"",
        ),
        (
            "decision-gate.toml",
            "[trust]\ndefault_policy = { require_signature = { keys = [\"no.key\"] } }\n\
             [[providers]]\nname = \"time\"\ntype = \"builtin\"\n",
            &CALLS,
            "providers.time.trust: ",
        ),
        (
            "",
            "",
            &["--calls", "calls.jsonl", "--out", "pack", "--generated-at", "yesterday"],
            "`yesterday` is not a time",
        ),
        (
            "",
            "",
            &["--calls", "calls.jsonl", "--out", "pack", "--max-input-bytes", "100"],
            "raise the limit with --max-input-bytes",
        ),
        (
            "",
            "",
            &["--calls", "calls.jsonl", "--out", "pack", "--max-artifact-bytes", "100"],
            "raise the limit with --max-artifact-bytes",
        ),
    ];
    for (file, text, args, message) in cases {
        let work = Work::new();
        if !file.is_empty() {
            work.write(file, text);
        }
        let (code, out, err) = work.run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{message}");
        assert!(err.contains(message), "expected `{message}` in:\n{err}");
        assert!(!work.at("pack").exists(), "{message}");
        assert!(leftovers(work.dir.path()).is_empty(), "{message}");
    }
}

fn leftovers(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".runpack")).collect()
}

#[test]
fn a_call_that_cannot_be_decided_stops_the_run_unexported() {
    let work = Work::new();
    let mut scenario: Value = serde_json::from_slice(&fs::read(work.at("scenario.json")).unwrap()).unwrap();
    scenario["stages"][0]["timeout"] = json!({"timeout_ms": 5, "policy_tags": []});
    work.write("scenario.json", scenario.to_string());
    let tick = json!({"trigger_id":"t","tenant_id":1,"namespace_id":1,"run_id":"release-1.4.0","kind":"tick",
        "time":{"kind":"logical","value":9},"source_id":"cron"});
    work.write("triggers.jsonl", format!("{tick}\n"));
    let args = ["--triggers", "triggers.jsonl", "--out", "pack", "--started-at", "unix_millis:0"];
    let (code, _, err) = work.run(&args);
    assert_eq!(code, 2);
    assert!(err.contains("`triggers.jsonl`: line 1: trigger time kind mismatch"), "{err}");
    assert!(!work.at("pack").exists());
}

#[test]
fn policy_can_refuse_a_disclosure_and_the_run_fails() {
    let work = Work::new();
    let config = fs::read_to_string(work.at("decision-gate.toml")).unwrap();
    work.write("decision-gate.toml", format!("{config}\n[policy]\nengine = \"deny_all\"\n"));
    let (code, out, _) = work.run(&CALLS);
    assert_eq!(code, 1);
    assert!(out.contains("fail: policy denied disclosure"), "{out}");
    assert_eq!(work.artifact("packets.json"), json!([]));
}

#[test]
fn warnings_name_the_keys_that_allow_nothing() {
    let work = Work::new();
    let config = fs::read_to_string(work.at("decision-gate.toml")).unwrap();
    let more =
        "[[providers]]\nname = \"env\"\ntype = \"builtin\"\n\n[[providers]]\nname = \"http\"\ntype = \"builtin\"\n";
    work.write("decision-gate.toml", format!("{config}\n{more}\n[dev]\npermissive = true\n"));
    let (code, _, err) = work.run(&CALLS);
    assert_eq!(code, 0);
    for key in ["allowlist", "allowed_hosts", "dev-permissive mode enabled"] {
        assert!(err.contains(key), "{key}: {err}");
    }
}

/// Every preset of the reference that a one-shot run can use is read whole.
#[test]
fn the_presets_of_the_reference_are_read() {
    let Some(presets) = inputs::shared("reference/presets") else { return };
    for entry in fs::read_dir(presets).unwrap() {
        let work = Work::new();
        let preset = fs::read_to_string(entry.unwrap().path()).unwrap();
        work.write("decision-gate.toml", preset.replace("evidence-root", "evidence"));
        let (code, out, err) = work.run(&CALLS);
        assert_eq!(code, 0, "{out}{err}");
    }
}

#[test]
fn the_demo_goes_twice_and_never_into_somebody_elses_directory() {
    let work = Work::new();
    for _ in 0..2 {
        let (code, out, err) = work.runpackd(["demo"]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(out.contains("consistent: 8 files checked"), "{out}");
        assert!(out.contains("RP0201 hash mismatch for artifacts/gate_evals.json"), "{out}");
        assert!(out.contains("\nEverything is in runpack-demo. Next:\n"), "{out}");
    }
    let (code, _, err) = work.runpackd(["demo", "--dir", "evidence"]);
    assert_eq!(code, 2);
    assert!(err.contains("not from an earlier demo"), "{err}");
}

#[test]
fn packs_go_where_the_config_says_unless_out_says_otherwise() {
    let work = Work::new();
    let config = fs::read_to_string(work.at("decision-gate.toml")).unwrap();
    fs::create_dir(work.at("packs")).unwrap();
    let storage = |more: &str| {
        let table = "[runpack_storage]\ntype = \"object_store\"\nprovider = \"local\"\nbucket = \"packs\"\n";
        format!("{config}\n{table}{more}\n")
    };
    let calls = ["--calls", "calls.jsonl", "--include-verification"];
    let (code, _, err) = work.run(&calls);
    assert!(code == 2 && err.contains("hint: pass --out, or configure [runpack_storage]"), "{err}");
    work.write("decision-gate.toml", storage("prefix = \"audit\""));
    let (code, out, err) = work.run(&calls);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let key = "packs/audit/tenant/1/namespace/1/scenario/release-gate/run/release-1.4.0/spec/sha256/";
    let uri = out.lines().find_map(|line| line.strip_prefix("pack file://")).unwrap();
    assert!(uri.contains(key) && uri.ends_with('/'), "{uri}");
    // The same run again is the same pack; a directory of its own holds the same bytes.
    assert_eq!(work.run(&calls).0, 0);
    assert_eq!(work.run(&[&calls[..], &["--out", "pack"]].concat()).0, 0);
    for name in ["manifest.json", "artifacts/decisions.json", "artifacts/verifier_report.json"] {
        let kept = fs::read(Path::new(uri).join(name)).unwrap();
        assert!(kept == fs::read(work.at("pack").join(name)).unwrap(), "{name}");
    }
    // Another pack of the run: it stays, or the new one goes beside it.
    let other = [&calls[..], &["--generated-at", "logical:99"]].concat();
    let (code, _, err) = work.run(&other);
    assert!(code == 2 && err.contains("another pack of this run is at `file://"), "{err}");
    work.write("decision-gate.toml", storage("prefix = \"audit\"\non_existing = \"snapshot\""));
    let (code, out, err) = work.run(&other);
    assert!(code == 0 && out.contains("/run/release-1.4.0/snapshot/"), "{out}{err}");
}

#[test]
fn a_storage_table_that_makes_no_sense_is_refused_by_key() {
    let work = Work::new();
    let config = fs::read_to_string(work.at("decision-gate.toml")).unwrap();
    for (table, said) in [
        ("provider = \"s3\"\nbucket = \"b\"\nendpoint = \"ftp://h\"", "runpack_storage.endpoint"),
        ("provider = \"s3\"\nbucket = \"b\"\nendpoint = \"http://h\"", "set allow_http = true"),
        ("provider = \"s3\"\nbucket = \"b\"\nprefix = \"../x\"", "runpack_storage.prefix"),
        ("provider = \"s3\"\nbucket = \"b c\"", "is no name of one"),
        ("provider = \"s3\"\nbucket = \"b\"\nregoin = \"x\"", "runpack_storage.regoin"),
        ("provider = \"local\"\nbucket = \"absent\"", "runpack_storage: "),
        ("provider = \"local\"\nbucket = \".\"\noptions = { patience = \"1\" }", "did you mean `patience_s`?"),
        ("provider = \"minio\"\nbucket = \"b\"", "provider"),
    ] {
        work.write("decision-gate.toml", format!("{config}\n[runpack_storage]\ntype = \"object_store\"\n{table}\n"));
        let (code, out, err) = work.run(&CALLS);
        assert!(code == 2 && out.is_empty() && err.contains(said), "{table}: {err}");
        assert!(!work.at("pack").exists());
    }
}

#[test]
fn the_limit_of_artifacts_is_in_the_config_unless_the_flag_says_otherwise() {
    let work = Work::new();
    let config = fs::read_to_string(work.at("decision-gate.toml")).unwrap();
    let with = |limit: &str| {
        work.write("decision-gate.toml", format!("{config}\n[runpack]\nmax_artifact_bytes = {limit}\n"));
    };
    let run = |extra: &[&str], out: &str| work.run(&[&["--calls", "calls.jsonl", "--out", out], extra].concat());
    with("100");
    let (code, _, told) = run(&[], "small");
    assert!(code == 2 && told.contains("artifact too large") && told.contains("under [runpack]"), "{told}");
    assert!(!work.at("small").exists());
    assert_eq!(run(&["--max-artifact-bytes", "1MiB"], "large").0, 0);
    with("\"1MiB\"");
    assert_eq!(run(&[], "enough").0, 0);
    for nonsense in ["0", "\"many\"", "-1", "true"] {
        with(nonsense);
        let (code, _, told) = run(&[], "none");
        assert!(code == 2 && told.contains("max_artifact_bytes"), "{nonsense}: {told}");
    }
}
