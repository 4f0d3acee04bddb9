//! What is written while the power goes, and what must be there afterwards.
//!
//! A child keeps runs and exports packs, and says on standard output what was
//! acknowledged to it: `ack run NAME ENTRIES`, `ack pack NAME DIGEST`,
//! `ack scenario`, `ack shapes N`, `ack post N`, `ack sent N ID`, `ack pruned`. Step `n` of a run, and the `n`th
//! data shape, is the same in every process, so whoever reads that knows every
//! byte that must be there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use runpack_core::canon::{Digest, to_vec};
use runpack_core::engine::{Entry, Head, Scenario};
use runpack_core::model::{DataShapeRecord, RunState, Timestamp};
use runpack_core::pack::layout::Log;
use runpack_core::pack::{BuildOptions, Verdict, VerifyOptions, verify};
use runpack_storage::packs::{Destination, DirectoryReader, ExportRequest, Replace, export};
use runpack_storage::runs::sqlite::{OpenError, SqliteOptions, SqliteRuns};
use runpack_storage::runs::suite::{self, Story};
use runpack_storage::runs::{
    DeliveryOutcome, LeaseTerms, Outbox, Registered, RunKey, RunStore, ScenarioStore, ShapeKey, ShapeStore, WriteError,
};
use rusqlite::Connection;
use serde_json::json;

use crate::disk::Image;

pub(crate) const MANIFEST: &str = "manifest.json";
const RUNS: [&str; 3] = ["alpha", "beta", "gamma"];
/// A run that is closed, and removed.
const PRUNED: &str = "pruned";

fn scenario() -> Arc<Scenario> {
    suite::scenario("kept", 1_000_000)
}

/// A run, step by step.
pub(crate) struct Tale {
    story: Story,
    step: u64,
}

impl Tale {
    pub(crate) fn begin(run: &str) -> (Self, Vec<Entry>) {
        let (story, entries) = Story::begin(&scenario(), run, 1);
        (Self { story, step: 0 }, entries)
    }

    /// The run as it stands in a store with so many entries.
    fn at(run: &str, total: u64) -> Self {
        let (mut tale, _) = Self::begin(run);
        while tale.total() < total {
            tale.next();
        }
        assert_eq!(tale.total(), total, "{run} stands between two steps");
        tale
    }

    pub(crate) fn next(&mut self) -> Vec<Entry> {
        self.step += 1;
        let name = format!("step {}", self.step);
        match self.step % 4 {
            0 => self.story.decide(&name, 5),
            // Longer than a page of the file.
            1 => self.story.submit(&name, json!({ "much": "more ".repeat(1_200) })),
            _ => self.story.submit(&name, json!({ "step": self.step })),
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.story.head().counts.total()
    }

    pub(crate) fn key(&self) -> RunKey {
        self.story.key()
    }

    pub(crate) fn head(&self) -> &Head {
        self.story.head()
    }
}

pub(crate) fn say(line: &str) {
    // One write a line, past the test runner.
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// Takes the run on by one step, and says so once that is acknowledged. An error
/// begins with its kind.
pub(crate) fn take_on(store: &SqliteRuns, run: &str) -> Result<(), String> {
    let (mut tale, entries) = Tale::begin(run);
    let written = match store.head(&tale.key()).map_err(|error| format!("unreadable: {error}"))? {
        None => store.create(tale.head(), &entries),
        Some(head) => {
            let expected = head.counts.total();
            tale = Tale::at(run, expected);
            let entries = tale.next();
            store.append(expected, tale.head(), &entries)
        }
    };
    written.map_err(|error| match &error {
        WriteError::Refused(_) => format!("refused: {error}"),
        WriteError::Unknown(_) => format!("unknown: {error}"),
        other => panic!("{other}"),
    })?;
    say(&format!("ack run {run} {}", tale.total()));
    Ok(())
}

/// All runs at once, so that some share a transaction.
fn take_on_all(store: &SqliteRuns, steps: u64) {
    std::thread::scope(|scope| {
        for run in RUNS {
            scope.spawn(move || (0..steps).for_each(|_| take_on(store, run).unwrap()));
        }
    });
}

/// Exports a run in the place of the pack of that name; each `version` is another
/// run. One that has just begun: later evidence of a [`Story`] has no anchor that
/// a verifier would accept.
pub(crate) fn publish(dir: &Path, name: &str, version: u64) -> Result<(), String> {
    let (story, _) = Story::begin(&scenario(), &format!("version-{version}"), 1);
    let target = dir.join("packs").join(name);
    let exported = export(&ExportRequest {
        destination: Destination::Directory { target: &target, replace: Replace::Yes },
        manifest_name: MANIFEST,
        scenario: &scenario(),
        run: &story.state,
        options: &BuildOptions::at(Timestamp::Logical(99)),
        include_verification: true,
        attest: None,
    });
    let exported = exported.map_err(|error| error.to_string())?;
    say(&format!("ack pack {name} {}", exported.pack_digest));
    Ok(())
}

/// From nothing, with packs made of runs that go on; closed and opened in
/// between; ends as if killed when nothing was on its way.
pub(crate) fn begins(dir: &Path, options: &SqliteOptions) {
    let open = || SqliteRuns::open(&dir.join("store.db"), options).unwrap();
    let store = open();
    store.define(&scenario()).unwrap();
    say("ack scenario");
    registers(&store, 0..2);
    take_on_all(&store, 1);
    posts(dir, options, 0..2);
    std::thread::scope(|scope| {
        scope.spawn(|| take_on_all(&store, 4));
        for (name, version) in [("one", 1), ("deep/er/two", 2), ("one", 3)] {
            publish(dir, name, version).unwrap();
        }
    });
    drop(store);
    let store = open();
    take_on_all(&store, 2);
    std::mem::forget(store);
    std::process::exit(0);
}

/// Registers data shapes of these numbers, and says how many there are.
fn registers(store: &SqliteRuns, numbers: Range<u64>) {
    for number in numbers {
        assert_eq!(store.register(&shape(number), Some(number + 1)).unwrap(), Registered::New);
        say(&format!("ack shapes {}", number + 1));
    }
}

/// Longer than a page of the file.
fn shape(number: u64) -> DataShapeRecord {
    suite::shape(1, 1, &format!("shape-{number}"), "1", &"more ".repeat(1_200))
}

/// Goes on until it is killed.
pub(crate) fn is_killed(dir: &Path, options: &SqliteOptions) {
    let store = SqliteRuns::open(&dir.join("store.db"), options).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| posts(dir, options, 2..5));
        // With less synced it may come to the end first.
        take_on_all(&store, 12);
    });
}

