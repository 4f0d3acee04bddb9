#[path = "../../../../testdata/inputs.rs"]
pub(super) mod inputs;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

use runpack_core::engine::Scenario;
use runpack_core::model::{RunState, ScenarioSpec, Timestamp};
use runpack_core::pack::{BuildOptions, Listed, ListedKind, PackReader, PackSink, ReadFault};
use runpack_core::read::{self, Unknown};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::*;

const MANIFEST: &str = "manifest.json";

/// A pack whose manifest names its artifacts and says what is in them.
fn stage(target: &Path, content: &str, replace: Replace) -> Result<StagedPack, PublishError> {
    let mut staged = StagedPack::create(target, MANIFEST, replace)?;
    put(&mut staged, "artifacts/a.json", content).unwrap();
    put(&mut staged, "artifacts/deep/b.json", content).unwrap();
    put(&mut staged, MANIFEST, &manifest(content)).unwrap();
    Ok(staged)
}

fn manifest(content: &str) -> String {
    format!(r#"{{"artifacts/a.json":"{content}","artifacts/deep/b.json":"{content}"}}"#)
}

fn put(sink: &mut impl PackSink, path: &str, content: &str) -> io::Result<()> {
    sink.put(path, &mut |out| out.write_all(content.as_bytes()))
}

fn publish(target: &Path, content: &str, replace: Replace) -> Result<Published, PublishError> {
    stage(target, content, replace)?.publish()
}

/// Whether the directory holds the whole pack of that content and nothing else.
fn holds(target: &Path, content: &str) -> bool {
    let paths: Vec<_> = DirectoryReader::open(target).unwrap().list().unwrap().into_iter().map(|l| l.path).collect();
    paths == ["artifacts/a.json", "artifacts/deep/b.json", MANIFEST]
        && fs::read_to_string(target.join(MANIFEST)).unwrap() == manifest(content)
        && fs::read_to_string(target.join("artifacts/a.json")).unwrap() == content
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn publishes_to_nothing_and_to_an_empty_directory() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("empty")).unwrap();
    for name in ["absent", "empty"] {
        let target = temp.path().join(name);
        assert_eq!(publish(&target, "1", Replace::No).unwrap(), Published::New);
        assert!(holds(&target, "1"), "{name}");
    }
    assert_eq!(names(temp.path()), ["absent", "empty"]);
}

#[test]
fn modes_are_those_of_ordinary_tools() {
    let temp = tempfile::tempdir().unwrap();
    let target = temp.path().join("pack");
    publish(&target, "1", Replace::No).unwrap();
    fs::create_dir(temp.path().join("other")).unwrap();
    fs::write(temp.path().join("other/file"), "").unwrap();
    let mode = |path: &str| fs::metadata(temp.path().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("pack"), mode("other") & 0o755);
    assert_eq!(mode("pack/artifacts"), mode("other") & 0o755);
    assert_eq!(mode("pack/manifest.json"), mode("other/file") & 0o644);
}

#[test]
fn makes_missing_parents() {
    let temp = tempfile::tempdir().unwrap();
    let target = temp.path().join("a/b/c/pack/");
    publish(&target, "1", Replace::No).unwrap();
    assert!(holds(&target, "1"));
}

#[test]
fn publishing_the_same_twice_changes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let target = temp.path().join("pack");
    publish(&target, "1", Replace::No).unwrap();
    let before = fs::metadata(&target).unwrap().ino();
    for replace in [Replace::No, Replace::Yes] {
        assert_eq!(publish(&target, "1", replace).unwrap(), Published::Identical);
    }
    assert_eq!(fs::metadata(&target).unwrap().ino(), before);
    assert_eq!(names(temp.path()), ["pack"]);
}

