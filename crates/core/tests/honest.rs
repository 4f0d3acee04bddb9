//! Honest packs by chance are consistent; packs with one value changed and
//! every digest computed again are not, outside a closed list
//! (`docs/format.md` §6).

#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs, reason = "a test reads its own data")]
#![allow(clippy::print_stdout, reason = "a test says how much it looked at")]

mod common;

use std::collections::BTreeMap;

use common::lies::{Donors, lie, pattern, places, get};
use common::memory::Memory;
use common::random::Random;
use common::runs::{Case, case};
use runpack_core::engine::Logic;
use runpack_core::model::{DecisionOutcome, Lane};
use runpack_core::pack::{Expectations, Report, Severity, Verdict, VerifyOptions, build, verify, verify_draft};

/// The first seed; one more for each run.
const SEED: u64 = 20_240_309;

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
    let after = verify(&pack, "manifest.json", &VerifyOptions::default());
    (pack, [before, after])
}

/// Expects from outside what is true of a run.
fn options(case: &Case) -> VerifyOptions {
    let hidden = case.settings.provider_lanes.values().any(|lane| *lane == Lane::Verified);
    let expect = Expectations {
        root: None,
        digest: None,
        tenant: Some(case.config.tenant_id),
        namespace: Some(case.config.namespace_id),
        scenario: Some(case.config.scenario_id.clone()),
        run: Some(case.config.run_id.clone()),
        anchor_policy: Some(case.settings.anchors.clone()),
        min_lane: Some(case.settings.min_lane).filter(|lane| *lane == Lane::Verified || !hidden),
        policy: Some(case.policy.clone()),
    };
    VerifyOptions { expect, ..VerifyOptions::default() }
}

/// What an honest pack's report gets wrong.
fn objection(case: &Case, report: &Report) -> Option<String> {
    if report.verdict != Verdict::Consistent {
        return Some(format!("{:?}: {:?}", report.verdict, report.findings));
    }
    if let Some(finding) = report.findings.iter().find(|finding| finding.severity > Severity::Warning) {
        return Some(format!("{finding:?}"));
    }
    let Some(settings) = &report.settings else { return Some("no settings".to_owned()) };
    let logic = if case.settings.logic == Logic::Kleene { "kleene" } else { "bochvar" };
    if !settings.logics.iter().any(|name| name == logic) {
        return Some(format!("{logic} is not among {:?}", settings.logics));
    }
    // FINDING: see `a_stricter_provider_hides_the_least_lane`.
    let hidden = case.settings.provider_lanes.values().any(|lane| *lane == Lane::Verified);
    if !settings.min_lanes.contains(&case.settings.min_lane) && !hidden {
        return Some(format!(
            "{} is not among {settings:?}, provider lanes {:?}",
            case.settings.min_lane, case.settings.provider_lanes
        ));
    }
    let lane = |provider| {
        case.settings.provider_lanes.get(provider).copied().unwrap_or(Lane::Asserted).max(case.settings.min_lane)
    };
    if let Some(provider) = settings.stricter_providers.iter().find(|provider| lane(*provider) != Lane::Verified) {
        return Some(format!("{provider} was not stricter"));
    }
    let refused = case.state.decisions.iter().filter(
        |decision| matches!(&decision.outcome, DecisionOutcome::Fail { reason } if reason.starts_with("policy ")),
    );
    let refused = refused.count() as u64;
    (settings.disclosures_refused != refused)
        .then(|| format!("{} refused, not {refused}", settings.disclosures_refused))
}

