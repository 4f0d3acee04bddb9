//! The keys of packs, as the reference system lays them out.

use object_store::path::Path;
use runpack_core::canon::Digest;
use runpack_core::pack::RunIdentity;

/// Bytes of one segment of a key.
const SEGMENT_BYTES_MAX: usize = 255;

/// Bytes of the longest key in a pack. S3 and its like hold no longer ones.
const KEY_BYTES_MAX: usize = 1024;

/// Room for the longest name in a pack: `artifacts/verifier_report.json`, or a
/// manifest's.
const NAME_BYTES_MAX: usize = 200;

/// A pack that can have no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// An id cannot be a segment of a key.
    #[error("`{id}` cannot be part of a key: {reason}")]
    Segment {
        /// The id.
        id: String,
        /// Why.
        reason: &'static str,
    },
    /// The ids are too long together.
    #[error("the key of the pack would have {bytes} bytes, and {limit} is the most that object stores hold")]
    TooLong {
        /// Bytes, the longest name in a pack included.
        bytes: usize,
        /// Bytes.
        limit: usize,
    },
}

/// Where the pack of this run goes below `prefix`:
/// `tenant/<t>/namespace/<n>/scenario/<id>/run/<id>/spec/sha256/<spec hash>`.
///
/// # Errors
/// See [`KeyFault`].
pub fn pack_key(prefix: &Path, run: &RunIdentity) -> Result<Path, KeyFault> {
    run_key(prefix, run, &["spec", "sha256", &run.spec_hash.to_string()])
}

/// Where it goes if another pack of the same run is there already:
/// `…/run/<id>/snapshot/<pack digest>`.
///
/// # Errors
/// See [`KeyFault`].
pub fn snapshot_key(prefix: &Path, run: &RunIdentity, pack_digest: Digest) -> Result<Path, KeyFault> {
    run_key(prefix, run, &["snapshot", &pack_digest.to_string()])
}

fn run_key(prefix: &Path, run: &RunIdentity, tail: &[&str]) -> Result<Path, KeyFault> {
    let (tenant, namespace) = (run.tenant_id.to_string(), run.namespace_id.to_string());
    let (scenario, run) = (run.scenario_id.as_str(), run.run_id.as_str());
    let mut segments = vec!["tenant", &tenant, "namespace", &namespace, "scenario", scenario, "run", run];
    segments.extend(tail);
    for id in [scenario, run] {
        let wrong = |reason| Err(KeyFault::Segment { id: id.to_owned(), reason });
        if id.is_empty() || id == "." || id == ".." {
            return wrong("it is empty, `.` or `..`");
        }
        if id.contains('/') {
            return wrong("it holds a slash");
        }
        if id.chars().any(|c| c.is_ascii_control()) {
            return wrong("it holds a control character");
        }
        if id.len() > SEGMENT_BYTES_MAX {
            return wrong("it is longer than 255 bytes");
        }
    }
    let below = segments.join("/");
    let text = if prefix.as_ref().is_empty() { below } else { format!("{prefix}/{below}") };
    if text.len() + NAME_BYTES_MAX > KEY_BYTES_MAX {
        return Err(KeyFault::TooLong { bytes: text.len() + NAME_BYTES_MAX, limit: KEY_BYTES_MAX });
    }
    let unusual = |_| KeyFault::Segment { id: text.clone(), reason: "object stores do not take it" };
    Path::parse(&text).map_err(unusual)
}
