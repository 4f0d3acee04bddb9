use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use runpack_beneath::{Fault, Links, Root, directory_of};
use runpack_core::pack::layout::{ARTIFACTS, ATTESTATIONS_MAX, MANIFEST_BYTES_MAX, MANIFEST_NAME};
use runpack_core::pack::{Listed, ListedKind, PackReader, ReadFault};
use runpack_core::trust::ENVELOPE_BYTES_MAX;

use super::{BLOCK, Block, ENTRIES_MAX, Entries, Entry, FIELDS, KIND, MAGIC, NAME, SIZE, header, padding};
use crate::packs::OpenFault;

/// An archive up to this size is read in one go and kept: most are small, and
/// there are many.
const SMALL: u64 = 1024 * 1024;

/// A pack in an archive. Nothing is unpacked: its files are read where they lie.
///
/// That the archive is malformed is known once it is open, and said by whatever
/// is asked of it: it is a fact about the pack.
#[derive(Debug)]
pub struct ArchiveReader {
    bytes: Bytes,
    entries: Result<Vec<Entry>, Malformed>,
}

/// What is wrong with an archive, and where.
#[derive(Debug, Clone)]
struct Malformed {
    problem: String,
    offset: u64,
}

impl From<&Malformed> for ReadFault {
    fn from(malformed: &Malformed) -> Self {
        Self::Archive { problem: malformed.problem.clone(), offset: malformed.offset }
    }
}

impl ArchiveReader {
    /// Opens the archive at `path`, an ordinary file, which may be reached
    /// through links and have other names: it is the user's word.
    ///
    /// # Errors
    /// See [`OpenFault`].
    pub fn open(path: &Path) -> Result<Self, OpenFault> {
        let (file, size) = open_file(path)?;
        let failed = |source| OpenFault::Io { path: path.to_owned(), source };
        let (bytes, size) = if size <= SMALL {
            // With one call, which `read_to_end` would need several for.
            let mut bytes = vec![0; size as usize];
            let read = fill(&mut &file, &mut bytes).map_err(failed)?;
            bytes.truncate(read);
            (Bytes::Memory(bytes), read as u64)
        } else {
            (Bytes::File(file), size)
        };
        let any = Room { artifact: u64::MAX, archive: u64::MAX };
        match walk(&mut Stored { bytes: &bytes, at: 0, size }, &any) {
            Ok(entries) => Ok(Self { bytes, entries: Ok(entries) }),
            Err(Stop::Malformed(malformed)) => Ok(Self { bytes, entries: Err(malformed) }),
            Err(Stop::Io(source)) => Err(failed(source)),
            Err(Stop::TooLarge { what, limit }) => Err(OpenFault::TooLarge { path: path.to_owned(), what, limit }),
        }
    }

    /// Reads an archive that can be read only once, such as standard input, and
    /// keeps it in a temporary file without a name. Each header is judged before
    /// what follows it is read. No file may have more than `artifact_bytes_max`
    /// bytes, nor the archive more than a pack whose files are all that large.
    ///
    /// # Errors
    /// See [`OpenFault`]; [`OpenFault::TooLarge`] as soon as a header says so.
    pub fn spool(input: impl Read, artifact_bytes_max: u64) -> Result<Self, OpenFault> {
        let artifacts = artifact_bytes_max.saturating_mul(ARTIFACTS.len() as u64);
        let attestations = ATTESTATIONS_MAX as u64 * ENVELOPE_BYTES_MAX;
        let around = MANIFEST_BYTES_MAX + attestations + 2 * (BLOCK * ENTRIES_MAX) as u64;
        let room = Room { artifact: artifact_bytes_max, archive: artifacts.saturating_add(around) };
        let mut spool = Spool { input, kept: Vec::new(), file: None };
        let path = || PathBuf::from("-");
        let entries = match walk(&mut spool, &room) {
            Ok(entries) => Ok(entries),
            Err(Stop::Malformed(malformed)) => Err(malformed),
            Err(Stop::Io(source)) => return Err(OpenFault::Io { path: path(), source }),
            Err(Stop::TooLarge { what, limit }) => return Err(OpenFault::TooLarge { path: path(), what, limit }),
        };
        let bytes = spool.file.map_or(Bytes::Memory(spool.kept), Bytes::File);
        Ok(Self { bytes, entries })
    }

    fn entries(&self) -> Result<&[Entry], ReadFault> {
        self.entries.as_deref().map_err(ReadFault::from)
    }
}

impl PackReader for ArchiveReader {
    fn list(&self) -> Result<Vec<Listed>, ReadFault> {
        let listed = |entry: &Entry| Listed { path: entry.name.clone(), kind: ListedKind::File };
        Ok(self.entries()?.iter().map(listed).collect())
    }

