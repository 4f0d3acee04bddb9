use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runpack_core::pack::layout::ARTIFACT_BYTES_MAX;
use runpack_core::pack::{PackReader, ReadFault, Verdict, VerifyOptions, verify};

use super::*;
use crate::packs::tests::inputs;
use crate::packs::{DirectoryReader, OpenFault, Published, Replace, copy};

fn good() -> PathBuf {
    inputs::testdata("packs/good/release-gate")
}

fn sealed(pack: &Path) -> Vec<u8> {
    sealed_by(&DirectoryReader::open(pack).unwrap(), MANIFEST_NAME)
}

fn sealed_by(reader: &dyn PackReader, manifest_name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let sealed = seal(&verified(reader, manifest_name), &mut bytes).unwrap();
    assert_eq!(sealed.bytes, bytes.len() as u64);
    bytes
}

fn verified<'a>(reader: &'a dyn PackReader, manifest_name: &'a str) -> Verified<'a> {
    Verified::new(reader, manifest_name, ARTIFACT_BYTES_MAX).map_err(|report| report.findings).ok().unwrap()
}

fn spooled(bytes: &[u8]) -> ArchiveReader {
    ArchiveReader::spool(bytes, ARTIFACT_BYTES_MAX).unwrap()
}

/// Why the archive is refused, and where.
fn refused(bytes: &[u8]) -> (String, u64) {
    match spooled(bytes).list() {
        Err(ReadFault::Archive { problem, offset }) => (problem, offset),
        other => panic!("not refused: {other:?}"),
    }
}

fn all(reader: &dyn PackReader) -> BTreeMap<String, Vec<u8>> {
    let read = |path: &str| {
        let mut bytes = Vec::new();
        reader.open(path, u64::MAX).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    reader.list().unwrap().into_iter().map(|listed| (listed.path.clone(), read(&listed.path))).collect()
}

/// An archive made without the code under test, of files in any order.
fn independent<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, bytes) in files {
        let size = bytes.len();
        let start = format!("{name:\0<100}0000644\x000000000\x000000000\x00{size:011o}\x0000000000000\x00");
        let end = format!("0{:\0<100}ustar\x0000{:\0<64}0000000\x000000000\x00{:\0<167}", "", "", "");
        let sum: u32 = 8 * 32 + start.bytes().chain(end.bytes()).map(u32::from).sum::<u32>();
        tar.extend(format!("{start}{sum:06o}\0 {end}").bytes());
        tar.extend(bytes);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// The good pack's files in the order of its manifest.
fn in_order(pack: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let paths = std::iter::once(MANIFEST_NAME).chain(ARTIFACTS.iter().map(|artifact| artifact.path));
    paths.map(|path| (path, fs::read(pack.join(path)).unwrap())).collect()
}

/// Puts `bytes` into a header at `at`, and makes its checksum right again.
fn forge(archive: &mut [u8], at: usize, bytes: &[u8]) {
    archive[at..at + bytes.len()].copy_from_slice(bytes);
    let block = &mut archive[at / BLOCK * BLOCK..][..BLOCK];
    block[CHECKSUM].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Where the first artifact's header lies.
fn second_header() -> usize {
    BLOCK + fs::metadata(good().join(MANIFEST_NAME)).unwrap().len().next_multiple_of(BLOCK as u64) as usize
}

/// Where headers, paddings and the end lie: everything but the files' bytes.
fn around(archive: &[u8]) -> Vec<usize> {
    let files: Vec<_> = in_order(&good()).into_iter().map(|(_, bytes)| bytes.len()).collect();
    let (mut places, mut at) = (Vec::new(), 0);
    for size in files {
        let start = at + BLOCK;
        places.extend(at..start);
        at = (start + size).next_multiple_of(BLOCK);
        places.extend(start + size..at);
    }
    places.extend(at..archive.len());
    assert_eq!(at + 2 * BLOCK, archive.len());
    places
}

#[test]
fn the_same_pack_gives_the_same_bytes_by_another_writer_too() {
    let archive = sealed(&good());
    let files = in_order(&good());
    assert!(archive == independent(files.iter().map(|(name, bytes)| (*name, bytes.as_slice()))));
    let temp = tempfile::tempdir().unwrap();
    // Copied in another order, with other times and modes.
    for (name, bytes) in files.iter().rev() {
        fs::create_dir_all(temp.path().join("artifacts")).unwrap();
        fs::write(temp.path().join(name), bytes).unwrap();
    }
    fs::rename(temp.path().join(MANIFEST_NAME), temp.path().join("index.json")).unwrap();
    let copy = DirectoryReader::open(temp.path()).unwrap();
    assert!(
        sealed_by(&copy, "index.json") == archive,
        "a manifest of another name is called `manifest.json` in an archive"
    );
    // An archive sealed again is the same archive.
    assert!(sealed_by(&spooled(&archive), MANIFEST_NAME) == archive);
}

#[test]
fn other_programs_read_and_write_it() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("pack.runpack.tar");
    let archive = sealed(&good());
    fs::write(&file, &archive).unwrap();
    let tar = |args: &[&str]| Command::new("tar").args(args).current_dir(good()).stderr(Stdio::null()).output();
    match tar(&["--version"]) {
        Ok(said) if String::from_utf8_lossy(&said.stdout).contains("GNU tar") => {
            let names: Vec<_> = in_order(&good()).into_iter().map(|(name, _)| name).collect();
            let plain = ["--format=ustar", "--blocking-factor=1", "--numeric-owner", "--owner=0", "--group=0"];
            let args = [&plain[..], &["--mtime=@0", "--mode=0644", "-c"], &names].concat();
            assert!(tar(&args).unwrap().stdout == archive, "docs/format.md says that GNU tar writes it");
            let listed = tar(&["-tf", file.to_str().unwrap()]).unwrap();
            assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().collect::<Vec<_>>(), names);
        }
        _ => inputs::absent("GNU tar; that it writes the same archive"),
    }
    let script = "import sys, tarfile, pathlib\n\
        for entry in tarfile.open(sys.argv[1]):\n    \
            data = tarfile.open(sys.argv[1]).extractfile(entry).read()\n    \
            assert data == (pathlib.Path(sys.argv[2]) / entry.name).read_bytes(), entry.name\n    \
            print(entry.name)";
    match Command::new("python3").args(["-c", script]).args([&file, &good()]).output() {
        Ok(said) => assert_eq!(String::from_utf8_lossy(&said.stdout).lines().count(), 9, "{said:?}"),
        Err(error) => inputs::absent(&format!("python3 ({error}); that it reads an archive")),
    }
}

