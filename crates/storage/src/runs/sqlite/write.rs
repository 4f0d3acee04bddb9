//! What waits is written in one transaction and waits for the disk once; nobody
//! is told before that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use runpack_core::canon::{Digest, to_vec};
use runpack_core::model::RunStatus;
use runpack_core::pack::layout::Log;
use rusqlite::{Connection, OptionalExtension, params};

use super::desk::Job;
use super::outbox::{self, Fate, Taken, Terms};
use super::read::parse;
use super::rows::{Origin, RUN_MAX, Row, SEQ_MAX, Standing, Tombstone, chained, link, number, place, sealed};
use super::{Broken, digest_of, integer, say, whole};
use crate::runs::outbox::Queued;
use crate::runs::{Damage, Lease, RunKey, ShapeKey, StoreFault, WriteError};

/// Entries whose places are written together. Whoever reads a whole run looks
/// through the newest entries of all, which are not more than about so many.
const PLACED_AT_ONCE: i64 = 1_024;

/// Runs whose end is remembered, and namespaces whose data shapes were counted.
const TAILS_MAX: usize = 10_000;

/// What came of a job.
#[derive(Debug)]
pub(super) enum Done {
    /// So many rows were written, changed or removed.
    Rows(u64),
    /// Nothing: a data shape of that name is there.
    Conflict,
    /// Nothing: no more data shapes are allowed.
    Full,
    /// These deliveries are whoever's asked.
    Leased(Vec<Taken>),
}

impl Done {
    pub(super) fn rows(&self) -> u64 {
        match self {
            Self::Rows(rows) => *rows,
            Self::Leased(taken) => taken.len() as u64,
            Self::Conflict | Self::Full => 0,
        }
    }
}

pub(super) enum Work {
    Create {
        key: RunKey,
        origin: Vec<u8>,
        standing: Vec<u8>,
        rows: Vec<Row>,
        deliveries: Vec<Queued>,
    },
    Append {
        key: RunKey,
        expected: u64,
        standing: Vec<u8>,
        rows: Vec<Row>,
        deliveries: Vec<Queued>,
    },
    Prune(RunKey),
    Define {
        namespace: i64,
        id: String,
        hash: Digest,
        spec: Vec<u8>,
    },
    Retire {
        namespace: i64,
        id: String,
    },
    Register {
        key: ShapeKey,
        body: Vec<u8>,
        entries_max: Option<u64>,
    },
    Lease(Terms),
    Settle {
        lease: Lease,
        now_ms: i64,
        detail: String,
        fate: Fate,
    },
    Abandon {
        key: RunKey,
        now_ms: i64,
        why: String,
    },
    /// Writes something, to see whether it can.
    Probe,
    /// Comes to an end that it should not.
    #[cfg(test)]
    Die,
}

impl Work {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Create { rows, .. } | Self::Append { rows, .. } => rows.iter().map(|row| row.body.len()).sum(),
            Self::Register { body, .. } => body.len(),
            _ => 0,
        }
    }
}

/// Where a run ends.
#[derive(Debug, Clone, Copy)]
struct Tail {
    run: i64,
    seq: u64,
    /// Where its newest decision is, or 0.
    decided: i64,
    last: Digest,
}

/// Where the table of entries ends.
#[derive(Debug, Clone, Copy)]
struct End {
    /// The newest entry.
    entry: i64,
    /// The newest of those whose places are written.
    placed: i64,
}

pub(super) struct Writer {
    connection: Connection,
    broken: Arc<Mutex<Option<Broken>>>,
    /// Valid as long as nobody else writes.
    tails: BTreeMap<RunKey, Tail>,
    /// As long valid.
    end: Option<End>,
    /// How many data shapes a tenant has in a namespace; as long valid.
    shapes: BTreeMap<(i64, i64), u64>,
    data_version: i64,
}

/// What came of a job, or why nothing did.
pub(super) type Answer = Result<Done, WriteError>;

/// Why a transaction is given up.
enum Stop {
    /// The one that asked is told, and nothing was written for it.
    Told(WriteError),
    /// The medium failed: nothing of the group is written.
    Failed(rusqlite::Error),
}

/// Why a group was not written.
enum Undone {
    /// Some of it breaks a rule of the schema.
    Rule(StoreFault),
    /// It is everybody's error.
    Medium(WriteError),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

impl Writer {
    pub(super) fn new(connection: Connection, broken: Arc<Mutex<Option<Broken>>>) -> Self {
        Self { connection, broken, tails: BTreeMap::new(), end: None, shapes: BTreeMap::new(), data_version: -1 }
    }

