use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{BodyHashForm, EnvConfig, HttpConfig, JsonConfig, TimeConfig, inputs};

fn builtins() -> [Contract; 5] {
    [
        builtin::time().unwrap(),
        builtin::env().unwrap(),
        builtin::json().unwrap(),
        builtin::http(BodyHashForm::Digest).unwrap(),
        builtin::http(BodyHashForm::Hex).unwrap(),
    ]
}

/// The contract of somebody else's provider.
fn foreign() -> Value {
    json!({
        "provider_id": "git", "name": "Git", "description": "Answers from a repository.", "transport": "mcp",
        "config_schema": {"type": "object"}, "notes": ["Read only."],
        "checks": [{
            "check_id": "head", "description": "The commit a branch is at.", "determinism": "external",
            "params_required": true,
            "params_schema": {"type": "object", "required": ["branch"], "properties": {"branch": {"type": "string"}}},
            "result_schema": {"type": "string"}, "allowed_comparators": ["equals", "in_set", "exists"],
            "anchor_types": ["git"], "content_types": ["text/plain"],
            "examples": [{"description": "Main.", "params": {"branch": "main"}, "result": "c0ffee"}],
        }],
    })
}

fn parse(document: &Value) -> Result<Contract, ContractError> {
    Contract::parse(document.to_string().as_bytes())
}

fn document(contract: &Contract) -> Value {
    serde_json::from_slice(contract.document()).unwrap()
}

#[test]
fn every_example_is_as_its_own_schemas_say() {
    for contract in builtins() {
        for check in contract.checks() {
            let place = format!("{}.{}", contract.id(), check.spec().check_id);
            assert!(!check.spec().examples.is_empty(), "{place}");
            for example in &check.spec().examples {
                assert_eq!(check.params().check(&example.params), Ok(()), "{place}");
                assert_eq!(check.result().check(&example.result), Ok(()), "{place}");
            }
        }
    }
}

#[test]
fn the_built_in_contracts_are_of_the_providers_they_are_named_after() {
    let ids: Vec<_> = builtins().iter().map(|contract| contract.id().to_string()).collect();
    assert_eq!(ids, ["time", "env", "json", "http", "http"]);
    let json: JsonConfig = serde_json::from_value(json!({"root": "/", "root_id": "r"})).unwrap();
    let hex = HttpConfig { body_hash_form: BodyHashForm::Hex, ..HttpConfig::default() };
    let by_config = [
        TimeConfig::default().contract(),
        EnvConfig::default().contract(),
        json.contract(),
        HttpConfig::default().contract(),
        hex.contract(),
    ];
    for (config, contract) in by_config.into_iter().zip(builtins()) {
        assert_eq!(config.unwrap().digest(), contract.digest());
    }
}

/// The contracts differ where the provider does, and nowhere else.
#[test]
fn the_form_of_a_body_hash_changes_its_check_alone() {
    let [.., digest, hex] = builtins();
    assert_ne!(digest.digest(), hex.digest());
    let mut differing = document(&digest);
    differing["checks"][1] = document(&hex)["checks"][1].clone();
    assert_eq!(differing, document(&hex));
}

/// Everything a scenario of the reference could rely on.
#[test]
fn the_built_in_contracts_keep_the_published_facts() {
    let Some(catalogue) = inputs::shared("reference/providers.json") else { return };
    let catalogue: Vec<Value> = serde_json::from_slice(&fs::read(catalogue).unwrap()).unwrap();
    let [time, env, json, http, _] = builtins();
    assert_eq!(catalogue.len(), 4);
    for (theirs, ours) in catalogue.iter().zip([time, env, json, http]) {
        assert_eq!(theirs["provider_id"], ours.id().as_str());
        assert_eq!(theirs["transport"], document(&ours)["transport"]);
        let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(members(theirs), members(&document(&ours)));
        let config = |value: &Value| members(&value["config_schema"]["properties"]);
        assert!(config(theirs).is_subset(&config(&document(&ours))));
        for (theirs, check) in
            theirs["checks"].as_array().unwrap().iter().zip(document(&ours)["checks"].as_array().unwrap())
        {
            assert_eq!(members(theirs), members(check));
            let same =
                ["check_id", "allowed_comparators", "determinism", "params_required", "anchor_types", "content_types"];
            for member in same {
                assert_eq!(theirs[member], check[member], "{} {member}", check["check_id"]);
            }
            let compiled = ours.check(&check["check_id"].as_str().unwrap().into()).unwrap();
            let (params, result) = (&theirs["params_schema"], &theirs["result_schema"]);
            let (params, result) = (Schema::compile(params).unwrap(), Schema::compile(result).unwrap());
            let agree = |schema: &Schema, other: &Schema, value: &Value| {
                assert_eq!(schema.check(value).is_ok(), other.check(value).is_ok(), "{} {value}", check["check_id"]);
            };
            let examples = theirs["examples"].as_array().unwrap().iter().chain(check["examples"].as_array().unwrap());
            for example in examples {
                assert_eq!(params.check(&example["params"]), Ok(()));
                agree(&params, compiled.params(), &example["params"]);
                agree(&result, compiled.result(), &example["result"]);
                // And what is like it, but wrong.
                for name in example["params"].as_object().unwrap().keys() {
                    for wrong in [json!(null), json!(true), json!(1.5), json!([]), json!({}), json!("x"), json!(1)] {
                        let mut params_wrong = example["params"].clone();
                        params_wrong[name] = wrong;
                        agree(&params, compiled.params(), &params_wrong);
                    }
                    let mut without = example["params"].clone();
                    without.as_object_mut().unwrap().remove(name);
                    agree(&params, compiled.params(), &without);
                }
                let mut more = example["params"].clone();
                more["more"] = json!(1);
                agree(&params, compiled.params(), &more);
            }
            for value in [json!(null), json!(true), json!(1), json!(1.5), json!("x"), json!([]), json!({})] {
                agree(&params, compiled.params(), &value);
                agree(&result, compiled.result(), &value);
            }
        }
        assert_eq!(theirs["checks"].as_array().unwrap().len(), ours.checks().count());
    }
}

