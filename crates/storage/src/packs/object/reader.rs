use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::sync::{Mutex, PoisonError};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectMeta};
use runpack_core::pack::{Listed, ListedKind, PackReader, ReadFault};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::bucket::{Bucket, LISTED_MAX, ObjectFault, runtime, wait};

/// An object up to this size is asked for as soon as the pack is opened.
const AHEAD_BYTES_EACH: u64 = 256 * 1024;

/// And no more than this of one pack.
const AHEAD_BYTES_ALL: u64 = 2 * 1024 * 1024;

/// Bytes of one request for a larger object.
const RANGE_BYTES: u64 = 2 * 1024 * 1024;

/// Ranges of one object asked for at a time.
const RANGES_AT_ONCE: usize = 4;

/// A pack in a bucket, read without a local copy. What it holds is what the
/// store listed when it was opened.
pub struct ObjectReader {
    bucket: Bucket,
    directory: Path,
    listed: BTreeMap<String, ObjectMeta>,
    ahead: Mutex<BTreeMap<String, JoinHandle<Result<Bytes, Error>>>>,
}

impl ObjectReader {
    /// Opens the pack below the prefix `directory`. That nothing is there is
    /// for its reader to find.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub fn open(bucket: &Bucket, directory: &Path) -> Result<Self, ObjectFault> {
        let listed = wait(bucket.list(Some(directory), LISTED_MAX));
        let listed = listed.map_err(|error| bucket.fault(directory, error))?;
        Ok(Self::of(bucket, directory, listed))
    }

    /// As [`ObjectReader::open`], with what was listed before.
    pub fn of(bucket: &Bucket, directory: &Path, listed: Vec<ObjectMeta>) -> Self {
        let below = listed.into_iter().filter_map(|meta| {
            // Consoles make empty objects to show a folder; the folder itself
            // is no file.
            let path = relative(directory, &meta.location)?;
            Some((path, meta))
        });
        let listed: BTreeMap<_, _> = below.collect();
        let mut left = AHEAD_BYTES_ALL;
        let mut ahead = BTreeMap::new();
        for (path, meta) in &listed {
            if meta.size <= AHEAD_BYTES_EACH && meta.size <= left && ahead.len() < 16 {
                left -= meta.size;
                ahead.insert(path.clone(), whole(bucket, meta));
            }
        }
        Self { bucket: bucket.clone(), directory: directory.clone(), listed, ahead: Mutex::new(ahead) }
    }

    /// Where the pack is, for messages.
    pub fn uri(&self) -> String {
        format!("{}/{}/", self.bucket.url(), self.directory)
    }

    /// What is there, by path in the pack.
    pub fn objects(&self) -> impl Iterator<Item = (&str, &ObjectMeta)> {
        self.listed.iter().map(|(path, meta)| (path.as_str(), meta))
    }
}

/// `key` below `directory`; `None` for the directory itself.
pub(super) fn relative(directory: &Path, key: &Path) -> Option<String> {
    let (directory, key) = (directory.as_ref(), key.as_ref());
    let below = if directory.is_empty() { key } else { key.strip_prefix(directory)?.strip_prefix('/')? };
    (!below.is_empty()).then(|| below.to_owned())
}

fn whole(bucket: &Bucket, meta: &ObjectMeta) -> JoinHandle<Result<Bytes, Error>> {
    let (bucket, meta) = (bucket.clone(), meta.clone());
    runtime().spawn(async move {
        // There is no range of nothing.
        if meta.size == 0 { Ok(Bytes::new()) } else { bucket.range(&meta, 0, meta.size).await }
    })
}

impl PackReader for ObjectReader {
    fn list(&self) -> Result<Vec<Listed>, ReadFault> {
        if self.listed.len() > LISTED_MAX {
            return Err(ReadFault::TooMany { limit: LISTED_MAX, what: "entries" });
        }
        Ok(self.listed.keys().map(|path| Listed { path: path.clone(), kind: ListedKind::File }).collect())
    }

    fn open(&self, path: &str, bytes_max: u64) -> Result<Box<dyn Read + '_>, ReadFault> {
        let meta = self.listed.get(path).ok_or(ReadFault::NotFound)?;
        if meta.size > bytes_max {
            return Err(ReadFault::TooLarge { limit: bytes_max });
        }
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        if let Some(ahead) = ahead {
            let bytes = wait(ahead).map_err(io::Error::other)?.map_err(|error| self.read_fault(meta, error))?;
            return Ok(Box::new(Cursor::new(bytes)));
        }
        Ok(Box::new(Ranges::start(&self.bucket, meta)))
    }
}

impl ObjectReader {
    fn read_fault(&self, meta: &ObjectMeta, error: Error) -> ReadFault {
        match error {
            // It was there when the pack was listed.
            Error::NotFound { .. } => ReadFault::NotFound,
            error => ReadFault::Io(io::Error::other(self.bucket.fault(&meta.location, error))),
        }
    }
}

impl Drop for ObjectReader {
    fn drop(&mut self) {
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        ahead.values().for_each(JoinHandle::abort);
    }
}

/// A large object, some ranges at a time and in order.
struct Ranges {
    coming: mpsc::Receiver<Result<Bytes, ObjectFault>>,
    here: Bytes,
    /// Bytes still to come.
    left: u64,
    task: JoinHandle<()>,
}

impl Ranges {
    fn start(bucket: &Bucket, meta: &ObjectMeta) -> Self {
        let (sender, coming) = mpsc::channel(1);
        let (bucket, meta, left) = (bucket.clone(), meta.clone(), meta.size);
        let task = runtime().spawn(async move {
            let starts = (0..meta.size.div_ceil(RANGE_BYTES)).map(|index| index * RANGE_BYTES);
            let (bucket, meta) = (&bucket, &meta);
            let ranges = starts.map(|from| async move {
                let bytes = bucket.range(meta, from, meta.size.min(from + RANGE_BYTES)).await;
                bytes.map_err(|error| bucket.fault(&meta.location, error))
            });
            let mut ranges = futures_util::stream::iter(ranges).buffered(RANGES_AT_ONCE);
            while let Some(range) = ranges.next().await {
                let failed = range.is_err();
                if sender.send(range).await.is_err() || failed {
                    break;
                }
            }
        });
        Self { coming, here: Bytes::new(), left, task }
    }
}

impl Read for Ranges {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.here.is_empty() && !buffer.is_empty() {
            match wait(self.coming.recv()) {
                None if self.left == 0 => return Ok(0),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(range) => self.here = range.map_err(io::Error::other)?,
            }
        }
        let count = buffer.len().min(self.here.len());
        self.here.copy_to_slice(&mut buffer[..count]);
        self.left -= count as u64;
        Ok(count)
    }
}

impl Drop for Ranges {
    fn drop(&mut self) {
        self.task.abort();
    }
}
