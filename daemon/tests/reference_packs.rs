//! The packs of the reference system, byte for byte: their inputs are replayed
//! through `runpackd run` and every file is compared.

#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use runpack_core::pack::{Verdict, VerifyOptions, verify};
use runpack_storage::packs::{DirectoryReader, Links};
use serde_json::{Value, json};

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The calls behind a pack: what its logs say was asked, in order.
fn calls(pack: &Path) -> String {
    let triggers = read(&pack.join("artifacts/triggers.json"));
    let mut events = triggers
        .as_array()
        .unwrap()
        .iter()
        .map(|record| &record["event"])
        .filter(|event| event["trigger_id"] != "init");
    let manifest = read(&pack.join("manifest.json"));
    let mut lines = String::new();
    let mut add =
        |call: &str, request: Value| writeln!(lines, "{}", json!({"call": call, "request": request})).unwrap();
    for call in read(&pack.join("artifacts/tool_calls.json")).as_array().unwrap() {
        let common = json!({"run_id": manifest["run_id"], "tenant_id": manifest["tenant_id"],
            "namespace_id": manifest["namespace_id"], "correlation_id": null});
        let with = |members: Value| {
            let mut request = common.clone();
            request.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            request
        };
        match call["method"].as_str().unwrap() {
            "scenario.status" => add("status", with(json!({"requested_at": call["called_at"]}))),
            "scenario.trigger" => add("trigger", events.next().unwrap().clone()),
            // A call on a finished run leaves no trigger; the one there is was
            // trigger-7 of agent-1.
            "scenario.next" => {
                let event = events.next();
                let id = event.map_or(json!("trigger-7"), |event| event["trigger_id"].clone());
                let agent = event.map_or(json!("agent-1"), |event| event["source_id"].clone());
                add("next", with(json!({"trigger_id": id, "agent_id": agent, "time": call["called_at"]})));
            }
            other => panic!("{other}"),
        }
    }
    lines
}

fn files(pack: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    found.insert("manifest.json".to_owned(), fs::read(pack.join("manifest.json")).unwrap());
    for entry in fs::read_dir(pack.join("artifacts")).unwrap() {
        let entry = entry.unwrap();
        found.insert(entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    }
    found
}

fn time(time: &Value) -> String {
    format!("{}:{}", time["kind"].as_str().unwrap(), time["value"])
}

#[test]
fn every_file_is_byte_identical() {
    let Some(packs) = inputs::shared("reference/packs") else { return };
    let mut replayed = 0;
    for entry in fs::read_dir(packs).unwrap() {
        let pack = entry.unwrap().path();
        let work = tempfile::tempdir().unwrap();
        let at = |name: &str| work.path().join(name);
        let manifest = read(&pack.join("manifest.json"));
        let packets = read(&pack.join("artifacts/triggers.json"))[0]["event"]["trigger_id"] == "init";
        fs::copy(pack.join("artifacts/scenario_spec.json"), at("scenario.json")).unwrap();
        let run_config = json!({"tenant_id": manifest["tenant_id"], "namespace_id": manifest["namespace_id"],
            "run_id": manifest["run_id"], "scenario_id": manifest["scenario_id"], "dispatch_targets": [], "policy_tags": []});
        fs::write(at("run.json"), run_config.to_string()).unwrap();
        fs::write(at("calls.jsonl"), calls(&pack)).unwrap();
        let permissive = manifest["security"]["dev_permissive"].as_bool().unwrap();
        let config =
            format!("[dev]\npermissive = {permissive}\n\n[[providers]]\nname = \"time\"\ntype = \"builtin\"\n");
        fs::write(at("decision-gate.toml"), config).unwrap();
        let started = &read(&pack.join("artifacts/triggers.json"))[0]["event"]["time"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_runpackd"));
        command.arg("run").arg("--scenario").arg(at("scenario.json")).arg("--run-config").arg(at("run.json"));
        command.arg("--calls").arg(at("calls.jsonl")).arg("--config").arg(at("decision-gate.toml"));
        command.arg("--out").arg(at("pack")).arg("--include-verification");
        command.args(["--generated-at", &time(&manifest["generated_at"]), "--started-at", &time(started)]);
        if packets {
            command.arg("--issue-entry-packets");
        }
        let output = command.output().unwrap();
        let name = pack.file_name().unwrap().to_string_lossy().into_owned();
        let talk = String::from_utf8_lossy(&output.stderr);
        let completed = !matches!(name.as_str(), "flow" | "held-5-trigger");
        assert_eq!(output.status.code(), Some(i32::from(!completed)), "{name}: {talk}");
        let (ours, theirs) = (files(&at("pack")), files(&pack));
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{name}");
        for (file, bytes) in &theirs {
            assert!(ours[file] == *bytes, "{name}: {file} differs");
        }
        let reader = DirectoryReader::open(&pack).unwrap().links(Links::Any);
        let report = verify(&reader, "manifest.json", &VerifyOptions::default());
        assert_eq!((report.verdict, report.checked_files), (Verdict::Consistent, 8), "{name}");
        replayed += 1;
    }
    assert_eq!(replayed, 5);
}
