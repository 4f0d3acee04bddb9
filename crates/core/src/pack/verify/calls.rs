//! Pairs the recorded calls with what the other logs say was asked and answered.
//!
//! A call's digests cover bodies that a pack does not hold, but the logs hold
//! what they were made of: a trigger, its decision and packets; a submission;
//! the run's standing. Where a body cannot be known (the request of a repeated
//! or refused call), that is said and counted, not passed over.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Found;
use super::fingerprints::Fingerprints;
use super::logs::{
    CALLS, Logs, Placed, SUBMISSIONS, Standing, Step, TRIGGERS, content_finding, identity, out_of_sequence,
};
use super::stream::Records;
use crate::canon::{Digest, Here, Written, covers, forms};
use crate::engine::{PAYLOAD_BYTES_MAX, Scenario, provider_missing, submission_conflict};
use crate::model::{
    AgentId, CorrelationId, DecisionOutcome, DecisionRecord, NamespaceId, PacketId, PacketPayload, PacketRecord, RunId,
    RunStatus, SafeSummary, ScenarioId, StageId, SubmissionId, SubmissionRecord, TenantId, Timestamp, ToolCallDetails,
    ToolCallError, ToolCallRecord, ToolMethod, TriggerEvent, TriggerId, TriggerKind, TriggerRecord,
};
use crate::pack::finding::{Code, Finding};
use crate::pack::manifest::Manifest;
use crate::pack::report::Unverifiable;

/// Bytes of status answers, roughly, that are computed again. Each names every
/// packet issued so far, so polls times packets could cost an auditor's day.
const STATUS_BYTES_MAX: u64 = 1 << 30;

/// What the id of a packet counts for in each of them, at least.
const PACKET_ID_BYTES: u64 = 32;

pub(super) struct Calls<'c> {
    manifest: &'c Manifest,
    scenario: &'c Scenario,
    /// Answers given before, by which repeats are known.
    answers: Fingerprints,
    /// Answers to submissions given before.
    taken: Fingerprints,
    submitted: Fingerprints,
    /// The newest answer to a trigger, which a finished run keeps giving.
    last_answer: [Option<Digest>; 2],
    packet_ids: Vec<PacketId>,
    /// Of `packet_ids`, each counted as 32 at least.
    packet_id_bytes: u64,
    status_bytes: u64,
    /// The answer to a status as the run stands.
    status: Option<Both>,
    /// What a call may say of the submission that comes next.
    waiting: Option<Waiting>,
    next_call: u64,
    unknown: BTreeMap<&'static str, u64>,
}

/// Bodies as they were, without copying what they hold. Members in canonical
/// order.
#[derive(Serialize)]
struct NextBody<'a> {
    agent_id: &'a AgentId,
    correlation_id: &'a Option<CorrelationId>,
    namespace_id: NamespaceId,
    run_id: &'a RunId,
    tenant_id: TenantId,
    time: Timestamp,
    trigger_id: &'a TriggerId,
}

#[derive(Serialize)]
struct AnswerBody<'a> {
    decision: &'a DecisionRecord,
    packets: &'a [&'a PacketRecord],
    status: RunStatus,
}

#[derive(Serialize)]
struct SubmitBody<'a, P> {
    content_type: &'a str,
    correlation_id: &'a Option<CorrelationId>,
    namespace_id: NamespaceId,
    payload: P,
    run_id: &'a RunId,
    submission_id: &'a SubmissionId,
    submitted_at: Timestamp,
    tenant_id: TenantId,
}

#[derive(Serialize)]
struct SubmittedBody<R> {
    record: R,
}

/// A [`SubmissionRecord`] around the value of its payload.
#[derive(Serialize)]
struct RecordAround<'a> {
    content_hash: Digest,
    content_type: &'a str,
    correlation_id: &'a Option<CorrelationId>,
    payload: PayloadAround,
    run_id: &'a RunId,
    submission_id: &'a SubmissionId,
    submitted_at: Timestamp,
}

/// A [`PacketPayload::Json`] around its value.
#[derive(Serialize)]
struct PayloadAround {
    kind: &'static str,
    value: Here,
}

