use std::collections::BTreeMap;
use std::fmt;

use runpack_core::model::{ConditionSpec, EvidenceQuery, ProviderId};

use crate::contract::{Check, Contract, ContractError};
use crate::expected;

/// What a scenario or a query asks and no provider promises.
///
/// `Display` is `code: text`, which is the message on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilityError {
    /// What kind of thing is wrong.
    pub code: CapabilityCode,
    /// What, and what to do about it.
    pub text: String,
}

impl fmt::Display for CapabilityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.text)
    }
}

impl std::error::Error for CapabilityError {}

/// The kinds of [`CapabilityError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapabilityCode {
    /// Nobody of that name is configured.
    ProviderMissing,
    /// The provider has no such check.
    CheckMissing,
    /// The check cannot do without params.
    ParamsMissing,
    /// The params are not as the check takes them.
    ParamsInvalid,
    /// The answer could not be compared with what is expected.
    ExpectedInvalid,
    /// The answer may not be compared in this way.
    ComparatorNotAllowed,
}

impl CapabilityCode {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProviderMissing => "provider_missing",
            Self::CheckMissing => "check_missing",
            Self::ParamsMissing => "params_missing",
            Self::ParamsInvalid => "params_invalid",
            Self::ExpectedInvalid => "expected_invalid",
            Self::ComparatorNotAllowed => "comparator_not_allowed",
        }
    }

    fn error(self, text: impl Into<String>) -> CapabilityError {
        CapabilityError { code: self, text: text.into() }
    }
}

/// The contracts of a deployment's providers, by id.
#[derive(Debug, Clone, Default)]
pub struct Contracts(BTreeMap<ProviderId, Contract>);

impl Contracts {
    /// Adds a contract.
    ///
    /// # Errors
    /// [`ContractError::Duplicate`]; the one that was there stays.
    pub fn insert(&mut self, contract: Contract) -> Result<(), ContractError> {
        if self.0.contains_key(contract.id()) {
            return Err(ContractError::Duplicate(contract.id().clone()));
        }
        self.0.insert(contract.id().clone(), contract);
        Ok(())
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Contract> {
        self.0.values()
    }

    /// What `provider` promises.
    pub fn get(&self, provider: &ProviderId) -> Option<&Contract> {
        self.0.get(provider)
    }

    /// The ids, in order.
    pub fn ids(&self) -> impl Iterator<Item = &ProviderId> {
        self.0.keys()
    }

    /// Whether `condition` asks what a provider promises, and expects what its
    /// answer may be compared with. Which comparators make sense for an answer
    /// at all is the question of [`crate::strict::admit`].
    ///
    /// # Errors
    /// The first thing that is wrong. Texts begin with the condition's id.
    pub fn admit_condition(&self, condition: &ConditionSpec) -> Result<(), CapabilityError> {
        self.admitted(condition).map_err(|error| CapabilityError {
            text: format!("condition `{}`: {}", condition.condition_id, error.text),
            ..error
        })
    }

    fn admitted(&self, condition: &ConditionSpec) -> Result<(), CapabilityError> {
        let check = self.asked(&condition.query)?;
        let comparator = condition.comparator;
        let allowed = &check.spec().allowed_comparators;
        if !allowed.contains(&comparator) {
            let allowed: Vec<_> = allowed.iter().map(|comparator| comparator.as_str()).collect();
            return Err(CapabilityCode::ComparatorNotAllowed.error(format!(
                "comparator {comparator} not allowed for {}\nhint: it takes {}",
                name(&condition.query),
                allowed.join(", ")
            )));
        }
        expected::admit(check.result(), comparator, condition.expected.as_ref())
            .map_err(|error| CapabilityCode::ExpectedInvalid.error(error.to_string()))
    }

    /// Whether `query` asks what a provider promises.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn admit_query(&self, query: &EvidenceQuery) -> Result<(), CapabilityError> {
        self.asked(query).map(drop)
    }

    fn asked(&self, query: &EvidenceQuery) -> Result<&Check, CapabilityError> {
        let Some(contract) = self.get(&query.provider_id) else {
            let text =
                format!("provider {} is not configured\nhint: there are: {}", query.provider_id, listed(self.ids()));
            return Err(CapabilityCode::ProviderMissing.error(text));
        };
        let Some(check) = contract.check(&query.check_id) else {
            let there_are = listed(contract.checks().map(|check| &check.spec().check_id));
            let text =
                format!("provider {} has no check {}\nhint: there are: {there_are}", query.provider_id, query.check_id);
            return Err(CapabilityCode::CheckMissing.error(text));
        };
        match &query.params {
            None if check.spec().params_required => {
                Err(CapabilityCode::ParamsMissing.error(format!("{} needs params", name(query))))
            }
            None => Ok(check),
            Some(params) => match check.params().check(params) {
                Ok(()) => Ok(check),
                Err(mismatch) => {
                    Err(CapabilityCode::ParamsInvalid.error(format!("params of {}: {mismatch}", name(query))))
                }
            },
        }
    }
}

