//! The demo's files, ready to be run by hand.

#![allow(unreachable_pub, clippy::unwrap_used)]

use std::fs;

/// They, in a directory of their own, without a config.
pub fn files() -> tempfile::TempDir {
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    let dir = tempfile::tempdir().unwrap();
    for name in ["scenario.json", "run-config.json", "calls.jsonl"] {
        fs::copy(demo.join(name), dir.path().join(name)).unwrap();
    }
    fs::create_dir(dir.path().join("evidence")).unwrap();
    fs::copy(demo.join("report.json"), dir.path().join("evidence/report.json")).unwrap();
    dir
}
