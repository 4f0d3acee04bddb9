//! What `runpackd serve` reads besides what a run reads.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runpack_core::model::{ProviderId, TenantId};
use runpack_storage::runs::sqlite::{JournalMode, SqliteOptions, SyncMode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{ConfigError, RunConfiguration, read_text, wrong};
use crate::access::{Access, EvidencePolicy, FeedbackLevel, FeedbackPolicy, Namespaces, Visible};
use crate::tools::TOOLS;

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
}

/// The HTTP side of `[server]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerConfiguration {
    /// A loopback address; port 0 takes any that is free.
    pub bind: SocketAddr,
    /// Bytes of one request's body.
    pub body_bytes_max: usize,
    /// Calls at work at once.
    pub inflight_max: usize,
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
struct File {
    server: Server,
    namespace: NamespaceTable,
    evidence: Evidence,
    run_state_store: StoreTable,
    schema_registry: StoreTable,
    providers: Vec<ProviderTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Server {
    transport: Transport,
    bind: Option<String>,
    tls_termination: TlsTermination,
    max_body_bytes: Option<u64>,
    limits: Limits,
    auth: Auth,
    tls: Option<IgnoredAny>,
    audit: Audit,
    feedback: Feedback,
    tools: ToolsTable,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Transport {
    #[default]
    Stdio,
    Http,
    Sse,
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
    rate_limit: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    mode: AuthMode,
    bearer_tokens: Vec<IgnoredAny>,
    mtls_subjects: Vec<IgnoredAny>,
    allowed_tools: BTreeSet<String>,
    principals: Vec<IgnoredAny>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AuthMode {
    #[default]
    LocalOnly,
    BearerToken,
    Mtls,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Audit {
    path: Option<IgnoredAny>,
    log_precheck_payloads: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Feedback {
    scenario_next: FeedbackTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FeedbackTable {
    default: Option<FeedbackLevel>,
    local_only_default: Option<FeedbackLevel>,
    max: Option<FeedbackLevel>,
    trace_subjects: Option<BTreeSet<String>>,
    trace_roles: Vec<IgnoredAny>,
    evidence_subjects: BTreeSet<String>,
    evidence_roles: Vec<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ToolsTable {
    mode: ToolsMode,
    allowlist: BTreeSet<String>,
    denylist: BTreeSet<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ToolsMode {
    #[default]
    Filter,
    Passthrough,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamespaceTable {
    allow_default: bool,
    default_tenants: Vec<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Evidence {
    allow_raw_values: bool,
    require_provider_opt_in: bool,
}

impl Default for Evidence {
    fn default() -> Self {
        Self { allow_raw_values: false, require_provider_opt_in: true }
    }
}

#[derive(Debug, Deserialize)]
struct ProviderTable {
    name: String,
    #[serde(default)]
    allow_raw: bool,
}

/// Both stores have these keys, and each some of its own.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StoreTable {
    #[serde(rename = "type")]
    kind: StoreKind,
    path: Option<PathBuf>,
    busy_timeout_ms: Option<u64>,
    journal_mode: JournalMode,
    sync_mode: SyncMode,
    max_versions: Option<u64>,
    max_schema_bytes: Option<u64>,
    max_entries: Option<u64>,
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
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read_text(path)?, &path.display().to_string())
    }

    /// As [`Self::read`], for a text.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(text: &str, path: &str) -> Result<Self, ConfigError> {
        let run = RunConfiguration::parse(text, path)?;
        let failed = |source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) };
        let file: File = toml::from_str(text).map_err(failed)?;
        not_yet(&file.server)?;
        let server = server(&file.server)?;
        let runs = run_store(&file.run_state_store)?;
        let schemas = schema_store(&file.schema_registry)?;
        let access = access(file)?;
        Ok(Self { run, server, access, runs, schemas })
    }
}

/// What is not done yet is refused: an operator who asked for it must not
/// believe to have it.
fn not_yet(server: &Server) -> Result<(), ConfigError> {
    let transport = match server.transport {
        Transport::Http => None,
        Transport::Stdio => Some("`stdio` (the default) is not served by this version"),
        Transport::Sse => Some("`sse` is not served by this version"),
    };
    let http = "hint: set transport = \"http\"";
    let local = "hint: take it out and keep to auth.mode = \"local_only\" on a loopback address";
    let auth = &server.auth;
    let not = [
        ("transport", transport.is_some(), transport.unwrap_or_default(), http),
        ("auth.mode", auth.mode != AuthMode::LocalOnly, "this version serves local callers only", local),
        ("auth.bearer_tokens", !auth.bearer_tokens.is_empty(), "this version checks no tokens", local),
        ("auth.mtls_subjects", !auth.mtls_subjects.is_empty(), "this version checks no certificates", local),
        ("auth.principals", !auth.principals.is_empty(), "this version knows no roles", local),
        ("tls", server.tls.is_some(), "this version does not speak TLS", local),
        (
            "tls_termination",
            server.tls_termination == TlsTermination::Upstream,
            "this version cannot stand behind a proxy",
            local,
        ),
        (
            "limits.rate_limit",
            server.limits.rate_limit.is_some(),
            "this version limits no rates",
            "hint: take it out; limits.max_inflight bounds the load",
        ),
        ("audit.path", server.audit.path.is_some(), "this version writes no audit log", "hint: take it out"),
        (
            "audit.log_precheck_payloads",
            server.audit.log_precheck_payloads,
            "this version writes no audit log",
            "hint: take it out",
        ),
        (
            "feedback.scenario_next.trace_roles",
            !server.feedback.scenario_next.trace_roles.is_empty(),
            "this version knows no roles",
            "hint: name subjects instead",
        ),
        (
            "feedback.scenario_next.evidence_roles",
            !server.feedback.scenario_next.evidence_roles.is_empty(),
            "this version knows no roles",
            "hint: name subjects instead",
        ),
    ];
    match not.into_iter().find(|(_, asked, _, _)| *asked) {
        None => Ok(()),
        Some((key, _, problem, hint)) => Err(wrong(format!("server.{key}"), format!("{problem}\n{hint}"))),
    }
}

fn server(server: &Server) -> Result<ServerConfiguration, ConfigError> {
    let Some(bind) = &server.bind else {
        let problem = "http/sse transport requires bind address\nhint: set bind = \"127.0.0.1:4000\"";
        return Err(wrong("server.bind", problem));
    };
    let bind: SocketAddr = bind.trim().parse().map_err(|_| {
        wrong("server.bind", format!("`{bind}` is not an address and a port\nhint: write \"127.0.0.1:4000\""))
    })?;
    if !bind.ip().is_loopback() {
        let problem = "non-loopback bind disallowed without auth policy\nhint: set bind = \"127.0.0.1:4000\"";
        return Err(wrong("server.bind", problem));
    }
    let body = server.max_body_bytes.unwrap_or(BODY_BYTES_MAX);
    let body_bytes_max = usize::try_from(body).ok().filter(|&bytes| bytes > 0);
    let inflight = server.limits.max_inflight.unwrap_or(INFLIGHT_MAX);
    if inflight == 0 || inflight > INFLIGHT_LIMIT {
        return Err(wrong("server.limits.max_inflight", format!("must be between 1 and {INFLIGHT_LIMIT}")));
    }
    Ok(ServerConfiguration {
        bind,
        body_bytes_max: body_bytes_max.ok_or_else(|| wrong("server.max_body_bytes", "must be at least 1"))?,
        inflight_max: usize::try_from(inflight).unwrap_or(usize::MAX),
    })
}

fn access(file: File) -> Result<Access, ConfigError> {
    let Server { auth, tools, feedback, .. } = file.server;
    known(&auth.allowed_tools, "server.auth.allowed_tools", "unknown tool in allowlist")?;
    known(&tools.allowlist, "server.tools.allowlist", "unknown tool in server.tools list")?;
    known(&tools.denylist, "server.tools.denylist", "unknown tool in server.tools list")?;
    let allow_default = file.namespace.allow_default;
    if allow_default && file.namespace.default_tenants.is_empty() {
        let problem = "namespace.allow_default requires namespace.default_tenants\nhint: name the tenants that may use namespace 1";
        return Err(wrong("namespace.default_tenants", problem));
    }
    let tenants = file.namespace.default_tenants.into_iter().map(TenantId::new).collect::<Option<_>>();
    let agreeing = file.providers.into_iter().filter(|provider| provider.allow_raw);
    Ok(Access {
        visible: Visible {
            listed_all_the_same: tools.mode == ToolsMode::Passthrough,
            allowed: tools.allowlist,
            denied: tools.denylist,
        },
        allowed_tools: auth.allowed_tools,
        namespaces: Namespaces {
            allow_default,
            default_tenants: tenants.ok_or_else(|| wrong("namespace.default_tenants", "a tenant is at least 1"))?,
        },
        feedback: feedback_policy(feedback.scenario_next)?,
        evidence: EvidencePolicy {
            allow_raw: file.evidence.allow_raw_values,
            provider_must_agree: file.evidence.require_provider_opt_in,
            agreeing: agreeing.map(|provider| ProviderId::from(provider.name.trim())).collect(),
        },
    })
}

/// Tools of the wire that this version does not serve yet. A list that names
/// them is no mistake.
const TOOLS_TO_COME: &[&str] = &[
    "evidence_query",
    "providers_list",
    "provider_contract_get",
    "provider_check_schema_get",
    "schemas_register",
    "schemas_list",
    "schemas_get",
    "scenarios_list",
    "precheck",
    "decision_gate_docs_search",
];

fn known(names: &BTreeSet<String>, key: &str, problem: &str) -> Result<(), ConfigError> {
    let served = |name: &str| TOOLS_TO_COME.contains(&name) || TOOLS.iter().any(|tool| tool.name == name);
    match names.iter().find(|name| !served(name)) {
        None => Ok(()),
        Some(name) => Err(wrong(key, format!("{problem}: {name}"))),
    }
}

fn feedback_policy(table: FeedbackTable) -> Result<FeedbackPolicy, ConfigError> {
    let usual = FeedbackPolicy::default();
    let policy = FeedbackPolicy {
        default: table.default.unwrap_or(usual.default),
        local_default: table.local_only_default.unwrap_or(usual.local_default),
        max: table.max.unwrap_or(usual.max),
        trace_subjects: table.trace_subjects.unwrap_or(usual.trace_subjects),
        evidence_subjects: table.evidence_subjects,
    };
    for (name, level) in [("default", policy.default), ("local_only_default", policy.local_default)] {
        if level > policy.max {
            let key = format!("server.feedback.scenario_next.{name}");
            return Err(wrong(key.clone(), format!("{key} exceeds max\nhint: {} is the most", policy.max)));
        }
    }
    Ok(policy)
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
                busy_timeout: Duration::from_millis(table.busy_timeout_ms.unwrap_or(BUSY_TIMEOUT_MS)),
                journal: table.journal_mode,
                sync: table.sync_mode,
            };
            Ok(Some((path.clone(), sqlite)))
        }
    }
}

fn above_zero(key: &str, value: Option<u64>) -> Result<Option<u64>, ConfigError> {
    if value == Some(0) { Err(wrong(key, "must be at least 1")) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ServiceConfiguration, String> {
        ServiceConfiguration::parse(text, "test").map_err(|error| error.to_string())
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
            ("", "server.transport: `stdio`"),
            ("[server]\ntransport = \"sse\"\n", "server.transport: `sse`"),
            ("[server]\ntransport = \"http\"\n", "server.bind: http/sse transport requires bind address"),
            (
                "[server]\ntransport = \"http\"\nbind = \"localhost:1\"\n",
                "server.bind: `localhost:1` is not an address",
            ),
            (
                "[server]\ntransport = \"http\"\nbind = \"0.0.0.0:0\"\n",
                "server.bind: non-loopback bind disallowed without auth policy",
            ),
            ("{}max_body_bytes = 0\n", "server.max_body_bytes: must be at least 1"),
            ("{}tls_termination = \"upstream\"\n", "server.tls_termination: "),
            ("{}[server.limits]\nmax_inflight = 0\n", "server.limits.max_inflight: must be between"),
            ("{}[server.limits.rate_limit]\n", "server.limits.rate_limit: "),
            ("{}[server.auth]\nmode = \"bearer_token\"\nbearer_tokens = [\"a\"]\n", "server.auth.mode: "),
            ("{}[server.auth]\nmode = \"mtls\"\n", "server.auth.mode: "),
            ("{}[server.auth]\nallowed_tools = [\"x\"]\n", "server.auth.allowed_tools: unknown tool in allowlist: x"),
            ("{}[[server.auth.principals]]\nsubject = \"loopback\"\n", "server.auth.principals: "),
            ("{}[server.tls]\ncert_path = \"a\"\nkey_path = \"b\"\n", "server.tls: "),
            ("{}[server.audit]\npath = \"a\"\n", "server.audit.path: "),
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
