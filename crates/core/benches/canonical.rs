//! The canonical-form check against what it replaces, and against hashing the
//! same bytes. Goals: at least 50 × parse, write again and compare; at least
//! the rate of SHA-256.

#![allow(clippy::unwrap_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use runpack_core::canon::{Digest, Form, check};
use serde_json::{Value, json};

const RECORDS: usize = 20_000;
const ROUNDS: usize = 9;

fn main() {
    let log = gate_evaluations();
    println!("canonical-form check of {:.1} MB of gate evaluations, MB per second", log.len() as f64 / 1e6);
    let mut rates = Vec::new();
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let checked = time(|| assert_eq!(check(black_box(&log)), Ok(Form::Rfc8785)));
        let hashed = time(|| _ = black_box(Digest::of(black_box(&log))));
        let again = time(|| {
            let tree: Value = serde_json::from_slice(black_box(&log)).unwrap();
            assert!(serde_jcs::to_vec(&tree).unwrap() == log);
        });
        let rate = |took: Duration| log.len() as f64 / 1e6 / took.as_secs_f64();
        println!(
            "  round {round}: check {:5.0}, SHA-256 {:5.0}, parse and write again {:3.0}",
            rate(checked),
            rate(hashed),
            rate(again)
        );
        ratios.push(again.as_secs_f64() / checked.as_secs_f64());
        rates.push(hashed.as_secs_f64() / checked.as_secs_f64());
    }
    println!("  median {:.0} x parse and write again (goal: at least 50)", median(ratios));
    println!("  median {:.2} x the rate of SHA-256 (goal: at least 1.00)", median(rates));
}

fn gate_evaluations() -> Vec<u8> {
    let record = |n: usize| {
        json!({
            "evaluation": {"gate_id": "ready", "status": "Unknown", "trace": [
                {"condition_id": "tests_passed", "status": "True"}, {"condition_id": "approved", "status": "Unknown"}]},
            "evidence": [{"condition_id": "tests_passed", "status": "True", "result": {
                "content_type": "application/json", "error": null, "evidence_anchor":
                {"anchor_type": "file_path_rooted", "anchor_value": "{\"path\":\"report.json\",\"root_id\":\"evidence\"}"},
                "evidence_hash": {"algorithm": "sha256", "value": "b5bea41b6c623f7c09f1bf24dcae58ebab3c0cdd90ad966bc43a45b44867e12b"},
                "evidence_ref": {"uri": "file://evidence/report.json"}, "lane": "verified", "signature": null,
                "value": {"kind": "json", "value": {"failed": 0, "passed": n, "ratio": 0.75}}}}],
            "stage_id": "main", "trigger_id": format!("trigger-{n}")})
    };
    serde_jcs::to_vec(&(0..RECORDS).map(record).collect::<Vec<_>>()).unwrap()
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
