//! A pack in one file: POSIX ustar, and of all its spellings only one.
//!
//! No digest covers what an archive says beside the files in it: owners, modes,
//! times, links, what stands between and after them. So a header is read by
//! writing it again and comparing, and what an archive may hold is one list of
//! rules for reading and writing.

mod read;
mod seal;

use std::ops::Range;

use runpack_beneath::{Fault, check_write_path};
use runpack_core::pack::layout::{ARTIFACTS, MANIFEST_BYTES_MAX, MANIFEST_NAME};

pub use read::ArchiveReader;
pub use seal::{SealError, Sealed, Verified, seal, seal_to};

/// What the name of an archive ends with.
pub const ARCHIVE_ENDING: &str = ".runpack.tar";

/// Everything in an archive is whole blocks.
const BLOCK: usize = 512;

type Block = [u8; BLOCK];

/// Bytes of the largest file: what eleven octal digits can state.
const FILE_BYTES_MAX: u64 = (1 << 33) - 1;

/// A v1 pack has nine files; the rest is room for what is not listed, so that
/// it can be named.
const ENTRIES_MAX: usize = 64;

const NAME: Range<usize> = 0..100;
const SIZE: Range<usize> = 124..136;
const CHECKSUM: Range<usize> = 148..156;
const KIND: Range<usize> = 156..157;
const MAGIC: Range<usize> = 257..263;

/// The fields of a header, and what is in each whatever the file. These are
/// what `tar --format=ustar` writes for files of nobody at the beginning of
/// time.
const FIELDS: [(&str, Range<usize>, &[u8]); 17] = [
    ("name", NAME, b""),
    ("mode", 100..108, b"0000644\0"),
    ("owner", 108..116, b"0000000\0"),
    ("group", 116..124, b"0000000\0"),
    ("size", SIZE, b""),
    ("time", 136..148, b"00000000000\0"),
    ("kind", KIND, b"0"),
    ("link", 157..257, b""),
    ("magic", MAGIC, b"ustar\0"),
    ("version", 263..265, b"00"),
    ("owner's name", 265..297, b""),
    ("group's name", 297..329, b""),
    ("device's major number", 329..337, b"0000000\0"),
    ("device's minor number", 337..345, b"0000000\0"),
    ("prefix", 345..500, b""),
    ("rest", 500..512, b""),
    // Last, since it differs with any other.
    ("checksum", CHECKSUM, b"        "),
];

/// The header of a file. `name` and `size` have passed [`Entries::add`].
fn header(name: &str, size: u64) -> Block {
    let mut block = [0; BLOCK];
    for (_, place, content) in &FIELDS {
        block[place.start..][..content.len()].copy_from_slice(content);
    }
    block[NAME][..name.len()].copy_from_slice(name.as_bytes());
    block[SIZE].copy_from_slice(format!("{size:011o}\0").as_bytes());
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Zeros between a file of `size` bytes and the next block.
fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    /// Where its bytes begin.
    offset: u64,
    size: u64,
}

/// The files of an archive so far.
#[derive(Debug, Default)]
struct Entries(Vec<Entry>);

impl Entries {
    /// Adds a file, if an archive may hold it, and there.
    ///
    /// # Errors
    /// The rule that is broken, as a sentence.
    fn add(&mut self, name: &str, size: u64, offset: u64) -> Result<(), String> {
        let rank = |name: &str| ARTIFACTS.iter().position(|artifact| artifact.path == name);
        if let Err(fault) = check_write_path(name) {
            let rule = if let Fault::UnsafePath(rule) = fault { rule } else { "unsafe" };
            return Err(format!("a file cannot be called `{name}`: {rule}"));
        }
        if name.len() > NAME.len() {
            return Err(format!("`{name}` is longer than {} bytes", NAME.len()));
        }
        if self.0.len() == ENTRIES_MAX {
            return Err(format!("there are more than {ENTRIES_MAX} files"));
        }
        if self.0.is_empty() && name != MANIFEST_NAME {
            return Err(format!("`{name}` comes before the manifest"));
        }
        if self.0.iter().any(|entry| entry.name == name) {
            return Err(format!("`{name}` is there twice"));
        }
        let last = self.0.iter().filter_map(|entry| rank(&entry.name)).next_back();
        if rank(name).is_some_and(|rank| Some(rank) < last) {
            return Err(format!("`{name}` is not in the order of the format"));
        }
        let limit = if name == MANIFEST_NAME { MANIFEST_BYTES_MAX } else { FILE_BYTES_MAX };
        if size > limit {
            return Err(format!("`{name}` has {size} bytes, and at most {limit} are possible"));
        }
        self.0.push(Entry { name: name.to_owned(), offset, size });
        Ok(())
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
