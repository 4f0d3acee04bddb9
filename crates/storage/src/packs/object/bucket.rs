use std::fmt;
use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::parts::{PART_BYTES, PARTS_MAX};
use super::silence::{Silence, waiting};

/// Requests in flight at once, over all packs. Small packs are round trips.
const REQUESTS_MAX: usize = 32;

/// Files of more than a part that are kept in memory, over all packs: one is
/// read while the other is sent.
const KEPT_MAX: usize = 2;

/// Mebibytes of a file from which it may go up in parts: one of them at least.
/// The most is what a file of 64 MiB needs with what is around it, and leaves a
/// process that sends any file below 100 MiB.
pub(super) const PARTS_ABOVE_MIB: RangeInclusive<usize> = PART_BYTES >> 20..=72;

/// Objects below one prefix that are listed for one pack.
pub(super) const LISTED_MAX: usize = 100_000;

/// How long to go on where a store says that it is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The first pause; each is twice the one before.
    pub pause: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// When to give up.
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let (pause, pause_max) = (Duration::from_millis(200), Duration::from_secs(10));
        Self { pause, pause_max, total: Duration::from_secs(120) }
    }
}

/// A bucket, or what lies below a prefix of one.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// `s3://bucket`, without what follows.
    url: Arc<str>,
    /// The prefix that was named, below which everything of ours lies.
    home: Path,
    gate: Arc<Semaphore>,
    rooms: Arc<Semaphore>,
    parts: Arc<Semaphore>,
    patience: Patience,
    /// Bytes of the largest file that is one put.
    pub(super) put_bytes_max: usize,
    /// Whether the store keeps its word on conditional creates, once asked.
    pub(super) probed: Arc<OnceLock<bool>>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// A request that came to nothing, after all retries.
#[derive(Debug, thiserror::Error)]
#[error("{url}/{key}: {}", plain(source))]
pub struct ObjectFault {
    /// The bucket.
    pub url: String,
    /// Of the object or prefix.
    pub key: String,
    /// What the store, or the way there, says.
    pub source: Error,
}

/// What the store says, in a line: its answers can be whole documents.
fn plain(error: &Error) -> String {
    if let Some(silence) = Silence::beneath(error) {
        return silence.to_string();
    }
    let text = error.to_string();
    let Some((_, answer)) = text.split_once(STATUS) else { return start_of(&text) };
    let (status, document) = answer.split_once(':').unwrap_or((answer, ""));
    let mut said = format!("the store answers {}", start_of(status));
    for (tag, before) in [("Code", ": "), ("Message", ", ")] {
        if let Some((_, rest)) = document.split_once(&format!("<{tag}>"))
            && let Some((within, _)) = rest.split_once(&format!("</{tag}>"))
        {
            said = said + before + &start_of(within);
        }
    }
    if status.starts_with("401") || status.starts_with("403") {
        said.push_str("\nhint: the credentials are not the right ones, or do not allow this");
    }
    said
}

fn start_of(text: &str) -> String {
    let mut end = text.len().min(400);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace(['\n', '\r'], " ")
}

/// What the client library writes before a status, which it shows nowhere else.
const STATUS: &str = "non-2xx status code: ";

impl Bucket {
    /// A bucket behind any store. `url` is how messages and receipts name it.
    pub fn new(store: Arc<dyn ObjectStore>, url: &str, home: &Path, patience: Patience) -> Self {
        let [gate, rooms, parts] = [REQUESTS_MAX, KEPT_MAX, PARTS_MAX].map(|max| Arc::new(Semaphore::new(max)));
        let (url, home, put_bytes_max) = (url.into(), home.clone(), PARTS_ABOVE_MIB.end() << 20);
        Self { store, url, home, gate, rooms, parts, patience, put_bytes_max, probed: Arc::default() }
    }

    /// The same bucket, with parts for files of more than so many mebibytes.
    /// Another number than 8 to 72 is the nearest of these.
    #[must_use]
    pub fn with_parts_above(self, mebibytes: usize) -> Self {
        let mebibytes = mebibytes.clamp(*PARTS_ABOVE_MIB.start(), *PARTS_ABOVE_MIB.end());
        Self { put_bytes_max: mebibytes << 20, ..self }
    }

    /// The same bucket, with another prefix that was named.
    #[must_use]
    pub fn at_home(&self, home: &Path) -> Self {
        Self { home: home.clone(), ..self.clone() }
    }

