use std::io::Read;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use runpack_core::canon::{Digest, to_vec};
use runpack_core::engine::Scenario;
use runpack_core::model::{RunState, ScenarioSpec, Timestamp};
use runpack_core::pack::layout::MANIFEST_NAME;
use runpack_core::pack::{
    BuildOptions, Checks, FileHash, Listed, PackReader, ReadFault, Verdict, VerifyOptions, verify,
};
use runpack_core::read::{self, Unknown};

use super::bucket::wait;
use super::*;
use crate::packs::{Destination, DirectoryReader, ExportRequest, Replace, export};

fn good() -> DirectoryReader {
    DirectoryReader::open(&FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/packs/good/release-gate"))
        .unwrap()
}

fn impatient() -> Patience {
    let pause = Duration::from_millis(1);
    Patience { pause, pause_max: pause, total: Duration::from_millis(20) }
}

fn memory() -> Bucket {
    Bucket::new(Arc::new(InMemory::new()), "s3://bucket", &Path::default(), impatient())
}

fn published(bucket: &Bucket) -> Receipt {
    publish(bucket, &Path::from("packs"), &good(), MANIFEST_NAME, &PublishOptions::default()).unwrap()
}

fn directory(receipt: &Receipt) -> Path {
    Path::parse(receipt.storage_uri.strip_prefix("s3://bucket/").unwrap()).unwrap()
}

fn verdict(bucket: &Bucket, directory: &Path) -> Verdict {
    let pack = ObjectReader::open(bucket, directory).unwrap();
    verify(&pack, MANIFEST_NAME, &VerifyOptions::default()).verdict
}

fn put(bucket: &Bucket, key: &Path, bytes: &'static [u8]) {
    wait(bucket.store().put(key, bytes.into())).unwrap();
}

#[test]
fn what_was_published_verifies_where_it_is() {
    let bucket = memory();
    let receipt = published(&bucket);
    assert!(receipt.storage_uri.starts_with("s3://bucket/packs/tenant/1/namespace/1/scenario/"), "{receipt:?}");
    assert!(receipt.storage_uri.ends_with('/') && receipt.conditional && receipt.pushed == Pushed::New);
    assert_eq!(verdict(&bucket, &directory(&receipt)), Verdict::Consistent);
    let found = packs(&bucket, &Path::default()).unwrap();
    assert_eq!(
        found.iter().map(|pack| (&pack.directory, pack.manifest)).collect::<Vec<_>>(),
        [(&directory(&receipt), true)]
    );
    assert_eq!(published(&bucket).pushed, Pushed::AlreadyThere);
    // The bytes are those of the directory.
    let there = ObjectReader::open(&bucket, &directory(&receipt)).unwrap();
    for listed in good().list().unwrap() {
        let read = |pack: &dyn PackReader| {
            let mut bytes = Vec::new();
            pack.open(&listed.path, 1 << 20).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert!(read(&good()) == read(&there), "{}", listed.path);
    }
}

#[test]
fn another_pack_stays_and_a_snapshot_goes_beside_it() {
    let bucket = memory();
    let receipt = published(&bucket);
    let key = directory(&receipt).join(MANIFEST_NAME);
    put(&bucket, &key, b"{}");
    let options = PublishOptions::default();
    let error = publish(&bucket, &Path::from("packs"), &good(), MANIFEST_NAME, &options).unwrap_err();
    assert!(matches!(error, PushError::Another { .. }), "{error}");
    assert!(error.to_string().contains("44136fa355b3678a"), "names the digest that is there: {error}");
    let options = PublishOptions { on_existing: OnExisting::Snapshot, ..options };
    let receipt = publish(&bucket, &Path::from("packs"), &good(), MANIFEST_NAME, &options).unwrap();
    let digest = receipt.pack_digest;
    assert!(receipt.storage_uri.ends_with(&format!("/snapshot/{digest}/")), "{receipt:?}");
    assert_eq!(verdict(&bucket, &directory(&receipt)), Verdict::Consistent);
    assert_eq!(wait(bucket.store().get(&key)).map(|there| there.meta.size).unwrap(), 2, "nothing was overwritten");
}

#[test]
fn an_export_that_was_cut_off_is_taken_up_or_collected() {
    let bucket = memory();
    let receipt = published(&bucket);
    let directory = directory(&receipt);
    // As if it had been cut off before the manifest.
    wait(bucket.store().delete(&directory.clone().join(MANIFEST_NAME))).unwrap();
    wait(bucket.store().delete(&directory.clone().join("artifacts").join("packets.json"))).unwrap();
    assert_eq!(published(&bucket).pushed, Pushed::New);
    assert_eq!(verdict(&bucket, &directory), Verdict::Consistent);
    // Cut off, and never taken up.
    wait(bucket.store().delete(&directory.clone().join(MANIFEST_NAME))).unwrap();
    let (hour, now) = (Duration::from_secs(3600), SystemTime::now());
    assert!(orphans(&bucket, &Path::default(), hour, now).unwrap().is_empty(), "it may still go on");
    let left = orphans(&bucket, &Path::default(), hour, now + 2 * hour).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(collect(&bucket, &left[0]).unwrap(), Collected::Removed);
    assert!(packs(&bucket, &Path::default()).unwrap().is_empty());
}

#[test]
fn an_orphan_that_became_a_pack_is_left_alone() {
    let bucket = memory();
    let receipt = published(&bucket);
    let key = directory(&receipt).join(MANIFEST_NAME);
    wait(bucket.store().delete(&key)).unwrap();
    let left = orphans(&bucket, &Path::default(), Duration::ZERO, SystemTime::now() + Duration::from_secs(9)).unwrap();
    published(&bucket);
    assert_eq!(collect(&bucket, &left[0]).unwrap(), Collected::Published);
    assert_eq!(verdict(&bucket, &directory(&receipt)), Verdict::Consistent);
}

#[test]
fn foreign_content_is_in_the_way_and_is_not_overwritten() {
    let bucket = memory();
    let receipt = published(&bucket);
    let directory = directory(&receipt);
    wait(bucket.store().delete(&directory.clone().join(MANIFEST_NAME))).unwrap();
    put(&bucket, &directory.clone().join("artifacts").join("triggers.json"), b"[1]");
    let publish = || publish(&bucket, &Path::from("packs"), &good(), MANIFEST_NAME, &PublishOptions::default());
    let error = publish().unwrap_err();
    assert!(matches!(&error, PushError::InTheWay { path, .. } if path == "artifacts/triggers.json"), "{error}");
    wait(bucket.store().delete(&directory.clone().join("artifacts").join("triggers.json"))).unwrap();
    put(&bucket, &directory.clone().join("notes.txt"), b"x");
    let error = publish().unwrap_err();
    assert!(matches!(&error, PushError::InTheWay { path, .. } if path == "notes.txt"), "{error}");
}

#[test]
fn a_pack_that_lost_a_file_is_damaged_not_republished() {
    let bucket = memory();
    let receipt = published(&bucket);
    let key = directory(&receipt).join("artifacts").join("triggers.json");
    wait(bucket.store().delete(&key)).unwrap();
    let again =
        || publish(&bucket, &Path::from("packs"), &good(), MANIFEST_NAME, &PublishOptions::default()).unwrap_err();
    assert!(again().to_string().contains("`artifacts/triggers.json` is missing"), "{}", again());
    put(&bucket, &key, b"[]");
    assert!(again().to_string().contains("is not what the manifest says"), "{}", again());
    assert_eq!(verdict(&bucket, &directory(&receipt)), Verdict::Refused);
}

#[test]
fn a_pack_that_grew_a_file_is_not_called_whole() {
    let bucket = memory();
    let receipt = published(&bucket);
    put(&bucket, &directory(&receipt).join("artifacts").join("more.json"), b"[]");
    let error = publish(&bucket, &Path::from("packs"), &good(), MANIFEST_NAME, &PublishOptions::default()).unwrap_err();
    assert!(error.to_string().contains("`artifacts/more.json` is not in the manifest"), "{error}");
    assert_eq!(verdict(&bucket, &directory(&receipt)), Verdict::Refused);
}

/// A pack one of whose files changes after it was verified.
struct Changing(DirectoryReader);

impl PackReader for Changing {
    fn list(&self) -> Result<Vec<Listed>, ReadFault> {
        self.0.list()
    }

    fn open(&self, path: &str, bytes_max: u64) -> Result<Box<dyn Read + '_>, ReadFault> {
        if path == "artifacts/triggers.json" { Ok(Box::new(&b"[]"[..])) } else { self.0.open(path, bytes_max) }
    }
}

#[test]
fn what_changed_since_it_was_verified_is_not_published() {
    let bucket = memory();
    let pack = Changing(good());
    let error = publish(&bucket, &Path::from("packs"), &pack, MANIFEST_NAME, &PublishOptions::default()).unwrap_err();
    assert!(matches!(&error, PushError::Source { path, .. } if path == "artifacts/triggers.json"), "{error}");
    assert!(packs(&bucket, &Path::default()).unwrap().iter().all(|pack| !pack.manifest));
}

/// A pack with a large file; each time a file is opened is noted.
struct Large {
    pack: DirectoryReader,
    dir: tempfile::TempDir,
    opened: Mutex<Vec<String>>,
    /// What the scenario is when it is opened again.
    changes: bool,
}

const SCENARIO: &str = "artifacts/scenario_spec.json";
const MIB: usize = 1 << 20;
const BYTES_MAX: u64 = 1 << 30;

/// A file of 20 MiB goes up whole, and in parts.
fn whole_and_in_parts() -> [Bucket; 2] {
    [memory(), memory().with_parts_above(8)]
}

impl Large {
    fn new(bytes: usize) -> Self {
        let source = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/packs/source/rich");
        let json = |name: &str| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(source.join(name)).unwrap()).unwrap()
        };
        let (mut scenario, mut state) = (json("scenario.json"), json("state.json"));
        scenario["conditions"][0]["expected"] = "x".repeat(bytes).into();
        let spec: ScenarioSpec = read::ingest(scenario.to_string().as_bytes(), Unknown::Refuse).unwrap();
        state["spec_hash"] = serde_json::to_value(Digest::of_canonical(&spec).unwrap()).unwrap();
        for log in ["decisions", "gate_evals", "packets", "submissions", "tool_calls", "triggers"] {
            state[log] = serde_json::json!([]);
        }
        let state: RunState = serde_json::from_value(state).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let options = BuildOptions { artifact_bytes_max: BYTES_MAX, ..BuildOptions::at(Timestamp::Logical(1)) };
        export(&ExportRequest {
            destination: Destination::Directory { target: &dir.path().join("pack"), replace: Replace::No },
            manifest_name: MANIFEST_NAME,
            scenario: &Scenario::new(spec).unwrap(),
            run: &state,
            options: &options,
            include_verification: false,
            attest: None,
        })
        .unwrap();
        let pack = DirectoryReader::open(&dir.path().join("pack")).unwrap();
        Self { pack, dir, opened: Mutex::default(), changes: false }
    }

    fn spoil(&self, path: &str) {
        let file = self.dir.path().join("pack").join(path);
        let mut bytes = std::fs::read(&file).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        std::fs::write(file, bytes).unwrap();
    }

    fn publish(&self, bucket: &Bucket, options: PublishOptions) -> Result<Receipt, PushError> {
        let prefix = Path::from("packs");
        let verification = VerifyOptions { artifact_bytes_max: BYTES_MAX, ..VerifyOptions::default() };
        publish_verified(bucket, Place::Below(&prefix), self, MANIFEST_NAME, &options, &verification)
    }
}

