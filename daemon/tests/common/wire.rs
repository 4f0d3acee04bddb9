//! A server as a process, and connections to it.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::common::{CONFIG, Client};

/// A server as a process of its own, killed with the test.
pub struct Process {
    pub child: Child,
    pub address: SocketAddr,
    pub talk: BufReader<std::process::ChildStderr>,
    _dir: Option<tempfile::TempDir>,
}

impl Process {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("decision-gate.toml"), CONFIG).unwrap();
        let mut process = Self::at(dir.path());
        process._dir = Some(dir);
        process
    }

    /// On the config that is in `dir` already.
    pub fn at(dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runpackd"));
        Self::of(command.arg("serve").current_dir(dir).env_remove("DECISION_GATE_CONFIG"))
    }

    /// What `command` starts, once it listens.
    pub fn of(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut talk = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("listening on ") {
            assert_ne!(talk.read_line(&mut said).unwrap(), 0, "{said}");
        }
        let address = said.trim().rsplit_once("://").unwrap().1.parse().unwrap();
        Self { child, address, talk, _dir: None }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until that is said, and ends the process if it is not.
    pub fn says(&mut self, text: &str) {
        let pid = Pid::from_child(&self.child);
        let (said, heard) = std::sync::mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            if heard.recv_timeout(Duration::from_secs(20)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        let mut talk = String::new();
        while !talk.contains(text) {
            assert_ne!(self.talk.read_line(&mut talk).unwrap(), 0, "expected `{text}` in:\n{talk}");
        }
        drop(said);
        watchdog.join().unwrap();
    }

    /// The exit code and the rest of what was said.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let mut talk = String::new();
        self.talk.read_to_string(&mut talk).unwrap();
        (self.child.wait().unwrap().code(), talk)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection.
pub struct Connection {
    pub address: SocketAddr,
    pub stream: BufReader<TcpStream>,
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

impl Connection {
    pub fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { address, stream: BufReader::new(stream) }
    }

    /// A call whose server may be killed under it: an error then.
    pub fn try_call(&mut self, request: &Value) -> io::Result<Value> {
        let body = request.to_string();
        let host = self.address;
        let head = format!("POST /rpc HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n");
        write!(self.stream.get_mut(), "{head}Content-Length: {}\r\n\r\n{body}", body.len())?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        // A server may have said no and closed already: the answer counts.
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
        self
    }

    /// Posts to `/rpc`; a header given here takes the place of the usual one.
    pub fn post(&mut self, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let host = self.address.to_string();
        let length = body.len().to_string();
        let usual = [("Host", host.as_str()), ("Content-Type", "application/json"), ("Content-Length", &length)];
        let mut head = "POST /rpc HTTP/1.1\r\n".to_owned();
        let usual = usual.iter().filter(|(name, _)| headers.iter().all(|(own, _)| !own.eq_ignore_ascii_case(name)));
        for (name, value) in usual.chain(headers).filter(|(_, value)| !value.is_empty()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.write(head + "\r\n").write(body).read()
    }

    pub fn get(&mut self, path: &str) -> Response {
        let host = self.address;
        self.write(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).read()
    }

    pub fn read(&mut self) -> Response {
        let mut line = || {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let first = line();
        let status = first.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: `{first}`")).parse().unwrap();
        let mut headers = BTreeMap::new();
        loop {
            let line = line();
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
        self.stream.read_exact(&mut body).unwrap();
        Response { status, headers, body }
    }

    /// How long until the server closes.
    pub fn closed_after(&mut self) -> Duration {
        let began = Instant::now();
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
        began.elapsed()
    }
}

impl Client for Connection {
    fn send(&mut self, request: &Value) -> (u16, Value) {
        let response = self.post(&[], request.to_string().as_bytes());
        (response.status, response.json())
    }
}
