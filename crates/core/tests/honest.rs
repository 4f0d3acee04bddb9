//! Honest packs by chance are consistent; packs with one value changed and
//! every digest computed again are not, outside a closed list
//! (`docs/format.md` §6).

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test reads its own data and its own switch")]
#![allow(clippy::print_stdout, reason = "a test says how much it looked at")]

mod common;

use std::collections::BTreeMap;

use common::lies::{Donors, Lie, Part, get, lie, pattern, places};
use common::memory::Memory;
use common::oracle::explains;
use common::random::Random;
use common::runs::{Case, Did, case, scripted};
use runpack_core::canon::to_vec;
use runpack_core::engine::{Logic, Policy, Settings, anchor_fault};
use runpack_core::model::{ConditionId, ConditionSpec, DecisionOutcome, Lane, ProviderId, Timestamp};
use runpack_core::pack::{Expectations, Report, Severity, Verdict, VerifyOptions, build, verify, verify_draft};
use serde_json::{Value, json};

/// The first seed of honest runs; one more for each.
const SEED: u64 = 20_240_309;

/// The first seed of runs that are lied about.
const LIES_SEED: u64 = 21_240_309;

fn deep() -> bool {
    std::env::var("RUNPACK_DEEP").is_ok_and(|value| value == "1")
}

/// Builds the pack of a run, and what is said of it before and after.
fn packed(case: &Case, enclosed: bool) -> (Memory, [Report; 2]) {
    let mut pack = Memory::default();
    let draft = build(&mut pack, &case.scenario, &case.state, &case.options).unwrap();
    let manifest = draft.manifest_bytes().unwrap();
    let before = verify_draft(&pack, &manifest, "manifest.json", &VerifyOptions::default());
    let wire = before.wire();
    draft.finish(&mut pack, "manifest.json", enclosed.then_some(&wire)).unwrap();
    let after = said(&pack);
    (pack, [before, after])
}

fn said(pack: &Memory) -> Report {
    verify(pack, "manifest.json", &VerifyOptions::default())
}

/// What an honest pack's report gets wrong.
fn objection(case: &Case, report: &Report) -> Option<String> {
    if report.verdict != Verdict::Consistent {
        return Some(format!("{:?}: {:?}", report.verdict, report.findings));
    }
    if let Some(finding) = report.findings.iter().find(|finding| finding.severity > Severity::Warning) {
        return Some(format!("{finding:?}"));
    }
    let Some(told) = &report.settings else { return Some("no settings".to_owned()) };
    let settings = &case.settings;
    let logic = if settings.logic == Logic::Kleene { "kleene" } else { "bochvar" };
    if !told.logics.iter().any(|name| name == logic) {
        return Some(format!("{logic} is not among {:?}", told.logics));
    }
    if !told.min_lanes.contains(&settings.min_lane) {
        return Some(format!("{} is not among {:?}", settings.min_lane, told.min_lanes));
    }
    let lane = |provider: &ProviderId| settings.provider_lanes.get(provider).max(Some(&settings.min_lane)).copied();
    if let Some(provider) = told.stricter_providers.iter().find(|provider| lane(provider) != Some(Lane::Verified)) {
        return Some(format!("{provider} was not stricter"));
    }
    let refused = case.state.decisions.iter().filter(
        |decision| matches!(&decision.outcome, DecisionOutcome::Fail { reason } if reason.starts_with("policy ")),
    );
    let refused = refused.count() as u64;
    (told.disclosures_refused != refused).then(|| format!("{} refused, not {refused}", told.disclosures_refused))
}

