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

/// A requirement with what each of its nodes came to: the working behind a gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged<'a> {
    /// The node.
    pub node: &'a Requirement,
    /// What it came to.
    pub status: TriState,
    /// The same of its members, in order.
    pub members: Vec<Judged<'a>>,
}

/// Works a requirement out again on judged evidence, for showing: every node by
/// the rules that gates are decided by. What has no evidence is Unknown, and so
/// is what lies deeper than [`GROUP_DEPTH_MAX`] and everything above it.
///
/// `evidence` is ordered by condition id, as records are.
pub fn working<'a>(requirement: &'a Requirement, evidence: &[EvidenceRecord], logic: Logic) -> Judged<'a> {
    judged(requirement, 0, evidence, logic).0
}

/// The node, and whether something in it is too deep.
fn judged<'a>(node: &'a Requirement, depth: usize, evidence: &[EvidenceRecord], logic: Logic) -> (Judged<'a>, bool) {
    let inner: &[Requirement] = match node {
        Requirement::Condition(_) => &[],
        Requirement::Not(inner) => std::slice::from_ref(inner),
        Requirement::And(members) | Requirement::Or(members) => members,
        Requirement::RequireGroup { reqs, .. } => reqs,
    };
    let mut too_deep = depth > GROUP_DEPTH_MAX;
    let inner = if too_deep { &[] } else { inner };
    let mut members = Vec::with_capacity(inner.len());
    for member in inner {
        let (member, deep) = judged(member, depth + 1, evidence, logic);
        too_deep |= deep;
        members.push(member);
    }
    let operands: Vec<_> = members.iter().map(|member| member.status).collect();
    let status = match node {
        _ if too_deep => TriState::Unknown,
        Requirement::Condition(id) => status_of(evidence, id),
        Requirement::Not(_) => operands.first().copied().map_or(TriState::Unknown, not),
        Requirement::And(_) => fold(&operands, TriState::False, logic),
        Requirement::Or(_) => fold(&operands, TriState::True, logic),
        Requirement::RequireGroup { min, .. } => group(usize::from(*min), &operands),
    };
    (Judged { node, status, members }, too_deep)
}

fn status_of(evidence: &[EvidenceRecord], id: &ConditionId) -> TriState {
    let found = evidence.binary_search_by(|record| record.condition_id.cmp(id));
    found.map_or(TriState::Unknown, |index| evidence[index].status)
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
        let status = status_of(self.evidence, id);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EvidenceResult;

    /// Trees by counting: each number is another shape.
    fn tree(seed: &mut u64, depth: usize) -> Requirement {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pick = *seed >> 33;
        let mut members = || (0..pick / 8 % 4).map(|_| tree(seed, depth + 1)).collect::<Vec<_>>();
        match if depth > 4 { 0 } else { pick % 6 } {
            0 | 1 => Requirement::Condition(["a", "b", "c", "nobody"][(pick / 8 % 4) as usize].into()),
            2 => Requirement::Not(Box::new(tree(seed, depth + 1))),
            3 => Requirement::And(members()),
            4 => Requirement::Or(members()),
            _ => Requirement::RequireGroup { min: (pick / 64 % 4) as u8, reqs: members() },
        }
    }

    #[test]
    fn the_working_comes_to_what_the_gate_came_to() {
        let record = |id: &str, status| EvidenceRecord {
            condition_id: id.into(),
            result: EvidenceResult::empty(Lane::Verified),
            status,
        };
        let evidence = [record("a", TriState::True), record("b", TriState::False), record("c", TriState::Unknown)];
        let mut deep = Requirement::Condition("a".into());
        for _ in 0..GROUP_DEPTH_MAX {
            deep = Requirement::And(vec![deep]);
        }
        let mut trees = vec![Requirement::And(vec![deep.clone()]), deep];
        let mut seed = 20_240_309;
        trees.extend((0..2_000).map(|_| tree(&mut seed, 0)));
        let mut seen = [0; 3];
        for tree in &trees {
            for logic in [Logic::Kleene, Logic::Bochvar] {
                let mut walk = Walk { evidence: &evidence, logic, trace: Vec::new() };
                let status = walk.node(tree, 0).unwrap_or(TriState::Unknown);
                assert_eq!(working(tree, &evidence, logic).status, status, "{tree:?}");
                seen[status as usize] += 1;
            }
        }
        assert_eq!(working(&trees[0], &evidence, Logic::Kleene).status, TriState::Unknown);
        assert_eq!(working(&trees[1], &evidence, Logic::Kleene).status, TriState::True);
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
    }
}
