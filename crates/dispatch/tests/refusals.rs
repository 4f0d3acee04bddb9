//! No spelling of a reference or a callback leads where it must not: from its
//! text to the sentence that refuses it.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Server, agent, broker, callback, external, local_sources, lookup, refused};
use runpack_dispatch::{Again, Broker, BrokerOptions, CallbackOptions, SourceOptions};
use runpack_providers::host;
use serde_json::json;

/// Every host here is on the list and every port as well: what refuses is the
/// address alone.
#[rustfmt::skip]
const INSIDE: &[&str] = &[
    // Loopback.
    "127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "127.255.255.254", "2130706433", "0x7f000001", "0X7F.1", "0x7f.1",
    "0x7f.0.0.1", "017700000001", "0177.0.0.1", "0177.1", "0x7f.0x0.0x0.0x1", "127.0.0.0x1", "00000177.0.0.01",
    "%31%32%37.0.0.1", "①②⑦.⓪.⓪.①", "127。0。0。1", "127%2e0%2e0%2e1",
    "[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::ffff:7f00:1]", "[::ffff:127.0.0.1]", "[::FFFF:7F00:0001]",
    "[::127.0.0.1]", "[::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]", "[2002:7f00:0001::1]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]", "[::ffff:0:127.0.0.1]",
    "localhost", "localhost.", "LOCALHOST", "LocalHost.", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    // This host, and unspecified.
    "0", "0.0.0.0", "0x0", "00", "0.1.2.3", "[::]", "[::0.0.0.0]", "[::ffff:0:0]", "unspecified.test",
    // Metadata.
    "169.254.169.254", "2852039166", "0xa9fea9fe", "0xa9.0xfe.0xa9.0xfe", "0251.0376.0251.0376", "169.254.43518",
    "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[::169.254.169.254]", "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]", "[fd00:ec2::254]", "168.63.129.16", "100.100.100.200", "192.0.0.192",
    "metadata.test", "mapped.test", "nat64.test",
    // Private, shared, local.
    "10.0.0.1", "10.1", "167772161", "012.1", "100.64.0.1", "172.16.0.1", "192.168.1.1", "0xc0a80101",
    "[fe80::1]", "[fc00::1]", "[fd12:3456:789a::1]", "[fec0::1]", "internal.test", "ula.test",
    // Special, reserved, multicast.
    "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.254", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "4294967295", "0xffffffff",
    "[ff02::1]", "[2001:db8::1]", "[2001:10::1]", "[2001::1]", "[100::1]", "[3fff::1]", "[5f00::1]",
    "mixed.test", "mixed-first.test", "mixed-six.test",
];

fn plain(spelling: &str) -> String {
    host(spelling).unwrap_or_else(|| panic!("{spelling} is no host"))
}

