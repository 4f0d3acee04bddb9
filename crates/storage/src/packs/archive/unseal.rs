use std::io;
use std::path::Path;

use runpack_core::canon::Digest;
use runpack_core::pack::PackSink;
use runpack_core::pack::layout::MANIFEST_NAME;

use super::{CopyError, Verified};
use crate::packs::{PublishError, Published, Replace, StagedPack};

/// A pack as it was unsealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsealed {
    /// The digest of the list of its files.
    pub root_hash: Digest,
    /// Whether it was there already.
    pub published: Published,
}

/// Why a pack was not unsealed. What was at the target is as it was, unless
/// [`PublishError`] says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// It could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The directory cannot take it.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Writes a pack as the directory `target`. It appears whole or not at all; see
/// [`StagedPack`].
///
/// # Errors
/// See [`UnsealError`].
pub fn unseal(pack: &Verified<'_>, target: &Path, replace: Replace) -> Result<Unsealed, UnsealError> {
    let (bytes, manifest) = pack.manifest()?;
    let mut staged = StagedPack::create(target, MANIFEST_NAME, replace)?;
    for listed in &manifest.integrity.file_hashes {
        let put = staged.put(&listed.path, &mut |out| pack.copy(listed, out).map(|_| ()).map_err(io::Error::other));
        put.map_err(|error| copying(&listed.path, error))?;
    }
    let put = staged.put(MANIFEST_NAME, &mut |out| out.write_all(&bytes));
    put.map_err(|error| copying(MANIFEST_NAME, error))?;
    let published = staged.publish()?;
    Ok(Unsealed { root_hash: manifest.integrity.root_hash, published })
}

/// A sink passes on what went wrong with its content.
fn copying(path: &str, error: io::Error) -> CopyError {
    error.downcast().unwrap_or_else(|source| CopyError::Io { path: path.to_owned(), source })
}
