//! `decision-gate.toml`: the sections a one-shot run reads, and in `service`
//! those that only a service needs.
//!
//! A one-shot run recognises a service's sections and leaves them alone, so one
//! file serves both. A table or key that no section knows is refused: a typo in
//! a security setting must not be silence.

mod access;
mod preset;
mod providers;
#[cfg(test)]
mod published;
mod service;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use runpack_beneath::read_text_within;
use runpack_core::engine::{Policy, PolicyTable, Settings};
use runpack_core::model::{AnchorPolicy, AnchorRequirement, Lane, ProviderAnchorPolicy, ProviderId};
use runpack_core::pack::SecurityContext;
use runpack_core::pack::layout::ARTIFACT_BYTES_MAX;
use runpack_providers::strict::StrictOptions;
use runpack_providers::{Contracts, Registry};
use runpack_storage::packs::object::{Key, OnExisting, PublishOptions, StoreOptions};
use runpack_storage::packs::{BucketStore, Stores};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::access::AuthorityConfig;
use crate::signing::{Signing, SigningTable};
pub use preset::Preset;
pub use providers::Discovery;
use providers::{
    DiscoveryTable, ProviderTable, Providers, SignatureForm, TrustPolicy, ValidationTable, discovery, providers,
    validation,
};
pub use service::{Door, Fixed, RunStoreConfig, SchemaStoreConfig, ServerConfiguration, ServiceConfiguration};
use source::Source;

/// Bytes of a config file.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Providers exempt from `dev.permissive` unless the file names others.
const EXEMPT: [&str; 2] = ["assetcore_read", "assetcore"];

/// Why a config cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the config `{path}`: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, or has a key nobody knows.
    #[error("the config `{path}` is not valid: {source}")]
    Parse {
        /// The file.
        path: String,
        /// What, and where.
        source: Box<toml::de::Error>,
    },
    /// A key has a value that cannot be.
    #[error("{key}: {problem}")]
    Value {
        /// The key, from the top.
        key: String,
        /// What is wrong and what to write.
        problem: String,
    },
}

fn wrong(key: impl Into<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value { key: key.into(), problem: problem.into() }
}

