//! What is not in the programs: checked in the trees of their dependencies.

#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::collections::BTreeSet;
use std::process::Command;

/// Crates of what `args` name, without what only builds or tests need.
fn tree(args: &[&str]) -> BTreeSet<String> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(inputs::root()).args(["tree", "--locked", "--offline", "--prefix", "none", "--format", "{p}"]);
    let output = command.args(["-e", "normal"]).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn without_object_storage_nothing_could_reach_a_network() {
    let found = tree(&["-p", "runpack-cli", "--no-default-features"]);
    for absent in ["hyper", "reqwest", "rustls", "ring", "tokio", "mio", "socket2", "object_store", "runpack-providers"]
    {
        assert!(!found.contains(absent), "{absent}");
    }
    assert!(found.contains("runpack-core"));
}

#[test]
fn verifying_asks_nobody_for_evidence() {
    let found = tree(&["-p", "runpack-cli"]);
    assert!(!found.contains("runpack-providers") && found.contains("runpack-storage"));
}

#[test]
fn there_is_one_crypto_provider_and_no_tls_of_the_system() {
    let found = tree(&["--workspace"]);
    for absent in ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls"] {
        assert!(!found.contains(absent), "{absent}");
    }
    assert!(found.contains("ring") && found.contains("rustls") && found.contains("runpack-providers"));
}
