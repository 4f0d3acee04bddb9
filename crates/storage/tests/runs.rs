//! Every run store holds the same rules; what only a file can be asked follows.

#![cfg(all(unix, feature = "sqlite"))]
#![allow(clippy::unwrap_used)]

#[path = "../../../testdata/inputs.rs"]
mod inputs;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use runpack_core::canon::{Digest, to_vec};
use runpack_core::engine::{Entry, Head};
use runpack_core::model::{
    DataShapeRecord, DataShapeSignature, NamespaceId, PacketId, RunState, RunStatus, SchemaId, SubmissionId,
    SubmissionRecord, TenantId,
};
use runpack_core::pack::layout::Log;
use runpack_storage::runs::sqlite::{ImportError, JournalMode, OpenError, SqliteOptions, SqliteRuns, SyncMode, import};
use runpack_storage::runs::suite::{self, Story};
use runpack_storage::runs::{
    AtHead, Decided, DeliveryPage, Lease, LeaseTerms, Leased, MemoryRuns, Outbox, Page, Pruned, ReadError, Registered,
    RunKey, RunStore, ScenarioStore, Settled, ShapeKey, ShapePage, ShapeStore, StoreFault, StoredRun, Which,
    WriteError,
};
use rusqlite::Connection;
use serde_json::json;

#[test]
fn memory_keeps_the_rules() {
    suite::holds(|rule| rule(&MemoryRuns::default()));
    suite::scenarios_hold(&MemoryRuns::default());
    suite::shapes_hold(|rule| rule(&MemoryRuns::default()));
    suite::holds(|rule| rule(&MemoryRuns::default().with_outbox()));
    suite::outbox_holds(|rule| rule(&MemoryRuns::default().with_outbox()));
}

#[test]
fn sqlite_keeps_the_rules() {
    for (journal, sync) in [
        (JournalMode::Wal, SyncMode::Full),
        (JournalMode::Delete, SyncMode::Normal),
        (JournalMode::Wal, SyncMode::Normal),
    ] {
        let options = SqliteOptions { journal, sync, ..SqliteOptions::default() };
        let open = |dir: &Path| SqliteRuns::open(&dir.join("store.db"), &options).unwrap();
        suite::holds(|rule| {
            let dir = tempfile::tempdir().unwrap();
            let store = open(dir.path());
            rule(&store);
            assert_eq!(store.verify().unwrap().damage, Vec::new(), "after every rule the store is whole");
        });
        suite::shapes_hold(|rule| {
            let dir = tempfile::tempdir().unwrap();
            let store = open(dir.path());
            rule(&store);
            assert_eq!(store.verify().unwrap().damage, Vec::new(), "after every rule the store is whole");
        });
        suite::outbox_holds(|rule| {
            let dir = tempfile::tempdir().unwrap();
            let store = open(dir.path()).with_outbox();
            rule(&store);
            assert_eq!(store.verify().unwrap().damage, Vec::new(), "after every rule the store is whole");
        });
        let dir = tempfile::tempdir().unwrap();
        suite::scenarios_hold(&open(dir.path()));
    }
}

/// Two stores on one file stand for two processes: each has a writer.
#[test]
fn two_processes_keep_the_rules_on_one_file() {
    fn pair(dir: &Path) -> Pair {
        let open = || SqliteRuns::open(&dir.join("store.db"), &SqliteOptions::default()).unwrap().with_outbox();
        Pair(open(), open(), AtomicUsize::new(0))
    }
    suite::holds(|rule| rule(&pair(tempfile::tempdir().unwrap().path())));
    suite::shapes_hold(|rule| rule(&pair(tempfile::tempdir().unwrap().path())));
    suite::outbox_holds(|rule| rule(&pair(tempfile::tempdir().unwrap().path())));
}

/// Asks one and the other in turn.
struct Pair(SqliteRuns, SqliteRuns, AtomicUsize);

impl Pair {
    fn next(&self) -> &SqliteRuns {
        if self.2.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { &self.0 } else { &self.1 }
    }
}

macro_rules! in_turn {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&self, $($arg: $type),*) -> $answer { self.next().$name($($arg),*) })*
    };
}

