//! Runs, scenarios, data shapes and deliveries in a SQLite file.

mod check;
mod desk;
mod import;
mod outbox;
mod read;
mod rows;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runpack_beneath::{private, sync_directory_of};
use runpack_core::canon::{CanonError, Digest, to_vec};
use runpack_core::engine::{Entry, Head, Scenario};
use runpack_core::model::{
    DataShapeRecord, NamespaceId, PacketId, ScenarioId, SchemaId, SubmissionId, SubmissionRecord, TenantId,
};
use runpack_core::pack::layout::Log;
use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;

use super::{
    AtHead, Decided, Defined, Page, Pruned, ReadError, Registered, RunKey, RunStore, ScenarioStore, ShapeKey,
    ShapePage, ShapeStore, StoreFault, StoredScenario, Which, WriteError,
};
pub use check::StoreReport;
use desk::Desk;
pub use import::{ImportError, Imported, import};
use rows::{Origin, Row, Standing};
use write::{Done, Work, Writer};

/// Marks a file as ours: `RPKD`.
const APPLICATION_ID: i64 = 0x5250_4b44;

/// The version of `schema.sql`. Version 1 kept no data shapes, 2 no deliveries, 3
/// the entries of all runs in the order they came.
const SCHEMA_VERSION: i64 = 4;

/// Connections kept for reading.
const READERS_MAX: usize = 8;

/// How a store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// How long another process may hold the store.
    pub busy_timeout: Duration,
    /// How SQLite undoes what was half written.
    pub journal: JournalMode,
    /// What an acknowledgement is worth.
    pub sync: SyncMode,
}

/// See <https://sqlite.org/pragma.html#pragma_journal_mode>.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JournalMode {
    /// Readers and the writer do not wait for each other.
    #[default]
    Wal,
    /// For file systems that WAL does not work on.
    Delete,
}

/// See <https://sqlite.org/pragma.html#pragma_synchronous>.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncMode {
    /// What was acknowledged survives a loss of power.
    #[default]
    Full,
    /// What was acknowledged survives a killed process; a loss of power may
    /// take the newest of it.
    Normal,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        let busy_timeout = Duration::from_secs(5);
        Self { busy_timeout, journal: JournalMode::Wal, sync: SyncMode::Full }
    }
}

impl SqliteOptions {
    /// What an acknowledgement is worth, for people; `None` if it is worth all
    /// that it can be.
    pub fn warning(&self) -> Option<String> {
        let journal =
            (self.journal == JournalMode::Delete).then_some("journal_mode = \"delete\": readers wait for writers");
        let sync = (self.sync == SyncMode::Normal)
            .then_some("sync_mode = \"normal\": a loss of power may take the newest acknowledged entries");
        let both: Vec<_> = [sync, journal].into_iter().flatten().collect();
        (!both.is_empty()).then(|| both.join("; "))
    }
}

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file.
    #[error("there is no run store `{0}`")]
    Missing(PathBuf),
    /// It was written by the reference system.
    #[error("`{0}` is a store of Decision Gate\nhint: `runpackd store import` reads it into one of ours")]
    Reference(PathBuf),
    /// It is a database, and not one of ours.
    #[error("`{0}` is a database of something else")]
    Foreign(PathBuf),
    /// A newer program wrote it.
    #[error(
        "`{path}` has schema version {version}, and this program knows {SCHEMA_VERSION}\nhint: use a newer runpackd"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: i64,
    },
    /// An older program wrote it.
    #[error(
        "`{path}` has schema version {version}, and this program knows {SCHEMA_VERSION}\n\
         hint: let the runpackd that wrote it export its runs (`runpackd store export`), and give this one a new file"
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: i64,
    },
    /// It cannot be used.
    #[error("cannot open the run store `{path}`: {fault}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        fault: StoreFault,
    },
}

/// A run store in a file. Several processes may have the same one open.
///
/// One writes at a time, for all that wait, and these wait for the disk together;
/// an append is answered after the commit that holds it. Readers do not wait for
/// it.
pub struct SqliteRuns {
    path: PathBuf,
    opening: Opening,
    busy_timeout: Duration,
    readers: Mutex<Vec<Connection>>,
    /// Not there in a store that is only read.
    desk: Option<Desk>,
    broken: Arc<Mutex<Option<Broken>>>,
    scenarios: Mutex<BTreeMap<Digest, Arc<Scenario>>>,
    /// Whether packets are queued for delivery.
    outbox: bool,
    /// Tells those who only read that somebody writes.
    _lock: Option<File>,
    /// Where a private copy is, if it had to be made.
    _copy: Option<tempfile::TempDir>,
}

