//! JSON Schemas for what people write and programs read. They are composed of
//! `schemas/tools/types.json`, which says once what the types are, and are held
//! against the readers: whatever a reader takes a schema takes, and what is
//! missing or unknown to one is so to the other.
//!
//! Written down again with `RUNPACK_BLESS=1`.

#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;
#[path = "../../testdata/pages.rs"]
mod pages;

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use runpack_core::engine::Scenario;
use runpack_core::model::{RunConfig, RunState, ScenarioSpec, TriggerEvent};
use runpack_core::pack::Manifest;
use runpack_core::pack::{PAYLOAD_TYPE, PREDICATE_TYPE, Statement};
use runpack_core::read::{Unknown, ingest, recorded};
use runpack_core::trust::{TrustPolicy, TrustTable};
use serde_json::{Map, Value, json};

const TYPE: &str = "types.json#/$defs/";

fn read(path: &str) -> Value {
    serde_json::from_slice(&fs::read(inputs::root().join(path)).unwrap()).unwrap()
}

/// A schema complete by itself: the types it refers to come with it.
fn complete(title: &str, what: &str, root: Value) -> Value {
    let types = read("schemas/tools/types.json")["$defs"].take();
    let (mut schema, mut defs, mut wanted) = (root, Map::new(), Vec::new());
    local(&mut schema, &mut wanted);
    while let Some(name) = wanted.pop() {
        if !defs.contains_key(&name) {
            let mut body = types[&name].clone();
            assert!(body.is_object(), "{name}");
            local(&mut body, &mut wanted);
            defs.insert(name, body);
        }
    }
    let members = schema.as_object_mut().unwrap();
    members.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    members.insert("title".to_owned(), title.into());
    members.insert("description".to_owned(), what.into());
    if !defs.is_empty() {
        defs.sort_keys();
        members.insert("$defs".to_owned(), Value::Object(defs));
    }
    schema
}

/// What is handed in may leave out what may be null (details may be anything), and the lane that is
/// meant then; what we write never does, and the types say what we write.
fn lenient(schema: &mut Value) {
    let nullable = |schema: &Value| {
        let says_null = |schema: &Value| {
            schema["type"] == "null" || schema["type"].as_array().is_some_and(|types| types.contains(&json!("null")))
        };
        let either = ["anyOf", "oneOf"].iter().filter_map(|either| schema[*either].as_array()).flatten();
        says_null(schema) || either.into_iter().any(says_null)
    };
    match schema {
        Value::Object(members) => {
            let optional = |name: &Value, properties: &Value| {
                name == "lane" || name == "details" || name.as_str().is_some_and(|name| nullable(&properties[name]))
            };
            if let Some(properties) = members.get("properties").cloned()
                && let Some(Value::Array(required)) = members.get_mut("required")
            {
                required.retain(|name| !optional(name, &properties));
            }
            members.values_mut().for_each(lenient);
        }
        Value::Array(items) => items.iter_mut().for_each(lenient),
        _ => {}
    }
}

fn local(schema: &mut Value, wanted: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::String(to)) = members.get_mut("$ref") {
                let name = to.strip_prefix(TYPE).unwrap_or_else(|| panic!("{to} leads elsewhere")).to_owned();
                *to = format!("#/$defs/{name}");
                wanted.push(name);
            }
            members.values_mut().for_each(|member| local(member, wanted));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| local(item, wanted)),
        _ => {}
    }
}

