use std::collections::BTreeMap;
use std::io::{self, Read};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectMeta, ObjectStoreExt, PutMode};
use runpack_core::canon::{Digest, Hasher};
use runpack_core::pack::layout::{MANIFEST_BYTES_MAX, MANIFEST_NAME, is_attestation};
use runpack_core::pack::{Manifest, PackReader, ReadFault};
use runpack_core::read;
use tokio::task::JoinSet;

use super::super::attach::{Attestation, attestations};
use super::bucket::{Bucket, LISTED_MAX, ObjectFault, has_status, may_pass, refused, runtime, wait};
use super::key::{KeyFault, pack_key, snapshot_key};
use super::reader::{ObjectReader, relative};

/// A file up to this size is one put, and only if nothing is there. A larger
/// one goes up in parts, which no store does conditionally.
const PUT_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Bytes of one part.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// Parts of one file in flight.
const PARTS_AT_ONCE: usize = 4;

/// A key of our own, by which a store shows that it keeps its word.
const PROBE: [&str; 2] = [".runpack", "probe"];

/// What is done about another pack of the same run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnExisting {
    /// Nothing is written, and the error names it.
    #[default]
    Refuse,
    /// The new one goes below `…/snapshot/<pack digest>/`.
    Snapshot,
}

/// How a pack is published.
#[derive(Debug, Clone, Copy, Default)]
pub struct PublishOptions {
    /// What is done about another pack of the same run.
    pub on_existing: OnExisting,
    /// Accept a store that ignores conditional creates. Two writers of one run
    /// could then mix their packs, and the receipt says so.
    pub single_writer: bool,
}

/// How the pack came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is new.
    New,
    /// The same pack was there, whole.
    AlreadyThere,
}

/// What is known of a published pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Where it is, with a slash at the end.
    pub storage_uri: String,
    /// Of the manifest's bytes.
    pub pack_digest: Digest,
    /// How it came to be there.
    pub pushed: Pushed,
    /// Whether the store made sure that nobody else's manifest was there.
    pub conditional: bool,
}

/// Why a pack was not published, or why that is not known.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// Another pack is there, and stays.
    #[error(
        "another pack of this run is at `{uri}`, with the pack digest {digest}\nhint: leave it, or publish this one beside it with on_existing = \"snapshot\" (--on-existing snapshot)"
    )]
    Another {
        /// Where.
        uri: String,
        /// Its pack digest.
        digest: Digest,
    },
    /// Content of another export is there, and no manifest.
    #[error(
        "`{uri}` holds content of another export, which goes on or was cut off: `{path}` is not what it would be\nhint: wait for it; if nobody is exporting, remove it with `runpack gc`, or publish with --on-existing snapshot"
    )]
    InTheWay {
        /// Where.
        uri: String,
        /// The first file that differs.
        path: String,
    },
    /// The manifest is there and the rest is not.
    #[error(
        "the pack at `{uri}` is damaged: `{path}` {problem}\nhint: it was whole when it was published; restore the object, or publish under another prefix"
    )]
    Damaged {
        /// Where.
        uri: String,
        /// The file.
        path: String,
        /// `is missing`, or what its size is.
        problem: String,
    },
    /// The store overwrites where it was asked not to.
    #[error(
        "`{url}` ignores conditional creates: two writers could overwrite each other's packs\nhint: use a store that honours If-None-Match, or --single-writer if nobody else writes there"
    )]
    NotConditional {
        /// The bucket.
        url: String,
    },
    /// It is not known what the store did with the manifest.
    #[error(
        "it is not known whether the pack was published: {0}\nhint: run the same command again; it finds out and goes on"
    )]
    Unsettled(ObjectFault),
    /// A request failed; no manifest was written.
    #[error("the pack was not published: {0}")]
    Store(#[from] ObjectFault),
    /// The pack can have no key.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// The pack cannot be read.
    #[error("the pack was not published: `{path}`: {fault}")]
    Source {
        /// The file.
        path: String,
        /// Why.
        fault: ReadFault,
    },
}

/// A file on its way.
struct Outgoing {
    path: String,
    digest: Digest,
}

impl Outgoing {
    /// What is sent is what the manifest says, also if the source has changed
    /// since it was verified.
    fn check(&self, read: Digest) -> io::Result<()> {
        if read == self.digest { Ok(()) } else { Err(io::Error::other("it is not what the manifest says")) }
    }
}