/// SQLite takes a file of one byte for an empty one, and writes over it.
fn not_a_stray_byte(path: &Path) -> Result<(), StoreFault> {
    match std::fs::metadata(path) {
        Ok(there) if there.len() == 1 => Err(StoreFault("file is not a database".to_owned())),
        _ => Ok(()),
    }
}

/// How a connection for reading is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// As part of a store that is written.
    Writing,
    /// Somebody writes: read what they write, and write nothing.
    Reading,
    /// Nobody writes, and nothing is left to finish: not even a lock is taken.
    Immutable,
    /// A copy of our own, which may have to be recovered.
    Copy,
}

/// Why the store takes no writes.
#[derive(Debug, Clone)]
struct Broken {
    fault: StoreFault,
    /// Until it is opened again.
    for_good: bool,
}

impl fmt::Debug for SqliteRuns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteRuns").field("path", &self.path).field("opening", &self.opening).finish_non_exhaustive()
    }
}

impl SqliteRuns {
    /// Opens a store, and makes it if there is none.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: &Path, options: &SqliteOptions) -> Result<Self, OpenError> {
        let unusable = |fault: StoreFault| OpenError::Unusable { path: path.to_owned(), fault };
        let io = |error: std::io::Error| unusable(StoreFault(error.to_string()));
        let lock = lock_file(path).and_then(|file| file.lock_shared().map(|()| file)).map_err(io)?;
        // A store holds what agents were told, so it is its owner's alone.
        match private(OpenOptions::new().create_new(true).write(true)).open(path) {
            // SQLite syncs the entries of files that it makes itself; this one is ours.
            Ok(_) => sync_directory_of(path).map_err(io)?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                not_a_stray_byte(path).map_err(unusable)?;
            }
            Err(error) => return Err(io(error)),
        }
        let connection = writing(path, options)?;
        let broken = Arc::new(Mutex::new(None));
        let desk = Some(Desk::new(Writer::new(connection, broken.clone())));
        Ok(Self {
            path: path.to_owned(),
            opening: Opening::Writing,
            busy_timeout: options.busy_timeout,
            readers: Mutex::default(),
            desk,
            broken,
            scenarios: Mutex::default(),
            outbox: false,
            _lock: Some(lock),
            _copy: None,
        })
    }

    /// The store, which queues packets that it is given from now on for
    /// delivery: see [`Outbox`](super::Outbox). What others put into the same
    /// file is queued if they do so too; whoever leases, leases what any queued.
    #[must_use]
    pub fn with_outbox(mut self) -> Self {
        self.outbox = true;
        self
    }

    /// Opens a store only to read it: no file is made or changed, whether or
    /// not a daemon has it open.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_reading(path: &Path) -> Result<Self, OpenError> {
        let unusable = |fault: StoreFault| OpenError::Unusable { path: path.to_owned(), fault };
        if !path.is_file() {
            return Err(OpenError::Missing(path.to_owned()));
        }
        // Whoever writes holds this lock as long as the store is open.
        let written = match File::open(sibling(path, "-lock")) {
            Ok(lock) => lock.try_lock().is_err(),
            Err(_) => false,
        };
        let (read, opening, copy) = match written {
            true => (path.to_owned(), Opening::Reading, None),
            false => rested(path)?,
        };
        let store = Self {
            path: read,
            opening,
            busy_timeout: Duration::from_secs(5),
            readers: Mutex::default(),
            desk: None,
            broken: Arc::default(),
            scenarios: Mutex::default(),
            outbox: false,
            _lock: None,
            _copy: copy,
        };
        let connection = store.connect().map_err(|error| unusable(say(&error)))?;
        match standing(&connection).map_err(|error| unusable(say(&error)))? {
            FileStanding::Ours => {}
            FileStanding::Empty => return Err(OpenError::Missing(path.to_owned())),
            other => return Err(refused(path, &other)),
        }
        store.give_back(connection);
        Ok(store)
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = connect(&self.path, self.opening)?;
        connection.busy_timeout(self.busy_timeout)?;
        Ok(connection)
    }

    /// Writes a copy of the store as it is at one moment, while others read and
    /// write; the copy is compact, and on disk when this returns.
    ///
    /// # Errors
    /// There is something at `target`, or it cannot be written.
    pub fn backup(&self, target: &Path) -> Result<(), StoreFault> {
        let failed = |error: std::io::Error| StoreFault(format!("`{}`: {error}", target.display()));
        let Some(name) = target.to_str() else {
            return Err(StoreFault(format!("`{}`: the path of a copy must be UTF-8", target.display())));
        };
        private(OpenOptions::new().create_new(true).write(true)).open(target).map_err(failed)?;
        let copied = self.reading_without_transaction(|connection| connection.execute("VACUUM INTO ?1", [name]));
        let kept = copied.and_then(|()| {
            File::open(target).and_then(|file| file.sync_all()).map_err(failed)?;
            sync_directory_of(target).map_err(failed)
        });
        if kept.is_err() {
            // Half a copy must not look like one.
            let _ = std::fs::remove_file(target);
        }
        kept
    }

    fn reading_without_transaction(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<usize>,
    ) -> Result<(), StoreFault> {
        let connection = self.connect().map_err(|error| say(&error))?;
        // VACUUM INTO writes elsewhere, which this would refuse.
        connection.execute_batch("PRAGMA query_only = OFF").map_err(|error| say(&error))?;
        work(&connection).map(drop).map_err(|error| say(&error))
    }

    fn give_back(&self, connection: Connection) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS_MAX {
            readers.push(connection);
        }
    }

    /// Reads from one moment: nothing that is written meanwhile is seen.
    fn reading<T>(&self, read: impl FnOnce(&Connection) -> Result<T, ReadError>) -> Result<T, ReadError> {
        let pooled = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = pooled.map_or_else(|| self.connect(), Ok)?;
        // Said in statements that are kept: reading them anew costs as much as a look at a head.
        let say = |what: &str| connection.prepare_cached(what)?.execute([]);
        say("BEGIN")?;
        let outcome = read(&connection);
        let ended = say("COMMIT");
        // A connection that failed may fail again; the next is a new one.
        if ended.is_ok() && !matches!(outcome, Err(ReadError::Unreadable(_))) {
            self.give_back(connection);
        }
        outcome
    }

    fn at_head<T>(
        &self,
        key: &RunKey,
        read: impl FnOnce(&Connection, &read::Found) -> Result<T, ReadError>,
    ) -> AtHead<T> {
        self.reading(|connection| match read::find(connection, key)? {
            Some(run) => {
                let found = read(connection, &run)?;
                Ok(Some((run.head, found)))
            }
            None => Ok(None),
        })
    }

    fn send(&self, work: Work) -> Result<Done, WriteError> {
        let closed = || WriteError::Refused(StoreFault("it is open for reading only".to_owned()));
        self.desk.as_ref().ok_or_else(closed)?.write(work)
    }
}

