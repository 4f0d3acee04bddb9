//! Every single-bit flip and every byte deletion of every file of a small pack
//! is refused, except in the fields that v1 does not bind (`docs/format.md` §6).

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test reads its own data")]

#[allow(dead_code, reason = "only the pack is needed here")]
#[path = "common/memory.rs"]
mod memory;

use std::collections::BTreeMap;

use memory::Memory;
use runpack_core::engine::{Evidence, Policy, Scenario, Settings, decide, record_call, start};
use runpack_core::model::{
    ConditionId, RunConfig, RunState, ScenarioSpec, Timestamp, ToolMethod, TriggerEvent, TriggerResult,
};
use runpack_core::pack::{BuildOptions, SecurityContext, Verdict, VerifyOptions, build, verify, verify_draft};
use runpack_core::read::{self, Unknown};

const SCENARIO: &str = r#"{"scenario_id":"small","namespace_id":1,"spec_version":"1","default_tenant_id":null,
    "policies":[],"schemas":[],"conditions":[{"condition_id":"c","query":{"provider_id":"time","check_id":"now"},
    "comparator":"exists","policy_tags":[]}],"stages":[{"stage_id":"s","entry_packets":[],"gates":[{"gate_id":"g",
    "requirement":{"Condition":"c"}}],"advance_to":{"kind":"terminal"},"timeout":null,"on_timeout":"fail"}]}"#;

fn small_pack() -> Memory {
    let spec: ScenarioSpec = read::ingest(SCENARIO.as_bytes(), Unknown::Refuse).unwrap();
    let scenario = Scenario::new(spec).unwrap();
    let mut options = BuildOptions::at(Timestamp::Logical(10));
    let authority = "dg_registry".to_owned();
    options.security = Some(SecurityContext { dev_permissive: false, namespace_authority: authority });
    let mut pack = Memory::default();
    let draft = build(&mut pack, &scenario, &state(&scenario), &options).unwrap();
    let manifest = draft.manifest_bytes().unwrap();
    let report = verify_draft(&pack, &manifest, "manifest.json", &VerifyOptions::default());
    assert_eq!(report.verdict, Verdict::Consistent, "{:?}", report.findings);
    draft.finish(&mut pack, "manifest.json", Some(&report.wire())).unwrap();
    assert_eq!(verdict(&pack), Verdict::Consistent);
    pack
}

/// A run of one trigger, which completes it.
fn state(scenario: &Scenario) -> RunState {
    let config =
        r#"{"tenant_id":1,"namespace_id":1,"run_id":"r","scenario_id":"small","dispatch_targets":[],"policy_tags":[]}"#;
    let config: RunConfig = read::ingest(config.as_bytes(), Unknown::Refuse).unwrap();
    let event = r#"{"trigger_id":"t","tenant_id":1,"namespace_id":1,"run_id":"r","kind":"tick","source_id":"x",
        "time":{"kind":"logical","value":2}}"#;
    let event: TriggerEvent = read::ingest(event.as_bytes(), Unknown::Refuse).unwrap();
    let policy = Policy::PermitAll;
    let head = start(scenario, &config, Timestamp::Logical(1), false, &policy).unwrap().head;
    let answer = r#"{"value":{"kind":"json","value":2},"evidence_anchor":{"anchor_type":"trigger_time_logical","anchor_value":"2"}}"#;
    let answer = Evidence::admit(read::ingest(answer.as_bytes(), Unknown::Refuse).unwrap());
    let evidence = BTreeMap::from([(ConditionId::from("c"), answer)]);
    let mut step = decide(scenario, &Settings::default(), &head, &event, &evidence, &policy).unwrap();
    let result = TriggerResult { decision: step.decision.clone(), packets: Vec::new(), status: step.head.status };
    let call = record_call(&mut step.head, ToolMethod::Trigger, &event, Ok(&result), event.time, None).unwrap();
    RunState {
        tenant_id: config.tenant_id,
        namespace_id: config.namespace_id,
        run_id: config.run_id,
        scenario_id: config.scenario_id,
        spec_hash: scenario.digest(),
        current_stage_id: step.head.current_stage_id.clone(),
        stage_entered_at: step.head.stage_entered_at,
        status: step.head.status,
        dispatch_targets: Vec::new(),
        triggers: vec![step.trigger],
        gate_evals: step.gate_evals,
        decisions: vec![step.decision],
        packets: Vec::new(),
        submissions: Vec::new(),
        tool_calls: vec![call],
    }
}

