//! What is said and what is kept when the disk fails: faults that `strace`
//! brings about, a full disk, one that is only read, a limit on the size of files.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

use runpack_core::pack::{Verdict, VerifyOptions, verify};
use runpack_storage::packs::DirectoryReader;
use runpack_storage::runs::sqlite::{SqliteOptions, SqliteRuns};
use runpack_storage::runs::{RunStore as _, ScenarioStore as _, suite};

use crate::work::{self, MANIFEST, Witness, say};
use crate::{as_child, child, inputs, options, scratch};

const MODES: [&str; 2] = ["wal full", "delete full"];
const RUN: &str = "alpha";
const PACK: &str = "one";

/// The child's side.
pub(crate) fn does(part: &str, dir: &Path, options: &SqliteOptions) {
    match part {
        "keeps a run" => keeps_a_run(dir, options),
        "publishes" => publishes(dir),
        other => panic!("there is no part `{other}`"),
    }
}

/// Takes a run on until that fails, and looks what comes after; again once there
/// is room, if there is a file `filler` to remove.
fn keeps_a_run(dir: &Path, options: &SqliteOptions) {
    let store = match SqliteRuns::open(&dir.join("store.db"), options) {
        Ok(store) => store,
        Err(error) => return say(&in_a_line(&format!("told open: {error}"))),
    };
    let defined = store.define(&suite::scenario("kept", 1_000_000)).map(drop);
    let mut met = defined.map_err(|error| format!("define: {error}"));
    for _ in 0..60 {
        met = met.and_then(|()| work::take_on(&store, RUN));
    }
    let look = || {
        let ready = store.ready().map_or_else(|fault| fault.to_string(), |()| "ok".to_owned());
        say(&in_a_line(&format!("ready {ready}")));
        let then = work::take_on(&store, RUN).map_or_else(|error| error, |()| "ok".to_owned());
        say(&in_a_line(&format!("then {then}")));
    };
    let Err(error) = met else { return say("told nothing") };
    say(&in_a_line(&format!("told {error}")));
    look();
    if fs::remove_file(dir.join("filler")).is_ok() {
        look();
    }
}

/// One version after the other in the same place.
fn publishes(dir: &Path) {
    for version in 1..4 {
        match work::publish(dir, PACK, version) {
            Ok(()) => say(&format!("there {version}")),
            Err(error) => say(&in_a_line(&format!("told {version} {error}"))),
        }
    }
}

fn in_a_line(text: &str) -> String {
    text.replace('\n', " | ")
}

/// What a child said, in order.
#[derive(Debug)]
struct Said(Vec<String>);

impl Said {
    fn of(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout);
        // The test runner's own lines come in between, one without an end.
        let lines = text.lines().map(|line| line.rsplit_once("... ").map_or(line, |(_, said)| said).to_owned());
        let starts = ["ack ", "told ", "ready ", "then ", "there "];
        Self(lines.filter(|line| starts.iter().any(|start| line.starts_with(start))).collect())
    }

    fn all(&self, start: &str) -> Vec<&str> {
        self.0.iter().filter_map(|line| line.strip_prefix(start)?.strip_prefix(' ')).collect()
    }

    fn told(&self) -> &str {
        self.all("told").first().copied().unwrap_or("")
    }

    /// All that was acknowledged is there when the store is opened again.
    fn is_kept(&self, dir: &Path, mode: &str) {
        let lines: Vec<_> = self.0.iter().map(|line| (0, line.clone())).collect();
        let looked = Witness::of(&lines).looks_at_store(&dir.join("store.db"), &options(mode), 1);
        assert_eq!(looked, Ok(()), "{mode}: {self:#?}");
    }
}