impl Drop for SqliteRuns {
    fn drop(&mut self) {
        // Readers first: whoever closes last tidies the log away.
        self.readers.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        self.desk = None;
    }
}

impl RunStore for SqliteRuns {
    fn create(&self, head: &Head, entries: &[Entry]) -> Result<(), WriteError> {
        let key = RunKey::of(head);
        let origin = to_vec(&Origin::of(head)).map_err(|error| unwritable(&error))?;
        let standing = standing_of(head)?;
        let (rows, deliveries) = (rows_of(entries)?, self.queued(head, entries)?);
        self.send(Work::Create { key, origin, standing, rows, deliveries }).map(drop)
    }

    fn append(&self, expected: u64, head: &Head, entries: &[Entry]) -> Result<(), WriteError> {
        if head.counts.total() != expected + entries.len() as u64 {
            let problem = "the head does not count what is appended".to_owned();
            return Err(WriteError::Refused(StoreFault(problem)));
        }
        let standing = standing_of(head)?;
        let (key, rows, deliveries) = (RunKey::of(head), rows_of(entries)?, self.queued(head, entries)?);
        self.send(Work::Append { key, expected, standing, rows, deliveries }).map(drop)
    }

    fn head(&self, key: &RunKey) -> Result<Option<Head>, ReadError> {
        self.reading(|connection| Ok(read::find(connection, key)?.map(|run| run.head)))
    }

    fn decided(&self, key: &RunKey, which: Which<'_>) -> AtHead<Option<Decided>> {
        self.at_head(key, |connection, run| run.decided(connection, which))
    }

