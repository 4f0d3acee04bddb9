//! Run logs: append-only, one head per run, compared before every append.

mod memory;

use runpack_core::model::{NamespaceId, RunId, TenantId};

pub use memory::MemoryRuns;

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

/// Why entries were not written. Nothing of them is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A run of that name is there already.
    #[error("run already exists: {0}")]
    Exists(RunId),
    /// There is no such run.
    #[error("run not found: {0}")]
    NotFound(RunId),
    /// Somebody appended in between. Load and decide again rather than retrying
    /// the append: the decision belongs to the state it was made in.
    #[error("the run has {found} entries, expected {expected}")]
    Conflict {
        /// Entries when the head was loaded.
        expected: u64,
        /// Entries now.
        found: u64,
    },
}
