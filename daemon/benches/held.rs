//! CPU per trigger of `runpackd run`: does a long run cost more per trigger
//! than a short one? Goal: 20,000 held triggers ≤ 1.3 × 1,000, per trigger.
//! Start and export are included.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

include!("../../testdata/measure.rs");

const SHORT: u32 = 1_000;
const LONG: u32 = 20_000;
const ROUNDS: usize = 5;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let scenario = json!({"scenario_id":"held","namespace_id":1,"spec_version":"1","default_tenant_id":null,"policies":[],"schemas":[],
        "conditions":[{"condition_id":"c","query":{"provider_id":"time","check_id":"after","params":{"timestamp":1_000_000}},
        "comparator":"equals","expected":true,"policy_tags":[]}],
        "stages":[{"stage_id":"s","entry_packets":[],"gates":[{"gate_id":"g","requirement":{"Condition":"c"}}],
        "advance_to":{"kind":"terminal"},"timeout":null,"on_timeout":"fail"}]});
    fs::write(dir.join("scenario.json"), scenario.to_string()).unwrap();
    let config = json!({"tenant_id":1,"namespace_id":1,"run_id":"r","scenario_id":"held","dispatch_targets":[],"policy_tags":[]});
    fs::write(dir.join("run.json"), config.to_string()).unwrap();
    for count in [SHORT, LONG] {
        let event = |n| {
            json!({"trigger_id":format!("t{n}"),"tenant_id":1,"namespace_id":1,"run_id":"r","kind":"tick",
                "time":{"kind":"logical","value":n},"source_id":"x"})
        };
        let lines: String = (1..=count).map(|n| format!("{}\n", event(n))).collect();
        fs::write(dir.join(format!("{count}.jsonl")), lines).unwrap();
    }
    // Interleaved, and as many short runs as make up one long one.
    let mut ratios = Vec::new();
    println!("runpackd run, held triggers, CPU per trigger in microseconds");
    for round in 1..=ROUNDS {
        let long = cpu_of(|| held(dir, LONG)) / f64::from(LONG);
        let short = cpu_of(|| (0..LONG / SHORT).for_each(|_| held(dir, SHORT))) / f64::from(LONG);
        ratios.push(long / short);
        println!(
            "  round {round}: {:6.1} over {LONG}, {:6.1} over {SHORT}, ratio {:.2}",
            long * 1e6,
            short * 1e6,
            long / short
        );
    }
    println!("  median ratio {:.2} (goal: at most 1.30)", median(ratios));
}

fn held(dir: &Path, count: u32) {
    let out = dir.join("pack");
    let status = Command::new(env!("CARGO_BIN_EXE_runpackd"))
        .args(["run", "--scenario", "scenario.json", "--run-config", "run.json", "--max-artifact-bytes", "268435456"])
        .args(["--triggers", &format!("{count}.jsonl"), "--out", "pack"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1), "a held run exits with 1");
    fs::remove_dir_all(out).unwrap();
}
