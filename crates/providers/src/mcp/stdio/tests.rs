//! Programs in Python, which can do anything wrong, and one by the SDK.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use proptest::{prop_assert, prop_assert_eq, proptest};
use rmcp::ServiceExt as _;
use serde_json::{Value, json};

use crate::gather::tests::{context, query};
use crate::inputs;
use crate::mcp::tests::{StandardServer, ask, eventually, said, speaks_the_standard, value};
use crate::mcp::{McpConfig, McpDialect, McpProvider, McpTarget};
use crate::{EvidenceResult, Provider as _};
use runpack_core::model::EvidenceContext;

const PROGRAM: &str = r#"
import json, os, signal, subprocess, sys, time

lines, modern, notes = sys.argv[1] != "frames", sys.argv[1] == "modern", sys.argv[2]
inp, out = sys.stdin.buffer, sys.stdout.buffer

def note(*words):
    with open(notes, "a") as file:
        print(*words, file=file)

def starts():
    return sum(line.startswith("start ") for line in open(notes))

def read():
    if lines:
        line = inp.readline()
        return json.loads(line) if line else None
    length = None
    while True:
        head = inp.readline()
        if not head:
            return None
        if not head.strip():
            break
        name, value = head.split(b":", 1)
        if name == b"Content-Length":
            length = int(value)
    return json.loads(inp.read(length))

def send(message, head=True):
    body = json.dumps(message).encode()
    if lines:
        out.write(body + b"\n")
    elif head:
        out.write(b"Content-Length: %d\r\nX-Other: ignored\r\n\r\n" % len(body) + body)
    out.flush()

def result(id, value, **more):
    found = {"value": {"kind": "json", "value": value}, **more}
    block = {"type": "text", "text": json.dumps(found)} if lines else {"type": "json", "json": found}
    send({"jsonrpc": "2.0", "id": id, "result": {"content": [block]}})

def rest():
    while True:
        time.sleep(60)

note("start", os.getpid())
later = []
while True:
    message = read()
    if message is None:
        note("end")
        sys.exit(0)
    method, id = message.get("method"), message.get("id")
    if method is None:
        note("reply", json.dumps(message))
    elif method == "initialize" and lines and not modern:
        version = message["params"]["protocolVersion"]
        send({"jsonrpc": "2.0", "id": id, "result": {"protocolVersion": version, "capabilities": {},
            "serverInfo": {"name": "test", "version": "1"}}})
    elif method.startswith("notifications/"):
        note(method, json.dumps(message["params"]))
    elif method == "tools/call":
        assert message["params"]["name"] == "evidence_query"
        assert ("_meta" in message["params"]) == modern
        arguments = message["params"]["arguments"]
        params = arguments["query"].get("params") or {}
        do = params.get("do")
        note("ask", json.dumps(id), do)
        if do == "hang" or do == "hang once" and starts() == 1:
            rest()
        elif do == "crash" or do == "crash once" and starts() == 1:
            print("so\nlong", file=sys.stderr)
            sys.exit(3)
        elif do == "close":
            os.close(1)
            rest()
        elif do == "wrong id":
            result("somebody else's", 1)
        elif do == "text id":
            result(json.dumps(id), 1)
        elif do == "garbage":
            out.write(b"Traceback (most recent call last)\n")
            out.flush()
        elif do == "oversize":
            out.write(b'{"' + b"x" * 2_000_000 + b"\n" if lines else b"Content-Length: 1048577\r\n\r\n")
            out.flush()
        elif do == "long head":
            out.write(b"X: " + b"x" * 9_000)
            out.flush()
        elif do == "no length":
            out.write(b"X: y\r\n\r\n{}")
            out.flush()
        elif do == "half":
            out.write(b'{"jsonrpc"' if lines else b"Content-Length: 100\r\n\r\n{}")
            out.flush()
            sys.exit(4)
        elif do == "flood":
            sys.stderr.write("stderr " * 500_000)
            sys.stderr.flush()
            result(id, "dry")
        elif do == "env":
            result(id, sorted(os.environ))
        elif do == "family":
            result(id, subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
        elif do == "stubborn":
            result(id, None)
            rest()
        elif do == "error":
            send({"jsonrpc": "2.0", "id": id, "error": {"code": -32000, "message": "locked", "data": {"by": "me"}}})
        elif do == "ping":
            send({"jsonrpc": "2.0", "method": "notifications/message", "params": {}})
            send({"jsonrpc": "2.0", "id": "p", "method": "ping"})
            send({"jsonrpc": "2.0", "id": "r", "method": "roots/list"})
            result(id, "pong")
        elif do == "later":
            later.append(id)
        elif do == "sleep":
            time.sleep(params["s"])
            result(id, params)
        elif do == "who":
            result(id, [id, arguments["context"]["run_id"]])
        else:
            result(id, params)
            for id in later:
                result(id, "late")
            later = []
    else:
        send({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "method not found"}})
