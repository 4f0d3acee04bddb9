use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runpack_core::canon::{CanonError, Digest, to_vec};
use runpack_core::engine::{Entry, Head, Scenario};
use runpack_core::model::{
    DataShapeRecord, DecisionId, NamespaceId, PacketId, PacketRecord, RunState, RunStatus, ScenarioId, SchemaId,
    SubmissionId, SubmissionRecord, TenantId, TriggerId,
};
use runpack_core::pack::layout::Log;
use serde::Serialize;

use super::outbox::{Queued, RAN_OUT, named, queued, record};
use super::shapes::Filling;
use super::{
    AtHead, Decided, Defined, DeliveryOutcome, DeliveryPage, DeliveryRecord, LEASES_BYTES_MAX, LEASES_MAX, Lease,
    LeaseTerms, Leased, Outbox, PAGE_ENTRIES_MAX, Page, Pruned, ReadError, Registered, RunKey, RunStore, ScenarioStore,
    Settled, ShapeKey, ShapePage, ShapeStore, StoreFault, StoredScenario, Which, WriteError,
};

/// Runs, scenarios and data shapes that live as long as the process.
#[derive(Debug, Default)]
pub struct MemoryRuns {
    kept: Mutex<Kept>,
    outbox: bool,
}

#[derive(Debug, Default)]
struct Kept {
    runs: BTreeMap<RunKey, Stored>,
    pruned: BTreeSet<RunKey>,
    scenarios: Vec<(Arc<Scenario>, bool)>,
    shapes: BTreeMap<(TenantId, NamespaceId), Shapes>,
    /// In the order queued.
    outbox: Vec<Waiting>,
    deliveries: BTreeMap<RunKey, Vec<DeliveryRecord>>,
}

/// A delivery, and where it stands.
#[derive(Debug)]
struct Waiting {
    key: RunKey,
    /// Where the packet is in its log.
    packet: usize,
    receipt: usize,
    id: Digest,
    open: bool,
    due_ms: u64,
    attempts: u64,
    holder: Option<String>,
}

/// Records of one tenant in one namespace, by id and version, each with its size.
type Shapes = BTreeMap<(SchemaId, String), (DataShapeRecord, usize)>;

/// A run, and where in its logs things are.
#[derive(Debug)]
struct Stored {
    state: RunState,
    decided: BTreeMap<TriggerId, usize>,
    evaluated: BTreeMap<TriggerId, Range<usize>>,
    issued: BTreeMap<DecisionId, Range<usize>>,
    submitted: BTreeMap<SubmissionId, usize>,
}

impl RunStore for MemoryRuns {
    fn create(&self, head: &Head, entries: &[Entry]) -> Result<(), WriteError> {
        let key = RunKey::of(head);
        let mut kept = self.lock();
        if kept.runs.contains_key(&key) || kept.pruned.contains(&key) {
            return Err(WriteError::Exists(key.run_id));
        }
        let waiting = self.waiting(head, entries, 0)?;
        let mut stored = Stored::new(head);
        stored.append(head, entries);
        kept.runs.insert(key, stored);
        kept.outbox.extend(waiting);
        Ok(())
    }

    fn append(&self, expected: u64, head: &Head, entries: &[Entry]) -> Result<(), WriteError> {
        let key = RunKey::of(head);
        let mut kept = self.lock();
        let Some(stored) = kept.runs.get_mut(&key) else { return Err(WriteError::NotFound(key.run_id)) };
        let found = Head::of(&stored.state).counts.total();
        if found != expected {
            return Err(WriteError::Conflict { expected, found });
        }
        let waiting = self.waiting(head, entries, stored.state.packets.len())?;
        stored.append(head, entries);
        kept.outbox.extend(waiting);
        Ok(())
    }

    fn head(&self, key: &RunKey) -> Result<Option<Head>, ReadError> {
        Ok(self.read(key, |stored| Head::of(&stored.state)))
    }

    fn decided(&self, key: &RunKey, which: Which<'_>) -> AtHead<Option<Decided>> {
        Ok(self.read(key, |stored| (Head::of(&stored.state), stored.decided(which))))
    }

    fn standing(&self, key: &RunKey) -> AtHead<(Option<Decided>, Vec<PacketId>)> {
        let standing = |stored: &Stored| {
            let ids = stored.state.packets.iter().map(|packet| packet.envelope.packet_id.clone()).collect();
            (Head::of(&stored.state), (stored.decided(Which::Newest), ids))
        };
        Ok(self.read(key, standing))
    }

