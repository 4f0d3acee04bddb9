//! Writes a pack so that it is there whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use runpack_beneath::{Fault, Links, check_write_path, directory_of, sync_directory};
use runpack_core::pack::layout::{MANIFEST_BYTES_MAX, is_attestation};
use runpack_core::pack::{Listed, ListedKind, PackReader, PackSink};

use super::directory::{DirectoryReader, OpenFault};
use super::rename::{self, ExchangeError};
use super::staging::{Staging, make_directory};

/// Others may publish to the same place: how often the place is looked at anew.
pub(super) const ATTEMPTS: usize = 8;

/// What happens to a pack that is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// It stays.
    No,
    /// It is removed once the new one is in its place.
    Yes,
}

/// How a pack was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It is where nothing was, or an empty directory.
    New,
    /// The same files were there already, byte for byte; nothing was changed.
    Identical,
    /// It took another one's place.
    Replaced {
        /// Where the old pack, or what is left of it, could not be removed.
        leftover: Option<PathBuf>,
    },
}

/// Why a pack was not published. Unless said otherwise, what was at the target
/// is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The target ends in `..` or is `.` or `/`: no directory can be put there.
    #[error("`{}` does not name a directory that can be made\nhint: give the directory by its name", target.display())]
    NoName {
        /// As given.
        target: PathBuf,
    },
    /// No manifest can be written under that name.
    #[error("`{name}` cannot be the name of a manifest: {reason}")]
    ManifestName {
        /// As given.
        name: String,
        /// The rule that is broken.
        reason: &'static str,
    },
    /// A link, a file, or something stranger, which is neither followed nor
    /// replaced.
    #[error("`{}` is a {found}, not a directory\nhint: choose another directory", target.display())]
    NotADirectory {
        /// As given.
        target: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// It was to be replaced, but is perhaps somebody's home directory.
    #[error("`{}` is not replaced, since it does not look like a pack: {reason}\nhint: choose another directory, or remove this one yourself", target.display())]
    NotAPack {
        /// As given.
        target: PathBuf,
        /// What speaks against it.
        reason: String,
    },
    /// Something else is there.
    #[error("`{}` exists and holds something else\nhint: choose another directory or pass --replace", target.display())]
    Exists {
        /// As given.
        target: PathBuf,
    },
    /// A file could not be written, or the manifest was not.
    #[error("the pack for `{}` was not written completely", target.display())]
    Incomplete {
        /// As given.
        target: PathBuf,
    },
    /// The system did not let us.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    Io {
        /// The verb.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pack is at the target, but may not be after a power failure.
    #[error("`{}` is written, but not known to survive a power failure: {source}\nhint: verify it before relying on it", target.display())]
    NotDurable {
        /// As given.
        target: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else took the target while the old pack was out of the way.
    #[error("`{}` was taken while it was replaced: {source}\nhint: the old pack is at `{}`", target.display(), old.display())]
    Stranded {
        /// As given.
        target: PathBuf,
        /// Where the old pack is.
        old: PathBuf,
        /// Why the new one did not get there.
        source: io::Error,
    },
}

/// A pack that is being written, out of sight, beside the place it is for.
/// Dropped without [`StagedPack::publish`], it leaves nothing.
#[derive(Debug)]
pub struct StagedPack {
    staging: Staging,
    /// As given; for messages.
    target: PathBuf,
    /// Free of links up to the last component.
    place: PathBuf,
    manifest_name: String,
    replace: Replace,
    names: Names,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Growing,
    Complete,
    Broken,
}

impl StagedPack {
    /// Begins a pack for the directory `target`, whose missing parents are
    /// made. The manifest at `manifest_name` (one component) must be the last
    /// file that is put. An empty directory at the target gives way to the pack,
    /// whose owner and mode are those of any new directory.
    ///
    /// Staging directories that were left beside the target by processes killed
    /// more than an hour ago are removed.
    ///
    /// # Errors
    /// Early ones, before anything is written, for what [`StagedPack::publish`]
    /// would refuse in any case: [`PublishError::NoName`],
    /// [`PublishError::ManifestName`], [`PublishError::NotADirectory`] and, with
    /// [`Replace::Yes`], [`PublishError::NotAPack`].
    pub fn create(target: &Path, manifest_name: &str, replace: Replace) -> Result<Self, PublishError> {
        check_manifest_name(manifest_name)?;
        let name = target.file_name().ok_or_else(|| PublishError::NoName { target: target.to_owned() })?;
        let parent = directory_of(target);
        // Joined anew, it has no final `/`, which would follow a link.
        check_place(target, &parent.join(name), manifest_name, replace)?;
        make_parents(parent)?;
        let parent = fs::canonicalize(parent).map_err(|source| io_error("find", parent, source))?;
        let staging = Staging::create(&parent, &name.to_string_lossy(), manifest_name)
            .map_err(|source| io_error("make a directory in", &parent, source))?;
        Ok(Self {
            staging,
            target: target.to_owned(),
            place: parent.join(name),
            manifest_name: manifest_name.to_owned(),
            replace,
            names: Names::default(),
            state: State::Growing,
        })
    }

    /// Reads what was put so far, so that the pack can be verified before
    /// anybody sees it.
    ///
    /// # Errors
    /// See [`OpenFault`].
    pub fn reader(&self) -> Result<DirectoryReader, OpenFault> {
        DirectoryReader::open(&self.staging.pack())
    }

    /// Moves the pack to its target in one step. On return it survives a power
    /// failure. Of two that publish to one target at once, one wins, and the
    /// other is told as if it had come later.
    ///
    /// With [`Replace::Yes`] a directory is replaced only if it has a manifest
    /// that names every file in it: what nobody listed, nobody may remove.
    /// Where the system cannot exchange two directories in one step (neither
    /// Linux nor Apple's, or an unusual file system) the target is absent for a
    /// moment.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish(mut self) -> Result<Published, PublishError> {
        if self.state != State::Complete {
            return Err(PublishError::Incomplete { target: self.target.clone() });
        }
        let pack = self.staging.pack();
        for directory in self.names.directories().rev().map(|path| pack.join(path)).chain([pack.clone()]) {
            sync_directory(&directory).map_err(|source| io_error("sync", &directory, source))?;
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.put_in_place(&pack) {
                // Somebody else was there in between, or was removing the pack
                // that was looked at.
                Err(PublishError::Io { source, .. }) if attempts < ATTEMPTS && is_race(&source) => {}
                Err(PublishError::NotAPack { .. }) if attempts < ATTEMPTS => {}
                done => return done,
            }
        }
    }

    fn put_in_place(&mut self, pack: &Path) -> Result<Published, PublishError> {
        let moving = |source| io_error("move the pack to", &self.place, source);
        match standing(&self.place).map_err(|source| io_error("look at", &self.place, source))? {
            Standing::Absent => {
                rename::no_replace(pack, &self.place).map_err(moving)?;
                self.sync_parent()?;
                Ok(Published::New)
            }
            Standing::EmptyDirectory => {
                rename::onto_empty(pack, &self.place).map_err(moving)?;
                self.sync_parent()?;
                Ok(Published::New)
            }
            Standing::Directory if is_identical(pack, &self.place) => {
                self.sync_parent()?;
                Ok(Published::Identical)
            }
            Standing::Directory if self.replace == Replace::Yes => {
                check_is_pack(&self.target, &self.place, &self.manifest_name)?;
                self.exchange(pack)
            }
            Standing::Directory => Err(PublishError::Exists { target: self.target.clone() }),
            Standing::Other(found) => Err(PublishError::NotADirectory { target: self.target.clone(), found }),
        }
    }

    fn exchange(&mut self, pack: &Path) -> Result<Published, PublishError> {
        let spare = self.staging.old();
        match rename::exchange(pack, &self.place, &spare) {
            Ok(_) => {}
            Err(ExchangeError::Unchanged(source)) => return Err(io_error("replace", &self.place, source)),
            Err(ExchangeError::Stranded(source)) => {
                self.staging.keep();
                return Err(PublishError::Stranded { target: self.target.clone(), old: spare, source });
            }
        }
        // The old pack goes only when the new one is sure to stay.
        if let Err(error) = self.sync_parent() {
            self.staging.keep();
            return Err(error);
        }
        let leftover = self.staging.remove().err().map(|_| self.staging.directory().to_owned());
        Ok(Published::Replaced { leftover })
    }

    fn sync_parent(&self) -> Result<(), PublishError> {
        sync_directory(directory_of(&self.place))
            .map_err(|source| PublishError::NotDurable { target: self.target.clone(), source })
    }

    fn write(&mut self, path: &str, content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        if self.state == State::Complete {
            return Err(invalid("the manifest is written already, and nothing comes after it"));
        }
        check_write_path(path).map_err(|fault| io::Error::new(io::ErrorKind::InvalidInput, fault))?;
        let new_directories = self.names.add(path)?;
        let (pack, part) = (self.staging.pack(), self.staging.part());
        write_durably(&part, content).inspect_err(|_| {
            fs::remove_file(&part).ok();
        })?;
        for directory in new_directories {
            make_directory(&pack.join(directory), 0o755)?;
        }
        fs::rename(&part, pack.join(path))
    }
}

