//! Who writes. Whoever comes while nobody writes, writes what all that wait have
//! brought, in one transaction, and hands the desk to the next who waits. So a
//! lone caller waits for the disk and for no other thread, and many wait for the
//! disk together.

use std::collections::VecDeque;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::write::{Answer, Work, Writer};
use crate::runs::{StoreFault, WriteError};

/// Writes taken into one transaction.
const GROUP_MAX: usize = 256;

/// Bytes of bodies taken into one transaction, roughly.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long a group waits for those that were in the one before: a small part of
/// what a disk takes, and never for a lone caller.
const PATIENCE: Duration = Duration::from_micros(200);

pub(super) struct Desk {
    line: Mutex<Line>,
    writer: Mutex<Writer>,
}

/// Those who wait; each of them is in a call, so they are not many.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Job>,
    taken: bool,
    /// How many were in the last group.
    last: usize,
    /// Somebody died at the desk, and nobody knows how things were left there.
    dead: bool,
}

pub(super) struct Job {
    pub(super) work: Work,
    reply: SyncSender<Told>,
}

enum Told {
    /// And the answers of others, to be passed on.
    Answer(Answer, Vec<Answered>),
    /// The desk is yours, and your job is the first of those that wait.
    Lead,
}

type Answered = (SyncSender<Told>, Answer);

/// Tells them all. Each that is told tells a part of the others: one thread that
/// wakes all would be at it for as long as the disk takes.
fn tell(mut answered: Vec<Answered>) {
    while !answered.is_empty() {
        let mut half = answered.split_off(answered.len() / 2);
        let Some((reply, answer)) = half.pop() else { break };
        // Whoever asked may be gone; what was written stays.
        let _ = reply.send(Told::Answer(answer, half));
    }
}

impl Desk {
    pub(super) fn new(writer: Writer) -> Self {
        Self { line: Mutex::default(), writer: Mutex::new(writer) }
    }

    /// Has it written, and comes back after the commit that holds it.
    pub(super) fn write(&self, work: Work) -> Answer {
        // The one who leads answers every job, unless it comes to an end it should not.
        let lost = || WriteError::Unknown(StoreFault("a write came to an unforeseen end".to_owned()));
        let (reply, told) = sync_channel(2);
        let mut line = self.line();
        if line.dead {
            return Err(WriteError::Refused(StoreFault(DEAD.to_owned())));
        }
        line.waiting.push_back(Job { work, reply });
        let free = !std::mem::replace(&mut line.taken, true);
        drop(line);
        if free {
            self.lead();
        }
        loop {
            match told.recv().map_err(|_| lost())? {
                Told::Answer(answer, others) => {
                    tell(others);
                    return answer;
                }
                Told::Lead => self.lead(),
            }
        }
    }

    /// Why nothing can be written any more.
    pub(super) fn fault(&self) -> Option<StoreFault> {
        self.line().dead.then(|| StoreFault(DEAD.to_owned()))
    }

    /// Writes a group, and hands the desk on.
    fn lead(&self) {
        let leaving = Leaving(self);
        let group = self.group();
        let answers = self.writer.lock().unwrap_or_else(PoisonError::into_inner).write(&group);
        tell(group.into_iter().map(|job| job.reply).zip(answers).collect());
        drop(leaving);
    }

    /// What waits, once as many have come as were written for the last time: those
    /// were told a moment ago, and some are about to come again.
    fn group(&self) -> Vec<Job> {
        let begun = Instant::now();
        let mut line = self.line();
        while line.waiting.len() < line.last && begun.elapsed() < PATIENCE {
            drop(line);
            std::thread::yield_now();
            line = self.line();
        }
        let (mut group, mut bytes) = (Vec::new(), 0);
        while group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
            let Some(job) = line.waiting.pop_front() else { break };
            bytes += job.work.bytes();
            group.push(job);
        }
        line.last = group.len();
        group
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const DEAD: &str = "a write came to an unforeseen end\nhint: restart";

/// Hands the desk on, whatever happens at it.
struct Leaving<'d>(&'d Desk);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut line = self.0.line();
        if std::thread::panicking() {
            line.dead = true;
            // Those who wait are told, since nobody holds the other end any more.
            line.waiting.clear();
            return;
        }
        match line.waiting.front() {
            Some(next) => {
                let _ = next.reply.send(Told::Lead);
            }
            None => line.taken = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread::sleep;

    use super::*;
    use crate::runs::RunStore;
    use crate::runs::sqlite::{SqliteOptions, SqliteRuns};

    #[test]
    fn everybody_is_told_when_somebody_dies_at_the_desk() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteRuns::open(&dir.path().join("store.db"), &SqliteOptions::default()).unwrap());
        let (over, before) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        loop {
                            match store.send(Work::Probe) {
                                Ok(_) => before.fetch_add(1, Ordering::Relaxed),
                                Err(error) => break error,
                            };
                            assert!(!over.load(Ordering::Relaxed), "nobody writes after that");
                        }
                    })
                })
                .collect();
            while before.load(Ordering::Relaxed) < 100 {
                sleep(Duration::from_millis(1));
            }
            let dying = store.clone();
            let died = std::thread::spawn(move || dying.send(Work::Die)).join();
            // It died with its own call, or another wrote for it and died.
            assert!(!matches!(died, Ok(Ok(_))), "{died:?}");
            sleep(Duration::from_millis(50));
            over.store(true, Ordering::Relaxed);
            let ends: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            let dead = ends.iter().filter(|end| end.is_err()).count() + usize::from(died.is_err());
            assert_eq!(dead, 1, "one dies, and the others are told: {ends:?}");
            for end in ends.into_iter().flatten() {
                assert!(end.to_string().contains("unforeseen end"), "{end}");
            }
        });
        assert!(store.ready().unwrap_err().to_string().contains("hint: restart"));
        assert!(matches!(store.send(Work::Probe), Err(WriteError::Refused(_))));
    }
}
