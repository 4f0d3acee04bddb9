//! What every run store must hold. An implementation calls [`holds`],
//! [`scenarios_hold`], [`shapes_hold`] and [`outbox_holds`] in its tests; they
//! panic where it is wrong.

#![allow(clippy::unwrap_used, reason = "a failure is the answer")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use runpack_core::canon::to_vec;
use runpack_core::engine::{self, Entry, Head, Policy, Scenario, Settings, SubmitOutcome};
use runpack_core::model::{
    DataShapeRecord, DispatchTarget, NamespaceId, PacketPayload, RunConfig, RunState, RunStatus, SchemaId,
    SubmitRequest, TenantId, Timestamp, ToolMethod, TriggerEvent, TriggerKind,
};
use runpack_core::pack::layout::Log;
use runpack_core::pack::{PackSink, RunLogs};
use serde::Serialize;
use serde_json::json;

use super::{
    Defined, DeliveryOutcome, DeliveryPage, DeliveryRecord, LeaseTerms, Leased, Outbox, Page, Registered, RunKey,
    RunStore, SHAPES_PAGE_BYTES_MAX, SHAPES_PAGE_MAX, ScenarioStore, Settled, ShapeKey, ShapePage, ShapeStore,
    StoredRun, Which, WriteError,
};

/// A run that is decided as it goes: what a store is asked to keep.
pub struct Story {
    scenario: Arc<Scenario>,
    /// What the store must answer.
    pub state: RunState,
    head: Head,
}

/// A scenario with a gate that holds until `until`, and a packet behind it.
pub fn scenario(id: &str, until: u64) -> Arc<Scenario> {
    let gate = |id: &str| json!([{ "gate_id": id, "requirement": { "Condition": "late" } }]);
    let packet = |id: &str| {
        json!({
            "packet_id": id, "schema_id": "s", "content_type": "application/json", "visibility_labels": ["all"],
            "policy_tags": [], "expiry": null, "payload": { "kind": "json", "value": { "note": id } },
        })
    };
    let stage = |id: &str, gates: serde_json::Value, packets: serde_json::Value, next: &str| {
        json!({
            "stage_id": id, "entry_packets": packets, "gates": gates, "advance_to": { "kind": next },
            "timeout": null, "on_timeout": "fail",
        })
    };
    let spec = json!({
        "scenario_id": id, "namespace_id": 1, "spec_version": "1", "default_tenant_id": 1,
        "stages": [
            stage("first", gate("open"), json!([packet("begin")]), "linear"),
            stage("second", gate("shut"), json!([packet("one"), packet("two")]), "terminal"),
        ],
        "conditions": [{
            "condition_id": "late", "comparator": "equals", "expected": true, "policy_tags": [],
            "query": { "provider_id": "time", "check_id": "after", "params": { "timestamp": until } },
        }],
        "policies": [], "schemas": [],
    });
    Arc::new(Scenario::new(serde_json::from_value(spec).unwrap()).unwrap())
}

impl Story {
    /// Begins a run with packets. Not stored yet.
    pub fn begin(scenario: &Arc<Scenario>, run: &str, namespace: u64) -> (Self, Vec<Entry>) {
        Self::begin_for(scenario, run, namespace, Vec::new())
    }

    /// Begins a run whose packets are for these targets. Not stored yet.
    pub fn begin_for(
        scenario: &Arc<Scenario>,
        run: &str,
        namespace: u64,
        dispatch_targets: Vec<DispatchTarget>,
    ) -> (Self, Vec<Entry>) {
        let config = RunConfig {
            tenant_id: TenantId::new(1).unwrap(),
            namespace_id: NamespaceId::new(1).unwrap(),
            run_id: run.into(),
            scenario_id: scenario.spec().scenario_id.clone(),
            dispatch_targets,
            policy_tags: Vec::new(),
        };
        let opening = engine::start(scenario, &config, Timestamp::Logical(1), true, &Policy::PermitAll).unwrap();
        let mut head = opening.head;
        // The engine ties runs to the namespace of their scenario; a store must
        // tell them apart all the same.
        head.namespace_id = NamespaceId::new(namespace).unwrap();
        let state = head.empty_state();
        let mut story = Self { scenario: scenario.clone(), state, head };
        story.log(&opening.entries);
        (story, opening.entries)
    }

    /// The run's key.
    pub fn key(&self) -> RunKey {
        RunKey::of(&self.head)
    }

    /// The run's head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Decides a trigger at `time`; what is to be appended.
    pub fn decide(&mut self, trigger: &str, time: u64) -> Vec<Entry> {
        let event = TriggerEvent {
            trigger_id: trigger.into(),
            tenant_id: self.head.tenant_id,
            namespace_id: self.head.namespace_id,
            run_id: self.head.run_id.clone(),
            kind: TriggerKind::ExternalEvent,
            time: Timestamp::Logical(time),
            source_id: "somebody".into(),
            payload: None,
            correlation_id: None,
        };
        let spec = self.scenario.spec();
        let until = spec.conditions[0].query.params.as_ref().and_then(|params| params["timestamp"].as_u64());
        let late = Some(time) > until;
        let evidence = serde_json::from_value(json!({
            "value": { "kind": "json", "value": late }, "lane": "verified", "error": null, "evidence_hash": null,
            "evidence_ref": null, "evidence_anchor": null, "signature": null, "content_type": null,
        }));
        let evidence = engine::Evidence::recorded(evidence.unwrap());
        let evidence = BTreeMap::from([(spec.conditions[0].condition_id.clone(), evidence)]);
        let settings = Settings::default();
        let step = engine::decide(&self.scenario, &settings, &self.head, &event, &evidence, &Policy::PermitAll);
        let (head, mut entries) = step.unwrap().into_entries();
        self.head = head;
        self.call(&mut entries, &event);
        self.log(&entries);
        entries
    }

