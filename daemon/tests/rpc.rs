//! The JSON-RPC dialect and the tools behind it, without a server in between.

#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::fs;

use common::{
    BASE, CONFIG, Client, Direct, export, flow, held, next, quickstart, request, start, status, submit, tools, trigger,
    verify,
};
use runpackd_lib::tools::{CallError, TOOLS, ToolError};
use serde_json::{Value, json};

/// What an error looks like: HTTP status, code, kind, request id, message.
fn error(answer: (u16, Value)) -> (u16, i64, String, Value, String) {
    let (status, response) = answer;
    assert_eq!(response["jsonrpc"], "2.0");
    let error = &response["error"];
    let members: Vec<_> = error["data"].as_object().unwrap().keys().collect();
    assert_eq!(members, ["kind", "request_id", "retryable"]);
    assert_eq!(error["data"]["retryable"], false);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (
        status,
        error["code"].as_i64().unwrap(),
        text(&error["data"]["kind"]),
        error["data"]["request_id"].clone(),
        text(&error["message"]),
    )
}

#[test]
fn the_envelope_is_read_as_existing_clients_expect() {
    let direct = Direct::new();
    let invalid = (-32600, "invalid_request", "invalid json-rpc request");
    let table: &[(&str, (i64, &str, &str), Value)] = &[
        ("garbage", invalid, Value::Null),
        ("", invalid, Value::Null),
        ("\u{feff}{}", invalid, Value::Null),
        ("{} {}", invalid, Value::Null),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]"#, invalid, Value::Null),
        (r#"{"jsonrpc":"2.0","method":"tools/list"}"#, invalid, Value::Null),
        (r#"{"id":1,"method":"tools/list"}"#, invalid, Value::Null),
        (r#"{"jsonrpc":"2.0","id":1,"method":5}"#, invalid, Value::Null),
        (
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/list"}"#,
            (-32600, "invalid_request", "invalid json-rpc request: duplicate member `id` in ``"),
            Value::Null,
        ),
        (
            r#"{"jsonrpc":"1.0","id":1,"method":"tools/list"}"#,
            (-32600, "invalid_request", "invalid json-rpc version"),
            json!("1"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":"abc","method":"initialize"}"#,
            (-32601, "method_not_found", "method not found"),
            json!("\"abc\""),
        ),
        (
            r#"{"jsonrpc":"2.0","id":null,"method":"tools/call"}"#,
            (-32602, "invalid_params", "invalid tool params"),
            json!("null"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#,
            (-32602, "invalid_params", "invalid tool params"),
            json!("1"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{}}}"#,
            (-32601, "method_not_found", "unknown tool"),
            json!("1"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"scenario_status","arguments":{}}}"#,
            (-32602, "invalid_params", "missing field `scenario_id`"),
            json!("1"),
        ),
    ];
    for (body, (code, kind, message), id) in table {
        let found = error(direct.raw(body.as_bytes()));
        assert_eq!(found, (400, *code, (*kind).to_owned(), id.clone(), (*message).to_owned()), "{body}");
    }
    let deep =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}{}}}"#, "[".repeat(127), "]".repeat(127));
    assert!(error(direct.raw(deep.as_bytes())).4.contains("levels of arrays and objects"));
    let extra = r#"{"jsonrpc":"2.0","id":{"a":1.0},"method":"tools/list","params":[],"more":true}"#;
    let (code, response) = direct.raw(extra.as_bytes());
    assert_eq!((code, &response["id"]), (200, &json!({"a": 1.0})));
}

