//! Runs the command as a user would.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use runpack_core::canon::Digest;
use runpack_core::model::ScenarioSpec;
use runpack_core::read::{self, Unknown};
use serde_json::Value;

pub fn runpack<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_runpack")).args(args).output().unwrap()
}

/// Exit code, stdout and stderr.
pub fn told<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> (i32, String, String) {
    let output = runpack(args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A copy of a good pack, to be spoilt.
pub fn copy_pack(to: &Path) {
    let from = crate::inputs::testdata("packs/good/release-gate");
    fs::create_dir_all(to.join("artifacts")).unwrap();
    fs::copy(from.join("manifest.json"), to.join("manifest.json")).unwrap();
    for entry in fs::read_dir(from.join("artifacts")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join("artifacts").join(entry.file_name())).unwrap();
    }
}

/// A pack of a run in which nothing happened yet, exported at `tick`.
pub fn build_pack(to: &Path, run: &str, tick: u64) {
    build(to, run, tick, &scenario());
}

/// A pack whose scenario has more bytes than go up at once.
pub fn build_large_pack(to: &Path) {
    build_pack_of(to, "large", 10 * 1024 * 1024);
}

/// A pack with a file of a little more than so many bytes.
pub fn build_pack_of(to: &Path, run: &str, bytes: usize) {
    let mut scenario = scenario();
    // Anything that is only compared with may be as long as it likes.
    scenario["conditions"][0]["expected"] = "x".repeat(bytes).into();
    build(to, run, 1, &scenario);
}

fn scenario() -> Value {
    serde_json::from_slice(&fs::read(crate::inputs::testdata("packs/source/rich/scenario.json")).unwrap()).unwrap()
}

fn build(to: &Path, run: &str, tick: u64, scenario: &Value) {
    let source = crate::inputs::testdata("packs/source/rich/state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(source).unwrap()).unwrap();
    state["run_id"] = run.into();
    let spec: ScenarioSpec = read::ingest(scenario.to_string().as_bytes(), Unknown::Refuse).unwrap();
    state["spec_hash"] = serde_json::to_value(Digest::of_canonical(&spec).unwrap()).unwrap();
    for log in ["decisions", "gate_evals", "packets", "submissions", "tool_calls", "triggers"] {
        state[log] = serde_json::json!([]);
    }
    let scratch = tempfile::tempdir().unwrap();
    let (file, spec) = (scratch.path().join("state.json"), scratch.path().join("scenario.json"));
    fs::write(&file, state.to_string()).unwrap();
    fs::write(&spec, scenario.to_string()).unwrap();
    let at = format!("logical:{tick}");
    let args = ["build", "--scenario", text(&spec), "--state", text(&file), "--generated-at", &at, "--out", text(to)];
    let (code, _, err) = told(args);
    assert_eq!((code, err.as_str()), (0, ""));
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
