//! The table of decisions. Every file below `testdata/decisions` is one case,
//! written by hand from the contract of the reference system; its README says how to read one.
//! A case is played as a gatekeeper plays it, over logs kept here. What every
//! case owes the contract is [`PLACES`].

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test reads its own data")]

#[path = "../../../testdata/inputs.rs"]
mod inputs;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::{fs, iter};

use runpack_core::canon::{self, Digest, to_vec};
use runpack_core::engine::{
    self, Entry, Evidence, Head, Logic, Plan, Policy, Scenario, Settings, SubmitOutcome, record_call,
};
use runpack_core::model::{
    AdvanceTo, AnchorPolicy, BranchRule, Comparator, ConditionId, ConditionSpec, CorrelationId, DecisionOutcome,
    DispatchTarget, EvidenceError, EvidenceResult, EvidenceValue, GateEvalRecord, GateEvaluation, GateOutcome,
    GateSpec, Lane, NextRequest, PacketPayload, PrecheckRequest, ProviderId, Requirement, RunConfig, RunState,
    ScenarioSpec, StageSpec, StatusRequest, SubmitRequest, SubmitResult, Timestamp, ToolCallDetails, ToolCallError,
    ToolCallRecord, ToolMethod, TriState, TriggerEvent, TriggerRecord, TriggerResult,
};
use runpack_core::pack::{self, BuildOptions, PackSink, SecurityContext, WireReport};
use runpack_core::read::{self, Profile, Unknown};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[test]
fn every_case_comes_out_as_it_says() {
    let mut wrong = String::new();
    for (name, case) in cases() {
        if let Err(problem) = case.play() {
            wrong += &format!("\n{name}: {}\n  {problem}\n", case.about);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_place_of_the_contract_has_a_case() {
    let places: BTreeSet<String> = places().collect();
    let mut open = places.clone();
    for (name, case) in cases() {
        assert!(!case.covers.is_empty(), "{name} covers nothing");
        for place in &case.covers {
            assert!(places.contains(place), "{name} covers `{place}`, which is no place of the contract");
            open.remove(place);
        }
    }
    assert!(open.is_empty(), "no case covers {open:#?}");
}

/// The type-pair table of §4.5 has no cell without a row: each comparator meets
/// each kind of evidence with each kind of expected value.
#[test]
fn every_comparator_meets_every_pair_of_kinds() {
    const KINDS: [&str; 6] = ["absent", "bool", "number", "string", "array", "object"];
    let mut met = BTreeSet::new();
    for (_, case) in cases() {
        for row in case.rows.iter().filter(|_| !case.comparators.is_empty()) {
            let (evidence, expected) = (evidence_kind(&row[0]), kind(&row[1]));
            met.extend(case.comparators.iter().map(|comparator| (comparator.as_str(), evidence, expected)));
        }
    }
    for comparator in COMPARATORS {
        for expected in KINDS {
            for evidence in KINDS.iter().chain(&["null", "bytes", "error"]) {
                // Evidence with an error is never compared: one row says so.
                let needed = *evidence != "error" || expected == "bool";
                let cell = (comparator, *evidence, expected);
                assert!(!needed || met.contains(&cell), "no row for {cell:?}");
            }
        }
    }
}

/// In their declared order (§1.4).
const COMPARATORS: [&str; 16] = [
    "equals",
    "not_equals",
    "greater_than",
    "greater_than_or_equal",
    "less_than",
    "less_than_or_equal",
    "lex_greater_than",
    "lex_greater_than_or_equal",
    "lex_less_than",
    "lex_less_than_or_equal",
    "contains",
    "in_set",
    "deep_equals",
    "deep_not_equals",
    "exists",
    "not_exists",
];

fn evidence_kind(value: &Value) -> &'static str {
    match value.as_object() {
        Some(members) if members.contains_key("bytes") => "bytes",
        Some(members) if members.contains_key("error") => "error",
        _ if value.is_null() => "null",
        _ => kind(value),
    }
}

/// An expected `null` is the same as none.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "absent",
        Value::String(text) if text == "absent" => "absent",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn cases() -> Vec<(String, Case)> {
    let root = inputs::testdata("decisions");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(!files.is_empty(), "no cases in {}", root.display());
    files.sort();
    files.into_iter().map(|file| (file.strip_prefix(&root).unwrap().display().to_string(), case(&file))).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
}

fn case(file: &Path) -> Case {
    let tree = read::value(&fs::read(file).unwrap(), Profile::Pack);
    let tree = tree.unwrap_or_else(|refusal| panic!("{}: {refusal}", file.display()));
    serde_json::from_value(expand(tree)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Replaces what would be too long to write out.
fn expand(tree: Value) -> Value {
    let size = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    match tree {
        Value::Array(items) => items.into_iter().map(expand).collect(),
        Value::Object(members) => {
            let members: Map<_, _> = members.into_iter().map(|(name, member)| (name, expand(member))).collect();
            match members.iter().next() {
                Some((name, to)) if name == "$repeat" => to[0].as_str().unwrap().repeat(size(&to[1])).into(),
                Some((name, to)) if name == "$bytes" => vec![0; size(to)].into(),
                Some((name, to)) if name == "$nested" => (1..size(to)).fold(json!([]), |inner, _| json!([inner])),
                Some((name, to)) if name == "$not" => {
                    (0..size(&to[0])).fold(to[1].clone(), |inner, _| json!({"Not": inner}))
                }
                _ => members.into(),
            }
        }
        scalar => scalar,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    about: String,
    covers: Vec<String>,
    /// The scenario and the evidence are taken as they are, as from a pack.
    #[serde(default)]
    recorded: bool,
    #[serde(default)]
    settings: Decided,
    policy: Option<Value>,
    /// Providers there are; without it, all.
    providers: Option<Vec<String>>,
    scenario: Option<Value>,
    condition: Option<Value>,
    fault: Option<String>,
    #[serde(default)]
    start: Start,
    #[serde(default)]
    steps: Vec<Played>,
    pack: Option<Packed>,
    #[serde(default)]
    comparators: Vec<Comparator>,
    #[serde(default)]
    logics: Vec<LogicName>,
    documents: Option<Unread>,
    #[serde(default)]
    rows: Vec<Vec<Value>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Decided {
    min_lane: Option<Lane>,
    #[serde(default)]
    provider_lanes: BTreeMap<ProviderId, Lane>,
    logic: Option<LogicName>,
    #[serde(default)]
    anchors: AnchorPolicy,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LogicName {
    Kleene,
    Bochvar,
}

impl From<LogicName> for Logic {
    fn from(name: LogicName) -> Self {
        match name {
            LogicName::Kleene => Self::Kleene,
            LogicName::Bochvar => Self::Bochvar,
        }
    }
}

/// What happens to members of a document that no type knows.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unread {
    Refuse,
    Drop,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    at: Option<Timestamp>,
    #[serde(default)]
    issue_entry_packets: bool,
    #[serde(default)]
    targets: Vec<Value>,
    /// Members of the run config that differ.
    #[serde(default)]
    config: Map<String, Value>,
    #[serde(default)]
    expect: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Played {
    trigger: Option<Value>,
    next: Option<Value>,
    submit: Option<Value>,
    status: Option<Value>,
    precheck: Option<Value>,
    /// Members of the scenario that differ for this call.
    under: Option<Value>,
    evidence: Option<BTreeMap<ConditionId, Value>>,
    expect: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Packed {
    generated_at: Timestamp,
    #[serde(default)]
    anchor_policy: AnchorPolicy,
    security: Option<SecurityContext>,
    report: Option<WireReport>,
    expect: Map<String, Value>,
}

impl Case {
    fn play(&self) -> Result<(), String> {
        if !self.comparators.is_empty() {
            self.compare()
        } else if !self.logics.is_empty() {
            self.combine()
        } else if let Some(unknown) = self.documents {
            self.rows.iter().try_for_each(|row| document(row, unknown))
        } else if let Some(fault) = &self.fault {
            match self.scenario(self.tree(), self.recorded) {
                Ok(_) => Err(format!("the scenario is accepted, not refused with `{fault}`")),
                Err(found) => same("fault", &json!(fault), &json!(found)),
            }
        } else {
            self.run()
        }
    }

    /// `[evidence, expected, status of each comparator ..]`
    fn compare(&self) -> Result<(), String> {
        for row in &self.rows {
            let [evidence, expected, statuses @ ..] = &row[..] else { return Err(format!("short row {row:?}")) };
            if statuses.len() != self.comparators.len() {
                return Err(format!("{row:?} has not one status for each of the comparators"));
            }
            for (comparator, status) in self.comparators.iter().zip(statuses) {
                let mut condition = json!({"comparator": comparator, "expected": expected});
                if expected == "absent" {
                    condition.as_object_mut().unwrap().remove("expected");
                }
                let scenario = self.scenario(scenario(&json!({"condition": condition})), self.recorded)?;
                let evidence = match evidence {
                    Value::Object(members) if members.contains_key("bytes") => {
                        json!({"value": {"kind": "bytes", "value": members["bytes"]}})
                    }
                    Value::Object(members) if members.contains_key("error") => evidence.clone(),
                    Value::String(text) if text == "absent" => json!({}),
                    value => json!({"value": {"kind": "json", "value": value}}),
                };
                let found = self.gate_on(&scenario, self.settings(), &[("c", evidence)])?;
                let place = format!("{} {} {}", row[0], comparator.as_str(), row[1]);
                same(&place, status, &found)?;
            }
        }
        Ok(())
    }

    /// `[requirement, status in each logic ..]`, over the leaves `t`, `f`, `u`.
    fn combine(&self) -> Result<(), String> {
        let leaf = |id| json!({"condition_id": id, "comparator": "equals", "expected": true});
        let value = |value: bool| json!({"value": {"kind": "json", "value": value}});
        for row in &self.rows {
            let [requirement, statuses @ ..] = &row[..] else { return Err("empty row".to_owned()) };
            let tree = json!({
                "conditions": [leaf("t"), leaf("f"), leaf("u")],
                "stages": [{"stage_id": "stage-1", "gates": [{"gate_id": "gate-1", "requirement": spelt(requirement)}]}],
            });
            let scenario = self.scenario(scenario(&json!({"scenario": tree})), self.recorded)?;
            let evidence = [("t", value(true)), ("f", value(false)), ("u", json!({"fails": "offline"}))];
            for (logic, status) in self.logics.iter().zip(statuses) {
                let settings = Settings { logic: Logic::from(*logic), ..self.settings() };
                same(&requirement.to_string(), status, &self.gate_on(&scenario, settings, &evidence)?)?;
            }
        }
        Ok(())
    }

    /// How `gate-1` comes out on the evidence for one trigger.
    fn gate_on(&self, scenario: &Scenario, settings: Settings, evidence: &[(&str, Value)]) -> Result<Value, String> {
        let mut run = Run::begin(self, scenario.clone(), settings)?;
        let gathered = evidence.iter().map(|(id, given)| Ok(((*id).into(), self.evidence(given)?)));
        let event = typed::<TriggerEvent>(fill(json!({}), &trigger_defaults(2)))?;
        let found = run.decide(&event, ToolMethod::Trigger, &event, &gathered.collect::<Result<_, String>>()?, None)?;
        Ok(found["gates"]["gate-1"].clone())
    }

    fn run(&self) -> Result<(), String> {
        let scenario = self.scenario(self.tree(), self.recorded)?;
        let mut run = match Run::begin(self, scenario, self.settings()) {
            Ok(run) => run,
            Err(error) => return matches("start", &self.start.expect, &json!({"error": error})),
        };
        matches("start", &self.start.expect, &run.started())?;
        for (index, step) in self.steps.iter().enumerate() {
            let place = format!("step {}", index + 1);
            let before = run.log.clone();
            let found = match run.step(step, index as u64 + 2) {
                Ok(found) => found,
                Err(error) if run.log == before => fill(run.standing().into(), &json!({"error": error})),
                Err(error) => return Err(format!("{place}: `{error}` was written")),
            };
            let given: BTreeSet<_> = step.evidence.iter().flat_map(BTreeMap::keys).map(ConditionId::as_str).collect();
            let asked: BTreeSet<_> =
                found["asked"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if step.precheck.is_none() && found.get("error").is_none() && given != asked {
                return Err(format!("{place}: evidence is given for {given:?} and asked for {asked:?}"));
            }
            matches(&place, &step.expect, &found)?;
        }
        self.pack.as_ref().map_or(Ok(()), |packed| matches("pack", &packed.expect, &packed.build(&run)?))
    }

    fn tree(&self) -> Value {
        scenario(&match (&self.scenario, &self.condition) {
            (Some(scenario), None) => json!({"scenario": scenario}),
            (None, Some(condition)) => json!({"condition": condition}),
            _ => panic!("`{}` has not just one of `scenario` and `condition`", self.about),
        })
    }

    fn scenario(&self, tree: Value, recorded: bool) -> Result<Scenario, String> {
        if recorded {
            let spec = read::recorded(&serde_json::to_vec(&tree).unwrap()).map_err(|refusal| refusal.to_string())?;
            Scenario::recorded(spec).map_err(|fault| fault.to_string())
        } else {
            let spec = read::ingest_value(tree, Unknown::Refuse).map_err(|refusal| refusal.to_string())?;
            Scenario::new(spec).map_err(|fault| fault.to_string())
        }
    }

    fn settings(&self) -> Settings {
        let default = Settings::default();
        Settings {
            min_lane: self.settings.min_lane.unwrap_or(default.min_lane),
            provider_lanes: self.settings.provider_lanes.clone(),
            logic: self.settings.logic.map_or(default.logic, Logic::from),
            anchors: self.settings.anchors.clone(),
        }
    }

    fn policy(&self) -> Result<Policy, String> {
        Ok(match &self.policy {
            None => Policy::PermitAll,
            Some(name) if name == "deny_all" => Policy::DenyAll,
            Some(rules) => Policy::Static(typed(rules.clone())?),
        })
    }

    /// A provider's answer; `null` where nothing was gathered.
    fn evidence(&self, given: &Value) -> Result<Option<Evidence>, String> {
        if given.is_null() {
            return Ok(None);
        }
        if let Some(message) = given.get("fails") {
            let message = message.as_str().ok_or("`fails` is a sentence")?;
            return Ok(Some(Evidence::admit(EvidenceResult::failed(EvidenceError::provider(message)))));
        }
        let result = typed(given.clone())?;
        Ok(Some(if self.recorded { Evidence::recorded(result) } else { Evidence::admit(result) }))
    }
}

/// The scenario of a case, with what it left out.
fn scenario(case: &Value) -> Value {
    let scenario = match &case["condition"] {
        Value::Null => case["scenario"].clone(),
        condition => json!({
            "conditions": [fill(condition.clone(), &json!({"condition_id": "c"}))],
            "stages": [{
                "stage_id": "stage-1",
                "gates": [{"gate_id": "gate-1", "requirement": {"Condition": "c"}}],
            }],
        }),
    };
    let mut scenario = fill(
        scenario,
        &json!({
            "scenario_id": "scenario-1", "namespace_id": 1, "spec_version": "1", "stages": [], "conditions": [],
            "policies": [], "schemas": [], "default_tenant_id": null,
        }),
    );
    for stage in scenario["stages"].as_array_mut().unwrap() {
        let defaults = json!({
            "entry_packets": [], "gates": [], "advance_to": {"kind": "terminal"}, "timeout": null,
            "on_timeout": "fail",
        });
        *stage = fill(stage.take(), &defaults);
        for packet in stage["entry_packets"].as_array_mut().unwrap() {
            let defaults = json!({
                "schema_id": "schema-1", "content_type": "application/json", "visibility_labels": [],
                "policy_tags": [], "expiry": null, "payload": {"kind": "json", "value": "hello"},
            });
            *packet = fill(packet.take(), &defaults);
        }
    }
    for condition in scenario["conditions"].as_array_mut().unwrap() {
        let defaults = json!({
            "query": {"provider_id": "p", "check_id": "k"}, "comparator": "exists", "expected": null,
            "policy_tags": [],
        });
        *condition = fill(condition.take(), &defaults);
    }
    scenario
}

/// A requirement whose leaves may be written as bare names.
fn spelt(requirement: &Value) -> Value {
    match requirement {
        Value::String(leaf) => json!({"Condition": leaf}),
        Value::Array(members) => members.iter().map(spelt).collect(),
        Value::Object(members) => {
            let spell = |(name, member): (&String, &Value)| {
                let plain = name == "min" || name == "Condition";
                (name.clone(), if plain { member.clone() } else { spelt(member) })
            };
            Value::Object(members.iter().map(spell).collect())
        }
        other => other.clone(),
    }
}

fn trigger_defaults(tick: u64) -> Value {
    json!({
        "trigger_id": format!("trigger-{tick}"), "tenant_id": 1, "namespace_id": 1, "run_id": "run-1",
        "kind": "external_event", "time": {"kind": "logical", "value": tick}, "source_id": "test",
    })
}

/// `given`, with the members of `defaults` that it lacks.
fn fill(given: Value, defaults: &Value) -> Value {
    let mut filled = defaults.clone();
    let Value::Object(given) = given else { return given };
    given.into_iter().for_each(|(name, member)| filled[name] = member);
    filled
}

fn typed<T: DeserializeOwned>(tree: Value) -> Result<T, String> {
    serde_json::from_value(tree).map_err(|error| error.to_string())
}

/// A run and its logs, and the gatekeeper's part in it.
struct Run<'a> {
    case: &'a Case,
    scenario: Scenario,
    settings: Settings,
    policy: Policy,
    log: RunState,
}

type Gathered = BTreeMap<ConditionId, Option<Evidence>>;

impl<'a> Run<'a> {
    fn begin(case: &'a Case, scenario: Scenario, settings: Settings) -> Result<Self, String> {
        let defaults = json!({
            "tenant_id": 1, "namespace_id": 1, "run_id": "run-1", "scenario_id": scenario.spec().scenario_id,
            "dispatch_targets": case.start.targets, "policy_tags": [],
        });
        let config: RunConfig = typed(fill(Value::Object(case.start.config.clone()), &defaults))?;
        let at = case.start.at.unwrap_or(Timestamp::Logical(1));
        let policy = case.policy()?;
        let opening = engine::start(&scenario, &config, at, case.start.issue_entry_packets, &policy)
            .map_err(|error| error.to_string())?;
        let head = &opening.head;
        let log = head.empty_state();
        let mut run = Self { case, scenario, settings, policy, log };
        run.append(&opening.head, opening.entries)?;
        Ok(run)
    }

    fn started(&self) -> Value {
        let mut found = self.standing();
        let log = json!(self.log);
        for (name, member) in log.as_object().unwrap() {
            found.insert(name.clone(), member.clone());
        }
        found.insert("outcome".to_owned(), json!(self.log.decisions.last().map(|decision| &decision.outcome)));
        found.into()
    }

    /// What can be said of the run after any step.
    fn standing(&self) -> Map<String, Value> {
        let log = &self.log;
        let standing = json!({
            "status": log.status,
            "stage": log.current_stage_id,
            "entered": log.stage_entered_at,
            "logs": {
                "triggers": log.triggers.len(), "gate_evals": log.gate_evals.len(),
                "decisions": log.decisions.len(), "packets": log.packets.len(),
                "submissions": log.submissions.len(), "tool_calls": log.tool_calls.len(),
            },
        });
        standing.as_object().unwrap().clone()
    }

    fn step(&mut self, step: &Played, tick: u64) -> Result<Value, String> {
        let under = step.under.as_ref().map(|change| {
            let mut tree = self.case.tree();
            change.as_object().unwrap().iter().for_each(|(name, member)| tree[name] = member.clone());
            self.case.scenario(tree, self.case.recorded)
        });
        let under = under.transpose()?;
        let given = step.evidence.iter().flatten();
        let evidence = given.map(|(id, given)| Ok((id.clone(), self.case.evidence(given)?)));
        let evidence: Gathered = evidence.collect::<Result<_, String>>()?;
        let defaults = trigger_defaults(tick);
        let whose = |time: &str| {
            let (tenant, namespace, run) = (&defaults["tenant_id"], &defaults["namespace_id"], &defaults["run_id"]);
            json!({"tenant_id": tenant, "namespace_id": namespace, "run_id": run, time: defaults["time"]})
        };
        if let Some(given) = &step.trigger {
            let event: TriggerEvent = ingest(fill(given.clone(), &defaults))?;
            self.decide(&event, ToolMethod::Trigger, &event, &evidence, under.as_ref())
        } else if let Some(given) = &step.next {
            let named = fill(whose("time"), &json!({"trigger_id": defaults["trigger_id"], "agent_id": "agent-1"}));
            let request: NextRequest = ingest(fill(given.clone(), &named))?;
            self.decide(&request.event(), ToolMethod::Next, &request, &evidence, under.as_ref())
        } else if let Some(given) = &step.submit {
            let named = json!({
                "submission_id": format!("submission-{tick}"), "content_type": "application/json",
                "payload": {"kind": "json", "value": "handed in"},
            });
            self.submit(&ingest(fill(given.clone(), &fill(whose("submitted_at"), &named)))?)
        } else if let Some(given) = &step.status {
            self.status(&ingest(fill(given.clone(), &whose("requested_at")))?)
        } else if let Some(given) = &step.precheck {
            self.precheck(&typed(given.clone())?, &evidence)
        } else {
            Err("a step is one of trigger, next, submit, status, precheck".to_owned())
        }
    }

    fn decide(
        &mut self,
        event: &TriggerEvent,
        method: ToolMethod,
        request: &impl Serialize,
        evidence: &Gathered,
        under: Option<&Scenario>,
    ) -> Result<Value, String> {
        let own = self.scenario.clone();
        let scenario = under.unwrap_or(&own);
        let head = self.head();
        let correlation = event.correlation_id.clone();
        if let Some(there) = &self.case.providers
            && let Some(error) = engine::provider_missing(scenario, |id| there.iter().any(|name| name == id))
        {
            let failed = Err::<&TriggerResult, ToolCallError>(error);
            return self.call(head, Vec::new(), method, request, failed, event.time, correlation);
        }
        let earlier = self.log.decisions.iter().find(|decision| decision.trigger_id == event.trigger_id).cloned();
        let plan = engine::plan(scenario, &head, event, earlier.is_some()).map_err(|error| error.to_string())?;
        let (name, asked) = match &plan {
            Plan::Closed => ("closed", Vec::new()),
            Plan::Repeat => ("repeat", Vec::new()),
            Plan::Expired => ("expired", Vec::new()),
            Plan::Gather(conditions) => ("gather", conditions.iter().map(|asked| asked.condition_id.clone()).collect()),
        };
        let again = match plan {
            Plan::Closed => self.log.decisions.last().cloned(),
            Plan::Repeat => earlier,
            Plan::Expired | Plan::Gather(_) => None,
        };
        let (head, entries, result, gate_evals) = if let Some(decision) = again {
            let packets = self.log.packets.iter().filter(|packet| packet.decision_id == decision.decision_id);
            let packets = packets.cloned().collect();
            let status = head.status;
            (head, Vec::new(), TriggerResult { decision, packets, status }, Vec::new())
        } else {
            let gathered = evidence.iter().filter_map(|(id, given)| Some((id.clone(), given.clone()?))).collect();
            let step = engine::decide(scenario, &self.settings, &head, event, &gathered, &self.policy)
                .map_err(|error| error.to_string())?;
            let result = TriggerResult {
                decision: step.decision.clone(),
                packets: step.packets.clone(),
                status: step.head.status,
            };
            let gate_evals = step.gate_evals.clone();
            let (head, entries) = step.into_entries();
            (head, entries, result, gate_evals)
        };
        let mut found = self.call(head, entries, method, request, Ok(&result), event.time, correlation)?;
        found["plan"] = json!(name);
        found["asked"] = json!(asked);
        found["outcome"] = json!(result.decision.outcome);
        found["decision"] = json!(result.decision);
        found["packets"] = json!(result.packets);
        show_gates(&mut found, gate_evals.iter().map(|record| &record.evaluation));
        found["evidence"] = by_gate(&gate_evals, |record| json!(record.evidence));
        found["gate_evals"] = json!(gate_evals);
        Ok(found)
    }

    fn submit(&mut self, request: &SubmitRequest) -> Result<Value, String> {
        let mut head = self.head();
        let earlier = self.log.submissions.iter().find(|earlier| earlier.submission_id == request.submission_id);
        let outcome = engine::submit(&mut head, request, earlier).map_err(|error| error.to_string())?;
        let (entries, answer) = match outcome {
            SubmitOutcome::New(record) => (vec![Entry::Submission(record.clone())], Ok(SubmitResult { record })),
            SubmitOutcome::Same(record) => (Vec::new(), Ok(SubmitResult { record })),
            SubmitOutcome::Conflict(error) => (Vec::new(), Err(error)),
        };
        let result = json!(answer.as_ref().ok());
        let (at, correlation) = (request.submitted_at, request.correlation_id.clone());
        let answer = answer.as_ref().map_err(Clone::clone);
        let mut found = self.call(head, entries, ToolMethod::Submit, request, answer, at, correlation)?;
        found["result"] = result;
        Ok(found)
    }

    fn status(&mut self, request: &StatusRequest) -> Result<Value, String> {
        let packets = self.log.packets.iter().map(|packet| packet.envelope.packet_id.clone());
        let status = engine::status(&self.head(), self.log.decisions.last(), packets.collect());
        let (at, correlation) = (request.requested_at, request.correlation_id.clone());
        let head = self.head();
        let mut found = self.call(head, Vec::new(), ToolMethod::Status, request, Ok(&status), at, correlation)?;
        found["result"] = json!(status);
        Ok(found)
    }

    fn precheck(&self, request: &PrecheckRequest, more: &Gathered) -> Result<Value, String> {
        let given = request.evidence.iter().map(|(id, given)| (id.clone(), Evidence::admit(given.clone())));
        let more = more.iter().filter_map(|(id, given)| Some((id.clone(), given.clone()?)));
        let evidence = given.chain(more).collect();
        let answer = engine::precheck(&self.scenario, &self.settings, request.stage_id.as_ref(), &evidence)
            .map_err(|error| error.to_string())?;
        let mut found = Value::Object(self.standing());
        found["wrote"] = json!([]);
        found["outcome"] = json!(answer.decision);
        show_gates(&mut found, answer.gate_evaluations.iter());
        Ok(found)
    }

    /// Appends the entries and the one call that every request is recorded as.
    #[allow(clippy::too_many_arguments, reason = "what a call record is made of")]
    fn call<A: Serialize>(
        &mut self,
        mut head: Head,
        mut entries: Vec<Entry>,
        method: ToolMethod,
        request: &impl Serialize,
        answer: Result<&A, ToolCallError>,
        at: Timestamp,
        correlation: Option<CorrelationId>,
    ) -> Result<Value, String> {
        let call = record_call(&mut head, method, request, answer, at, correlation);
        let call = call.map_err(|error| error.to_string())?;
        entries.push(Entry::ToolCall(call.clone()));
        let wrote: Vec<_> = entries.iter().map(name).collect();
        self.append(&head, entries)?;
        let mut found = Value::Object(self.standing());
        found["wrote"] = json!(wrote);
        found["call"] = json!(call);
        Ok(found)
    }

    fn head(&self) -> Head {
        Head::of(&self.log)
    }

    fn append(&mut self, head: &Head, entries: Vec<Entry>) -> Result<(), String> {
        let log = &mut self.log;
        for entry in entries {
            match entry {
                Entry::Trigger(record) => log.triggers.push(record),
                Entry::GateEval(record) => log.gate_evals.push(record),
                Entry::Decision(record) => log.decisions.push(record),
                Entry::Packet(record) => log.packets.push(record),
                Entry::Submission(record) => log.submissions.push(record),
                Entry::ToolCall(record) => log.tool_calls.push(record),
            }
        }
        log.current_stage_id = head.current_stage_id.clone();
        log.stage_entered_at = head.stage_entered_at;
        log.status = head.status;
        let kept = self.head();
        if kept == *head { Ok(()) } else { Err(format!("the head is {head:?}, the logs make it {kept:?}")) }
    }
}

fn ingest<T: DeserializeOwned + read::Admit>(tree: Value) -> Result<T, String> {
    read::ingest_value(tree, Unknown::Refuse).map_err(|refusal| refusal.to_string())
}

fn name(entry: &Entry) -> &'static str {
    match entry {
        Entry::Trigger(_) => "trigger",
        Entry::GateEval(_) => "gate_eval",
        Entry::Decision(_) => "decision",
        Entry::Packet(_) => "packet",
        Entry::Submission(_) => "submission",
        Entry::ToolCall(_) => "tool_call",
    }
}

fn show_gates<'g>(found: &mut Value, gates: impl Iterator<Item = &'g GateEvaluation> + Clone) {
    let statuses: Map<_, _> = gates.clone().map(|gate| (gate.gate_id.to_string(), json!(gate.status))).collect();
    let leaves = |gate: &GateEvaluation| -> Value {
        gate.trace.iter().map(|leaf| json!([leaf.condition_id, leaf.status])).collect()
    };
    let traces: Map<_, _> = gates.map(|gate| (gate.gate_id.to_string(), leaves(gate))).collect();
    found["gates"] = statuses.into();
    found["traces"] = traces.into();
}

fn by_gate(records: &[GateEvalRecord], show: fn(&GateEvalRecord) -> Value) -> Value {
    let shown = records.iter().map(|record| (record.evaluation.gate_id.to_string(), show(record)));
    Value::Object(shown.collect())
}

impl Packed {
    fn build(&self, run: &Run<'_>) -> Result<Value, String> {
        let options = BuildOptions {
            anchor_policy: self.anchor_policy.clone(),
            security: self.security.clone(),
            ..BuildOptions::at(self.generated_at)
        };
        let mut sink = Files::default();
        let draft = pack::build(&mut sink, &run.scenario, &run.log, &options).map_err(|error| error.to_string())?;
        let manifest = draft.finish(&mut sink, "manifest.json", self.report.as_ref());
        let manifest = manifest.map_err(|error| error.to_string())?;
        let list = json!(manifest.integrity.file_hashes);
        let file = |name: &str| &sink.0.iter().find(|(path, _)| path == name).unwrap().1;
        let digests: Map<_, _> = sink.0.iter().map(|(path, bytes)| (path.clone(), shown(Digest::of(bytes)))).collect();
        Ok(json!({
            "files": sink.0.iter().map(|(path, _)| path).collect::<Vec<_>>(),
            "digests": digests,
            "spec_hash": shown(manifest.spec_hash),
            "root_hash": shown(manifest.integrity.root_hash),
            "hash_of_file_hashes": shown(Digest::of(&to_vec(&list).unwrap())),
            "manifest": manifest,
            "manifest_bytes": file("manifest.json").len(),
            "last_byte_of_manifest": char::from(*file("manifest.json").last().unwrap()).to_string(),
        }))
    }
}

fn shown(digest: Digest) -> Value {
    digest.to_string().into()
}

#[derive(Default)]
struct Files(Vec<(String, Vec<u8>)>);

impl PackSink for Files {
    fn put(&mut self, path: &str, content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut bytes = Vec::new();
        content(&mut bytes)?;
        self.0.push((path.to_owned(), bytes));
        Ok(())
    }
}

/// `[type, document, canonical text]`, or `{"refused": why}` in the last place.
fn document(row: &[Value], unknown: Unread) -> Result<(), String> {
    let [Value::String(kind), document, expected] = row else { return Err(format!("{row:?} is no document row")) };
    let text = match kind.as_str() {
        "form of text" => match canon::check(document.as_str().unwrap().as_bytes()) {
            Ok(canon::Form::Rfc8785) => Ok("rfc8785".to_owned()),
            Ok(canon::Form::Legacy { .. }) => Ok("legacy".to_owned()),
            Err(problem) => Err(problem.to_string()),
        },
        "text" => read::value(document.as_str().unwrap().as_bytes(), Profile::Pack)
            .map_err(|refusal| refusal.to_string())
            .and_then(|value| written(&value)),
        "ScenarioSpec" => taken::<ScenarioSpec>(document, unknown),
        "TriggerEvent" => taken::<TriggerEvent>(document, unknown),
        "ConditionSpec" => again::<ConditionSpec>(document),
        "TriggerRecord" => again::<TriggerRecord>(document),
        "EvidenceResult" => again::<EvidenceResult>(document),
        "GateEvalRecord" => again::<GateEvalRecord>(document),
        "ToolCallRecord" => again::<ToolCallRecord>(document),
        "AnchorPolicy" => again::<AnchorPolicy>(document),
        "Timestamp" => again::<Timestamp>(document),
        "AdvanceTo" => again::<AdvanceTo>(document),
        "BranchRule" => again::<BranchRule>(document),
        "StageSpec" => again::<StageSpec>(document),
        "GateSpec" => again::<GateSpec>(document),
        "EvidenceValue" => again::<EvidenceValue>(document),
        "PacketPayload" => again::<PacketPayload>(document),
        "DispatchTarget" => again::<DispatchTarget>(document),
        "DecisionOutcome" => again::<DecisionOutcome>(document),
        "ToolCallErrorDetails" => again::<ToolCallDetails>(document),
        "Requirement" => again::<Requirement>(document),
        "TriState" => again::<TriState>(document),
        "GateOutcome" => again::<GateOutcome>(document),
        other => return Err(format!("`{other}` is no type of a document row")),
    };
    let found = text.map_or_else(|why| json!({"refused": why}), Value::String);
    same(&format!("{kind} {document}"), expected, &found)
}

/// Reads a document as a request comes in.
fn taken<T: DeserializeOwned + read::Admit + Serialize>(document: &Value, unknown: Unread) -> Result<String, String> {
    let unknown = match unknown {
        Unread::Refuse => Unknown::Refuse,
        Unread::Drop => Unknown::Drop,
    };
    let read = read::ingest_value::<T>(document.clone(), unknown).map_err(|refusal| refusal.to_string())?;
    written(&read)
}

/// Reads a document as a pack is read.
fn again<T: DeserializeOwned + Serialize>(document: &Value) -> Result<String, String> {
    let bytes = serde_json::to_vec(document).unwrap();
    written(&read::recorded::<T>(&bytes).map_err(|refusal| refusal.to_string())?)
}

fn written(value: &impl Serialize) -> Result<String, String> {
    let bytes = to_vec(value).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(bytes).unwrap())
}

fn same(place: &str, expected: &Value, found: &Value) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("{place}: expected {expected}, found {found}")) }
}

/// Compares what the case is about: members it does not name are not looked at.
/// Outcomes and gates are compared whole.
fn matches(place: &str, expected: &Map<String, Value>, found: &Value) -> Result<(), String> {
    if !expected.contains_key("error")
        && let Some(error) = found.get("error")
    {
        return Err(format!("{place}: {error}"));
    }
    for (name, expected) in expected {
        let place = format!("{place}, {name}");
        let Some(found) = found.get(name) else { return Err(format!("{place}: there is none in {found}")) };
        match name.as_str() {
            "outcome" | "gates" => same(&place, expected, found)?,
            _ => within(&place, expected, found)?,
        }
    }
    Ok(())
}

fn within(place: &str, expected: &Value, found: &Value) -> Result<(), String> {
    match (expected, found) {
        (Value::String(any), found) if any == "*" && !found.is_null() => Ok(()),
        (Value::Object(expected), Value::Object(members)) => expected.iter().try_for_each(|(name, expected)| {
            let found = members.get(name).ok_or_else(|| format!("{place}/{name}: there is none in {found}"))?;
            within(&format!("{place}/{name}"), expected, found)
        }),
        (Value::Array(expected), Value::Array(items)) if expected.len() == items.len() => {
            let mut pairs = iter::zip(expected, items).enumerate();
            pairs.try_for_each(|(index, (expected, found))| within(&format!("{place}/{index}"), expected, found))
        }
        _ => same(place, expected, found),
    }
}

fn places() -> impl Iterator<Item = String> {
    PLACES.iter().flat_map(|(section, places)| places.iter().map(move |place| format!("{section} {place}")))
}

/// Every row, bullet and sentence of the contract that a case must show, and
/// where we deviate from it.
const PLACES: &[(&str, &[&str])] = &[
    ("3.1", &["no stages"]),
    ("3.2", &["duplicate stage", "the first with a later twin"]),
    ("3.3", &["duplicate gate across stages", "the second occurrence met"]),
    ("3.4", &["duplicate packet across stages"]),
    ("3.5", &["duplicate condition"]),
    ("3.6", &["blank provider_id", "blank check_id"]),
    ("3.7", &["undefined condition"]),
    ("3.8", &["unknown fixed target", "unknown branch target", "unknown branch default"]),
    ("3", &["first failure wins", "what is not validated is accepted"]),
    ("4.2", &["numbers count from 1"]),
    ("4.3.1", &["scenario mismatch", "namespace mismatch"]),
    ("4.3.3", &["first stage, active, empty logs"]),
    ("4.3.4", &["init trigger and start decision", "even without packets", "an error aborts start"]),
    ("4.3.5", &["no flag, no trigger, no packets"]),
    ("4.3.6", &["no tool call"]),
    ("4.4", &["next is an agent_request_next event", "a different run is refused"]),
    ("4.4.2", &["missing provider"]),
    ("4.4.3", &["closed run answers its last decision"]),
    ("4.4.5", &["repeat answers the old decision", "only the trigger id counts", "status of today"]),
    ("4.4.10", &["every gate True", "no gates", "advance", "complete", "hold", "packet failure"]),
    ("4.4.12", &["tool call", "correlation and time of the call"]),
    ("4.5", &["conditions by first mention", "asked once for all gates", "identical queries asked apart"]),
    ("4.5.1", &["a provider's error return"]),
    ("4.5.2", &["anchor failure replaces the result", "an error is not checked for its anchor"]),
    ("4.5.3", &["error clears value, hash, content type", "error keeps reference, anchor, signature, lane"]),
    ("4.5.4", &["hash overwritten", "hash kept without value"]),
    ("4.5.5", &["error is Unknown"]),
    (
        "4.5 rule",
        &[
            "exists",
            "not_exists",
            "evidence absent",
            "expected absent",
            "bytes",
            "equals",
            "not_equals",
            "greater_than and its kin",
            "lex",
            "contains",
            "in_set",
            "deep",
        ],
    ),
    ("4.5 table", &["null/any", "bool/bool", "num/num", "str/str", "arr/arr", "obj/obj", "mixed kinds"]),
    (
        "4.5 contains",
        &["substring", "empty needle", "subset", "empty set", "multiplicity ignored", "scalar against array"],
    ),
    ("4.5 in_set", &["members", "container is Unknown", "expected no array"]),
    (
        "4.5 decimal",
        &["1 and 1.0", "1e3 and 1000", "one tenth", "integers keep all digits", "negative zero", "shortest decimal"],
    ),
    ("4.5 structural", &["member order", "parse classes", "exact code points"]),
    (
        "4.5 temporal",
        &[
            "one of each",
            "two digits and a four-digit year",
            "any separator byte",
            "fraction",
            "beyond nine digits",
            "offset",
            "nothing trailing",
            "leap second",
            "hour 24",
            "by instant",
            "date",
            "date padding and plus",
            "date in the Gregorian calendar",
            "date year range",
            "negative years and spaces",
            "equals is never temporal",
        ],
    ),
    (
        "4.6",
        &[
            "global requirement",
            "provider tightens",
            "condition tightens",
            "gate tightens",
            "nothing relaxes",
            "status, error text, value and hash",
            "an error stays",
            "one condition, two gates",
        ],
    ),
    (
        "4.7",
        &[
            "evidence sorted, unique",
            "trace in order with repeats",
            "trace after trust",
            "Not does not negate the trace",
            "no short-circuit",
            "depth 32",
            "depth 33",
            "the trace keeps the leaves before",
        ],
    ),
    ("4.7 And", &["False dominates", "all True", "else Unknown", "empty is True"]),
    ("4.7 Or", &["True dominates", "all False", "else Unknown", "empty is False"]),
    ("4.7 Not", &["swaps", "keeps Unknown"]),
    ("4.7 Bochvar", &["any Unknown", "one operand"]),
    ("4.7 RequireGroup", &["min 0", "enough True", "impossible", "else Unknown", "min above n"]),
    (
        "4.7 anchor",
        &[
            "missing evidence_anchor",
            "anchor_type mismatch",
            "no JSON",
            "no object",
            "field missing",
            "field must be set",
            "field must be string or number",
            "field must be scalar",
            "fields in listed order",
            "strings and numbers pass",
            "first entry of the provider",
        ],
    ),
    (
        "4.8",
        &[
            "fail",
            "advance_with_flag to a stage",
            "advance_with_flag completes",
            "alternate_branch to a stage",
            "alternate_branch completes",
            "not expired",
            "only ticks",
            "only with a timeout",
            "logical ticks",
            "different kinds",
            "deadline overflow",
            "timeout_ms exceeds i64 range",
            "precedence over evaluation",
            "packet failure",
            "no branch matched",
        ],
    ),
    (
        "4.9",
        &[
            "json hash",
            "bytes hash",
            "external hash",
            "stage of the target",
            "labels and tags",
            "expiry has no effect",
            "correlation",
            "issued_at is decided_at",
            "packets in order",
            "size limit of json",
            "size limit of bytes",
            "size limit is inclusive",
            "a receipt for each target",
            "policy denied",
            "policy error",
            "no targets, policy not consulted",
        ],
    ),
    (
        "4.10",
        &[
            "linear",
            "linear at the end",
            "fixed",
            "fixed to itself",
            "terminal",
            "branch, first match",
            "branch, default",
            "branch, no match",
            "a foreign gate is Unknown",
            "outcome false never fires",
            "outcome unknown",
            "a stage without gates stays active",
        ],
    ),
    (
        "4.11",
        &[
            "new",
            "the same again",
            "conflict of payload",
            "conflict of content type",
            "too large",
            "a finished run",
            "gates are not influenced",
        ],
    ),
    ("4.12", &["a write", "summary of a hold", "packet ids with repeats", "nothing decided"]),
    (
        "4.13",
        &[
            "first stage",
            "stage asked for",
            "unknown stage",
            "not supplied is asserted",
            "supplied lane is believed",
            "errors",
            "anchors are not checked",
            "advance",
            "complete",
            "hold",
            "nothing is written",
            "timeouts ignored",
            "gates that do not depend on their leaves",
        ],
    ),
    ("10.1", &["omitted when unset", "null when unset"]),
    ("10.2", &["TriState", "branch outcome", "requirement keys", "snake case elsewhere"]),
    ("10.3", &["adjacent tags", "internal tags", "external tags"]),
    ("10.4", &["key order", "integers", "floats", "negative zero"]),
    ("10.5", &["evidence, trace, trust"]),
    ("10.6", &["one call each, repeats and finished runs too", "none for start and precheck", "none for export"]),
    ("10.7", &["init only when asked, then always"]),
    ("10.8", &["error before comparator", "missing value without error"]),
    ("10.9", &["old stage, new stage, trigger time"]),
    ("10.10", &["fail in place of advance", "other errors save nothing"]),
    ("10.11", &["root hash", "report appended", "no newline"]),
    ("10.12", &["bare values are hashed"]),
    ("10.13", &["unknown members dropped", "unknown members refused"]),
    (
        "deviation:",
        &[
            "(a) free-form numbers are canonical",
            "(b) evidence too large holds",
            "(c) an integer that cannot be recorded",
            "(c) a value too deep to be recorded",
            "(c) refused in a scenario",
            "(d) another scenario",
            "(d) another version of the scenario",
            "(e) tree deeper than 32",
            "(e) group larger than its members",
            "(e) foreign gate",
            "(e) no match when every gate is True",
            "(e) no match when every gate is Unknown",
            "not gathered is a provider error",
            "names are ordered by RFC 8785",
        ],
    ),
];
