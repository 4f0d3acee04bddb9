use std::collections::{BTreeMap, BTreeSet};

use super::gate::GROUP_DEPTH_MAX;
use crate::canon::{CanonError, Digest, to_vec};
use crate::model::{
    AdvanceTo, BranchRule, ConditionId, ConditionSpec, GateId, GateOutcome, GateSpec, OnTimeout, PacketId, Requirement,
    ScenarioSpec, StageId, StageSpec,
};

/// A scenario whose parts fit together, indexed so that no step searches.
#[derive(Debug, Clone)]
pub struct Scenario {
    spec: ScenarioSpec,
    bytes: Vec<u8>,
    digest: Digest,
    stages: BTreeMap<StageId, usize>,
    parts: Vec<StageParts>,
}

/// Which conditions a stage asks, as positions in the scenario's list.
#[derive(Debug, Clone)]
struct StageParts {
    /// First occurrences, in the order the gates mention them.
    asked: Vec<usize>,
    /// For each gate, its conditions ordered by id.
    gates: Vec<Vec<usize>>,
}

/// Why a scenario makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioFault {
    /// There is nothing to run.
    #[error("scenario spec must define at least one stage")]
    NoStages,
    /// Two stages share an id.
    #[error("duplicate stage identifier: {0}")]
    DuplicateStage(StageId),
    /// Two gates share an id, in whatever stages.
    #[error("duplicate gate identifier: {0}")]
    DuplicateGate(GateId),
    /// Two packets share an id, in whatever stages.
    #[error("duplicate packet identifier: {0}")]
    DuplicatePacket(PacketId),
    /// Two conditions share an id.
    #[error("duplicate condition id: {0}")]
    DuplicateCondition(ConditionId),
    /// A query does not say whom to ask, or what.
    #[error("invalid evidence query for condition {condition}: {member} is empty")]
    EmptyQuery {
        /// The condition.
        condition: ConditionId,
        /// `provider_id` or `check_id`.
        member: &'static str,
    },
    /// A gate asks for a condition that is not there.
    #[error("gate references undefined condition: {0}")]
    UndefinedCondition(ConditionId),
    /// A stage leads nowhere.
    #[error("branch target refers to unknown stage: {0}")]
    UnknownTarget(StageId),
    /// A requirement could never be evaluated to its leaves.
    #[error("requirement of gate {gate} is deeper than {GROUP_DEPTH_MAX} levels, so it would always be Unknown")]
    TooDeep {
        /// The gate.
        gate: GateId,
    },
    /// A group asks for more members than it has.
    #[error("group in gate {gate} needs {min} of {count} members, so it would always be False")]
    GroupTooLarge {
        /// The gate.
        gate: GateId,
        /// Needed.
        min: u8,
        /// There.
        count: usize,
    },
    /// A branch rule looks at a gate of another stage, or of none.
    #[error("branch rule in stage {stage} names gate {gate}, which is not a gate of that stage")]
    ForeignGate {
        /// The stage.
        stage: StageId,
        /// The gate.
        gate: GateId,
    },
    /// A branch would leave the run without a next stage.
    #[error("branch in stage {stage} has no default and no rule that matches when {when}")]
    NoMatch {
        /// The stage.
        stage: StageId,
        /// The case nobody thought of.
        when: &'static str,
    },
    /// The scenario cannot be digested.
    #[error(transparent)]
    Canon(#[from] CanonError),
}

impl Scenario {
    /// A scenario to be run.
    ///
    /// # Errors
    /// The first fault: the eight of the reference system's contract, §3 in that order, then
    /// what the reference skips: requirement trees, and branches that look at
    /// foreign gates or can match nothing.
    pub fn new(spec: ScenarioSpec) -> Result<Self, ScenarioFault> {
        let scenario = Self::recorded(spec)?;
        for stage in &scenario.spec.stages {
            stage.gates.iter().try_for_each(check_tree)?;
            check_branches(stage)?;
        }
        Ok(scenario)
    }

