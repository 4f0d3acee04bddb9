//! `runpackd serve` and its HTTP door, over plain sockets.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;
#[path = "common/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{BASE, CONFIG, Client, export, held, next, quickstart, request, start, verify};
use runpackd_lib::http::{self, Face, Limits, Options, Sessions};
use runpackd_lib::mcp::Mcp;
use runpackd_lib::tools::{Answer, Hints, TOOLS, Tool};
use rustix::process::Signal;
use serde_json::{Value, json};
use wire::{Connection, Process};

/// A server on a thread of this process.
struct Here {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    ended: JoinHandle<()>,
}

impl Here {
    fn new(limits: Limits, tools: &'static [Tool]) -> Self {
        let (told, address) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let ended = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                told.send(listener.local_addr().unwrap()).unwrap();
                let stop = async { stopped.await.unwrap_or_default() };
                let tools = common::tools(CONFIG, tools);
                let mcp = Face::new(Mcp::over_http(Arc::clone(&tools)), Sessions::Never);
                let behind = http::Behind { tools, mcp, rate: None, tls: None };
                let (_change, changes) = tokio::sync::mpsc::channel(1);
                let options = Options { limits, ..Options::default() };
                http::serve(listener, behind, options, changes, stop).await.unwrap();
            });
            runtime.shutdown_background();
        });
        Self { address: address.recv().unwrap(), stop: Some(stop), ended }
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }
}

const LIST: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

/// Takes as long as `seconds` says.
const SLOW: Tool = Tool {
    name: "slow",
    title: "",
    description: "",
    schemas: r#"{"input": {}}"#,
    hints: Hints { read_only: true, destructive: false, idempotent: true, open_world: false },
    run: |_, _, arguments| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs_f64(arguments["seconds"].as_f64().unwrap())).await;
            Answer::of(&"slept")
        })
    },
};
const PANICS: Tool = Tool { name: "panics", run: |_, _, _| panic!("as it should"), ..SLOW };

fn slow(seconds: f64) -> Vec<u8> {
    request("slow", json!({"seconds": seconds})).to_string().into_bytes()
}

#[test]
fn what_does_not_belong_here_is_refused_with_what_to_do() {
    let here = Here::new(Limits::default(), TOOLS);
    let port = here.address.port();
    let own = [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("LOCALHOST:{port}"),
        format!("[::1]:{port}"),
    ];
    for name in &own {
        let origin = format!("http://{name}");
        let found = Connection::new(here.address).post(&[("Host", name), ("Origin", &origin)], LIST);
        assert_eq!(found.status, 200, "{name}");
    }
    let typed = [("Content-Type", "Application/JSON; charset=utf-8")];
    assert_eq!(Connection::new(here.address).post(&typed, LIST).status, 200);

    let elsewhere = format!("http://127.0.0.1:{}", port.wrapping_add(1));
    type Row<'a> = (&'a [(&'a str, &'a str)], u16, i64, &'a str);
    let table: &[Row<'_>] = &[
        (&[("Host", "evil.example")], 421, -32600, "this server is called "),
        (&[("Host", "127.0.0.1")], 421, -32600, "this server is called "),
        (&[("Host", "localhost.evil.example:1")], 421, -32600, "this server is called "),
        (&[("Host", "")], 421, -32600, "this server is called "),
        (&[("Origin", "http://evil.example")], 403, -32003, "unauthorized: requests made by web pages"),
        (&[("Origin", "null")], 403, -32003, "unauthorized: requests made by web pages"),
        (&[("Origin", &elsewhere)], 403, -32003, "unauthorized: requests made by web pages"),
        (&[("Content-Type", "text/plain")], 415, -32600, "the body is not declared as JSON"),
        (&[("Content-Type", "")], 415, -32600, "the body is not declared as JSON"),
        (&[("x-correlation-id", "a b")], 400, -32073, "invalid correlation id: contains_whitespace"),
        (&[("Content-Length", "10000000000")], 413, -32070, "request body too large"),
    ];
    for (headers, status, code, message) in table {
        let found = Connection::new(here.address).post(headers, LIST);
        let error = &found.json()["error"];
        assert_eq!((found.status, error["code"].as_i64().unwrap()), (*status, *code), "{headers:?}");
        let said = error["message"].as_str().unwrap();
        assert!(said.starts_with(message) && said.contains("\nhint: "), "{headers:?}: {said}");
        assert!(error["data"]["request_id"].is_null() && found.json()["id"].is_null(), "{headers:?}");
        assert_eq!(found.headers["content-type"], "application/json");
        assert!(found.headers.contains_key("x-server-correlation-id"), "{headers:?}");
    }
    // The name in the request line counts as much as the one in the head.
    for target in ["http://evil.example/rpc", "http://localhost/rpc"] {
        let head = format!("POST {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", here.address);
        assert_eq!(Connection::new(here.address).write(head).read().status, 421, "{target}");
    }
}

