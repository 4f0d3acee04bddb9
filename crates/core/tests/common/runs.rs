//! Random runs, recorded as `daemon/src/gatekeeper.rs` records them.

use std::collections::BTreeMap;

use runpack_core::engine::{
    self, Entry, Evidence, Head, Logic, Plan, Policy, Scenario, Settings, SubmitOutcome, decide, provider_missing,
    record_call, start,
};
use runpack_core::model::{
    AnchorPolicy, ConditionId, ConditionSpec, CorrelationId, DecisionRecord, EvidenceAnchor, EvidenceError,
    EvidenceRef, EvidenceResult, EvidenceSignature, EvidenceValue, Lane, NextRequest, PacketPayload, ProviderId,
    RunConfig, RunState, StatusRequest, SubmitRequest, SubmitResult, Timestamp, ToolCallError, ToolMethod,
    TriggerEvent, TriggerResult,
};
use runpack_core::pack::{BuildOptions, SecurityContext};
use runpack_core::read::{self, Unknown};
use serde::Serialize;
use serde_json::{Value, json};

use super::random::Random;
use super::scenarios::{PROVIDERS, payload, scenario};

/// A run, and everything about it that its pack does not say.
pub(crate) struct Case {
    pub(crate) scenario: Scenario,
    pub(crate) config: RunConfig,
    pub(crate) settings: Settings,
    pub(crate) policy: Policy,
    pub(crate) started_at: Timestamp,
    pub(crate) opened: bool,
    pub(crate) state: RunState,
    pub(crate) options: BuildOptions,
    /// Triggers that could not be decided, and wrote nothing.
    pub(crate) undecided: usize,
    /// What each call did.
    pub(crate) calls: Vec<Did>,
}

/// What a call did to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Did {
    /// It brought a trigger or a submission.
    Brought,
    /// It asked for the status.
    Asked,
    /// It was answered from the log.
    Repeated,
    /// It failed, and that is recorded.
    Refused,
}

/// The run of a seed; `None` if its first packets may not be issued.
pub(crate) fn case(seed: u64) -> Option<Case> {
    let random = &mut Random::new(seed);
    let scenario = scenario(random);
    let config = config(random, &scenario);
    let settings = settings(random);
    let policy = policy(random);
    let mut clock = Clock::new(random);
    let opened = random.percent(50);
    let started_at = clock.now();
    let unregistered = random.percent(4);
    let count = [0, 3, 8, 15, 30][random.below(5)];
    let play = |run: &mut Run<'_>| {
        for _ in 0..count {
            let at = clock.tick(run.random);
            let missing = unregistered && run.random.percent(50);
            run.call(at, missing);
        }
    };
    played(random, scenario, config, settings, policy, started_at, opened, play)
}

/// A run by hand: triggers, and the answer to every condition each asks.
pub(crate) fn scripted(
    scenario: Value,
    config: Value,
    settings: Settings,
    policy: Policy,
    started_at: Timestamp,
    opened: bool,
    triggers: Vec<(Value, Value)>,
) -> Case {
    let scenario = Scenario::new(read::ingest_value(scenario, Unknown::Refuse).unwrap()).unwrap();
    let config: RunConfig = read::ingest_value(config, Unknown::Refuse).unwrap();
    let play = |run: &mut Run<'_>| {
        for (event, answer) in triggers {
            let event: TriggerEvent = read::ingest_value(event, Unknown::Refuse).unwrap();
            let answer: EvidenceResult = serde_json::from_value(answer).unwrap();
            run.decide(&event, ToolMethod::Trigger, &event, false, Some(&answer));
        }
    };
    played(&mut Random::new(0), scenario, config, settings, policy, started_at, opened, play).unwrap()
}

