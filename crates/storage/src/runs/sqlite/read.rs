//! What is read for one call: the head, and the rows it needs.

use runpack_core::canon::Digest;
use runpack_core::engine::{Head, Scenario};
use runpack_core::model::{
    DataShapeRecord, DecisionRecord, GateEvalRecord, NamespaceId, PacketId, PacketRecord, ScenarioId, ScenarioSpec,
    SchemaId, SubmissionId, SubmissionRecord, TenantId,
};
use runpack_core::pack::layout::Log;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use serde::de::DeserializeOwned;

use super::rows::{LOGS, Origin, RUN_MAX, SEQ_MAX, Standing, chained, link, number, place, sealed};
use super::{digest_of, integer, whole};
use crate::runs::shapes::Filling;
use crate::runs::{
    Damage, Decided, PAGE_ENTRIES_MAX, Page, ReadError, RunKey, ShapeKey, ShapePage, StoreFault, StoredScenario, Which,
};

/// A run that was found, with its head checked.
pub(super) struct Found {
    pub(super) run: i64,
    /// The digest that the chain begins with.
    pub(super) first: Digest,
    /// The digest that it ends with, as the head says.
    pub(super) last: Digest,
    /// Where its newest decision is, as the head says, or 0.
    pub(super) decided: i64,
    pub(super) origin: Origin,
    pub(super) head: Head,
}

/// An entry as it is stored.
pub(super) struct Stored {
    pub(super) entry: i64,
    pub(super) seq: u64,
    /// `None` if there is no such log.
    pub(super) log: Option<Log>,
    pub(super) subject: Option<String>,
    pub(super) previous: Digest,
    pub(super) digest: Digest,
    pub(super) body: Vec<u8>,
}

/// The columns of an entry, as [`Stored::of`] reads them.
pub(super) const ENTRY: &str = "e.entry, e.seq, e.log, e.subject, e.previous, e.digest, e.body";

impl Stored {
    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let log: i64 = row.get(2)?;
        Ok(Self {
            entry: row.get(0)?,
            // No entry has the number 0.
            seq: u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0),
            log: LOGS.into_iter().find(|known| i64::from(number(*known)) == log),
            subject: row.get(3)?,
            previous: digest_of(row, 4)?,
            digest: digest_of(row, 5)?,
            body: row.get(6)?,
        })
    }

    /// Whether it is what its digest says.
    pub(super) fn is_sound(&self) -> bool {
        self.log.is_some_and(|log| link(&self.previous, self.seq, log, &self.body) == self.digest)
    }
}

pub(super) fn find(connection: &Connection, key: &RunKey) -> Result<Option<Found>, ReadError> {
    let sql = "SELECT r.run, r.origin, h.seq, h.decided, h.last, h.body, h.digest \
               FROM runs r LEFT JOIN heads h ON h.run = r.run \
               WHERE r.tenant_id = ?1 AND r.namespace_id = ?2 AND r.run_id = ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![
        integer(key.tenant_id.get())?,
        integer(key.namespace_id.get())?,
        key.run_id.as_str()
    ])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let origin: Vec<u8> = row.get(1)?;
    let (Some(seq), Some(body)) = (row.get::<_, Option<i64>>(2)?, row.get::<_, Option<Vec<u8>>>(5)?) else {
        return Err(damaged(key, "head", "the run has none"));
    };
    let (run, decided, last) = (row.get(0)?, row.get(3)?, digest_of(row, 4)?);
    let first = Digest::of(&origin);
    let origin: Origin = parse(&origin).ok_or_else(|| damaged(key, "origin", "it cannot be read"))?;
    let same =
        origin.tenant_id == key.tenant_id && origin.namespace_id == key.namespace_id && origin.run_id == key.run_id;
    if !same {
        return Err(damaged(key, "origin", "it is that of another run"));
    }
    if !(1..=RUN_MAX).contains(&run) {
        return Err(damaged(key, "origin", "its number cannot be"));
    }
    if sealed(&last, decided, &body) != digest_of(row, 6)? {
        return Err(damaged(key, "head", "it is not what its digest says"));
    }
    let standing: Standing = parse(&body).ok_or_else(|| damaged(key, "head", "it cannot be read"))?;
    if standing.total() != whole(seq).ok() {
        return Err(damaged(key, "head", "it counts other entries than it stands after"));
    }
    let head = standing.head(origin.clone());
    Ok(Some(Found { run, first, last, decided, origin, head }))
}

