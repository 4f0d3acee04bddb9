use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, PutPayload};
use tokio::sync::OwnedSemaphorePermit;

use super::bucket::Bucket;
use super::parts::PART_BYTES;

/// A file in memory, in pieces that could each be a part.
#[derive(Debug, Default, Clone)]
pub(super) struct Body {
    pieces: Vec<Bytes>,
    bytes: usize,
}

impl Body {
    pub(super) fn of(bytes: Bytes) -> Self {
        Self { bytes: bytes.len(), pieces: vec![bytes] }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    pub(super) fn into_pieces(self) -> Vec<Bytes> {
        self.pieces
    }

    pub(super) fn payload(&self) -> PutPayload {
        self.pieces.iter().cloned().collect()
    }

    /// Whether this is what is at `key`; `None` if nothing is there.
    pub(super) async fn is_at(&self, bucket: &Bucket, key: &Path) -> Result<Option<bool>, Error> {
        if let [] | [_] = self.pieces[..] {
            return match bucket.small(key, self.bytes as u64).await {
                Ok(there) => Ok(there.map(|there| self.pieces.iter().eq([&there]) || self.bytes + there.len() == 0)),
                // More bytes than that are other bytes.
                Err(Error::NotSupported { .. }) => Ok(Some(false)),
                Err(error) => Err(error),
            };
        }
        let Some(meta) = bucket.head(key).await? else { return Ok(None) };
        if meta.size != self.bytes as u64 {
            return Ok(Some(false));
        }
        let mut from = 0;
        for piece in &self.pieces {
            let to = from + piece.len() as u64;
            if bucket.range(&meta, from, to).await? != piece {
                return Ok(Some(false));
            }
            from = to;
        }
        Ok(Some(true))
    }
}

/// A file as it comes, for as long as it may be kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    body: Body,
    /// What does not make a piece yet.
    last: Vec<u8>,
    /// The right to keep more than a part.
    room: Option<OwnedSemaphorePermit>,
}

impl Kept {
    pub(super) fn len(&self) -> usize {
        self.body.bytes + self.last.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.room.is_some()
    }

    pub(super) fn give(&mut self, room: OwnedSemaphorePermit) {
        self.room = Some(room);
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // Most files are far smaller than a piece.
            if self.body.bytes > 0 {
                self.last.reserve_exact(PART_BYTES - self.last.len());
            }
            let (now, later) = bytes.split_at(bytes.len().min(PART_BYTES - self.last.len()));
            self.last.extend_from_slice(now);
            bytes = later;
            if self.last.len() == PART_BYTES {
                self.cut();
            }
        }
    }

    /// There is no more of it.
    pub(super) fn end(mut self) -> (Body, Option<OwnedSemaphorePermit>) {
        if !self.last.is_empty() {
            self.cut();
        }
        (self.body, self.room)
    }

    fn cut(&mut self) {
        self.body.bytes += self.last.len();
        self.body.pieces.push(std::mem::take(&mut self.last).into());
    }
}
