//! Attestations beside the Python libraries that everybody else has them from:
//! `securesystemslib`, `in-toto` and `in-toto-attestation`. `just in-toto` gets
//! them from PyPI and runs this.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{text, told};
use runpack_core::pack::{Manifest, Predicate};
use runpack_core::read;

/// A Python with the libraries; `None`, with a line that says so, if there is
/// none.
fn python() -> Option<PathBuf> {
    let own = inputs::root().join("target/in-toto/bin/python");
    let candidates = [std::env::var_os("RUNPACK_PYTHON").map(PathBuf::from), Some(own), Some("python3".into())];
    let has = |python: &PathBuf| {
        let mut import = Command::new(python);
        import.args(["-c", "import securesystemslib, in_toto, in_toto_attestation, cryptography"]);
        import.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let found = candidates.into_iter().flatten().find(has);
    if found.is_none() {
        let required = std::env::var("RUNPACK_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|name| name == "in-toto"), "in-toto is required and absent (`just in-toto`)");
        inputs::absent("in-toto for Python (`just in-toto`); attestations beside it");
    }
    found
}

fn script(python: &Path, args: &[&str], input: &[u8]) -> String {
    let mut run = Command::new(python);
    run.arg("-B").arg(inputs::testdata("trust/interop.py")).args(args);
    let mut child = run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success(), "{args:?}: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

#[test]
fn they_read_ours_and_we_read_theirs() {
    let Some(python) = python() else { return };
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    let pack = at("pack");
    common::copy_pack(&pack);
    let manifest = fs::read(pack.join("manifest.json")).unwrap();
    let digest = runpack_core::canon::Digest::of(&manifest).to_string();

    // Ours, by one key of each kind and by both.
    let mut with: Option<PathBuf> = None;
    let mut keys = Vec::new();
    for algorithm in ["ed25519", "p256"] {
        let (key, attestation) = (at(&format!("our-{algorithm}.pem")), at(&format!("our-{algorithm}.dsse.json")));
        assert_eq!(told(["keygen", "--algorithm", algorithm, "--out", text(&key)]).0, 0);
        let mut sign = vec!["sign", text(&pack), "--key", text(&key), "--out", text(&attestation)];
        if let Some(other) = &with {
            sign.extend(["--with", text(other)]);
        }
        let (code, _, err) = told(&sign);
        assert_eq!((code, err.as_str()), (0, ""));
        keys.push(key.with_extension("pub"));
        let paths: Vec<_> = keys.iter().map(|key| text(key)).collect();
        assert_eq!(script(&python, &[&["read", text(&attestation)], paths.as_slice()].concat(), b""), digest);
        with = Some(attestation);
    }

    // Theirs, beside the manifest.
    let parsed: Manifest = read::recorded(&manifest).unwrap();
    let predicate = runpack_core::canon::to_vec(&Predicate::of(&parsed, None)).unwrap();
    let theirs = at("theirs");
    fs::create_dir(&theirs).unwrap();
    script(&python, &["write", text(&pack.join("manifest.json")), text(&theirs)], &predicate);
    for algorithm in ["ed25519", "p256"] {
        for by in ["", "-in-toto"] {
            let name = format!("{algorithm}{by}.dsse.json");
            fs::copy(theirs.join(&name), pack.join(&name)).unwrap();
            let trusted = format!("theirs={}", text(&theirs.join(format!("{algorithm}.pub"))));
            let (code, out, err) = told(["verify", text(&pack), "--trusted-key", &trusted]);
            assert_eq!((code, err.as_str()), (0, ""), "{name}: {out}");
            assert!(out.contains("signed by      theirs"), "{name}: {out}");
            fs::remove_file(pack.join(&name)).unwrap();
        }
    }
}