impl PackSink for StagedPack {
    /// The file is in place only once it is whole and synced. After an error
    /// the pack can no longer be published.
    fn put(&mut self, path: &str, content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let written = self.write(path, content);
        if written.is_err() {
            self.state = State::Broken;
        } else if path == self.manifest_name && self.state == State::Growing {
            self.state = State::Complete;
        }
        written
    }
}

pub(super) fn write_durably<T>(path: &Path, content: &mut dyn FnMut(&mut dyn Write) -> io::Result<T>) -> io::Result<T> {
    let mut options = OpenOptions::new();
    // A link is something that exists, so it is not followed.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
    let mut writer = BufWriter::with_capacity(64 * 1024, options.open(path)?);
    let answer = content(&mut writer)?;
    writer.into_inner()?.sync_all()?;
    Ok(answer)
}

/// Every name in the pack. Two that differ only by case are one on some
/// machines.
#[derive(Debug, Default)]
struct Names {
    /// By the name in lower case: how it is spelt, and whether it is a directory.
    folded: BTreeMap<String, (String, bool)>,
}

impl Names {
    /// Adds a file and answers which directories are new, outermost first.
    fn add(&mut self, path: &str) -> io::Result<Vec<String>> {
        let mut new = Vec::new();
        for (end, _) in path.match_indices('/') {
            let directory = &path[..end];
            match self.folded.get(&directory.to_ascii_lowercase()) {
                None => new.push(directory.to_owned()),
                Some((spelt, true)) if spelt == directory => {}
                Some(_) => return Err(taken(path)),
            }
        }
        if self.folded.contains_key(&path.to_ascii_lowercase()) {
            return Err(taken(path));
        }
        for directory in &new {
            self.folded.insert(directory.to_ascii_lowercase(), (directory.clone(), true));
        }
        self.folded.insert(path.to_ascii_lowercase(), (path.to_owned(), false));
        Ok(new)
    }

