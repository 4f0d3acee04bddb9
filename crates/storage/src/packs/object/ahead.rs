use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use object_store::Error;
use runpack_core::pack::{Listed, PackReader, ReadFault};
use tokio::sync::OwnedSemaphorePermit;

use super::body::{Body, Kept};
use super::bucket::wait;
use super::parts::{PART_BYTES, Parts};
use super::publish::{Left, PublishOptions, PushError, Target};

/// Bytes of the small files of one pack that are kept until it is verified.
/// What is more is read again.
const KEPT_BYTES_MAX: usize = 2 * PART_BYTES;

/// A pack whose reader takes it to its place: what is read of it is kept, if it
/// is little, or on its way there in parts.
///
/// Nothing is asked of the store before a file has shown to be large, so that a
/// small pack that is refused costs nobody a request.
pub(super) struct Ahead<'a> {
    to: &'a Target<'a>,
    pack: &'a dyn PackReader,
    manifest_name: &'a str,
    manifest: &'a Bytes,
    options: &'a PublishOptions,
    /// Whether nothing is there and parts may be sent, once asked.
    free: OnceLock<bool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    gathered: Gathered,
    kept_bytes: usize,
    /// One of its files was given room.
    had_room: bool,
    /// Files that were opened. Of one that is opened twice it is not clear which
    /// bytes were judged.
    opened: BTreeMap<String, u32>,
    failed: Option<PushError>,
}

/// What need not be read again, by path in the pack.
#[derive(Default)]
pub(super) struct Gathered {
    /// Whole files, with the room of one.
    pub(super) whole: BTreeMap<String, Body>,
    pub(super) room: Option<OwnedSemaphorePermit>,
    /// Files whose parts were sent, all of them, or why not.
    pub(super) parts: BTreeMap<String, Result<Parts, Error>>,
}

impl Gathered {
    /// Takes back all parts, and answers what could not be.
    pub(super) fn taken_back(&mut self) -> Left {
        let parts = std::mem::take(&mut self.parts);
        let left = parts.into_iter().filter_map(|(path, parts)| parts.ok()?.abort().err().map(|_| path));
        Left(left.collect())
    }
}

impl<'a> Ahead<'a> {
    /// `manifest` is what its reader gets as the manifest.
    pub(super) fn new(
        to: &'a Target<'a>,
        pack: &'a dyn PackReader,
        manifest_name: &'a str,
        manifest: &'a Bytes,
        options: &'a PublishOptions,
    ) -> Self {
        Self { to, pack, manifest_name, manifest, options, free: OnceLock::new(), state: Mutex::default() }
    }

    /// What was read whole; and what keeps the pack from being published, if
    /// that is known.
    pub(super) fn gathered(self) -> (Gathered, Option<PushError>) {
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (path, _) in state.opened.iter().filter(|(_, times)| **times > 1) {
            state.gathered.whole.remove(path);
            state.gathered.parts.remove(path);
        }
        (state.gathered, state.failed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so many bytes more of small files are kept.
    fn keep(&self, bytes: usize) -> bool {
        let mut state = self.state();
        let fits = state.kept_bytes + bytes <= KEPT_BYTES_MAX;
        state.kept_bytes += if fits { bytes } else { 0 };
        fits
    }

    /// Waits until `kept` may become large. Only one file of a pack may: one
    /// that waited for a second room would keep others from the first.
    fn give_room(&self, kept: &mut Kept) -> bool {
        if std::mem::replace(&mut self.state().had_room, true) {
            return false;
        }
        let Some(room) = wait(self.to.bucket.room()) else { return false };
        self.state().kept_bytes -= kept.len();
        kept.give(room);
        true
    }

    /// An upload for the file at `path`, if there is sense in one. What else is
    /// at the place is found again, and told, once the pack is verified.
    fn begin(&self, path: &str) -> Option<Result<Parts, Error>> {
        let free = || self.to.conditional(self.options).and_then(|_| self.to.manifest(self.manifest));
        let free = self.free.get_or_init(|| match free() {
            Ok(there) => there.is_none(),
            Err(error) => {
                if matches!(error, PushError::Store(_)) {
                    self.state().failed = Some(error);
                }
                false
            }
        });
        if !free {
            return None;
        }
        let key = self.to.key(path);
        match self.to.there(&key) {
            Ok(None) => Some(Parts::begin(self.to.bucket, &key)),
            Ok(Some(_)) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl PackReader for Ahead<'_> {
    fn list(&self) -> Result<Vec<Listed>, ReadFault> {
        self.pack.list()
    }

    fn open(&self, path: &str, bytes_max: u64) -> Result<Box<dyn Read + '_>, ReadFault> {
        if path == self.manifest_name {
            return Ok(Box::new(Cursor::new(self.manifest.clone())));
        }
        let content = self.pack.open(path, bytes_max)?;
        let mut state = self.state();
        let times = state.opened.entry(path.to_owned()).or_default();
        *times += 1;
        let way = if *times == 1 { Way::Kept(Kept::default()) } else { Way::None };
        Ok(Box::new(Going { ahead: self, path: path.to_owned(), content, way }))
    }
}

/// A file that is read and goes on its way.
struct Going<'a> {
    ahead: &'a Ahead<'a>,
    path: String,
    content: Box<dyn Read + 'a>,
    way: Way,
}

enum Way {
    Kept(Kept),
    Parts(Box<Parts>),
    None,
}

impl Going<'_> {
    fn take(&mut self, bytes: &[u8]) {
        match &mut self.way {
            Way::Kept(kept) => {
                let all = kept.len() + bytes.len();
                let fits = if all > self.ahead.to.bucket.put_bytes_max {
                    false
                } else if all > PART_BYTES {
                    kept.has_room() || self.ahead.give_room(kept)
                } else {
                    self.ahead.keep(bytes.len())
                };
                if fits {
                    return kept.write(bytes);
                }
                let kept = std::mem::take(kept);
                self.way = Way::None;
                if !kept.has_room() {
                    self.ahead.state().kept_bytes -= kept.len();
                }
                if all > PART_BYTES
                    && let Some(parts) = self.ahead.begin(&self.path)
                {
                    self.sent(parts.and_then(|mut parts| {
                        parts.take(kept)?;
                        parts.write(bytes)?;
                        Ok(parts)
                    }));
                }
            }
            Way::Parts(parts) => {
                if let Err(error) = parts.write(bytes) {
                    self.way = Way::None;
                    self.sent(Err(error));
                }
            }
            Way::None => {}
        }
    }

    fn sent(&mut self, parts: Result<Parts, Error>) {
        match parts {
            Ok(parts) => self.way = Way::Parts(Box::new(parts)),
            Err(error) => drop(self.ahead.state().gathered.parts.insert(self.path.clone(), Err(error))),
        }
    }

    fn end(&mut self) {
        match std::mem::replace(&mut self.way, Way::None) {
            Way::Kept(kept) => {
                let (body, room) = kept.end();
                let gathered = &mut self.ahead.state().gathered;
                gathered.whole.insert(self.path.clone(), body);
                gathered.room = gathered.room.take().or(room);
            }
            Way::Parts(mut parts) => {
                let ended = parts.end().map(|()| *parts);
                self.ahead.state().gathered.parts.insert(self.path.clone(), ended);
            }
            Way::None => {}
        }
    }
}

impl Read for Going<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.way = Way::None;
            }
        })?;
        if count > 0 {
            self.take(&buffer[..count]);
        } else if !buffer.is_empty() {
            self.end();
        }
        Ok(count)
    }
}
