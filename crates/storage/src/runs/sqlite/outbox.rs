//! Deliveries: queued with their packets, taken, settled, and what is said of
//! them.

use runpack_core::canon::{CanonError, Digest, to_vec};
use runpack_core::engine::{Entry, Head};
use runpack_core::model::PacketRecord;
use runpack_core::pack::layout::Log;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::read::{self, parse};
use super::rows::{chained, link};
use super::write::{Done, Work};
use super::{SqliteRuns, digest_of, integer, unwritable, whole};
use crate::runs::outbox::{About, DAMAGED, Queued, RAN_OUT, queued, record};
use crate::runs::{
    DeliveryOutcome, DeliveryPage, DeliveryRecord, LEASES_BYTES_MAX, LEASES_MAX, Lease, LeaseTerms, Leased, Outbox,
    PAGE_ENTRIES_MAX, ReadError, RunKey, Settled, StoreFault, WriteError,
};

pub(super) const OPEN: i64 = 0;
pub(super) const DELIVERED: i64 = 1;
pub(super) const DEAD: i64 = 2;

/// As [`LeaseTerms`].
pub(super) struct Terms {
    now_ms: i64,
    until_ms: i64,
    limit: i64,
    attempts_max: i64,
    holder: String,
}

/// A delivery that was taken.
#[derive(Debug)]
pub(super) struct Taken {
    lease: Lease,
    key: RunKey,
    receipt: usize,
    /// The packet.
    body: Vec<u8>,
}

/// What is said of a lease.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    Delivered,
    Failed { again_at_ms: Option<i64> },
    PutBack { again_at_ms: i64 },
}

impl SqliteRuns {
    /// What is queued with those entries, if anything is.
    pub(super) fn queued(&self, head: &Head, entries: &[Entry]) -> Result<Vec<Queued>, WriteError> {
        if self.outbox { queued(head, entries).map_err(|error| unwritable(&error)) } else { Ok(Vec::new()) }
    }

    fn settle(&self, lease: &Lease, now_ms: u64, detail: &str, fate: Fate) -> Result<Settled, WriteError> {
        let (lease, now_ms, detail) = (lease.clone(), time(now_ms), detail.to_owned());
        match self.send(Work::Settle { lease, now_ms, detail, fate })?.rows() {
            0 => Ok(Settled::Superseded),
            _ => Ok(Settled::Recorded),
        }
    }
}

impl Outbox for SqliteRuns {
    fn lease(&self, terms: &LeaseTerms<'_>) -> Result<Vec<Leased>, WriteError> {
        // Mostly there is nothing to take, and then nobody waits for the writer.
        let due = self.reading(|connection| {
            let sql = "SELECT 1 FROM outbox WHERE state = 0 AND due <= ?1 LIMIT 1";
            Ok(connection.prepare_cached(sql)?.exists([time(terms.now_ms)])?)
        });
        if !due.map_err(|error| WriteError::Refused(StoreFault(error.to_string())))? {
            return Ok(Vec::new());
        }
        let terms = Terms {
            now_ms: time(terms.now_ms),
            until_ms: time(terms.now_ms.saturating_add(terms.for_ms)),
            limit: terms.limit.min(LEASES_MAX) as i64,
            attempts_max: time(terms.attempts_max),
            holder: terms.holder.to_owned(),
        };
        let Done::Leased(taken) = self.send(Work::Lease(terms))? else { return Ok(Vec::new()) };
        // What has its digest and cannot be read was never written by us: its
        // leases run out, and with them its attempts.
        let leased = |Taken { lease, key, receipt, body }: Taken| {
            let packet: PacketRecord = parse(&body)?;
            let target = packet.receipts.get(receipt)?.target.clone();
            Some(Leased { lease, key, target, packet })
        };
        Ok(taken.into_iter().filter_map(leased).collect())
    }

    fn delivered(&self, lease: &Lease, now_ms: u64, told: &str) -> Result<Settled, WriteError> {
        self.settle(lease, now_ms, told, Fate::Delivered)
    }

    fn failed(&self, lease: &Lease, now_ms: u64, why: &str, again_at_ms: Option<u64>) -> Result<Settled, WriteError> {
        self.settle(lease, now_ms, why, Fate::Failed { again_at_ms: again_at_ms.map(time) })
    }