/// Every key of the config, dotted; `*` is any name, and what lies below a key
/// listed with `…` is somebody else's to check. Sections that a one-shot run
/// does not read are here so that a typo in them is found all the same.
const KNOWN: &[&str] = &[
    "compat",
    "server.transport",
    "server.bind",
    "server.mode",
    "server.tls_termination",
    "server.max_body_bytes",
    "server.limits.max_inflight",
    "server.limits.rate_limit.max_requests",
    "server.limits.rate_limit.window_ms",
    "server.limits.rate_limit.max_entries",
    "server.auth.mode",
    "server.auth.bearer_tokens",
    "server.auth.bearer_token_files",
    "server.auth.bearer_token_env",
    "server.auth.mtls_subjects",
    "server.auth.trusted_proxies",
    "server.auth.allowed_tools",
    "server.auth.tenant_isolation",
    "server.auth.principals.subject",
    "server.auth.principals.policy_class",
    "server.auth.principals.roles.name",
    "server.auth.principals.roles.tenant_id",
    "server.auth.principals.roles.namespace_id",
    "server.tls.cert_path",
    "server.tls.key_path",
    "server.tls.client_ca_path",
    "server.tls.require_client_cert",
    "server.audit.enabled",
    "server.audit.path",
    "server.audit.log_precheck_payloads",
    "server.audit.fsync",
    "server.audit.fsync_interval_ms",
    "server.audit.on_error",
    "server.audit.rotate_bytes",
    "server.audit.rotate_keep",
    "server.feedback.scenario_next.default",
    "server.feedback.scenario_next.local_only_default",
    "server.feedback.scenario_next.max",
    "server.feedback.scenario_next.trace_subjects",
    "server.feedback.scenario_next.trace_roles",
    "server.feedback.scenario_next.evidence_subjects",
    "server.feedback.scenario_next.evidence_roles",
    "server.tools.mode",
    "server.tools.allowlist",
    "server.tools.denylist",
    "namespace.allow_default",
    "namespace.default_tenants",
    "namespace.authority.mode",
    "namespace.authority.assetcore.base_url",
    "namespace.authority.assetcore.auth_token",
    "namespace.authority.assetcore.connect_timeout_ms",
    "namespace.authority.assetcore.request_timeout_ms",
    "dev.permissive",
    "dev.permissive_scope",
    "dev.permissive_ttl_days",
    "dev.permissive_warn",
    "dev.permissive_exempt_providers",
    "trust.default_policy…",
    "trust.min_lane",
    "trust.signature_form",
    "evidence.allow_raw_values",
    "evidence.require_provider_opt_in",
    "anchors.providers.provider_id",
    "anchors.providers.anchor_type",
    "anchors.providers.required_fields",
    "provider_discovery.allowlist",
    "provider_discovery.denylist",
    "provider_discovery.max_response_bytes",
    "validation.strict",
    "validation.profile",
    "validation.allow_permissive",
    "validation.enable_lexicographic",
    "validation.enable_deep_equals",
    "policy.engine",
    "policy.static…",
    "run_state_store.type",
    "run_state_store.path",
    "run_state_store.busy_timeout_ms",
    "run_state_store.journal_mode",
    "run_state_store.sync_mode",
    "run_state_store.max_versions",
    "schema_registry.type",
    "schema_registry.path",
    "schema_registry.busy_timeout_ms",
    "schema_registry.journal_mode",
    "schema_registry.sync_mode",
    "schema_registry.max_schema_bytes",
    "schema_registry.max_entries",
    "schema_registry.acl.mode",
    "schema_registry.acl.default",
    "schema_registry.acl.allow_local_only",
    "schema_registry.acl.require_signing",
    "schema_registry.acl.rules.effect",
    "schema_registry.acl.rules.actions",
    "schema_registry.acl.rules.tenants",
    "schema_registry.acl.rules.namespaces",
    "schema_registry.acl.rules.subjects",
    "schema_registry.acl.rules.roles",
    "schema_registry.acl.rules.policy_classes",
    "providers.name",
    "providers.type",
    "providers.command",
    "providers.url",
    "providers.allow_insecure_http",
    "providers.capabilities_path",
    "providers.auth.bearer_token",
    "providers.trust…",
    "providers.allow_raw",
    "providers.timeouts.connect_timeout_ms",
    "providers.timeouts.request_timeout_ms",
    "providers.dialect",
    "providers.pass_env",
    "providers.default_lane",
    "providers.config…",
    "docs.enabled",
    "docs.enable_search",
    "docs.enable_resources",
    "docs.include_default_docs",
    "docs.extra_paths",
    "docs.max_doc_bytes",
    "docs.max_total_bytes",
    "docs.max_docs",
    "docs.max_sections",
    "runpack.max_artifact_bytes",
    "runpack.roots",
    "signing.key_file",
    "signing.passphrase_file",
    "signing.command",
    "signing.public_key_file",
    "signing.pass_env",
    "signing.timeout_ms",
    "dispatch…",
    "scheduler.enabled",
    "scheduler.interval_ms",
    "runpack_storage.type",
    "runpack_storage.provider",
    "runpack_storage.bucket",
    "runpack_storage.region",
    "runpack_storage.endpoint",
    "runpack_storage.prefix",
    "runpack_storage.force_path_style",
    "runpack_storage.allow_http",
    "runpack_storage.on_existing",
    "runpack_storage.single_writer",
    "runpack_storage.options.*",
    "client.auth_profiles.*.bearer_token",
    "client.auth_profiles.*.client_subject",
];