impl Found {
    pub(super) fn key(&self) -> RunKey {
        RunKey::of(&self.head)
    }

    pub(super) fn decided(&self, connection: &Connection, which: Which<'_>) -> Result<Option<Decided>, ReadError> {
        let stored = match which {
            Which::On(trigger) => self.named(connection, Log::Decisions, trigger.as_str())?,
            Which::Newest if self.decided == 0 => None,
            Which::Newest => {
                let newest = "entries e WHERE e.entry = ?1 AND e.run = ?2 AND e.log = 3";
                let newest = self.rows(connection, newest, [self.decided, self.run])?.pop();
                Some(newest.ok_or_else(|| damaged(&self.key(), "newest decision", "it is missing"))?)
            }
        };
        let Some(stored) = stored else { return Ok(None) };
        let decision: DecisionRecord = self.record(&stored, Log::Decisions)?;
        if stored.subject.as_deref() != Some(decision.trigger_id.as_str()) {
            return Err(self.entry(stored.seq, "it is filed under another trigger"));
        }
        let (mut gate_evals, mut packets) = (Vec::new(), Vec::new());
        for stored in self.around(connection, stored.entry)? {
            match stored.log {
                Some(Log::GateEvals) => {
                    let record: GateEvalRecord = self.record(&stored, Log::GateEvals)?;
                    if record.trigger_id != decision.trigger_id {
                        return Err(self.entry(stored.seq, "it belongs to another trigger"));
                    }
                    gate_evals.push(record);
                }
                Some(Log::Packets) => {
                    let record: PacketRecord = self.record(&stored, Log::Packets)?;
                    if record.decision_id != decision.decision_id {
                        return Err(self.entry(stored.seq, "it belongs to another decision"));
                    }
                    packets.push(record);
                }
                _ => {}
            }
        }
        Ok(Some(Decided { decision, gate_evals, packets }))
    }

    /// What one trigger did, with the decision that is there: that was appended
    /// at once, from the trigger to the decision or the last packet.
    fn around(&self, connection: &Connection, decision: i64) -> Result<Vec<Stored>, ReadError> {
        let bound = |sql: &str| -> Result<Option<i64>, ReadError> {
            let mut statement = connection.prepare_cached(sql)?;
            Ok(statement.query_row([self.run, decision], |row| row.get(0)).optional()?)
        };
        let trigger =
            "SELECT entry FROM entries WHERE run = +?1 AND entry < ?2 AND log = 1 ORDER BY entry DESC LIMIT 1";
        let beyond = "SELECT entry FROM entries WHERE entry > ?2 AND (run <> ?1 OR log <> 4) ORDER BY entry LIMIT 1";
        let (trigger, beyond) = (bound(trigger)?.unwrap_or(0), bound(beyond)?.unwrap_or(i64::MAX));
        let between = "entries e NOT INDEXED WHERE e.run = ?1 AND e.entry > ?2 AND e.entry < ?3 ORDER BY e.entry";
        self.rows(connection, between, [self.run, trigger, beyond])
    }

    pub(super) fn packet_ids(&self, connection: &Connection) -> Result<Vec<PacketId>, ReadError> {
        #[derive(serde::Deserialize)]
        struct Packet {
            envelope: Envelope,
        }
        #[derive(serde::Deserialize)]
        struct Envelope {
            packet_id: PacketId,
        }
        let packets = "entries e INDEXED BY entries_rare WHERE e.run = ?1 AND e.log = 4 ORDER BY e.seq";
        let packets = self.rows(connection, packets, [self.run])?;
        let id = |stored: &Stored| self.record::<Packet>(stored, Log::Packets).map(|packet| packet.envelope.packet_id);
        packets.iter().map(id).collect()
    }

