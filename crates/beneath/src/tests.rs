//! One table of attacks against every way of opening.

#[path = "../../../testdata/inputs.rs"]
mod inputs;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Once, mpsc};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use tempfile::TempDir;

use crate::linux::{self, Resolve};
use crate::{Fault, Found, FoundKind, Links, Root, WalkLimits, check_read_path, portable};

const SECRET: &str = "the key";

/// The three ways of opening, behind one face.
#[derive(Debug)]
enum Way {
    Kernel(Root),
    Stepwise(linux::Inner),
    Portable(portable::Inner),
}

impl Way {
    fn all(path: &Path) -> [Self; 3] {
        let kernel = Root::open(path).unwrap();
        let stepwise = linux::Inner::open(path).unwrap().with(Resolve::Stepwise);
        let portable = portable::Inner::open(path).unwrap();
        [Self::Kernel(kernel), Self::Stepwise(stepwise), Self::Portable(portable)]
    }

    fn file(&self, relative: &str, links: Links) -> Result<(File, u64), Fault> {
        check_read_path(relative)?;
        match self {
            Self::Kernel(root) => root.file(relative, links),
            Self::Stepwise(inner) => inner.file(relative, links),
            Self::Portable(inner) => inner.file(relative, links),
        }
    }

    fn walk(&self, limits: &WalkLimits) -> Result<Vec<Found>, Fault> {
        let mut found = match self {
            Self::Kernel(root) => return root.walk(limits),
            Self::Stepwise(inner) => inner.walk(limits)?,
            Self::Portable(inner) => inner.walk(limits)?,
        };
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }
}

/// `<temp>/outside/secret` and `<temp>/pack`, where every attack lies.
fn hostile() -> (TempDir, bool) {
    let temp = tempfile::tempdir().unwrap();
    let (pack, outside) = (temp.path().join("pack"), temp.path().join("outside"));
    fs::create_dir_all(pack.join("directory/inner")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), SECRET).unwrap();
    fs::write(pack.join("file"), "honest").unwrap();
    fs::write(pack.join("directory/file"), "honest").unwrap();
    symlink("../outside/secret", pack.join("link_out")).unwrap();
    symlink(outside.join("secret"), pack.join("link_out_absolute")).unwrap();
    symlink("file", pack.join("link_inside")).unwrap();
    symlink("nothing", pack.join("link_to_nothing")).unwrap();
    symlink(&outside, pack.join("linked_directory")).unwrap();
    symlink("directory", pack.join("linked_directory_inside")).unwrap();
    symlink("/proc/self/environ", pack.join("link_environ")).unwrap();
    symlink("/proc/self/root", pack.join("link_magic")).unwrap();
    symlink("/dev/zero", pack.join("link_zero")).unwrap();
    symlink("loop_b", pack.join("loop_a")).unwrap();
    symlink("loop_a", pack.join("loop_b")).unwrap();
    fs::hard_link(outside.join("secret"), pack.join("hard_link")).unwrap();
    mknodat(CWD, pack.join("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    drop(UnixListener::bind(pack.join("socket")).unwrap());
    let mode = Mode::RUSR | Mode::WUSR;
    // 1:5 is /dev/zero. 60 is for local use: nothing answers, so an open fails
    // with ENXIO and shows that it was tried.
    let devices = mknodat(CWD, pack.join("zero"), FileType::CharacterDevice, mode, makedev(1, 5))
        .and_then(|()| mknodat(CWD, pack.join("char"), FileType::CharacterDevice, mode, makedev(60, 1)))
        .and_then(|()| mknodat(CWD, pack.join("block"), FileType::BlockDevice, mode, makedev(60, 1)))
        .is_ok();
    if !devices {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| inputs::absent("device nodes need root; a device"));
    }
    (temp, devices)
}

