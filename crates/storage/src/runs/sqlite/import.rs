//! Reads stores of the reference system, schema version 4, and changes nothing
//! in them.

use std::collections::VecDeque;
use std::path::Path;

use runpack_core::canon::Digest;
use runpack_core::engine::{Counts, Entry, Head};
use runpack_core::model::{DataShapeRecord, DataShapeSignature, DecisionOutcome, RunState, RunStatus};
use runpack_core::read::{self, Profile, Unknown};
use rusqlite::{Connection, Row, params};
use serde_json::json;

use super::{FileStanding, OpenError, at_rest, say, standing};
use crate::runs::{ReadError, Registered, RunKey, RunStore, ShapeKey, ShapeStore, StoreFault, WriteError};

/// Bytes of one run's state; the reference writes no larger ones.
const STATE_BYTES_MAX: i64 = 16 * 1024 * 1024;

/// Bytes of one data shape's schema; the reference writes no larger ones.
const SCHEMA_BYTES_MAX: i64 = 1024 * 1024;

/// The version that is read.
const REFERENCE_VERSION: i64 = 4;

/// What became of the runs and data shapes of a reference store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Runs that are in ours now.
    pub runs: Vec<String>,
    /// Runs that were in ours before, just so.
    pub known: Vec<String>,
    /// Data shapes that are in ours now.
    pub shapes: Vec<String>,
    /// Data shapes that were in ours before, just so.
    pub known_shapes: Vec<String>,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is no store of the reference system that this program reads.
    #[error("`{0}` is no store of Decision Gate")]
    NotReference(String),
    /// It is one, as another version of that system writes it.
    #[error("`{source_path}` has schema version {version}, and {REFERENCE_VERSION} is what can be taken in")]
    OtherVersion {
        /// The store.
        source_path: String,
        /// Its version.
        version: i64,
    },
    /// A run in it is not what its digest says, or no engine wrote it.
    #[error("run {run} of the source: {problem}")]
    Run {
        /// The run.
        run: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A data shape in it is not what its digest says, or cannot be one of ours.
    #[error("data shape {shape} of the source: {problem}")]
    Shape {
        /// The data shape.
        shape: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The source cannot be read on.
    #[error("the source cannot be read: {0}")]
    Unreadable(StoreFault),
    /// Ours cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Ours does not take it.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<rusqlite::Error> for ImportError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unreadable(say(&error))
    }
}

