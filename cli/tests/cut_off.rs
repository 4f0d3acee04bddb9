//! kill -9 during `push` and `mirror`, of the client or of the server: never a
//! manifest without its pack.

#![cfg(all(unix, feature = "s3"))]
#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;
#[path = "common/s3.rs"]
mod s3;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::{build_large_pack, build_pack, text};
use runpack_core::pack::{Verdict, VerifyOptions, verify};
use runpack_storage::packs::DirectoryReader;
use s3::{Process, S3};

const AUDIT: &str = "s3://packs/audit";

/// Rounds; `just nightly` asks for more.
fn rounds(default: u32) -> u32 {
    std::env::var("RUNPACK_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Directories in the bucket with a manifest, and those with artifacts only.
fn standing(bucket: &Path) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
    let (mut packs, mut orphans) = (BTreeSet::new(), BTreeSet::new());
    for entry in walkdir::WalkDir::new(bucket) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() && entry.file_name() == "manifest.json" {
            packs.insert(entry.path().parent().unwrap().to_owned());
        }
        // An empty directory is nothing in a bucket.
        if entry.file_type().is_file() && entry.path().parent().unwrap().ends_with("artifacts") {
            orphans.insert(entry.path().parent().unwrap().parent().unwrap().to_owned());
        }
    }
    orphans.retain(|directory| !packs.contains(directory));
    (packs, orphans)
}

fn assert_whole(pack: &Path) {
    let options = VerifyOptions { artifact_bytes_max: 1 << 30, ..VerifyOptions::default() };
    let report = verify(&DirectoryReader::open(pack).unwrap(), "manifest.json", &options);
    assert_eq!(report.verdict, Verdict::Consistent, "{}: {:?}", pack.display(), report.findings);
}

/// A command, how many packs it publishes, and how long it takes.
struct Way {
    args: Vec<String>,
    packs: usize,
    time: Duration,
}

/// Small packs, and some with a large one, which goes up whole or in parts.
fn ways(dir: &Path) -> [Way; 3] {
    let small: Vec<_> = (0..8).map(|n| dir.join(format!("p{n}"))).collect();
    for (n, pack) in small.iter().enumerate() {
        build_pack(pack, &format!("run-{n}"), 1);
    }
    let pushed: Vec<_> = ["push"].into_iter().chain(small.iter().map(|pack| text(pack))).chain([AUDIT]).collect();
    let tree = dir.join("tree");
    (0..4).for_each(|n| build_pack(&tree.join(format!("p{n}")), &format!("run-{n}"), 1));
    build_large_pack(&tree.join("large"));
    let mirrored = vec!["mirror", text(&tree), AUDIT];
    let in_parts = [&mirrored[..], &["--store-option", "parts_above_mib=8"]].concat();
    [(pushed, 8), (in_parts, 5), (mirrored, 5)].map(|(args, packs)| {
        let began = Instant::now();
        assert_eq!(S3::start().told(&args).0, 0);
        Way { args: args.into_iter().map(str::to_owned).collect(), packs, time: began.elapsed() }
    })
}

#[test]
fn a_killed_push_leaves_no_half_pack() {
    let dir = tempfile::tempdir().unwrap();
    let ways = ways(dir.path());
    let rounds = rounds(15);
    let (mut killed, mut half, mut whole) = (0, 0, 0);
    for round in 0..rounds {
        let Way { args, packs, time } = &ways[round as usize % ways.len()];
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let s3 = S3::start();
        let mut child = s3.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let share = f64::from(round * 37 % 100) / 100.0;
        std::thread::sleep(Duration::from_secs_f64(time.as_secs_f64() * share));
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().code().is_none());
        let (before, _) = standing(&s3.bucket());
        before.iter().for_each(|pack| assert_whole(pack));
        // What the server has received it finishes.
        s3.rest();
        let (packs_there, orphans) = standing(&s3.bucket());
        packs_there.iter().for_each(|pack| assert_whole(pack));
        whole += packs_there.len();
        half += orphans.len();
        if round % 4 < 2 {
            let (code, _, err) = s3.told(&args);
            assert_eq!((code, err.as_str()), (0, ""), "the same again goes on");
            let (packs_there, orphans) = standing(&s3.bucket());
            assert_eq!((packs_there.len(), orphans.len()), (*packs, 0));
        } else {
            let (code, _, err) = s3.told(&["gc", AUDIT, "--older-than", "0", "--delete"]);
            assert_eq!(code, 0, "{err}");
            assert_eq!(standing(&s3.bucket()), (packs_there, BTreeSet::new()));
        }
        standing(&s3.bucket()).0.iter().for_each(|pack| assert_whole(pack));
    }
    println!("{killed} of {rounds} killed, {whole} whole packs and {half} orphans seen");
    assert!(killed > rounds / 3, "{killed} killed");
}

const SERVES: &str = "serves_until_it_is_killed";

#[test]
fn serves_until_it_is_killed() {
    s3::serve_if_asked();
}

/// Half of the times it is back while the client still tries.
#[test]
fn a_killed_server_leaves_no_half_pack() {
    let dir = tempfile::tempdir().unwrap();
    let (ways, rounds) = (ways(dir.path()), rounds(24));
    let (next, seen) = (AtomicU32::new(0), Mutex::new([0; 3]));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::SeqCst);
                    if round >= rounds {
                        break;
                    }
                    let [cut, whole, orphans] = killed_server(&ways[round as usize % ways.len()], round);
                    let mut seen = seen.lock().unwrap();
                    *seen = [seen[0] + cut, seen[1] + whole, seen[2] + orphans];
                }
            });
        }
    });
    let [cut, whole, orphans] = seen.into_inner().unwrap();
    println!("{cut} of {rounds} in the middle, {whole} whole packs and {orphans} orphans seen");
    assert!(cut > rounds as usize / 3, "{cut} in the middle");
}

/// Whether it was in the middle, and how many packs and orphans it left.
fn killed_server(way: &Way, round: u32) -> [usize; 3] {
    let back = round % 4 < 2;
    let mut server = Process::start(SERVES);
    let bucket = server.root.path().join(s3::BUCKET);
    let told = |port, patience: &str| {
        let mut args: Vec<_> = way.args.iter().map(String::as_str).collect();
        args.extend(["--store-option", patience]);
        s3::command(port, s3::SECRET, &args)
    };
    let mut client = told(server.port, if back { "patience_s=30" } else { "patience_s=1" });
    let mut client = client.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let share = f64::from(round * 37 % 100) / 100.0;
    std::thread::sleep(Duration::from_secs_f64(way.time.as_secs_f64() * share));
    server.kill();
    let (packs, orphans) = standing(&bucket);
    packs.iter().for_each(|pack| assert_whole(pack));
    let cut = usize::from(client.try_wait().unwrap().is_none());
    if back {
        server.restart(SERVES);
    }
    let output = client.wait_with_output().unwrap();
    let (code, err) = (output.status.code(), String::from_utf8(output.stderr).unwrap());
    assert!(code == Some(0) || !back && code == Some(2), "{code:?}: {err}");
    if !back {
        server.restart(SERVES);
    }
    standing(&bucket).0.iter().for_each(|pack| assert_whole(pack));
    let (code, _, err) = s3::told(&mut told(server.port, "patience_s=30"));
    assert_eq!(code, 0, "the same again goes on: {err}");
    let (now, left) = standing(&bucket);
    assert_eq!((now.len(), left.len()), (way.packs, 0));
    now.iter().for_each(|pack| assert_whole(pack));
    [cut, packs.len(), orphans.len()]
}