#[test]
fn refuses_every_attack_by_name() {
    let (temp, devices) = hostile();
    let (long_name, long_path) = ("n".repeat(300), "a/".repeat(3000) + "b");
    let mut attacks = vec![
        ("nothing", "not found"),
        ("directory/nothing", "not found"),
        ("file/x", "not found"),
        ("fifo/x", "not found"),
        ("link_out", "not an ordinary file: symbolic link"),
        ("link_out_absolute", "not an ordinary file: symbolic link"),
        ("link_inside", "not an ordinary file: symbolic link"),
        ("link_to_nothing", "not an ordinary file: symbolic link"),
        ("linked_directory", "not an ordinary file: symbolic link"),
        ("linked_directory/secret", "not an ordinary file: behind a symbolic link"),
        ("linked_directory_inside/file", "not an ordinary file: behind a symbolic link"),
        ("link_environ", "not an ordinary file: symbolic link"),
        ("link_magic", "not an ordinary file: symbolic link"),
        ("link_magic/etc/passwd", "not an ordinary file: behind a symbolic link"),
        ("link_zero", "not an ordinary file: symbolic link"),
        ("loop_a", "not an ordinary file: symbolic link"),
        ("loop_a/x", "not an ordinary file: behind a symbolic link"),
        ("hard_link", "hard link: the file has 2 names"),
        ("fifo", "not an ordinary file: FIFO"),
        ("socket", "not an ordinary file: socket"),
        ("directory", "not an ordinary file: directory"),
        ("", "unsafe path: it is empty"),
        ("..", "unsafe path: it has a `..` component"),
        ("../outside/secret", "unsafe path: it has a `..` component"),
        ("directory/../../outside/secret", "unsafe path: it has a `..` component"),
        ("directory/../file", "unsafe path: it has a `..` component"),
        ("/etc/passwd", "unsafe path: it is absolute"),
        ("directory//file", "unsafe path: it has an empty component"),
        ("./file", "unsafe path: it has a `.` component"),
        ("directory/./file", "unsafe path: it has a `.` component"),
        ("file/", "unsafe path: it has an empty component"),
        ("directory/", "unsafe path: it has an empty component"),
        ("file\0.json", "unsafe path: it contains a NUL"),
        ("directory\\file", "unsafe path: it contains a backslash, which separates directories on some machines"),
        (&long_name, "unsafe path: a component is longer than 255 bytes"),
        (&long_path, "unsafe path: longer than 4096 bytes"),
    ];
    if devices {
        attacks.extend([
            ("zero", "not an ordinary file: character device"),
            ("char", "not an ordinary file: character device"),
            ("block", "not an ordinary file: block device"),
        ]);
    }
    for way in Way::all(&temp.path().join("pack")) {
        let (way, attacks): (_, Vec<_>) = (way, attacks.iter().map(|(p, e)| (p.to_string(), e.to_string())).collect());
        let (answers, answer) = mpsc::channel();
        let worker = attacks.clone();
        let attacker = thread::spawn(move || {
            for (path, _) in worker {
                let told = match way.file(&path, Links::Single) {
                    Ok(_) => format!("{way:?} opened it"),
                    Err(fault) => fault.to_string(),
                };
                answers.send(told).unwrap();
            }
        });
        for (path, expected) in attacks {
            let told = answer.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|_| "no answer in 10 s".to_owned());
            assert_eq!(told, expected, "{path:?}");
        }
        attacker.join().unwrap();
    }
}

#[test]
fn opens_ordinary_files_with_their_size() {
    let (temp, _) = hostile();
    let pack = temp.path().join("pack");
    fs::write(pack.join("ünïcödé name"), "x").unwrap();
    File::create(pack.join("sparse")).unwrap().set_len(1 << 40).unwrap();
    for way in Way::all(&pack) {
        for (path, expected) in [("file", "honest"), ("directory/file", "honest"), ("ünïcödé name", "x")] {
            let (mut file, size) = way.file(path, Links::Single).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!((text.as_str(), size), (expected, expected.len() as u64));
        }
        assert_eq!(way.file("sparse", Links::Single).unwrap().1, 1 << 40);
        assert_eq!(way.file("hard_link", Links::Any).unwrap().1, SECRET.len() as u64);
    }
}

/// The kernel's own links, which are not stored anywhere.
#[test]
fn does_not_pass_magic_links() {
    for way in Way::all(Path::new("/proc/self")) {
        for path in ["root", "exe", "cwd", "fd/0"] {
            assert!(matches!(way.file(path, Links::Any), Err(Fault::NotAFile("symbolic link"))), "{way:?} {path}");
        }
        let beyond = way.file("root/etc/passwd", Links::Any);
        assert!(matches!(beyond, Err(Fault::NotAFile("behind a symbolic link"))), "{way:?}");
    }
}

#[test]
fn the_directory_itself_may_be_reached_through_a_link() {
    let (temp, _) = hostile();
    let link = temp.path().join("pack_link");
    symlink("pack", &link).unwrap();
    for way in Way::all(&link) {
        assert!(way.file("file", Links::Single).is_ok(), "{way:?}");
    }
}

