//! What arrives, what is refused for good, and what is worth another try.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{
    Server, agent, broker, callback, channel, external, local_sources, namespace, parcel, refused, target, tenant,
};
use runpack_core::canon::Digest;
use runpack_core::model::PacketPayload;
use runpack_dispatch::{Addressee, Again, BrokerOptions, CallbackOptions, Content};
use serde_json::{Value, json};

const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";

fn note() -> PacketPayload {
    PacketPayload::Json(json!({"note": "x"}))
}

#[tokio::test]
async fn a_callback_gets_the_packet_and_what_to_know_it_by() {
    let server = Server::answering(OK).await;
    let mut options = callback(json!("agent"), &server.url("/hook?key=1"));
    options.bearer_token = Some("secret".to_owned());
    let broker = broker(&BrokerOptions { callbacks: vec![options], ..BrokerOptions::default() });
    let sent = parcel(agent("a"), "application/json", note());
    assert_eq!(broker.deliver(sent.clone()).await.unwrap(), "callback answered 204");
    let (head, body) = server.newest();
    assert!(head.starts_with("post /hook?key=1 http/1.1\r\n"), "{head}");
    for line in ["idempotency-key: d1", "authorization: bearer secret", "content-type: application/json"] {
        assert!(head.contains(&format!("\r\n{line}")), "{line} in {head}");
    }
    let expected = json!({
        "content": {"kind": "json", "value": {"note": "x"}}, "decision_id": "decision-1", "delivery_id": "d1",
        "envelope": sent.envelope, "namespace_id": 2, "target": {"kind": "agent", "agent_id": "a"}, "tenant_id": 1,
    });
    assert_eq!(body, expected);
    assert_eq!(broker.route(&agent("a")).unwrap(), server.url("/hook"), "what may be a secret is not in its name");
    let bytes = PacketPayload::Bytes(b"\x00\xffbytes".to_vec());
    broker.deliver(parcel(agent("a"), "application/octet-stream", bytes)).await.unwrap();
    assert_eq!(server.newest().1["content"], json!({"kind": "base64", "value": "AP9ieXRlcw=="}));
}

#[tokio::test]
async fn an_answer_says_whether_to_try_again() {
    #[rustfmt::skip]
    let rows: [(&str, Again); 12] = [
        ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", Again::Never),
        ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", Again::Never),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Again::Never),
        ("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\nretry-after: 5\r\n\r\n", Again::Never),
        ("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n", Again::Later),
        ("HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", Again::After(Duration::from_secs(7))),
        ("HTTP/1.1 429 Too Many Requests\r\nretry-after: 999999999\r\ncontent-length: 0\r\n\r\n", Again::After(Duration::from_secs(3_600))),
        ("HTTP/1.1 500 Oh\r\nretry-after: tomorrow\r\ncontent-length: 0\r\n\r\n", Again::Later),
        ("HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n", Again::After(Duration::from_secs(1))),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", Again::Later),
        ("SSH-2.0-OpenSSH\r\n\r\n", Again::Later),
        ("silence", Again::Later),
    ];
    for (answer, again) in rows {
        let server = Server::answering(answer).await;
        let callbacks = vec![callback(json!("agent"), &server.url("/"))];
        let broker = broker(&BrokerOptions { callbacks, ..BrokerOptions::default() });
        let error = refused(&broker, parcel(agent("a"), "application/json", note())).await;
        assert_eq!(error.again(), again, "{answer}: {error}");
    }
    let callbacks = vec![callback(json!("agent"), "http://127.0.0.1:1/")];
    let nobody = broker(&BrokerOptions { callbacks, ..BrokerOptions::default() });
    let error = refused(&nobody, parcel(agent("a"), "application/json", note())).await;
    assert_eq!((error.to_string().as_str(), error.again()), ("sink failure: http request failed", Again::Later));
}

#[tokio::test]
async fn the_callback_that_names_a_target_most_closely_is_called() {
    let mut servers = Vec::new();
    let mut callbacks = Vec::new();
    for (kind, system, id) in [
        ("external", None, None),
        ("external", Some("s"), None),
        ("external", Some("s"), Some("t")),
        ("agent", None, Some("a")),
    ] {
        let server = Server::answering(OK).await;
        let [system, id] = [system, id].map(|text| text.map(str::to_owned));
        let to = Addressee { kind: serde_json::from_value(json!(kind)).unwrap(), system, id };
        callbacks.push(CallbackOptions { to, ..callback(json!(kind), &server.url("/")) });
        servers.push(server);
    }
    let broker = broker(&BrokerOptions { callbacks, ..BrokerOptions::default() });
    let outside = |system: &str, name: &str| target(json!({"kind": "external", "system": system, "target": name}));
    for (to, asked) in [
        (outside("s", "t"), 2),
        (outside("s", "u"), 1),
        (outside("r", "t"), 0),
        (agent("a"), 3),
        (outside("s", "t"), 2),
    ] {
        let before: Vec<_> = servers.iter().map(Server::asked).collect();
        broker.deliver(parcel(to, "application/json", note())).await.unwrap();
        let changed: Vec<_> =
            servers.iter().zip(before).enumerate().filter(|(_, (now, before))| now.asked() != *before).collect();
        assert_eq!(changed.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [asked]);
    }
    let error = refused(&broker, parcel(agent("b"), "application/json", note())).await;
    assert_eq!((error.to_string().as_str(), error.again()), ("no sink for agent b", Again::Never));
    assert_eq!(broker.route(&agent("b")), None);
}

