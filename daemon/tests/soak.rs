//! Work for a while under everything that clients do to a server: calls at a
//! steady rate, connections that trickle, bodies that are no JSON, callers that
//! go away, and a restart in the middle. No wrong answer, nothing acknowledged
//! is lost, and memory and descriptors stay as they were.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
#[path = "common/told.rs"]
mod told;
#[path = "common/wire.rs"]
mod wire;

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{BASE, CONFIG, Client, held, next, request, start};
use runpack_storage::runs::sqlite::SqliteRuns;
use rustix::process::Signal;
use serde_json::Value;
use told::{Told, check};
use wire::{Connection, Process};

/// Calls of all callers in a second.
const RATE: u32 = 500;
const CALLERS: u32 = 4;
const SLOW: usize = 200;
/// Decisions on one run, before the caller begins another.
const RUN: u32 = 200;

/// Seconds; `.ci/run` and `just nightly` ask for more.
fn seconds() -> u64 {
    std::env::var("RUNPACK_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

struct Stage {
    address: Mutex<SocketAddr>,
    over: AtomicBool,
    began: Instant,
}

impl Stage {
    fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap()
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Counted {
    told: Vec<(String, String, Value)>,
    malformed: u32,
    gone: u32,
    lost_connections: u32,
}

#[test]
fn a_server_at_work_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let store = "[run_state_store]\ntype = \"sqlite\"\npath = \"runs.db\"\n";
    fs::write(dir.join("decision-gate.toml"), format!("{CONFIG}\n{store}")).unwrap();
    let process = serve(dir);
    let half = Duration::from_secs(seconds()) / 2;
    let stage = Stage { address: Mutex::new(process.address), over: AtomicBool::new(false), began: Instant::now() };
    let (counted, before, after) = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| {
                scope.spawn({
                    let stage = &stage;
                    move || call(stage, number)
                })
            })
            .collect();
        let slow = scope.spawn(|| trickle(&stage));
        std::thread::sleep(half);
        process.signal(Signal::TERM);
        let (code, talk) = process.ended();
        assert_eq!(code, Some(0), "{talk}");
        let process = serve(dir);
        *stage.address.lock().unwrap() = process.address;
        std::thread::sleep(half / 2);
        let before = standing(&process);
        std::thread::sleep(half / 2);
        let after = standing(&process);
        stage.over.store(true, Ordering::Relaxed);
        slow.join().unwrap();
        let counted: Vec<Counted> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        // Everybody has left: what they held is given back.
        let mut idle = standing(&process);
        for _ in 0..100 {
            if idle.descriptors < 40 {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            idle = standing(&process);
        }
        assert!(idle.descriptors < 40, "{} descriptors are open, and nobody is there", idle.descriptors);
        process.signal(Signal::TERM);
        assert_eq!(process.ended().0, Some(0));
        (counted, before, after)
    });
    let mut known = Told::new();
    let (mut malformed, mut gone, mut lost) = (0, 0, 0);
    for caller in counted {
        malformed += caller.malformed;
        gone += caller.gone;
        lost += caller.lost_connections;
        for (run, trigger, decision) in caller.told {
            known.entry(run).or_default().insert(trigger, decision);
        }
    }
    let store = SqliteRuns::open_reading(&dir.join("runs.db")).unwrap();
    check(&store, &known);
    assert_eq!(store.verify().unwrap().damage, Vec::new());
    let acknowledged: usize = known.values().map(std::collections::BTreeMap::len).sum();
    println!(
        "{} s: {acknowledged} decisions acknowledged and kept, {malformed} malformed bodies refused, {gone} callers \
         went away, {lost} connections lost to the restart; memory {} KiB, then {} KiB",
        seconds(),
        before.resident_kib,
        after.resident_kib
    );
    assert!(acknowledged as u64 > seconds() && malformed > 0 && gone > 0, "too little happened to tell");
    // The caches of the store fill up in the first minute, and stay full.
    if seconds() >= 300 {
        let most = before.resident_kib + before.resident_kib / 10;
        assert!(after.resident_kib <= most, "{} KiB became {} KiB", before.resident_kib, after.resident_kib);
    }
}