#[test]
fn leaves_alone_what_differs() {
    let temp = tempfile::tempdir().unwrap();
    type Change = fn(&Path);
    let changes: [(&str, Change); 5] = [
        ("bytes", |pack| fs::write(pack.join("artifacts/a.json"), "2").unwrap()),
        ("more", |pack| fs::write(pack.join("more"), "").unwrap()),
        ("fewer", |pack| fs::remove_file(pack.join("artifacts/a.json")).unwrap()),
        ("longer", |pack| fs::write(pack.join("artifacts/a.json"), "1".repeat(1 << 20)).unwrap()),
        ("link", |pack| {
            fs::rename(pack.join("artifacts/a.json"), pack.join("../aside")).unwrap();
            symlink("../../aside", pack.join("artifacts/a.json")).unwrap();
        }),
    ];
    for (name, change) in changes {
        let target = temp.path().join(name);
        publish(&target, "1", Replace::No).unwrap();
        change(&target);
        let before = names(&target);
        let error = publish(&target, "1", Replace::No).unwrap_err();
        assert!(matches!(error, PublishError::Exists { .. }), "{name}: {error}");
        assert!(error.to_string().ends_with("\nhint: choose another directory or pass --replace"), "{error}");
        assert_eq!(names(&target), before);
    }
    assert!(names(temp.path()).iter().all(|name| !name.starts_with('.')));
}

#[test]
fn replaces_a_pack_when_asked() {
    let temp = tempfile::tempdir().unwrap();
    let target = temp.path().join("pack");
    publish(&target, "1", Replace::No).unwrap();
    assert_eq!(publish(&target, "2", Replace::Yes).unwrap(), Published::Replaced { leftover: None });
    assert!(holds(&target, "2"));
    assert_eq!(publish(&temp.path().join("new"), "2", Replace::Yes).unwrap(), Published::New);
    assert_eq!(names(temp.path()), ["new", "pack"]);
}

#[test]
fn replaces_nothing_that_is_not_a_pack() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path().join("home");
    fs::create_dir_all(home.join("artifacts")).unwrap();
    fs::write(home.join("thesis.txt"), "years").unwrap();
    let refused = |reason: &str| {
        let error = StagedPack::create(&home, MANIFEST, Replace::Yes).unwrap_err();
        assert!(matches!(error, PublishError::NotAPack { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    };
    refused("`manifest.json` in it: not found");
    fs::write(home.join(MANIFEST), r#"{"artifacts/a.json":1}"#).unwrap();
    refused("does not name `thesis.txt`");
    fs::remove_file(home.join("thesis.txt")).unwrap();
    symlink("/etc/passwd", home.join("artifacts/a.json")).unwrap();
    refused("does not name `artifacts/a.json`");
    fs::remove_file(home.join("artifacts/a.json")).unwrap();
    // The same once the pack is written: it may have changed meanwhile.
    let staged = stage(&home, "1", Replace::Yes).unwrap();
    fs::write(home.join("thesis.txt"), "years").unwrap();
    assert!(matches!(staged.publish().unwrap_err(), PublishError::NotAPack { .. }));
    assert_eq!(names(&home), ["artifacts", MANIFEST, "thesis.txt"]);
    assert_eq!(names(temp.path()), ["home"]);
}

#[test]
fn a_target_is_a_directory_of_its_own_name() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("file"), "").unwrap();
    fs::create_dir(temp.path().join("directory")).unwrap();
    symlink("directory", temp.path().join("link")).unwrap();
    symlink("nothing", temp.path().join("dangling")).unwrap();
    let cases =
        [("file", "file"), ("link", "symbolic link"), ("link/", "symbolic link"), ("dangling", "symbolic link")];
    for (name, expected) in cases {
        for replace in [Replace::No, Replace::Yes] {
            let error = StagedPack::create(&temp.path().join(name), MANIFEST, replace).unwrap_err();
            assert!(matches!(error, PublishError::NotADirectory { found, .. } if found == expected), "{name}: {error}");
        }
    }
    for name in [".", "/", "..", "a/.."] {
        let error = StagedPack::create(Path::new(name), MANIFEST, Replace::No).unwrap_err();
        assert!(matches!(error, PublishError::NoName { .. }), "{name}: {error}");
    }
    // The link appears only after the pack was begun.
    let staged = stage(&temp.path().join("late"), "1", Replace::Yes).unwrap();
    symlink("directory", temp.path().join("late")).unwrap();
    assert!(matches!(staged.publish().unwrap_err(), PublishError::NotADirectory { .. }));
    assert_eq!(names(temp.path()), ["dangling", "directory", "file", "late", "link"]);
    assert!(names(&temp.path().join("directory")).is_empty());
}

#[test]
fn of_two_publishers_one_wins() {
    let temp = tempfile::tempdir().unwrap();
    for round in 0..40 {
        let target = temp.path().join(format!("pack{round}"));
        if round % 4 == 0 {
            fs::create_dir(&target).unwrap();
        }
        let contents = if round % 2 == 0 { ["1", "1"] } else { ["1", "2"] };
        let barrier = Barrier::new(2);
        let outcomes = thread::scope(|scope| {
            let publishers = contents.map(|content| {
                let staged = stage(&target, content, Replace::No).unwrap();
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    staged.publish()
                })
            });
            publishers.map(|publisher| publisher.join().unwrap())
        });
        let winner = outcomes.iter().position(|outcome| matches!(outcome, Ok(Published::New))).unwrap();
        match &outcomes[1 - winner] {
            Ok(Published::Identical) => assert_eq!(contents[0], contents[1]),
            Err(PublishError::Exists { .. }) => assert_ne!(contents[0], contents[1]),
            other => panic!("{other:?}"),
        }
        assert!(holds(&target, contents[winner]));
    }
}

