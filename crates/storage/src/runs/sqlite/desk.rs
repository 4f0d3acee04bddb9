//! Who writes. Whoever comes while nobody writes, writes what all that wait have
//! brought, in one transaction, and hands the desk to the next who waits. So a
//! lone caller waits for the disk and for no other thread, and many wait for the
//! disk together.

use std::collections::VecDeque;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::write::{Done, Work, Writer};
use crate::runs::{StoreFault, WriteError};

/// Writes taken into one transaction.
const GROUP_MAX: usize = 256;

/// Bytes of bodies taken into one transaction, roughly.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

pub(super) struct Desk {
    line: Mutex<Line>,
    writer: Mutex<Writer>,
}

/// Those who wait; each of them is in a call, so they are not many.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Job>,
    taken: bool,
    /// Somebody died at the desk, and nobody knows how things were left there.
    dead: bool,
}

pub(super) struct Job {
    pub(super) work: Work,
    reply: SyncSender<Told>,
}

enum Told {
    Answer(Result<Done, WriteError>),
    /// The desk is yours, and your job is the first of those that wait.
    Lead,
}

impl Job {
    pub(super) fn answer(self, answer: Result<Done, WriteError>) {
        // Whoever asked may be gone; what was written stays.
        let _ = self.reply.send(Told::Answer(answer));
    }
}

impl Desk {
    pub(super) fn new(writer: Writer) -> Self {
        Self { line: Mutex::default(), writer: Mutex::new(writer) }
    }

    /// Has it written, and comes back after the commit that holds it.
    pub(super) fn write(&self, work: Work) -> Result<Done, WriteError> {
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
                Told::Answer(answer) => return answer,
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
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).write(group);
        drop(leaving);
    }

    fn group(&self) -> Vec<Job> {
        let mut line = self.line();
        let (mut group, mut bytes) = (Vec::new(), 0);
        while group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
            let Some(job) = line.waiting.pop_front() else { break };
            bytes += job.work.bytes();
            group.push(job);
        }
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