/// Publishes a pack that was verified, under the key of its run below `prefix`.
///
/// Not for threads of an async runtime: it waits for the store.
///
/// # Errors
/// See [`PushError`]. Except for [`PushError::Unsettled`] nothing that looks
/// like a pack is there then that was not there before.
pub fn publish(
    bucket: &Bucket,
    prefix: &Path,
    pack: &dyn PackReader,
    manifest_name: &str,
    options: &PublishOptions,
) -> Result<Receipt, PushError> {
    let (manifest, bytes) = manifest_of(pack, manifest_name)?;
    let key = pack_key(prefix, &manifest)?;
    let there = publish_at(bucket, &key, pack, manifest_name, options);
    match there {
        Err(PushError::Another { .. } | PushError::InTheWay { .. }) if options.on_existing == OnExisting::Snapshot => {
            let key = snapshot_key(prefix, &manifest, Digest::of(&bytes))?;
            publish_at(bucket, &key, pack, manifest_name, options)
        }
        there => there,
    }
}

/// As [`publish`], at a place that is known.
///
/// # Errors
/// As [`publish`].
pub fn publish_at(
    bucket: &Bucket,
    directory: &Path,
    pack: &dyn PackReader,
    manifest_name: &str,
    options: &PublishOptions,
) -> Result<Receipt, PushError> {
    let (manifest, bytes) = manifest_of(pack, manifest_name)?;
    let to = Target { bucket, directory, uri: format!("{}/{directory}/", bucket.url()) };
    let conditional = to.conditional(options)?;
    let receipt = |pushed| {
        let (storage_uri, pack_digest) = (to.uri.clone(), Digest::of(&bytes));
        Receipt { storage_uri, pack_digest, pushed, conditional }
    };
    let files: Vec<_> = manifest
        .integrity
        .file_hashes
        .iter()
        .map(|file| Outgoing { path: file.path.clone(), digest: file.hash })
        .collect();
    let attestations = attestations(pack).map_err(|(path, fault)| PushError::Source { path, fault })?;
    if to.manifest(&bytes)?.is_some() {
        to.compare(&files)?;
        to.attach(attestations, conditional)?;
        return Ok(receipt(Pushed::AlreadyThere));
    }
    let sizes = to.content(&files, pack, conditional)?;
    to.attach(attestations, conditional)?;
    to.listed(&sizes)?;
    to.commit(&bytes, conditional)?;
    Ok(receipt(Pushed::New))
}

fn manifest_of(pack: &dyn PackReader, manifest_name: &str) -> Result<(Manifest, Bytes), PushError> {
    let source = |fault| PushError::Source { path: manifest_name.to_owned(), fault };
    let bytes = read_all(pack, manifest_name, MANIFEST_BYTES_MAX).map_err(source)?;
    let manifest = read::recorded(&bytes).map_err(|refusal| source(ReadFault::Io(io::Error::other(refusal))))?;
    Ok((manifest, bytes.into()))
}

fn read_all(pack: &dyn PackReader, path: &str, bytes_max: u64) -> Result<Vec<u8>, ReadFault> {
    let mut bytes = Vec::new();
    pack.open(path, bytes_max)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The place a pack goes to.
struct Target<'a> {
    bucket: &'a Bucket,
    directory: &'a Path,
    uri: String,
}

