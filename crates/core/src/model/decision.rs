use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

use super::tagged::{need, only, string_enum};
use super::{ConditionId, CorrelationId, DecisionId, EvidenceResult, GateId, StageId, Timestamp, TriggerId};

string_enum! {
    /// Kleene's three values. Capitalised on the wire.
    pub enum TriState {
        /// Proven.
        True = "True",
        /// Disproven.
        False = "False",
        /// Neither.
        Unknown = "Unknown",
    }
}

/// One condition's evidence, as one gate judged it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct EvidenceRecord {
    pub condition_id: ConditionId,
    pub result: EvidenceResult,
    pub status: TriState,
}

/// One leaf visited while deciding a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct GateTraceEntry {
    pub condition_id: ConditionId,
    pub status: TriState,
}

/// How a gate came out, and by which leaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct GateEvaluation {
    pub gate_id: GateId,
    pub status: TriState,
    pub trace: Vec<GateTraceEntry>,
}

/// A gate's evaluation in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct GateEvalRecord {
    pub evaluation: GateEvaluation,
    /// Ordered by condition id.
    pub evidence: Vec<EvidenceRecord>,
    pub stage_id: StageId,
    pub trigger_id: TriggerId,
}

/// A decision in the log; `seq` counts from 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct DecisionRecord {
    pub correlation_id: Option<CorrelationId>,
    pub decided_at: Timestamp,
    pub decision_id: DecisionId,
    pub outcome: DecisionOutcome,
    pub seq: u64,
    /// The stage before any move.
    pub stage_id: StageId,
    pub trigger_id: TriggerId,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "wire format")]
pub enum DecisionOutcome {
    /// The run began and its first packets were issued.
    Start { stage_id: StageId },
    /// The run reached its end.
    Complete { stage_id: StageId },
    /// The run moved on; `timeout` says that time moved it.
    Advance { from_stage: StageId, to_stage: StageId, timeout: bool },
    /// Not every gate is True; nothing changed.
    Hold { summary: SafeSummary },
    /// The run is over without success.
    Fail { reason: String },
}

/// What may be said about a hold to anybody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct SafeSummary {
    pub policy_tags: Vec<SmolStr>,
    pub retry_hint: Option<SmolStr>,
    pub status: SmolStr,
    /// Gates that are not True, in scenario order.
    pub unmet_gates: Vec<GateId>,
}

string_enum! {
    /// The kinds of [`DecisionOutcome`].
    pub enum OutcomeKind {
        /// The run began.
        Start = "start",
        /// The run is complete.
        Complete = "complete",
        /// The run moved on.
        Advance = "advance",
        /// Nothing changed.
        Hold = "hold",
        /// The run failed.
        Fail = "fail",
    }
}

impl DecisionOutcome {
    /// Which kind this is.
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Self::Start { .. } => OutcomeKind::Start,
            Self::Complete { .. } => OutcomeKind::Complete,
            Self::Advance { .. } => OutcomeKind::Advance,
            Self::Hold { .. } => OutcomeKind::Hold,
            Self::Fail { .. } => OutcomeKind::Fail,
        }
    }
}

#[derive(Deserialize)]
#[serde(expecting = "a decision outcome object")]
struct OutcomeUnion {
    kind: OutcomeKind,
    stage_id: Option<StageId>,
    from_stage: Option<StageId>,
    to_stage: Option<StageId>,
    timeout: Option<bool>,
    summary: Option<SafeSummary>,
    reason: Option<String>,
}

impl<'de> Deserialize<'de> for DecisionOutcome {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let wire = OutcomeUnion::deserialize(reader)?;
        outcome(wire).map_err(D::Error::custom)
    }
}

fn outcome(wire: OutcomeUnion) -> Result<DecisionOutcome, String> {
    let OutcomeUnion { kind, stage_id, from_stage, to_stage, timeout, summary, reason } = wire;
    let name = kind.as_str();
    let stage = [("stage_id", stage_id.is_some())];
    let moved =
        [("from_stage", from_stage.is_some()), ("to_stage", to_stage.is_some()), ("timeout", timeout.is_some())];
    let held = [("summary", summary.is_some())];
    let failed = [("reason", reason.is_some())];
    Ok(match kind {
        OutcomeKind::Start | OutcomeKind::Complete => {
            only(name, &[&moved[..], &held, &failed].concat())?;
            let stage_id = need(name, "stage_id", stage_id)?;
            if kind == OutcomeKind::Start {
                DecisionOutcome::Start { stage_id }
            } else {
                DecisionOutcome::Complete { stage_id }
            }
        }
        OutcomeKind::Advance => {
            only(name, &[&stage[..], &held, &failed].concat())?;
            DecisionOutcome::Advance {
                from_stage: need(name, "from_stage", from_stage)?,
                to_stage: need(name, "to_stage", to_stage)?,
                timeout: need(name, "timeout", timeout)?,
            }
        }
        OutcomeKind::Hold => {
            only(name, &[&stage[..], &moved, &failed].concat())?;
            DecisionOutcome::Hold { summary: need(name, "summary", summary)? }
        }
        OutcomeKind::Fail => {
            only(name, &[&stage[..], &moved, &held].concat())?;
            DecisionOutcome::Fail { reason: need(name, "reason", reason)? }
        }
    })
}

impl Serialize for DecisionOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Self::Advance { from_stage, .. } = self {
            map.serialize_entry("from_stage", from_stage)?;
        }
        map.serialize_entry("kind", &self.kind())?;
        match self {
            Self::Start { stage_id } | Self::Complete { stage_id } => map.serialize_entry("stage_id", stage_id)?,
            Self::Advance { to_stage, timeout, .. } => {
                map.serialize_entry("timeout", timeout)?;
                map.serialize_entry("to_stage", to_stage)?;
            }
            Self::Hold { summary } => map.serialize_entry("summary", summary)?,
            Self::Fail { reason } => map.serialize_entry("reason", reason)?,
        }
        map.end()
    }
}