    pub(super) fn submission(
        &self,
        connection: &Connection,
        id: &SubmissionId,
    ) -> Result<Option<SubmissionRecord>, ReadError> {
        let log = Log::Submissions;
        let Some(stored) = self.named(connection, log, id.as_str())? else { return Ok(None) };
        let record: SubmissionRecord = self.record(&stored, log)?;
        if record.submission_id != *id || record.run_id != self.head.run_id {
            return Err(self.entry(stored.seq, "it is filed under another id"));
        }
        Ok(Some(record))
    }

    pub(super) fn page(&self, connection: &Connection, log: Log, after: u64, limit: usize) -> Result<Page, ReadError> {
        let (after, limit) = (after.min(SEQ_MAX), limit.min(PAGE_ENTRIES_MAX));
        let end = |rows: &[Stored]| rows.last().map_or(after, |stored| stored.seq);
        let mut rows = match log {
            Log::Packets | Log::Submissions => {
                let rare = format!(
                    "entries e INDEXED BY entries_rare WHERE e.run = ?1 AND e.log = {} AND e.seq > ?2 ORDER BY e.seq LIMIT ?3",
                    number(log)
                );
                self.rows(connection, &rare, params![self.run, integer(after)?, limit as i64])?
            }
            _ => {
                let placed = format!("{PLACED} AND p.log = ?4 ORDER BY p.place LIMIT ?5");
                let [after, most] = [after, SEQ_MAX].map(|seq| place(self.run, seq));
                self.rows(connection, &placed, params![self.run, after, most, number(log), limit as i64])?
            }
        };
        if rows.len() < limit && !matches!(log, Log::Packets | Log::Submissions) {
            let late = format!("{LATE} AND e.log = ?2 AND e.seq > ?3 ORDER BY e.entry LIMIT ?4");
            let (from, left) = (integer(end(&rows))?, (limit - rows.len()) as i64);
            rows.extend(self.rows(connection, &late, params![self.run, number(log), from, left])?);
        }
        let end = end(&rows);
        Ok(Page { entries: rows.into_iter().map(|stored| stored.body).collect(), end })
    }

    /// The entry of that log that is filed under that name.
    fn named(&self, connection: &Connection, log: Log, subject: &str) -> Result<Option<Stored>, ReadError> {
        let named = "entries e INDEXED BY entries_by_subject WHERE e.run = ?1 AND e.log = ?2 AND e.subject = ?3";
        Ok(self.rows(connection, named, params![self.run, number(log), subject])?.pop())
    }

    /// Entries, each of which is what its digest says.
    fn rows(&self, connection: &Connection, from: &str, params: impl Params) -> Result<Vec<Stored>, ReadError> {
        let mut statement = connection.prepare_cached(&format!("SELECT {ENTRY} FROM {from}"))?;
        let mut rows = statement.query(params)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let stored = Stored::of(row)?;
            if !stored.is_sound() {
                return Err(self.entry(stored.seq, "it is not what its digest says"));
            }
            found.push(stored);
        }
        Ok(found)
    }

    fn record<T: DeserializeOwned>(&self, stored: &Stored, log: Log) -> Result<T, ReadError> {
        parse(&stored.body).ok_or_else(|| self.entry(stored.seq, &format!("it is no entry of {log:?}")))
    }

    pub(super) fn entry(&self, seq: u64, problem: &str) -> ReadError {
        damaged(&self.key(), &format!("entry {seq}"), problem)
    }
}

/// Entries of the run `?1` whose places are known, between two places.
pub(super) const PLACED: &str = "places p CROSS JOIN entries e ON e.entry = p.entry \
    WHERE p.place > ?2 AND p.place <= ?3 AND e.run = ?1 AND e.seq = p.place & 68719476735 AND e.log = p.log";

/// Entries of the run `?1` that came later.
pub(super) const LATE: &str = "entries e NOT INDEXED WHERE e.entry > (SELECT placed FROM store) AND e.run = ?1";

