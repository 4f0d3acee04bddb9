//! What would have been decided under another scenario, on the same evidence.

use std::collections::BTreeMap;

use super::Pack;
use crate::engine::{DecideError, Evidence, Head, Plan, Policy, Scenario, Settings, decide, plan, start};
use crate::model::{
    ConditionId, ConditionSpec, DecisionOutcome, EvidenceQuery, EvidenceResult, RunConfig, TriggerId, TriggerRecord,
};

/// One trigger, decided as it was and as it would have been.
#[derive(Debug, Clone, PartialEq)]
pub struct WhatIf {
    /// Which trigger.
    pub trigger_id: TriggerId,
    /// What was decided; `None` if the trigger is not in the pack's decisions.
    pub was: Option<DecisionOutcome>,
    /// What would have been decided; an error says why nothing could be. `None`
    /// after the end of the run.
    pub would: Option<Result<DecisionOutcome, String>>,
    /// Conditions of the other scenario that the pack holds no evidence for.
    pub unseen: Vec<ConditionId>,
}

/// Follows the triggers of `pack` under `scenario`.
///
/// Evidence is found by its query, at the same trigger; a condition whose query
/// was not asked then is without evidence, so Unknown. Disclosures are taken as
/// permitted.
pub fn what_if(pack: &Pack, scenario: &Scenario, settings: &Settings) -> Vec<WhatIf> {
    let conditions: BTreeMap<_, _> =
        pack.scenario.conditions.iter().map(|condition| (&condition.condition_id, condition)).collect();
    let mut evidence: BTreeMap<&TriggerId, Vec<(&EvidenceQuery, &EvidenceResult)>> = BTreeMap::new();
    for record in &pack.gate_evals {
        let found = evidence.entry(&record.trigger_id).or_default();
        for entry in &record.evidence {
            if let Some(condition) = conditions.get(&entry.condition_id) {
                found.push((&condition.query, &entry.result));
            }
        }
    }
    let was: BTreeMap<_, _> = pack.decisions.iter().map(|decision| (&decision.trigger_id, &decision.outcome)).collect();

    let config = RunConfig {
        tenant_id: pack.manifest.tenant_id,
        namespace_id: scenario.spec().namespace_id,
        run_id: pack.manifest.run_id.clone(),
        scenario_id: scenario.spec().scenario_id.clone(),
        dispatch_targets: Vec::new(),
        policy_tags: Vec::new(),
    };
    let mut triggers = pack.triggers.iter().peekable();
    let opening =
        triggers.next_if(|record| matches!(was.get(&record.event.trigger_id), Some(DecisionOutcome::Start { .. })));
    let started_at = opening.or(triggers.peek().copied()).map(|record| record.event.time);
    let Some(at) = started_at else { return Vec::new() };
    let mut head = match start(scenario, &config, at, opening.is_some(), &Policy::PermitAll) {
        Ok(opening) => opening.head,
        Err(error) => {
            let never = |record: &TriggerRecord| WhatIf {
                trigger_id: record.event.trigger_id.clone(),
                was: was.get(&record.event.trigger_id).map(|outcome| (*outcome).clone()),
                would: Some(Err(format!("the run would not start: {error}"))),
                unseen: Vec::new(),
            };
            return triggers.map(never).collect();
        }
    };
    triggers
        .map(|record| {
            let mut event = record.event.clone();
            event.namespace_id = config.namespace_id;
            let asked = evidence.get(&event.trigger_id).map(Vec::as_slice).unwrap_or_default();
            let (would, unseen) = match plan(scenario, &head, &event, false) {
                Ok(Plan::Closed | Plan::Repeat) => (None, Vec::new()),
                Ok(Plan::Expired) => (Some(step(scenario, settings, &mut head, &event, &BTreeMap::new())), Vec::new()),
                Ok(Plan::Gather(conditions)) => {
                    let (found, unseen) = gather(&conditions, asked);
                    (Some(step(scenario, settings, &mut head, &event, &found)), unseen)
                }
                Err(error) => (Some(Err(error.to_string())), Vec::new()),
            };
            let was = was.get(&event.trigger_id).map(|outcome| (*outcome).clone());
            WhatIf { trigger_id: event.trigger_id, was, would, unseen }
        })
        .collect()
}

fn gather(
    conditions: &[&ConditionSpec],
    asked: &[(&EvidenceQuery, &EvidenceResult)],
) -> (BTreeMap<ConditionId, Evidence>, Vec<ConditionId>) {
    let mut found = BTreeMap::new();
    let mut unseen = Vec::new();
    for condition in conditions {
        match asked.iter().find(|(query, _)| **query == condition.query) {
            Some((_, result)) => {
                let mut result = (*result).clone();
                // A lane that did not count then is judged anew.
                result.error = result.error.filter(|error| error.code != "trust_lane");
                found.insert(condition.condition_id.clone(), Evidence::recorded(result));
            }
            None => unseen.push(condition.condition_id.clone()),
        }
    }
    (found, unseen)
}

fn step(
    scenario: &Scenario,
    settings: &Settings,
    head: &mut Head,
    event: &crate::model::TriggerEvent,
    evidence: &BTreeMap<ConditionId, Evidence>,
) -> Result<DecisionOutcome, String> {
    let text = |error: DecideError| error.to_string();
    let step = decide(scenario, settings, head, event, evidence, &Policy::PermitAll).map_err(text)?;
    *head = step.head;
    Ok(step.decision.outcome)
}
