//! A run as long as anybody likes, decided by the engine and built by the command.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use runpack_core::engine::{Entry, Evidence, Policy, Scenario, Settings, decide, record_call, start};
use runpack_core::model::{
    EvidenceResult, EvidenceValue, Lane, RunConfig, ScenarioSpec, Timestamp, ToolMethod, TriggerEvent, TriggerResult,
};
use runpack_core::read::{self, Unknown};
use serde_json::{Value, json};

use super::common::told;

/// A pack of `count` triggers: held on a number that is too high, but for one
/// in the middle that goes on to the second stage and the last, which ends it.
pub fn build(to: &Path, count: u64) {
    let condition = |id: &str, expected: u64| {
        json!({"condition_id": id, "query": {"provider_id": "gauge", "check_id": "load", "params": {"of": id}},
            "comparator": "less_than", "expected": expected, "policy_tags": []})
    };
    let stage = |id: &str, advance: &str| {
        json!({"stage_id": id, "entry_packets": [], "advance_to": {"kind": advance}, "timeout": null, "on_timeout": "fail",
            "gates": [{"gate_id": format!("{id}-calm"), "requirement": {"And": [{"Condition": "low"}, {"Not": {"Condition": "dead"}}]}}]})
    };
    let spec = json!({"scenario_id": "watch", "namespace_id": 1, "spec_version": "1", "default_tenant_id": null,
        "policies": [], "schemas": [], "conditions": [condition("low", 10), condition("dead", 1)],
        "stages": [stage("waiting", "linear"), stage("working", "terminal")]});
    let typed: ScenarioSpec = read::ingest(spec.to_string().as_bytes(), Unknown::Refuse).unwrap();
    let scenario = Scenario::new(typed).unwrap();
    let config: RunConfig = serde_json::from_value(json!({"tenant_id": 1, "namespace_id": 1, "run_id": "long",
        "scenario_id": "watch", "dispatch_targets": [], "policy_tags": []}))
    .unwrap();
    let policy = Policy::default();
    let opening = start(&scenario, &config, Timestamp::Logical(1), false, &policy).unwrap();
    let mut state = opening.head.empty_state();
    let mut head = opening.head;
    for number in 1..=count {
        let event: TriggerEvent =
            serde_json::from_value(json!({"trigger_id": format!("tick-{number}"), "tenant_id": 1,
            "namespace_id": 1, "run_id": "long", "kind": "tick", "time": {"kind": "logical", "value": number},
            "source_id": "cron", "payload": null, "correlation_id": null}))
            .unwrap();
        let load: u64 = if number == count / 2 || number == count { 5 } else { 10 + number % 7 };
        let value = |load: u64| {
            let result = EvidenceResult {
                value: Some(EvidenceValue::Json(load.into())),
                ..EvidenceResult::empty(Lane::Verified)
            };
            Evidence::admit(result)
        };
        let evidence = BTreeMap::from([("low".into(), value(load)), ("dead".into(), value(load))]);
        let step = decide(&scenario, &Settings::default(), &head, &event, &evidence, &policy).unwrap();
        let result =
            TriggerResult { decision: step.decision.clone(), packets: step.packets.clone(), status: step.head.status };
        let (after, entries) = step.into_entries();
        head = after;
        let call = record_call(&mut head, ToolMethod::Trigger, &event, Ok(&result), event.time, None).unwrap();
        entries.into_iter().chain([Entry::ToolCall(call)]).for_each(|entry| entry.log(&mut state));
    }
    (state.status, state.current_stage_id) = (head.status, head.current_stage_id);
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("state.json"), serde_json::to_vec(&state).unwrap()).unwrap();
    fs::write(at("scenario.json"), spec.to_string()).unwrap();
    let (scenario, state, out) = (at("scenario.json"), at("state.json"), to.to_str().unwrap());
    let args = ["build", "--scenario", &scenario, "--state", &state, "--generated-at", "logical:99999", "--out", out];
    let (code, _, err) = told(args);
    assert_eq!((code, err.as_str()), (0, ""));
}

/// Lets a gate that came out False have come out True, at one trigger.
pub fn forge(pack: &Path, number: usize) {
    let path = pack.join("artifacts/gate_evals.json");
    let mut log: Vec<Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let evaluation = &mut log[number - 1]["evaluation"];
    assert_eq!(evaluation["status"], "False");
    evaluation["status"] = "True".into();
    fs::write(&path, serde_json::to_vec(&log).unwrap()).unwrap();
}
