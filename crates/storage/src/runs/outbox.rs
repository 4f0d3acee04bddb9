use runpack_core::canon::{CanonError, Digest};
use runpack_core::engine::{Entry, Head};
use runpack_core::model::{
    DecisionId, DispatchReceipt, DispatchTarget, NamespaceId, PacketId, PacketRecord, RunId, TenantId,
};
use serde::{Deserialize, Serialize};

use super::{ReadError, RunKey, RunStore, WriteError};

/// Deliveries that [`Outbox::lease`] answers at most, whatever was asked.
pub const LEASES_MAX: usize = 256;

/// Bytes of the packets that [`Outbox::lease`] answers; one comes at least,
/// however large that is.
pub const LEASES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Keeps what is to be delivered until it is, and what became of it.
///
/// A store that was made with an outbox queues a delivery for each receipt of
/// each packet that it is given, in the transaction that writes the packet:
/// either both are there or neither is. Whoever leases a delivery has it alone
/// until the lease runs out; if nothing was said by then, it is anybody's again.
/// So each is delivered at least once, or given up, and never forgotten. What is
/// delivered twice has the same id twice.
///
/// Nothing of this is in a pack, and nothing that fails here changes a run. Time
/// is milliseconds of a clock that all who lease share.
pub trait Outbox: RunStore {
    /// Takes deliveries that are due, longest due first and new ones before
    /// those, for so long.
    ///
    /// A delivery whose lease ran out is taken again, which its log says; one
    /// that was taken `attempts_max` times is given up.
    ///
    /// # Errors
    /// See [`WriteError`].
    fn lease(&self, terms: &LeaseTerms<'_>) -> Result<Vec<Leased>, WriteError>;

    /// Says that it arrived, and `told` what came of it. It is not taken again.
    ///
    /// # Errors
    /// See [`WriteError`]; then it may be taken again.
    fn delivered(&self, lease: &Lease, now_ms: u64, told: &str) -> Result<Settled, WriteError>;

    /// Says that it did not, and why; it is taken again from `again_at_ms`, or
    /// never.
    ///
    /// # Errors
    /// See [`WriteError`]; then it is taken again when the lease runs out.
    fn failed(&self, lease: &Lease, now_ms: u64, why: &str, again_at_ms: Option<u64>) -> Result<Settled, WriteError>;

    /// Gives it back untried, to be taken from then on: this attempt does not
    /// count.
    ///
    /// # Errors
    /// See [`WriteError`]; then it is taken again when the lease runs out.
    fn put_back(&self, lease: &Lease, again_at_ms: u64) -> Result<Settled, WriteError>;

    /// Gives up all deliveries of a run that are open; how many those were. One
    /// that is being tried at the moment may arrive all the same.
    ///
    /// # Errors
    /// [`WriteError::NotFound`].
    fn abandon(&self, key: &RunKey, now_ms: u64, why: &str) -> Result<u64, WriteError>;

    /// What became of the deliveries of a run, oldest first: from the beginning
    /// with `after` 0, or from where an earlier page ended. At most
    /// [`super::PAGE_ENTRIES_MAX`] come at once, and none when there are no more.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn delivery_log(&self, key: &RunKey, after: u64, limit: usize) -> Result<DeliveryPage, ReadError>;

    /// How many deliveries are open.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn undelivered(&self) -> Result<u64, ReadError>;
}

/// How deliveries are taken.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTerms<'a> {
    /// What time it is.
    pub now_ms: u64,
    /// How long they are the holder's.
    pub for_ms: u64,
    /// How many at most; [`LEASES_MAX`] and [`LEASES_BYTES_MAX`] are above that.
    pub limit: usize,
    /// How often one is tried.
    pub attempts_max: u64,
    /// Who takes them. No two that take at once have the same name.
    pub holder: &'a str,
}

/// A delivery that is somebody's for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Which delivery: made of what it is a delivery of and to whom, so it is the
    /// same in a copy of the store.
    pub id: Digest,
    /// The how many-th attempt it is for, from 1.
    pub attempt: u64,
    /// Whose it is.
    pub holder: String,
}

/// A delivery to be tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Leased {
    /// With what to say how it went.
    pub lease: Lease,
    /// Whose packet it is.
    pub key: RunKey,
    /// To whom.
    pub target: DispatchTarget,
    /// What.
    pub packet: PacketRecord,
}