    /// Hands something in; what is to be appended.
    pub fn submit(&mut self, id: &str, value: serde_json::Value) -> Vec<Entry> {
        let request = SubmitRequest {
            run_id: self.head.run_id.clone(),
            tenant_id: self.head.tenant_id,
            namespace_id: self.head.namespace_id,
            submission_id: id.into(),
            payload: PacketPayload::Json(value),
            content_type: "application/json".to_owned(),
            submitted_at: Timestamp::Logical(3),
            correlation_id: None,
        };
        let SubmitOutcome::New(record) = engine::submit(&mut self.head, &request, None).unwrap() else {
            panic!("a new submission is new")
        };
        let mut entries = vec![Entry::Submission(record)];
        self.call(&mut entries, &request);
        self.log(&entries);
        entries
    }

    fn call(&mut self, entries: &mut Vec<Entry>, request: &impl Serialize) {
        let time = Timestamp::Logical(3);
        let call = engine::record_call(&mut self.head, ToolMethod::Trigger, request, Ok(&"answer"), time, None);
        entries.push(Entry::ToolCall(call.unwrap()));
    }

    fn log(&mut self, entries: &[Entry]) {
        entries.iter().cloned().for_each(|entry| entry.log(&mut self.state));
        self.state.current_stage_id = self.head.current_stage_id.clone();
        self.state.stage_entered_at = self.head.stage_entered_at;
        self.state.status = self.head.status;
    }
}

/// Every rule for runs. `fresh` makes a store and hands it over, once a rule.
///
/// # Panics
/// Where a rule is broken.
pub fn holds(fresh: impl Fn(&dyn Fn(&dyn RunStore))) {
    fresh(&a_run_is_kept_as_it_was_logged);
    fresh(&an_append_on_another_state_writes_nothing);
    fresh(&what_is_not_there_is_not_found);
    fresh(&runs_of_other_namespaces_are_other_runs);
    fresh(&runs_are_listed_in_order_of_their_keys);
    fresh(&a_run_that_is_read_does_not_grow);
    fresh(&of_two_writers_one_wins);
    fresh(&only_closed_runs_are_pruned);
}

/// A run of some length, kept in `store`.
fn told(store: &dyn RunStore, run: &str, namespace: u64) -> Story {
    let (mut story, entries) = Story::begin(&scenario("kept", 10), run, namespace);
    store.create(story.head(), &entries).unwrap();
    for (trigger, time) in [("a", 5), ("b", 6), ("c", 11)] {
        let expected = story.head.counts.total();
        let entries = story.decide(trigger, time);
        store.append(expected, story.head(), &entries).unwrap();
        let expected = story.head.counts.total();
        let entries = story.submit(&format!("with {trigger}"), json!({ "n": time }));
        store.append(expected, story.head(), &entries).unwrap();
    }
    story
}

fn logs(store: &dyn RunStore, key: &RunKey) -> Vec<Vec<u8>> {
    let run = StoredRun::open(store, key).unwrap().unwrap();
    written(&run)
}

/// The logs as a pack has them.
fn written(run: &dyn RunLogs) -> Vec<Vec<u8>> {
    #[derive(Default)]
    struct Sink(Vec<Vec<u8>>);
    impl PackSink for Sink {
        fn put(
            &mut self,
            _path: &str,
            content: &mut dyn FnMut(&mut dyn std::io::Write) -> std::io::Result<()>,
        ) -> std::io::Result<()> {
            self.0.push(Vec::new());
            let Some(bytes) = self.0.last_mut() else { return Ok(()) };
            content(bytes)
        }
    }
    let mut sink = Sink::default();
    let options = runpack_core::pack::BuildOptions::at(Timestamp::Logical(99));
    let _draft = runpack_core::pack::build(&mut sink, &scenario("kept", 10), run, &options).unwrap();
    sink.0
}

