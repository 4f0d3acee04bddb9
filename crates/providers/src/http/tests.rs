use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use runpack_core::model::EvidenceValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::gather::tests::{context, message, query};

/// A server on a loopback port, which answers by path and keeps what it was sent.
struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, kept.clone()));
            }
        });
        Self { port, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn config(&self) -> HttpConfig {
        HttpConfig {
            allow_http: true,
            timeout_ms: 500,
            max_response_bytes: 1_000,
            allowed_hosts: ["127.0.0.1", "evidence.test", "mixed.test"].map(str::to_owned).to_vec(),
            allowed_ports: Some(vec![self.port]),
            allow_private_addresses: true,
            ..HttpConfig::default()
        }
    }

    fn asked(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

async fn serve(mut stream: TcpStream, requests: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            return;
        }
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    requests.lock().unwrap().push(request);
    let answer = match path.as_str() {
        "/ok?key=value" | "/ok" => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
        "/empty" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "/chunked" => {
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n".to_owned()
        }
        "/until-closed" => "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello".to_owned(),
        "/gzip" => "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
        "/missing" => "HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnope".to_owned(),
        "/moved" => "HTTP/1.1 302 Found\r\nlocation: /ok\r\ncontent-length: 5\r\n\r\nmoved".to_owned(),
        "/limit" => format!("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{}", "x".repeat(1_000)),
        "/large" => format!("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n{}", "x".repeat(1_001)),
        "/large-chunked" => {
            let chunk = format!("1f4\r\n{}\r\n", "x".repeat(500));
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(3))
        }
        "/short" => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello".to_owned(),
        "/short-chunked" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nhello".to_owned(),
        "/garbage" => "SSH-2.0-OpenSSH\r\n\r\n".to_owned(),
        "/trickle" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello").await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
            return;
        }
        _ => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            return;
        }
    };
    stream.write_all(answer.as_bytes()).await.unwrap();
}

/// Knows the names of these tests, and no server.
fn lookup() -> Lookup {
    lookup_counted(Arc::default())
}

fn lookup_counted(asked: Arc<AtomicUsize>) -> Lookup {
    Arc::new(move |host| {
        asked.fetch_add(1, Ordering::SeqCst);
        let addresses: &[&str] = match host.trim_end_matches('.') {
            "localhost" | "evidence.test" => &["127.0.0.1"],
            "mixed.test" => &["8.8.8.8", "127.0.0.1"],
            "mixed-first.test" => &["127.0.0.1", "8.8.8.8"],
            "mixed-six.test" => &["2606:4700:4700::1111", "8.8.8.8", "::1"],
            "mapped.test" => &["::ffff:169.254.169.254"],
            "nat64.test" => &["64:ff9b::a9fe:a9fe"],
            "metadata.test" => &["169.254.169.254"],
            "internal.test" => &["10.0.0.7"],
            "nobody.test" => &[],
            other => panic!("{other} was looked up"),
        };
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        async move { Ok(addresses) }.boxed()
    })
}

async fn ask(provider: &HttpProvider, check: &str, url: &str) -> EvidenceResult {
    provider.query(&query("http", check, Some(json!({"url": url}))), &context()).await
}

fn refusal(text: &str) -> String {
    format!("evidence provider error: {text}")
}

const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[tokio::test]
async fn status_is_the_number_whatever_it_is() {
    let server = Server::start().await;
    let provider = HttpProvider::new(&server.config(), lookup()).unwrap();
    let rows = [
        ("/ok", 200),
        ("/empty", 204),
        ("/missing", 404),
        ("/moved", 302),
        // The body is not read.
        ("/large", 200),
        ("/short", 200),
        ("/trickle", 200),
    ];
    for (path, status) in rows {
        let result = ask(&provider, "status", &server.url(path)).await;
        assert_eq!(result.value, Some(EvidenceValue::Json(json!(status))), "{path} {:?}", result.error);
    }
    assert_eq!(server.asked(), rows.len());
}