/// What tools answer when something is wrong: each in its code.
#[test]
fn each_trouble_of_a_tool_has_its_code_and_status() {
    let mut direct = Direct::new();
    let dir = tempfile::tempdir().unwrap();
    direct.call("scenario_define", held("held")).unwrap();
    direct.call("scenario_define", quickstart("other")).unwrap();
    direct.call("scenario_start", start("held", "run", false)).unwrap();
    direct.call("scenario_submit", submit("held", "run", "s", json!(1))).unwrap();
    let changed = |mut arguments: Value, pointer: &str, value: Value| {
        *arguments.pointer_mut(pointer).unwrap() = value;
        arguments
    };
    let mut nowhere = export("held", "run", dir.path());
    nowhere.as_object_mut().unwrap().remove("output_dir");
    let big = 9_007_199_254_740_993_u64;
    let table = [
        ("scenario_define", json!([]), 400, -32602, "invalid_params", "expected an object"),
        (
            "scenario_define",
            changed(held("a"), "/spec/namespace_id", json!(0)),
            400,
            -32602,
            "invalid_params",
            "expected a nonzero u64 (`/spec/namespace_id`)",
        ),
        (
            "scenario_define",
            changed(held("a"), "/spec/conditions/0/expected", json!(big)),
            400,
            -32602,
            "invalid_params",
            "9007199254740993",
        ),
        (
            "scenario_submit",
            submit("held", "run", "t", json!(big)),
            400,
            -32602,
            "invalid_params",
            "(`/request/payload/value`)",
        ),
        ("scenario_define", held("held"), 200, -32009, "conflict", "scenario already defined"),
        (
            "scenario_define",
            changed(held("a"), "/spec/stages", json!([])),
            200,
            -32030,
            "control_plane",
            "invalid scenario spec: ",
        ),
        (
            "scenario_define",
            changed(held("a"), "/spec/default_tenant_id", json!(2)),
            403,
            -32003,
            "unauthorized",
            "unauthorized",
        ),
        (
            "scenario_define",
            changed(held("a"), "/spec/default_tenant_id", Value::Null),
            403,
            -32003,
            "unauthorized",
            "unauthorized",
        ),
        ("scenario_start", start("none", "run", false), 200, -32004, "not_found", "scenario not defined"),
        ("scenario_start", start("held", "run", false), 200, -32030, "control_plane", "run already exists: run"),
        (
            "scenario_start",
            changed(start("held", "b", false), "/run_config/scenario_id", json!("other")),
            200,
            -32030,
            "control_plane",
            "scenario mismatch for run: other",
        ),
        (
            "scenario_start",
            changed(start("held", "b", false), "/run_config/namespace_id", json!(2)),
            200,
            -32030,
            "control_plane",
            "namespace mismatch for run: 2",
        ),
        ("scenario_status", status("held", "none"), 200, -32004, "not_found", "run not found: none"),
        (
            "scenario_next",
            next("other", "run", "t", BASE),
            200,
            -32030,
            "control_plane",
            "scenario mismatch for run: held",
        ),
        (
            "scenario_next",
            changed(next("held", "run", "t", BASE), "/request/time", json!({"kind": "unix_millis", "value": 1.5})),
            400,
            -32602,
            "invalid_params",
            "(`/request/time",
        ),
        ("scenario_submit", submit("held", "run", "s", json!(2)), 200, -32009, "conflict", "submission_id conflict: s"),
        (
            "runpack_export",
            nowhere,
            200,
            -32040,
            "runpack",
            "output_dir is required when runpack storage is not configured",
        ),
        ("runpack_export", export("held", "none", dir.path()), 200, -32004, "not_found", "run not found: none"),
        ("runpack_export", export("other", "run", &dir.path().join("p")), 200, -32040, "runpack", "spec hash mismatch"),
        (
            "runpack_export",
            changed(export("held", "run", dir.path()), "/tenant_id", json!(2)),
            403,
            -32003,
            "unauthorized",
            "unauthorized",
        ),
        (
            "runpack_verify",
            verify(&dir.path().join("none")),
            200,
            -32040,
            "runpack",
            "artifact error: unable to resolve runpack root",
        ),
    ];
    for (tool, arguments, status, code, kind, message) in table {
        let found = error(direct.send(&request(tool, arguments.clone())));
        let expected = (status, code, kind.to_owned(), json!("7"));
        assert_eq!((found.0, found.1, found.2, found.3), expected, "{tool} {arguments}: {}", found.4);
        assert!(found.4.contains(message), "{tool} {arguments}: {}", found.4);
    }
}

#[test]
fn unknown_members_of_arguments_are_dropped_before_anything_is_hashed() {
    let mut direct = Direct::new();
    let plain = direct.call("scenario_define", held("held")).unwrap();
    let mut strange = held("held");
    strange["spec"]["stages"][0]["colour"] = json!("red");
    strange["more"] = json!(1);
    assert_eq!(Direct::new().call("scenario_define", strange).unwrap(), plain);
}

#[test]
fn hidden_tools_are_unknown_and_tools_not_allowed_are_refused() {
    let config = CONFIG.replace(
        "[dev]",
        "[server.tools]\ndenylist = [\"runpack_verify\"]\n[server.auth]\nallowed_tools = [\"scenario_define\"]\n\n[dev]",
    );
    let mut direct = Direct::with(&config);
    let list = direct.raw(br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).1;
    assert_eq!(list["result"]["tools"].as_array().unwrap().len(), TOOLS.len() - 1);
    assert_eq!(direct.call("runpack_verify", json!({})), Err((-32601, "unknown tool".to_owned())));
    assert_eq!(direct.call("scenario_start", json!({})), Err((-32003, "unauthorized".to_owned())));
    direct.call("scenario_define", held("held")).unwrap();
}