impl RunStore for Pair {
    in_turn! {
        create(head: &Head, entries: &[Entry]) -> Result<(), WriteError>;
        append(expected: u64, head: &Head, entries: &[Entry]) -> Result<(), WriteError>;
        head(key: &RunKey) -> Result<Option<Head>, ReadError>;
        decided(key: &RunKey, which: Which<'_>) -> AtHead<Option<Decided>>;
        standing(key: &RunKey) -> AtHead<(Option<Decided>, Vec<PacketId>)>;
        submission(key: &RunKey, id: &SubmissionId) -> AtHead<Option<SubmissionRecord>>;
        page(key: &RunKey, log: Log, after: u64, limit: usize) -> Result<Page, ReadError>;
        list(after: Option<&RunKey>, limit: usize) -> Result<Vec<Head>, ReadError>;
        check(key: &RunKey) -> Result<Head, ReadError>;
        prune(key: &RunKey) -> Result<Pruned, WriteError>;
        ready() -> Result<(), StoreFault>;
    }
}

impl Outbox for Pair {
    in_turn! {
        lease(terms: &LeaseTerms<'_>) -> Result<Vec<Leased>, WriteError>;
        delivered(lease: &Lease, now_ms: u64, told: &str) -> Result<Settled, WriteError>;
        failed(lease: &Lease, now_ms: u64, why: &str, again_at_ms: Option<u64>) -> Result<Settled, WriteError>;
        put_back(lease: &Lease, again_at_ms: u64) -> Result<Settled, WriteError>;
        abandon(key: &RunKey, now_ms: u64, why: &str) -> Result<u64, WriteError>;
        delivery_log(key: &RunKey, after: u64, limit: usize) -> Result<DeliveryPage, ReadError>;
        undelivered() -> Result<u64, ReadError>;
    }
}

impl ShapeStore for Pair {
    in_turn! {
        register(record: &DataShapeRecord, entries_max: Option<u64>) -> Result<Registered, WriteError>;
        shape(key: &ShapeKey) -> Result<Option<DataShapeRecord>, ReadError>;
        shapes(
            tenant: TenantId,
            namespace: NamespaceId,
            after: Option<(&SchemaId, &str)>,
            limit: usize
        ) -> Result<ShapePage, ReadError>;
        shape_count(tenant: TenantId, namespace: NamespaceId) -> Result<u64, ReadError>;
    }
}

/// A run of a few triggers in a new store, and some data shapes.
fn stored(dir: &Path, options: &SqliteOptions) -> (SqliteRuns, Story) {
    let store = SqliteRuns::open(&dir.join("store.db"), options).unwrap();
    let scenario = suite::scenario("kept", 10);
    store.define(&scenario).unwrap();
    for record in shapes() {
        store.register(&record, None).unwrap();
    }
    let (mut story, entries) = Story::begin(&scenario, "run", 1);
    store.create(story.head(), &entries).unwrap();
    for (trigger, time) in [("a", 5), ("b", 11), ("c", 12)] {
        let expected = story.head().counts.total();
        let entries = story.decide(trigger, time);
        store.append(expected, story.head(), &entries).unwrap();
        let expected = story.head().counts.total();
        let entries = story.submit(&format!("with {trigger}"), json!({ "time": time }));
        store.append(expected, story.head(), &entries).unwrap();
    }
    (store, story)
}

/// A run of so many entries that the places of all are written down.
fn crowd(store: &SqliteRuns, run: &str) {
    let (mut story, mut entries) = Story::begin(&suite::scenario("kept", 10), run, 1);
    (0..1_100).for_each(|n| entries.extend(story.submit(&n.to_string(), json!(n))));
    store.create(story.head(), &entries).unwrap();
}

fn shapes() -> [DataShapeRecord; 3] {
    [("s", "1"), ("r", "1"), ("s", "2")].map(|(id, version)| suite::shape(1, 1, id, version, "kept"))
}

fn pages(store: &dyn RunStore, key: &RunKey) -> Vec<Vec<u8>> {
    let logs = [Log::Triggers, Log::GateEvals, Log::Decisions, Log::Packets, Log::Submissions, Log::ToolCalls];
    logs.into_iter().flat_map(|log| store.page(key, log, 0, 1_000).unwrap().entries).collect()
}

#[test]
fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, story) = stored(dir.path(), &SqliteOptions::default());
    let before = pages(&store, &story.key());
    drop(store);
    let store = SqliteRuns::open(&dir.path().join("store.db"), &SqliteOptions::default()).unwrap();
    assert_eq!(store.check(&story.key()).unwrap(), *story.head());
    assert_eq!(pages(&store, &story.key()), before);
    let scenario = suite::scenario("kept", 10);
    let found = store.scenario(scenario.spec().namespace_id, &scenario.spec().scenario_id).unwrap().unwrap();
    assert_eq!(found.digest(), scenario.digest());
    for record in shapes() {
        assert_eq!(store.shape(&ShapeKey::of(&record)).unwrap(), Some(record));
    }
    let [known, ..] = shapes();
    assert_eq!(store.register(&suite::shape(1, 1, "s", "3", ""), Some(3)).unwrap(), Registered::Full);
    assert_eq!(store.register(&known, None).unwrap(), Registered::Conflict);
}

/// Changes a store behind our back, guards and all.
fn tamper(path: &Path, sql: &str) -> usize {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'").unwrap();
    let guards: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    for guard in guards {
        connection.execute_batch(&format!("DROP TRIGGER {guard}")).unwrap();
    }
    connection.execute(sql, []).unwrap()
}

