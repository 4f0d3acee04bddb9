//! What was acknowledged is there after a loss of power.
//!
//! A child keeps runs and publishes packs under `strace`, which writes down
//! every call that changes a file, and every sync. From that the tests work out
//! what a disk may hold when the power goes at any moment, thousands of times,
//! and look at it as the next daemon would. See [`disk`] for what a disk may
//! forget.
//!
//! `RUNPACK_POWER_ROUNDS` says how often the power goes in each journal mode. A
//! round that loses something is named with what it takes to see it again.

#![cfg(all(target_os = "linux", feature = "sqlite"))]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod disk;
mod faults;
#[path = "../../../../testdata/inputs.rs"]
mod inputs;
mod trace;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use disk::{Dice, Disk, Honest, Image};
use runpack_storage::runs::sqlite::{JournalMode, SqliteOptions, SyncMode};
use work::{Loss, Witness};

/// Rounds on one recording. The next has other groups of entries in its
/// transactions, and other things on their way at once.
const RECORDING_ROUNDS: usize = 2_500;

#[test]
fn nothing_acknowledged_is_lost_with_a_log_written_ahead() {
    loses_nothing("wal full");
}

#[test]
fn nothing_acknowledged_is_lost_with_a_journal() {
    loses_nothing("delete full");
}

fn loses_nothing(mode: &'static str) {
    let rounds = rounds();
    let end = setting("RUNPACK_POWER_SEED").unwrap_or(0) + rounds;
    let (begun, mut seed, mut images, mut recordings) = (Instant::now(), end - rounds, 0, 0);
    while seed < end {
        let Some(recording) = Recording::of(mode) else { return };
        let next = end.min(seed + RECORDING_ROUNDS);
        let (lost, different) = recording.rounds(seed..next, Honest::All);
        if let Some((seed, loss)) = lost.first_key_value() {
            panic!(
                "{} of {} rounds lost something, the first: {loss:?}\n\
                 to see it again: RUNPACK_POWER_TRACES='{}' RUNPACK_POWER_SEED={seed} RUNPACK_POWER_ROUNDS=1",
                lost.len(),
                next - seed,
                recording.keep().display()
            );
        }
        (seed, images, recordings) = (next, images + different, recordings + 1);
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("{mode}: {rounds} rounds on {recordings} recordings, {images} different images, {seconds:.1} s, 0 lost");
}

/// The power goes again while what it left is taken up.
#[test]
fn nothing_acknowledged_is_lost_with_a_second_loss() {
    for mode in ["wal full", "delete full"] {
        let Some(recording) = Recording::of(mode) else { return };
        let begun = Instant::now();
        let mut second = 0;
        for seed in 0..(rounds() / 200).clamp(2, 250) {
            let again = recording.taken_up(seed);
            let (lost, _) = again.rounds(second..second + 20, Honest::All);
            second += 20;
            assert!(
                lost.is_empty(),
                "after the first loss, with seed {seed}: {lost:?}\nthe traces are in `{}` and `{}`",
                recording.keep().display(),
                again.keep().display()
            );
        }
        let seconds = begun.elapsed().as_secs_f64();
        println!("{mode}: {second} rounds after a round, {seconds:.1} s, 0 lost");
    }
}

/// If it found nothing where something is missing, it would be worth nothing.
#[test]
fn a_sync_that_is_forgotten_is_found() {
    for mode in ["wal full", "delete full"] {
        let Some(recording) = Recording::of(mode) else { return };
        for honest in [Honest::None, Honest::Files, Honest::Directories] {
            let (lost, _) = recording.rounds(0..40, honest);
            assert!(!lost.is_empty(), "{mode}: with {honest:?} synced everything is there");
            let count = |kind: fn(&Loss) -> bool| lost.values().filter(|loss| kind(loss)).count();
            println!(
                "{mode}: {honest:?} synced: of 40 rounds {} lost what was acknowledged, {} left a damaged store, {} a \
                 torn pack",
                count(|loss| matches!(loss, Loss::Acknowledged(_))),
                count(|loss| matches!(loss, Loss::Damaged(_))),
                count(|loss| matches!(loss, Loss::Torn(_)))
            );
        }
    }
}

/// `sync_mode = "normal"` may lose what was acknowledged last, as its warning
/// says, and no more than that.
#[test]
fn less_synced_is_less_kept_but_never_damaged() {
    for mode in ["wal normal", "delete normal"] {
        let Some(recording) = Recording::of(mode) else { return };
        let rounds = (rounds() / 10).max(60);
        let (lost, _) = recording.rounds(0..rounds, Honest::All);
        assert!(!lost.is_empty(), "{mode}: nothing was lost: does `full` sync for nothing?");
        let worse: Vec<_> = lost.iter().filter(|(_, loss)| !matches!(loss, Loss::Acknowledged(_))).collect();
        assert!(worse.is_empty(), "{mode}: {worse:?}");
        println!("{mode}: {} of {rounds} rounds lost something that was acknowledged", lost.len());
    }
}

fn rounds() -> usize {
    setting("RUNPACK_POWER_ROUNDS").unwrap_or(150)
}

fn setting(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// In memory: the disk under test is a simulated one.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn options(mode: &str) -> SqliteOptions {
    let journal = if mode.starts_with("wal") { JournalMode::Wal } else { JournalMode::Delete };
    let sync = if mode.ends_with("full") { SyncMode::Full } else { SyncMode::Normal };
    SqliteOptions { journal, sync, ..SqliteOptions::default() }
}

/// This program as another process, which does the part of that name.
fn child(strace: &[&str], part: &str, mode: &str, dir: &Path) -> Command {
    let mut command = Command::new("strace");
    as_child(command.args(strace).arg(std::env::current_exe().unwrap()), part, mode, dir);
    command
}

/// Completes a command that ends in the name of this program.
fn as_child<'c>(command: &'c mut Command, part: &str, mode: &str, dir: &Path) -> &'c mut Command {
    command.args(["--exact", "does_its_part", "--ignored"]);
    command.env("RUNPACK_POWER_PART", part).env("RUNPACK_POWER_MODE", mode).env("RUNPACK_POWER_DIRECTORY", dir)
}

