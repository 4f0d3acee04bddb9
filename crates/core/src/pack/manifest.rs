use serde::{Deserialize, Serialize};

use super::layout::{Artifact, CONTENT_TYPE};
use crate::canon::{CanonError, Digest, Sha256Name};
use crate::model::tagged::string_enum;
use crate::model::{AnchorPolicy, NamespaceId, RunId, ScenarioId, TenantId, Timestamp};
use crate::read::Admit;

/// The one manifest version there is.
pub const MANIFEST_VERSION: &str = "v1";

/// The index of a pack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the members are the wire format, described in docs/format.md")]
pub struct Manifest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor_policy: Option<AnchorPolicy>,
    pub artifacts: Vec<ArtifactRecord>,
    pub generated_at: Timestamp,
    pub hash_algorithm: Sha256Name,
    pub integrity: Integrity,
    pub manifest_version: String,
    pub namespace_id: NamespaceId,
    pub run_id: RunId,
    pub scenario_id: ScenarioId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<SecurityContext>,
    pub spec_hash: Digest,
    pub tenant_id: TenantId,
    pub verifier_mode: VerifierMode,
}

string_enum! {
    /// How the exporter meant the pack to be verified. Both are verified alike.
    pub enum VerifierMode {
        /// Nothing is fetched.
        OfflineStrict = "offline_strict",
        /// References may be fetched; nobody does.
        OfflineWithFetch = "offline_with_fetch",
    }
}

/// The exporter's posture, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "wire format")]
pub struct SecurityContext {
    pub dev_permissive: bool,
    pub namespace_authority: String,
}

impl Admit for SecurityContext {}

/// The digests of the files, and the digest of that list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct Integrity {
    pub file_hashes: Vec<FileHash>,
    pub root_hash: Digest,
}

impl Integrity {
    /// The list with its root.
    ///
    /// # Errors
    /// Never for this type; the signature is the canonicaliser's.
    pub fn of(file_hashes: Vec<FileHash>) -> Result<Self, CanonError> {
        let root_hash = Digest::of_canonical(&file_hashes)?;
        Ok(Self { file_hashes, root_hash })
    }
}

/// One file and its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct FileHash {
    pub hash: Digest,
    pub path: String,
}

/// One entry of the artifact index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct ArtifactRecord {
    pub artifact_id: String,
    pub content_type: Option<String>,
    pub hash: Digest,
    pub kind: ArtifactKind,
    pub path: String,
    pub required: bool,
}

impl ArtifactRecord {
    /// The entry the v1 format has for `artifact`.
    pub fn of(artifact: &Artifact, hash: Digest) -> Self {
        Self {
            artifact_id: artifact.path.to_owned(),
            kind: artifact.kind,
            path: artifact.path.to_owned(),
            content_type: Some(CONTENT_TYPE.to_owned()),
            hash,
            required: true,
        }
    }
}

string_enum! {
    /// What an artifact is. The last three are declared and never written.
    pub enum ArtifactKind {
        /// The scenario.
        ScenarioSpec = "scenario_spec",
        /// Triggers.
        TriggerLog = "trigger_log",
        /// Gate evaluations.
        GateEvalLog = "gate_eval_log",
        /// Decisions.
        DecisionLog = "decision_log",
        /// Packets.
        PacketLog = "packet_log",
        /// Submissions.
        SubmissionLog = "submission_log",
        /// Tool calls.
        ToolTranscript = "tool_transcript",
        /// The builder's own verification.
        VerifierReport = "verifier_report",
        /// Deliveries.
        DispatchLog = "dispatch_log",
        /// Evidence.
        EvidenceLog = "evidence_log",
        /// Anything.
        Custom = "custom",
    }
}