#[test]
fn every_change_of_a_row_is_found() {
    let edit = |column: &str, byte: usize| {
        format!("{column} = CAST(substr({column}, 1, {byte}) || '~' || substr({column}, {byte} + 2) AS BLOB)")
    };
    let mut lies: Vec<String> = Vec::new();
    for seq in [1, 2, 3, 7, 12] {
        lies.push(format!("DELETE FROM entries WHERE run = 1 AND seq = {seq}"));
        for byte in [0, 1, 20, 60] {
            lies.push(format!("UPDATE entries SET {} WHERE run = 1 AND seq = {seq}", edit("body", byte)));
        }
        lies.push(format!("UPDATE entries SET digest = zeroblob(32) WHERE run = 1 AND seq = {seq}"));
        lies.push(format!("UPDATE entries SET previous = zeroblob(32) WHERE run = 1 AND seq = {seq}"));
        lies.push(format!("UPDATE entries SET subject = 'other' WHERE run = 1 AND seq = {seq}"));
        lies.push(format!("UPDATE entries SET seq = seq + 100000 WHERE run = 1 AND seq = {seq}"));
    }
    lies.push("DELETE FROM entries WHERE entry = (SELECT max(entry) FROM entries WHERE run = 1)".to_owned());
    lies.push("UPDATE entries SET log = 4 WHERE run = 1 AND log = 1 AND seq = 1".to_owned());
    lies.push("UPDATE entries SET run = run + 7 WHERE run = 1 AND seq = 3".to_owned());
    lies.push("DELETE FROM heads".to_owned());
    lies.push("UPDATE heads SET digest = zeroblob(32)".to_owned());
    lies.push("UPDATE heads SET seq = seq - 1".to_owned());
    lies.push("UPDATE heads SET decided = 0".to_owned());
    lies.push("UPDATE heads SET last = zeroblob(32)".to_owned());
    // Entries that are there twice, or under numbers that no entry of a run has.
    for (seq, log) in [("seq", 1), ("seq + 100000", 1), ("0", 1), ("-1", 1), ("seq + 100000", 5)] {
        lies.push(format!(
            "INSERT INTO entries (run, seq, log, subject, previous, digest, body) \
             SELECT run, {seq}, log, NULL, previous, digest, body FROM entries WHERE run = 1 AND log = {log} LIMIT 1"
        ));
    }
    // Two that changed places in time.
    lies.push("UPDATE entries SET entry = 100009 - seq WHERE run = 1".to_owned());
    lies.push("UPDATE entries SET entry = entry + 100000 WHERE log = 3".to_owned());
    lies.push("UPDATE runs SET run = run + (1 << 27)".to_owned());
    lies.push("UPDATE runs SET run = -1 WHERE run = 1".to_owned());
    for byte in [0, 12, 60, 150] {
        lies.push(format!("UPDATE heads SET {}", edit("body", byte)));
        lies.push(format!("UPDATE runs SET {}", edit("origin", byte)));
        lies.push(format!("UPDATE scenarios SET {}", edit("spec", byte)));
    }
    for byte in [0, 1, 40, 100] {
        lies.push(format!("UPDATE shapes SET {} WHERE n = 2", edit("body", byte)));
    }
    for change in [
        "digest = zeroblob(32)",
        "previous = zeroblob(32)",
        "schema_id = 'other'",
        "version = '7'",
        "tenant_id = 7",
        "namespace_id = 7",
        "n = 9",
    ] {
        lies.push(format!("UPDATE shapes SET {change} WHERE n = 3"));
    }
    lies.push("DELETE FROM shapes WHERE n = 1".to_owned());
    lies.push("DELETE FROM shapes WHERE n = 2".to_owned());
    lies.push("UPDATE runs SET run_id = 'other' WHERE run = 1".to_owned());
    lies.push("UPDATE runs SET tenant_id = 0".to_owned());
    lies.push("UPDATE scenarios SET spec_hash = zeroblob(32)".to_owned());
    lies.push("DELETE FROM runs".to_owned());
    lies.push("UPDATE store SET pruning = 1".to_owned());
    for placed in [false, true] {
        every_lie_is_found(&lies, placed);
    }
    let places = [
        "DELETE FROM places WHERE place & 68719476735 = 3",
        "DELETE FROM places WHERE entry = (SELECT max(entry) FROM entries WHERE run = 1)",
        "UPDATE places SET entry = entry + 1 WHERE place & 68719476735 = 3",
        "UPDATE places SET log = 6 WHERE log = 1",
        "UPDATE places SET place = place + (1 << 40) WHERE place & 68719476735 = 3",
        "UPDATE places SET place = place - 3 WHERE place & 68719476735 = 3",
        "UPDATE store SET placed = 0",
        "UPDATE store SET placed = 7",
    ];
    every_lie_is_found(&places.map(str::to_owned), true);
}

/// Neither `verify` nor who would make a pack of the run is told any of these,
/// whether the places of its entries are written down or not.
fn every_lie_is_found(lies: &[String], placed: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (store, story) = stored(dir.path(), &SqliteOptions::default());
    if placed {
        crowd(&store, "crowd");
    }
    drop(store);
    let honest = fs::read(dir.path().join("store.db")).unwrap();
    let path = dir.path().join("lie.db");
    for lie in lies {
        fs::write(&path, &honest).unwrap();
        assert!(tamper(&path, lie) > 0, "{lie} changes something");
        let store = SqliteRuns::open_reading(&path).unwrap();
        assert!(!store.verify().unwrap().damage.is_empty(), "{lie} passes");
        let elsewhere = ["UPDATE scenarios", "UPDATE store", "UPDATE shapes", "DELETE FROM shapes"];
        let of_the_run = !elsewhere.iter().any(|start| lie.starts_with(start));
        if of_the_run {
            let opened = StoredRun::open(&store, &story.key());
            assert!(!matches!(opened, Ok(Some(_))), "{lie}: a pack would be made of it");
        }
    }
}

/// What was changed is not given out, and neither is a page with it.
#[test]
fn a_data_shape_that_was_changed_is_not_given_out() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = stored(dir.path(), &SqliteOptions::default());
    drop(store);
    let path = dir.path().join("store.db");
    tamper(
        &path,
        "UPDATE shapes SET body = CAST(replace(CAST(body AS TEXT), 'kept', 'lost') AS BLOB) WHERE version = '2'",
    );
    let store = SqliteRuns::open_reading(&path).unwrap();
    let [one, _, two] = shapes();
    let error = store.shape(&ShapeKey::of(&two)).unwrap_err().to_string();
    assert!(error.contains("data shape s 2 (tenant 1, namespace 1): it is not what its digest says"), "{error}");
    assert!(matches!(store.shapes(one.tenant_id, one.namespace_id, None, 10), Err(ReadError::Damaged(_))));
    assert_eq!(store.shape(&ShapeKey::of(&one)).unwrap(), Some(one));
}

/// A record and its digest made to fit each other: the one after shows it.
#[test]
fn a_data_shape_that_was_changed_with_its_digest_breaks_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = stored(dir.path(), &SqliteOptions::default());
    drop(store);
    let path = dir.path().join("store.db");
    let bytes = |column: &str| -> Vec<u8> {
        let sql = format!("SELECT {column} FROM shapes WHERE n = 2");
        Connection::open(&path).unwrap().query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    let body = String::from_utf8(bytes("body")).unwrap().replace("kept", "lost");
    let digest = Digest::of(&[bytes("previous"), body.clone().into_bytes()].concat());
    tamper(&path, &format!("UPDATE shapes SET body = CAST('{body}' AS BLOB), digest = x'{digest}' WHERE n = 2"));
    let store = SqliteRuns::open_reading(&path).unwrap();
    let [_, changed, _] = shapes();
    assert!(store.shape(&ShapeKey::of(&changed)).unwrap().is_some(), "alone it looks whole");
    let damage = store.verify().unwrap().damage;
    assert_eq!(damage.len(), 1);
    assert_eq!(damage[0].problem, "it does not follow the one before");
}