    /// Writes a group; the answers to each of it.
    pub(super) fn write(&mut self, group: &[Job]) -> Vec<Answer> {
        let all = |error: WriteError| group.iter().map(|_| Err(error.clone())).collect();
        if let Some(Broken { fault, for_good: true }) = self.broken() {
            return all(WriteError::Refused(fault));
        }
        match self.transact(group) {
            Ok(answers) => {
                self.set_broken(None);
                answers
            }
            // One that breaks a rule of the schema must not take the others down.
            Err(Undone::Rule(_)) if group.len() > 1 => {
                group.iter().flat_map(|job| self.write(std::slice::from_ref(job))).collect()
            }
            Err(Undone::Rule(fault)) => all(WriteError::Refused(fault)),
            Err(Undone::Medium(error)) => all(error),
        }
    }

    /// Writes a group; an error is everybody's.
    fn transact(&mut self, group: &[Job]) -> Result<Vec<Answer>, Undone> {
        let outcome = self.begin().and_then(|()| {
            let mut answers = Vec::with_capacity(group.len());
            for job in group {
                match self.apply(&job.work) {
                    Ok(done) => answers.push(Ok(done)),
                    Err(Stop::Told(error)) => answers.push(Err(error)),
                    Err(Stop::Failed(error)) => return Err(error),
                }
            }
            self.place()?;
            Ok(answers)
        });
        let answers = match outcome {
            Ok(answers) => answers,
            Err(error) => {
                self.forget();
                let fault = say(&error);
                // If even that fails, the next group finds a transaction open
                // and fails in turn: nothing is taken by mistake.
                let _ = self.connection.execute_batch("ROLLBACK");
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) {
                    return Err(Undone::Rule(fault));
                }
                self.set_broken(Some(Broken { fault: fault.clone(), for_good: false }));
                return Err(Undone::Medium(WriteError::Refused(fault)));
            }
        };
        if answers.iter().all(Result::is_err) {
            // Nothing to make durable.
            return match self.connection.execute_batch("ROLLBACK") {
                Ok(()) => Ok(answers),
                Err(error) => Err(Undone::Medium(WriteError::Refused(say(&error)))),
            };
        }
        let committed = self.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
        match committed {
            Ok(_) => Ok(answers),
            Err(error) => {
                use rusqlite::ErrorCode::{DatabaseBusy, DiskFull};
                self.forget();
                let fault = say(&error);
                let _ = self.connection.execute_batch("ROLLBACK");
                // What ends a transaction, the last frame of the log or the
                // removal of the journal, comes after all that needs room or
                // that somebody else can hold up.
                if matches!(error.sqlite_error_code(), Some(DiskFull | DatabaseBusy)) {
                    self.set_broken(Some(Broken { fault: fault.clone(), for_good: false }));
                    return Err(Undone::Medium(WriteError::Refused(fault)));
                }
                let told =
                    format!("{}, when a transaction was committed\nhint: see to the disk, then restart", fault.0);
                self.set_broken(Some(Broken { fault: StoreFault(told), for_good: true }));
                Err(Undone::Medium(WriteError::Unknown(fault)))
            }
        }
    }