fn a_run_is_kept_as_it_was_logged(store: &dyn RunStore) {
    let story = told(store, "run", 1);
    let (key, state) = (story.key(), &story.state);
    assert_eq!(store.head(&key).unwrap().as_ref(), Some(story.head()), "the head is the one appended last");
    assert_eq!(store.check(&key).unwrap(), *story.head(), "and comes out of the entries");
    assert_eq!(logs(store, &key), written(state), "the logs are those that were appended");
    let newest = store.decided(&key, Which::Newest).unwrap().and_then(|(_, decided)| decided).unwrap();
    assert_eq!(Some(&newest.decision), state.decisions.last());
    for decision in &state.decisions {
        let (head, decided) = store.decided(&key, Which::On(&decision.trigger_id)).unwrap().unwrap();
        let decided = decided.unwrap();
        assert_eq!(head, *story.head(), "it comes with where the run stands");
        let evals: Vec<_> = state.gate_evals.iter().filter(|eval| eval.trigger_id == decision.trigger_id).collect();
        let packets: Vec<_> =
            state.packets.iter().filter(|packet| packet.decision_id == decision.decision_id).collect();
        assert_eq!(decided.decision, *decision);
        assert_eq!(decided.gate_evals.iter().collect::<Vec<_>>(), evals, "of {}", decision.trigger_id);
        assert_eq!(decided.packets.iter().collect::<Vec<_>>(), packets, "of {}", decision.trigger_id);
    }
    let ids: Vec<_> = state.packets.iter().map(|packet| packet.envelope.packet_id.clone()).collect();
    assert_eq!(store.standing(&key).unwrap(), Some((story.head().clone(), (Some(newest), ids))));
    for submission in &state.submissions {
        let found = store.submission(&key, &submission.submission_id).unwrap();
        assert_eq!(found, Some((story.head().clone(), Some(submission.clone()))));
    }
    for limit in [1, 2, 1_000, usize::MAX] {
        let (mut found, mut after) = (Vec::new(), 0);
        loop {
            let Page { entries, end } = store.page(&key, Log::Triggers, after, limit).unwrap();
            assert!(entries.len() <= limit, "a page has no more entries than were asked for");
            if entries.is_empty() {
                break;
            }
            found.extend(entries);
            after = end;
        }
        let all: Vec<_> = state.triggers.iter().map(|record| to_vec(record).unwrap()).collect();
        assert_eq!(found, all, "in pages of {limit}");
    }
    store.ready().unwrap();
}

fn an_append_on_another_state_writes_nothing(store: &dyn RunStore) {
    let mut story = told(store, "run", 1);
    let (key, head, total) = (story.key(), story.head().clone(), story.head.counts.total());
    let before = logs(store, &key);
    let entries = story.submit("late", json!(1));
    let again = store.create(story.head(), &entries);
    assert_eq!(again, Err(WriteError::Exists(key.run_id.clone())), "a run begins once");
    for expected in [total - 1, 0] {
        let mut other = story.head().clone();
        other.counts.triggers = expected + entries.len() as u64;
        (other.counts.gate_evals, other.counts.decisions, other.counts.packets) = (0, 0, 0);
        (other.counts.submissions, other.counts.tool_calls) = (0, 0);
        let outcome = store.append(expected, &other, &entries);
        assert_eq!(outcome, Err(WriteError::Conflict { expected, found: total }));
    }
    assert_eq!(store.head(&key).unwrap(), Some(head));
    assert_eq!(logs(store, &key), before);
    store.append(total, story.head(), &entries).unwrap();
}

fn what_is_not_there_is_not_found(store: &dyn RunStore) {
    let story = told(store, "run", 1);
    let (mut stranger, entries) = Story::begin(&scenario("kept", 10), "stranger", 1);
    let missing = stranger.key();
    assert_eq!(store.head(&missing).unwrap(), None);
    assert_eq!(store.decided(&missing, Which::Newest).unwrap(), None);
    assert_eq!(store.standing(&missing).unwrap(), None);
    assert_eq!(store.submission(&missing, &"s".into()).unwrap(), None);
    assert_eq!(store.page(&missing, Log::Triggers, 0, 10).unwrap().entries, Vec::<Vec<u8>>::new());
    assert!(StoredRun::open(store, &missing).unwrap().is_none());
    let total = stranger.head.counts.total();
    let late = stranger.submit("s", json!(1));
    let outcome = store.append(total, stranger.head(), &late);
    assert_eq!(outcome, Err(WriteError::NotFound(missing.run_id.clone())));
    assert_eq!(entries.len() as u64, total);
    let head = story.head();
    let nothing = store.decided(&story.key(), Which::On(&"nobody's".into())).unwrap();
    assert_eq!(nothing, Some((head.clone(), None)));
    assert_eq!(store.submission(&story.key(), &"nobody's".into()).unwrap(), Some((head.clone(), None)));
}

fn runs_of_other_namespaces_are_other_runs(store: &dyn RunStore) {
    let (one, two) = (told(store, "run", 1), told(store, "run", 2));
    assert_eq!(store.head(&one.key()).unwrap().as_ref(), Some(one.head()));
    assert_eq!(store.head(&two.key()).unwrap().as_ref(), Some(two.head()));
}

fn runs_are_listed_in_order_of_their_keys(store: &dyn RunStore) {
    let runs = [("z", 1), ("a", 2), ("b", 1), ("ü", 1), ("B", 1)];
    let mut heads: Vec<_> = runs.map(|(run, namespace)| told(store, run, namespace).head).into();
    heads.sort_by_key(RunKey::of);
    assert_eq!(store.list(None, 100).unwrap(), heads);
    for limit in [1, 2] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(after.as_ref(), limit).unwrap();
            let Some(last) = page.last() else { break };
            after = Some(RunKey::of(last));
            found.extend(page);
        }
        assert_eq!(found, heads, "{limit} at a time");
    }
}

fn a_run_that_is_read_does_not_grow(store: &dyn RunStore) {
    let mut story = told(store, "run", 1);
    let before = written(&story.state);
    let run = StoredRun::open(store, &story.key()).unwrap().unwrap();
    let expected = story.head.counts.total();
    let entries = story.submit("meanwhile", json!(1));
    store.append(expected, story.head(), &entries).unwrap();
    assert_eq!(written(&run), before, "what is appended meanwhile is not in it");
}

