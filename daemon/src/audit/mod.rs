//! The audit log: who asked for what, and what was answered.
//!
//! One JSON object a line, in canonical form, each with its number from 1 (`seq`)
//! and the SHA-256 of the line before it (`previous`, hex; of the first 64
//! zeros), across rotations and restarts. So a line that is changed, taken out
//! or moved shows: see [`verify`]. What a chain cannot show by itself is that
//! its end was cut off, or that everything from some line on was written anew by
//! somebody who can write the file; for that note its newest digest elsewhere,
//! or let another machine take the lines as they come.
//!
//! Events are written by one thread. What is recorded waits in a queue of
//! [`QUEUE_MAX`] events; who records more waits for room, so nothing is dropped
//! while the log can be written. While it cannot, the queue is kept and tried
//! again every second; what comes once it is full is counted, and the count goes
//! into the log (`audit_lost`) as soon as that is possible. A torn last line, of
//! a process that was killed, is put aside as `<path>.torn-<seq>`, and the line
//! of that number says so (`audit_recovered`).
//!
//! No secret has a place in an event: of a token its digest is written
//! ([`TokenFingerprint`]), of headers and bodies nothing but what the events
//! name, and of a precheck's payload its digest, unless the config asks for more.

mod chain;
mod event;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::talk::talk;
pub use chain::files;
use chain::{AuditFile, End, Medium};
use event::Own;
pub use event::{
    AuthMethod, AuthzDecision, Correlation, Event, McpRequest, McpToolAuthz, Method, Metric, Outcome, PayloadRedaction,
    PrecheckAudit, Redaction, RegistryAction, RegistryAudit, SecurityAudit, SecurityKind, TenantAuthz,
    TokenFingerprint, Transport, UsageAudit,
};
pub use verify::{Broken, Verified, verify};

/// Events that wait for the writer.
pub const QUEUE_MAX: usize = 1_024;

/// Bytes written at once, roughly.
const BATCH_BYTES: usize = 1024 * 1024;

/// How long after a failure the log is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Where and how lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditOptions {
    /// The file; without, lines go to stderr, and every process begins a chain.
    pub path: Option<PathBuf>,
    /// When the file is put aside; without, it grows.
    pub rotation: Option<Rotation>,
    /// When lines are synced.
    pub fsync: Fsync,
    /// For [`Fsync::Interval`].
    pub fsync_interval: Duration,
    /// What follows when lines cannot be written.
    pub on_error: OnError,
}

impl Default for AuditOptions {
    fn default() -> Self {
        let fsync_interval = Duration::from_secs(1);
        Self { path: None, rotation: None, fsync: Fsync::None, fsync_interval, on_error: OnError::Warn }
    }
}

/// The file becomes `.1`, what was that becomes `.2`, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes that the file does not grow beyond, if a line is not larger.
    pub bytes: u64,
    /// Files that are kept besides; the oldest goes.
    pub keep: NonZeroU32,
}

/// When lines are synced.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fsync {
    /// Never: a loss of power may take the newest, or leave some of them torn.
    #[default]
    None,
    /// Before they count as written. What waits is synced together.
    Each,
    /// So often, if there are new ones.
    Interval,
}

/// What follows when lines cannot be written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It is said on stderr, once until it works again.
    #[default]
    Warn,
    /// Also, [`AuditLog::ready`] says no, so that calls can be refused.
    Refuse,
}

/// Why an audit log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Lines are appended, and files renamed.
    #[error("the audit log `{0}` is no file\nhint: leave the path out, and lines go to stderr")]
    NoFile(PathBuf),
    /// Two chains in one file would be none.
    #[error("another process writes the audit log `{0}`\nhint: give each its own")]
    Held(PathBuf),
    /// It does not end in a line of an audit log.
    #[error("`{0}` is not an audit log of runpackd, or damaged at its end\nhint: move it away, or name another file")]
    Foreign(PathBuf),
    /// It cannot be used.
    #[error("cannot open the audit log `{path}`: {error}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Why lines are not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written: {0}")]
pub struct AuditFault(pub String);

/// How a log stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Lines this process wrote.
    pub lines: u64,
    /// How often they were synced.
    pub syncs: u64,
    /// How often the file was put aside.
    pub rotations: u64,
    /// Events that came while the queue was full and the log failed.
    pub lost: u64,
    /// What is wrong now.
    pub fault: Option<AuditFault>,
}

