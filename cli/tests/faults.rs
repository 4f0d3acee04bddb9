//! What goes wrong on the way to a bucket, and that nothing wrong is said of it.
//!
//! A proxy before the server breaks one kind of request. Whatever happens: what
//! is called published verifies; what is called not published has no manifest;
//! what is called unknown is so only where an answer about the manifest was
//! lost; and running the same command again settles it.

#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;
#[path = "common/proxy.rs"]
mod proxy;
#[path = "common/s3.rs"]
mod s3;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::text;
use proxy::{ALWAYS, Action, NOTHING, Proxy, Rule};
use s3::S3;

use Action::*;
use Told::*;

/// What the command is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Published,
    NotPublished,
    Unknown,
}

/// A broken request of `push`: method, target, how often, how, and what is said.
type Case = (&'static str, &'static str, usize, Action, Told);

const FILE: &str = "artifacts/decisions.json";
const MANIFEST: &str = "manifest.json";
const PROBE: &str = ".runpack/probe";
const LIST: &str = "?list";
const SCENARIO: &str = "artifacts/scenario_spec.json";

#[rustfmt::skip]
const PUSHES: &[Case] = &[
    ("PUT", FILE, 2, Status(503), Published),
    ("PUT", FILE, 2, Status(500), Published),
    ("PUT", FILE, 2, Status(501), Published),
    ("PUT", FILE, 2, Status(429), Published),
    ("PUT", FILE, 2, Status(408), Published),
    ("PUT", FILE, 1, Status(409), Published),
    ("PUT", FILE, 1, StatusAfter(503), Published),
    ("PUT", FILE, 1, StatusAfter(500), Published),
    ("PUT", FILE, ALWAYS, StatusAfter(500), Published),
    ("PUT", FILE, 1, Reset, Published),
    ("PUT", FILE, 1, Close, Published),
    ("PUT", FILE, 1, Stall, Published),
    ("PUT", FILE, 1, ResetMidway, Published),
    ("PUT", FILE, 1, ResetAfter, Published),
    ("PUT", FILE, 1, CloseAfter, Published),
    ("PUT", FILE, 1, StallAfter, Published),
    ("PUT", FILE, 1, FlipRequest, Published),
    ("PUT", FILE, ALWAYS, FlipRequest, NotPublished),
    ("PUT", FILE, ALWAYS, Status(503), NotPublished),
    ("PUT", FILE, ALWAYS, Status(409), NotPublished),
    ("PUT", FILE, ALWAYS, Status(403), NotPublished),
    ("PUT", FILE, ALWAYS, Reset, NotPublished),
    ("PUT", FILE, ALWAYS, ResetMidway, NotPublished),
    ("PUT", FILE, ALWAYS, Stall, NotPublished),

    ("PUT", MANIFEST, 2, Status(503), Published),
    ("PUT", MANIFEST, 2, Status(429), Published),
    ("PUT", MANIFEST, 1, Status(409), Published),
    ("PUT", MANIFEST, 1, StatusAfter(503), Published),
    ("PUT", MANIFEST, 1, StatusAfter(500), Published),
    ("PUT", MANIFEST, ALWAYS, StatusAfter(500), Published),
    ("PUT", MANIFEST, 1, StatusAfter(409), Published),
    ("PUT", MANIFEST, 1, Reset, Published),
    ("PUT", MANIFEST, 1, Close, Published),
    ("PUT", MANIFEST, 1, Stall, Published),
    ("PUT", MANIFEST, 1, ResetMidway, Published),
    ("PUT", MANIFEST, 1, ResetAfter, Published),
    ("PUT", MANIFEST, ALWAYS, ResetAfter, Published),
    ("PUT", MANIFEST, 1, CloseAfter, Published),
    ("PUT", MANIFEST, 1, StallAfter, Published),
    ("PUT", MANIFEST, 1, FlipRequest, Published),
    ("PUT", MANIFEST, ALWAYS, FlipRequest, NotPublished),
    ("PUT", MANIFEST, ALWAYS, Status(503), NotPublished),
    ("PUT", MANIFEST, ALWAYS, Status(409), NotPublished),
    ("PUT", MANIFEST, ALWAYS, Status(403), NotPublished),
    ("PUT", MANIFEST, ALWAYS, Reset, Unknown),
    ("PUT", MANIFEST, ALWAYS, Stall, Unknown),

    ("GET", MANIFEST, 2, Status(503), Published),
    ("GET", MANIFEST, 1, Reset, Published),
    ("GET", MANIFEST, 1, Close, Published),
    ("GET", MANIFEST, 1, Stall, Published),
    ("GET", MANIFEST, ALWAYS, Status(503), NotPublished),
    ("GET", MANIFEST, ALWAYS, Status(403), NotPublished),

    ("GET", LIST, 2, Status(503), Published),
    ("GET", LIST, 1, Reset, Published),
    ("GET", LIST, 1, Stall, Published),
    ("GET", LIST, 1, CutClose, Published),
    ("GET", LIST, 1, CutReset, Published),
    ("GET", LIST, 1, CutStall, Published),
    ("GET", LIST, 1, Short, Published),
    ("GET", LIST, ALWAYS, CutClose, NotPublished),
    ("GET", LIST, ALWAYS, Short, NotPublished),

    ("PUT", PROBE, 2, Status(503), Published),
    ("PUT", PROBE, 1, Status(409), Published),
    ("PUT", PROBE, 1, StatusAfter(500), Published),
    ("PUT", PROBE, 1, ResetAfter, Published),
    ("PUT", PROBE, 1, Stall, Published),
    ("PUT", PROBE, ALWAYS, Status(409), NotPublished),
    ("PUT", PROBE, ALWAYS, Status(403), NotPublished),
];

