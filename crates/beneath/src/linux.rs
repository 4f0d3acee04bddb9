//! Linux: the kernel resolves, under `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::{BEHIND_A_LINK, DIRECTORY, Fault, Found, FoundKind, Links, SYMBOLIC_LINK, Tally, UNKNOWN_KIND, WalkLimits};

/// Names the file without opening it: no driver runs, no pipe waits.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A directory to open files in.
const ENTER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const LIST: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

#[derive(Debug)]
pub(crate) struct Inner {
    directory: Arc<OwnedFd>,
    resolve: Resolve,
    /// The directory of the file opened last. Most files of a pack lie in one,
    /// and need not be looked for from the root each time.
    parent: Mutex<Option<(PathBuf, Arc<OwnedFd>)>>,
}

/// How a path beneath the directory is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolve {
    /// `openat2`.
    Kernel,
    /// One component after the other, each of them not a link: for kernels
    /// older than 5.6, and containers whose filter forbids `openat2`.
    Stepwise,
}

impl Inner {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        static KERNEL: OnceLock<Resolve> = OnceLock::new();
        let resolve = *KERNEL.get_or_init(|| match open_kernel(directory.as_fd(), Path::new("."), LOOK) {
            Err(Errno::NOSYS | Errno::PERM) => Resolve::Stepwise,
            _ => Resolve::Kernel,
        });
        Ok(Self { directory: Arc::new(directory), resolve, parent: Mutex::new(None) })
    }

    #[cfg(test)]
    pub(crate) fn with(self, resolve: Resolve) -> Self {
        Self { resolve, ..self }
    }

    /// Looks before it opens, because opening a device can already do something
    /// (a watchdog starts to count, a tape rewinds), and looks again at what it
    /// opened, because the first look may be out of date. Opening the looked-at
    /// file through `/proc/self/fd` would save the second look but needs
    /// `/proc`, and a magic link.
    pub(crate) fn file(&self, relative: &str, links: Links) -> Result<(File, u64), Fault> {
        let (directory, name) = relative.rsplit_once('/').unwrap_or((".", relative));
        let directory = self.parent(Path::new(directory))?;
        // One component, and not a link: there is nothing to be led astray by.
        let seen = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fault)?;
        ordinary(&seen, links)?;
        let opened = rustix::fs::openat(&directory, name, READ, Mode::empty()).map_err(fault)?;
        let size = ordinary(&rustix::fs::fstat(&opened).map_err(io::Error::from)?, links)?;
        Ok((File::from(opened), size))
    }

    fn parent(&self, path: &Path) -> Result<Arc<OwnedFd>, Fault> {
        if path == Path::new(".") {
            return Ok(Arc::clone(&self.directory));
        }
        let mut parent = self.parent.lock().unwrap_or_else(PoisonError::into_inner);
        match &*parent {
            Some((known, directory)) if known == path => Ok(Arc::clone(directory)),
            _ => {
                let entered = self.open_beneath(path, ENTER).map_err(|fault| match fault {
                    Fault::NotAFile(_) => Fault::NotAFile(BEHIND_A_LINK),
                    fault => fault,
                });
                let directory = Arc::new(entered?);
                *parent = Some((path.to_owned(), Arc::clone(&directory)));
                Ok(directory)
            }
        }
    }

    pub(crate) fn walk(&self, limits: &WalkLimits) -> Result<Vec<Found>, Fault> {
        let mut found = Vec::new();
        let mut tally = Tally { limits, entries: 0 };
        let mut pending = vec![(PathBuf::from("."), 0)];
        while let Some((path, levels)) = pending.pop() {
            let directory = match self.open_directory(&path) {
                Ok(directory) => directory,
                Err(Fault::NotFound) if levels > 0 => continue,
                Err(Fault::NotAFile(kind)) => {
                    found.push(entry(&path, FoundKind::Special(kind)));
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            let mut entries = Dir::new(directory).map_err(io::Error::from)?;
            while let Some(item) = entries.read() {
                let item = item.map_err(io::Error::from)?;
                let name = item.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                tally.count(levels + 1)?;
                let kind = match item.file_type() {
                    FileType::Unknown => {
                        let directory = entries.fd().map_err(io::Error::from)?;
                        match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                            Ok(stat) => file_type(&stat),
                            Err(Errno::NOENT) => continue,
                            Err(errno) => return Err(fault(errno)),
                        }
                    }
                    kind => kind,
                };
                let name = OsStr::from_bytes(name.to_bytes());
                let path = if levels == 0 { PathBuf::from(name) } else { path.join(name) };
                match kind {
                    FileType::Directory => pending.push((path, levels + 1)),
                    FileType::RegularFile => found.push(entry(&path, FoundKind::File)),
                    special => found.push(entry(&path, FoundKind::Special(kind_name(special)))),
                }
            }
        }
        Ok(found)
    }

    fn open_directory(&self, path: &Path) -> Result<OwnedFd, Fault> {
        self.open_beneath(path, LIST).map_err(|fault| match fault {
            // Not a directory any more.
            Fault::NotFound | Fault::NotAFile(_) => {
                match self.open_beneath(path, LOOK).map(|seen| rustix::fs::fstat(&seen)) {
                    Ok(Ok(stat)) => Fault::NotAFile(kind_name(file_type(&stat))),
                    Ok(Err(errno)) => Fault::Io(errno.into()),
                    Err(fault) => fault,
                }
            }
            fault => fault,
        })
    }

    fn open_beneath(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Fault> {
        if self.resolve == Resolve::Kernel {
            match open_kernel(self.directory.as_fd(), path, flags) {
                Ok(opened) => return Ok(opened),
                // A rename elsewhere disturbed it.
                Err(Errno::AGAIN) => {}
                Err(errno) => return Err(fault(errno)),
            }
        }
        open_stepwise(self.directory.as_fd(), path, flags)
    }
}

/// Not `NO_XDEV`: a pack may lie on a bind mount.
fn open_kernel(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), rules)
}

