//! Runs the command as a user would.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

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