/// A pack one of whose files goes up in parts.
#[rustfmt::skip]
const PARTS: &[Case] = &[
    ("POST", "uploads", 2, Status(503), Published),
    ("POST", "uploads", 1, CloseAfter, Published),
    ("POST", "uploads", 1, ResetAfter, Published),
    ("PUT", "partNumber=2", 2, Status(503), Published),
    ("PUT", "partNumber=2", 1, Reset, Published),
    ("PUT", "partNumber=1", 1, ResetMidway, Published),
    ("PUT", "partNumber=1", 1, StallAfter, Published),
    ("PUT", "partNumber=1", 1, FlipRequest, Published),
    ("PUT", "partNumber=2", ALWAYS, Status(500), NotPublished),
    ("POST", "uploadId=", 1, Status(500), Published),
    ("POST", "uploadId=", 1, SlowDown200, Published),
    ("POST", "uploadId=", 1, StatusAfter(500), Published),
    ("POST", "uploadId=", 1, ResetAfter, Published),
    ("POST", "uploadId=", 1, StallAfter, Published),
    ("POST", "uploadId=", ALWAYS, StatusAfter(500), Published),
    ("POST", "uploadId=", ALWAYS, Status(500), NotPublished),
];

/// The same pack, with that file in one put.
#[rustfmt::skip]
const WHOLE: &[Case] = &[
    ("PUT", SCENARIO, 2, Status(503), Published),
    ("PUT", SCENARIO, 1, Status(409), Published),
    ("PUT", SCENARIO, 1, StatusAfter(500), Published),
    ("PUT", SCENARIO, 1, ResetMidway, Published),
    ("PUT", SCENARIO, 1, ResetAfter, Published),
    ("PUT", SCENARIO, 1, StallAfter, Published),
    ("PUT", SCENARIO, 1, FlipRequest, Published),
    ("PUT", SCENARIO, ALWAYS, StatusAfter(500), Published),
    ("PUT", SCENARIO, ALWAYS, Status(503), NotPublished),
    ("PUT", SCENARIO, ALWAYS, Status(403), NotPublished),
];

/// Small, so that what goes on for ever is given up soon.
const IMPATIENT: [&str; 6] =
    ["--store-option", "patience_s=2", "--store-option", "read_timeout_s=1", "--store-option", "connect_timeout_s=1"];

const AUDIT: &str = "s3://packs/audit";