#[allow(clippy::too_many_arguments, reason = "a run is decided by all of these")]
fn played(
    random: &mut Random,
    scenario: Scenario,
    config: RunConfig,
    settings: Settings,
    policy: Policy,
    started_at: Timestamp,
    opened: bool,
    play: impl FnOnce(&mut Run<'_>),
) -> Option<Case> {
    let opening = start(&scenario, &config, started_at, opened, &policy).ok()?;
    let state = opening.head.empty_state();
    let (scenario_of, settings_of, policy_of) = (&scenario, &settings, &policy);
    let mut run = Run {
        random,
        scenario: scenario_of,
        settings: settings_of,
        policy: policy_of,
        head: opening.head,
        state,
        undecided: 0,
        calls: Vec::new(),
    };
    run.log(opening.entries);
    play(&mut run);
    let Run { random, head, mut state, undecided, calls, .. } = run;
    state.current_stage_id = head.current_stage_id;
    state.stage_entered_at = head.stage_entered_at;
    state.status = head.status;
    let options = options(random, &settings);
    Some(Case { scenario, config, settings, policy, started_at, opened, state, options, undecided, calls })
}

fn config(random: &mut Random, scenario: &Scenario) -> RunConfig {
    let targets: Vec<_> = (0..random.between(0, 3))
        .map(|_| match random.below(4) {
            0 => json!({"kind": "agent", "agent_id": random.text()}),
            1 => json!({"kind": "session", "session_id": random.text()}),
            2 => json!({"kind": "external", "system": random.text(), "target": random.text()}),
            _ => json!({"kind": "channel", "channel": random.text()}),
        })
        .collect();
    let config = json!({
        "tenant_id": random.between(1, 3),
        "namespace_id": scenario.spec().namespace_id,
        "run_id": *random.pick(&["r", "run-1", "läuft"]),
        "scenario_id": scenario.spec().scenario_id,
        "dispatch_targets": targets,
        "policy_tags": random.texts(1),
    });
    read::ingest_value(config, Unknown::Refuse).unwrap()
}

fn settings(random: &mut Random) -> Settings {
    let lane = |random: &mut Random| if random.percent(50) { Lane::Verified } else { Lane::Asserted };
    let mut provider_lanes = BTreeMap::new();
    for provider in PROVIDERS {
        if random.percent(20) {
            provider_lanes.insert(ProviderId::from(provider), lane(random));
        }
    }
    let anchors = if random.percent(40) {
        let fields = &["path", "line"][..random.between(0, 2)];
        let mut providers =
            vec![json!({"provider_id": "json", "requirement": {"anchor_type": "file", "required_fields": fields}})];
        if random.percent(20) {
            providers.push(json!({"provider_id": "time", "requirement": {
                "anchor_type": "trigger_time_logical", "required_fields": []}}));
        }
        json!({"providers": providers})
    } else {
        json!({})
    };
    let anchors: AnchorPolicy = read::ingest_value(anchors, Unknown::Refuse).unwrap();
    let logic = if random.percent(50) { Logic::Kleene } else { Logic::Bochvar };
    Settings { min_lane: lane(random), provider_lanes, logic, anchors }
}

fn policy(random: &mut Random) -> Policy {
    match random.below(10) {
        0 => Policy::DenyAll,
        1..4 => {
            let text = random.text();
            let effect = *random.pick(&["error", "error", "deny", "permit"]);
            let mut rule = json!({"effect": effect});
            if effect == "error" {
                rule["error_message"] = json!(random.text());
            }
            let criterion = *random.pick(&[
                "target_kinds",
                "require_labels",
                "content_types",
                "require_policy_tags",
                "schema_ids",
                "packet_ids",
            ]);
            rule[criterion] = if criterion == "packet_ids" {
                json!(["p1-0", "p2-0"])
            } else if criterion == "target_kinds" {
                json!(["agent", "session"])
            } else {
                json!([text])
            };
            if random.percent(50) {
                rule = json!({"effect": effect, "error_message": rule["error_message"]});
            }
            let default = if random.percent(80) { "permit" } else { "deny" };
            Policy::Static(serde_json::from_value(json!({"default": default, "rules": [rule]})).unwrap())
        }
        _ => Policy::PermitAll,
    }
}

fn options(random: &mut Random, settings: &Settings) -> BuildOptions {
    let mut options = BuildOptions::at(Timestamp::Logical(random.next() >> 12));
    options.anchor_policy = settings.anchors.clone();
    if random.percent(50) {
        let dev_permissive = random.percent(50);
        options.security = Some(SecurityContext { dev_permissive, namespace_authority: random.text() });
    }
    options
}

/// The caller's clock: mostly forwards, sometimes not, rarely another clock.
struct Clock {
    logical: bool,
    at: i64,
}

impl Clock {
    fn new(random: &mut Random) -> Self {
        let logical = random.percent(50);
        let bases = if logical { [0, 0, 1, 5, 1_000] } else { [-5, 0, 10, 1_710_000_000_000, 1_709_999_999_990] };
        Self { logical, at: *random.pick(&bases) }
    }

    fn now(&self) -> Timestamp {
        if self.logical { Timestamp::Logical(self.at.unsigned_abs()) } else { Timestamp::UnixMillis(self.at) }
    }

    fn tick(&mut self, random: &mut Random) -> Timestamp {
        if random.percent(8) {
            self.at -= random.between(0, 30) as i64;
            if self.logical {
                self.at = self.at.max(0);
            }
        } else {
            self.at += *random.pick(&[0, 1, 2, 5, 20, 61]);
        }
        let other = Self { logical: !self.logical, at: self.at };
        if random.percent(4) { other.now() } else { self.now() }
    }
}

struct Run<'a> {
    random: &'a mut Random,
    scenario: &'a Scenario,
    settings: &'a Settings,
    policy: &'a Policy,
    head: Head,
    state: RunState,
    undecided: usize,
    calls: Vec<Did>,
}