/// A run of three packets for two targets each: of the first one arrived and one
/// failed, and of the second one was given up.
fn posted(dir: &Path) -> (SqliteRuns, Story) {
    let store = SqliteRuns::open(&dir.join("store.db"), &SqliteOptions::default()).unwrap().with_outbox();
    let (mut story, entries) = Story::begin_for(&suite::scenario("kept", 10), "run", 1, suite::targets(2));
    store.create(story.head(), &entries).unwrap();
    let expected = story.head().counts.total();
    let entries = story.decide("a", 11);
    store.append(expected, story.head(), &entries).unwrap();
    let terms = LeaseTerms { now_ms: 1, for_ms: 10, limit: 4, attempts_max: 3, holder: "h" };
    let leased = store.lease(&terms).unwrap();
    store.delivered(&leased[0].lease, 2, "callback answered 200").unwrap();
    store.failed(&leased[1].lease, 3, "no answer", Some(100)).unwrap();
    store.failed(&leased[2].lease, 4, "callback answered 400", None).unwrap();
    (store, story)
}

#[test]
fn every_change_of_a_delivery_is_found() {
    let edit = |column: &str, byte: usize| {
        format!("{column} = CAST(substr({column}, 1, {byte}) || '~' || substr({column}, {byte} + 2) AS BLOB)")
    };
    let mut lies: Vec<String> = Vec::new();
    for change in [
        "run = run + 1",
        "seq = seq + 1000",
        "seq = 1",
        "receipt = receipt + 2",
        "id = zeroblob(32)",
        "about = (SELECT about FROM outbox WHERE delivery = 4)",
        "about = x'00'",
        "delivery = 77",
    ] {
        lies.extend([1, 3].map(|delivery| format!("UPDATE outbox SET {change} WHERE delivery = {delivery}")));
    }
    // Where one stands must be as its log says.
    lies.extend(
        ["UPDATE outbox SET state = 0 WHERE delivery = 1", "UPDATE outbox SET state = 2 WHERE delivery = 1"]
            .map(str::to_owned),
    );
    lies.extend([2, 3, 4, 6].map(|delivery| format!("UPDATE outbox SET state = 1 WHERE delivery = {delivery}")));
    lies.push("UPDATE outbox SET attempts = 0 WHERE delivery = 2".to_owned());
    lies.extend([1, 2, 4, 6].map(|delivery| format!("DELETE FROM outbox WHERE delivery = {delivery}")));
    for n in [1, 2, 3] {
        lies.extend([0, 20, 60, 120].map(|byte| format!("UPDATE deliveries SET {} WHERE n = {n}", edit("body", byte))));
        lies.push(format!("UPDATE deliveries SET digest = zeroblob(32) WHERE n = {n}"));
        lies.push(format!("UPDATE deliveries SET previous = zeroblob(32) WHERE n = {n}"));
        lies.push(format!("UPDATE deliveries SET delivery = 6 WHERE n = {n}"));
        lies.push(format!("UPDATE deliveries SET run = 9 WHERE n = {n}"));
    }
    // The newest line, if it says that all is over, is missed; and any other.
    lies.extend([1, 2, 3].map(|n| format!("DELETE FROM deliveries WHERE n = {n}")));
    let dir = tempfile::tempdir().unwrap();
    let (store, story) = posted(dir.path());
    let report = store.verify().unwrap();
    assert_eq!((report.deliveries, report.undelivered, report.damage), (6, 4, Vec::new()));
    drop(store);
    let honest = fs::read(dir.path().join("store.db")).unwrap();
    let path = dir.path().join("lie.db");
    for lie in lies {
        fs::write(&path, &honest).unwrap();
        assert!(tamper(&path, &lie) > 0, "{lie} changes something");
        let store = SqliteRuns::open_reading(&path).unwrap();
        assert!(!store.verify().unwrap().damage.is_empty(), "{lie} passes");
        drop(store);
        // Nobody is stopped by it who has other deliveries to make.
        let store = SqliteRuns::open(&path, &SqliteOptions::default()).unwrap();
        let terms = LeaseTerms { now_ms: 1_000, for_ms: 10, limit: 9, attempts_max: 9, holder: "h" };
        assert!(!store.lease(&terms).unwrap().is_empty(), "{lie}: nothing is delivered any more");
        store.ready().unwrap();
        assert_eq!(store.check(&story.key()).unwrap(), *story.head(), "{lie}: the run is as it was");
    }
}

/// A packet that was changed is not sent to anybody.
#[test]
fn a_packet_that_was_changed_is_not_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let (store, story) = posted(dir.path());
    drop(store);
    let path = dir.path().join("store.db");
    let change = "CAST(replace(CAST(body AS TEXT), '\"note\":\"begin\"', '\"note\":\"bogus\"') AS BLOB)";
    assert!(tamper(&path, &format!("UPDATE entries SET body = {change} WHERE log = 4")) > 0);
    let store = SqliteRuns::open(&path, &SqliteOptions::default()).unwrap();
    let terms = LeaseTerms { now_ms: 1_000, for_ms: 10, limit: 9, attempts_max: 9, holder: "h" };
    let leased = store.lease(&terms).unwrap();
    assert_eq!(leased.len(), 3, "the other packets go their way");
    assert!(leased.iter().all(|leased| leased.packet.envelope.packet_id.as_str() != "begin"));
    let log = store.delivery_log(&story.key(), 0, 100).unwrap().records;
    let dead: Vec<_> = log.iter().filter(|record| record.at_ms == 1_000 && record.outcome.is_last()).collect();
    assert_eq!(dead.len(), 1, "{log:?}");
    assert!(dead[0].detail.starts_with("the packet is not what its digest says"), "{dead:?}");
}

