//! Packets, and a server on a loopback port.

#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use runpack_core::canon::Digest;
use runpack_core::engine::content_hash;
use runpack_core::model::{DispatchTarget, NamespaceId, PacketPayload, TenantId};
use runpack_dispatch::{Addressee, Broker, BrokerOptions, CallbackOptions, DispatchError, Parcel, SourceOptions};
use runpack_providers::Lookup;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub fn tenant() -> TenantId {
    TenantId::new(1).unwrap()
}

pub fn namespace() -> NamespaceId {
    NamespaceId::new(2).unwrap()
}

pub fn target(value: Value) -> DispatchTarget {
    serde_json::from_value(value).unwrap()
}

pub fn agent(id: &str) -> DispatchTarget {
    target(json!({"kind": "agent", "agent_id": id}))
}

pub fn channel(name: &str) -> DispatchTarget {
    target(json!({"kind": "channel", "channel": name}))
}

/// A packet with that content for that target.
pub fn parcel(target: DispatchTarget, content_type: &str, payload: PacketPayload) -> Parcel {
    let envelope = json!({
        "content_hash": content_hash(&payload).unwrap(), "content_type": content_type, "correlation_id": null,
        "expiry": null, "issued_at": {"kind": "logical", "value": 3}, "packet_id": "p", "run_id": "run",
        "scenario_id": "s", "schema_id": "schema", "stage_id": "stage",
        "visibility": {"labels": ["all"], "policy_tags": []},
    });
    Parcel {
        id: "d1".to_owned(),
        tenant_id: tenant(),
        namespace_id: namespace(),
        decision_id: "decision-1".into(),
        target,
        envelope: serde_json::from_value(envelope).unwrap(),
        payload,
    }
}

/// A packet whose content is kept elsewhere.
pub fn external(target: DispatchTarget, content_type: &str, uri: &str, content: &[u8]) -> Parcel {
    let reference = json!({"kind": "external", "content_ref": {
        "content_hash": Digest::of(content), "encryption": null, "uri": uri,
    }});
    parcel(target, content_type, serde_json::from_value(reference).unwrap())
}

/// Knows the names of these tests, and no server.
pub fn lookup() -> Lookup {
    Arc::new(|host| {
        let addresses: &[&str] = match host.trim_end_matches('.') {
            "localhost" | "files.test" | "agents.test" => &["127.0.0.1"],
            "mixed.test" => &["8.8.8.8", "127.0.0.1"],
            "mixed-first.test" => &["127.0.0.1", "8.8.8.8"],
            "mixed-six.test" => &["2606:4700:4700::1111", "8.8.8.8", "::1"],
            "mapped.test" => &["::ffff:169.254.169.254"],
            "nat64.test" => &["64:ff9b::a9fe:a9fe"],
            "metadata.test" => &["169.254.169.254"],
            "internal.test" => &["10.0.0.7"],
            "ula.test" => &["fd12:3456:789a::1"],
            "unspecified.test" => &["0.0.0.0"],
            other => panic!("{other} was looked up"),
        };
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        async move { Ok(addresses) }.boxed()
    })
}

pub fn broker(options: &BrokerOptions) -> Broker {
    Broker::with_lookup(options, &lookup()).unwrap()
}

/// Calls for everybody of that kind.
pub fn callback(kind: Value, url: &str) -> CallbackOptions {
    CallbackOptions {
        to: Addressee { kind: serde_json::from_value(kind).unwrap(), system: None, id: None },
        url: url.to_owned(),
        own: true,
        bearer_token: None,
        timeout: Duration::from_millis(500),
    }
}

/// Asks what is on this machine.
pub fn local_sources(server: &Server) -> SourceOptions {
    SourceOptions {
        allow_hosts: vec!["127.0.0.1".to_owned(), "*.test".to_owned()],
        allow_ports: Some(vec![server.port]),
        allow_http: true,
        allow_private: true,
        timeout: Duration::from_millis(500),
        bytes_max: 1_000,
        ..SourceOptions::default()
    }
}

/// What was refused, and that it was.
pub async fn refused(broker: &Broker, parcel: Parcel) -> DispatchError {
    let what = format!("{:?}", parcel.payload);
    match broker.deliver(parcel).await {
        Err(error) => error,
        Ok(told) => panic!("{what}: {told}"),
    }
}

/// Answers every request with the same text and keeps what it was sent.
pub struct Server {
    pub port: u16,
    pub requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub async fn answering(answer: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer, kept.clone()));
            }
        });
        Self { port, requests }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn asked(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// The newest request: its head in lower case, and its body.
    pub fn newest(&self) -> (String, Value) {
        let requests = self.requests.lock().unwrap();
        let (head, body) = requests.last().unwrap().split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

async fn serve(mut stream: TcpStream, answer: &'static str, requests: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase();
            let length = length.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                requests.lock().unwrap().push(text);
                break;
            }
        }
        let mut some = [0; 4096];
        match stream.read(&mut some).await {
            Ok(count) if count > 0 => request.extend_from_slice(&some[..count]),
            _ => return,
        }
    }
    if answer == "silence" {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let _ = stream.write_all(answer.as_bytes()).await;
}