/// For a server that has ten mebibytes to hash for each of several clients.
const LESS_IMPATIENT: [&str; 4] = ["--store-option", "patience_s=5", "--store-option", "read_timeout_s=4"];

const IN_PARTS: [&str; 2] = ["--store-option", "parts_above_mib=8"];

fn through(proxy: &Proxy, args: &[&str]) -> (i32, String, String) {
    s3::told(&mut s3::command(proxy.port, s3::SECRET, &[args, &IMPATIENT].concat()))
}

/// Runs every case, some at a time; answers what is wrong.
fn all(at_once: usize, cases: &[Case], check: impl Fn(&Case) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let began = Instant::now();
                    let mut outcome = check(case);
                    if outcome.is_ok() && began.elapsed() > Duration::from_secs(30) {
                        outcome = Err(format!("took {:?}", began.elapsed()));
                    }
                    if let Err(problem) = outcome {
                        wrong.lock().unwrap().push(format!("{case:?}: {problem}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// The command and what it says of a pack that is new, or was there.
struct Publishing<'a> {
    command: [&'a str; 3],
    options: &'a [&'a str],
    new: &'static str,
    there: &'static str,
}

fn push(by: &Publishing<'_>, &(method, target, hits, action, told): &Case) -> Result<(), String> {
    let server = S3::start();
    let proxy = Proxy::before(server.port);
    proxy.set(Rule { method, target, hits, action });
    let (code, out, err) = s3::told(&mut s3::command(proxy.port, s3::SECRET, &[&by.command, by.options].concat()));
    if proxy.hits() == 0 {
        return Err("the rule never met a request".to_owned());
    }
    let said = if code == 0 {
        Published
    } else if err.contains("it is not known whether the pack was published") {
        Unknown
    } else {
        NotPublished
    };
    let manifest =
        walkdir::WalkDir::new(server.bucket()).into_iter().any(|entry| entry.unwrap().file_name() == MANIFEST);
    let verified = server.told(&["verify", "--recursive", AUDIT]);
    match said {
        Published if verified.0 != 0 => return Err(format!("published, and does not verify: {verified:?}")),
        Published if !out.contains(by.new) => return Err(format!("was there before: {out}")),
        NotPublished if manifest => return Err(format!("not published, and it is there: {err}")),
        _ if said != told => return Err(format!("said {said:?}: {err}")),
        _ => {}
    }
    // The same again, and nothing in the way.
    let (code, out, err) = server.told(&by.command);
    if code != 0 {
        return Err(format!("again: {err}"));
    }
    if out.contains(by.there) != manifest {
        return Err(format!("again: {out}"));
    }
    let verified = server.told(&["verify", "--recursive", AUDIT]);
    if verified.0 == 0 { Ok(()) } else { Err(format!("again, and does not verify: {verified:?}")) }
}

#[test]
fn a_push_says_what_became_of_it() {
    let pack = inputs::testdata("packs/good/release-gate");
    let command = ["push", text(&pack), AUDIT];
    let by = Publishing { command, options: &IMPATIENT, new: ": published\n", there: ": the same pack was there\n" };
    all(16, PUSHES, |case| push(&by, case));
}

#[test]
fn a_push_of_a_large_file_says_what_became_of_it() {
    let dir = tempfile::tempdir().unwrap();
    common::build_large_pack(&dir.path().join("pack"));
    // Under a short key: the server keeps uploads in files named for their keys.
    let command = ["mirror", text(dir.path()), AUDIT];
    let (new, there) = ("1 copied, 0 were there", "0 copied, 1 were there");
    let in_parts = [&LESS_IMPATIENT[..], &IN_PARTS].concat();
    let by = Publishing { command, options: &in_parts, new, there };
    all(4, PARTS, |case| push(&by, case));
    let by = Publishing { options: &LESS_IMPATIENT, ..by };
    all(4, WHOLE, |case| push(&by, case));
}

/// A broken request of `verify` on a good pack, and the exit codes it may have.
/// Bytes that are wrong never pass; what comes right the second time does.
type Reading = (&'static str, &'static str, usize, Action, &'static [i32]);

#[rustfmt::skip]
const READS: &[Reading] = &[
    ("GET", FILE, 2, Status(503), &[0]),
    ("GET", FILE, 1, Reset, &[0]),
    ("GET", FILE, 1, Stall, &[0]),
    ("GET", FILE, 1, CutClose, &[0]),
    ("GET", FILE, 1, CutReset, &[0]),
    ("GET", FILE, 1, CutStall, &[0]),
    ("GET", FILE, 1, Short, &[0, 1, 2]),
    ("GET", FILE, ALWAYS, Short, &[1, 2]),
    ("GET", FILE, 1, FlipAnswer, &[1]),
    ("GET", FILE, ALWAYS, CutClose, &[2]),
    ("GET", FILE, ALWAYS, CutStall, &[2]),
    ("GET", FILE, ALWAYS, Status(503), &[2]),
    ("GET", FILE, ALWAYS, Status(403), &[2]),
    ("GET", FILE, ALWAYS, Status(404), &[1, 2]),
    ("GET", MANIFEST, 1, CutClose, &[0]),
    ("GET", MANIFEST, 1, CutStall, &[0]),
    ("GET", MANIFEST, ALWAYS, Short, &[1, 2]),
    ("GET", MANIFEST, 1, FlipAnswer, &[1, 2]),
    ("GET", LIST, 2, Status(503), &[0]),
    ("GET", LIST, 1, Reset, &[0]),
    ("GET", LIST, 1, CutClose, &[0]),
    ("GET", LIST, 1, CutStall, &[0]),
    ("GET", LIST, ALWAYS, CutClose, &[2]),
    ("GET", LIST, ALWAYS, Short, &[2]),
    ("GET", LIST, ALWAYS, Status(403), &[2]),
];

#[test]
fn wrong_bytes_on_the_way_never_pass() {
    let server = S3::start();
    let dir = tempfile::tempdir().unwrap();
    common::build_large_pack(&dir.path().join("pack"));
    let small = inputs::testdata("packs/good/release-gate");
    let (code, _, err) = server.told(&["push", text(&small), AUDIT]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(server.told(&["mirror", text(dir.path()), "s3://packs/large"]).0, 0);
    let (_, out, _) = server.told(&["ls", AUDIT]);
    let small = out.trim_end().rsplit(' ').next().unwrap().to_owned();
    let large = "s3://packs/large/pack".to_owned();
    let parts: &[Reading] = &[
        ("GET", "scenario_spec", 1, CutClose, &[0]),
        ("GET", "scenario_spec", 1, CutStall, &[0]),
        ("GET", "scenario_spec", 1, FlipAnswer, &[1]),
        ("GET", "scenario_spec", ALWAYS, Short, &[1, 2]),
        ("GET", "scenario_spec", ALWAYS, Reset, &[2]),
    ];
    let both = READS.iter().map(|case| (case, &small)).chain(parts.iter().map(|case| (case, &large)));
    let both: Vec<_> = both.collect();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some((case, url)) = both.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let &(method, target, hits, action, codes) = *case;
                    let proxy = Proxy::before(server.port);
                    proxy.set(Rule { method, target, hits, action });
                    let options = if **url == large { &LESS_IMPATIENT[..] } else { &IMPATIENT[..] };
                    let args = [&["verify", url.as_str()], options].concat();
                    let (code, out, err) = s3::told(&mut s3::command(proxy.port, s3::SECRET, &args));
                    if !codes.contains(&code) || proxy.hits() == 0 {
                        let met = proxy.hits();
                        wrong.lock().unwrap().push(format!("{case:?}: {code}, {met} met: {out}{err}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A published pack whose manifest or content comes back broken.
#[test]
fn a_second_push_through_a_broken_way_changes_nothing() {
    let server = S3::start();
    let pack = inputs::testdata("packs/good/release-gate");
    assert_eq!(server.told(&["push", text(&pack), AUDIT]).0, 0);
    let proxy = Proxy::before(server.port);
    for (target, hits, action, codes) in [
        (MANIFEST, 1, CutClose, &[0] as &[i32]),
        (MANIFEST, 1, CutStall, &[0]),
        (MANIFEST, 1, Reset, &[0]),
        (FILE, 1, CutClose, &[0]),
        (MANIFEST, ALWAYS, Short, &[2]),
        (MANIFEST, 1, FlipAnswer, &[2]),
        (FILE, 1, FlipAnswer, &[2]),
        (FILE, ALWAYS, Status(403), &[2]),
    ] {
        proxy.set(Rule { method: "GET", target, hits, action });
        let (code, out, err) = through(&proxy, &["push", text(&pack), AUDIT]);
        assert!(codes.contains(&code) && proxy.hits() > 0, "{target} {action:?}: {code} {out}{err}");
        proxy.set(NOTHING);
        assert_eq!(server.told(&["verify", "--recursive", AUDIT]).0, 0, "{target} {action:?}");
    }
}

/// The answer about the manifest is lost, and then nothing may be read.
#[test]
fn a_manifest_of_which_nothing_is_known_is_not_called_absent() {
    let server = S3::start();
    let proxy = Proxy::before(server.port);
    proxy.set(Rule { method: "PUT", target: MANIFEST, hits: 1, action: ResetAfter });
    proxy.set_then(Rule { method: "GET", target: MANIFEST, hits: ALWAYS, action: Status(403) });
    let pack = inputs::testdata("packs/good/release-gate");
    let (code, out, err) = through(&proxy, &["push", text(&pack), AUDIT]);
    assert_eq!(code, 2, "{out}{err}");
    assert!(err.contains("it is not known whether the pack was published") && err.contains("403"), "{err}");
    assert_eq!(server.told(&["verify", "--recursive", AUDIT]).0, 0, "it is there");
    let (code, out, err) = server.told(&["push", text(&pack), AUDIT]);
    assert!(code == 0 && out.contains("the same pack was there"), "{out}{err}");
}

#[test]
fn a_storm_is_ridden_out() {
    let server = S3::start();
    let proxy = Proxy::before(server.port);
    proxy.set(Rule { method: "*", target: "", hits: ALWAYS, action: Status(503) });
    let pack = inputs::testdata("packs/good/release-gate");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Longer than nobody's address is tried.
            std::thread::sleep(Duration::from_secs(12));
            proxy.set(NOTHING);
        });
        let patient = ["push", text(&pack), AUDIT, "--store-option", "patience_s=40"];
        let (code, out, err) = s3::told(&mut s3::command(proxy.port, s3::SECRET, &patient));
        assert!(code == 0 && out.contains(": published\n"), "{out}{err}");
        assert!(err.starts_with("still trying: s3://packs: the store answers 503"), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    });
    assert_eq!(server.told(&["verify", "--recursive", AUDIT]).0, 0);
}

/// Each way takes longer than nothing may come; what comes, comes slowly.
#[test]
fn a_slow_way_is_only_slow() {
    let dir = tempfile::tempdir().unwrap();
    let small = dir.path().join("small/pack");
    common::build_pack_of(&small, "slow", 1024 * 1024);
    common::build_large_pack(&dir.path().join("large/pack"));
    let slow = |tree: &str, rate: usize, timeout: &str, parts: &[&str]| {
        let (server, tree) = (S3::start(), dir.path().join(tree));
        let proxy = Proxy::before(server.port);
        proxy.throttle(rate);
        let options = ["--store-option", timeout, "--store-option", "patience_s=1"];
        for args in [&["mirror", text(&tree), AUDIT] as &[_], &["verify", "--recursive", AUDIT]] {
            let args = [args, &options, parts].concat();
            let (code, out, err) = s3::told(&mut s3::command(proxy.port, s3::SECRET, &args));
            assert_eq!((code, err.as_str()), (0, ""), "{out}");
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| slow("small", 200 * 1024, "read_timeout_s=6", &[]));
        scope.spawn(|| slow("large", 2 * 1024 * 1024, "read_timeout_s=4", &[]));
        // Four parts at a time, and an answer to none before all are there.
        scope.spawn(|| slow("large", 2 * 1024 * 1024, "read_timeout_s=3", &IN_PARTS));
    });
}
