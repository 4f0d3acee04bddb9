//! `decision-gate.toml`: the sections a one-shot run reads.
//!
//! The sections that only a service needs are recognised and left alone, so one
//! file serves both. A table or key that no section knows is refused: a typo in
//! a security setting must not be silence.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use runpack_core::engine::{Policy, Settings, StaticPolicy};
use runpack_core::model::{AnchorPolicy, AnchorRequirement, Lane, ProviderAnchorPolicy, ProviderId};
use runpack_core::pack::SecurityContext;
use runpack_providers::{EnvConfig, HttpConfig, JsonConfig, Provider, Registry, TimeConfig};
use serde::Deserialize;
use serde::de::IgnoredAny;

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
    /// It is too large.
    #[error("the config `{path}` has more than {CONFIG_BYTES_MAX} bytes")]
    TooLarge {
        /// The file.
        path: String,
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

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    dev: Dev,
    trust: Trust,
    anchors: Anchors,
    policy: PolicyTable,
    namespace: Namespace,
    server: Server,
    providers: Vec<ProviderTable>,
    evidence: IgnoredAny,
    provider_discovery: IgnoredAny,
    validation: IgnoredAny,
    run_state_store: IgnoredAny,
    schema_registry: IgnoredAny,
    docs: IgnoredAny,
    runpack_storage: IgnoredAny,
    client: IgnoredAny,
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
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TrustPolicy {
    #[default]
    Audit,
    RequireSignature(IgnoredAny),
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
#[serde(deny_unknown_fields, default)]
struct PolicyTable {
    engine: PolicyEngine,
    #[serde(rename = "static")]
    rules: Option<StaticPolicy>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PolicyEngine {
    #[default]
    PermitAll,
    DenyAll,
    Static,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Namespace {
    authority: Authority,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Authority {
    mode: AuthorityMode,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AuthorityMode {
    #[default]
    None,
    AssetcoreHttp,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderTable {
    name: String,
    #[serde(rename = "type")]
    kind: ProviderKind,
    #[serde(default)]
    config: Option<toml::Value>,
    #[serde(default)]
    trust: TrustPolicy,
    /// Disclosure over the service's tools; a run discloses nothing.
    #[serde(default, rename = "allow_raw")]
    _allow_raw: bool,
    #[serde(default, rename = "timeouts")]
    _timeouts: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProviderKind {
    Builtin,
    Mcp,
}

/// What a run needs of a config.
pub struct RunConfiguration {
    /// What is decided by.
    pub settings: Settings,
    /// Who may be shown packets.
    pub policy: Policy,
    /// Who is asked for evidence.
    pub registry: Registry,
    /// The posture that packs state.
    pub security: SecurityContext,
    /// Things to say at start.
    pub warnings: Vec<String>,
}

impl RunConfiguration {
    /// What holds without a file: only the `time` provider, strict lanes.
    ///
    /// # Errors
    /// Never for the embedded text; a test reads it.
    pub fn embedded() -> Result<Self, ConfigError> {
        Self::parse("[[providers]]\nname = \"time\"\ntype = \"builtin\"\n", "embedded defaults")
    }

    /// Reads a file. Relative paths in it are relative to the working directory.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        use std::io::Read;
        let shown = path.display().to_string();
        let failed = |source| ConfigError::Read { path: shown.clone(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        let mut text = String::new();
        file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLarge { path: shown });
        }
        Self::parse(&text, &shown)
    }

    fn parse(text: &str, path: &str) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        if matches!(file.trust.default_policy, TrustPolicy::RequireSignature(_)) {
            return Err(wrong(
                "trust.default_policy",
                "this version cannot check evidence signatures\nhint: use \"audit\"",
            ));
        }
        if file.namespace.authority.mode != AuthorityMode::None {
            return Err(wrong(
                "namespace.authority.mode",
                "a one-shot run asks no namespace authority\nhint: use \"none\" in the config of the run",
            ));
        }
        let permissive = file.dev.permissive || file.server.mode == ServerMode::DevPermissive;
        let mut warnings = Vec::new();
        if permissive && file.dev.permissive_warn.unwrap_or(true) {
            warnings.push("dev-permissive mode enabled: asserted evidence counts".to_owned());
        }
        if file.dev.permissive_ttl_days == Some(0) {
            return Err(wrong("dev.permissive_ttl_days", "must be at least 1"));
        }
        let _scope = file.dev.permissive_scope;
        let settings = settings(&file, permissive)?;
        let policy = policy(file.policy)?;
        let registry = registry(file.providers, &mut warnings)?;
        let security = SecurityContext { dev_permissive: permissive, namespace_authority: "dg_registry".to_owned() };
        Ok(Self { settings, policy, registry, security, warnings })
    }
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
                anchor_type: entry.anchor_type.clone(),
                required_fields: fields.into_iter().map(str::to_owned).collect(),
            },
        });
    }
    Ok(AnchorPolicy { providers })
}

fn policy(table: PolicyTable) -> Result<Policy, ConfigError> {
    use runpack_core::engine::PolicyEffect;
    match (table.engine, table.rules) {
        (PolicyEngine::PermitAll, None) => Ok(Policy::PermitAll),
        (PolicyEngine::DenyAll, None) => Ok(Policy::DenyAll),
        (PolicyEngine::Static, Some(rules)) => {
            for (index, rule) in rules.rules.iter().enumerate() {
                let key = format!("policy.rules[{index}]");
                if !rule.has_criteria() {
                    return Err(wrong(key, "rule must include at least one match criterion"));
                }
                if (rule.effect == PolicyEffect::Error) != rule.error_message.is_some() {
                    return Err(wrong(key, "`error_message` belongs to effect \"error\", which needs it"));
                }
            }
            Ok(Policy::Static(rules))
        }
        (PolicyEngine::Static, None) => Err(wrong("policy.static", "is required with engine \"static\"")),
        (_, Some(_)) => Err(wrong("policy.static", "belongs to engine \"static\"")),
    }
}

fn registry(tables: Vec<ProviderTable>, warnings: &mut Vec<String>) -> Result<Registry, ConfigError> {
    let mut registry = Registry::default();
    for table in tables {
        let name = table.name.trim().to_owned();
        let key = format!("providers.{name}");
        let id = ProviderId::from(name.as_str());
        if registry.contains(&id) {
            return Err(wrong(key, format!("duplicate provider name: {name}")));
        }
        if matches!(table.trust, TrustPolicy::RequireSignature(_)) {
            return Err(wrong(format!("{key}.trust"), "this version cannot check evidence signatures"));
        }
        if table.kind == ProviderKind::Mcp {
            return Err(wrong(key, "external MCP providers are not supported by a one-shot run"));
        }
        let config = table.config.unwrap_or_else(|| toml::Value::Table(toml::Table::new()));
        let provider: Arc<dyn Provider> = match name.as_str() {
            "time" => Arc::new(section::<TimeConfig>(config, &key)?.build().map_err(|error| refused(&key, &error))?),
            "env" => {
                let config: EnvConfig = section(config, &key)?;
                warnings.extend(config.warnings());
                Arc::new(config.build().map_err(|error| refused(&key, &error))?)
            }
            "json" => Arc::new(section::<JsonConfig>(config, &key)?.build().map_err(|error| refused(&key, &error))?),
            "http" => {
                let config: HttpConfig = section(config, &key)?;
                warnings.extend(config.warnings());
                Arc::new(config.build().map_err(|error| refused(&key, &error))?)
            }
            other => {
                let problem = format!("unknown builtin provider: {other}\nhint: there are time, env, json and http");
                return Err(wrong(key, problem));
            }
        };
        registry.insert(id, provider);
    }
    Ok(registry)
}

fn section<T: for<'de> Deserialize<'de>>(config: toml::Value, key: &str) -> Result<T, ConfigError> {
    config.try_into().map_err(|error: toml::de::Error| wrong(format!("{key}.config"), error.message().to_owned()))
}

fn refused(key: &str, error: &runpack_providers::ConfigError) -> ConfigError {
    wrong(format!("{key}.config"), error.to_string())
}
