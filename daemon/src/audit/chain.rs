use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use runpack_beneath::{directory_of, private, sync_directory_of};
use runpack_core::canon::{Digest, Form, check, to_vec};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::event::Own;
use super::{OpenError, Rotation};

/// Bytes of one line. Ours are shorter: every text and payload in them has a
/// limit of its own.
pub(super) const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes at the end of a file in which its last line is looked for.
const TAIL_BYTES_MAX: u64 = 2 * LINE_BYTES_MAX as u64 + 2;

/// What ties a line to the one before.
#[derive(Debug, Deserialize)]
pub(super) struct Link {
    #[allow(dead_code, reason = "a line without an event is none of ours")]
    event: String,
    pub(super) previous: String,
    pub(super) seq: u64,
}

impl Link {
    /// What a line says of its place; without its end of line.
    pub(super) fn read(line: &[u8]) -> Result<Self, String> {
        match check(line) {
            // Serde would take an array, too.
            Ok(_) if !line.starts_with(b"{") => Err("no object".to_owned()),
            Ok(Form::Rfc8785) => serde_json::from_slice(line).map_err(|error| error.to_string()),
            Ok(Form::Legacy { offset }) => Err(format!("not canonical at byte {offset}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Where a chain ends: what the next line follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// The number of the newest line; 0 before the first.
    pub(super) seq: u64,
    /// Its digest.
    pub(super) last: Digest,
}

impl End {
    /// Before the first line.
    pub(super) fn nothing() -> Self {
        Self { seq: 0, last: Digest::from([0; 32]) }
    }

    /// After this line.
    pub(super) fn after(seq: u64, line: &[u8]) -> Self {
        Self { seq, last: Digest::of(line) }
    }

    /// The next line, without its end, and where the chain ends then.
    pub(super) fn link(&self, members: &Map<String, Value>) -> io::Result<(Vec<u8>, Self)> {
        let seq = self.seq + 1;
        let mut members = members.clone();
        members.insert("previous".to_owned(), self.last.to_string().into());
        members.insert("seq".to_owned(), seq.into());
        let line = to_vec(&members).map_err(io::Error::other)?;
        let end = Self::after(seq, &line);
        Ok((line, end))
    }
}

/// Where lines go.
#[derive(Debug)]
pub(super) enum Medium {
    Stderr,
    File(AuditFile),
}

impl Medium {
    /// Whether so many bytes more belong into the same file.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        match self {
            Self::Stderr => true,
            Self::File(AuditFile { rotation: None, .. }) => true,
            Self::File(AuditFile { rotation: Some(rotation), bytes: there, .. }) => {
                there.saturating_add(bytes as u64) <= rotation.bytes
            }
        }
    }

    /// Whether nothing is in the file.
    pub(super) fn is_new(&self) -> bool {
        matches!(self, Self::File(AuditFile { bytes: 0, .. }))
    }

    /// Adds whole lines. After an error none of them is in the file.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(lines),
            Self::File(file) => file.append(lines),
        }
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        match self {
            Self::Stderr => Ok(()),
            Self::File(file) => file.file.sync_data(),
        }
    }

    /// Begins another file. After an error the one that is open goes on, under
    /// whatever name.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        match self {
            Self::Stderr => Ok(()),
            Self::File(file) => file.rotate(),
        }
    }
}

/// A file that grows, and is put aside when it is large enough.
#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    file: File,
    /// Bytes up to the end of the newest whole line.
    bytes: u64,
    /// Something may stand behind those.
    torn: bool,
    rotation: Option<Rotation>,
    /// Whether anything is synced.
    durable: bool,
    /// Keeps others from writing another chain into the same file.
    lock: File,
}

impl Drop for AuditFile {
    fn drop(&mut self) {
        // Closing is not enough: a process that was forked and has not begun its
        // program yet holds the lock as well.
        let _ = self.lock.unlock();
    }
}

