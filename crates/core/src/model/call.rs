//! Requests and results of the recorded calls. Their canonical bytes are what
//! the digests of a [`super::ToolCallRecord`] cover.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    AgentId, ConditionId, CorrelationId, DecisionOutcome, DecisionRecord, EvidenceResult, GateEvaluation, NamespaceId,
    PacketId, PacketPayload, PacketRecord, RunId, RunStatus, SafeSummary, ScenarioId, SourceId, StageId, SubmissionId,
    SubmissionRecord, TenantId, Timestamp, TriggerEvent, TriggerId, TriggerKind,
};
use crate::read::{Admit, Refusal};

/// Asks where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct StatusRequest {
    pub correlation_id: Option<CorrelationId>,
    pub namespace_id: NamespaceId,
    pub requested_at: Timestamp,
    pub run_id: RunId,
    pub tenant_id: TenantId,
}

/// Asks for a decision on behalf of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct NextRequest {
    pub agent_id: AgentId,
    pub correlation_id: Option<CorrelationId>,
    pub namespace_id: NamespaceId,
    pub run_id: RunId,
    pub tenant_id: TenantId,
    pub time: Timestamp,
    pub trigger_id: TriggerId,
}

impl NextRequest {
    /// The trigger this request stands for.
    pub fn event(&self) -> TriggerEvent {
        TriggerEvent {
            trigger_id: self.trigger_id.clone(),
            tenant_id: self.tenant_id,
            namespace_id: self.namespace_id,
            run_id: self.run_id.clone(),
            kind: TriggerKind::AgentRequestNext,
            time: self.time,
            source_id: SourceId::from(self.agent_id.as_str()),
            payload: None,
            correlation_id: self.correlation_id.clone(),
        }
    }
}

/// Hands something in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct SubmitRequest {
    pub content_type: String,
    pub correlation_id: Option<CorrelationId>,
    pub namespace_id: NamespaceId,
    pub payload: PacketPayload,
    pub run_id: RunId,
    pub submission_id: SubmissionId,
    pub submitted_at: Timestamp,
    pub tenant_id: TenantId,
}

/// Asks what would be decided on the given evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct PrecheckRequest {
    pub evidence: BTreeMap<ConditionId, EvidenceResult>,
    pub stage_id: Option<StageId>,
}

/// The answer to a trigger or to [`NextRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct TriggerResult {
    pub decision: DecisionRecord,
    pub packets: Vec<PacketRecord>,
    pub status: RunStatus,
}

/// The answer to [`SubmitRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct SubmitResult {
    pub record: SubmissionRecord,
}

/// The answer to [`PrecheckRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct PrecheckResult {
    pub decision: DecisionOutcome,
    pub gate_evaluations: Vec<GateEvaluation>,
}

/// The answer to [`StatusRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct ScenarioStatus {
    pub current_stage_id: StageId,
    pub issued_packet_ids: Vec<PacketId>,
    pub last_decision: Option<DecisionRecord>,
    pub run_id: RunId,
    pub safe_summary: Option<SafeSummary>,
    pub scenario_id: ScenarioId,
    pub status: RunStatus,
}

impl Admit for StatusRequest {}

impl Admit for NextRequest {}

impl Admit for SubmitRequest {
    fn admit(&mut self) -> Result<(), Refusal> {
        self.payload.admit_at("/payload")
    }
}