#[test]
fn of_two_replacers_both_leave_a_whole_pack() {
    let temp = tempfile::tempdir().unwrap();
    let target = temp.path().join("pack");
    publish(&target, "0", Replace::No).unwrap();
    for _ in 0..20 {
        thread::scope(|scope| {
            for content in ["1", "2"] {
                let staged = stage(&target, content, Replace::Yes).unwrap();
                scope.spawn(move || staged.publish().unwrap());
            }
        });
        assert!(holds(&target, "1") || holds(&target, "2"));
    }
    assert_eq!(names(temp.path()), ["pack"]);
}

#[test]
fn a_dropped_pack_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    drop(stage(&temp.path().join("pack"), "1", Replace::No).unwrap());
    assert!(names(temp.path()).is_empty());
}

#[test]
fn an_incomplete_pack_is_not_published() {
    let temp = tempfile::tempdir().unwrap();
    let target = temp.path().join("pack");
    let incomplete = |staged: StagedPack| {
        assert!(matches!(staged.publish().unwrap_err(), PublishError::Incomplete { .. }));
        assert!(names(temp.path()).is_empty());
    };
    incomplete(StagedPack::create(&target, MANIFEST, Replace::No).unwrap());

    let mut staged = StagedPack::create(&target, MANIFEST, Replace::No).unwrap();
    let failed = staged.put("artifacts/a.json", &mut |out| {
        out.write_all(b"half")?;
        Err(ErrorKind::BrokenPipe.into())
    });
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert!(staged.reader().unwrap().list().unwrap().is_empty());
    put(&mut staged, MANIFEST, "{}").unwrap();
    incomplete(staged);

    let mut staged = stage(&target, "1", Replace::No).unwrap();
    assert_eq!(put(&mut staged, "late", "").unwrap_err().kind(), ErrorKind::InvalidInput);
    incomplete(staged);
}

