use std::collections::BTreeMap;

use super::condition::{self, Evidence};
use super::plan::{DecideError, same_run};
use super::policy::Policy;
use super::state::expired;
use super::{Entry, Head, Scenario, Settings, gate, packet};
use crate::model::{
    AdvanceTo, ConditionId, DecisionOutcome, DecisionRecord, EvidenceError, EvidenceResult, GateEvalRecord,
    GateEvaluation, GateId, GateOutcome, Lane, OnTimeout, PacketRecord, PrecheckResult, RunStatus, SafeSummary,
    StageId, StageSpec, TriState, TriggerEvent, TriggerRecord,
};

/// What one trigger did: the entries to append, and the head after them.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The trigger.
    pub trigger: TriggerRecord,
    /// One per gate of the stage, in written order; none when time decided.
    pub gate_evals: Vec<GateEvalRecord>,
    /// The decision.
    pub decision: DecisionRecord,
    /// Packets of the stage entered.
    pub packets: Vec<PacketRecord>,
    /// The run after all this.
    pub head: Head,
}

impl Step {
    /// The entries in the order they are logged.
    pub fn into_entries(self) -> (Head, Vec<Entry>) {
        let mut entries = vec![Entry::Trigger(self.trigger)];
        entries.extend(self.gate_evals.into_iter().map(Entry::GateEval));
        entries.push(Entry::Decision(self.decision));
        entries.extend(self.packets.into_iter().map(Entry::Packet));
        (self.head, entries)
    }
}

/// Decides `event` on `evidence`.
///
/// Called after [`super::plan`] answered [`super::Plan::Gather`] or
/// [`super::Plan::Expired`]; whether the stage has expired is worked out again,
/// so the two cannot disagree. A condition without evidence is Unknown.
///
/// # Errors
/// See [`DecideError`]. Nothing is written.
pub fn decide(
    scenario: &Scenario,
    settings: &Settings,
    head: &Head,
    event: &TriggerEvent,
    evidence: &BTreeMap<ConditionId, Evidence>,
    policy: &Policy,
) -> Result<Step, DecideError> {
    same_run(scenario, head, event)?;
    let unknown = || DecideError::UnknownStage(head.current_stage_id.clone());
    let stage = scenario.stage(&head.current_stage_id).ok_or_else(unknown)?;
    let mut after = head.clone();
    let trigger = after.trigger(event.clone());

    if expired(scenario, head, event)? {
        let (decision, packets) = match stage.on_timeout {
            OnTimeout::Fail => (fail(&mut after, event, "timeout".to_owned()), Vec::new()),
            OnTimeout::AdvanceWithFlag => {
                advance(scenario, &mut after, event, stage, |_| TriState::True, true, policy)?
            }
            OnTimeout::AlternateBranch => {
                advance(scenario, &mut after, event, stage, |_| TriState::Unknown, true, policy)?
            }
        };
        return Ok(Step { trigger, gate_evals: Vec::new(), decision, packets, head: after });
    }

    let absent = Evidence::admit(EvidenceResult::failed(EvidenceError::provider("no evidence was gathered")));
    let gate_evals: Vec<_> = evaluate(scenario, settings, stage, |id| evidence.get(id).unwrap_or(&absent))?
        .into_iter()
        .map(|(evaluation, evidence)| GateEvalRecord {
            trigger_id: event.trigger_id.clone(),
            stage_id: stage.stage_id.clone(),
            evaluation,
            evidence,
        })
        .collect();
    after.counts.gate_evals += gate_evals.len() as u64;
    let (decision, packets) = match unmet(gate_evals.iter().map(|record| &record.evaluation)) {
        unmet if unmet.is_empty() => advance(scenario, &mut after, event, stage, |_| TriState::True, false, policy)?,
        unmet => (after.decision(event, stage.stage_id.clone(), hold(unmet)), Vec::new()),
    };
    Ok(Step { trigger, gate_evals, decision, packets, head: after })
}

/// Says what would be decided on the evidence given, without a run.
///
/// Nothing is written, packets and timeouts are left out, anchors are not
/// checked; a condition without evidence counts as asserted and without value.
///
/// # Errors
/// [`DecideError::UnknownStage`], [`DecideError::NoBranch`] or [`DecideError::Canon`].
pub fn precheck(
    scenario: &Scenario,
    settings: &Settings,
    stage: Option<&StageId>,
    evidence: &BTreeMap<ConditionId, Evidence>,
) -> Result<PrecheckResult, DecideError> {
    let stage = match stage {
        None => scenario.first_stage(),
        Some(id) => scenario.stage(id).ok_or_else(|| DecideError::UnknownStage(id.clone()))?,
    };
    let unanchored = Settings { anchors: Default::default(), ..settings.clone() };
    let absent = condition::missing(Lane::Asserted);
    let evaluated = evaluate(scenario, &unanchored, stage, |id| evidence.get(id).unwrap_or(&absent))?;
    let gate_evaluations: Vec<_> = evaluated.into_iter().map(|(evaluation, _)| evaluation).collect();
    let unmet = unmet(gate_evaluations.iter());
    let decision = if !unmet.is_empty() {
        hold(unmet)
    } else {
        match next_stage(scenario, stage, |_| TriState::True)? {
            Some(to) => DecisionOutcome::Advance {
                from_stage: stage.stage_id.clone(),
                to_stage: to.stage_id.clone(),
                timeout: false,
            },
            None => DecisionOutcome::Complete { stage_id: stage.stage_id.clone() },
        }
    };
    Ok(PrecheckResult { decision, gate_evaluations })
}

