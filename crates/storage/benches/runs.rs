//! The run store beside bare SQLite on the same disk in the same minutes:
//! acknowledged appends by 32 writers and by one, with every commit synced; and
//! whether the hundred-thousandth trigger of a run costs more than the hundredth.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use runpack_core::canon::{Hasher, to_vec};
use runpack_core::engine::Entry;
use runpack_storage::runs::RunStore;
use runpack_storage::runs::sqlite::{SqliteOptions, SqliteRuns};
use runpack_storage::runs::suite::{self, Story};
use rusqlite::{Connection, params};

const ROUNDS: usize = 5;
const WRITERS: usize = 32;
const TIME: Duration = Duration::from_millis(1_500);
const LONG: u64 = 100_000;

fn main() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (mut many, mut one) = (Vec::new(), Vec::new());
    println!("appends acknowledged in a second, and what bare SQLite does with rows of the same bytes");
    for round in 1..=ROUNDS {
        let path = |name: &str| dir.path().join(format!("{name}-{round}"));
        let (bare, ours) = (bare_group(&path("bare")), ours(&path("ours"), WRITERS));
        let (bare_one, ours_one) = (bare_alone(&path("bare-one")), self::ours(&path("ours-one"), 1));
        println!(
            "  round {round}: {WRITERS} writers {ours:6.0} of {bare:6.0}, {:.2} x; one writer {ours_one:5.0} of {bare_one:5.0}, {:.2} x as long",
            ours / bare,
            bare_one / ours_one
        );
        many.push(ours / bare);
        one.push(bare_one / ours_one);
    }
    println!("  median {:.2} x of a bare group commit (goal: at least 0.70)", median(many));
    println!("  median {:.2} x the time of a bare commit (goal: at most 1.30)", median(one));
    flat(dir.path());
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn bare(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;").unwrap();
    connection
        .execute_batch("CREATE TABLE rows (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, digest BLOB NOT NULL) STRICT")
        .unwrap();
    connection
}

/// One row of the bytes that one of our appends has.
fn body() -> Vec<u8> {
    let (_, entries) = begun("a");
    let Some(Entry::ToolCall(call)) = entries.last() else { panic!("an append ends with its call") };
    to_vec(call).unwrap()
}

fn begun(run: &str) -> (Story, Vec<Entry>) {
    let (mut story, _) = Story::begin(&suite::scenario("bench", u64::MAX >> 12), run, 1);
    let entries = story.decide("t", 5);
    (story, entries)
}

fn insert(connection: &Connection, seq: i64, body: &[u8], last: &mut [u8; 32]) {
    let mut hasher = Hasher::default();
    hasher.update(last);
    hasher.update(body);
    *last = *hasher.finish().as_bytes();
    let mut statement = connection.prepare_cached("INSERT INTO rows VALUES (?1, ?2, ?3)").unwrap();
    statement.execute(params![seq, body, &last[..]]).unwrap();
}

fn bare_alone(path: &Path) -> f64 {
    let (connection, body, mut last, mut count) = (bare(path), body(), [0; 32], 0);
    let begun = Instant::now();
    while begun.elapsed() < TIME {
        count += 1;
        insert(&connection, count, &body, &mut last);
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

fn bare_group(path: &Path) -> f64 {
    let (connection, body) = (bare(path), body());
    let (sender, jobs) = sync_channel::<(Vec<u8>, SyncSender<()>)>(1_024);
    let (over, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut last, mut seq) = ([0; 32], 0);
            while let Ok(first) = jobs.recv() {
                let mut group = vec![first];
                while group.len() < 256 {
                    let Ok(job) = jobs.try_recv() else { break };
                    group.push(job);
                }
                connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                for (body, _) in &group {
                    seq += 1;
                    insert(&connection, seq, body, &mut last);
                }
                connection.execute_batch("COMMIT").unwrap();
                group.iter().for_each(|(_, reply)| reply.send(()).unwrap());
            }
        });
        for _ in 0..WRITERS {
            let (sender, body, over, acknowledged) = (sender.clone(), &body, &over, &acknowledged);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let (reply, answer) = sync_channel(1);
                    sender.send((body.clone(), reply)).unwrap();
                    answer.recv().unwrap();
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        drop(sender);
        std::thread::sleep(TIME);
        over.store(true, Ordering::Relaxed);
    });
    acknowledged.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

/// Each writer appends to a run of its own, one entry at a time.
fn ours(path: &Path, writers: usize) -> f64 {
    let store = SqliteRuns::open(path, &SqliteOptions::default()).unwrap();
    let (over, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (store, over, acknowledged) = (&store, &over, &acknowledged);
            scope.spawn(move || {
                let (story, mut entries) = self::begun(&format!("run-{writer}"));
                let (head, _) = Story::begin(&suite::scenario("bench", 1), &format!("run-{writer}"), 1);
                let mut head = head.head().clone();
                let call = entries.pop().unwrap();
                let (_, opening) = Story::begin(&suite::scenario("bench", 1), &format!("run-{writer}"), 1);
                drop(story);
                store.create(&head, &opening).unwrap();
                while !over.load(Ordering::Relaxed) {
                    let expected = head.counts.total();
                    head.counts.tool_calls += 1;
                    store.append(expected, &head, std::slice::from_ref(&call)).unwrap();
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(TIME);
        over.store(true, Ordering::Relaxed);
    });
    acknowledged.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

/// CPU seconds of this process.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) as f64 / 100.0
}

fn flat(dir: &Path) {
    let path = dir.join("long");
    let store = SqliteRuns::open(&path, &SqliteOptions::default()).unwrap();
    let (mut story, entries) = Story::begin(&suite::scenario("bench", u64::MAX >> 12), "long", 1);
    store.create(story.head(), &entries).unwrap();
    let window = 5_000;
    let mut marks = Vec::new();
    for number in 1..=LONG + window {
        if [100, 100 + window, LONG, LONG + window].contains(&number) {
            marks.push(cpu());
        }
        let expected = store.head(&story.key()).unwrap().unwrap().counts.total();
        let entries = story.decide(&format!("trigger-{number}"), 5);
        store.append(expected, story.head(), &entries).unwrap();
        let state = &mut story.state;
        state.triggers.clear();
        state.gate_evals.clear();
        state.decisions.clear();
        state.tool_calls.clear();
    }
    let each = |from: usize| (marks[from + 1] - marks[from]) * 1e6 / window as f64;
    let (early, late) = (each(0), each(2));
    println!(
        "CPU of one trigger: {early:.0} us from the 100th, {late:.0} us from the {LONG}th, {:.2} x (goal: at most 1.30)",
        late / early
    );
    let begun = Instant::now();
    let head = store.check(&story.key()).unwrap();
    let entries = head.counts.total();
    let bytes: u64 = ["", "-wal"]
        .iter()
        .filter_map(|end| fs::metadata(format!("{}{end}", path.display())).ok())
        .map(|file| file.len())
        .sum();
    println!(
        "checking its {entries} entries: {:.0} entries in a second; {bytes} bytes of store",
        entries as f64 / begun.elapsed().as_secs_f64()
    );
}