#[test]
fn refuses_names_that_some_machine_cannot_hold() {
    let temp = tempfile::tempdir().unwrap();
    let target = temp.path().join("pack");
    let mut staged = StagedPack::create(&target, MANIFEST, Replace::No).unwrap();
    for name in ["", "../x", "/x", "a b", "CON.json", "a/nul", "-x", "a.", "a//b", "ü", "a\\b", "x/"] {
        assert_eq!(put(&mut staged, name, "").unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
    }
    put(&mut staged, "dir/a", "").unwrap();
    for name in ["dir/a", "dir/A", "Dir/b", "DIR", "dir", "dir/a/b"] {
        assert_eq!(put(&mut staged, name, "").unwrap_err().kind(), ErrorKind::AlreadyExists, "{name}");
    }
    assert_eq!(staged.reader().unwrap().list().unwrap(), [Listed { path: "dir/a".to_owned(), kind: ListedKind::File }]);
    for name in ["sub/manifest.json", "..", "a b"] {
        let error = StagedPack::create(&target, name, Replace::No).unwrap_err();
        assert!(matches!(error, PublishError::ManifestName { .. }), "{name}: {error}");
    }
}

#[test]
fn a_staged_pack_can_be_read_before_it_is_published() {
    let temp = tempfile::tempdir().unwrap();
    let staged = stage(&temp.path().join("pack"), "1", Replace::No).unwrap();
    let reader = staged.reader().unwrap();
    let mut text = String::new();
    reader.open(MANIFEST, 1000).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, manifest("1"));
    let hidden = names(temp.path());
    assert!(hidden.len() == 1 && hidden[0].starts_with(".runpack-pack."), "{hidden:?}");
    assert_eq!(fs::metadata(temp.path().join(&hidden[0])).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn sweeps_only_its_own_stale_leftovers() {
    let temp = tempfile::tempdir().unwrap();
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join(MANIFEST), "").unwrap();
    let make = |name: &str, hours: u64| {
        let directory = temp.path().join(name);
        fs::create_dir_all(directory.join("old")).unwrap();
        fs::write(directory.join("old").join(MANIFEST), "").unwrap();
        fs::write(directory.join("part"), "").unwrap();
        symlink(&outside, directory.join("pack")).unwrap();
        for path in [directory.join("part"), directory] {
            let then = SystemTime::now() - Duration::from_secs(hours * 3600 + 60);
            File::open(path).unwrap().set_modified(then).unwrap();
        }
    };
    make(".runpack-a.0000000000000001", 1);
    make(".runpack-a.0000000000000002", 0);
    make(".runpack-a.b.0000000000000003", 5);
    make(".runpack-a.0000000000000004x", 5);
    make(".runpack-ab.0000000000000005", 5);
    make(".runpack-a.0000000000000006", 5);
    // Old, but its file is still growing.
    make(".runpack-a.0000000000000007", 5);
    File::options()
        .write(true)
        .open(temp.path().join(".runpack-a.0000000000000007/part"))
        .unwrap()
        .write_all(b"x")
        .unwrap();
    drop(StagedPack::create(&temp.path().join("a"), MANIFEST, Replace::No).unwrap());
    let left = [
        ".runpack-a.0000000000000002",
        ".runpack-a.0000000000000004x",
        ".runpack-a.0000000000000007",
        ".runpack-a.b.0000000000000003",
        ".runpack-ab.0000000000000005",
        "outside",
    ];
    assert_eq!(names(temp.path()), left);
    assert_eq!(names(&outside), [MANIFEST]);
}

#[test]
fn a_name_of_any_length_can_be_staged() {
    let temp = tempfile::tempdir().unwrap();
    for name in ["n".repeat(255), "ü".repeat(127)] {
        publish(&temp.path().join(&name), "1", Replace::No).unwrap();
        assert!(holds(&temp.path().join(&name), "1"));
    }
}

/// Unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&at).output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let Some(disk) = Tmpfs::mount(temp.path().join("disk"), "64k") else {
        inputs::absent("mounting a tmpfs is not permitted; a full disk");
        return;
    };
    let mut staged = StagedPack::create(&disk.0.join("pack"), MANIFEST, Replace::No).unwrap();
    let error = put(&mut staged, "artifacts/a.json", &"x".repeat(1 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(matches!(staged.publish().unwrap_err(), PublishError::Incomplete { .. }));
    assert!(names(&disk.0).is_empty());
    publish(&disk.0.join("pack"), "1", Replace::No).unwrap();
}

/// Removal stops at a mount point, as it would stop if it were killed there.
#[test]
fn a_half_removed_pack_has_no_manifest() {
    let temp = tempfile::tempdir().unwrap();
    let mut staged = StagedPack::create(&temp.path().join("pack"), MANIFEST, Replace::No).unwrap();
    let directories = ["a", "b", "c", "d", "e"];
    for directory in directories {
        put(&mut staged, &format!("{directory}/file"), "").unwrap();
    }
    put(&mut staged, MANIFEST, "{}").unwrap();
    let hidden = temp.path().join(&names(temp.path())[0]);
    let mounts = directories.map(|directory| Tmpfs::mount(hidden.join("pack").join(directory), "64k"));
    if mounts.iter().any(Option::is_none) {
        inputs::absent("mounting a tmpfs is not permitted; a full disk");
        return;
    }
    drop(staged);
    let left = names(&hidden.join("pack"));
    assert!(!left.is_empty() && !left.contains(&MANIFEST.to_owned()), "{left:?}");
}

/// Killed at any moment, a publisher leaves no manifest that does not hold.
#[test]
fn a_killed_publisher_leaves_no_torn_pack() {
    // In memory, where nothing waits for a disk and every moment is as likely.
    let temp = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mut packs = 0;
    for round in 0..50 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "packs::tests::publishes_until_killed", "--ignored"])
            .env("RUNPACK_TEST_DIRECTORY", temp.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(10 + round));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut pending = vec![temp.path().to_owned()];
        while let Some(directory) = pending.pop() {
            if let Ok(found) = fs::read_to_string(directory.join(MANIFEST)) {
                let content = found.split('"').nth(3).unwrap();
                assert!(holds(&directory, content), "torn pack at {}", directory.display());
                packs += 1;
            }
            for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    pending.push(entry.path());
                }
            }
        }
    }
    assert!(packs > 0, "nothing was ever published");
}