#[test]
fn honest_packs_are_consistent() {
    let wanted = if deep() { 10_000 } else { 1_500 };
    let seed0: u64 = std::env::var("SEED").map_or(SEED, |s| s.parse().unwrap());
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut built = 0;
    let mut wrong = Vec::new();
    for seed in seed0.. {
        if built == wanted {
            break;
        }
        let Some(case) = case(seed) else { continue };
        built += 1;
        let (pack, reports) = packed(&case, seed % 2 == 0);
        for report in &reports {
            if let Some(objection) = objection(&case, report) {
                wrong.push((seed, case.state.triggers.len(), objection));
                break;
            }
        }
        let report = verify(&pack, "manifest.json", &options(&case));
        if report.verdict != Verdict::Consistent {
            wrong.push((seed, case.state.triggers.len(), format!("EXPECT {:?}", report.findings)));
        }
        count(&mut seen, &case);
    }
    println!("{built} packs from seed {SEED}: {seen:#?}");
    for (seed, triggers, objection) in wrong.iter().take(12) {
        println!("seed {seed} ({triggers} triggers): {objection:.600}");
    }
    assert!(wrong.is_empty(), "{} of {built} honest packs are not said to be what they are", wrong.len());
}

/// What the runs came to, so that chance leaves nothing out.
fn count(seen: &mut BTreeMap<String, usize>, case: &Case) {
    let mut one = |what: String| *seen.entry(what).or_default() += 1;
    one(format!("status {}", case.state.status));
    for decision in &case.state.decisions {
        match &decision.outcome {
            DecisionOutcome::Fail { reason } => one(format!("fail {reason:.24}")),
            DecisionOutcome::Advance { timeout: true, .. } => one("advance by timeout".to_owned()),
            outcome => one(outcome.kind().to_string()),
        }
    }
    for record in &case.state.gate_evals {
        one(format!("gate {}", record.evaluation.status));
        for evidence in &record.evidence {
            if let Some(error) = &evidence.result.error {
                one(format!("evidence error {}", error.code));
            }
        }
    }
    case.state
        .tool_calls
        .iter()
        .for_each(|call| one(format!("{} {}", call.method, call.error.as_ref().map_or("", |error| &error.code))));
    (0..case.undecided).for_each(|_| one("undecided".to_owned()));
    case.state.packets.iter().for_each(|packet| one(format!("packet to {}", packet.receipts.len())));
}

#[test]
fn no_single_lie_passes() {
    let wanted: usize = std::env::var("LIES").map_or(300, |s| s.parse().unwrap());
    let mut donors = Donors::new();
    let mut passed: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let (mut packs, mut lies) = (0, 0);
    for seed in SEED + 1_000_000.. {
        if packs == wanted {
            break;
        }
        let Some(case) = case(seed) else { continue };
        packs += 1;
        let (pack, _) = packed(&case, false);
        let mut random = Random::new(seed);
        let logs: Vec<(String, serde_json::Value)> = pack.0.iter().filter(|(path, _)| *path != "manifest.json").map(|(path, bytes)| (path.clone(), serde_json::from_slice(bytes).unwrap())).collect();
        for (path, log) in &logs {
            let tries = match log.as_array().map_or(30, Vec::len) { 0 => 1, 30.. => 30, some => some.min(8) + 8 };
            for _ in 0..tries {
                let Some(lie) = lie(&mut random, log, &donors) else { continue };
                let bytes = runpack_core::canon::to_vec(&lie.told).unwrap();
                if bytes == pack.0[path] { continue; }
                lies += 1;
                let report = verify(&pack.forged(path, bytes), "manifest.json", &VerifyOptions::default());
                if !report.verdict.passed() { continue; }
                let key = format!("{}{} [{}]", path.trim_start_matches("artifacts/"), pattern(&lie.at), lie.what);
                let sample = format!("seed {seed} at {:?}: {} -> {}", lie.at, get(log, &lie.at), { let mut v = &lie.told; for part in &lie.at { match part { common::lies::Part::Member(n) => v = &v[n.as_str()], common::lies::Part::Item(i) => v = &v[*i] } } v });
                passed.entry(key).or_insert((0, sample)).0 += 1;
            }
            for at in places(log) {
                let donors = donors.entry(pattern(&at)).or_default();
                if donors.len() < 30 { donors.push(get(log, &at).clone()); } else { let n = random.below(30); if random.percent(5) { donors[n] = get(log, &at).clone(); } }
            }
        }
    }
    println!("{lies} lies in {packs} packs");
    for (key, (count, sample)) in &passed {
        println!("{count:5} {key}   {sample:.260}");
    }
}