#[test]
fn every_flipped_byte_around_the_files_is_refused() {
    let mut archive = sealed(&good());
    for place in around(&archive) {
        for flip in [0x01, 0x20, 0x80, 0xff] {
            archive[place] ^= flip;
            let (problem, offset) = refused(&archive);
            assert!(offset <= archive.len() as u64 && !problem.is_empty());
            archive[place] ^= flip;
        }
    }
    assert!(spooled(&archive).list().is_ok());
}

#[test]
fn a_flipped_byte_under_a_right_checksum_is_refused_all_the_same() {
    let archive = sealed(&good());
    for header in [0, second_header()] {
        for place in (0..BLOCK).filter(|place| !CHECKSUM.contains(place)) {
            for flip in [0x01, 0x20, 0x80, 0xff] {
                let mut forged = archive.clone();
                forge(&mut forged, header + place, &[archive[header + place] ^ flip]);
                let reader = ArchiveReader::spool(&forged[..], u64::MAX).unwrap();
                match reader.list() {
                    Err(ReadFault::Archive { .. }) => continue,
                    // Another file, or one byte more of it: what is listed tells.
                    Ok(_) => assert!(NAME.contains(&place) || SIZE.contains(&place), "byte {place} counts for nothing"),
                    Err(other) => panic!("{other}"),
                }
                let report = verify(&reader, MANIFEST_NAME, &VerifyOptions::default());
                assert_eq!(report.verdict, Verdict::Refused, "byte {place}");
            }
        }
    }
}

#[test]
fn every_shorter_and_longer_archive_is_refused() {
    let archive = sealed(&good());
    for end in (0..archive.len()).filter(|end| end % 7 == 0 || end % BLOCK < 2 || archive.len() - end < 1100) {
        let (problem, offset) = refused(&archive[..end]);
        assert!(problem.contains("end") || problem.contains("nothing in"), "{end}: {problem}");
        assert!(offset <= end as u64, "{end}: {problem} at {offset}");
    }
    for more in [&b"\0"[..], &[0; BLOCK], &archive] {
        let (problem, offset) = refused(&[&archive, more].concat());
        assert_eq!((problem.as_str(), offset), ("something follows the end of the archive", archive.len() as u64));
    }
}