    /// A scenario that was run, perhaps by the reference: only what deciding
    /// cannot do without is checked.
    ///
    /// # Errors
    /// The faults of the reference system's contract, §3.
    pub fn recorded(spec: ScenarioSpec) -> Result<Self, ScenarioFault> {
        if spec.stages.is_empty() {
            return Err(ScenarioFault::NoStages);
        }
        let stages = unique(spec.stages.iter().map(|stage| &stage.stage_id), ScenarioFault::DuplicateStage)?;
        let gates = spec.stages.iter().flat_map(|stage| &stage.gates).map(|gate| &gate.gate_id);
        first_repeat(gates, ScenarioFault::DuplicateGate)?;
        let packets = spec.stages.iter().flat_map(|stage| &stage.entry_packets).map(|packet| &packet.packet_id);
        first_repeat(packets, ScenarioFault::DuplicatePacket)?;
        let ids = spec.conditions.iter().map(|condition| &condition.condition_id);
        let conditions = unique(ids, ScenarioFault::DuplicateCondition)?;
        for condition in &spec.conditions {
            let query = &condition.query;
            let members = [("provider_id", query.provider_id.as_str()), ("check_id", query.check_id.as_str())];
            if let Some((member, _)) = members.into_iter().find(|(_, text)| text.trim().is_empty()) {
                return Err(ScenarioFault::EmptyQuery { condition: condition.condition_id.clone(), member });
            }
        }
        let parts = spec.stages.iter().map(|stage| parts(stage, &conditions)).collect::<Result<_, _>>()?;
        for target in spec.stages.iter().flat_map(targets) {
            if !stages.contains_key(target) {
                return Err(ScenarioFault::UnknownTarget(target.clone()));
            }
        }
        let bytes = to_vec(&spec)?;
        Ok(Self { digest: Digest::of(&bytes), bytes, stages, parts, spec })
    }

    /// The scenario as written.
    pub fn spec(&self) -> &ScenarioSpec {
        &self.spec
    }

    /// The canonical bytes, which are the file in a pack.
    pub fn canonical_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of the canonical bytes: `spec_hash` on the wire.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Where runs start.
    pub fn first_stage(&self) -> &StageSpec {
        &self.spec.stages[0]
    }

    /// The stage named `id`.
    pub fn stage(&self, id: &StageId) -> Option<&StageSpec> {
        self.stages.get(id).map(|&index| &self.spec.stages[index])
    }

    /// The conditions a stage asks, in the fixed order: gates as written, each
    /// tree depth first, first occurrences.
    pub fn asked(&self, stage: &StageId) -> impl Iterator<Item = &ConditionSpec> {
        let parts = self.stages.get(stage).map(|&index| &self.parts[index]);
        parts.into_iter().flat_map(|parts| &parts.asked).map(|&index| &self.spec.conditions[index])
    }

    /// The gates of a stage, each with its conditions ordered by id.
    pub(super) fn gates(&self, stage: &StageId) -> impl Iterator<Item = (&GateSpec, Vec<&ConditionSpec>)> {
        let index = self.stages.get(stage).copied();
        index
            .into_iter()
            .flat_map(|index| self.spec.stages[index].gates.iter().zip(&self.parts[index].gates))
            .map(|(gate, conditions)| (gate, conditions.iter().map(|&index| &self.spec.conditions[index]).collect()))
    }

    /// The stage after `stage` in written order.
    pub(super) fn following(&self, stage: &StageId) -> Option<&StageSpec> {
        self.stages.get(stage).and_then(|&index| self.spec.stages.get(index + 1))
    }
}

/// Reports the first element, in order, that has a later twin.
fn unique<'a, K: Ord + Clone + 'a>(
    ids: impl Iterator<Item = &'a K>,
    fault: fn(K) -> ScenarioFault,
) -> Result<BTreeMap<K, usize>, ScenarioFault> {
    let mut index = BTreeMap::new();
    let mut earliest: Option<(usize, K)> = None;
    for (position, id) in ids.enumerate() {
        let first = *index.entry(id.clone()).or_insert(position);
        if first != position && earliest.as_ref().is_none_or(|(earlier, _)| first < *earlier) {
            earliest = Some((first, id.clone()));
        }
    }
    match earliest {
        Some((_, id)) => Err(fault(id)),
        None => Ok(index),
    }
}