#[test]
fn deliveries_are_there_after_a_restart_and_in_a_copy_and_in_no_pack() {
    let dir = tempfile::tempdir().unwrap();
    let (store, story) = posted(dir.path());
    let log = store.delivery_log(&story.key(), 0, 100).unwrap();
    let logs = pages(&store, &story.key());
    assert!(!logs.iter().any(|entry| String::from_utf8_lossy(entry).contains("callback answered")));
    let copy = dir.path().join("copy.db");
    store.backup(&copy).unwrap();
    drop(store);
    for path in [dir.path().join("store.db"), copy] {
        // Whoever takes up the file may issue nothing new, and delivers the old.
        let store = SqliteRuns::open(&path, &SqliteOptions::default()).unwrap();
        assert_eq!(store.delivery_log(&story.key(), 0, 100).unwrap(), log);
        let terms = LeaseTerms { now_ms: 1_000, for_ms: 10, limit: 9, attempts_max: 9, holder: "other" };
        let leased = store.lease(&terms).unwrap();
        assert_eq!(leased.len(), 4);
        let attempts: Vec<_> = leased.iter().map(|leased| leased.lease.attempt).collect();
        assert_eq!(attempts, [1, 1, 2, 2], "the one that failed, and the one whose lease ran out");
    }
}

#[test]
fn without_an_outbox_nothing_is_queued() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteRuns::open(&dir.path().join("store.db"), &SqliteOptions::default()).unwrap();
    for store in [&MemoryRuns::default() as &dyn Outbox, &store] {
        let (mut story, entries) = Story::begin_for(&suite::scenario("kept", 10), "run", 1, suite::targets(2));
        store.create(story.head(), &entries).unwrap();
        let expected = story.head().counts.total();
        let entries = story.decide("a", 11);
        store.append(expected, story.head(), &entries).unwrap();
        assert_eq!(store.undelivered().unwrap(), 0);
    }
}

/// Each bit of some entries and heads, found by `verify` and before a pack is
/// made.
#[test]
fn every_flipped_bit_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (store, story) = stored(dir.path(), &SqliteOptions::default());
    drop(store);
    let honest = fs::read(dir.path().join("store.db")).unwrap();
    let connection = Connection::open(dir.path().join("store.db")).unwrap();
    let bytes = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let parts = [
        bytes("SELECT body FROM entries WHERE seq = 5"),
        bytes("SELECT digest FROM entries WHERE seq = 12"),
        bytes("SELECT body FROM heads"),
        bytes("SELECT CAST(last || body AS BLOB) FROM heads"),
        bytes("SELECT origin FROM runs"),
        bytes("SELECT body FROM shapes WHERE n = 2"),
        bytes("SELECT digest FROM shapes WHERE n = 3"),
    ];
    drop(connection);
    let path = dir.path().join("lie.db");
    fs::write(&path, &honest).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    for (n, part) in parts.into_iter().enumerate() {
        // Splitting a page leaves what it held where it was, unused.
        let copies: Vec<_> = (0..honest.len()).filter(|&at| honest[at..].starts_with(&part)).collect();
        assert!(!copies.is_empty());
        for bit in 0..part.len() * 8 {
            let (byte, mask) = (bit / 8, 1 << (bit % 8));
            copies.iter().for_each(|at| file.write_all_at(&[part[byte] ^ mask], (at + byte) as u64).unwrap());
            let store = SqliteRuns::open_reading(&path).unwrap();
            assert!(!store.verify().unwrap().damage.is_empty(), "bit {bit} of {}", String::from_utf8_lossy(&part));
            assert!(n > 4 || !matches!(StoredRun::open(&store, &story.key()), Ok(Some(_))), "bit {bit}");
            copies.iter().for_each(|at| file.write_all_at(&part[byte..=byte], (at + byte) as u64).unwrap());
        }
    }
}

#[test]
fn the_file_itself_refuses_changes() {
    let dir = tempfile::tempdir().unwrap();
    drop(stored(dir.path(), &SqliteOptions::default()));
    let store = SqliteRuns::open(&dir.path().join("store.db"), &SqliteOptions::default()).unwrap().with_outbox();
    let (story, entries) = Story::begin_for(&suite::scenario("kept", 10), "posted", 1, suite::targets(1));
    store.create(story.head(), &entries).unwrap();
    let terms = LeaseTerms { now_ms: 1, for_ms: 1, limit: 1, attempts_max: 1, holder: "h" };
    store.delivered(&store.lease(&terms).unwrap()[0].lease, 2, "").unwrap();
    let connection = Connection::open(dir.path().join("store.db")).unwrap();
    for sql in [
        "UPDATE entries SET body = x'00'",
        "DELETE FROM entries",
        "UPDATE heads SET seq = 1",
        "DELETE FROM heads",
        "UPDATE runs SET run_id = 'other'",
        "DELETE FROM runs",
        "UPDATE scenarios SET spec = x'00'",
        "DELETE FROM scenarios",
        "UPDATE shapes SET body = x'00'",
        "DELETE FROM shapes",
        "UPDATE outbox SET run = 7",
        "UPDATE outbox SET state = 0",
        "DELETE FROM outbox",
        "UPDATE deliveries SET body = x'00'",
        "DELETE FROM deliveries",
    ] {
        let refused = connection.execute(sql, []).unwrap_err().to_string();
        assert!(
            refused.contains("append-only") || refused.contains("only go on") || refused.contains("do not change"),
            "{sql}: {refused}"
        );
    }
    drop(store);
}

