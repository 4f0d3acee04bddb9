use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, PutMode, PutPayload};
use runpack_core::canon::{Digest, Hasher};
use runpack_core::pack::layout::{MANIFEST_BYTES_MAX, MANIFEST_NAME, is_attestation};
use runpack_core::pack::{FileHash, Finding, Manifest, PackReader, ReadFault, Report, VerifyOptions, verify};
use runpack_core::read;
use tokio::task::JoinSet;

use super::super::attach::{Attestation, attestations};
use super::super::manifest_bytes;
use super::ahead::{Ahead, Gathered};
use super::body::{Body, Kept};
use super::bucket::{Bucket, LISTED_MAX, ObjectFault, has_status, may_pass, refused, runtime, wait};
use super::key::{KeyFault, pack_key, snapshot_key};
use super::parts::{PART_BYTES, Parts};
use super::reader::{ObjectReader, relative};

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;

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

/// Where a pack goes.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// Below this prefix, under the key of its run.
    Below(&'a Path),
    /// Just here.
    At(&'a Path),
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
    /// It does not verify, so nobody gets to see it.
    #[error("the pack was not published, since it does not verify: {}{left}", Finding::worst_of(&report.findings))]
    Unverified {
        /// All that was found.
        report: Box<Report>,
        /// What of it could not be taken back.
        left: Left,
    },
}

/// Keys of files whose parts were sent and could not be taken back. No reader
/// sees them, and no list shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left(pub Vec<String>);

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.0.first() else { return Ok(()) };
        write!(
            f,
            "\nparts of {} unfinished uploads could not be taken back, the first of `{first}`; no reader sees them\n\
             hint: a lifecycle rule that aborts incomplete multipart uploads removes them",
            self.0.len()
        )
    }
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
    published(bucket, Place::Below(prefix), pack, &manifest, &bytes, Gathered::default(), options)
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
    published(bucket, Place::At(directory), pack, &manifest, &bytes, Gathered::default(), options)
}

/// Verifies a pack and publishes it, reading it once: what the verifier reads
/// is what is sent. Large files are on their way while the rest is verified, in
/// parts that nobody sees before the upload is finished; it is finished, and
/// anything else is put, only once the pack has passed.
///
/// # Errors
/// [`PushError::Unverified`] for a pack that does not pass, whatever the store
/// says; else as [`publish`].
pub fn publish_verified(
    bucket: &Bucket,
    place: Place<'_>,
    pack: &dyn PackReader,
    manifest_name: &str,
    options: &PublishOptions,
    verification: &VerifyOptions,
) -> Result<Receipt, PushError> {
    let unverified = |report, left| PushError::Unverified { report: Box::new(report), left };
    let keyed = manifest_of(pack, manifest_name).and_then(|(manifest, bytes)| {
        let directory = place.of(&manifest)?;
        Ok((manifest, bytes, directory))
    });
    let (manifest, bytes, directory) = match keyed {
        Ok(keyed) => keyed,
        // What is wrong with it can be said better.
        Err(error) => {
            let report = verify(pack, manifest_name, verification);
            return Err(if report.verdict.passed() { error } else { unverified(report, Left::default()) });
        }
    };
    let to = Target::new(bucket, &directory);
    let ahead = Ahead::new(&to, pack, manifest_name, &bytes, options);
    let report = verify(&ahead, manifest_name, verification);
    let (mut gathered, failed) = ahead.gathered();
    if !report.verdict.passed() {
        return Err(unverified(report, gathered.taken_back()));
    }
    if let Some(error) = failed {
        return Err(error);
    }
    published(bucket, place, pack, &manifest, &bytes, gathered, options)
}

impl Place<'_> {
    fn of(self, manifest: &Manifest) -> Result<Path, KeyFault> {
        match self {
            Self::Below(prefix) => pack_key(prefix, &manifest.into()),
            Self::At(directory) => Ok(directory.clone()),
        }
    }
}

