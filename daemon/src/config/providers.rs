//! `[[providers]]`, what they promise, and how strictly scenarios are held to it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runpack_beneath::read_within;
use runpack_core::model::{Lane, ProviderId};
use runpack_providers::signature::{Form, Keys, Signed};
use runpack_providers::strict::StrictOptions;
use runpack_providers::{
    CONTRACT_BYTES_MAX, Contract, ContractError, Contracts, EnvConfig, HttpConfig, JsonConfig, McpConfig, McpDialect,
    McpTarget, Provider, Registry, TimeConfig,
};
use serde::Deserialize;

use super::{ConfigError, Missing, Trust, wrong};

#[derive(Debug, Deserialize)]
pub(super) struct ProviderTable {
    name: String,
    #[serde(rename = "type")]
    kind: ProviderKind,
    #[serde(default)]
    config: Option<toml::Value>,
    trust: Option<TrustPolicy>,
    #[serde(default)]
    command: Vec<String>,
    url: Option<String>,
    #[serde(default)]
    allow_insecure_http: bool,
    capabilities_path: Option<PathBuf>,
    #[serde(default)]
    auth: ProviderAuth,
    #[serde(default)]
    timeouts: Timeouts,
    #[serde(default)]
    dialect: Dialect,
    #[serde(default)]
    pass_env: Vec<String>,
    default_lane: Option<Lane>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ProviderAuth {
    bearer_token: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Timeouts {
    connect_timeout_ms: Option<u64>,
    request_timeout_ms: Option<u64>,
}

/// How an external provider is spoken to.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Dialect {
    #[default]
    Auto,
    Reference,
    Standard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProviderKind {
    Builtin,
    Mcp,
}

/// Whether evidence has to be signed, and by whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TrustPolicy {
    #[default]
    Audit,
    RequireSignature(SignatureTable),
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignatureTable {
    keys: Vec<String>,
}

/// The weakest signature that counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SignatureForm {
    #[default]
    ValueOnly,
    Bound,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ValidationTable {
    strict: bool,
    profile: Profile,
    allow_permissive: bool,
    enable_lexicographic: bool,
    enable_deep_equals: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Profile {
    #[default]
    StrictCoreV1,
}

impl Default for ValidationTable {
    fn default() -> Self {
        Self {
            strict: true,
            profile: Profile::default(),
            allow_permissive: false,
            enable_lexicographic: false,
            enable_deep_equals: false,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DiscoveryTable {
    allowlist: BTreeSet<String>,
    denylist: BTreeSet<String>,
    max_response_bytes: Option<u64>,
}

/// Whose promises are shown, and at what length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    allowed: BTreeSet<String>,
    denied: BTreeSet<String>,
    /// Bytes of one answer.
    pub response_bytes_max: u64,
}

impl Discovery {
    /// Whether what `provider` promises is shown.
    pub fn shows(&self, provider: &ProviderId) -> bool {
        let listed = |list: &BTreeSet<String>| list.contains(provider.as_str());
        !listed(&self.denied) && (self.allowed.is_empty() || listed(&self.allowed))
    }
}

/// Bytes of one answer about a provider, unless the config says otherwise.
const RESPONSE_BYTES: u64 = 1_048_576;

pub(super) fn discovery(table: DiscoveryTable) -> Result<Discovery, ConfigError> {
    let DiscoveryTable { allowlist, denylist, max_response_bytes } = table;
    for (key, list) in [("allowlist", &allowlist), ("denylist", &denylist)] {
        if list.iter().any(|name| name.trim().is_empty()) {
            return Err(wrong(format!("provider_discovery.{key}"), "must not hold an empty name"));
        }
    }
    match max_response_bytes.unwrap_or(RESPONSE_BYTES) {
        0 => Err(wrong("provider_discovery.max_response_bytes", "must be at least 1")),
        response_bytes_max => Ok(Discovery { allowed: allowlist, denied: denylist, response_bytes_max }),
    }
}

/// How strictly conditions are held against what providers promise.
pub(super) fn validation(table: &ValidationTable) -> Result<Option<StrictOptions>, ConfigError> {
    let Profile::StrictCoreV1 = table.profile;
    if !table.strict && !table.allow_permissive {
        let problem = "validation.strict=false requires validation.allow_permissive=true";
        return Err(wrong("validation.strict", problem));
    }
    Ok(table.strict.then_some(StrictOptions {
        enable_lexicographic: table.enable_lexicographic,
        enable_deep_equals: table.enable_deep_equals,
    }))
}

/// Who is asked for evidence, and what they promise.
pub(super) struct Providers {
    pub(super) registry: Registry,
    pub(super) contracts: Contracts,
}

pub(super) fn providers(
    tables: Vec<ProviderTable>,
    trust: &Trust,
    missing: Missing,
    warnings: &mut Vec<String>,
) -> Result<Providers, ConfigError> {
    let mut found = Providers { registry: Registry::default(), contracts: Contracts::default() };
    for table in tables {
        let name = table.name.trim().to_owned();
        let key = format!("providers.{name}");
        let id = ProviderId::from(name.as_str());
        if found.registry.contains(&id) {
            return Err(wrong(key, format!("duplicate provider name: {name}")));
        }
        let (provider, contract) = match table.kind {
            ProviderKind::Builtin => {
                if !table.command.is_empty() || table.url.is_some() || table.capabilities_path.is_some() {
                    let problem =
                        "a built-in provider has no command, url or capabilities_path\nhint: set type = \"mcp\"";
                    return Err(wrong(key, problem));
                }
                builtin(&name, table.config, &key, missing, warnings)?
            }
            ProviderKind::Mcp => external(id.clone(), &table, &key)?,
        };
        let provider = believed(provider, table.trust.as_ref().unwrap_or(&trust.default_policy), trust, &key)?;
        let contract = contract.map_err(|error| wrong(key.clone(), error.to_string()))?;
        found.contracts.insert(contract).map_err(|error| wrong(key, error.to_string()))?;
        found.registry.insert(id, provider);
    }
    Ok(found)
}

type Built = (Arc<dyn Provider>, Result<Contract, ContractError>);

fn builtin(
    name: &str,
    config: Option<toml::Value>,
    key: &str,
    missing: Missing,
    warnings: &mut Vec<String>,
) -> Result<Built, ConfigError> {
    let config = config.unwrap_or_else(|| toml::Value::Table(toml::Table::new()));
    let refused = |error: runpack_providers::ConfigError| {
        let text = error.to_string();
        // Which member it is, it says itself.
        match text.strip_prefix(&format!("{key} ")).and_then(|text| text.split_once(": ")) {
            Some((member, problem)) => wrong(format!("{key}.{member}"), problem),
            None => wrong(format!("{key}.config"), text),
        }
    };
    Ok(match name {
        "time" => {
            let config: TimeConfig = section(config, key)?;
            let contract = config.contract();
            (Arc::new(config.build().map_err(refused)?), contract)
        }
        "env" => {
            let config: EnvConfig = section(config, key)?;
            warnings.extend(config.warnings());
            let contract = config.contract();
            (Arc::new(config.build().map_err(refused)?), contract)
        }
        "json" => {
            let mut config: JsonConfig = section(config, key)?;
            let contract = config.contract();
            config.root = there(&config.root, missing, &format!("{key}.config.root"))?;
            (Arc::new(config.build().map_err(refused)?), contract)
        }
        "http" => {
            let config: HttpConfig = section(config, key)?;
            warnings.extend(config.warnings());
            let contract = config.contract();
            (Arc::new(config.build().map_err(refused)?), contract)
        }
        other => {
            let problem = format!("unknown builtin provider: {other}\nhint: there are time, env, json and http");
            return Err(wrong(key, problem));
        }
    })
}

/// Bounds of the time to connect, and of the time for a whole question.
const CONNECT_MS: std::ops::RangeInclusive<u64> = 100..=10_000;
const REQUEST_MS: std::ops::RangeInclusive<u64> = 500..=30_000;

fn external(id: ProviderId, table: &ProviderTable, key: &str) -> Result<Built, ConfigError> {
    if ["time", "env", "json", "http"].contains(&id.as_str()) {
        return Err(wrong(key, format!("provider name reserved for builtin: {id}")));
    }
    if table.config.is_some() {
        return Err(wrong(format!("{key}.config"), "only built-in providers have one"));
    }
    let target = match (&table.command, &table.url) {
        (command, None) if !command.is_empty() => {
            McpTarget::Command { command: command.clone(), pass_env: table.pass_env.clone() }
        }
        (command, Some(url)) if command.is_empty() => McpTarget::Url {
            url: url.clone(),
            allow_insecure_http: table.allow_insecure_http,
            bearer_token: table.auth.bearer_token.clone(),
        },
        (_, None) => return Err(wrong(key, "mcp provider requires command or url")),
        (_, Some(_)) => return Err(wrong(key, "has a command and a url\nhint: keep one of them")),
    };
    let Some(path) = &table.capabilities_path else {
        let problem = "an external provider needs the file of its contract\n\
                       hint: `docs/how-to/external-provider.md` shows one; name its path here";
        return Err(wrong(format!("{key}.capabilities_path"), problem));
    };
    let within = |name: &str, value: Option<u64>, usual: Duration, range: std::ops::RangeInclusive<u64>| match value {
        None => Ok(usual),
        Some(value) if range.contains(&value) => Ok(Duration::from_millis(value)),
        Some(_) => {
            let problem = format!("must be between {} and {}", range.start(), range.end());
            Err(wrong(format!("{key}.timeouts.{name}"), problem))
        }
    };
    let mut config = McpConfig::new(id, target);
    let timeouts = &table.timeouts;
    config.connect_timeout =
        within("connect_timeout_ms", timeouts.connect_timeout_ms, config.connect_timeout, CONNECT_MS)?;
    config.request_timeout =
        within("request_timeout_ms", timeouts.request_timeout_ms, config.request_timeout, REQUEST_MS)?;
    if config.request_timeout < config.connect_timeout {
        return Err(wrong(format!("{key}.timeouts.request_timeout_ms"), "must not be below connect_timeout_ms"));
    }
    config.default_lane = table.default_lane.unwrap_or(config.default_lane);
    config.dialect = match table.dialect {
        Dialect::Auto => McpDialect::Auto,
        Dialect::Reference => McpDialect::Reference,
        Dialect::Standard => McpDialect::Standard,
    };
    let contract = config.contract(&contract_file(path, key)?);
    let provider = config.build().map_err(|error| wrong(key, error.to_string()))?;
    Ok((Arc::new(provider), contract))
}

fn contract_file(path: &Path, key: &str) -> Result<Vec<u8>, ConfigError> {
    let failed = |error: std::io::Error| {
        wrong(
            format!("{key}.capabilities_path"),
            format!("contract_read_failed: cannot read `{}`: {error}", path.display()),
        )
    };
    read_within(path, CONTRACT_BYTES_MAX as u64).map_err(failed)
}

/// The directory, made if that is wanted; if it is only to be imagined, the
/// nearest that is there.
pub(super) fn there(directory: &Path, missing: Missing, key: &str) -> Result<PathBuf, ConfigError> {
    if missing == Missing::Refuse || directory.exists() {
        return Ok(directory.to_owned());
    }
    if missing == Missing::Make {
        let failed = |error: std::io::Error| wrong(key, format!("cannot make `{}`: {error}", directory.display()));
        std::fs::create_dir_all(directory).map_err(failed)?;
        return Ok(directory.to_owned());
    }
    let here = Path::new(".");
    let named = |path: &&Path| !path.as_os_str().is_empty();
    let nearest = directory.ancestors().filter(named).find(|path| path.exists()).unwrap_or(here);
    if nearest.is_dir() {
        return Ok(nearest.to_owned());
    }
    Err(wrong(key, format!("cannot make `{}`: `{}` is no directory", directory.display(), nearest.display())))
}

/// The provider, believed only as far as the policy says.
fn believed(
    provider: Arc<dyn Provider>,
    policy: &TrustPolicy,
    trust: &Trust,
    key: &str,
) -> Result<Arc<dyn Provider>, ConfigError> {
    let TrustPolicy::RequireSignature(SignatureTable { keys }) = policy else { return Ok(provider) };
    let keys = Keys::load(keys).map_err(|error| wrong(format!("{key}.trust"), error.to_string()))?;
    let weakest = match trust.signature_form {
        SignatureForm::ValueOnly => Form::ValueOnly,
        SignatureForm::Bound => Form::Bound,
    };
    Ok(Arc::new(Signed::new(provider, keys, weakest)))
}

fn section<T: for<'de> Deserialize<'de>>(config: toml::Value, key: &str) -> Result<T, ConfigError> {
    config.try_into().map_err(|error: toml::de::Error| wrong(format!("{key}.config"), error.message().to_owned()))
}
