//! Packs that want the verifier to hang, to wander off, or to eat the machine.
//!
//! Each is refused by name. The process may use 64 MiB of memory and ten
//! seconds; refusing costs milliseconds.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::copy_pack;
use serde_json::{Value, json};

/// Verifies under a memory limit, and ends what does not end by itself.
fn verify(pack: &Path) -> (i32, String) {
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -v 65536; exec \"$0\" verify \"$1\"", env!("CARGO_BIN_EXE_runpack")])
        .arg(pack)
        // Without the addresses for one, the C library would ask for a heap of
        // its own for each thread again and again.
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
            panic!("{} made the verifier hang", pack.display());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text)
}

fn tool(name: &str, args: &[&str], path: &Path) -> bool {
    Command::new(name).args(args).arg(path).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

struct Spoilt {
    _dir: tempfile::TempDir,
    pack: PathBuf,
}

impl Spoilt {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pack = dir.path().join("pack");
        copy_pack(&pack);
        Self { _dir: dir, pack }
    }

    fn gone(&self, path: &str) -> PathBuf {
        let path = self.pack.join(path);
        fs::remove_file(&path).unwrap();
        path
    }

    #[track_caller]
    fn refused(&self, code: i32, name: &str) {
        let (found, text) = verify(&self.pack);
        assert!(found == code && text.contains(name), "exit {found}, expected {code} and `{name}` in:\n{text}");
    }
}

#[test]
fn an_honest_pack_fits_into_the_same_memory() {
    Spoilt::new().refused(0, "consistent");
}

#[test]
fn a_missing_file_is_refused_by_name() {
    let spoilt = Spoilt::new();
    spoilt.gone("artifacts/decisions.json");
    spoilt.refused(1, "RP0103 artifact read failed for artifacts/decisions.json: not found");
}

#[test]
fn a_fifo_is_refused_by_name() {
    for (path, name) in [
        ("artifacts/decisions.json", "RP0105 `artifacts/decisions.json` is not an ordinary file: FIFO"),
        ("manifest.json", "RP0105 the manifest is not an ordinary file: FIFO"),
    ] {
        let spoilt = Spoilt::new();
        let path = spoilt.gone(path);
        assert!(tool("mkfifo", &[], &path), "mkfifo");
        spoilt.refused(1, name);
    }
}

#[test]
fn an_unlisted_fifo_is_refused_by_name() {
    let spoilt = Spoilt::new();
    assert!(tool("mkfifo", &[], &spoilt.pack.join("pipe")), "mkfifo");
    spoilt.refused(1, "`pipe` is not an ordinary file: FIFO");
}

#[test]
fn a_device_is_refused_by_name() {
    let spoilt = Spoilt::new();
    let path = spoilt.gone("artifacts/packets.json");
    let made = Command::new("mknod").arg(&path).args(["c", "1", "5"]).stderr(Stdio::null()).status();
    if !made.is_ok_and(|status| status.success()) {
        inputs::absent("the right to make devices; a device in a pack");
        return;
    }
    spoilt.refused(1, "`artifacts/packets.json` is not an ordinary file: character device");
}

#[test]
fn a_socket_is_refused_by_name() {
    let spoilt = Spoilt::new();
    let path = spoilt.gone("artifacts/packets.json");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    spoilt.refused(1, "`artifacts/packets.json` is not an ordinary file: socket");
}

#[test]
fn links_are_refused_by_name_wherever_they_lead() {
    let outside = Spoilt::new();
    for target in [
        outside.pack.join("artifacts/packets.json"),
        "/dev/zero".into(),
        "/proc/self/environ".into(),
        "triggers.json".into(),
    ] {
        let spoilt = Spoilt::new();
        symlink(&target, spoilt.gone("artifacts/packets.json")).unwrap();
        spoilt.refused(1, "`artifacts/packets.json` is not an ordinary file: symbolic link");
    }
    let spoilt = Spoilt::new();
    fs::remove_dir_all(spoilt.pack.join("artifacts")).unwrap();
    symlink(outside.pack.join("artifacts"), spoilt.pack.join("artifacts")).unwrap();
    spoilt.refused(1, "`artifacts` is not an ordinary file: symbolic link");
}

