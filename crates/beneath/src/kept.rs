//! How files of our own are made, and made to stay.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// The directory that a path names something in.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the name of a new file as durable as what is in it. Where directories
/// cannot be synced, as on Windows, this does nothing.
///
/// # Errors
/// The directory's.
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory_of(path))?.sync_all() } else { Ok(()) }
}

/// A file that is made by these options is its owner's alone, where the system
/// knows owners.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}
