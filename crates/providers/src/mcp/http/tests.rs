use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use runpack_core::model::EvidenceContext;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::Provider as _;
use crate::gather::tests::{context, query};
use crate::mcp::tests::{StandardServer, ask, said, speaks_the_standard, value};
use crate::mcp::{McpConfig, McpDialect, McpProvider, McpTarget};

/// What a [`Server`] was sent.
#[derive(Debug, Clone)]
struct Asked {
    head: String,
    body: Value,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")))?;
        Some(line.split_once(": ")?.1)
    }

    fn method(&self) -> &str {
        self.body["method"].as_str().unwrap()
    }

    fn result(&self, value: &Value) -> String {
        let found = json!({"value": {"kind": "json", "value": value}});
        self.reply(&json!({"content": [{"type": "json", "json": found}]}))
    }

    fn reply(&self, result: &Value) -> String {
        ok("application/json", &json!({"jsonrpc": "2.0", "id": self.body["id"], "result": result}).to_string())
    }

    fn unknown_method(&self) -> String {
        let error = json!({"code": -32_601, "message": "method not found"});
        status("400 Bad Request", &json!({"jsonrpc": "2.0", "id": self.body["id"], "error": error}).to_string())
    }
}

fn ok(kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn status(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// A server on a loopback port that says what it is told to say. Nothing at
/// all is said by an empty answer, which keeps the connection open.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    async fn start(answer: impl Fn(&Asked) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (asked.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (kept, answer) = (kept.clone(), answer.clone());
                tokio::spawn(async move {
                    let Some(asked) = read(&mut stream).await else { return };
                    kept.lock().unwrap().push(asked.clone());
                    let answer = answer(&asked);
                    if answer.is_empty() {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                    }
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { port, asked }
    }

    fn config(&self, dialect: McpDialect) -> McpConfig {
        config(self.port, dialect)
    }

    fn provider(&self) -> McpProvider {
        let config = McpConfig { request_timeout: Duration::from_millis(1_500), ..self.config(McpDialect::Auto) };
        McpConfig { breaker_failures: 0, ..config }.build().unwrap()
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn methods(&self) -> Vec<String> {
        self.asked().iter().map(|asked| asked.method().to_owned()).collect()
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut asked = Asked { head, body: Value::Null };
    let mut body = vec![0; asked.header("content-length")?.parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    asked.body = serde_json::from_slice(&body).unwrap();
    Some(asked)
}

fn config(port: u16, dialect: McpDialect) -> McpConfig {
    let target = McpTarget::Url {
        url: format!("http://127.0.0.1:{port}/mcp?secret=hunter2"),
        allow_insecure_http: true,
        bearer_token: Some("token-1".to_owned()),
    };
    McpConfig { dialect, ..McpConfig::new("outside".into(), target) }
}

/// The SDK's server, until the handle is aborted.
async fn standard(port: u16, settings: StreamableHttpServerConfig) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let service: StreamableHttpService<_, LocalSessionManager> =
        StreamableHttpService::new(|| Ok(StandardServer), Arc::default(), settings);
    let serving = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            connections.spawn(async move {
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (port, serving)
}

#[tokio::test]
async fn a_server_of_the_reference_is_asked_as_the_reference_would() {
    let server = Server::start(|asked| asked.result(&asked.body["params"]["arguments"]["query"]["params"])).await;
    for dialect in [McpDialect::Auto, McpDialect::Reference] {
        let provider = server.config(dialect).build().unwrap();
        assert_eq!(value(&ask(&provider, json!({"n": 1})).await), &json!({"n": 1}));
        let correlated = EvidenceContext { correlation_id: Some("c-1".into()), ..context() };
        let result = provider.query(&query("outside", "look", None), &correlated).await;
        assert_eq!(value(&result), &Value::Null);
    }
    let asked = server.asked();
    assert_eq!(asked.len(), 4);
    let first = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "evidence_query", "arguments": {
            "query": query("outside", "look", Some(json!({"n": 1}))), "context": context(),
        }},
    });
    assert_eq!(asked[0].body, first);
    assert_eq!(asked[0].header("authorization"), Some("Bearer token-1"));
    assert_eq!(asked[0].header("x-correlation-id"), None);
    assert_eq!((asked[1].header("x-correlation-id"), &asked[1].body["id"]), (Some("c-1"), &json!("c-1")));
}

#[tokio::test]
async fn a_server_by_the_sdk_is_a_provider_in_all_its_settings() {
    let settings = StreamableHttpServerConfig::default;
    for settings in [
        settings(),
        settings().with_json_response(true),
        settings().with_legacy_session_mode(false),
        settings().with_legacy_session_mode(false).with_json_response(true),
        settings().with_legacy_session_mode(false).with_stateless_protocol_metadata_required(true),
    ] {
        let (port, serving) = standard(0, settings).await;
        for dialect in [McpDialect::Standard, McpDialect::Auto] {
            speaks_the_standard(&config(port, dialect).build().unwrap()).await;
        }
        serving.abort();
    }
}

/// A server with sessions, which it may forget.
async fn with_sessions() -> (Server, Arc<AtomicUsize>) {
    let session = Arc::new(AtomicUsize::new(0));
    let current = session.clone();
    let server = Server::start(move |asked| {
        let mut current_id = current.load(Ordering::SeqCst);
        match (asked.method(), asked.header("mcp-session-id")) {
            ("initialize", None) => {
                current_id += 1;
                current.store(current_id, Ordering::SeqCst);
                let reply = asked.reply(&json!({"protocolVersion": "2025-06-18", "capabilities": {}}));
                reply.replacen("\r\n", &format!("\r\nMcp-Session-Id: s-{current_id}\r\n"), 1)
            }
            (_, None) => status("400 Bad Request", ""),
            (_, Some(id)) if id != format!("s-{current_id}") => status("404 Not Found", ""),
            (method, _) if asked.header("mcp-protocol-version") != Some("2025-06-18") => panic!("{method}"),
            ("notifications/initialized", _) => status("202 Accepted", ""),
            _ => asked.result(&json!(current_id)),
        }
    })
    .await;
    (server, session)
}

#[tokio::test]
async fn a_session_that_was_forgotten_is_begun_again() {
    let (server, session) = with_sessions().await;
    let provider = server.provider();
    for _ in 0..2 {
        assert_eq!(value(&ask(&provider, Value::Null).await), &json!(1));
    }
    let (call, hello, ready) = ("tools/call", "initialize", "notifications/initialized");
    assert_eq!(server.methods(), [call, call, hello, ready, call, call]);
    session.store(7, Ordering::SeqCst);
    assert_eq!(value(&ask(&provider, Value::Null).await), &json!(8));
    assert_eq!(server.methods()[6..], [call, hello, ready, call]);
}

#[tokio::test]
async fn questions_at_once_share_one_handshake() {
    let (server, _) = with_sessions().await;
    let provider = server.config(McpDialect::Standard).build().unwrap();
    let answers = futures_util::future::join_all((0..8).map(|_| ask(&provider, Value::Null))).await;
    assert!(answers.iter().all(|answer| value(answer) == &json!(1)));
    assert_eq!(server.methods().iter().filter(|method| *method == "initialize").count(), 1);
}

#[tokio::test]
async fn an_error_of_a_reference_server_is_told_once_every_manner_is_tried() {
    let server = Server::start(|asked| match asked.method() {
        "tools/call" => {
            let error = json!({"code": -32_000, "message": "locked", "data": [1]});
            ok("application/json", &json!({"jsonrpc": "2.0", "id": asked.body["id"], "error": error}).to_string())
        }
        _ => asked.unknown_method(),
    })
    .await;
    let provider = server.provider();
    for _ in 0..2 {
        let result = ask(&provider, Value::Null).await;
        assert_eq!(said(&result), "locked");
        assert_eq!(result.error.unwrap().details, Some(json!({"code": -32_000, "data": [1]})));
    }
    assert_eq!(server.methods(), ["tools/call", "tools/call", "initialize", "tools/call"]);
    assert!(server.asked()[3].body["params"].get("_meta").is_none());
}

#[tokio::test]
async fn whatever_is_no_answer_says_why_and_is_asked_once() {
    let body = |text: &'static str| move |_: &Asked| ok("application/json", text);
    type Answer = Box<dyn Fn(&Asked) -> String + Send + Sync>;
    let wrong_id = |_: &Asked| ok("application/json", r#"{"jsonrpc":"2.0","id":"other","result":{}}"#);
    let text = |asked: &Asked| asked.reply(&json!({"content": [{"type": "text", "text": "all is well"}]}));
    let declared = |_: &Asked| "HTTP/1.1 200 OK\r\ncontent-length: 1048577\r\n\r\n".to_owned();
    let chunked = |_: &Asked| {
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536));
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(17))
    };
    let cut = |_: &Asked| "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{".to_owned();
    let moved = |_: &Asked| "HTTP/1.1 307 Temporary Redirect\r\nlocation: /\r\ncontent-length: 0\r\n\r\n".to_owned();
    let large = "http response exceeds size limit of 1048576 bytes";
    let rows: Vec<(Answer, &str)> = vec![
        (Box::new(body("hello")), "invalid json-rpc response: not JSON"),
        (Box::new(body("")), "invalid json-rpc response: not JSON"),
        (Box::new(wrong_id), "invalid json-rpc response: nothing was asked under the id \"other\""),
        (Box::new(|asked| asked.reply(&Value::Null)), "missing tool result"),
        (Box::new(|asked| asked.reply(&json!({"content": []}))), "empty tool result"),
        (Box::new(text), "unexpected text response: "),
        (
            Box::new(|_| status("500 Internal Server Error", "")),
            "http request failed with status 500 Internal Server Error",
        ),
        (Box::new(|_| status("401 Unauthorized", "")), "http request failed with status 401 Unauthorized"),
        (Box::new(moved), "http request failed with status 307 Temporary Redirect"),
        (Box::new(declared), large),
        (Box::new(chunked), large),
        (Box::new(cut), "failed to read response"),
        (Box::new(|_| String::new()), "timed out after 1500 ms"),
        (
            Box::new(|_| ok("text/event-stream", ": nothing\n\n")),
            "invalid json-rpc response: no reply among the messages",
        ),
        (Box::new(|_| ok("text/event-stream", "data: hello\n\n")), "invalid json-rpc response: not JSON"),
        (Box::new(|_| ok("text/event-stream", &"data: x\n".repeat(200_000))), large),
    ];
    for (answer, text) in rows {
        let server = Server::start(answer).await;
        let found = said(&ask(&server.provider(), Value::Null).await);
        assert!(found.starts_with(text), "{text}: {found}");
        assert!(!found.contains("hunter2") && !found.contains("token-1"), "{found}");
        assert_eq!(server.asked().len(), 1, "{text}");
    }
}

#[tokio::test]
async fn the_reply_is_found_among_events() {
    let server = Server::start(|asked| {
        let events = [
            "retry: 100\ndata:\n\n".to_owned(),
            format!("event: message\ndata: {}\n\n", json!({"jsonrpc": "2.0", "method": "notifications/progress"})),
            format!("data: {}\n\n", asked.result(&json!(7)).split("\r\n\r\n").nth(1).unwrap()),
        ];
        // The stream stays open after the reply.
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: Text/Event-Stream; charset=utf-8\r\ncontent-length: 9999\r\n\r\n{}",
            events.concat()
        )
    })
    .await;
    assert_eq!(value(&ask(&server.provider(), Value::Null).await), &json!(7));
}

