//! Two packs compared by meaning.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Pack;
use crate::canon::{Digest, to_vec};
use crate::model::{ConditionId, DecisionOutcome, EvidenceRecord, GateId, OutcomeKind, TriState, TriggerId};

/// One difference between two packs, as a sentence and its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What kind.
    pub kind: DifferenceKind,
    /// One sentence.
    pub message: String,
}

/// Kinds of differences, the weightiest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DifferenceKind {
    /// A decision of another kind, or to another stage, on the same trigger.
    Decision,
    /// A gate or condition that could be decided and no longer can.
    LossOfSight,
    /// A gate or condition that came out otherwise, and the evidence for it.
    Evidence,
    /// The scenario, the anchors, or the exporter's posture.
    Policy,
    /// A trigger, packet or submission that only one pack has, or has otherwise.
    Record,
    /// Files whose bytes differ without a difference above, such as those of
    /// calls, whose digests differ with every request.
    Bytes,
}

/// Everything in which two packs differ, the weightiest first.
pub fn diff(left: &Pack, right: &Pack) -> Vec<Difference> {
    let mut found = Vec::new();
    decisions(left, right, &mut found);
    gates(left, right, &mut found);
    evidence(left, right, &mut found);
    policy(left, right, &mut found);
    records(left, right, &mut found);
    bytes(left, right, &mut found);
    found.sort_by_key(|difference| difference.kind);
    found
}

fn decisions(left: &Pack, right: &Pack, found: &mut Vec<Difference>) {
    let outcomes = |pack: &'_ Pack| -> BTreeMap<TriggerId, DecisionOutcome> {
        pack.decisions.iter().map(|decision| (decision.trigger_id.clone(), decision.outcome.clone())).collect()
    };
    let (left, right) = (outcomes(left), outcomes(right));
    for (trigger, before) in &left {
        match right.get(trigger) {
            Some(after) if before != after => {
                let message = format!("trigger {trigger}: {} became {}", brief(before), brief(after));
                found.push(Difference { kind: DifferenceKind::Decision, message });
            }
            Some(_) => {}
            None => found.push(only("A", &format!("a decision on trigger {trigger}"))),
        }
    }
    for trigger in right.keys().filter(|trigger| !left.contains_key(*trigger)) {
        found.push(only("B", &format!("a decision on trigger {trigger}")));
    }
}

fn only(which: &str, what: &str) -> Difference {
    Difference { kind: DifferenceKind::Record, message: format!("only {which} has {what}") }
}

fn brief(outcome: &DecisionOutcome) -> String {
    match outcome {
        DecisionOutcome::Advance { to_stage, timeout, .. } => {
            format!("advance to {to_stage}{}", if *timeout { " by timeout" } else { "" })
        }
        DecisionOutcome::Fail { reason } => format!("fail ({reason})"),
        DecisionOutcome::Hold { summary } => {
            let gates: Vec<_> = summary.unmet_gates.iter().map(ToString::to_string).collect();
            format!("hold (unmet: {})", gates.join(", "))
        }
        other => match other.kind() {
            OutcomeKind::Complete => "complete".to_owned(),
            _ => "start".to_owned(),
        },
    }
}

fn evidence(left: &Pack, right: &Pack, found: &mut Vec<Difference>) {
    type Seen<'p> = BTreeMap<(&'p TriggerId, &'p ConditionId), &'p EvidenceRecord>;
    fn seen(pack: &Pack) -> Seen<'_> {
        let records = pack.gate_evals.iter();
        records
            .flat_map(|record| record.evidence.iter().map(|entry| ((&record.trigger_id, &entry.condition_id), entry)))
            .collect()
    }
    let (left, right) = (seen(left), seen(right));
    for ((trigger, condition), before) in &left {
        let Some(after) = right.get(&(*trigger, *condition)) else { continue };
        let value = |entry: &EvidenceRecord| match (&entry.result.error, &entry.result.value) {
            (Some(error), _) => format!("{}: {}", error.code, error.message),
            (None, Some(value)) => {
                serde_json::to_value(value).map(|tree| tree["value"].to_string()).unwrap_or_default()
            }
            (None, None) => "no value".to_owned(),
        };
        let (old, new) = (value(before), value(after));
        if before.status != after.status {
            let lost = after.status == TriState::Unknown;
            let kind = if lost { DifferenceKind::LossOfSight } else { DifferenceKind::Evidence };
            let message = format!(
                "trigger {trigger}: condition {condition} was {} ({old}) and is {} ({new}){}",
                before.status,
                after.status,
                if lost { ": it can no longer be decided, which is no fix" } else { "" }
            );
            found.push(Difference { kind, message });
        } else if before.result != after.result {
            let message = if old == new {
                format!("trigger {trigger}: the evidence of condition {condition} comes from elsewhere")
            } else {
                format!(
                    "trigger {trigger}: the evidence of condition {condition} was {old} and is {new}, still {}",
                    after.status
                )
            };
            found.push(Difference { kind: DifferenceKind::Evidence, message });
        }
    }
}

