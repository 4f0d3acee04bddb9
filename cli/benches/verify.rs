//! What verifying costs, in ratios beside their goals. The peer is
//! `openssl dgst -sha256` over the same files: the price of reading and
//! hashing them. Small packs, a long run, opaque files, and one small pack
//! beside a program that does nothing.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

include!("../../testdata/measure.rs");

const ROUNDS: usize = 5;
const SMALL_PACKS: usize = 2_000;
const TRIGGERS: u32 = 200_000;
const OPAQUE_BYTES: usize = 128 << 20;
const RUNPACK: &str = env!("CARGO_BIN_EXE_runpack");
const GOOD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/packs/good/release-gate");

fn main() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    if !openssl(&[]).arg("/dev/null").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        println!("absent: openssl, which the ratios need");
        return;
    }
    small_packs(&dir.join("small"));
    one_pack(dir);
    long_run(dir);
    opaque(&dir.join("opaque"));
}

/// Many small packs in one process.
fn small_packs(root: &Path) {
    let files: Vec<_> =
        (0..SMALL_PACKS).flat_map(|number| copy(Path::new(GOOD), &root.join(format!("p{number:04}")))).collect();
    let archives = root.with_file_name("archives");
    seal(&archives);
    let (root, archives) = (root.to_str().unwrap(), archives.to_str().unwrap());
    let (mut digests, mut all, mut replay) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let peer = hashed(&files);
        let ratio = |checks| cpu_of(|| passes(&["--recursive", root, "--format", "json", "--checks", checks])) / peer;
        digests.push(ratio("digests"));
        all.push(ratio("all"));
        replay.push(ratio("replay"));
    }
    let in_one = |root, checks| cpu_of(|| passes(&["--recursive", root, "--format", "json", "--checks", checks]));
    let (mut digests_sealed, mut replay_sealed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        digests_sealed.push(in_one(archives, "digests") / in_one(root, "digests"));
        replay_sealed.push(in_one(archives, "replay") / in_one(root, "replay"));
    }
    println!("{SMALL_PACKS} small packs in one process, CPU beside openssl dgst");
    println!("  --checks digests  {:5.2}", median(digests));
    println!("  --checks all      {:5.2} (goal: at most 1.50)", median(all));
    println!("  with replay       {:5.2} (goal: at most 2.00)", median(replay));
    println!("the same packs sealed, CPU beside the same packs in directories");
    println!("  --checks digests  {:5.2}", median(digests_sealed));
    println!("  with replay       {:5.2} (goal: at most 0.60)", median(replay_sealed));
}

/// The archives of as many small packs.
fn seal(root: &Path) {
    fs::create_dir(root).unwrap();
    let first = root.join("p0000.runpack.tar");
    let status = Command::new(RUNPACK).args(["seal", GOOD, "--out"]).arg(&first).stdout(Stdio::null()).status();
    assert!(status.unwrap().success());
    for number in 1..SMALL_PACKS {
        fs::copy(&first, root.join(format!("p{number:04}.runpack.tar"))).unwrap();
    }
}

/// One small pack, start to exit, beside a Rust program that does nothing.
fn one_pack(dir: &Path) {
    const TIMES: usize = 200;
    let empty = dir.join("empty");
    fs::write(dir.join("empty.rs"), "fn main() {}").unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built = Command::new(rustc).args(["-O", "-o"]).arg(&empty).arg(dir.join("empty.rs")).status().unwrap();
    assert!(built.success());
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let nothing = cpu_of(|| (0..TIMES).for_each(|_| assert!(Command::new(&empty).status().unwrap().success())));
        let pack = cpu_of(|| (0..TIMES).for_each(|_| passes(&[GOOD])));
        ratios.push(pack / nothing);
    }
    println!("one small pack, start to exit, CPU beside an empty program");
    println!("  with replay       {:5.2} (goal: at most 2.00)", median(ratios));
}

/// A long run, and one of half its length.
fn long_run(dir: &Path) {
    let (half, whole) = (held(dir, TRIGGERS / 2), held(dir, TRIGGERS));
    let (half, whole) = (half.to_str().unwrap(), whole.to_str().unwrap());
    let files = files_of(Path::new(whole));
    let (mut digests, mut replay, mut doubled, mut peak) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let peer = hashed(&files);
        let short = cpu_of(|| passes(&[half, "--max-artifact-bytes", "4GiB"]));
        let long = cpu_of(|| peak = peak.max(peak_of(&[whole, "--max-artifact-bytes", "4GiB"])));
        let only = cpu_of(|| passes(&[whole, "--max-artifact-bytes", "4GiB", "--checks", "digests"]));
        digests.push(only / peer);
        replay.push(long / peer);
        doubled.push(long / short);
    }
    let bytes: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    println!("a run of {TRIGGERS} triggers, {} MB, CPU beside openssl dgst", bytes / 1_000_000);
    println!("  --checks digests  {:5.2} (goal: at most 0.95)", median(digests));
    println!("  with replay       {:5.2} (goal: at most 8.00)", median(replay));
    println!("  twice the pack    {:5.2} (goal: at most 2.10)", median(doubled));
    println!("  peak memory       {:5.1} MiB (goal: at most 64)", peak as f64 / 1024.0);
}