#[test]
fn what_an_archive_may_hold_is_told_by_name_and_place() {
    let files = in_order(&good());
    let of = |order: &[usize]| independent(order.iter().map(|place| (files[*place].0, files[*place].1.as_slice())));
    let whole = of(&[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let second = second_header();
    let forged = |at: usize, bytes: &[u8]| {
        let mut archive = whole.clone();
        forge(&mut archive, second + at, bytes);
        archive
    };
    let named = |name: &'static str| independent([(MANIFEST_NAME, &b"{}"[..]), (name, b"")]);
    let many: Vec<_> = (0..64).map(|number| format!("f{number}")).collect();
    let many: Vec<_> =
        [MANIFEST_NAME].into_iter().chain(many.iter().map(String::as_str)).map(|name| (name, &b""[..])).collect();
    let scenario = "`artifacts/scenario_spec.json`";
    let huge = vec![0; MANIFEST_BYTES_MAX as usize + 1];
    let mut wrong_sum = whole.clone();
    wrong_sum[second + 153] = b'7' ^ (wrong_sum[second + 153] & 1);
    let cases = [
        (of(&[1, 0, 2]), "`artifacts/scenario_spec.json` comes before the manifest".to_owned(), Some(0)),
        (of(&[0, 1, 1]), format!("{scenario} is there twice"), None),
        (of(&[0, 1, 2, 3, 0]), "`manifest.json` is there twice".to_owned(), None),
        (of(&[0, 2, 1]), format!("{scenario} is not in the order of the format"), None),
        (of(&[]), "there is nothing in the archive".to_owned(), Some(0)),
        (named("/etc/passwd"), "a file cannot be called `/etc/passwd`: it is absolute".to_owned(), Some(1024)),
        (named("../x"), "a file cannot be called `../x`".to_owned(), Some(1024)),
        (named("artifacts/"), "a file cannot be called `artifacts/`".to_owned(), Some(1024)),
        (named("a\\b"), "a file cannot be called `a\\b`".to_owned(), Some(1024)),
        (named(""), "a file cannot be called ``".to_owned(), Some(1024)),
        (named("a b"), "a file cannot be called `a b`".to_owned(), Some(1024)),
        (independent(many), "there are more than 64 files".to_owned(), None),
        (independent([(MANIFEST_NAME, &huge[..])]), "`manifest.json` has 1048577 bytes".to_owned(), Some(0)),
        (forged(156, b"1"), format!("{scenario} is a hard link, not a file"), Some(second + 156)),
        (forged(156, b"2"), format!("{scenario} is a symbolic link, not a file"), Some(second + 156)),
        (forged(156, b"3"), format!("{scenario} is a character device, not a file"), Some(second + 156)),
        (forged(156, b"5"), format!("{scenario} is a directory, not a file"), Some(second + 156)),
        (forged(156, b"6"), format!("{scenario} is a FIFO, not a file"), Some(second + 156)),
        (forged(156, b"x"), format!("{scenario} is a pax header, not a file"), Some(second + 156)),
        (forged(156, b"L"), format!("{scenario} is a GNU long name, not a file"), Some(second + 156)),
        (forged(156, b"\0"), format!("{scenario} is of an unknown kind, not a file"), Some(second + 156)),
        (forged(103, b"7"), format!("the mode of {scenario} is not what"), Some(second + 103)),
        (forged(114, b"1"), format!("the owner of {scenario} is not what"), Some(second + 114)),
        (forged(146, b"1"), format!("the time of {scenario} is not what"), Some(second + 146)),
        (forged(265, b"root"), format!("the owner's name of {scenario} is not what"), Some(second + 265)),
        (forged(345, b"x"), format!("the prefix of {scenario} is not what"), Some(second + 345)),
        (forged(257, b"ustar  \0"), format!("the magic of {scenario} is not what"), Some(second + 262)),
        (forged(99, b"x"), format!("the name of {scenario} is not what"), Some(second + 99)),
        (forged(124, b" "), format!("the size of {scenario} is not eleven octal digits"), Some(second + 124)),
        // 100 GB, as GNU tar writes what eleven digits cannot hold.
        (
            forged(124, b"\x80\0\0\0\0\0\0\x17\x48\x76\xe8\0"),
            "is not eleven octal digits".to_owned(),
            Some(second + 124),
        ),
        (wrong_sum, format!("the checksum of {scenario} is not what"), Some(second + 153)),
        (b"\x1f\x8b\x08".to_vec(), "gzip-compressed, and a sealed pack is not compressed".to_owned(), Some(0)),
        (b"\x28\xb5\x2f\xfd".to_vec(), "zstd-compressed".to_owned(), Some(0)),
        (b"PK\x03\x04".to_vec(), "zip-compressed".to_owned(), Some(0)),
        (vec![b'a'; 2000], "there is no ustar header".to_owned(), Some(0)),
    ];
    for (archive, wanted, place) in cases {
        let (problem, offset) = refused(&archive);
        assert!(problem.contains(&wanted), "{wanted}: {problem}");
        assert!(place.is_none_or(|place| place as u64 == offset), "{wanted} at {offset}");
    }
    let long = "l".repeat(101);
    assert!(Entries::default().add(MANIFEST_NAME, 0, 0).is_ok());
    let mut entries = Entries::default();
    entries.add(MANIFEST_NAME, 0, 0).unwrap();
    assert_eq!(entries.add(&long, 0, 0).unwrap_err(), format!("`{long}` is longer than 100 bytes"));
    assert!(entries.add("a", FILE_BYTES_MAX, 0).is_ok());
    assert!(entries.add("b", FILE_BYTES_MAX + 1, 0).unwrap_err().contains("at most 8589934591 are possible"));
}

/// Bytes, and then something that must not be asked for more.
struct Then<'a>(&'a [u8], &'static str);

impl Read for Then<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 if self.1 == "fails" => Err(io::Error::other("medium error")),
            0 => panic!("read beyond {}", self.1),
            count => Ok(count),
        }
    }
}