fn of_two_writers_one_wins(store: &dyn RunStore) {
    const WRITERS: u64 = 4;
    const EACH: u64 = 25;
    let (story, entries) = Story::begin(&scenario("kept", 1_000_000), "race", 1);
    store.create(story.head(), &entries).unwrap();
    let (key, lost) = (story.key(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (key, lost, scenario) = (&key, &lost, &story.scenario);
            scope.spawn(move || {
                for turn in 0..EACH {
                    loop {
                        let head = store.head(key).unwrap().unwrap();
                        let expected = head.counts.total();
                        let mut mine = Story { scenario: scenario.clone(), state: head.empty_state(), head };
                        let entries = mine.decide(&format!("{writer}-{turn}"), 5);
                        match store.append(expected, mine.head(), &entries) {
                            Ok(()) => break,
                            Err(WriteError::Conflict { .. }) => lost.fetch_add(1, Ordering::Relaxed),
                            Err(other) => panic!("{other}"),
                        };
                    }
                }
            });
        }
    });
    let head = store.check(&key).unwrap();
    assert_eq!(head.counts.triggers, 1 + WRITERS * EACH, "every acknowledged trigger is there, once");
    for writer in 0..WRITERS {
        for turn in 0..EACH {
            let trigger = format!("{writer}-{turn}");
            let decided = store.decided(&key, Which::On(&trigger.as_str().into())).unwrap();
            assert!(decided.is_some_and(|(_, decided)| decided.is_some()), "{trigger} was acknowledged");
        }
    }
}

fn only_closed_runs_are_pruned(store: &dyn RunStore) {
    let mut story = told(store, "run", 1);
    let other = told(store, "other", 1);
    let key = story.key();
    assert_eq!(store.prune(&key), Err(WriteError::Active(key.run_id.clone())));
    let expected = story.head.counts.total();
    let entries = story.decide("end", 12);
    store.append(expected, story.head(), &entries).unwrap();
    assert_eq!(story.head.status, RunStatus::Completed);
    let pruned = store.prune(&key).unwrap();
    assert_eq!(pruned.entries, story.head.counts.total());
    assert_eq!(store.head(&key).unwrap(), None);
    let (fresh, entries) = Story::begin(&scenario("kept", 10), "run", 1);
    let again = store.create(fresh.head(), &entries);
    assert_eq!(again, Err(WriteError::Exists(key.run_id.clone())), "what was pruned is not begun anew");
    assert_eq!(store.prune(&key), Err(WriteError::NotFound(key.run_id)));
    assert_eq!(store.check(&other.key()).unwrap(), *other.head(), "other runs stay");
    assert_eq!(store.list(None, 10).unwrap(), vec![other.head().clone()]);
}

/// Every rule for scenarios, on a fresh store.
///
/// # Panics
/// Where a rule is broken.
pub fn scenarios_hold(store: &dyn ScenarioStore) {
    let (first, other) = (scenario("s", 10), scenario("s", 20));
    let (namespace, id) = (first.spec().namespace_id, first.spec().scenario_id.clone());
    assert!(store.scenario(namespace, &id).unwrap().is_none());
    assert_eq!(store.define(&first).unwrap(), Defined::New);
    assert_eq!(store.define(&first).unwrap(), Defined::Same);
    assert_eq!(store.define(&other).unwrap(), Defined::Other(first.digest()), "other words under the same id");
    let found = store.scenario(namespace, &id).unwrap().unwrap();
    assert_eq!((found.digest(), found.spec()), (first.digest(), first.spec()));
    assert!(store.scenario(NamespaceId::new(2).unwrap(), &id).unwrap().is_none(), "another namespace");
    assert!(store.retire(namespace, &id).unwrap());
    assert!(!store.retire(namespace, &id).unwrap(), "once is enough");
    assert!(store.scenario(namespace, &id).unwrap().is_none());
    assert!(store.scenario_of(&first.digest()).unwrap().is_some(), "what runs are bound to stays");
    assert_eq!(store.define(&other).unwrap(), Defined::New, "the id is free");
    let lines: Vec<_> = store.scenarios().unwrap().into_iter().map(|line| (line.spec_hash, line.retired)).collect();
    assert_eq!(lines, vec![(first.digest(), true), (other.digest(), false)]);
}

/// Every rule for data shapes. `fresh` makes a store and hands it over, once a
/// rule.
///
/// # Panics
/// Where a rule is broken.
pub fn shapes_hold(fresh: impl Fn(&dyn Fn(&dyn ShapeStore))) {
    fresh(&a_shape_is_kept_as_it_was_registered);
    fresh(&a_shape_never_changes);
    fresh(&shapes_come_in_order_of_their_bytes_page_by_page);
    fresh(&a_page_of_large_shapes_is_short);
    fresh(&no_more_shapes_than_allowed_are_kept);
    fresh(&of_two_that_register_one_is_told);
}

/// A data shape whose schema says `note`.
pub fn shape(tenant: u64, namespace: u64, id: &str, version: &str, note: &str) -> DataShapeRecord {
    DataShapeRecord {
        created_at: Timestamp::UnixMillis(-5),
        description: None,
        namespace_id: NamespaceId::new(namespace).unwrap(),
        schema: json!({ "type": "object", "description": note, "maximum": 1.5 }),
        schema_id: id.into(),
        signing: None,
        tenant_id: TenantId::new(tenant).unwrap(),
        version: version.to_owned(),
    }
}