/// Begins runs of these numbers whose first packets are for two targets, and
/// after each makes one delivery, of whatever is due. Another process may do the
/// same.
fn posts(dir: &Path, options: &SqliteOptions, numbers: Range<u64>) {
    let store = SqliteRuns::open(&dir.join("store.db"), options).unwrap().with_outbox();
    for number in numbers {
        let (story, entries) = post(number);
        match store.create(story.head(), &entries) {
            // One that was killed was this far.
            Ok(()) | Err(WriteError::Exists(_)) => say(&format!("ack post {number}")),
            Err(error) => panic!("{error}"),
        }
        let now_ms = 1_000 * (number + 1);
        let terms = LeaseTerms { now_ms, for_ms: 100, limit: 1, attempts_max: 1_000, holder: "postman" };
        for leased in store.lease(&terms).unwrap() {
            store.delivered(&leased.lease, now_ms, "taken").unwrap();
            say(&format!("ack sent {} {}", leased.key.run_id, leased.lease.id));
        }
    }
}

fn post(number: u64) -> (Story, Vec<Entry>) {
    Story::begin_for(&scenario(), &format!("post-{number}"), 1, suite::targets(2))
}

/// Goes on where another was killed, while somebody else writes the log back;
/// then removes a run.
pub(crate) fn ends(dir: &Path, options: &SqliteOptions) {
    let path = dir.join("store.db");
    let store = SqliteRuns::open(&path, options).unwrap();
    assert_eq!(store.verify().unwrap().damage, Vec::new());
    take_on_all(&store, 2);
    for mode in ["PASSIVE", "RESTART", "PASSIVE"] {
        let other = Connection::open(&path).unwrap();
        other.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())).unwrap();
        take_on_all(&store, 2);
    }
    for (name, version) in [("deep/er/two", 4), ("deep/er/two", 4), ("three", 5)] {
        publish(dir, name, version).unwrap();
    }
    let (mut story, entries) = Story::begin(&suite::scenario("kept", 10), PRUNED, 1);
    store.create(story.head(), &entries).unwrap();
    for (trigger, time) in [("a", 11), ("b", 12)] {
        let expected = story.head().counts.total();
        let entries = story.decide(trigger, time);
        store.append(expected, story.head(), &entries).unwrap();
    }
    store.prune(&story.key()).unwrap();
    say("ack pruned");
    registers(&store, 2..4);
    posts(dir, options, 5..7);
    drop(store);
    let store = SqliteRuns::open(&path, options).unwrap();
    take_on_all(&store, 1);
}

