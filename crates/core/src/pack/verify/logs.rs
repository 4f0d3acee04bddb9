//! Follows the logs in step: each trigger with its gate evaluations, its
//! decision, its packets and the call it came by.
//!
//! Logs are in append order, so only what belongs to one trigger is in memory.
//! What grows with the run are fingerprints, 16 bytes for each trigger id,
//! submission id and answer, and the ids of packets issued.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::calls::Calls;
use super::fingerprints::Fingerprints;
use super::replay::Replay;
use super::stream::Records;
use super::{Checks, Found, Trust, VerifyOptions};
use crate::canon::{Digest, changes_an_integer, forms};
use crate::engine::{Scenario, anchor_fault, content_hash};
use crate::model::{
    ConditionId, ConditionSpec, DecisionOutcome, DecisionRecord, EvidenceContext, EvidenceRecord, EvidenceValue,
    GateEvalRecord, PacketPayload, PacketRecord, RunStatus, StageId, SubmissionRecord, Timestamp, ToolCallRecord,
    TriggerKind, TriggerRecord,
};
use crate::pack::attestation::AttestedSettings;
use crate::pack::finding::{Code, Finding};
use crate::pack::manifest::Manifest;
use crate::pack::report::{EvidenceSigned, Settings, Unverifiable};
use crate::trust::evidence::Form;
use crate::trust::{Refused, Standing as Worth};

/// The logs of a pack, each read once.
pub(super) struct Logs<'a> {
    pub(super) triggers: Records<'a, TriggerRecord>,
    pub(super) gate_evals: Records<'a, GateEvalRecord>,
    pub(super) decisions: Records<'a, DecisionRecord>,
    pub(super) packets: Records<'a, PacketRecord>,
    pub(super) submissions: Records<'a, SubmissionRecord>,
    pub(super) calls: Records<'a, ToolCallRecord>,
}

impl Logs<'_> {
    /// Whether some log cannot be read on, so that what is missing may be there.
    pub(super) fn broken(&self) -> bool {
        self.triggers.broken()
            || self.gate_evals.broken()
            || self.decisions.broken()
            || self.packets.broken()
            || self.submissions.broken()
            || self.calls.broken()
    }
}

/// A record and its position in its log.
pub(super) type Placed<T> = (usize, T);

/// Everything one trigger did.
pub(super) struct Step {
    pub(super) trigger: Placed<TriggerRecord>,
    pub(super) gate_evals: Vec<Placed<GateEvalRecord>>,
    pub(super) decision: Placed<DecisionRecord>,
    pub(super) packets: Vec<Placed<PacketRecord>>,
    /// The decision before.
    pub(super) previous: Option<DecisionRecord>,
}

/// Where a run stands, as its decisions say.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) stage: StageId,
    /// `None` until the first stage is left: a start without packets is in no log.
    pub(super) entered: Option<Timestamp>,
    pub(super) status: RunStatus,
    pub(super) last: Option<DecisionRecord>,
    pub(super) triggers: u64,
    pub(super) gate_evals: u64,
    pub(super) packets: u64,
}

/// What following the logs came to, besides findings.
pub(super) struct Walked {
    pub(super) settings: Option<Settings>,
    pub(super) evidence_signed: Option<EvidenceSigned>,
    pub(super) unverifiable: Vec<Unverifiable>,
}

pub(super) struct Walk<'c> {
    manifest: &'c Manifest,
    conditions: BTreeMap<&'c ConditionId, &'c ConditionSpec>,
    scenario: &'c Scenario,
    /// Where something is asked of evidence.
    trust: Option<&'c Trust>,
    evidence_signed: EvidenceSigned,
    standing: Standing,
    seen: Fingerprints,
    next_trigger: u64,
    next_decision: u64,
    replay: Option<Replay<'c>>,
    calls: Calls<'c>,
    found: Found,
}

pub(super) const TRIGGERS: &str = "artifacts/triggers.json";
pub(super) const GATE_EVALS: &str = "artifacts/gate_evals.json";
pub(super) const DECISIONS: &str = "artifacts/decisions.json";
pub(super) const PACKETS: &str = "artifacts/packets.json";
pub(super) const SUBMISSIONS: &str = "artifacts/submissions.json";
pub(super) const CALLS: &str = "artifacts/tool_calls.json";