pub(super) fn list(connection: &Connection, after: Option<&RunKey>, limit: usize) -> Result<Vec<Head>, ReadError> {
    let sql = "SELECT tenant_id, namespace_id, run_id FROM runs \
               WHERE (tenant_id, namespace_id, run_id) > (?1, ?2, ?3) \
               ORDER BY tenant_id, namespace_id, run_id LIMIT ?4";
    let (tenant, namespace, run_id) = match after {
        Some(key) => (integer(key.tenant_id.get())?, integer(key.namespace_id.get())?, key.run_id.as_str()),
        None => (0, 0, ""),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![tenant, namespace, run_id, integer(limit as u64)?])?;
    let mut heads = Vec::new();
    while let Some(row) = rows.next()? {
        let key = key_of(row)?;
        let Some(found) = find(connection, &key)? else { continue };
        heads.push(found.head);
    }
    Ok(heads)
}

/// The key in the first three columns.
pub(super) fn key_of(row: &Row<'_>) -> Result<RunKey, ReadError> {
    let run_id: String = row.get(2)?;
    let ids = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?);
    let id = |value: i64| u64::try_from(value).ok();
    let tenant_id = id(ids.0).and_then(TenantId::new);
    let namespace_id = id(ids.1).and_then(NamespaceId::new);
    match (tenant_id, namespace_id) {
        (Some(tenant_id), Some(namespace_id)) => Ok(RunKey { tenant_id, namespace_id, run_id: run_id.into() }),
        _ => {
            let (place, problem) = (format!("run {run_id}"), "its tenant or namespace cannot be".to_owned());
            Err(Damage { place, problem }.into())
        }
    }
}

pub(super) fn scenario_hash(
    connection: &Connection,
    namespace: NamespaceId,
    id: &ScenarioId,
) -> Result<Option<Digest>, ReadError> {
    let sql = "SELECT spec_hash FROM scenarios WHERE namespace_id = ?1 AND scenario_id = ?2 AND retired = 0";
    let mut statement = connection.prepare_cached(sql)?;
    let hash = statement.query_row(params![integer(namespace.get())?, id.as_str()], |row| digest_of(row, 0));
    Ok(hash.optional()?)
}

pub(super) fn scenario_of(connection: &Connection, digest: &Digest) -> Result<Option<Scenario>, ReadError> {
    let mut statement = connection.prepare_cached("SELECT spec FROM scenarios WHERE spec_hash = ?1 LIMIT 1")?;
    let spec: Option<Vec<u8>> = statement.query_row([digest.as_bytes()], |row| row.get(0)).optional()?;
    let Some(spec) = spec else { return Ok(None) };
    let damaged = |problem: String| Damage { place: format!("scenario {digest}"), problem };
    if Digest::of(&spec) != *digest {
        return Err(damaged("it is not what its digest says".to_owned()).into());
    }
    let spec: ScenarioSpec = parse(&spec).ok_or_else(|| damaged("it cannot be read".to_owned()))?;
    let scenario = Scenario::recorded(spec).map_err(|fault| damaged(fault.to_string()))?;
    Ok(Some(scenario))
}

pub(super) fn scenarios(connection: &Connection) -> Result<Vec<StoredScenario>, ReadError> {
    let sql = "SELECT namespace_id, scenario_id, spec_hash, retired FROM scenarios \
               ORDER BY namespace_id, scenario_id, retired DESC, n";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        let namespace = u64::try_from(row.get::<_, i64>(0)?).ok().and_then(NamespaceId::new);
        let scenario_id: String = row.get(1)?;
        let Some(namespace_id) = namespace else {
            let (place, problem) = (format!("scenario {scenario_id}"), "its namespace cannot be".to_owned());
            return Err(Damage { place, problem }.into());
        };
        let spec_hash = digest_of(row, 2)?;
        let retired = row.get::<_, i64>(3)? == 1;
        lines.push(StoredScenario { namespace_id, scenario_id: scenario_id.into(), spec_hash, retired });
    }
    Ok(lines)
}

/// The columns of a data shape, as [`StoredShape::of`] reads them.
pub(super) const SHAPE: &str = "tenant_id, namespace_id, schema_id, version, body, previous, digest";

/// A data shape as it is stored; nothing is checked yet.
pub(super) struct StoredShape {
    tenant: i64,
    namespace: i64,
    schema_id: String,
    version: String,
    body: Vec<u8>,
    pub(super) previous: Digest,
    pub(super) digest: Digest,
}