const PAYLOAD_AROUND: PayloadAround = PayloadAround { kind: "json", value: Here };

#[derive(Serialize)]
struct StatusBody<'a> {
    correlation_id: &'a Option<CorrelationId>,
    namespace_id: NamespaceId,
    requested_at: Timestamp,
    run_id: &'a RunId,
    tenant_id: TenantId,
}

#[derive(Serialize)]
struct StandingBody<'a> {
    current_stage_id: &'a StageId,
    issued_packet_ids: &'a [PacketId],
    last_decision: Option<&'a DecisionRecord>,
    run_id: &'a RunId,
    safe_summary: Option<&'a SafeSummary>,
    scenario_id: &'a ScenarioId,
    status: RunStatus,
}

impl<'c> Calls<'c> {
    pub(super) fn new(manifest: &'c Manifest, scenario: &'c Scenario) -> Self {
        Self {
            manifest,
            scenario,
            answers: Fingerprints::default(),
            taken: Fingerprints::default(),
            submitted: Fingerprints::default(),
            last_answer: [None; 2],
            packet_ids: Vec::new(),
            packet_id_bytes: 0,
            status_bytes: 0,
            status: None,
            waiting: None,
            next_call: 1,
            unknown: BTreeMap::new(),
        }
    }

    /// Which digests nothing in the pack can confirm, by reason.
    pub(super) fn unverifiable(self) -> Vec<Unverifiable> {
        let one = |(what, count): (&str, u64)| Unverifiable { what: what.to_owned(), count };
        self.unknown.into_iter().map(one).collect()
    }

    /// Takes the calls up to the one that `step` came by. `after` is the run's
    /// standing after the step; calls before it saw the run as it was.
    pub(super) fn until(&mut self, step: &Step, logs: &mut Logs<'_>, after: &Standing, found: &mut Found) {
        let decision = &step.decision.1;
        let packets: Vec<_> = step.packets.iter().map(|(_, packet)| packet).collect();
        let answer = AnswerBody { decision, packets: &packets, status: after.status };
        let (digest, older) = forms(&answer).map_or((None, None), |(digest, older)| (Some(digest), older));
        if matches!(decision.outcome, DecisionOutcome::Start { .. }) {
            // A start is no call. Its answer can still be repeated.
            self.learn([digest, older], &packets);
            return;
        }
        let (mut this, mut following) = (Requests::default(), Requests::default());
        let mut earlier = None;
        loop {
            // A call for the trigger after this one means that this one's is gone.
            let brought = logs.calls.peek().filter(|call| !following.brought_by(call, step, logs.triggers.peek()));
            let Some(call) = brought else {
                if !logs.broken() {
                    let (position, trigger) = &step.trigger;
                    let message = format!("no call in the transcript brought trigger {}", trigger.event.trigger_id);
                    let finding = Finding::new(Code::CallUnexplained, TRIGGERS, message);
                    found.add(finding.at(format!("/{position}/event/trigger_id")));
                }
                break;
            };
            let asked = this.cover(call, &step.trigger.1.event);
            let answered = call.error.is_none() && [digest, older].contains(&Some(call.response_hash));
            if call.error.is_some() || !(asked || answered) {
                let before = earlier.get_or_insert_with(|| before(step, after));
                let Some(call) = logs.calls.take() else { break };
                self.other(call, &mut logs.submissions, before, found);
                continue;
            }
            let Some((position, call)) = logs.calls.take() else { break };
            self.number(position, &call, found);
            let at = |member: &str| format!("/{position}/{member}");
            let event = &step.trigger.1.event;
            if !asked {
                let message =
                    format!("the request hash of {} covers no request for trigger {}", call.call_id, event.trigger_id);
                found.add(Finding::new(Code::RequestHashMismatch, CALLS, message).at(at("request_hash")));
            }
            if !answered {
                let message = format!(
                    "the response hash of {} does not cover the decision on trigger {}",
                    call.call_id, event.trigger_id
                );
                let finding = Finding::new(Code::ResponseHashMismatch, CALLS, message).at(at("response_hash"));
                found.add(match digest {
                    Some(digest) => finding.differs(digest, call.response_hash),
                    None => finding,
                });
            }
            if call.called_at != event.time {
                let message = format!("{} is dated otherwise than its trigger", call.call_id);
                let finding = Finding::new(Code::TimesDisagree, CALLS, message).at(at("called_at"));
                found.add(finding.differs(event.time, call.called_at));
            }
            if call.correlation_id != event.correlation_id {
                let message = format!("{} carries another correlation than its trigger", call.call_id);
                found.add(Finding::new(Code::TimesDisagree, CALLS, message).at(at("correlation_id")));
            }
            break;
        }
        self.learn([digest, older], &packets);
    }