    fn standing(&self, key: &RunKey) -> AtHead<(Option<Decided>, Vec<PacketId>)> {
        self.at_head(key, |connection, run| Ok((run.decided(connection, Which::Newest)?, run.packet_ids(connection)?)))
    }

    fn submission(&self, key: &RunKey, id: &SubmissionId) -> AtHead<Option<SubmissionRecord>> {
        self.at_head(key, |connection, run| run.submission(connection, id))
    }

    fn page(&self, key: &RunKey, log: Log, after: u64, limit: usize) -> Result<Page, ReadError> {
        self.reading(|connection| match read::find(connection, key)? {
            Some(run) => run.page(connection, log, after, limit),
            None => Ok(Page::default()),
        })
    }

    fn list(&self, after: Option<&RunKey>, limit: usize) -> Result<Vec<Head>, ReadError> {
        self.reading(|connection| read::list(connection, after, limit))
    }

    fn check(&self, key: &RunKey) -> Result<Head, ReadError> {
        self.reading(|connection| match read::find(connection, key)? {
            Some(run) => check::run(connection, &run),
            None => Err(ReadError::Unreadable(StoreFault(format!("there is no run {}", key.run_id)))),
        })
    }

    fn prune(&self, key: &RunKey) -> Result<Pruned, WriteError> {
        self.send(Work::Prune(key.clone())).map(|done| Pruned { entries: done.rows() })
    }

    fn ready(&self) -> Result<(), StoreFault> {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(fault) = self.desk.as_ref().and_then(Desk::fault) {
            return Err(fault);
        }
        match broken {
            Some(Broken { fault, for_good: true }) => Err(fault),
            // Perhaps there is room again.
            Some(_) => self.send(Work::Probe).map(drop).map_err(|error| StoreFault(error.to_string())),
            None => self
                .reading(|connection| Ok(connection.query_row("SELECT one FROM store", [], |_| Ok(()))?))
                .map_err(|error| StoreFault(error.to_string())),
        }
    }
}

impl ScenarioStore for SqliteRuns {
    fn define(&self, scenario: &Arc<Scenario>) -> Result<Defined, WriteError> {
        let spec = scenario.spec();
        let namespace = integer(spec.namespace_id.get()).map_err(|error| WriteError::Refused(say(&error)))?;
        let (id, hash) = (spec.scenario_id.to_string(), scenario.digest());
        let new = self.send(Work::Define { namespace, id, hash, spec: scenario.canonical_bytes().to_vec() })?;
        if new.rows() == 1 {
            return Ok(Defined::New);
        }
        let known = self.scenario(spec.namespace_id, &spec.scenario_id);
        match known.map_err(|error| WriteError::Refused(StoreFault(error.to_string())))? {
            Some(known) if known.digest() == hash => Ok(Defined::Same),
            Some(known) => Ok(Defined::Other(known.digest())),
            // Retired in between: as if it had been defined before that.
            None => Ok(Defined::Same),
        }
    }

    fn scenario(&self, namespace: NamespaceId, id: &ScenarioId) -> Result<Option<Arc<Scenario>>, ReadError> {
        let hash = self.reading(|connection| read::scenario_hash(connection, namespace, id))?;
        match hash {
            Some(hash) => self.scenario_of(&hash),
            None => Ok(None),
        }
    }

    fn scenario_of(&self, digest: &Digest) -> Result<Option<Arc<Scenario>>, ReadError> {
        let known = |store: &Self| store.scenarios.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned();
        if let Some(known) = known(self) {
            return Ok(Some(known));
        }
        let Some(scenario) = self.reading(|connection| read::scenario_of(connection, digest))? else { return Ok(None) };
        let scenario = Arc::new(scenario);
        let mut scenarios = self.scenarios.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(scenarios.entry(*digest).or_insert(scenario).clone()))
    }

    fn scenarios(&self) -> Result<Vec<StoredScenario>, ReadError> {
        self.reading(read::scenarios)
    }

    fn retire(&self, namespace: NamespaceId, id: &ScenarioId) -> Result<bool, WriteError> {
        let namespace = integer(namespace.get()).map_err(|error| WriteError::Refused(say(&error)))?;
        self.send(Work::Retire { namespace, id: id.to_string() }).map(|done| done.rows() > 0)
    }
}

