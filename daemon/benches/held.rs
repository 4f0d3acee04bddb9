//! CPU per trigger of `runpackd run`: does a long run cost more per trigger
//! than a short one? Goal: 20,000 held triggers ≤ 1.3 × 1,000, per trigger.
//!
//! CPU is user and system time of the whole child process, start and export
//! included, so it does not move with the load of the machine.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

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
    ratios.sort_by(f64::total_cmp);
    println!("  median ratio {:.2} (goal: at most 1.30)", ratios[ROUNDS / 2]);
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

/// User and system seconds that children have used, as far as they were waited for.
fn children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[13].parse::<u64>().unwrap() + fields[14].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

fn cpu_of(work: impl FnOnce()) -> f64 {
    let before = children();
    work();
    children() - before
}
