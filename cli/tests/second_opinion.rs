//! Two verifiers must agree: `runpack`, and the one that was written from
//! `docs/format.md` alone, `testdata/reference/verify_pack.py`.
//!
//! The second one looks at container, bytes, identity and logs, and says that
//! it did not look at the rest. It is started once for all packs, since most of
//! its time is Python's start.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "../../testdata/inputs.rs"]
mod inputs;
#[path = "common/spoilt.rs"]
mod spoilt;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use runpack_core::pack::layout::MANIFEST_NAME;
use runpack_core::pack::{Report, VerifyOptions, verify};
use runpack_storage::packs::DirectoryReader;
use serde::Deserialize;
use spoilt::{folders, spoil, verified};

/// What the second verifier says of one pack.
#[derive(Deserialize)]
struct Opinion {
    verdict: String,
    /// Why there is no opinion: the verifier itself failed.
    why: Option<String>,
    #[serde(default)]
    content: String,
    #[serde(default)]
    replay: String,
    #[serde(default)]
    checked_files: u64,
    #[serde(default)]
    findings: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    code: String,
    artifact: Option<String>,
}

/// What was found: code, and artifact or nothing for the whole pack. How often,
/// and where in the artifact, is each verifier's own business.
type Found = BTreeSet<(String, String)>;

/// Codes of the groups that both verifiers look at.
const GROUPS: [&str; 4] = ["RP01", "RP02", "RP03", "RP04"];

/// A document that cannot be taken as it is: not canonical, or malformed.
const NOT_TAKEN: [&str; 2] = ["RP0203", "RP0205"];

#[test]
fn both_verifiers_find_the_same() {
    let mut packs: Vec<(String, PathBuf, Report)> = Vec::new();
    // Kept until the end, since their directories go with them.
    let mut attacks = Vec::new();
    for (name, folder) in folders() {
        let Some(attack) = spoil(&folder) else { continue };
        if attack.is_stored() {
            packs.push((name, attack.pack.clone(), verified(&attack)));
            attacks.push(attack);
        }
    }
    assert!(packs.len() > 200, "only {} attacks could be made", packs.len());
    let good = ["release-gate", "rich"].map(|name| inputs::testdata("packs/good").join(name));
    let reference = inputs::shared("reference/packs").map(|folder| folders_in(&folder)).unwrap_or_default();
    for pack in good.into_iter().chain(reference) {
        let report = verify(&DirectoryReader::open(&pack).unwrap(), MANIFEST_NAME, &VerifyOptions::default());
        packs.push((pack.file_name().unwrap().to_str().unwrap().to_owned(), pack, report));
    }

    let Some(opinions) = opinions(packs.iter().map(|(_, pack, _)| pack.as_path())) else { return };
    assert_eq!(opinions.len(), packs.len());
    let mut differences = Vec::new();
    for ((name, _, report), opinion) in packs.iter().zip(&opinions) {
        assert_eq!(opinion.why, None, "{name}");
        assert_eq!((opinion.content.as_str(), opinion.replay.as_str()), ("not checked", "not replayed"), "{name}");
        let (ours, theirs) = (found(report), found_by(opinion));
        if comparable(&ours, &theirs) != comparable(&theirs, &ours) {
            differences.push(format!("{name}: runpack {ours:?}, the second verifier {theirs:?}"));
        }
        if report.checked_files != opinion.checked_files {
            differences.push(format!("{name}: {} and {} files", report.checked_files, opinion.checked_files));
        }
        if ours.is_empty() && opinion.verdict != "consistent" {
            differences.push(format!("{name}: {} for nothing", opinion.verdict));
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.is_dir());
    found.sort();
    found
}

/// One opinion for each pack, in their order; `None`, with a line that says so,
/// if there is no Python.
fn opinions<'a>(packs: impl Iterator<Item = &'a Path>) -> Option<Vec<Opinion>> {
    let script = inputs::testdata("reference/verify_pack.py");
    let said = match Command::new("python3").arg("-B").arg(script).args(["--format", "json"]).args(packs).output() {
        Ok(said) => said,
        Err(error) => {
            let required = std::env::var("RUNPACK_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|name| name == "python3"), "python3 is required and absent: {error}");
            inputs::absent(&format!("python3 ({error}); a second opinion"));
            return None;
        }
    };
    let (out, err) = (String::from_utf8(said.stdout).unwrap(), String::from_utf8_lossy(&said.stderr));
    // Most of the packs are bad, so the worst of them is refused.
    assert_eq!((said.status.code(), err.as_ref()), (Some(1), ""));
    Some(out.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn found(report: &Report) -> Found {
    let of_both = |code: &str| GROUPS.iter().any(|group| code.starts_with(group));
    let pairs = report.findings.iter().map(|finding| (finding.code.as_str().to_owned(), finding.artifact.clone()));
    pairs.filter(|(code, _)| of_both(code)).collect()
}

fn found_by(opinion: &Opinion) -> Found {
    let pair = |told: &Told| (told.code.clone(), told.artifact.clone().unwrap_or_default());
    opinion.findings.iter().map(pair).collect()
}

/// `found` without what is not normative: once a document is not canonical or
/// malformed, what else is said about its content. Container and digest still
/// count, and that it was not taken does, too.
fn comparable(found: &Found, other: &Found) -> Found {
    let not_taken = |code: &str| NOT_TAKEN.contains(&code);
    let broken: BTreeSet<_> =
        found.union(other).filter(|(code, _)| not_taken(code)).map(|(_, artifact)| artifact).collect();
    let compared = found.iter().filter_map(|(code, artifact)| {
        if not_taken(code) {
            return Some(("not taken".to_owned(), artifact.clone()));
        }
        let counts = !broken.contains(artifact) || code.starts_with("RP01") || code == "RP0201";
        counts.then(|| (code.clone(), artifact.clone()))
    });
    compared.collect()
}