#[test]
fn feedback_says_as_much_of_the_gates_as_the_policy_lets_it() {
    let held_by_env = || {
        let mut arguments = held("s");
        arguments["spec"]["conditions"][0]["query"] =
            json!({"provider_id": "env", "check_id": "get", "params": {"key": "HOME"}});
        arguments["spec"]["conditions"][0]["expected"] = json!("nobody lives here");
        arguments
    };
    let ask = |config: &str, feedback: Value| {
        let mut direct = Direct::with(config);
        direct.call("scenario_define", held_by_env()).unwrap();
        direct.call("scenario_start", start("s", "run", false)).unwrap();
        let mut arguments = next("s", "run", "t", BASE);
        if !feedback.is_null() {
            arguments["feedback"] = feedback;
        }
        direct.call("scenario_next", arguments).unwrap()["feedback"].take()
    };
    let trace = json!({"level": "trace", "gate_evaluations": [
        {"gate_id": "after-time", "status": "False", "trace": [{"condition_id": "after", "status": "False"}]}]});
    assert_eq!(ask(CONFIG, Value::Null), trace);
    assert_eq!(ask(CONFIG, json!("summary")), json!({"level": "summary"}));
    let mut denied = trace.clone();
    denied["denied_reason"] = json!("feedback level denied (requested=evidence, allowed=trace)");
    assert_eq!(ask(CONFIG, json!("evidence")), denied);

    let quiet = CONFIG.replace("[dev]", "[server.feedback.scenario_next]\nlocal_only_default = \"summary\"\n\n[dev]");
    assert_eq!(ask(&quiet, Value::Null), Value::Null);

    let open = CONFIG.replace(
        "[dev]",
        "[server.feedback.scenario_next]\nmax = \"evidence\"\nevidence_subjects = [\"loopback\"]\n\n[dev]",
    );
    let result = |feedback: &Value| feedback["gate_records"][0]["evidence"][0]["result"].clone();
    let redacted = result(&ask(&open, json!("evidence")));
    assert!(redacted["value"].is_null() && redacted["content_type"].is_null(), "{redacted}");
    assert!(redacted["evidence_hash"].is_object() && redacted["evidence_anchor"].is_object(), "{redacted}");
    let raw = format!("{open}\n[evidence]\nallow_raw_values = true\n");
    assert_eq!(result(&ask(&raw, json!("evidence")))["value"]["kind"], "json");
}

/// The calls behind the reference's packs, and the packs byte for byte.
#[test]
fn drives_make_the_packs_they_always_made() {
    let packs = inputs::shared("reference/packs");
    let work = tempfile::tempdir().unwrap();
    for name in ["quickstart", "flow", "held-5-trigger"] {
        let mut direct = Direct::new();
        let pack = work.path().join(name);
        drive(&mut direct, name, &pack);
        let answer = direct.call("runpack_verify", verify(&pack)).unwrap();
        assert_eq!(answer, json!({"report": {"checked_files": 8, "errors": [], "status": "pass"}, "status": "pass"}));
        let again = work.path().join(format!("{name}-again"));
        drive(&mut Restarting { config: in_file(&work.path().join(format!("{name}.db"))) }, name, &again);
        same_files(&again, &pack);
        if let Some(packs) = &packs {
            same_files(&pack, &packs.join(name));
        }
    }
}

fn in_file(store: &std::path::Path) -> String {
    format!("{CONFIG}\n[run_state_store]\ntype = \"sqlite\"\npath = {store:?}\n")
}

/// Every call goes to a service that has just been opened.
struct Restarting {
    config: String,
}

impl Client for Restarting {
    fn send(&mut self, request: &Value) -> (u16, Value) {
        Direct::with(&self.config).send(request)
    }
}

#[test]
fn a_scenario_is_defined_once_in_a_process_and_may_be_again_in_the_next() {
    let work = tempfile::tempdir().unwrap();
    let config = in_file(&work.path().join("runs.db"));
    let taken = Err((-32009, "scenario already defined".to_owned()));
    let mut first = Direct::with(&config);
    let defined = first.call("scenario_define", held("s")).unwrap();
    assert_eq!(first.call("scenario_define", held("s")), taken);
    drop(first);
    let mut second = Direct::with(&config);
    second.call("scenario_start", start("s", "run", false)).unwrap();
    assert_eq!(second.call("scenario_define", quickstart("s")), taken);
    assert_eq!(second.call("scenario_define", held("s")).unwrap(), defined);
    assert_eq!(second.call("scenario_define", held("s")), taken);
}