/// A config that the schema describes is one that is read, and the defaults
/// it names are the defaults.
#[test]
fn the_config_schemas_describe_the_configs() {
    fn agree<T: serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(
        contract: &Contract,
        least: &Value,
        whole: &Value,
    ) {
        let schema = &document(contract)["config_schema"];
        let compiled = Schema::compile(schema).unwrap();
        let read = |table: &Value| serde_json::from_value::<T>(table.clone()).ok();
        let properties = schema["properties"].as_object().unwrap();
        assert_eq!(properties.keys().collect::<Vec<_>>(), whole.as_object().unwrap().keys().collect::<Vec<_>>());
        let mut explicit = least.clone();
        for (name, property) in properties {
            if let Some(default) = property.get("default") {
                explicit[name] = default.clone();
            }
        }
        assert_eq!(read(least), read(&explicit), "{}", contract.id());
        assert!(read(least).is_some());
        let mut tables = vec![least.clone(), whole.clone(), explicit, json!({"misspelt": 1})];
        for name in properties.keys() {
            for wrong in
                [json!(-1), json!(1.5), json!({"a": 1}), json!([1]), json!("other"), json!(true), json!(65_536)]
            {
                let mut table = whole.clone();
                table[name] = wrong;
                tables.push(table);
            }
        }
        for table in tables {
            assert_eq!(compiled.check(&table).is_ok(), read(&table).is_some(), "{} {table}", contract.id());
        }
    }
    let [time, env, json, http, _] = builtins();
    agree::<TimeConfig>(&time, &json!({}), &json!({"allow_logical": false}));
    let whole = json!({"allowlist": ["A"], "denylist": ["B"], "max_key_bytes": 1, "max_value_bytes": 2, "overrides": {"A": "x"}});
    agree::<EnvConfig>(&env, &json!({}), &whole);
    let least = json!({"root": "/srv", "root_id": "srv"});
    let whole =
        json!({"root": "/srv", "root_id": "other", "max_bytes": 1, "allow_yaml": false, "absent_path": "no_value"});
    agree::<JsonConfig>(&json, &least, &whole);
    let whole = json!({
        "allow_http": true, "timeout_ms": 1, "max_response_bytes": 2, "allowed_hosts": ["a"], "allowed_ports": [1],
        "allow_private_addresses": true, "user_agent": "u", "hash_algorithm": "sha256", "body_hash_form": "hex",
    });
    agree::<HttpConfig>(&http, &json!({}), &whole);
}

#[test]
fn a_contract_of_another_provider_is_read() {
    let contract = parse(&foreign()).unwrap();
    assert_eq!(contract.id().as_str(), "git");
    assert_eq!(document(&contract), foreign());
    assert_eq!(contract.digest(), Digest::of_canonical(&foreign()).unwrap());
    let check = contract.check(&"head".into()).unwrap();
    assert_eq!(check.spec().determinism, Determinism::External);
    assert_eq!(check.spec().allowed_comparators, [Comparator::Equals, Comparator::InSet, Comparator::Exists]);
    assert!(check.params().check(&json!({"branch": "main"})).is_ok() && check.params().check(&json!({})).is_err());
    assert!(contract.check(&"tail".into()).is_none());
    assert_eq!(contract.clone().of(&"git".into()).unwrap().digest(), contract.digest());
    let error = contract.of(&"hg".into()).unwrap_err();
    assert_eq!(error.to_string(), "contract_invalid: is `git`, and the provider is `hg` (`/provider_id`)");
}

#[test]
fn what_no_contract_has_is_not_digested() {
    let mut more = foreign();
    more["version"] = json!("1.0");
    more["checks"][0]["since"] = json!(2024);
    assert_eq!(parse(&more).unwrap().digest(), parse(&foreign()).unwrap().digest());
}