    fn submission(&self, key: &RunKey, id: &SubmissionId) -> AtHead<Option<SubmissionRecord>> {
        let found = |stored: &Stored| stored.submitted.get(id).map(|&index| stored.state.submissions[index].clone());
        Ok(self.read(key, |stored| (Head::of(&stored.state), found(stored))))
    }

    fn page(&self, key: &RunKey, log: Log, after: u64, limit: usize) -> Result<Page, ReadError> {
        let limit = limit.min(PAGE_ENTRIES_MAX);
        let page = |stored: &Stored| {
            let state = &stored.state;
            match log {
                Log::Triggers => written(&state.triggers, after, limit),
                Log::GateEvals => written(&state.gate_evals, after, limit),
                Log::Decisions => written(&state.decisions, after, limit),
                Log::Packets => written(&state.packets, after, limit),
                Log::Submissions => written(&state.submissions, after, limit),
                Log::ToolCalls => written(&state.tool_calls, after, limit),
            }
        };
        self.read(key, page).unwrap_or_else(|| Ok(Page::default()))
    }

    fn list(&self, after: Option<&RunKey>, limit: usize) -> Result<Vec<Head>, ReadError> {
        let kept = self.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let runs = kept.runs.range((from, Bound::Unbounded));
        Ok(runs.take(limit).map(|(_, stored)| Head::of(&stored.state)).collect())
    }

    fn check(&self, key: &RunKey) -> Result<Head, ReadError> {
        let head = self.head(key)?;
        head.ok_or_else(|| ReadError::Unreadable(StoreFault(format!("there is no run {}", key.run_id))))
    }

    fn prune(&self, key: &RunKey) -> Result<Pruned, WriteError> {
        let mut kept = self.lock();
        let Some(stored) = kept.runs.get(key) else { return Err(WriteError::NotFound(key.run_id.clone())) };
        if stored.state.status == RunStatus::Active {
            return Err(WriteError::Active(key.run_id.clone()));
        }
        let entries = Head::of(&stored.state).counts.total();
        let open = kept.outbox.iter().filter(|waiting| waiting.open && waiting.key == *key).count() as u64;
        if open > 0 {
            return Err(WriteError::Undelivered { run: key.run_id.clone(), open });
        }
        kept.outbox.retain(|waiting| waiting.key != *key);
        kept.deliveries.remove(key);
        kept.runs.remove(key);
        kept.pruned.insert(key.clone());
        Ok(Pruned { entries })
    }

    fn ready(&self) -> Result<(), StoreFault> {
        Ok(())
    }
}

impl Outbox for MemoryRuns {
    fn lease(&self, terms: &LeaseTerms<'_>) -> Result<Vec<Leased>, WriteError> {
        let mut kept = self.lock();
        let Kept { runs, outbox, deliveries, .. } = &mut *kept;
        let mut due: Vec<_> = outbox.iter_mut().filter(|it| it.open && it.due_ms <= terms.now_ms).collect();
        due.sort_by_key(|waiting| waiting.due_ms);
        let (mut leased, mut bytes) = (Vec::new(), 0);
        for waiting in due.into_iter().take(terms.limit.min(LEASES_MAX)) {
            let packets = runs.get(&waiting.key).map(|stored| stored.state.packets.as_slice());
            let Some(packet) = packets.and_then(|packets| packets.get(waiting.packet)) else { continue };
            let Some(receipt) = packet.receipts.get(waiting.receipt) else { continue };
            let size = to_vec(packet).map_err(|error| unwritable(&error))?.len();
            if !leased.is_empty() && bytes + size > LEASES_BYTES_MAX {
                break;
            }
            bytes += size;
            let gives_up = waiting.attempts >= terms.attempts_max;
            if waiting.holder.is_some() || gives_up {
                let outcome = if gives_up { DeliveryOutcome::Dead } else { DeliveryOutcome::Lost };
                let log = deliveries.entry(waiting.key.clone()).or_default();
                log.push(waiting.said(packet, outcome, terms.now_ms, RAN_OUT)?);
            }
            waiting.open = !gives_up;
            if gives_up {
                continue;
            }
            waiting.attempts += 1;
            waiting.due_ms = terms.now_ms.saturating_add(terms.for_ms);
            waiting.holder = Some(terms.holder.to_owned());
            let lease = Lease { id: waiting.id, attempt: waiting.attempts, holder: terms.holder.to_owned() };
            let (key, target) = (waiting.key.clone(), receipt.target.clone());
            leased.push(Leased { lease, key, target, packet: packet.clone() });
        }
        Ok(leased)
    }