#[test]
fn honest_packs_are_consistent() {
    let wanted = if deep() { 10_000 } else { 1_500 };
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut built = 0;
    let mut wrong = Vec::new();
    for seed in SEED.. {
        if built == wanted {
            break;
        }
        let Some(case) = case(seed) else { continue };
        built += 1;
        let (pack, reports) = packed(&case, seed % 2 == 0);
        let mut objections: Vec<_> = reports.iter().filter_map(|report| objection(&case, report)).collect();
        let report = verify(&pack, "manifest.json", &expecting(&case));
        if !report.verdict.passed() {
            objections.push(format!("against true expectations: {:?}", report.findings));
        }
        wrong.extend(objections.into_iter().take(1).map(|objection| format!("seed {seed}: {objection:.600}")));
        count(&mut seen, &case);
    }
    println!("{built} packs from seed {SEED}{}: {seen:#?}", if deep() { "" } else { ", RUNPACK_DEEP=1 for 10000" });
    assert!(wrong.is_empty(), "{} of {built} honest packs: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
}

/// Expects from outside what is true of a run.
fn expecting(case: &Case) -> VerifyOptions {
    let expect = Expectations {
        tenant: Some(case.config.tenant_id),
        namespace: Some(case.config.namespace_id),
        scenario: Some(case.config.scenario_id.clone()),
        run: Some(case.config.run_id.clone()),
        anchor_policy: Some(case.settings.anchors.clone()),
        min_lane: Some(case.settings.min_lane),
        policy: Some(case.policy.clone()),
        ..Expectations::default()
    };
    VerifyOptions { expect, ..VerifyOptions::default() }
}

/// What the runs came to, so that chance leaves nothing out.
fn count(seen: &mut BTreeMap<String, usize>, case: &Case) {
    let mut one = |what: String| *seen.entry(what).or_default() += 1;
    one(format!("run {}", case.state.status));
    for decision in &case.state.decisions {
        match &decision.outcome {
            DecisionOutcome::Fail { reason } => one(format!("fail: {}", reason.split(':').next().unwrap_or_default())),
            DecisionOutcome::Advance { timeout: true, .. } => one("advance by timeout".to_owned()),
            outcome => one(outcome.kind().to_string()),
        }
    }
    for record in &case.state.gate_evals {
        one(format!("gate {}", record.evaluation.status));
        for error in record.evidence.iter().filter_map(|evidence| evidence.result.error.as_ref()) {
            one(format!("evidence error {}", error.code));
        }
    }
    case.calls.iter().for_each(|did| one(format!("call {did:?}")));
    case.state.packets.iter().for_each(|packet| one(format!("packet to {}", packet.receipts.len())));
    if case.undecided > 0 {
        *seen.entry("undecided trigger".to_owned()).or_default() += case.undecided;
    }
}

/// A lie that passed.
struct Told<'a> {
    case: &'a Case,
    /// As it was.
    log: &'a Value,
    lie: &'a Lie,
    report: &'a Report,
}