/// All records of tenant 1 in namespace 1, in pages of at most `limit`.
fn all_shapes(store: &dyn ShapeStore, limit: usize) -> Vec<DataShapeRecord> {
    let (tenant, namespace) = (TenantId::new(1).unwrap(), NamespaceId::new(1).unwrap());
    let mut found: Vec<DataShapeRecord> = Vec::new();
    loop {
        let after = found.last().map(|last| (last.schema_id.clone(), last.version.clone()));
        let after = after.as_ref().map(|(id, version)| (id, version.as_str()));
        let ShapePage { records, more } = store.shapes(tenant, namespace, after, limit).unwrap();
        assert!(records.len() <= limit, "a page has no more records than were asked for");
        assert!(!more || !records.is_empty(), "what is said to come does come");
        found.extend(records);
        if !more {
            return found;
        }
    }
}

fn a_shape_is_kept_as_it_was_registered(store: &dyn ShapeStore) {
    let mut signed = shape(1, 1, "s", "2", "signed");
    signed.description = Some("what it is for".to_owned());
    signed.signing = Some(runpack_core::model::DataShapeSignature {
        algorithm: None,
        key_id: "k".to_owned(),
        signature: "\u{0}\"".to_owned(),
    });
    signed.schema = json!({ "ü": [null, true, -0.5, 9_007_199_254_740_991_i64, { "a": {} }] });
    let records = [shape(1, 1, "s", "1", ""), signed, shape(1, 2, "s", "1", "n"), shape(2, 1, "s", "1", "t")];
    for record in &records {
        assert_eq!(store.shape(&ShapeKey::of(record)).unwrap(), None);
        assert_eq!(store.register(record, None).unwrap(), Registered::New);
    }
    for record in &records {
        assert_eq!(store.shape(&ShapeKey::of(record)).unwrap().as_ref(), Some(record));
    }
    assert_eq!(store.shape(&ShapeKey::of(&shape(1, 1, "s", "3", ""))).unwrap(), None);
    assert_eq!(store.shape(&ShapeKey::of(&shape(2, 2, "s", "1", ""))).unwrap(), None);
    let count = |record: &DataShapeRecord| store.shape_count(record.tenant_id, record.namespace_id).unwrap();
    assert_eq!(records.each_ref().map(count), [2, 2, 1, 1]);
    assert_eq!(all_shapes(store, 10), records[..2], "of other tenants and namespaces none");
}

fn a_shape_never_changes(store: &dyn ShapeStore) {
    let first = shape(1, 1, "s", "1", "first");
    assert_eq!(store.register(&first, Some(5)).unwrap(), Registered::New);
    for other in [first.clone(), shape(1, 1, "s", "1", "other")] {
        assert_eq!(store.register(&other, Some(5)).unwrap(), Registered::Conflict);
    }
    assert_eq!(store.shape(&ShapeKey::of(&first)).unwrap(), Some(first.clone()));
    assert_eq!(store.shape_count(first.tenant_id, first.namespace_id).unwrap(), 1);
}

fn shapes_come_in_order_of_their_bytes_page_by_page(store: &dyn ShapeStore) {
    let names = [("ü", "1"), ("b", "10"), ("b", "9"), ("b", ""), ("", ""), ("", "x"), ("B", "1"), ("ba", "1")];
    let mut expected: Vec<_> = names.iter().map(|(id, version)| shape(1, 1, id, version, "")).collect();
    for record in &expected {
        assert_eq!(store.register(record, None).unwrap(), Registered::New);
        store.register(&shape(1, 2, record.schema_id.as_str(), "0", ""), None).unwrap();
    }
    expected.sort_by_key(ShapeKey::of);
    for limit in [1, 2, 3, names.len() - 1, names.len(), usize::MAX] {
        assert_eq!(all_shapes(store, limit), expected, "{limit} at a time");
    }
    let (tenant, namespace) = (expected[0].tenant_id, expected[0].namespace_id);
    let between = SchemaId::from("b");
    let page = store.shapes(tenant, namespace, Some((&between, "2")), 1).unwrap();
    assert_eq!(page.records[0].version, "9", "a key that is not there has a place all the same");
    assert!(page.more);
    let end = SchemaId::from("\u{10ffff}");
    assert_eq!(store.shapes(tenant, namespace, Some((&end, "")), 5).unwrap(), ShapePage::default());
    let nobody = TenantId::new(9).unwrap();
    assert_eq!(store.shapes(nobody, namespace, None, 5).unwrap(), ShapePage::default());
    assert_eq!(store.shape_count(nobody, namespace).unwrap(), 0);
}

fn a_page_of_large_shapes_is_short(store: &dyn ShapeStore) {
    let large = "much ".repeat(SHAPES_PAGE_BYTES_MAX / 5 / 3);
    for version in ["1", "2", "3", "4"] {
        let registered = store.register(&shape(1, 1, "large", version, &large), None).unwrap();
        assert_eq!(registered, Registered::New);
    }
    let (tenant, namespace) = (TenantId::new(1).unwrap(), NamespaceId::new(1).unwrap());
    let page = store.shapes(tenant, namespace, None, SHAPES_PAGE_MAX).unwrap();
    assert_eq!((page.records.len(), page.more), (2, true), "three are more than a page holds");
    assert_eq!(all_shapes(store, SHAPES_PAGE_MAX).len(), 4);
}

