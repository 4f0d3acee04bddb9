//! Sealed packs as people and programs see them.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{copy_pack, told};
use runpack_core::canon::Digest;
use serde_json::json;

const DIGEST: &str = "948df923937964a3135a14f2f6eb7b5a762ddc40375bb16354442381edd314bf";

fn good() -> String {
    inputs::testdata("packs/good/release-gate").to_str().unwrap().to_owned()
}

/// Exit code, stdout and stderr of a command that reads `input`.
fn fed(args: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_runpack"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // What is refused is not read to its end.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_pack_goes_into_an_archive_and_out_again() {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    let (archive, out) = (at("gate.runpack.tar"), at("gate"));
    let (code, said, err) = told(["seal", &good(), "--out", &archive]);
    assert_eq!((code, err.as_str()), (0, ""));
    let size = fs::metadata(&archive).unwrap().len();
    assert_eq!(
        said,
        format!(
            "{archive}: sealed\n  archive        {size} bytes\n  root digest    \
             b761965206fe9d98498b186ea94590c78f6030f601f13a9953fbb1bf0c8c64b1\n  pack digest    {DIGEST}\n"
        )
    );
    assert!(told(["seal", &good(), "--out", &archive]).1.contains(": the same archive was there\n"));
    let (code, said, err) = told(["unseal", &archive, "--out", &out]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(said, format!("{out}: unsealed\n  pack digest    {DIGEST}\n"));
    assert!(told(["unseal", &archive, "--out", &out]).1.contains(": the same pack was there\n"));
    let same = Command::new("diff").args(["-r", &good(), &out]).status();
    assert!(same.is_ok_and(|status| status.success()));

    // Another pack takes a place only when asked.
    let rich = inputs::testdata("packs/good/rich").to_str().unwrap().to_owned();
    let (code, _, err) = told(["seal", &rich, "--out", &archive]);
    assert_eq!(code, 2);
    assert!(err.contains("exists and holds something else\nhint: choose another name or pass --replace"), "{err}");
    let (code, _, err) = told(["seal", &rich, "--out", &archive, "--replace"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (code, _, err) = told(["unseal", &archive, "--out", &out]);
    assert_eq!(code, 2);
    assert!(err.contains("the pack was not unsealed") && err.contains("--replace"), "{err}");
    assert_eq!(told(["unseal", &archive, "--out", &out, "--replace"]).0, 0);
    assert_eq!(told(["diff", &archive, &out]).0, 0);
    let (code, _, err) = told(["seal", &rich, "--out", &at("pack")]);
    assert_eq!(code, 2);
    assert!(err.contains("is not called like an archive\nhint: let it end with `.runpack.tar`"), "{err}");
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 2, "nothing is left beside");
}

/// `docs/format.md`, section 7 and 8.11.
#[test]
fn the_example_of_the_format_has_the_archive_it_says() {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    let page = fs::read_to_string(inputs::root().join("docs/format.md")).unwrap();
    let scenario = page.lines().find(|line| line.starts_with(r#"{"conditions":"#)).unwrap();
    fs::write(at("scenario.json"), scenario).unwrap();
    let state = json!({"tenant_id": 1, "namespace_id": 1, "run_id": "r-1", "scenario_id": "example",
        "spec_hash": {"algorithm": "sha256", "value": Digest::of(scenario.as_bytes()).to_string()},
        "current_stage_id": "only", "stage_entered_at": {"kind": "logical", "value": 1}, "status": "active",
        "dispatch_targets": [], "triggers": [], "gate_evals": [], "decisions": [], "packets": [], "submissions": [],
        "tool_calls": []});
    fs::write(at("state.json"), state.to_string()).unwrap();
    let args = ["--scenario", &at("scenario.json"), "--state", &at("state.json"), "--generated-at", "logical:1"];
    let (code, _, err) = told(["build", "--out", &at("pack")].into_iter().chain(args));
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(told(["seal", &at("pack"), "--out", &at("pack.runpack.tar")]).0, 0);
    let archive = fs::read(at("pack.runpack.tar")).unwrap();
    assert_eq!((archive.len(), &archive[148..156]), (12_288, &b"011717\0 "[..]));
    let digest = Digest::of(&archive).to_string();
    assert!(page.contains(&format!("an archive of 12 288 bytes with the SHA-256 `{digest}`")), "{digest}");
}

#[test]
fn what_does_not_pass_is_neither_sealed_nor_unsealed() {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    let pack = work.path().join("pack");
    copy_pack(&pack);
    let decisions = pack.join("artifacts/decisions.json");
    fs::write(&decisions, fs::read_to_string(&decisions).unwrap().replace("\"hold\"", "\"HOLD\"")).unwrap();
    for out in [&at("x.runpack.tar"), "-"] {
        let (code, said, err) = told(["seal", pack.to_str().unwrap(), "--out", out]);
        assert_eq!((code, said.as_str()), (1, ""));
        assert!(err.contains("refused") && err.contains("RP0201"), "{err}");
    }
    let bad = inputs::testdata("packs/bad");
    let archive = |name: &str| bad.join(name).join("pack.runpack.tar").to_str().unwrap().to_owned();
    for (name, finding) in [("RP0114-link", "RP0114"), ("RP0104-sealed-extra", "RP0104")] {
        let (code, said, err) = told(["unseal", &archive(name), "--out", &at("out")]);
        assert_eq!((code, said.as_str()), (1, ""));
        assert!(err.contains(finding), "{err}");
        let (code, said, _) = told(["pin", &archive(name)]);
        assert_eq!((code, said.as_str()), (1, ""));
    }
    let names = fs::read_dir(work.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["pack"], "nothing is written");
}

#[test]
fn a_malformed_archive_is_told_by_name_and_place() {
    let archive = inputs::testdata("packs/bad/RP0114-time-set/pack.runpack.tar");
    let archive = archive.to_str().unwrap();
    let (code, out, err) = told(["verify", archive]);
    assert_eq!((code, err.as_str()), (1, ""));
    assert_eq!(
        out,
        format!(
            "{archive}: refused: the pack is not what an exporter wrote\n  RP0114 not a sealed archive: the time of \
             `artifacts/decisions.json` is not what is written in sealing (byte 9864)\n  checked files  0\n"
        )
    );
    let (_, json, _) = told(["verify", archive, "--format", "json"]);
    assert!(json.contains(r#""findings":[{"artifact":"","code":"RP0114","#), "{json}");
    let (code, out, _) = told(["verify", archive, "--format", "sarif"]);
    assert_eq!(code, 1);
    assert!(out.contains("RP0114-time-set/pack.runpack.tar\""), "the place is the archive: {out}");
}

#[test]
fn every_command_reads_archives_files_by_url_and_standard_input() {
    let work = tempfile::tempdir().unwrap();
    let archive = work.path().join("a b.runpack.tar");
    let path = archive.to_str().unwrap();
    assert_eq!(told(["seal", &good(), "--out", path]).0, 0);
    let bytes = fs::read(&archive).unwrap();
    let url = format!("file://{}", path.replace(' ', "%20"));
    for command in ["verify", "replay", "show"] {
        let shown = |said: &str, name: &str| said.replace(name, "PACK");
        let (code, wanted, _) = told([command, &good()]);
        assert_eq!(code, 0);
        for name in [path, &url] {
            let (code, said, err) = told([command, name]);
            assert_eq!((code, shown(&said, name), err.as_str()), (0, shown(&wanted, &good()), ""), "{command} {name}");
        }
        let (code, said, err) = fed(&[command, "-"], &bytes);
        assert_eq!(
            (code, said.replacen("-:", "PACK:", 1), err.as_str()),
            (0, shown(&wanted, &good()), ""),
            "{command} -"
        );
    }
    assert_eq!(told(["verify", &format!("file://{}", good())]).0, 0);
    assert_eq!(told(["diff", &good(), path]).1, "the same pack\n");
    assert_eq!(fed(&["diff", &good(), "-"], &bytes).1, "the same pack\n");
    assert_eq!(told(["pin", path]).1, format!("{DIGEST}  {path}\n"));
    assert_eq!(fed(&["pin", "-"], &bytes).1, format!("{DIGEST}  -\n"));
    let out = work.path().join("out");
    assert_eq!(fed(&["unseal", "-", "--out", out.to_str().unwrap()], &bytes).0, 0);
    // The other way: to standard output and from there.
    let piped = common::runpack(["seal", &good(), "--out", "-"]);
    assert!(piped.stdout == bytes, "what is piped is what is stored");
    assert!(String::from_utf8(piped.stderr).unwrap().contains(DIGEST));
}

#[test]
fn standard_input_is_read_once_and_under_limits() {
    for args in
        [&["verify", "-", "-"][..], &["verify", "-", "--from-file", "-"], &["diff", "-", "-"], &["pin", "-", "-"]]
    {
        let (code, _, err) = fed(args, b"");
        assert_eq!(code, 2, "{args:?}");
        assert!(err.contains("standard input can be read once\nhint: a directory of that name is `./-`"), "{err}");
    }
    let (code, out, _) = fed(&["verify", "-"], b"");
    assert_eq!(code, 1);
    assert!(out.contains("RP0114 not a sealed archive: "), "{out}");
    let archive = fs::read(inputs::testdata("packs/bad/RP0104-sealed-extra/pack.runpack.tar")).unwrap();
    let (code, out, _) = fed(&["verify", "-", "--max-artifact-bytes", "1000"], &archive);
    assert_eq!(code, 2);
    assert!(out.contains("`artifacts/scenario_spec.json` has more than 1000 bytes\nhint: raise the limit"), "{out}");
}

#[test]
fn archives_are_found_below_a_directory() {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    let seal = |to: &Path| assert_eq!(told(["seal".as_ref(), good().as_ref(), "--out".as_ref(), to.as_os_str()]).0, 0);
    for name in ["b.runpack.tar", "a/z.runpack.tar", "a/.runpack-x.0123456789abcdef.runpack.tar", "c.tar"] {
        seal(&at(name));
    }
    copy_pack(&at("a/pack"));
    seal(&at("a/pack/artifacts/in.runpack.tar"));
    std::os::unix::fs::symlink("b.runpack.tar", at("link.runpack.tar")).unwrap();
    fs::create_dir(at("d.runpack.tar")).unwrap();
    let root = work.path().to_str().unwrap();
    let (code, out, _) = told(["verify", "--recursive", root, "--format", "json"]);
    let paths: Vec<_> = out
        .lines()
        .map(|line| {
            let report: serde_json::Value = serde_json::from_str(line).unwrap();
            let path = report["path"].as_str().unwrap().strip_prefix(root).unwrap();
            format!("{path} {}", report["verdict"].as_str().unwrap())
        })
        .collect();
    // A pack is not descended into: what lies in it is not listed.
    let wanted = [
        "/a/.runpack-x.0123456789abcdef.runpack.tar consistent",
        "/a/pack refused",
        "/a/z.runpack.tar consistent",
        "/b.runpack.tar consistent",
    ];
    assert_eq!((code, paths.iter().map(String::as_str).collect::<Vec<_>>()), (1, wanted.to_vec()));
}
