use std::io::{self, Write};

use runpack_core::canon::{Digest, HashingWriter};
use runpack_core::pack::layout::MANIFEST_BYTES_MAX;
use runpack_core::pack::{FileHash, Manifest, PackReader, ReadFault, Report, VerifyOptions, verify};
use runpack_core::read::{self, Refusal};

/// A pack that was verified, and so may be sealed and unsealed. What is copied
/// of it is compared with its digests again: a pack can change meanwhile.
pub struct Verified<'a> {
    reader: &'a dyn PackReader,
    manifest_name: &'a str,
    artifact_bytes_max: u64,
    pack_digest: Digest,
}

/// Why a pack that was verified could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It could not be read, or not written.
    #[error("cannot copy `{path}`: {source}")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It could not be opened.
    #[error("cannot copy `{path}`: {fault}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        fault: ReadFault,
    },
    /// It is not the manifest that was verified, by its shape.
    #[error("the manifest: {0}")]
    Shape(#[from] Refusal),
    /// It is not the file that was verified, by its digest.
    #[error("`{path}` is not what it was when it was verified\nhint: copy the pack to where nobody writes to it")]
    Changed {
        /// Which file.
        path: String,
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
    pub(super) fn manifest(&self) -> Result<(Vec<u8>, Manifest), CopyError> {
        let path = || self.manifest_name.to_owned();
        let mut bytes = Vec::new();
        let file = self.reader.open(self.manifest_name, MANIFEST_BYTES_MAX);
        let mut file = file.map_err(|fault| CopyError::Read { path: path(), fault })?;
        file.read_to_end(&mut bytes).map_err(|source| CopyError::Io { path: path(), source })?;
        if Digest::of(&bytes) != self.pack_digest {
            return Err(CopyError::Changed { path: path() });
        }
        let manifest = read::recorded(&bytes)?;
        Ok((bytes, manifest))
    }

    /// Copies a listed file, and says how many bytes it has. After an error
    /// some of it may have been copied.
    pub(super) fn copy(&self, listed: &FileHash, out: &mut dyn Write) -> Result<u64, CopyError> {
        let path = || listed.path.clone();
        let file = self.reader.open(&listed.path, self.artifact_bytes_max);
        let mut file = file.map_err(|fault| CopyError::Read { path: path(), fault })?;
        let mut hashing = HashingWriter::new(out);
        let size = io::copy(&mut file, &mut hashing).map_err(|source| CopyError::Io { path: path(), source })?;
        match hashing.finish() {
            (_, digest) if digest == listed.hash => Ok(size),
            _ => Err(CopyError::Changed { path: path() }),
        }
    }
}