/// Something v1 does not bind: where, if what holds, and why nothing in the
/// pack depends on it.
struct Unbound {
    log: &'static str,
    place: &'static str,
    when: fn(&Told<'_>) -> bool,
    #[allow(dead_code, reason = "for whoever reads the list")]
    why: &'static str,
}

const fn unbound(log: &'static str, place: &'static str, when: fn(&Told<'_>) -> bool, why: &'static str) -> Unbound {
    Unbound { log, place, when, why }
}

/// The closed list. A place covers what is below it.
const UNBOUND: [Unbound; 18] = [
    unbound("scenario_spec", "", same_run, "another scenario gives the same run"),
    unbound("gate_evals", "/*/evidence/*/result/content_type", |_| true, "nothing is decided by it"),
    unbound("gate_evals", "/*/evidence/*/result/evidence_ref", |_| true, "nothing is decided by it"),
    unbound("gate_evals", "/*/evidence/*/result/signature", |_| true, "nobody checks signatures"),
    unbound("gate_evals", "/*/evidence/*/result/evidence_anchor", anchored, "an anchor nobody asks for"),
    unbound("gate_evals", "/*/evidence/*/result/evidence_hash", valueless, "a digest of a value that is not there"),
    unbound("gate_evals", "/*/evidence/*/result/error", undecided, "any error, or none, leaves it Unknown"),
    unbound("gate_evals", "/*/evidence/*/result/value", removed, "without it the condition is Unknown, too"),
    unbound(
        "gate_evals",
        "/*/evidence/*/result/lane",
        laned,
        "lanes are not recorded, and the report says which count",
    ),
    unbound("gate_evals", "/*/evidence/*", exchanged, "other evidence that comes out the same"),
    unbound(
        "gate_evals",
        "/*/evaluation/status",
        explained,
        "the logic is not recorded, and the report says which fits",
    ),
    unbound("gate_evals", "", shortened, "without a start in the log a tick may have come after the timeout"),
    unbound("gate_evals", "/*/evidence", all_exchanged, "other evidence that comes out the same"),
    unbound("packets", "/*/receipts/*/dispatcher", at_start, "no call covers the packets of a start"),
    unbound("packets", "/*/receipts", alone, "nothing else tells the targets of a start's only packet"),
    unbound("tool_calls", "/*", unknown_request, "the request of a repeated or refused call is unknown"),
    unbound("tool_calls", "/*/response_hash", |told| did(told) == Some(Did::Repeated), "repeats another answer"),
    unbound("tool_calls", "", cut, "the last calls, if they brought nothing"),
];

fn same_run(told: &Told<'_>) -> bool {
    explains(told.case, &told.lie.told, &serde_json::to_value(&told.case.state.gate_evals).unwrap())
}

/// Only of the log as a whole: what is below has entries of its own.
fn shortened(told: &Told<'_>) -> bool {
    told.lie.at.is_empty() && explained(told)
}

fn explained(told: &Told<'_>) -> bool {
    explains(told.case, &serde_json::to_value(told.case.scenario.spec()).unwrap(), &told.lie.told)
}

/// The evidence record around a lie, before and after.
fn evidence<'a>(told: &'a Told<'_>) -> (&'a Value, &'a Value) {
    let at = &told.lie.at[..3];
    (get(told.log, at), get(&told.lie.told, at))
}

fn asked<'a>(told: &'a Told<'_>, record: &Value) -> &'a ConditionSpec {
    let id = ConditionId::from(record["condition_id"].as_str().unwrap());
    told.case.scenario.spec().conditions.iter().find(|condition| condition.condition_id == id).unwrap()
}

fn is_clock(told: &Told<'_>) -> bool {
    asked(told, evidence(told).0).query.provider_id.as_str() == "time"
}

fn anchored(told: &Told<'_>) -> bool {
    let (before, after) = evidence(told);
    let provider = &asked(told, before).query.provider_id;
    let anchor = serde_json::from_value(after["result"]["evidence_anchor"].clone()).unwrap();
    let requirement = told.case.settings.anchors.requirement(provider);
    let free = requirement.is_none_or(|requirement| anchor_fault(requirement, Option::as_ref(&anchor)).is_none());
    !after["result"]["error"].is_null() || free && !is_clock(told)
}

fn valueless(told: &Told<'_>) -> bool {
    let (before, after) = evidence(told);
    before["result"]["value"].is_null() && after["result"]["value"].is_null()
}

fn undecided(told: &Told<'_>) -> bool {
    let (before, after) = evidence(told);
    before["status"] == "Unknown" && (!after["result"]["error"].is_null() || !is_clock(told))
}

fn removed(told: &Told<'_>) -> bool {
    let (before, after) = evidence(told);
    before["status"] == "Unknown" && after["result"]["value"].is_null() && !is_clock(told)
}

/// Asserted evidence that counts must show in the report.
fn laned(told: &Told<'_>) -> bool {
    let (_, after) = evidence(told);
    let counts = after["result"]["error"].is_null() && after["result"]["lane"] == "asserted";
    !counts || told.report.settings.as_ref().is_some_and(|settings| settings.min_lanes == [Lane::Asserted])
}

fn exchanged(told: &Told<'_>) -> bool {
    let (before, after) = evidence(told);
    told.lie.at.len() <= 4 && alike(told, before, after)
}

fn all_exchanged(told: &Told<'_>) -> bool {
    let (before, after) = (get(told.log, &told.lie.at).as_array(), get(&told.lie.told, &told.lie.at).as_array());
    let (Some(before), Some(after)) = (before, after) else { return false };
    told.lie.at.len() == 2
        && before.len() == after.len()
        && before.iter().zip(after).all(|(before, after)| alike(told, before, after))
}

/// Whether other evidence answers the same condition, and as well.
fn alike(told: &Told<'_>, before: &Value, after: &Value) -> bool {
    let answered = !after["result"]["error"].is_null() || !after["result"]["value"].is_null();
    let clock = asked(told, before).query.provider_id.as_str() == "time";
    let same = |member: &str| before[member] == after[member];
    same("condition_id") && same("status") && (answered || !clock)
}

fn position(told: &Told<'_>) -> Option<usize> {
    match told.lie.at.first() {
        Some(Part::Item(index)) => Some(*index),
        _ => None,
    }
}

fn at_start(told: &Told<'_>) -> bool {
    position(told).is_some_and(|index| told.case.opened && told.log[index]["decision_id"] == "decision-1")
}

fn alone(told: &Told<'_>) -> bool {
    at_start(told) && told.log.as_array().is_some_and(|packets| packets.len() == 1)
}

fn did(told: &Told<'_>) -> Option<Did> {
    position(told).map(|index| told.case.calls[index])
}

fn unknown_request(told: &Told<'_>) -> bool {
    let Some(index) = position(told) else { return false };
    let (before, after) = (&told.log[index], &told.lie.told[index]);
    let same = |member: &str| before[member] == after[member];
    let trigger = |call: &Value| call["method"] == "scenario.next" || call["method"] == "scenario.trigger";
    matches!(did(told), Some(Did::Repeated | Did::Refused))
        && same("response_hash")
        && same("error")
        && same("call_id")
        && (same("method") || trigger(before) && trigger(after))
}

fn cut(told: &Told<'_>) -> bool {
    let (before, after) = (told.log.as_array().unwrap(), told.lie.told.as_array().unwrap());
    before.starts_with(after) && told.case.calls[after.len()..].iter().all(|did| *did != Did::Brought)
}

#[test]
fn no_single_lie_passes() {
    let wanted = if deep() { 1_500 } else { 200 };
    let mut donors: BTreeMap<String, Donors> = BTreeMap::new();
    let mut passed: BTreeMap<String, usize> = BTreeMap::new();
    let mut gaps: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let (mut packs, mut lies) = (0, 0);
    for seed in LIES_SEED.. {
        if packs == wanted {
            break;
        }
        let Some(case) = case(seed) else { continue };
        packs += 1;
        let (pack, _) = packed(&case, false);
        let random = &mut Random::new(seed);
        for (path, bytes) in pack.0.iter().filter(|(path, _)| *path != "manifest.json") {
            let name = path.trim_start_matches("artifacts/").trim_end_matches(".json");
            let log: Value = serde_json::from_slice(bytes).unwrap();
            let donors = donors.entry(name.to_owned()).or_default();
            for _ in 0..log.as_array().map_or(25, |records| [0, 10, 16, 24][records.len().min(3)]) {
                let Some(lie) = lie(random, &log, donors) else { continue };
                let told = to_vec(&lie.told).unwrap();
                if told == *bytes {
                    continue;
                }
                lies += 1;
                let report = &said(&pack.forged(path, told));
                if !report.verdict.passed() {
                    continue;
                }
                let place = pattern(&lie.at);
                let told = Told { case: &case, log: &log, lie: &lie, report };
                let listed = UNBOUND.iter().filter(|entry| entry.log == name && below(&place, entry.place));
                let mut known = listed.filter(|entry| (entry.when)(&told));
                let key = format!("{name}{place}");
                // Two opinions: the list says where, the oracle says that it could be.
                if known.next().is_some() && (name != "gate_evals" || explained(&told)) {
                    *passed.entry(key).or_default() += 1;
                } else {
                    let sample = format!("{} at {:?}, seed {seed}: {}", lie.what, lie.at, get(&log, &lie.at));
                    gaps.entry(key).or_insert((0, sample)).0 += 1;
                }
            }
            learn(random, donors, &log);
        }
    }
    println!("{lies} lies about {packs} packs from seed {LIES_SEED}; unbound: {passed:#?}");
    for (place, (count, sample)) in &gaps {
        println!("GAP {place} passed {count} times: {sample:.300}");
    }
    assert!(gaps.is_empty(), "lies pass in {} places", gaps.len());
}

fn below(place: &str, above: &str) -> bool {
    place.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Remembers some values of each place.
fn learn(random: &mut Random, donors: &mut Donors, log: &Value) {
    const KEPT: usize = 24;
    for at in places(log) {
        let known = donors.entry(pattern(&at)).or_default();
        if known.len() < KEPT {
            known.push(get(log, &at).clone());
        } else if random.percent(4) {
            known[random.below(KEPT)] = get(log, &at).clone();
        }
    }
}

/// A run of one stage with one gate on one condition, after one trigger for
/// each answer.
fn small(
    provider: &str,
    stage: &Value,
    settings: Settings,
    policy: Policy,
    targets: &Value,
    triggers: &[(&str, &str, Timestamp, Value)],
) -> Case {
    let mut first = json!({"stage_id": "s", "entry_packets": [], "advance_to": {"kind": "linear"}, "timeout": null,
        "on_timeout": "fail", "gates": [{"gate_id": "g", "requirement": {"Condition": "c"}}]});
    first.as_object_mut().unwrap().extend(stage.as_object().unwrap().clone());
    let second = json!({"stage_id": "end", "advance_to": {"kind": "terminal"}, "timeout": null, "on_timeout": "fail",
        "gates": [], "entry_packets": [{"packet_id": "p", "schema_id": "", "content_type": "", "expiry": null,
        "visibility_labels": [], "policy_tags": [], "payload": {"kind": "json", "value": 1}}]});
    let scenario = json!({"scenario_id": "s", "namespace_id": 1, "spec_version": "1", "default_tenant_id": null,
        "policies": [], "schemas": [], "stages": [first, second], "conditions": [{"condition_id": "c",
        "comparator": "equals", "expected": true, "policy_tags": [],
        "query": {"provider_id": provider, "check_id": "after", "params": {"timestamp": 0}}}]});
    let config = json!({"tenant_id": 1, "namespace_id": 1, "run_id": "r", "scenario_id": "s",
        "dispatch_targets": targets, "policy_tags": []});
    let event = |(id, kind, at, answer): &(&str, &str, Timestamp, Value)| {
        let event = json!({"trigger_id": id, "tenant_id": 1, "namespace_id": 1, "run_id": "r", "kind": kind,
            "time": at, "source_id": "x", "payload": null, "correlation_id": null});
        (event, answer.clone())
    };
    let triggers = triggers.iter().map(event).collect();
    let opened = stage.get("entry_packets").is_some();
    scripted(scenario, config, settings, policy, Timestamp::Logical(0), opened, triggers)
}

fn answer(lane: &str, value: &Value) -> Value {
    json!({"content_type": null, "error": null, "evidence_anchor": null, "evidence_hash": null, "evidence_ref": null,
        "lane": lane, "signature": null, "value": {"kind": "json", "value": value}})
}

fn asserted() -> Settings {
    Settings { min_lane: Lane::Asserted, ..Settings::default() }
}

/// The verdict on a pack in whose log one value is another.
fn lied(case: &Case, path: &str, pointer: &str, value: Value) -> Verdict {
    let (pack, reports) = packed(case, false);
    assert_eq!(reports[1].verdict, Verdict::Consistent, "{:?}", reports[1].findings);
    let mut log: Value = serde_json::from_slice(&pack.0[path]).unwrap();
    *log.pointer_mut(pointer).unwrap() = value;
    said(&pack.forged(path, to_vec(&log).unwrap())).verdict
}

#[test]
fn a_gate_nobody_knows_is_told() {
    let triggers = [("t", "external_event", Timestamp::Logical(1), answer("asserted", &json!(false)))];
    let case = small("env", &json!({}), asserted(), Policy::PermitAll, &json!([]), &triggers);
    let path = "artifacts/gate_evals.json";
    assert_eq!(lied(&case, path, "/0/evaluation/gate_id", json!("other")), Verdict::Refused);
}

#[test]
fn an_early_logical_tick_is_decided_again() {
    let stage = json!({"timeout": {"timeout_ms": 10, "policy_tags": []}});
    let triggers = [("t", "tick", Timestamp::Logical(3), answer("verified", &json!(false)))];
    let case = small("env", &stage, Settings::default(), Policy::PermitAll, &json!([]), &triggers);
    let path = "artifacts/gate_evals.json";
    assert_eq!(lied(&case, path, "/0/evaluation/status", json!("Unknown")), Verdict::Refused);
}

#[test]
fn ticks_of_two_clocks_have_no_start_in_common() {
    let answer = answer("verified", &json!(false));
    let triggers =
        [("t1", "tick", Timestamp::Logical(3), answer.clone()), ("t2", "tick", Timestamp::UnixMillis(3), answer)];
    let case = small("env", &json!({}), Settings::default(), Policy::PermitAll, &json!([]), &triggers);
    let timeout = json!({"timeout_ms": 10, "policy_tags": []});
    let path = "artifacts/scenario_spec.json";
    assert_eq!(lied(&case, path, "/stages/0/timeout", timeout), Verdict::Refused);
}

#[test]
fn no_logical_start_is_before_zero() {
    let stage = json!({"timeout": {"timeout_ms": 10, "policy_tags": []}});
    let triggers = [("t", "tick", Timestamp::Logical(12), answer("verified", &json!(false)))];
    let case = small("env", &stage, Settings::default(), Policy::PermitAll, &json!([]), &triggers);
    assert_eq!(case.state.gate_evals.len(), 0);
    let path = "artifacts/scenario_spec.json";
    assert_eq!(lied(&case, path, "/stages/0/timeout/timeout_ms", json!(20)), Verdict::Refused);
}

#[test]
fn the_first_packet_tells_that_there_are_targets() {
    let packet = json!({"packet_id": "p0", "schema_id": "", "content_type": "", "expiry": null,
        "visibility_labels": [], "policy_tags": [], "payload": {"kind": "json", "value": 1}});
    let triggers = [("t", "external_event", Timestamp::Logical(1), answer("verified", &json!(true)))];
    let targets = json!([{"kind": "agent", "agent_id": "a"}]);
    let stage = json!({"entry_packets": [packet]});
    let case = small("env", &stage, Settings::default(), Policy::PermitAll, &targets, &triggers);
    assert_eq!(case.state.packets.len(), 2);
    assert_eq!(lied(&case, "artifacts/packets.json", "/0/receipts", json!([])), Verdict::Refused);
}

#[test]
fn the_whole_digest_of_a_repeated_answer_counts() {
    let triggers = [1, 2].map(|at| ("t", "external_event", Timestamp::Logical(at), answer("verified", &json!(false))));
    let case = small("env", &json!({}), Settings::default(), Policy::PermitAll, &json!([]), &triggers);
    let digest = case.state.tool_calls[1].response_hash.to_string();
    let other = format!("{}{}", &digest[..63], if digest.ends_with('0') { '1' } else { '0' });
    let path = "artifacts/tool_calls.json";
    assert_eq!(lied(&case, path, "/1/response_hash/value", json!(other)), Verdict::Refused);
}

#[test]
fn the_clock_always_answers() {
    let mut failed = answer("verified", &Value::Null);
    failed["value"] = Value::Null;
    failed["error"] =
        json!({"code": "provider_error", "message": "logical timestamps are not permitted", "details": null});
    let triggers = [("t", "external_event", Timestamp::Logical(1), failed)];
    let case = small("time", &json!({}), Settings::default(), Policy::PermitAll, &json!([]), &triggers);
    let path = "artifacts/gate_evals.json";
    assert_eq!(lied(&case, path, "/0/evidence/0/result/error", Value::Null), Verdict::Refused);
}

#[test]
fn an_expected_policy_is_not_asked_about_nobody() {
    let triggers = [("t", "external_event", Timestamp::Logical(1), answer("verified", &json!(true)))];
    let case = small("env", &json!({}), Settings::default(), Policy::DenyAll, &json!([]), &triggers);
    assert_eq!(case.state.packets.len(), 1);
    let (pack, _) = packed(&case, false);
    let report = verify(&pack, "manifest.json", &expecting(&case));
    assert_eq!(report.verdict, Verdict::Consistent, "{:?}", report.findings);
}

#[test]
fn an_expected_policy_may_refuse_a_kind_of_target() {
    let rule = json!({"default": "permit", "rules": [{"effect": "deny", "target_kinds": ["agent"]}]});
    let policy = Policy::Static(serde_json::from_value(rule).unwrap());
    let triggers = [("t", "external_event", Timestamp::Logical(1), answer("verified", &json!(true)))];
    let targets = json!([{"kind": "agent", "agent_id": "a"}]);
    let case = small("env", &json!({}), Settings::default(), policy, &targets, &triggers);
    assert_eq!(case.state.packets.len(), 0);
    let (pack, _) = packed(&case, false);
    let report = verify(&pack, "manifest.json", &expecting(&case));
    assert_eq!(report.verdict, Verdict::Consistent, "{:?}", report.findings);
}

#[test]
fn a_stricter_provider_does_not_hide_the_least_lane() {
    let mut settings = asserted();
    settings.provider_lanes.insert(ProviderId::from("env"), Lane::Verified);
    let triggers = [("t", "external_event", Timestamp::Logical(1), answer("asserted", &json!(true)))];
    let case = small("env", &json!({}), settings, Policy::PermitAll, &json!([]), &triggers);
    let (_, reports) = packed(&case, false);
    let settings = reports[1].settings.as_ref().unwrap();
    assert!(settings.min_lanes.contains(&Lane::Asserted), "{settings:?}");
}

#[test]
fn a_provider_may_fail_in_the_words_of_a_gate() {
    let mut failed = answer("asserted", &Value::Null);
    failed["value"] = Value::Null;
    let message = "evidence lane Asserted does not satisfy Verified";
    failed["error"] = json!({"code": "trust_lane", "message": message, "details": null});
    let triggers = [
        ("t1", "external_event", Timestamp::Logical(1), answer("asserted", &json!(false))),
        ("t2", "external_event", Timestamp::Logical(2), failed),
    ];
    let case = small("env", &json!({}), asserted(), Policy::PermitAll, &json!([]), &triggers);
    let (_, reports) = packed(&case, false);
    assert_eq!(reports[1].verdict, Verdict::Consistent, "{:?}", reports[1].findings);
}
