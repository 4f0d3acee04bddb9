use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStoreExt};
use tokio::task::JoinSet;

use super::body::Kept;
use super::bucket::{Bucket, runtime, wait};
use super::publish::join;

/// Bytes of one part.
pub(super) const PART_BYTES: usize = 8 * 1024 * 1024;

/// Parts of one file in flight.
const PARTS_AT_ONCE: usize = 4;

/// Parts of all files in flight: each is in memory.
pub(super) const PARTS_MAX: usize = 8;

/// A large file on its way. Nobody sees any of it before it is completed;
/// dropped before that, it is taken back, as far as the store lets us.
pub(super) struct Parts {
    bucket: Bucket,
    upload: Box<dyn MultipartUpload>,
    flying: JoinSet<Result<(), Error>>,
    /// What does not make a part yet.
    rest: Vec<u8>,
    bytes: u64,
    ended: bool,
}

impl Parts {
    pub(super) fn begin(bucket: &Bucket, key: &Path) -> Result<Self, Error> {
        let store = bucket.store();
        let upload = wait(bucket.patiently(|| store.put_multipart(key)))?;
        let bucket = bucket.clone();
        Ok(Self { bucket, upload, flying: JoinSet::new(), rest: Vec::new(), bytes: 0, ended: false })
    }

    /// Takes the beginning of the file, as far as it was kept.
    pub(super) fn take(&mut self, kept: Kept) -> Result<(), Error> {
        let (body, room) = kept.end();
        let mut pieces = body.into_pieces();
        // The last may have to grow before it is a part.
        let last = pieces.pop_if(|piece| piece.len() < PART_BYTES);
        pieces.into_iter().try_for_each(|piece| self.send(piece))?;
        drop(room);
        last.map_or(Ok(()), |last| self.write(&last))
    }

    /// Takes more of the file, as it comes.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            self.rest.reserve_exact(PART_BYTES - self.rest.len());
            let (now, later) = bytes.split_at(bytes.len().min(PART_BYTES - self.rest.len()));
            self.rest.extend_from_slice(now);
            bytes = later;
            if self.rest.len() == PART_BYTES {
                let part = std::mem::take(&mut self.rest);
                self.send(part.into())?;
            }
        }
        Ok(())
    }

    /// There is no more of it.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        let last = std::mem::take(&mut self.rest);
        if last.is_empty() { Ok(()) } else { self.send(last.into()) }
    }

    /// Sends a part; waits if enough of them are on their way.
    fn send(&mut self, part: Bytes) -> Result<(), Error> {
        self.bytes += part.len() as u64;
        if self.flying.len() == PARTS_AT_ONCE {
            self.one()?;
        }
        let bucket = self.bucket.clone();
        let in_memory = wait(bucket.part());
        let sent = self.upload.put_part(part.into());
        self.flying.spawn_on(
            async move {
                let _permit = bucket.permit().await;
                let sent = sent.await;
                drop(in_memory);
                sent
            },
            runtime().handle(),
        );
        Ok(())
    }

    /// Waits for one of the parts; `false` if there is none.
    fn one(&mut self) -> Result<bool, Error> {
        let Some(done) = wait(self.flying.join_next()) else { return Ok(false) };
        done.unwrap_or_else(|error| Err(join(error))).map(|()| true)
    }

    /// Makes an object of it, and answers its size.
    pub(super) fn complete(mut self) -> Result<u64, Error> {
        while self.one()? {}
        wait(self.upload.complete())?;
        self.ended = true;
        Ok(self.bytes)
    }

    /// Takes it back.
    pub(super) fn abort(mut self) -> Result<(), Error> {
        self.take_back()
    }

    fn take_back(&mut self) -> Result<(), Error> {
        self.ended = true;
        // A part that arrives later would stay.
        wait(self.flying.shutdown());
        wait(self.upload.abort())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if !self.ended {
            // Best effort: a lifecycle rule removes what is left of it.
            self.take_back().ok();
        }
    }
}
