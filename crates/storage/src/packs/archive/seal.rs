use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use runpack_beneath::{directory_of, sync_directory};
use runpack_core::canon::{Digest, HashingWriter};
use runpack_core::pack::layout::{MANIFEST_BYTES_MAX, MANIFEST_NAME};
use runpack_core::pack::{FileHash, Manifest, PackReader, ReadFault, Report, VerifyOptions, verify};
use runpack_core::read::{self, Refusal};

use super::{BLOCK, Entries, header, padding};
use crate::packs::attach::attestations;
use crate::packs::publish::{ATTEMPTS, Published, Replace, make_parents, same_bytes, write_durably};
use crate::packs::staging::Staging;
use crate::packs::{PublishError, rename};

/// A pack that was verified, and so may be sealed: an archive looks official.
/// What is copied of it is compared with its digests again, since a pack can
/// change meanwhile.
pub struct Verified<'a> {
    reader: &'a dyn PackReader,
    manifest_name: &'a str,
    artifact_bytes_max: u64,
    pack_digest: Digest,
}

/// A pack as it was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The digest of the list of its files.
    pub root_hash: Digest,
    /// Bytes of the archive.
    pub bytes: u64,
    /// Whether it was there already.
    pub published: Published,
}

/// Why a pack was not sealed. What was at the target is as it was, except after
/// [`SealError::NotDurable`].
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No archive can hold that file, or not there.
    #[error("{0}\nhint: keep this pack as a directory")]
    Unsealable(String),
    /// A file could not be opened.
    #[error("cannot read `{path}`: {fault}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        fault: ReadFault,
    },
    /// A file could not be read, or not written.
    #[error("cannot copy `{path}`: {source}")]
    Copy {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It has the digest of the manifest that was verified, and cannot be read.
    #[error("the manifest: {0}")]
    Shape(#[from] Refusal),
    /// A file is not the one that was verified.
    #[error("`{path}` is not what it was when it was verified\nhint: copy the pack to where nobody writes to it")]
    Changed {
        /// Which.
        path: String,
    },
    /// The archive could not be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    /// The target has no name.
    #[error("`{}` does not name a file that can be made\nhint: give the archive by its name", target.display())]
    NoName {
        /// As given.
        target: PathBuf,
    },
    /// A link, a directory, or something stranger, which is neither followed nor
    /// replaced.
    #[error("`{}` is not a file\nhint: choose another name", target.display())]
    NotAFile {
        /// As given.
        target: PathBuf,
    },
    /// Something else is there.
    #[error("`{}` exists and holds something else\nhint: choose another name or pass --replace", target.display())]
    Exists {
        /// As given.
        target: PathBuf,
    },
    /// The missing parents could not be made.
    #[error(transparent)]
    Parents(#[from] PublishError),
    /// The system did not let us.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    Io {
        /// The verb.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is at the target, but may not be after a power failure.
    #[error("`{}` is written, but not known to survive a power failure: {source}\nhint: verify it before relying on it", target.display())]
    NotDurable {
        /// As given.
        target: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl<'a> Verified<'a> {
    /// Verifies the pack behind `reader` with everything.
    ///
    /// # Errors
    /// The report, if the pack did not pass.
    pub fn new(
        reader: &'a dyn PackReader,
        manifest_name: &'a str,
        artifact_bytes_max: u64,
    ) -> Result<Self, Box<Report>> {
        let report = verify(reader, manifest_name, &VerifyOptions { artifact_bytes_max, ..VerifyOptions::default() });
        match report.pack_digest {
            Some(pack_digest) if report.verdict.passed() => {
                Ok(Self { reader, manifest_name, artifact_bytes_max, pack_digest })
            }
            _ => Err(Box::new(report)),
        }
    }

    /// The digest of the manifest's bytes.
    pub fn pack_digest(&self) -> Digest {
        self.pack_digest
    }

    /// The manifest's bytes, and what is in them.
    fn manifest(&self) -> Result<(Vec<u8>, Manifest), SealError> {
        let path = || self.manifest_name.to_owned();
        let mut bytes = Vec::new();
        let file = self.reader.open(self.manifest_name, MANIFEST_BYTES_MAX);
        let mut file = file.map_err(|fault| SealError::Read { path: path(), fault })?;
        file.read_to_end(&mut bytes).map_err(|source| SealError::Copy { path: path(), source })?;
        if Digest::of(&bytes) != self.pack_digest {
            return Err(SealError::Changed { path: path() });
        }
        let manifest = read::recorded(&bytes)?;
        Ok((bytes, manifest))
    }

    /// Copies a listed file, and says how many bytes it has. After an error
    /// some of it may have been copied.
    fn copy(&self, listed: &FileHash, out: &mut dyn Write) -> Result<u64, SealError> {
        let path = || listed.path.clone();
        let file = self.reader.open(&listed.path, self.artifact_bytes_max);
        let mut file = file.map_err(|fault| SealError::Read { path: path(), fault })?;
        let mut hashing = HashingWriter::new(out);
        let size = io::copy(&mut file, &mut hashing).map_err(|source| SealError::Copy { path: path(), source })?;
        match hashing.finish() {
            (_, digest) if digest == listed.hash => Ok(size),
            _ => Err(SealError::Changed { path: path() }),
        }
    }
}

/// Writes a pack as an archive: the manifest, then what it lists in its order,
/// then attestations by name. The same pack with the same attestations gives
/// the same bytes, wherever it lies.
///
/// # Errors
/// See [`SealError`]; what was written so far is no archive.
pub fn seal(pack: &Verified<'_>, out: &mut dyn Write) -> Result<Sealed, SealError> {
    let (manifest_bytes, manifest) = pack.manifest()?;
    let mut entries = Entries::default();
    let mut bytes = 0;
    let mut begin = |out: &mut dyn Write, name: &str, size: u64| {
        bytes += BLOCK as u64;
        entries.add(name, size, bytes).map_err(SealError::Unsealable)?;
        bytes += size + padding(size) as u64;
        Ok::<_, SealError>(out.write_all(&header(name, size))?)
    };
    let size = manifest_bytes.len() as u64;
    begin(out, MANIFEST_NAME, size)?;
    out.write_all(&manifest_bytes)?;
    out.write_all(&[0; BLOCK][..padding(size)])?;
    for listed in &manifest.integrity.file_hashes {
        // A header states the size before the bytes, so they are read twice.
        let size = pack.copy(listed, &mut io::sink())?;
        begin(out, &listed.path, size)?;
        pack.copy(listed, out)?;
        out.write_all(&[0; BLOCK][..padding(size)])?;
    }
    for (name, attestation) in attestations(pack.reader).map_err(|(path, fault)| SealError::Read { path, fault })? {
        let size = attestation.len() as u64;
        begin(out, &name, size)?;
        out.write_all(&attestation)?;
        out.write_all(&[0; BLOCK][..padding(size)])?;
    }
    out.write_all(&[0; 2 * BLOCK])?;
    let (root_hash, published) = (manifest.integrity.root_hash, Published::New);
    Ok(Sealed { root_hash, bytes: bytes + 2 * BLOCK as u64, published })
}

/// Seals a pack into the file `target`, whose missing parents are made. The
/// archive is written beside it and takes its name once it is whole. On return
/// it survives a power failure.
///
/// Where the same archive is already, nothing is changed. Another file is
/// replaced with [`Replace::Yes`] only, and then in one step.
///
/// # Errors
/// See [`SealError`].
pub fn seal_to(pack: &Verified<'_>, target: &Path, replace: Replace) -> Result<Sealed, SealError> {
    let name = target.file_name().ok_or_else(|| SealError::NoName { target: target.to_owned() })?;
    standing(target)?;
    let parent = directory_of(target);
    make_parents(parent)?;
    let parent = fs::canonicalize(parent).map_err(|source| failed("find", parent, source))?;
    let place = parent.join(name);
    let staging = Staging::create(&parent, &name.to_string_lossy(), MANIFEST_NAME)
        .map_err(|source| failed("make a directory in", &parent, source))?;
    let part = staging.part();
    let sealed = write_durably(&part, &mut |out| seal(pack, out).map_err(io::Error::other));
    let sealed = sealed.map_err(|error| error.downcast().unwrap_or_else(|source| failed("write", &part, source)))?;
    let published = put_in_place(&part, &place, target, replace)?;
    sync_directory(&parent).map_err(|source| SealError::NotDurable { target: target.to_owned(), source })?;
    Ok(Sealed { published, ..sealed })
}

/// Others may seal to the same place: then it is looked at anew.
fn put_in_place(part: &Path, place: &Path, target: &Path, replace: Replace) -> Result<Published, SealError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let moved = if !standing(place)? {
            rename::no_replace_file(part, place).map(|()| Published::New)
        } else if is_identical(part, place) {
            return Ok(Published::Identical);
        } else if replace == Replace::Yes {
            fs::rename(part, place).map(|()| Published::Replaced { leftover: None })
        } else {
            return Err(SealError::Exists { target: target.to_owned() });
        };
        match moved {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempts < ATTEMPTS => {}
            done => return done.map_err(|source| failed("move the archive to", target, source)),
        }
    }
}

/// Whether a file is there.
fn standing(place: &Path) -> Result<bool, SealError> {
    match fs::symlink_metadata(place) {
        Ok(metadata) if metadata.is_file() => Ok(true),
        Ok(_) => Err(SealError::NotAFile { target: place.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(failed("look at", place, source)),
    }
}

/// What cannot be read is not identical.
fn is_identical(a: &Path, b: &Path) -> bool {
    let (Ok(a), Ok(b)) = (File::open(a), File::open(b)) else { return false };
    same_bytes(a, b).unwrap_or(false)
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> SealError {
    SealError::Io { doing, path: path.to_owned(), source }
}