    /// What comes back is not buffered.
    fn open(&self, path: &str, bytes_max: u64) -> Result<Box<dyn Read + '_>, ReadFault> {
        let entry = self.entries()?.iter().find(|entry| entry.name == path).ok_or(ReadFault::NotFound)?;
        if entry.size > bytes_max {
            return Err(ReadFault::TooLarge { limit: bytes_max });
        }
        Ok(match &self.bytes {
            Bytes::Memory(bytes) => Box::new(&bytes[entry.offset as usize..][..entry.size as usize]),
            Bytes::File(file) => Box::new(Part { file, at: entry.offset, left: entry.size }),
        })
    }
}

fn open_file(path: &Path) -> Result<(File, u64), OpenFault> {
    let failed = |source: io::Error| {
        let path = path.to_owned();
        let absent = matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        if absent { OpenFault::NotFound { path } } else { OpenFault::Io { path, source } }
    };
    let open = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        Root::open(directory_of(path)).map_err(Fault::Io)?.file(&name, Links::Any)
    };
    let opened = match open(path) {
        // Perhaps a link, and the user may name one.
        Err(Fault::NotAFile(_)) => open(&fs::canonicalize(path).map_err(failed)?),
        opened => opened,
    };
    opened.map_err(|fault| match fault {
        Fault::NotFound => OpenFault::NotFound { path: path.to_owned() },
        Fault::NotAFile(kind) => OpenFault::NotAFile { path: path.to_owned(), kind },
        Fault::Io(source) => failed(source),
        fault => failed(io::Error::new(io::ErrorKind::InvalidInput, fault)),
    })
}

/// How much is read.
struct Room {
    /// Bytes of one artifact.
    artifact: u64,
    /// Bytes of the archive.
    archive: u64,
}

/// Why an archive was not walked to its end.
enum Stop {
    Malformed(Malformed),
    TooLarge { what: String, limit: u64 },
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn malformed<T>(offset: u64, problem: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Malformed(Malformed { problem: problem.into(), offset }))
}

/// Walks an archive from header to header, to the very end of it.
fn walk(stream: &mut impl Stream, room: &Room) -> Result<Vec<Entry>, Stop> {
    let mut entries = Entries::default();
    let mut at = 0;
    loop {
        let block = next_block(stream, at)?;
        if block == [0; BLOCK] {
            break;
        }
        let (name, size) = name_and_size(&block, at)?;
        let start = at + BLOCK as u64;
        entries.add(&name, size, start).or_else(|problem| malformed(at, problem))?;
        let end = start + size;
        if size > room.artifact && name != MANIFEST_NAME {
            return Err(Stop::TooLarge { what: format!("`{name}`"), limit: room.artifact });
        }
        if end > room.archive {
            return Err(Stop::TooLarge { what: "the archive".to_owned(), limit: room.archive });
        }
        let passed = stream.pass(size)?;
        if passed < size {
            let problem = format!("the archive ends inside `{name}`, which would have {size} bytes");
            return malformed(start + passed, problem);
        }
        let mut rest = [0; BLOCK];
        let rest = &mut rest[..padding(size)];
        let filled = stream.fill(rest)?;
        if let Some(position) = rest.iter().position(|byte| *byte != 0) {
            return malformed(end + position as u64, format!("what pads `{name}` is not zero"));
        }
        if filled < rest.len() {
            return malformed(end + filled as u64, format!("the archive ends in what pads `{name}`"));
        }
        at = end + rest.len() as u64;
    }
    if entries.0.is_empty() {
        return malformed(0, "there is nothing in the archive");
    }
    at += BLOCK as u64;
    if next_block(stream, at)? != [0; BLOCK] {
        return malformed(at, "the archive does not end with two blocks of zeros");
    }
    at += BLOCK as u64;
    match stream.fill(&mut [0])? {
        0 => Ok(entries.0),
        _ => malformed(at, "something follows the end of the archive"),
    }
}

fn next_block(stream: &mut impl Stream, at: u64) -> Result<Block, Stop> {
    let mut block = [0; BLOCK];
    let filled = stream.fill(&mut block)?;
    if at == 0
        && let Some(kind) = compressed(&block[..filled])
    {
        return malformed(0, format!("{kind}-compressed, and a sealed pack is not compressed"));
    }
    if filled < BLOCK {
        return malformed(at + filled as u64, "the archive ends where a file, or two blocks of zeros, should follow");
    }
    Ok(block)
}

fn compressed(start: &[u8]) -> Option<&'static str> {
    let magics: [(&[u8], _); 7] = [
        (b"\x1f\x8b", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh", "bzip2"),
        (b"PK", "zip"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
    ];
    magics.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, kind)| *kind)
}

