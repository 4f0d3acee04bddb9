use std::io::Read;
use std::path::Path;

use runpack_beneath::{directory_of, sync_directory};
use runpack_core::pack::layout::{ARTIFACT_DIRECTORY, ATTESTATIONS_MAX, MANIFEST_NAME, is_attestation};
use runpack_core::pack::{ListedKind, PackReader, ReadFault};
use runpack_core::trust::ENVELOPE_BYTES_MAX;

use super::publish::{ATTEMPTS, Published, same_bytes, write_durably};
use super::rename;
use super::staging::Staging;

/// Why an attestation does not lie where it should.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// A verifier would take it for something else.
    #[error("`{0}` is no name of an attestation\nhint: letters, digits, `.`, `_`, `-`, and .dsse.json at the end")]
    Name(String),
    /// Another file is there.
    #[error("`{0}` exists and holds something else\nhint: choose another name with --out")]
    Exists(String),
    /// The system did not let us.
    #[error("cannot write `{path}`: {source}")]
    Io {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Puts an attestation at `path`, whole or not at all: half of one beside a
/// manifest would refuse the pack. It grows beside a pack, or where it will be.
///
/// # Errors
/// See [`AttachError`]; another file is never replaced.
pub fn attach(path: &Path, bytes: &[u8]) -> Result<Published, AttachError> {
    let shown = || path.display().to_string();
    let failed = |source| AttachError::Io { path: shown(), source };
    let name = path.file_name().and_then(|name| name.to_str()).filter(|name| is_attestation(name));
    let name = name.ok_or_else(|| AttachError::Name(shown()))?;
    let directory = std::fs::canonicalize(directory_of(path)).map_err(failed)?;
    let target = directory.join(name);
    // Beside a pack, not in it, where a verifier would find what a killed
    // process left.
    let is_pack = directory.join(ARTIFACT_DIRECTORY).symlink_metadata().is_ok();
    let place = if is_pack { directory_of(&directory) } else { &directory };
    let staging = Staging::create(place, name, MANIFEST_NAME).map_err(failed)?;
    let part = staging.part();
    write_durably(&part, &mut |out| out.write_all(bytes)).map_err(failed)?;
    for _ in 0..ATTEMPTS {
        match rename::no_replace_file(&part, &target) {
            Ok(()) => {
                sync_directory(&directory).map_err(failed)?;
                return Ok(Published::New);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                match std::fs::File::open(&target) {
                    Ok(there) if same_bytes(&there, bytes).unwrap_or(false) => return Ok(Published::Identical),
                    Ok(_) => return Err(AttachError::Exists(shown())),
                    // It went away in between.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(failed(error)),
                }
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Err(AttachError::Exists(shown()))
}

/// The name of an attestation, and its bytes.
pub(super) type Attestation = (String, Vec<u8>);

/// The attestations beside a manifest, by name. They go wherever the pack goes.
///
/// # Errors
/// The first that cannot be read: its name, and why.
pub(super) fn attestations(pack: &dyn PackReader) -> Result<Vec<Attestation>, (String, ReadFault)> {
    let listed = pack.list().map_err(|fault| (String::new(), fault))?;
    let stored = listed.into_iter().filter(|listed| listed.kind == ListedKind::File && is_attestation(&listed.path));
    let mut names: Vec<_> = stored.map(|listed| listed.path).collect();
    names.sort();
    if let Some(name) = names.get(ATTESTATIONS_MAX) {
        return Err((name.clone(), ReadFault::TooMany { limit: ATTESTATIONS_MAX, what: "attestations" }));
    }
    let read = |name: String| {
        let mut bytes = Vec::new();
        let file = pack.open(&name, ENVELOPE_BYTES_MAX);
        match file.and_then(|mut file| Ok(file.read_to_end(&mut bytes)?)) {
            Ok(_) => Ok((name, bytes)),
            Err(fault) => Err((name, fault)),
        }
    };
    names.into_iter().map(read).collect()
}