impl Target<'_> {
    fn key(&self, path: &str) -> Path {
        path.split('/').fold(self.directory.clone(), |key, part| key.join(part))
    }

    fn fault(&self, key: &Path, error: Error) -> PushError {
        PushError::Store(self.bucket.fault(key, error))
    }

    /// Whether the store creates conditionally: asked once for each bucket, by
    /// a key of our own that stays there, so that it costs one request.
    fn conditional(&self, options: &PublishOptions) -> Result<bool, PushError> {
        let bucket = self.bucket;
        let kept = match bucket.probed.get() {
            Some(kept) => *kept,
            None => {
                let kept = wait(self.probe())?;
                *bucket.probed.get_or_init(|| kept)
            }
        };
        if kept || options.single_writer {
            return Ok(kept);
        }
        Err(PushError::NotConditional { url: bucket.url().to_owned() })
    }

    async fn probe(&self) -> Result<bool, PushError> {
        let key = PROBE.iter().fold(self.bucket.home().clone(), |key, part| key.join(*part));
        let create = || self.bucket.put(&key, Bytes::from_static(b"{}"), PutMode::Create);
        let mut pauses = self.bucket.pauses();
        let mut created = 0;
        loop {
            match create().await {
                // The first time there is nothing; the second time there is.
                Ok(()) if created > 0 => return Ok(false),
                Ok(()) => created += 1,
                Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => return Ok(false),
                // A conflict is also what a store says that is busy: look.
                Err(error @ (Error::AlreadyExists { .. } | Error::Precondition { .. })) => {
                    let there = self.bucket.head(&key).await.map_err(|error| self.fault(&key, error))?;
                    if there.is_some() {
                        return Ok(true);
                    }
                    if !pauses.pause(&error).await {
                        return Err(self.fault(&key, error));
                    }
                }
                Err(error) if may_pass(&error) && pauses.pause(&error).await => {}
                Err(error) => return Err(self.fault(&key, error)),
            }
        }
    }

    /// The manifest that is there, if it is this one.
    fn manifest(&self, ours: &Bytes) -> Result<Option<()>, PushError> {
        let key = self.key(MANIFEST_NAME);
        match wait(self.bucket.small(&key, MANIFEST_BYTES_MAX)).map_err(|error| self.fault(&key, error))? {
            None => Ok(None),
            Some(theirs) if theirs == ours => Ok(Some(())),
            Some(theirs) => Err(PushError::Another { uri: self.uri.clone(), digest: Digest::of(&theirs) }),
        }
    }

    /// A published pack is whole: every file is what the manifest says.
    fn compare(&self, files: &[Outgoing]) -> Result<(), PushError> {
        let there = ObjectReader::open(self.bucket, self.directory)?;
        let damaged = |path: &str, problem: &str| {
            Err(PushError::Damaged { uri: self.uri.clone(), path: path.to_owned(), problem: problem.to_owned() })
        };
        for file in files {
            match digest_of(&there, &file.path) {
                Ok((digest, _)) if digest == file.digest => {}
                Ok(_) => return damaged(&file.path, "is not what the manifest says"),
                Err(ReadFault::NotFound) => return damaged(&file.path, "is missing"),
                Err(fault) => return Err(PushError::Source { path: file.path.clone(), fault }),
            }
        }
        let named =
            |path: &str| path == MANIFEST_NAME || is_attestation(path) || files.iter().any(|file| file.path == path);
        match there.objects().find(|(path, _)| !named(path)) {
            Some((stranger, _)) => damaged(stranger, "is not in the manifest"),
            None => Ok(()),
        }
    }

    /// Brings attestations there. Others may have put theirs, which stay.
    fn attach(&self, attestations: Vec<Attestation>, conditional: bool) -> Result<(), PushError> {
        for (name, bytes) in attestations {
            let key = self.key(&name);
            let outcome = wait(put_settled(self.bucket, &key, bytes.into(), conditional));
            self.settled(&name, outcome)?;
        }
        Ok(())
    }

    /// Brings all content there; answers the sizes.
    fn content(
        &self,
        files: &[Outgoing],
        pack: &dyn PackReader,
        conditional: bool,
    ) -> Result<BTreeMap<String, u64>, PushError> {
        let mut sizes = BTreeMap::new();
        let mut puts = JoinSet::new();
        let mut large = Vec::new();
        for file in files {
            let source = |fault| PushError::Source { path: file.path.clone(), fault };
            let mut content = pack.open(&file.path, u64::MAX).map_err(source)?;
            let mut bytes = Vec::new();
            let read = content.by_ref().take(PUT_BYTES_MAX + 1).read_to_end(&mut bytes);
            read.map_err(|error| source(ReadFault::Io(error)))?;
            if bytes.len() as u64 > PUT_BYTES_MAX {
                large.push(file);
                continue;
            }
            file.check(Digest::of(&bytes)).map_err(|error| source(ReadFault::Io(error)))?;
            sizes.insert(file.path.clone(), bytes.len() as u64);
            let (bucket, key, path) = (self.bucket.clone(), self.key(&file.path), file.path.clone());
            puts.spawn_on(
                async move { (path, put_settled(&bucket, &key, bytes.into(), conditional).await) },
                runtime().handle(),
            );
        }
        while let Some(done) = wait(puts.join_next()) {
            let (path, outcome) = done.unwrap_or_else(|error| (String::new(), Err(Settled::Failed(join(error)))));
            self.settled(&path, outcome)?;
        }
        for file in large {
            let size = self.large(file, pack)?;
            sizes.insert(file.path.clone(), size);
        }
        Ok(sizes)
    }

    fn settled(&self, path: &str, outcome: Result<(), Settled>) -> Result<(), PushError> {
        outcome.map_err(|settled| match settled {
            Settled::Other => PushError::InTheWay { uri: self.uri.clone(), path: path.to_owned() },
            Settled::Refused(error) | Settled::Failed(error) => self.fault(&self.key(path), error),
        })
    }

    /// A file in parts. What is there already, whole, is not sent again.
    fn large(&self, file: &Outgoing, pack: &dyn PackReader) -> Result<u64, PushError> {
        let key = self.key(&file.path);
        let there = || wait(self.bucket.head(&key)).map_err(|error| self.fault(&key, error));
        let source = |fault| PushError::Source { path: file.path.clone(), fault };
        let mut pauses = self.bucket.pauses();
        let mut tried = 0;
        loop {
            if let Some(meta) = there()? {
                return self.same(file, &meta);
            }
            let mut content = pack.open(&file.path, u64::MAX).map_err(source)?;
            let error = match self.parts(&key, file, &mut content).map_err(|error| source(ReadFault::Io(error)))? {
                Ok(size) => return Ok(size),
                Err(error) => error,
            };
            // The last answer may be what was lost.
            if let Some(meta) = there()? {
                return self.same(file, &meta);
            }
            tried += 1;
            // An upload that is being finished is gone for who asks to finish
            // it again: that looks like a refusal. And all of patience may have
            // gone into sending. So it is tried twice in any case.
            let hopeless = refused(&error) && tried > 1;
            if hopeless || !(wait(pauses.pause(&error)) || tried == 1) {
                return Err(self.fault(&key, error));
            }
        }
    }

    /// Whether a large object that is there is the file.
    fn same(&self, file: &Outgoing, meta: &ObjectMeta) -> Result<u64, PushError> {
        let there = ObjectReader::of(self.bucket, self.directory, vec![meta.clone()]);
        match digest_of(&there, &file.path) {
            Ok((digest, size)) if digest == file.digest => Ok(size),
            Ok(_) => Err(PushError::InTheWay { uri: self.uri.clone(), path: file.path.clone() }),
            Err(fault) => Err(PushError::Source { path: file.path.clone(), fault }),
        }
    }

    /// The outer error is the source's, the inner the store's.
    fn parts(&self, key: &Path, file: &Outgoing, content: &mut dyn Read) -> io::Result<Result<u64, Error>> {
        let store = self.bucket.store();
        let mut upload = match wait(self.bucket.patiently(|| store.put_multipart(key))) {
            Ok(upload) => upload,
            Err(error) => return Ok(Err(error)),
        };
        let outcome = self.all_parts(upload.as_mut(), file, content);
        if !matches!(outcome, Ok(Ok(_))) {
            // Best effort: a lifecycle rule removes what is left of it.
            wait(upload.abort()).ok();
        }
        outcome
    }

    fn all_parts(
        &self,
        upload: &mut dyn MultipartUpload,
        file: &Outgoing,
        content: &mut dyn Read,
    ) -> io::Result<Result<u64, Error>> {
        let mut parts = JoinSet::new();
        let (mut hasher, mut size) = (Hasher::default(), 0);
        loop {
            let mut part = Vec::with_capacity(PART_BYTES);
            (&mut *content).take(PART_BYTES as u64).read_to_end(&mut part)?;
            if part.is_empty() {
                break;
            }
            size += part.len() as u64;
            hasher.update(&part);
            if parts.len() == PARTS_AT_ONCE
                && let Some(done) = wait(parts.join_next())
                && let Err(error) = done.unwrap_or_else(|error| Err(join(error)))
            {
                return Ok(Err(error));
            }
            let sent = upload.put_part(Bytes::from(part).into());
            let bucket = self.bucket.clone();
            parts.spawn_on(
                async move {
                    let _permit = bucket.permit().await;
                    sent.await
                },
                runtime().handle(),
            );
        }
        while let Some(done) = wait(parts.join_next()) {
            if let Err(error) = done.unwrap_or_else(|error| Err(join(error))) {
                return Ok(Err(error));
            }
        }
        file.check(hasher.finish())?;
        Ok(wait(upload.complete()).map(|_| size))
    }

    /// All content is there, in its size, and nothing else.
    fn listed(&self, sizes: &BTreeMap<String, u64>) -> Result<(), PushError> {
        let listed = wait(self.bucket.list(Some(self.directory), LISTED_MAX));
        let listed = listed.map_err(|error| self.fault(self.directory, error))?;
        let there: BTreeMap<_, _> =
            listed.iter().filter_map(|meta| Some((relative(self.directory, &meta.location)?, meta.size))).collect();
        for (path, size) in sizes {
            if there.get(path) != Some(size) {
                let source = format!("the store lists {:?} bytes of it, not {size}", there.get(path)).into();
                return Err(self.fault(&self.key(path), Error::Generic { store: "object storage", source }));
            }
        }
        let named = |path: &str| path == MANIFEST_NAME || is_attestation(path) || sizes.contains_key(path);
        match there.keys().find(|path| !named(path)) {
            Some(stranger) => Err(PushError::InTheWay { uri: self.uri.clone(), path: stranger.clone() }),
            None => Ok(()),
        }
    }

    /// The manifest, last. From here on the pack is there or it is not, and an
    /// error alone does not say which.
    fn commit(&self, bytes: &Bytes, conditional: bool) -> Result<(), PushError> {
        let key = self.key(MANIFEST_NAME);
        match wait(put_settled(self.bucket, &key, bytes.clone(), conditional)) {
            Ok(()) => Ok(()),
            // Somebody else's is there: which one?
            Err(Settled::Other) => match self.manifest(bytes) {
                Ok(Some(())) => Ok(()),
                Ok(None) => {
                    let gone = Error::NotFound { path: key.to_string(), source: "the manifest came and went".into() };
                    Err(PushError::Unsettled(self.bucket.fault(&key, gone)))
                }
                Err(PushError::Store(fault)) => Err(PushError::Unsettled(fault)),
                Err(error) => Err(error),
            },
            Err(Settled::Refused(error)) => Err(self.fault(&key, error)),
            Err(Settled::Failed(error)) => Err(PushError::Unsettled(self.bucket.fault(&key, error))),
        }
    }
}

