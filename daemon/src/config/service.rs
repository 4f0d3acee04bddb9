//! What `runpackd serve` reads besides what a run reads.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runpack_storage::runs::sqlite::{JournalMode, SqliteOptions, SyncMode};
use serde::Deserialize;

use super::access::{
    AclTable, AuthMode, AuthTable, EvidenceTable, FeedbackSection, NamespaceTable, ProviderTable, ToolsTable, access,
};
use super::source::Source;
use super::{ConfigError, Missing, RunConfiguration, read_text, wrong};
use crate::access::Access;
use crate::audit::{AuditOptions, Fsync, OnError, Rotation};
use crate::dispatch::{DispatchConfiguration, DispatchTable};
use crate::docs::DocsConfig;
use crate::http::{Replies, TlsOptions};
use crate::limits::RateLimit;
use crate::roots::Roots;
use crate::scheduler::SchedulerConfig;

/// What a service needs of a config.
pub struct ServiceConfiguration {
    /// What a run needs.
    pub run: RunConfiguration,
    /// Where it listens, and for how much.
    pub server: ServerConfiguration,
    /// Who may do what.
    pub access: Access,
    /// Where runs are kept.
    pub runs: RunStoreConfig,
    /// Where data shapes are kept.
    pub schemas: SchemaStoreConfig,
    /// Which documents are served.
    pub docs: DocsConfig,
    /// Where on this machine callers may name packs.
    pub roots: Roots,
    /// How packets are delivered, if they are.
    pub dispatch: Option<DispatchConfiguration>,
    /// Whether stages time out by themselves, and how soon that is seen.
    pub scheduler: Option<SchedulerConfig>,
    /// The audit log, if one is kept.
    pub audit: Option<AuditOptions>,
    /// Whether the audit log has the payloads of prechecks.
    pub log_precheck_payloads: bool,
}

/// What a process holds open and so keeps until it is started again, whatever
/// its config says in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    door: Door,
    body_bytes_max: usize,
    inflight_max: usize,
    runs: RunStoreConfig,
    schemas: Option<(PathBuf, SqliteOptions)>,
    audit: Option<AuditOptions>,
    delivers: bool,
}

impl Fixed {
    /// Which sections `next` says otherwise.
    pub fn changed(&self, next: &Self) -> Vec<&'static str> {
        let place = |door: &Door| match door {
            Door::Stdio => None,
            // The files are read again; whether there are any is another matter.
            Door::Http { bind, replies, tls } => Some((*bind, *replies, tls.is_some())),
        };
        let sections = [
            (place(&self.door) == place(&next.door), "server.transport, server.bind or server.tls"),
            (self.body_bytes_max == next.body_bytes_max, "server.max_body_bytes"),
            (self.inflight_max == next.inflight_max, "server.limits.max_inflight"),
            (self.runs == next.runs, "run_state_store"),
            (self.schemas == next.schemas, "schema_registry"),
            (self.audit == next.audit, "server.audit"),
            (self.delivers == next.delivers, "dispatch.enabled"),
        ];
        sections.iter().filter(|(same, _)| !same).map(|(_, section)| *section).collect()
    }
}

/// `[server]`, as far as it is about connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfiguration {
    /// Which door is open.
    pub door: Door,
    /// Bytes of one request's body.
    pub body_bytes_max: usize,
    /// Calls at work at once.
    pub inflight_max: usize,
    /// How often each may call; as often as they like without it.
    pub rate: Option<RateLimit>,
}

/// Where callers come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// The pipes of the process.
    Stdio,
    /// HTTP.
    Http {
        /// Port 0 takes any that is free.
        bind: SocketAddr,
        /// In what shape `/rpc` answers.
        replies: Replies,
        /// With what connections are made, if not in the clear.
        tls: Option<TlsOptions>,
    },
}

impl Door {
    /// Whether others than this machine can knock.
    pub fn is_exposed(&self) -> bool {
        matches!(self, Self::Http { bind, .. } if !bind.ip().is_loopback())
    }
}