/// Every schema that is composed, by the name of its file.
fn schemas() -> Vec<(&'static str, Value)> {
    let of = |name: &str| read("schemas/tools/types.json")["$defs"][name].take();
    let config = read("schemas/tools/scenario_start.json")["input"]["properties"]["run_config"].take();
    let mut state = complete("Run state", "A run with its logs, as `runpack build --state` reads it.", of("run"));
    lenient(&mut state);
    // The tools' types leave open what this page does not: a pack's reader is exact.
    let mut manifest = of("manifest");
    manifest["properties"]["anchor_policy"] = anchor_policy();
    manifest["properties"]["anchor_policy"]["properties"]["providers"]["minItems"] = json!(1);
    let findings = read("schemas/report.schema.json")["properties"]["findings"].take();
    vec![
        (
            "scenario",
            complete("Scenario", "What a process may do, and which evidence must hold before it does.", of("scenario")),
        ),
        ("trigger", complete("Trigger", "Asks a run for one decision.", of("trigger"))),
        ("run-config", complete("Run config", "How a run is started.", config)),
        ("run-state", state),
        ("manifest", complete("Manifest", "The index of a pack.", manifest)),
        ("findings", complete("Findings", "What `runpack verify` found in one pack.", findings)),
        ("provider-contract", complete("Provider contract", "What an external provider promises.", of("contract"))),
        (
            "trust-policy",
            complete("Trust policy", "Whom to believe about packs, and how many of them are needed.", trust_policy()),
        ),
        ("attestation", complete("Attestation", "The predicate of an in-toto statement about a pack.", attestation())),
    ]
}

fn exact(properties: &Value, required: &[&str]) -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": properties, "required": required})
}

fn text(what: &str) -> Value {
    json!({"type": "string", "description": what})
}

fn list(what: &str, items: &Value) -> Value {
    json!({"type": "array", "description": what, "items": items})
}

fn anchor_policy() -> Value {
    let text = json!({"type": "string"});
    let requirement = exact(
        &json!({"anchor_type": text, "required_fields": {"type": "array", "items": text}}),
        &["anchor_type", "required_fields"],
    );
    let provider = exact(&json!({"provider_id": text, "requirement": requirement}), &["provider_id", "requirement"]);
    exact(&json!({"providers": {"type": "array", "items": provider}}), &[])
}

/// As TOML is read: there is no null.
fn trust_policy() -> Value {
    let string = json!({"type": "string"});
    let count = json!({"type": "integer", "minimum": 0});
    let id = json!({"type": "integer", "minimum": 1});
    let lane = json!({"enum": ["asserted", "verified"], "description": "The least that may have counted."});
    let require = exact(
        &json!({
            "signatures": {"type": "integer", "minimum": 0, "description": "Different keys; 1 if left out, 0 only reports."},
            "roles": {"type": "object", "description": "Of these roles so many.", "additionalProperties": count},
            "min_lane": lane,
            "anchor_policy": anchor_policy(),
            "spec_hashes": list("One of these scenarios.", &json!({"type": "string", "pattern": "^(sha256:)?[0-9a-f]{64}$"})),
        }),
        &[],
    );
    let mut key = exact(
        &json!({
            "id": {"type": "string", "minLength": 1, "description": "What reports call it."},
            "name": text("For people."),
            "file": text("The public key, in a file beside the policy."),
            "pem": text("The public key itself."),
            "roles": {"type": "array", "minItems": 1, "items": string, "description": "[\"pack\"] if left out; `evidence` alone signs no pack."},
            "valid_from": text("From its first moment on: 2026-01-31 or 2026-01-31T12:00:00Z."),
            "valid_until": text("Before its first moment."),
            "tenants": list("All if left out.", &id),
            "namespaces": list("All if left out.", &id),
            "scenarios": list("All if left out.", &string),
            "keyids": list("What other programs call it.", &string),
        }),
        &["id"],
    );
    key["oneOf"] = json!([{"required": ["file"]}, {"required": ["pem"]}]);
    let evidence = exact(
        &json!({
            "mode": {"enum": ["required", "audit"], "description": "Refused without a signature, or only told."},
            "binding": {"enum": ["bound", "value_only"], "description": "Whether a signed value is enough."},
            "keys": list("All of the role `evidence` if left out.", &string),
        }),
        &["mode"],
    );
    exact(
        &json!({
            "version": {"const": 1},
            "require": require,
            "keys": {"type": "array", "minItems": 1, "maxItems": 64, "items": key},
            "evidence": {"type": "object", "description": "By provider.", "additionalProperties": evidence},
        }),
        &["version", "keys"],
    )
}