/// Goes on with what a loss of power left.
pub(crate) fn takes_up(dir: &Path, options: &SqliteOptions) {
    let store = SqliteRuns::open(&dir.join("store.db"), options).unwrap();
    take_on_all(&store, 2);
    posts(dir, options, 7..9);
    publish(dir, "one", 6).unwrap();
}

/// What was lost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loss {
    /// Something that was acknowledged is not there.
    Acknowledged(String),
    /// The store is not whole, or holds what nobody wrote.
    Damaged(String),
    /// A published name is not that of a whole pack.
    Torn(String),
}

/// A run as it stood after each step.
struct Told {
    key: RunKey,
    heads: BTreeMap<u64, Head>,
    logs: Vec<Vec<Vec<u8>>>,
}

const LOGS: [Log; 6] = [Log::Triggers, Log::GateEvals, Log::Decisions, Log::Packets, Log::Submissions, Log::ToolCalls];

/// Knows what was acknowledged, and when.
pub(crate) struct Witness {
    runs: BTreeMap<String, Told>,
    /// By run: when it was known to have so many entries.
    entries: Vec<(usize, String, u64)>,
    /// In the order they were published.
    packs: Vec<(usize, String, String)>,
    scenario: usize,
    /// When so many data shapes were known to be there.
    shapes: Vec<(usize, u64)>,
    /// When the deliveries of a run were known to be queued.
    posts: Vec<(usize, u64)>,
    /// When a delivery of a run was known to be made.
    sent: Vec<(usize, String, String)>,
    pruned: usize,
    /// Packs that were found whole, by what is in them; the same bytes are not
    /// verified twice.
    whole: Mutex<BTreeMap<Digest, Result<String, String>>>,
}

impl Witness {
    pub(crate) fn of(said: &[(usize, String)]) -> Self {
        let never = usize::MAX;
        let whole = Mutex::default();
        let mut witness = Self {
            runs: BTreeMap::new(),
            entries: Vec::new(),
            packs: Vec::new(),
            scenario: never,
            shapes: Vec::new(),
            posts: Vec::new(),
            sent: Vec::new(),
            pruned: never,
            whole,
        };
        for (when, line) in said {
            // The test runner's own lines come in between.
            let Some((_, told)) = line.split_once("ack ") else { continue };
            match *told.split(' ').collect::<Vec<_>>() {
                ["run", run, total] => witness.entries.push((*when, run.to_owned(), total.parse().unwrap())),
                ["pack", name, digest] => witness.packs.push((*when, name.to_owned(), digest.to_owned())),
                ["scenario"] => witness.scenario = *when,
                ["shapes", count] => witness.shapes.push((*when, count.parse().unwrap())),
                ["post", number] => witness.posts.push((*when, number.parse().unwrap())),
                ["sent", run, id] => witness.sent.push((*when, run.to_owned(), id.to_owned())),
                ["pruned"] => witness.pruned = *when,
                _ => panic!("`{line}` was not foreseen"),
            }
        }
        for run in RUNS {
            let most = witness.entries.iter().filter(|(_, of, _)| of == run).map(|(_, _, total)| *total).max();
            witness.runs.insert(run.to_owned(), Told::new(run, most.unwrap_or(0)));
        }
        witness
    }

    /// What of an image is a store, laid out for a look at it: the packs are
    /// looked at apart.
    pub(crate) fn of_the_store(path: &Path) -> bool {
        let lasting = |name: &str| name.starts_with("store.db") && !name.ends_with("-shm");
        path.parent() == Some(Path::new("")) && path.to_str().is_some_and(lasting)
    }

    /// Opens the store as a daemon would after the power went at `cut`.
    pub(crate) fn looks_at_store(&self, path: &Path, options: &SqliteOptions, cut: usize) -> Result<(), Loss> {
        let damaged = |what: &dyn std::fmt::Display| Loss::Damaged(what.to_string());
        // `runpackd store verify` may come before the daemon, and see no less.
        if cut.is_multiple_of(8) {
            Self::looks_without_writing(path)?;
        }
        let store = SqliteRuns::open(path, options).map_err(|error| damaged(&error))?;
        let report = store.verify().map_err(|error| damaged(&error))?;
        if let Some(damage) = report.damage.first() {
            return Err(damaged(damage));
        }
        for (run, told) in &self.runs {
            let acknowledged = self.entries.iter().filter(|(when, of, _)| *when < cut && of == run);
            let expected = acknowledged.map(|(_, _, total)| *total).max().unwrap_or(0);
            told.compare(&store, run, expected)?;
        }
        let scenario = scenario();
        let kept = store.scenario(scenario.spec().namespace_id, &scenario.spec().scenario_id);
        if self.scenario < cut && kept.map_err(|error| damaged(&error))?.is_none() {
            return Err(Loss::Acknowledged("the scenario is gone".to_owned()));
        }
        let acknowledged = self.shapes.iter().filter(|(when, _)| *when < cut).map(|(_, count)| *count).max();
        for number in 0..acknowledged.unwrap_or(0) {
            let record = shape(number);
            if store.shape(&ShapeKey::of(&record)).map_err(|error| damaged(&error))? != Some(record) {
                return Err(Loss::Acknowledged(format!("data shape {number} is gone")));
            }
        }
        self.looks_at_deliveries(&store, cut)?;
        if self.pruned < cut && report.tombstones != 1 {
            return Err(Loss::Acknowledged("what was pruned is there again".to_owned()));
        }
        store.define(&suite::scenario("afterwards", 1)).map_err(|error| damaged(&error))?;
        store.ready().map_err(|error| damaged(&error))
    }