fn no_more_shapes_than_allowed_are_kept(store: &dyn ShapeStore) {
    let (one, two, three) = (shape(1, 1, "s", "1", ""), shape(1, 1, "s", "2", ""), shape(1, 1, "s", "3", ""));
    assert_eq!(store.register(&one, Some(0)).unwrap(), Registered::Full);
    assert_eq!(store.register(&one, Some(2)).unwrap(), Registered::New);
    assert_eq!(store.register(&two, Some(2)).unwrap(), Registered::New);
    assert_eq!(store.register(&three, Some(2)).unwrap(), Registered::Full);
    assert_eq!(store.register(&two, Some(2)).unwrap(), Registered::Full, "whatever it is");
    assert_eq!(store.register(&shape(1, 2, "s", "1", ""), Some(2)).unwrap(), Registered::New, "another namespace");
    assert_eq!(store.register(&shape(2, 1, "s", "1", ""), Some(2)).unwrap(), Registered::New, "another tenant");
    assert_eq!(store.register(&three, Some(3)).unwrap(), Registered::New, "more are allowed now");
    assert_eq!(store.register(&shape(1, 1, "s", "4", ""), Some(1)).unwrap(), Registered::Full);
    assert_eq!(store.shape_count(one.tenant_id, one.namespace_id).unwrap(), 3);
}

fn of_two_that_register_one_is_told(store: &dyn ShapeStore) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 10;
    const MOST: u64 = 25;
    let told = [const { AtomicU64::new(0) }; 3];
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let told = &told;
            scope.spawn(move || {
                for turn in 0..EACH {
                    // Every second is of a name that all of them want.
                    let name = if turn % 2 == 0 { format!("{writer}-{turn}") } else { format!("{turn}") };
                    let record = shape(1, 1, &name, "1", &format!("of {writer}"));
                    let registered = store.register(&record, Some(MOST)).unwrap();
                    let column = match registered {
                        Registered::New => 0,
                        Registered::Conflict => 1,
                        Registered::Full => 2,
                    };
                    told[column].fetch_add(1, Ordering::Relaxed);
                    let found = store.shape(&ShapeKey::of(&record)).unwrap();
                    match registered {
                        Registered::New => assert_eq!(found, Some(record), "what was acknowledged is there"),
                        Registered::Conflict => assert!(found.is_some()),
                        Registered::Full => {}
                    }
                }
            });
        }
    });
    let [new, conflict, full] = told.map(AtomicU64::into_inner);
    assert_eq!((new, new + conflict + full), (MOST, WRITERS * EACH), "as many as were allowed, and not one more");
    assert_eq!(all_shapes(store, SHAPES_PAGE_MAX).len() as u64, MOST);
}

/// Every rule for deliveries. `fresh` makes a store with an outbox and hands it
/// over, once a rule.
///
/// # Panics
/// Where a rule is broken.
pub fn outbox_holds(fresh: impl Fn(&dyn Fn(&dyn Outbox))) {
    fresh(&every_receipt_is_queued_with_its_packet);
    fresh(&what_was_not_written_is_not_queued);
    fresh(&what_is_taken_is_nobody_elses_until_the_lease_runs_out);
    fresh(&what_was_delivered_is_not_taken_again);
    fresh(&what_failed_is_taken_again_when_it_is_due_or_never);
    fresh(&what_is_put_back_was_not_tried);
    fresh(&a_run_goes_with_its_deliveries_and_not_before_they_are_closed);
    fresh(&a_delivery_log_comes_page_by_page);
    fresh(&of_many_that_take_each_has_others);
}

/// So many targets.
pub fn targets(count: usize) -> Vec<DispatchTarget> {
    (0..count).map(|n| DispatchTarget::Agent { agent_id: format!("agent-{n}").as_str().into() }).collect()
}

/// A run with so many targets, begun in `store`; its first packet is queued for
/// each.
fn queued(store: &dyn Outbox, run: &str, count: usize) -> Story {
    let (story, entries) = Story::begin_for(&scenario("kept", 10), run, 1, targets(count));
    store.create(story.head(), &entries).unwrap();
    story
}

fn terms(now_ms: u64, holder: &str) -> LeaseTerms<'_> {
    LeaseTerms { now_ms, for_ms: 100, limit: 100, attempts_max: 3, holder }
}

fn ids(leased: &[Leased]) -> BTreeSet<String> {
    leased.iter().map(|leased| leased.lease.id.to_string()).collect()
}

fn outcomes(store: &dyn Outbox, key: &RunKey) -> Vec<(u64, DeliveryOutcome)> {
    let records = store.delivery_log(key, 0, usize::MAX).unwrap().records;
    records.iter().map(|record| (record.attempt, record.outcome)).collect()
}

fn every_receipt_is_queued_with_its_packet(store: &dyn Outbox) {
    let mut story = queued(store, "run", 2);
    assert_eq!(store.undelivered().unwrap(), 2, "what a run begins with");
    let expected = story.head.counts.total();
    let entries = story.decide("a", 11);
    store.append(expected, story.head(), &entries).unwrap();
    let expected = story.head.counts.total();
    let submitted = story.submit("no packet", json!(1));
    store.append(expected, story.head(), &submitted).unwrap();
    let leased = store.lease(&terms(0, "h")).unwrap();
    let found: Vec<_> = leased.iter().map(|it| (&it.packet, &it.target, &it.key)).collect();
    let (state, key) = (&story.state, story.key());
    let receipts = |packet| {
        let packet: &runpack_core::model::PacketRecord = packet;
        packet.receipts.iter().map(|receipt| (packet.clone(), receipt.target.clone())).collect::<Vec<_>>()
    };
    let wanted: Vec<_> = state.packets.iter().flat_map(receipts).collect();
    let wanted: Vec<_> = wanted.iter().map(|(packet, target)| (packet, target, &key)).collect();
    assert_eq!((found, wanted.len()), (wanted, 6), "each receipt of each packet, in the order issued");
    assert_eq!(ids(&leased).len(), 6, "each has an id of its own");
    queued(store, "other", 2);
    let other = store.lease(&terms(0, "h")).unwrap();
    assert!(ids(&other).is_disjoint(&ids(&leased)), "also of other runs");
    queued(store, "for nobody", 0);
    assert_eq!(store.undelivered().unwrap(), 8);
}