impl<'c> Walk<'c> {
    pub(super) fn new(
        manifest: &'c Manifest,
        scenario: &'c Scenario,
        options: &'c VerifyOptions,
        attested: Option<&'c AttestedSettings>,
    ) -> Self {
        let conditions =
            scenario.spec().conditions.iter().map(|condition| (&condition.condition_id, condition)).collect();
        let standing = Standing {
            stage: scenario.first_stage().stage_id.clone(),
            entered: None,
            status: RunStatus::Active,
            last: None,
            triggers: 0,
            gate_evals: 0,
            packets: 0,
        };
        let replay =
            (options.checks == Checks::Replay).then(|| Replay::new(manifest, scenario, &options.expect, attested));
        let trust = options.expect.trust.as_ref().filter(|trust| trust.policy.asks_for_evidence());
        let calls = Calls::new(manifest, scenario);
        Self {
            manifest,
            conditions,
            scenario,
            trust,
            evidence_signed: EvidenceSigned::default(),
            standing,
            seen: Fingerprints::default(),
            next_trigger: 1,
            next_decision: 1,
            replay,
            calls,
            found: Found::default(),
        }
    }

    /// What was found, and what the run was decided by.
    pub(super) fn conclude(self, told: &mut Found) -> Walked {
        told.append(self.found);
        Walked {
            settings: self.replay.map(|replay| replay.conclude(told)),
            evidence_signed: self.trust.map(|_| self.evidence_signed),
            unverifiable: self.calls.unverifiable(),
        }
    }

    pub(super) fn follow(&mut self, logs: &mut Logs<'_>) {
        while let Some((position, trigger)) = logs.triggers.take() {
            self.follow_trigger((position, trigger), logs);
            if logs.broken() {
                // What is missing may stand where it cannot be read.
                return;
            }
        }
        if logs.broken() {
            return;
        }
        self.calls.rest(logs, &self.standing, &mut self.found);
        while let Some((position, record)) = logs.gate_evals.take() {
            let message = format!("gate evaluation of trigger {} has no trigger to follow", record.trigger_id);
            self.unresolved(GATE_EVALS, format!("/{position}/trigger_id"), message);
        }
        while let Some((position, record)) = logs.decisions.take() {
            let message = if self.seen.contains(record.trigger_id.as_str()) {
                let message = format!("duplicate decision for trigger {}", record.trigger_id);
                self.add(Code::DuplicateDecision, DECISIONS, format!("/{position}/trigger_id"), message);
                continue;
            } else {
                format!("decision {} is on trigger {}, which is not logged", record.decision_id, record.trigger_id)
            };
            self.unresolved(DECISIONS, format!("/{position}/trigger_id"), message);
        }
        while let Some((position, record)) = logs.packets.take() {
            let message = format!("packet {} belongs to no decision in order", record.envelope.packet_id);
            self.unresolved(PACKETS, format!("/{position}/decision_id"), message);
        }
    }

    fn follow_trigger(&mut self, trigger: Placed<TriggerRecord>, logs: &mut Logs<'_>) {
        let found_before = self.found.count();
        self.trigger(&trigger);
        let id = &trigger.1.event.trigger_id;
        let mut gate_evals = Vec::new();
        while let Some(record) = logs.gate_evals.take_if(|record| record.trigger_id == *id) {
            gate_evals.push(record);
        }
        let Some(decision) = logs.decisions.take_if(|record| record.trigger_id == *id) else {
            if !logs.broken() {
                let message = format!("trigger {id} has no decision in order");
                self.add(Code::TriggerUndecided, TRIGGERS, format!("/{}/event/trigger_id", trigger.0), message);
            }
            return;
        };
        let mut packets = Vec::new();
        while let Some(record) = logs.packets.take_if(|record| record.decision_id == decision.1.decision_id) {
            packets.push(record);
        }
        if logs.broken() {
            return;
        }
        let previous = self.standing.last.take();
        let step = Step { trigger, gate_evals, decision, packets, previous };
        self.step(&step);
        let clean = self.found.count() == found_before;
        // A step that contradicts itself is not decided again: the reason is
        // known, and another would only hide it.
        let active = self.standing.status == RunStatus::Active;
        if let Some(replay) = self.replay.as_mut().filter(|_| clean && active) {
            replay.step(&step, &self.standing, &mut self.found);
        }
        self.fold(&step);
        self.calls.until(&step, logs, &self.standing, &mut self.found);
    }