fn drive(client: &mut impl Client, name: &str, pack: &std::path::Path) {
    let id = format!("{}-corpus", name.split('-').next().unwrap());
    let (id, run) = (id.as_str(), "run-corpus");
    let mut call = |tool, arguments| client.call(tool, arguments).unwrap();
    match name {
        "quickstart" => {
            call("scenario_define", quickstart(id));
            call("scenario_start", start(id, run, false));
            assert_eq!(call("scenario_next", next(id, run, "trigger-1", BASE))["status"], "completed");
        }
        "flow" => {
            call("scenario_define", flow(id));
            assert_eq!(call("scenario_start", start(id, run, true))["current_stage_id"], "triage");
            call("scenario_next", next(id, run, "trigger-1", BASE + 100));
            call("scenario_next", next(id, run, "trigger-2", BASE + 1_000));
            call("scenario_trigger", trigger(id, run, "trigger-3", BASE + 1_500, "tick"));
            call("scenario_trigger", trigger(id, run, "trigger-4", BASE + 2_500, "tick"));
            call("scenario_trigger", trigger(id, run, "trigger-5", BASE + 2_700, "backend_event"));
            call("scenario_trigger", trigger(id, run, "trigger-6", BASE + 9_000, "tick"));
            assert_eq!(call("scenario_next", next(id, run, "trigger-7", BASE + 9_500))["status"], "failed");
        }
        _ => {
            call("scenario_define", held(id));
            call("scenario_start", start(id, run, false));
            for number in 1..=5 {
                let arguments = trigger(id, run, &format!("trigger-{number}"), BASE + number, "external_event");
                assert_eq!(call("scenario_trigger", arguments)["decision"]["outcome"]["kind"], "hold");
            }
        }
    }
    call("scenario_status", status(id, run));
    let answer = call("runpack_export", export(id, run, pack));
    assert_eq!(answer.as_object().unwrap().keys().collect::<Vec<_>>(), ["manifest", "report"]);
}

fn same_files(ours: &std::path::Path, theirs: &std::path::Path) {
    for name in fs::read_dir(theirs.join("artifacts")).unwrap().map(|entry| entry.unwrap().file_name()) {
        let file = std::path::Path::new("artifacts").join(name);
        assert!(fs::read(ours.join(&file)).unwrap() == fs::read(theirs.join(&file)).unwrap(), "{file:?} differs");
    }
    assert!(fs::read(ours.join("manifest.json")).unwrap() == fs::read(theirs.join("manifest.json")).unwrap());
}

#[test]
fn an_export_replaces_only_an_older_pack_of_the_same_run() {
    let mut direct = Direct::new();
    let work = tempfile::tempdir().unwrap();
    let pack = work.path().join("pack");
    direct.call("scenario_define", held("held")).unwrap();
    for run in ["one", "two"] {
        direct.call("scenario_start", start("held", run, false)).unwrap();
    }
    let first = direct.call("runpack_export", export("held", "one", &pack)).unwrap();
    // Nothing happened since: the same pack, and success.
    assert_eq!(direct.call("runpack_export", export("held", "one", &pack)).unwrap(), first);
    direct.call("scenario_next", next("held", "one", "t", BASE)).unwrap();
    let second = direct.call("runpack_export", export("held", "one", &pack)).unwrap();
    assert_ne!(first, second);
    assert_eq!(direct.call("runpack_verify", verify(&pack)).unwrap()["status"], "pass");

    let (code, message) = direct.call("runpack_export", export("held", "two", &pack)).unwrap_err();
    assert_eq!(code, -32040);
    assert!(message.ends_with("\nhint: choose another output_dir"), "{message}");
    let other = work.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("notes"), "mine").unwrap();
    direct.call("runpack_export", export("held", "two", &other)).unwrap_err();
    assert_eq!(fs::read(other.join("notes")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 2, "something was left behind");
}

#[test]
fn what_nobody_waits_for_is_stopped_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let pack = dir.path().join("pack");
    let direct = Direct::new();
    direct.answer("scenario_define", quickstart("a"));
    direct.answer("scenario_start", start("a", "r", false));
    let cancelled = |tool: &str, arguments: Value| {
        matches!(direct.abandoned(tool, arguments), Err(CallError::Tool(ToolError::Cancelled)))
    };
    assert!(cancelled("runpack_export", export("a", "r", &pack)));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing half-written");
    direct.answer("runpack_export", export("a", "r", &pack));
    assert!(cancelled("runpack_verify", verify(&pack)));
    assert_eq!(direct.answer("runpack_verify", verify(&pack))["status"], "pass");
}

#[test]
fn packs_go_to_the_storage_of_the_config_if_there_is_one() {
    let work = tempfile::tempdir().unwrap();
    let bucket = work.path().join("bucket");
    fs::create_dir(&bucket).unwrap();
    let storage =
        format!("{CONFIG}\n[runpack_storage]\ntype = \"object_store\"\nprovider = \"local\"\nbucket = {bucket:?}\n");
    let mut direct = Direct::with(&storage);
    direct.call("scenario_define", held("held")).unwrap();
    direct.call("scenario_start", start("held", "run", false)).unwrap();
    let ignored = work.path().join("ignored");
    let answer = direct.call("runpack_export", export("held", "run", &ignored)).unwrap();
    let uri = answer["storage_uri"].as_str().unwrap();
    assert!(uri.contains("/tenant/1/namespace/1/scenario/held/run/run/spec/sha256/") && uri.ends_with('/'), "{uri}");
    assert!(!ignored.exists());
}

/// For whom a provider is asked.
fn about() -> Value {
    json!({
        "tenant_id": 1, "namespace_id": 1, "run_id": "r", "scenario_id": "a", "stage_id": "main", "trigger_id": "t",
        "trigger_time": {"kind": "unix_millis", "value": BASE},
    })
}

