//! kill -9 while runs are written: nothing acknowledged is lost.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
#[path = "common/told.rs"]
mod told;
#[path = "common/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use common::{BASE, CONFIG, Client, held, next, request, start};
use runpack_core::pack::{Verdict, VerifyOptions, verify};
use runpack_storage::packs::DirectoryReader;
use runpack_storage::runs::sqlite::SqliteRuns;
use rustix::process::Signal;
use serde_json::Value;
use told::{Told, check};
use wire::{Connection, Process};

/// Rounds; `just nightly` asks for more.
fn rounds() -> u32 {
    std::env::var("RUNPACK_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

const CLIENTS: usize = 4;

#[test]
fn a_killed_server_loses_nothing_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let store = "[run_state_store]\ntype = \"sqlite\"\npath = \"runs.db\"\n";
    fs::write(dir.join("decision-gate.toml"), format!("{CONFIG}\n{store}")).unwrap();
    let mut known = Told::new();
    let began = Instant::now();
    for round in 0..rounds() {
        let mut process = Process::at(dir);
        let mut client = Connection::new(process.address);
        // A fresh process takes what the store knows.
        client.call("scenario_define", held("s")).unwrap();
        // One run for all of them, and a new one for each.
        let shared = format!("shared-{}", round / 8);
        if round % 8 == 0 {
            client.call("scenario_start", start("s", &shared, false)).unwrap();
        }
        for number in 0..CLIENTS {
            client.call("scenario_start", start("s", &format!("own-{round}-{number}"), false)).unwrap();
        }
        let connections: Vec<_> = (0..CLIENTS).map(|_| Connection::new(process.address)).collect();
        let answers: Vec<_> = std::thread::scope(|scope| {
            let clients: Vec<_> = connections
                .into_iter()
                .enumerate()
                .map(|(number, connection)| {
                    let runs = [format!("own-{round}-{number}"), shared.clone()];
                    scope.spawn(move || ask(connection, &runs, &format!("{round}-{number}")))
                })
                .collect();
            std::thread::sleep(Duration::from_millis(u64::from(20 + round * 7919 % 90)));
            process.signal(Signal::KILL);
            process.child.wait().unwrap();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let mut now = Told::new();
        for (run, trigger, decision) in answers.into_iter().flatten() {
            now.entry(run).or_default().insert(trigger, decision);
        }
        check(&SqliteRuns::open_reading(&dir.join("runs.db")).unwrap(), &now);
        now.into_iter().for_each(|(run, acknowledged)| known.entry(run).or_default().extend(acknowledged));
    }
    // And nothing of what came before went lost later.
    let store = SqliteRuns::open_reading(&dir.join("runs.db")).unwrap();
    check(&store, &known);
    assert_eq!(store.verify().unwrap().damage, Vec::new());
    drop(store);
    let acknowledged: usize = known.values().map(BTreeMap::len).sum();
    println!("{acknowledged} acknowledged in {} rounds, {:.1} s", rounds(), began.elapsed().as_secs_f64());
    assert!(acknowledged as u32 > rounds(), "{acknowledged} are too few to tell");
    // The last state makes packs that verify.
    for run in known.keys().rev().take(CLIENTS) {
        let mut client = Process::at(dir);
        let mut connection = Connection::new(client.address);
        connection.call("scenario_define", held("s")).unwrap();
        let pack = dir.join(format!("pack-{run}"));
        connection.call("runpack_export", common::export("s", run, &pack)).unwrap();
        let report = verify(&DirectoryReader::open(&pack).unwrap(), "manifest.json", &VerifyOptions::default());
        assert_eq!(report.verdict, Verdict::Consistent, "{:?}", report.findings);
        client.signal(Signal::TERM);
        client.child.wait().unwrap();
    }
}

/// Asks until the server is gone; what was answered.
fn ask(mut connection: Connection, runs: &[String], name: &str) -> Vec<(String, String, Value)> {
    let mut answers = Vec::new();
    for number in 0.. {
        let (run, trigger) = (&runs[number % runs.len()], format!("{name}-{number}"));
        let call = request("scenario_next", next("s", run, &trigger, BASE + number as i64));
        let Ok(mut response) = connection.try_call(&call) else { break };
        assert_eq!(response.get("error"), None, "{response}");
        answers.push((run.clone(), trigger, response["result"]["content"][0]["json"]["decision"].take()));
    }
    answers
}