#[test]
#[ignore = "the child of a_killed_publisher_leaves_no_torn_pack"]
fn publishes_until_killed() {
    let Some(directory) = std::env::var_os("RUNPACK_TEST_DIRECTORY") else { return };
    for count in 0.. {
        publish(&Path::new(&directory).join(format!("pack{}", count % 3)), &count.to_string(), Replace::Yes).unwrap();
    }
}

/// What `open` says about each entry of a hostile pack, in time.
#[test]
fn reads_nothing_from_a_hostile_pack() {
    let temp = tempfile::tempdir().unwrap();
    let pack = temp.path().join("pack");
    fs::create_dir_all(pack.join("directory")).unwrap();
    fs::write(temp.path().join("secret"), "the key").unwrap();
    symlink("../secret", pack.join("link_out")).unwrap();
    symlink("/dev/zero", pack.join("link_zero")).unwrap();
    symlink("..", pack.join("linked_directory")).unwrap();
    fs::hard_link(temp.path().join("secret"), pack.join("hard_link")).unwrap();
    File::create(pack.join("sparse")).unwrap().set_len(1 << 40).unwrap();
    mknodat(CWD, pack.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    drop(UnixListener::bind(pack.join("socket")).unwrap());
    let mut entries = vec![
        ("fifo", "not an ordinary file: FIFO"),
        ("socket", "not an ordinary file: socket"),
        ("link_out", "not an ordinary file: symbolic link"),
        ("link_zero", "not an ordinary file: symbolic link"),
        ("linked_directory/secret", "not an ordinary file: behind a symbolic link"),
        ("hard_link", "hard link: the file has 2 names"),
        ("directory", "not an ordinary file: directory"),
        ("sparse", "larger than 1000 bytes"),
        ("nothing", "not found"),
        ("../secret", "unsafe path: it has a `..` component"),
        ("/etc/passwd", "unsafe path: it is absolute"),
    ];
    if mknodat(CWD, pack.join("device"), FileType::CharacterDevice, Mode::RUSR, makedev(1, 5)).is_ok() {
        entries.push(("device", "not an ordinary file: character device"));
    } else {
        inputs::absent("device nodes need root; a device");
    }
    let reader = DirectoryReader::open(&pack).unwrap();
    assert_eq!(reader.list().unwrap().len(), pack.read_dir().unwrap().count() - 1);
    let (answers, answer) = mpsc::channel();
    let paths: Vec<_> = entries.iter().map(|(path, _)| (*path).to_owned()).collect();
    thread::spawn(move || {
        for path in paths {
            let told = reader.open(&path, 1000).map(|_| ()).map_err(|fault| fault.to_string());
            answers.send(told.expect_err("opened")).unwrap();
        }
    });
    for (path, expected) in entries {
        assert_eq!(answer.recv_timeout(Duration::from_secs(10)).expect("no answer"), expected, "{path}");
    }
}

#[test]
fn hard_links_are_read_when_asked() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("a"), "a").unwrap();
    fs::hard_link(temp.path().join("a"), temp.path().join("b")).unwrap();
    let reader = DirectoryReader::open(temp.path()).unwrap();
    assert!(matches!(reader.open("a", 10), Err(ReadFault::HardLink { links: 2 })));
    assert!(reader.links(Links::Any).open("a", 10).is_ok());
}