/// A log that is open. Closing or dropping it writes what waits.
#[derive(Debug)]
pub struct AuditLog {
    shared: Arc<Shared>,
    on_error: OnError,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AuditLog {
    /// Opens a log where it ended, repairs its last line if that is torn, and
    /// starts the thread that writes. The time is for the line that says what
    /// was repaired.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(options: &AuditOptions, timestamp_ms: u64) -> Result<Self, OpenError> {
        let durable = options.fsync != Fsync::None;
        let (medium, end, recovered) = match &options.path {
            None => (Medium::Stderr, End::nothing(), None),
            Some(path) => {
                let (file, end, recovered) = AuditFile::open(path, options.rotation, durable)?;
                (Medium::File(file), end, recovered)
            }
        };
        let shared = Arc::new(Shared::default());
        if let Some(own) = recovered {
            let mut state = shared.lock();
            state.waiting.push_back(own.members(timestamp_ms));
            state.recorded += 1;
        }
        let writer = Writer {
            shared: shared.clone(),
            medium,
            end,
            fsync: options.fsync,
            interval: options.fsync_interval,
            batch: VecDeque::new(),
            done: (0, 0, 0),
            unsynced: None,
            overdue: false,
            retry: None,
            broken: None,
        };
        let writer = std::thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| OpenError::Unusable { path: options.path.clone().unwrap_or_default(), error })?;
        Ok(Self { shared, on_error: options.on_error, writer: Mutex::new(Some(writer)) })
    }

    /// Takes an event down. Waits while the queue is full; not for the disk.
    pub fn record(&self, timestamp_ms: u64, event: Event) {
        let members = event.members(timestamp_ms);
        let mut state = self.shared.lock();
        while state.waiting.len() >= QUEUE_MAX && state.status.fault.is_none() {
            state = self.shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.waiting.len() >= QUEUE_MAX || state.gone {
            state.status.lost += 1;
            state.unsaid += 1;
            state.unsaid_since.get_or_insert(timestamp_ms);
            return;
        }
        state.waiting.push_back(members);
        state.recorded += 1;
        drop(state);
        self.shared.filled.notify_one();
    }

    /// Waits until everything recorded so far is written, and synced if each
    /// line is to be.
    ///
    /// # Errors
    /// It cannot be written now.
    pub fn flush(&self) -> Result<(), AuditFault> {
        let mut state = self.shared.lock();
        let expected = state.recorded;
        while state.status.lines < expected && state.status.fault.is_none() {
            state = self.shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.status.fault.clone().map_or(Ok(()), Err)
    }

    /// Whether calls may be taken: yes, unless lines cannot be written and that
    /// matters.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), AuditFault> {
        match self.on_error {
            OnError::Warn => Ok(()),
            OnError::Refuse => self.shared.lock().status.fault.clone().map_or(Ok(()), Err),
        }
    }

    /// Writes what waits, syncs it, and takes nothing more: at the end of a
    /// process, where somebody may still hold the log.
    pub fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.filled.notify_all();
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = writer.join();
        }
    }

    /// How the log stands.
    pub fn status(&self) -> Status {
        self.shared.lock().status.clone()
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.close();
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Something waits, or the end.
    filled: Condvar,
    /// Something was written, or cannot be.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Map<String, Value>>,
    /// Events taken into the queue, ever.
    recorded: u64,
    /// Lost and not in the log yet.
    unsaid: u64,
    /// When the first of them came.
    unsaid_since: Option<u64>,
    closing: bool,
    /// There is no writer any more.
    gone: bool,
    status: Status,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer {
    shared: Arc<Shared>,
    medium: Medium,
    end: End,
    fsync: Fsync,
    interval: Duration,
    /// Taken from the queue and not written yet.
    batch: VecDeque<Map<String, Value>>,
    /// Lines, syncs and rotations so far.
    done: (u64, u64, u64),
    /// Since when something is written and not synced.
    unsynced: Option<Instant>,
    /// The file should have been put aside, and could not be.
    overdue: bool,
    /// When to try again what failed.
    retry: Option<Instant>,
    /// A sync failed. What it was for may be lost, whatever later ones say.
    broken: Option<String>,
}

/// Says that there is no writer, however it came to its end.
struct Gone(Arc<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.gone = true;
        let unforeseen = || AuditFault("the writer came to an unforeseen end\nhint: restart".to_owned());
        state.status.fault.get_or_insert_with(unforeseen);
        drop(state);
        self.0.room.notify_all();
    }
}

