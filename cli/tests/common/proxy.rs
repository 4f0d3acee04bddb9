//! A proxy before an S3 server that breaks one kind of request in one way.
//!
//! One request for each connection, so that every fault is about one request.
//! Signatures stay valid: the head is passed on as it came.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::s3::runtime;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// This status, and the server is not asked.
    Status(u16),
    /// The server does it; the client is told this status.
    StatusAfter(u16),
    /// The connection is reset, or closed, before the server is asked.
    Reset,
    Close,
    /// The same, once the server has done it.
    ResetAfter,
    CloseAfter,
    /// Nothing comes any more.
    Stall,
    StallAfter,
    /// The connection is reset while the client still sends.
    ResetMidway,
    /// Half of the answer, then the connection is closed, reset, or silent.
    CutClose,
    CutReset,
    CutStall,
    /// Half of the answer, with a length that fits.
    Short,
    /// One byte of the request's body, or of the answer's, is another.
    FlipRequest,
    FlipAnswer,
    /// 200 with an error in the body, as S3 does for long work.
    SlowDown200,
}

/// Which requests, and how many of them.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// `*` for all.
    pub method: &'static str,
    /// Somewhere in the request's target; `?list` stands for lists.
    pub target: &'static str,
    pub hits: usize,
    pub action: Action,
}

impl Rule {
    fn means(&self, head: &[u8]) -> bool {
        let head = String::from_utf8_lossy(head);
        let mut words = head.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return false };
        let list = target.contains("list-type=2");
        let meant = if self.target == "?list" { list } else { !list && target.contains(self.target) };
        meant && (self.method == "*" || self.method == method)
    }
}

/// No request has this method.
pub const NOTHING: Rule = Rule { method: "-", target: "", hits: 0, action: Action::Close };

/// Bytes that are passed on at a time.
const PIECE: usize = 16 * 1024;

pub const ALWAYS: usize = usize::MAX;

pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    upstream: u16,
    rule: Mutex<Rule>,
    /// Holds from the first hit of the rule on.
    then: Mutex<Option<Rule>>,
    hits: AtomicUsize,
    requests: AtomicUsize,
    /// Bytes a second over all connections, both ways; any number if 0.
    rate: AtomicUsize,
    way: tokio::sync::Mutex<()>,
}

impl Proxy {
    pub fn before(upstream: u16) -> Self {
        let listener = runtime().block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State {
            upstream,
            rule: Mutex::new(NOTHING),
            then: Mutex::new(None),
            hits: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            rate: AtomicUsize::new(0),
            way: tokio::sync::Mutex::default(),
        };
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        runtime().spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move { state.serve(client).await.ok() });
            }
        });
        Self { port, state }
    }

    pub fn set(&self, rule: Rule) {
        *self.state.rule.lock().unwrap() = rule;
        self.state.hits.store(0, Ordering::SeqCst);
    }

    /// What else goes wrong, always, once the rule has met a request.
    pub fn set_then(&self, rule: Rule) {
        *self.state.then.lock().unwrap() = Some(rule);
    }

    /// So many bytes a second pass, over all connections.
    pub fn throttle(&self, rate: usize) {
        self.state.rate.store(rate, Ordering::SeqCst);
    }

    /// How many requests were broken since the rule was set.
    pub fn hits(&self) -> usize {
        self.state.hits.load(Ordering::SeqCst)
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }
}