    fn put_back(&self, lease: &Lease, again_at_ms: u64) -> Result<Settled, WriteError> {
        self.settle(lease, 0, "", Fate::PutBack { again_at_ms: time(again_at_ms) })
    }

    fn abandon(&self, key: &RunKey, now_ms: u64, why: &str) -> Result<u64, WriteError> {
        let work = Work::Abandon { key: key.clone(), now_ms: time(now_ms), why: why.to_owned() };
        self.send(work).map(|done| done.rows())
    }

    fn delivery_log(&self, key: &RunKey, after: u64, limit: usize) -> Result<DeliveryPage, ReadError> {
        self.reading(|connection| {
            let Some(run) = read::find(connection, key)? else { return Ok(DeliveryPage::default()) };
            let sql = "SELECT n, delivery, body, previous, digest FROM deliveries WHERE run = ?1 AND n > ?2 ORDER BY n \
                       LIMIT ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let limit = limit.min(PAGE_ENTRIES_MAX) as i64;
            let mut rows = statement.query(params![run.run, integer(after)?, limit])?;
            let mut page = DeliveryPage { records: Vec::new(), end: after };
            while let Some(row) = rows.next()? {
                let line = Line::of(row)?;
                page.end = line.n;
                page.records.push(line.record(key)?);
            }
            Ok(page)
        })
    }

    fn undelivered(&self) -> Result<u64, ReadError> {
        self.reading(|connection| {
            let sql = "SELECT count(*) FROM outbox WHERE state = 0";
            Ok(whole(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)?)
        })
    }
}

/// A time that is too late to be is the latest there is.
fn time(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Queues deliveries of the entries that follow the one of number `before`.
pub(super) fn queue(connection: &Connection, run: i64, before: u64, deliveries: &[Queued]) -> rusqlite::Result<()> {
    let sql = "INSERT INTO outbox (run, seq, receipt, id, about, state, due, attempts, holder) \
               VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, 0, NULL)";
    let mut insert = connection.prepare_cached(sql)?;
    for delivery in deliveries {
        let seq = integer(before + delivery.entry as u64 + 1)?;
        let about = canonical(&delivery.about)?;
        insert.execute(params![run, seq, delivery.receipt as i64, delivery.id.as_bytes(), about])?;
    }
    Ok(())
}

/// A delivery that is due, as it is stored.
struct Due {
    row: Standing,
    key: Option<RunKey>,
    receipt: usize,
    /// The packet, if it is what its digest says.
    body: Option<Vec<u8>>,
}

/// Where a delivery stands.
struct Standing {
    delivery: i64,
    run: i64,
    id: Digest,
    about: Vec<u8>,
    attempts: u64,
    holder: Option<String>,
}

impl Standing {
    /// The columns that [`Standing::of`] reads, of the table `o`.
    const COLUMNS: &str = "o.delivery, o.run, o.id, o.about, o.attempts, o.holder";

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            delivery: row.get(0)?,
            run: row.get(1)?,
            id: digest_of(row, 2)?,
            about: row.get(3)?,
            attempts: whole(row.get(4)?)?,
            holder: row.get(5)?,
        })
    }

    /// Says what became of the newest attempt, after what was said last.
    fn log(
        &self,
        connection: &Connection,
        outcome: DeliveryOutcome,
        now_ms: i64,
        detail: &str,
    ) -> rusqlite::Result<()> {
        // Somebody else wrote that, as `verify` says. It must not stop the others.
        let Some(about) = parse::<About>(&self.about) else { return Ok(()) };
        let (at_ms, who) = (whole(now_ms)?, (self.attempts, self.holder.clone()));
        let body = canonical(&record(&self.id, about, outcome, at_ms, who, detail))?;
        let sql = "SELECT digest FROM deliveries WHERE run = ?1 ORDER BY n DESC LIMIT 1";
        let last = connection.prepare_cached(sql)?.query_row([self.run], |row| digest_of(row, 0)).optional()?;
        let previous = match last {
            Some(last) => last,
            None => {
                let mut origin = connection.prepare_cached("SELECT origin FROM runs WHERE run = ?1")?;
                Digest::of(&origin.query_row([self.run], |row| row.get::<_, Vec<u8>>(0))?)
            }
        };
        let digest = chained(&previous, &body);
        let sql = "INSERT INTO deliveries (run, delivery, body, previous, digest) VALUES (?1, ?2, ?3, ?4, ?5)";
        let mut insert = connection.prepare_cached(sql)?;
        insert.execute(params![self.run, self.delivery, body, previous.as_bytes(), digest.as_bytes()])?;
        Ok(())
    }

    /// Gives up, and says why.
    fn give_up(&self, connection: &Connection, now_ms: i64, why: &str) -> rusqlite::Result<()> {
        self.log(connection, DeliveryOutcome::Dead, now_ms, why)?;
        let sql = "UPDATE outbox SET state = ?2, holder = NULL WHERE delivery = ?1";
        connection.prepare_cached(sql)?.execute(params![self.delivery, DEAD])?;
        Ok(())
    }
}