#[test]
#[ignore = "the child of the others"]
fn does_its_part() {
    let Ok(part) = std::env::var("RUNPACK_POWER_PART") else { return };
    let dir = PathBuf::from(std::env::var_os("RUNPACK_POWER_DIRECTORY").unwrap());
    let options = options(&std::env::var("RUNPACK_POWER_MODE").unwrap());
    match part.as_str() {
        "begins" => work::begins(&dir, &options),
        "is killed" => work::is_killed(&dir, &options),
        "ends" => work::ends(&dir, &options),
        "takes up" => work::takes_up(&dir, &options),
        other => faults::does(other, &dir, &options),
    }
}

/// What was done in one directory, by several processes after each other.
struct Recording {
    mode: &'static str,
    disk: Disk,
    witness: Witness,
    traces: tempfile::TempDir,
}

/// What is done, and at which sync of a thread it is killed: the one before a
/// transaction is written in the file, if there is a journal, and the one after.
type Part = (&'static str, Option<usize>);
const PARTS: [Part; 4] = [("begins", None), ("is killed", Some(8)), ("is killed", Some(9)), ("ends", None)];

impl Recording {
    /// `None` if there is no `strace`.
    fn of(mode: &'static str) -> Option<Self> {
        if !inputs::strace() {
            return None;
        }
        let traces = scratch();
        let Ok(kept) = std::env::var("RUNPACK_POWER_TRACES") else {
            let images = record(mode, &PARTS, &Image::new(), traces.path());
            return Some(Self::read(mode, traces, Disk::default(), &images));
        };
        for file in std::fs::read_dir(Path::new(&kept).join(mode)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), traces.path().join(file.file_name())).unwrap();
        }
        Some(Self::read(mode, traces, Disk::default(), &[]))
    }

    /// What another process does with what the power left in the round of that
    /// seed.
    fn taken_up(&self, seed: usize) -> Self {
        let (moments, lasting) = (self.disk.moments(), self.disk.lasting(Honest::All));
        let (cut, image) = self.round(seed, &moments, &lasting);
        let traces = scratch();
        let images = record(self.mode, &[("takes up", None)], &image, traces.path());
        let mut disk = Disk::of(&image);
        for (when, line) in &self.disk.said {
            // A pack that was on its way may be there, and never be acknowledged.
            let never = (line.contains("ack pack")).then_some(usize::MAX);
            let when = if *when < cut { Some(0) } else { never };
            disk.said.extend(when.map(|when| (when, line.clone())));
        }
        Self::read(self.mode, traces, disk, &images)
    }

    /// `images` are what was there after each part.
    fn read(mode: &'static str, traces: tempfile::TempDir, mut disk: Disk, images: &[Image]) -> Self {
        let root = std::fs::read_to_string(traces.path().join("root")).unwrap();
        let mut line = 0;
        for part in 0.. {
            let Ok(text) = std::fs::read_to_string(traces.path().join(format!("{part}"))) else { break };
            let (calls, end) = trace::read(&text, line);
            disk.follow(Path::new(&root), &calls);
            line = end;
            let lasting = |image: &Image| -> Image {
                let lasting = image.iter().filter(|(path, _)| !path.to_string_lossy().ends_with("-shm"));
                lasting.map(|(path, content)| (path.clone(), content.clone())).collect()
            };
            if let Some(image) = images.get(part) {
                assert!(lasting(&disk.now()) == lasting(image), "the model is not what part {part} wrote");
            }
        }
        let witness = Witness::of(&disk.said);
        Self { mode, disk, witness, traces }
    }

    /// When the power goes in a round, and what it leaves.
    fn round(&self, seed: usize, moments: &[usize], lasting: &[usize]) -> (usize, Image) {
        let mut dice = Dice(seed as u64);
        let cut = moments[dice.below(moments.len())];
        (cut, self.disk.after(cut, lasting, &mut dice))
    }

    /// Lets the power go once with each seed, and answers what was lost with
    /// which, and how many different images there were.
    fn rounds(&self, seeds: Range<usize>, honest: Honest) -> (BTreeMap<usize, Loss>, usize) {
        let (moments, lasting) = (self.disk.moments(), self.disk.lasting(honest));
        let (next, lost) = (AtomicUsize::new(seeds.start), Mutex::new(BTreeMap::new()));
        let images = Mutex::new(BTreeSet::new());
        let threads = std::thread::available_parallelism().map_or(1, Into::into);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let scratch = scratch();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            break;
                        }
                        let (cut, image) = self.round(seed, &moments, &lasting);
                        images.lock().unwrap().insert(fingerprint(&image));
                        if let Err(loss) = self.look(&image, cut, scratch.path()) {
                            lost.lock().unwrap().insert(seed, loss);
                        }
                    }
                });
            }
        });
        (lost.into_inner().unwrap(), images.into_inner().unwrap().len())
    }

    fn look(&self, image: &Image, cut: usize, scratch: &Path) -> Result<(), Loss> {
        self.witness.looks_at_packs(image, scratch, cut)?;
        let dir = tempfile::tempdir_in(scratch).unwrap();
        work::lay_out(image.iter().filter(|(path, _)| Witness::of_the_store(path)), dir.path());
        self.witness.looks_at_store(&dir.path().join("store.db"), &options(self.mode), cut)
    }

    /// Keeps the traces for another look.
    fn keep(&self) -> PathBuf {
        let kept = std::env::temp_dir().join(format!("runpack-power-{}-{}", std::process::id(), self.disk.said.len()));
        let to = kept.join(self.mode);
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(self.traces.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
        kept
    }
}

