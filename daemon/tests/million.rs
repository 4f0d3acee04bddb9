//! A run of a million triggers completes, is exported and verified, from a store
//! of less than twice its pack, in 128 MiB. Only with `RUNPACK_DEEP=1`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../testdata/peak.rs"]
mod peak;

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use peak::peak;
use runpack_core::pack::layout::MANIFEST_NAME;
use runpack_core::pack::{Verdict, VerifyOptions, verify};
use runpack_storage::packs::DirectoryReader;
use serde_json::json;

const TRIGGERS: u64 = 1_000_000;
const RSS_KIB_MAX: u64 = 128 * 1024;
const BYTES_MAX: u64 = 4 << 30;

fn verify_at(pack: &Path) {
    let options = VerifyOptions { artifact_bytes_max: BYTES_MAX, ..VerifyOptions::default() };
    let report = verify(&DirectoryReader::open(pack).unwrap(), MANIFEST_NAME, &options);
    assert_eq!(report.verdict, Verdict::Consistent, "{report:?}");
}

fn bytes_under(dir: &Path) -> u64 {
    fs::read_dir(dir).unwrap().map(Result::unwrap).fold(0, |sum, entry| match entry.file_type().unwrap().is_dir() {
        true => sum + bytes_under(&entry.path()),
        false => sum + entry.metadata().unwrap().len(),
    })
}

#[test]
fn a_million_triggers_go_through_128_mebibytes() {
    if let Ok(pack) = std::env::var("RUNPACK_MILLION_AT") {
        return verify_at(Path::new(&pack));
    }
    if std::env::var_os("RUNPACK_DEEP").is_none() {
        return;
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = dir.path();
    // The last of them opens the gate.
    let scenario = json!({"scenario_id":"held","namespace_id":1,"spec_version":"1","default_tenant_id":null,"policies":[],"schemas":[],
        "conditions":[{"condition_id":"c","query":{"provider_id":"time","check_id":"after","params":{"timestamp":TRIGGERS - 1}},
        "comparator":"equals","expected":true,"policy_tags":[]}],
        "stages":[{"stage_id":"s","entry_packets":[],"gates":[{"gate_id":"g","requirement":{"Condition":"c"}}],
        "advance_to":{"kind":"terminal"},"timeout":null,"on_timeout":"fail"}]});
    fs::write(dir.join("scenario.json"), scenario.to_string()).unwrap();
    let config = json!({"tenant_id":1,"namespace_id":1,"run_id":"r","scenario_id":"held","dispatch_targets":[],"policy_tags":[]});
    fs::write(dir.join("run.json"), config.to_string()).unwrap();
    let mut lines = BufWriter::new(fs::File::create(dir.join("triggers.jsonl")).unwrap());
    for n in 1..=TRIGGERS {
        let event = json!({"trigger_id":format!("t{n}"),"tenant_id":1,"namespace_id":1,"run_id":"r","kind":"tick",
            "time":{"kind":"logical","value":n},"source_id":"x"});
        writeln!(lines, "{event}").unwrap();
    }
    lines.into_inner().unwrap();

    let mut most = 0;
    let mut did = |name: &str, child: &mut Command| {
        let begun = Instant::now();
        let kib = peak(child.current_dir(dir).stdout(Stdio::null()).spawn().unwrap());
        println!("{name}: {:.0} s, {} MiB", begun.elapsed().as_secs_f64(), kib / 1024);
        most = most.max(kib);
    };
    let runpackd = || Command::new(env!("CARGO_BIN_EXE_runpackd"));
    let bytes = BYTES_MAX.to_string();
    did(
        "run, with its own export and verification",
        runpackd()
            .args(["run", "--scenario", "scenario.json", "--run-config", "run.json", "--triggers", "triggers.jsonl"])
            .args(["--store", "runs.db", "--out", "pack", "--include-verification", "--max-artifact-bytes", &bytes]),
    );
    did("store verify", runpackd().args(["store", "verify", "--store", "runs.db"]));
    did(
        "store export",
        runpackd()
            .args([
                "store",
                "export",
                "--store",
                "runs.db",
                "--run",
                "r",
                "--out",
                "again",
                "--generated-at",
                "logical:1",
            ])
            .args(["--max-artifact-bytes", &bytes]),
    );
    let mut verifying = Command::new(std::env::current_exe().unwrap());
    verifying.args(["--exact", "a_million_triggers_go_through_128_mebibytes", "--quiet"]);
    did("verify with replay", verifying.env("RUNPACK_MILLION_AT", dir.join("again")));
    let store: u64 = ["runs.db", "runs.db-wal"]
        .iter()
        .filter_map(|name| fs::metadata(dir.join(name)).ok())
        .map(|file| file.len())
        .sum();
    let pack = bytes_under(&dir.join("again"));
    println!("store {store} bytes, pack {pack} bytes, {:.2} x", store as f64 / pack as f64);
    assert!(most < RSS_KIB_MAX, "{most} KiB");
    assert!(store <= 2 * pack, "store {store} bytes, pack {pack} bytes");
}
