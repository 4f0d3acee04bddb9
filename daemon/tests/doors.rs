//! Who is let in, how often, and what is noted of it.

#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "common/wire.rs"]
mod wire;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;

use common::{CONFIG, one_gate, quickstart, request, start};
use runpack_core::canon::Digest;
use runpackd_lib::audit;
use serde_json::{Value, json};
use wire::{Connection, Process, Response};

/// Two tokens: one for tenant 1, and one without a role.
fn with_tokens(dir: &Path) -> String {
    std::fs::write(dir.join("tokens"), "first-token\n\nsecond-token\n").unwrap();
    let subject = format!("token:{}", Digest::of(b"first-token"));
    format!(
        "{}[server.audit]\npath = \"{}\"\nfsync = \"each\"\n[server.auth]\nmode = \"bearer_token\"\n\
         bearer_token_files = [\"{}\"]\n[[server.auth.principals]]\nsubject = \"{subject}\"\npolicy_class = \"dev\"\n\
         roles = [{{ name = \"TenantAdmin\", tenant_id = 1 }}]\n",
        CONFIG.replace("default_tenants = [1]", "default_tenants = [1, 2]"),
        dir.join("audit.jsonl").display(),
        dir.join("tokens").display(),
    )
}

fn post(connection: &mut Connection, token: &str, body: &Value) -> Response {
    let shown = format!("Bearer {token}");
    let header = [("Authorization", shown.as_str())];
    let headers: &[(&str, &str)] = if token.is_empty() { &[] } else { &header };
    connection.post(headers, body.to_string().as_bytes())
}

/// What `runpackd call` comes to without a token.
fn called(face: &str, address: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runpackd"));
    command.args(["call", "providers_list", "--over", face, "--url", &format!("http://{address}")]);
    let done = command.env_remove("RUNPACK_TOKEN").output().unwrap();
    (done.status.code(), String::from_utf8(done.stderr).unwrap())
}

#[test]
fn nobody_there_is_said_with_what_to_do() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for face in ["rpc", "mcp"] {
        let (code, said) = called(face, &free);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.starts_with("error: ") && said.contains("\nhint: `runpackd serve` starts a server"), "{said}");
        assert_eq!(said.lines().count(), 2, "{said}");
    }
}