impl Run<'_> {
    fn call(&mut self, at: Timestamp, missing: bool) {
        let correlation_id = self.random.percent(30).then(|| CorrelationId::from(self.random.text()));
        match self.random.below(10) {
            0..3 => {
                let request = NextRequest {
                    agent_id: self.random.text().as_str().into(),
                    correlation_id,
                    namespace_id: self.head.namespace_id,
                    run_id: self.head.run_id.clone(),
                    tenant_id: self.head.tenant_id,
                    time: at,
                    trigger_id: self.trigger_id().as_str().into(),
                };
                self.decide(&request.event(), ToolMethod::Next, &request, missing, None);
            }
            3..8 => {
                let kind =
                    *self.random.pick(&["tick", "tick", "agent_request_next", "external_event", "backend_event"]);
                let event = json!({
                    "trigger_id": self.trigger_id(),
                    "tenant_id": self.head.tenant_id,
                    "namespace_id": self.head.namespace_id,
                    "run_id": self.head.run_id,
                    "kind": kind,
                    "time": at,
                    "source_id": *self.random.pick(&["system", "ci", ""]),
                    "payload": self.random.maybe(30, payload),
                    "correlation_id": correlation_id,
                });
                let event: TriggerEvent = read::ingest_value(event, Unknown::Refuse).unwrap();
                self.decide(&event, ToolMethod::Trigger, &event, missing, None);
            }
            8 => self.submit(at, correlation_id.as_ref()),
            _ => self.status(at, correlation_id),
        }
    }

    fn trigger_id(&mut self) -> String {
        match self.state.triggers.len() {
            count if count > 0 && self.random.percent(12) => {
                let earlier = self.random.below(count);
                self.state.triggers[earlier].event.trigger_id.to_string()
            }
            _ if self.random.percent(2) => "init".to_owned(),
            count => format!("t{}", count + self.state.tool_calls.len()),
        }
    }

    fn decide(
        &mut self,
        event: &TriggerEvent,
        method: ToolMethod,
        request: &impl Serialize,
        missing: bool,
        scripted: Option<&EvidenceResult>,
    ) {
        let correlation = &event.correlation_id;
        if missing && let Some(error) = provider_missing(self.scenario, |id| id == "time") {
            self.record(Did::Refused, method, request, Err::<&TriggerResult, _>(error), event.time, correlation);
            return;
        }
        let earlier = self.state.decisions.iter().find(|decision| decision.trigger_id == event.trigger_id).cloned();
        let Ok(plan) = engine::plan(self.scenario, &self.head, event, earlier.is_some()) else {
            self.undecided += 1;
            return;
        };
        let did = if matches!(plan, Plan::Closed | Plan::Repeat) { Did::Repeated } else { Did::Brought };
        let result = match plan {
            Plan::Closed => {
                let last = self.state.decisions.last().unwrap().clone();
                self.recall(last)
            }
            Plan::Repeat => self.recall(earlier.unwrap()),
            Plan::Expired => self.step(event, &BTreeMap::new()),
            Plan::Gather(conditions) => {
                let conditions: Vec<_> = conditions.into_iter().cloned().collect();
                let mut evidence = BTreeMap::new();
                for condition in &conditions {
                    if let Some(found) = scripted {
                        evidence.insert(condition.condition_id.clone(), Evidence::admit(found.clone()));
                    } else if self.random.percent(97) {
                        let anchors = &self.settings.anchors;
                        let found = answer(self.random, condition, event.time, anchors);
                        evidence.insert(condition.condition_id.clone(), Evidence::admit(found));
                    }
                }
                self.step(event, &evidence)
            }
        };
        self.record(did, method, request, Ok(&result), event.time, correlation);
    }

    fn step(&mut self, event: &TriggerEvent, evidence: &BTreeMap<ConditionId, Evidence>) -> TriggerResult {
        let step = decide(self.scenario, self.settings, &self.head, event, evidence, self.policy).unwrap();
        let result =
            TriggerResult { decision: step.decision.clone(), packets: step.packets.clone(), status: step.head.status };
        let (head, entries) = step.into_entries();
        self.head = head;
        self.log(entries);
        result
    }

    fn recall(&self, decision: DecisionRecord) -> TriggerResult {
        let packets = self.state.packets.iter().filter(|packet| packet.decision_id == decision.decision_id);
        TriggerResult { packets: packets.cloned().collect(), status: self.head.status, decision }
    }

    fn submit(&mut self, at: Timestamp, correlation_id: Option<&CorrelationId>) {
        let earlier = self.random.below(self.state.submissions.len() + 2);
        let mut payload: PacketPayload = serde_json::from_value(payload(self.random)).unwrap();
        let mut content_type = self.random.text();
        let submission_id = match self.state.submissions.get(earlier) {
            Some(earlier) => {
                if self.random.percent(50) {
                    payload = earlier.payload.clone();
                    content_type = earlier.content_type.clone();
                }
                earlier.submission_id.to_string()
            }
            None => format!("sub-{}", self.state.submissions.len()),
        };
        let request = json!({
            "content_type": content_type,
            "correlation_id": correlation_id,
            "namespace_id": self.head.namespace_id,
            "payload": payload,
            "run_id": self.head.run_id,
            "submission_id": submission_id,
            "submitted_at": at,
            "tenant_id": self.head.tenant_id,
        });
        let request: SubmitRequest = read::ingest_value(request, Unknown::Refuse).unwrap();
        let earlier = self.state.submissions.iter().find(|earlier| earlier.submission_id == request.submission_id);
        let correlation = &request.correlation_id;
        let (did, record) = match engine::submit(&mut self.head, &request, earlier.cloned().as_ref()).unwrap() {
            SubmitOutcome::New(record) => {
                self.state.submissions.push(record.clone());
                (Did::Brought, record)
            }
            SubmitOutcome::Same(record) => (Did::Repeated, record),
            SubmitOutcome::Conflict(error) => {
                self.record(
                    Did::Refused,
                    ToolMethod::Submit,
                    &request,
                    Err::<&SubmitResult, _>(error),
                    at,
                    correlation,
                );
                return;
            }
        };
        self.record(did, ToolMethod::Submit, &request, Ok(&SubmitResult { record }), at, correlation);
    }

    fn status(&mut self, at: Timestamp, correlation_id: Option<CorrelationId>) {
        let request = StatusRequest {
            correlation_id,
            namespace_id: self.head.namespace_id,
            requested_at: at,
            run_id: self.head.run_id.clone(),
            tenant_id: self.head.tenant_id,
        };
        let issued = self.state.packets.iter().map(|packet| packet.envelope.packet_id.clone()).collect();
        let status = engine::status(&self.head, self.state.decisions.last(), issued);
        self.record(Did::Asked, ToolMethod::Status, &request, Ok(&status), at, &request.correlation_id);
    }

    fn record<A: Serialize>(
        &mut self,
        did: Did,
        method: ToolMethod,
        request: &impl Serialize,
        answer: Result<&A, ToolCallError>,
        at: Timestamp,
        correlation: &Option<CorrelationId>,
    ) {
        let call = record_call(&mut self.head, method, request, answer, at, correlation.clone()).unwrap();
        self.state.tool_calls.push(call);
        self.calls.push(did);
    }

    fn log(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            match entry {
                Entry::Trigger(entry) => self.state.triggers.push(entry),
                Entry::GateEval(entry) => self.state.gate_evals.push(entry),
                Entry::Decision(entry) => self.state.decisions.push(entry),
                Entry::Packet(entry) => self.state.packets.push(entry),
                Entry::Submission(entry) => self.state.submissions.push(entry),
                Entry::ToolCall(entry) => self.state.tool_calls.push(entry),
            }
        }
    }
}

