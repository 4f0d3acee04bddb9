//! What the rows hold, and what ties them together.

use runpack_core::canon::{CanonError, Digest, Hasher, to_vec};
use runpack_core::engine::{Counts, Entry, Head};
use runpack_core::model::{DispatchTarget, NamespaceId, RunId, RunStatus, ScenarioId, StageId, TenantId, Timestamp};
use runpack_core::pack::layout::Log;
use serde::{Deserialize, Serialize};

/// What a run was begun with. Members in canonical order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) dispatch_targets: Vec<DispatchTarget>,
    pub(super) namespace_id: NamespaceId,
    pub(super) run_id: RunId,
    pub(super) scenario_id: ScenarioId,
    pub(super) spec_hash: Digest,
    pub(super) stage_entered_at: Timestamp,
    pub(super) stage_id: StageId,
    pub(super) tenant_id: TenantId,
}

/// Where a run stands, besides its origin. Members in canonical order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// Lengths of the logs, in the order of [`number`].
    pub(super) counts: [u64; 6],
    pub(super) stage_entered_at: Timestamp,
    pub(super) stage_id: StageId,
    pub(super) status: RunStatus,
}

/// What is left of a run that was pruned. Members in canonical order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Tombstone {
    pub(super) head: Standing,
    /// The digest of the newest entry, or of the origin.
    pub(super) last: Digest,
    pub(super) origin: Origin,
}

impl Origin {
    pub(super) fn of(head: &Head) -> Self {
        Self {
            dispatch_targets: head.dispatch_targets.clone(),
            namespace_id: head.namespace_id,
            run_id: head.run_id.clone(),
            scenario_id: head.scenario_id.clone(),
            spec_hash: head.spec_hash,
            stage_entered_at: head.stage_entered_at,
            stage_id: head.current_stage_id.clone(),
            tenant_id: head.tenant_id,
        }
    }

    /// The head of the run before its first entry.
    pub(super) fn head(self) -> Head {
        Head {
            tenant_id: self.tenant_id,
            namespace_id: self.namespace_id,
            run_id: self.run_id,
            scenario_id: self.scenario_id,
            spec_hash: self.spec_hash,
            dispatch_targets: self.dispatch_targets,
            current_stage_id: self.stage_id,
            stage_entered_at: self.stage_entered_at,
            status: RunStatus::Active,
            counts: Counts::default(),
        }
    }
}

impl Standing {
    pub(super) fn of(head: &Head) -> Self {
        let counts = &head.counts;
        Self {
            counts: [
                counts.triggers,
                counts.gate_evals,
                counts.decisions,
                counts.packets,
                counts.submissions,
                counts.tool_calls,
            ],
            stage_entered_at: head.stage_entered_at,
            stage_id: head.current_stage_id.clone(),
            status: head.status,
        }
    }

    /// How many entries there are; `None` if that is no number.
    pub(super) fn total(&self) -> Option<u64> {
        self.counts.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count))
    }

    /// The head of the run with that origin.
    pub(super) fn head(self, origin: Origin) -> Head {
        let [triggers, gate_evals, decisions, packets, submissions, tool_calls] = self.counts;
        Head {
            current_stage_id: self.stage_id,
            stage_entered_at: self.stage_entered_at,
            status: self.status,
            counts: Counts { triggers, gate_evals, decisions, packets, submissions, tool_calls },
            ..origin.head()
        }
    }
}

/// An entry on its way into the store.
pub(super) struct Row {
    pub(super) log: Log,
    pub(super) subject: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Row {
    pub(super) fn of(entry: &Entry) -> Result<Self, CanonError> {
        let (log, subject, body) = match entry {
            Entry::Trigger(record) => (Log::Triggers, None, to_vec(record)?),
            Entry::GateEval(record) => (Log::GateEvals, None, to_vec(record)?),
            Entry::Decision(record) => (Log::Decisions, Some(record.trigger_id.to_string()), to_vec(record)?),
            Entry::Packet(record) => (Log::Packets, None, to_vec(record)?),
            Entry::Submission(record) => (Log::Submissions, Some(record.submission_id.to_string()), to_vec(record)?),
            Entry::ToolCall(record) => (Log::ToolCalls, None, to_vec(record)?),
        };
        Ok(Self { log, subject, body })
    }
}

/// The digest of an entry: of the digest before it, its place, and its body.
pub(super) fn link(previous: &Digest, seq: u64, log: Log, body: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(previous.as_bytes());
    hasher.update(&seq.to_be_bytes());
    hasher.update(&[number(log)]);
    hasher.update(body);
    hasher.finish()
}

/// Bits of a place that say which entry of its run is there. The schema has this
/// too.
const SEQ_BITS: u32 = 36;

/// Entries that a run has at most.
pub(super) const SEQ_MAX: u64 = (1 << SEQ_BITS) - 1;

/// The highest number of a run.
pub(super) const RUN_MAX: i64 = i64::MAX >> SEQ_BITS;

/// The place of the entry of that number among those of its run.
pub(super) fn place(run: i64, seq: u64) -> i64 {
    (run << SEQ_BITS) | (seq & SEQ_MAX) as i64
}

/// The digest of a head: of the digest of the newest entry, where the newest
/// decision is, and its body.
pub(super) fn sealed(last: &Digest, decided: i64, body: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(last.as_bytes());
    hasher.update(&decided.to_be_bytes());
    hasher.update(body);
    hasher.finish()
}

/// The digest of a tombstone or a data shape: of the digest of the one before,
/// and its body. The first follows the digest of nothing.
pub(super) fn chained(previous: &Digest, body: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(previous.as_bytes());
    hasher.update(body);
    hasher.finish()
}

/// The number of a log in the store.
pub(super) fn number(log: Log) -> u8 {
    match log {
        Log::Triggers => 1,
        Log::GateEvals => 2,
        Log::Decisions => 3,
        Log::Packets => 4,
        Log::Submissions => 5,
        Log::ToolCalls => 6,
    }
}

pub(super) const LOGS: [Log; 6] =
    [Log::Triggers, Log::GateEvals, Log::Decisions, Log::Packets, Log::Submissions, Log::ToolCalls];