impl PackReader for Large {
    fn list(&self) -> Result<Vec<Listed>, ReadFault> {
        self.pack.list()
    }

    fn open(&self, path: &str, bytes_max: u64) -> Result<Box<dyn Read + '_>, ReadFault> {
        let mut opened = self.opened.lock().unwrap();
        opened.push(path.to_owned());
        let again = opened.iter().filter(|opened| *opened == path).count() > 1;
        if self.changes && again { Ok(Box::new(&b"{}"[..])) } else { self.pack.open(path, bytes_max) }
    }
}

/// Everything in the bucket but the key by which it was tried out.
fn keys(bucket: &Bucket) -> Vec<String> {
    let listed = wait(bucket.list(None, 100)).unwrap();
    listed.iter().map(|meta| meta.location.to_string()).filter(|key| !key.contains(".runpack")).collect()
}

#[test]
fn every_file_is_read_once_and_what_was_verified_is_what_is_there() {
    for bucket in whole_and_in_parts() {
        let mut pack = Large { changes: true, ..Large::new(20 * MIB) };
        let receipt = pack.publish(&bucket, PublishOptions::default()).unwrap();
        assert_eq!(receipt.pushed, Pushed::New);
        let mut opened = pack.opened.lock().unwrap().clone();
        opened.sort_unstable();
        let mut listed: Vec<_> = pack.list().unwrap().into_iter().map(|listed| listed.path).collect();
        listed.sort_unstable();
        assert_eq!(opened, listed);
        let there = ObjectReader::open(&bucket, &directory(&receipt)).unwrap();
        let options = VerifyOptions { artifact_bytes_max: BYTES_MAX, ..VerifyOptions::default() };
        assert_eq!(verify(&there, MANIFEST_NAME, &options).verdict, Verdict::Consistent);
        let scenario = wait(bucket.store().head(&directory(&receipt).join("artifacts").join("scenario_spec.json")));
        assert!(scenario.unwrap().size > 20 * MIB as u64);
        // Again: compared with what is there, and left alone.
        pack.changes = false;
        let again = pack.publish(&bucket, PublishOptions::default()).unwrap();
        assert_eq!((again.pushed, again.storage_uri), (Pushed::AlreadyThere, receipt.storage_uri));
    }
}

