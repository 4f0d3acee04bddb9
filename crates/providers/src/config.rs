use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use runpack_core::canon::Sha256Name;
use runpack_core::model::ProviderId;
use serde::Deserialize;

use crate::address::Reach;
use crate::contract::{Contract, ContractError, builtin};
use crate::env::{EnvProvider, Environment};
use crate::http::{self, HttpProvider};
use crate::json::JsonProvider;
use crate::time::TimeProvider;

/// Why a provider cannot be made from its `config` table.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The directory cannot be opened.
    #[error("providers.json config.root: cannot open `{}`: {source}", root.display())]
    JsonRoot {
        /// As configured.
        root: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The id is not what evidence may be named after.
    #[error("providers.json config.root_id: `{0}` is not 1 to 64 of a-z, 0-9, `_` and `-`")]
    JsonRootId(String),
    /// An entry is more or less than a host.
    #[error(
        "providers.http config.allowed_hosts: `{0}` is not a host\nhint: give names or addresses, without scheme, port, path or wildcard"
    )]
    HttpHost(String),
    /// No header can carry it.
    #[error("providers.http config.user_agent: `{0}` cannot be sent as a header")]
    HttpUserAgent(String),
    /// There is no program to start.
    #[error("providers.{0} command: names no program")]
    McpCommand(ProviderId),
    /// The URL cannot be asked.
    #[error("providers.{0} url: {1}")]
    McpUrl(ProviderId, String),
    /// No header can carry it.
    #[error("providers.{0} auth.bearer_token: cannot be sent as a header")]
    McpToken(ProviderId),
    /// The HTTP client cannot be made, as when the system's certificates
    /// cannot be read.
    #[error("providers.{0}: {1}")]
    McpClient(ProviderId, #[source] reqwest::Error),
}

/// The `config` table of the provider `time`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeConfig {
    /// Whether triggers timed by a logical counter are answered. Default true.
    pub allow_logical: bool,
}

impl Default for TimeConfig {
    fn default() -> Self {
        Self { allow_logical: true }
    }
}

impl TimeConfig {
    /// What the provider promises.
    ///
    /// # Errors
    /// None: the contract is compiled in, and tested.
    pub fn contract(&self) -> Result<Contract, ContractError> {
        builtin::time()
    }

    /// The provider.
    ///
    /// # Errors
    /// None.
    pub fn build(self) -> Result<TimeProvider, ConfigError> {
        Ok(TimeProvider { allow_logical: self.allow_logical })
    }
}

/// In a list of what is allowed: everything.
pub(crate) const ANY: &str = "*";

/// The `config` table of the provider `env`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnvConfig {
    /// The only keys that are read; `*` is any. Default none: the reference reads
    /// any.
    pub allowlist: Vec<String>,
    /// Keys that are refused even if allowed. Default none.
    pub denylist: Vec<String>,
    /// Bytes of a value. Default 65536.
    pub max_value_bytes: u64,
    /// Bytes of a key. Default 255.
    pub max_key_bytes: u64,
    /// When given, these variables and no others, instead of the process
    /// environment. The lists still apply.
    pub overrides: Option<BTreeMap<String, String>>,
}

impl Default for EnvConfig {
    fn default() -> Self {
        Self {
            allowlist: Vec::new(),
            denylist: Vec::new(),
            max_value_bytes: 65_536,
            max_key_bytes: 255,
            overrides: None,
        }
    }
}

impl EnvConfig {
    /// What the provider promises.
    ///
    /// # Errors
    /// None: the contract is compiled in, and tested.
    pub fn contract(&self) -> Result<Contract, ContractError> {
        builtin::env()
    }

    /// The provider.
    ///
    /// # Errors
    /// None.
    pub fn build(mut self) -> Result<EnvProvider, ConfigError> {
        let environment: Environment = match self.overrides.take() {
            Some(overrides) => Box::new(move |key| overrides.get(key).map(Into::into)),
            None => Box::new(|key| std::env::var_os(key)),
        };
        Ok(self.build_with(environment))
    }

    pub(crate) fn build_with(self, environment: Environment) -> EnvProvider {
        EnvProvider {
            any: self.allowlist.iter().any(|key| key == ANY),
            allowed: self.allowlist.into_iter().collect(),
            denied: self.denylist.into_iter().collect(),
            key_bytes_max: self.max_key_bytes,
            value_bytes_max: self.max_value_bytes,
            environment,
        }
    }

    /// What an operator should hear at start, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        nothing_allowed("env", "allowlist", "key", &self.allowlist)
    }
}

/// The `config` table of the provider `json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonConfig {
    /// The directory that files are read beneath. Required, and must exist.
    pub root: PathBuf,
    /// What evidence calls the directory: 1 to 64 of `a-z`, `0-9`, `_` and `-`. Required.
    pub root_id: String,
    /// Bytes of a file. Default 1 MiB.
    #[serde(default = "mebibyte")]
    pub max_bytes: u64,
    /// Whether `.yaml` and `.yml` files are read. Default true.
    #[serde(default = "yes")]
    pub allow_yaml: bool,
    /// What a JSONPath that selects nothing is. Default [`AbsentPath::Error`].
    #[serde(default)]
    pub absent_path: AbsentPath,
}