#[tokio::test]
async fn subscribers_get_what_is_delivered_or_nobody_does() {
    let broker = broker(&BrokerOptions::default());
    let sent = |id: &str| {
        let mut parcel = parcel(channel("news"), "application/json", note());
        parcel.id = id.to_owned();
        parcel
    };
    let error = refused(&broker, sent("0")).await;
    assert_eq!(
        (error.to_string().as_str(), error.again()),
        ("sink failure: nobody is subscribed to channel news", Again::Later)
    );
    let subscribe = |room| broker.channels().subscribe(tenant(), namespace(), &channel("news"), room);
    let (mut one, mut two) = (subscribe(1), subscribe(2));
    let mut other = broker.channels().subscribe(tenant(), namespace(), &channel("other"), 1);
    assert_eq!(broker.deliver(sent("1")).await.unwrap(), "taken by 2 subscribers");
    let error = refused(&broker, sent("2")).await;
    assert_eq!(
        (error.to_string().as_str(), error.again()),
        ("sink failure: a subscriber to channel news is full", Again::Later)
    );
    assert_eq!(one.recv().await.unwrap().id, "1");
    broker.deliver(sent("2")).await.unwrap();
    assert_eq!(one.recv().await.unwrap().content, Content::Json(json!({"note": "x"})));
    assert_eq!(
        [two.recv().await.unwrap().id.clone(), two.recv().await.unwrap().id.clone()],
        ["1", "2"],
        "nothing twice"
    );
    drop(one);
    assert_eq!(broker.deliver(sent("3")).await.unwrap(), "taken by 1 subscriber");
    drop(two);
    refused(&broker, sent("4")).await;
    assert!(other.try_recv().is_err(), "of another channel");
}

#[tokio::test]
async fn the_log_has_a_whole_line_for_each_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deliveries.jsonl");
    // Somebody was cut off here.
    std::fs::write(&path, "{\"half\":").unwrap();
    let open = || broker(&BrokerOptions { log: Some(path.clone()), ..BrokerOptions::default() });
    assert_eq!(open().deliver(parcel(agent("a"), "application/json", note())).await.unwrap(), "logged");
    open().deliver(parcel(agent("b"), "application/json", note())).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    let line: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(line["target"], json!({"kind": "agent", "agent_id": "a"}));
    assert_eq!((line["delivery_id"].as_str(), line["packet_id"].as_str()), (Some("d1"), Some("p")));
    assert_eq!(line["content_hash"], json!(Digest::of(b"{\"note\":\"x\"}")));
    assert!(!text.contains("note"), "what is for the target is not in the log");
}

#[tokio::test]
async fn what_is_got_is_compared_with_its_digest() {
    let server = Server::answering(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 5\r\n\r\nhello",
    )
    .await;
    let log = tempfile::tempdir().unwrap();
    let options = BrokerOptions {
        sources: local_sources(&server),
        log: Some(log.path().join("log")),
        ..BrokerOptions::default()
    };
    let broker = broker(&options);
    let url = format!("http://files.test:{}/file", server.port);
    assert_eq!(broker.deliver(external(agent("a"), "Text/Plain", &url, b"hello")).await.unwrap(), "logged");
    let rows = [
        (external(agent("a"), "text/plain", &url, b"hullo"), "payload hash mismatch (expected ", Again::Later),
        (
            external(agent("a"), "text/html", &url, b"hello"),
            "source content type mismatch (expected text/html, got text/plain",
            Again::Later,
        ),
        (external(agent("a"), "application/json", "inline:eA==", b"x"), "json parse failure: ", Again::Never),
        (
            external(agent("a"), "application/json", "inline+bytes:e30=", b"{}"),
            "source content type mismatch",
            Again::Later,
        ),
        (
            parcel(agent("a"), "text/plain", note()),
            "payload kind json does not match content type text/plain",
            Again::Never,
        ),
        (
            parcel(agent("a"), "application/x+json", PacketPayload::Bytes(vec![1])),
            "payload kind bytes does not match content type application/x+json",
            Again::Never,
        ),
    ];
    for (parcel, text, again) in rows {
        let error = refused(&broker, parcel).await;
        assert!(error.to_string().starts_with(text), "{error}");
        assert_eq!(error.again(), again, "{error}");
    }
    let mut changed = parcel(agent("a"), "application/json", note());
    changed.payload = PacketPayload::Json(json!({"note": "y"}));
    assert!(refused(&broker, changed).await.to_string().starts_with("payload hash mismatch"));
    let mut other = external(agent("a"), "text/plain", &url, b"hello");
    other.envelope.content_hash = Digest::of(b"other");
    assert!(refused(&broker, other).await.to_string().starts_with("the envelope states digest"));
}

#[tokio::test]
async fn content_is_no_larger_than_allowed() {
    const LARGEST: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n";
    let server = Server::answering(LARGEST).await;
    let log = tempfile::tempdir().unwrap();
    let options = BrokerOptions {
        sources: local_sources(&server),
        log: Some(log.path().join("log")),
        ..BrokerOptions::default()
    };
    let broker = broker(&options);
    let error = refused(&broker, external(agent("a"), "text/plain", &server.url("/"), b"")).await;
    assert_eq!(error.to_string(), "source failure: http failure: http response exceeds size limit");
    // Exactly as much as is allowed, and one more, in base64.
    let inline = |bytes: usize| {
        use base64::Engine as _;
        let content = vec![b'x'; bytes];
        let uri = format!("inline:{}", base64::engine::general_purpose::STANDARD.encode(&content));
        external(agent("a"), "text/plain", &uri, &content)
    };
    for bytes in [0, 1, 2, 3, 998, 999, 1_000] {
        assert_eq!(broker.deliver(inline(bytes)).await.unwrap(), "logged", "{bytes}");
    }
    for bytes in [1_001, 1_002, 1_003, 5_000] {
        let error = refused(&broker, inline(bytes)).await;
        assert_eq!(error.to_string(), "source failure: payload exceeds size limit: more than 1000 bytes");
    }
}