/// Why an object is not there as it should be.
enum Settled {
    /// Another object is there.
    Other,
    /// The store gave an answer each time, and it is not there.
    Refused(Error),
    /// The store cannot be brought to take it, or to say whether it did.
    Failed(Error),
}

/// Puts an object where none is, and finds out what became of it.
async fn put_settled(bucket: &Bucket, key: &Path, bytes: Bytes, conditional: bool) -> Result<(), Settled> {
    let mut pauses = bucket.pauses();
    if !conditional {
        // Nobody else writes, the user says; what is there may be our own.
        match bucket.small(key, bytes.len() as u64).await {
            Ok(Some(there)) if there == bytes => return Ok(()),
            Ok(Some(_)) | Err(Error::NotSupported { .. }) => return Err(Settled::Other),
            Ok(None) => {}
            Err(error) => return Err(Settled::Refused(error)),
        }
    }
    let mut answered = true;
    loop {
        let mode = if conditional { PutMode::Create } else { PutMode::Overwrite };
        let error = match bucket.put(key, bytes.clone(), mode).await {
            Ok(()) => return Ok(()),
            Err(error) if refused(&error) && answered => return Err(Settled::Refused(error)),
            Err(error) if refused(&error) => return Err(Settled::Failed(error)),
            Err(error) => error,
        };
        // Without an answer the store may still be at work on it.
        answered &= has_status(&error);
        // "Already exists" may be our own put whose answer was lost, or a
        // conflict of which nothing is left; an error may hide a success.
        match bucket.small(key, bytes.len() as u64).await {
            Ok(Some(there)) if there == bytes => return Ok(()),
            Ok(Some(_)) | Err(Error::NotSupported { .. }) => return Err(Settled::Other),
            Ok(None) if pauses.pause(&error).await => {}
            Ok(None) if answered => return Err(Settled::Refused(error)),
            Ok(None) => return Err(Settled::Failed(error)),
            Err(unread) => return Err(Settled::Failed(unread)),
        }
    }
}

fn join(source: tokio::task::JoinError) -> Error {
    Error::JoinError { source }
}

fn digest_of(pack: &dyn PackReader, path: &str) -> Result<(Digest, u64), ReadFault> {
    let mut content = pack.open(path, u64::MAX)?;
    let (mut hasher, mut size) = (Hasher::default(), 0);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok((hasher.finish(), size)),
            count => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}
