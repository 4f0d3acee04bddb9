//! `schemas/config.schema.json` says what this module reads, no more and no less.

use std::path::Path;

use serde_json::{Value, json};

use super::{KNOWN, Missing, Preset, ServiceConfiguration, Standing, standing};

fn schema() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/config.schema.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// Every key with its schema, dotted as in [`KNOWN`].
fn keys(schema: &Value, above: &str, found: &mut Vec<(String, Value)>) {
    let table = if schema["type"] == "array" { &schema["items"] } else { schema };
    let join = |name: &str| if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
    if let Some(properties) = table["properties"].as_object() {
        properties.iter().for_each(|(name, inner)| keys(inner, &join(name), found));
    } else if table["additionalProperties"].is_object() {
        keys(&table["additionalProperties"], &join("*"), found);
    } else {
        found.push((above.to_owned(), schema.clone()));
    }
}

#[test]
fn the_schema_has_the_keys_that_are_read() {
    let mut found = Vec::new();
    keys(&schema(), "", &mut found);
    assert!(found.len() > 150, "{}", found.len());
    for (key, _) in &found {
        assert!(matches!(standing(key), Standing::Leaf), "{key} is not read");
    }
    for known in KNOWN {
        let there = match known.strip_suffix('…') {
            Some(open) => found.iter().any(|(key, _)| key.starts_with(open)),
            None => found.iter().any(|(key, _)| key == known),
        };
        assert!(there, "{known} is missing");
    }
}

/// A config with that value, and with what the section needs to be looked at.
fn config(key: &str, value: &str) -> String {
    let beside: &[&str] = match key.split('.').next().unwrap() {
        "server" if key.starts_with("server.audit") => {
            &["server.audit.enabled = true", "server.audit.rotate_bytes = 1"]
        }
        "namespace" => {
            &["namespace.authority.mode = \"assetcore_http\"", "namespace.authority.assetcore.base_url = \"http://a\""]
        }
        "runpack_storage" => &[
            "runpack_storage.type = \"object_store\"",
            "runpack_storage.provider = \"local\"",
            "runpack_storage.bucket = \".\"",
        ],
        "dispatch" => &["dispatch.enabled = true"],
        _ => &[],
    };
    let door = ["server.transport = \"http\"", "server.bind = \"127.0.0.1:0\""];
    let other = |line: &&&str| !line.starts_with(&format!("{key} ="));
    let mut text: String = door.iter().chain(beside).filter(other).flat_map(|line| [*line, "\n"]).collect();
    text.push_str(&format!("{key} = {value}\n"));
    text
}

#[test]
fn the_schema_refuses_the_values_that_are_refused() {
    let schema = schema();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let mut found = Vec::new();
    keys(&schema, "", &mut found);
    let mut tried = 0;
    let mut hold = |key: &str, value: &str, good: bool| {
        tried += 1;
        let text = config(key, value);
        let table: toml::Table = toml::from_str(&text).unwrap();
        let listed = validator.is_valid(&serde_json::to_value(&table).unwrap());
        assert_eq!(listed, good, "the schema on {key} = {value}");
        let read = ServiceConfiguration::parse(&text, "test", Missing::Imagine).map(|_| ());
        match read {
            Ok(()) => assert!(good, "{key} = {value} is read"),
            // Keys depend on each other, which no schema here says.
            Err(error) => {
                let error = error.to_string();
                let (section, _) = key.rsplit_once('.').unwrap_or((key, ""));
                assert!(!good || !error.contains("unknown variant"), "{key} = {value}: {error}");
                assert!(good || error.contains(section) || error.contains("invalid"), "{key} = {value}: {error}");
            }
        }
    };
    let reached = |key: &str| {
        // Inside arrays and open tables there is nothing to put a value beside.
        let inside = ["providers", "principals", "rules", "callbacks", "*", "policy.static"];
        !inside.iter().any(|part| key.contains(&format!("{part}.")))
    };
    for (key, leaf) in found.iter().filter(|(key, _)| reached(key)) {
        if let Some(values) = leaf["enum"].as_array() {
            for value in values {
                hold(key, &value.to_string(), true);
            }
            hold(key, "\"no-such-word\"", false);
        }
        if leaf["type"] == "integer" {
            if let Some(least) = leaf["minimum"].as_i64() {
                hold(key, &(least - 1).to_string(), false);
                hold(key, &least.to_string(), true);
            }
            if let Some(most) = leaf["maximum"].as_i64() {
                hold(key, &most.to_string(), true);
                hold(key, &(most + 1).to_string(), false);
            }
        }
        if leaf["type"] == "boolean" {
            hold(key, "\"yes\"", false);
        }
    }
    assert!(tried > 150, "{tried}");
}

#[test]
fn presets_fit_the_schema() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    for &preset in <Preset as clap::ValueEnum>::value_variants() {
        let table: toml::Table = toml::from_str(preset.text()).unwrap();
        let faults: Vec<_> =
            validator.iter_errors(&serde_json::to_value(&table).unwrap()).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{}: {faults:?}", preset.name());
    }
    assert!(!validator.is_valid(&json!({"server": {"bnid": "127.0.0.1:0"}})));
}