type Evaluated = (GateEvaluation, Vec<crate::model::EvidenceRecord>);

/// Judges each condition of the stage once, then each gate on its own copy.
fn evaluate<'e>(
    scenario: &Scenario,
    settings: &Settings,
    stage: &StageSpec,
    evidence: impl Fn(&ConditionId) -> &'e Evidence,
) -> Result<Vec<Evaluated>, DecideError> {
    let mut records = BTreeMap::new();
    for condition in scenario.asked(&stage.stage_id) {
        let id = &condition.condition_id;
        records.insert(id, condition::judge(condition, evidence(id), settings)?);
    }
    let gates = scenario.gates(&stage.stage_id);
    Ok(gates.map(|(gate, conditions)| gate::evaluate(gate, &conditions, &records, settings)).collect())
}

fn unmet<'a>(gates: impl Iterator<Item = &'a GateEvaluation>) -> Vec<GateId> {
    gates.filter(|gate| gate.status != TriState::True).map(|gate| gate.gate_id.clone()).collect()
}

fn hold(unmet_gates: Vec<GateId>) -> DecisionOutcome {
    DecisionOutcome::Hold {
        summary: SafeSummary {
            status: "hold".into(),
            unmet_gates,
            retry_hint: Some("await_evidence".into()),
            policy_tags: Vec::new(),
        },
    }
}

fn fail(head: &mut Head, event: &TriggerEvent, reason: String) -> DecisionRecord {
    head.status = RunStatus::Failed;
    head.decision(event, head.current_stage_id.clone(), DecisionOutcome::Fail { reason })
}

/// Leaves `stage` as if its gates had come out as `outcome` says.
///
/// Packets that cannot be issued turn the decision into `fail`, with the same
/// id, no packets, and the stage unchanged.
fn advance(
    scenario: &Scenario,
    head: &mut Head,
    event: &TriggerEvent,
    stage: &StageSpec,
    outcome: impl Fn(&GateId) -> TriState,
    timeout: bool,
    policy: &Policy,
) -> Result<(DecisionRecord, Vec<PacketRecord>), DecideError> {
    let from = stage.stage_id.clone();
    let Some(to) = next_stage(scenario, stage, outcome)? else {
        head.status = RunStatus::Completed;
        let decision = head.decision(event, from.clone(), DecisionOutcome::Complete { stage_id: from });
        return Ok((decision, Vec::new()));
    };
    let outcome = DecisionOutcome::Advance { from_stage: from.clone(), to_stage: to.stage_id.clone(), timeout };
    let mut decision = head.decision(event, from, outcome);
    match packet::issue(scenario, head, to, &decision, policy) {
        Ok(packets) => {
            head.counts.packets += packets.len() as u64;
            head.current_stage_id = to.stage_id.clone();
            head.stage_entered_at = event.time;
            Ok((decision, packets))
        }
        Err(error) => {
            head.status = RunStatus::Failed;
            decision.outcome = DecisionOutcome::Fail { reason: error.to_string() };
            Ok((decision, Vec::new()))
        }
    }
}

/// Where the run goes from `stage`; `None` is its end. A branch rule on a gate
/// of another stage sees Unknown.
fn next_stage<'a>(
    scenario: &'a Scenario,
    stage: &StageSpec,
    outcome: impl Fn(&GateId) -> TriState,
) -> Result<Option<&'a StageSpec>, DecideError> {
    let target = match &stage.advance_to {
        AdvanceTo::Terminal => return Ok(None),
        AdvanceTo::Linear => return Ok(scenario.following(&stage.stage_id)),
        AdvanceTo::Fixed { stage_id } => stage_id,
        AdvanceTo::Branch { branches, default } => {
            let came_out = |gate: &GateId| {
                let own = stage.gates.iter().any(|own| own.gate_id == *gate);
                if own { outcome(gate) } else { TriState::Unknown }
            };
            let matches = |gate: &GateId, wanted| match came_out(gate) {
                TriState::True => wanted == GateOutcome::True,
                TriState::False => wanted == GateOutcome::False,
                TriState::Unknown => wanted == GateOutcome::Unknown,
            };
            let rule = branches.iter().find(|rule| matches(&rule.gate_id, rule.outcome));
            rule.map(|rule| &rule.next_stage_id).or(default.as_ref()).ok_or(DecideError::NoBranch)?
        }
    };
    scenario.stage(target).map(Some).ok_or_else(|| DecideError::UnknownStage(target.clone()))
}