/// `[run_state_store]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunStoreConfig {
    /// Runs live as long as the process.
    Memory,
    /// Runs live in a file.
    Sqlite {
        /// The file.
        path: PathBuf,
        /// How it is written.
        sqlite: SqliteOptions,
    },
}

/// `[schema_registry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaStoreConfig {
    /// The file and how it is written; in memory without it.
    pub sqlite: Option<(PathBuf, SqliteOptions)>,
    /// Bytes of one schema.
    pub schema_bytes_max: u64,
    /// Schemas kept; any number without it.
    pub entries_max: Option<u64>,
}

/// The sections as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct File {
    pub(super) server: Server,
    pub(super) namespace: NamespaceTable,
    pub(super) evidence: EvidenceTable,
    run_state_store: StoreTable,
    pub(super) schema_registry: StoreTable,
    pub(super) providers: Vec<ProviderTable>,
    docs: DocsTable,
    runpack: PackTable,
    scheduler: SchedulerTable,
    dispatch: DispatchTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SchedulerTable {
    enabled: bool,
    interval_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PackTable {
    roots: Vec<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DocsTable {
    enabled: Option<bool>,
    enable_search: Option<bool>,
    enable_resources: Option<bool>,
    include_default_docs: Option<bool>,
    extra_paths: Vec<PathBuf>,
    max_doc_bytes: Option<u64>,
    max_total_bytes: Option<u64>,
    max_docs: Option<u64>,
    max_sections: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Server {
    transport: Transport,
    bind: Option<String>,
    tls_termination: TlsTermination,
    max_body_bytes: Option<u64>,
    limits: Limits,
    pub(super) auth: AuthTable,
    tls: Option<TlsTable>,
    audit: AuditTable,
    pub(super) feedback: FeedbackSection,
    pub(super) tools: ToolsTable,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Transport {
    #[default]
    Stdio,
    Http,
    Sse,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsTable {
    cert_path: PathBuf,
    key_path: PathBuf,
    client_ca_path: Option<PathBuf>,
    require_client_cert: Option<bool>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TlsTermination {
    #[default]
    Server,
    Upstream,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Limits {
    max_inflight: Option<u64>,
    rate_limit: Option<RateTable>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
struct RateTable {
    max_requests: Option<u32>,
    window_ms: Option<u64>,
    max_entries: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AuditTable {
    enabled: Option<bool>,
    path: Option<PathBuf>,
    log_precheck_payloads: bool,
    fsync: Fsync,
    fsync_interval_ms: Option<u64>,
    on_error: OnError,
    rotate_bytes: Option<u64>,
    rotate_keep: Option<u32>,
}

/// Both stores have these keys, and each some of its own.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StoreTable {
    #[serde(rename = "type")]
    kind: StoreKind,
    path: Option<PathBuf>,
    busy_timeout_ms: Option<u64>,
    journal_mode: JournalMode,
    sync_mode: SyncMode,
    max_versions: Option<u64>,
    max_schema_bytes: Option<u64>,
    max_entries: Option<u64>,
    pub(super) acl: AclTable,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoreKind {
    #[default]
    Memory,
    Sqlite,
}

/// Bytes of one request's body, unless the config says otherwise.
const BODY_BYTES_MAX: u64 = 1024 * 1024;
/// Calls at work at once, unless the config says otherwise.
const INFLIGHT_MAX: u64 = 256;
/// More permits than this a semaphore cannot count on every machine.
const INFLIGHT_LIMIT: u64 = 65_536;
/// How long a lock is waited for, unless the config says otherwise.
const BUSY_TIMEOUT_MS: u64 = 5_000;
/// Bytes of one schema, unless the config says otherwise.
const SCHEMA_BYTES: u64 = 1_048_576;
/// Bytes of one schema at most.
const SCHEMA_BYTES_LIMIT: u64 = 10_485_760;

impl ServiceConfiguration {
    /// Reads a file. Relative paths in it are relative to the working directory.
    ///
    /// # Errors
    /// See [`ConfigError`]; also for what this version does not do, which is
    /// refused rather than left out.
    pub fn read(path: &Path, missing: Missing) -> Result<Self, ConfigError> {
        Self::parse(&read_text(path)?, &path.display().to_string(), missing)
    }

    /// What only a restart changes.
    pub fn fixed(&self) -> Fixed {
        Fixed {
            door: self.server.door.clone(),
            body_bytes_max: self.server.body_bytes_max,
            inflight_max: self.server.inflight_max,
            runs: self.runs.clone(),
            schemas: self.schemas.sqlite.clone(),
            audit: self.audit.clone(),
            delivers: self.dispatch.is_some(),
        }
    }

    /// As [`Self::read`], for a text.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(text: &str, path: &str, missing: Missing) -> Result<Self, ConfigError> {
        let source = Source::new(text, path)?;
        let mut run = RunConfiguration::from(&source, missing)?;
        let file: File = source.read()?;
        let server = server(&file.server)?;
        let runs = run_store(&file.run_state_store)?;
        let schemas = schema_store(&file.schema_registry)?;
        let docs = docs(&file.docs)?;
        let mut access = access(&file)?;
        if !(docs.enabled && docs.search) {
            access.visible.denied.insert("decision_gate_docs_search".to_owned());
        }
        let log_precheck_payloads = file.server.audit.log_precheck_payloads;
        let audit = audit(&file.server.audit)?;
        let roots = roots(&file.runpack)?;
        let scheduler = scheduler(&file.scheduler)?;
        let dispatch = file.dispatch.configuration()?;
        run.warnings.extend(dispatch.iter().flat_map(|dispatch| dispatch.warnings.clone()));
        Ok(Self { run, server, access, runs, schemas, docs, roots, dispatch, scheduler, audit, log_precheck_payloads })
    }
}

fn server(server: &Server) -> Result<ServerConfiguration, ConfigError> {
    let door = door(server)?;
    let body = server.max_body_bytes.unwrap_or(BODY_BYTES_MAX);
    let body_bytes_max = usize::try_from(body).ok().filter(|&bytes| bytes > 0);
    let inflight = server.limits.max_inflight.unwrap_or(INFLIGHT_MAX);
    if inflight == 0 || inflight > INFLIGHT_LIMIT {
        return Err(wrong("server.limits.max_inflight", format!("must be between 1 and {INFLIGHT_LIMIT}")));
    }
    Ok(ServerConfiguration {
        door,
        body_bytes_max: body_bytes_max.ok_or_else(|| wrong("server.max_body_bytes", "must be at least 1"))?,
        inflight_max: usize::try_from(inflight).unwrap_or(usize::MAX),
        rate: server.limits.rate_limit.map(rate).transpose()?,
    })
}

fn rate(table: RateTable) -> Result<RateLimit, ConfigError> {
    let within = |key: &str, value: u64, from: u64, to: u64| match (from..=to).contains(&value) {
        true => Ok(value),
        false => Err(wrong(format!("server.limits.rate_limit.{key}"), format!("must be between {from} and {to}"))),
    };
    let requests = within("max_requests", u64::from(table.max_requests.unwrap_or(1_000)), 1, 100_000)?;
    let window = within("window_ms", table.window_ms.unwrap_or(1_000), 100, 60_000)?;
    let entries = within("max_entries", table.max_entries.unwrap_or(4_096) as u64, 1, 65_536)?;
    Ok(RateLimit {
        max_requests: u32::try_from(requests).unwrap_or(u32::MAX),
        window: Duration::from_millis(window),
        max_entries: usize::try_from(entries).unwrap_or(usize::MAX),
    })
}

/// The audit log, if one is asked for: by a path, or by name.
fn audit(table: &AuditTable) -> Result<Option<AuditOptions>, ConfigError> {
    if !table.enabled.unwrap_or(table.path.is_some()) {
        return Ok(None);
    }
    let usual = AuditOptions::default();
    let rotation = match (table.rotate_bytes, table.rotate_keep.unwrap_or(ROTATED)) {
        (None, _) => None,
        (Some(0), _) => return Err(wrong("server.audit.rotate_bytes", "must be at least 1")),
        (Some(bytes), keep) => match NonZeroU32::new(keep) {
            Some(keep) => Some(Rotation { bytes, keep }),
            None => return Err(wrong("server.audit.rotate_keep", "must be at least 1")),
        },
    };
    Ok(Some(AuditOptions {
        path: table.path.clone(),
        rotation,
        fsync: table.fsync,
        fsync_interval: table.fsync_interval_ms.map_or(usual.fsync_interval, Duration::from_millis),
        on_error: table.on_error,
    }))
}

/// Audit logs that are kept besides the one that is written.
const ROTATED: u32 = 10;

fn door(server: &Server) -> Result<Door, ConfigError> {
    let (auth, tls) = (server.auth.mode, server.tls.as_ref());
    let replies = match server.transport {
        Transport::Stdio => {
            if auth != AuthMode::LocalOnly {
                let problem = "stdio transport only supports local_only auth\nhint: set server.transport to \"http\", which it is not by itself";
                return Err(wrong("server.auth.mode", problem));
            }
            if tls.is_some() {
                return Err(wrong("server.tls", "stdio transport does not support tls"));
            }
            return Ok(Door::Stdio);
        }
        Transport::Http => Replies::Json,
        Transport::Sse => Replies::EventStream,
    };
    let bind = bind(server)?;
    let upstream = server.tls_termination == TlsTermination::Upstream;
    if auth == AuthMode::LocalOnly && !bind.ip().is_loopback() {
        let problem = "non-loopback bind disallowed without auth policy\nhint: set bind = \"127.0.0.1:4000\", or \
                       auth.mode = \"bearer_token\" or \"mtls\"";
        return Err(wrong("server.bind", problem));
    }
    if auth == AuthMode::LocalOnly && upstream {
        let problem =
            "behind a proxy everybody comes from this machine\nhint: set auth.mode to \"bearer_token\" or \"mtls\"";
        return Err(wrong("server.tls_termination", problem));
    }
    if !bind.ip().is_loopback() && tls.is_none() && !upstream {
        let problem = "non-loopback bind requires TLS\nhint: set [server.tls], or tls_termination = \"upstream\" if a \
                       proxy terminates it";
        return Err(wrong("server.bind", problem));
    }
    if auth == AuthMode::Mtls {
        let certified = tls.is_some_and(|tls| tls.client_ca_path.is_some());
        let proxied = upstream && !server.auth.trusted_proxies.is_empty();
        if !certified && !proxied {
            let problem = "mtls has nobody to believe\nhint: set server.tls.client_ca_path, or behind a proxy \
                           tls_termination = \"upstream\" and auth.trusted_proxies";
            return Err(wrong("server.auth.mode", problem));
        }
        if tls.is_some_and(|tls| tls.require_client_cert == Some(false)) && !proxied {
            let problem = "mtls requires client certificates\nhint: leave it out";
            return Err(wrong("server.tls.require_client_cert", problem));
        }
    }
    let tls = tls.map(|tls| TlsOptions {
        cert_path: tls.cert_path.clone(),
        key_path: tls.key_path.clone(),
        client_ca_path: tls.client_ca_path.clone(),
        require_client_cert: tls.require_client_cert.unwrap_or(true),
    });
    Ok(Door::Http { bind, replies, tls })
}

fn bind(server: &Server) -> Result<SocketAddr, ConfigError> {
    let Some(bind) = &server.bind else {
        let problem = "http/sse transport requires bind address\nhint: set bind = \"127.0.0.1:4000\"";
        return Err(wrong("server.bind", problem));
    };
    let bind: SocketAddr = bind.trim().parse().map_err(|_| {
        wrong("server.bind", format!("`{bind}` is not an address and a port\nhint: write \"127.0.0.1:4000\""))
    })?;
    Ok(bind)
}

fn run_store(table: &StoreTable) -> Result<RunStoreConfig, ConfigError> {
    // One head a run is kept, so there are no older versions to bound.
    above_zero("run_state_store.max_versions", table.max_versions)?;
    Ok(match store_path(table, "run_state_store")? {
        None => RunStoreConfig::Memory,
        Some((path, sqlite)) => RunStoreConfig::Sqlite { path, sqlite },
    })
}

fn schema_store(table: &StoreTable) -> Result<SchemaStoreConfig, ConfigError> {
    let schema_bytes_max = table.max_schema_bytes.unwrap_or(SCHEMA_BYTES);
    if !(1..=SCHEMA_BYTES_LIMIT).contains(&schema_bytes_max) {
        let problem = format!("must be between 1 and {SCHEMA_BYTES_LIMIT}");
        return Err(wrong("schema_registry.max_schema_bytes", problem));
    }
    Ok(SchemaStoreConfig {
        sqlite: store_path(table, "schema_registry")?,
        schema_bytes_max,
        entries_max: above_zero("schema_registry.max_entries", table.max_entries)?,
    })
}

fn store_path(table: &StoreTable, section: &str) -> Result<Option<(PathBuf, SqliteOptions)>, ConfigError> {
    let busy = table.busy_timeout_ms.unwrap_or(BUSY_TIMEOUT_MS);
    if busy > BUSY_TIMEOUT_MAX_MS {
        let problem = format!("must be at most {BUSY_TIMEOUT_MAX_MS}");
        return Err(wrong(format!("{section}.busy_timeout_ms"), problem));
    }
    let key = format!("{section}.path");
    match (table.kind, &table.path) {
        (StoreKind::Memory, None) => Ok(None),
        (StoreKind::Memory, Some(_)) => {
            Err(wrong(key, "memory has no path\nhint: set type = \"sqlite\", or take the path out"))
        }
        (StoreKind::Sqlite, None) => Err(wrong(key, "sqlite needs a path\nhint: name the file to keep it in")),
        (StoreKind::Sqlite, Some(path)) if path.as_os_str().is_empty() => Err(wrong(key, "must not be empty")),
        (StoreKind::Sqlite, Some(path)) => {
            let sqlite = SqliteOptions {
                busy_timeout: Duration::from_millis(busy),
                journal: table.journal_mode,
                sync: table.sync_mode,
            };
            Ok(Some((path.clone(), sqlite)))
        }
    }
}

/// An hour. SQLite counts in an `i32`.
const BUSY_TIMEOUT_MAX_MS: u64 = 3_600_000;

/// How often runs are looked at, unless the config says otherwise.
const TICK_MS: u64 = 1_000;

fn scheduler(table: &SchedulerTable) -> Result<Option<SchedulerConfig>, ConfigError> {
    match table.interval_ms.unwrap_or(TICK_MS) {
        interval @ 100..=3_600_000 => {
            Ok(table.enabled.then_some(SchedulerConfig { interval: Duration::from_millis(interval) }))
        }
        _ => Err(wrong("scheduler.interval_ms", "must be between 100 and 3600000")),
    }
}

/// Roots of packs.
const ROOTS_MAX: usize = 64;

fn roots(table: &PackTable) -> Result<Roots, ConfigError> {
    if table.roots.len() > ROOTS_MAX {
        return Err(wrong("runpack.roots", format!("must be at most {ROOTS_MAX} directories")));
    }
    if let Some(root) = table.roots.iter().find(|root| !root.is_absolute()) {
        return Err(wrong("runpack.roots", format!("`{}` is not absolute", root.display())));
    }
    Ok(Roots::new(table.roots.clone()))
}

/// More documents, sections and bytes than these are a mistake.
const EXTRA_PATHS_MAX: usize = 64;

fn docs(table: &DocsTable) -> Result<DocsConfig, ConfigError> {
    let usual = DocsConfig::default();
    let within = |key: &str, value: Option<u64>, usual: u64, most: u64| match value.unwrap_or(usual) {
        value if (1..=most).contains(&value) => Ok(value),
        _ => Err(wrong(format!("docs.{key}"), format!("must be between 1 and {most}"))),
    };
    let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    if table.extra_paths.len() > EXTRA_PATHS_MAX {
        return Err(wrong("docs.extra_paths", format!("must be at most {EXTRA_PATHS_MAX} paths")));
    }
    Ok(DocsConfig {
        enabled: table.enabled.unwrap_or(usual.enabled),
        search: table.enable_search.unwrap_or(usual.search),
        resources: table.enable_resources.unwrap_or(usual.resources),
        default_docs: table.include_default_docs.unwrap_or(usual.default_docs),
        extra_paths: table.extra_paths.clone(),
        doc_bytes_max: within("max_doc_bytes", table.max_doc_bytes, usual.doc_bytes_max, 1_048_576)?,
        total_bytes_max: within("max_total_bytes", table.max_total_bytes, usual.total_bytes_max, 8_388_608)?,
        docs_max: count(within("max_docs", table.max_docs, usual.docs_max as u64, 256)?),
        sections_max: count(within("max_sections", table.max_sections, usual.sections_max as u64, 10)?),
    })
}

fn above_zero(key: &str, value: Option<u64>) -> Result<Option<u64>, ConfigError> {
    if value == Some(0) { Err(wrong(key, "must be at least 1")) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ServiceConfiguration, String> {
        ServiceConfiguration::parse(text, "test", Missing::Refuse).map_err(|error| error.to_string())
    }

    const HTTP: &str = "[server]\ntransport = \"http\"\nbind = \"127.0.0.1:0\"\n";

    #[test]
    fn defaults_are_those_of_the_contract() {
        let found = parse(HTTP).unwrap();
        assert_eq!((found.server.body_bytes_max, found.server.inflight_max), (1_048_576, 256));
        assert_eq!(found.runs, RunStoreConfig::Memory);
        assert_eq!(found.schemas, SchemaStoreConfig { sqlite: None, schema_bytes_max: 1_048_576, entries_max: None });
        assert!(!found.access.namespaces.allow_default);
        let text = format!("{HTTP}[run_state_store]\ntype = \"sqlite\"\npath = \"runs.db\"\nmax_versions = 3\n");
        let sqlite =
            SqliteOptions { busy_timeout: Duration::from_secs(5), journal: JournalMode::Wal, sync: SyncMode::Full };
        let path = PathBuf::from("runs.db");
        assert_eq!(parse(&text).unwrap().runs, RunStoreConfig::Sqlite { path, sqlite });
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        let table = [
            ("[server]\ntransport = \"sse\"\n", "server.bind: http/sse transport requires bind address"),
            ("[server]\ntransport = \"http\"\n", "server.bind: http/sse transport requires bind address"),
            (
                "[server]\ntransport = \"http\"\nbind = \"localhost:1\"\n",
                "server.bind: `localhost:1` is not an address",
            ),
            (
                "[server]\ntransport = \"http\"\nbind = \"0.0.0.0:0\"\n",
                "server.bind: non-loopback bind disallowed without auth policy",
            ),
            (
                "{}[run_state_store]\ntype = \"sqlite\"\npath = \"a.db\"\nbusy_timeout_ms = 3600001\n",
                "run_state_store.busy_timeout_ms: must be at most 3600000",
            ),
            ("{}max_body_bytes = 0\n", "server.max_body_bytes: must be at least 1"),
            ("{}tls_termination = \"upstream\"\n", "server.tls_termination: behind a proxy everybody"),
            (
                "[server]\ntransport = \"http\"\nbind = \"0.0.0.0:0\"\n[server.auth]\nmode = \"bearer_token\"\nbearer_tokens = [\"a\"]\n",
                "server.bind: non-loopback bind requires TLS",
            ),
            (
                "[server.auth]\nmode = \"bearer_token\"\nbearer_tokens = [\"a\"]\n",
                "stdio transport only supports local_only auth",
            ),
            ("{}[server.limits]\nmax_inflight = 0\n", "server.limits.max_inflight: must be between"),
            ("{}[server.limits.rate_limit]\nwindow_ms = 99\n", "server.limits.rate_limit.window_ms: must be between"),
            (
                "{}[server.auth]\nmode = \"bearer_token\"\n",
                "server.auth.bearer_tokens: bearer_token auth requires a token",
            ),
            (
                "{}[server.auth]\nmode = \"bearer_token\"\nbearer_tokens = [\"a b\"]\n",
                "server.auth.bearer_tokens: a token has 1 to 256 bytes",
            ),
            (
                "{}[server.auth]\nmode = \"bearer_token\"\nbearer_tokens = [\"sha256:00\"]\n",
                "server.auth.bearer_tokens: `sha256:` is followed by",
            ),
            (
                "{}[server.auth]\nmode = \"bearer_token\"\nbearer_token_files = [\"/nonexistent/x\"]\n",
                "server.auth.bearer_token_files: cannot read `/nonexistent/x`",
            ),
            (
                "{}[server.auth]\nmode = \"bearer_token\"\nbearer_token_env = [\"RUNPACK_NONE\"]\n",
                "server.auth.bearer_token_env: the variable `RUNPACK_NONE` is not set",
            ),
            (
                "{}[server.auth]\nmode = \"mtls\"\nmtls_subjects = [\"CN=a\"]\n",
                "server.auth.mode: mtls has nobody to believe",
            ),
            ("{}[server.auth]\nmode = \"mtls\"\n", "server.auth."),
            ("{}[server.auth]\nallowed_tools = [\"x\"]\n", "server.auth.allowed_tools: unknown tool in allowlist: x"),
            (
                "{}[[server.auth.principals]]\nsubject = \"a\"\n[[server.auth.principals]]\nsubject = \"a\"\n",
                "server.auth.principals: the subject `a` comes twice",
            ),
            (
                "{}[[server.auth.principals]]\nsubject = \"a\"\nroles = [{ name = \"TenantAdmin\", tenant_id = 0 }]\n",
                "server.auth.principals.roles: a tenant is at least 1",
            ),
            (
                "{}[[schema_registry.acl.rules]]\neffect = \"allow\"\n",
                "schema_registry.acl.rules: the built-in rules are not changed",
            ),
            ("[server.tls]\ncert_path = \"a\"\nkey_path = \"b\"\n", "server.tls: stdio transport does not support tls"),
            ("{}[server.audit]\npath = \"a\"\nrotate_bytes = 0\n", "server.audit.rotate_bytes: must be at least 1"),
            ("{}[server.tools]\ndenylist = [\"x\"]\n", "server.tools.denylist: unknown tool in server.tools list: x"),
            (
                "{}[server.feedback.scenario_next]\ndefault = \"evidence\"\n",
                "server.feedback.scenario_next.default exceeds max",
            ),
            ("{}[namespace]\nallow_default = true\n", "namespace.allow_default requires namespace.default_tenants"),
            ("{}[namespace]\ndefault_tenants = [0]\n", "namespace.default_tenants: a tenant is at least 1"),
            ("{}[run_state_store]\npath = \"a\"\n", "run_state_store.path: memory has no path"),
            ("{}[run_state_store]\ntype = \"sqlite\"\n", "run_state_store.path: sqlite needs a path"),
            ("{}[run_state_store]\nmax_versions = 0\n", "run_state_store.max_versions: must be at least 1"),
            ("{}[schema_registry]\nmax_schema_bytes = 10485761\n", "schema_registry.max_schema_bytes: must be between"),
            ("{}[schema_registry]\nmax_entries = 0\n", "schema_registry.max_entries: must be at least 1"),
            ("{}[run_state_store]\nmax_version = 1\n", "run_state_store.max_version: there is no such key"),
        ];
        for (text, refusal) in table {
            let text = text.replace("{}", HTTP);
            let found = parse(&text).err().unwrap_or_default();
            assert!(found.contains(refusal), "{text}: {found}");
        }
    }
}