    fn delivered(&self, lease: &Lease, now_ms: u64, told: &str) -> Result<Settled, WriteError> {
        self.settle(lease, now_ms, told, DeliveryOutcome::Delivered, 0)
    }

    fn failed(&self, lease: &Lease, now_ms: u64, why: &str, again_at_ms: Option<u64>) -> Result<Settled, WriteError> {
        let outcome = if again_at_ms.is_some() { DeliveryOutcome::Failed } else { DeliveryOutcome::Dead };
        self.settle(lease, now_ms, why, outcome, again_at_ms.unwrap_or(0))
    }

    fn put_back(&self, lease: &Lease, again_at_ms: u64) -> Result<Settled, WriteError> {
        let mut kept = self.lock();
        let Some(waiting) = held(&mut kept.outbox, lease) else { return Ok(Settled::Superseded) };
        (waiting.attempts, waiting.due_ms, waiting.holder) = (waiting.attempts - 1, again_at_ms, None);
        Ok(Settled::Recorded)
    }

    fn abandon(&self, key: &RunKey, now_ms: u64, why: &str) -> Result<u64, WriteError> {
        let mut kept = self.lock();
        let Kept { runs, outbox, deliveries, .. } = &mut *kept;
        let Some(stored) = runs.get(key) else { return Err(WriteError::NotFound(key.run_id.clone())) };
        let mut count = 0;
        for waiting in outbox.iter_mut().filter(|waiting| waiting.open && waiting.key == *key) {
            let packet = &stored.state.packets[waiting.packet];
            let said = waiting.said(packet, DeliveryOutcome::Dead, now_ms, why)?;
            deliveries.entry(key.clone()).or_default().push(said);
            (waiting.open, waiting.holder) = (false, None);
            count += 1;
        }
        Ok(count)
    }

    fn delivery_log(&self, key: &RunKey, after: u64, limit: usize) -> Result<DeliveryPage, ReadError> {
        let kept = self.lock();
        let log = kept.deliveries.get(key).map_or(&[] as &[_], Vec::as_slice);
        let after = usize::try_from(after).unwrap_or(usize::MAX).min(log.len());
        let end = log.len().min(after.saturating_add(limit.min(PAGE_ENTRIES_MAX)));
        Ok(DeliveryPage { records: log[after..end].to_vec(), end: end as u64 })
    }

    fn undelivered(&self) -> Result<u64, ReadError> {
        Ok(self.lock().outbox.iter().filter(|waiting| waiting.open).count() as u64)
    }
}

/// The delivery of a lease that still holds.
fn held<'o>(outbox: &'o mut [Waiting], lease: &Lease) -> Option<&'o mut Waiting> {
    let mut all = outbox.iter_mut();
    all.find(|it| {
        it.id == lease.id && it.open && it.attempts == lease.attempt && it.holder.as_ref() == Some(&lease.holder)
    })
}

impl Waiting {
    /// A line of the log about its newest attempt.
    fn said(
        &self,
        packet: &PacketRecord,
        outcome: DeliveryOutcome,
        now_ms: u64,
        detail: &str,
    ) -> Result<DeliveryRecord, WriteError> {
        let missing = || WriteError::Refused(StoreFault("a delivery has no receipt".to_owned()));
        let given = packet.receipts.get(self.receipt).ok_or_else(missing)?;
        let (id, about) = named(&self.key, packet, self.receipt, given).map_err(|error| unwritable(&error))?;
        Ok(record(&id, about, outcome, now_ms, (self.attempts, self.holder.clone()), detail))
    }
}

fn unwritable(error: &CanonError) -> WriteError {
    WriteError::Refused(StoreFault(error.to_string()))
}

impl ScenarioStore for MemoryRuns {
    fn define(&self, scenario: &Arc<Scenario>) -> Result<Defined, WriteError> {
        let mut kept = self.lock();
        let spec = scenario.spec();
        if let Some(known) = current(&kept.scenarios, spec.namespace_id, &spec.scenario_id) {
            let digest = known.digest();
            return Ok(if digest == scenario.digest() { Defined::Same } else { Defined::Other(digest) });
        }
        kept.scenarios.push((scenario.clone(), false));
        Ok(Defined::New)
    }

    fn scenario(&self, namespace: NamespaceId, id: &ScenarioId) -> Result<Option<Arc<Scenario>>, ReadError> {
        Ok(current(&self.lock().scenarios, namespace, id).cloned())
    }