#[test]
fn routes_are_those_of_the_contract() {
    let here = Here::new(Limits::default(), TOOLS);
    let mut connection = Connection::new(here.address);
    let found = connection.get("/healthz");
    assert_eq!((found.status, found.json()), (200, json!({"status": "ok"})));
    let found = connection.get("/readyz");
    assert_eq!((found.status, found.json()), (200, json!({"status": "ready"})));
    let found = connection.get("/rpc");
    assert_eq!((found.status, found.headers["allow"].as_str(), found.body.len()), (405, "POST", 0));
    let found = connection.get("/");
    assert_eq!((found.status, found.body.len()), (404, 0));
}

#[test]
fn one_connection_serves_many_calls_and_each_answer_has_its_number() {
    let here = Here::new(Limits::default(), TOOLS);
    let mut connection = Connection::new(here.address);
    let mut numbers = Vec::new();
    for count in 0..100 {
        let id = format!(" call-{count} ");
        let found = connection.post(&[("x-correlation-id", &id)], LIST);
        assert_eq!((found.status, found.headers["x-correlation-id"].as_str()), (200, id.trim()));
        numbers.push(found.headers["x-server-correlation-id"].clone());
    }
    assert!(numbers.is_sorted() && numbers[99].ends_with("-0000000000000064"), "{}", numbers[99]);
    assert!(!connection.post(&[], b"garbage").headers.contains_key("x-correlation-id"));
}

#[test]
fn bodies_are_taken_up_to_the_limit_and_a_client_hears_when_they_are_not() {
    let here = Here::new(Limits { body_bytes_max: 1000, ..Limits::default() }, TOOLS);
    let padded = |bytes: usize| {
        let mut body = LIST.to_vec();
        body.resize(bytes, b' ');
        body
    };
    let mut connection = Connection::new(here.address);
    assert_eq!(connection.post(&[], &padded(1000)).status, 200);
    let found = connection.post(&[], &padded(1001));
    assert_eq!((found.status, found.json()["error"]["data"]["kind"].as_str()), (413, Some("request_too_large")));
    // More than any buffer on the way holds.
    let found = Connection::new(here.address).post(&[], &padded(8_000_000));
    assert_eq!(found.status, 413);
    let mut chunked = vec![];
    for _ in 0..100 {
        chunked.extend_from_slice(b"64\r\n");
        chunked.extend_from_slice(&[b' '; 100]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let found =
        Connection::new(here.address).post(&[("Content-Length", ""), ("Transfer-Encoding", "chunked")], &chunked);
    assert_eq!(found.status, 413);
}

#[test]
fn heads_are_limited() {
    let here = Here::new(Limits::default(), TOOLS);
    let many: Vec<_> = (0..70).map(|count| (format!("x-{count}"), "1".to_owned())).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(Connection::new(here.address).post(&many, LIST).status, 431);
    let long = "a".repeat(20_000);
    assert_eq!(Connection::new(here.address).post(&[("x-long", &long)], LIST).status, 431);
}

#[test]
fn slow_clients_are_dropped_and_idle_ones_are_not() {
    let limits = Limits {
        head_wait: Duration::from_millis(500),
        body_wait: Duration::from_millis(500),
        idle_wait: Duration::from_millis(2_500),
        ..Limits::default()
    };
    let here = Here::new(limits, TOOLS);
    let about = |took: Duration, expected: u64| {
        let expected = Duration::from_millis(expected);
        assert!(took + Duration::from_millis(50) > expected && took < expected + Duration::from_secs(1), "{took:?}");
    };
    // A head that never ends.
    about(Connection::new(here.address).write("POST /rpc HTTP/1.1\r\nHost: a").closed_after(), 500);
    // Nothing at all.
    about(Connection::new(here.address).closed_after(), 500);
    // A body that never ends.
    let mut connection = Connection::new(here.address);
    let found = connection.post(&[("Content-Length", "100")], b"{");
    assert_eq!((found.status, found.json()["error"]["code"].as_i64()), (408, Some(-32600)));
    connection.closed_after();
    // Between two calls there is time, and then for the head there is little.
    let mut connection = Connection::new(here.address);
    for _ in 0..2 {
        assert_eq!(connection.post(&[], LIST).status, 200);
        std::thread::sleep(Duration::from_millis(1_200));
    }
    about(connection.write("POST /rpc HTTP/1.1\r\n").closed_after(), 500);
    let mut connection = Connection::new(here.address);
    connection.post(&[], LIST);
    about(connection.closed_after(), 2_500);
}

#[test]
fn more_calls_than_there_is_room_for_are_told_to_come_again() {
    let here = Here::new(Limits { inflight_max: 1, ..Limits::default() }, &[SLOW]);
    let mut first = Connection::new(here.address);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| first.post(&[], &slow(1.0)));
        std::thread::sleep(Duration::from_millis(300));
        let found = Connection::new(here.address).post(&[], &slow(0.0));
        let error = &found.json()["error"];
        assert_eq!(
            (found.status, error["code"].as_i64(), &error["data"]["retryable"]),
            (503, Some(-32072), &json!(true))
        );
        assert_eq!(waiting.join().unwrap().status, 200);
    });
    assert_eq!(first.post(&[], &slow(0.0)).status, 200);
}