/// The first key that is none of [`KNOWN`], dotted.
fn unknown_key(table: &toml::Table, above: &str) -> Option<String> {
    table.iter().find_map(|(name, value)| {
        let key = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        match standing(&key) {
            Standing::Unknown => Some(key),
            Standing::Leaf => None,
            Standing::Table => match value {
                toml::Value::Table(inner) => unknown_key(inner, &key),
                toml::Value::Array(items) => {
                    items.iter().filter_map(toml::Value::as_table).find_map(|inner| unknown_key(inner, &key))
                }
                _ => None,
            },
        }
    })
}

enum Standing {
    Unknown,
    Leaf,
    Table,
}

fn standing(key: &str) -> Standing {
    let parts: Vec<_> = key.split('.').collect();
    let mut table = false;
    for known in KNOWN {
        let open = known.ends_with('…');
        let names: Vec<_> = known.trim_end_matches('…').split('.').collect();
        let fits = parts.iter().zip(&names).all(|(part, name)| *name == "*" || part == name);
        if fits && (parts.len() == names.len() || (open && parts.len() > names.len())) {
            return Standing::Leaf;
        }
        table |= fits && parts.len() < names.len();
    }
    if table { Standing::Table } else { Standing::Unknown }
}

/// The known key, or table of keys, that looks most like `key`: as deep, with
/// the most in common from both ends, then of the nearest length.
fn nearest(key: &str) -> &'static str {
    let deep = key.split('.').count();
    let as_deep = |known: &&'static str| {
        let known = known.trim_end_matches('…');
        known.match_indices('.').nth(deep - 1).map_or(known, |(end, _)| &known[..end])
    };
    let rank = |known: &&str| {
        let same = |(left, right): &(u8, u8)| left == right;
        let common = key.bytes().zip(known.bytes()).take_while(same).count()
            + key.bytes().rev().zip(known.bytes().rev()).take_while(same).count();
        (common, std::cmp::Reverse(known.len().abs_diff(key.len())))
    };
    KNOWN.iter().map(as_deep).max_by_key(rank).unwrap_or_default()
}

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    dev: Dev,
    trust: Trust,
    anchors: Anchors,
    policy: PolicyTable,
    namespace: Namespace,
    server: Server,
    providers: Vec<ProviderTable>,
    provider_discovery: DiscoveryTable,
    validation: ValidationTable,
    runpack: PackTable,
    runpack_storage: Option<StorageTable>,
    signing: Option<SigningTable>,
}

/// How packs are made and verified.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PackTable {
    max_artifact_bytes: Option<Bytes>,
    /// For a service.
    #[serde(rename = "roots")]
    _roots: Option<IgnoredAny>,
}

/// A number of bytes, with a unit if written as text: `"64MiB"`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Plain(u64),
    Unit(String),
}

impl Bytes {
    fn count(&self) -> Result<u64, ConfigError> {
        let key = "runpack.max_artifact_bytes";
        match self {
            Self::Plain(0) => Err(wrong(key, "must be at least 1")),
            Self::Plain(count) => Ok(*count),
            Self::Unit(text) => runpack_core::read::byte_count(text).map_err(|problem| wrong(key, problem)),
        }
    }
}