/// What a provider says. The time provider says what it must; of the others
/// somewhat more often than not what the scenario hopes for.
fn answer(random: &mut Random, condition: &ConditionSpec, now: Timestamp, anchors: &AnchorPolicy) -> EvidenceResult {
    if condition.query.provider_id.as_str() == "time" {
        return clock(condition, now);
    }
    let mut result = EvidenceResult::empty(if random.percent(60) { Lane::Verified } else { Lane::Asserted });
    if random.percent(6) {
        let details = random.percent(50).then(|| random.value(1)).filter(|details| !details.is_null());
        let code = *random.pick(&["provider_error", "timeout", "trust_lane"]);
        result.error = Some(EvidenceError { code: code.into(), message: random.text().into(), details });
        // A provider may contradict itself.
        if random.percent(20) {
            result.value = Some(EvidenceValue::Json(random.scalar()));
        }
    } else if random.percent(80) {
        result.value = matching(random, condition);
    } else {
        result.value = match random.below(20) {
            0..4 => None,
            4..7 => Some(EvidenceValue::Bytes(serde_json::from_value(random.bytes()).unwrap())),
            7 => Some(EvidenceValue::Json(json!(9_007_199_254_740_993_u64))),
            8 if random.percent(4) => Some(EvidenceValue::Json(Value::String("x".repeat(1_048_577)))),
            _ => Some(EvidenceValue::Json(random.value(2))),
        };
    }
    if random.percent(10) {
        result.evidence_hash = Some(runpack_core::canon::Digest::of(random.text().as_bytes()));
    }
    result.evidence_ref = random.percent(15).then(|| EvidenceRef { uri: random.text().into() });
    result.content_type = random.percent(30).then(|| random.text().into());
    result.signature = random.percent(10).then(|| EvidenceSignature {
        key_id: random.text(),
        scheme: random.text(),
        signature: serde_json::from_value(random.bytes()).unwrap(),
    });
    let asked = anchors.requirement(&condition.query.provider_id).is_some();
    if random.percent(if asked { 85 } else { 10 }) {
        let values = [
            r#"{"path":"x","line":3}"#,
            r#"{ "line": 1e0, "path": "", "more": [] }"#,
            r#"{"path":null}"#,
            "{}",
            "7",
            "",
        ];
        let value = if random.percent(80) { values[random.below(2)] } else { *random.pick(&values) };
        let kind = if random.percent(95) { "file".to_owned() } else { random.text() };
        result.evidence_anchor = Some(EvidenceAnchor { anchor_type: kind.into(), anchor_value: value.into() });
    }
    result
}