#[test]
fn more_connections_than_there_are_places_for_wait_for_one() {
    let here = Here::new(Limits { connections_max: 1, ..Limits::default() }, TOOLS);
    let mut first = Connection::new(here.address);
    assert_eq!(first.get("/healthz").status, 200);
    let mut second = Connection::new(here.address);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| second.get("/healthz").status);
        std::thread::sleep(Duration::from_millis(200));
        assert!(!waiting.is_finished());
        drop(first);
        assert_eq!(waiting.join().unwrap(), 200);
    });
}

#[test]
fn a_call_that_panics_is_answered_and_the_server_goes_on() {
    let here = Here::new(Limits::default(), &[PANICS, SLOW]);
    let mut connection = Connection::new(here.address);
    let (status, response) = connection.send(&request("panics", json!({})));
    let error = &response["error"];
    assert_eq!((status, error["code"].as_i64(), &response["id"]), (500, Some(-32050), &json!(7)));
    assert_eq!(connection.call("slow", json!({"seconds": 0.0})).unwrap(), json!("slept"));
}

#[test]
fn stopping_finishes_what_is_at_work() {
    let mut here = Here::new(Limits::default(), &[SLOW]);
    let mut idle = Connection::new(here.address);
    assert_eq!(idle.get("/healthz").status, 200);
    let mut busy = Connection::new(here.address);
    let mut gone = Connection::new(here.address);
    std::thread::scope(|scope| {
        let working = scope.spawn(|| busy.post(&[], &slow(1.0)));
        // A caller that goes away does not take its call with it.
        gone.write(format!("POST /rpc HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n", here.address));
        let body = slow(1.5);
        gone.write(format!("Content-Length: {}\r\n\r\n", body.len())).write(body);
        std::thread::sleep(Duration::from_millis(300));
        drop(gone);
        let began = Instant::now();
        here.stop();
        idle.closed_after();
        let answer = working.join().unwrap();
        assert_eq!((answer.status, answer.headers["connection"].as_str()), (200, "close"));
        assert!(TcpStream::connect(here.address).is_err(), "still accepting");
        here.ended.join().unwrap();
        let took = began.elapsed();
        assert!(took > Duration::from_millis(1_000) && took < Duration::from_secs(4), "{took:?}");
    });
}