#[test]
fn a_linked_manifest_is_refused_by_name() {
    let outside = Spoilt::new();
    let spoilt = Spoilt::new();
    symlink(outside.pack.join("manifest.json"), spoilt.gone("manifest.json")).unwrap();
    spoilt.refused(1, "the manifest is not an ordinary file: symbolic link");
}

#[test]
fn a_hard_link_is_refused_unless_allowed() {
    let spoilt = Spoilt::new();
    fs::hard_link(spoilt.pack.join("artifacts/packets.json"), spoilt.pack.join("../other-name")).unwrap();
    spoilt.refused(1, "hard link: the file has 2 names; pass --allow-hard-links");
    let (code, ..) = common::told(["verify", "--allow-hard-links", spoilt.pack.to_str().unwrap()]);
    assert_eq!(code, 0);
}

#[test]
fn a_tebibyte_costs_nothing() {
    let spoilt = Spoilt::new();
    let file = File::create(spoilt.pack.join("artifacts/packets.json")).unwrap();
    if file.set_len(1 << 40).is_err() {
        inputs::absent("sparse files of 1 TiB; their refusal");
        return;
    }
    spoilt.refused(2, "artifacts/packets.json: larger than 16777216 bytes; raise the limit with --max-artifact-bytes");
    let spoilt = Spoilt::new();
    File::create(spoilt.pack.join("manifest.json")).unwrap().set_len(1 << 40).unwrap();
    spoilt.refused(1, "the manifest is larger than 1048576 bytes");
}

#[test]
fn a_path_that_leaves_the_pack_is_refused_by_name() {
    for path in [
        "../outside.json",
        "artifacts/../../outside.json",
        "/etc/hostname",
        "artifacts\\\\x.json",
        "./artifacts/x.json",
    ] {
        let spoilt = Spoilt::new();
        let manifest = spoilt.pack.join("manifest.json");
        let text = fs::read_to_string(&manifest).unwrap().replace("artifacts/packets.json", path);
        fs::write(&manifest, text).unwrap();
        spoilt.refused(1, "RP0106 unsafe path");
    }
}

#[test]
fn a_deep_or_endless_manifest_is_refused() {
    let spoilt = Spoilt::new();
    fs::write(spoilt.pack.join("manifest.json"), "[".repeat(200_000)).unwrap();
    spoilt.refused(1, "more than 127 levels");
}

#[test]
fn too_many_entries_are_not_walked_through() {
    let spoilt = Spoilt::new();
    let mut deep = spoilt.pack.clone();
    for _ in 0..20 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f"), "").unwrap();
    spoilt.refused(2, "RP0113 the pack cannot be listed: more than 16 levels");
}

/// Each call might be about the trigger, whose request is half a megabyte.
#[test]
fn many_calls_about_a_large_trigger_cost_no_more_than_both() {
    let spoilt = Spoilt::new();
    let triggers = spoilt.pack.join("artifacts/triggers.json");
    let text = fs::read_to_string(&triggers).unwrap();
    fs::write(&triggers, text.replace("release-bot", &"x".repeat(1 << 19))).unwrap();
    let path = spoilt.pack.join("artifacts/tool_calls.json");
    let calls: Vec<Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let lies = (0..20_000).map(|number| {
        let mut call = calls[1].clone();
        call["request_hash"]["value"] = json!(format!("{number:064x}"));
        call
    });
    let many: Vec<_> = calls[..1].iter().cloned().chain(lies).collect();
    fs::write(&path, serde_json::to_vec(&many).unwrap()).unwrap();
    spoilt.refused(1, "RP0201");
}
