//! The attack catalogue: every folder of `testdata/packs/bad` must raise the
//! finding it is named for, and every kind of finding has a folder.
//!
//! A folder holds `about.txt` (what the attacker did) and either `base.json`,
//! which names a good pack and what is taken out of it, with `pack/` to be laid
//! over it, or `make.json`, a recipe for what a repository cannot store. Or it
//! holds an archive, `pack.runpack.tar`, and perhaps how long it is made.
//! `expect.json` says what was expected from outside. `testdata/packs/make.py`
//! writes them all; `found.tsv` beside it says what each raises, and is written
//! down again with `RUNPACK_BLESS=1`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;
#[path = "common/spoilt.rs"]
mod spoilt;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use runpack_core::pack::layout::{ARTIFACT_BYTES_MAX, MANIFEST_NAME};
use runpack_core::pack::{Code, Finding, Report, Severity, Verdict, VerifyOptions, verify};
use runpack_storage::packs::ArchiveReader;
use spoilt::{folders, spoil, verified};

fn code_of(folder: &str) -> Option<Code> {
    let (code, slug) = folder.split_once('-')?;
    Code::ALL.iter().copied().find(|known| known.as_str() == code && !slug.is_empty())
}

/// The findings one to a line: code, file, place.
fn told(report: &Report) -> Vec<String> {
    let line = |finding: &Finding| format!("{}\t{}{}", finding.code, finding.artifact, finding.pointer);
    report.findings.iter().map(line).collect()
}

#[test]
fn every_finding_has_an_attack_and_every_attack_a_finding() {
    let folders = folders();
    let raised: BTreeSet<_> = folders
        .iter()
        .map(|(name, path)| {
            let about = fs::read_to_string(path.join("about.txt")).unwrap_or_default();
            assert!(about.trim_end().ends_with('.'), "{name}/about.txt says what the attacker did");
            code_of(name).unwrap_or_else(|| panic!("{name} is named for no finding"))
        })
        .collect();
    let without: Vec<_> = Code::ALL.iter().filter(|code| !raised.contains(code)).collect();
    assert!(without.is_empty(), "no attack raises {without:?}");
}

#[test]
fn every_attack_raises_its_finding_and_nothing_of_digests() {
    let (mut wrong, mut found) = (Vec::new(), Vec::new());
    for (name, path) in folders() {
        let Some(spoilt) = spoil(&path) else { continue };
        let (code, report) = (code_of(&name).unwrap(), verified(&spoilt));
        let mut complain = |what: &str| wrong.push(format!("{name}: {what}: {:?} {:?}", report.verdict, told(&report)));
        let of = |finding: &Finding| finding.code == code;
        if !report.findings.iter().any(of) {
            complain("its finding is missing");
        }
        let worst = report.findings.iter().map(|finding| finding.severity).max();
        let verdict = match worst {
            Some(Severity::Error) => Verdict::Refused,
            Some(Severity::CouldNotTell) => Verdict::CouldNotTell,
            Some(Severity::Warning) | None => Verdict::Consistent,
        };
        if report.verdict != verdict || worst < Some(code.severity()) {
            complain("the verdict does not follow from what was found");
        }
        if code.severity() != Severity::Error && worst != Some(code.severity()) {
            complain("nothing else may be found");
        }
        // An attacker computes digests again, so they tell nothing.
        let digests = |code: Code| code.as_str().starts_with("RP02") && code != Code::LegacyForm;
        if !digests(code) && report.findings.iter().any(|finding| digests(finding.code)) {
            complain("a digest gave it away");
        }
        found.extend(told(&report).into_iter().map(|line| format!("{name}\t{line}\n")));
    }
    assert!(wrong.is_empty(), "{} of the attacks:\n{}", wrong.len(), wrong.join("\n"));

    let path = inputs::testdata("packs/found.tsv");
    if std::env::var_os("RUNPACK_BLESS").is_some() {
        fs::write(&path, found.concat()).unwrap();
    }
    // Line by line, since a machine may not be able to make every attack.
    let known = fs::read_to_string(&path).unwrap_or_default();
    let known: BTreeSet<_> = known.lines().collect();
    let new: Vec<_> = found.iter().filter(|line| !known.contains(line.trim_end_matches('\n'))).collect();
    assert!(new.is_empty(), "not in found.tsv; if they are right, write it down with RUNPACK_BLESS=1:\n{new:#?}");
}

/// Where nothing is left to what is allowed, a stream is judged as a file is.
#[test]
fn an_archive_is_refused_on_standard_input_as_in_a_file() {
    for (name, path) in folders() {
        let Some(spoilt) = spoil(&path).filter(|spoilt| spoilt.is_archive()) else { continue };
        let stream = fs::File::open(&spoilt.pack).unwrap();
        match ArchiveReader::spool(stream, ARTIFACT_BYTES_MAX) {
            Ok(reader) => {
                let report = verify(&reader, MANIFEST_NAME, &VerifyOptions::default());
                assert_eq!(report, verified(&spoilt), "{name}");
            }
            Err(error) => {
                assert!(name.starts_with("RP0111-") && error.to_string().contains("hint: "), "{name}: {error}");
            }
        }
    }
}

#[test]
fn good_packs_verify_and_are_what_their_sources_make() {
    for name in ["release-gate", "rich"] {
        let (code, out, err) = common::told(["verify", inputs::testdata("packs/good").join(name).to_str().unwrap()]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(out.contains(": consistent: ") && !out.contains("RP0"), "{out}");
    }
    let work = tempfile::tempdir().unwrap();
    let source = |name: &str| inputs::testdata("packs/source/rich").join(name).to_str().unwrap().to_owned();
    let out = work.path().join("rich");
    let args = ["build", "--generated-at", "logical:120", "--include-verification", "--out", out.to_str().unwrap()];
    let files = [
        ("--scenario", "scenario.json"),
        ("--state", "state.json"),
        ("--anchor-policy", "anchor-policy.json"),
        ("--security", "security.json"),
    ];
    let args = args.map(str::to_owned).into_iter();
    let (code, _, err) =
        common::told(args.chain(files.iter().flat_map(|(option, file)| [(*option).to_owned(), source(file)])));
    assert_eq!((code, err.as_str()), (0, ""));
    for artifact in ["manifest", "artifacts/tool_calls", "artifacts/gate_evals", "artifacts/scenario_spec"] {
        let name = format!("{artifact}.json");
        let stored = fs::read(inputs::testdata("packs/good/rich").join(&name)).unwrap();
        assert_eq!(fs::read(out.join(&name)).unwrap(), stored, "{name}");
    }
}

#[test]
fn the_attacks_are_what_the_script_writes() {
    let script = inputs::testdata("packs/make.py");
    match Command::new("python3").args(["-B".as_ref(), script.as_os_str(), "--check".as_ref()]).output() {
        Ok(said) => assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout)),
        Err(error) => inputs::absent(&format!("python3 ({error}); the script")),
    }
}
