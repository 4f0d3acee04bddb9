//! Opens files beneath a directory.
//!
//! Directories come from strangers: a name in one may be a link to a key, a
//! pipe that never answers, a device that never ends. All opens of packs and of
//! evidence files go through [`Root`], which reads ordinary files that really
//! lie beneath it and names everything else as a [`Fault`].
//!
//! On Linux the kernel resolves the path (`openat2`), so nothing can be swapped
//! in between a check and an open. Elsewhere cap-std does it in user space; see
//! the notes on [`Root::file`].

#![forbid(unsafe_code)]

mod kept;
mod names;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(not(target_os = "linux"), test))]
mod portable;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use portable as system;

use std::fs::File;
use std::io;
use std::path::Path;

pub use kept::{directory_of, private, read_text_within, read_within, sync_directory, sync_directory_of};
pub use names::{check_read_path, check_write_path};

/// An open directory. What it is called may change afterwards: the same
/// directory stays open.
#[derive(Debug)]
pub struct Root {
    inner: system::Inner,
}

impl Root {
    /// Opens the directory at `path`, which may itself be reached through
    /// links: it is the user's word. Nothing beneath it may.
    ///
    /// # Errors
    /// As the system says; [`io::ErrorKind::NotADirectory`] for anything else
    /// than a directory, which is then not opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        system::Inner::open(path).map(|inner| Self { inner })
    }

    /// Opens the ordinary file at `relative` for reading, with its size in
    /// bytes at that moment. It may grow: whoever reads it sets the limit.
    ///
    /// Off Linux the look before the open and the open are two steps. A link
    /// swapped in between them is still never followed out of the directory,
    /// but may be followed within it; a device swapped in between is opened
    /// without blocking, and refused. Windows does not tell how many names a
    /// file has, so [`Links::Single`] is not enforced there.
    ///
    /// # Errors
    /// See [`Fault`]. Nothing but an ordinary file is ever read.
    pub fn file(&self, relative: &str, links: Links) -> Result<(File, u64), Fault> {
        check_read_path(relative)?;
        self.inner.file(relative, links)
    }

    /// Everything beneath, ordered by the bytes of its path. Links are not
    /// followed and nothing but directories is opened. Directories are not
    /// reported, though they count as entries; one that is removed or replaced
    /// meanwhile is reported as what it has become, or not at all.
    ///
    /// # Errors
    /// [`Fault::TooMany`] as soon as a limit is passed; [`Fault::Io`] where a
    /// directory cannot be read.
    pub fn walk(&self, limits: &WalkLimits) -> Result<Vec<Found>, Fault> {
        let mut found = self.inner.walk(limits)?;
        found.sort_unstable_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        Ok(found)
    }
}

/// Whether a file may have names elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Links {
    /// One name only: a second one may lie outside the directory, where
    /// somebody else writes to the same bytes.
    #[default]
    Single,
    /// Any number. Snapshot and backup tools make hard links of honest files.
    Any,
}

/// How much of a directory is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkLimits {
    /// Entries, directories included.
    pub entries: usize,
    /// Components in the longest path.
    pub levels: usize,
}

impl Default for WalkLimits {
    fn default() -> Self {
        Self { entries: 100_000, levels: names::LEVELS_MAX }
    }
}

/// Something beneath a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Relative, `/` between components. A name that is not Unicode is shown
    /// with replacement characters, and cannot be opened by it.
    pub path: String,
    /// What it is.
    pub kind: FoundKind,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundKind {
    /// An ordinary file.
    File,
    /// Anything else, by name: `symbolic link`, `FIFO`, `socket`,
    /// `character device`, `block device`, `unknown kind of file`.
    Special(&'static str),
}

/// Why a file was not opened. Except for [`Fault::Io`] and the limits these are
/// facts about what lies there.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// There is nothing at that path.
    #[error("not found")]
    NotFound,
    /// The path could leave the directory, or means different things on
    /// different machines.
    #[error("unsafe path: {0}")]
    UnsafePath(&'static str),
    /// It is no ordinary file, or lies behind a link.
    #[error("not an ordinary file: {0}")]
    NotAFile(&'static str),
    /// The same file has other names, perhaps outside the directory.
    #[error("hard link: the file has {links} names")]
    HardLink {
        /// Names of the file.
        links: u64,
    },
    /// The directory holds more than the limits allow.
    #[error("more than {limit} {what}")]
    TooMany {
        /// The limit.
        limit: usize,
        /// `entries` or `levels`.
        what: &'static str,
    },
    /// The medium failed, which says nothing about the file.
    #[error("{0}")]
    Io(#[from] io::Error),
}

const SYMBOLIC_LINK: &str = "symbolic link";
const BEHIND_A_LINK: &str = "behind a symbolic link";
const DIRECTORY: &str = "directory";
const UNKNOWN_KIND: &str = "unknown kind of file";

/// The entries seen so far, checked against the limits.
struct Tally<'a> {
    limits: &'a WalkLimits,
    entries: usize,
}

impl Tally<'_> {
    /// Counts one entry whose path has `levels` components.
    fn count(&mut self, levels: usize) -> Result<(), Fault> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Fault::TooMany { limit: self.limits.entries, what: "entries" });
        }
        if levels > self.limits.levels {
            return Err(Fault::TooMany { limit: self.limits.levels, what: "levels" });
        }
        Ok(())
    }
}