#[test]
fn what_comes_in_is_refused_before_more_of_it_is_read() {
    let archive = sealed(&good());
    let second = second_header();
    for (at, bytes) in [(156, &b"4"[..]), (124, b"\x80\0\0\0\0\0\0\x17\x48\x76\xe8\0")] {
        let mut forged = archive[..second + BLOCK].to_vec();
        forge(&mut forged, second + at, bytes);
        let reader = ArchiveReader::spool(Then(&forged, "a bad header"), ARTIFACT_BYTES_MAX).unwrap();
        assert!(matches!(reader.list(), Err(ReadFault::Archive { .. })));
    }
    // Nearly eight gibibytes are possible, but more than is allowed.
    let mut forged = archive[..second + BLOCK].to_vec();
    forge(&mut forged, second + 124, b"77777777777\0");
    let error = ArchiveReader::spool(Then(&forged, "a large file"), ARTIFACT_BYTES_MAX).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`-`: `artifacts/scenario_spec.json` has more than 16777216 bytes\nhint: raise the limit with --max-artifact-bytes"
    );
    let files: Vec<_> = (0..60).map(|number| format!("f{number}")).collect();
    let files = files.iter().map(|name| (name.as_str(), &[1; 400_000][..]));
    let many = independent([(MANIFEST_NAME, &b"{}"[..])].into_iter().chain(files));
    let error = ArchiveReader::spool(&many[..], 400_000).unwrap_err();
    assert!(matches!(&error, OpenFault::TooLarge { what, limit: 21_091_328, .. } if what == "the archive"), "{error}");
    // The medium's fault is no fact about the pack.
    for end in [0, 100, second, second + BLOCK + 3] {
        let error = ArchiveReader::spool(Then(&archive[..end], "fails"), ARTIFACT_BYTES_MAX).unwrap_err();
        assert!(matches!(error, OpenFault::Io { .. }), "{error}");
    }
}