/// What a JSONPath that selects nothing is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbsentPath {
    /// The error `jsonpath_not_found`, as in the reference: the condition is Unknown.
    #[default]
    Error,
    /// No value and no error, so that `not_exists` can be True.
    NoValue,
}

fn mebibyte() -> u64 {
    1_048_576
}

fn yes() -> bool {
    true
}

impl JsonConfig {
    /// What the provider promises.
    ///
    /// # Errors
    /// None: the contract is compiled in, and tested.
    pub fn contract(&self) -> Result<Contract, ContractError> {
        builtin::json()
    }

    /// The provider. Opens the root, which stays the same directory even if
    /// its path comes to mean another.
    ///
    /// # Errors
    /// [`ConfigError::JsonRoot`] and [`ConfigError::JsonRootId`].
    pub fn build(self) -> Result<JsonProvider, ConfigError> {
        let named = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        if !(1..=64).contains(&self.root_id.len()) || !self.root_id.bytes().all(named) {
            return Err(ConfigError::JsonRootId(self.root_id));
        }
        JsonProvider::open(&self).map_err(|source| ConfigError::JsonRoot { root: self.root, source })
    }
}

/// The `config` table of the provider `http`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Whether `http:` URLs are asked besides `https:`. Default false.
    pub allow_http: bool,
    /// Milliseconds from asking to the last byte of the body. Default 5000.
    pub timeout_ms: u64,
    /// Bytes of a body. Default 1 MiB.
    pub max_response_bytes: u64,
    /// The only hosts that are asked: names or IP addresses, compared whole
    /// and without regard to case; `*` is any. Default none: the reference asks
    /// any.
    pub allowed_hosts: Vec<String>,
    /// The only ports that are asked. Default 443, and 80 with `allow_http`.
    pub allowed_ports: Option<Vec<u16>>,
    /// Whether hosts may be on this machine or its own network
    /// ([`Reach::Internal`]). Default false.
    pub allow_private_addresses: bool,
    /// The `user-agent` header. Default `decision-gate/0.1`.
    pub user_agent: String,
    /// `sha256`; there is no other.
    pub hash_algorithm: Sha256Name,
    /// What `body_hash` answers. Default [`BodyHashForm::Digest`].
    pub body_hash_form: BodyHashForm,
}

/// What `body_hash` answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyHashForm {
    /// `{"algorithm":"sha256","value":"<64 hex>"}`, as in the reference.
    #[default]
    Digest,
    /// The 64 lower-case hexadecimal digits, which `equals` and `in_set` can compare.
    Hex,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            allow_http: false,
            timeout_ms: 5_000,
            max_response_bytes: mebibyte(),
            allowed_hosts: Vec::new(),
            allowed_ports: None,
            allow_private_addresses: false,
            user_agent: "decision-gate/0.1".to_owned(),
            hash_algorithm: Sha256Name,
            body_hash_form: BodyHashForm::Digest,
        }
    }
}

impl HttpConfig {
    /// What the provider promises. How `body_hash` may be compared depends on [`HttpConfig::body_hash_form`].
    ///
    /// # Errors
    /// None: the contract is compiled in, and tested.
    pub fn contract(&self) -> Result<Contract, ContractError> {
        builtin::http(self.body_hash_form)
    }

    /// The provider.
    ///
    /// # Errors
    /// [`ConfigError::HttpHost`] and [`ConfigError::HttpUserAgent`].
    pub fn build(self) -> Result<HttpProvider, ConfigError> {
        HttpProvider::new(&self, http::system_lookup())
    }

    pub(crate) fn hosts(&self) -> Result<BTreeSet<String>, ConfigError> {
        let host = |text: &String| http::host(text).ok_or_else(|| ConfigError::HttpHost(text.clone()));
        self.allowed_hosts.iter().filter(|host| *host != ANY).map(host).collect()
    }

    pub(crate) fn any_host(&self) -> bool {
        self.allowed_hosts.iter().any(|host| host == ANY)
    }

    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        match &self.allowed_ports {
            Some(ports) => ports.iter().copied().collect(),
            None if self.allow_http => BTreeSet::from([80, 443]),
            None => BTreeSet::from([443]),
        }
    }

    pub(crate) fn farthest(&self) -> Reach {
        if self.allow_private_addresses { Reach::Internal } else { Reach::Public }
    }

    /// What an operator should hear at start, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        nothing_allowed("http", "allowed_hosts", "url", &self.allowed_hosts)
    }
}