/// Names, times and bytes of everything in a directory.
fn seen(dir: &Path) -> BTreeMap<String, (SystemTime, Vec<u8>)> {
    let one = |entry: fs::DirEntry| {
        let modified = entry.metadata().unwrap().modified().unwrap();
        (entry.file_name().into_string().unwrap(), (modified, fs::read(entry.path()).unwrap()))
    };
    fs::read_dir(dir).unwrap().map(|entry| one(entry.unwrap())).collect()
}

#[test]
fn reading_makes_and_changes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    assert!(matches!(SqliteRuns::open_reading(&path), Err(OpenError::Missing(_))));
    assert!(seen(dir.path()).is_empty(), "a mistyped path makes no store");
    let read = |path: &Path, expected: &Story| {
        let store = SqliteRuns::open_reading(path).unwrap();
        assert_eq!(store.check(&expected.key()).unwrap(), *expected.head());
        assert_eq!(store.verify().unwrap().damage, Vec::new());
        let refused = store.prune(&expected.key());
        assert!(matches!(refused, Err(WriteError::Refused(_))), "{refused:?}");
    };
    // While a daemon has it open. SQLite keeps its readers' marks in -shm.
    let (store, story) = stored(dir.path(), &SqliteOptions::default());
    let wal = dir.path().join("store.db-wal");
    assert!(wal.metadata().unwrap().len() > 0);
    let lasting = |dir: &Path| {
        let mut files = seen(dir);
        files.remove("store.db-shm");
        files
    };
    let before = lasting(dir.path());
    read(&path, &story);
    assert_eq!(lasting(dir.path()), before);
    // After kill -9: the log is left, and nobody holds the lock.
    let left = tempfile::tempdir().unwrap();
    for name in ["store.db", "store.db-wal"] {
        fs::copy(dir.path().join(name), left.path().join(name)).unwrap();
    }
    let before = seen(left.path());
    read(&left.path().join("store.db"), &story);
    assert_eq!(seen(left.path()), before);
    // After an orderly end.
    drop(store);
    assert!(!wal.exists());
    let before = seen(dir.path());
    read(&path, &story);
    assert_eq!(seen(dir.path()), before);
}

#[test]
fn only_our_own_files_are_opened() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, sql: &str| {
        let path = dir.path().join(name);
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        path
    };
    let foreign = make("foreign", "CREATE TABLE t (x)");
    let reference = make("reference", "CREATE TABLE store_meta (version); CREATE TABLE run_state_versions (x)");
    let newer = make("newer", "CREATE TABLE t (x); PRAGMA application_id = 1380993860; PRAGMA user_version = 5");
    let older = make("older", "CREATE TABLE t (x); PRAGMA application_id = 1380993860; PRAGMA user_version = 3");
    let text = dir.path().join("text");
    fs::write(&text, "no database at all").unwrap();
    type Open = fn(&Path) -> Result<SqliteRuns, OpenError>;
    for open in [(|path| SqliteRuns::open(path, &SqliteOptions::default())) as Open, SqliteRuns::open_reading] {
        assert!(matches!(open(&foreign), Err(OpenError::Foreign(_))));
        assert!(matches!(open(&reference), Err(OpenError::Reference(_))));
        assert!(matches!(open(&newer), Err(OpenError::Newer { version: 5, .. })));
        let refused = open(&older).unwrap_err();
        assert!(matches!(refused, OpenError::Older { version: 3, .. }));
        assert!(refused.to_string().contains("\nhint: let the runpackd that wrote it export its runs"), "{refused}");
        assert!(matches!(open(&text), Err(OpenError::Unusable { .. })));
    }
    let missing = dir.path().join("no/such/directory/store.db");
    assert!(matches!(SqliteRuns::open(&missing, &SqliteOptions::default()), Err(OpenError::Unusable { .. })));
}

#[test]
fn a_tombstone_says_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let (store, story) = stored(dir.path(), &SqliteOptions::default());
    store.prune(&story.key()).unwrap();
    let report = store.verify().unwrap();
    assert_eq!((report.runs, report.tombstones, report.damage), (0, 1, Vec::new()));
    drop(store);
    let path = dir.path().join("store.db");
    tamper(&path, "UPDATE tombstones SET body = CAST(replace(CAST(body AS TEXT), 'completed', 'failed') AS BLOB)");
    let report = SqliteRuns::open_reading(&path).unwrap().verify().unwrap();
    assert_eq!(report.damage.len(), 1, "{report:?}");
}

/// A store that another process holds for too long is refused, and taken up
/// again when it is free. With a journal a reader is enough to hold it, and it is
/// met only when a transaction is committed.
#[test]
fn a_store_that_is_held_is_refused_for_the_moment() {
    let read = "BEGIN; SELECT count(*) FROM runs";
    for (journal, hold) in
        [(JournalMode::Wal, "BEGIN IMMEDIATE"), (JournalMode::Delete, "BEGIN IMMEDIATE"), (JournalMode::Delete, read)]
    {
        let dir = tempfile::tempdir().unwrap();
        let busy_timeout = Duration::from_millis(20);
        let options = SqliteOptions { journal, busy_timeout, ..SqliteOptions::default() };
        let (store, mut story) = stored(dir.path(), &options);
        let other = Connection::open(dir.path().join("store.db")).unwrap();
        other.execute_batch(hold).unwrap();
        let expected = story.head().counts.total();
        let entries = story.submit("late", json!(1));
        let refused = store.append(expected, story.head(), &entries).unwrap_err();
        assert!(matches!(refused, WriteError::Refused(_)), "{journal:?}, {hold}: {refused}");
        assert!(refused.to_string().contains("another process holds the store"), "{refused}");
        assert!(store.ready().is_err());
        other.execute_batch("ROLLBACK").unwrap();
        store.ready().unwrap();
        store.append(expected, story.head(), &entries).unwrap();
        assert_eq!(store.check(&story.key()).unwrap(), *story.head());
    }
}