#[allow(clippy::needless_pass_by_value, reason = "written where it is passed, as a literal")]
fn shape(id: &str, version: &str, schema: Value) -> Value {
    json!({
        "tenant_id": 1, "namespace_id": 1, "schema_id": id, "version": version, "schema": schema, "description": null,
        "created_at": {"kind": "unix_millis", "value": BASE},
    })
}

fn precheck(id: &str, payload: &Value) -> Value {
    json!({
        "tenant_id": 1, "namespace_id": 1, "scenario_id": "a", "data_shape": {"schema_id": id, "version": "1"},
        "payload": payload,
    })
}

/// Each tool's schema admits what the tool takes, and nothing else of the same
/// members.
#[test]
fn the_schemas_admit_the_requests_that_tools_take() {
    let run = std::path::Path::new("/tmp/pack");
    let examples = [
        ("scenario_define", vec![quickstart("a"), flow("a")]),
        ("scenario_start", vec![start("a", "r", true)]),
        ("scenario_status", vec![status("a", "r")]),
        ("scenario_next", vec![next("a", "r", "t", BASE)]),
        ("scenario_submit", vec![submit("a", "r", "s", json!({"any": [1, null]}))]),
        ("scenario_trigger", vec![trigger("a", "r", "t", BASE, "tick")]),
        ("evidence_query", vec![json!({"query": {"provider_id": "time", "check_id": "now"}, "context": about()})]),
        ("runpack_export", vec![export("a", "r", run)]),
        ("runpack_verify", vec![verify(run)]),
        ("providers_list", vec![json!({})]),
        ("provider_contract_get", vec![json!({"provider_id": "time"})]),
        ("provider_check_schema_get", vec![json!({"provider_id": "time", "check_id": "now"})]),
        ("schemas_register", vec![json!({"record": shape("s", "1", json!({"type": "object"}))})]),
        ("schemas_list", vec![json!({"tenant_id": 1, "namespace_id": 1, "cursor": "x", "limit": 1000})]),
        ("schemas_get", vec![json!({"tenant_id": 1, "namespace_id": 1, "schema_id": "s", "version": "1"})]),
        ("scenarios_list", vec![json!({"tenant_id": 1, "namespace_id": 1, "cursor": null, "limit": 1})]),
        ("precheck", vec![precheck("s", &json!({"a": true}))]),
        ("decision_gate_docs_search", vec![json!({"query": "", "max_sections": 10})]),
    ];
    let tools = tools(CONFIG, TOOLS);
    assert_eq!(
        examples.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        TOOLS.iter().map(|tool| tool.name).collect::<Vec<_>>()
    );
    for (name, examples) in examples {
        let validator = jsonschema::draft202012::new(&tools.get(name).unwrap().input()).unwrap();
        for example in examples {
            validator.validate(&example).unwrap_or_else(|fault| panic!("{name}: {fault}: {example}"));
            // What a payload is, the data shape says.
            for member in example.as_object().unwrap().keys().filter(|member| *member != "payload") {
                let mut broken = example.clone();
                broken[member] = json!([true]);
                assert!(!validator.is_valid(&broken), "{name}: {member} may be anything");
            }
        }
        assert_eq!(validator.is_valid(&json!({})), name == "providers_list", "{name}");
    }
}

/// What is listed agrees with what the reference lists, as far as clients
/// depend on it.
#[test]
fn the_schemas_ask_for_what_they_always_asked_for() {
    let Some(tooling) = inputs::shared("reference/tooling.json") else { return };
    let tooling: Vec<Value> = serde_json::from_slice(&fs::read(tooling).unwrap()).unwrap();
    let tools = tools(CONFIG, TOOLS);
    let theirs = tooling.iter().filter(|theirs| TOOLS.iter().any(|tool| theirs["name"] == tool.name));
    for (theirs, ours) in theirs.zip(tools.listed()) {
        let name = ours.tool.name;
        assert_eq!(theirs["name"], name, "the order");
        for example in theirs["examples"].as_array().unwrap() {
            for (side, schema) in [("input", &ours.input()), ("output", &ours.output())] {
                let validator = jsonschema::draft202012::new(schema).unwrap();
                validator.validate(&example[side]).unwrap_or_else(|fault| panic!("{name}: {side}: {fault}"));
            }
        }
        // Scenarios are a schema of their own there, and part of ours.
        if name != "scenario_define" {
            agree(name, &ours.input(), &ours.input(), &theirs["input_schema"]);
        }
        agree(name, &ours.output(), &ours.output(), &theirs["output_schema"]);
    }
}

