//! What is published of the tools, for people and programs that do not ask a
//! server: written from the table of tools, and compared with it here.

#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::CONFIG;
use runpackd_lib::rpc::ERRORS;
use runpackd_lib::tools::{Served, TOOLS};
use serde_json::{Value, json};

/// Compares `value` with the file, or writes it when asked to.
fn published(name: &str, value: &Value) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas").join(name);
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("RUNPACK_BLESS").is_some() {
        fs::write(&file, &text).unwrap();
    }
    assert!(fs::read_to_string(file).unwrap() == text, "{name}: run `just bless` and read the difference");
}

/// The members that the published list of the reference has, and ours.
#[test]
fn the_tools_are_published_as_they_are() {
    let tools = common::tools(CONFIG, TOOLS);
    let listed = tools.listed().map(|served| {
        let (tool, input, output) = (served.tool, served.input(), served.output());
        let hints = tool.hints;
        json!({
            "name": tool.name,
            "title": tool.title,
            "description": tool.description,
            "input_schema": input,
            "output_schema": output,
            "annotations": {
                "readOnlyHint": hints.read_only,
                "destructiveHint": hints.destructive,
                "idempotentHint": hints.idempotent,
                "openWorldHint": hints.open_world,
            },
        })
    });
    published("tooling.json", &listed.collect());
}

/// One path, told apart by the tool's name in the body.
#[test]
fn the_dialect_is_published_for_openapi() {
    let tools = common::tools(CONFIG, TOOLS);
    let body = |served: &Served| {
        json!({
            "type": "object",
            "title": served.tool.name,
            "description": served.tool.description,
            "required": ["jsonrpc", "id", "method", "params"],
            "properties": {
                "jsonrpc": {"const": "2.0"},
                "id": {"type": ["string", "integer", "null"]},
                "method": {"const": "tools/call"},
                "params": {
                    "type": "object",
                    "required": ["name", "arguments"],
                    "properties": {"name": {"const": served.tool.name}, "arguments": inside(&served.input())},
                },
            },
        })
    };
    let answer = |served: &Served| {
        json!({
            "type": "object",
            "title": served.tool.name,
            "required": ["jsonrpc", "id", "result"],
            "properties": {
                "jsonrpc": {"const": "2.0"},
                "id": {"type": ["string", "integer", "null"]},
                "result": {
                    "type": "object",
                    "required": ["content"],
                    "properties": {"content": {"type": "array", "minItems": 1, "maxItems": 1, "items": {
                        "type": "object",
                        "required": ["type", "json"],
                        "properties": {"type": {"const": "json"}, "json": inside(&served.output())},
                    }}},
                },
            },
        })
    };
    let codes: Vec<i32> = ERRORS.iter().map(|(_, code, ..)| *code).collect();
    let kinds: Vec<&str> = ERRORS.iter().map(|(_, _, kind, _)| *kind).collect();
    let error = json!({
        "type": "object",
        "required": ["jsonrpc", "id", "error"],
        "properties": {
            "jsonrpc": {"const": "2.0"},
            "id": {"type": ["string", "integer", "null"]},
            "error": {
                "type": "object",
                "required": ["code", "message", "data"],
                "properties": {
                    "code": {"type": "integer", "enum": codes},
                    "message": {"type": "string"},
                    "data": {
                        "type": "object",
                        "required": ["kind", "retryable", "request_id"],
                        "properties": {
                            "kind": {"type": "string", "enum": kinds},
                            "retryable": {"type": "boolean"},
                            "request_id": {"type": ["string", "null"]},
                            "retry_after_ms": {"type": "integer", "minimum": 1},
                        },
                    },
                },
            },
        },
    });
    let with = |schema: Value| json!({"application/json": {"schema": schema}});
    let refused = json!({"description": "Refused.", "content": with(json!({"$ref": "#/components/schemas/error"}))});
    let mut answers: Vec<Value> = tools.listed().map(answer).collect();
    // What a tool found out travels with 200, good or bad.
    answers.push(json!({"$ref": "#/components/schemas/error"}));
    let mut responses = json!({"200": {"description": "Answered.", "content": with(json!({"oneOf": answers}))}});
    let statuses: BTreeSet<u16> =
        ERRORS.iter().map(|(_, _, _, status)| *status).filter(|status| *status != 200).collect();
    for status in statuses.into_iter().chain([408, 415, 421, 500]) {
        responses[status.to_string()] = refused.clone();
    }
    let openapi = json!({
        "openapi": "3.1.0",
        "info": {"title": "runpackd", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0"}},
        "paths": {"/rpc": {"post": {
            "operationId": "rpc",
            "requestBody": {"required": true, "content": with(json!({"oneOf": tools.listed().map(body).collect::<Vec<_>>()}))},
            "responses": responses,
            "security": [{}, {"bearer": []}, {"certificate": []}],
        }}},
        "components": {
            "schemas": {"error": error, "requirement": requirement(tools.get("scenario_define").unwrap())},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "certificate": {"type": "mutualTLS"},
            },
        },
    });
    published("openapi.json", &openapi);
}

/// The type that contains itself, for the whole document.
fn requirement(define: &Served) -> Value {
    moved(define.input()["$defs"]["requirement"].clone())
}

/// A schema as part of a larger document: what it refers to is there.
fn inside(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let members = schema.as_object_mut().unwrap();
    members.remove("$schema");
    let defs = members.remove("$defs");
    assert!(defs.is_none_or(|defs| defs.as_object().unwrap().keys().eq(["requirement"])), "another recursive type");
    moved(schema)
}

fn moved(schema: Value) -> Value {
    match schema {
        Value::Array(items) => items.into_iter().map(moved).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| match value {
                Value::String(text) if name == "$ref" => {
                    (name, text.replace("#/$defs/", "#/components/schemas/").into())
                }
                value => (name, moved(value)),
            })
            .collect(),
        other => other,
    }
}
