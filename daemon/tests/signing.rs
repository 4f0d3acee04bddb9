//! The service signs what it exports, if its config says so: `[signing]`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "common/demo.rs"]
mod demo;
#[path = "../../testdata/inputs.rs"]
mod inputs;
#[path = "common/wire.rs"]
mod wire;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{BASE, CONFIG, Client, export, next, quickstart, start};
use runpack_core::pack::layout::{MANIFEST_NAME, attestation_name};
use runpack_core::pack::{Claim, Expectations, Predicate, Report, Statement, Trust, Verdict, VerifyOptions, verify};
use runpack_core::trust::{Algorithm, Envelope, PublicKey, TrustPolicy};
use runpack_keys::{SecretKey, Signer as _, write_pair};
use runpack_storage::packs::DirectoryReader;
use wire::{Connection, Process};

/// The demo's files and keys, ready to be run by hand.
struct Work {
    dir: tempfile::TempDir,
    public: PublicKey,
}

impl Work {
    fn new() -> Self {
        let dir = demo::files();
        let key = SecretKey::generate(Algorithm::P256).unwrap();
        write_pair(&key, &dir.path().join("key.pem"), None).unwrap();
        Self { public: key.public().clone(), dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// With the demo's providers, and what is said here.
    fn config(&self, more: &str) {
        let providers = "[[providers]]\nname = \"time\"\ntype = \"builtin\"\n\n[[providers]]\nname = \"json\"\ntype = \"builtin\"\n\
                         config = { root = \"evidence\", root_id = \"evidence\" }\n";
        fs::write(self.at("decision-gate.toml"), format!("{more}\n{providers}")).unwrap();
    }

    fn runpackd(&self, args: &str) -> (i32, String) {
        let said = Command::new(env!("CARGO_BIN_EXE_runpackd"))
            .args(args.split_whitespace())
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8(said.stderr).unwrap();
        (said.status.code().unwrap(), text)
    }

    fn run(&self, more: &str) -> (i32, String) {
        self.runpackd(&format!(
            "run --scenario scenario.json --run-config run-config.json --config decision-gate.toml --calls calls.jsonl {more}"
        ))
    }

    fn signed(&self, pack: &str) -> Report {
        signed(&self.at(pack), &self.public)
    }

    fn predicate(&self, pack: &str) -> Predicate {
        let bytes = fs::read(self.at(pack).join(attestation_name(&self.public.id()))).unwrap();
        let envelope = Envelope::parse(&bytes).unwrap();
        match Statement::parse(&envelope.payload_type, &envelope.payload).unwrap().claim {
            Claim::Run(predicate) => *predicate,
            Claim::Other(kind) => panic!("{kind}"),
        }
    }
}

fn signed(pack: &Path, key: &PublicKey) -> Report {
    let policy = TrustPolicy::of_keys(vec![("service".to_owned(), key.clone())], 1).unwrap().into();
    let expect = Expectations::default().trusting(Trust { policy, at: None, attached: Vec::new() });
    let options = VerifyOptions { expect, ..VerifyOptions::default() };
    verify(&DirectoryReader::open(pack).unwrap(), MANIFEST_NAME, &options)
}

#[test]
fn a_run_is_exported_with_an_attestation_of_its_settings() {
    let work = Work::new();
    work.config("[signing]\nkey_file = \"key.pem\"");
    assert_eq!(work.run("--out pack"), (0, String::new()));
    let report = work.signed("pack");
    assert_eq!(report.verdict, Verdict::Signed, "{:?}", report.findings);
    let settings = report.settings.unwrap();
    assert!(settings.attested && settings.min_lanes.len() == 1 && settings.logics == ["kleene"], "{settings:?}");
    // Again: it was there.
    assert_eq!(work.run("--out pack"), (0, String::new()));
    // Without signing it is the same pack.
    work.config("");
    assert_eq!(work.run("--out pack"), (0, String::new()));
    assert_eq!(work.signed("pack").verdict, Verdict::Signed, "what was signed stays");
}

#[test]
fn a_command_signs_for_a_key_that_is_elsewhere() {
    let work = Work::new();
    if Command::new("openssl").arg("version").output().is_err() {
        inputs::absent("openssl; a command that signs");
        return;
    }
    let command =
        "command = [\"openssl\", \"dgst\", \"-sha256\", \"-sign\", \"key.pem\"]\npublic_key_file = \"key.pub\"";
    work.config(&format!("[signing]\n{command}"));
    assert_eq!(work.run("--out pack"), (0, String::new()));
    assert_eq!(work.signed("pack").verdict, Verdict::Signed);

    // What cannot be signed is not exported, and nothing is left of it.
    let failing = [
        ("command = [\"false\"]\npublic_key_file = \"key.pub\"", "the signing command `false` failed"),
        ("command = [\"cat\"]\npublic_key_file = \"key.pub\"", "answered with no signature of its public key"),
        (
            "command = [\"sleep\", \"9\"]\ntimeout_ms = 200\npublic_key_file = \"key.pub\"",
            "did not answer within 200 ms",
        ),
        ("command = [\"absent-program\"]\npublic_key_file = \"key.pub\"", "cannot be started"),
    ];
    for (table, told) in failing {
        work.config(&format!("[signing]\n{table}"));
        let (code, err) = work.run("--out unsigned");
        assert!(code != 0 && err.contains("the pack was not signed") && err.contains(told), "{code} {err}");
        assert!(!work.at("unsigned").exists());
        let left = fs::read_dir(work.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_str().unwrap().contains("unsigned")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_run_decided_under_other_settings_is_signed_without_them() {
    let work = Work::new();
    work.config("[policy]\nengine = \"deny_all\"");
    work.run("--store runs.db --out then");
    work.config("[signing]\nkey_file = \"key.pem\"");
    let export =
        "store export --store runs.db --run release-1.4.0 --generated-at logical:1 --config decision-gate.toml";
    let (code, err) = work.runpackd(&format!("{export} --out now"));
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(work.predicate("now").settings, None);
    assert_eq!(work.signed("now").verdict, Verdict::Signed);
    // Under those it was decided by, they are stated.
    work.config("[policy]\nengine = \"deny_all\"\n[signing]\nkey_file = \"key.pem\"");
    assert_eq!(work.runpackd(&format!("{export} --out same")), (0, String::new()));
    assert!(work.predicate("same").settings.is_some());
    assert_eq!(work.signed("same").verdict, Verdict::Signed);
}

#[test]
fn a_signing_section_that_makes_no_sense_is_refused() {
    let work = Work::new();
    fs::copy(work.at("key.pem"), work.at("open.pem")).unwrap();
    fs::set_permissions(work.at("open.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::copy(work.at("key.pub"), work.at("closed.pub")).unwrap();
    fs::set_permissions(work.at("closed.pub"), fs::Permissions::from_mode(0o600)).unwrap();
    let secret = fs::read_to_string(work.at("key.pem")).unwrap();
    let cases = [
        ("", "signing: has either"),
        ("key_file = \"key.pem\"\ncommand = [\"x\"]", "signing: has either"),
        ("key_file = \"absent.pem\"", "signing.key_file: cannot read"),
        ("key_file = \"closed.pub\"", "signing.key_file: `closed.pub` cannot be used: it is a public key"),
        ("key_file = \"open.pem\"", "can be read by others (mode 644)"),
        ("key_file = \"key.pem\"\ntimeout_ms = 1", "for a `command` only"),
        ("key_file = \"key.pem\"\npassphrase_file = \"absent\"", "signing.passphrase_file: cannot read"),
        ("command = [\"x\"]", "signing.public_key_file: must be set"),
        (
            "command = [\"x\"]\npublic_key_file = \"key.pem\"",
            "signing.public_key_file: `key.pem`: this is a private key",
        ),
        ("command = [\"x\"]\npublic_key_file = \"key.pub\"\ntimeout_ms = 0", "signing.timeout_ms"),
        ("command = [\"x\"]\npublic_key_file = \"key.pub\"\npassphrase_file = \"p\"", "for a `key_file` only"),
        ("kay_file = \"key.pem\"", "hint: `signing.key_file` looks most like it"),
    ];
    for (table, told) in cases {
        work.config(&format!("[signing]\n{table}"));
        let (code, err) = work.run("--out pack");
        assert!(code != 0 && err.contains(told), "{table}: {code} {err}");
        assert!(!err.contains(secret.lines().nth(1).unwrap()) && !work.at("pack").exists());
    }
}

/// The whole service: what it exports is signed, and nobody looks into it.
#[test]
fn a_service_signs_its_exports_and_keeps_the_key_to_itself() {
    let work = Work::new();
    fs::write(work.at("decision-gate.toml"), format!("{CONFIG}\n[signing]\nkey_file = \"key.pem\"\n")).unwrap();
    let process = Process::at(work.dir.path());
    let mut client = Connection::new(process.address);
    client.call("scenario_define", quickstart("gate")).unwrap();
    client.call("scenario_start", start("gate", "run-1", false)).unwrap();
    client.call("scenario_next", next("gate", "run-1", "t-1", BASE + 1)).unwrap();
    let target = work.at("exported");
    for _ in 0..2 {
        client.call("runpack_export", export("gate", "run-1", &target)).unwrap();
        let report = signed(&target, &work.public);
        assert_eq!(report.verdict, Verdict::Signed, "{:?}", report.findings);
        assert!(report.settings.unwrap().attested);
    }
    #[cfg(target_os = "linux")]
    {
        let proc = PathBuf::from(format!("/proc/{}", process.child.id()));
        let limits = fs::read_to_string(proc.join("limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(line.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{line}");
        let arguments = fs::read_to_string(proc.join("cmdline")).unwrap();
        assert!(!arguments.contains("PRIVATE"), "{arguments}");
    }
}
