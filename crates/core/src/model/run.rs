use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

use super::tagged::{need, only, string_enum};
use super::{
    CallId, CorrelationId, DecisionRecord, DispatchTarget, GateEvalRecord, NamespaceId, PacketPayload, PacketRecord,
    RunId, ScenarioId, StageId, SubmissionId, TenantId, Timestamp, TriggerRecord,
};
use crate::canon::Digest;
use crate::read::{Admit, Refusal, below};

string_enum! {
    /// Where a run stands.
    pub enum RunStatus {
        /// It takes triggers.
        Active = "active",
        /// It reached its end.
        Completed = "completed",
        /// It ended without success.
        Failed = "failed",
    }
}

/// Everything about a run, as the wire gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct RunState {
    pub current_stage_id: StageId,
    pub decisions: Vec<DecisionRecord>,
    pub dispatch_targets: Vec<DispatchTarget>,
    pub gate_evals: Vec<GateEvalRecord>,
    pub namespace_id: NamespaceId,
    pub packets: Vec<PacketRecord>,
    pub run_id: RunId,
    pub scenario_id: ScenarioId,
    pub spec_hash: Digest,
    pub stage_entered_at: Timestamp,
    pub status: RunStatus,
    pub submissions: Vec<SubmissionRecord>,
    pub tenant_id: TenantId,
    pub tool_calls: Vec<ToolCallRecord>,
    pub triggers: Vec<TriggerRecord>,
}

/// A recorded state is somebody's file: its free-form values are admitted too,
/// or the pack made from it could say something else than the file.
impl Admit for RunState {
    fn admit(&mut self) -> Result<(), Refusal> {
        for (index, trigger) in self.triggers.iter_mut().enumerate() {
            if let Some(payload) = &mut trigger.event.payload {
                payload.admit_at(&format!("/triggers/{index}/event/payload"))?;
            }
        }
        for (index, record) in self.gate_evals.iter_mut().enumerate() {
            for (inner, evidence) in record.evidence.iter_mut().enumerate() {
                let at = format!("/gate_evals/{index}/evidence/{inner}/result");
                evidence.result.admit().map_err(|refusal| below(&at, refusal))?;
            }
        }
        for (index, packet) in self.packets.iter_mut().enumerate() {
            packet.payload.admit_at(&format!("/packets/{index}/payload"))?;
        }
        for (index, submission) in self.submissions.iter_mut().enumerate() {
            submission.payload.admit_at(&format!("/submissions/{index}/payload"))?;
        }
        Ok(())
    }
}

/// Something handed in during a run. It never influences a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct SubmissionRecord {
    pub content_hash: Digest,
    pub content_type: String,
    pub correlation_id: Option<CorrelationId>,
    pub payload: PacketPayload,
    pub run_id: RunId,
    pub submission_id: SubmissionId,
    pub submitted_at: Timestamp,
}

string_enum! {
    /// The calls that are recorded.
    pub enum ToolMethod {
        /// An agent asked to go on.
        Next = "scenario.next",
        /// A trigger was sent.
        Trigger = "scenario.trigger",
        /// Something was handed in.
        Submit = "scenario.submit",
        /// The status was asked for.
        Status = "scenario.status",
    }
}

/// A call in the log: what was asked and answered, as digests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct ToolCallRecord {
    pub call_id: CallId,
    pub called_at: Timestamp,
    pub correlation_id: Option<CorrelationId>,
    pub error: Option<ToolCallError>,
    /// A [`ToolMethod`] in what we write; any text in what we read.
    pub method: SmolStr,
    pub request_hash: Digest,
    pub response_hash: Digest,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct ToolCallError {
    pub code: String,
    pub details: Option<ToolCallDetails>,
    pub message: String,
}

/// More about a failed call.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "wire format")]
pub enum ToolCallDetails {
    ProviderMissing { missing_providers: Vec<String>, required_capabilities: Vec<String>, blocked_by_policy: bool },
    Message { info: String },
}

string_enum! {
    /// The kinds of [`ToolCallDetails`].
    enum DetailsKind {
        /// A scenario asks providers that are not there.
        ProviderMissing = "provider_missing",
        /// A sentence.
        Message = "message",
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an error details object")]
struct DetailsUnion {
    kind: DetailsKind,
    missing_providers: Option<Vec<String>>,
    required_capabilities: Option<Vec<String>>,
    blocked_by_policy: Option<bool>,
    info: Option<String>,
}

impl<'de> Deserialize<'de> for ToolCallDetails {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let wire = DetailsUnion::deserialize(reader)?;
        details(wire).map_err(D::Error::custom)
    }
}

fn details(wire: DetailsUnion) -> Result<ToolCallDetails, String> {
    let DetailsUnion { kind, missing_providers, required_capabilities, blocked_by_policy, info } = wire;
    let name = kind.as_str();
    match kind {
        DetailsKind::Message => {
            let others = [
                ("missing_providers", missing_providers.is_some()),
                ("required_capabilities", required_capabilities.is_some()),
                ("blocked_by_policy", blocked_by_policy.is_some()),
            ];
            only(name, &others)?;
            Ok(ToolCallDetails::Message { info: need(name, "info", info)? })
        }
        DetailsKind::ProviderMissing => {
            only(name, &[("info", info.is_some())])?;
            Ok(ToolCallDetails::ProviderMissing {
                missing_providers: need(name, "missing_providers", missing_providers)?,
                required_capabilities: need(name, "required_capabilities", required_capabilities)?,
                blocked_by_policy: need(name, "blocked_by_policy", blocked_by_policy)?,
            })
        }
    }
}

impl Serialize for ToolCallDetails {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::ProviderMissing { missing_providers, required_capabilities, blocked_by_policy } => {
                map.serialize_entry("blocked_by_policy", blocked_by_policy)?;
                map.serialize_entry("kind", &DetailsKind::ProviderMissing)?;
                map.serialize_entry("missing_providers", missing_providers)?;
                map.serialize_entry("required_capabilities", required_capabilities)?;
            }
            Self::Message { info } => {
                map.serialize_entry("info", info)?;
                map.serialize_entry("kind", &DetailsKind::Message)?;
            }
        }
        map.end()
    }
}