#[test]
fn stopping_does_not_wait_for_ever() {
    let mut here = Here::new(Limits { drain_wait: Duration::from_millis(500), ..Limits::default() }, &[SLOW]);
    let mut busy = Connection::new(here.address);
    let body = slow(30.0);
    busy.write(format!("POST /rpc HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n", here.address));
    busy.write(format!("Content-Length: {}\r\n\r\n", body.len())).write(body);
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    here.stop();
    here.ended.join().unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn sigterm_lets_a_call_finish_and_the_process_ends_well() {
    let process = Process::new();
    let mut idle = Connection::new(process.address);
    idle.get("/readyz");
    let mut connection = Connection::new(process.address);
    let head = format!("POST /rpc HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n", process.address);
    connection.write(head).write(format!("Content-Length: {}\r\n\r\n", LIST.len())).write(&LIST[..5]);
    std::thread::sleep(Duration::from_millis(200));
    process.signal(Signal::TERM);
    idle.closed_after();
    assert!(TcpStream::connect(process.address).is_err(), "still accepting");
    let answer = connection.write(&LIST[5..]).read();
    assert_eq!((answer.status, answer.headers["connection"].as_str()), (200, "close"));
    assert_eq!(process.ended(), (Some(0), "stopping: calls at work are finished first\n".to_owned()));
}

#[test]
fn a_second_signal_does_not_wait() {
    let process = Process::new();
    let mut connection = Connection::new(process.address);
    connection.write("POST /rpc HTTP/1.1\r\n");
    std::thread::sleep(Duration::from_millis(200));
    process.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    process.signal(Signal::TERM);
    let (code, talk) = process.ended();
    assert_eq!((code, talk.lines().last()), (Some(2), Some("stopped at once")));
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_file_at_its_size_limit_does_not_kill_the_server() {
    let process = Process::new();
    process.signal(Signal::XFSZ);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(Connection::new(process.address).get("/healthz").status, 200);
}

/// Each heap of the C library keeps the most it ever held.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn there_are_few_heaps_unless_somebody_wants_another_number() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("decision-gate.toml"), CONFIG).unwrap();
    let heaps = |wanted: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runpackd"));
        command.arg("serve").current_dir(dir.path()).env_remove("MALLOC_ARENA_MAX");
        let process = Process::of(command.envs(wanted.map(|number| ("MALLOC_ARENA_MAX", number))));
        assert_eq!(Connection::new(process.address).get("/healthz").status, 200);
        let proc = format!("/proc/{}", process.child.id());
        let environment = fs::read_to_string(format!("{proc}/environ")).unwrap();
        let name = fs::read_to_string(format!("{proc}/comm")).unwrap();
        let setting = environment.split('\0').find_map(|line| line.strip_prefix("MALLOC_ARENA_MAX=")).unwrap();
        (name, setting.to_owned())
    };
    assert_eq!(heaps(None), ("runpackd\n".to_owned(), "4".to_owned()));
    assert_eq!(heaps(Some("7")), ("runpackd\n".to_owned(), "7".to_owned()));
}

#[test]
fn a_run_goes_over_the_wire_from_its_scenario_to_its_pack() {
    let process = Process::new();
    let work = tempfile::tempdir().unwrap();
    let pack = work.path().join("deep/down/pack");
    let mut client = Connection::new(process.address);
    client.call("scenario_define", quickstart("s")).unwrap();
    let state = client.call("scenario_start", start("s", "run", false)).unwrap();
    assert_eq!((&state["status"], &state["triggers"]), (&json!("active"), &json!([])));
    let decided = client.call("scenario_next", next("s", "run", "t", BASE)).unwrap();
    assert_eq!(decided["decision"]["outcome"], json!({"kind": "complete", "stage_id": "main"}));
    assert_eq!(client.call("scenario_next", next("s", "run", "t", BASE + 1)).unwrap(), decided);
    let exported = client.call("runpack_export", export("s", "run", &pack)).unwrap();
    assert_eq!(exported["manifest"]["security"]["dev_permissive"], true);
    assert_eq!(client.call("runpack_verify", verify(&pack)).unwrap()["status"], "pass");
    let decisions = pack.join("artifacts/decisions.json");
    let forged = fs::read_to_string(&decisions).unwrap().replace("\"complete\"", "\"fail\"");
    fs::write(decisions, forged).unwrap();
    assert_eq!(client.call("runpack_verify", verify(&pack)).unwrap()["status"], "fail");
}