#[tokio::test]
async fn evidence_is_anchored_to_the_whole_url() {
    let server = Server::start().await;
    let provider = HttpProvider::new(&server.config(), lookup()).unwrap();
    let written = format!("HTTP://127.1:{}/a/../ok?key=value", server.port);
    let url = server.url("/ok?key=value");
    let result = ask(&provider, "status", &written).await;
    assert_eq!(
        serde_json::to_value(result).unwrap(),
        json!({
            "value": {"kind": "json", "value": 200}, "lane": "verified", "error": null, "evidence_hash": null,
            "evidence_ref": {"uri": url}, "evidence_anchor": {"anchor_type": "url", "anchor_value": url},
            "signature": null, "content_type": "application/json",
        })
    );
}

#[tokio::test]
async fn body_hash_is_of_the_bytes_sent() {
    let server = Server::start().await;
    let provider = HttpProvider::new(&server.config(), lookup()).unwrap();
    for path in ["/ok", "/chunked", "/until-closed", "/gzip"] {
        let result = ask(&provider, "body_hash", &server.url(path)).await;
        let expected = json!({"algorithm": "sha256", "value": HELLO});
        assert_eq!(result.value, Some(EvidenceValue::Json(expected)), "{path} {:?}", result.error);
    }
    let texts = [("/missing", "nope"), ("/moved", "moved"), ("/empty", ""), ("/limit", &"x".repeat(1_000))];
    for (path, body) in texts {
        let result = ask(&provider, "body_hash", &server.url(path)).await;
        let expected = json!(Digest::of(body.as_bytes()));
        assert_eq!(result.value, Some(EvidenceValue::Json(expected)), "{path} {:?}", result.error);
    }
    let hex = HttpConfig { body_hash_form: BodyHashForm::Hex, ..server.config() };
    let result = ask(&HttpProvider::new(&hex, lookup()).unwrap(), "body_hash", &server.url("/ok")).await;
    assert_eq!(result.value, Some(EvidenceValue::Json(json!(HELLO))));
}

#[tokio::test]
async fn answers_that_cannot_be_hashed_say_why() {
    let server = Server::start().await;
    let provider = HttpProvider::new(&server.config(), lookup()).unwrap();
    let rows = [
        ("/large", "http response exceeds size limit"),
        ("/large-chunked", "http response exceeds size limit"),
        ("/short", "http response truncated"),
        ("/short-chunked", "failed to read response"),
        ("/trickle", "failed to read response"),
        ("/slow", "http request failed"),
        ("/garbage", "http request failed"),
    ];
    for (path, text) in rows {
        let result = ask(&provider, "body_hash", &server.url(path)).await;
        assert_eq!(message(&result), refusal(text), "{path}");
        assert_eq!((result.evidence_anchor, result.evidence_ref), (None, None));
    }
    let tls = format!("https://127.0.0.1:{}/ok", server.port);
    assert_eq!(message(&ask(&provider, "status", &tls).await), refusal("http request failed"));
}

#[tokio::test]
async fn requests_say_no_more_than_they_must() {
    let server = Server::start().await;
    let config = HttpConfig { user_agent: "auditor/1".to_owned(), ..server.config() };
    let provider = HttpProvider::new(&config, lookup()).unwrap();
    ask(&provider, "status", &server.url("/ok")).await;
    let expected =
        format!("GET /ok HTTP/1.1\r\naccept: */*\r\nuser-agent: auditor/1\r\nhost: 127.0.0.1:{}\r\n\r\n", server.port);
    assert_eq!(*server.requests.lock().unwrap(), [expected]);
}

#[tokio::test]
async fn a_name_is_looked_up_once_for_each_request() {
    let server = Server::start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let provider = HttpProvider::new(&server.config(), lookup_counted(asked.clone())).unwrap();
    for times in 1..=3 {
        let result = ask(&provider, "body_hash", &format!("http://evidence.test:{}/ok", server.port)).await;
        assert_eq!(result.error, None);
        assert_eq!((asked.load(Ordering::SeqCst), server.asked()), (times, times));
    }
}

