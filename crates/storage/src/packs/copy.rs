use std::io::{self, Read};
use std::path::Path;

use runpack_core::canon::Digest;
use runpack_core::pack::layout::{MANIFEST_BYTES_MAX, is_attestation};
use runpack_core::pack::{Finding, Manifest, PackReader, PackSink, ReadFault, VerifyOptions, verify};
use runpack_core::read;

use super::attach::attestations;
use super::{OpenFault, PublishError, Published, Replace, StagedPack};

/// Why a pack was not copied; the target is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A file cannot be read.
    #[error("`{path}`: {fault}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        fault: ReadFault,
    },
    /// It holds a file that is not in the manifest.
    #[error("`{0}` is not in the manifest")]
    Unlisted(String),
    /// The directory cannot take it.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// It cannot be written.
    #[error("cannot write the copy: {0}")]
    Write(#[from] io::Error),
    /// What was written cannot be read back.
    #[error(transparent)]
    ReadBack(#[from] OpenFault),
    /// The copy does not verify.
    #[error("what was copied does not verify: {}", Finding::worst_of(.0))]
    Refused(Vec<Finding>),
}

/// Brings a pack and its attestations from anywhere into a directory, where it appears whole or not
/// at all. The copy is what is verified, so it does not matter what the source
/// said a moment before.
///
/// # Errors
/// See [`CopyError`].
pub fn copy(
    pack: &dyn PackReader,
    manifest_name: &str,
    target: &Path,
    replace: Replace,
    options: &VerifyOptions,
) -> Result<(Published, Digest), CopyError> {
    let failed = |path: &str, fault| CopyError::Read { path: path.to_owned(), fault };
    let mut manifest = Vec::new();
    let mut file = pack.open(manifest_name, MANIFEST_BYTES_MAX).map_err(|fault| failed(manifest_name, fault))?;
    file.read_to_end(&mut manifest).map_err(|error| failed(manifest_name, error.into()))?;
    drop(file);
    let parsed: Manifest =
        read::recorded(&manifest).map_err(|refusal| failed(manifest_name, io::Error::other(refusal).into()))?;
    let named = |path: &str| {
        path == manifest_name
            || is_attestation(path)
            || parsed.integrity.file_hashes.iter().any(|file| file.path == path)
    };
    let listed = pack.list().map_err(|fault| failed("", fault))?;
    // Left out silently, the copy would pass where the original does not.
    if let Some(stranger) = listed.into_iter().find(|listed| !named(&listed.path)) {
        return Err(CopyError::Unlisted(stranger.path));
    }
    let mut staged = StagedPack::create(target, manifest_name, replace)?;
    for listed in &parsed.integrity.file_hashes {
        let path = &listed.path;
        let mut content = pack.open(path, options.artifact_bytes_max).map_err(|fault| failed(path, fault))?;
        staged.put(path, &mut |out| io::copy(&mut content, out).map(drop))?;
    }
    for (name, bytes) in attestations(pack).map_err(|(name, fault)| CopyError::Read { path: name, fault })? {
        staged.put(&name, &mut |out| out.write_all(&bytes))?;
    }
    staged.put(manifest_name, &mut |out| out.write_all(&manifest))?;
    let report = verify(&staged.reader()?, manifest_name, options);
    if !report.verdict.passed() {
        return Err(CopyError::Refused(report.findings));
    }
    Ok((staged.publish()?, Digest::of(&manifest)))
}
