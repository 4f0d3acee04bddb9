use std::collections::BTreeSet;
use std::ffi::OsString;

use futures_util::future::{BoxFuture, FutureExt, ready};
use runpack_core::model::{EvidenceContext, EvidenceQuery, EvidenceResult, Lane};
use serde::Deserialize;

use crate::Provider;
use crate::query::{self, BadQuery};

/// Looks a variable up; `None` is a variable that is not set.
pub(crate) type Environment = Box<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

/// Answers `get` from environment variables, at the time of asking.
///
/// Only keys on the allowlist are looked at: the daemon's own secrets are in
/// the same environment. A variable that is not set is no value and no error.
pub struct EnvProvider {
    pub(crate) any: bool,
    pub(crate) allowed: BTreeSet<String>,
    pub(crate) denied: BTreeSet<String>,
    pub(crate) key_bytes_max: u64,
    pub(crate) value_bytes_max: u64,
    pub(crate) environment: Environment,
}

#[derive(Debug, thiserror::Error)]
enum EnvError {
    #[error("env key exceeds limit")]
    LongKey,
    #[error("env key blocked by policy")]
    Blocked,
    #[error("env value exceeds limit")]
    LongValue,
    #[error("env value is not valid utf-8")]
    NotUtf8,
    #[error(transparent)]
    Query(#[from] BadQuery),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    key: String,
}

impl Provider for EnvProvider {
    fn query<'a>(&'a self, query: &'a EvidenceQuery, _: &'a EvidenceContext) -> BoxFuture<'a, EvidenceResult> {
        ready(self.answer(query).unwrap_or_else(query::failed)).boxed()
    }
}

impl EnvProvider {
    fn answer(&self, query: &EvidenceQuery) -> Result<EvidenceResult, EnvError> {
        if query.check_id.as_str() != "get" {
            return Err(BadQuery::Check(query.check_id.clone()).into());
        }
        let Params { key } = query::params(query)?;
        if key.len() as u64 > self.key_bytes_max {
            return Err(EnvError::LongKey);
        }
        if self.denied.contains(&key) || !(self.any || self.allowed.contains(&key)) {
            return Err(EnvError::Blocked);
        }
        let result = match (self.environment)(&key) {
            None => EvidenceResult::empty(Lane::Verified),
            Some(value) if value.len() as u64 > self.value_bytes_max => return Err(EnvError::LongValue),
            Some(value) => {
                let text = value.into_string().map_err(|_| EnvError::NotUtf8)?;
                query::found(text.into(), "text/plain")
            }
        };
        Ok(EvidenceResult { evidence_anchor: query::anchor("env", key), ..result })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use runpack_core::model::EvidenceValue;
    use serde_json::{Value, json};

    use super::*;
    use crate::EnvConfig;
    use crate::gather::tests::query;

    fn config() -> EnvConfig {
        EnvConfig {
            allowlist: ["DEPLOY_ENV", "UNSET", "BOTH", "LONG", "BYTES"].map(str::to_owned).to_vec(),
            denylist: vec!["BOTH".to_owned()],
            max_value_bytes: 10,
            ..EnvConfig::default()
        }
    }

    fn environment() -> Environment {
        Box::new(|key| match key {
            "DEPLOY_ENV" | "BOTH" | "SECRET" => Some("production".into()),
            "LONG" => Some("production!".into()),
            #[cfg(unix)]
            "BYTES" => Some(std::os::unix::ffi::OsStringExt::from_vec(vec![0xff])),
            _ => None,
        })
    }

    fn ask(provider: &EnvProvider, key: &str) -> Result<EvidenceResult, String> {
        provider.answer(&query("env", "get", Some(json!({"key": key})))).map_err(|error| error.to_string())
    }

    #[test]
    fn a_set_variable_is_text_and_an_unset_one_is_no_value() {
        let provider = config().build_with(environment());
        let set = ask(&provider, "DEPLOY_ENV").unwrap();
        assert_eq!(set.value, Some(EvidenceValue::Json(json!("production"))));
        assert_eq!(set.content_type.as_deref(), Some("text/plain"));
        assert_eq!(set.evidence_anchor, query::anchor("env", "DEPLOY_ENV"));
        assert_eq!(set.evidence_ref, None);
        let unset = ask(&provider, "UNSET").unwrap();
        let bare =
            EvidenceResult { evidence_anchor: query::anchor("env", "UNSET"), ..EvidenceResult::empty(Lane::Verified) };
        assert_eq!(unset, bare);
    }

    #[test]
    fn nothing_is_readable_that_is_not_named() {
        let provider = config().build_with(environment());
        for key in ["SECRET", "BOTH", "", "deploy_env", "DEPLOY_ENV "] {
            assert_eq!(ask(&provider, key), Err("env key blocked by policy".to_owned()), "{key}");
        }
        let unconfigured = EnvConfig::default().build_with(environment());
        assert_eq!(ask(&unconfigured, "DEPLOY_ENV"), Err("env key blocked by policy".to_owned()));
    }

    #[test]
    fn any_key_may_be_allowed_and_some_denied() {
        let config = EnvConfig { allowlist: vec![crate::config::ANY.to_owned()], ..config() };
        let provider = config.build_with(environment());
        assert!(ask(&provider, "SECRET").unwrap().value.is_some());
        assert_eq!(ask(&provider, "BOTH"), Err("env key blocked by policy".to_owned()));
    }

    #[test]
    fn keys_and_values_have_limits_in_bytes() {
        let provider = config().build_with(environment());
        assert_eq!(ask(&provider, "LONG"), Err("env value exceeds limit".to_owned()));
        assert_eq!(ask(&provider, &"é".repeat(128)), Err("env key exceeds limit".to_owned()));
        assert_eq!(ask(&provider, &"k".repeat(255)), Err("env key blocked by policy".to_owned()));
        #[cfg(unix)]
        assert_eq!(ask(&provider, "BYTES"), Err("env value is not valid utf-8".to_owned()));
    }

    #[test]
    fn overrides_replace_the_process_environment() {
        let overrides = BTreeMap::from([("RUNPACK_TEST".to_owned(), "yes".to_owned())]);
        let allowlist = ["PATH", "RUNPACK_TEST"].map(str::to_owned).to_vec();
        let real = EnvConfig { allowlist: allowlist.clone(), ..EnvConfig::default() }.build().unwrap();
        assert!(ask(&real, "PATH").unwrap().value.is_some());
        let fixed = EnvConfig { allowlist, overrides: Some(overrides), ..EnvConfig::default() }.build().unwrap();
        assert_eq!(ask(&fixed, "PATH").unwrap().value, None);
        assert_eq!(ask(&fixed, "RUNPACK_TEST").unwrap().value, Some(EvidenceValue::Json(json!("yes"))));
    }

    #[test]
    fn says_what_is_wrong_with_a_query() {
        let provider = config().build_with(environment());
        let rows: [(&str, Option<Value>, &str); 4] = [
            ("set", None, "unknown check: set"),
            ("get", None, "missing params"),
            ("get", Some(json!({})), "invalid params: missing field `key`"),
            ("get", Some(json!({"key": 5})), "invalid params: invalid type: integer `5`, expected a string"),
        ];
        for (check, params, text) in rows {
            assert_eq!(provider.answer(&query("env", check, params)).unwrap_err().to_string(), text);
        }
    }
}