    fn trigger(&mut self, (position, record): &Placed<TriggerRecord>) {
        let event = &record.event;
        if out_of_sequence(&mut self.next_trigger, *position, record.seq) {
            self.sequence(TRIGGERS, format!("/{position}/seq"), position + 1, record.seq);
        }
        if !self.seen.insert(event.trigger_id.as_str()) {
            let message = format!("trigger {} is logged twice", event.trigger_id);
            self.add(Code::TriggerRepeated, TRIGGERS, format!("/{position}/event/trigger_id"), message);
        }
        let at = |member: &str| format!("/{position}/event/{member}");
        self.same(TRIGGERS, || at("tenant_id"), &self.manifest.tenant_id, &event.tenant_id);
        self.same(TRIGGERS, || at("namespace_id"), &self.manifest.namespace_id, &event.namespace_id);
        self.same(TRIGGERS, || at("run_id"), &self.manifest.run_id, &event.run_id);
        if self.standing.status != RunStatus::Active {
            let message = format!("trigger {} follows the end of the run", event.trigger_id);
            self.add(Code::AfterTheEnd, TRIGGERS, at("trigger_id"), message);
        }
    }

    /// What the records of one trigger say of each other.
    fn step(&mut self, step: &Step) {
        let event = &step.trigger.1.event;
        let (position, decision) = &step.decision;
        let at = |member: &str| format!("/{position}/{member}");
        if out_of_sequence(&mut self.next_decision, *position, decision.seq) {
            self.sequence(DECISIONS, at("seq"), position + 1, decision.seq);
        }
        let id = format!("decision-{}", decision.seq);
        if decision.decision_id.as_str() != id {
            self.sequence(DECISIONS, at("decision_id"), id, &decision.decision_id);
        }
        if decision.decided_at != event.time {
            self.times(DECISIONS, at("decided_at"), event.time, decision.decided_at);
        }
        if decision.correlation_id != event.correlation_id {
            let text =
                |id: &Option<crate::model::CorrelationId>| id.as_ref().map_or("null".to_owned(), ToString::to_string);
            self.times(DECISIONS, at("correlation_id"), text(&event.correlation_id), text(&decision.correlation_id));
        }
        self.stage(DECISIONS, || at("stage_id"), &decision.stage_id);
        match &decision.outcome {
            DecisionOutcome::Start { stage_id } | DecisionOutcome::Complete { stage_id } => {
                self.stage(DECISIONS, || at("outcome/stage_id"), stage_id);
            }
            DecisionOutcome::Advance { from_stage, to_stage, .. } => {
                self.stage(DECISIONS, || at("outcome/from_stage"), from_stage);
                if self.scenario.stage(to_stage).is_none() {
                    let message = format!(
                        "decision {} leads to stage {to_stage}, which the scenario does not have",
                        decision.decision_id
                    );
                    self.unresolved(DECISIONS, at("outcome/to_stage"), message);
                }
            }
            DecisionOutcome::Hold { .. } | DecisionOutcome::Fail { .. } => {}
        }
        let opening = matches!(decision.outcome, DecisionOutcome::Start { .. });
        if opening != (*position == 0 && is_opening(step)) {
            let message = format!("decision {} cannot be the start of the run", decision.decision_id);
            self.add(Code::OutcomeDiffers, DECISIONS, at("outcome/kind"), message);
        }
        for (position, record) in &step.gate_evals {
            self.stage(GATE_EVALS, || format!("/{position}/stage_id"), &record.stage_id);
            for (inner, evidence) in record.evidence.iter().enumerate() {
                self.evidence(record, &step.trigger.1, evidence, *position, inner);
            }
            self.trace(record, *position);
        }
        for (position, record) in &step.packets {
            self.packet(step, record, *position);
        }
    }

