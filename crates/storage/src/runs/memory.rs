use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use runpack_core::engine::{Entry, Head};
use runpack_core::model::{
    DecisionId, DecisionRecord, GateEvalRecord, PacketId, PacketRecord, RunState, SubmissionId, SubmissionRecord,
    TriggerId,
};

use super::{RunKey, WriteError};

/// Runs that live as long as the process. No call costs more because a run is long.
#[derive(Debug, Default)]
pub struct MemoryRuns {
    runs: Mutex<BTreeMap<RunKey, Stored>>,
}

/// A run, and where in its logs things are.
#[derive(Debug)]
struct Stored {
    state: RunState,
    decided: BTreeMap<TriggerId, usize>,
    evaluated: BTreeMap<TriggerId, Range<usize>>,
    issued: BTreeMap<DecisionId, Range<usize>>,
    submitted: BTreeMap<SubmissionId, usize>,
}

impl MemoryRuns {
    /// Writes the first entries of a run.
    ///
    /// # Errors
    /// [`WriteError::Exists`].
    pub fn create(&self, head: Head, entries: Vec<Entry>) -> Result<(), WriteError> {
        let key = key_of(&head);
        let mut runs = self.lock();
        if runs.contains_key(&key) {
            return Err(WriteError::Exists(key.run_id));
        }
        let mut stored = Stored::new(&head);
        stored.append(head, entries);
        runs.insert(key, stored);
        Ok(())
    }

    /// Appends `entries` if the run still has `expected` of them; `head` is the
    /// run's after them.
    ///
    /// # Errors
    /// [`WriteError::NotFound`], [`WriteError::Conflict`].
    pub fn append(&self, expected: u64, head: Head, entries: Vec<Entry>) -> Result<(), WriteError> {
        let key = key_of(&head);
        let mut runs = self.lock();
        let Some(stored) = runs.get_mut(&key) else { return Err(WriteError::NotFound(key.run_id)) };
        let found = Head::of(&stored.state).counts.total();
        if found != expected {
            return Err(WriteError::Conflict { expected, found });
        }
        stored.append(head, entries);
        Ok(())
    }

    /// The run's head.
    pub fn head(&self, key: &RunKey) -> Option<Head> {
        self.read(key, |stored| Head::of(&stored.state))
    }

    /// The decision on a trigger.
    pub fn decision(&self, key: &RunKey, trigger: &TriggerId) -> Option<DecisionRecord> {
        self.read(key, |stored| stored.decided.get(trigger).map(|&index| stored.state.decisions[index].clone()))?
    }

    /// The newest decision.
    pub fn last_decision(&self, key: &RunKey) -> Option<DecisionRecord> {
        self.read(key, |stored| stored.state.decisions.last().cloned())?
    }

    /// The gate evaluations made for a trigger.
    pub fn gate_evals(&self, key: &RunKey, trigger: &TriggerId) -> Vec<GateEvalRecord> {
        let found = self.read(key, |stored| slice(&stored.state.gate_evals, stored.evaluated.get(trigger)));
        found.unwrap_or_default()
    }

    /// The packets issued under a decision.
    pub fn packets(&self, key: &RunKey, decision: &DecisionId) -> Vec<PacketRecord> {
        self.read(key, |stored| slice(&stored.state.packets, stored.issued.get(decision))).unwrap_or_default()
    }

    /// The ids of all packets, in the order issued, repeats included.
    pub fn packet_ids(&self, key: &RunKey) -> Vec<PacketId> {
        let ids =
            |stored: &Stored| stored.state.packets.iter().map(|packet| packet.envelope.packet_id.clone()).collect();
        self.read(key, ids).unwrap_or_default()
    }

    /// The submission of that id.
    pub fn submission(&self, key: &RunKey, id: &SubmissionId) -> Option<SubmissionRecord> {
        self.read(key, |stored| stored.submitted.get(id).map(|&index| stored.state.submissions[index].clone()))?
    }

    /// Everything about a run.
    pub fn state(&self, key: &RunKey) -> Option<RunState> {
        self.read(key, |stored| stored.state.clone())
    }

    fn read<T>(&self, key: &RunKey, pick: impl FnOnce(&Stored) -> T) -> Option<T> {
        self.lock().get(key).map(pick)
    }

    /// A panic elsewhere leaves no half-written run: entries are only ever
    /// pushed under the lock, after everything that can fail.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunKey, Stored>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_of(head: &Head) -> RunKey {
    RunKey { tenant_id: head.tenant_id, namespace_id: head.namespace_id, run_id: head.run_id.clone() }
}

fn slice<T: Clone>(log: &[T], range: Option<&Range<usize>>) -> Vec<T> {
    range.and_then(|range| log.get(range.clone())).map(<[T]>::to_vec).unwrap_or_default()
}

impl Stored {
    fn new(head: &Head) -> Self {
        Self {
            state: head.empty_state(),
            decided: BTreeMap::new(),
            evaluated: BTreeMap::new(),
            issued: BTreeMap::new(),
            submitted: BTreeMap::new(),
        }
    }

    /// Logs `entries`, after which the run stands as `head` says.
    fn append(&mut self, head: Head, entries: Vec<Entry>) {
        entries.into_iter().for_each(|entry| self.push(entry));
        self.state.current_stage_id = head.current_stage_id;
        self.state.stage_entered_at = head.stage_entered_at;
        self.state.status = head.status;
        debug_assert_eq!(Head::of(&self.state).counts, head.counts, "the head counts what was logged");
    }

    fn push(&mut self, entry: Entry) {
        let state = &mut self.state;
        match entry {
            Entry::Trigger(record) => state.triggers.push(record),
            Entry::GateEval(record) => {
                extend(&mut self.evaluated, record.trigger_id.clone(), state.gate_evals.len());
                state.gate_evals.push(record);
            }
            Entry::Decision(record) => {
                self.decided.insert(record.trigger_id.clone(), state.decisions.len());
                state.decisions.push(record);
            }
            Entry::Packet(record) => {
                extend(&mut self.issued, record.decision_id.clone(), state.packets.len());
                state.packets.push(record);
            }
            Entry::Submission(record) => {
                self.submitted.insert(record.submission_id.clone(), state.submissions.len());
                state.submissions.push(record);
            }
            Entry::ToolCall(record) => state.tool_calls.push(record),
        }
    }
}

/// Entries of one trigger or decision lie together in their log.
fn extend<K: Ord>(ranges: &mut BTreeMap<K, Range<usize>>, key: K, position: usize) {
    ranges.entry(key).and_modify(|range| range.end = position + 1).or_insert(position..position + 1);
}
