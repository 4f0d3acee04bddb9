//! The attack catalogue: every folder of `testdata/packs/bad` must raise the
//! finding it is named for, and every kind of finding has a folder.
//!
//! A folder holds `about.txt` (what the attacker did) and either `base.json`,
//! which names a good pack and what is taken out of it, with `pack/` to be laid
//! over it, or `make.json`, a recipe for what a repository cannot store.
//! `expect.json` says what was expected from outside. `testdata/packs/make.py`
//! writes them all; `found.tsv` beside it says what each raises, and is written
//! down again with `RUNPACK_BLESS=1`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runpack_core::pack::layout::MANIFEST_NAME;
use runpack_core::pack::{
    Checks, Code, Expectations, Finding, Listed, PackReader, ReadFault, Report, Severity, Verdict, VerifyOptions,
    verify,
};
use runpack_storage::packs::DirectoryReader;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// `base.json`: the good pack that is spoilt.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Base {
    from: String,
    without: Vec<String>,
}

/// `make.json`: what is done to a good pack.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Recipe {
    from: String,
    #[serde(rename = "do")]
    how: How,
    path: String,
    to: Option<PathBuf>,
    bytes: Option<u64>,
    levels: Option<usize>,
    after: Option<usize>,
    /// Why no file in a repository can be this.
    why: String,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum How {
    Fifo,
    Socket,
    Device,
    Link,
    Linked,
    LinkedDirectory,
    HardLink,
    Sparse,
    Directories,
    FailOpening,
    FailReading,
    FailListing,
    Endless,
}

/// An attack, ready to be verified.
struct Spoilt {
    _dir: tempfile::TempDir,
    pack: PathBuf,
    fails: Option<Recipe>,
    options: VerifyOptions,
    /// What keeps a special file alive.
    _held: Option<UnixListener>,
}

fn folders() -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(inputs::testdata("packs/bad")).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path())).collect()
}

fn code_of(folder: &str) -> Option<Code> {
    let (code, slug) = folder.split_once('-')?;
    Code::ALL.iter().copied().find(|known| known.as_str() == code && !slug.is_empty())
}