#[test]
fn nothing_of_a_pack_that_does_not_verify_is_there() {
    let pack = Large::new(20 * MIB);
    for bucket in whole_and_in_parts() {
        // Found out before, in, and after the large file.
        for spoilt in [MANIFEST_NAME, SCENARIO, "artifacts/tool_calls.json"] {
            pack.spoil(spoilt);
            let error = pack.publish(&bucket, PublishOptions::default()).unwrap_err();
            assert!(matches!(&error, PushError::Unverified { left, .. } if left.0.is_empty()), "{spoilt}: {error}");
            assert!(error.to_string().contains("since it does not verify: RP0"), "{error}");
            assert_eq!(keys(&bucket), Vec::<String>::new(), "{spoilt}");
            // The second time it is as it was.
            pack.spoil(spoilt);
        }
        assert_eq!(pack.publish(&bucket, PublishOptions::default()).unwrap().pushed, Pushed::New);
    }
    // A small one costs nobody a request.
    let (bucket, prefix, pack) = (memory(), Path::from("packs"), Changing(good()));
    let verification = VerifyOptions::default();
    let place = Place::Below(&prefix);
    let error = publish_verified(&bucket, place, &pack, MANIFEST_NAME, &PublishOptions::default(), &verification);
    assert!(matches!(error, Err(PushError::Unverified { .. })), "{error:?}");
    assert!(wait(bucket.list(None, 100)).unwrap().is_empty());
}

