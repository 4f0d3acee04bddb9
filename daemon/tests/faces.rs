//! The same tools over every face, with real clients: what is answered, what is
//! refused and how, and that nothing but protocol comes out of a pipe.

#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "common/wire.rs"]
mod wire;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{BASE, CONFIG, export, flow, next, quickstart, start, status, submit, verify};
use runpackd_lib::client::{Client, ClientError, Endpoint};
use runpackd_lib::tools::TOOLS;
use serde_json::{Value, json};
use wire::{Connection, Process};

fn client(endpoint: Endpoint) -> Client {
    Client { endpoint, token: None, patience: Duration::from_secs(30) }
}

fn config(dir: &Path, text: &str) -> std::path::PathBuf {
    let path = dir.join("decision-gate.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn pipe(config: &Path) -> Endpoint {
    let words = [env!("CARGO_BIN_EXE_runpackd"), "mcp", "--config", config.to_str().unwrap()];
    Endpoint::Pipe(words.map(str::to_owned).to_vec())
}

/// From a definition to a pack, and the answers on the way.
async fn lifecycle(client: &Client, pack: &Path) -> Vec<Value> {
    let steps = [
        ("scenario_define", flow("flow")),
        ("scenario_start", start("flow", "run", true)),
        ("scenario_next", next("flow", "run", "t-1", BASE + 1_000)),
        ("scenario_submit", submit("flow", "run", "s-1", json!({"any": [1, null]}))),
        ("scenario_status", status("flow", "run")),
        ("runpack_export", export("flow", "run", pack)),
        ("runpack_verify", verify(pack)),
    ];
    let mut answers = Vec::new();
    for (tool, arguments) in steps {
        answers.push(client.call(tool, arguments).await.unwrap_or_else(|error| panic!("{tool}: {error}")));
    }
    answers
}

#[tokio::test]
async fn every_face_answers_the_same_and_exports_the_same_pack() {
    let dir = tempfile::tempdir().unwrap();
    let own = |name: &str| {
        let text = format!(
            "{CONFIG}[run_state_store]\ntype = \"sqlite\"\npath = \"{}\"\n",
            dir.path().join(name).join("runs.db").display()
        );
        let below = dir.path().join(format!("{name}-config"));
        std::fs::create_dir(&below).unwrap();
        config(&below, &text);
        below
    };
    let (rpc, mcp) = (Process::at(&own("rpc")), Process::at(&own("mcp")));
    let faces = [
        Endpoint::Rpc(format!("http://{}/rpc", rpc.address)),
        Endpoint::Mcp(format!("http://{}/mcp", mcp.address)),
        pipe(&own("pipe").join("decision-gate.toml")),
    ];
    let mut answers = Vec::new();
    for (index, endpoint) in faces.into_iter().enumerate() {
        let client = client(endpoint);
        let pack = dir.path().join(format!("pack-{index}"));
        answers.push(lifecycle(&client, &pack).await);
        let names: Vec<_> = client.tools().await.unwrap().into_iter().map(|tool| tool.name).collect();
        assert_eq!(names, TOOLS.iter().map(|tool| tool.name).collect::<Vec<_>>());
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    assert_eq!(answers[0][6]["status"], "pass");
    for file in ["manifest.json", "artifacts/tool_calls.json"] {
        let read = |index: usize| std::fs::read(dir.path().join(format!("pack-{index}")).join(file)).unwrap();
        assert!(read(0) == read(1) && read(0) == read(2), "{file}");
    }
}

/// Several processes and a daemon at one store, as clients that probe first
/// start them.
#[tokio::test]
async fn processes_on_pipes_and_a_daemon_share_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        format!("{CONFIG}[run_state_store]\ntype = \"sqlite\"\npath = \"{}\"\n", dir.path().join("runs.db").display());
    let path = config(dir.path(), &text);
    let daemon = Process::at(dir.path());
    let over_http = client(Endpoint::Mcp(format!("http://{}/mcp", daemon.address)));
    let (one, two) = (client(pipe(&path)), client(pipe(&path)));
    over_http.call("scenario_define", quickstart("a")).await.unwrap();
    one.call("scenario_start", start("a", "r", false)).await.unwrap();
    let calls = [&over_http, &one, &two].into_iter().enumerate().map(async |(index, client)| {
        client.call("scenario_next", next("a", "r", &format!("t-{index}"), BASE)).await.unwrap()
    });
    let [first, second, third] = calls.collect::<Vec<_>>().try_into().ok().unwrap();
    tokio::join!(first, second, third);
    let answer = over_http.call("scenario_status", status("a", "r")).await.unwrap();
    assert_eq!(answer["status"], "completed");
}

#[tokio::test]
async fn refusals_over_mcp_are_answers_that_name_the_place() {
    let daemon = Process::new();
    let mcp = client(Endpoint::Mcp(format!("http://{}/mcp", daemon.address)));
    let refused = async |tool: &str, arguments: Value| match mcp.call(tool, arguments).await {
        Err(ClientError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    let mut odd = next("a", "r", "t", BASE);
    odd["request"]["more"] = json!(1);
    odd["request"]["tenant_id"] = json!("one");
    let why = refused("scenario_next", odd).await;
    assert!(why.starts_with("invalid_params: ") && why.contains("/request") && why.contains("more"), "{why}");
    assert!(why.contains("/request/tenant_id"), "{why}");
    assert!(refused("providers_list", json!({"x": 1})).await.contains("'x' was unexpected"));
    assert_eq!(refused("scenario_next", next("a", "r", "t", BASE)).await, "not_found: scenario not defined");
    assert_eq!(refused("none", json!({})).await, "unknown tool: none");
}

fn mcp_post(connection: &mut Connection, headers: &[(&str, &str)], body: &str) -> wire::Response {
    let host = connection.address;
    let mut head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Accept: application/json, text/event-stream\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    connection.write(head + "\r\n").write(body).read()
}

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

#[test]
fn the_mcp_door_is_guarded_like_the_other() {
    let daemon = Process::new();
    let mut connection = Connection::new(daemon.address);
    assert_eq!(mcp_post(&mut connection, &[], LIST).status, 200);
    for origin in ["http://evil.example", "null", "https://localhost:1"] {
        assert_eq!(mcp_post(&mut connection, &[("Origin", origin)], LIST).status, 403, "{origin}");
    }
    let response = mcp_post(&mut connection, &[], "{nonsense");
    assert_eq!((response.status, response.json()["error"]["code"].as_i64()), (400, Some(-32700)));
    let response = mcp_post(&mut connection, &[], &format!("[{LIST}]"));
    assert_eq!((response.status, response.json()["error"]["code"].as_i64()), (400, Some(-32600)));
    let host = connection.address;
    for method in ["GET", "DELETE"] {
        let head = format!("{method} /mcp HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n");
        assert_eq!(connection.write(head).read().status, 405, "{method}");
    }
    let evil = format!(
        "POST /mcp HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{LIST}",
        LIST.len()
    );
    assert_eq!(Connection::new(host).write(evil).read().status, 421);
}

#[test]
fn resources_are_read_without_a_record_and_completed() {
    let daemon = Process::new();
    let mut connection = Connection::new(daemon.address);
    let call = |connection: &mut Connection, tool: &str, arguments: Value| {
        connection.try_call(&common::request(tool, arguments)).unwrap()
    };
    call(&mut connection, "scenario_define", quickstart("a"));
    call(&mut connection, "scenario_start", start("a", "run-7", false));
    let mut ask = |method: &str, params: Value| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        mcp_post(&mut connection, &[], &body).json()
    };
    let read = |answer: Value| -> Value {
        serde_json::from_str(answer["result"]["contents"][0]["text"].as_str().unwrap()).unwrap()
    };
    let state = json!({"uri": "run://1/1/run-7/state"});
    let first = read(ask("resources/read", state.clone()));
    assert_eq!((first["run_id"].as_str(), first["status"].as_str()), (Some("run-7"), Some("active")));
    assert_eq!(read(ask("resources/read", state)), first);
    let missing = ask("resources/read", json!({"uri": "run://1/1/none/state"}));
    assert_eq!(missing["error"]["data"]["uri"], "run://1/1/none/state");
    // The namespace is not for tenant 2: told like a run that is not there.
    assert_eq!(
        ask("resources/read", json!({"uri": "run://2/1/run-7/state"}))["error"]["code"],
        missing["error"]["code"]
    );
    let mut complete = |name: &str, value: &str, known: Value| {
        let answer = ask(
            "completion/complete",
            json!({"ref": {"type": "ref/resource", "uri": "run://{tenant_id}/{namespace_id}/{run_id}/state"},
                "argument": {"name": name, "value": value}, "context": {"arguments": known}}),
        );
        answer["result"]["completion"]["values"].clone()
    };
    assert_eq!(complete("tenant_id", "", json!({})), json!(["1"]));
    assert_eq!(complete("namespace_id", "", json!({"tenant_id": "1"})), json!(["1"]));
    assert_eq!(complete("run_id", "ru", json!({"tenant_id": "1", "namespace_id": "1"})), json!(["run-7"]));
    assert_eq!(complete("run_id", "x", json!({"tenant_id": "1", "namespace_id": "1"})), json!([]));
    // What is in no storage, and what is no pack, is not there.
    for uri in ["run://1/1/run-7/manifest".to_owned(), format!("pack://{}", std::env::temp_dir().display())] {
        assert_eq!(ask("resources/read", json!({"uri": uri}))["error"]["code"], -32002, "{uri}");
    }
    let listed = ask("resources/list", json!({}));
    for resource in listed["result"]["resources"].as_array().unwrap() {
        let answer = ask("resources/read", json!({"uri": resource["uri"]}));
        assert!(!answer["result"]["contents"][0]["text"].as_str().unwrap().is_empty(), "{resource}");
    }
    // Only the start was recorded: no call of any tool.
    let pack = tempfile::tempdir().unwrap().path().join("pack");
    let mut other = Connection::new(daemon.address);
    other.try_call(&common::request("runpack_export", export("a", "run-7", &pack))).unwrap();
    let answer = ask("resources/read", json!({"uri": format!("pack://{}", pack.display())}));
    assert!(answer["result"].is_object(), "{answer}");
    let manifest = read(answer);
    assert_eq!(
        (&manifest["run_id"], manifest["integrity"]["file_hashes"].as_array().unwrap().len()),
        (&json!("run-7"), 8)
    );
    assert_eq!(std::fs::read(pack.join("artifacts/tool_calls.json")).unwrap(), b"[]");
}

fn spawn_pipe(dir: &Path) -> std::process::Child {
    let path = config(dir, CONFIG);
    Command::new(env!("CARGO_BIN_EXE_runpackd"))
        .args(["mcp", "--config", path.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn frame(text: &str) -> String {
    format!("Content-Length: {}\r\n\r\n{text}", text.len())
}

fn read_frame(out: &mut impl BufRead) -> Value {
    let mut head = String::new();
    out.read_line(&mut head).unwrap();
    let length = head.trim().strip_prefix("Content-Length: ").unwrap().parse().unwrap();
    out.read_line(&mut String::new()).unwrap();
    let mut body = vec![0; length];
    out.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn frames_on_a_pipe_are_the_dialect_of_rpc() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spawn_pipe(dir.path());
    let (mut input, mut out) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    write!(input, "{}", frame(LIST)).unwrap();
    let listed = read_frame(&mut out);
    assert_eq!(listed["result"]["tools"].as_array().unwrap().len(), TOOLS.len());
    let too_large = " ".repeat(1_048_577);
    write!(input, "content-length: {}\r\nX-Other: 1\r\n\r\n{too_large}", too_large.len()).unwrap();
    assert_eq!(read_frame(&mut out)["error"]["code"], -32070);
    write!(input, "{}", frame(&common::request("scenario_define", quickstart("a")).to_string())).unwrap();
    assert_eq!(read_frame(&mut out)["result"]["content"][0]["json"]["scenario_id"], "a");
    drop(input);
    assert_eq!(out.read(&mut [0]).unwrap(), 0, "nothing after the last answer");
    assert!(child.wait().unwrap().success());
}

#[test]
fn lines_on_a_pipe_are_the_model_context_protocol_and_garbage_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spawn_pipe(dir.path());
    let (mut input, mut out) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut ask = |line: &str| -> Value {
        writeln!(input, "{line}").unwrap();
        let mut answer = String::new();
        out.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    };
    let hello = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    assert_eq!(ask(hello)["result"]["serverInfo"]["name"], "runpackd");
    assert_eq!(ask("{nonsense")["error"]["code"], -32700);
    assert_eq!(ask(&" ".repeat(1_048_577))["error"]["code"], -32600);
    assert_eq!(ask(r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#)["id"], 2);
    drop(input);
    assert_eq!(out.read(&mut [0]).unwrap(), 0, "nothing after the last answer");
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_input_that_ends_at_once_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spawn_pipe(dir.path());
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
}