/// As `crates/providers/src/time.rs` answers.
pub(crate) fn clock(condition: &ConditionSpec, now: Timestamp) -> EvidenceResult {
    let query = &condition.query;
    let against = || query.params.as_ref().and_then(|params| params.get("timestamp")).and_then(|at| now.against(at));
    let value = match query.check_id.as_str() {
        "now" if query.params.is_none() => Some(match now {
            Timestamp::UnixMillis(millis) => json!(millis),
            Timestamp::Logical(tick) => json!(tick),
        }),
        "after" => against().map(|order| json!(order.is_gt())),
        "before" => against().map(|order| json!(order.is_lt())),
        _ => None,
    };
    let Some(value) = value else { return EvidenceResult::failed(EvidenceError::provider("bad query")) };
    let (anchor_type, anchor_value) = now.anchor();
    EvidenceResult {
        value: Some(EvidenceValue::Json(value)),
        evidence_anchor: Some(EvidenceAnchor { anchor_type: anchor_type.into(), anchor_value: anchor_value.into() }),
        content_type: Some("application/json".into()),
        ..EvidenceResult::empty(Lane::Verified)
    }
}

/// A value for which the condition is True, where there is one.
fn matching(random: &mut Random, condition: &ConditionSpec) -> Option<EvidenceValue> {
    let expected = condition.expected.clone().unwrap_or_default();
    let step = |by: i64| match &expected {
        Value::Number(number) => number
            .as_i64()
            .map_or_else(|| json!(number.as_f64().unwrap_or(0.0) + by as f64), |value| json!(value.saturating_add(by))),
        Value::String(text) if text.len() > 12 => {
            json!(if by > 0 { "9999-01-01T00:00:00Z" } else { "0000-01-01T00:00:00Z" })
        }
        _ => json!(if by > 0 { "9999-1-1" } else { "0-1-1" }),
    };
    let text = |after: &str| Value::String(format!("{}{after}", expected.as_str().unwrap_or_default()));
    let value = match condition.comparator.as_str() {
        "not_equals" | "deep_not_equals" => match &expected {
            Value::Array(items) => Value::Array(items.iter().cloned().chain([json!("more")]).collect()),
            Value::Object(_) => json!({"another": 1}),
            _ => json!("another"),
        },
        "greater_than" => step(1),
        "less_than" => step(-1),
        "lex_greater_than" => text("!"),
        "lex_less_than" => Value::String(String::new()),
        "contains" => match &expected {
            Value::Array(items) => Value::Array(items.iter().cloned().chain([random.scalar()]).collect()),
            _ => text("…"),
        },
        "in_set" => expected.as_array().and_then(|items| items.first()).cloned().unwrap_or_default(),
        "exists" => random.value(1),
        "not_exists" => return None,
        "equals" if expected.is_array() && random.percent(40) => {
            if let Ok(bytes) = serde_json::from_value::<Vec<u8>>(expected.clone()) {
                return Some(EvidenceValue::Bytes(bytes));
            }
            expected
        }
        _ => expected,
    };
    Some(EvidenceValue::Json(value))
}