impl Writer {
    fn run(mut self) {
        let _gone = Gone(self.shared.clone());
        loop {
            let closing = self.take();
            let outcome = self.write();
            self.sync(closing);
            let failed = outcome.is_err();
            let left = self.tell(outcome);
            if closing && failed && left > 0 {
                talk(&format!("warning: the audit log lacks the last {left} events"));
            }
            if closing && (failed || left == 0) {
                return;
            }
        }
    }

    /// Waits until there is something to do; whether it is the last.
    fn take(&mut self) -> bool {
        let mut state = self.shared.lock();
        loop {
            let sync = self.unsynced.map(|since| since + self.interval);
            let due = [self.retry, sync].into_iter().flatten().min();
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            // What could not be written comes first. Meanwhile the rest stays in
            // the queue, which is bounded.
            let more = self.batch.is_empty() && !state.waiting.is_empty();
            if more || state.closing || left == Some(Duration::ZERO) {
                break;
            }
            let filled = &self.shared.filled;
            state = match left {
                Some(left) => filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => filled.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        if self.batch.is_empty() {
            self.batch.append(&mut state.waiting);
            if let Some(since) = state.unsaid_since.take() {
                let reason = "the log could not be written, and the queue was full".to_owned();
                let lost = Own::AuditLost { lines: std::mem::take(&mut state.unsaid), reason };
                self.batch.push_back(lost.members(since));
                state.recorded += 1;
            }
        }
        let closing = state.closing;
        drop(state);
        self.shared.room.notify_all();
        closing
    }

    /// Writes what was taken; what could not be written stays.
    fn write(&mut self) -> io::Result<()> {
        let mut aside = if self.overdue { self.rotate() } else { Ok(()) };
        while !self.batch.is_empty() {
            let (mut text, mut end, mut lines) = (Vec::new(), self.end, 0);
            for members in &self.batch {
                let (line, after) = end.link(members)?;
                let bytes = text.len() + line.len() + 1;
                if lines > 0 && (bytes > BATCH_BYTES || !self.medium.fits(bytes)) {
                    break;
                }
                text.extend_from_slice(&line);
                text.push(b'\n');
                (end, lines) = (after, lines + 1);
            }
            if !self.medium.fits(text.len()) && !self.medium.is_new() && aside.is_ok() {
                aside = self.rotate();
            }
            self.medium.append(&text)?;
            self.end = end;
            self.batch.drain(..lines);
            self.done.0 += lines as u64;
            if self.fsync != Fsync::None {
                self.unsynced.get_or_insert_with(Instant::now);
            }
        }
        // The file goes on, larger than it should be.
        aside
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.sync(true);
        let rotated = self.medium.rotate();
        self.overdue = rotated.is_err();
        self.done.2 += u64::from(rotated.is_ok());
        rotated
    }

    fn sync(&mut self, now: bool) {
        let Some(since) = self.unsynced else { return };
        if now || self.fsync == Fsync::Each || since.elapsed() >= self.interval {
            self.unsynced = None;
            match self.medium.sync() {
                Ok(()) => self.done.1 += 1,
                Err(error) => {
                    self.broken = Some(format!("{error}, when lines were synced\nhint: see to the disk, then restart"));
                }
            }
        }
    }

    /// Says how it went, and how many events are left.
    fn tell(&mut self, outcome: io::Result<()>) -> usize {
        self.retry = outcome.is_err().then(|| Instant::now() + RETRY);
        let failed = outcome.err().map(|error| error.to_string());
        let fault = self.broken.clone().or(failed).map(AuditFault);
        let mut state = self.shared.lock();
        let status = &mut state.status;
        (status.lines, status.syncs, status.rotations) = self.done;
        let before = std::mem::replace(&mut status.fault, fault.clone());
        let left = self.batch.len() + state.waiting.len() + usize::try_from(state.unsaid).unwrap_or(usize::MAX);
        drop(state);
        self.shared.room.notify_all();
        match (before, fault) {
            (None, Some(fault)) => talk(&format!("warning: {fault}")),
            (Some(_), None) => talk("the audit log is written again"),
            _ => {}
        }
        left
    }
}
