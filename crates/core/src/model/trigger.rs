use serde::{Deserialize, Serialize};

use super::tagged::string_enum;
use super::{
    CorrelationId, DispatchTarget, NamespaceId, PacketPayload, RunId, ScenarioId, SourceId, TenantId, Timestamp,
    TriggerId,
};
use crate::read::{Admit, Refusal};

/// How a run is started. `policy_tags` are carried and not interpreted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct RunConfig {
    pub dispatch_targets: Vec<DispatchTarget>,
    pub namespace_id: NamespaceId,
    pub policy_tags: Vec<String>,
    pub run_id: RunId,
    pub scenario_id: ScenarioId,
    pub tenant_id: TenantId,
}

impl Admit for RunConfig {}

string_enum! {
    /// What caused a trigger. Only `tick` evaluates timeouts.
    pub enum TriggerKind {
        /// An agent asked to go on.
        AgentRequestNext = "agent_request_next",
        /// Time passed.
        Tick = "tick",
        /// Something happened outside.
        ExternalEvent = "external_event",
        /// Something happened in the backend.
        BackendEvent = "backend_event",
    }
}

/// Asks for one decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct TriggerEvent {
    pub correlation_id: Option<CorrelationId>,
    pub kind: TriggerKind,
    pub namespace_id: NamespaceId,
    pub payload: Option<PacketPayload>,
    pub run_id: RunId,
    pub source_id: SourceId,
    pub tenant_id: TenantId,
    pub time: Timestamp,
    pub trigger_id: TriggerId,
}

impl Admit for TriggerEvent {
    fn admit(&mut self) -> Result<(), Refusal> {
        self.payload.as_mut().map_or(Ok(()), |payload| payload.admit_at("/payload"))
    }
}

/// A trigger in the log; `seq` counts from 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct TriggerRecord {
    pub event: TriggerEvent,
    pub seq: u64,
}
