use serde_json::Value;

use super::policy::{Answer, Policy};
use super::{Head, PAYLOAD_BYTES_MAX, Scenario};
use crate::canon::{CanonError, Digest, TooLarge, size_within, to_vec};
use crate::model::{
    DecisionRecord, DispatchId, DispatchReceipt, PacketEnvelope, PacketPayload, PacketRecord, PacketSpec, StageSpec,
    Visibility,
};

/// Why packets were not issued. The sentence becomes the `reason` of a `fail`
/// decision, so it is on the wire.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The policy said no.
    #[error("policy denied disclosure")]
    Denied,
    /// The policy could not say.
    #[error("policy decision error: {0}")]
    Policy(String),
    /// A payload is larger than [`PAYLOAD_BYTES_MAX`].
    #[error("payload {0}")]
    TooLarge(#[from] TooLarge),
    /// A payload cannot be digested.
    #[error(transparent)]
    Canon(#[from] CanonError),
}

/// The digest of a payload: of the bare value's canonical bytes, of the bytes,
/// or the one an external reference states.
///
/// # Errors
/// [`IssueError::TooLarge`] or [`IssueError::Canon`].
pub fn content_hash(payload: &PacketPayload) -> Result<Digest, IssueError> {
    let limit = PAYLOAD_BYTES_MAX;
    match payload {
        PacketPayload::External(reference) => Ok(reference.content_hash),
        PacketPayload::Bytes(bytes) if bytes.len() as u64 > limit => {
            Err(TooLarge { actual: bytes.len() as u64, limit }.into())
        }
        PacketPayload::Bytes(bytes) => Ok(Digest::of(bytes)),
        PacketPayload::Json(value) => json_hash(value, limit),
    }
}

fn json_hash(value: &Value, limit: u64) -> Result<Digest, IssueError> {
    let bytes = to_vec(value)?;
    if bytes.len() as u64 > limit {
        size_within(value, limit)??;
    }
    Ok(Digest::of(&bytes))
}

/// Issues the entry packets of `stage` under `decision`: for each packet, each
/// target is put to the policy. One refusal refuses them all.
pub(super) fn issue(
    scenario: &Scenario,
    head: &Head,
    stage: &StageSpec,
    decision: &DecisionRecord,
    policy: &Policy,
) -> Result<Vec<PacketRecord>, IssueError> {
    stage.entry_packets.iter().map(|packet| issue_one(scenario, head, stage, packet, decision, policy)).collect()
}

fn issue_one(
    scenario: &Scenario,
    head: &Head,
    stage: &StageSpec,
    packet: &PacketSpec,
    decision: &DecisionRecord,
    policy: &Policy,
) -> Result<PacketRecord, IssueError> {
    let envelope = PacketEnvelope {
        scenario_id: scenario.spec().scenario_id.clone(),
        run_id: head.run_id.clone(),
        stage_id: stage.stage_id.clone(),
        packet_id: packet.packet_id.clone(),
        schema_id: packet.schema_id.clone(),
        content_type: packet.content_type.clone(),
        content_hash: content_hash(&packet.payload)?,
        visibility: Visibility { labels: packet.visibility_labels.clone(), policy_tags: packet.policy_tags.clone() },
        expiry: packet.expiry,
        correlation_id: decision.correlation_id.clone(),
        issued_at: decision.decided_at,
    };
    let receipt_hash = Digest::of_canonical(&envelope)?;
    let mut receipts = Vec::new();
    for target in &head.dispatch_targets {
        match policy.authorize(target, &envelope) {
            Answer::Permit => {}
            Answer::Deny => return Err(IssueError::Denied),
            Answer::Error(message) => return Err(IssueError::Policy(message)),
        }
        receipts.push(DispatchReceipt {
            dispatch_id: DispatchId::from(format!("mcp-{}", packet.packet_id)),
            target: target.clone(),
            receipt_hash,
            dispatched_at: envelope.issued_at,
            dispatcher: "mcp".to_owned(),
        });
    }
    let payload = packet.payload.clone();
    Ok(PacketRecord { envelope, payload, receipts, decision_id: decision.decision_id.clone() })
}
