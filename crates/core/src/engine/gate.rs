//! Combines True, False and Unknown.

use std::collections::BTreeMap;

use super::{Logic, Settings};
use crate::model::{
    ConditionId, ConditionSpec, EvidenceError, EvidenceRecord, GateEvaluation, GateSpec, GateTraceEntry, Lane,
    Requirement, TriState,
};

/// Levels of a requirement tree below its root.
pub const GROUP_DEPTH_MAX: usize = 32;

/// Evaluates one gate: its own copy of the records it needs, ordered by
/// condition id and lowered where their lane is not trusted, and the verdict.
pub(super) fn evaluate(
    gate: &GateSpec,
    conditions: &[&ConditionSpec],
    records: &BTreeMap<&ConditionId, EvidenceRecord>,
    settings: &Settings,
) -> (GateEvaluation, Vec<EvidenceRecord>) {
    let evidence: Vec<_> = conditions
        .iter()
        .filter_map(|condition| {
            let record = records.get(&condition.condition_id)?.clone();
            Some(trusted(record, effective_lane(gate, condition, settings)))
        })
        .collect();
    let mut walk = Walk { evidence: &evidence, logic: settings.logic, trace: Vec::new() };
    let status = walk.node(&gate.requirement, 0).unwrap_or(TriState::Unknown);
    let trace = walk.trace;
    (GateEvaluation { gate_id: gate.gate_id.clone(), status, trace }, evidence)
}

/// The strictest of all settings that speak about this condition in this gate.
fn effective_lane(gate: &GateSpec, condition: &ConditionSpec, settings: &Settings) -> Lane {
    let provider = settings.provider_lanes.get(&condition.query.provider_id).copied();
    let asked = [provider, condition.trust.map(|trust| trust.min_lane), gate.trust.map(|trust| trust.min_lane)];
    asked.into_iter().flatten().fold(settings.min_lane, Lane::max)
}

fn trusted(mut record: EvidenceRecord, needed: Lane) -> EvidenceRecord {
    if record.result.lane < needed {
        record.status = TriState::Unknown;
        // The reference writes its enum names into this sentence.
        let name = |lane| if lane == Lane::Verified { "Verified" } else { "Asserted" };
        let message = format!("evidence lane {} does not satisfy {}", name(record.result.lane), name(needed));
        record.result.error.get_or_insert_with(|| EvidenceError::new("trust_lane", message));
    }
    record
}

struct Walk<'a> {
    /// Ordered by condition id.
    evidence: &'a [EvidenceRecord],
    logic: Logic,
    trace: Vec<GateTraceEntry>,
}

/// A tree deeper than [`GROUP_DEPTH_MAX`]: the gate is Unknown, and the trace
/// keeps the leaves visited before.
struct TooDeep;

impl Walk<'_> {
    /// Visits every leaf: nothing is cut short, so the trace is complete.
    fn node(&mut self, node: &Requirement, depth: usize) -> Result<TriState, TooDeep> {
        if depth > GROUP_DEPTH_MAX {
            return Err(TooDeep);
        }
        match node {
            Requirement::Condition(id) => Ok(self.leaf(id)),
            Requirement::Not(inner) => self.node(inner, depth + 1).map(not),
            Requirement::And(members) => {
                let operands = self.members(members, depth)?;
                Ok(fold(&operands, TriState::False, self.logic))
            }
            Requirement::Or(members) => {
                let operands = self.members(members, depth)?;
                Ok(fold(&operands, TriState::True, self.logic))
            }
            Requirement::RequireGroup { min, reqs } => {
                let operands = self.members(reqs, depth)?;
                Ok(group(usize::from(*min), &operands))
            }
        }
    }

    fn members(&mut self, members: &[Requirement], depth: usize) -> Result<Vec<TriState>, TooDeep> {
        members.iter().map(|member| self.node(member, depth + 1)).collect()
    }

    fn leaf(&mut self, id: &ConditionId) -> TriState {
        let found = self.evidence.binary_search_by(|record| record.condition_id.cmp(id));
        let status = found.map_or(TriState::Unknown, |index| self.evidence[index].status);
        self.trace.push(GateTraceEntry { condition_id: id.clone(), status });
        status
    }
}

fn not(status: TriState) -> TriState {
    match status {
        TriState::True => TriState::False,
        TriState::False => TriState::True,
        TriState::Unknown => TriState::Unknown,
    }
}

/// And when `dominant` is False, Or when it is True.
fn fold(operands: &[TriState], dominant: TriState, logic: Logic) -> TriState {
    let unknown = operands.contains(&TriState::Unknown);
    if unknown && logic == Logic::Bochvar {
        TriState::Unknown
    } else if operands.contains(&dominant) {
        dominant
    } else if unknown {
        TriState::Unknown
    } else {
        not(dominant)
    }
}

fn group(min: usize, operands: &[TriState]) -> TriState {
    let count = |wanted| operands.iter().filter(|&&status| status == wanted).count();
    let (yes, maybe) = (count(TriState::True), count(TriState::Unknown));
    if yes >= min {
        TriState::True
    } else if yes + maybe < min {
        TriState::False
    } else {
        TriState::Unknown
    }
}