fn what_was_not_written_is_not_queued(store: &dyn Outbox) {
    let mut story = queued(store, "run", 1);
    let (again, entries) = Story::begin_for(&scenario("kept", 10), "run", 1, targets(3));
    assert!(store.create(again.head(), &entries).is_err());
    let expected = story.head.counts.total();
    let entries = story.decide("a", 11);
    let mut late = story.head().clone();
    late.counts.tool_calls += 1;
    assert!(matches!(store.append(expected + 1, &late, &entries), Err(WriteError::Conflict { .. })));
    assert_eq!(store.undelivered().unwrap(), 1);
}

fn what_is_taken_is_nobody_elses_until_the_lease_runs_out(store: &dyn Outbox) {
    let story = queued(store, "run", 3);
    let two = LeaseTerms { limit: 2, ..terms(1_000, "one") };
    let first = store.lease(&two).unwrap();
    assert_eq!(first.len(), 2);
    assert!(first.iter().all(|leased| leased.lease.attempt == 1 && leased.lease.holder == "one"));
    let second = store.lease(&terms(1_000, "two")).unwrap();
    assert_eq!(second.len(), 1);
    assert!(ids(&second).is_disjoint(&ids(&first)));
    assert!(store.lease(&terms(1_099, "two")).unwrap().is_empty(), "until then");
    let taken = store.lease(&terms(1_100, "two")).unwrap();
    assert_eq!((taken.len(), ids(&taken)), (3, &ids(&first) | &ids(&second)));
    assert!(taken.iter().all(|leased| leased.lease.attempt == 2));
    assert_eq!(store.delivered(&first[0].lease, 1_101, "late").unwrap(), Settled::Superseded, "another has it");
    assert_eq!(store.failed(&first[1].lease, 1_101, "late", None).unwrap(), Settled::Superseded);
    assert_eq!(store.put_back(&second[0].lease, 0).unwrap(), Settled::Superseded, "even under the same name");
    assert_eq!(outcomes(store, &story.key()), [(1, DeliveryOutcome::Lost); 3]);
    // Late, and nobody else had it meanwhile.
    assert_eq!(store.delivered(&taken[0].lease, 9_999, "late").unwrap(), Settled::Recorded);
    assert_eq!(store.lease(&terms(20_000, "one")).unwrap().len(), 2, "the third and last attempt");
    assert!(store.lease(&terms(30_000, "one")).unwrap().is_empty(), "tried often enough");
    assert_eq!(store.undelivered().unwrap(), 0);
    let dead = outcomes(store, &story.key()).into_iter().filter(|said| *said == (3, DeliveryOutcome::Dead)).count();
    assert_eq!(dead, 2);
}

fn what_was_delivered_is_not_taken_again(store: &dyn Outbox) {
    let story = queued(store, "run", 1);
    let leased = store.lease(&terms(5, "h")).unwrap().remove(0);
    assert_eq!(store.delivered(&leased.lease, 7, "taken by all").unwrap(), Settled::Recorded);
    assert_eq!(store.delivered(&leased.lease, 8, "again").unwrap(), Settled::Superseded);
    assert_eq!(store.failed(&leased.lease, 8, "again", Some(0)).unwrap(), Settled::Superseded);
    assert!(store.lease(&terms(u64::MAX, "h")).unwrap().is_empty());
    let DeliveryPage { records, .. } = store.delivery_log(&story.key(), 0, 10).unwrap();
    let expected = DeliveryRecord {
        at_ms: 7,
        attempt: 1,
        delivery_id: leased.lease.id.to_string(),
        detail: "taken by all".to_owned(),
        holder: Some("h".to_owned()),
        outcome: DeliveryOutcome::Delivered,
        packet_id: leased.packet.envelope.packet_id,
        target: leased.target,
    };
    assert_eq!(records, [expected]);
}

fn what_failed_is_taken_again_when_it_is_due_or_never(store: &dyn Outbox) {
    let story = queued(store, "run", 2);
    let leased = store.lease(&terms(0, "h")).unwrap();
    assert_eq!(store.failed(&leased[0].lease, 1, "no answer", Some(50)).unwrap(), Settled::Recorded);
    assert_eq!(store.failed(&leased[1].lease, 2, &"long ".repeat(1_000), None).unwrap(), Settled::Recorded);
    assert_eq!(store.undelivered().unwrap(), 1);
    assert!(store.lease(&terms(49, "h")).unwrap().is_empty());
    let again = store.lease(&terms(50, "h")).unwrap();
    assert_eq!((again.len(), again[0].lease.id, again[0].lease.attempt), (1, leased[0].lease.id, 2));
    assert_eq!(store.delivered(&again[0].lease, 51, "").unwrap(), Settled::Recorded);
    use DeliveryOutcome::{Dead, Delivered, Failed};
    assert_eq!(outcomes(store, &story.key()), [(1, Failed), (1, Dead), (2, Delivered)]);
    let records = store.delivery_log(&story.key(), 0, 10).unwrap().records;
    assert_eq!(records[0].detail, "no answer");
    assert!(records[1].detail.len() < 2_000, "what others say is not kept at any length");
}