fn json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let text = fs::read(path).ok()?;
    Some(serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn lay_over(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            fs::create_dir_all(&to).unwrap();
            lay_over(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

/// Makes the attack in `folder`; `None`, with a line that says so, if this
/// machine cannot.
fn spoil(folder: &Path) -> Option<Spoilt> {
    let dir = tempfile::tempdir().unwrap();
    let pack = dir.path().join("pack");
    fs::create_dir(&pack).unwrap();
    let options = json(&folder.join("expect.json")).map_or_else(VerifyOptions::default, expecting);
    assert_eq!(options.checks, Checks::Replay);
    let mut spoilt = Spoilt { _dir: dir, pack, fails: None, options, _held: None };
    if let Some(base) = json::<Base>(&folder.join("base.json")) {
        assert!(!folder.join("make.json").exists(), "{}: base or recipe, not both", folder.display());
        lay_over(&inputs::testdata("packs").join(base.from), &spoilt.pack);
        for path in base.without {
            fs::remove_file(spoilt.pack.join(path)).unwrap();
        }
        if folder.join("pack").exists() {
            lay_over(&folder.join("pack"), &spoilt.pack);
        }
        return Some(spoilt);
    }
    let recipe: Recipe =
        json(&folder.join("make.json")).unwrap_or_else(|| panic!("{} holds nothing", folder.display()));
    assert!(recipe.why.len() > 10, "{} says why", folder.display());
    lay_over(&inputs::testdata("packs").join(&recipe.from), &spoilt.pack);
    follow(recipe, &mut spoilt).then_some(spoilt)
}

fn follow(recipe: Recipe, spoilt: &mut Spoilt) -> bool {
    let path = spoilt.pack.join(&recipe.path);
    let outside = spoilt.pack.with_file_name("outside");
    let special = matches!(recipe.how, How::Fifo | How::Socket | How::Device | How::Link);
    if special && path.exists() {
        fs::remove_file(&path).unwrap();
    }
    match recipe.how {
        How::Fifo => return made(Command::new("mkfifo").arg(&path), "FIFOs"),
        How::Device => {
            let mut mknod = Command::new("mknod");
            return made(mknod.arg(&path).args(["c", "1", "5"]), "the right to make devices");
        }
        How::Socket => spoilt._held = Some(UnixListener::bind(&path).unwrap()),
        How::Link => symlink(recipe.to.unwrap(), &path).unwrap(),
        How::Linked | How::LinkedDirectory => {
            fs::rename(&path, &outside).unwrap();
            symlink(&outside, &path).unwrap();
        }
        How::HardLink => fs::hard_link(&path, &outside).unwrap(),
        How::Sparse => {
            if let Err(error) = File::create(&path).unwrap().set_len(recipe.bytes.unwrap()) {
                inputs::absent(&format!("sparse files of {} bytes ({error}); their refusal", recipe.bytes.unwrap()));
                return false;
            }
        }
        How::Directories => {
            let deep: PathBuf = (0..recipe.levels.unwrap()).map(|_| recipe.path.as_str()).collect();
            fs::create_dir_all(spoilt.pack.join(&deep)).unwrap();
        }
        How::FailOpening | How::FailReading | How::FailListing | How::Endless => spoilt.fails = Some(recipe),
    }
    true
}

/// Makes a special file with a tool, since no library here does.
fn made(tool: &mut Command, what: &str) -> bool {
    let made = tool.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !made {
        inputs::absent(&format!("{what}; {tool:?}"));
    }
    made
}

/// Reads `expect.json`: members of [`Expectations`], as on the wire.
fn expecting(expected: BTreeMap<String, Value>) -> VerifyOptions {
    fn read<T: DeserializeOwned>(value: Value) -> Option<T> {
        Some(serde_json::from_value(value).unwrap())
    }
    let mut expect = Expectations::default();
    for (name, value) in expected {
        match name.as_str() {
            "root" => expect.root = Some(value.as_str().unwrap().parse().unwrap()),
            "digest" => expect.digest = Some(value.as_str().unwrap().parse().unwrap()),
            "tenant" => expect.tenant = read(value),
            "namespace" => expect.namespace = read(value),
            "scenario" => expect.scenario = read(value),
            "run" => expect.run = read(value),
            "anchor_policy" => expect.anchor_policy = read(value),
            "min_lane" => expect.min_lane = read(value),
            other => panic!("nothing is expected of `{other}`"),
        }
    }
    VerifyOptions { expect, ..VerifyOptions::default() }
}

/// A directory whose medium does what the recipe says.
struct Medium<'a> {
    directory: DirectoryReader,
    recipe: &'a Recipe,
}

impl PackReader for Medium<'_> {
    fn list(&self) -> Result<Vec<Listed>, ReadFault> {
        if self.recipe.how == How::FailListing { Err(failed().into()) } else { self.directory.list() }
    }

    fn open(&self, path: &str, bytes_max: u64) -> Result<Box<dyn Read + '_>, ReadFault> {
        let file = self.directory.open(path, bytes_max)?;
        if path != self.recipe.path {
            return Ok(file);
        }
        match self.recipe.how {
            How::FailOpening => Err(failed().into()),
            How::FailReading => Ok(Box::new(file.take(self.recipe.after.unwrap() as u64).chain(Failing))),
            // A name without end, bounded as `DirectoryReader` bounds a file.
            How::Endless => Ok(Box::new((&b"[\""[..]).chain(io::repeat(b'a').take(bytes_max - 2)).chain(TooLarge))),
            _ => Ok(file),
        }
    }
}

fn failed() -> io::Error {
    io::Error::other("medium error")
}

struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(failed())
    }
}

struct TooLarge;

impl Read for TooLarge {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::FileTooLarge.into())
    }
}

fn verified(spoilt: &Spoilt) -> Report {
    let directory = DirectoryReader::open(&spoilt.pack).unwrap();
    match &spoilt.fails {
        None => verify(&directory, MANIFEST_NAME, &spoilt.options),
        Some(recipe) => verify(&Medium { directory, recipe }, MANIFEST_NAME, &spoilt.options),
    }
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
        let digests = |code: Code| code.as_str().starts_with("RP02");
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