/// Reports the second occurrence met first.
fn first_repeat<'a, K: Ord + Clone + 'a>(
    mut ids: impl Iterator<Item = &'a K>,
    fault: fn(K) -> ScenarioFault,
) -> Result<(), ScenarioFault> {
    let mut seen = BTreeSet::new();
    match ids.find(|id| !seen.insert((*id).clone())) {
        Some(id) => Err(fault(id.clone())),
        None => Ok(()),
    }
}

fn parts(stage: &StageSpec, conditions: &BTreeMap<ConditionId, usize>) -> Result<StageParts, ScenarioFault> {
    let mut asked = Vec::new();
    let mut known = BTreeSet::new();
    let mut gates = Vec::new();
    for gate in &stage.gates {
        let mut leaves = BTreeMap::new();
        for id in leaves_of(&gate.requirement) {
            let Some(&index) = conditions.get(id) else {
                return Err(ScenarioFault::UndefinedCondition(id.clone()));
            };
            leaves.insert(id, index);
            if known.insert(index) {
                asked.push(index);
            }
        }
        gates.push(leaves.into_values().collect());
    }
    Ok(StageParts { asked, gates })
}

/// The leaves of a tree, depth first, left to right, with repetitions.
fn leaves_of(root: &Requirement) -> Vec<&ConditionId> {
    let mut leaves = Vec::new();
    let mut rest = vec![root];
    while let Some(node) = rest.pop() {
        match node {
            Requirement::Condition(id) => leaves.push(id),
            Requirement::Not(inner) => rest.push(inner),
            Requirement::And(members) | Requirement::Or(members) | Requirement::RequireGroup { reqs: members, .. } => {
                rest.extend(members.iter().rev());
            }
        }
    }
    leaves
}

fn targets(stage: &StageSpec) -> Vec<&StageId> {
    match &stage.advance_to {
        AdvanceTo::Linear | AdvanceTo::Terminal => Vec::new(),
        AdvanceTo::Fixed { stage_id } => vec![stage_id],
        AdvanceTo::Branch { branches, default } => {
            branches.iter().map(|rule| &rule.next_stage_id).chain(default).collect()
        }
    }
}

fn check_tree(gate: &GateSpec) -> Result<(), ScenarioFault> {
    let mut rest = vec![(&gate.requirement, 0)];
    while let Some((node, depth)) = rest.pop() {
        if depth > GROUP_DEPTH_MAX {
            return Err(ScenarioFault::TooDeep { gate: gate.gate_id.clone() });
        }
        match node {
            Requirement::Condition(_) => {}
            Requirement::Not(inner) => rest.push((inner, depth + 1)),
            Requirement::RequireGroup { min, reqs } if usize::from(*min) > reqs.len() => {
                return Err(ScenarioFault::GroupTooLarge { gate: gate.gate_id.clone(), min: *min, count: reqs.len() });
            }
            Requirement::And(members) | Requirement::Or(members) | Requirement::RequireGroup { reqs: members, .. } => {
                rest.extend(members.iter().map(|member| (member, depth + 1)));
            }
        }
    }
    Ok(())
}

/// Every way out of a stage must lead somewhere: all gates True on an ordinary
/// or flagged advance, all Unknown on an alternate branch.
fn check_branches(stage: &StageSpec) -> Result<(), ScenarioFault> {
    let AdvanceTo::Branch { branches, default } = &stage.advance_to else { return Ok(()) };
    let own = |rule: &BranchRule| stage.gates.iter().any(|gate| gate.gate_id == rule.gate_id);
    if let Some(rule) = branches.iter().find(|rule| !own(rule)) {
        return Err(ScenarioFault::ForeignGate { stage: stage.stage_id.clone(), gate: rule.gate_id.clone() });
    }
    let misses = |outcome| default.is_none() && !branches.iter().any(|rule| rule.outcome == outcome);
    let alternates = stage.timeout.is_some() && stage.on_timeout == OnTimeout::AlternateBranch;
    let when = if misses(GateOutcome::True) {
        "every gate is True"
    } else if alternates && misses(GateOutcome::Unknown) {
        "the stage times out and every gate counts as Unknown"
    } else {
        return Ok(());
    };
    Err(ScenarioFault::NoMatch { stage: stage.stage_id.clone(), when })
}