fn gates(left: &Pack, right: &Pack, found: &mut Vec<Difference>) {
    fn seen(pack: &Pack) -> BTreeMap<(&TriggerId, &GateId), TriState> {
        let records = pack.gate_evals.iter();
        records.map(|record| ((&record.trigger_id, &record.evaluation.gate_id), record.evaluation.status)).collect()
    }
    let (left, right) = (seen(left), seen(right));
    for ((trigger, gate), before) in &left {
        if let Some(after) = right.get(&(*trigger, *gate)).filter(|after| *after != before) {
            let lost = *after == TriState::Unknown;
            let kind = if lost { DifferenceKind::LossOfSight } else { DifferenceKind::Evidence };
            found.push(Difference {
                kind,
                message: format!("trigger {trigger}: gate {gate} was {before} and is {after}"),
            });
        }
    }
}

fn policy(left: &Pack, right: &Pack, found: &mut Vec<Difference>) {
    let mut add = |message: String| found.push(Difference { kind: DifferenceKind::Policy, message });
    let (before, after) = (&left.manifest, &right.manifest);
    for (what, old, new) in [
        ("tenant", before.tenant_id.to_string(), after.tenant_id.to_string()),
        ("namespace", before.namespace_id.to_string(), after.namespace_id.to_string()),
        ("scenario", before.scenario_id.to_string(), after.scenario_id.to_string()),
        ("run", before.run_id.to_string(), after.run_id.to_string()),
    ] {
        if old != new {
            add(format!("the {what} was {old} and is {new}"));
        }
    }
    if before.anchor_policy != after.anchor_policy {
        add("the anchor policy is another".to_owned());
    }
    if before.security != after.security {
        add("the exporter states another posture".to_owned());
    }
    let (old, new) = (&left.scenario, &right.scenario);
    if old == new {
        return;
    }
    let conditions = |pack: &'_ Pack| -> BTreeMap<String, Digest> {
        let digests = pack.scenario.conditions.iter();
        digests.map(|condition| (format!("condition {}", condition.condition_id), digest(condition))).collect()
    };
    let stages = |pack: &'_ Pack| -> BTreeMap<String, Digest> {
        let digests = pack.scenario.stages.iter();
        digests.map(|stage| (format!("stage {}", stage.stage_id), digest(stage))).collect()
    };
    let mut told = false;
    for (old, new) in [(conditions(left), conditions(right)), (stages(left), stages(right))] {
        let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for name in names.into_iter().filter(|name| old.get(*name) != new.get(*name)) {
            told = true;
            add(match (old.contains_key(name), new.contains_key(name)) {
                (true, true) => format!("the scenario's {name} is another"),
                (true, false) => format!("the scenario's {name} is gone"),
                _ => format!("the scenario's {name} is new"),
            });
        }
    }
    if !told {
        add("the scenario is another in its descriptive members".to_owned());
    }
}

fn digest(value: &impl Serialize) -> Digest {
    Digest::of(&to_vec(value).unwrap_or_default())
}

fn records(left: &Pack, right: &Pack, found: &mut Vec<Difference>) {
    let mut lists = |what: &str, left: BTreeMap<String, Digest>, right: BTreeMap<String, Digest>| {
        for (id, digest) in &left {
            match right.get(id) {
                None => found.push(only("A", &format!("{what} {id}"))),
                Some(other) if other != digest => {
                    found.push(Difference { kind: DifferenceKind::Record, message: format!("{what} {id} is another") });
                }
                Some(_) => {}
            }
        }
        for id in right.keys().filter(|id| !left.contains_key(*id)) {
            found.push(only("B", &format!("{what} {id}")));
        }
    };
    let triggers = |pack: &Pack| {
        pack.triggers.iter().map(|record| (record.event.trigger_id.to_string(), digest(&record.event))).collect()
    };
    lists("trigger", triggers(left), triggers(right));
    let packets = |pack: &Pack| {
        let packets = pack.packets.iter();
        packets
            .map(|packet| (format!("{} under {}", packet.envelope.packet_id, packet.decision_id), digest(packet)))
            .collect()
    };
    lists("packet", packets(left), packets(right));
    let submissions = |pack: &Pack| {
        pack.submissions.iter().map(|record| (record.submission_id.to_string(), digest(record))).collect()
    };
    lists("submission", submissions(left), submissions(right));
}

/// Packs whose files differ are never called the same.
fn bytes(left: &Pack, right: &Pack, found: &mut Vec<Difference>) {
    if !found.is_empty() {
        return;
    }
    let files = |pack: &Pack| -> BTreeMap<String, Digest> {
        pack.manifest.integrity.file_hashes.iter().map(|entry| (entry.path.clone(), entry.hash)).collect()
    };
    let (old, new) = (files(left), files(right));
    let paths: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for path in paths.into_iter().filter(|path| old.get(*path) != new.get(*path)) {
        found.push(Difference { kind: DifferenceKind::Bytes, message: format!("{path} has other bytes") });
    }
    if left.manifest.generated_at != right.manifest.generated_at {
        let message = format!("exported at {} and at {}", left.manifest.generated_at, right.manifest.generated_at);
        found.push(Difference { kind: DifferenceKind::Bytes, message });
    }
}