#[test]
fn what_lies_at_the_place_is_not_touched_before_a_pack_is_verified() {
    let pack = Large::new(20 * MIB);
    let at = directory(&pack.publish(&memory(), PublishOptions::default()).unwrap());
    let scenario = at.clone().join("artifacts").join("scenario_spec.json");
    let manifest = at.join(MANIFEST_NAME);
    // Another pack there, with or without its manifest.
    for there in [&scenario, &manifest] {
        for bucket in whole_and_in_parts() {
            put(&bucket, there, b"{}");
            pack.spoil(SCENARIO);
            let error = pack.publish(&bucket, PublishOptions::default()).unwrap_err();
            assert!(matches!(&error, PushError::Unverified { .. }), "{error}");
            assert_eq!(keys(&bucket), [there.to_string()]);
            pack.spoil(SCENARIO);
            let error = pack.publish(&bucket, PublishOptions::default()).unwrap_err();
            assert!(matches!(&error, PushError::Another { .. } | PushError::InTheWay { .. }), "{error}");
            assert_eq!(wait(bucket.store().head(there)).unwrap().size, 2);
            let options = PublishOptions { on_existing: OnExisting::Snapshot, ..PublishOptions::default() };
            let receipt = pack.publish(&bucket, options).unwrap();
            assert!(receipt.storage_uri.contains("/snapshot/"), "{receipt:?}");
            let there_too = ObjectReader::open(&bucket, &directory(&receipt)).unwrap();
            let options = VerifyOptions { artifact_bytes_max: BYTES_MAX, ..VerifyOptions::default() };
            assert_eq!(verify(&there_too, MANIFEST_NAME, &options).verdict, Verdict::Consistent);
            assert_eq!(wait(bucket.store().head(there)).unwrap().size, 2);
        }
    }
}