#[test]
fn tokens_open_the_door_and_roles_keep_tenants_apart() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("decision-gate.toml"), with_tokens(dir.path())).unwrap();
    let process = Process::at(dir.path());
    let mut connection = Connection::new(process.address);
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    for token in ["", "third-token", "first-token2"] {
        let response = post(&mut connection, token, &list);
        assert_eq!(response.status, 401, "{token}");
        assert_eq!(response.headers["www-authenticate"], "Bearer realm=\"decision-gate\"");
        assert_eq!(response.json()["error"]["message"], "unauthenticated");
    }
    assert_eq!(post(&mut connection, "second-token", &list).status, 200);
    for face in ["rpc", "mcp"] {
        let (code, said) = called(face, &process.address.to_string());
        assert_eq!(code, Some(1), "{said}");
        let expected =
            "refused: unauthenticated: the server does not know you\nhint: show who you are with --token-file";
        assert!(said.starts_with(expected), "{said}");
    }
    // Probes need nothing, numbers do.
    assert_eq!(connection.get("/healthz").status, 200);
    assert_eq!(connection.get("/readyz").status, 200);
    assert_eq!(connection.get("/metrics").status, 401);

    let define = request("scenario_define", quickstart("a"));
    assert_eq!(post(&mut connection, "second-token", &define).status, 403, "a token without a role");
    assert_eq!(post(&mut connection, "first-token", &define).status, 200);
    let begin = request("scenario_start", start("a", "r", false));
    assert_eq!(post(&mut connection, "first-token", &begin).status, 200);
    // Another tenant's runs, and another's scenarios.
    let mut foreign = start("a", "r", false);
    foreign["run_config"]["tenant_id"] = json!(2);
    let response = post(&mut connection, "first-token", &request("scenario_start", foreign));
    assert_eq!((response.status, response.json()["error"]["message"].as_str()), (403, Some("unauthorized")));
    let mut owned = one_gate("b", 0);
    owned["spec"]["default_tenant_id"] = json!(2);
    assert_eq!(post(&mut connection, "first-token", &request("scenario_define", owned)).status, 403);
    // A dev token of a tenant's admin may register data shapes, the other may not.
    let record = json!({"record": {"tenant_id": 1, "namespace_id": 1, "schema_id": "s", "version": "1", "schema": true,
        "description": null, "created_at": {"kind": "logical", "value": 1}}});
    assert_eq!(post(&mut connection, "second-token", &request("schemas_register", record.clone())).status, 403);
    assert_eq!(post(&mut connection, "first-token", &request("schemas_register", record)).status, 200);

    // What follows is an example of who was counted.
    let number = |text: &str, line: &str| text.lines().any(|found| found.split(" # ").next() == Some(line));
    let text = {
        let host = connection.address;
        let head = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer second-token\r\n\r\n");
        String::from_utf8(connection.write(head).read().body).unwrap()
    };
    assert!(number(&text, "runpackd_unauthenticated_total 6"), "{text}");
    assert!(number(&text, "runpackd_calls_total{call=\"scenario_start\",outcome=\"ok\"} 1"), "{text}");
    assert!(number(&text, "runpackd_errors_total{kind=\"unauthorized\"} 4"), "{text}");

    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.ended().0, Some(0));
    let path = dir.path().join("audit.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("first-token") && !text.contains("second-token"), "a secret in the log");
    let verified = audit::verify(&audit::files(&path).unwrap()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(verified.lines, lines.len() as u64);
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).cloned().collect::<Vec<_>>();
    let denied: Vec<_> = of("tenant_authz").into_iter().filter(|line| line["allowed"] == false).collect();
    let reasons: Vec<_> = denied.iter().map(|line| line["reason"].as_str().unwrap()).collect();
    assert!(reasons.iter().any(|reason| reason.ends_with("has no role for tenant 2 in namespace 1")), "{reasons:?}");
    assert!(of("registry_audit").iter().any(|line| line["reason"] == "builtin_allow_write"));
    let started = of("mcp_request").into_iter().find(|line| line["tool"] == "scenario_start").unwrap();
    assert_eq!(
        (&started["outcome"], &started["redaction"], &started["request_id"]),
        (&json!("Ok"), &json!("full"), &json!("7"))
    );
    // The same id in every line of one call.
    let id = &started["server_correlation_id"];
    let together: Vec<_> = lines
        .iter()
        .filter(|line| line["server_correlation_id"] == *id)
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    assert_eq!(together, ["mcp_tool_authz", "usage_audit", "tenant_authz", "usage_audit", "mcp_request"]);
    let fingerprint = Digest::of(b"first-token").to_string();
    assert!(of("mcp_tool_authz").iter().any(|line| line["token_fingerprint"] == fingerprint.as_str()));
}

/// Where a stream or the end of a session would be, if there were any.
#[test]
fn whatever_is_asked_of_the_protocol_needs_a_token() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("decision-gate.toml"), with_tokens(dir.path())).unwrap();
    let process = Process::at(dir.path());
    let mut connection = Connection::new(process.address);
    let mut ask = |method: &str, headers: &str| {
        let host = process.address;
        connection.write(format!("{method} /mcp HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n")).read().status
    };
    for method in ["GET", "DELETE"] {
        assert_eq!(ask(method, ""), 401, "{method}");
        assert_eq!(ask(method, "Authorization: Bearer second-token\r\n"), 405, "{method}");
    }
}