fn attestation() -> Value {
    let string = json!({"type": "string"});
    let strings = json!({"type": "array", "items": string});
    let maybe = json!({"type": ["string", "null"]});
    let id = json!({"type": "integer", "minimum": 1});
    let lane = json!({"enum": ["asserted", "verified"]});
    let digest = json!({"$ref": format!("{TYPE}digest")});
    let target =
        exact(&json!({"target_kind": string, "target_id": maybe, "system": maybe, "target": maybe}), &["target_kind"]);
    let criteria = [
        "target_kinds",
        "require_labels",
        "forbid_labels",
        "require_policy_tags",
        "forbid_policy_tags",
        "content_types",
        "schema_ids",
        "packet_ids",
        "stage_ids",
        "scenario_ids",
    ];
    let mut rule = exact(
        &json!({"effect": {"enum": ["permit", "deny", "error"]}, "error_message": maybe, "targets": list("Any of these.", &target)}),
        &["effect"],
    );
    for name in criteria {
        rule["properties"][name] = strings.clone();
    }
    let rules = exact(
        &json!({"default": {"enum": ["permit", "deny"]}, "rules": list("The first that fits decides.", &rule)}),
        &[],
    );
    let policy = json!({"oneOf": [
        exact(&json!({"engine": {"enum": ["permit_all", "deny_all"]}}), &[]),
        exact(&json!({"engine": {"const": "static"}, "static": rules}), &["engine", "static"]),
    ]});
    let settings = exact(
        &json!({
            "anchor_policy": anchor_policy(),
            "logic": {"enum": ["kleene", "bochvar"], "description": "How Unknown is combined."},
            "min_lane": lane,
            "policy": policy,
            "provider_lanes": {"type": "object", "description": "The least lane of a provider, where it is another.", "additionalProperties": lane},
        }),
        &["anchor_policy", "logic", "min_lane", "policy", "provider_lanes"],
    );
    exact(
        &json!({
            "namespace_id": id,
            "root_hash": digest,
            "run_id": string,
            "scenario_id": string,
            "settings": {"description": "How the run was decided; null from who did not decide it.", "oneOf": [settings, {"type": "null"}]},
            "spec_hash": digest,
            "tenant_id": id,
        }),
        &["namespace_id", "root_hash", "run_id", "scenario_id", "spec_hash", "tenant_id"],
    )
}

fn validator(name: &str) -> Validator {
    let schema = schemas().into_iter().find(|(known, _)| *known == name).unwrap().1;
    jsonschema::draft202012::new(&schema).unwrap()
}

