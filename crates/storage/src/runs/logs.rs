use std::io;

use runpack_core::engine::{Counts, Head};
use runpack_core::pack::layout::Log;
use runpack_core::pack::{LogWriter, RunIdentity, RunLogs};

use super::{PAGE_ENTRIES_MAX, ReadError, RunKey, RunStore};

/// A run as it stood at one moment, read from its store page by page: what is
/// appended meanwhile is not in it.
pub struct StoredRun<'s> {
    store: &'s dyn RunStore,
    key: RunKey,
    head: Head,
    stopped: Option<&'s (dyn Fn() -> bool + Sync)>,
}

impl<'s> StoredRun<'s> {
    /// Checks the whole run and takes it as it stands; `None` if there is none.
    ///
    /// # Errors
    /// [`ReadError::Damaged`], so that no pack is made of a run that is not
    /// what was written.
    pub fn open(store: &'s dyn RunStore, key: &RunKey) -> Result<Option<Self>, ReadError> {
        if store.head(key)?.is_none() {
            return Ok(None);
        }
        let head = store.check(key)?;
        Ok(Some(Self { store, key: key.clone(), head, stopped: None }))
    }

    /// Fails to read on once `stopped` says so.
    #[must_use]
    pub fn until(self, stopped: &'s (dyn Fn() -> bool + Sync)) -> Self {
        Self { stopped: Some(stopped), ..self }
    }

    /// Where the run stood.
    pub fn head(&self) -> &Head {
        &self.head
    }
}

impl RunLogs for StoredRun<'_> {
    fn identity(&self) -> RunIdentity {
        (&self.head).into()
    }

    fn write(&self, log: Log, out: &mut LogWriter<'_>) -> io::Result<()> {
        let total = length(&self.head.counts, log);
        let (mut written, mut after) = (0, 0);
        loop {
            if self.stopped.is_some_and(|stopped| stopped()) {
                return Err(io::Error::other("nobody waits for it any more"));
            }
            if written == total {
                return Ok(());
            }
            let limit = (total - written).min(PAGE_ENTRIES_MAX as u64) as usize;
            let page = self.store.page(&self.key, log, after, limit).map_err(io::Error::other)?;
            if page.entries.is_empty() {
                let message = format!("the log of {total} entries ends after {written}");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
            }
            page.entries.iter().try_for_each(|entry| out.canonical(entry))?;
            written += page.entries.len() as u64;
            after = page.end;
        }
    }
}

fn length(counts: &Counts, log: Log) -> u64 {
    match log {
        Log::Triggers => counts.triggers,
        Log::GateEvals => counts.gate_evals,
        Log::Decisions => counts.decisions,
        Log::Packets => counts.packets,
        Log::Submissions => counts.submissions,
        Log::ToolCalls => counts.tool_calls,
    }
}