fn verdict(pack: &Memory) -> Verdict {
    verify(pack, "manifest.json", &VerifyOptions::default()).verdict
}

/// The closed list: where a change of one bit or byte may pass, as the text
/// around it, and by which verdict.
const UNBOUND: [(&str, &str); 2] =
    [("\"generated_at\":{\"kind\":\"logical\",\"value\":", "10"), ("\"namespace_authority\":\"", "dg_registry")];

#[test]
fn every_bit_and_every_byte_counts() {
    let pack = small_pack();
    let mut passed = BTreeMap::new();
    let mut tried = 0;
    for (path, bytes) in &pack.0 {
        let mut changed = pack.clone();
        let mut attempt = |text: Vec<u8>, at: usize| {
            changed.0.insert(path.clone(), text);
            tried += 1;
            match verdict(&changed) {
                Verdict::Refused => {}
                verdict => passed.entry((path.clone(), at)).or_insert_with(Vec::new).push(verdict),
            }
        };
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut text = bytes.clone();
                text[at] ^= 1 << bit;
                attempt(text, at);
            }
            let mut text = bytes.clone();
            text.remove(at);
            attempt(text, at);
        }
    }
    assert!(tried > 40_000, "{tried}");

    let manifest = String::from_utf8(pack.0["manifest.json"].clone()).unwrap();
    let mut unbound = Vec::new();
    for (before, field) in UNBOUND {
        let start = manifest.find(before).unwrap() + before.len();
        assert_eq!(&manifest[start..start + field.len()], field);
        unbound.extend(start..start + field.len());
    }
    for ((path, at), verdicts) in &passed {
        let place = &manifest[at.saturating_sub(20)..(at + 20).min(manifest.len())];
        assert!(path == "manifest.json" && unbound.contains(at), "{path} at {at} ({place}): {verdicts:?}");
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Consistent), "{verdicts:?}");
    }
    // Each listed field really is unbound: the list is not longer than it must be.
    for at in unbound {
        assert!(passed.contains_key(&("manifest.json".to_owned(), at)), "byte {at} is bound after all");
    }
}

/// The rest of the closed list, which no single bit reaches.
#[test]
fn what_v1_does_not_bind_is_a_closed_list() {
    let pack = small_pack();
    let manifest = String::from_utf8(pack.0["manifest.json"].clone()).unwrap();
    let with = |from: &str, to: &str| {
        assert!(manifest.contains(from), "{from}");
        let mut changed = pack.clone();
        changed.0.insert("manifest.json".to_owned(), manifest.replacen(from, to, 1).into_bytes());
        verdict(&changed)
    };
    let security = r#""security":{"dev_permissive":false,"namespace_authority":"dg_registry"},"#;
    for (from, to) in [
        (r#""generated_at":{"kind":"logical","value":10}"#, r#""generated_at":{"kind":"unix_millis","value":-5}"#),
        (r#""verifier_mode":"offline_strict""#, r#""verifier_mode":"offline_with_fetch""#),
        (r#""dev_permissive":false"#, r#""dev_permissive":true"#),
        (security, ""),
        // A policy nobody needs; leaving out one that was there looks the same.
        (r#"{"artifacts":["#, r#"{"anchor_policy":{},"artifacts":["#),
    ] {
        assert_eq!(with(from, to), Verdict::Consistent, "{from} -> {to}");
    }
    for (from, to) in [
        (r#""run_id":"r""#, r#""run_id":"q""#),
        (r#""tenant_id":1"#, r#""tenant_id":2"#),
        (r#""namespace_id":1"#, r#""namespace_id":2"#),
        (r#""scenario_id":"small""#, r#""scenario_id":"other""#),
        (r#""manifest_version":"v1""#, r#""manifest_version":"v2""#),
        (r#""required":true"#, r#""required":false"#),
        (r#""content_type":"application/json""#, r#""content_type":null"#),
        (security, r#""security":{"dev_permissive":false},"#),
    ] {
        assert_eq!(with(from, to), Verdict::Refused, "{from} -> {to}");
    }
}