    fn evidence(
        &mut self,
        record: &GateEvalRecord,
        trigger: &TriggerRecord,
        evidence: &EvidenceRecord,
        position: usize,
        inner: usize,
    ) {
        let at = || format!("/{position}/evidence/{inner}");
        let id = &evidence.condition_id;
        let place = || format!("(trigger {}, stage {})", record.trigger_id, record.stage_id);
        let Some(condition) = self.conditions.get(id).copied() else {
            let message = format!("condition {id} missing from scenario spec {}", place());
            self.add(Code::UnknownCondition, GATE_EVALS, at(), message);
            return;
        };
        let result = &evidence.result;
        let policy = self.manifest.anchor_policy.as_ref();
        let requirement = policy.and_then(|policy| policy.requirement(&condition.query.provider_id));
        if result.error.is_none()
            && let Some(requirement) = requirement
            && let Some(fault) = anchor_fault(requirement, result.evidence_anchor.as_ref())
        {
            let message = format!("anchor invalid for condition {id} {}: {fault}", place());
            self.add(Code::AnchorInvalid, GATE_EVALS, format!("{}/result/evidence_anchor", at()), message);
        }
        if condition.query.provider_id.as_str() == "time" {
            self.clock(condition, trigger.event.time, evidence, &at);
        }
        if let Some(value) = &result.value {
            let (computed, older) = match value {
                EvidenceValue::Json(value) => {
                    forms(value).map_or((None, None), |(digest, older)| (Some(digest), older))
                }
                EvidenceValue::Bytes(bytes) => (Some(Digest::of(bytes)), None),
            };
            if result.evidence_hash.is_none() || ![computed, older].contains(&result.evidence_hash) {
                let message = format!("evidence of condition {id} is not what its hash says {}", place());
                let finding = Finding::new(Code::EvidenceHashMismatch, GATE_EVALS, message);
                let text = |digest: Option<Digest>| digest.map_or("null".to_owned(), |digest| digest.to_string());
                let finding = finding.at(format!("{}/result/evidence_hash", at()));
                self.found.add(finding.differs(text(computed), text(result.evidence_hash)));
            }
        }
        if let Some(trust) = self.trust {
            self.signed_evidence(trust, condition, record, trigger, evidence, &at);
        }
    }

    /// Whether a provider that has to has signed its answer. One that is an
    /// error counts for nothing, signed or not.
    fn signed_evidence(
        &mut self,
        trust: &'c Trust,
        condition: &ConditionSpec,
        record: &GateEvalRecord,
        trigger: &TriggerRecord,
        evidence: &EvidenceRecord,
        at: &dyn Fn() -> String,
    ) {
        let (query, result) = (&condition.query, &evidence.result);
        let Some(rule) = trust.policy.evidence_rule(&query.provider_id).filter(|_| result.error.is_none()) else {
            return;
        };
        let what = || {
            let (condition, trigger, stage) = (&evidence.condition_id, &record.trigger_id, &record.stage_id);
            format!("evidence of condition {condition} (trigger {trigger}, stage {stage})")
        };
        let why = match &result.signature {
            None => "is not signed".to_owned(),
            Some(signature) => {
                let context = EvidenceContext {
                    correlation_id: None,
                    namespace_id: self.manifest.namespace_id,
                    run_id: self.manifest.run_id.clone(),
                    scenario_id: self.manifest.scenario_id.clone(),
                    stage_id: record.stage_id.clone(),
                    tenant_id: self.manifest.tenant_id,
                    trigger_id: record.trigger_id.clone(),
                    trigger_time: trigger.event.time,
                };
                let hash = result.evidence_hash.as_ref();
                match trust.policy.evidence_standing(rule, query, &context, hash, signature, trust.at) {
                    Worth::Counts(_, form) => {
                        let count = match form {
                            Form::Bound => &mut self.evidence_signed.bound,
                            Form::ValueOnly => &mut self.evidence_signed.value_only,
                        };
                        *count += 1;
                        return;
                    }
                    Worth::Invalid(key) => {
                        self.evidence_signed.unconfirmed += 1;
                        let message = format!("{} was not signed so by the trusted key {}", what(), key.id);
                        let at = format!("{}/result/signature", at());
                        self.add(Code::EvidenceSignatureInvalid, GATE_EVALS, at, message);
                        return;
                    }
                    Worth::Refused(key, Refused::Weak) => format!("is signed by {}, but {}", key.id, Refused::Weak),
                    Worth::Refused(key, refused) => format!("is signed by {}, which does not count: {refused}", key.id),
                    Worth::Unknown => "is signed by no trusted key".to_owned(),
                }
            }
        };
        self.evidence_signed.unconfirmed += 1;
        let code = if rule.required { Code::EvidenceUnsigned } else { Code::EvidenceUnconfirmed };
        self.add(code, GATE_EVALS, format!("{}/result/signature", at()), format!("{} {why}", what()));
    }