#[test]
fn every_member_is_needed() {
    fn without(document: &Value, pointer: &str, name: &str) {
        let mut broken = document.clone();
        broken.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(name);
        let error = parse(&broken).unwrap_err();
        assert_eq!(error.code(), "contract_parse_failed", "{pointer}/{name}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let document = foreign();
    for pointer in ["", "/checks/0", "/checks/0/examples/0"] {
        for name in document.pointer(pointer).unwrap().as_object().unwrap().keys() {
            without(&document, pointer, name);
        }
    }
}

#[test]
fn says_by_code_and_place_why_a_contract_is_not_used() {
    let rows = [
        ("/provider_id", json!(""), "contract_invalid: must be set (`/provider_id`)"),
        ("/transport", json!("builtin"), "contract_invalid: must be `mcp` (`/transport`)"),
        ("/transport", json!("http"), "contract_parse_failed: "),
        ("/checks/0/check_id", json!(""), "contract_invalid: must be set (`/checks/0/check_id`)"),
        ("/checks/0/determinism", json!("random"), "contract_parse_failed: "),
        (
            "/checks/0/allowed_comparators",
            json!([]),
            "contract_invalid: must name at least one (`/checks/0/allowed_comparators`)",
        ),
        (
            "/checks/0/allowed_comparators",
            json!(["exists", "equals"]),
            "contract_invalid: must be in this order, each once: equals, not_equals, ",
        ),
        (
            "/checks/0/allowed_comparators",
            json!(["equals", "equals"]),
            "contract_invalid: must be in this order, each once: ",
        ),
        ("/checks/0/allowed_comparators", json!(["like"]), "contract_parse_failed: "),
        ("/checks/0/params_schema", json!({"type": "text"}), "schema_compile_failed: `/checks/0/params_schema`: "),
        (
            "/checks/0/result_schema",
            json!({"$ref": "https://example.com/s"}),
            "schema_compile_failed: `/checks/0/result_schema`: reference `https://example.com/s` leads out of the schema",
        ),
        (
            "/checks/0/result_schema",
            json!(null),
            "schema_compile_failed: `/checks/0/result_schema`: a schema must be an object or a boolean",
        ),
        ("/config_schema", json!({"properties": 1}), "schema_compile_failed: `/config_schema`: "),
        ("/checks/0/examples/0/result", json!(9_007_199_254_740_993_u64), "contract_parse_failed: "),
    ];
    for (pointer, value, text) in rows {
        let mut broken = foreign();
        *broken.pointer_mut(pointer).unwrap() = value;
        let found = parse(&broken).unwrap_err().to_string();
        assert!(found.starts_with(text), "{text}\n{found}");
    }
    let mut twice = foreign();
    twice["checks"] = json!([foreign()["checks"][0], foreign()["checks"][0]]);
    assert_eq!(parse(&twice).unwrap_err().to_string(), "contract_invalid: is there twice (`/checks/1/check_id`)");
    for not_one in [&b"{"[..], b"[]", b"", b"\xef\xbb\xbf{}", b"{\"name\":1,\"name\":1}"] {
        assert_eq!(Contract::parse(not_one).unwrap_err().code(), "contract_parse_failed");
    }
}

#[test]
fn a_contract_file_has_a_limit() {
    let mut padded = foreign().to_string().into_bytes();
    padded.resize(CONTRACT_BYTES_MAX, b' ');
    assert!(Contract::parse(&padded).is_ok());
    padded.push(b' ');
    assert_eq!(Contract::parse(&padded).unwrap_err().to_string(), "contract_invalid: more than 1048576 bytes (``)");
}

proptest! {
    /// A contract read from its own canonical form is the same contract.
    #[test]
    fn a_contract_survives_a_round_trip(
        name in ".*", notes in prop::collection::vec(".*", 0..3), number in -9_007_199_254_740_991_i64..9_007_199_254_740_991,
        float in prop::num::f64::NORMAL, mask in 1_u16..=u16::MAX, key in ".*",
    ) {
        let chosen: Vec<_> =
            Comparator::ALL.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, it)| it).collect();
        let mut document = foreign();
        document["name"] = json!(name);
        document["notes"] = json!(notes);
        document["checks"][0]["allowed_comparators"] = json!(chosen);
        document["checks"][0]["examples"][0]["result"] = json!({ key: [number, name] });
        document["checks"][0]["result_schema"] = json!({"const": number, "title": name});
        prop_assume!(float.fract() != 0.0);
        document["checks"][0]["examples"][0]["params"] = json!(float);
        let contract = parse(&document).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Value>(contract.document()).unwrap(), document);
        let again = Contract::parse(contract.document()).unwrap();
        prop_assert_eq!(again.document(), contract.document());
        prop_assert_eq!(again.digest(), contract.digest());
    }
}