/// Takes the runs and data shapes of a reference store into `store`: the newest
/// version of each run, after its digest, its ids and its logs were checked, and
/// each data shape after its digest was. Either all of the source is sound, or
/// nothing is taken.
///
/// # Errors
/// See [`ImportError`].
pub fn import(source: &Path, store: &(impl RunStore + ShapeStore)) -> Result<Imported, ImportError> {
    let (connection, _copy) = at_rest(source)?;
    if !matches!(standing(&connection)?, FileStanding::Reference) {
        return Err(ImportError::NotReference(source.display().to_string()));
    }
    let version: i64 = connection.query_row("SELECT version FROM store_meta", [], |row| row.get(0))?;
    if version != REFERENCE_VERSION {
        return Err(ImportError::OtherVersion { source_path: source.display().to_string(), version });
    }
    // Twice over the runs, one in memory at a time: first all are checked.
    let keys = keys(&connection)?;
    for key in &keys {
        let state = state(&connection, key)?;
        let (origin, _) = entries(&state).map_err(|problem| refused(&key.2, &problem))?;
        let head = Head::of(&state);
        match store.head(&RunKey::of(&head))? {
            Some(known) if known != head && known != origin => return Err(WriteError::Exists(head.run_id).into()),
            _ => {}
        }
    }
    each_shape(&connection, |record| match store.shape(&ShapeKey::of(&record))? {
        Some(known) if known != record => Err(refused_shape(&record, "another is registered under its name")),
        _ => Ok(()),
    })?;
    let mut imported = Imported::default();
    for key in &keys {
        let state = state(&connection, key)?;
        let (origin, entries) = entries(&state).map_err(|problem| refused(&key.2, &problem))?;
        let head = Head::of(&state);
        let name = format!("{} (tenant {}, namespace {})", key.2, key.0, key.1);
        // What the chain begins with is where the run began; what follows says
        // where it went.
        match begin(store, &origin, &head, &entries) {
            Ok(()) => imported.runs.push(name),
            Err(WriteError::Exists(_)) => match store.head(&RunKey::of(&head))? {
                Some(known) if known == head => imported.known.push(name),
                // An import that was cut off had begun it.
                Some(known) if known == origin => {
                    store.append(0, &head, &entries)?;
                    imported.runs.push(name);
                }
                _ => return Err(WriteError::Exists(head.run_id).into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
    each_shape(&connection, |record| {
        let known = match store.register(&record, None)? {
            Registered::New => &mut imported.shapes,
            Registered::Conflict | Registered::Full => &mut imported.known_shapes,
        };
        known.push(name_of(&record));
        Ok(())
    })?;
    Ok(imported)
}

/// Begins the run as it began, then appends all that happened at once.
fn begin(store: &dyn RunStore, origin: &Head, head: &Head, entries: &[Entry]) -> Result<(), WriteError> {
    store.create(origin, &[])?;
    if entries.is_empty() {
        return Ok(());
    }
    store.append(0, head, entries)
}

fn refused(run: &str, problem: &str) -> ImportError {
    ImportError::Run { run: run.to_owned(), problem: problem.to_owned() }
}

type Key = (String, String, String);

fn keys(connection: &Connection) -> Result<Vec<Key>, ImportError> {
    let sql = "SELECT tenant_id, namespace_id, run_id FROM runs ORDER BY 1, 2, 3";
    let mut statement = connection.prepare(sql)?;
    let keys = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(keys.collect::<Result<_, _>>()?)
}

/// The newest version of a run, if it is what its digest says.
fn state(connection: &Connection, key: &Key) -> Result<RunState, ImportError> {
    let (tenant, namespace, run) = key;
    let sql = "SELECT length(v.state_json), v.hash_algorithm, v.state_hash, v.rowid FROM runs r \
               JOIN run_state_versions v ON v.tenant_id = r.tenant_id AND v.namespace_id = r.namespace_id \
               AND v.run_id = r.run_id AND v.version = r.latest_version \
               WHERE r.tenant_id = ?1 AND r.namespace_id = ?2 AND r.run_id = ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![tenant, namespace, run])?;
    let Some(row) = rows.next()? else { return Err(refused(run, "its newest version is missing")) };
    let (length, algorithm, hash): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    if length > STATE_BYTES_MAX {
        return Err(refused(run, &format!("its state has more than {STATE_BYTES_MAX} bytes")));
    }
    if algorithm != "sha256" {
        return Err(refused(run, &format!("its digest is of the algorithm `{algorithm}`")));
    }
    let sql = "SELECT state_json FROM run_state_versions WHERE rowid = ?1";
    let text: Vec<u8> = connection.prepare_cached(sql)?.query_row([row.get::<_, i64>(3)?], |row| row.get(0))?;
    if Digest::of(&text).to_string() != hash {
        return Err(refused(run, "it is not what its digest says"));
    }
    let state: RunState =
        read::ingest(&text, Unknown::Refuse).map_err(|refusal| refused(run, &format!("its state: {refusal}")))?;
    let own = (state.tenant_id.to_string(), state.namespace_id.to_string(), state.run_id.to_string());
    if own != *key {
        return Err(refused(run, "its state is that of another run"));
    }
    Ok(state)
}

/// Where a run began, and everything that was logged, in an order in which it
/// can have happened. The reference keeps six logs and no order between them:
/// what belongs to a trigger follows it, and submissions and calls come last.
fn entries(state: &RunState) -> Result<(Head, Vec<Entry>), String> {
    let mut gate_evals: VecDeque<_> = state.gate_evals.iter().collect();
    let mut decisions: VecDeque<_> = state.decisions.iter().collect();
    let mut packets: VecDeque<_> = state.packets.iter().collect();
    let mut entries = Vec::new();
    for trigger in &state.triggers {
        let id = &trigger.event.trigger_id;
        entries.push(Entry::Trigger(trigger.clone()));
        while let Some(record) = gate_evals.pop_front_if(|record| record.trigger_id == *id) {
            entries.push(Entry::GateEval(record.clone()));
        }
        let Some(decision) = decisions.pop_front_if(|record| record.trigger_id == *id) else {
            return Err(format!("trigger {id} has no decision in order"));
        };
        entries.push(Entry::Decision(decision.clone()));
        while let Some(record) = packets.pop_front_if(|record| record.decision_id == decision.decision_id) {
            entries.push(Entry::Packet(record.clone()));
        }
    }
    let left = [gate_evals.len(), decisions.len(), packets.len()];
    if left != [0; 3] {
        return Err("its logs do not follow its triggers".to_owned());
    }
    entries.extend(state.submissions.iter().cloned().map(Entry::Submission));
    entries.extend(state.tool_calls.iter().cloned().map(Entry::ToolCall));
    let head = Head::of(state);
    let mut origin = Head { counts: Counts::default(), status: RunStatus::Active, ..head.clone() };
    let first = state.decisions.iter().find_map(|decision| match &decision.outcome {
        DecisionOutcome::Advance { from_stage, .. } => Some(from_stage),
        _ => None,
    });
    if let Some(first) = first {
        origin.current_stage_id = first.clone();
        // Nobody kept when a stage was entered that was left since.
        origin.stage_entered_at = state.triggers.first().map_or(state.stage_entered_at, |record| record.event.time);
    }
    let mut folded = origin.clone();
    entries.iter().for_each(|entry| folded.follow(entry.into()));
    if folded != head {
        return Err("it does not stand where its decisions lead".to_owned());
    }
    Ok((origin, entries))
}

fn refused_shape(record: &DataShapeRecord, problem: &str) -> ImportError {
    ImportError::Shape { shape: name_of(record), problem: problem.to_owned() }
}

fn name_of(record: &DataShapeRecord) -> String {
    let DataShapeRecord { tenant_id, namespace_id, schema_id, version, .. } = record;
    format!("{schema_id} {version} (tenant {tenant_id}, namespace {namespace_id})")
}

/// Hands over the data shapes of the source, one after the other.
fn each_shape(
    connection: &Connection,
    mut each: impl FnMut(DataShapeRecord) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    // Nothing larger than the limit comes into memory.
    let sql = "SELECT tenant_id, namespace_id, schema_id, version, \
               CASE WHEN length(schema_json) <= ?1 THEN schema_json END, schema_hash, hash_algorithm, description, \
               signing_key_id, signing_signature, signing_algorithm, created_at_json \
               FROM data_shapes ORDER BY 1, 2, 3, 4";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([SCHEMA_BYTES_MAX])?;
    while let Some(row) = rows.next()? {
        each(shape(row)?)?;
    }
    Ok(())
}

/// The record in a row of the source, if its schema is what its digest says.
fn shape(row: &Row<'_>) -> Result<DataShapeRecord, ImportError> {
    let text = |column: usize| row.get::<_, String>(column);
    let (tenant, namespace, id, version) = (text(0)?, text(1)?, text(2)?, text(3)?);
    let refused = |problem: String| {
        let shape = format!("{id} {version} (tenant {tenant}, namespace {namespace})");
        ImportError::Shape { shape, problem }
    };
    let Some(schema) = row.get::<_, Option<Vec<u8>>>(4)? else {
        return Err(refused(format!("its schema has more than {SCHEMA_BYTES_MAX} bytes")));
    };
    let algorithm = text(6)?;
    if algorithm != "sha256" {
        return Err(refused(format!("its digest is of the algorithm `{algorithm}`")));
    }
    if Digest::of(&schema).to_string() != text(5)? {
        return Err(refused("its schema is not what its digest says".to_owned()));
    }
    let number = |text: &str| {
        let number = text.parse::<u64>().ok().filter(|number| number.to_string() == text);
        number.ok_or_else(|| refused(format!("`{text}` is no tenant or namespace")))
    };
    let json = |what: &str, text: &[u8]| {
        read::value(text, Profile::Ingest).map_err(|refusal| refused(format!("its {what}: {refusal}")))
    };
    let mut record = json!({
        "tenant_id": number(&tenant)?,
        "namespace_id": number(&namespace)?,
        "schema_id": id,
        "version": version,
        "schema": json("schema", &schema)?,
        "description": row.get::<_, Option<String>>(7)?,
        "created_at": json("created_at", text(11)?.as_bytes())?,
    });
    let signing = (row.get::<_, Option<String>>(8)?, row.get(9)?, row.get(10)?);
    match signing {
        (Some(key_id), Some(signature), algorithm) => {
            record["signing"] = json!(DataShapeSignature { algorithm, key_id, signature });
        }
        (None, None, None) => {}
        _ => return Err(refused("half of its signature is missing".to_owned())),
    }
    read::ingest_value(record, Unknown::Refuse).map_err(|refusal| refused(refusal.to_string()))
}
