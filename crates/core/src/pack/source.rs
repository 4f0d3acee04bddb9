//! How packs come in and go out: two small interfaces that `storage` implements.

use std::io::{self, Read, Write};

/// A stored pack, pulled piece by piece. Nothing in it is trusted.
pub trait PackReader: Sync {
    /// Everything that is stored, whether the manifest names it or not, in any
    /// order. Directories are not listed; links and special files are, without
    /// being opened.
    ///
    /// # Errors
    /// See [`ReadFault`].
    fn list(&self) -> Result<Vec<Listed>, ReadFault>;

    /// Opens the file at `path` (relative, `/` between components) for at most
    /// `bytes_max` bytes. Reading one byte more fails with
    /// [`io::ErrorKind::FileTooLarge`].
    ///
    /// # Errors
    /// See [`ReadFault`].
    fn open(&self, path: &str, bytes_max: u64) -> Result<Box<dyn Read + '_>, ReadFault>;
}

/// Something found in a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Relative, `/` between components. A name that is not UTF-8 is shown with
    /// replacement characters and so matches nothing in a manifest.
    pub path: String,
    /// What it is.
    pub kind: ListedKind,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedKind {
    /// An ordinary file.
    File,
    /// Anything else, by name: `symbolic link`, `FIFO`, `socket`,
    /// `character device`, `block device`.
    Special(&'static str),
}

/// Why a piece of a pack could not be had. Except for [`ReadFault::Io`] and the
/// limits these are facts about the pack.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// There is nothing at that path.
    #[error("not found")]
    NotFound,
    /// The path could leave the pack, or means different things on different
    /// machines.
    #[error("unsafe path: {0}")]
    UnsafePath(&'static str),
    /// It is no ordinary file, or lies behind a link.
    #[error("not an ordinary file: {0}")]
    NotAFile(&'static str),
    /// The same file has other names, perhaps outside the pack.
    #[error("hard link: the file has {links} names")]
    HardLink {
        /// Names of the file.
        links: u64,
    },
    /// It is larger than asked for.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// There is more in the pack than a verifier will walk through.
    #[error("more than {limit} {what}")]
    TooMany {
        /// The limit.
        limit: usize,
        /// `entries` or `levels`.
        what: &'static str,
    },
    /// The pack lies in an archive that sealing does not write.
    #[error("not a sealed archive: {problem} (byte {offset})")]
    Archive {
        /// The rule that is broken.
        problem: String,
        /// Where, in bytes from the beginning of the archive.
        offset: u64,
    },
    /// The medium failed, which says nothing about the pack.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Where a pack is written, file by file; the manifest comes last.
pub trait PackSink {
    /// Stores the file at `path` with whatever `content` writes. The sink owns
    /// buffering and durability.
    ///
    /// # Errors
    /// The sink's or the content's. The file must then not be published.
    fn put(&mut self, path: &str, content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()>;
}