    /// The calls after the last trigger, and the submissions no call brought.
    pub(super) fn rest(&mut self, logs: &mut Logs<'_>, standing: &Standing, found: &mut Found) {
        while let Some(call) = logs.calls.take() {
            self.other(call, &mut logs.submissions, standing, found);
        }
        while let Some(submission) = logs.submissions.take() {
            let (position, record) = &submission;
            if !logs.broken() {
                let message = format!("no call in the transcript brought submission {}", record.submission_id);
                let finding = Finding::new(Code::CallUnexplained, SUBMISSIONS, message);
                found.add(finding.at(format!("/{position}/submission_id")));
            }
            self.submission(&submission, None, found);
        }
    }

    fn learn(&mut self, forms: [Option<Digest>; 2], packets: &[&PacketRecord]) {
        for digest in forms.into_iter().flatten() {
            self.answers.insert(digest.as_bytes());
        }
        self.last_answer = forms;
        self.status = None;
        for packet in packets {
            let id = packet.envelope.packet_id.clone();
            self.packet_id_bytes += (id.as_str().len() as u64).max(PACKET_ID_BYTES);
            self.packet_ids.push(id);
        }
    }

    /// A call that brought no new trigger.
    fn other(
        &mut self,
        (position, call): Placed<ToolCallRecord>,
        submissions: &mut Records<'_, SubmissionRecord>,
        standing: &Standing,
        found: &mut Found,
    ) {
        self.number(position, &call, found);
        let at = |member: &str| format!("/{position}/{member}");
        if let Some(error) = &call.error {
            if !covers(&call.response_hash, error) {
                let message = format!("the response hash of {} does not cover its error", call.call_id);
                found.add(Finding::new(Code::ResponseHashMismatch, CALLS, message).at(at("response_hash")));
            }
            self.refused(position, &call, found);
            *self.unknown.entry("request of a refused call").or_default() += 1;
            return;
        }
        let method = ToolMethod::ALL.iter().find(|method| method.as_str() == call.method);
        match method {
            Some(ToolMethod::Status) => self.status(position, &call, standing, found),
            Some(ToolMethod::Submit) => self.submit(position, &call, submissions, found),
            Some(ToolMethod::Next | ToolMethod::Trigger) => {
                let repeated = if standing.status == RunStatus::Active {
                    self.answers.contains(call.response_hash.as_bytes())
                } else {
                    self.last_answer.contains(&Some(call.response_hash))
                };
                if repeated {
                    *self.unknown.entry("request of a repeated call").or_default() += 1;
                } else {
                    let message = format!("{} brought no trigger and repeats no answer", call.call_id);
                    found.add(Finding::new(Code::ResponseHashMismatch, CALLS, message).at(at("response_hash")));
                }
            }
            None => {
                let message = format!("{} is of method `{}`, which is never recorded", call.call_id, call.method);
                found.add(Finding::new(Code::CallUnexplained, CALLS, message).at(at("method")));
            }
        }
    }