fn serve(dir: &std::path::Path) -> Process {
    let process = Process::at(dir);
    Connection::new(process.address).call("scenario_define", held("s")).unwrap();
    process
}

/// What a process holds.
struct Standing {
    resident_kib: u64,
    descriptors: usize,
}

fn standing(process: &Process) -> Standing {
    let proc = format!("/proc/{}", process.child.id());
    let status = fs::read_to_string(format!("{proc}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident_kib = line.trim().trim_end_matches(" kB").parse().unwrap();
    Standing { resident_kib, descriptors: fs::read_dir(format!("{proc}/fd")).unwrap().count() }
}

/// Calls at a steady rate. Each twentieth body is cut off, and after each
/// twenty-fifth request the caller does not wait for the answer.
fn call(stage: &Stage, number: u32) -> Counted {
    let mut counted = Counted::default();
    let mut connection: Option<Connection> = None;
    let mut run = String::new();
    let pace = Duration::from_secs(1) / (RATE / CALLERS);
    for turn in 0_u32.. {
        if stage.over() {
            break;
        }
        let due = stage.began + pace * turn;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let Some(open) = connection.as_mut() else {
            // Nobody listens for a moment while the server is started again.
            if TcpStream::connect(stage.address()).is_ok() {
                connection = Some(Connection::new(stage.address()));
                run.clear();
            }
            continue;
        };
        if run.is_empty() || turn % RUN == 0 {
            run = format!("run-{number}-{turn}");
            if open.try_call(&request("scenario_start", start("s", &run, false))).is_err() {
                counted.lost_connections += 1;
                (connection, run) = (None, String::new());
            }
            continue;
        }
        let trigger = format!("t-{turn}");
        let body = request("scenario_next", next("s", &run, &trigger, BASE + i64::from(turn)));
        if turn % 20 == 7 {
            let text = body.to_string();
            match cut_off(stage.address(), &text[..text.len() / 2]) {
                Some(status) => {
                    assert_eq!(status, 400);
                    counted.malformed += 1;
                }
                None => counted.lost_connections += 1,
            }
        } else if turn % 25 == 11 {
            let text = body.to_string();
            if let Ok(mut stream) = TcpStream::connect(stage.address()) {
                let host = stage.address();
                let _ = write!(
                    stream,
                    "POST /rpc HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
                    text.len()
                );
                counted.gone += 1;
            }
        } else {
            match open.try_call(&body) {
                Ok(mut response) => {
                    assert_eq!(response.get("error"), None, "{response}");
                    let decision = response["result"]["content"][0]["json"]["decision"].take();
                    assert_eq!(decision["trigger_id"], trigger.as_str(), "the answer to another call");
                    assert_eq!(decision["outcome"]["kind"], "hold");
                    counted.told.push((run.clone(), trigger, decision));
                }
                Err(_) => {
                    counted.lost_connections += 1;
                    connection = None;
                }
            }
        }
    }
    counted
}

/// The status of the answer to a body that is no JSON; nothing if the server is
/// being started again.
fn cut_off(address: SocketAddr, body: &str) -> Option<u16> {
    use std::io::Read as _;

    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!(
        "POST /rpc HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

/// Connections whose heads never come to an end. The server drops them, and
/// they come again.
fn trickle(stage: &Stage) {
    let mut slow: Vec<Option<TcpStream>> = (0..SLOW).map(|_| None).collect();
    while !stage.over() {
        for place in &mut slow {
            let alive = place.as_mut().is_some_and(|stream| stream.write_all(b"x").is_ok());
            if !alive {
                *place = TcpStream::connect(stage.address()).ok();
                if let Some(stream) = place {
                    let _ = stream.write_all(b"POST /rpc HTTP/1.1\r\nX-Slow: ");
                }
            }
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}