fn open_stepwise(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Fault> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at: Option<OwnedFd> = None;
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let here = at.as_ref().map_or(root, AsFd::as_fd);
        let last = components.peek().is_none();
        let flags = if last { flags | OFlags::NOFOLLOW } else { step };
        match rustix::fs::openat(here, component.as_os_str(), flags, Mode::empty()) {
            Ok(opened) => at = Some(opened),
            Err(Errno::NOTDIR) if is_link(here, component.as_os_str()) => {
                return Err(Fault::NotAFile(if last { SYMBOLIC_LINK } else { BEHIND_A_LINK }));
            }
            Err(errno) => return Err(fault(errno)),
        }
    }
    at.ok_or(Fault::UnsafePath("it is empty"))
}

fn is_link(directory: BorrowedFd<'_>, name: &OsStr) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| file_type(&stat) == FileType::Symlink)
}

/// The size of an ordinary file.
fn ordinary(stat: &Stat, links: Links) -> Result<u64, Fault> {
    let kind = file_type(stat);
    if kind != FileType::RegularFile {
        return Err(Fault::NotAFile(kind_name(kind)));
    }
    #[allow(clippy::useless_conversion, reason = "32 bits wide on some processors")]
    let names = u64::from(stat.st_nlink);
    // None is a file that was just removed: nobody else can reach it.
    if links == Links::Single && names > 1 {
        return Err(Fault::HardLink { links: names });
    }
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => DIRECTORY,
        FileType::Symlink => SYMBOLIC_LINK,
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Unknown => UNKNOWN_KIND,
    }
}

fn entry(path: &Path, kind: FoundKind) -> Found {
    Found { path: path.to_string_lossy().into_owned(), kind }
}

fn fault(errno: Errno) -> Fault {
    match errno {
        // A component that is no directory: nothing lies beneath it.
        Errno::NOENT | Errno::NOTDIR => Fault::NotFound,
        Errno::LOOP => Fault::NotAFile(BEHIND_A_LINK),
        Errno::NAMETOOLONG => Fault::UnsafePath("longer than this file system allows"),
        Errno::XDEV => Fault::UnsafePath("it leads out of the directory"),
        errno => Fault::Io(errno.into()),
    }
}