/// A pack of which only the digests hold, with files that are long.
struct Long {
    pack: DirectoryReader,
    manifest: Vec<u8>,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Long {
    fn new(sizes: &[(&'static str, usize)]) -> Self {
        let file = |path: &str, bytes| path.bytes().cycle().take(bytes).collect::<Vec<_>>();
        let files: Vec<_> = sizes.iter().map(|(path, bytes)| (*path, file(path, *bytes))).collect();
        let pack = good();
        let mut manifest: serde_json::Value =
            serde_json::from_reader(pack.open(MANIFEST_NAME, 1 << 20).unwrap()).unwrap();
        for (path, bytes) in &files {
            let digest = serde_json::to_value(Digest::of(bytes)).unwrap();
            for list in ["/artifacts", "/integrity/file_hashes"] {
                let list = manifest.pointer_mut(list).unwrap().as_array_mut().unwrap();
                list.iter_mut().find(|entry| entry["path"] == **path).unwrap()["hash"] = digest.clone();
            }
        }
        let hashes: Vec<FileHash> = serde_json::from_value(manifest["integrity"]["file_hashes"].clone()).unwrap();
        manifest["integrity"]["root_hash"] = serde_json::to_value(Digest::of_canonical(&hashes).unwrap()).unwrap();
        Self { pack, manifest: to_vec(&manifest).unwrap(), files }
    }
}

impl PackReader for Long {
    fn list(&self) -> Result<Vec<Listed>, ReadFault> {
        self.pack.list()
    }

    fn open(&self, path: &str, bytes_max: u64) -> Result<Box<dyn Read + '_>, ReadFault> {
        match self.files.iter().find(|(name, _)| *name == path) {
            Some((_, bytes)) => Ok(Box::new(&bytes[..])),
            None if path == MANIFEST_NAME => Ok(Box::new(&self.manifest[..])),
            None => self.pack.open(path, bytes_max),
        }
    }
}

/// More of them at a time than are kept in memory, and more in one pack.
#[test]
fn large_files_make_room_for_each_other() {
    let long = Long::new(&[
        ("artifacts/decisions.json", 9 * MIB),
        ("artifacts/packets.json", 8 * MIB),
        ("artifacts/submissions.json", 80 * MIB),
        ("artifacts/tool_calls.json", 10 * MIB),
        ("artifacts/triggers.json", 8 * MIB + 1),
    ]);
    let options = VerifyOptions { artifact_bytes_max: BYTES_MAX, checks: Checks::Digests, ..VerifyOptions::default() };
    for bucket in whole_and_in_parts() {
        std::thread::scope(|scope| {
            for n in 0..4 {
                let (bucket, long, options) = (&bucket, &long, &options);
                scope.spawn(move || {
                    let at = Path::from(format!("packs/{n}"));
                    let publishing = PublishOptions::default();
                    let receipt = if n < 3 {
                        publish_verified(bucket, Place::At(&at), long, MANIFEST_NAME, &publishing, options)
                    } else {
                        publish_at(bucket, &at, long, MANIFEST_NAME, &publishing)
                    };
                    assert_eq!(receipt.unwrap().pushed, Pushed::New);
                    let there = ObjectReader::open(bucket, &at).unwrap();
                    assert_eq!(verify(&there, MANIFEST_NAME, options).verdict, Verdict::Consistent);
                });
            }
        });
    }
}

#[test]
fn directories_that_sync_hold_packs_too() {
    let temp = tempfile::tempdir().unwrap();
    let store = LocalFileSystem::new_with_prefix(temp.path()).unwrap().with_fsync(true);
    let bucket = Bucket::new(Arc::new(store) as Arc<dyn ObjectStore>, "s3://bucket", &Path::default(), impatient());
    let receipt = published(&bucket);
    assert_eq!(verdict(&bucket, &directory(&receipt)), Verdict::Consistent);
    assert_eq!(published(&bucket).pushed, Pushed::AlreadyThere);
}

#[test]
fn urls_name_buckets() {
    let parse = |url: &str| {
        BucketUrl::parse(url).map(|found| found.map(|url| url.to_string())).map_err(|error| error.to_string())
    };
    assert_eq!(parse("s3://b/p/q/").unwrap().as_deref(), Some("s3://b/p/q"));
    assert_eq!(parse("GS://b").unwrap().as_deref(), Some("gs://b/"));
    assert_eq!(parse("az://c/p").unwrap().as_deref(), Some("az://c/p"));
    for other in ["dir", "https://h/p", "./s3:/x"] {
        assert_eq!(parse(other).unwrap(), None);
    }
    for wrong in ["s3://", "s3:///p", "s3://b c/p", "s3://b/../p", "s3://b//p", "s3://u:p@h/p"] {
        assert!(parse(wrong).unwrap_err().contains("hint: write s3://"), "{wrong}");
    }
}

#[test]
fn unknown_options_are_refused_by_name() {
    let mut options = StoreOptions::default();
    for (key, value, said) in [
        ("end_point", "x", "unknown store option `end_point`"),
        ("timeout", "1", "did you mean `connect_timeout_s`, `read_timeout_s`?"),
        ("allow_http", "yes", "is `true` or `false`"),
        ("read_timeout_s", "0", "from 1 to 3600"),
        ("checksum", "md5", "is `sha256`"),
    ] {
        let error = options.set(key, value).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    options.set("emulator", "true").unwrap();
    let url = BucketUrl::parse("s3://b/p").unwrap().unwrap();
    assert!(options.open(&url).unwrap_err().to_string().contains("means nothing for s3://"));
}

const ATTESTATION: &str = "by-eve.dsse.json";

/// The good pack with an attestation beside its manifest.
fn signed(dir: &FilePath) -> DirectoryReader {
    let packs = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/packs");
    std::fs::create_dir(dir.join("artifacts")).unwrap();
    for listed in good().list().unwrap() {
        std::fs::copy(packs.join("good/release-gate").join(&listed.path), dir.join(&listed.path)).unwrap();
    }
    let attestation = packs.join("bad/RP0807-by-anybody/pack").join(ATTESTATION);
    std::fs::copy(attestation, dir.join(ATTESTATION)).unwrap();
    DirectoryReader::open(dir).unwrap()
}

#[test]
fn attestations_go_along_and_are_there_before_the_manifest() {
    let (dir, options) = (tempfile::tempdir().unwrap(), PublishOptions::default());
    let pack = signed(dir.path());
    let publish =
        |bucket: &Bucket, pack: &dyn PackReader| publish(bucket, &Path::from("packs"), pack, MANIFEST_NAME, &options);
    let seen = |bucket: &Bucket, directory: &Path| {
        let report = verify(&ObjectReader::open(bucket, directory).unwrap(), MANIFEST_NAME, &VerifyOptions::default());
        (report.verdict, report.signatures.len())
    };
    let bucket = memory();
    let receipt = publish(&bucket, &pack).unwrap();
    let directory = directory(&receipt);
    assert_eq!(seen(&bucket, &directory), (Verdict::Consistent, 1));
    // Without it, the same pack is there, and what others signed stays.
    assert_eq!(publish(&bucket, &good()).unwrap().pushed, Pushed::AlreadyThere);
    assert_eq!(seen(&bucket, &directory), (Verdict::Consistent, 1));
    // A pack that was signed later is signed there, too.
    let bucket = memory();
    publish(&bucket, &good()).unwrap();
    assert_eq!(publish(&bucket, &pack).unwrap().pushed, Pushed::AlreadyThere);
    assert_eq!(seen(&bucket, &directory), (Verdict::Consistent, 1));
    // Where it cannot lie there is no manifest either.
    let bucket = memory();
    put(&bucket, &directory.clone().join(ATTESTATION), b"{}");
    let error = publish(&bucket, &pack).unwrap_err();
    assert!(matches!(&error, PushError::InTheWay { path, .. } if path == ATTESTATION), "{error}");
    assert!(wait(bucket.store().get(&directory.join(MANIFEST_NAME))).is_err());
}
