//! The hidden directory in which a pack grows.
//!
//! `.runpack-<name>.<random>/` lies beside the place where `<name>` will be, so
//! that a rename can bring it there. In it: `pack/`, which becomes the pack;
//! `part`, the file being written, which is moved into `pack/` once it is
//! whole; `old/`, a pack on its way out. A process killed at any moment leaves
//! no manifest beside artifacts that are missing or torn: the manifest is
//! moved in last, and removed first.

use std::fs::{self, DirBuilder, DirEntry};
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A staging directory not touched for so long belongs to nobody. The file
/// being written counts as a touch.
const STALE: Duration = Duration::from_secs(60 * 60);

/// Removed when dropped, with all that is in it.
#[derive(Debug)]
pub(super) struct Staging {
    directory: PathBuf,
    manifest_name: String,
    kept: bool,
}

impl Staging {
    /// Makes a new one, and sweeps what killed processes left for the same name.
    /// `manifest_name` is one component.
    pub(super) fn create(parent: &Path, name: &str, manifest_name: &str) -> io::Result<Self> {
        let prefix = prefix(name);
        let directory = create_unique(parent, &prefix)?;
        let staging = Self { directory, manifest_name: manifest_name.to_owned(), kept: false };
        make_directory(&staging.pack(), 0o755)?;
        staging.sweep(parent, &prefix);
        Ok(staging)
    }

    fn sweep(&self, parent: &Path, prefix: &str) {
        let Ok(entries) = fs::read_dir(parent) else { return };
        for entry in entries.flatten() {
            if is_staging(&entry, prefix) && is_stale(&entry.path()) && same_owner(&entry.path(), &self.directory) {
                // Its owner may be alive after all, and about to publish:
                // renamed, it is out of reach before the first file is gone.
                let aside = parent.join(format!("{prefix}{:016x}", random()));
                if fs::rename(entry.path(), &aside).is_ok() {
                    remove(&aside, &self.manifest_name).ok();
                }
            }
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn pack(&self) -> PathBuf {
        self.directory.join("pack")
    }

    pub(super) fn part(&self) -> PathBuf {
        self.directory.join("part")
    }

    pub(super) fn old(&self) -> PathBuf {
        self.directory.join("old")
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        remove(&self.directory, &self.manifest_name)
    }

    /// Leaves it where it is: it holds something of the user's.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is swept later.
            self.remove().ok();
        }
    }
}

/// Names are up to 255 bytes; the rest is for the ending.
fn prefix(name: &str) -> String {
    let mut end = name.len().min(200);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!(".runpack-{}.", &name[..end])
}

fn create_unique(parent: &Path, prefix: &str) -> io::Result<PathBuf> {
    let mut attempts = 0;
    loop {
        let directory = parent.join(format!("{prefix}{:016x}", random()));
        match make_directory(&directory, 0o700) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempts < 16 => attempts += 1,
            made => return made.map(|()| directory),
        }
    }
}

/// Unlike for each process and call, which is all a name needs: that it is new
/// is for `mkdir` to say.
fn random() -> u64 {
    std::hash::RandomState::new().hash_one(std::process::id())
}

/// Exactly this name's: `a`'s are not those of `a.b`.
fn is_staging(entry: &DirEntry, prefix: &str) -> bool {
    let name = entry.file_name();
    let ending = name.to_str().and_then(|name| name.strip_prefix(prefix));
    ending.is_some_and(|ending| ending.len() == 16 && ending.bytes().all(|byte| byte.is_ascii_hexdigit()))
        && entry.file_type().is_ok_and(|kind| kind.is_dir())
}

fn is_stale(directory: &Path) -> bool {
    let touched = |path: &Path| fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    let part = touched(&directory.join("part")).unwrap_or(SystemTime::UNIX_EPOCH);
    let Ok(last) = touched(directory) else { return false };
    last.max(part).elapsed().is_ok_and(|age| age > STALE)
}

/// In a directory for everybody, what others prepared is not ours to remove.
fn same_owner(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let owner = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.uid()).ok();
        owner(a).is_some() && owner(a) == owner(b)
    }
    #[cfg(not(unix))]
    {
        let _ = (a, b);
        true
    }
}

/// Follows no links: they are removed themselves.
fn remove(directory: &Path, manifest_name: &str) -> io::Result<()> {
    for pack in ["pack", "old"] {
        let pack = directory.join(pack);
        if fs::symlink_metadata(&pack).is_ok_and(|metadata| metadata.is_dir()) {
            fs::remove_file(pack.join(manifest_name)).or_else(unless_absent)?;
        }
    }
    fs::remove_dir_all(directory).or_else(unless_absent)
}

fn unless_absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// One directory, which must be new. The mode is further limited by the umask,
/// and means nothing off Unix.
pub(super) fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
    #[cfg(not(unix))]
    let _ = mode;
    builder.create(path)
}