fn with_fault(strace: &[&str], part: &str, mode: &str, dir: &Path) -> Said {
    let all: Vec<_> = ["-f", "-q", "-o", "/dev/null"].iter().chain(strace).copied().collect();
    let output = child(&all, part, mode, dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Said::of(&output)
}

/// What was in a transaction whose sync failed may be there or not. Nothing more
/// is taken, and it is said so.
#[test]
fn after_a_sync_that_failed_nothing_more_is_written() {
    if !inputs::strace() {
        return;
    }
    for mode in MODES {
        let (mut unknown, mut unopened) = (0, 0);
        // Each thread counts its own: first the one that opens, then the writer.
        for n in [1, 3, 8, 12, 13, 15] {
            for times in ["", "+"] {
                let dir = scratch();
                let inject = format!("inject=fsync,fdatasync:error=EIO:when={n}{times}");
                let strace = ["-e", "trace=fsync,fdatasync", "-e", &inject];
                let said = with_fault(&strace, "keeps a run", mode, dir.path());
                said.is_kept(dir.path(), mode);
                let told = said.told();
                match told.split_once(": ").map_or(told, |(kind, _)| kind) {
                    "open" => unopened += 1,
                    "unknown" => {
                        unknown += 1;
                        assert!(said.all("ready")[0].contains("then restart"), "{said:#?}");
                        assert!(!said.all("then")[0].starts_with("ok"), "{said:#?}");
                    }
                    // The store was made, but for its first scenario.
                    "define" => assert!(told.contains("may be there or not"), "{said:#?}"),
                    // SQLite does not look at the sync of a directory in which
                    // it made a log or a journal.
                    _ => assert_eq!((told, times), ("nothing", ""), "{said:#?}"),
                }
                assert!(told == "nothing" || told.contains("I/O error") || told.contains("os error 5"), "{said:#?}");
            }
        }
        println!("{mode}: EIO: {unopened} times not opened, {unknown} times unknown");
        assert!(unknown > 3 && unopened > 0, "{mode}: {unknown} {unopened}");
    }
}

/// Without room nothing was written, and with room again it goes on.
#[test]
fn without_room_nothing_is_written_until_there_is_some() {
    if !inputs::strace() {
        return;
    }
    for mode in MODES {
        let (mut refused, mut recovered) = (0, 0);
        for n in [1, 20, 60, 75, 90] {
            for times in ["", "+"] {
                let dir = scratch();
                let inject = format!("inject=write,pwrite64:error=ENOSPC:when={n}{times}");
                let paths = ["", "-wal", "-journal"].map(|end| format!("{}/store.db{end}", dir.path().display()));
                let mut strace = vec!["-e", "trace=write,pwrite64", "-e", &inject];
                strace.extend(paths.iter().flat_map(|path| ["-P", path]));
                let said = with_fault(&strace, "keeps a run", mode, dir.path());
                said.is_kept(dir.path(), mode);
                let told = said.told();
                assert!(told.contains("make room on the disk") && !told.starts_with("unknown"), "{said:#?}");
                if !told.starts_with("open") {
                    refused += 1;
                    assert!(told.starts_with("refused") || told.starts_with("define"), "{said:#?}");
                    let again = (said.all("ready")[0], said.all("then")[0]);
                    match times {
                        "" => assert_eq!(again, ("ok", "ok"), "{said:#?}"),
                        _ => assert!(again.0 != "ok" && again.1 != "ok", "{said:#?}"),
                    }
                    recovered += usize::from(again.1 == "ok");
                }
            }
        }
        println!("{mode}: ENOSPC: {refused} times refused, {recovered} times taken up again");
        assert!(refused > 3 && recovered > 1, "{mode}: {refused} {recovered}");
    }
}

/// Unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Option<Self> {
        let at = scratch();
        let size = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        inputs::absent("mounting a tmpfs is not permitted; a run store on a full disk");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.path()).status().ok();
    }
}