fn published(
    bucket: &Bucket,
    place: Place<'_>,
    pack: &dyn PackReader,
    manifest: &Manifest,
    bytes: &Bytes,
    mut gathered: Gathered,
    options: &PublishOptions,
) -> Result<Receipt, PushError> {
    let there = Target::new(bucket, &place.of(manifest)?).publish(pack, manifest, bytes, &mut gathered, options);
    match (there, place) {
        (Err(PushError::Another { .. } | PushError::InTheWay { .. }), Place::Below(prefix))
            if options.on_existing == OnExisting::Snapshot =>
        {
            // They are parts of objects that are somebody else's.
            gathered.taken_back();
            let key = snapshot_key(prefix, &manifest.into(), Digest::of(bytes))?;
            Target::new(bucket, &key).publish(pack, manifest, bytes, &mut gathered, options)
        }
        (there, _) => there,
    }
}

fn manifest_of(pack: &dyn PackReader, manifest_name: &str) -> Result<(Manifest, Bytes), PushError> {
    let source = |fault| PushError::Source { path: manifest_name.to_owned(), fault };
    let bytes =
        manifest_bytes(pack, manifest_name).and_then(|bytes| bytes.ok_or(ReadFault::NotFound)).map_err(source)?;
    let manifest = read::recorded(&bytes).map_err(|refusal| source(ReadFault::Io(io::Error::other(refusal))))?;
    Ok((manifest, bytes.into()))
}

/// The place a pack goes to.
pub(super) struct Target<'a> {
    pub(super) bucket: &'a Bucket,
    directory: &'a Path,
    uri: String,
}

impl<'a> Target<'a> {
    fn new(bucket: &'a Bucket, directory: &'a Path) -> Self {
        Self { bucket, directory, uri: format!("{}/{directory}/", bucket.url()) }
    }

    fn publish(
        &self,
        pack: &dyn PackReader,
        manifest: &Manifest,
        bytes: &Bytes,
        gathered: &mut Gathered,
        options: &PublishOptions,
    ) -> Result<Receipt, PushError> {
        let conditional = self.conditional(options)?;
        let receipt = |pushed| {
            let (storage_uri, pack_digest) = (self.uri.clone(), Digest::of(bytes));
            Receipt { storage_uri, pack_digest, pushed, conditional }
        };
        let file = |file: &FileHash| Outgoing { path: file.path.clone(), digest: file.hash };
        let files: Vec<_> = manifest.integrity.file_hashes.iter().map(file).collect();
        let attestations = attestations(pack).map_err(|(path, fault)| PushError::Source { path, fault })?;
        if self.manifest(bytes)?.is_some() {
            self.compare(&files)?;
            self.attach(attestations, conditional)?;
            return Ok(receipt(Pushed::AlreadyThere));
        }
        let sizes = self.content(&files, pack, gathered, conditional)?;
        self.attach(attestations, conditional)?;
        self.listed(&sizes)?;
        self.commit(bytes, conditional)?;
        Ok(receipt(Pushed::New))
    }

    pub(super) fn key(&self, path: &str) -> Path {
        path.split('/').fold(self.directory.clone(), |key, part| key.join(part))
    }

    fn fault(&self, key: &Path, error: Error) -> PushError {
        PushError::Store(self.bucket.fault(key, error))
    }

    /// Whether the store creates conditionally: asked once for each bucket, by
    /// a key of our own that stays there, so that it costs one request.
    pub(super) fn conditional(&self, options: &PublishOptions) -> Result<bool, PushError> {
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
        let create = || self.bucket.put(&key, PutPayload::from_static(b"{}"), PutMode::Create);
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
    pub(super) fn manifest(&self, ours: &Bytes) -> Result<Option<()>, PushError> {
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
            let outcome = wait(put_settled(self.bucket, &key, &Body::of(bytes.into()), conditional));
            self.settled(&name, outcome)?;
        }
        Ok(())
    }