#[tokio::test]
async fn no_reference_reaches_an_address_inside() {
    assert!(INSIDE.len() >= 60, "{}", INSIDE.len());
    let sources = SourceOptions {
        allow_hosts: INSIDE.iter().map(|spelling| plain(spelling)).collect(),
        allow_http: true,
        ..SourceOptions::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let log = Some(dir.path().join("log"));
    let broker = broker(&BrokerOptions { sources, log, ..BrokerOptions::default() });
    for spelling in INSIDE {
        for uri in [format!("http://{spelling}/"), format!("https://{spelling}/x?y=z")] {
            let error = refused(&broker, external(agent("a"), "text/plain", &uri, b"")).await;
            assert_eq!(error.to_string(), "source failure: http failure: url address not allowed", "{uri}");
            assert_eq!(error.again(), Again::Never, "{uri}");
        }
    }
    assert_eq!(std::fs::read(dir.path().join("log")).unwrap(), b"", "nothing was handed over");
}

/// An address is refused when the broker is made, a name when it is called.
#[tokio::test]
async fn no_callback_reaches_an_address_inside() {
    for spelling in INSIDE {
        let callback = CallbackOptions { own: false, ..callback(json!("agent"), &format!("https://{spelling}/")) };
        let options = BrokerOptions { callbacks: vec![callback], ..BrokerOptions::default() };
        match Broker::with_lookup(&options, &lookup()) {
            Err(error) => assert!(error.to_string().contains("url address not allowed\nhint: own = true"), "{error}"),
            Ok(broker) => {
                let inline = external(agent("a"), "text/plain", "inline:", b"");
                let error = refused(&broker, inline).await;
                assert_eq!(error.to_string(), "sink failure: url address not allowed", "{spelling}");
                assert_eq!(error.again(), Again::Never);
            }
        }
    }
}

/// The operator's own network is not where credentials are handed out.
#[tokio::test]
async fn an_own_callback_does_not_reach_metadata() {
    for host in ["169.254.169.254", "[::ffff:a9fe:a9fe]", "[fd00:ec2::254]", "0.0.0.0", "metadata.test", "mapped.test"]
    {
        let callbacks = vec![callback(json!("agent"), &format!("http://{host}/latest/meta-data/"))];
        match Broker::with_lookup(&BrokerOptions { callbacks, ..BrokerOptions::default() }, &lookup()) {
            Err(error) => assert!(error.to_string().contains("url address not allowed"), "{error}"),
            Ok(broker) => {
                let error = refused(&broker, external(agent("a"), "text/plain", "inline:", b"")).await;
                assert_eq!(error.to_string(), "sink failure: url address not allowed", "{host}");
            }
        }
    }
}

/// A broker that gets content so, and could hand it on.
fn getting(sources: SourceOptions) -> Broker {
    let callbacks = vec![callback(json!("agent"), "http://127.0.0.1:1/")];
    broker(&BrokerOptions { sources, callbacks, ..BrokerOptions::default() })
}

#[tokio::test]
async fn only_listed_schemes_hosts_and_ports_are_asked() {
    let broker = getting(SourceOptions {
        allow_hosts: ["api.example.com", "*.files.example"].map(str::to_owned).to_vec(),
        deny_hosts: ["*.secret.files.example", "Bad.files.example."].map(str::to_owned).to_vec(),
        ..SourceOptions::default()
    });
    let rows = [
        ("", "invalid uri: it has no scheme"),
        ("/etc/passwd", "invalid uri: it has no scheme"),
        ("api.example.com", "invalid uri: it has no scheme"),
        ("https://", "http failure: invalid url"),
        ("https://1.2.3.256/", "http failure: invalid url"),
        ("ftp://api.example.com/", "missing source for scheme: ftp"),
        ("gopher://api.example.com/", "missing source for scheme: gopher"),
        ("data:,x", "missing source for scheme: data"),
        ("blob:https://api.example.com/", "missing source for scheme: blob"),
        ("file:///etc/passwd", "missing source for scheme: file"),
        ("FILE:///etc/passwd", "missing source for scheme: file"),
        ("http://api.example.com/", "http failure: unsupported url scheme"),
        ("https://user@api.example.com/", "http failure: url user info not allowed"),
        ("https://:secret@api.example.com/", "http failure: url user info not allowed"),
        ("https://api.example.com@127.0.0.1/", "http failure: url user info not allowed"),
        ("https://api.example.com%40127.0.0.1/", "http failure: invalid url"),
        ("https://127.0.0.1#@api.example.com/", "http failure: url host not allowed"),
        ("https://127.0.0.1?@api.example.com/", "http failure: url host not allowed"),
        ("https://api.example.com.evil.example/", "http failure: url host not allowed"),
        ("https://evil.example/api.example.com", "http failure: url host not allowed"),
        ("https://xapi.example.com/", "http failure: url host not allowed"),
        ("https://example.com/", "http failure: url host not allowed"),
        ("https://api.example.com../", "http failure: url host not allowed"),
        ("https://files.example/", "http failure: url host not allowed"),
        ("https://xfiles.example/", "http failure: url host not allowed"),
        ("https://a.secret.files.example/", "http failure: url host not allowed"),
        ("https://A.SECRET.files.example./", "http failure: url host not allowed"),
        ("https://bad.files.example/", "http failure: url host not allowed"),
        ("https://8.8.8.8/", "http failure: url host not allowed"),
        ("https://api.example.com:8443/", "http failure: url port not allowed"),
        ("https://api.example.com:80/", "http failure: url port not allowed"),
        ("https://api.example.com:0/", "http failure: url port not allowed"),
        ("inline:a", "invalid uri: it is not padded base64"),
        ("inline+xml:YQ==", "missing source for scheme: inline+xml"),
    ];
    for (uri, text) in rows {
        let error = refused(&broker, external(agent("a"), "text/plain", uri, b"")).await;
        assert_eq!(error.to_string(), format!("source failure: {text}"), "{uri}");
        assert_eq!(error.again(), Again::Never, "{uri}");
    }
}

/// Whatever is behind the redirect, it is not asked.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inner = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret").await;
    let location: &'static str = Box::leak(
        format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", inner.url("/inner"))
            .into_boxed_str(),
    );
    let outer = Server::answering(location).await;
    let broker = getting(local_sources(&outer));
    let error = refused(&broker, external(agent("a"), "text/plain", &outer.url("/"), b"secret")).await;
    assert_eq!(error.to_string(), "source failure: http failure: http status 302");
    let callbacks = vec![callback(json!("agent"), &outer.url("/hook"))];
    let calling = common::broker(&BrokerOptions { callbacks, ..BrokerOptions::default() });
    let error = refused(&calling, external(agent("a"), "text/plain", "inline:", b"")).await;
    assert_eq!((error.to_string().as_str(), error.again()), ("sink failure: http status 302", Again::Later));
    assert_eq!((outer.asked(), inner.asked()), (2, 0));
}