impl StoredShape {
    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            tenant: row.get(0)?,
            namespace: row.get(1)?,
            schema_id: row.get(2)?,
            version: row.get(3)?,
            body: row.get(4)?,
            previous: digest_of(row, 5)?,
            digest: digest_of(row, 6)?,
        })
    }

    /// The record, if it is what its digest says and filed under its own key.
    pub(super) fn record(&self) -> Result<DataShapeRecord, ReadError> {
        if chained(&self.previous, &self.body) != self.digest {
            return Err(self.damaged("it is not what its digest says"));
        }
        let record: DataShapeRecord = parse(&self.body).ok_or_else(|| self.damaged("it cannot be read"))?;
        let numbers = [record.tenant_id.get(), record.namespace_id.get()].map(i64::try_from);
        let filed = numbers == [Ok(self.tenant), Ok(self.namespace)]
            && record.schema_id.as_str() == self.schema_id
            && record.version == self.version;
        if filed { Ok(record) } else { Err(self.damaged("it is that of another key")) }
    }

    pub(super) fn damaged(&self, problem: &str) -> ReadError {
        let Self { tenant, namespace, schema_id, version, .. } = self;
        let place = format!("data shape {schema_id} {version} (tenant {tenant}, namespace {namespace})");
        Damage { place, problem: problem.to_owned() }.into()
    }
}

pub(super) fn shape(connection: &Connection, key: &ShapeKey) -> Result<Option<DataShapeRecord>, ReadError> {
    let sql = format!(
        "SELECT {SHAPE} FROM shapes WHERE tenant_id = ?1 AND namespace_id = ?2 AND schema_id = ?3 AND version = ?4"
    );
    let (tenant, namespace) = (integer(key.tenant_id.get())?, integer(key.namespace_id.get())?);
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row(params![tenant, namespace, key.schema_id.as_str(), key.version], StoredShape::of);
    found.optional()?.map(|stored| stored.record()).transpose()
}

pub(super) fn shapes(
    connection: &Connection,
    tenant: TenantId,
    namespace: NamespaceId,
    after: Option<(&SchemaId, &str)>,
    limit: usize,
) -> Result<ShapePage, ReadError> {
    let mut filling = Filling::new(limit);
    // An id may be empty, so there is no key that comes before all others.
    let beyond = after.map_or("", |_| "AND (schema_id, version) > (?4, ?5)");
    let sql = format!(
        "SELECT {SHAPE} FROM shapes WHERE tenant_id = ?1 AND namespace_id = ?2 {beyond} \
         ORDER BY schema_id, version LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let (tenant, namespace) = (integer(tenant.get())?, integer(namespace.get())?);
    let wanted = integer(filling.wanted() as u64)?;
    let mut rows = match after {
        Some((id, version)) => statement.query(params![tenant, namespace, wanted, id.as_str(), version])?,
        None => statement.query(params![tenant, namespace, wanted])?,
    };
    while let Some(row) = rows.next()? {
        // One that is no bytes is none of ours, as its record will say.
        if !filling.has_room(row.get_ref(4)?.as_blob().map_or(0, <[u8]>::len)) {
            break;
        }
        filling.page.records.push(StoredShape::of(row)?.record()?);
    }
    Ok(filling.page)
}

pub(super) fn shape_count(connection: &Connection, tenant: TenantId, namespace: NamespaceId) -> Result<u64, ReadError> {
    let sql = "SELECT count(*) FROM shapes WHERE tenant_id = ?1 AND namespace_id = ?2";
    let (tenant, namespace) = (integer(tenant.get())?, integer(namespace.get())?);
    Ok(whole(connection.prepare_cached(sql)?.query_row(params![tenant, namespace], |row| row.get(0))?)?)
}

/// What we wrote reads back, or it is not what we wrote.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    serde_json::from_slice(text).ok()
}

pub(super) fn damaged(key: &RunKey, part: &str, problem: &str) -> ReadError {
    let place = format!("{part} of run {} (tenant {}, namespace {})", key.run_id, key.tenant_id, key.namespace_id);
    Damage { place, problem: problem.to_owned() }.into()
}

impl From<StoreFault> for ReadError {
    fn from(fault: StoreFault) -> Self {
        Self::Unreadable(fault)
    }
}
