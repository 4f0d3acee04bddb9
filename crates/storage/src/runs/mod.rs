//! Run logs: append-only, one head per run, compared before every append. With
//! them what runs are started from, the data shapes that are registered, and the
//! packets that are to be delivered.

mod logs;
mod memory;
mod outbox;
mod scenarios;
mod shapes;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod suite;

use runpack_core::engine::{Entry, Head};
use runpack_core::model::{
    DecisionRecord, GateEvalRecord, NamespaceId, PacketId, PacketRecord, RunId, SubmissionId, SubmissionRecord,
    TenantId, TriggerId,
};
use runpack_core::pack::layout::Log;

pub use logs::StoredRun;
pub use memory::MemoryRuns;
pub use outbox::{
    DeliveryOutcome, DeliveryPage, DeliveryRecord, LEASES_BYTES_MAX, LEASES_MAX, Lease, LeaseTerms, Leased, Outbox,
    Settled,
};
pub use scenarios::{Defined, ScenarioStore, StoredScenario};
pub use shapes::{Registered, SHAPES_PAGE_BYTES_MAX, SHAPES_PAGE_MAX, ShapeKey, ShapePage, ShapeStore};

/// Entries that [`RunStore::page`] answers at most, whatever was asked.
pub const PAGE_ENTRIES_MAX: usize = 1_000;

/// Keeps the logs of runs. Every call costs the same however long a run is.
///
/// An implementation is right if [`suite::holds`] passes on it.
pub trait RunStore: Send + Sync {
    /// Begins a run with its first entries. `head` is the run's after them.
    ///
    /// # Errors
    /// [`WriteError::Exists`], also for a run that was pruned.
    fn create(&self, head: &Head, entries: &[Entry]) -> Result<(), WriteError>;

    /// Appends `entries` if the run still has `expected` of them; `head` is the
    /// run's after them.
    ///
    /// When this returns, the entries are as durable as the store was opened
    /// to make them.
    ///
    /// # Errors
    /// On [`WriteError::Conflict`] nothing was written. Load and decide again
    /// rather than retrying the append: the decision belongs to the state it
    /// was made in.
    fn append(&self, expected: u64, head: &Head, entries: &[Entry]) -> Result<(), WriteError>;

    /// Where a run stands.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn head(&self, key: &RunKey) -> Result<Option<Head>, ReadError>;

    /// A decision with what was logged around it, if there is one.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn decided(&self, key: &RunKey, which: Which<'_>) -> AtHead<Option<Decided>>;

    /// The newest decision, and the ids of all packets in the order issued,
    /// repeats included.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn standing(&self, key: &RunKey) -> AtHead<(Option<Decided>, Vec<PacketId>)>;

    /// The submission of that id, if there is one.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn submission(&self, key: &RunKey, id: &SubmissionId) -> AtHead<Option<SubmissionRecord>>;

    /// Entries of a log as canonical JSON, oldest first: from the beginning with
    /// `after` 0, or from where an earlier page ended. At most
    /// [`PAGE_ENTRIES_MAX`] come at once, and none when there are no more.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn page(&self, key: &RunKey, log: Log, after: u64, limit: usize) -> Result<Page, ReadError>;

    /// Heads of runs in the order of their keys, after `after`.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn list(&self, after: Option<&RunKey>, limit: usize) -> Result<Vec<Head>, ReadError>;

    /// Reads a whole run, checks what ties its entries together, and works out
    /// its head from them.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] names the first entry that is not what it was.
    fn check(&self, key: &RunKey) -> Result<Head, ReadError>;

    /// Removes a run that is completed or failed, whole and for good, with what
    /// became of its deliveries. That it was there stays recorded.
    ///
    /// # Errors
    /// [`WriteError::Active`], [`WriteError::Undelivered`],
    /// [`WriteError::NotFound`].
    fn prune(&self, key: &RunKey) -> Result<Pruned, WriteError>;

    /// Whether appends would be taken.
    ///
    /// # Errors
    /// Why not.
    fn ready(&self) -> Result<(), StoreFault>;
}

/// What names a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunKey {
    /// Whose.
    pub tenant_id: TenantId,
    /// In which namespace.
    pub namespace_id: NamespaceId,
    /// Which.
    pub run_id: RunId,
}

impl RunKey {
    /// The key of the run with this head.
    pub fn of(head: &Head) -> Self {
        Self { tenant_id: head.tenant_id, namespace_id: head.namespace_id, run_id: head.run_id.clone() }
    }
}

/// Something of a run, and where the run stood at the moment it was read; `None`
/// if there is no such run.
pub type AtHead<T> = Result<Option<(Head, T)>, ReadError>;

/// Which decision is meant.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// The newest.
    Newest,
    /// The one on this trigger.
    On(&'a TriggerId),
}

/// A decision, the gates behind it, and the packets it issued.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each is the log entry of that name")]
pub struct Decided {
    pub decision: DecisionRecord,
    pub gate_evals: Vec<GateEvalRecord>,
    pub packets: Vec<PacketRecord>,
}

/// Some entries of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Each as canonical JSON.
    pub entries: Vec<Vec<u8>>,
    /// Where the next page begins; means nothing to anybody but the store.
    pub end: u64,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Entries of logs.
    pub entries: u64,
}

/// What is wrong with a store, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreFault(pub String);

/// Why entries were not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A run of that name is there already, or was.
    #[error("run already exists: {0}")]
    Exists(RunId),
    /// There is no such run.
    #[error("run not found: {0}")]
    NotFound(RunId),
    /// Somebody appended in between; nothing was written.
    #[error("the run has {found} entries, expected {expected}")]
    Conflict {
        /// Entries when the head was loaded.
        expected: u64,
        /// Entries now.
        found: u64,
    },
    /// A run that still takes triggers is not pruned.
    #[error("run {0} is still active, and only closed runs are pruned")]
    Active(RunId),
    /// A run whose packets are still to be delivered is not pruned.
    #[error(
        "run {run} has {open} deliveries that are open, and goes when they are delivered or given up\n\
         hint: let a daemon deliver them, or `runpackd store prune --give-up-deliveries`"
    )]
    Undelivered {
        /// The run.
        run: RunId,
        /// How many.
        open: u64,
    },
    /// The run is damaged; nothing was written.
    #[error(transparent)]
    Damaged(Damage),
    /// The store takes nothing now; nothing was written.
    #[error("the run store refuses to write: {0}")]
    Refused(StoreFault),
    /// The medium failed while it was written, so it may be there or not. No
    /// more is taken until somebody looks.
    #[error("the run store failed while writing, and what was not acknowledged may be there or not: {0}")]
    Unknown(StoreFault),
}

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// What is stored is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The medium failed.
    #[error("the run store cannot be read: {0}")]
    Unreadable(StoreFault),
}

/// Where a store holds something else than was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the run store is damaged: {place}: {problem}")]
pub struct Damage {
    /// The run, and the entry if it is one.
    pub place: String,
    /// What does not fit.
    pub problem: String,
}