    /// Each delivery that was queued is there to be made, or was made.
    fn looks_at_deliveries(&self, store: &SqliteRuns, cut: usize) -> Result<(), Loss> {
        let damaged = |what: &dyn std::fmt::Display| Loss::Damaged(what.to_string());
        let terms = LeaseTerms { now_ms: 1_000_000, for_ms: 1, limit: 256, attempts_max: 1_000, holder: "witness" };
        let open = store.lease(&terms).map_err(|error| damaged(&error))?;
        let delivered = |key: &RunKey| -> Result<BTreeSet<String>, Loss> {
            let page = store.delivery_log(key, 0, 1_000).map_err(|error| damaged(&error))?;
            let made = page.records.into_iter().filter(|record| record.outcome == DeliveryOutcome::Delivered);
            Ok(made.map(|record| record.delivery_id).collect())
        };
        for (_, number) in self.posts.iter().filter(|(when, _)| *when < cut) {
            let key = post(*number).0.key();
            let waiting = open.iter().filter(|leased| leased.key == key).count();
            let made = delivered(&key)?.len();
            if waiting + made != 2 {
                return Err(Loss::Acknowledged(format!("of post {number}, {waiting} wait and {made} were made")));
            }
        }
        for (_, run, id) in self.sent.iter().filter(|(when, ..)| *when < cut) {
            let number = run.trim_start_matches("post-").parse().unwrap();
            if !delivered(&post(number).0.key())?.contains(id) {
                return Err(Loss::Acknowledged(format!("delivery {id} of {run} was made, and waits again")));
            }
        }
        Ok(())
    }

    fn looks_without_writing(path: &Path) -> Result<(), Loss> {
        let damaged = |what: &dyn std::fmt::Display| Loss::Damaged(format!("only to read: {what}"));
        let store = match SqliteRuns::open_reading(path) {
            // Whether something should be there, the daemon's look says.
            Err(OpenError::Missing(_)) => return Ok(()),
            opened => opened.map_err(|error| damaged(&error))?,
        };
        let report = store.verify().map_err(|error| damaged(&error))?;
        report.damage.first().map_or(Ok(()), |damage| Err(damaged(damage)))
    }

    /// Looks at every pack in an image, with `scratch` to lay it out in.
    pub(crate) fn looks_at_packs(&self, image: &Image, scratch: &Path, cut: usize) -> Result<(), Loss> {
        let visible = |path: &&Path| !path.iter().any(|part| part.to_string_lossy().starts_with('.'));
        let published: BTreeSet<&str> = self.packs.iter().map(|(_, name, _)| name.as_str()).collect();
        let packs = Path::new("packs");
        let named = published.iter().map(|name| packs.join(name)).filter(|place| image.contains_key(place));
        let with_manifest = image.keys().filter(|path| path.ends_with(MANIFEST)).filter_map(|path| path.parent());
        let places: BTreeSet<_> = named.chain(with_manifest.filter(visible).map(Path::to_owned)).collect();
        let mut found = BTreeMap::new();
        for place in places {
            let digest = self.verified(image, &place, scratch);
            let digest = digest.map_err(|problem| Loss::Torn(format!("`{}`: {problem}", place.display())))?;
            found.insert(place.strip_prefix(packs).unwrap_or(&place).to_string_lossy().into_owned(), digest);
        }
        for name in published {
            let versions: Vec<_> = self.packs.iter().filter(|(_, of, _)| of == name).collect();
            let newest = versions.iter().rposition(|(when, ..)| *when < cut);
            // What came after that may be there before it is acknowledged.
            let later = versions.iter().skip(newest.unwrap_or(0)).map(|(_, _, digest)| Some(digest.as_str()));
            let allowed: Vec<_> = newest.is_none().then_some(None).into_iter().chain(later).collect();
            let there = found.remove(name);
            if !allowed.contains(&there.as_deref()) {
                return Err(Loss::Acknowledged(format!("the pack `{name}` is {there:?} and not one of {allowed:?}")));
            }
        }
        match found.pop_first() {
            Some((name, _)) => Err(Loss::Torn(format!("nobody published `{name}`"))),
            None => Ok(()),
        }
    }