impl AuditFile {
    /// Opens the file, and makes it if there is none. Answers where its chain
    /// ends, and what has to be said of its last, torn line.
    pub(super) fn open(
        path: &Path,
        rotation: Option<Rotation>,
        durable: bool,
    ) -> Result<(Self, End, Option<Own>), OpenError> {
        let unusable = |error: io::Error| OpenError::Unusable { path: path.to_owned(), error };
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(OpenError::NoFile(path.to_owned()));
        }
        fs::create_dir_all(directory_of(path)).map_err(unusable)?;
        let lock = private(OpenOptions::new().create(true).write(true).truncate(false))
            .open(sibling(path, "-lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(OpenError::Held(path.to_owned())),
            Err(fs::TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let mut file = appending(path, false).map_err(unusable)?;
        let Tail { end, good, torn } = Tail::of(path, &mut file)?;
        let end = match end {
            Some(end) => end,
            // Put aside just before the process ended, or a new log.
            None => match rotated(path).map_err(unusable)?.first() {
                Some(newest) => {
                    let newest = numbered(path, *newest);
                    let mut file = File::open(&newest).map_err(unusable)?;
                    let tail = Tail::of(&newest, &mut file)?;
                    tail.end.filter(|_| tail.torn.is_empty()).ok_or(OpenError::Foreign(newest))?
                }
                None => End::nothing(),
            },
        };
        let kept = sibling(path, &format!(".torn-{}", end.seq + 1));
        put_aside(&kept, &torn).map_err(unusable)?;
        if durable {
            sync_directory_of(path).map_err(unusable)?;
        }
        if !torn.is_empty() {
            file.set_len(good).and_then(|()| file.sync_all()).map_err(unusable)?;
        }
        // It has the number of the line that says so: if it is there and the
        // line is not, the process ended in between.
        let recovered = match fs::read(&kept) {
            Ok(bytes) => Some(Own::AuditRecovered {
                bytes: bytes.len() as u64,
                kept: kept.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                sha256: Digest::of(&bytes).to_string(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unusable(error)),
        };
        let opened = Self { path: path.to_owned(), file, bytes: good, torn: false, rotation, durable, lock };
        Ok((opened, end, recovered))
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.bytes)?;
            self.torn = false;
        }
        let written = self.file.write_all(lines);
        if written.is_err() {
            self.torn = self.file.set_len(self.bytes).is_err();
            return written;
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Puts the file aside as `.1`, after what was `.1` became `.2`, and so on.
    fn rotate(&mut self) -> io::Result<()> {
        // Up to the first gap, which an attempt that failed may have left: what
        // is tried again must not push the oldest out again.
        let moved = (1..).zip(rotated(&self.path)?).take_while(|(place, number)| place == number);
        for (_, number) in moved.collect::<Vec<_>>().into_iter().rev() {
            fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1))?;
        }
        match fs::rename(&self.path, numbered(&self.path, 1)) {
            // An earlier attempt came as far as here.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        self.file = appending(&self.path, true)?;
        self.bytes = 0;
        let keep = self.rotation.map_or(u32::MAX, |rotation| rotation.keep.get());
        for number in rotated(&self.path)?.into_iter().filter(|number| *number > keep) {
            fs::remove_file(numbered(&self.path, number))?;
        }
        if self.durable { sync_directory_of(&self.path) } else { Ok(()) }
    }
}

/// How a file ends.
struct Tail {
    /// After its last whole line, if it has one.
    end: Option<End>,
    /// Bytes up to there.
    good: u64,
    /// What follows and is no line.
    torn: Vec<u8>,
}

impl Tail {
    fn of(path: &Path, file: &mut File) -> Result<Self, OpenError> {
        let unusable = |error: io::Error| OpenError::Unusable { path: path.to_owned(), error };
        let length = file.metadata().map_err(unusable)?.len();
        let start = length.saturating_sub(TAIL_BYTES_MAX);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(start)).map_err(unusable)?;
        file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes).map_err(unusable)?;
        let mut good = bytes.len();
        // What was not synced when the power went may be anything, also several
        // lines: the last one that is one of ours counts.
        while let Some(newline) = bytes[..good].iter().rposition(|&byte| byte == b'\n') {
            let before = bytes[..newline].iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
            let begin = before.or((start == 0).then_some(0));
            let Some(begin) = begin else { break };
            let line = &bytes[begin..newline];
            if let Ok(link) = Link::read(line) {
                let end = End::after(link.seq, line);
                let torn = bytes.split_off(newline + 1);
                return Ok(Self { end: Some(end), good: start + newline as u64 + 1, torn });
            }
            good = newline;
        }
        // Half of a first line, or a file of something else, which stays as it is.
        let first = start == 0 && !bytes.contains(&b'\n') && matches!(bytes.first(), None | Some(b'{' | 0));
        if first { Ok(Self { end: None, good: 0, torn: bytes }) } else { Err(OpenError::Foreign(path.to_owned())) }
    }
}

/// Keeps what is no line, in a file that may be there from an earlier attempt.
fn put_aside(kept: &Path, torn: &[u8]) -> io::Result<()> {
    if torn.is_empty() {
        return Ok(());
    }
    let mut file = private(OpenOptions::new().create(true).read(true).append(true)).open(kept)?;
    let mut there = Vec::new();
    file.read_to_end(&mut there)?;
    if !there.ends_with(torn) {
        file.write_all(torn)?;
    }
    file.sync_all()
}

/// The file and those put aside, oldest first.
///
/// # Errors
/// Its directory cannot be read.
pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let aside = rotated(path)?.into_iter().rev().map(|number| numbered(path, number));
    Ok(aside.chain(path.exists().then(|| path.to_owned())).collect())
}

/// The numbers of files put aside, newest first.
fn rotated(path: &Path) -> io::Result<Vec<u32>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory_of(path))? {
        let entry = entry?.file_name();
        let end = entry.to_str().and_then(|entry| entry.strip_prefix(&name)?.strip_prefix('.'));
        let number = end.and_then(|end| end.parse::<u32>().ok().filter(|number| number.to_string() == end));
        numbers.extend(number.filter(|number| *number > 0));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    sibling(path, &format!(".{number}"))
}

fn sibling(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn appending(path: &Path, new: bool) -> io::Result<File> {
    private(OpenOptions::new().read(true).append(true).create(!new).create_new(new)).open(path)
}