/// Compares members, which of them are required, and plain types.
fn agree(at: &str, root: &Value, ours: &Value, theirs: &Value) {
    let ours = match ours.get("$ref").and_then(Value::as_str) {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => ours,
    };
    let ours = ours.get("anyOf").map_or(ours, |either| &either[0]);
    let Some(properties) = theirs["properties"].as_object() else { return };
    let required = |schema: &Value| {
        let mut names: Vec<_> =
            schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        // Published there as optional, and yet required by the code.
        let published = ["scenario_start/run_config", "evidence_query/context"];
        names.retain(|name| !(published.contains(&at) && name == "namespace_id"));
        // A data shape may be registered without one, and is shown with null.
        names.retain(|name| !(at.starts_with("schemas_") && name == "description"));
        names.sort();
        names
    };
    assert_eq!(required(ours), required(theirs), "{at}");
    // Published there and never answered, and the other way round.
    let odd = [("scenario_status", "namespace_id"), ("runpack_export/manifest", "anchor_policy")];
    let members = |schema: &Value| {
        let members = schema["properties"].as_object().unwrap().keys().cloned();
        members.filter(|name| !odd.contains(&(at, name))).collect::<Vec<_>>()
    };
    assert_eq!(members(ours), members(theirs), "{at}");
    for (name, theirs) in properties {
        let mine = &ours["properties"][name];
        if let (Some(mine), Some(theirs)) = (mine["type"].as_str(), theirs["type"].as_str()) {
            assert_eq!(mine, theirs, "{at}/{name}");
        }
        agree(&format!("{at}/{name}"), root, mine, theirs);
    }
}

/// A service whose local callers may register data shapes.
const REGISTRY: &str = "[schema_registry.acl]\nallow_local_only = true\n";

#[test]
fn evidence_is_asked_for_as_a_condition_would_and_shown_as_far_as_it_may_be() {
    let direct = Direct::new();
    let ask = |query: Value| direct.answer("evidence_query", json!({"query": query, "context": about()}));
    let result = ask(json!({"provider_id": "time", "check_id": "now"}))["result"].clone();
    // Nobody agreed to show values of this provider.
    assert_eq!(result["value"], Value::Null);
    assert_eq!(
        result["evidence_hash"]["value"],
        runpack_core::canon::Digest::of(BASE.to_string().as_bytes()).to_string()
    );
    assert_eq!(result["evidence_anchor"]["anchor_value"], BASE.to_string());
    // A provider that fails is an answer.
    let result = ask(json!({"provider_id": "env", "check_id": "get", "params": {"key": "PATH"}}));
    assert!(result["result"]["error"]["message"].as_str().unwrap().contains("env key blocked by policy"));
    for (query, code) in [
        (json!({"provider_id": "none", "check_id": "now"}), "provider_missing"),
        (json!({"provider_id": "time", "check_id": "none"}), "check_missing"),
        (json!({"provider_id": "env", "check_id": "get"}), "params_missing"),
        (json!({"provider_id": "env", "check_id": "get", "params": {"key": 1}}), "params_invalid"),
    ] {
        let (status, number, kind, _, message) =
            error(direct.ask("evidence_query", json!({"query": query, "context": about()})));
        assert_eq!((status, number, kind.as_str()), (400, -32602, "invalid_params"));
        assert!(message.starts_with(&format!("{code}: ")), "{message}");
    }
    let shown =
        Direct::with(&format!("{CONFIG}[evidence]\nallow_raw_values = true\nrequire_provider_opt_in = false\n"));
    let query = json!({"query": {"provider_id": "time", "check_id": "now"}, "context": about()});
    let value = shown.answer("evidence_query", query)["result"]["value"].clone();
    assert_eq!(value, json!({"kind": "json", "value": BASE}));
}

#[test]
fn a_scenario_that_nobody_could_answer_is_refused_with_the_reason() {
    let direct = Direct::new();
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut arguments = quickstart("a");
        edit(&mut arguments["spec"]["conditions"][0]);
        error(direct.ask("scenario_define", arguments)).4
    };
    let query = |provider: &str, check: &str| json!({"provider_id": provider, "check_id": check});
    assert!(with(&|condition| condition["query"] = query("none", "x")).starts_with("provider_missing: "));
    assert!(with(&|condition| condition["query"] = query("time", "x")).starts_with("check_missing: "));
    assert!(
        with(&|condition| condition["comparator"] = json!("greater_than"))
            .contains("comparator greater_than not allowed")
    );
    assert!(with(&|condition| condition["comparator"] = json!("in_set")).contains("expected array required"));
    direct.answer("scenario_define", quickstart("a"));
}

