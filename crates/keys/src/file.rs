use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use zeroize::Zeroizing;

use crate::{KeyError, SecretKey};

/// Bytes of a key file: more than any encoding of a key needs.
const FILE_BYTES_MAX: usize = 16 * 1024;

/// What a private key is encrypted with. Overwritten when dropped.
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Reads the first line of a file that nobody else can read.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let bytes = read_private(path)?;
        let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(bytes.len());
        if end == 0 {
            return Err(KeyError::NotAKey { path: shown(path), problem: "its first line is empty" });
        }
        Ok(Self(Zeroizing::new(bytes[..end].to_vec())))
    }

    /// Asks at the terminal, without showing what is typed; `None` if there is
    /// no terminal, or nothing was typed.
    pub fn ask(prompt: &str) -> Option<Self> {
        #[cfg(unix)]
        {
            use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
            let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
            let before = tcgetattr(&terminal).ok()?;
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            terminal.write_all(prompt.as_bytes()).ok()?;
            tcsetattr(&terminal, OptionalActions::Flush, &silent).ok()?;
            let line = line(&mut terminal);
            tcsetattr(&terminal, OptionalActions::Flush, &before).ok();
            terminal.write_all(b"\n").ok();
            line.ok().filter(|line| !line.is_empty()).map(Self)
        }
        #[cfg(not(unix))]
        {
            let _ = prompt;
            None
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A line, byte by byte into room that never moves, so that no copy stays.
#[cfg(unix)]
fn line(terminal: &mut File) -> io::Result<Zeroizing<Vec<u8>>> {
    const ROOM: usize = 1024;
    let mut line = Zeroizing::new(Vec::with_capacity(ROOM));
    let mut byte = Zeroizing::new([0; 1]);
    while terminal.read(&mut *byte)? == 1 && !matches!(byte[0], b'\n' | b'\r') && line.len() < ROOM {
        line.push(byte[0]);
    }
    Ok(line)
}

pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The bytes of a file that only its owner can read, who is the user of this
/// process or the superuser.
pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let failed = |source| KeyError::Io { doing: "read", path: shown(path), source };
    let mut options = OpenOptions::new();
    options.read(true);
    // A FIFO must not make us wait for whoever writes to it.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let not = |problem| Err(KeyError::NotAKey { path: shown(path), problem });
    if !metadata.is_file() {
        return not("it is not an ordinary file");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { path: shown(path), mode });
        }
        if metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(KeyError::Foreign { path: shown(path) });
        }
    }
    let mut bytes = Zeroizing::new(vec![0; FILE_BYTES_MAX + 1]);
    let mut filled = 0;
    let mut file = file;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    if filled > FILE_BYTES_MAX {
        return not("it has more than 16384 bytes");
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Writes a new key to `path`, for its owner alone and encrypted if there is a
/// passphrase, and the public key beside it with the ending `.pub`, whose path
/// it answers. Neither may be there.
///
/// # Errors
/// See [`KeyError`]; there is no private key then that has no public one.
pub fn write_pair(
    key: &SecretKey,
    path: &Path,
    passphrase: Option<&Passphrase>,
) -> Result<std::path::PathBuf, KeyError> {
    let public_path = path.with_extension("pub");
    if public_path == path {
        return Err(KeyError::NotAKey { path: shown(path), problem: "this is the name of its public key" });
    }
    let pem = key.to_pem(passphrase)?;
    write_new(&public_path, crate::Signer::public(key).to_pem().as_bytes(), 0o644)?;
    if let Err(error) = write_new(path, pem.as_bytes(), 0o600) {
        std::fs::remove_file(&public_path).ok();
        return Err(error);
    }
    Ok(public_path)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let write = || {
        let mut file = options.open(path)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).inspect_err(|_| {
            std::fs::remove_file(path).ok();
        })
    };
    write().map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists { path: shown(path) },
        _ => KeyError::Io { doing: "write", path: shown(path), source },
    })
}