#[tokio::test]
async fn a_refusal_in_the_body_of_a_failure_is_passed_on() {
    let server = Server::start(|asked| {
        let error = json!({"code": -32_071, "message": "rate limit exceeded", "data": {"retry_after_ms": 5}});
        status("429 Too Many Requests", &json!({"jsonrpc": "2.0", "id": asked.body["id"], "error": error}).to_string())
    })
    .await;
    let result = ask(&server.provider(), Value::Null).await;
    assert_eq!(said(&result), "http request failed with status 429 Too Many Requests: rate limit exceeded");
    assert_eq!(result.error.unwrap().details, Some(json!({"code": -32_071, "data": {"retry_after_ms": 5}})));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_before_an_answer_is_tried_again() {
    let times = Arc::new(AtomicUsize::new(0));
    let counted = times.clone();
    let server = Server::start(move |asked| {
        // Not an answer: the connection ends within the first line.
        if counted.fetch_add(1, Ordering::SeqCst) < 2 { "HT".to_owned() } else { asked.result(&json!(1)) }
    })
    .await;
    assert_eq!(value(&ask(&server.provider(), Value::Null).await), &json!(1));
    assert_eq!(times.load(Ordering::SeqCst), 3);
    times.store(0, Ordering::SeqCst);
    let always = Server::start(|_| "HT".to_owned()).await;
    let text = said(&ask(&always.provider(), Value::Null).await);
    assert!(text.starts_with("http request failed: ") && !text.contains("hunter2"), "{text}");
    assert_eq!(always.asked().len(), 3);
}

#[tokio::test]
async fn a_server_that_fails_is_left_alone_and_tried_again() {
    let broken = Arc::new(AtomicUsize::new(1));
    let breaks = broken.clone();
    let server = Server::start(move |asked| {
        if breaks.load(Ordering::SeqCst) == 1 { status("503 Service Unavailable", "") } else { asked.result(&json!(1)) }
    })
    .await;
    let config = server.config(McpDialect::Auto);
    let pause = Duration::from_millis(200);
    let provider = McpConfig { breaker_failures: 2, breaker_pause: pause, ..config }.build().unwrap();
    for _ in 0..2 {
        ask(&provider, Value::Null).await;
    }
    let text = said(&ask(&provider, Value::Null).await);
    assert!(
        text.starts_with("not asked: it is tried again in 1 s; failures in a row: 2, of which the last: http"),
        "{text}"
    );
    assert_eq!(server.asked().len(), 2);
    broken.store(0, Ordering::SeqCst);
    tokio::time::sleep(pause).await;
    assert_eq!(value(&ask(&provider, Value::Null).await), &json!(1));
}

#[tokio::test]
async fn a_refusal_is_no_failure() {
    let server = Server::start(Asked::unknown_method).await;
    let provider = McpConfig { breaker_failures: 1, ..server.config(McpDialect::Reference) }.build().unwrap();
    for _ in 0..3 {
        let text = said(&ask(&provider, Value::Null).await);
        assert_eq!(text, "http request failed with status 400 Bad Request: method not found");
    }
}

#[tokio::test]
async fn whoever_stops_waiting_costs_the_next_nothing() {
    let (port, serving) = standard(0, StreamableHttpServerConfig::default()).await;
    let provider = config(port, McpDialect::Auto).build().unwrap();
    for _ in 0..3 {
        let waiting = tokio::time::timeout(Duration::from_millis(200), ask(&provider, json!({"do": "wait"})));
        assert!(waiting.await.is_err());
        assert_eq!(value(&ask(&provider, json!({"n": 1})).await), &json!({"n": 1}));
    }
    serving.abort();
}