impl ShapeStore for SqliteRuns {
    fn register(&self, record: &DataShapeRecord, entries_max: Option<u64>) -> Result<Registered, WriteError> {
        let body = to_vec(record).map_err(|error| unwritable(&error))?;
        Ok(match self.send(Work::Register { key: ShapeKey::of(record), body, entries_max })? {
            Done::Rows(_) | Done::Leased(_) => Registered::New,
            Done::Conflict => Registered::Conflict,
            Done::Full => Registered::Full,
        })
    }

    fn shape(&self, key: &ShapeKey) -> Result<Option<DataShapeRecord>, ReadError> {
        self.reading(|connection| read::shape(connection, key))
    }

    fn shapes(
        &self,
        tenant: TenantId,
        namespace: NamespaceId,
        after: Option<(&SchemaId, &str)>,
        limit: usize,
    ) -> Result<ShapePage, ReadError> {
        self.reading(|connection| read::shapes(connection, tenant, namespace, after, limit))
    }

    fn shape_count(&self, tenant: TenantId, namespace: NamespaceId) -> Result<u64, ReadError> {
        self.reading(|connection| read::shape_count(connection, tenant, namespace))
    }
}

fn standing_of(head: &Head) -> Result<Vec<u8>, WriteError> {
    to_vec(&Standing::of(head)).map_err(|error| unwritable(&error))
}

fn rows_of(entries: &[Entry]) -> Result<Vec<Row>, WriteError> {
    entries.iter().map(|entry| Row::of(entry).map_err(|error| unwritable(&error))).collect()
}

fn unwritable(error: &CanonError) -> WriteError {
    WriteError::Refused(StoreFault(error.to_string()))
}

/// The connection that writes, on a file that is ours then.
fn writing(path: &Path, options: &SqliteOptions) -> Result<Connection, OpenError> {
    let unusable = |error: rusqlite::Error| OpenError::Unusable { path: path.to_owned(), fault: say(&error) };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(unusable)?;
    connection.busy_timeout(options.busy_timeout).map_err(unusable)?;
    connection.set_prepared_statement_cache_capacity(64);
    // What it is comes before any change to it.
    let found = standing(&connection).map_err(unusable)?;
    if !matches!(found, FileStanding::Ours | FileStanding::Empty) {
        return Err(refused(path, &found));
    }
    let mode = match options.journal {
        JournalMode::Wal => "wal",
        JournalMode::Delete => "delete",
    };
    let set: String =
        connection.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |row| row.get(0)).map_err(unusable)?;
    if set != mode {
        let fault = StoreFault(format!(
            "SQLite uses journal mode {set} where {mode} was asked for\n\
             hint: the file system may not support it; set journal_mode in [run_state_store]"
        ));
        return Err(OpenError::Unusable { path: path.to_owned(), fault });
    }
    let sync = match (options.sync, options.journal) {
        (SyncMode::Full, JournalMode::Wal) => "FULL",
        (SyncMode::Normal, JournalMode::Wal) => "NORMAL",
        // A transaction ends when its journal is removed. FULL does not sync
        // that, and a journal that is there again undoes what was acknowledged.
        (SyncMode::Full, JournalMode::Delete) => "EXTRA",
        // Here NORMAL can leave a file that is damaged, for want of half a
        // journal, and not only without the newest of it.
        (SyncMode::Normal, JournalMode::Delete) => "FULL",
    };
    let settings = format!(
        "PRAGMA synchronous = {sync}; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; \
         PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -16384;"
    );
    connection.execute_batch(&settings).map_err(unusable)?;
    connection.execute_batch("BEGIN IMMEDIATE").map_err(unusable)?;
    // Another process may have made it in between.
    let made = standing(&connection).and_then(|found| {
        if matches!(found, FileStanding::Empty) {
            connection.execute_batch(include_str!("schema.sql"))?;
            connection.execute_batch(&format!(
                "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
            ))?;
        }
        connection.execute_batch("COMMIT")
    });
    made.map_err(unusable)?;
    Ok(connection)
}

enum FileStanding {
    Empty,
    Ours,
    Newer(i64),
    Older(i64),
    Reference,
    Foreign,
}