#[test]
fn reads_exactly_as_much_as_allowed() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("file");
    fs::write(&path, "12345").unwrap();
    let reader = DirectoryReader::open(temp.path()).unwrap();
    let mut text = String::new();
    reader.open("file", 5).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "12345");
    assert!(matches!(reader.open("file", 4), Err(ReadFault::TooLarge { limit: 4 })));
    // It grows after it was opened.
    let mut open = reader.open("file", 5).unwrap();
    fs::write(&path, "123456").unwrap();
    let mut bytes = Vec::new();
    assert_eq!(open.read_to_end(&mut bytes).unwrap_err().kind(), ErrorKind::FileTooLarge);
    assert_eq!(bytes, b"12345");
}

#[test]
fn opens_directories_only() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("file"), "").unwrap();
    assert!(matches!(DirectoryReader::open(&temp.path().join("x")), Err(OpenFault::NotFound { .. })));
    assert!(matches!(DirectoryReader::open(&temp.path().join("file")), Err(OpenFault::NotADirectory { .. })));
}

/// Somebody else's sink, as an embedding program hands it over.
struct Elsewhere {
    taken: std::sync::Mutex<Vec<String>>,
    fails: bool,
}

impl PackStore for Elsewhere {
    fn keep(&self, pack: &dyn PackReader, manifest_name: &str) -> Result<Kept, String> {
        let mut taken = self.taken.lock().unwrap();
        taken.extend(pack.list().unwrap().into_iter().map(|listed| listed.path));
        assert!(taken.iter().any(|path| path == manifest_name));
        if self.fails {
            Err("the vault is closed".to_owned())
        } else {
            Ok(Kept { storage_uri: "vault://1/".to_owned(), already: false })
        }
    }
}

#[test]
fn a_sink_from_outside_takes_whole_packs_and_may_fail() {
    let source = |name: &str| fs::read(inputs::testdata("packs/source/rich").join(name)).unwrap();
    let spec = read::ingest::<ScenarioSpec>(&source("scenario.json"), Unknown::Refuse).unwrap();
    let scenario = Scenario::new(spec).unwrap();
    let state = read::ingest::<RunState>(&source("state.json"), Unknown::Refuse).unwrap();
    let anchors = read::ingest(&source("anchor-policy.json"), Unknown::Refuse).unwrap();
    let options = BuildOptions {
        generated_at: Timestamp::Logical(99),
        anchor_policy: anchors,
        security: None,
        artifact_bytes_max: 1 << 20,
    };
    for fails in [false, true] {
        let sink = Elsewhere { taken: Default::default(), fails };
        let exported = export(&ExportRequest {
            destination: Destination::Store(&sink),
            manifest_name: MANIFEST,
            scenario: &scenario,
            run: &state,
            options: &options,
            include_verification: true,
            attest: None,
        });
        assert_eq!(sink.taken.lock().unwrap().len(), 9);
        match exported {
            Ok(exported) => assert_eq!(exported.storage_uri.as_deref(), Some("vault://1/")),
            Err(error) => assert_eq!(error.to_string(), "the vault is closed"),
        }
    }
}