/// Has the parts done after each other, each under `strace`, where `start` is,
/// and answers what was there after each.
fn record(mode: &str, parts: &[Part], start: &Image, traces: &Path) -> Vec<Image> {
    let dir = scratch();
    work::lay_out(start.iter(), dir.path());
    std::fs::write(traces.join("root"), dir.path().to_str().unwrap()).unwrap();
    let mut images = Vec::new();
    for (n, (part, killed)) in parts.iter().enumerate() {
        let trace = traces.join(format!("{n}"));
        let calls = format!("trace={}", trace::CALLS);
        let kill = killed.map(|n| format!("inject=fsync,fdatasync:signal=KILL:when={n}"));
        let mut strace = vec!["-f", "-q", "-xx", "-s", "10000000", "-e", &calls, "-o", trace.to_str().unwrap()];
        strace.extend(kill.iter().flat_map(|kill| ["-e", kill]));
        let output = child(&strace, part, mode, dir.path()).output().unwrap();
        let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success() || killed.is_some(), "{part}: {}", told.concat());
        images.push(found(dir.path()));
    }
    images
}

/// What is in a directory.
fn found(dir: &Path) -> Image {
    let mut image = Image::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let content = (!path.is_dir()).then(|| std::fs::read(&path).unwrap());
            image.insert(path.strip_prefix(dir).unwrap().to_owned(), content);
            if path.is_dir() {
                pending.push(path);
            }
        }
    }
    image
}

fn fingerprint(image: &Image) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    hasher.finish()
}