    /// The time provider answers from the trigger, so its answer is known.
    fn clock(
        &mut self,
        condition: &ConditionSpec,
        time: Timestamp,
        evidence: &EvidenceRecord,
        at: &dyn Fn() -> String,
    ) {
        use serde_json::Value;
        if evidence.result.error.is_some() && evidence.result.value.is_none() {
            return;
        }
        let threshold = || condition.query.params.as_ref().and_then(|params| params.get("timestamp"));
        let expected = match condition.query.check_id.as_str() {
            "now" => Some(match time {
                Timestamp::UnixMillis(millis) => Value::from(millis),
                Timestamp::Logical(tick) => Value::from(tick),
            }),
            "after" => threshold().and_then(|at| time.against(at)).map(|order| Value::Bool(order.is_gt())),
            "before" => threshold().and_then(|at| time.against(at)).map(|order| Value::Bool(order.is_lt())),
            _ => None,
        };
        let id = &condition.condition_id;
        let value = match &evidence.result.value {
            Some(EvidenceValue::Json(value)) => Some(value),
            _ => None,
        };
        if value.is_none() || expected.as_ref() != value {
            let shown = |value: Option<&Value>| value.map_or("no value".to_owned(), ToString::to_string);
            let message = format!("condition {id} asks about the time of its trigger, and the answer is another");
            let finding = Finding::new(Code::ClockEvidence, GATE_EVALS, message).at(format!("{}/result/value", at()));
            self.found.add(finding.differs(shown(expected.as_ref()), shown(value)));
        }
        let (anchor_type, anchor_value) = time.anchor();
        let fits = evidence
            .result
            .evidence_anchor
            .as_ref()
            .is_some_and(|anchor| anchor.anchor_type == anchor_type && anchor.anchor_value == anchor_value);
        if !fits {
            let message = format!("evidence of condition {id} is not anchored to the time of its trigger");
            self.add(Code::ClockEvidence, GATE_EVALS, format!("{}/result/evidence_anchor", at()), message);
        }
    }

    /// A trace repeats the status its evidence has.
    fn trace(&mut self, record: &GateEvalRecord, position: usize) {
        // The first of a condition, should a lie name one twice.
        let statuses: BTreeMap<_, _> =
            record.evidence.iter().rev().map(|evidence| (&evidence.condition_id, evidence.status)).collect();
        for (inner, entry) in record.evaluation.trace.iter().enumerate() {
            let known = statuses.get(&entry.condition_id).copied();
            let at = format!("/{position}/evaluation/trace/{inner}");
            match known {
                None => {
                    let message = format!("the trace names condition {}, which has no evidence", entry.condition_id);
                    self.unresolved(GATE_EVALS, at, message);
                }
                Some(status) if status != entry.status => {
                    let message =
                        format!("the trace says otherwise than the evidence of condition {}", entry.condition_id);
                    let finding = Finding::new(Code::GateDiffers, GATE_EVALS, message).at(format!("{at}/status"));
                    self.found.add(finding.differs(status, entry.status));
                }
                Some(_) => {}
            }
        }
    }

    fn packet(&mut self, step: &Step, record: &PacketRecord, position: usize) {
        let (envelope, decision) = (&record.envelope, &step.decision.1);
        let at = |member: &str| format!("/{position}/envelope/{member}");
        self.same(PACKETS, || at("scenario_id"), &self.manifest.scenario_id, &envelope.scenario_id);
        self.same(PACKETS, || at("run_id"), &self.manifest.run_id, &envelope.run_id);
        if envelope.issued_at != decision.decided_at {
            self.times(PACKETS, at("issued_at"), decision.decided_at, envelope.issued_at);
        }
        if envelope.correlation_id != decision.correlation_id {
            let message = "a packet carries another correlation than its decision".to_owned();
            self.add(Code::TimesDisagree, PACKETS, at("correlation_id"), message);
        }
        let entered = match &decision.outcome {
            DecisionOutcome::Start { stage_id } => Some(stage_id),
            DecisionOutcome::Advance { to_stage, .. } => Some(to_stage),
            _ => None,
        };
        if entered != Some(&envelope.stage_id) {
            let message = format!(
                "packet {} names stage {}, which its decision does not enter",
                envelope.packet_id, envelope.stage_id
            );
            self.add(Code::StageBroken, PACKETS, at("stage_id"), message);
        }
        self.content(PACKETS, || at("content_hash"), &record.payload, envelope.content_hash);
    }

    fn content(&mut self, log: &str, at: impl FnOnce() -> String, payload: &PacketPayload, stated: Digest) {
        if let Some(finding) = content_finding(log, at, payload, stated) {
            self.found.add(finding);
        }
    }

