//! Many packs at once: workers, order, and Ctrl-C.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use runpack_core::pack::layout::{ARTIFACT_DIRECTORY, MANIFEST_NAME};
use runpack_core::pack::{Report, Verdict, VerifyOptions, verify_spread};
use runpack_storage::packs::{ARCHIVE_ENDING, shown};
use walkdir::WalkDir;

use crate::commands::ReadArgs;
use crate::progress::ProgressArgs;

/// One pack to verify.
pub(crate) struct Job {
    /// As the user named it.
    pub(crate) path: String,
    /// How.
    pub(crate) options: VerifyOptions,
    /// Whether a digest is known where one must be.
    pub(crate) pinned: bool,
}

/// The answer about one pack.
#[derive(Clone)]
pub(crate) struct Answer {
    /// As the user named it, without what may be secret.
    pub(crate) path: String,
    /// Its report, or why there is none.
    pub(crate) report: Result<Report, String>,
}

/// What all came to.
#[derive(Default)]
pub(crate) struct Summary {
    /// Packs that passed.
    pub(crate) passed: usize,
    /// Packs that were refused.
    pub(crate) refused: usize,
    /// Packs that could not be checked.
    pub(crate) could_not_tell: usize,
    /// Packs not looked at because of Ctrl-C.
    pub(crate) left: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, refused, could_not_tell, left } = self;
        write!(f, "{passed} passed, {refused} refused, {could_not_tell} could not be checked")?;
        if *left > 0 { write!(f, "; interrupted, {left} not looked at") } else { Ok(()) }
    }
}

/// Packs a worker takes at a time, at most.
const AT_ONCE_MAX: usize = 16;

/// Verifies all jobs and hands over the answers in the order of the jobs.
///
/// After Ctrl-C no further pack is begun; what was begun is finished, and the
/// summary says how many were not looked at.
pub(crate) fn run(
    jobs: &[Job],
    read: &ReadArgs,
    workers: usize,
    progress: ProgressArgs,
    mut told: impl FnMut(Answer),
) -> Summary {
    // Where there are fewer packs than workers, the files of one are spread.
    let threads = workers.max(1).div_ceil(jobs.len().max(1));
    let mut summary = Summary::default();
    summary.left = each(
        jobs.len(),
        workers,
        |index| answer(&jobs[index], read, threads),
        progress,
        |answer| {
            summary.count(&answer);
            told(answer);
        },
    );
    summary
}

/// Does `count` pieces of work with some workers and hands over what they come
/// to in their order. Answers how many were left because of Ctrl-C.
pub(crate) fn each<T: Send>(
    count: usize,
    workers: usize,
    work: impl Fn(usize) -> T + Sync,
    progress: ProgressArgs,
    mut told: impl FnMut(T),
) -> usize {
    static STOP: AtomicBool = AtomicBool::new(false);
    // A second handler cannot be set; tests of this crate never get here twice.
    let _ = ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed));
    let next = AtomicUsize::new(0);
    let workers = workers.clamp(1, count.max(1));
    // Many packs are mostly small ones: handing them over one by one would
    // cost as much as verifying them.
    let at_once = (count / (16 * workers)).clamp(1, AT_ONCE_MAX);
    let (sender, answers) = mpsc::sync_channel(workers * 4);
    let mut done = 0;
    let mut meter = progress.meter(count);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while !STOP.load(Ordering::Relaxed) {
                    let start = next.fetch_add(at_once, Ordering::Relaxed);
                    let mine = start..count.min(start + at_once);
                    let begun = mine.take_while(|_| !STOP.load(Ordering::Relaxed));
                    let answers: Vec<_> = begun.map(work).collect();
                    if answers.is_empty() || sender.send((start, answers)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut due = 0;
        let answers = answers.into_iter().flat_map(|(start, answers)| (start..).zip(answers));
        for (index, answer) in answers {
            done += 1;
            meter.step();
            waiting.insert(index, answer);
            while let Some(answer) = waiting.remove(&due) {
                told(answer);
                due += 1;
            }
        }
        // Behind a gap that Ctrl-C left there may be answers all the same.
        waiting.into_values().for_each(told);
    });
    count - done
}

impl Summary {
    fn count(&mut self, answer: &Answer) {
        match answer.report.as_ref().map(|report| report.verdict) {
            Ok(Verdict::Consistent | Verdict::Pinned | Verdict::Signed) => self.passed += 1,
            Ok(Verdict::Refused) => self.refused += 1,
            Ok(Verdict::CouldNotTell) | Err(_) => self.could_not_tell += 1,
        }
    }
}

/// Does `count` pieces of work in `threads` threads, this one included.
fn spread(threads: usize, count: usize, work: &(dyn Fn(usize) + Sync)) {
    let next = AtomicUsize::new(0);
    let some = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            work(index);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(count) {
            scope.spawn(some);
        }
        some();
    });
}

fn answer(job: &Job, read: &ReadArgs, threads: usize) -> Answer {
    let report = match read.open(&job.path) {
        _ if !job.pinned => Err("no digest is known for this path, and --expect-file asks for one\n\
             hint: paths are compared as they are written: name the pack as the file does, or give --expect-digest"
            .to_owned()),
        Ok((reader, manifest_name)) => {
            let spread = |count: usize, work: &(dyn Fn(usize) + Sync)| spread(threads, count, work);
            Ok(verify_spread(&*reader, &manifest_name, &job.options, &spread))
        }
        Err(error) => Err(error),
    };
    Answer { path: shown(&job.path).into_owned(), report }
}

/// Every pack below `root`, in order of path: directories with a manifest,
/// those with artifacts and none, of which nothing can be told, and sealed
/// archives by their names. Links are not followed, and the staging directories of exports that go on are left out.
pub(crate) fn packs_below(root: &Path, manifest: Option<&str>) -> Result<Vec<String>, String> {
    let manifest = manifest.unwrap_or(MANIFEST_NAME);
    let mut found = Vec::new();
    let staging = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(".runpack-");
    let mut walk = WalkDir::new(root).sort_by_file_name().into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry.map_err(|error| format!("cannot look below `{}`: {error}", root.display()))?;
        let is_directory = entry.file_type().is_dir();
        if is_directory && entry.depth() > 0 && staging(entry.file_name()) {
            walk.skip_current_dir();
            continue;
        }
        let has = |name: &str| entry.path().join(name).symlink_metadata().is_ok();
        let is_pack = if is_directory {
            has(manifest) || has(ARTIFACT_DIRECTORY)
        } else {
            entry.file_type().is_file() && entry.file_name().to_string_lossy().ends_with(ARCHIVE_ENDING)
        };
        if !is_pack {
            continue;
        }
        let path = entry.path().to_str().ok_or_else(|| format!("`{}` is not UTF-8", entry.path().display()))?;
        found.push(path.to_owned());
        if is_directory {
            walk.skip_current_dir();
        }
    }
    Ok(found)
}