#[test]
fn schemas_are_what_the_types_say() {
    for (name, schema) in schemas() {
        jsonschema::draft202012::meta::validate(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        let page = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let file = inputs::root().join(format!("schemas/{name}.schema.json"));
        if std::env::var_os("RUNPACK_BLESS").is_some() {
            fs::write(&file, &page).unwrap();
        }
        assert_eq!(fs::read_to_string(file).unwrap(), page, "run `just bless` and read the difference");
    }
}

#[track_caller]
fn takes(validator: &Validator, value: &Value, whence: &Path) {
    let wrong: Vec<_> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{}: {wrong:?}", whence.display());
}

/// Something that a document shows, and where.
struct Shown {
    page: PathBuf,
    value: Value,
}

/// The JSON of the documents: blocks, and files that commands write. Blocks that
/// are not ours are marked `json other`, and evidence may be anything.
fn shown_json() -> Vec<Shown> {
    let mut found = Vec::new();
    for page in pages::pages() {
        let mut add = |text: &str| {
            let value =
                serde_json::from_str(text).unwrap_or_else(|error| panic!("{}: {error}: {text}", page.display()));
            found.push(Shown { page: page.clone(), value });
        };
        for block in pages::blocks(&page).iter().filter(|block| block.language == "json") {
            if block.words.is_empty() {
                add(&block.text);
            } else {
                assert_eq!(block.words, ["other"], "{}", page.display());
            }
        }
        for (name, text) in pages::written(&page).iter().filter(|(name, _)| !name.starts_with("evidence/")) {
            if name.ends_with(".json") {
                add(text);
            } else if name.ends_with(".jsonl") {
                text.lines().for_each(&mut add);
            }
        }
    }
    found
}

/// The configs and the trust policies of the documents: blocks of TOML, and files
/// that commands write. A trust policy has a version.
fn shown_toml() -> [Vec<Shown>; 2] {
    let (mut configs, mut policies) = (Vec::new(), Vec::new());
    for page in pages::pages() {
        let blocks = pages::blocks(&page).into_iter().filter(|block| block.language == "toml").map(|block| block.text);
        let files = pages::written(&page).into_iter().filter(|(name, _)| name.ends_with(".toml")).map(|(_, text)| text);
        for text in blocks.chain(files) {
            let value: Value = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
            let kind = if value.get("version").is_none() { &mut configs } else { &mut policies };
            kind.push(Shown { page: page.clone(), value });
        }
    }
    [configs, policies]
}

#[test]
fn every_example_is_what_its_schema_says() {
    let root = inputs::root();
    let [scenario, trigger, config, state, manifest, findings] =
        ["scenario", "trigger", "run-config", "run-state", "manifest", "findings"].map(validator);
    let json = |path: &str| (root.join(path), read(path));
    for (path, value) in [
        json("daemon/demo/scenario.json"),
        json("testdata/packs/source/rich/scenario.json"),
        json("testdata/packs/good/rich/artifacts/scenario_spec.json"),
        json("testdata/packs/good/release-gate/artifacts/scenario_spec.json"),
    ] {
        takes(&scenario, &value, &path);
    }
    let (path, value) = json("daemon/demo/run-config.json");
    takes(&config, &value, &path);
    let (path, value) = json("testdata/packs/source/rich/state.json");
    takes(&state, &value, &path);
    for pack in ["rich", "release-gate"] {
        let (path, value) = json(&format!("testdata/packs/good/{pack}/manifest.json"));
        takes(&manifest, &value, &path);
        let (path, value) = json(&format!("testdata/packs/good/{pack}/artifacts/triggers.json"));
        value.as_array().unwrap().iter().for_each(|record| takes(&trigger, &record["event"], &path));
    }
    let work = tempfile::tempdir().unwrap();
    common::copy_pack(work.path());
    fs::write(work.path().join("artifacts/decisions.json"), "[{}]").unwrap();
    let (_, out, _) = common::told(["verify", "--format", "json", common::text(work.path())]);
    let found = serde_json::from_str::<Value>(&out).unwrap()["findings"].take();
    assert!(found.as_array().unwrap().len() > 1);
    takes(&findings, &found, work.path());
    assert!(!findings.is_valid(&json!([{"code": "RP9999"}])));
}

/// A schema of what is inside documents.
fn part(root: Value) -> Validator {
    jsonschema::draft202012::new(&complete("Part", "Part of a document.", root)).unwrap()
}

/// What a document shows is told by its members, and all of it is one of these.
#[test]
fn what_the_documents_show_is_what_its_schema_says() {
    let of = |name: &str| json!({"$ref": format!("{TYPE}{name}")});
    let digests =
        read("schemas/tools/types.json")["$defs"]["manifest"]["properties"]["integrity"]["properties"]["file_hashes"]
            .take();
    let known: [(&[&str], Validator); 9] = [
        (&["scenario_id", "stages", "conditions"], validator("scenario")),
        (&["trigger_id", "source_id", "kind"], validator("trigger")),
        (&["dispatch_targets", "policy_tags", "run_id"], validator("run-config")),
        (&["manifest_version", "integrity"], validator("manifest")),
        (&["provider_id", "checks", "transport"], validator("provider-contract")),
        (&["condition_id", "query"], part(of("condition"))),
        (&["And"], part(of("requirement"))),
        (&["RequireGroup"], part(of("requirement"))),
        (&["path", "hash"], part(digests)),
    ];
    let mut seen = vec![0; known.len()];
    for Shown { page, value } in shown_json() {
        let looked_at = value.get(0).unwrap_or(&value);
        let fits = |members: &[&str]| members.iter().all(|member| looked_at.get(member).is_some());
        let which = known.iter().position(|(members, _)| fits(members));
        let which =
            which.unwrap_or_else(|| panic!("{}: mark it `json other` if it is not ours: {value}", page.display()));
        takes(&known[which].1, &value, &page);
        seen[which] += 1;
    }
    assert!(seen[0] >= 4 && seen[1] >= 7 && seen[2] >= 2 && seen[4] >= 1, "{seen:?}");
    let config = jsonschema::draft202012::new(&read("schemas/config.schema.json")).unwrap();
    let [configs, policies] = shown_toml();
    configs.iter().for_each(|shown| takes(&config, &shown.value, &shown.page));
    let policy = validator("trust-policy");
    policies.iter().for_each(|shown| takes(&policy, &shown.value, &shown.page));
    assert!(configs.len() >= 10 && policies.len() >= 2, "{} {}", configs.len(), policies.len());
}

/// Every place of a value.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            places(member, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
        }),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| places(item, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

/// Spoils `good` in every place, one at a time, and asks schema and reader.
fn agree(name: &str, good: &Value, reads: impl Fn(&[u8]) -> bool) {
    let validator = validator(name);
    let mut at = Vec::new();
    places(good, "", &mut at);
    // Free-form values hold anything; whatever lies in them is the author's.
    let free = |at: &str| ["/expected", "/params", "/value", "/details"].iter().any(|inner| at.contains(inner));
    let (mut refused, mut taken) = (0, 0);
    for place in at.iter().filter(|place| !free(place)) {
        let mut spoilt = Vec::new();
        if let Some(Value::Object(members)) = good.pointer(place) {
            for member in members.keys() {
                let mut one = good.clone();
                one.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(member);
                spoilt.push((format!("{place} without {member}"), one, true));
            }
            let mut one = good.clone();
            one.pointer_mut(place).unwrap().as_object_mut().unwrap().insert("unheard_of".to_owned(), json!(1));
            spoilt.push((format!("{place} with a stranger"), one, true));
        }
        for other in [json!(null), json!("x"), json!(7), json!(-1), json!(1.5), json!([]), json!({}), json!(true)] {
            let mut one = good.clone();
            *one.pointer_mut(place).unwrap() = other.clone();
            spoilt.push((format!("{place} is {other}"), one, false));
        }
        for (what, one, both) in spoilt {
            let (schema, reader) = (validator.is_valid(&one), reads(one.to_string().as_bytes()));
            assert!(schema || !reader, "{name}: the reader takes it and the schema does not: {what}");
            assert!(!both || schema == reader, "{name}: the schema takes it and the reader does not: {what}");
            if schema { taken += 1 } else { refused += 1 }
        }
    }
    assert!(refused > 20 && taken > 0, "{name}: {refused} refused, {taken} taken");
}

#[test]
fn schemas_take_what_readers_take() {
    let scenario =
        |bytes: &[u8]| ingest::<ScenarioSpec>(bytes, Unknown::Refuse).is_ok_and(|spec| Scenario::new(spec).is_ok());
    agree("scenario", &read("testdata/packs/source/rich/scenario.json"), scenario);
    let triggers = read("testdata/packs/good/rich/artifacts/triggers.json");
    agree("trigger", &triggers[1]["event"], |bytes| ingest::<TriggerEvent>(bytes, Unknown::Refuse).is_ok());
    agree("run-config", &read("daemon/demo/run-config.json"), |bytes| {
        ingest::<RunConfig>(bytes, Unknown::Refuse).is_ok()
    });
    let mut state = read("testdata/packs/source/rich/state.json");
    // One of each kind is enough.
    for log in ["triggers", "gate_evals", "decisions", "packets", "submissions", "tool_calls"] {
        state[log].as_array_mut().unwrap().truncate(3);
    }
    agree("run-state", &state, |bytes| ingest::<RunState>(bytes, Unknown::Refuse).is_ok());
    // A record is exactly what a writer writes: read and written again it is the same.
    agree("manifest", &read("testdata/packs/good/rich/manifest.json"), |bytes| {
        let again = recorded::<Manifest>(bytes).ok().and_then(|manifest| serde_json::to_value(manifest).ok());
        again == serde_json::from_slice(bytes).ok()
    });
    // TOML knows no null. Any file has a key; the other key is in the policy itself.
    agree("trust-policy", &policy(), |bytes| {
        let table =
            ingest::<TrustTable>(bytes, Unknown::Refuse).ok().filter(|_| !bytes.windows(4).any(|at| at == b"null"));
        table.is_some_and(|table| TrustPolicy::new(table, &mut |_| Ok(KEYS[0].to_owned())).is_ok())
    });
    agree("attestation", &predicate(), |bytes| {
        let predicate: Value = serde_json::from_slice(bytes).unwrap();
        let subject = json!([{"name": "manifest.json", "digest": {"sha256": "00".repeat(32)}}]);
        let statement = json!({"_type": "https://in-toto.io/Statement/v1", "subject": subject,
            "predicateType": PREDICATE_TYPE, "predicate": predicate});
        Statement::parse(PAYLOAD_TYPE, statement.to_string().as_bytes()).is_ok()
    });
}

/// Public keys of which nobody has the other half.
const KEYS: [&str; 2] = [
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEArYQ6r2jrtqJNXdx6djMl+Cp1esHvnwsei9MoWUvASNo=\n-----END PUBLIC KEY-----",
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA0fDw3VgEtueT46DgAmx3EArt15JWxC00RZ3MGlmNrh8=\n-----END PUBLIC KEY-----",
];

/// With every member but the roles asked for, whose names are the keys' to give.
fn policy() -> Value {
    let anchors = json!({"providers": [{"provider_id": "json", "requirement":
        {"anchor_type": "file_path_rooted", "required_fields": ["root_id", "path"]}}]});
    let key = json!({"id": "a", "name": "A", "file": "a.pub", "roles": ["pack", "evidence"], "valid_from": "2026-01-01",
        "valid_until": "2027-01-01", "tenants": [1], "namespaces": [1], "scenarios": ["s"], "keyids": ["k"]});
    json!({"version": 1,
        "require": {"signatures": 1, "min_lane": "verified", "anchor_policy": anchors,
            "spec_hashes": ["00".repeat(32)]},
        "keys": [key, {"id": "b", "pem": KEYS[1], "roles": ["pack", "evidence"]}],
        "evidence": {"json": {"mode": "required", "binding": "bound"}}})
}

fn predicate() -> Value {
    let digest = json!({"algorithm": "sha256", "value": "00".repeat(32)});
    let anchors = json!({"providers": [{"provider_id": "json", "requirement":
        {"anchor_type": "file_path_rooted", "required_fields": ["root_id", "path"]}}]});
    let rule = json!({"effect": "permit", "error_message": null, "target_kinds": ["agent"],
        "targets": [{"target_kind": "agent", "target_id": "a", "system": null, "target": null}], "require_labels": ["l"]});
    json!({"namespace_id": 1, "root_hash": digest, "run_id": "r", "scenario_id": "s", "spec_hash": digest, "tenant_id": 1,
        "settings": {"anchor_policy": anchors, "logic": "kleene", "min_lane": "verified",
            "policy": {"engine": "static", "static": {"default": "deny", "rules": [rule]}},
            "provider_lanes": {"json": "asserted"}}})
}