    /// The two errors that are recorded, each just as the engine writes it, and
    /// on a call that it can answer.
    fn refused(&self, position: usize, call: &ToolCallRecord, found: &mut Found) {
        let Some(error) = &call.error else { return };
        let method = |wanted: ToolMethod| call.method == wanted.as_str();
        let known = match &error.details {
            Some(ToolCallDetails::Message { info }) => {
                let id = info.strip_prefix("submission_id=").filter(|id| self.submitted.contains(id));
                let honest = id.map(|id| submission_conflict(&SubmissionId::from(id)));
                method(ToolMethod::Submit) && honest.as_ref() == Some(error)
            }
            Some(ToolCallDetails::ProviderMissing { missing_providers, blocked_by_policy, .. }) => {
                let honest =
                    provider_missing(self.scenario, |id| !missing_providers.iter().any(|missing| missing == id));
                let honest = honest.map(|error| blocked(error, *blocked_by_policy));
                (method(ToolMethod::Next) || method(ToolMethod::Trigger)) && honest.as_ref() == Some(error)
            }
            None => false,
        };
        if !known {
            let message = format!("the error `{}` of {} fits nothing that happened", error.code, call.call_id);
            found.add(Finding::new(Code::CallUnexplained, CALLS, message).at(format!("/{position}/error")));
        }
    }

    fn status(&mut self, position: usize, call: &ToolCallRecord, standing: &Standing, found: &mut Found) {
        let manifest = self.manifest;
        let request = StatusBody {
            correlation_id: &call.correlation_id,
            namespace_id: manifest.namespace_id,
            requested_at: call.called_at,
            run_id: &manifest.run_id,
            tenant_id: manifest.tenant_id,
        };
        if !covers(&call.request_hash, &request) {
            let message = format!("the request hash of {} covers no request for the status", call.call_id);
            let finding = Finding::new(Code::RequestHashMismatch, CALLS, message);
            found.add(finding.at(format!("/{position}/request_hash")));
        }
        self.status_bytes += self.packet_id_bytes;
        if self.status_bytes > STATUS_BYTES_MAX {
            *self.unknown.entry("answer of a status, too many packets and polls").or_default() += 1;
            return;
        }
        let last = standing.last.as_ref();
        let answer = StandingBody {
            current_stage_id: &standing.stage,
            issued_packet_ids: &self.packet_ids,
            last_decision: last,
            run_id: &manifest.run_id,
            safe_summary: last.and_then(|decision| match &decision.outcome {
                DecisionOutcome::Hold { summary } => Some(summary),
                _ => None,
            }),
            scenario_id: &manifest.scenario_id,
            status: standing.status,
        };
        let answer = self.status.get_or_insert_with(|| Both::of(&answer));
        if !answer.cover(&call.response_hash) {
            let message = format!("the response hash of {} does not cover the run's status then", call.call_id);
            let finding = Finding::new(Code::ResponseHashMismatch, CALLS, message);
            found.add(finding.at(format!("/{position}/response_hash")));
        }
    }

    fn submit(
        &mut self,
        position: usize,
        call: &ToolCallRecord,
        submissions: &mut Records<'_, SubmissionRecord>,
        found: &mut Found,
    ) {
        let waiting = submissions.peek();
        let bodies = waiting.map(|record| {
            let manifest = self.manifest;
            self.waiting.get_or_insert_with(|| Waiting::of(record, manifest))
        });
        let answered = bodies.as_ref().is_some_and(|bodies| bodies.answer.cover(&call.response_hash));
        // One wrong digest is one finding: the other still tells what it is about.
        let asked = bodies.as_ref().is_some_and(|bodies| bodies.request.cover(&call.request_hash));
        // Both wrong, and still of its moment: then it is the record that lies.
        let dated = waiting.is_some_and(|record| {
            call.called_at == record.submitted_at && call.correlation_id == record.correlation_id
        });
        let repeated = self.taken.contains(call.response_hash.as_bytes());
        if !(answered || asked || dated && !repeated) {
            if repeated {
                *self.unknown.entry("request of a repeated submission").or_default() += 1;
            } else {
                let message = format!("the response hash of {} covers no submission", call.call_id);
                let finding = Finding::new(Code::ResponseHashMismatch, CALLS, message);
                found.add(finding.at(format!("/{position}/response_hash")));
            }
            return;
        }
        let Some(submission) = submissions.take() else { return };
        let written = self.waiting.take().and_then(|bodies| bodies.written);
        self.submission(&submission, written.as_ref(), found);
        let record = &submission.1;
        if answered || !asked {
            self.taken.insert(call.response_hash.as_bytes());
        }
        if !answered {
            let message =
                format!("the response hash of {} does not cover submission {}", call.call_id, record.submission_id);
            let finding = Finding::new(Code::ResponseHashMismatch, CALLS, message);
            found.add(finding.at(format!("/{position}/response_hash")));
        }
        if !asked {
            let message = format!(
                "the request hash of {} covers no request for submission {}",
                call.call_id, record.submission_id
            );
            let finding = Finding::new(Code::RequestHashMismatch, CALLS, message);
            found.add(finding.at(format!("/{position}/request_hash")));
        }
        if call.called_at != record.submitted_at || call.correlation_id != record.correlation_id {
            let message = format!("{} is dated or correlated otherwise than its submission", call.call_id);
            found.add(Finding::new(Code::TimesDisagree, CALLS, message).at(format!("/{position}/called_at")));
        }
    }