    /// How messages and receipts name it, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The prefix that was named.
    pub fn home(&self) -> &Path {
        &self.home
    }

    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(super) fn pauses(&self) -> Pauses {
        Pauses { url: Arc::clone(&self.url), patience: self.patience, next: self.patience.pause, begun: Instant::now() }
    }

    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes the gate.
        self.gate.acquire().await.ok()
    }

    /// The right to keep a file of more than a part in memory. Who has one may
    /// wait for requests, and not for another.
    pub(super) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.rooms).acquire_owned().await.ok()
    }

    /// The same, if it is to be had without waiting.
    pub(super) fn room_now(&self) -> Option<OwnedSemaphorePermit> {
        (self.put_bytes_max > PART_BYTES).then(|| Arc::clone(&self.rooms).try_acquire_owned().ok())?
    }

    /// The right to have a part in flight.
    pub(super) async fn part(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.parts).acquire_owned().await.ok()
    }

    pub(super) fn fault(&self, key: &Path, source: Error) -> ObjectFault {
        ObjectFault { url: self.url.to_string(), key: key.to_string(), source }
    }

    /// Does `request` until it succeeds, fails for good, or patience ends.
    pub(super) async fn patiently<T, F>(&self, mut request: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut pauses = self.pauses();
        loop {
            let outcome = {
                let _permit = self.permit().await;
                request().await
            };
            match outcome {
                Err(error) if may_pass(&error) && pauses.pause(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    /// The object, if there is one and it has at most `bytes_max` bytes.
    pub(super) async fn small(&self, key: &Path, bytes_max: u64) -> Result<Option<Bytes>, Error> {
        let get = || async {
            let got = self.store.get(key).await?;
            if got.meta.size > bytes_max {
                let source = format!("more than {bytes_max} bytes").into();
                return Err(Error::NotSupported { source });
            }
            let size = got.meta.size;
            let bytes = got.bytes().await?;
            whole(bytes, size)
        };
        match self.patiently(get).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Bytes `from..to` of the object as it was listed.
    pub(super) async fn range(&self, meta: &ObjectMeta, from: u64, to: u64) -> Result<Bytes, Error> {
        let get = || async {
            let options = GetOptions {
                range: Some(GetRange::Bounded(from..to)),
                if_match: meta.e_tag.clone(),
                ..GetOptions::default()
            };
            let bytes = self.store.get_opts(&meta.location, options).await?.bytes().await?;
            whole(bytes, to - from)
        };
        self.patiently(get).await
    }

    /// Everything below `prefix`, at most `max` objects and one more.
    pub(super) async fn list(&self, prefix: Option<&Path>, max: usize) -> Result<Vec<ObjectMeta>, Error> {
        // The body of a list is not retried by the client: all of it again.
        self.patiently(|| async {
            let mut listed = Vec::new();
            let mut stream = self.store.list(prefix);
            while let Some(meta) = stream.try_next().await? {
                listed.push(meta);
                if listed.len() > max {
                    break;
                }
            }
            listed.sort_by(|left, right| left.location.as_ref().cmp(right.location.as_ref()));
            Ok(listed)
        })
        .await
    }

    pub(super) async fn head(&self, key: &Path) -> Result<Option<ObjectMeta>, Error> {
        match self.patiently(|| self.store.head(key)).await {
            Ok(meta) => Ok(Some(meta)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One put, not repeated here: what an error of it means is for the caller
    /// to find out.
    pub(super) async fn put(&self, key: &Path, payload: PutPayload, mode: PutMode) -> Result<(), Error> {
        let _permit = self.permit().await;
        self.store.put_opts(key, payload, mode.into()).await.map(drop)
    }
}

/// A store may send less than it said, with a length that fits what it sent.
fn whole(bytes: Bytes, size: u64) -> Result<Bytes, Error> {
    if bytes.len() as u64 == size {
        return Ok(bytes);
    }
    let source = format!("{} bytes came where {size} were announced", bytes.len()).into();
    Err(Error::Generic { store: "object storage", source })
}

/// Pauses that double, until patience ends.
pub(super) struct Pauses {
    url: Arc<str>,
    patience: Patience,
    next: Duration,
    begun: Instant,
}

impl Pauses {
    /// Waits, because of `error`; `false` if there is no time left to.
    pub(super) async fn pause(&mut self, error: &Error) -> bool {
        if self.begun.elapsed() + self.next > self.patience.total {
            return false;
        }
        waiting(self.begun, || format!("{}: {}", self.url, plain(error)));
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(self.patience.pause_max);
        true
    }
}

/// Whether the same request may succeed later: the way there, or a busy store.
pub(super) fn may_pass(error: &Error) -> bool {
    matches!(error, Error::Generic { .. } | Error::JoinError { .. }) && !refused(error)
}

/// Whether the store understood and said no.
pub(super) fn refused(error: &Error) -> bool {
    match error {
        Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. }
        | Error::InvalidPath { .. }
        | Error::NotImplemented { .. }
        | Error::UnknownConfigurationKey { .. } => true,
        // Lists and multipart uploads hide every status in here, also that of a
        // wrong key or a bucket that is not there. So does nobody being there.
        Error::Generic { source, .. } => said_no(source.as_ref()),
        _ => false,
    }
}

/// Whether it is the store's answer, and not for want of one.
pub(super) fn has_status(error: &Error) -> bool {
    fn told(error: &(dyn std::error::Error + 'static)) -> bool {
        error.to_string().contains(STATUS) || error.source().is_some_and(told)
    }
    told(error)
}

/// Whether that is a status that will be the same next time.
fn said_no(error: &(dyn std::error::Error + 'static)) -> bool {
    let text = error.to_string();
    if text.contains("redirect without LOCATION") || error.is::<Silence>() {
        return true;
    }
    let Some((_, answer)) = text.split_once(STATUS) else {
        return error.source().is_some_and(said_no);
    };
    // 400 is also what S3 says of a body that did not come, or came wrong.
    let transient = ["RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch"];
    match answer.get(..3).and_then(|status| status.parse::<u16>().ok()) {
        Some(400) => !transient.iter().any(|code| answer.contains(code)),
        Some(408 | 409 | 429) | None => false,
        Some(status) => status < 500,
    }
}

/// The threads on which requests run.
pub(super) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let built = Builder::new_multi_thread().worker_threads(2).thread_name("runpack-net").enable_all().build();
        built.expect("the system starts two threads")
    })
}

/// Waits for `work`. Not for threads of an async runtime.
pub(in super::super) fn wait<T>(work: impl Future<Output = T>) -> T {
    runtime().block_on(work)
}