    /// Brings all content there; answers the sizes. What was gathered while the
    /// pack was verified is not read again.
    fn content(
        &self,
        files: &[Outgoing],
        pack: &dyn PackReader,
        gathered: &mut Gathered,
        conditional: bool,
    ) -> Result<BTreeMap<String, u64>, PushError> {
        let mut sizes = BTreeMap::new();
        let mut puts = JoinSet::new();
        let mut large = Vec::new();
        for file in files {
            let body = match gathered.whole.get(&file.path) {
                // It was verified, and with it this file.
                Some(body) => body.clone(),
                None if gathered.parts.contains_key(&file.path) => {
                    large.push(file);
                    continue;
                }
                None => match self.small(file, pack)? {
                    Some(body) => body,
                    None => {
                        large.push(file);
                        continue;
                    }
                },
            };
            sizes.insert(file.path.clone(), body.len() as u64);
            let (bucket, key, path) = (self.bucket.clone(), self.key(&file.path), file.path.clone());
            puts.spawn_on(
                async move { (path, put_settled(&bucket, &key, &body, conditional).await) },
                runtime().handle(),
            );
        }
        while let Some(done) = wait(puts.join_next()) {
            let (path, outcome) = done.unwrap_or_else(|error| (String::new(), Err(Settled::Failed(join(error)))));
            self.settled(&path, outcome)?;
        }
        for file in large {
            let size = self.large(file, pack, gathered.parts.remove(&file.path), conditional)?;
            sizes.insert(file.path.clone(), size);
        }
        Ok(sizes)
    }

    /// A file of at most a part.
    fn small(&self, file: &Outgoing, pack: &dyn PackReader) -> Result<Option<Body>, PushError> {
        let source = |fault| PushError::Source { path: file.path.clone(), fault };
        let content = pack.open(&file.path, u64::MAX).map_err(source)?;
        let mut bytes = Vec::new();
        let read = content.take(PART_BYTES as u64 + 1).read_to_end(&mut bytes);
        read.and_then(|_| if bytes.len() > PART_BYTES { Ok(()) } else { file.check(Digest::of(&bytes)) })
            .map_err(|error| source(ReadFault::Io(error)))?;
        Ok((bytes.len() <= PART_BYTES).then(|| Body::of(bytes.into())))
    }

    fn settled(&self, path: &str, outcome: Result<(), Settled>) -> Result<(), PushError> {
        outcome.map_err(|settled| match settled {
            Settled::Other => PushError::InTheWay { uri: self.uri.clone(), path: path.to_owned() },
            Settled::Refused(error) | Settled::Failed(error) => self.fault(&self.key(path), error),
        })
    }

    /// What the store says of a key.
    pub(super) fn there(&self, key: &Path) -> Result<Option<ObjectMeta>, Error> {
        wait(self.bucket.head(key))
    }

