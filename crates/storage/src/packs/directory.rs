//! Reads a pack from a directory.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use runpack_beneath::{Fault, FoundKind, Links, Root, WalkLimits};
use runpack_core::pack::{Listed, ListedKind, PackReader, ReadFault};

/// A pack in a directory. The directory stays open, so the pack remains the one
/// that was opened even if another is put in its place.
#[derive(Debug)]
pub struct DirectoryReader {
    root: Root,
    links: Links,
}

/// Why a directory or an archive was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenFault {
    /// There is nothing.
    #[error("`{}` not found", path.display())]
    NotFound {
        /// As given.
        path: PathBuf,
    },
    /// There is something else.
    #[error("`{}` is not a directory", path.display())]
    NotADirectory {
        /// As given.
        path: PathBuf,
    },
    /// Neither a directory nor an ordinary file.
    #[error("`{}` is not an ordinary file: {kind}", path.display())]
    NotAFile {
        /// As given.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// More would have to be brought here than is allowed.
    #[error("`{}`: {what} has more than {limit} bytes\nhint: raise the limit with --max-artifact-bytes", path.display())]
    TooLarge {
        /// As given.
        path: PathBuf,
        /// What is so large.
        what: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// The system did not let us.
    #[error("cannot open `{}`: {source}", path.display())]
    Io {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DirectoryReader {
    /// Opens the directory at `path`, which may be reached through links;
    /// nothing in the pack may be.
    ///
    /// # Errors
    /// See [`OpenFault`].
    pub fn open(path: &Path) -> Result<Self, OpenFault> {
        let root = Root::open(path).map_err(|source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::NotFound => OpenFault::NotFound { path },
                io::ErrorKind::NotADirectory => OpenFault::NotADirectory { path },
                _ => OpenFault::Io { path, source },
            }
        })?;
        Ok(Self { root, links: Links::default() })
    }

    /// Whether files with other names are read. They are not unless this says
    /// [`Links::Any`].
    #[must_use]
    pub fn links(self, links: Links) -> Self {
        Self { links, ..self }
    }
}

impl PackReader for DirectoryReader {
    fn list(&self) -> Result<Vec<Listed>, ReadFault> {
        let found = self.root.walk(&WalkLimits::default()).map_err(read_fault)?;
        let listed = found.into_iter().map(|found| {
            let kind = match found.kind {
                FoundKind::File => ListedKind::File,
                FoundKind::Special(name) => ListedKind::Special(name),
            };
            Listed { path: found.path, kind }
        });
        Ok(listed.collect())
    }

    /// What comes back is not buffered.
    fn open(&self, path: &str, bytes_max: u64) -> Result<Box<dyn Read + '_>, ReadFault> {
        let (file, size) = self.root.file(path, self.links).map_err(read_fault)?;
        if size > bytes_max {
            return Err(ReadFault::TooLarge { limit: bytes_max });
        }
        Ok(Box::new(Bounded { file, left: bytes_max }))
    }
}

fn read_fault(fault: Fault) -> ReadFault {
    match fault {
        Fault::NotFound => ReadFault::NotFound,
        Fault::UnsafePath(rule) => ReadFault::UnsafePath(rule),
        Fault::NotAFile(kind) => ReadFault::NotAFile(kind),
        Fault::HardLink { links } => ReadFault::HardLink { links },
        Fault::TooMany { limit, what } => ReadFault::TooMany { limit, what },
        Fault::Io(error) => ReadFault::Io(error),
    }
}

/// A file may grow after its size was looked at, and `/proc` files have none.
struct Bounded {
    file: File,
    left: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            return match self.file.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(io::ErrorKind::FileTooLarge.into()),
            };
        }
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.read(&mut buffer[..wanted])?;
        self.left -= read as u64;
        Ok(read)
    }
}
