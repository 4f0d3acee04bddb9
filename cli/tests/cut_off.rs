//! kill -9 during `push` and `mirror`: never a manifest without its pack.

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
use std::time::{Duration, Instant};

use common::{build_large_pack, build_pack, text};
use runpack_core::pack::{Verdict, VerifyOptions, verify};
use runpack_storage::packs::DirectoryReader;
use s3::S3;

const AUDIT: &str = "s3://packs/audit";

/// Rounds; `just nightly` asks for more.
fn rounds() -> u32 {
    std::env::var("RUNPACK_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(15)
}

/// Directories in the bucket with a manifest, and those with artifacts only.
fn standing(s3: &S3) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
    let (mut packs, mut orphans) = (BTreeSet::new(), BTreeSet::new());
    for entry in walkdir::WalkDir::new(s3.bucket()) {
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

#[test]
fn a_killed_push_leaves_no_half_pack() {
    let dir = tempfile::tempdir().unwrap();
    let small: Vec<_> = (0..8).map(|n| dir.path().join(format!("p{n}"))).collect();
    for (n, pack) in small.iter().enumerate() {
        build_pack(pack, &format!("run-{n}"), 1);
    }
    let pushed: Vec<_> = ["push"].into_iter().chain(small.iter().map(|pack| text(pack))).chain([AUDIT]).collect();
    // With a pack that goes up in parts.
    let tree = tempfile::tempdir().unwrap();
    (0..4).for_each(|n| build_pack(&tree.path().join(format!("p{n}")), &format!("run-{n}"), 1));
    build_large_pack(&tree.path().join("large"));
    let mirrored = vec!["mirror", text(tree.path()), AUDIT];
    let ways = [(pushed, 8), (mirrored, 5)].map(|(args, packs)| {
        let began = Instant::now();
        assert_eq!(S3::start().told(&args).0, 0);
        (args, packs, began.elapsed())
    });
    let (mut killed, mut half, mut whole) = (0, 0, 0);
    for round in 0..rounds() {
        let (args, packs, time) = &ways[round as usize % 2];
        let s3 = S3::start();
        let mut child = s3.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let share = f64::from(round * 37 % 100) / 100.0;
        std::thread::sleep(Duration::from_secs_f64(time.as_secs_f64() * share));
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().code().is_none());
        let (before, _) = standing(&s3);
        before.iter().for_each(|pack| assert_whole(pack));
        // What the server has received it finishes.
        s3.rest();
        let (packs_there, orphans) = standing(&s3);
        packs_there.iter().for_each(|pack| assert_whole(pack));
        whole += packs_there.len();
        half += orphans.len();
        if round % 4 < 2 {
            let (code, _, err) = s3.told(args);
            assert_eq!((code, err.as_str()), (0, ""), "the same again goes on");
            let (packs_there, orphans) = standing(&s3);
            assert_eq!((packs_there.len(), orphans.len()), (*packs, 0));
        } else {
            let (code, _, err) = s3.told(&["gc", AUDIT, "--older-than", "0", "--delete"]);
            assert_eq!(code, 0, "{err}");
            assert_eq!(standing(&s3), (packs_there, BTreeSet::new()));
        }
        standing(&s3).0.iter().for_each(|pack| assert_whole(pack));
    }
    println!("{killed} of {} killed, {whole} whole packs and {half} orphans seen", rounds());
    assert!(killed > rounds() / 3, "{killed} killed");
}