    fn begin(&mut self) -> rusqlite::Result<()> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let version = self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if version != self.data_version || self.tails.len() > TAILS_MAX || self.shapes.len() > TAILS_MAX {
            self.data_version = version;
            self.forget();
        }
        Ok(())
    }

    /// What is remembered may not be so any more.
    fn forget(&mut self) {
        self.tails.clear();
        self.end = None;
        self.shapes.clear();
    }

    fn apply(&mut self, work: &Work) -> Result<Done, Stop> {
        match work {
            Work::Create { key, origin, standing, rows, deliveries } => {
                self.create(key, origin, standing, rows)?;
                self.queue(key, deliveries, rows.len())
            }
            Work::Append { key, expected, standing, rows, deliveries } => {
                self.append(key, *expected, standing, rows)?;
                self.queue(key, deliveries, rows.len())
            }
            Work::Prune(key) => self.prune_run(key),
            Work::Define { namespace, id, hash, spec } => {
                let sql = "INSERT INTO scenarios (namespace_id, scenario_id, spec_hash, spec, retired) \
                           VALUES (?1, ?2, ?3, ?4, 0) ON CONFLICT DO NOTHING";
                let mut insert = self.connection.prepare_cached(sql)?;
                Ok(Done::Rows(insert.execute(params![namespace, id, hash.as_bytes(), spec])? as u64))
            }
            Work::Retire { namespace, id } => {
                let sql =
                    "UPDATE scenarios SET retired = 1 WHERE namespace_id = ?1 AND scenario_id = ?2 AND retired = 0";
                Ok(Done::Rows(self.connection.prepare_cached(sql)?.execute(params![namespace, id])? as u64))
            }
            Work::Register { key, body, entries_max } => self.register(key, body, *entries_max),
            Work::Lease(terms) => Ok(outbox::lease(&self.connection, terms)?),
            Work::Settle { lease, now_ms, detail, fate } => {
                Ok(outbox::settle(&self.connection, lease, *now_ms, detail, *fate)?)
            }
            Work::Abandon { key, now_ms, why } => {
                let run = self.tail(key)?.run;
                Ok(outbox::abandon(&self.connection, run, *now_ms, why)?)
            }
            Work::Probe => {
                let probed = self.connection.prepare_cached("UPDATE store SET probes = probes + 1")?.execute([])?;
                Ok(Done::Rows(probed as u64))
            }
            #[cfg(test)]
            Work::Die => panic!("as the test wants it"),
        }
    }

    fn create(&mut self, key: &RunKey, origin: &[u8], standing: &[u8], rows: &[Row]) -> Result<Done, Stop> {
        let (tenant, namespace) = (integer(key.tenant_id.get())?, integer(key.namespace_id.get())?);
        let run_id = key.run_id.as_str();
        let sql = "SELECT 1 FROM tombstones WHERE tenant_id = ?1 AND namespace_id = ?2 AND run_id = ?3";
        let mut buried = self.connection.prepare_cached(sql)?;
        if self.tails.contains_key(key) || buried.exists(params![tenant, namespace, run_id])? {
            return Err(Stop::Told(WriteError::Exists(key.run_id.clone())));
        }
        drop(buried);
        let sql = "INSERT INTO runs (tenant_id, namespace_id, run_id, origin) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT DO NOTHING";
        let new = self.connection.prepare_cached(sql)?.execute(params![tenant, namespace, run_id, origin])?;
        if new == 0 {
            return Err(Stop::Told(WriteError::Exists(key.run_id.clone())));
        }
        let run = self.connection.last_insert_rowid();
        if run > RUN_MAX {
            return Err(rusqlite::Error::IntegralValueOutOfRange(0, run).into());
        }
        let tail = Tail { run, seq: 0, decided: 0, last: Digest::of(origin) };
        let sql = "INSERT INTO heads (run, seq, decided, last, body, digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let tail = self.extend(tail, standing, rows, sql)?;
        self.tails.insert(key.clone(), tail);
        Ok(Done::Rows(rows.len() as u64))
    }

    fn append(&mut self, key: &RunKey, expected: u64, standing: &[u8], rows: &[Row]) -> Result<Done, Stop> {
        let tail = match self.tails.get(key) {
            Some(tail) => *tail,
            None => {
                let tail = self.tail(key)?;
                self.tails.insert(key.clone(), tail);
                tail
            }
        };
        if tail.seq != expected {
            return Err(Stop::Told(WriteError::Conflict { expected, found: tail.seq }));
        }
        let sql = "UPDATE heads SET seq = ?2, decided = ?3, last = ?4, body = ?5, digest = ?6 WHERE run = ?1";
        let tail = self.extend(tail, standing, rows, sql)?;
        if let Some(known) = self.tails.get_mut(key) {
            *known = tail;
        }
        Ok(Done::Rows(rows.len() as u64))
    }

    /// Queues deliveries of packets that are the newest `rows` entries of a run.
    fn queue(&self, key: &RunKey, deliveries: &[Queued], rows: usize) -> Result<Done, Stop> {
        if let (Some(tail), false) = (self.tails.get(key), deliveries.is_empty()) {
            outbox::queue(&self.connection, tail.run, tail.seq - rows as u64, deliveries)?;
        }
        Ok(Done::Rows(rows as u64))
    }

    /// Where a run ends, read from its head.
    fn tail(&self, key: &RunKey) -> Result<Tail, Stop> {
        let (tenant, namespace) = (integer(key.tenant_id.get())?, integer(key.namespace_id.get())?);
        let sql = "SELECT r.run, h.seq, h.decided, h.last, h.body, h.digest \
                   FROM runs r JOIN heads h ON h.run = r.run \
                   WHERE r.tenant_id = ?1 AND r.namespace_id = ?2 AND r.run_id = ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let row = statement.query_row(params![tenant, namespace, key.run_id.as_str()], |row| {
            let tail =
                Tail { run: row.get(0)?, seq: whole(row.get(1)?)?, decided: row.get(2)?, last: digest_of(row, 3)? };
            Ok((tail, row.get::<_, Vec<u8>>(4)?, digest_of(row, 5)?))
        });
        let Some((tail, body, digest)) = row.optional()? else {
            return Err(Stop::Told(WriteError::NotFound(key.run_id.clone())));
        };
        let sound = sealed(&tail.last, tail.decided, &body) == digest
            && (1..=RUN_MAX).contains(&tail.run)
            && parse::<Standing>(&body).is_some_and(|standing| standing.total() == Some(tail.seq));
        if sound {
            return Ok(tail);
        }
        let place = format!("head of run {}", key.run_id);
        let problem = "it is not what its digest says".to_owned();
        Err(Stop::Told(WriteError::Damaged(Damage { place, problem })))
    }

    /// Writes the rows and the head after them; where the run ends then.
    fn extend(&mut self, tail: Tail, standing: &[u8], rows: &[Row], head: &str) -> Result<Tail, Stop> {
        let Tail { run, mut seq, mut decided, mut last } = tail;
        if rows.len() as u64 > SEQ_MAX - seq {
            let problem = format!("a run has no more than {SEQ_MAX} entries");
            return Err(Stop::Told(WriteError::Refused(StoreFault(problem))));
        }
        let mut end = self.end()?;
        let sql = "INSERT OR FAIL INTO entries (entry, run, seq, log, subject, previous, digest, body) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let mut insert = self.connection.prepare_cached(sql)?;
        for row in rows {
            (end.entry, seq) = (end.entry + 1, seq + 1);
            let digest = link(&last, seq, row.log, &row.body);
            let (subject, body) = (&row.subject, &row.body);
            let (before, after) = (last.as_bytes(), digest.as_bytes());
            insert.execute(params![end.entry, run, integer(seq)?, number(row.log), subject, before, after, body])?;
            last = digest;
            if row.log == Log::Decisions {
                decided = end.entry;
            }
        }
        drop(insert);
        self.end = Some(end);
        let digest = sealed(&last, decided, standing);
        let mut head = self.connection.prepare_cached(head)?;
        let written =
            head.execute(params![run, integer(seq)?, decided, last.as_bytes(), standing, digest.as_bytes()])?;
        if written != 1 {
            return Err(Stop::Failed(rusqlite::Error::StatementChangedRows(written)));
        }
        Ok(Tail { run, seq, decided, last })
    }

    /// Where the table of entries ends.
    fn end(&mut self) -> rusqlite::Result<End> {
        if let Some(end) = self.end {
            return Ok(end);
        }
        // What was placed may be pruned since; its numbers are not given out again.
        let sql = "SELECT max(placed, coalesce((SELECT max(entry) FROM entries), 0)), placed FROM store";
        let end = self
            .connection
            .prepare_cached(sql)?
            .query_row([], |row| Ok(End { entry: row.get(0)?, placed: row.get(1)? }))?;
        self.end = Some(end);
        Ok(end)
    }

    /// Says where the newest entries of each run are, once there are enough.
    fn place(&mut self) -> rusqlite::Result<()> {
        let Some(end) = self.end.filter(|end| end.entry - end.placed >= PLACED_AT_ONCE) else { return Ok(()) };
        // What a stranger put where another is already is left for `verify`.
        let sql = "INSERT OR IGNORE INTO places SELECT run << 36 | seq, log, entry FROM entries \
                   WHERE entry > ?1 AND entry <= ?2 ORDER BY 1";
        self.connection.prepare_cached(sql)?.execute([end.placed, end.entry])?;
        self.connection.prepare_cached("UPDATE store SET placed = ?1")?.execute([end.entry])?;
        self.end = Some(End { placed: end.entry, ..end });
        Ok(())
    }

    fn prune_run(&mut self, key: &RunKey) -> Result<Done, Stop> {
        let tail = self.tail(key)?;
        let sql = "SELECT r.origin, h.body FROM runs r JOIN heads h ON h.run = r.run WHERE r.run = ?1";
        let (origin, head): (Vec<u8>, Vec<u8>) =
            self.connection.prepare_cached(sql)?.query_row([tail.run], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let damaged = |problem: &str| {
            let place = format!("run {}", key.run_id);
            Stop::Told(WriteError::Damaged(Damage { place, problem: problem.to_owned() }))
        };
        let origin: Origin = serde_json::from_slice(&origin).map_err(|_| damaged("its origin cannot be read"))?;
        let head: Standing = serde_json::from_slice(&head).map_err(|_| damaged("its head cannot be read"))?;
        if head.status == RunStatus::Active {
            return Err(Stop::Told(WriteError::Active(key.run_id.clone())));
        }
        let open = outbox::open_of(&self.connection, tail.run)?;
        if open > 0 {
            return Err(Stop::Told(WriteError::Undelivered { run: key.run_id.clone(), open }));
        }
        let body = to_vec(&Tombstone { head, last: tail.last, origin })
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let sql = "SELECT n, digest FROM tombstones ORDER BY n DESC LIMIT 1";
        let before = self.connection.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, digest_of(row, 1)?)));
        let (n, previous) = before.optional()?.unwrap_or((0, Digest::of(b"")));
        let digest = chained(&previous, &body);
        let sql = "INSERT INTO tombstones (n, tenant_id, namespace_id, run_id, body, previous, digest) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.connection.execute(
            sql,
            params![
                n + 1,
                integer(key.tenant_id.get())?,
                integer(key.namespace_id.get())?,
                key.run_id.as_str(),
                body,
                previous.as_bytes(),
                digest.as_bytes()
            ],
        )?;
        self.tails.remove(key);
        let entries = self.pruning(|connection| {
            let places = [place(tail.run, 0), place(tail.run, SEQ_MAX)];
            let sql = "DELETE FROM entries WHERE run = ?3 \
                       AND entry IN (SELECT entry FROM places WHERE place BETWEEN ?1 AND ?2)";
            let placed = connection.execute(sql, params![places[0], places[1], tail.run])?;
            let sql = "DELETE FROM entries WHERE run = ?1 AND entry > (SELECT placed FROM store)";
            let entries = (placed + connection.execute(sql, [tail.run])?) as u64;
            connection.execute("DELETE FROM places WHERE place BETWEEN ?1 AND ?2", places)?;
            connection.execute("DELETE FROM deliveries WHERE run = ?1", [tail.run])?;
            connection.execute("DELETE FROM outbox WHERE run = ?1", [tail.run])?;
            connection.execute("DELETE FROM heads WHERE run = ?1", [tail.run])?;
            connection.execute("DELETE FROM runs WHERE run = ?1", [tail.run])?;
            Ok(entries)
        })?;
        Ok(Done::Rows(entries))
    }

    fn register(&mut self, key: &ShapeKey, body: &[u8], entries_max: Option<u64>) -> Result<Done, Stop> {
        let place = (integer(key.tenant_id.get())?, integer(key.namespace_id.get())?);
        let (tenant, namespace) = place;
        let kept = match self.shapes.get(&place) {
            Some(kept) => *kept,
            None => {
                let sql = "SELECT count(*) FROM shapes WHERE tenant_id = ?1 AND namespace_id = ?2";
                let mut count = self.connection.prepare_cached(sql)?;
                let kept = whole(count.query_row(params![tenant, namespace], |row| row.get(0))?)?;
                self.shapes.insert(place, kept);
                kept
            }
        };
        if entries_max.is_some_and(|most| kept >= most) {
            return Ok(Done::Full);
        }
        let sql = "SELECT 1 FROM shapes WHERE tenant_id = ?1 AND namespace_id = ?2 AND schema_id = ?3 AND version = ?4";
        let mut there = self.connection.prepare_cached(sql)?;
        if there.exists(params![tenant, namespace, key.schema_id.as_str(), key.version])? {
            return Ok(Done::Conflict);
        }
        let sql = "SELECT n, digest FROM shapes ORDER BY n DESC LIMIT 1";
        let before = self.connection.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, digest_of(row, 1)?)));
        let (n, previous): (i64, _) = before.optional()?.unwrap_or((0, Digest::of(b"")));
        let digest = chained(&previous, body);
        let sql = "INSERT INTO shapes (n, tenant_id, namespace_id, schema_id, version, body, previous, digest) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let (id, version) = (key.schema_id.as_str(), &key.version);
        let (previous, digest) = (previous.as_bytes(), digest.as_bytes());
        let mut insert = self.connection.prepare_cached(sql)?;
        let rows = insert.execute(params![n + 1, tenant, namespace, id, version, body, previous, digest])? as u64;
        self.shapes.insert(place, kept + rows);
        Ok(Done::Rows(rows))
    }

    /// Does what the triggers refuse otherwise.
    fn pruning<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.connection.prepare_cached("UPDATE store SET pruning = 1")?.execute([])?;
        let done = work(&self.connection)?;
        self.connection.prepare_cached("UPDATE store SET pruning = 0")?.execute([])?;
        Ok(done)
    }

    fn broken(&self) -> Option<Broken> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_broken(&self, broken: Option<Broken>) {
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = broken;
    }
}