/// Where packs go by default. `provider = "local"` keeps them in the directory
/// `bucket`, under the keys they would have in one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StorageTable {
    #[serde(rename = "type")]
    _kind: StorageKind,
    provider: StorageProvider,
    bucket: String,
    region: Option<String>,
    endpoint: Option<String>,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    force_path_style: bool,
    #[serde(default)]
    allow_http: bool,
    #[serde(default)]
    on_existing: Existing,
    #[serde(default)]
    single_writer: bool,
    /// As `--store-option` of `runpack`.
    #[serde(default)]
    options: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StorageKind {
    ObjectStore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StorageProvider {
    S3,
    Azure,
    Gcs,
    Local,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Existing {
    #[default]
    Refuse,
    Snapshot,
}

/// Of `[server]` only the older spelling of `dev.permissive` matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Server {
    mode: ServerMode,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ServerMode {
    #[default]
    Strict,
    DevPermissive,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Dev {
    permissive: bool,
    permissive_scope: PermissiveScope,
    permissive_ttl_days: Option<u32>,
    permissive_warn: Option<bool>,
    permissive_exempt_providers: Option<Vec<String>>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PermissiveScope {
    #[default]
    AssertedEvidenceOnly,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Trust {
    default_policy: TrustPolicy,
    min_lane: Option<Lane>,
    signature_form: SignatureForm,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Anchors {
    providers: Vec<AnchorTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnchorTable {
    provider_id: String,
    anchor_type: String,
    required_fields: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Namespace {
    authority: AuthorityTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AuthorityTable {
    mode: AuthorityMode,
    assetcore: Option<AssetcoreTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AssetcoreTable {
    base_url: String,
    auth_token: Option<String>,
    connect_timeout_ms: Option<u64>,
    request_timeout_ms: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AuthorityMode {
    #[default]
    None,
    AssetcoreHttp,
}

/// What becomes of directories that a config names and nobody has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// That is a mistake.
    Refuse,
    /// They are made: a first start must not fail for want of them.
    Make,
    /// They would be made at the start.
    Imagine,
}

/// What a run needs of a config.
pub struct RunConfiguration {
    /// What is decided by.
    pub settings: Settings,
    /// Who may be shown packets.
    pub policy: Policy,
    /// Who is asked for evidence.
    pub registry: Registry,
    /// What they promise.
    pub contracts: Contracts,
    /// How strictly conditions are held against that; not at all without it.
    pub validation: Option<StrictOptions>,
    /// Whose promises are shown.
    pub discovery: Discovery,
    /// Who else decides about namespaces.
    pub authority: Option<AuthorityConfig>,
    /// The posture that packs state.
    pub security: SecurityContext,
    /// Where packs go by default.
    pub storage: Option<BucketStore>,
    /// Who signs packs, if anybody does.
    pub signing: Option<Signing>,
    /// Bytes of one artifact of a pack.
    pub artifact_bytes_max: u64,
    /// Things to say at start.
    pub warnings: Vec<String>,
}

impl RunConfiguration {
    /// What holds without a file: only the `time` provider, strict lanes.
    ///
    /// # Errors
    /// Never for the embedded text; a test reads it.
    pub fn embedded() -> Result<Self, ConfigError> {
        Self::parse("[[providers]]\nname = \"time\"\ntype = \"builtin\"\n", "embedded defaults", Missing::Refuse)
    }

    /// Reads a file. Relative paths in it are relative to the working directory.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read_text(path)?, &path.display().to_string(), Missing::Refuse)
    }

    fn parse(text: &str, path: &str, missing: Missing) -> Result<Self, ConfigError> {
        Self::from(&Source::new(text, path)?, missing)
    }

    fn from(source: &Source<'_>, missing: Missing) -> Result<Self, ConfigError> {
        let file: File = source.read()?;
        let authority = authority(&file.namespace.authority)?;
        let permissive = file.dev.permissive || file.server.mode == ServerMode::DevPermissive;
        if permissive && authority.is_some() {
            return Err(wrong(
                "dev.permissive",
                "dev.permissive not allowed when namespace.authority.mode=assetcore_http",
            ));
        }
        let mut warnings = source.warnings.clone();
        if permissive && file.dev.permissive_warn.unwrap_or(true) {
            warnings.push("dev-permissive mode enabled: asserted evidence counts".to_owned());
        }
        if file.dev.permissive_ttl_days == Some(0) {
            return Err(wrong("dev.permissive_ttl_days", "must be at least 1"));
        }
        let _scope = file.dev.permissive_scope;
        let settings = settings(&file, permissive)?;
        let policy = Policy::try_from(file.policy).map_err(|fault| wrong(fault.key, fault.problem))?;
        let Providers { registry, contracts } = providers(file.providers, &file.trust, missing, &mut warnings)?;
        let validation = validation(&file.validation)?;
        warnings
            .extend(validation.is_none().then(|| "validation.strict is off: conditions may never come out".to_owned()));
        let discovery = discovery(file.provider_discovery)?;
        let namespaces = if authority.is_some() { "assetcore_catalog" } else { "dg_registry" };
        let security = SecurityContext { dev_permissive: permissive, namespace_authority: namespaces.to_owned() };
        let signing = file.signing.map(|table| table.open(&settings, &policy)).transpose();
        let signing = signing.map_err(|(key, problem)| wrong(key, problem))?;
        let storage = file.runpack_storage.map(|table| storage(&table)).transpose()?;
        let artifact_bytes_max =
            file.runpack.max_artifact_bytes.as_ref().map_or(Ok(ARTIFACT_BYTES_MAX), Bytes::count)?;
        Ok(Self {
            settings,
            policy,
            registry,
            contracts,
            validation,
            discovery,
            authority,
            security,
            storage,
            signing,
            artifact_bytes_max,
            warnings,
        })
    }
}

/// The text of a config file.
fn read_text(path: &Path) -> Result<String, ConfigError> {
    read_text_within(path, CONFIG_BYTES_MAX)
        .map_err(|source| ConfigError::Read { path: path.display().to_string(), source })
}

fn authority(table: &AuthorityTable) -> Result<Option<AuthorityConfig>, ConfigError> {
    const CONNECT_MS: RangeInclusive<u64> = 100..=10_000;
    const REQUEST_MS: RangeInclusive<u64> = 500..=30_000;
    let key = |member: &str| format!("namespace.authority.assetcore{member}");
    let table = match (table.mode, &table.assetcore) {
        (AuthorityMode::None, None) => return Ok(None),
        (AuthorityMode::None, Some(_)) => {
            let problem =
                "is not asked\nhint: set namespace.authority.mode = \"assetcore_http\", or leave the table out";
            return Err(wrong(key(""), problem));
        }
        (AuthorityMode::AssetcoreHttp, None) => {
            return Err(wrong(
                key(""),
                "namespace.authority.mode = \"assetcore_http\" needs it\nhint: set its base_url",
            ));
        }
        (AuthorityMode::AssetcoreHttp, Some(table)) => table,
    };
    let address = Url::parse(&table.base_url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let base_url = address.ok_or_else(|| wrong(key(".base_url"), "must be an address with http:// or https://"))?;
    if !base_url.username().is_empty() || base_url.password().is_some() {
        return Err(wrong(key(".base_url"), "must not hold a password\nhint: use auth_token"));
    }
    let token = table.auth_token.as_ref().map(|token| {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| wrong(key(".auth_token"), "cannot be sent in a header"))?;
        value.set_sensitive(true);
        Ok(value)
    });
    let within = |name: &str, value: Option<u64>, usual: u64, range: RangeInclusive<u64>| {
        let value = value.unwrap_or(usual);
        let problem = || format!("must be between {} and {}", range.start(), range.end());
        if range.contains(&value) { Ok(Duration::from_millis(value)) } else { Err(wrong(key(name), problem())) }
    };
    Ok(Some(AuthorityConfig {
        base_url,
        token: token.transpose()?,
        connect_timeout: within(".connect_timeout_ms", table.connect_timeout_ms, 500, CONNECT_MS)?,
        request_timeout: within(".request_timeout_ms", table.request_timeout_ms, 2_000, REQUEST_MS)?,
    }))
}

fn settings(file: &File, permissive: bool) -> Result<Settings, ConfigError> {
    let mut settings = Settings {
        min_lane: file.trust.min_lane.unwrap_or(Lane::Verified),
        anchors: anchors(&file.anchors)?,
        ..Settings::default()
    };
    if permissive {
        let named = file.dev.permissive_exempt_providers.clone();
        let exempt = named.unwrap_or_else(|| EXEMPT.map(str::to_owned).to_vec());
        settings.provider_lanes =
            exempt.into_iter().map(|name| (ProviderId::from(name), settings.min_lane)).collect::<BTreeMap<_, _>>();
        settings.min_lane = Lane::Asserted;
    }
    Ok(settings)
}

fn storage(table: &StorageTable) -> Result<BucketStore, ConfigError> {
    let key = |member: &str| format!("runpack_storage.{member}");
    let prefix = &table.prefix;
    if prefix.starts_with('/') || prefix.contains('\\') || prefix.split('/').any(|part| part == "..") {
        return Err(wrong(key("prefix"), "must be relative, without `..` and backslashes"));
    }
    let mut options = StoreOptions::default();
    let mut set = |name: &str, value: &str| {
        let member = if table.options.contains_key(name) { format!("options.{name}") } else { name.to_owned() };
        options.set(name, value).map_err(|fault| wrong(key(&member), fault.to_string()))
    };
    for (name, value) in &table.options {
        set(name, value)?;
    }
    if let Some(endpoint) = &table.endpoint {
        let plain = endpoint.starts_with("http://");
        if !(plain || endpoint.starts_with("https://")) {
            return Err(wrong(key("endpoint"), "must start with http:// or https://"));
        }
        if plain && !table.allow_http {
            return Err(wrong(key("endpoint"), "is without TLS\nhint: set allow_http = true if that is meant"));
        }
        set("endpoint", endpoint)?;
    }
    if let Some(region) = &table.region {
        set("region", region)?;
    }
    if table.allow_http {
        set("allow_http", "true")?;
    }
    if table.provider == StorageProvider::S3 {
        // As the reference: buckets in host names, but for endpoints of one's own.
        set("path_style", if table.force_path_style || table.endpoint.is_some() { "true" } else { "false" })?;
    }
    let on_existing = match table.on_existing {
        Existing::Refuse => OnExisting::Refuse,
        Existing::Snapshot => OnExisting::Snapshot,
    };
    let publish = PublishOptions { on_existing, single_writer: table.single_writer };
    let open = |scheme: &str| {
        let url = format!("{scheme}://{}/{prefix}", table.bucket);
        let (bucket, url) = Stores::new(options.clone()).bucket(&url).map_err(|error| error.to_string())?;
        Ok((bucket, url.prefix))
    };
    let opened: Result<_, String> = match table.provider {
        StorageProvider::S3 => open("s3"),
        StorageProvider::Azure => open("az"),
        StorageProvider::Gcs => open("gs"),
        StorageProvider::Local => Key::parse(prefix).map_err(|error| error.to_string()).and_then(|prefix| {
            let bucket = options.directory(&table.bucket, &prefix).map_err(|error| error.to_string())?;
            Ok((bucket, prefix))
        }),
    };
    let (bucket, prefix) = opened.map_err(|error| wrong("runpack_storage", error))?;
    Ok(BucketStore::new(bucket, prefix, publish))
}

fn anchors(table: &Anchors) -> Result<AnchorPolicy, ConfigError> {
    let mut seen = BTreeSet::new();
    let mut providers = Vec::new();
    for (index, entry) in table.providers.iter().enumerate() {
        let key = |member: &str| format!("anchors.providers[{index}].{member}");
        let id = entry.provider_id.trim();
        if id.is_empty() || !seen.insert(id) {
            return Err(wrong(key("provider_id"), "must be set, and only once for each provider"));
        }
        let fields: BTreeSet<_> = entry.required_fields.iter().map(|field| field.trim()).collect();
        if fields.contains("") {
            return Err(wrong(key("required_fields"), "must not hold an empty name"));
        }
        providers.push(ProviderAnchorPolicy {
            provider_id: ProviderId::from(id),
            requirement: AnchorRequirement {
                anchor_type: entry.anchor_type.as_str().into(),
                required_fields: fields.into_iter().map(str::to_owned).collect(),
            },
        });
    }
    Ok(AnchorPolicy { providers })
}