    /// The digest of a pack that verifies.
    fn verified(&self, image: &Image, place: &Path, scratch: &Path) -> Result<String, String> {
        let files = image.range(place.to_owned()..).take_while(|(path, _)| path.starts_with(place));
        let mut text = Vec::new();
        for (path, content) in files.clone() {
            let content = content.as_deref().map(Digest::of);
            let path = path.strip_prefix(place).unwrap();
            text.extend(format!("{} {content:?}\n", path.display()).into_bytes());
        }
        let key = Digest::of(&text);
        let known = |witness: &Self| witness.whole.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known(self) {
            return known;
        }
        let laid_out = tempfile::tempdir_in(scratch).unwrap();
        lay_out(files, laid_out.path());
        let checked = DirectoryReader::open(&laid_out.path().join(place)).map_err(|fault| fault.to_string());
        let checked = checked.and_then(|reader| {
            let report = verify(&reader, MANIFEST, &VerifyOptions::default());
            let manifest = std::fs::read(laid_out.path().join(place).join(MANIFEST)).unwrap_or_default();
            match report.verdict {
                Verdict::Consistent => Ok(Digest::of(&manifest).to_string()),
                _ => Err(report.findings.first().map_or_else(String::new, |finding| finding.message.clone())),
            }
        });
        self.whole.lock().unwrap_or_else(PoisonError::into_inner).insert(key, checked.clone());
        checked
    }
}

impl Told {
    /// A step further than is known: that one may have been on its way.
    fn new(run: &str, most: u64) -> Self {
        let (mut tale, _) = Tale::begin(run);
        let mut heads = BTreeMap::from([(tale.total(), tale.head().clone())]);
        let mut over = 0;
        while over < 1 {
            over += u64::from(tale.total() >= most);
            tale.next();
            heads.insert(tale.total(), tale.head().clone());
        }
        let RunState { triggers, gate_evals, decisions, packets, submissions, tool_calls, .. } = &tale.story.state;
        fn bytes<T: serde::Serialize>(log: &[T]) -> Vec<Vec<u8>> {
            log.iter().map(|record| to_vec(record).unwrap()).collect()
        }
        let logs = vec![
            bytes(triggers),
            bytes(gate_evals),
            bytes(decisions),
            bytes(packets),
            bytes(submissions),
            bytes(tool_calls),
        ];
        Self { key: tale.key(), heads, logs }
    }

    fn compare(&self, store: &SqliteRuns, run: &str, acknowledged: u64) -> Result<(), Loss> {
        let damaged = |what: String| Loss::Damaged(format!("{run}: {what}"));
        let Some(head) = store.head(&self.key).map_err(|error| damaged(error.to_string()))? else {
            let lost = || Loss::Acknowledged(format!("{run} of {acknowledged} entries is gone"));
            return if acknowledged == 0 { Ok(()) } else { Err(lost()) };
        };
        let total = head.counts.total();
        if self.heads.get(&total) != Some(&head) {
            return Err(damaged(format!("nobody appended a head of {total} entries")));
        }
        let counts = &head.counts;
        let lengths = [
            counts.triggers,
            counts.gate_evals,
            counts.decisions,
            counts.packets,
            counts.submissions,
            counts.tool_calls,
        ];
        for ((log, length), told) in LOGS.into_iter().zip(lengths).zip(&self.logs) {
            let page = store.page(&self.key, log, 0, 1_000).map_err(|error| damaged(error.to_string()))?;
            if told.get(..length as usize) != Some(page.entries.as_slice()) {
                return Err(damaged(format!("{log:?} is not what was appended")));
            }
        }
        if total < acknowledged {
            return Err(Loss::Acknowledged(format!("{run} has {total} entries of {acknowledged}")));
        }
        Ok(())
    }
}

/// Writes a part of an image out.
pub(crate) fn lay_out<'a>(files: impl Iterator<Item = (&'a std::path::PathBuf, &'a Option<Vec<u8>>)>, to: &Path) {
    for (path, content) in files {
        let path = to.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match content {
            Some(content) => std::fs::write(path, content).unwrap(),
            None => std::fs::create_dir_all(path).unwrap(),
        }
    }
}
