//! Could an honest run have written this?
//!
//! The verifier infers what a pack does not record. This asks the other way
//! round: over all lanes, logics and starts, is there a run under the changed
//! scenario that writes exactly the recorded logs?

use std::collections::{BTreeMap, BTreeSet};

use runpack_core::engine::{Entry, Evidence, Head, Logic, Policy, Scenario, Settings, decide, start};
use runpack_core::model::{
    ConditionId, DecisionOutcome, DecisionRecord, EvidenceResult, GateEvalRecord, Lane, ScenarioSpec, Timestamp,
    TriState,
};
use serde_json::{Value, json};

use super::runs::{Case, clock};

/// Whether some honest run under `spec` writes the logs of `case`, with
/// `gate_evals` in the place of its own.
pub(crate) fn explains(case: &Case, spec: &Value, gate_evals: &Value) -> bool {
    let Ok(gate_evals) = serde_json::from_value::<Vec<GateEvalRecord>>(gate_evals.clone()) else { return false };
    let Ok(spec) = serde_json::from_value::<ScenarioSpec>(spec.clone()) else { return false };
    let Ok(scenario) = Scenario::recorded(spec) else { return false };
    let providers: BTreeSet<_> =
        scenario.spec().conditions.iter().map(|condition| condition.query.provider_id.clone()).collect();
    let providers: Vec<_> = providers.into_iter().collect();
    let mut starts = vec![case.started_at];
    if !case.opened {
        starts.extend(starts_before(case, &scenario));
    }
    let mut tries = vec![case.settings.clone()];
    for logic in [Logic::Kleene, Logic::Bochvar] {
        for lanes in 0..1_usize << providers.len() {
            let lane = |index: usize| if lanes >> index & 1 == 1 { Lane::Verified } else { Lane::Asserted };
            let provider_lanes = providers.iter().enumerate().map(|(index, id)| (id.clone(), lane(index))).collect();
            let anchors = case.settings.anchors.clone();
            tries.push(Settings { min_lane: Lane::Asserted, provider_lanes, logic, anchors });
        }
    }
    tries.iter().any(|settings| starts.iter().any(|at| writes(case, &gate_evals, &scenario, settings, *at)))
}

/// Starts that put the end of the first stage before or after each tick.
fn starts_before(case: &Case, scenario: &Scenario) -> Vec<Timestamp> {
    let length = scenario.first_stage().timeout.as_ref().map_or(0, |timeout| timeout.timeout_ms);
    let ticks = case.state.triggers.iter().map(|record| record.event.time);
    let before = |at: Timestamp, by: u64| match at {
        Timestamp::Logical(tick) => Timestamp::Logical(tick.saturating_sub(by)),
        Timestamp::UnixMillis(millis) => Timestamp::UnixMillis(millis.saturating_sub_unsigned(by)),
    };
    let after = |at: Timestamp| match at {
        Timestamp::Logical(tick) => Timestamp::Logical(tick + 1),
        Timestamp::UnixMillis(millis) => Timestamp::UnixMillis(millis + 1),
    };
    ticks.flat_map(|at| [before(at, length), before(at, length.saturating_sub(1)), at, after(at)]).collect()
}

fn writes(
    case: &Case,
    told: &[GateEvalRecord],
    scenario: &Scenario,
    settings: &Settings,
    started_at: Timestamp,
) -> bool {
    let state = &case.state;
    let Ok(opening) = start(scenario, &case.config, started_at, case.opened, &Policy::PermitAll) else { return false };
    let mut head: Head = opening.head;
    let mut packets = Vec::new();
    for entry in opening.entries {
        match entry {
            Entry::Packet(packet) => packets.push(packet),
            Entry::Decision(decision) if decision != state.decisions[0] => return false,
            _ => {}
        }
    }
    let mut gate_evals = Vec::new();
    let first = usize::from(case.opened);
    for (trigger, decision) in state.triggers.iter().zip(&state.decisions).skip(first) {
        let recorded: Vec<_> = told.iter().filter(|record| record.trigger_id == trigger.event.trigger_id).collect();
        let evidence = evidence(&recorded);
        let honest = scenario.spec().conditions.iter().filter(|asked| asked.query.provider_id.as_str() == "time");
        for condition in honest {
            let Some(found) = evidence.get(&condition.condition_id) else { continue };
            let said = clock(condition, trigger.event.time);
            if found.error.is_none() && (found.value != said.value || found.evidence_anchor != said.evidence_anchor) {
                return false;
            }
        }
        let evidence: BTreeMap<_, _> =
            evidence.into_iter().map(|(id, result)| (id, Evidence::recorded(result))).collect();
        let Ok(step) = decide(scenario, settings, &head, &trigger.event, &evidence, &answers(decision)) else {
            return false;
        };
        if step.decision != *decision {
            return false;
        }
        gate_evals.extend(step.gate_evals);
        packets.extend(step.packets);
        head = step.head;
    }
    gate_evals == told && packets == state.packets
}

/// A policy that answered so.
fn answers(decision: &DecisionRecord) -> Policy {
    match &decision.outcome {
        DecisionOutcome::Fail { reason } => match reason.strip_prefix("policy decision error: ") {
            Some(message) => {
                let rule = json!({"effect": "error", "error_message": message});
                Policy::Static(serde_json::from_value(json!({"rules": [rule]})).unwrap())
            }
            None if reason == "policy denied disclosure" => Policy::DenyAll,
            None => Policy::PermitAll,
        },
        _ => Policy::PermitAll,
    }
}

/// The evidence as it was before a gate did not trust it.
fn evidence(records: &[&GateEvalRecord]) -> BTreeMap<ConditionId, EvidenceResult> {
    let mut found = BTreeMap::new();
    for evidence in records.iter().flat_map(|record| &record.evidence) {
        let mut result = evidence.result.clone();
        let lowered = evidence.status == TriState::Unknown
            && result.lane == Lane::Asserted
            && result.error.as_ref().is_some_and(|error| {
                error.code == "trust_lane"
                    && error.message == "evidence lane Asserted does not satisfy Verified"
                    && error.details.is_none()
            });
        if lowered {
            result.error = None;
        }
        found.insert(evidence.condition_id.clone(), result);
    }
    found
}
