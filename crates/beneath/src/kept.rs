//! How files of our own are made, and made to stay.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// The directory that a path names something in.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the name of a new file as durable as what is in it.
///
/// # Errors
/// As [`sync_directory`].
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    sync_directory(directory_of(path))
}

/// Makes the names in a directory durable. Off Unix there is no such call, and
/// some network file systems refuse it: there is nothing more to be done there.
///
/// # Errors
/// The directory's.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    match File::open(path)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        done => done,
    }
}

/// A file that is made by these options is its owner's alone, where the system
/// knows owners.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}