#[test]
fn a_large_archive_is_read_where_it_lies() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("large.tar");
    let noise =
        |seed: usize| (0..700_000 + seed).map(|at| (at.wrapping_mul(2_654_435_761 + seed) >> 13) as u8).collect();
    let mut files = BTreeMap::from([(MANIFEST_NAME.to_owned(), b"{}".to_vec())]);
    files.extend(ARTIFACTS.iter().enumerate().map(|(seed, artifact)| (artifact.path.to_owned(), noise(seed))));
    let order = std::iter::once(MANIFEST_NAME).chain(ARTIFACTS.iter().map(|artifact| artifact.path));
    let archive = independent(order.map(|name| (name, files[name].as_slice())));
    fs::write(&file, &archive).unwrap();
    let reader = ArchiveReader::open(&file).unwrap();
    assert!(all(&reader) == files && all(&spooled(&archive)) == files);
    assert!(matches!(reader.open("artifacts/triggers.json", 1000), Err(ReadFault::TooLarge { limit: 1000 })));
    assert!(matches!(reader.open("artifacts", 1000), Err(ReadFault::NotFound)));
    // Two at a time do not disturb each other.
    let (mut one, mut two) =
        (reader.open(ARTIFACTS[1].path, u64::MAX).unwrap(), reader.open(ARTIFACTS[2].path, u64::MAX).unwrap());
    let (mut from_one, mut from_two) = (Vec::new(), Vec::new());
    while from_one.len() < files[ARTIFACTS[1].path].len() {
        one.by_ref().take(7000).read_to_end(&mut from_one).unwrap();
        two.by_ref().take(9000).read_to_end(&mut from_two).unwrap();
    }
    assert!(from_one == files[ARTIFACTS[1].path] && from_two == files[ARTIFACTS[2].path]);
    let mut bytes = [0; 100];
    let open = fs::File::open(&file).unwrap();
    for at in [5000, 0, 1_000_000] {
        assert_eq!(read::read_at_in_turn(&open, &mut bytes, at).unwrap(), 100);
        assert_eq!(bytes, archive[at as usize..][..100]);
    }
    // A file that becomes shorter is the medium's fault.
    fs::File::options().write(true).open(&file).unwrap().set_len(1_000_000).unwrap();
    let mut rest = Vec::new();
    let error = reader.open(ARTIFACTS[7].path, u64::MAX).unwrap().read_to_end(&mut rest).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    for (place, byte) in [(1_000_000, b'x'), (archive.len() - 1, b'x')] {
        let mut spoilt = archive.clone();
        spoilt[place] = byte;
        spoilt.truncate(if place == 1_000_000 { place } else { archive.len() });
        fs::write(&file, spoilt).unwrap();
        assert!(matches!(ArchiveReader::open(&file).unwrap().list(), Err(ReadFault::Archive { .. })));
    }
}

#[test]
fn opens_ordinary_files_only_and_the_user_may_name_a_link() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::write(at("a.tar"), sealed(&good())).unwrap();
    let verdict = |path: &Path| {
        let reader = ArchiveReader::open(path).map_err(|fault| fault.to_string())?;
        Ok::<_, String>(verify(&reader, MANIFEST_NAME, &VerifyOptions::default()).verdict)
    };
    assert_eq!(verdict(&at("a.tar")), Ok(Verdict::Consistent));
    assert!(verdict(&at("b.tar")).unwrap_err().ends_with("b.tar` not found"));
    fs::create_dir(at("d.tar")).unwrap();
    assert!(verdict(&at("d.tar")).unwrap_err().ends_with("d.tar` is not an ordinary file: directory"));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("a.tar", at("l.tar")).unwrap();
        fs::hard_link(at("a.tar"), at("h.tar")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("z.tar")).unwrap();
        assert_eq!((verdict(&at("l.tar")), verdict(&at("h.tar"))), (Ok(Verdict::Consistent), Ok(Verdict::Consistent)));
        assert!(verdict(&at("z.tar")).unwrap_err().ends_with("is not an ordinary file: character device"));
        assert!(verdict(&at("a.tar/x.tar")).unwrap_err().ends_with("not found"));
    }
}

