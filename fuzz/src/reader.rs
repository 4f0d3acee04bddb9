//! The strict reader, for everything it reads.

use std::fmt::Debug;

use runpack_core::canon::{Digest, Form, check, to_vec};
use runpack_core::engine::{Entry, Policy, Scenario, start};
use runpack_core::model::{
    AnchorPolicy, Date, DecisionRecord, EvidenceResult, GateEvalRecord, Instant, NextRequest, PacketRecord,
    Requirement, RunConfig, RunId, RunState, ScenarioSpec, StatusRequest, SubmissionRecord, SubmitRequest, Timestamp,
    ToolCallRecord, TriggerEvent, TriggerRecord,
};
use runpack_core::pack::{
    BuildOptions, Manifest, SecurityContext, Verdict, VerifyOptions, WireReport, build, verify_draft,
};
use runpack_core::read::{
    Admit, Profile, Refusal, Unknown, admit_value, ingest, ingest_value, recorded, ron_value, value,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::common::memory::Memory;
use super::honest::MANIFEST;

/// What the first byte of an input may mean: `@`, `A`, `B` …
const KINDS: [fn(&[u8]); 24] = [
    tree,
    ron,
    time,
    scenario,
    new::<TriggerEvent>,
    new::<RunConfig>,
    new::<SubmitRequest>,
    new::<NextRequest>,
    new::<StatusRequest>,
    new::<EvidenceResult>,
    new::<AnchorPolicy>,
    new::<SecurityContext>,
    new::<RunState>,
    old::<ScenarioSpec>,
    old::<TriggerRecord>,
    old::<GateEvalRecord>,
    old::<DecisionRecord>,
    old::<PacketRecord>,
    old::<SubmissionRecord>,
    old::<ToolCallRecord>,
    old::<WireReport>,
    old::<Manifest>,
    old::<Requirement>,
    old::<Digest>,
];

/// The first byte says what the rest is read as.
pub fn reader(input: &[u8]) {
    let Some((kind, text)) = input.split_first() else { return };
    KINDS[usize::from(*kind).wrapping_sub(64) % KINDS.len()](text);
}

/// Any JSON: as the plain reader has it, but for what the strict one refuses.
fn tree(text: &[u8]) {
    let plain = serde_json::from_slice::<Value>(text);
    let (pack, new) = (value(text, Profile::Pack), value(text, Profile::Ingest));
    match (&pack, plain) {
        (Ok(tree), Ok(plain)) => assert_eq!(*tree, plain),
        (Ok(tree), Err(error)) => panic!("read, and not JSON ({error}): {tree}"),
        (Err(refusal), Ok(plain)) => assert!(matches!(refusal, Refusal::Duplicate { .. }), "{refusal}: {plain}"),
        (Err(_), Err(_)) => {}
    }
    match (&pack, &new) {
        (Ok(pack), Ok(new)) => assert_eq!(pack, new),
        (Ok(_), Err(refusal)) => assert!(matches!(refusal, Refusal::Integer { .. }), "{refusal}"),
        // A place that both refuse may be told in another order.
        (Err(_), Err(_)) => {}
        (Err(refusal), Ok(new)) => panic!("refused only where it was recorded ({refusal}): {new}"),
    }
    if check(text).is_ok() {
        assert!(pack.is_ok(), "canonical, and refused: {pack:?}");
    }
    pack.iter().for_each(written_again);
    if let Ok(tree) = new {
        admitted(tree);
    }
}

/// What was read is written and read again as it was.
fn written_again(tree: &Value) {
    let text = to_vec(tree).unwrap();
    assert_eq!(check(&text), Ok(Form::Rfc8785));
    assert_eq!(value(&text, Profile::Pack).map(|again| to_vec(&again).unwrap()), Ok(text));
}

/// A value that is admitted does not change when it is recorded.
fn admitted(mut tree: Value) {
    if admit_value(&mut tree, "").is_ok() {
        let text = to_vec(&tree).unwrap();
        assert_eq!(value(&text, Profile::Ingest).as_ref(), Ok(&tree));
        assert_eq!(value(&text, Profile::Pack), Ok(tree));
    }
}

/// RON in the shape of JSON obeys the rules of JSON.
fn ron(text: &[u8]) {
    let (pack, new) = (ron_value(text, Profile::Pack), ron_value(text, Profile::Ingest));
    if let (Ok(pack), Ok(new)) = (&pack, &new) {
        assert_eq!(pack, new);
    }
    assert!(pack.is_ok() || new.is_err(), "{pack:?}, {new:?}");
    pack.iter().for_each(written_again);
    let Ok(tree) = new else { return };
    if let Ok(spec) = ingest_value::<ScenarioSpec>(tree.clone(), Unknown::Refuse) {
        begun(spec);
    }
    admitted(tree);
}

/// Dates and times, as evidence and arguments bring them.
fn time(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Some(instant) = Instant::parse(text) {
        let millis = instant.unix_millis();
        let at = Value::from(text);
        let against = |millis| Timestamp::UnixMillis(millis).against(&at);
        // Rounded down to milliseconds.
        assert!(against(millis).is_some_and(|order| order.is_le()), "{text}");
        assert!(against(millis + 1).is_some_and(|order| order.is_gt()), "{text}");
        assert!(Date::parse(&text[..10]).is_some(), "{text}");
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        let text = to_vec(&time).unwrap();
        assert_eq!(recorded(&text), Ok(time));
        assert!(value(&text, Profile::Ingest).is_ok());
    }
}

/// Something new: what is taken is recorded and read again as it is, from text
/// and from a tree alike.
fn new<T: DeserializeOwned + Serialize + Admit + PartialEq + Debug>(text: &[u8]) {
    taken::<T>(text);
}

fn taken<T: DeserializeOwned + Serialize + Admit + PartialEq + Debug>(text: &[u8]) -> Option<T> {
    let (strict, loose) = (ingest::<T>(text, Unknown::Refuse), ingest::<T>(text, Unknown::Drop));
    match (&strict, &loose) {
        (Ok(strict), Ok(loose)) => assert_eq!(strict, loose),
        (Ok(_), Err(refusal)) => panic!("taken only where strangers are refused: {refusal}"),
        (Err(refusal), Ok(_)) => assert!(matches!(refusal, Refusal::UnknownMember { .. }), "{refusal}"),
        (Err(_), Err(_)) => {}
    }
    if let Ok(tree) = value(text, Profile::Ingest) {
        let treed = ingest_value::<T>(tree, Unknown::Refuse);
        assert_eq!(treed.as_ref().ok(), strict.as_ref().ok(), "{treed:?}, {strict:?}");
    } else {
        assert!(strict.is_err());
    }
    let taken = loose.ok()?;
    let text = to_vec(&taken).unwrap();
    assert_eq!(check(&text), Ok(Form::Rfc8785));
    assert_eq!(ingest::<T>(&text, Unknown::Refuse).as_ref(), Ok(&taken));
    assert_eq!(recorded::<T>(&text).as_ref(), Ok(&taken));
    Some(taken)
}

/// Something recorded: canonical text comes back as it was, but for members
/// that may be left out. In other text numbers may be such that no canonical
/// text says the same.
fn old<T: DeserializeOwned + Serialize + PartialEq + Debug>(text: &[u8]) {
    let Ok(record) = recorded::<T>(text) else { return };
    let again = to_vec(&record).unwrap();
    assert_eq!(check(&again), Ok(Form::Rfc8785));
    if check(text) != Ok(Form::Rfc8785) {
        return;
    }
    assert_eq!(recorded::<T>(&again).as_ref(), Ok(&record));
    if again != text {
        let parse = |text| serde_json::from_slice::<Value>(text).unwrap();
        let (was, is) = (parse(text), parse(&again));
        assert!(was != is && but_for_defaults(&was, &is), "{was} came back as {is}");
    }
}

/// Whether two documents differ only in members that one leaves out: because
/// they are unset, or say what leaving them out means.
fn but_for_defaults(left: &Value, right: &Value) -> bool {
    let default = |name: &str, value: &Value| match value {
        Value::Null => true,
        Value::String(lane) => name == "lane" && lane == "verified",
        Value::Array(items) => name == "providers" && items.is_empty(),
        _ => false,
    };
    match (left, right) {
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| but_for_defaults(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.iter().all(|(name, value)| match right.get(name) {
                Some(other) => but_for_defaults(value, other),
                None => default(name, value),
            }) && right.iter().all(|(name, value)| left.contains_key(name) || default(name, value))
        }
        _ => left == right,
    }
}

fn scenario(text: &[u8]) {
    if let Some(spec) = taken::<ScenarioSpec>(text) {
        begun(spec);
    }
}

/// A scenario that makes sense can be begun, and the pack of that verifies.
fn begun(spec: ScenarioSpec) {
    let Ok(scenario) = Scenario::new(spec) else { return };
    assert_eq!(scenario.digest(), Digest::of(scenario.canonical_bytes()));
    let config = RunConfig {
        tenant_id: recorded(b"1").unwrap(),
        namespace_id: scenario.spec().namespace_id,
        run_id: RunId::from("r"),
        scenario_id: scenario.spec().scenario_id.clone(),
        dispatch_targets: Vec::new(),
        policy_tags: Vec::new(),
    };
    for opened in [false, true] {
        let at = Timestamp::Logical(1);
        let Ok(opening) = start(&scenario, &config, at, opened, &Policy::PermitAll) else { continue };
        let mut state = opening.head.empty_state();
        for entry in opening.entries {
            match entry {
                Entry::Trigger(trigger) => state.triggers.push(trigger),
                Entry::Decision(decision) => state.decisions.push(decision),
                Entry::Packet(packet) => state.packets.push(packet),
                other => panic!("{other:?} at the start"),
            }
        }
        let mut pack = Memory::default();
        let draft = build(&mut pack, &scenario, &state, &BuildOptions::at(at)).unwrap();
        let manifest = draft.manifest_bytes().unwrap();
        let report = verify_draft(&pack, &manifest, MANIFEST, &VerifyOptions::default());
        assert_eq!(report.verdict, Verdict::Consistent, "{:?}", report.findings);
    }
}