#[test]
fn providers_are_listed_with_contracts_and_hidden_where_the_operator_says() {
    let direct = Direct::new();
    let list = direct.answer("providers_list", json!({}));
    assert_eq!(
        list["providers"],
        json!([
            {"provider_id": "env", "transport": "builtin", "checks": ["get"]},
            {"provider_id": "time", "transport": "builtin", "checks": ["after", "before", "now"]},
        ])
    );
    let contract = direct.answer("provider_contract_get", json!({"provider_id": "time"}));
    let digest = runpack_core::canon::Digest::of_canonical(&contract["contract"]).unwrap();
    assert_eq!(contract["contract_hash"]["value"], digest.to_string());
    let check = direct.answer("provider_check_schema_get", json!({"provider_id": "time", "check_id": "after"}));
    assert_eq!(check["result_schema"]["type"], "boolean");
    assert_eq!(check["contract_hash"], contract["contract_hash"]);
    let hidden = Direct::with(&format!("{CONFIG}[provider_discovery]\ndenylist = [\"time\"]\n"));
    assert_eq!(hidden.answer("providers_list", json!({}))["providers"].as_array().unwrap().len(), 1);
    let (status, _, _, _, message) = error(hidden.ask("provider_contract_get", json!({"provider_id": "time"})));
    assert_eq!((status, message.as_str()), (403, "unauthorized"));
    let short = Direct::with(&format!("{CONFIG}[provider_discovery]\nmax_response_bytes = 100\n"));
    let (status, code, _, _, message) = error(short.ask("provider_contract_get", json!({"provider_id": "time"})));
    assert_eq!((status, code), (200, -32070));
    assert!(message.starts_with("provider discovery response exceeds size limit"), "{message}");
}

#[test]
fn data_shapes_are_registered_once_and_listed_page_by_page() {
    let direct = Direct::with(&format!("{CONFIG}{REGISTRY}"));
    let register = |id: &str, version: &str, schema: Value| {
        direct.ask("schemas_register", json!({"record": shape(id, version, schema)}))
    };
    for (id, version) in [("b", "1"), ("a", "2"), ("a", "10")] {
        assert_eq!(register(id, version, json!({"type": "object"})).0, 200);
    }
    let (_, code, _, _, message) = error(register("a", "2", json!(true)));
    assert_eq!((code, message.as_str()), (-32009, "schema already registered"));
    assert!(error(register("c", "1", json!({"type": "no"}))).4.starts_with("invalid schema"));
    let mut cursor = Value::Null;
    let mut seen = Vec::new();
    loop {
        let page =
            direct.answer("schemas_list", json!({"tenant_id": 1, "namespace_id": 1, "limit": 2, "cursor": cursor}));
        let items = page["items"].as_array().unwrap().clone();
        seen.extend(items.iter().map(|item| (item["schema_id"].clone(), item["version"].clone())));
        cursor = page["next_token"].clone();
        if cursor.is_null() {
            break;
        }
        assert_eq!(items.len(), 2);
    }
    assert_eq!(seen, [("a", "10"), ("a", "2"), ("b", "1")].map(|(id, version)| (json!(id), json!(version))));
    for (arguments, problem) in [
        (json!({"cursor": "x"}), "invalid cursor"),
        (json!({"cursor": "{\"schema_id\":\"z\",\"version\":\"1\"}"}), "invalid cursor"),
        (json!({"limit": 0}), "limit must be between 1 and 1000"),
        (json!({"limit": 1001}), "limit must be between 1 and 1000"),
    ] {
        let mut arguments = arguments;
        (arguments["tenant_id"], arguments["namespace_id"]) = (json!(1), json!(1));
        assert!(error(direct.ask("schemas_list", arguments)).4.contains(problem));
    }
    let get = json!({"tenant_id": 1, "namespace_id": 1, "schema_id": "a", "version": "3"});
    assert_eq!(error(direct.ask("schemas_get", get)).4, "schema not found");
    // Without a role, and without leave for local callers, nobody reads or writes.
    let closed = Direct::new();
    let record = json!({"record": shape("a", "1", json!(true))});
    assert_eq!(error(closed.ask("schemas_register", record)).0, 403);
    assert_eq!(error(closed.ask("schemas_list", json!({"tenant_id": 1, "namespace_id": 1}))).0, 403);
}

#[test]
fn data_shapes_have_a_size_and_a_number() {
    let direct =
        Direct::with(&format!("{CONFIG}[schema_registry]\nmax_schema_bytes = 40\nmax_entries = 1\n{REGISTRY}"));
    let register = |id: &str, schema: Value| direct.ask("schemas_register", json!({"record": shape(id, "1", schema)}));
    let long = json!({"type": "object", "description": "x".repeat(40)});
    assert!(error(register("a", long)).4.starts_with("schema exceeds size limit: "));
    assert_eq!(register("a", json!({"type": "object"})).0, 200);
    let (_, code, _, _, message) = error(register("b", json!({"type": "object"})));
    assert_eq!((code, message.as_str()), (-32009, "schema registry max entries exceeded"));
}