/// With and without a description and a signature; tenant 10 comes before
/// tenant 2 where numbers are text.
fn reference_shapes() -> [DataShapeRecord; 3] {
    let mut signed = suite::shape(10, 1, "s", "1", "signed");
    signed.signing = Some(DataShapeSignature {
        algorithm: Some("ed25519".to_owned()),
        key_id: "k".to_owned(),
        signature: "x".to_owned(),
    });
    let mut described = suite::shape(2, 1, "s", "1", "described");
    described.description = Some("what it is for".to_owned());
    [signed, described, suite::shape(2, 1, "s", "2", "bare")]
}

/// A store as the reference system writes it, with one run and data shapes.
fn reference_store(path: &Path, state: &RunState) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE store_meta (version INTEGER NOT NULL); INSERT INTO store_meta VALUES (4);
             CREATE TABLE runs (tenant_id TEXT, namespace_id TEXT, run_id TEXT, latest_version INTEGER);
             CREATE TABLE run_state_versions (tenant_id TEXT, namespace_id TEXT, run_id TEXT, version INTEGER,
                 state_json BLOB, state_hash TEXT, hash_algorithm TEXT, saved_at INTEGER);
             CREATE TABLE data_shapes (tenant_id TEXT, namespace_id TEXT, schema_id TEXT, version TEXT,
                 schema_json BLOB, schema_hash TEXT, hash_algorithm TEXT, description TEXT, signing_key_id TEXT,
                 signing_signature TEXT, signing_algorithm TEXT, created_at_json TEXT);",
        )
        .unwrap();
    for record in reference_shapes() {
        let schema = to_vec(&record.schema).unwrap();
        let signing = record.signing.as_ref();
        connection
            .execute(
                "INSERT INTO data_shapes VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'sha256', ?7, ?8, ?9, ?10, ?11)",
                rusqlite::params![
                    record.tenant_id.to_string(),
                    record.namespace_id.to_string(),
                    record.schema_id.as_str(),
                    record.version,
                    schema,
                    Digest::of(&schema).to_string(),
                    record.description,
                    signing.map(|signing| &signing.key_id),
                    signing.map(|signing| &signing.signature),
                    signing.and_then(|signing| signing.algorithm.as_ref()),
                    serde_json::to_string(&record.created_at).unwrap(),
                ],
            )
            .unwrap();
    }
    let text = to_vec(state).unwrap();
    let ids = [state.tenant_id.to_string(), state.namespace_id.to_string(), state.run_id.to_string()];
    connection.execute("INSERT INTO runs VALUES (?1, ?2, ?3, 2)", [&ids[0], &ids[1], &ids[2]]).unwrap();
    for (version, text, hash) in [(1, b"{}".to_vec(), String::new()), (2, text.clone(), Digest::of(&text).to_string())]
    {
        connection
            .execute(
                "INSERT INTO run_state_versions VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'sha256', 0)",
                rusqlite::params![ids[0], ids[1], ids[2], version, text, hash],
            )
            .unwrap();
    }
}

#[test]
fn a_store_of_the_reference_is_imported_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (_, story) = stored(dir.path(), &SqliteOptions::default());
    let source = dir.path().join("reference.db");
    reference_store(&source, &story.state);
    let before = fs::read(&source).unwrap();
    let ours = SqliteRuns::open(&dir.path().join("ours.db"), &SqliteOptions::default()).unwrap();
    let imported = import(&source, &ours).unwrap();
    assert_eq!((imported.runs.len(), imported.known.len()), (1, 0));
    assert_eq!(imported.shapes[0], "s 1 (tenant 10, namespace 1)");
    assert_eq!((imported.shapes.len(), imported.known_shapes.len()), (3, 0));
    for record in reference_shapes() {
        assert_eq!(ours.shape(&ShapeKey::of(&record)).unwrap(), Some(record));
    }
    assert_eq!(ours.check(&story.key()).unwrap(), *story.head());
    let memory = MemoryRuns::default();
    import(&source, &memory).unwrap();
    assert_eq!(pages(&ours, &story.key()), pages(&memory, &story.key()));
    assert_eq!(ours.verify().unwrap().damage, Vec::new());
    let again = import(&source, &ours).unwrap();
    assert_eq!((again.runs.len(), again.known.len()), (0, 1), "a second time changes nothing");
    assert_eq!((again.shapes.len(), again.known_shapes.len()), (0, 3));
    assert_eq!(fs::read(&source).unwrap(), before);
    let lies: [(&str, &str); 12] = [
        (
            "UPDATE run_state_versions SET state_json = CAST(replace(CAST(state_json AS TEXT), 'kept', 'lost') AS BLOB)",
            "not what its digest says",
        ),
        ("UPDATE runs SET latest_version = 7", "newest version is missing"),
        ("UPDATE runs SET run_id = 'other'; UPDATE run_state_versions SET run_id = 'other'", "that of another run"),
        ("UPDATE run_state_versions SET hash_algorithm = 'md5'", "of the algorithm `md5`"),
        (
            "UPDATE data_shapes SET schema_json = CAST(replace(CAST(schema_json AS TEXT), 'bare', 'lost') AS BLOB)",
            "data shape s 2 (tenant 2, namespace 1) of the source: its schema is not what its digest says",
        ),
        ("UPDATE data_shapes SET hash_algorithm = 'md5' WHERE version = '2'", "of the algorithm `md5`"),
        ("UPDATE data_shapes SET signing_signature = NULL", "half of its signature is missing"),
        ("UPDATE data_shapes SET signing_algorithm = 'x' WHERE version = '2'", "half of its signature is missing"),
        ("UPDATE data_shapes SET tenant_id = '02'", "`02` is no tenant or namespace"),
        ("UPDATE data_shapes SET namespace_id = '0'", "data shape s 1 (tenant 10, namespace 0)"),
        ("UPDATE data_shapes SET created_at_json = '{}'", "data shape s 1 (tenant 10, namespace 1)"),
        ("UPDATE data_shapes SET schema_json = zeroblob(1048577) WHERE version = '2'", "more than 1048576 bytes"),
    ];
    for (lie, told) in lies {
        let path = dir.path().join("lie.db");
        fs::write(&path, &before).unwrap();
        Connection::open(&path).unwrap().execute_batch(lie).unwrap();
        let store = MemoryRuns::default();
        let error = import(&path, &store).unwrap_err().to_string();
        assert!(error.contains(told), "{lie}: {error}");
        assert_eq!(store.list(None, 1).unwrap(), Vec::new(), "{lie}: nothing is taken");
    }
    // Something else is registered under a name of the source.
    let store = MemoryRuns::default();
    store.register(&suite::shape(2, 1, "s", "2", "another"), None).unwrap();
    let error = import(&source, &store).unwrap_err().to_string();
    assert!(error.contains("data shape s 2 (tenant 2, namespace 1) of the source: another is registered"), "{error}");
    assert_eq!(store.list(None, 1).unwrap(), Vec::new());
    // A run that no engine decided.
    let mut state = story.state.clone();
    state.decisions.swap(0, 1);
    let path = dir.path().join("lie.db");
    fs::remove_file(&path).unwrap();
    reference_store(&path, &state);
    let error = import(&path, &MemoryRuns::default()).unwrap_err().to_string();
    assert!(error.contains("has no decision in order"), "{error}");
    let own = dir.path().join("ours.db");
    assert!(matches!(import(&own, &MemoryRuns::default()), Err(ImportError::NotReference(_))));
}