/// An authority, and what it signs.
struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    /// The certificate and the key of `name`, PEM.
    fn sign(&self, name: &str, addresses: &[&str]) -> (String, String) {
        let names: Vec<_> = addresses.iter().map(|&address| address.to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A client that believes `authority`, with a certificate if it has one.
fn https(authority: &Authority, identity: Option<&(String, String)>) -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root = reqwest::Certificate::from_pem(authority.certificate.pem().as_bytes()).unwrap();
    let mut builder = reqwest::Client::builder().tls_certs_only([root]).no_proxy();
    if let Some((certificate, key)) = identity {
        builder = builder.identity(reqwest::Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

#[tokio::test]
async fn a_certificate_shows_who_calls_and_a_header_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let authority = Authority::new();
    let (certificate, key) = authority.sign("server", &["127.0.0.1"]);
    std::fs::write(at("server.pem"), certificate).unwrap();
    std::fs::write(at("server.key"), key).unwrap();
    std::fs::write(at("ca.pem"), authority.certificate.pem()).unwrap();
    let text = format!(
        "{CONFIG}[server.tls]\ncert_path = \"{}\"\nkey_path = \"{}\"\nclient_ca_path = \"{}\"\n\
         [server.auth]\nmode = \"mtls\"\nmtls_subjects = [\"CN=auditor\"]\n",
        at("server.pem").display(),
        at("server.key").display(),
        at("ca.pem").display()
    );
    std::fs::write(at("decision-gate.toml"), text).unwrap();
    let process = Process::at(dir.path());
    let url = format!("https://{}/rpc", process.address);
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let ask = async |client: &reqwest::Client, header: bool| {
        let request = client.post(&url).json(&list);
        let request = if header { request.header("x-decision-gate-client-subject", "CN=auditor") } else { request };
        request.send().await.map(|response| response.status().as_u16()).ok()
    };
    let known = https(&authority, Some(&authority.sign("auditor", &[])));
    assert_eq!(ask(&known, false).await, Some(200));
    // Signed by the authority, but nobody we know, whatever it says of itself.
    let other = https(&authority, Some(&authority.sign("other", &[])));
    assert_eq!(ask(&other, true).await, Some(401));
    // Without a certificate, or with one that somebody else signed, nobody gets in.
    assert_eq!(ask(&https(&authority, None), true).await, None);
    let forged = https(&authority, Some(&Authority::new().sign("auditor", &[])));
    assert_eq!(ask(&forged, true).await, None);
    // The same over the protocol, whose client is another.
    let mut plain = Connection::new(process.address);
    plain.write("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut plain.stream, &mut rest);
    assert!(!rest.starts_with(b"HTTP"), "spoken to in the clear");
}

#[test]
fn serving_others_is_said_twice_or_not_done() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "{}[server.auth]\nmode = \"bearer_token\"\nbearer_tokens = [\"a-token\"]\n",
        CONFIG.replace("127.0.0.1:0\"", "0.0.0.0:0\"\ntls_termination = \"upstream\"")
    );
    std::fs::write(dir.path().join("decision-gate.toml"), text).unwrap();
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runpackd"));
        command.arg("serve").current_dir(dir.path()).env_remove("DECISION_GATE_CONFIG");
        command
    };
    let refused = command().output().unwrap();
    let talk = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && talk.contains("--allow-non-loopback"), "{talk}");
    let mut child =
        command().env("DECISION_GATE_ALLOW_NON_LOOPBACK", "yes").stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stderr.take().unwrap()), &mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.starts_with("listening on http://0.0.0.0:"), "{line}");
}

#[test]
fn strangers_that_come_too_often_do_not_shut_out_those_we_know() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "{}[server.limits.rate_limit]\nmax_requests = 3\nwindow_ms = 60000\nmax_entries = 2\n",
        with_tokens(dir.path())
    );
    std::fs::write(dir.path().join("decision-gate.toml"), text).unwrap();
    let process = Process::at(dir.path());
    let mut connection = Connection::new(process.address);
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    // A new token each time: all from one address.
    let statuses: Vec<_> = (0..6).map(|n| post(&mut connection, &format!("made-up-{n}"), &list).status).collect();
    assert_eq!(statuses, [401, 401, 401, 429, 429, 429]);
    for token in ["first-token", "second-token"] {
        let statuses: Vec<_> = (0..4).map(|_| post(&mut connection, token, &list).status).collect();
        assert_eq!(statuses, [200, 200, 200, 429], "{token}");
    }
    let refused = post(&mut connection, "first-token", &list).json();
    assert_eq!(refused["error"]["data"]["kind"], "rate_limited");
    assert_eq!(refused["error"]["data"]["retryable"], true);
    assert!(refused["error"]["data"]["retry_after_ms"].as_u64().unwrap() <= 60_000);
    assert_eq!(refused["error"]["message"], "rate limit exceeded");
}

#[test]
fn an_audit_log_that_cannot_be_kept_is_said_before_anything_listens() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("{CONFIG}[server.audit]\npath = \"/dev/full\"\n");
    std::fs::write(dir.path().join("decision-gate.toml"), text).unwrap();
    // A device is no file.
    let output = Command::new(env!("CARGO_BIN_EXE_runpackd"))
        .arg("serve")
        .current_dir(dir.path())
        .env_remove("DECISION_GATE_CONFIG")
        .output()
        .unwrap();
    let talk = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && talk.contains("is no file\nhint: "), "{talk}");
}