pub(super) fn lease(connection: &Connection, terms: &Terms) -> rusqlite::Result<Done> {
    let mut taken = Vec::new();
    for Due { row, key, receipt, body } in due(connection, terms)? {
        let (Some(key), Some(body)) = (key, body) else {
            row.give_up(connection, terms.now_ms, DAMAGED)?;
            continue;
        };
        if row.attempts >= whole(terms.attempts_max)? {
            row.give_up(connection, terms.now_ms, RAN_OUT)?;
            continue;
        }
        if row.holder.is_some() {
            row.log(connection, DeliveryOutcome::Lost, terms.now_ms, RAN_OUT)?;
        }
        let attempt = row.attempts + 1;
        let sql = "UPDATE outbox SET attempts = ?2, due = ?3, holder = ?4 WHERE delivery = ?1";
        let mut take = connection.prepare_cached(sql)?;
        take.execute(params![row.delivery, integer(attempt)?, terms.until_ms, terms.holder])?;
        let lease = Lease { id: row.id, attempt, holder: terms.holder.clone() };
        taken.push(Taken { lease, key, receipt, body });
    }
    Ok(Done::Leased(taken))
}

/// What may be taken, as many as are wanted and not more bytes than fit.
fn due(connection: &Connection, terms: &Terms) -> rusqlite::Result<Vec<Due>> {
    let sql = format!(
        "SELECT {}, o.seq, o.receipt, r.tenant_id, r.namespace_id, r.run_id, e.body, e.previous, e.digest \
         FROM outbox o LEFT JOIN runs r ON r.run = o.run \
         LEFT JOIN entries e ON e.run = o.run AND e.log = 4 AND e.seq = o.seq \
         WHERE o.state = 0 AND o.due <= ?1 ORDER BY o.due, o.delivery LIMIT ?2",
        Standing::COLUMNS
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![terms.now_ms, terms.limit])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let seq = whole(row.get(6)?)?;
        let body: Option<Vec<u8>> = row.get(11)?;
        bytes += body.as_ref().map_or(0, Vec::len);
        if !found.is_empty() && bytes > LEASES_BYTES_MAX {
            break;
        }
        let sound = |body: &Vec<u8>| -> rusqlite::Result<bool> {
            Ok(link(&digest_of(row, 12)?, seq, Log::Packets, body) == digest_of(row, 13)?)
        };
        let body = match body {
            Some(body) if sound(&body)? => Some(body),
            _ => None,
        };
        found.push(Due {
            row: Standing::of(row)?,
            key: key_of(row)?,
            receipt: usize::try_from(row.get::<_, i64>(7)?).unwrap_or(usize::MAX),
            body,
        });
    }
    Ok(found)
}

fn key_of(row: &Row<'_>) -> rusqlite::Result<Option<RunKey>> {
    use runpack_core::model::{NamespaceId, TenantId};
    let number = |column: usize| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(column)?.and_then(|value| u64::try_from(value).ok()))
    };
    let (tenant, namespace) = (number(8)?.and_then(TenantId::new), number(9)?.and_then(NamespaceId::new));
    let run_id: Option<String> = row.get(10)?;
    Ok(tenant.zip(namespace).zip(run_id).map(|((tenant_id, namespace_id), run_id)| RunKey {
        tenant_id,
        namespace_id,
        run_id: run_id.into(),
    }))
}