#[test]
fn a_root_is_a_directory() {
    let (temp, _) = hostile();
    let pack = temp.path().join("pack");
    for name in ["file", "fifo", "socket", "link_zero"] {
        assert_eq!(Root::open(&pack.join(name)).unwrap_err().kind(), std::io::ErrorKind::NotADirectory, "{name}");
    }
    assert_eq!(Root::open(&pack.join("nothing")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn walks_past_everything_without_following() {
    let (temp, devices) = hostile();
    let pack = temp.path().join("pack");
    use std::os::unix::ffi::OsStrExt;
    fs::write(pack.join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
    let special = |path: &str, name| Found { path: path.to_owned(), kind: FoundKind::Special(name) };
    let file = |path: &str| Found { path: path.to_owned(), kind: FoundKind::File };
    let mut expected = vec![file("file"), file("directory/file"), file("hard_link"), file("\u{fffd}")];
    expected.extend([special("fifo", "FIFO"), special("socket", "socket")]);
    let links = [
        "link_out",
        "link_out_absolute",
        "link_inside",
        "link_to_nothing",
        "linked_directory",
        "linked_directory_inside",
        "link_environ",
        "link_magic",
        "link_zero",
        "loop_a",
        "loop_b",
    ];
    expected.extend(links.map(|path| special(path, "symbolic link")));
    if devices {
        expected.extend([special("zero", "character device"), special("char", "character device")]);
        expected.push(special("block", "block device"));
    }
    expected.sort_by(|a, b| a.path.cmp(&b.path));
    for way in Way::all(&pack) {
        assert_eq!(way.walk(&WalkLimits::default()).unwrap(), expected, "{way:?}");
    }
}

#[test]
fn walks_no_further_than_the_limits() {
    let temp = tempfile::tempdir().unwrap();
    let deepest = ["d"; 15].join("/");
    fs::create_dir_all(temp.path().join(&deepest)).unwrap();
    fs::write(temp.path().join(&deepest).join("file"), "x").unwrap();
    for way in Way::all(temp.path()) {
        assert_eq!(way.walk(&WalkLimits::default()).unwrap().len(), 1);
        let exact = WalkLimits { entries: 16, levels: 16 };
        assert_eq!(way.walk(&exact).unwrap().len(), 1);
        let shallow = way.walk(&WalkLimits { levels: 15, ..exact });
        assert!(matches!(shallow, Err(Fault::TooMany { limit: 15, what: "levels" })), "{shallow:?}");
        let few = way.walk(&WalkLimits { entries: 15, ..exact });
        assert!(matches!(few, Err(Fault::TooMany { limit: 15, what: "entries" })), "{few:?}");
    }
}

/// Empty directories hold no files but take as long to walk.
#[test]
fn counts_directories_as_entries() {
    let temp = tempfile::tempdir().unwrap();
    for name in 0..20 {
        fs::create_dir(temp.path().join(name.to_string())).unwrap();
    }
    for way in Way::all(temp.path()) {
        let found = way.walk(&WalkLimits { entries: 10, levels: 2 });
        assert!(matches!(found, Err(Fault::TooMany { limit: 10, what: "entries" })), "{found:?}");
    }
}

/// A link to a key and an honest file take turns under one name, and so do the
/// directories above another.
#[test]
fn a_race_of_swapped_links_leaks_nothing() {
    let (temp, _) = hostile();
    let pack = temp.path().join("pack");
    fs::create_dir(pack.join("honest")).unwrap();
    fs::write(pack.join("honest/secret"), "honest").unwrap();
    fs::write(pack.join("final"), "honest").unwrap();
    symlink("honest", pack.join("between")).unwrap();
    let (stop, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let swap = |target: &str, name: &str| {
                fs::remove_file(pack.join("swap")).ok();
                symlink(target, pack.join("swap")).unwrap();
                fs::rename(pack.join("swap"), pack.join(name)).unwrap();
            };
            while !stop.load(Ordering::Relaxed) {
                swap("../outside/secret", "final");
                fs::write(pack.join("swap2"), "honest").unwrap();
                fs::rename(pack.join("swap2"), pack.join("final")).unwrap();
                fs::rename(pack.join("honest"), pack.join("aside")).unwrap();
                swap("../outside", "honest");
                fs::remove_file(pack.join("honest")).unwrap();
                fs::rename(pack.join("aside"), pack.join("honest")).unwrap();
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        let outcome = thread::scope(|inner| {
            let readers: Vec<_> = Way::all(&pack)
                .into_iter()
                .map(|way| {
                    inner.spawn({
                        let swaps = &swaps;
                        move || race(&way, swaps)
                    })
                })
                .collect();
            readers.into_iter().map(|reader| reader.join()).collect::<Vec<_>>()
        });
        stop.store(true, Ordering::Relaxed);
        for reader in outcome {
            let opened = reader.unwrap();
            assert!(opened > 0, "the race never let an honest file through");
        }
    });
}

/// How often the honest file was read in at least 2,000 tries and 500 swaps.
fn race(way: &Way, swaps: &AtomicUsize) -> usize {
    let mut opened = 0;
    let enough = |attempt| attempt >= 2000 && swaps.load(Ordering::Relaxed) >= 500;
    for attempt in (0..2_000_000).take_while(|attempt| !enough(*attempt)) {
        let path = if attempt % 2 == 0 { "final" } else { "honest/secret" };
        match way.file(path, Links::Any) {
            Ok((mut file, _)) => {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                assert_ne!(text, SECRET, "{way:?} leaked {path}");
                opened += 1;
            }
            Err(Fault::NotFound | Fault::NotAFile(_) | Fault::Io(_)) => {}
            Err(fault) => panic!("{way:?}: {fault}"),
        }
    }
    opened
}