/// Files that nothing is read from but their digests.
fn opaque(root: &Path) {
    let files = copy(Path::new(GOOD), root);
    let files: Vec<_> = files.into_iter().filter(|file| !file.ends_with("manifest.json")).collect();
    for (number, file) in files.iter().enumerate() {
        let noise = |at: usize| (at.wrapping_mul(2_654_435_761 + number) >> 13) as u8;
        fs::write(file, (0..OPAQUE_BYTES).map(noise).collect::<Vec<_>>()).unwrap();
    }
    let args = [root.to_str().unwrap(), "--checks", "digests", "--max-artifact-bytes", "4GiB"];
    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (peer, peer_took) = timed(|| assert!(openssl(&files).status().unwrap().success()));
        // Refused, because the noise is not what the manifest names; all of it is read.
        let (ours, took) = timed(|| assert_eq!(verify(&args).status().unwrap().code(), Some(1)));
        cpu.push(ours / peer);
        wall.push(took.as_secs_f64() / peer_took.as_secs_f64());
    }
    println!("{} files of {} MiB, --checks digests, beside openssl dgst", files.len(), OPAQUE_BYTES >> 20);
    println!("  CPU               {:5.2} (goal: at most 0.95)", median(cpu));
    println!("  wall              {:5.2} (goal: at most 0.55, on two idle cores)", median(wall));
}

/// A pack of `count` held triggers, made by the daemon.
fn held(dir: &Path, count: u32) -> PathBuf {
    let condition = |id: &str, check: &str| {
        json!({"condition_id":id,"query":{"provider_id":"time","check_id":check,"params":{"timestamp":10_000_000}},
            "comparator":"equals","expected":true,"policy_tags":[]})
    };
    let scenario = json!({"scenario_id":"held","namespace_id":1,"spec_version":"1","default_tenant_id":null,
        "policies":[],"schemas":[],"conditions":[condition("c", "after"), condition("d", "before")],
        "stages":[{"stage_id":"s","entry_packets":[],"advance_to":{"kind":"terminal"},"timeout":null,"on_timeout":"fail",
            "gates":[{"gate_id":"g","requirement":{"And":[{"Condition":"c"},{"Condition":"d"}]}}]}]});
    let config = json!({"tenant_id":1,"namespace_id":1,"run_id":"r","scenario_id":"held",
        "dispatch_targets":[],"policy_tags":[]});
    let event = |n: u32| -> Value {
        json!({"trigger_id":format!("trigger-{n}"),"tenant_id":1,"namespace_id":1,"run_id":"r","kind":"tick",
            "time":{"kind":"logical","value":n},"source_id":"cron"})
    };
    fs::write(dir.join("scenario.json"), scenario.to_string()).unwrap();
    fs::write(dir.join("run.json"), config.to_string()).unwrap();
    fs::write(dir.join("triggers.jsonl"), (1..=count).map(|n| format!("{}\n", event(n))).collect::<String>()).unwrap();
    let pack = dir.join(format!("pack-{count}"));
    let daemon = Path::new(RUNPACK).with_file_name("runpackd");
    assert!(daemon.exists(), "build it first: cargo build --release --bin runpackd");
    let status = Command::new(daemon)
        .args(["run", "--scenario", "scenario.json", "--run-config", "run.json", "--triggers", "triggers.jsonl"])
        .args(["--max-artifact-bytes", "4GiB", "--out"])
        .arg(&pack)
        .current_dir(dir)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1), "a held run exits with 1");
    pack
}

fn verify(args: &[&str]) -> Command {
    let mut command = Command::new(RUNPACK);
    command.arg("verify").args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn passes(args: &[&str]) {
    assert!(verify(args).status().unwrap().success(), "{args:?}");
}

/// Peak resident memory in KiB, looked at while it runs.
fn peak_of(args: &[&str]) -> u64 {
    let mut child = verify(args).spawn().unwrap();
    let mut peak = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = peak.max(line.map_or(0, |line| line.trim_end_matches("kB").trim().parse().unwrap()));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{args:?}");
            return peak;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn timed(work: impl FnOnce()) -> (f64, Duration) {
    let start = Instant::now();
    let used = cpu_of(work);
    (used, start.elapsed())
}

/// CPU of the peer over `files`, as many at a time as a command line holds.
fn hashed(files: &[PathBuf]) -> f64 {
    cpu_of(|| files.chunks(2_000).for_each(|some| assert!(openssl(some).status().unwrap().success())))
}

fn openssl(files: &[PathBuf]) -> Command {
    let mut command = Command::new("openssl");
    command.args(["dgst", "-sha256"]).args(files).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn copy(from: &Path, to: &Path) -> Vec<PathBuf> {
    let mut copies = Vec::new();
    for file in files_of(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, &target).unwrap();
        copies.push(target);
    }
    copies
}

fn files_of(root: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(root).sort_by_file_name().into_iter().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}
