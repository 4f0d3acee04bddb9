//! A process of its own, since what it does to itself cannot be undone.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::fs;

use runpack_core::trust::Algorithm;
use runpack_keys::{SecretKey, Signer as _, write_pair};
use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit, setrlimit};

fn core_limits() -> (String, String) {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    (words[4].to_owned(), words[5].to_owned())
}

#[test]
fn once_a_key_is_loaded_nobody_looks_into_the_process() {
    // As far as it goes up again, so that there is something to see.
    let mut limit = getrlimit(Resource::Core);
    limit.current = limit.maximum;
    setrlimit(Resource::Core, limit).unwrap();
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    // Even where there is no key: it is done before the file is opened.
    assert!(SecretKey::load(&path, || None).is_err());
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    assert_eq!(core_limits(), ("0".to_owned(), "0".to_owned()));

    let made = SecretKey::generate(Algorithm::Ed25519).unwrap();
    write_pair(&made, &path, None).unwrap();
    let loaded = SecretKey::load(&path, || None).unwrap();
    assert_eq!(loaded.public(), made.public());
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    assert_eq!(core_limits(), ("0".to_owned(), "0".to_owned()));
}
