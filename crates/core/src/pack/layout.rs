//! What a v1 pack holds, and where. The only code that spells a path in a pack.

use super::manifest::ArtifactKind;
use crate::canon::Digest;

/// The manifest's name unless the user chose another.
pub const MANIFEST_NAME: &str = "manifest.json";

/// The directory of the artifacts.
pub const ARTIFACT_DIRECTORY: &str = "artifacts";

/// Bytes of one artifact, unless raised with `--max-artifact-bytes`.
pub const ARTIFACT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Bytes of the manifest. A v1 manifest has about 4 KiB.
pub const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;

/// One artifact of the v1 format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Artifact {
    /// Relative to the pack; also the artifact's id.
    pub path: &'static str,
    /// What the manifest calls it.
    pub kind: ArtifactKind,
    /// What is in it.
    pub content: Content,
}

/// What an artifact holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The scenario as written.
    Scenario,
    /// One log of the run.
    Log(Log),
    /// What the builder's own verification said; optional, always last.
    Report,
}

/// The logs of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is the log of that name")]
pub enum Log {
    Triggers,
    GateEvals,
    Decisions,
    Packets,
    Submissions,
    ToolCalls,
}

const fn artifact(path: &'static str, kind: ArtifactKind, content: Content) -> Artifact {
    Artifact { path, kind, content }
}

/// Every artifact, in the order of the manifest's two lists. Builder and
/// verifier both walk this table.
pub const ARTIFACTS: [Artifact; 8] = [
    artifact("artifacts/scenario_spec.json", ArtifactKind::ScenarioSpec, Content::Scenario),
    artifact("artifacts/triggers.json", ArtifactKind::TriggerLog, Content::Log(Log::Triggers)),
    artifact("artifacts/gate_evals.json", ArtifactKind::GateEvalLog, Content::Log(Log::GateEvals)),
    artifact("artifacts/decisions.json", ArtifactKind::DecisionLog, Content::Log(Log::Decisions)),
    artifact("artifacts/packets.json", ArtifactKind::PacketLog, Content::Log(Log::Packets)),
    artifact("artifacts/submissions.json", ArtifactKind::SubmissionLog, Content::Log(Log::Submissions)),
    artifact("artifacts/tool_calls.json", ArtifactKind::ToolTranscript, Content::Log(Log::ToolCalls)),
    artifact("artifacts/verifier_report.json", ArtifactKind::VerifierReport, Content::Report),
];

/// Artifacts before the optional report.
pub const REQUIRED: usize = ARTIFACTS.len() - 1;

/// The content type of every artifact.
pub const CONTENT_TYPE: &str = "application/json";

/// What the name of an attestation ends with: a signed envelope beside the
/// manifest, which no manifest lists and only its signatures speak for.
pub const ATTESTATION_ENDING: &str = ".dsse.json";

/// Attestations beside one manifest.
pub const ATTESTATIONS_MAX: usize = 16;

/// Bytes of an attestation's name; an archive holds no longer one.
const ATTESTATION_NAME_BYTES_MAX: usize = 100;

/// The name of an attestation by a key: no two keys have the same one.
pub fn attestation_name(key: &Digest) -> String {
    format!("signed-{}{ATTESTATION_ENDING}", &key.to_string()[..16])
}

/// Whether a file at `path` is an attestation and no part of the pack.
pub fn is_attestation(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    path.strip_suffix(ATTESTATION_ENDING).is_some_and(|name| !name.is_empty() && !name.starts_with(['-', '.']))
        && path.len() <= ATTESTATION_NAME_BYTES_MAX
        && path.bytes().all(plain)
}