    /// The run after what its decision says.
    fn fold(&mut self, step: &Step) {
        let decision = &step.decision.1;
        let standing = &mut self.standing;
        standing.triggers += 1;
        standing.gate_evals += step.gate_evals.len() as u64;
        standing.packets += step.packets.len() as u64;
        match &decision.outcome {
            DecisionOutcome::Start { .. } => standing.entered = Some(decision.decided_at),
            DecisionOutcome::Advance { to_stage, .. } => {
                standing.stage = to_stage.clone();
                standing.entered = Some(decision.decided_at);
            }
            DecisionOutcome::Complete { .. } => standing.status = RunStatus::Completed,
            DecisionOutcome::Fail { .. } => standing.status = RunStatus::Failed,
            DecisionOutcome::Hold { .. } => {}
        }
        standing.last = Some(decision.clone());
    }

    fn add(&mut self, code: Code, log: &str, at: String, message: String) {
        self.found.add(Finding::new(code, log, message).at(at));
    }

    fn unresolved(&mut self, log: &str, at: String, message: String) {
        self.add(Code::ReferenceUnresolved, log, at, message);
    }

    fn sequence(&mut self, log: &str, at: String, expected: impl Display, found: impl Display) {
        let message = format!("{log}{at} is {found}, expected {expected}");
        self.found.add(Finding::new(Code::SequenceBroken, log, message).at(at).differs(expected, found));
    }

    fn times(&mut self, log: &str, at: String, expected: impl Display, found: impl Display) {
        let message = format!("{log}{at} is {found}, its trigger says {expected}");
        self.found.add(Finding::new(Code::TimesDisagree, log, message).at(at).differs(expected, found));
    }

    fn stage(&mut self, log: &str, at: impl FnOnce() -> String, found: &StageId) {
        let expected = &self.standing.stage;
        if expected != found {
            let at = at();
            let message = format!("{log}{at} is {found}, the run is in stage {expected}");
            self.found.add(Finding::new(Code::StageBroken, log, message).at(at).differs(expected, found));
        }
    }

    fn same<T: PartialEq + Display>(&mut self, log: &str, at: impl FnOnce() -> String, expected: &T, found: &T) {
        if let Some(finding) = identity(log, at, expected, found) {
            self.found.add(finding);
        }
    }
}

/// Whether `number` neither fits its position nor follows the number before:
/// one number left out, or one changed, is one finding.
pub(super) fn out_of_sequence(next: &mut u64, position: usize, number: u64) -> bool {
    let fits = number == position as u64 + 1 || number == *next;
    *next = number.saturating_add(1);
    !fits
}

/// A finding if a record speaks of another run than the manifest.
pub(super) fn identity<T: PartialEq + Display>(
    log: &str,
    at: impl FnOnce() -> String,
    expected: &T,
    found: &T,
) -> Option<Finding> {
    if expected == found {
        return None;
    }
    let at = at();
    let message = format!("{log}{at} is `{found}`, the manifest says `{expected}`");
    Some(Finding::new(Code::IdentityMismatch, log, message).at(at).differs(expected, found))
}

/// A finding if a payload's digest is not the one stated.
pub(super) fn content_finding(
    log: &str,
    at: impl FnOnce() -> String,
    payload: &PacketPayload,
    stated: Digest,
) -> Option<Finding> {
    let computed = content_hash(payload).and_then(|digest| match payload {
        PacketPayload::Json(value) if digest != stated || changes_an_integer(value) => Ok(forms(value)?),
        _ => Ok((digest, None)),
    });
    if computed.as_ref().is_ok_and(|(digest, older)| *digest == stated || *older == Some(stated)) {
        return None;
    }
    let at = at();
    let message = format!("{log}{at} does not cover the payload");
    let finding = Finding::new(Code::ContentHashMismatch, log, message).at(at);
    Some(match computed {
        Ok((digest, _)) => finding.differs(digest, stated),
        Err(error) => finding.differs(error, stated),
    })
}

/// Whether a step is the one that starts a run with packets.
pub(super) fn is_opening(step: &Step) -> bool {
    let event = &step.trigger.1.event;
    event.trigger_id.as_str() == "init"
        && event.kind == TriggerKind::ExternalEvent
        && event.source_id.as_str() == "system"
        && event.payload.is_none()
        && event.correlation_id.is_none()
        && matches!(step.decision.1.outcome, DecisionOutcome::Start { .. })
}
