//! The wire types: what scenarios, requests, logs and answers say.
//!
//! Optional members are written as `null` when unset, except the eight that the
//! v1 format leaves out (`docs/format.md`, rule 3.4). Bytes are arrays of
//! integers. Reading goes through [`crate::read`], which adds the strictness
//! that serde does not have.

mod call;
mod decision;
mod evidence;
mod ids;
mod packet;
mod run;
mod scenario;
mod shape;
pub(crate) mod tagged;
mod time;
mod trigger;

pub use call::{
    NextRequest, PrecheckRequest, PrecheckResult, ScenarioStatus, StatusRequest, SubmitRequest, SubmitResult,
    TriggerResult,
};
pub use decision::{
    DecisionOutcome, DecisionRecord, EvidenceRecord, GateEvalRecord, GateEvaluation, GateTraceEntry, OutcomeKind,
    SafeSummary, TriState,
};
pub use evidence::{
    AnchorPolicy, AnchorRequirement, EvidenceAnchor, EvidenceContext, EvidenceError, EvidenceRef, EvidenceResult,
    EvidenceSignature, EvidenceValue, Lane, ProviderAnchorPolicy,
};
pub use ids::{
    AgentId, CallId, CheckId, ConditionId, CorrelationId, DecisionId, DispatchId, GateId, NamespaceId, PacketId,
    PolicyId, ProviderId, RunId, ScenarioId, SchemaId, SourceId, SpecVersion, StageId, SubmissionId, TenantId,
    TriggerId,
};
pub use packet::{
    ContentRef, DispatchReceipt, DispatchTarget, PacketEnvelope, PacketPayload, PacketRecord, TargetKind, Visibility,
};
pub use run::{RunState, RunStatus, SubmissionRecord, ToolCallDetails, ToolCallError, ToolCallRecord, ToolMethod};
pub use scenario::{
    AdvanceTo, BranchRule, Comparator, ConditionSpec, EvidenceQuery, GateOutcome, GateSpec, OnTimeout, PacketSpec,
    PolicyRef, Requirement, ScenarioSpec, SchemaRef, StageSpec, TimeoutSpec, TrustRequirement,
};
pub use shape::{DataShapeRecord, DataShapeSignature};
pub use time::{BadTimestamp, Date, Instant, Timestamp};
pub use trigger::{RunConfig, TriggerEvent, TriggerKind, TriggerRecord};