    /// Each after the one it is in.
    fn directories(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.folded.values().filter(|(_, directory)| *directory).map(|(spelt, _)| spelt.as_str())
    }
}

fn taken(path: &str) -> io::Error {
    let message = format!("`{path}` is in the pack already, or differs from something there only by case");
    io::Error::new(io::ErrorKind::AlreadyExists, message)
}

enum Standing {
    Absent,
    EmptyDirectory,
    Directory,
    Other(&'static str),
}

fn standing(place: &Path) -> io::Result<Standing> {
    let kind = match fs::symlink_metadata(place) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Standing::Absent),
        Err(error) => return Err(error),
    };
    Ok(if kind.is_symlink() {
        Standing::Other("symbolic link")
    } else if kind.is_file() {
        Standing::Other("file")
    } else if !kind.is_dir() {
        Standing::Other("special file")
    } else if fs::read_dir(place)?.next().is_none() {
        Standing::EmptyDirectory
    } else {
        Standing::Directory
    })
}

fn check_manifest_name(name: &str) -> Result<(), PublishError> {
    let refuse = |reason| Err(PublishError::ManifestName { name: name.to_owned(), reason });
    match check_write_path(name) {
        Ok(()) if name.contains('/') => refuse("it is written beside the other files, not below them"),
        Ok(()) => Ok(()),
        Err(Fault::UnsafePath(rule)) => refuse(rule),
        Err(_) => refuse("unsafe path"),
    }
}

