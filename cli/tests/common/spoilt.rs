//! Makes the attacks of `testdata/packs/bad`, as `bad_packs.rs` describes them.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runpack_core::pack::layout::MANIFEST_NAME;
use runpack_core::pack::{Checks, Expectations, Listed, PackReader, ReadFault, Report, Trust, VerifyOptions, verify};
use runpack_core::trust::{TrustPolicy, TrustTable};
use runpack_storage::packs::{ArchiveReader, DirectoryReader};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::inputs;

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
    #[serde(default)]
    from: String,
    #[serde(rename = "do")]
    how: How,
    #[serde(default)]
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
    Grown,
}

/// An attack, ready to be verified.
pub struct Spoilt {
    _dir: tempfile::TempDir,
    /// A directory, or an archive.
    pub pack: PathBuf,
    fails: Option<Recipe>,
    options: VerifyOptions,
    /// What keeps a special file alive.
    _held: Option<UnixListener>,
}

pub fn folders() -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(inputs::testdata("packs/bad")).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path())).collect()
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
pub fn spoil(folder: &Path) -> Option<Spoilt> {
    let dir = tempfile::tempdir().unwrap();
    let pack = dir.path().join("pack");
    fs::create_dir(&pack).unwrap();
    let options = json(&folder.join("expect.json")).map_or_else(VerifyOptions::default, expecting);
    assert_eq!(options.checks, Checks::Replay);
    let archive = folder.join("pack.runpack.tar");
    if archive.exists() {
        let pack = dir.path().join("pack.runpack.tar");
        fs::copy(archive, &pack).unwrap();
        let spoilt = Spoilt { _dir: dir, pack, fails: None, options, _held: None };
        let grown = json::<Recipe>(&folder.join("make.json")).is_none_or(|recipe| grow(&spoilt.pack, &recipe));
        return grown.then_some(spoilt);
    }
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

impl Spoilt {
    /// Whether the attack is what lies in the directory `pack`, and not a medium
    /// that fails while it is read.
    pub fn is_stored(&self) -> bool {
        self.fails.is_none() && !self.is_archive()
    }

    /// Whether the attack is an archive.
    pub fn is_archive(&self) -> bool {
        self.pack.extension().is_some()
    }
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
            fs::write(&path, "").unwrap();
            return grow(&path, &recipe);
        }
        How::Directories => {
            let deep: PathBuf = (0..recipe.levels.unwrap()).map(|_| recipe.path.as_str()).collect();
            fs::create_dir_all(spoilt.pack.join(&deep)).unwrap();
        }
        How::Grown => panic!("only an archive is made longer"),
        How::FailOpening | How::FailReading | How::FailListing | How::Endless => spoilt.fails = Some(recipe),
    }
    true
}

/// Makes a file longer, by a hole.
fn grow(path: &Path, recipe: &Recipe) -> bool {
    let file = File::options().write(true).open(path).unwrap();
    let bytes = file.metadata().unwrap().len() + recipe.bytes.unwrap();
    let grown = file.set_len(bytes);
    if let Err(error) = &grown {
        inputs::absent(&format!("sparse files of {bytes} bytes ({error}); their refusal"));
    }
    grown.is_ok()
}

/// Makes a special file with a tool, since no library here does.
fn made(tool: &mut Command, what: &str) -> bool {
    let made = tool.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !made {
        inputs::absent(&format!("{what}; {tool:?}"));
    }
    made
}

/// Reads `expect.json`: members of [`Expectations`], as on the wire; a trust
/// policy as in its file, and the time it is asked for.
fn expecting(expected: BTreeMap<String, Value>) -> VerifyOptions {
    fn read<T: DeserializeOwned>(value: Value) -> Option<T> {
        Some(serde_json::from_value(value).unwrap())
    }
    let mut expect = Expectations::default();
    let (mut trust, mut at) = (None, None);
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
            "trust" => trust = read::<TrustTable>(value),
            "at" => at = value.as_i64(),
            other => panic!("nothing is expected of `{other}`"),
        }
    }
    let mut no_files = |file: &str| panic!("`{file}` is not in the table");
    if let Some(table) = trust {
        let policy = TrustPolicy::new(table, &mut no_files).unwrap().into();
        expect = expect.trusting(Trust { policy, at, attached: Vec::new() });
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

pub fn verified(spoilt: &Spoilt) -> Report {
    if spoilt.is_archive() {
        return verify(&ArchiveReader::open(&spoilt.pack).unwrap(), MANIFEST_NAME, &spoilt.options);
    }
    let directory = DirectoryReader::open(&spoilt.pack).unwrap();
    match &spoilt.fails {
        None => verify(&directory, MANIFEST_NAME, &spoilt.options),
        Some(recipe) => verify(&Medium { directory, recipe }, MANIFEST_NAME, &spoilt.options),
    }
}