/// Reads a header: takes name and size, and compares it with the one that is
/// written for them.
fn name_and_size(block: &Block, at: u64) -> Result<(String, u64), Stop> {
    if !block[MAGIC].starts_with(b"ustar") {
        return malformed(at, "there is no ustar header");
    }
    let name = block[NAME].split(|byte| *byte == 0).next().unwrap_or_default();
    let kind = block[KIND][0];
    if kind != b'0' {
        let (name, kind) = (String::from_utf8_lossy(name), kind_name(kind));
        return malformed(at + KIND.start as u64, format!("`{name}` is {kind}, not a file"));
    }
    let Ok(name) = std::str::from_utf8(name) else { return malformed(at, "the name of a file is not UTF-8") };
    let Some(size) = octal(&block[SIZE]) else {
        return malformed(at + SIZE.start as u64, format!("the size of `{name}` is not eleven octal digits"));
    };
    let written = header(name, size);
    if *block == written {
        return Ok((name.to_owned(), size));
    }
    for (field, place, _) in &FIELDS {
        let mut pairs = block[place.clone()].iter().zip(&written[place.clone()]);
        if let Some(position) = pairs.position(|(found, wanted)| found != wanted) {
            let problem = format!("the {field} of `{name}` is not what is written in sealing");
            return malformed(at + (place.start + position) as u64, problem);
        }
    }
    malformed(at, format!("the header of `{name}` is not what is written in sealing"))
}

fn kind_name(kind: u8) -> &'static str {
    match kind {
        b'1' => "a hard link",
        b'2' => "a symbolic link",
        b'3' => "a character device",
        b'4' => "a block device",
        b'5' => "a directory",
        b'6' => "a FIFO",
        b'x' | b'g' => "a pax header",
        b'L' | b'K' => "a GNU long name",
        b'S' => "a sparse file",
        _ => "of an unknown kind",
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let digits = field.strip_suffix(b"\0")?;
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'7' => Some(number * 8 + u64::from(digit - b'0')),
        _ => None,
    })
}

/// What an archive is walked through on.
trait Stream {
    /// Fills `buffer` with what comes next, as far as there is something.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Passes over `count` bytes, or as many as there are.
    fn pass(&mut self, count: u64) -> io::Result<u64>;
}

/// The bytes of an archive.
#[derive(Debug)]
enum Bytes {
    Memory(Vec<u8>),
    File(File),
}

struct Stored<'a> {
    bytes: &'a Bytes,
    at: u64,
    size: u64,
}

impl Stream for Stored<'_> {
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let buffer = &mut buffer[..wanted];
        let filled = match self.bytes {
            Bytes::Memory(bytes) => {
                buffer.copy_from_slice(&bytes[self.at as usize..][..wanted]);
                wanted
            }
            Bytes::File(file) => fill(&mut Part { file, at: self.at, left: wanted as u64 }, buffer)?,
        };
        self.at += filled as u64;
        Ok(filled)
    }

    fn pass(&mut self, count: u64) -> io::Result<u64> {
        let passed = count.min(self.size - self.at);
        self.at += passed;
        Ok(passed)
    }
}

/// Keeps what comes in: a little of it in memory, more in a file.
struct Spool<R> {
    input: R,
    kept: Vec<u8>,
    file: Option<File>,
}

impl<R: Read> Stream for Spool<R> {
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let filled = fill(&mut self.input, buffer)?;
        let new = &buffer[..filled];
        if let Some(file) = &mut self.file {
            file.write_all(new)?;
        } else if self.kept.len() + filled > SMALL as usize {
            let mut file = tempfile::tempfile()?;
            file.write_all(&self.kept)?;
            file.write_all(new)?;
            self.kept = Vec::new();
            self.file = Some(file);
        } else {
            self.kept.extend_from_slice(new);
        }
        Ok(filled)
    }

    fn pass(&mut self, count: u64) -> io::Result<u64> {
        let mut buffer = [0; 16 * 1024];
        let mut left = count;
        while left > 0 {
            let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let filled = self.fill(&mut buffer[..wanted])?;
            left -= filled as u64;
            if filled < wanted {
                break;
            }
        }
        Ok(count - left)
    }
}

/// Reads until the buffer is full or there is nothing more.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A file in an archive that is itself a file. Others read at other places of
/// it at the same time.
struct Part<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        let read = read_at(self.file, &mut buffer[..wanted], self.at)?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive became shorter"));
        }
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

/// The place in a file is one for all who read it, so one reads at a time.
#[cfg(any(not(unix), test))]
pub(super) fn read_at_in_turn(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    use std::io::{Seek, SeekFrom};
    use std::sync::{Mutex, PoisonError};
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut file = file;
    file.seek(SeekFrom::Start(offset))?;
    file.read(buffer)
}

#[cfg(not(unix))]
use read_at_in_turn as read_at;