#[test]
fn a_precheck_decides_on_a_payload_and_records_nothing() {
    let direct = Direct::with(&format!("{CONFIG}{REGISTRY}"));
    let mut scenario = quickstart("a");
    let condition = scenario["spec"]["conditions"][0]["condition_id"].as_str().unwrap().to_owned();
    scenario["spec"]["conditions"][0]["comparator"] = json!("equals");
    scenario["spec"]["conditions"][0]["expected"] = json!(true);
    direct.answer("scenario_define", scenario.clone());
    let properties =
        json!({"type": "object", "properties": {&condition: {"type": "boolean"}}, "additionalProperties": false});
    direct.answer("schemas_register", json!({"record": shape("s", "1", properties)}));
    let outcome = |payload: Value| direct.answer("precheck", precheck("s", &payload))["decision"]["kind"].clone();
    assert_eq!(outcome(json!({&condition: true})), "complete");
    assert_eq!(outcome(json!({&condition: false})), "hold");
    assert_eq!(outcome(json!({})), "hold");
    let problem = |arguments: Value| error(direct.ask("precheck", arguments)).4;
    assert!(problem(precheck("s", &json!({"more": 1}))).starts_with("payload does not match schema"));
    assert_eq!(problem(precheck("none", &json!({}))), "schema not found");
    let mut other = precheck("s", &json!({}));
    other["scenario_id"] = json!("none");
    assert_eq!(problem(other.clone()), "scenario not in namespace");
    other["scenario_id"] = Value::Null;
    assert_eq!(problem(other.clone()), "scenario_id or spec is required");
    // A scenario need not be defined to be tried.
    other["spec"] = scenario["spec"].clone();
    other["spec"]["scenario_id"] = json!("never-defined");
    assert_eq!(direct.answer("precheck", other)["decision"]["kind"], "hold");
    let shape_without = json!({"type": "object", "properties": {"x": {"type": "boolean"}}});
    direct.answer("schemas_register", json!({"record": shape("t", "1", shape_without)}));
    assert!(problem(precheck("t", &json!({}))).contains("missing from data shape schema"));
}

#[test]
fn scenarios_are_listed_for_their_tenant_page_by_page() {
    let direct = Direct::new();
    for id in ["b", "a", "c"] {
        direct.answer("scenario_define", quickstart(id));
    }
    let list = |cursor: Value| {
        direct.answer("scenarios_list", json!({"tenant_id": 1, "namespace_id": 1, "limit": 2, "cursor": cursor}))
    };
    let first = list(Value::Null);
    let ids = |page: &Value| {
        page["items"].as_array().unwrap().iter().map(|item| item["scenario_id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((ids(&first), &first["next_token"]), (vec![json!("a"), json!("b")], &json!("b")));
    let second = list(json!("b"));
    assert_eq!((ids(&second), &second["next_token"]), (vec![json!("c")], &Value::Null));
    assert!(
        error(direct.ask("scenarios_list", json!({"tenant_id": 1, "namespace_id": 1, "cursor": "z"})))
            .4
            .contains("invalid cursor")
    );
}

#[test]
fn documents_are_searched_listed_and_read() {
    let direct = Direct::new();
    let found = direct.answer("decision_gate_docs_search", json!({"query": "comparators", "max_sections": 2}));
    assert_eq!(found["sections"][0]["doc_id"], "scenarios");
    let ask = |method: &str, params: Value| {
        direct.raw(json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string().as_bytes())
    };
    let list = ask("resources/list", Value::Null).1;
    let uri = list["result"]["resources"][0]["uri"].clone();
    for params in [json!({"uri": uri}), json!({"arguments": {"uri": uri}})] {
        let read = ask("resources/read", params).1;
        assert!(read["result"]["contents"][0]["text"].as_str().unwrap().starts_with("# "));
    }
    assert!(
        error(ask("resources/read", json!({"uri": "file:///etc/passwd"})))
            .4
            .contains("must start with decision-gate://docs/")
    );
    assert!(
        error(ask("resources/read", json!({"uri": "decision-gate://docs/none"}))).4.contains("unknown resource uri")
    );
    let silent = Direct::with(&format!("{CONFIG}[docs]\nenabled = false\n"));
    assert_eq!(error(silent.ask("decision_gate_docs_search", json!({"query": ""}))).4, "unknown tool");
}

#[test]
fn the_scheduler_ends_a_stage_that_has_timed_out_and_no_other() {
    let direct = Direct::new();
    for id in ["flow", "held"] {
        direct.answer("scenario_define", if id == "flow" { flow(id) } else { held(id) });
        direct.answer("scenario_start", start(id, id, false));
    }
    // Into the stage `fast`, which lasts a second and then goes on to `last`.
    let entered = BASE + 1_000;
    direct.answer("scenario_next", next("flow", "flow", "t-1", entered));
    let stage = || direct.answer("scenario_status", status("flow", "flow"))["current_stage_id"].clone();
    assert_eq!(stage(), "fast");
    assert_eq!(direct.tick(entered + 999), Ok(0));
    assert_eq!(direct.tick(entered + 1_000), Ok(1));
    assert_eq!(stage(), "last");
    assert_eq!(direct.tick(entered + 1_000), Ok(0), "a tick is sent once");
    assert_eq!(direct.tick(entered + 1_500), Ok(1));
    assert_eq!(direct.answer("scenario_status", status("flow", "flow"))["status"], "failed");
    assert_eq!(direct.answer("scenario_status", status("held", "held"))["status"], "active");
}