/// Takes down what was said of a lease, if it still holds.
pub(super) fn settle(
    connection: &Connection,
    lease: &Lease,
    now_ms: i64,
    detail: &str,
    fate: Fate,
) -> rusqlite::Result<Done> {
    let sql = format!(
        "SELECT {} FROM outbox o WHERE o.id = ?1 AND o.state = 0 AND o.attempts = ?2 AND o.holder = ?3",
        Standing::COLUMNS
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let held = params![lease.id.as_bytes(), integer(lease.attempt)?, lease.holder];
    let Some(row) = statement.query_row(held, Standing::of).optional()? else { return Ok(Done::Rows(0)) };
    let (state, due, attempts) = match fate {
        Fate::Delivered => (DELIVERED, 0, row.attempts),
        Fate::Failed { again_at_ms: Some(again_at_ms) } => (OPEN, again_at_ms, row.attempts),
        Fate::Failed { again_at_ms: None } => (DEAD, 0, row.attempts),
        Fate::PutBack { again_at_ms } => (OPEN, again_at_ms, row.attempts.saturating_sub(1)),
    };
    match (fate, state) {
        (Fate::PutBack { .. }, _) => {}
        (_, DELIVERED) => row.log(connection, DeliveryOutcome::Delivered, now_ms, detail)?,
        (_, DEAD) => row.log(connection, DeliveryOutcome::Dead, now_ms, detail)?,
        _ => row.log(connection, DeliveryOutcome::Failed, now_ms, detail)?,
    }
    let sql = "UPDATE outbox SET state = ?2, due = ?3, attempts = ?4, holder = NULL WHERE delivery = ?1";
    let mut update = connection.prepare_cached(sql)?;
    Ok(Done::Rows(update.execute(params![row.delivery, state, due, integer(attempts)?])? as u64))
}

/// Gives up all deliveries of a run that are open.
pub(super) fn abandon(connection: &Connection, run: i64, now_ms: i64, why: &str) -> rusqlite::Result<Done> {
    let sql =
        format!("SELECT {} FROM outbox o WHERE o.run = ?1 AND o.state = 0 ORDER BY o.delivery", Standing::COLUMNS);
    let mut statement = connection.prepare_cached(&sql)?;
    let open: Vec<_> = statement.query_map([run], Standing::of)?.collect::<Result<_, _>>()?;
    open.iter().try_for_each(|row| row.give_up(connection, now_ms, why))?;
    Ok(Done::Rows(open.len() as u64))
}

/// How many deliveries of a run are open.
pub(super) fn open_of(connection: &Connection, run: i64) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM outbox WHERE run = ?1 AND state = 0";
    whole(connection.prepare_cached(sql)?.query_row([run], |row| row.get(0))?)
}

/// A line of a delivery log, as it is stored.
pub(super) struct Line {
    pub(super) n: u64,
    pub(super) delivery: i64,
    body: Vec<u8>,
    pub(super) previous: Digest,
    pub(super) digest: Digest,
}

impl Line {
    /// Of the columns `n, delivery, body, previous, digest`.
    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            n: whole(row.get(0)?)?,
            delivery: row.get(1)?,
            body: row.get(2)?,
            previous: digest_of(row, 3)?,
            digest: digest_of(row, 4)?,
        })
    }

    /// The record, if it is what its digest says.
    pub(super) fn record(&self, key: &RunKey) -> Result<DeliveryRecord, ReadError> {
        if chained(&self.previous, &self.body) != self.digest {
            return Err(self.damaged(key, "it is not what its digest says"));
        }
        parse(&self.body).ok_or_else(|| self.damaged(key, "it cannot be read"))
    }

    pub(super) fn damaged(&self, key: &RunKey, problem: &str) -> ReadError {
        read::damaged(key, &format!("line {} of the delivery log", self.n), problem)
    }
}

fn canonical<T: serde::Serialize>(value: &T) -> rusqlite::Result<Vec<u8>> {
    to_vec(value).map_err(|error: CanonError| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
