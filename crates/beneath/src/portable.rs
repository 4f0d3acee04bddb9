//! Elsewhere than Linux: cap-std resolves in user space.
//!
//! It keeps links from leading outside, even when they are swapped in while it
//! looks, but follows those that stay inside, and opens pipes and devices. So
//! each component is looked at first, and what was opened is looked at again;
//! between the two a pipe can be swapped in, which `O_NONBLOCK` makes harmless
//! on Unix. Tests run this module on Linux too.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, FileType, Metadata, OpenOptions};
#[cfg(unix)]
use cap_std::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use crate::{BEHIND_A_LINK, DIRECTORY, Fault, Found, FoundKind, Links, SYMBOLIC_LINK, Tally, UNKNOWN_KIND, WalkLimits};

#[derive(Debug)]
pub(crate) struct Inner {
    directory: Dir,
}

impl Inner {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { directory: Dir::open_ambient_dir(path, ambient_authority())? })
    }

    pub(crate) fn file(&self, relative: &str, links: Links) -> Result<(File, u64), Fault> {
        let mut prefix = PathBuf::new();
        let mut components = relative.split('/').peekable();
        while let Some(component) = components.next() {
            prefix.push(component);
            let seen = self.directory.symlink_metadata(&prefix).map_err(fault)?;
            if components.peek().is_none() {
                check_file(&seen, links)?;
            } else if seen.is_symlink() {
                return Err(Fault::NotAFile(BEHIND_A_LINK));
            } else if !seen.is_dir() {
                return Err(Fault::NotFound);
            }
        }
        let opened = self.directory.open_with(&prefix, &reading()).map_err(fault)?;
        let seen = opened.metadata().map_err(fault)?;
        check_file(&seen, links)?;
        Ok((opened.into_std(), seen.len()))
    }

    pub(crate) fn walk(&self, limits: &WalkLimits) -> Result<Vec<Found>, Fault> {
        let mut found = Vec::new();
        let mut tally = Tally { limits, entries: 0 };
        let mut pending = vec![(PathBuf::new(), 0)];
        while let Some((path, levels)) = pending.pop() {
            let entries = if levels == 0 {
                self.directory.entries()
            } else {
                match self.directory.symlink_metadata(&path) {
                    Ok(seen) if seen.is_dir() => self.directory.read_dir(&path),
                    Ok(seen) => {
                        found.push(entry(&path, found_kind(seen.file_type())));
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(Fault::Io(error)),
                }
            };
            for item in entries? {
                let item = item?;
                tally.count(levels + 1)?;
                let path = path.join(item.file_name());
                let kind = item.file_type()?;
                if kind.is_dir() {
                    pending.push((path, levels + 1));
                } else {
                    found.push(entry(&path, found_kind(kind)));
                }
            }
        }
        Ok(found)
    }
}

fn reading() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    options
}

fn check_file(seen: &Metadata, links: Links) -> Result<(), Fault> {
    if !seen.is_file() {
        return Err(Fault::NotAFile(kind_name(seen.file_type())));
    }
    #[cfg(unix)]
    if links == Links::Single && seen.nlink() > 1 {
        return Err(Fault::HardLink { links: seen.nlink() });
    }
    #[cfg(not(unix))]
    let _ = links;
    Ok(())
}

fn found_kind(kind: FileType) -> FoundKind {
    if kind.is_file() { FoundKind::File } else { FoundKind::Special(kind_name(kind)) }
}

fn kind_name(kind: FileType) -> &'static str {
    if kind.is_symlink() {
        return SYMBOLIC_LINK;
    }
    if kind.is_dir() {
        return DIRECTORY;
    }
    #[cfg(unix)]
    {
        let kinds = [
            (kind.is_fifo(), "FIFO"),
            (kind.is_socket(), "socket"),
            (kind.is_char_device(), "character device"),
            (kind.is_block_device(), "block device"),
        ];
        if let Some((_, name)) = kinds.into_iter().find(|(is, _)| *is) {
            return name;
        }
    }
    UNKNOWN_KIND
}

/// `/` between components on every machine.
fn entry(path: &Path, kind: FoundKind) -> Found {
    let components: Vec<_> = path.iter().map(|component| component.to_string_lossy()).collect();
    Found { path: components.join("/"), kind }
}

fn fault(error: io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Fault::NotFound,
        io::ErrorKind::InvalidFilename => Fault::UnsafePath("longer than this file system allows"),
        _ => Fault::Io(error),
    }
}
