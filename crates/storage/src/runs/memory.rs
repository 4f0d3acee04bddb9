use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use runpack_core::engine::{Entry, Head};
use runpack_core::model::{
    DecisionId, DecisionRecord, GateEvalRecord, PacketId, PacketRecord, RunState, SubmissionId, SubmissionRecord,
    ToolCallRecord, TriggerId, TriggerRecord,
};

use super::{RunKey, WriteError};

/// Runs that live as long as the process. No call costs more because a run is long.
#[derive(Debug, Default)]
pub struct MemoryRuns {
    runs: Mutex<BTreeMap<RunKey, Stored>>,
}

#[derive(Debug)]
struct Stored {
    head: Head,
    triggers: Vec<TriggerRecord>,
    gate_evals: Vec<GateEvalRecord>,
    decisions: Vec<DecisionRecord>,
    packets: Vec<PacketRecord>,
    submissions: Vec<SubmissionRecord>,
    tool_calls: Vec<ToolCallRecord>,
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
        let mut stored = Stored::new(head);
        entries.into_iter().for_each(|entry| stored.push(entry));
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
        let found = stored.head.counts.total();
        if found != expected {
            return Err(WriteError::Conflict { expected, found });
        }
        entries.into_iter().for_each(|entry| stored.push(entry));
        stored.head = head;
        Ok(())
    }

    /// The run's head.
    pub fn head(&self, key: &RunKey) -> Option<Head> {
        self.read(key, |stored| stored.head.clone())
    }

    /// The decision on a trigger.
    pub fn decision(&self, key: &RunKey, trigger: &TriggerId) -> Option<DecisionRecord> {
        self.read(key, |stored| stored.decided.get(trigger).map(|&index| stored.decisions[index].clone()))?
    }

    /// The newest decision.
    pub fn last_decision(&self, key: &RunKey) -> Option<DecisionRecord> {
        self.read(key, |stored| stored.decisions.last().cloned())?
    }

    /// The gate evaluations made for a trigger.
    pub fn gate_evals(&self, key: &RunKey, trigger: &TriggerId) -> Vec<GateEvalRecord> {
        let found = self.read(key, |stored| slice(&stored.gate_evals, stored.evaluated.get(trigger)));
        found.unwrap_or_default()
    }

    /// The packets issued under a decision.
    pub fn packets(&self, key: &RunKey, decision: &DecisionId) -> Vec<PacketRecord> {
        self.read(key, |stored| slice(&stored.packets, stored.issued.get(decision))).unwrap_or_default()
    }

    /// The ids of all packets, in the order issued, repeats included.
    pub fn packet_ids(&self, key: &RunKey) -> Vec<PacketId> {
        let ids = |stored: &Stored| stored.packets.iter().map(|packet| packet.envelope.packet_id.clone()).collect();
        self.read(key, ids).unwrap_or_default()
    }

    /// The submission of that id.
    pub fn submission(&self, key: &RunKey, id: &SubmissionId) -> Option<SubmissionRecord> {
        self.read(key, |stored| stored.submitted.get(id).map(|&index| stored.submissions[index].clone()))?
    }

    /// Everything about a run.
    pub fn state(&self, key: &RunKey) -> Option<RunState> {
        self.read(key, Stored::state)
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
    fn new(head: Head) -> Self {
        Self {
            head,
            triggers: Vec::new(),
            gate_evals: Vec::new(),
            decisions: Vec::new(),
            packets: Vec::new(),
            submissions: Vec::new(),
            tool_calls: Vec::new(),
            decided: BTreeMap::new(),
            evaluated: BTreeMap::new(),
            issued: BTreeMap::new(),
            submitted: BTreeMap::new(),
        }
    }

    fn push(&mut self, entry: Entry) {
        match entry {
            Entry::Trigger(record) => self.triggers.push(record),
            Entry::GateEval(record) => {
                extend(&mut self.evaluated, record.trigger_id.clone(), self.gate_evals.len());
                self.gate_evals.push(record);
            }
            Entry::Decision(record) => {
                self.decided.insert(record.trigger_id.clone(), self.decisions.len());
                self.decisions.push(record);
            }
            Entry::Packet(record) => {
                extend(&mut self.issued, record.decision_id.clone(), self.packets.len());
                self.packets.push(record);
            }
            Entry::Submission(record) => {
                self.submitted.insert(record.submission_id.clone(), self.submissions.len());
                self.submissions.push(record);
            }
            Entry::ToolCall(record) => self.tool_calls.push(record),
        }
    }

    fn state(&self) -> RunState {
        let head = &self.head;
        RunState {
            tenant_id: head.tenant_id,
            namespace_id: head.namespace_id,
            run_id: head.run_id.clone(),
            scenario_id: head.scenario_id.clone(),
            spec_hash: head.spec_hash,
            current_stage_id: head.current_stage_id.clone(),
            stage_entered_at: head.stage_entered_at,
            status: head.status,
            dispatch_targets: head.dispatch_targets.clone(),
            triggers: self.triggers.clone(),
            gate_evals: self.gate_evals.clone(),
            decisions: self.decisions.clone(),
            packets: self.packets.clone(),
            submissions: self.submissions.clone(),
            tool_calls: self.tool_calls.clone(),
        }
    }
}

/// Entries of one trigger or decision lie together in their log.
fn extend<K: Ord>(ranges: &mut BTreeMap<K, Range<usize>>, key: K, position: usize) {
    ranges.entry(key).and_modify(|range| range.end = position + 1).or_insert(position..position + 1);
}