#[cfg(unix)]
#[tokio::test]
async fn only_ordinary_files_beneath_the_root_are_read() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("sub")).unwrap();
    std::fs::write(dir.path().join("outside"), "secret").unwrap();
    std::fs::write(root.join("sub/file"), "fine").unwrap();
    std::fs::write(root.join("large"), "x".repeat(1_001)).unwrap();
    symlink(dir.path().join("outside"), root.join("link")).unwrap();
    symlink(dir.path(), root.join("way")).unwrap();
    symlink("/proc/self/environ", root.join("environ")).unwrap();
    std::fs::hard_link(dir.path().join("outside"), root.join("hard")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(root.join("pipe")).status().unwrap().success());
    let path = root.to_str().unwrap();
    let (sources, log) = (
        SourceOptions { file_root: Some(root.clone()), bytes_max: 1_000, ..SourceOptions::default() },
        dir.path().join("log"),
    );
    let broker = broker(&BrokerOptions { sources, log: Some(log), ..BrokerOptions::default() });
    let fine = [
        format!("file://{path}/sub/file"),
        format!("file://localhost{path}/./sub/x/../file"),
        format!("file:{path}/sub/%66ile"),
    ];
    for uri in fine {
        assert_eq!(broker.deliver(external(agent("a"), "text/plain", &uri, b"fine")).await.unwrap(), "logged", "{uri}");
    }
    let rows = [
        (format!("file://{path}/../outside"), "escapes"),
        (format!("file://{path}/%2e%2e/outside"), "escapes"),
        (format!("file://{path}/sub%2f..%2f..%2foutside"), "escapes"),
        (format!("file://{path}/..%2foutside"), "escapes"),
        (format!("file://{path}x/outside"), "escapes"),
        ("file:///etc/passwd".to_owned(), "escapes"),
        ("file:etc/passwd".to_owned(), "escapes"),
        (format!("file://{path}"), "refers to directory"),
        (format!("file://{path}/"), "refers to directory"),
        (format!("file://{path}/sub"), "not an ordinary file: directory"),
        (format!("file://{path}/link"), "symbolic link"),
        (format!("file://{path}/way/outside"), "symbolic link"),
        (format!("file://{path}/environ"), "symbolic link"),
        (format!("file://{path}/hard"), "hard link"),
        (format!("file://{path}/pipe"), "not an ordinary file: FIFO"),
        (format!("file://{path}/missing"), "resource not found: missing"),
        (format!("file://{path}/large"), "exceeds size limit: more than 1000 bytes"),
        (format!("file://evil.example{path}/sub/file"), "another host"),
        (format!("file://{path}/sub/file?x"), "no query"),
        (format!("file://{path}/sub/file#x"), "no query and no fragment"),
        (format!("file://{path}/sub/file%00"), ""),
    ];
    for (uri, text) in rows {
        let error = refused(&broker, external(agent("a"), "text/plain", &uri, b"secret")).await.to_string();
        assert!(error.starts_with("source failure: ") && error.contains(text), "{uri}: {error}");
    }
}

#[tokio::test]
async fn a_config_that_cannot_work_names_its_key() {
    let setup = |options: &BrokerOptions| Broker::with_lookup(options, &lookup()).err().unwrap().to_string();
    let sources = |change: &dyn Fn(&mut SourceOptions)| {
        let mut options = BrokerOptions::default();
        change(&mut options.sources);
        setup(&options)
    };
    assert!(
        sources(&|sources| sources.file_root = Some("/nonexistent-runpack".into()))
            .starts_with("file_root: cannot open")
    );
    assert!(
        sources(&|sources| sources.allow_hosts = vec!["https://a".to_owned()])
            .starts_with("allow_hosts: `https://a` is not a host")
    );
    assert!(
        sources(&|sources| sources.deny_hosts = vec!["a/b".to_owned()]).starts_with("deny_hosts: `a/b` is not a host")
    );
    let called = |callbacks: Vec<CallbackOptions>| {
        let sources = SourceOptions { deny_hosts: vec!["*.denied.example".to_owned()], ..SourceOptions::default() };
        setup(&BrokerOptions { callbacks, sources, ..BrokerOptions::default() })
    };
    let to = |url: &str| CallbackOptions { own: false, ..callback(json!("agent"), url) };
    for (url, text) in [
        ("nonsense", "invalid url"),
        ("http://agents.example/", "unsupported url scheme\nhint: own = true"),
        ("https://a@agents.example/", "url user info not allowed"),
        ("https://x.denied.example/", "url host not allowed"),
    ] {
        let told = called(vec![to(url)]);
        assert!(told.starts_with(&format!("callbacks: `{url}`: {text}")), "{told}");
    }
    let twice = called(vec![to("https://one.example/"), to("https://two.example/")]);
    assert!(twice.contains("two are for the same targets"), "{twice}");
    let mut system = to("https://one.example/");
    system.to.system = Some("s".to_owned());
    assert!(called(vec![system]).contains("only external targets have a system"));
    let token = CallbackOptions { bearer_token: Some("a\nb".to_owned()), ..to("https://one.example/") };
    assert!(!format!("{token:?}").contains("a\\nb"), "a token is not shown");
    assert!(called(vec![token]).contains("cannot be sent in a header"));
    let log = setup(&BrokerOptions { log: Some("/dev/null".into()), ..BrokerOptions::default() });
    assert!(log.starts_with("log: cannot open `/dev/null`: it is no ordinary file"), "{log}");
}