/// Every acknowledged trigger of many clients on one run is there, once.
#[test]
fn clients_that_race_on_one_run_lose_nothing() {
    let process = Process::new();
    let work = tempfile::tempdir().unwrap();
    let pack = work.path().join("pack");
    let mut client = Connection::new(process.address);
    client.call("scenario_define", held("s")).unwrap();
    client.call("scenario_start", start("s", "run", false)).unwrap();
    let acknowledged: usize = std::thread::scope(|scope| {
        let race = |client: usize| {
            let mut connection = Connection::new(process.address);
            (0..50)
                .filter(|number| {
                    let answer =
                        connection.call("scenario_next", next("s", "run", &format!("t-{client}-{number}"), BASE));
                    match answer {
                        Ok(_) => true,
                        // Nothing was written, and the caller knows.
                        Err((code, _)) => {
                            assert_eq!(code, -32072);
                            false
                        }
                    }
                })
                .count()
        };
        let clients: Vec<_> = (0..8).map(|client| scope.spawn(move || race(client))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    client.call("runpack_export", export("s", "run", &pack)).unwrap();
    assert_eq!(client.call("runpack_verify", verify(&pack)).unwrap()["status"], "pass");
    let triggers: Vec<Value> =
        serde_json::from_slice(&fs::read(pack.join("artifacts/triggers.json")).unwrap()).unwrap();
    assert_eq!(triggers.len(), acknowledged);
}

/// The reference's recorded answers to odd requests.
#[test]
fn odd_requests_are_answered_as_they_always_were() {
    let Some(probe) = inputs::shared("reference/rpc_probe.json") else { return };
    let probe: BTreeMap<String, (u16, String, String)> = serde_json::from_slice(&fs::read(probe).unwrap()).unwrap();
    let here = Here::new(Limits::default(), TOOLS);
    let method = |method: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#);
    let no_such = json!({"scenario_id": "no-such", "request": {"tenant_id": 1, "namespace_id": 1, "run_id": "no-such",
        "requested_at": {"kind": "unix_millis", "value": 1}, "correlation_id": null}});
    let call = |name: &str, arguments: Value| {
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}})
            .to_string()
    };
    let same = [
        ("initialize", method("initialize")),
        ("ping", method("ping")),
        ("notification", r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned()),
        ("garbage", "garbage".to_owned()),
        ("empty", String::new()),
        ("batch", format!("[{}]", method("tools/list"))),
        ("jsonrpc 1.0", r#"{"jsonrpc":"1.0","id":1,"method":"tools/list"}"#.to_owned()),
        ("no such method", method("foo")),
        ("call no params", method("tools/call")),
        ("unknown tool", call("nope", json!({}))),
        ("missing args", call("scenario_status", json!({}))),
        ("not found", call("scenario_status", no_such)),
    ];
    for (name, body) in same {
        let found = Connection::new(here.address).post(&[], body.as_bytes());
        let (status, media, answer) = &probe[name];
        let mut answer: Value = serde_json::from_str(answer).unwrap();
        if answer["error"]["data"]["request_id"] == "*" {
            answer["error"]["data"]["request_id"] = json!("1");
        }
        assert_eq!((found.status, &found.headers["content-type"], found.json()), (*status, media, answer), "{name}");
    }
    // The tools that both have stand in the same order.
    for (name, id) in [("string id", json!("a")), ("null id", Value::Null), ("tools/list", json!(1))] {
        let body = json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"}).to_string();
        let found = Connection::new(here.address).post(&[], body.as_bytes()).json();
        let theirs: Value = serde_json::from_str(&probe[name].2).unwrap();
        let names = |list: &Value| {
            let tools = list["result"]["tools"].as_array().unwrap();
            let known = |name: &&Value| TOOLS.iter().any(|tool| **name == tool.name);
            tools.iter().map(|tool| &tool["name"]).filter(known).cloned().collect::<Vec<_>>()
        };
        assert_eq!((names(&found), &found["id"]), (names(&theirs), &theirs["id"]), "{name}");
    }
    assert_eq!(Connection::new(here.address).get("/rpc").status, probe["GET"].0);
}

#[test]
fn what_cannot_be_served_is_said_before_anything_listens() {
    let work = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let edit = |from: &str, to: &str| CONFIG.replace(from, to);
    let table = [
        (
            edit("127.0.0.1:0", "0.0.0.0:0"),
            "error: server.bind: non-loopback bind disallowed without auth policy\nhint: ",
        ),
        (edit("127.0.0.1:0", &taken), "error: cannot listen on `127.0.0.1:"),
        (
            format!("{CONFIG}\n[run_state_store]\ntype = \"sqlite\"\npath = \"decision-gate.toml/runs.db\"\n"),
            "error: run_state_store: ",
        ),
        (edit("[dev]", "[server.auth]\nmode = \"mtls\"\n[dev]"), "error: server.auth.mode: "),
    ];
    for (config, expected) in table {
        let (code, talk) = refused(work.path(), &config);
        assert!(code == Some(2) && talk.starts_with(expected) && talk.contains("\nhint: "), "{talk}");
    }
    fs::remove_file(work.path().join("decision-gate.toml")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_runpackd"))
        .arg("serve")
        .env("DECISION_GATE_CONFIG", "elsewhere.toml")
        .current_dir(work.path())
        .output()
        .unwrap();
    let talk = String::from_utf8(output.stderr).unwrap();
    assert!(talk.starts_with("error: cannot read the config `elsewhere.toml`: "), "{talk}");
}

fn refused(work: &Path, config: &str) -> (Option<i32>, String) {
    fs::write(work.join("decision-gate.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_runpackd"));
    let output = command.arg("serve").env_remove("DECISION_GATE_CONFIG").current_dir(work).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}