    fn scenario_of(&self, digest: &Digest) -> Result<Option<Arc<Scenario>>, ReadError> {
        let kept = self.lock();
        Ok(kept
            .scenarios
            .iter()
            .find(|(scenario, _)| scenario.digest() == *digest)
            .map(|(scenario, _)| scenario.clone()))
    }

    fn scenarios(&self) -> Result<Vec<StoredScenario>, ReadError> {
        let line = |(scenario, retired): &(Arc<Scenario>, bool)| StoredScenario {
            namespace_id: scenario.spec().namespace_id,
            scenario_id: scenario.spec().scenario_id.clone(),
            spec_hash: scenario.digest(),
            retired: *retired,
        };
        let mut lines: Vec<_> = self.lock().scenarios.iter().map(line).collect();
        lines.sort_by(|left, right| {
            (left.namespace_id, &left.scenario_id).cmp(&(right.namespace_id, &right.scenario_id))
        });
        Ok(lines)
    }

    fn retire(&self, namespace: NamespaceId, id: &ScenarioId) -> Result<bool, WriteError> {
        let mut kept = self.lock();
        let named =
            |scenario: &Scenario| scenario.spec().namespace_id == namespace && scenario.spec().scenario_id == *id;
        let found = kept.scenarios.iter_mut().find(|(scenario, retired)| !retired && named(scenario));
        Ok(found.map(|(_, retired)| *retired = true).is_some())
    }
}

impl ShapeStore for MemoryRuns {
    fn register(&self, record: &DataShapeRecord, entries_max: Option<u64>) -> Result<Registered, WriteError> {
        let bytes = to_vec(record).map_err(|error| WriteError::Refused(StoreFault(error.to_string())))?.len();
        let mut kept = self.lock();
        let shapes = kept.shapes.entry((record.tenant_id, record.namespace_id)).or_default();
        if entries_max.is_some_and(|most| shapes.len() as u64 >= most) {
            return Ok(Registered::Full);
        }
        let key = (record.schema_id.clone(), record.version.clone());
        if shapes.contains_key(&key) {
            return Ok(Registered::Conflict);
        }
        shapes.insert(key, (record.clone(), bytes));
        Ok(Registered::New)
    }

    fn shape(&self, key: &ShapeKey) -> Result<Option<DataShapeRecord>, ReadError> {
        let kept = self.lock();
        let shapes = kept.shapes.get(&(key.tenant_id, key.namespace_id));
        let found = shapes.and_then(|shapes| shapes.get(&(key.schema_id.clone(), key.version.clone())));
        Ok(found.map(|(record, _)| record.clone()))
    }

    fn shapes(
        &self,
        tenant: TenantId,
        namespace: NamespaceId,
        after: Option<(&SchemaId, &str)>,
        limit: usize,
    ) -> Result<ShapePage, ReadError> {
        let kept = self.lock();
        let mut filling = Filling::new(limit);
        let from = match after {
            Some((id, version)) => Bound::Excluded((id.clone(), version.to_owned())),
            None => Bound::Unbounded,
        };
        let shapes = kept.shapes.get(&(tenant, namespace)).into_iter();
        for (record, bytes) in
            shapes.flat_map(|shapes| shapes.range((from.clone(), Bound::Unbounded))).map(|(_, kept)| kept)
        {
            if !filling.has_room(*bytes) {
                break;
            }
            filling.page.records.push(record.clone());
        }
        Ok(filling.page)
    }

    fn shape_count(&self, tenant: TenantId, namespace: NamespaceId) -> Result<u64, ReadError> {
        Ok(self.lock().shapes.get(&(tenant, namespace)).map_or(0, |shapes| shapes.len() as u64))
    }
}

fn current<'s>(
    scenarios: &'s [(Arc<Scenario>, bool)],
    namespace: NamespaceId,
    id: &ScenarioId,
) -> Option<&'s Arc<Scenario>> {
    let named = |scenario: &Scenario| scenario.spec().namespace_id == namespace && scenario.spec().scenario_id == *id;
    scenarios.iter().find(|(scenario, retired)| !retired && named(scenario)).map(|(scenario, _)| scenario)
}

impl MemoryRuns {
    /// The store, which queues packets that it is given from now on for
    /// delivery: see [`Outbox`].
    #[must_use]
    pub fn with_outbox(self) -> Self {
        Self { outbox: true, ..self }
    }