    fn submission(
        &mut self,
        (position, record): &Placed<SubmissionRecord>,
        written: Option<&Written>,
        found: &mut Found,
    ) {
        let at = |member: &str| format!("/{position}/{member}");
        let surely =
            written.is_some_and(|text| text.bytes() <= PAYLOAD_BYTES_MAX && text.digest() == record.content_hash);
        let content = || content_finding(SUBMISSIONS, || at("content_hash"), &record.payload, record.content_hash);
        let findings = [
            identity(SUBMISSIONS, || at("run_id"), &self.manifest.run_id, &record.run_id),
            if surely { None } else { content() },
        ];
        findings.into_iter().flatten().for_each(|finding| found.add(finding));
        if !self.submitted.insert(record.submission_id.as_str()) {
            let message = format!("submission {} is logged twice", record.submission_id);
            found.add(Finding::new(Code::SubmissionRepeated, SUBMISSIONS, message).at(at("submission_id")));
        }
    }

    fn number(&mut self, position: usize, call: &ToolCallRecord, found: &mut Found) {
        let number = call.call_id.as_str().strip_prefix("call-").and_then(|digits| digits.parse().ok());
        let number = number.filter(|number| call.call_id.as_str() == format!("call-{number}"));
        if out_of_sequence(&mut self.next_call, position, number.unwrap_or(0)) {
            let expected = format!("call-{}", position + 1);
            let message = format!("{CALLS}/{position}/call_id is {}, expected {expected}", call.call_id);
            let finding = Finding::new(Code::SequenceBroken, CALLS, message);
            found.add(finding.at(format!("/{position}/call_id")).differs(expected, &call.call_id));
        }
    }
}

/// The value of a payload that is JSON.
fn written(record: &SubmissionRecord) -> Option<Written> {
    match &record.payload {
        PacketPayload::Json(value) => Written::of(value),
        PacketPayload::Bytes(_) | PacketPayload::External(_) => None,
    }
}

fn submitted_around(record: &SubmissionRecord) -> SubmittedBody<RecordAround<'_>> {
    let record = RecordAround {
        content_hash: record.content_hash,
        content_type: &record.content_type,
        correlation_id: &record.correlation_id,
        payload: PAYLOAD_AROUND,
        run_id: &record.run_id,
        submission_id: &record.submission_id,
        submitted_at: record.submitted_at,
    };
    SubmittedBody { record }
}

/// Whether a provider is missing or only blocked is the deployment's to say.
fn blocked(mut error: ToolCallError, blocked: bool) -> ToolCallError {
    if let Some(ToolCallDetails::ProviderMissing { blocked_by_policy, .. }) = &mut error.details {
        *blocked_by_policy = blocked;
    }
    error
}

/// The standing that calls before a step's own saw.
fn before(step: &Step, after: &Standing) -> Standing {
    let (stage, last) = (step.decision.1.stage_id.clone(), step.previous.clone());
    Standing { stage, status: RunStatus::Active, last, ..after.clone() }
}

/// The digests that cover a body. A body is written once, however many calls
/// may be about it: each could be as large as a file, and calls are small.
struct Both([Option<Digest>; 2]);