    /// A file of more than a part: one put if there is room for it, else in
    /// parts. What is there already, whole, is not sent again in parts, nor is
    /// what was `sent` while the pack was verified.
    fn large(
        &self,
        file: &Outgoing,
        pack: &dyn PackReader,
        mut sent: Option<Result<Parts, Error>>,
        conditional: bool,
    ) -> Result<u64, PushError> {
        let key = self.key(&file.path);
        let there = || self.there(&key).map_err(|error| self.fault(&key, error));
        let source = |fault| PushError::Source { path: file.path.clone(), fault };
        let mut begun = None;
        // No store creates parts conditionally, so that as much as possible goes
        // without.
        if sent.is_none()
            && let Some(room) = self.bucket.room_now()
        {
            let mut content = Begun::of(pack.open(&file.path, u64::MAX).map_err(source)?);
            content.kept.give(room);
            if content.fill(self.bucket.put_bytes_max).map_err(|error| source(ReadFault::Io(error)))? {
                return self.whole(file, content, conditional);
            }
            begun = Some(content);
        }
        let mut pauses = self.bucket.pauses();
        let mut tried = 0;
        loop {
            if let Some(meta) = there()? {
                return self.same(file, &meta);
            }
            let outcome = match sent.take() {
                Some(sent) => sent.and_then(Parts::complete),
                None => {
                    let begun = match begun.take() {
                        Some(begun) => begun,
                        None => Begun::of(pack.open(&file.path, u64::MAX).map_err(source)?),
                    };
                    self.parts(&key, file, begun).map_err(|error| source(ReadFault::Io(error)))?
                }
            };
            let error = match outcome {
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

    /// A large file that was read whole.
    fn whole(&self, file: &Outgoing, content: Begun<'_>, conditional: bool) -> Result<u64, PushError> {
        let Begun { kept, hasher, .. } = content;
        let source = |error| PushError::Source { path: file.path.clone(), fault: ReadFault::Io(error) };
        file.check(hasher.finish()).map_err(source)?;
        let (body, _room) = kept.end();
        let outcome = wait(put_settled(self.bucket, &self.key(&file.path), &body, conditional));
        self.settled(&file.path, outcome).map(|()| body.len() as u64)
    }

    /// The outer error is the source's, the inner the store's.
    fn parts(&self, key: &Path, file: &Outgoing, content: Begun<'_>) -> io::Result<Result<u64, Error>> {
        let Begun { kept, mut hasher, mut content } = content;
        let begun = Parts::begin(self.bucket, key).and_then(|mut parts| parts.take(kept).map(|()| parts));
        let mut parts = match begun {
            Ok(parts) => parts,
            Err(error) => return Ok(Err(error)),
        };
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hasher.update(&buffer[..count]);
            if let Err(error) = parts.write(&buffer[..count]) {
                return Ok(Err(error));
            }
        }
        file.check(hasher.finish())?;
        Ok(parts.end().and_then(|()| parts.complete()))
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
        match wait(put_settled(self.bucket, &key, &Body::of(bytes.clone()), conditional)) {
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

/// A file that is read.
struct Begun<'a> {
    kept: Kept,
    /// Of what was kept.
    hasher: Hasher,
    content: Box<dyn Read + 'a>,
}

impl<'a> Begun<'a> {
    fn of(content: Box<dyn Read + 'a>) -> Self {
        Self { kept: Kept::default(), hasher: Hasher::default(), content }
    }

    /// Reads what one put takes; whether that is all of the file.
    fn fill(&mut self, bytes_max: usize) -> io::Result<bool> {
        let mut buffer = vec![0; READ_BYTES];
        while self.kept.len() + READ_BYTES <= bytes_max {
            let count = match self.content.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.hasher.update(&buffer[..count]);
            self.kept.write(&buffer[..count]);
        }
        Ok(false)
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
async fn put_settled(bucket: &Bucket, key: &Path, body: &Body, conditional: bool) -> Result<(), Settled> {
    let mut pauses = bucket.pauses();
    if !conditional {
        // Nobody else writes, the user says; what is there may be our own.
        match body.is_at(bucket, key).await {
            Ok(Some(true)) => return Ok(()),
            Ok(Some(false)) => return Err(Settled::Other),
            Ok(None) => {}
            Err(error) => return Err(Settled::Refused(error)),
        }
    }
    let mut answered = true;
    loop {
        let mode = if conditional { PutMode::Create } else { PutMode::Overwrite };
        let error = match bucket.put(key, body.payload(), mode).await {
            Ok(()) => return Ok(()),
            Err(error) if refused(&error) && answered => return Err(Settled::Refused(error)),
            Err(error) if refused(&error) => return Err(Settled::Failed(error)),
            Err(error) => error,
        };
        // Without an answer the store may still be at work on it.
        answered &= has_status(&error);
        // "Already exists" may be our own put whose answer was lost, or a
        // conflict of which nothing is left; an error may hide a success.
        match body.is_at(bucket, key).await {
            Ok(Some(true)) => return Ok(()),
            Ok(Some(false)) => return Err(Settled::Other),
            Ok(None) if pauses.pause(&error).await => {}
            Ok(None) if answered => return Err(Settled::Refused(error)),
            Ok(None) => return Err(Settled::Failed(error)),
            Err(unread) => return Err(Settled::Failed(unread)),
        }
    }
}

pub(super) fn join(source: tokio::task::JoinError) -> Error {
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
