//! What the fuzzer found worth keeping, through what it runs: `testdata/fuzz`
//! has a directory for each target of `fuzz/`. An input that once broke a
//! promise stays there under the name of what it showed.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test reads its own data")]

#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;
#[path = "../../../testdata/inputs.rs"]
mod inputs;

use std::collections::BTreeMap;
use std::fs;
use std::panic::catch_unwind;

/// Bytes of the whole corpus. It is there to be replayed with every change, not
/// to grow.
const CORPUS_BYTES_MAX: usize = 300_000;

#[test]
fn every_kept_input_keeps_its_promises() {
    let (mut bytes, mut broken) = (0, Vec::new());
    for (target, run) in fuzz::TARGETS {
        let kept = corpus(target);
        assert!(!kept.is_empty(), "nothing is kept for {target}");
        for (name, input) in kept {
            bytes += input.len();
            if catch_unwind(|| run(&input)).is_err() {
                broken.push(format!("{target}/{name}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} bytes of corpus");
}

#[test]
fn every_directory_has_a_target() {
    for entry in fs::read_dir(inputs::testdata("fuzz")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(fuzz::TARGETS.iter().any(|(target, _)| *target == name), "{name:?}");
    }
}

fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(inputs::testdata("fuzz").join(target)).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}