#[tokio::test]
async fn one_bad_address_spoils_a_name() {
    let server = Server::start().await;
    let hosts = ["mixed.test", "mixed-first.test", "mixed-six.test"];
    let config = HttpConfig {
        allow_private_addresses: false,
        allowed_hosts: hosts.map(str::to_owned).to_vec(),
        ..server.config()
    };
    let provider = HttpProvider::new(&config, lookup()).unwrap();
    for host in hosts {
        let result = ask(&provider, "status", &format!("http://{host}:{}/ok", server.port)).await;
        assert_eq!(message(&result), refusal("url address not allowed"), "{host}");
    }
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn private_addresses_are_not_the_metadata_service() {
    let hosts = ["metadata.test", "mapped.test", "nat64.test", "169.254.169.254", "[fd00:ec2::254]", "0.0.0.0"];
    let config = HttpConfig {
        allow_http: true,
        allow_private_addresses: true,
        allowed_hosts: hosts.map(str::to_owned).to_vec(),
        ..HttpConfig::default()
    };
    let any = HttpConfig { allowed_hosts: vec!["*".to_owned()], ..config.clone() };
    for config in [config, any] {
        let provider = HttpProvider::new(&config, lookup()).unwrap();
        for host in hosts {
            let result = ask(&provider, "status", &format!("http://{host}/latest/meta-data/")).await;
            assert_eq!(message(&result), refusal("url address not allowed"), "{host}");
        }
    }
}

/// Every host here is on the allowlist and every port as well: what refuses is
/// the address alone.
#[tokio::test]
async fn no_spelling_reaches_an_address_inside() {
    #[rustfmt::skip]
    let spellings = [
        // Loopback.
        "127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "127.255.255.254", "2130706433", "0x7f000001", "0X7F.1", "0x7f.1",
        "0x7f.0.0.1", "017700000001", "0177.0.0.1", "0177.1", "0x7f.0x0.0x0.0x1", "127.0.0.0x1", "00000177.0.0.01",
        "%31%32%37.0.0.1", "127.0.0.1", "①②⑦.⓪.⓪.①", "127。0。0。1", "127.0.0.1", "2130706433",
        "[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::ffff:7f00:1]", "[::ffff:127.0.0.1]", "[::FFFF:7F00:0001]",
        "[::127.0.0.1]", "[::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]", "[2002:7f00:0001::1]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]", "[::ffff:0:127.0.0.1]",
        "localhost", "localhost.", "LOCALHOST", "LocalHost.", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "localhost",
        // This host, and unspecified.
        "0", "0.0.0.0", "0x0", "00", "0.1.2.3", "[::]", "[::0.0.0.0]", "[::ffff:0:0]",
        // Metadata.
        "169.254.169.254", "2852039166", "0xa9fea9fe", "0xa9.0xfe.0xa9.0xfe", "0251.0376.0251.0376", "169.254.43518",
        "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[::169.254.169.254]", "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]", "[fd00:ec2::254]", "168.63.129.16", "100.100.100.200", "192.0.0.192",
        "metadata.test", "mapped.test", "nat64.test",
        // Private, shared, local.
        "10.0.0.1", "10.1", "167772161", "012.1", "100.64.0.1", "172.16.0.1", "192.168.1.1", "0xc0a80101",
        "[fe80::1]", "[fc00::1]", "[fd12:3456:789a::1]", "[fec0::1]", "internal.test",
        // Special, reserved, multicast.
        "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.254", "198.51.100.1", "203.0.113.1",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "4294967295", "0xffffffff",
        "[ff02::1]", "[2001:db8::1]", "[2001:10::1]", "[2001::1]", "[100::1]", "[3fff::1]", "[5f00::1]",
        "mixed.test", "mixed-first.test", "mixed-six.test",
    ];
    assert!(spellings.len() >= 60);
    let allowed = |spelling: &&str| host(spelling).unwrap_or_else(|| panic!("{spelling} is no host"));
    let config = HttpConfig {
        allow_http: true,
        allowed_hosts: spellings.iter().map(allowed).collect(),
        ..HttpConfig::default()
    };
    let provider = HttpProvider::new(&config, lookup()).unwrap();
    for spelling in spellings {
        for url in [format!("http://{spelling}/"), format!("https://{spelling}/")] {
            let result = ask(&provider, "status", &url).await;
            assert_eq!(message(&result), refusal("url address not allowed"), "{url}");
        }
    }
}

#[test]
fn public_addresses_and_names_are_permitted() {
    let hosts = [
        "8.8.8.8",
        "2606:4700:4700::1111",
        "[2001:4860:4860::8888]",
        "Example.COM.",
        "bücher.example",
        "::ffff:8.8.8.8",
    ];
    let config = HttpConfig { allowed_hosts: hosts.map(str::to_owned).to_vec(), ..HttpConfig::default() };
    let provider = HttpProvider::new(&config, lookup()).unwrap();
    let rows = [
        ("https://8.8.8.8", "https://8.8.8.8/"),
        ("https://134744072/", "https://8.8.8.8/"),
        ("https://[2606:4700:4700:0::1111]/x", "https://[2606:4700:4700::1111]/x"),
        ("https://[2001:4860:4860::8888]:443/", "https://[2001:4860:4860::8888]/"),
        ("https://[::ffff:8.8.8.8]/", "https://[::ffff:808:808]/"),
        ("HTTPS://EXAMPLE.com./a/./b?c=d#e", "https://example.com./a/b?c=d#e"),
        ("https://BÜCHER.example", "https://xn--bcher-kva.example/"),
    ];
    for (written, normal) in rows {
        assert_eq!(provider.permitted(written).unwrap().as_str(), normal);
    }
}

#[test]
fn only_listed_schemes_hosts_and_ports_are_permitted() {
    let config = HttpConfig { allowed_hosts: vec!["api.example.com".to_owned()], ..HttpConfig::default() };
    let provider = HttpProvider::new(&config, lookup()).unwrap();
    let rows = [
        ("", "invalid url"),
        ("/health", "invalid url"),
        ("api.example.com", "invalid url"),
        ("https://", "invalid url"),
        ("https://1.2.3.256/", "invalid url"),
        ("http://api.example.com/", "unsupported url scheme"),
        ("ftp://api.example.com/", "unsupported url scheme"),
        ("file:///etc/passwd", "unsupported url scheme"),
        ("data:,x", "unsupported url scheme"),
        ("https://user@api.example.com/", "url user info not allowed"),
        ("https://:secret@api.example.com/", "url user info not allowed"),
        ("https://api.example.com@evil.example/", "url user info not allowed"),
        ("https://api.example.com.evil.example/", "url host not allowed"),
        ("https://evil.example/api.example.com", "url host not allowed"),
        ("https://xapi.example.com/", "url host not allowed"),
        ("https://example.com/", "url host not allowed"),
        ("https://api.example.com../", "url host not allowed"),
        ("https://8.8.8.8/", "url host not allowed"),
        ("https://api.example.com:8443/", "url port not allowed"),
        ("https://api.example.com:80/", "url port not allowed"),
        ("https://api.example.com:0/", "url port not allowed"),
    ];
    for (url, text) in rows {
        assert_eq!(provider.permitted(url).unwrap_err().to_string(), text, "{url}");
    }
    let nothing = HttpProvider::new(&HttpConfig::default(), lookup()).unwrap();
    assert_eq!(nothing.permitted("https://api.example.com/").unwrap_err().to_string(), "url host not allowed");
    let plain = HttpConfig { allow_http: true, ..config };
    let plain = HttpProvider::new(&plain, lookup()).unwrap();
    assert!(plain.permitted("http://api.example.com/").is_ok());
    assert!(plain.permitted("http://api.example.com:8080/").is_err());
}

#[tokio::test]
async fn says_what_is_wrong_with_a_query() {
    let provider = HttpProvider::new(&HttpConfig::default(), lookup()).unwrap();
    let rows: [(&str, Option<Value>, &str); 5] = [
        ("headers", None, "unknown check: headers"),
        ("status", None, "missing params"),
        ("status", Some(json!({})), "invalid params: missing field `url`"),
        ("body_hash", Some(json!({"url": 1})), "invalid params: invalid type: integer `1`, expected a string"),
        (
            "status",
            Some(json!({"url": "https://a/", "method": "POST"})),
            "invalid params: unknown field `method`, expected `url`",
        ),
    ];
    for (check, params, text) in rows {
        let result = provider.query(&query("http", check, params), &context()).await;
        assert_eq!(message(&result), refusal(text));
    }
}

#[tokio::test]
async fn a_name_without_addresses_is_a_failed_request() {
    let config = HttpConfig { allowed_hosts: vec!["nobody.test".to_owned()], ..HttpConfig::default() };
    let provider = HttpProvider::new(&config, lookup()).unwrap();
    assert_eq!(message(&ask(&provider, "status", "https://nobody.test/").await), refusal("http request failed"));
}

#[tokio::test]
async fn the_system_knows_its_own_name() {
    let found = system_lookup()("localhost".to_owned()).await.unwrap();
    assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
}