#[test]
fn an_import_that_was_cut_off_goes_on_and_a_conflict_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (_, story) = stored(dir.path(), &SqliteOptions::default());
    let source = dir.path().join("reference.db");
    reference_store(&source, &story.state);
    let whole = MemoryRuns::default();
    import(&source, &whole).unwrap();

    // A run is begun and then filled; the process may end between the two.
    let mut begun = story.state.clone();
    begun.triggers.clear();
    begun.gate_evals.clear();
    begun.decisions.clear();
    begun.packets.clear();
    begun.submissions.clear();
    begun.tool_calls.clear();
    begun.status = RunStatus::Active;
    let first = story.state.decisions[0].stage_id.clone();
    begun.current_stage_id = first;
    begun.stage_entered_at = story.state.triggers[0].event.time;
    let begins = dir.path().join("begun.db");
    reference_store(&begins, &begun);
    let store = MemoryRuns::default();
    import(&begins, &store).unwrap();
    let imported = import(&source, &store).unwrap();
    assert_eq!((imported.runs.len(), imported.known.len()), (1, 0));
    assert_eq!(pages(&store, &story.key()), pages(&whole, &story.key()));

    // Another run of that name: not even the data shapes are taken.
    let mut other = begun;
    other.dispatch_targets.clear();
    other.spec_hash = Digest::of(b"another");
    let others = dir.path().join("other.db");
    reference_store(&others, &other);
    let store = MemoryRuns::default();
    store.create(&Head::of(&other), &[]).unwrap();
    let error = import(&source, &store).unwrap_err().to_string();
    assert!(error.contains("run already exists"), "{error}");
    assert_eq!(store.shape(&ShapeKey::of(&reference_shapes()[0])).unwrap(), None);
}

#[test]
fn the_samples_of_the_reference_are_imported() {
    let Some(stores) = inputs::shared("reference/stores") else { return };
    for name in ["flow.db", "with-wal"] {
        let dir = tempfile::tempdir().unwrap();
        let from = stores.join(name);
        let source = if from.is_dir() {
            for file in fs::read_dir(&from).unwrap() {
                let file = file.unwrap();
                fs::write(dir.path().join(file.file_name()), fs::read(file.path()).unwrap()).unwrap();
            }
            dir.path().join("store.db")
        } else {
            fs::write(dir.path().join(name), fs::read(&from).unwrap()).unwrap();
            dir.path().join(name)
        };
        let before = seen(dir.path());
        let store = MemoryRuns::default();
        assert_eq!(import(&source, &store).unwrap().runs.len(), 1, "{name}");
        assert_eq!(seen(dir.path()), before, "{name} stays as it is");
    }
}

#[test]
fn a_backup_is_a_store_and_never_half_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, story) = stored(dir.path(), &SqliteOptions::default());
    let target = dir.path().join("backup.db");
    store.backup(&target).unwrap();
    let copy = SqliteRuns::open_reading(&target).unwrap();
    assert_eq!(copy.check(&story.key()).unwrap(), *story.head());
    let report = copy.verify().unwrap();
    assert_eq!((report.shapes, report.damage), (3, Vec::new()));
    for record in shapes() {
        assert_eq!(copy.shape(&ShapeKey::of(&record)).unwrap(), Some(record));
    }
    let before = fs::read(&target).unwrap();
    assert!(store.backup(&target).is_err(), "what is there is not overwritten");
    assert_eq!(fs::read(&target).unwrap(), before);
    let nowhere = dir.path().join("no/such/directory");
    assert!(store.backup(&nowhere).is_err());
}
