//! Reads everything and compares it with the digests that were kept.

use std::cell::Cell;
use std::collections::BTreeMap;

use runpack_core::canon::Digest;
use runpack_core::engine::{Followed, Head};
use runpack_core::model::{DecisionRecord, PacketRecord, SubmissionId};
use runpack_core::pack::layout::Log;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::outbox::{self, Line};
use super::read::{
    ENTRY, Found, LATE, PLACED, SHAPE, Stored, StoredShape, damaged, find, key_of, parse, scenario_of, scenarios,
};
use super::rows::{SEQ_MAX, Tombstone, chained, place};
use super::{SqliteRuns, digest_of, whole};
use crate::runs::outbox::{About, named};
use crate::runs::{Damage, DeliveryOutcome, ReadError, RunKey};

/// What [`SqliteRuns::verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// Runs looked at.
    pub runs: u64,
    /// Their entries.
    pub entries: u64,
    /// Runs that were pruned.
    pub tombstones: u64,
    /// Scenarios looked at.
    pub scenarios: u64,
    /// Data shapes looked at.
    pub shapes: u64,
    /// Deliveries looked at.
    pub deliveries: u64,
    /// Those that are open.
    pub undelivered: u64,
    /// What is not as it was written; of each chain the first place.
    pub damage: Vec<Damage>,
}

impl SqliteRuns {
    /// Checks the whole store: the file as SQLite sees it, every run's chain,
    /// head and deliveries, the tombstones, the scenarios, the data shapes.
    ///
    /// # Errors
    /// [`ReadError::Unreadable`]; what is damaged is in the report.
    pub fn verify(&self) -> Result<StoreReport, ReadError> {
        self.reading(|connection| {
            let mut report = StoreReport::default();
            file(connection, &mut report)?;
            let mut statement = connection
                .prepare("SELECT tenant_id, namespace_id, run_id FROM runs ORDER BY tenant_id, namespace_id, run_id")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                report.runs += 1;
                let checked = key_of(row).and_then(|key| whole_run(connection, &key));
                let Some(found) = report.told(checked)? else { continue };
                report.entries += found.head.counts.total();
                let checked = deliveries(connection, &found);
                let (all, open) = report.told(checked)?.unwrap_or_default();
                report.deliveries += all;
                report.undelivered += open;
            }
            let checked = tombstones(connection);
            report.tombstones = report.told(checked)?.unwrap_or_default();
            for line in scenarios(connection)? {
                report.scenarios += 1;
                let checked = scenario_of(connection, &line.spec_hash);
                report.told(checked)?;
            }
            let checked = shapes(connection);
            report.shapes = report.told(checked)?.unwrap_or_default();
            Ok(report)
        })
    }
}