fn standing(connection: &Connection) -> rusqlite::Result<FileStanding> {
    let number = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let table = |name: &str| {
        connection.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?.exists([name])
    };
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let version = number("user_version")?;
    Ok(match number("application_id")? {
        APPLICATION_ID if version == SCHEMA_VERSION => FileStanding::Ours,
        APPLICATION_ID if version < SCHEMA_VERSION => FileStanding::Older(version),
        APPLICATION_ID => FileStanding::Newer(version),
        _ if tables == 0 => FileStanding::Empty,
        _ if table("store_meta")? && table("run_state_versions")? => FileStanding::Reference,
        _ => FileStanding::Foreign,
    })
}

fn refused(path: &Path, found: &FileStanding) -> OpenError {
    let path = path.to_owned();
    match found {
        FileStanding::Newer(version) => OpenError::Newer { path, version: *version },
        FileStanding::Older(version) => OpenError::Older { path, version: *version },
        FileStanding::Reference => OpenError::Reference(path),
        FileStanding::Empty | FileStanding::Ours | FileStanding::Foreign => OpenError::Foreign(path),
    }
}

fn lock_file(path: &Path) -> std::io::Result<File> {
    private(OpenOptions::new().create(true).write(true).truncate(false)).open(sibling(path, "-lock"))
}

fn sibling(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// How to read a file that nobody writes: as it is, or, if a killed process left
/// something to finish, in a copy, so that the file stays as it is.
fn rested(path: &Path) -> Result<(PathBuf, Opening, Option<tempfile::TempDir>), OpenError> {
    let left = |end: &&str| sibling(path, end).metadata().is_ok_and(|metadata| metadata.len() > 0);
    let unfinished: Vec<_> = ["-wal", "-journal"].into_iter().filter(left).collect();
    if unfinished.is_empty() {
        return Ok((path.to_owned(), Opening::Immutable, None));
    }
    let copy = copy_of(path, &unfinished)
        .map_err(|error| OpenError::Unusable { path: path.to_owned(), fault: StoreFault(error.to_string()) })?;
    Ok((copy.path().join("store"), Opening::Copy, Some(copy)))
}

/// A connection to somebody else's database, which is not written.
fn at_rest(path: &Path) -> Result<(Connection, Option<tempfile::TempDir>), OpenError> {
    if !path.is_file() {
        return Err(OpenError::Missing(path.to_owned()));
    }
    let (read, opening, copy) = rested(path)?;
    let unusable = |error| OpenError::Unusable { path: path.to_owned(), fault: say(&error) };
    Ok((connect(&read, opening).map_err(unusable)?, copy))
}

fn connect(path: &Path, opening: Opening) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match opening {
        Opening::Writing | Opening::Reading => Connection::open_with_flags(path, flags)?,
        Opening::Copy => {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            Connection::open_with_flags(path, flags)?
        }
        Opening::Immutable => {
            let name = format!("file:{}?immutable=1", escaped(path));
            Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_URI)?
        }
    };
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA query_only = ON; PRAGMA cell_size_check = ON;")?;
    Ok(connection)
}

/// A copy of a store that nobody has open, with what is left to finish.
fn copy_of(path: &Path, unfinished: &[&str]) -> std::io::Result<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    let target = copy.path().join("store");
    std::fs::copy(path, &target)?;
    for end in unfinished {
        std::fs::copy(sibling(path, end), sibling(&target, end))?;
    }
    Ok(copy)
}

/// A path in a `file:` URI.
fn escaped(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.as_os_str().as_encoded_bytes().iter().fold(String::new(), |mut uri, byte| {
        match byte {
            b'%' | b'?' | b'#' | 0x80.. => uri.push_str(&format!("%{byte:02x}")),
            plain => uri.push(char::from(*plain)),
        }
        uri
    })
}

/// What SQLite says, with what to do where that is known.
fn say(error: &rusqlite::Error) -> StoreFault {
    use rusqlite::ErrorCode;
    let hint = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "\nhint: make room on the disk",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "\nhint: another process holds the store; raise busy_timeout_ms if that is as it should be"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => "\nhint: see to the rights of the file and its directory",
        Some(ErrorCode::NotADatabase) => "\nhint: name the file of a run store",
        _ => "",
    };
    StoreFault(format!("{error}{hint}"))
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unreadable(say(&error))
    }
}

fn integer(value: u64) -> rusqlite::Result<i64> {
    i64::try_from(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn whole(value: i64) -> rusqlite::Result<u64> {
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, value))
}

fn digest_of(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get::<_, [u8; 32]>(column).map(Digest::from)
}