fn what_is_put_back_was_not_tried(store: &dyn Outbox) {
    let story = queued(store, "run", 1);
    for round in 0..10 {
        let leased = store.lease(&terms(round * 10, "h")).unwrap();
        assert_eq!((leased.len(), leased[0].lease.attempt), (1, 1));
        assert_eq!(store.put_back(&leased[0].lease, round * 10 + 10).unwrap(), Settled::Recorded);
        assert_eq!(store.put_back(&leased[0].lease, 0).unwrap(), Settled::Superseded);
        assert!(store.lease(&terms(round * 10 + 9, "h")).unwrap().is_empty());
    }
    assert_eq!(outcomes(store, &story.key()), []);
}

fn a_run_goes_with_its_deliveries_and_not_before_they_are_closed(store: &dyn Outbox) {
    let mut story = queued(store, "run", 1);
    let other = queued(store, "other", 1);
    for (trigger, time) in [("a", 11), ("b", 12)] {
        let expected = story.head.counts.total();
        let entries = story.decide(trigger, time);
        store.append(expected, story.head(), &entries).unwrap();
    }
    let key = story.key();
    let leased = store.lease(&terms(0, "h")).unwrap();
    let mine: Vec<_> = leased.iter().filter(|leased| leased.key == key).collect();
    assert_eq!(mine.len(), 3);
    store.delivered(&mine[0].lease, 1, "").unwrap();
    let refused = store.prune(&key);
    assert_eq!(refused, Err(WriteError::Undelivered { run: key.run_id.clone(), open: 2 }));
    assert_eq!(store.check(&key).unwrap(), *story.head(), "nothing was removed");
    assert_eq!(store.abandon(&key, 9, "nobody is there").unwrap(), 2);
    assert_eq!(store.abandon(&key, 9, "nobody is there").unwrap(), 0);
    assert_eq!(store.delivered(&mine[1].lease, 10, "").unwrap(), Settled::Superseded, "it was given up");
    let records = store.delivery_log(&key, 0, 10).unwrap().records;
    assert_eq!(records.iter().filter(|record| record.detail == "nobody is there").count(), 2);
    store.prune(&key).unwrap();
    assert_eq!(store.delivery_log(&key, 0, 10).unwrap(), DeliveryPage::default());
    assert_eq!(store.abandon(&key, 9, ""), Err(WriteError::NotFound(key.run_id)));
    assert_eq!(store.undelivered().unwrap(), 1, "that of the other run");
    let again = store.lease(&terms(1_000, "h")).unwrap();
    assert_eq!((again.len(), &again[0].key), (1, &other.key()));
}

fn a_delivery_log_comes_page_by_page(store: &dyn Outbox) {
    let (story, other) = (queued(store, "run", 5), queued(store, "other", 1));
    for leased in store.lease(&terms(0, "h")).unwrap() {
        store.delivered(&leased.lease, 1, &leased.lease.id.to_string()).unwrap();
    }
    let all = store.delivery_log(&story.key(), 0, usize::MAX).unwrap().records;
    assert_eq!(all.len(), 5);
    for limit in [1, 2, 5, 6] {
        let (mut found, mut after) = (Vec::new(), 0);
        loop {
            let DeliveryPage { records, end } = store.delivery_log(&story.key(), after, limit).unwrap();
            assert!(records.len() <= limit);
            if records.is_empty() {
                break;
            }
            found.extend(records);
            after = end;
        }
        assert_eq!(found, all, "{limit} at a time");
    }
    assert_eq!(store.delivery_log(&other.key(), 0, 10).unwrap().records.len(), 1);
}

fn of_many_that_take_each_has_others(store: &dyn Outbox) {
    const TAKERS: u64 = 6;
    const RUNS: usize = 12;
    for run in 0..RUNS {
        queued(store, &format!("run-{run}"), 5);
    }
    // What is somebody's at the moment, and what was delivered.
    let (held, done) = (Mutex::new(BTreeSet::new()), Mutex::new(BTreeSet::new()));
    std::thread::scope(|scope| {
        for taker in 0..TAKERS {
            let (held, done) = (&held, &done);
            scope.spawn(move || {
                let holder = format!("taker-{taker}");
                while store.undelivered().unwrap() > 0 {
                    // Nothing runs out meanwhile.
                    let terms = LeaseTerms { limit: 3, for_ms: u64::MAX, ..terms(1, &holder) };
                    for leased in store.lease(&terms).unwrap() {
                        let id = leased.lease.id.to_string();
                        assert!(held.lock().unwrap().insert(id.clone()), "{id} is another's");
                        std::thread::yield_now();
                        assert!(held.lock().unwrap().remove(&id));
                        // Some are only delivered the second time.
                        if leased.lease.attempt == 1 && leased.lease.id.as_bytes()[0].is_multiple_of(3) {
                            assert_eq!(store.failed(&leased.lease, 1, "", Some(0)).unwrap(), Settled::Recorded);
                        } else {
                            assert_eq!(store.delivered(&leased.lease, 1, "").unwrap(), Settled::Recorded);
                            assert!(done.lock().unwrap().insert(id), "delivered once");
                        }
                    }
                }
            });
        }
    });
    assert_eq!(done.into_inner().unwrap().len(), RUNS * 5);
}