impl StoreReport {
    /// Takes damage down; another error is everybody's.
    fn told<T>(&mut self, outcome: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(ReadError::Damaged(damage)) => {
                self.damage.push(damage);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// What SQLite can see, and rows that belong to nothing.
fn file(connection: &Connection, report: &mut StoreReport) -> Result<(), ReadError> {
    let mut found = |place: &str, problem: String| report.damage.push(Damage { place: place.to_owned(), problem });
    let mut statement = connection.prepare("PRAGMA integrity_check(10)")?;
    let lines: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    lines.into_iter().filter(|line| line != "ok").for_each(|line| found("file", line));
    for (table, run) in
        [("entries", "run"), ("places", "place >> 36"), ("heads", "run"), ("outbox", "run"), ("deliveries", "run")]
    {
        let sql = format!("SELECT count(*) FROM {table} WHERE {run} NOT IN (SELECT run FROM runs)");
        let orphans: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
        if orphans > 0 {
            found(table, format!("{orphans} rows belong to no run"));
        }
    }
    let sql = "SELECT count(*) FROM entries e WHERE e.entry <= (SELECT placed FROM store) AND NOT EXISTS \
               (SELECT 1 FROM places p WHERE p.place = e.run << 36 | e.seq AND p.entry = e.entry)";
    let lost: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    if lost > 0 {
        found("entries", format!("{lost} rows are not where their run has its entries"));
    }
    let pruning: i64 = connection.query_row("SELECT pruning FROM store", [], |row| row.get(0))?;
    if pruning != 0 {
        found("store", "the guard against deleting is off".to_owned());
    }
    Ok(())
}

fn whole_run(connection: &Connection, key: &RunKey) -> Result<Found, ReadError> {
    let gone = || damaged(key, "origin", "it is not found under its own key");
    let found = find(connection, key)?.ok_or_else(gone)?;
    run(connection, &found)?;
    Ok(found)
}

/// Follows the chain of a run and works out its head.
pub(super) fn run(connection: &Connection, found: &Found) -> Result<Head, ReadError> {
    let mut head = found.origin.clone().head();
    let (mut last, mut decided, mut seq) = (found.first, 0, 0);
    let mut each = |row: &Row<'_>| -> Result<(), ReadError> {
        let entry = Stored::of(row)?;
        if entry.seq != seq + 1 {
            return Err(found.entry(seq + 1, "it is missing"));
        }
        seq = entry.seq;
        if entry.previous != last {
            return Err(found.entry(seq, "it does not follow the entry before"));
        }
        if !entry.is_sound() {
            return Err(found.entry(seq, "it is not what its digest says"));
        }
        last = entry.digest;
        if entry.log == Some(Log::Decisions) {
            decided = entry.entry;
        }
        follow(&mut head, &entry).map_err(|problem| found.entry(seq, &problem))
    };
    let mut statement = connection.prepare_cached(&format!("SELECT {ENTRY} FROM {PLACED} ORDER BY p.place"))?;
    // No entry has the number 0.
    let mut rows = statement.query([found.run, place(found.run, 0) - 1, place(found.run, SEQ_MAX)])?;
    while let Some(row) = rows.next()? {
        each(row)?;
    }
    let mut statement = connection.prepare_cached(&format!("SELECT {ENTRY} FROM {LATE} ORDER BY e.entry"))?;
    let mut rows = statement.query([found.run])?;
    while let Some(row) = rows.next()? {
        each(row)?;
    }
    if head != found.head || last != found.last || decided != found.decided {
        return Err(damaged(&found.key(), "head", "its entries come to another"));
    }
    Ok(head)
}

fn follow(head: &mut Head, entry: &Stored) -> Result<(), String> {
    let filed = |subject: &str| match entry.subject.as_deref() == Some(subject) {
        true => Ok(()),
        false => Err("it is filed under another id".to_owned()),
    };
    match entry.log.ok_or("it is of no log")? {
        Log::Triggers => head.follow(Followed::Trigger),
        Log::GateEvals => head.follow(Followed::GateEval),
        Log::Packets => head.follow(Followed::Packet),
        Log::ToolCalls => head.follow(Followed::ToolCall),
        Log::Submissions => {
            #[derive(serde::Deserialize)]
            struct Submission {
                submission_id: SubmissionId,
            }
            let submission: Submission = parse(&entry.body).ok_or("it is no submission")?;
            filed(submission.submission_id.as_str())?;
            head.follow(Followed::Submission);
        }
        Log::Decisions => {
            let decision: DecisionRecord = parse(&entry.body).ok_or("it is no decision")?;
            filed(decision.trigger_id.as_str())?;
            head.follow(Followed::Decision(&decision));
        }
    }
    if entry.subject.is_some() && !matches!(entry.log, Some(Log::Decisions | Log::Submissions)) {
        return Err("it is filed under an id".to_owned());
    }
    Ok(())
}

/// Where a delivery stands, and what its log said last.
struct Standing {
    id: Digest,
    about: About,
    state: i64,
    attempts: u64,
    said: Option<(u64, DeliveryOutcome)>,
}

/// Compares the outbox of a run, whose entries were checked, with its packets
/// and with its delivery log; how many deliveries there are, and how many open.
fn deliveries(connection: &Connection, found: &Found) -> Result<(u64, u64), ReadError> {
    let key = found.key();
    let mut queued = queued(connection, found)?;
    let mut last = found.first;
    let sql = "SELECT n, delivery, body, previous, digest FROM deliveries WHERE run = ?1 ORDER BY n";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([found.run])?;
    while let Some(row) = rows.next()? {
        let line = Line::of(row)?;
        let wrong = |problem: &str| line.damaged(&key, problem);
        if line.previous != last {
            return Err(wrong("it does not follow the one before"));
        }
        last = line.digest;
        let record = line.record(&key)?;
        let standing = queued.get_mut(&line.delivery).ok_or_else(|| wrong("there is no such delivery"))?;
        let About { packet_id, target } = &standing.about;
        if record.delivery_id != standing.id.to_string() || record.packet_id != *packet_id || record.target != *target {
            return Err(wrong("it is that of another delivery"));
        }
        let (before, closed) = standing.said.map_or((0, false), |(attempt, outcome)| (attempt, outcome.is_last()));
        if closed || record.attempt < before || record.attempt > standing.attempts {
            return Err(wrong("it cannot follow what was said before"));
        }
        standing.said = Some((record.attempt, record.outcome));
    }
    for (delivery, standing) in &queued {
        let said = standing.said.map(|(_, outcome)| outcome).filter(|outcome| outcome.is_last());
        let closed = match standing.state {
            outbox::DELIVERED => Some(DeliveryOutcome::Delivered),
            outbox::DEAD => Some(DeliveryOutcome::Dead),
            _ => None,
        };
        if said != closed {
            let problem = "it does not stand as its log says";
            return Err(damaged(&key, &format!("delivery {delivery}"), problem));
        }
    }
    let open = queued.values().filter(|standing| standing.state == outbox::OPEN).count();
    Ok((queued.len() as u64, open as u64))
}

/// The outbox of a run: of each packet there all receipts are, or none.
fn queued(connection: &Connection, found: &Found) -> Result<BTreeMap<i64, Standing>, ReadError> {
    let key = found.key();
    let mut queued = BTreeMap::new();
    let mut receipts: Option<(u64, PacketRecord, usize)> = None;
    let body = "SELECT body FROM entries WHERE run = ?1 AND log = 4 AND seq = ?2";
    let mut body = connection.prepare(body)?;
    let sql =
        "SELECT delivery, seq, receipt, id, about, state, attempts FROM outbox WHERE run = ?1 ORDER BY seq, receipt";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([found.run])?;
    let incomplete = |seq: u64| damaged(&key, &format!("entry {seq}"), "not all of its deliveries are there");
    while let Some(row) = rows.next()? {
        let (delivery, seq): (i64, u64) = (row.get(0)?, whole(row.get(1)?)?);
        let wrong = |problem: &str| damaged(&key, &format!("delivery {delivery}"), problem);
        if receipts.as_ref().is_none_or(|(at, ..)| *at != seq) {
            if let Some((at, ..)) = receipts.take().filter(|(_, packet, next)| packet.receipts.len() != *next) {
                return Err(incomplete(at));
            }
            let text: Option<Vec<u8>> =
                body.query_row(params![found.run, row.get::<_, i64>(1)?], |row| row.get(0)).optional()?;
            let packet = text.and_then(|text| parse::<PacketRecord>(&text));
            receipts = Some((seq, packet.ok_or_else(|| wrong("there is no such packet"))?, 0));
        }
        let Some((_, packet, next)) = &mut receipts else { continue };
        let receipt = usize::try_from(row.get::<_, i64>(2)?).unwrap_or(usize::MAX);
        if receipt != *next {
            return Err(incomplete(seq));
        }
        *next += 1;
        let given = packet.receipts.get(receipt).ok_or_else(|| wrong("it has no receipt"))?;
        let (id, about) = named(&key, packet, receipt, given).map_err(|error| wrong(&error.to_string()))?;
        let stored: Option<About> = parse(&row.get::<_, Vec<u8>>(4)?);
        if digest_of(row, 3)? != id || stored.as_ref() != Some(&about) {
            return Err(wrong("it is that of another packet"));
        }
        let (state, attempts) = (row.get(5)?, whole(row.get(6)?)?);
        queued.insert(delivery, Standing { id, about, state, attempts, said: None });
    }
    match receipts {
        Some((seq, packet, next)) if next != packet.receipts.len() => Err(incomplete(seq)),
        _ => Ok(queued),
    }
}

fn tombstones(connection: &Connection) -> Result<u64, ReadError> {
    let sql = "SELECT tenant_id, namespace_id, run_id, n, body, previous, digest FROM tombstones ORDER BY n";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let (mut last, count) = (Digest::of(b""), Cell::new(0_u64));
    while let Some(row) = rows.next()? {
        count.set(count.get() + 1);
        let wrong = |problem: &str| -> ReadError {
            Damage { place: format!("tombstone {}", count.get()), problem: problem.to_owned() }.into()
        };
        let body: Vec<u8> = row.get(4)?;
        let (previous, digest) = (digest_of(row, 5)?, digest_of(row, 6)?);
        if whole(row.get(3)?)? != count.get() || previous != last {
            return Err(wrong("it does not follow the one before"));
        }
        if chained(&previous, &body) != digest {
            return Err(wrong("it is not what its digest says"));
        }
        let tombstone: Tombstone = parse(&body).ok_or_else(|| wrong("it cannot be read"))?;
        let origin = &tombstone.origin;
        let key = key_of(row)?;
        if (origin.tenant_id, origin.namespace_id, &origin.run_id) != (key.tenant_id, key.namespace_id, &key.run_id) {
            return Err(wrong("it is that of another run"));
        }
        last = digest;
    }
    Ok(count.get())
}

fn shapes(connection: &Connection) -> Result<u64, ReadError> {
    let mut statement = connection.prepare(&format!("SELECT {SHAPE}, n FROM shapes ORDER BY n"))?;
    let mut rows = statement.query([])?;
    let (mut last, mut count) = (Digest::of(b""), 0);
    while let Some(row) = rows.next()? {
        count += 1;
        let shape = StoredShape::of(row)?;
        if whole(row.get(7)?)? != count || shape.previous != last {
            return Err(shape.damaged("it does not follow the one before"));
        }
        shape.record()?;
        last = shape.digest;
    }
    Ok(count)
}
