//! kill -9 during export: never a directory with a manifest that does not verify.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runpack_core::pack::{Verdict, VerifyOptions, verify};
use runpack_storage::packs::DirectoryReader;
use serde_json::json;

/// Rounds; `just nightly` asks for more.
fn rounds() -> u32 {
    std::env::var("RUNPACK_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

fn run(dir: &Path, out: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runpackd"));
    command.args(["run", "--scenario", "scenario.json", "--run-config", "run.json", "--triggers", "triggers.jsonl"]);
    command.args(["--include-verification", "--out", out]).current_dir(dir);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn a_killed_export_leaves_nothing_that_looks_like_a_pack() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let scenario = json!({"scenario_id":"k","namespace_id":1,"spec_version":"1","default_tenant_id":null,"policies":[],"schemas":[],
        "conditions":[{"condition_id":"c","query":{"provider_id":"time","check_id":"after","params":{"timestamp":1_000_000}},
        "comparator":"equals","expected":true,"policy_tags":[]}],
        "stages":[{"stage_id":"s","entry_packets":[],"gates":[{"gate_id":"g","requirement":{"Condition":"c"}}],
        "advance_to":{"kind":"terminal"},"timeout":null,"on_timeout":"fail"}]});
    fs::write(dir.join("scenario.json"), scenario.to_string()).unwrap();
    let config =
        json!({"tenant_id":1,"namespace_id":1,"run_id":"r","scenario_id":"k","dispatch_targets":[],"policy_tags":[]});
    fs::write(dir.join("run.json"), config.to_string()).unwrap();
    let triggers: String = (1..=300)
        .map(|n| {
            let event = json!({"trigger_id":format!("t{n}"),"tenant_id":1,"namespace_id":1,"run_id":"r","kind":"tick",
                "time":{"kind":"logical","value":n},"source_id":"x"});
            format!("{event}\n")
        })
        .collect();
    fs::write(dir.join("triggers.jsonl"), triggers).unwrap();

    let began = Instant::now();
    assert_eq!(run(dir, "whole").status().unwrap().code(), Some(1));
    let mut whole = began.elapsed();
    let (mut killed, mut finished, mut staged) = (0, 0, 0);
    for round in 0..rounds() {
        let out = format!("pack-{round}");
        let mut child = run(dir, &out).spawn().unwrap();
        // Spread over the whole run, with the export at its end most often.
        let share = 0.3 + 0.8 * f64::from(round * 37 % 100) / 100.0;
        std::thread::sleep(Duration::from_secs_f64(whole.as_secs_f64() * share));
        child.kill().unwrap();
        let ended = child.wait().unwrap().code().is_some();
        *(if ended { &mut finished } else { &mut killed }) += 1;
        if ended {
            // The machine was slower when it was measured.
            whole = whole.mul_f64(0.95);
        }
        staged += check_everything(dir);
    }
    println!("{killed} killed, {finished} finished first, {staged} half-written stagings seen");
    assert!(killed > rounds() / 4, "{killed} killed, {finished} finished");
    // What a kill left behind does not stand in the way.
    assert_eq!(run(dir, "again").status().unwrap().code(), Some(1));
}

/// Every directory with a manifest verifies; answers how many stagings there are.
fn check_everything(dir: &Path) -> usize {
    let mut rest = vec![dir.to_owned()];
    let mut staged = 0;
    while let Some(at) = rest.pop() {
        if at.join("manifest.json").exists() {
            let report = verify(&DirectoryReader::open(&at).unwrap(), "manifest.json", &VerifyOptions::default());
            assert_eq!(report.verdict, Verdict::Consistent, "{}: {:?}", at.display(), report.findings);
        }
        for entry in fs::read_dir(&at).unwrap() {
            let entry = entry.unwrap();
            staged += usize::from(entry.file_name().to_string_lossy().starts_with(".runpack"));
            if entry.file_type().unwrap().is_dir() {
                rest.push(entry.path());
            }
        }
    }
    if staged > 0 {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().starts_with(".runpack") {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
    }
    staged
}
