//! Sealed archives at web addresses, from a server in this process.

#![cfg(feature = "https")]
#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{text, told};

const SECRET: &str = "X-Amz-Signature=5ec2e7";

/// A server; `answer` writes to whoever asks for a path.
struct Server {
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn start(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, answer) = (stream.unwrap(), Arc::clone(&answer));
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    // Whoever begins to talk TLS sends no lines.
                    while !head.ends_with(b"\r\n\r\n") && head.first() != Some(&0x16) {
                        match stream.read(&mut byte) {
                            Ok(1) => head.push(byte[0]),
                            _ => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or("(tls)").to_owned();
                    answer(&path, &mut stream);
                    stream.shutdown(Shutdown::Write).ok();
                    while stream.read(&mut [0; 1024]).is_ok_and(|count| count > 0) {}
                });
            }
        });
        Self { port, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}?{SECRET}", self.port)
    }

    /// As it is printed.
    fn shown(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}?…", self.port)
    }
}

fn send(stream: &mut TcpStream, status: &str, fields: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{fields}\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).ok();
}

fn whole(stream: &mut TcpStream, body: &[u8]) {
    send(stream, "200 OK", &format!("content-length: {}\r\n", body.len()), body);
}

fn sealed(name: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("p.runpack.tar");
    let pack = inputs::testdata("packs/good").join(name);
    assert_eq!(told(["seal", text(&pack), "--out", text(&out)]).0, 0);
    fs::read(out).unwrap()
}

/// A chunked answer, and other ways to go wrong, by path.
fn archives() -> Server {
    let (gate, rich) = (sealed("release-gate"), sealed("rich"));
    let mut flipped = gate.clone();
    *flipped.iter_mut().rfind(|byte| **byte == b'}').unwrap() = b'{';
    Server::start(move |target, stream| {
        let path = target.split('?').next().unwrap();
        let elsewhere = |to: &str| format!("location: {to}\r\ncontent-length: 0\r\n");
        match path {
            "/gate" => whole(stream, &gate),
            "/rich" => whole(stream, &rich),
            "/chunked" => {
                let mut body = Vec::new();
                for chunk in gate.chunks(5000) {
                    body.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                    body.extend([chunk, b"\r\n"].concat());
                }
                body.extend(b"0\r\n\r\n");
                send(stream, "200 OK", "transfer-encoding: chunked\r\n", &body);
            }
            "/flipped" => whole(stream, &flipped),
            "/page" => whole(stream, b"<html>please log in</html>"),
            "/cut" => send(stream, "200 OK", &format!("content-length: {}\r\n", gate.len()), &gate[..gate.len() / 2]),
            "/endless" => send(stream, "200 OK", "", &gate[..gate.len() / 2]),
            "/moved" => send(stream, "302 Found", &elsewhere(&format!("/gate?{SECRET}")), b""),
            "/round" => send(stream, "302 Found", &elsewhere(&format!("/round?{SECRET}")), b""),
            "/away" => send(stream, "302 Found", &elsewhere(&format!("http://192.0.2.1/p?{SECRET}")), b""),
            "/partial" => send(stream, "206 Partial Content", &format!("content-length: {}\r\n", gate.len()), &gate),
            "/busy" => send(stream, "503 Service Unavailable", "content-length: 0\r\n", b""),
            "/stall" => std::thread::sleep(Duration::from_secs(20)),
            _ => send(stream, "404 Not Found", "content-length: 0\r\n", b""),
        }
    })
}

#[test]
fn an_archive_is_read_where_it_is() {
    let server = archives();
    let gate = inputs::testdata("packs/good/release-gate");
    for command in ["verify", "replay", "show"] {
        for at in ["/gate", "/chunked", "/moved"] {
            let (code, out, err) = told([command, &server.url(at)]);
            let here = told([command, text(&gate)]);
            assert_eq!((code, out, err), (here.0, here.1.replace(text(&gate), &server.shown(at)), here.2), "{command}");
        }
    }
    assert_eq!(told(["diff", &server.url("/gate"), text(&gate)]).0, 0);
    assert_eq!(told(["diff", &server.url("/gate"), &server.url("/rich")]).0, 1);
    assert_eq!(told(["verify", &server.url("/gate").replace("127.0.0.1", "localhost")]).0, 0);
    let dir = tempfile::tempdir().unwrap();
    for (command, word) in [("pull", "brought"), ("unseal", "unsealed")] {
        let to = dir.path().join(command);
        let (code, out, err) = told([command, &server.url("/gate"), "--out", text(&to)]);
        assert!(code == 0 && out.contains(word), "{out}{err}");
        assert_eq!(told(["diff", text(&to), text(&gate)]).0, 0);
    }
    let archive = dir.path().join("again.runpack.tar");
    assert_eq!(told(["seal", &server.url("/gate"), "--out", text(&archive)]).0, 0);
    // A pin speaks of the address without what is secret, and so of the next one.
    let (code, lock, err) = told(["pin", &server.url("/gate")]);
    assert!(code == 0 && lock.ends_with(&format!("  {}\n", server.shown("/gate"))), "{lock}{err}");
    let file = dir.path().join("lock");
    fs::write(&file, lock).unwrap();
    let other = server.url("/gate").replace("5ec2e7", "other");
    let (code, out, _) = told(["verify", &other, "--expect-file", text(&file)]);
    assert!(code == 0 && out.contains("pinned"), "{out}");
}