#[test]
fn a_full_disk_refuses_until_there_is_room() {
    for (mode, size) in [("wal full", "600k"), ("delete full", "450k")] {
        let Some(disk) = Tmpfs::mount(size) else { return };
        fs::write(disk.path().join("filler"), vec![0; 300 << 10]).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let said = Said::of(&as_child(&mut command, "keeps a run", mode, disk.path()).output().unwrap());
        assert!(said.told().starts_with("refused") && said.told().contains("make room on the disk"), "{said:#?}");
        assert!(!said.all("ack run").is_empty(), "{said:#?}");
        assert_eq!((said.all("ready")[1], said.all("then")[1]), ("ok", "ok"), "{said:#?}");
        said.is_kept(disk.path(), mode);
    }
}

#[test]
fn a_disk_that_is_only_read_is_named() {
    let Some(disk) = Tmpfs::mount("1m") else { return };
    let path = disk.path().join("store.db");
    drop(SqliteRuns::open(&path, &SqliteOptions::default()).unwrap());
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).status().unwrap();
    assert!(remounted.success());
    let error = SqliteRuns::open(&path, &SqliteOptions::default()).unwrap_err().to_string();
    assert!(error.starts_with("cannot open the run store") && error.contains("Read-only file system"), "{error}");
    assert_eq!(SqliteRuns::open_reading(&path).unwrap().verify().unwrap().damage, Vec::new());
}

/// The signal that comes with it is ignored by whoever starts the process, or
/// kills it: what was acknowledged is there either way.
#[test]
fn a_file_that_may_not_grow_is_a_disk_that_fails() {
    for mode in MODES {
        for ignore in ["trap '' XFSZ; ", ""] {
            let dir = scratch();
            let mut command = Command::new("sh");
            command.args(["-c", &format!("{ignore}ulimit -c 0; ulimit -f 400; exec \"$@\""), "sh"]);
            command.arg(std::env::current_exe().unwrap());
            let output = as_child(&mut command, "keeps a run", mode, dir.path()).output().unwrap();
            let said = Said::of(&output);
            said.is_kept(dir.path(), mode);
            assert!(!said.all("ack run").is_empty(), "{said:#?}");
            if ignore.is_empty() {
                assert_eq!(output.status.signal(), Some(25), "{said:#?}");
            } else {
                assert!(said.told().starts_with("unknown: "), "{said:#?}");
                assert!(said.all("then")[0].starts_with("refused: "), "{said:#?}");
                assert!(said.all("ready")[0].contains("then restart"), "{said:#?}");
            }
        }
    }
}

/// The place holds the pack that was acknowledged last, or the whole one after it.
#[test]
fn a_pack_whose_sync_failed_is_not_acknowledged() {
    if !inputs::strace() {
        return;
    }
    let mut failed = 0;
    for n in [1, 9, 11, 12, 13, 14, 24, 36] {
        for times in ["", "+"] {
            let dir = scratch();
            let inject = format!("inject=fsync,fdatasync:error=EIO:when={n}{times}");
            let said = with_fault(&["-e", "trace=fsync,fdatasync", "-e", &inject], "publishes", MODES[0], dir.path());
            failed += said.all("told").len();
            for told in said.all("told") {
                assert!(told.contains("os error 5"), "{said:#?}");
            }
            let last = said.all("there").last().map_or(0, |version| version.parse().unwrap());
            let place = dir.path().join("packs").join(PACK);
            let Ok(manifest) = fs::read_to_string(place.join(MANIFEST)) else {
                assert_eq!(last, 0, "{said:#?}");
                assert!(!place.exists(), "{said:#?}");
                continue;
            };
            let report = verify(&DirectoryReader::open(&place).unwrap(), MANIFEST, &VerifyOptions::default());
            assert_eq!(report.verdict, Verdict::Consistent, "{said:#?}");
            let there = (last..4).any(|version| manifest.contains(&format!("version-{version}\"")));
            assert!(there, "{said:#?} {manifest}");
        }
    }
    println!("EIO: {failed} packs not acknowledged");
    assert!(failed > 10, "{failed}");
}