fn nothing_allowed(provider: &str, key: &str, what: &str, list: &[String]) -> Vec<String> {
    let warning = || format!("providers.{provider} config.{key} is empty: every {what} is refused");
    list.is_empty().then(warning).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn read<T: DeserializeOwned>(table: Value) -> Result<T, String> {
        serde_json::from_value(table).map_err(|error| error.to_string())
    }

    #[test]
    fn missing_members_have_the_defaults_of_the_catalogue() {
        assert_eq!(read(json!({})), Ok(TimeConfig { allow_logical: true }));
        assert_eq!(read(json!({})), Ok(EnvConfig::default()));
        assert_eq!(read(json!({})), Ok(HttpConfig::default()));
        let json: JsonConfig = read(json!({"root": "/srv", "root_id": "srv"})).unwrap();
        assert_eq!((json.max_bytes, json.allow_yaml, json.absent_path), (1_048_576, true, AbsentPath::Error));
        let http = HttpConfig::default();
        assert_eq!((http.timeout_ms, http.max_response_bytes, http.allow_http), (5_000, 1_048_576, false));
        assert_eq!(http.ports(), BTreeSet::from([443]));
        assert_eq!(HttpConfig { allow_http: true, ..http.clone() }.ports(), BTreeSet::from([80, 443]));
        assert_eq!(
            HttpConfig { allowed_ports: Some(vec![8443]), allow_http: true, ..http }.ports(),
            BTreeSet::from([8443])
        );
    }

    #[test]
    fn whole_tables_are_read() {
        let env: EnvConfig = read(json!({
            "allowlist": ["A"], "denylist": ["B"], "max_value_bytes": 1, "max_key_bytes": 2, "overrides": {"A": "x"},
        }))
        .unwrap();
        assert_eq!(env.overrides, Some(BTreeMap::from([("A".to_owned(), "x".to_owned())])));
        let http: HttpConfig = read(json!({
            "allow_http": true, "timeout_ms": 1, "max_response_bytes": 2, "allowed_hosts": ["a"], "user_agent": "u",
            "hash_algorithm": "sha256", "allowed_ports": [1], "allow_private_addresses": true, "body_hash_form": "hex",
        }))
        .unwrap();
        assert_eq!((http.body_hash_form, http.farthest()), (BodyHashForm::Hex, Reach::Internal));
        let json: JsonConfig =
            read(json!({"root": "/", "root_id": "r", "max_bytes": 3, "allow_yaml": false, "absent_path": "no_value"}))
                .unwrap();
        assert_eq!((json.max_bytes, json.absent_path), (3, AbsentPath::NoValue));
    }

    #[test]
    fn what_is_misspelt_or_missing_is_refused() {
        assert!(read::<TimeConfig>(json!({"allow_logic": true})).is_err());
        assert!(read::<EnvConfig>(json!({"allow_list": []})).is_err());
        assert!(read::<HttpConfig>(json!({"hash_algorithm": "md5"})).is_err());
        assert!(read::<HttpConfig>(json!({"body_hash_form": "base64"})).is_err());
        assert!(read::<HttpConfig>(json!({"allowed_ports": [65536]})).is_err());
        assert!(read::<JsonConfig>(json!({"root": "/"})).unwrap_err().contains("root_id"));
        assert!(read::<JsonConfig>(json!({"root_id": "r"})).unwrap_err().contains("root"));
    }

    #[test]
    fn an_empty_allowlist_is_worth_a_warning() {
        assert_eq!(EnvConfig::default().warnings(), ["providers.env config.allowlist is empty: every key is refused"]);
        assert_eq!(
            HttpConfig::default().warnings(),
            ["providers.http config.allowed_hosts is empty: every url is refused"]
        );
        let allowed = vec!["a".to_owned()];
        assert!(EnvConfig { allowlist: allowed.clone(), ..EnvConfig::default() }.warnings().is_empty());
        assert!(HttpConfig { allowed_hosts: allowed, ..HttpConfig::default() }.warnings().is_empty());
    }

    #[test]
    fn a_config_that_cannot_work_names_its_key() {
        let json = |root: &str, root_id: &str| {
            let table = json!({"root": root, "root_id": root_id});
            read::<JsonConfig>(table).unwrap().build().map(drop).unwrap_err().to_string()
        };
        assert!(
            json("/nonexistent-runpack", "r")
                .starts_with("providers.json config.root: cannot open `/nonexistent-runpack`: ")
        );
        for bad in ["", "A", "a/b", "a b", "é", &"a".repeat(65)] {
            assert!(json("/", bad).starts_with("providers.json config.root_id: "), "{bad}");
        }
        for bad in ["", "https://a", "a:443", "a/b", "*.example.com", "a@b", "a b", "..", "."] {
            let config = HttpConfig { allowed_hosts: vec![bad.to_owned()], ..HttpConfig::default() };
            let error = config.build().map(drop).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("providers.http config.allowed_hosts: `{bad}` is not a host")),
                "{error}"
            );
        }
        let config = HttpConfig { user_agent: "a\nb".to_owned(), ..HttpConfig::default() };
        assert!(matches!(config.build().map(drop), Err(ConfigError::HttpUserAgent(_))));
    }
}