#[test]
fn what_is_sealed_comes_out_as_it_was() {
    let temp = tempfile::tempdir().unwrap();
    for name in ["release-gate", "rich"] {
        let pack = inputs::testdata("packs/good").join(name);
        let (file, out) = (temp.path().join(format!("{name}.runpack.tar")), temp.path().join(name));
        let source = DirectoryReader::open(&pack).unwrap();
        let pack = verified(&source, MANIFEST_NAME);
        let sealed = seal_to(&pack, &file, Replace::No).unwrap();
        assert_eq!((sealed.published, sealed.bytes), (Published::New, fs::metadata(&file).unwrap().len()));
        let reader = ArchiveReader::open(&file).unwrap();
        assert!(all(&reader) == all(&source));
        let report = verify(&reader, MANIFEST_NAME, &VerifyOptions::default());
        assert_eq!((report.verdict, report.pack_digest), (Verdict::Consistent, Some(pack.pack_digest())));
        assert_eq!(report, verify(&source, MANIFEST_NAME, &VerifyOptions::default()));
        for wanted in [Published::New, Published::Identical] {
            let unsealed = copy(&reader, MANIFEST_NAME, &out, Replace::No, &VerifyOptions::default()).unwrap();
            assert_eq!(unsealed, (wanted, pack.pack_digest()));
        }
        assert!(all(&DirectoryReader::open(&out).unwrap()) == all(&source));
    }
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 4, "nothing is left beside");
}

#[test]
fn a_file_is_replaced_only_when_asked_and_never_in_part() {
    let temp = tempfile::tempdir().unwrap();
    let target = temp.path().join("sub/pack.runpack.tar");
    let pack = |name: &str| DirectoryReader::open(&inputs::testdata("packs/good").join(name)).unwrap();
    let to = |target: &Path, name: &str, replace| {
        let sealed = seal_to(&verified(&pack(name), MANIFEST_NAME), target, replace);
        sealed.map(|sealed| sealed.published).map_err(|error| error.to_string())
    };
    assert_eq!(to(&target, "rich", Replace::No), Ok(Published::New));
    let before = fs::read(&target).unwrap();
    assert_eq!(to(&target, "rich", Replace::Yes), Ok(Published::Identical));
    let error = to(&target, "release-gate", Replace::No).unwrap_err();
    assert!(error.ends_with("exists and holds something else\nhint: choose another name or pass --replace"), "{error}");
    assert!(fs::read(&target).unwrap() == before);
    assert_eq!(to(&target, "release-gate", Replace::Yes), Ok(Published::Replaced { leftover: None }));
    assert!(fs::read(&target).unwrap() == sealed(&good()));
    assert!(to(temp.path(), "rich", Replace::Yes).unwrap_err().contains("is not a file\nhint: "));
    assert!(to(Path::new(".."), "rich", Replace::Yes).unwrap_err().contains("does not name a file"));
    #[cfg(unix)]
    {
        let link = temp.path().join("sub/link.tar");
        std::os::unix::fs::symlink("pack.runpack.tar", &link).unwrap();
        assert!(to(&link, "rich", Replace::Yes).unwrap_err().contains("is not a file\nhint: "));
        fs::remove_file(link).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&target).unwrap().permissions());
        assert_eq!(mode & 0o7133, 0, "{mode:o}");
    }
    assert_eq!(fs::read_dir(temp.path().join("sub")).unwrap().count(), 1, "nothing is left beside");
}

#[test]
fn only_what_was_verified_is_sealed() {
    let temp = tempfile::tempdir().unwrap();
    let pack = temp.path().join("pack");
    let archive = spooled(&sealed(&good()));
    copy(&archive, MANIFEST_NAME, &pack, Replace::No, &VerifyOptions::default()).unwrap();
    let reader = DirectoryReader::open(&pack).unwrap();
    let target = temp.path().join("x.runpack.tar");
    for path in ["artifacts/decisions.json", MANIFEST_NAME] {
        let was = fs::read(pack.join(path)).unwrap();
        let checked = verified(&reader, MANIFEST_NAME);
        fs::write(pack.join(path), [&was[..], b" "].concat()).unwrap();
        let said = format!("`{path}` is not what it was when it was verified\nhint: ");
        let error = seal_to(&checked, &target, Replace::No).unwrap_err().to_string();
        assert!(error.starts_with(&said), "{error}");
        let refused = Verified::new(&reader, MANIFEST_NAME, ARTIFACT_BYTES_MAX).err().unwrap();
        assert_eq!(refused.verdict, Verdict::Refused);
        fs::write(pack.join(path), was).unwrap();
    }
    let checked = verified(&reader, MANIFEST_NAME);
    fs::remove_file(pack.join("artifacts/packets.json")).unwrap();
    let error = seal_to(&checked, &target, Replace::No).unwrap_err();
    assert_eq!(error.to_string(), "cannot read `artifacts/packets.json`: not found");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "nothing is left");
}