/// A catalogue that answers each namespace with a status, and keeps what it was
/// asked.
fn catalogue(answers: &'static [(&str, &str)]) -> (std::net::SocketAddr, mpsc::Receiver<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, (told, asked)) = (listener.local_addr().unwrap(), mpsc::channel());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                head.extend(byte);
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let (_, status) = answers.iter().find(|(known, _)| *known == path).unwrap_or(&("", "500 Broken"));
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            if told.send(head).is_err() {
                return;
            }
        }
    });
    (address, asked)
}

#[test]
fn somebody_else_may_decide_which_namespaces_there_are() {
    const ANSWERS: &[(&str, &str)] = &[
        ("/up/v1/write/namespaces/2", "200 OK"),
        ("/up/v1/write/namespaces/3", "404 Not Found"),
        ("/up/v1/write/namespaces/4", "302 Found"),
    ];
    let (address, asked) = catalogue(ANSWERS);
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[server]\ntransport = \"http\"\nbind = \"127.0.0.1:0\"\n[namespace.authority]\nmode = \"assetcore_http\"\n\
         [namespace.authority.assetcore]\nbase_url = \"http://{address}/up/\"\nauth_token = \"the-token\"\n\
         [[providers]]\nname = \"time\"\ntype = \"builtin\"\n"
    );
    std::fs::write(dir.path().join("decision-gate.toml"), text).unwrap();
    let process = Process::at(dir.path());
    let mut connection = Connection::new(process.address);
    let mut define = |namespace: u64| {
        let mut spec = one_gate("a", 0);
        spec["spec"]["namespace_id"] = json!(namespace);
        let body = request("scenario_define", spec).to_string();
        let response = connection.post(&[("x-correlation-id", "from-afar")], body.as_bytes());
        let error = response.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        (response.status, error, response.headers["x-server-correlation-id"].clone())
    };
    let (status, error, id) = define(2);
    assert_eq!((status, error.as_str()), (200, ""));
    let head = asked.recv().unwrap().to_lowercase();
    assert!(head.starts_with("get /up/v1/write/namespaces/2 ") && head.contains("authorization: bearer the-token"));
    assert!(head.contains(&format!("x-correlation-id: {}", id.to_lowercase())), "{head}");
    let (status, error, _) = define(3);
    assert_eq!((status, error.as_str()), (403, "unauthorized"), "it is not there");
    for unclear in [4, 5] {
        let (status, error, _) = define(unclear);
        assert_eq!(status, 200, "no refusal of this caller");
        assert!(error.contains("the namespace authority cannot be asked, nothing was recorded\nhint: "), "{error}");
    }
    process.signal(rustix::process::Signal::TERM);
    let (_, talk) = process.ended();
    assert!(
        talk.contains("answered 404 Not Found for namespace 3") && talk.contains("it answered 302 Found"),
        "{talk}"
    );
    assert!(!talk.contains("the-token"), "a secret in the log");
}

#[test]
fn a_config_is_read_again_without_a_restart_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decision-gate.toml");
    let config = with_tokens(dir.path());
    std::fs::write(&path, &config).unwrap();
    let mut process = Process::at(dir.path());
    let mut connection = Connection::new(process.address);
    let define = request("scenario_define", quickstart("a"));
    assert_eq!(post(&mut connection, "first-token", &define).status, 200);
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let mut status = |token: &str| post(&mut connection, token, &list).status;
    assert_eq!((status("second-token"), status("third-token")), (200, 401));

    // A token is replaced: the same connection is asked for the new one.
    std::fs::write(dir.path().join("tokens"), "first-token\nthird-token\n").unwrap();
    process.signal(rustix::process::Signal::HUP);
    process.says("the config was read again");
    assert_eq!((status("second-token"), status("third-token"), status("first-token")), (401, 200, 200));

    // What cannot be used changes nothing, and neither does what needs a restart.
    for (wrong, told) in [
        ("[server]\nbnid = 1\n".to_owned(), "server.bnid"),
        (config.replace("fsync = \"each\"", "fsync = \"none\""), "server.audit can only be changed by a restart"),
    ] {
        std::fs::write(&path, wrong).unwrap();
        std::fs::write(dir.path().join("tokens"), "fourth-token\n").unwrap();
        process.signal(rustix::process::Signal::HUP);
        process.says(told);
        assert_eq!((status("third-token"), status("fourth-token")), (200, 401), "{told}");
    }
    // What was defined before is there still: the stores stay open.
    let begin = request("scenario_start", start("a", "r", false));
    assert_eq!(post(&mut connection, "first-token", &begin).status, 200);
}