/// Whether what was said was taken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It was.
    Recorded,
    /// It was not: the lease ran out, and the delivery is another's, or closed.
    Superseded,
}

/// What became of one attempt. Members in canonical order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryRecord {
    /// When that was known.
    pub at_ms: u64,
    /// The how many-th it was; 0 if there was none.
    pub attempt: u64,
    /// Of which delivery, in hexadecimal.
    pub delivery_id: String,
    /// What was said, for people.
    pub detail: String,
    /// Who had taken it; nobody if nobody had.
    pub holder: Option<String>,
    /// How it ended.
    pub outcome: DeliveryOutcome,
    /// Which packet.
    pub packet_id: PacketId,
    /// To whom.
    pub target: DispatchTarget,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryOutcome {
    /// It arrived.
    Delivered,
    /// It did not, and is tried again.
    Failed,
    /// Nobody said so before the lease ran out, and it is tried again.
    Lost,
    /// It did not, and is given up.
    Dead,
}

impl DeliveryOutcome {
    /// Whether nothing follows.
    pub fn is_last(self) -> bool {
        matches!(self, Self::Delivered | Self::Dead)
    }
}

/// Some of a delivery log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeliveryPage {
    /// In order.
    pub records: Vec<DeliveryRecord>,
    /// Where the next page begins; means nothing to anybody but the store.
    pub end: u64,
}

/// What is said of a lease that ran out.
pub(super) const RAN_OUT: &str = "nothing was heard before the lease ran out";

/// What is said of a packet that cannot be read any more.
#[cfg(feature = "sqlite")]
pub(super) const DAMAGED: &str = "the packet is not what its digest says; `runpackd store verify` says more";

/// What a delivery is of, as its log says again. Members in canonical order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) packet_id: PacketId,
    pub(super) target: DispatchTarget,
}

/// A delivery that is queued with the packet that is the entry of that number.
#[derive(Debug, Clone)]
pub(super) struct Queued {
    pub(super) entry: usize,
    pub(super) receipt: usize,
    pub(super) id: Digest,
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "read from the packet there"))]
    pub(super) about: About,
}

/// The deliveries of those entries that are packets.
pub(super) fn queued(head: &Head, entries: &[Entry]) -> Result<Vec<Queued>, CanonError> {
    let key = RunKey::of(head);
    let mut all = Vec::new();
    for (entry, logged) in entries.iter().enumerate() {
        let Entry::Packet(packet) = logged else { continue };
        for (receipt, given) in packet.receipts.iter().enumerate() {
            let (id, about) = named(&key, packet, receipt, given)?;
            all.push(Queued { entry, receipt, id, about });
        }
    }
    Ok(all)
}

/// What names the delivery that a receipt of a packet stands for.
pub(super) fn named(
    key: &RunKey,
    packet: &PacketRecord,
    receipt: usize,
    given: &DispatchReceipt,
) -> Result<(Digest, About), CanonError> {
    #[derive(Serialize)]
    struct Name<'a> {
        decision_id: &'a DecisionId,
        namespace_id: NamespaceId,
        packet_id: &'a PacketId,
        receipt: usize,
        receipt_hash: Digest,
        run_id: &'a RunId,
        target: &'a DispatchTarget,
        tenant_id: TenantId,
    }
    let packet_id = &packet.envelope.packet_id;
    let id = Digest::of_canonical(&Name {
        decision_id: &packet.decision_id,
        namespace_id: key.namespace_id,
        packet_id,
        receipt,
        receipt_hash: given.receipt_hash,
        run_id: &key.run_id,
        target: &given.target,
        tenant_id: key.tenant_id,
    })?;
    Ok((id, About { packet_id: packet_id.clone(), target: given.target.clone() }))
}

/// A line of the log.
pub(super) fn record(
    id: &Digest,
    about: About,
    outcome: DeliveryOutcome,
    at_ms: u64,
    (attempt, holder): (u64, Option<String>),
    detail: &str,
) -> DeliveryRecord {
    let About { packet_id, target } = about;
    let (delivery_id, detail) = (id.to_string(), shortened(detail));
    DeliveryRecord { at_ms, attempt, delivery_id, detail, holder, outcome, packet_id, target }
}

/// What others say may be long.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 1_000;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
