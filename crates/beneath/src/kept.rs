//! How files of our own are read, made, and made to stay.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;

/// A whole file of at most `limit` bytes, which its user chose: links are
/// followed.
///
/// # Errors
/// The system's, and [`io::ErrorKind::FileTooLarge`].
pub fn read_within(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

/// The same, of text.
///
/// # Errors
/// As [`read_within`], and [`io::ErrorKind::InvalidData`] if it is not UTF-8.
pub fn read_text_within(path: &Path, limit: u64) -> io::Result<String> {
    let text = String::from_utf8(read_within(path, limit)?);
    text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

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
