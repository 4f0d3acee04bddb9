//! The renames a publisher needs, and what stands in where a file system or a
//! machine lacks them.

use std::fs;
use std::io;
use std::path::Path;

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Moves the directory `from` to `to` if nothing is there, in one step.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] or [`io::ErrorKind::DirectoryNotEmpty`] if
/// something is; then nothing was moved.
pub(super) fn no_replace(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(errno) if unsupported(errno) => {}
        done => return Ok(done?),
    }
    claim(from, to)
}

/// Moves the file `from` to `to` if nothing is there, in one step.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if something is; then nothing was moved.
pub(super) fn no_replace_file(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(errno) if unsupported(errno) => {}
        done => return Ok(done?),
    }
    link_and_remove(from, to)
}

/// A second name can be made only where there is nothing.
fn link_and_remove(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

/// An empty directory can be made by one only, and can be renamed onto.
fn claim(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    onto_empty(from, to).inspect_err(|_| {
        fs::remove_dir(to).ok();
    })
}

/// Moves the directory `from` to `to`, an empty directory: in one step on Unix,
/// in two elsewhere.
///
/// # Errors
/// [`io::ErrorKind::DirectoryNotEmpty`], [`io::ErrorKind::AlreadyExists`] or
/// [`io::ErrorKind::NotADirectory`] if it is none any more; then nothing was
/// moved.
pub(super) fn onto_empty(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(not(unix))]
    fs::remove_dir(to)?;
    fs::rename(from, to)
}

/// Why two directories did not change places.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// Everything is where it was.
    Unchanged(io::Error),
    /// The old directory is at `spare`, and something else took its place.
    Stranded(io::Error),
}

/// Puts the directory `from` at `to`, and answers where that which was at `to`
/// is now: at `from` if they changed places in one step, at `spare` if it took
/// two, between which there was nothing at `to`.
pub(super) fn exchange<'a>(from: &'a Path, to: &Path, spare: &'a Path) -> Result<&'a Path, ExchangeError> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    match renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
        Ok(()) => return Ok(from),
        Err(errno) if unsupported(errno) => {}
        Err(errno) => return Err(ExchangeError::Unchanged(errno.into())),
    }
    exchange_in_two(from, to, spare).map(|()| spare)
}

fn exchange_in_two(from: &Path, to: &Path, spare: &Path) -> Result<(), ExchangeError> {
    fs::rename(to, spare).map_err(ExchangeError::Unchanged)?;
    no_replace(from, to).map_err(|error| match no_replace(spare, to) {
        Ok(()) => ExchangeError::Unchanged(error),
        Err(_) => ExchangeError::Stranded(error),
    })
}

/// `EINVAL` is what a file system says that does not know the flag.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn unsupported(errno: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(errno, Errno::INVAL | Errno::NOSYS | Errno::NOTSUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(temp: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
        let (from, to) = (temp.join("from"), temp.join("to"));
        fs::create_dir(&from).unwrap();
        fs::write(from.join("new"), "").unwrap();
        (from, to)
    }

    #[test]
    fn a_claim_takes_only_a_free_place() {
        let temp = tempfile::tempdir().unwrap();
        let (from, to) = two(temp.path());
        fs::create_dir(&to).unwrap();
        fs::write(to.join("old"), "").unwrap();
        for rename in [claim, no_replace] {
            assert_eq!(rename(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert!(from.join("new").exists() && to.join("old").exists());
        }
        fs::remove_dir_all(&to).unwrap();
        claim(&from, &to).unwrap();
        assert!(!from.exists() && to.join("new").exists());
    }

    #[test]
    fn a_file_takes_only_a_free_place() {
        let temp = tempfile::tempdir().unwrap();
        let (from, to) = (temp.path().join("from"), temp.path().join("to"));
        for rename in [link_and_remove, no_replace_file] {
            fs::write(&from, "new").unwrap();
            fs::write(&to, "old").unwrap();
            assert_eq!(rename(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!((fs::read(&from).unwrap(), fs::read(&to).unwrap()), (b"new".into(), b"old".into()));
            fs::remove_file(&to).unwrap();
            rename(&from, &to).unwrap();
            assert!(!from.exists() && to.exists());
        }
    }

    #[test]
    fn an_exchange_in_two_steps_ends_like_one_in_one() {
        let temp = tempfile::tempdir().unwrap();
        let (from, to) = two(temp.path());
        fs::create_dir(&to).unwrap();
        fs::write(to.join("old"), "").unwrap();
        let spare = temp.path().join("spare");
        exchange_in_two(&from, &to, &spare).unwrap();
        assert!(spare.join("old").exists() && to.join("new").exists() && !from.exists());
    }

    #[test]
    fn an_exchange_that_fails_midway_is_undone() {
        let temp = tempfile::tempdir().unwrap();
        let (from, to) = (temp.path().join("nothing"), temp.path().join("to"));
        fs::create_dir(&to).unwrap();
        fs::write(to.join("old"), "").unwrap();
        let error = exchange_in_two(&from, &to, &temp.path().join("spare")).unwrap_err();
        assert!(matches!(error, ExchangeError::Unchanged(_)), "{error:?}");
        assert!(to.join("old").exists());
    }
}