    /// What is queued with those entries, if anything is; `packets` are there
    /// already.
    fn waiting(&self, head: &Head, entries: &[Entry], packets: usize) -> Result<Vec<Waiting>, WriteError> {
        if !self.outbox {
            return Ok(Vec::new());
        }
        let before = |entry: usize| entries[..entry].iter().filter(|entry| matches!(entry, Entry::Packet(_))).count();
        let waiting = |Queued { entry, receipt, id, .. }: Queued| Waiting {
            key: RunKey::of(head),
            packet: packets + before(entry),
            receipt,
            id,
            open: true,
            due_ms: 0,
            attempts: 0,
            holder: None,
        };
        let queued = queued(head, entries).map_err(|error| unwritable(&error))?;
        Ok(queued.into_iter().map(waiting).collect())
    }

    fn settle(
        &self,
        lease: &Lease,
        now_ms: u64,
        detail: &str,
        outcome: DeliveryOutcome,
        due_ms: u64,
    ) -> Result<Settled, WriteError> {
        let mut kept = self.lock();
        let Kept { runs, outbox, deliveries, .. } = &mut *kept;
        let Some(waiting) = held(outbox, lease) else { return Ok(Settled::Superseded) };
        let Some(stored) = runs.get(&waiting.key) else { return Ok(Settled::Superseded) };
        let said = waiting.said(&stored.state.packets[waiting.packet], outcome, now_ms, detail)?;
        deliveries.entry(waiting.key.clone()).or_default().push(said);
        (waiting.open, waiting.due_ms, waiting.holder) = (!outcome.is_last(), due_ms, None);
        Ok(Settled::Recorded)
    }

    fn read<T>(&self, key: &RunKey, pick: impl FnOnce(&Stored) -> T) -> Option<T> {
        self.lock().runs.get(key).map(pick)
    }

    /// A panic elsewhere leaves no half-written run: entries are only ever
    /// pushed under the lock, after everything that can fail.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn written<T: Serialize>(log: &[T], after: u64, limit: usize) -> Result<Page, ReadError> {
    let after = usize::try_from(after).unwrap_or(usize::MAX).min(log.len());
    let end = log.len().min(after.saturating_add(limit));
    let unwritable = |error: CanonError| ReadError::Unreadable(StoreFault(error.to_string()));
    let entries = log[after..end].iter().map(|entry| to_vec(entry).map_err(unwritable)).collect::<Result<_, _>>()?;
    Ok(Page { entries, end: end as u64 })
}

fn slice<T: Clone>(log: &[T], range: Option<&Range<usize>>) -> Vec<T> {
    range.and_then(|range| log.get(range.clone())).map(<[T]>::to_vec).unwrap_or_default()
}

impl Stored {
    fn decided(&self, which: Which<'_>) -> Option<Decided> {
        let state = &self.state;
        let index = match which {
            Which::Newest => state.decisions.len().checked_sub(1)?,
            Which::On(trigger) => *self.decided.get(trigger)?,
        };
        let decision = state.decisions[index].clone();
        let gate_evals = slice(&state.gate_evals, self.evaluated.get(&decision.trigger_id));
        let packets = slice(&state.packets, self.issued.get(&decision.decision_id));
        Some(Decided { decision, gate_evals, packets })
    }

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
    fn append(&mut self, head: &Head, entries: &[Entry]) {
        entries.iter().for_each(|entry| self.push(entry.clone()));
        self.state.current_stage_id = head.current_stage_id.clone();
        self.state.stage_entered_at = head.stage_entered_at;
        self.state.status = head.status;
        debug_assert_eq!(Head::of(&self.state).counts, head.counts, "the head counts what was logged");
    }

    fn push(&mut self, entry: Entry) {
        let state = &self.state;
        match &entry {
            Entry::GateEval(record) => extend(&mut self.evaluated, &record.trigger_id, state.gate_evals.len()),
            Entry::Packet(record) => extend(&mut self.issued, &record.decision_id, state.packets.len()),
            Entry::Decision(record) => {
                self.decided.insert(record.trigger_id.clone(), state.decisions.len());
            }
            Entry::Submission(record) => {
                self.submitted.insert(record.submission_id.clone(), state.submissions.len());
            }
            Entry::Trigger(_) | Entry::ToolCall(_) => {}
        }
        entry.log(&mut self.state);
    }
}

/// Entries of one trigger or decision lie together in their log.
fn extend<K: Ord + Clone>(ranges: &mut BTreeMap<K, Range<usize>>, key: &K, position: usize) {
    ranges.entry(key.clone()).and_modify(|range| range.end = position + 1).or_insert(position..position + 1);
}
