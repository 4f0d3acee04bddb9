//! The text of a config, and `compat`: whose defaults hold where it is silent.

use serde::de::DeserializeOwned;

use super::{ConfigError, nearest, unknown_key, wrong};

/// A config's text, with the keys known and the defaults filled in.
pub(super) struct Source<'a> {
    text: &'a str,
    path: &'a str,
    /// With what the reference system would have where the text is silent.
    filled: Option<toml::Table>,
    /// What `compat` opened, one sentence each.
    pub(super) warnings: Vec<String>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, path: &'a str) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) };
        let table: toml::Table = toml::from_str(text).map_err(failed)?;
        if let Some(key) = unknown_key(&table, "") {
            let problem = format!("there is no such key\nhint: `{}` looks most like it", nearest(&key));
            return Err(wrong(key, problem));
        }
        let source = Self { text, path, filled: None, warnings: Vec::new() };
        match table.get("compat").map(toml::Value::as_str) {
            None => Ok(source),
            Some(Some("decision-gate")) => {
                let (filled, warnings) = lenient(table);
                Ok(Self { filled: Some(filled), warnings, ..source })
            }
            Some(_) => Err(wrong("compat", "must be \"decision-gate\"\nhint: leave it out for our own defaults")),
        }
    }

    /// Reads what `T` has of it. Faults name their line, unless defaults were
    /// filled in.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let read = match &self.filled {
            None => toml::from_str(self.text),
            Some(table) => table.clone().try_into(),
        };
        read.map_err(|source| ConfigError::Parse { path: self.path.to_owned(), source: Box::new(source) })
    }
}

/// Fills in what the reference system would have where the config is silent and
/// ours would be narrower.
fn lenient(mut table: toml::Table) -> (toml::Table, Vec<String>) {
    let mut warnings = Vec::new();
    let mut fill = |table: &mut toml::Table, keys: &[&str], value: toml::Value, means: &str| {
        if set(table, keys, value) {
            warnings.push(format!("compat = \"decision-gate\": {means}"));
        }
    };
    let any = || toml::Value::from(vec!["*"]);
    fill(
        &mut table,
        &["server", "auth", "tenant_isolation"],
        false.into(),
        "roles do not keep callers to their tenants",
    );
    fill(&mut table, &["server", "audit", "enabled"], true.into(), "the audit log is kept");
    fill(&mut table, &["runpack", "roots"], vec!["/"].into(), "packs are exported and verified in any directory");
    let providers = table.get_mut("providers").and_then(toml::Value::as_array_mut);
    for provider in providers.into_iter().flatten().filter_map(toml::Value::as_table_mut) {
        let named = |provider: &toml::Table, name: &str| {
            let is = |key: &str, value: &str| provider.get(key).and_then(toml::Value::as_str) == Some(value);
            is("name", name) && is("type", "builtin")
        };
        if named(provider, "env") {
            fill(provider, &["config", "allowlist"], any(), "the provider env reads every variable");
        }
        if named(provider, "http") {
            fill(provider, &["config", "allowed_hosts"], any(), "the provider http asks every host");
            let ports: Vec<_> = (1..=i64::from(u16::MAX)).collect();
            fill(provider, &["config", "allowed_ports"], ports.into(), "the provider http asks every port");
            let means = "the provider http asks this machine and its network";
            fill(provider, &["config", "allow_private_addresses"], true.into(), means);
        }
    }
    (table, warnings)
}

/// Sets a key that is not there; whether it was not.
fn set(table: &mut toml::Table, keys: &[&str], value: toml::Value) -> bool {
    match keys {
        [] => false,
        [key] if table.contains_key(*key) => false,
        [key] => {
            table.insert((*key).to_owned(), value);
            true
        }
        [key, rest @ ..] => {
            let inner = table.entry(*key).or_insert_with(|| toml::Table::new().into());
            // Something else there is refused when it is read.
            inner.as_table_mut().is_some_and(|inner| set(inner, rest, value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Missing, ServiceConfiguration};
    use super::*;

    const OLD: &str = "compat = \"decision-gate\"\n[[providers]]\nname = \"env\"\ntype = \"builtin\"\n\
        [[providers]]\nname = \"http\"\ntype = \"builtin\"\n[providers.config]\nallowed_hosts = [\"a.test\"]\n";

    #[test]
    fn old_defaults_hold_where_the_config_is_silent_and_are_said() {
        let source = Source::new(OLD, "test").unwrap();
        let filled = source.filled.as_ref().unwrap();
        assert_eq!(filled["providers"][0]["config"]["allowlist"][0].as_str(), Some("*"));
        assert_eq!(filled["providers"][1]["config"]["allowed_hosts"][0].as_str(), Some("a.test"));
        assert_eq!(filled["runpack"]["roots"][0].as_str(), Some("/"));
        let said = source.warnings.join("\n");
        for what in ["tenants", "audit log", "any directory", "every variable", "every port", "this machine"] {
            assert!(said.contains(what), "{what} in {said}");
        }
        assert!(!said.contains("every host"), "{said}");
        let service = ServiceConfiguration::parse(OLD, "test", Missing::Refuse).unwrap();
        assert!(service.audit.is_some());
        assert!(said.lines().all(|line| service.run.warnings.iter().any(|warning| warning == line)));
    }

    #[test]
    fn ours_hold_without_it_and_other_words_are_refused() {
        let ours = OLD.replace("compat = \"decision-gate\"\n", "");
        let service = ServiceConfiguration::parse(&ours, "test", Missing::Refuse).unwrap();
        assert!(service.audit.is_none());
        for wrong in ["\"decision_gate\"", "true"] {
            let text = OLD.replace("\"decision-gate\"", wrong);
            let error = Source::new(&text, "test").err().unwrap().to_string();
            assert!(error.starts_with("compat: must be \"decision-gate\""), "{error}");
        }
    }
}
