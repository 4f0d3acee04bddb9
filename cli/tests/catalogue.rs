//! `docs/findings.md` and the schema of reports are written from the catalogue.

#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::fmt::Write as _;
use std::fs;

use runpack_core::pack::{Code, Severity};
use serde_json::{Value, json};

/// What the first two digits of a code stand for.
const GROUPS: [(&str, &str); 8] = [
    ("RP01", "Container: is everything there, and nothing else?"),
    ("RP02", "Bytes: are they the ones the manifest was written for?"),
    ("RP03", "Identity: is it one run of one scenario?"),
    ("RP04", "Logs: do the records follow each other?"),
    ("RP05", "Content: are bodies what their digests say?"),
    ("RP06", "Replay: do the decisions come out again?"),
    ("RP07", "Expectations: is it the pack that was asked for?"),
    ("RP08", "Trust: who says so?"),
];

#[test]
fn the_page_of_findings_is_the_catalogue() {
    let mut page = String::from(
        "# Findings\n\nWhat can be wrong with a pack. A code never changes its meaning. `runpack explain CODE` says the \
         same.\n\nAn *error* refuses the pack (exit 1). With *could not tell* nothing can be said (exit 2), unless \
         something else refuses the pack. With a *warning* the pack may still pass.\n",
    );
    for (prefix, title) in GROUPS {
        let _ = write!(page, "\n## {title}\n\n| code | weight | what | why |\n|---|---|---|---|\n");
        for code in Code::ALL.iter().filter(|code| code.as_str().starts_with(prefix)) {
            let weight = match code.severity() {
                Severity::Error => "error",
                Severity::CouldNotTell => "could not tell",
                Severity::Warning => "warning",
            };
            let _ = writeln!(page, "| {code} | {weight} | {} | {} |", code.title(), code.why());
        }
    }
    let file = inputs::root().join("docs/findings.md");
    if std::env::var_os("RUNPACK_BLESS").is_some() {
        fs::write(&file, &page).unwrap();
    }
    assert_eq!(fs::read_to_string(file).unwrap(), page, "run `just bless` and read the difference");
    let listed = Code::ALL.iter().filter(|code| page.contains(&format!("| {code} |"))).count();
    assert_eq!(listed, Code::ALL.len(), "a code is in no group");
}

/// `schemas/report.schema.json` is written from the catalogue and holds just
/// the members that reports have.
#[test]
fn the_schema_of_reports_is_the_report() {
    let digest = json!({"type": "object", "additionalProperties": false, "required": ["algorithm", "value"], "properties": {
        "algorithm": {"const": "sha256"}, "value": {"type": "string", "pattern": "^[0-9a-f]{64}$"}}});
    let text = json!({"type": "string"});
    let flag = json!({"type": "boolean"});
    let standings =
        json!(["counts", "not_checked", "unknown_key", "invalid", "out_of_time", "without_say", "not_of_this"]);
    let count = json!({"type": "integer", "minimum": 0});
    let id = json!({"type": "integer", "minimum": 1});
    let object = |properties: Value| {
        let required: Vec<_> = properties.as_object().unwrap().keys().cloned().collect();
        json!({"type": "object", "additionalProperties": false, "required": required, "properties": properties})
    };
    let list = |items: Value| json!({"type": "array", "items": items});
    let or_null = |schema: Value| json!({"anyOf": [schema, {"type": "null"}]});
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let mut schema = object(json!({
        "status": {"enum": ["pass", "fail"]}, "checked_files": count, "errors": list(text.clone()),
        "verdict": {"enum": ["consistent", "pinned", "signed", "refused", "could_not_tell"]},
        "checks": {"enum": ["digests", "all", "replay"]},
        "pack_digest": or_null(digest.clone()),
        "subject": or_null(object(json!({
            "manifest_version": text, "tenant_id": id, "namespace_id": id, "scenario_id": text, "run_id": text,
            "generated_at": object(json!({"kind": {"enum": ["unix_millis", "logical"]}, "value": {"type": "integer"}})),
            "spec_hash": digest, "root_hash": digest}))),
        "settings": or_null(object(json!({
            "min_lanes": list(json!({"enum": ["verified", "asserted"]})), "stricter_providers": list(text.clone()),
            "logics": list(json!({"enum": ["kleene", "bochvar"]})), "disclosures_refused": count, "attested": flag}))),
        "signed_by": list(object(json!({"key": text, "name": {"type": ["string", "null"]}, "key_digest": digest}))),
        "signatures": list(object(json!({"attestation": text, "keyid": text, "key": {"type": ["string", "null"]},
            "standing": {"enum": standings}}))),
        "evidence_signed": or_null(object(json!({"bound": count, "value_only": count, "unconfirmed": count}))),
        "unverifiable": list(object(json!({"what": text, "count": count}))),
        "findings": list(object(json!({
            "code": {"enum": codes}, "severity": {"enum": ["warning", "could_not_tell", "error"]}, "artifact": text,
            "pointer": text, "expected": {"type": ["string", "null"]}, "found": {"type": ["string", "null"]}, "message": text}))),
        "findings_left_out": count,
    }));
    let head = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Report of runpack verify",
        "description": "The answer about one pack. With several packs each line also has `path`; a pack that could not be opened has only the first three members and `verdict`."});
    schema.as_object_mut().unwrap().extend(head.as_object().unwrap().clone());
    let page = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    let file = inputs::root().join("schemas/report.schema.json");
    if std::env::var_os("RUNPACK_BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &page).unwrap();
    }
    assert_eq!(fs::read_to_string(file).unwrap(), page, "run `just bless` and read the difference");

    // Real reports, good and bad, have the members the schema has, all the way down.
    let work = tempfile::tempdir().unwrap();
    common::copy_pack(work.path());
    fs::write(work.path().join("artifacts/decisions.json"), "[{}]").unwrap();
    let absent = work.path().join("artifacts");
    for path in [inputs::testdata("packs/good/rich"), work.path().to_owned(), absent] {
        let (_, out, _) = common::told(["verify", "--format", "json", path.to_str().unwrap()]);
        fits(&schema, &serde_json::from_str(&out).unwrap(), "");
    }
}

/// Whether a value has the shape of a schema, as far as our schemas go.
fn fits(schema: &Value, value: &Value, at: &str) {
    if let Some(choices) = schema.get("anyOf") {
        let null = value.is_null();
        return if null { assert_eq!(choices[1]["type"], "null", "{at}") } else { fits(&choices[0], value, at) };
    }
    if let Some(values) = schema.get("enum") {
        assert!(values.as_array().unwrap().contains(value), "{at}: {value}");
    }
    match value {
        Value::Object(members) => {
            let properties = schema["properties"].as_object().unwrap_or_else(|| panic!("{at} is an object"));
            assert_eq!(members.keys().collect::<Vec<_>>(), properties.keys().collect::<Vec<_>>(), "{at}");
            members.iter().for_each(|(name, member)| fits(&properties[name], member, &format!("{at}/{name}")));
        }
        Value::Array(items) => items.iter().for_each(|item| fits(&schema["items"], item, at)),
        Value::Number(_) => assert_eq!(schema["type"], "integer", "{at}"),
        Value::String(_) => assert!(
            schema.get("enum").is_some() || schema.get("const").is_some() || schema["type"] != "integer",
            "{at}"
        ),
        Value::Bool(_) => assert_eq!(schema["type"], "boolean", "{at}"),
        Value::Null => {}
    }
}