fn name(query: &EvidenceQuery) -> String {
    format!("{}.{}", query.provider_id, query.check_id)
}

fn listed(names: impl Iterator<Item = impl fmt::Display>) -> String {
    let names: Vec<_> = names.map(|name| name.to_string()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::gather::tests::query;
    use crate::{BodyHashForm, EnvConfig, HttpConfig, JsonConfig, TimeConfig};

    fn contracts(form: BodyHashForm) -> Contracts {
        let json: JsonConfig = serde_json::from_value(json!({"root": "/", "root_id": "r"})).unwrap();
        let http = HttpConfig { body_hash_form: form, ..HttpConfig::default() };
        let mut contracts = Contracts::default();
        for contract in
            [TimeConfig::default().contract(), EnvConfig::default().contract(), json.contract(), http.contract()]
        {
            contracts.insert(contract.unwrap()).unwrap();
        }
        contracts
    }

    fn condition(check: &str, params: &Value, comparator: &str, expected: &Value) -> ConditionSpec {
        let (provider, check) = check.split_once('.').unwrap();
        serde_json::from_value(json!({
            "condition_id": "c", "query": {"provider_id": provider, "check_id": check, "params": params},
            "comparator": comparator, "expected": expected, "policy_tags": [],
        }))
        .unwrap()
    }

    fn said(check: &str, params: &Value, comparator: &str, expected: &Value) -> String {
        let condition = condition(check, params, comparator, expected);
        contracts(BodyHashForm::Digest)
            .admit_condition(&condition)
            .map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn what_is_promised_may_be_asked() {
        let url = json!({"url": "https://a"});
        let rows = [
            ("time.now", Value::Null, "greater_than", json!(5)),
            ("time.now", json!({}), "in_set", json!([1, 2])),
            ("time.after", json!({"timestamp": "2024-01-01T00:00:00Z"}), "equals", json!(true)),
            ("time.before", json!({"timestamp": 0}), "exists", Value::Null),
            ("env.get", json!({"key": "A"}), "contains", json!("x")),
            ("env.get", json!({"key": "A"}), "in_set", json!(["x", null])),
            ("env.get", json!({"key": "A"}), "not_exists", Value::Null),
            ("json.path", json!({"file": "a"}), "deep_equals", json!({"a": [1]})),
            ("json.path", json!({"file": "a", "jsonpath": "$"}), "less_than", json!("2024-01-01")),
            ("json.path", json!({"file": "a"}), "contains", json!([1, "x"])),
            ("http.status", url.clone(), "less_than", json!(500)),
            ("http.body_hash", url, "exists", Value::Null),
        ];
        for (check, params, comparator, expected) in rows {
            assert_eq!(said(check, &params, comparator, &expected), "", "{check} {comparator}");
        }
    }

    #[test]
    fn what_is_not_promised_is_said_by_code_and_sentence() {
        let key = || json!({"key": "A"});
        let rows = [
            (
                "git.log",
                Value::Null,
                "exists",
                Value::Null,
                "provider_missing: condition `c`: provider git is not configured\nhint: there are: env, http, json, time",
            ),
            (
                "time.later",
                Value::Null,
                "exists",
                Value::Null,
                "check_missing: condition `c`: provider time has no check later\nhint: there are: now, after, before",
            ),
            ("env.get", Value::Null, "exists", Value::Null, "params_missing: condition `c`: env.get needs params"),
            ("env.get", json!({"key": 1}), "exists", Value::Null, "params_invalid: condition `c`: params of env.get: "),
            ("env.get", json!({"key": "A", "kye": 1}), "exists", Value::Null, "params_invalid: "),
            ("time.now", json!({"zone": "UTC"}), "exists", Value::Null, "params_invalid: "),
            ("json.path", json!({"file": "a", "jsonpath": null}), "exists", Value::Null, "params_invalid: "),
            (
                "env.get",
                key(),
                "greater_than",
                json!("a"),
                "comparator_not_allowed: condition `c`: comparator greater_than not allowed for env.get\nhint: it takes equals, not_equals, contains, in_set, exists, not_exists",
            ),
            (
                "http.body_hash",
                json!({"url": "https://a"}),
                "equals",
                json!({"algorithm": "sha256", "value": ""}),
                "comparator_not_allowed: ",
            ),
            ("time.now", Value::Null, "equals", json!("soon"), "expected_invalid: condition `c`: expected value: "),
            ("time.now", Value::Null, "greater_than", json!(1.5), "expected_invalid: "),
            (
                "time.now",
                Value::Null,
                "in_set",
                json!(1),
                "expected_invalid: condition `c`: expected array required for comparator in_set",
            ),
            ("time.now", Value::Null, "in_set", json!([1, "x"]), "expected_invalid: condition `c`: expected value 1: "),
            (
                "time.now",
                Value::Null,
                "exists",
                json!(1),
                "expected_invalid: condition `c`: comparator exists takes no expected value",
            ),
            (
                "env.get",
                key(),
                "equals",
                Value::Null,
                "expected_invalid: condition `c`: comparator equals needs an expected value\n",
            ),
            (
                "env.get",
                key(),
                "contains",
                json!(1),
                "expected_invalid: condition `c`: expected string or array required for comparator contains",
            ),
            (
                "json.path",
                json!({"file": "a"}),
                "greater_than",
                json!("b"),
                "expected_invalid: condition `c`: expected number, date or date-time required for comparator greater_than",
            ),
            (
                "json.path",
                json!({"file": "a"}),
                "lex_less_than",
                json!(1),
                "expected_invalid: condition `c`: expected string required for comparator lex_less_than",
            ),
            (
                "json.path",
                json!({"file": "a"}),
                "deep_equals",
                json!("b"),
                "expected_invalid: condition `c`: expected array or object required for comparator deep_equals",
            ),
        ];
        for (check, params, comparator, expected, text) in rows {
            let found = said(check, &params, comparator, &expected);
            assert!(found.starts_with(text), "{text}\n{found}");
        }
    }

    #[test]
    fn a_body_hash_is_compared_where_it_is_offered_as_text() {
        let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let url = json!({"url": "https://a"});
        let offered = [("equals", json!(digest)), ("not_equals", json!(digest)), ("in_set", json!([digest]))];
        for (comparator, expected) in offered {
            let condition = condition("http.body_hash", &url, comparator, &expected);
            assert_eq!(contracts(BodyHashForm::Hex).admit_condition(&condition), Ok(()));
            let error = contracts(BodyHashForm::Digest).admit_condition(&condition).unwrap_err();
            assert_eq!(error.code, CapabilityCode::ComparatorNotAllowed);
        }
        for wrong in [json!(digest.to_uppercase()), json!("sha256:9f"), json!({"algorithm": "sha256", "value": digest})]
        {
            let condition = condition("http.body_hash", &url, "equals", &wrong);
            let error = contracts(BodyHashForm::Hex).admit_condition(&condition).unwrap_err();
            assert_eq!(error.code, CapabilityCode::ExpectedInvalid);
        }
    }

    #[test]
    fn a_query_is_admitted_by_provider_check_and_params() {
        let contracts = contracts(BodyHashForm::Digest);
        assert_eq!(contracts.admit_query(&query("time", "now", None)), Ok(()));
        assert_eq!(contracts.admit_query(&query("env", "get", Some(json!({"key": "A"})))), Ok(()));
        let rows = [
            (query("git", "log", None), CapabilityCode::ProviderMissing, "provider git is not configured"),
            (query("time", "then", None), CapabilityCode::CheckMissing, "provider time has no check then"),
            (query("time", "after", None), CapabilityCode::ParamsMissing, "time.after needs params"),
            (query("time", "after", Some(json!([]))), CapabilityCode::ParamsInvalid, "params of time.after: "),
        ];
        for (query, code, text) in rows {
            let error = contracts.admit_query(&query).unwrap_err();
            assert_eq!(error.code, code);
            assert!(error.text.starts_with(text), "{error}");
        }
    }

    #[test]
    fn a_secret_in_params_is_not_repeated() {
        let error = contracts(BodyHashForm::Digest)
            .admit_query(&query("env", "get", Some(json!({"key": ["hunter2"]}))))
            .unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn a_provider_has_one_contract() {
        let mut contracts = contracts(BodyHashForm::Digest);
        let error = contracts.insert(HttpConfig::default().contract().unwrap()).unwrap_err();
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            ("duplicate_provider", "duplicate_provider: provider http has a contract already")
        );
        assert_eq!(contracts.ids().map(ProviderId::as_str).collect::<Vec<_>>(), ["env", "http", "json", "time"]);
        assert!(contracts.get(&"git".into()).is_none());
    }
}