"#;

/// The program, and a place for what it notes.
struct Setting {
    at: tempfile::TempDir,
    python: String,
}

impl Setting {
    /// None if there is no Python 3 here.
    fn new() -> Option<Self> {
        // The program sees no variable, which what stands in for Python may need.
        let script = "import sys; print(sys.executable if sys.version_info >= (3, 8) else '')";
        let found = Command::new("python3").args(["-c", script]).output().ok();
        let python = found.map(|output| String::from_utf8(output.stdout).unwrap().trim().to_owned());
        let Some(python) = python.filter(|python| !python.is_empty()) else {
            let required = std::env::var("RUNPACK_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|name| name == "python"), "python is required and absent");
            inputs::absent("python3 is not there; how programs misbehave");
            return None;
        };
        let at = tempfile::tempdir().unwrap();
        fs::write(at.path().join("provider.py"), PROGRAM).unwrap();
        fs::write(at.path().join("notes"), "").unwrap();
        Some(Self { at, python })
    }

    fn notes(&self) -> PathBuf {
        self.at.path().join("notes")
    }

    fn noted(&self, prefix: &str) -> Vec<String> {
        let notes = fs::read_to_string(self.notes()).unwrap();
        notes.lines().filter_map(|line| line.strip_prefix(prefix)).map(|line| line.trim().to_owned()).collect()
    }

    fn starts(&self) -> usize {
        self.noted("start ").len()
    }

    /// The last program that was started.
    fn pid(&self) -> u64 {
        self.noted("start ").last().unwrap().parse().unwrap()
    }

    fn config(&self, framing: &str, dialect: McpDialect) -> McpConfig {
        let command = [&self.python, &self.at.path().join("provider.py").display().to_string(), framing];
        let command = command.into_iter().map(|word| (*word).to_owned());
        let command = command.chain([self.notes().display().to_string()]).collect();
        let target = McpTarget::Command { command, pass_env: Vec::new() };
        McpConfig { dialect, ..McpConfig::new("outside".into(), target) }
    }

    fn frames(&self) -> McpProvider {
        self.config("frames", McpDialect::Reference).build().unwrap()
    }

    fn lines(&self) -> McpProvider {
        self.config("lines", McpDialect::Standard).build().unwrap()
    }

    /// With so little patience that it shows.
    fn impatient(&self, framing: &str, dialect: McpDialect) -> McpProvider {
        let config = self.config(framing, dialect);
        McpConfig { request_timeout: Duration::from_secs(3), breaker_failures: 0, ..config }.build().unwrap()
    }
}

proptest! {
    #[test]
    fn any_output_is_read_to_some_end(output: Vec<u8>, frames in "(Content-Length: ?[0-9]{1,3}\r\n|X: y\n|\r\n|[{}a]){0,8}") {
        for output in [output.as_slice(), frames.as_bytes()] {
            let mut left = output;
            while let Ok(Some(message)) = super::frame(&mut left, 64).now_or_never().unwrap() {
                prop_assert!(message.len() <= 64);
            }
            let mut left = output;
            while let Ok(Some(message)) = super::line(&mut left, 64).now_or_never().unwrap() {
                prop_assert!(message.len() <= 65);
            }
        }
    }

    #[test]
    fn frames_are_told_apart(bodies: Vec<Vec<u8>>, lower: bool) {
        let name = if lower { "content-length" } else { "Content-Length" };
        let mut output = Vec::new();
        for body in &bodies {
            output.extend(format!("{name}: {}\r\nX-Other: y\r\n\r\n", body.len()).into_bytes());
            output.extend(body);
        }
        let mut left = output.as_slice();
        for body in &bodies {
            prop_assert_eq!(super::frame(&mut left, 1_000).now_or_never().unwrap(), Ok(Some(body.clone())));
        }
        prop_assert_eq!(super::frame(&mut left, 1_000).now_or_never().unwrap(), Ok(None));
    }
}

/// Whether no such process runs. One that nobody has waited for does not run.
#[cfg(target_os = "linux")]
fn gone(pid: u64) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

const TIMED_OUT: &str = "timed out after 3000 ms";

fn does(what: &str) -> Value {
    json!({"do": what})
}

#[tokio::test]
async fn a_program_is_asked_in_either_framing_and_started_once() {
    let Some(setting) = Setting::new() else { return };
    for (framing, dialect, starts) in [
        ("frames", McpDialect::Reference, 1),
        ("frames", McpDialect::Auto, 1),
        ("lines", McpDialect::Standard, 1),
        // It took the first frame for a line, which is none of its language.
        ("lines", McpDialect::Auto, 2),
        ("modern", McpDialect::Standard, 1),
    ] {
        fs::write(setting.notes(), "").unwrap();
        let provider = setting.config(framing, dialect).build().unwrap();
        assert_eq!(setting.starts(), 0);
        for n in 0..3 {
            assert_eq!(value(&ask(&provider, json!({"n": n})).await), &json!({"n": n}), "{framing} {dialect:?}");
        }
        assert_eq!(setting.starts(), starts, "{framing} {dialect:?}");
        // What was found out is kept.
        let text = said(&ask(&provider, does("crash")).await);
        assert_eq!(text, "mcp process exited: exit status: 3; it said last: so long");
        assert_eq!(value(&ask(&provider, json!({"n": 4})).await), &json!({"n": 4}));
        assert_eq!(setting.starts(), starts + 3, "{framing} {dialect:?}");
    }
}

/// The child of [`a_program_by_the_sdk_is_a_provider`].
#[tokio::test]
#[ignore = "a part of another test"]
async fn serve_the_standard() {
    if std::env::var_os("RUNPACK_TEST_SERVES").is_none() {
        return;
    }
    // Output belongs to the test runner, so the protocol has the pipe that was saved.
    let output = tokio::net::unix::pipe::OpenOptions::new().open_sender("/dev/fd/3").unwrap();
    let input = tokio::net::unix::pipe::OpenOptions::new().open_receiver("/dev/fd/0").unwrap();
    let server = StandardServer.serve((input, output)).await.unwrap();
    server.waiting().await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_program_by_the_sdk_is_a_provider() {
    let this = std::env::current_exe().unwrap().display().to_string();
    let script = "exec 3>&1 1>&2; export RUNPACK_TEST_SERVES=1; exec \"$0\" --exact mcp::stdio::tests::serve_the_standard --ignored --quiet";
    let command = ["/bin/sh", "-c", script, &this].map(str::to_owned).to_vec();
    for dialect in [McpDialect::Standard, McpDialect::Auto] {
        let target = McpTarget::Command { command: command.clone(), pass_env: Vec::new() };
        let provider = McpConfig { dialect, ..McpConfig::new("outside".into(), target) }.build().unwrap();
        speaks_the_standard(&provider).await;
    }
}

#[tokio::test]
async fn a_dead_program_is_started_again() {
    let Some(setting) = Setting::new() else { return };
    for provider in [setting.frames(), setting.lines()] {
        fs::write(setting.notes(), "").unwrap();
        assert_eq!(value(&ask(&provider, does("crash once")).await), &does("crash once"));
        assert_eq!(setting.starts(), 2);
    }
}

#[tokio::test]
async fn one_that_dies_of_the_first_question_is_still_found_out() {
    let Some(setting) = Setting::new() else { return };
    let config = setting.config("frames", McpDialect::Auto);
    let provider = McpConfig { connect_timeout: Duration::from_millis(100), ..config }.build().unwrap();
    assert_eq!(value(&ask(&provider, does("crash once")).await), &does("crash once"));
    assert_eq!(value(&ask(&provider, does("more")).await), &does("more"));
}

#[tokio::test]
async fn one_that_always_dies_is_asked_three_times_and_then_left_alone() {
    let Some(setting) = Setting::new() else { return };
    let config = setting.config("frames", McpDialect::Reference);
    let provider =
        McpConfig { breaker_failures: 1, breaker_pause: Duration::from_secs(600), ..config }.build().unwrap();
    let text = said(&ask(&provider, does("crash")).await);
    assert_eq!(text, "mcp process exited: exit status: 3; it said last: so long");
    assert_eq!(setting.starts(), 3);
    let text = said(&ask(&provider, does("who")).await);
    assert!(
        text.starts_with("not asked: it is tried again in 600 s; failures in a row: 1, of which the last: mcp"),
        "{text}"
    );
    assert_eq!(setting.starts(), 3);
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_program_and_not_the_provider() {
    let Some(setting) = Setting::new() else { return };
    let wrong = "invalid json-rpc response: ";
    let large = "mcp response exceeds size limit of 1048576 bytes";
    let rows = [
        ("frames", "wrong id", "nothing was asked under the id \"somebody else's\""),
        ("frames", "text id", "nothing was asked under the id \"1\""),
        ("frames", "garbage", "`Traceback (most recent call last)` where a frame should begin"),
        ("frames", "oversize", large),
        ("frames", "long head", "head of a frame exceeds 8192 bytes"),
        ("frames", "no length", "missing content length"),
        ("frames", "half", "mcp process exited: exit status: 4"),
        ("frames", "close", "mcp process ended its output"),
        ("lines", "wrong id", "nothing was asked under the id \"somebody else's\""),
        ("lines", "garbage", "not JSON: "),
        ("lines", "oversize", large),
        ("lines", "half", "mcp process exited: exit status: 4"),
    ];
    for (framing, what, text) in rows {
        let dialect = if framing == "lines" { McpDialect::Standard } else { McpDialect::Reference };
        let config = McpConfig { breaker_failures: 0, ..setting.config(framing, dialect) };
        let provider = config.build().unwrap();
        let found = said(&ask(&provider, does(what)).await);
        let found = found.strip_prefix(wrong).unwrap_or(&found);
        assert!(found.starts_with(text), "{framing} {what}: {found}");
        assert_eq!(value(&ask(&provider, does("more")).await), &does("more"), "{framing} {what}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn one_that_hangs_is_killed_and_nobody_else_has_to_wait() {
    let Some(setting) = Setting::new() else { return };
    for (framing, dialect) in [("frames", McpDialect::Reference), ("lines", McpDialect::Standard)] {
        let provider = setting.impatient(framing, dialect);
        assert_eq!(said(&ask(&provider, does("hang")).await), TIMED_OUT);
        let pid = setting.pid();
        eventually("what hangs is killed", || gone(pid)).await;
        assert_eq!(value(&ask(&provider, does("more")).await), &does("more"), "{framing}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn whoever_stops_waiting_leaves_everything_in_order() {
    let Some(setting) = Setting::new() else { return };
    for (framing, dialect) in [("frames", McpDialect::Reference), ("lines", McpDialect::Standard)] {
        let provider = setting.config(framing, dialect).build().unwrap();
        value(&ask(&provider, does("first")).await);
        let (pid, slow) = (setting.pid(), json!({"do": "sleep", "s": 0.3}));
        for _ in 0..3 {
            let asked = setting.noted("ask ").len();
            let reached = eventually("it is asked", || setting.noted("ask ").len() > asked);
            tokio::select! {
                _ = ask(&provider, slow.clone()) => panic!("nobody should have waited that long"),
                () = reached => {}
            }
            // The answer that nobody waits for is not taken for this one.
            assert_eq!(value(&ask(&provider, does("second")).await), &does("second"), "{framing}");
        }
        assert_eq!(setting.pid(), pid);
        if framing == "lines" {
            assert_eq!(setting.noted("notifications/cancelled").len(), 3);
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn one_that_hangs_is_killed_even_if_nobody_waits() {
    let Some(setting) = Setting::new() else { return };
    for (framing, dialect) in [("frames", McpDialect::Reference), ("lines", McpDialect::Standard)] {
        let provider = setting.impatient(framing, dialect);
        value(&ask(&provider, does("first")).await);
        let pid = setting.pid();
        let asked = setting.noted("ask ").len();
        tokio::select! {
            _ = ask(&provider, does("hang")) => panic!("it should hang"),
            () = eventually("it is asked", || setting.noted("ask ").len() > asked) => {}
        }
        eventually("what hangs is killed", || gone(pid)).await;
        assert_eq!(value(&ask(&provider, does("more")).await), &does("more"), "{framing}");
    }
}

#[tokio::test]
async fn questions_in_lines_are_answered_in_any_order() {
    let Some(setting) = Setting::new() else { return };
    let provider = setting.lines();
    value(&ask(&provider, does("first")).await);
    let questions = ["later", "later", "later", "now"].map(|what| ask(&provider, does(what)));
    let answers = join_all(questions).await;
    assert_eq!(
        answers.iter().map(value).collect::<Vec<_>>(),
        [&json!("late"), &json!("late"), &json!("late"), &does("now")]
    );
}

#[tokio::test]
async fn questions_in_frames_take_turns() {
    let Some(setting) = Setting::new() else { return };
    let provider = setting.frames();
    let answers = join_all((0..20).map(|n| ask(&provider, json!({"n": n})))).await;
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(value(answer), &json!({"n": n}));
    }
    assert_eq!(setting.starts(), 1);
}

#[tokio::test]
async fn one_slow_answer_does_not_cost_the_others_theirs() {
    let Some(setting) = Setting::new() else { return };
    let provider = setting.impatient("lines", McpDialect::Standard);
    value(&ask(&provider, does("first")).await);
    let (late, now) = tokio::join!(ask(&provider, does("later")), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        ask(&provider, does("ping")).await
    });
    assert_eq!((said(&late).as_str(), value(&now)), (TIMED_OUT, &json!("pong")));
    assert_eq!(value(&ask(&provider, does("more")).await), &does("more"));
    assert_eq!(setting.starts(), 1);
}

#[tokio::test]
async fn the_correlation_id_is_the_id_in_frames() {
    let Some(setting) = Setting::new() else { return };
    let provider = setting.frames();
    let correlated = EvidenceContext { correlation_id: Some("c-1".into()), ..context() };
    let who = async |context| provider.query(&query("outside", "look", Some(does("who"))), &context).await;
    assert_eq!(value(&who(correlated.clone()).await), &json!(["c-1", "run-1"]));
    assert_eq!(value(&who(context()).await), &json!([1, "run-1"]));
    let both: Vec<EvidenceResult> = join_all([who(correlated.clone()), who(correlated)]).await;
    assert!(both.iter().all(|result| result.error.is_none()));
}

#[tokio::test]
async fn a_refusal_keeps_its_code_and_data() {
    let Some(setting) = Setting::new() else { return };
    for provider in [setting.frames(), setting.lines()] {
        let result = ask(&provider, does("error")).await;
        assert_eq!(said(&result), "locked");
        assert_eq!(result.error.unwrap().details, Some(json!({"code": -32_000, "data": {"by": "me"}})));
    }
}

#[tokio::test]
async fn requests_of_the_programs_are_answered() {
    let Some(setting) = Setting::new() else { return };
    let provider = setting.lines();
    assert_eq!(value(&ask(&provider, does("ping")).await), "pong");
    assert_eq!(value(&ask(&provider, does("more")).await), &does("more"));
    eventually("both are answered", || setting.noted("reply ").len() == 2).await;
    let replies: Vec<Value> =
        setting.noted("reply ").iter().map(|reply| serde_json::from_str(reply).unwrap()).collect();
    assert_eq!(replies[0], json!({"jsonrpc": "2.0", "id": "p", "result": {}}));
    assert_eq!(replies[1]["error"]["code"], -32_601);
    assert_eq!(setting.noted("notifications/initialized"), ["{}"]);
}

#[tokio::test]
async fn a_program_that_complains_at_length_is_not_held_up() {
    let Some(setting) = Setting::new() else { return };
    let provider = setting.frames();
    assert_eq!(value(&ask(&provider, does("flood")).await), "dry");
    let text = said(&ask(&provider, does("crash")).await);
    assert!(text.len() < 700 && text.ends_with("so long"), "{text}");
}

#[tokio::test]
async fn no_variable_reaches_the_program_unasked() {
    let Some(setting) = Setting::new() else { return };
    // Cargo sets these for tests.
    let (named, secret) = ("CARGO_PKG_NAME", "CARGO_MANIFEST_DIR");
    assert!([named, secret, "PATH"].iter().all(|name| std::env::var_os(name).is_some()));
    let mut config = setting.config("frames", McpDialect::Reference);
    let McpTarget::Command { pass_env, .. } = &mut config.target else { panic!() };
    *pass_env = vec![named.to_owned(), "RUNPACK_NOT_SET".to_owned()];
    let result = ask(&config.build().unwrap(), does("env")).await;
    let names: Vec<&str> = value(&result).as_array().unwrap().iter().filter_map(Value::as_str).collect();
    // Python sets the other itself.
    let names: Vec<&str> =
        names.into_iter().filter(|name| !["LC_CTYPE", "__CF_USER_TEXT_ENCODING"].contains(name)).collect();
    assert_eq!(names, [named, "PATH"]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_well_behaved_program_ends_with_its_input() {
    let Some(setting) = Setting::new() else { return };
    for provider in [setting.frames(), setting.lines()] {
        fs::write(setting.notes(), "").unwrap();
        value(&ask(&provider, does("more")).await);
        let pid = setting.pid();
        assert!(!gone(pid));
        drop(provider);
        eventually("it has ended", || gone(pid)).await;
        assert_eq!(setting.noted("end").len(), 1);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn nothing_is_left_of_a_program_and_what_it_started() {
    let Some(setting) = Setting::new() else { return };
    for last in ["more", "stubborn", "crash", "hang"] {
        let provider = setting.impatient("frames", McpDialect::Reference);
        let child = value(&ask(&provider, does("family")).await).as_u64().unwrap();
        let pid = setting.pid();
        assert!(!gone(child) && !gone(pid));
        ask(&provider, does(last)).await;
        drop(provider);
        eventually("all are gone", || gone(child) && gone(pid)).await;
        let last = setting.pid();
        eventually("the last is gone", || gone(last)).await;
    }
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_is_left_when_the_runtime_ends_first() {
    let Some(setting) = Setting::new() else { return };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let provider = setting.frames();
    let first = runtime();
    let child = first.block_on(async { value(&ask(&provider, does("family")).await).as_u64().unwrap() });
    first.block_on(ask(&provider, does("stubborn")));
    drop(first);
    let pid = setting.pid();
    runtime().block_on(eventually("both are gone", || gone(child) && gone(pid)));
    drop(provider);
}