impl Both {
    fn of<T: Serialize>(body: &T) -> Self {
        Self(forms(body).map_or([None, None], |(digest, older)| [Some(digest), older]))
    }

    fn cover(&self, stated: &Digest) -> bool {
        self.0.contains(&Some(*stated))
    }
}

/// The requests that can be behind one trigger.
#[derive(Default)]
struct Requests {
    trigger: Option<Both>,
    next: Option<Both>,
}

impl Requests {
    /// Whether a call's request hash covers the request behind `event`, which is
    /// the same at each call.
    fn cover(&mut self, call: &ToolCallRecord, event: &TriggerEvent) -> bool {
        if call.method == ToolMethod::Trigger.as_str() {
            return self.trigger.get_or_insert_with(|| Both::of(event)).cover(&call.request_hash);
        }
        if call.method != ToolMethod::Next.as_str()
            || event.kind != TriggerKind::AgentRequestNext
            || event.payload.is_some()
        {
            return false;
        }
        let body = || {
            Both::of(&NextBody {
                agent_id: &AgentId::from(event.source_id.as_str()),
                correlation_id: &event.correlation_id,
                namespace_id: event.namespace_id,
                run_id: &event.run_id,
                tenant_id: event.tenant_id,
                time: event.time,
                trigger_id: &event.trigger_id,
            })
        };
        self.next.get_or_insert_with(body).cover(&call.request_hash)
    }

    /// Whether a call brought the trigger after `step`, and not its own.
    fn brought_by(&mut self, call: &ToolCallRecord, step: &Step, next: Option<&TriggerRecord>) -> bool {
        call.error.is_none()
            && call.called_at != step.trigger.1.event.time
            && next.is_some_and(|next| call.called_at == next.event.time && self.cover(call, &next.event))
    }
}

/// What covers a submission that no call has brought yet.
struct Waiting {
    written: Option<Written>,
    answer: Both,
    request: Both,
}

impl Waiting {
    fn of(record: &SubmissionRecord, manifest: &Manifest) -> Self {
        // Payloads can be large, and three digests cover each.
        let written = written(record);
        let around = |digest: Option<Digest>, whole: &dyn Fn() -> Both| match digest {
            Some(digest) => Both([Some(digest), None]),
            None => whole(),
        };
        let text = written.as_ref();
        let answer = around(text.and_then(|text| text.within(&submitted_around(record))), &|| {
            Both::of(&SubmittedBody { record })
        });
        let request =
            around(text.and_then(|text| text.within(&submit_body(manifest, record, PAYLOAD_AROUND))), &|| {
                Both::of(&submit_body(manifest, record, &record.payload))
            });
        Self { written, answer, request }
    }
}

fn submit_body<'a, P>(manifest: &Manifest, record: &'a SubmissionRecord, payload: P) -> SubmitBody<'a, P> {
    SubmitBody {
        content_type: &record.content_type,
        correlation_id: &record.correlation_id,
        namespace_id: manifest.namespace_id,
        payload,
        run_id: &record.run_id,
        submission_id: &record.submission_id,
        submitted_at: record.submitted_at,
        tenant_id: manifest.tenant_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else every submission would be written three times.
    #[test]
    fn a_submission_is_known_by_what_is_around_its_payload() {
        let state = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/packs/source/rich/state.json"));
        let state: serde_json::Value = serde_json::from_str(state).unwrap();
        let records: Vec<SubmissionRecord> = serde_json::from_value(state["submissions"].clone()).unwrap();
        let json = records.iter().filter_map(|record| Some((record, written(record)?)));
        let known = json.map(|(record, written)| {
            let digest = forms(&SubmittedBody { record }).unwrap().0;
            assert_eq!(written.within(&submitted_around(record)), Some(digest), "{record:?}");
            let digest = forms(&PacketPayload::clone(&record.payload)).unwrap().0;
            assert_eq!(written.within(&PAYLOAD_AROUND), Some(digest), "{record:?}");
        });
        assert!(known.count() > 0);
    }
}