fn check_place(target: &Path, place: &Path, manifest_name: &str, replace: Replace) -> Result<(), PublishError> {
    match standing(place).map_err(|source| io_error("look at", target, source))? {
        Standing::Other(found) => Err(PublishError::NotADirectory { target: target.to_owned(), found }),
        Standing::Directory if replace == Replace::Yes => check_is_pack(target, place, manifest_name),
        _ => Ok(()),
    }
}

/// A manifest alone does not make a pack: browser extensions have one, too. So
/// it must mention every file but attestations, which speak of it.
fn check_is_pack(target: &Path, place: &Path, manifest_name: &str) -> Result<(), PublishError> {
    unlike_a_pack(place, manifest_name)
        .map_or(Ok(()), |reason| Err(PublishError::NotAPack { target: target.to_owned(), reason }))
}

fn unlike_a_pack(directory: &Path, manifest_name: &str) -> Option<String> {
    let reader = match DirectoryReader::open(directory) {
        Ok(reader) => reader.links(Links::Any),
        Err(fault) => return Some(fault.to_string()),
    };
    let mut manifest = Vec::new();
    let read = reader
        .open(manifest_name, MANIFEST_BYTES_MAX)
        .map_err(|fault| fault.to_string())
        .and_then(|mut file| file.read_to_end(&mut manifest).map_err(|error| error.to_string()));
    if let Err(reason) = read {
        return Some(format!("`{manifest_name}` in it: {reason}"));
    }
    let listed = match reader.list() {
        Ok(listed) => listed,
        Err(fault) => return Some(fault.to_string()),
    };
    // Whatever stands between two quotes: enough to find the names of paths
    // that need no escapes, without knowing the format.
    let mentioned: BTreeSet<_> = manifest.split(|byte| *byte == b'"').collect();
    let stray = listed.iter().find(|Listed { path, kind }| {
        let known = path == manifest_name || is_attestation(path) || mentioned.contains(path.as_bytes());
        *kind != ListedKind::File || !known
    })?;
    Some(format!("`{manifest_name}` in it does not name `{}`", stray.path))
}

/// Whether `b` holds the files of `a` and nothing else, except attestations:
/// others may have signed it since. What cannot be read is not identical.
fn is_identical(a: &Path, b: &Path) -> bool {
    let (Ok(a), Ok(b)) = (DirectoryReader::open(a), DirectoryReader::open(b)) else { return false };
    let (a, b) = (a.links(Links::Any), b.links(Links::Any));
    let (Ok(listed), Ok(other)) = (a.list(), b.list()) else { return false };
    let ours = |there: &Listed| listed.contains(there);
    listed.iter().all(|listed| other.contains(listed))
        && other.iter().all(|there| ours(there) || (there.kind == ListedKind::File && is_attestation(&there.path)))
        && listed.iter().all(|listed| {
            let (Ok(a), Ok(b)) = (a.open(&listed.path, u64::MAX), b.open(&listed.path, u64::MAX)) else { return false };
            same_bytes(a, b).unwrap_or(false)
        })
}

pub(super) fn same_bytes(a: impl Read, b: impl Read) -> io::Result<bool> {
    let (mut a, mut b) = (a, b);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        a.by_ref().take(64 * 1024).read_to_end(&mut left)?;
        b.by_ref().take(64 * 1024).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

/// Makes what is missing, durably.
pub(super) fn make_parents(directory: &Path) -> Result<(), PublishError> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && fs::symlink_metadata(path).is_err();
    let missing: Vec<_> = directory.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(directory).map_err(|source| io_error("make", directory, source))?;
    for made in missing {
        sync_directory(directory_of(made)).map_err(|source| io_error("sync", directory_of(made), source))?;
    }
    Ok(())
}

/// What a rename says if the place is not what it was a moment ago.
fn is_race(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory, NotFound};
    matches!(error.kind(), AlreadyExists | DirectoryNotEmpty | NotADirectory | NotFound)
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> PublishError {
    PublishError::Io { doing, path: path.to_owned(), source }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