impl State {
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut request = Vec::new();
        let head = loop {
            if let Some(end) = end_of_head(&request) {
                break end;
            }
            if self.read(&mut client, &mut request).await? == 0 {
                return Ok(());
            }
        };
        self.requests.fetch_add(1, Ordering::SeqCst);
        let action = self.action(&request[..head]);
        let length = content_length(&request[..head]);
        let wanted = head + if action == Some(Action::ResetMidway) { length / 2 } else { length };
        while request.len() < wanted {
            if self.read(&mut client, &mut request).await? == 0 {
                return Ok(());
            }
        }
        match action {
            None => {
                let answer = self.ask(&request, head).await?;
                for piece in answer.chunks(PIECE) {
                    client.write_all(piece).await?;
                    self.pass(piece.len()).await;
                }
            }
            Some(action) => self.broken(client, request, head, action).await?,
        }
        Ok(())
    }

    async fn read(&self, client: &mut TcpStream, request: &mut Vec<u8>) -> io::Result<usize> {
        let count = client.take(PIECE as u64).read_buf(request).await?;
        self.pass(count).await;
        Ok(count)
    }

    /// Takes the time that so many bytes take.
    async fn pass(&self, bytes: usize) {
        let rate = self.rate.load(Ordering::SeqCst);
        if rate > 0 {
            let _turn = self.way.lock().await;
            tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
        }
    }

    fn action(&self, head: &[u8]) -> Option<Action> {
        let rule = *self.rule.lock().unwrap();
        if !rule.means(head) {
            let begun = self.hits.load(Ordering::SeqCst) > 0;
            return self.then.lock().unwrap().filter(|rule| begun && rule.means(head)).map(|rule| rule.action);
        }
        let earlier =
            self.hits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |hits| (hits < rule.hits).then_some(hits + 1));
        earlier.is_ok().then_some(rule.action)
    }

    /// The whole answer. The server closes after it.
    async fn ask(&self, request: &[u8], head: usize) -> io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(("127.0.0.1", self.upstream)).await?;
        server.set_nodelay(true)?;
        let mut sent = request[..head - 2].to_vec();
        sent.extend_from_slice(b"connection: close\r\n\r\n");
        sent.extend_from_slice(&request[head..]);
        server.write_all(&sent).await?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).await?;
        Ok(answer)
    }

    async fn broken(&self, mut client: TcpStream, mut request: Vec<u8>, head: usize, action: Action) -> io::Result<()> {
        if action == Action::FlipRequest && request.len() > head {
            let at = head + (request.len() - head) / 2;
            request[at] ^= 1;
        }
        let asked = !matches!(
            action,
            Action::Status(_)
                | Action::Reset
                | Action::Close
                | Action::Stall
                | Action::ResetMidway
                | Action::SlowDown200
        );
        let mut answer = if asked { self.ask(&request, head).await? } else { Vec::new() };
        let body = end_of_head(&answer).unwrap_or(answer.len());
        let half = body + (answer.len() - body) / 2;
        match action {
            Action::Status(status) | Action::StatusAfter(status) => {
                let body = "<?xml version=\"1.0\"?><Error><Code>Broken</Code></Error>";
                client.write_all(&made(status, body)).await?;
            }
            Action::SlowDown200 => {
                client.write_all(&made(200, "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code></Error>")).await?;
            }
            Action::Reset | Action::ResetAfter | Action::ResetMidway => client.set_zero_linger()?,
            Action::Close | Action::CloseAfter => {}
            Action::Stall | Action::StallAfter => silent(client).await,
            Action::CutClose | Action::CutReset | Action::CutStall => {
                client.write_all(&answer[..half]).await?;
                client.flush().await?;
                // What was sent must not be taken back by the reset.
                tokio::time::sleep(Duration::from_millis(20)).await;
                match action {
                    Action::CutReset => client.set_zero_linger()?,
                    Action::CutStall => silent(client).await,
                    _ => {}
                }
            }
            Action::Short => {
                let (was, is) = (answer.len() - body, half - body);
                let text = String::from_utf8_lossy(&answer[..body]).to_ascii_lowercase();
                let text =
                    text.replacen(&format!("content-length: {was}\r\n"), &format!("content-length: {is}\r\n"), 1);
                client.write_all(text.as_bytes()).await?;
                client.write_all(&answer[body..half]).await?;
            }
            Action::FlipAnswer if answer.len() > body => {
                answer[half] ^= 1;
                client.write_all(&answer).await?;
            }
            Action::FlipAnswer | Action::FlipRequest => client.write_all(&answer).await?,
        }
        Ok(())
    }
}

/// Until the client has had enough.
async fn silent(mut client: TcpStream) {
    let gone = async { while client.read(&mut [0; 1024]).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(Duration::from_secs(30), gone).await.ok();
}

fn made(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} Broken\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").into_bytes()
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let line = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    line.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
}