#[test]
fn it_is_fetched_once() {
    let server = archives();
    for command in ["verify", "replay", "show", "pin"] {
        let before = server.asked.load(Ordering::SeqCst);
        assert_eq!(told([command, &server.url("/gate")]).0, 0);
        assert_eq!(server.asked.load(Ordering::SeqCst), before + 1, "{command}");
    }
}

#[test]
fn only_what_came_whole_is_judged() {
    let server = archives();
    for (path, exit, said) in [
        ("/flipped", 1, "RP0201"),
        ("/page", 1, "not a sealed archive"),
        ("/cut", 2, "end of file before message length reached"),
        ("/endless", 2, "the server does not say how long it is"),
        ("/partial", 2, "the server answers 206 Partial Content"),
        ("/busy", 2, "the server answers 503 Service Unavailable"),
        ("/none", 2, "the server answers 404 Not Found"),
        ("/round", 2, "it redirects more than 5 times"),
        ("/away", 2, "it redirects to `http://192.0.2.1/p?…`, and only https:// is followed"),
        ("/stall", 2, "operation timed out"),
    ] {
        let url = server.url(path);
        let impatient = ["--store-option", "read_timeout_s=1"];
        for format in ["human", "json", "sarif", "junit", "github"] {
            if path == "/stall" && format != "human" {
                continue;
            }
            let (code, out, err) = told([&["verify", &url, "--format", format], &impatient[..]].concat());
            assert_eq!(code, exit, "{path} {format}: {out}{err}");
            assert!(!out.contains("5ec2e7") && !err.contains("5ec2e7"), "{path} {format}: {out}{err}");
            assert!(format != "human" || out.contains(said) && out.contains(&server.shown(path)), "{path}: {out}");
        }
        for command in ["replay", "show", "pin", "pull", "diff"] {
            let mut args = vec![command, &url];
            args.extend(match command {
                "pull" => &["--out", "/nonexistent/never/written"][..],
                "diff" => &["/nonexistent"],
                _ => &[],
            });
            if path != "/stall" {
                let (code, out, err) = told([&args[..], &impatient].concat());
                assert!(code != 0 && !out.contains("5ec2e7") && !err.contains("5ec2e7"), "{args:?}: {out}{err}");
            }
        }
    }
}

#[test]
fn a_large_one_is_refused_by_the_flag_that_allows_it() {
    let server = archives();
    let (code, out, _) = told(["verify", &server.url("/gate"), "--max-artifact-bytes", "100"]);
    assert!(code == 2 && out.contains(&server.shown("/gate")), "{out}");
    assert!(out.contains("has more than 100 bytes\nhint: raise the limit with --max-artifact-bytes"), "{out}");
}

#[test]
fn nobody_else_is_asked_without_tls() {
    for (url, said) in [
        ("http://192.0.2.1/p?secret", "hint: use https://"),
        ("http://localhost.example/p?secret", "hint: use https://"),
        ("http://127.0.0.1.example/p?secret", "hint: use https://"),
        ("https://user:secret@127.0.0.1/p", "a name or password before the host is not taken"),
        ("ftp://127.0.0.1/p", "is a URL of a kind that packs are not read from"),
    ] {
        let began = Instant::now();
        let (code, out, err) = told(["verify", url]);
        let said_all = format!("{out}{err}");
        assert!(code == 2 && said_all.contains(said) && !said_all.contains("secret"), "{said_all}");
        assert!(began.elapsed() < Duration::from_secs(1), "nobody was asked");
    }
    // Where https is said, nothing is sent that is not TLS.
    let server = Server::start(|target, stream| {
        assert_eq!(target, "(tls)");
        send(stream, "200 OK", "content-length: 0\r\n", b"");
    });
    let (code, out, _) = told(["verify", &format!("https://127.0.0.1:{}/p?{SECRET}", server.port)]);
    assert!(code == 2 && server.asked.load(Ordering::SeqCst) == 1 && !out.contains("5ec2e7"), "{out}");
}

#[test]
fn nothing_is_below_an_archive_and_nothing_is_written_there() {
    let pack = inputs::testdata("packs/good/rich");
    let url = "https://192.0.2.1/p?secret";
    for args in [
        &["verify", "--recursive", url] as &[_],
        &["mirror", url, "to"],
        &["mirror", text(&pack), url],
        &["pull", text(&pack), "--out", url],
        &["push", text(&pack), url],
    ] {
        let (code, out, err) = told(args);
        assert!(code == 2 && out.is_empty(), "{args:?}: {out}");
        assert!(err.contains("hint: ") && !err.contains("secret"), "{args:?}: {err}");
    }
}
