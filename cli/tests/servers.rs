//! What is asked of a store, asked of several.
//!
//! One suite, over memory, a synced directory and the S3 server of this process
//! on every run; over moto and azurite where `just servers` has started them.
//! Where a server does otherwise, that is named, and checked to be still so.
//! s3rver overwrites where it was told not to: it must be found out.

#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used, reason = "a test reads its own data")]
#![allow(clippy::result_large_err, reason = "errors are what is looked at")]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;
#[path = "common/s3.rs"]
mod s3;

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use common::{build_pack, text};
use futures_util::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{Error, GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};
use runpack_core::pack::layout::MANIFEST_NAME;
use runpack_core::pack::{PackReader, Verdict, VerifyOptions, verify};
use runpack_storage::packs::DirectoryReader;
use runpack_storage::packs::object::{
    Bucket, Collected, Key, ObjectReader, OnExisting, Patience, PublishOptions, PushError, Pushed, collect, orphans,
    packs, publish,
};
use s3::{S3, runtime};

/// Where a server does otherwise than the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deviation {
    /// Deleting what is not there is an error.
    DeleteOfNothingFails,
    /// A read under the condition that an object is unchanged is not conditional.
    IgnoresIfMatch,
    /// A key holds no `%` or other signs that file names escape.
    PlainKeysOnly,
}

use Deviation::*;

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

/// What the writer and the reader of packs rely on.
fn suite(name: &str, store: &Arc<dyn ObjectStore>, deviations: &[Deviation]) {
    requests(name, store, deviations);
    let patience = Patience {
        pause: Duration::from_millis(20),
        pause_max: Duration::from_millis(200),
        total: Duration::from_secs(5),
    };
    let bucket = Bucket::new(Arc::clone(store), "s3://packs", &key("audit"), patience);
    journeys(name, &bucket);
    races(name, &bucket);
}

fn requests(name: &str, store: &Arc<dyn ObjectStore>, deviations: &[Deviation]) {
    let otherwise = |deviation| deviations.contains(&deviation);
    runtime().block_on(async {
        let get = async |at: &str| store.get(&key(at)).await?.bytes().await;
        let put = async |at: &str, bytes: &'static [u8], mode: PutMode| {
            store.put_opts(&key(at), PutPayload::from_static(bytes), mode.into()).await
        };
        // A create is the first, or it is nothing.
        put("r/one", b"first", PutMode::Create).await.unwrap();
        let again = put("r/one", b"second", PutMode::Create).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{name}: {again:?}");
        assert_eq!(&get("r/one").await.unwrap()[..], b"first", "{name}");
        // An overwrite is the last.
        put("r/one", b"third", PutMode::Overwrite).await.unwrap();
        assert_eq!(&get("r/one").await.unwrap()[..], b"third", "{name}");
        // Nothing is nothing.
        assert!(matches!(get("r/none").await, Err(Error::NotFound { .. })), "{name}");
        assert!(matches!(store.head(&key("r/none")).await, Err(Error::NotFound { .. })), "{name}");
        put("r/empty", b"", PutMode::Create).await.unwrap();
        assert_eq!(store.head(&key("r/empty")).await.unwrap().size, 0, "{name}");
        // Ranges are what they say.
        put("r/range", b"0123456789", PutMode::Create).await.unwrap();
        assert_eq!(&store.get_range(&key("r/range"), 3..7).await.unwrap()[..], b"3456", "{name}");
        assert_eq!(&store.get_range(&key("r/range"), 9..10).await.unwrap()[..], b"9", "{name}");
        // An object that is another now is not read as the old one.
        let old = store.head(&key("r/range")).await.unwrap().e_tag;
        put("r/range", b"another thing", PutMode::Overwrite).await.unwrap();
        let options = GetOptions { if_match: old, ..GetOptions::default() };
        let read = store.get_opts(&key("r/range"), options).await;
        assert_eq!(read.is_ok(), otherwise(IgnoresIfMatch), "{name}: {read:?}");
        // A prefix is whole segments; a list is complete, and sizes are right.
        for at in ["l/a/x", "l/a/y/z", "l/ab/x", "l/b"] {
            put(at, b"123", PutMode::Create).await.unwrap();
        }
        let list = async |at: &str| {
            let mut listed: Vec<_> = store.list(Some(&key(at))).try_collect().await.unwrap();
            listed
                .sort_by(|left: &object_store::ObjectMeta, right| left.location.as_ref().cmp(right.location.as_ref()));
            listed.into_iter().map(|meta| (meta.location.to_string(), meta.size)).collect::<Vec<_>>()
        };
        assert_eq!(list("l/a").await, [("l/a/x".to_owned(), 3), ("l/a/y/z".to_owned(), 3)], "{name}");
        assert_eq!(list("l").await.len(), 4, "{name}");
        assert_eq!(list("l/none").await, [], "{name}");
        // More than one page of it.
        let many = futures_util::stream::iter((0..1100).map(Ok::<_, Error>));
        many.try_for_each_concurrent(16, |n| async move {
            let payload = PutPayload::from_static(b"x");
            store.put_opts(&key(&format!("many/{n:04}")), payload, PutMode::Create.into()).await.map(drop)
        })
        .await
        .unwrap();
        let listed = list("many").await;
        assert_eq!((listed.len(), listed[1099].0.as_str()), (1100, "many/1099"), "{name}");
        // Names are only names.
        let mut names = vec!["k/a b+c", "k/InternalError/SlowDown", "k/ü", "k/a=b&c"];
        names.extend((!otherwise(PlainKeysOnly)).then_some("k/100%"));
        for at in &names {
            put(at, b"n", PutMode::Create).await.unwrap();
            assert_eq!(&get(at).await.unwrap()[..], b"n", "{name}: {at}");
        }
        let mut expected: Vec<_> = names.iter().map(|at| ((*at).to_owned(), 1)).collect();
        expected.sort();
        assert_eq!(list("k").await, expected, "{name}");
        // What is deleted is gone; what is not there may be deleted, or not.
        for at in &names {
            store.delete(&key(at)).await.unwrap();
        }
        assert_eq!(list("k").await, [], "{name}");
        let deleted = store.delete(&key("r/none")).await;
        assert_eq!(deleted.is_err(), otherwise(DeleteOfNothingFails), "{name}: {deleted:?}");
        // Parts are there together, or not at all.
        let part = || PutPayload::from(vec![7; 5 * 1024 * 1024]);
        let mut upload = store.put_multipart(&key("m/whole")).await.unwrap();
        upload.put_part(part()).await.unwrap();
        upload.put_part(PutPayload::from_static(b"end")).await.unwrap();
        assert!(get("m/whole").await.is_err(), "{name}");
        upload.complete().await.unwrap();
        let whole = get("m/whole").await.unwrap();
        assert_eq!((whole.len(), &whole[whole.len() - 4..]), (5 * 1024 * 1024 + 3, &b"\x07end"[..]), "{name}");
        let mut upload = store.put_multipart(&key("m/aborted")).await.unwrap();
        upload.put_part(part()).await.unwrap();
        upload.abort().await.unwrap();
        assert!(matches!(get("m/aborted").await, Err(Error::NotFound { .. })), "{name}");
        // Of many that create at once, one does.
        let created = AtomicUsize::new(0);
        let racers = futures_util::stream::iter((0..32).map(Ok::<_, Error>));
        racers
            .try_for_each_concurrent(32, |n| {
                let created = &created;
                async move {
                    match store.put_opts(&key("race"), vec![n; 100].into(), PutMode::Create.into()).await {
                        Ok(_) => created.fetch_add(1, Ordering::SeqCst),
                        Err(Error::AlreadyExists { .. }) => 0,
                        Err(error) => return Err(error),
                    };
                    Ok(())
                }
            })
            .await
            .unwrap();
        assert_eq!(created.into_inner(), 1, "{name}");
    });
}

fn verdict(bucket: &Bucket, uri: &str) -> Verdict {
    let directory = key(uri.strip_prefix("s3://packs/").unwrap());
    verify(&ObjectReader::open(bucket, &directory).unwrap(), MANIFEST_NAME, &VerifyOptions::default()).verdict
}

/// A pack from its publication to its end.
fn journeys(name: &str, bucket: &Bucket) {
    let pack = DirectoryReader::open(&inputs::testdata("packs/good/rich")).unwrap();
    let publish = |options: &PublishOptions| publish(bucket, &key("audit"), &pack, MANIFEST_NAME, options);
    let receipt = publish(&PublishOptions::default()).unwrap();
    assert!(receipt.conditional && receipt.pushed == Pushed::New, "{name}");
    assert_eq!(verdict(bucket, &receipt.storage_uri), Verdict::Consistent, "{name}");
    assert_eq!(publish(&PublishOptions::default()).unwrap().pushed, Pushed::AlreadyThere, "{name}");
    let directory = key(receipt.storage_uri.strip_prefix("s3://packs/").unwrap());
    let there = ObjectReader::open(bucket, &directory).unwrap();
    for listed in pack.list().unwrap() {
        let read = |pack: &dyn PackReader| {
            let mut bytes = Vec::new();
            pack.open(&listed.path, 1 << 20).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert!(read(&pack) == read(&there), "{name}: {}", listed.path);
    }
    let found = packs(bucket, &key("audit")).unwrap();
    assert_eq!((found.len(), found[0].objects.len(), found[0].manifest), (1, 9, true), "{name}");
    // Without its manifest it is an orphan, which may be taken away.
    let late = SystemTime::now() + Duration::from_secs(3600);
    assert!(orphans(bucket, &key("audit"), Duration::ZERO, late).unwrap().is_empty(), "{name}");
}

/// Writers that know nothing of each other.
fn races(name: &str, bucket: &Bucket) {
    let dir = tempfile::tempdir().unwrap();
    let same = DirectoryReader::open(&inputs::testdata("packs/good/release-gate")).unwrap();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let push = || publish(bucket, &key("same"), &same, MANIFEST_NAME, &PublishOptions::default());
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(push)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for outcome in &outcomes {
        assert_eq!(verdict(bucket, &outcome.as_ref().unwrap().storage_uri), Verdict::Consistent, "{name}");
    }
    // Two packs of one run: one is there, whole, and the other is told.
    for tick in 1..=4 {
        build_pack(&dir.path().join(tick.to_string()), "raced", tick);
    }
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=4)
            .map(|tick| {
                let at = dir.path().join(tick.to_string());
                scope.spawn(move || {
                    let pack = DirectoryReader::open(&at).unwrap();
                    publish(bucket, &key("raced"), &pack, MANIFEST_NAME, &PublishOptions::default())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert!(won.len() <= 1, "{name}: {won:?}");
    for lost in lost {
        let error = lost.unwrap_err();
        assert!(matches!(error, PushError::Another { .. } | PushError::InTheWay { .. }), "{name}: {error}");
    }
    for pack in packs(bucket, &key("raced")).unwrap() {
        if pack.manifest {
            assert_eq!(verdict(bucket, &format!("s3://packs/{}", pack.directory)), Verdict::Consistent, "{name}");
        } else {
            // They were in each other's way: nobody's is there.
            assert!(won.is_empty(), "{name}");
            let late = SystemTime::now() + Duration::from_secs(3600);
            for orphan in orphans(bucket, &key("raced"), Duration::ZERO, late).unwrap() {
                assert_eq!(collect(bucket, &orphan).unwrap(), Collected::Removed, "{name}");
            }
        }
    }
    let last = DirectoryReader::open(&dir.path().join("4")).unwrap();
    let options = PublishOptions { on_existing: OnExisting::Snapshot, ..PublishOptions::default() };
    let receipt = publish(bucket, &key("raced"), &last, MANIFEST_NAME, &options).unwrap();
    assert_eq!(verdict(bucket, &receipt.storage_uri), Verdict::Consistent, "{name}");
}

#[test]
fn memory_does_what_is_asked() {
    suite("memory", &(Arc::new(InMemory::new()) as Arc<dyn ObjectStore>), &[]);
}

#[test]
fn a_synced_directory_does_what_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalFileSystem::new_with_prefix(dir.path()).unwrap().with_fsync(true);
    suite("directory", &(Arc::new(store) as Arc<dyn ObjectStore>), &[DeleteOfNothingFails]);
}

#[test]
fn the_server_of_this_process_does_what_is_asked() {
    let server = S3::start();
    let store = s3::client(&format!("http://127.0.0.1:{}", server.port), s3::KEY_ID, s3::SECRET);
    suite("s3s-fs", &store, &[IgnoresIfMatch]);
}

/// A server as `just servers` names it: its address, a key and a secret.
fn started(name: &str) -> Option<[String; 3]> {
    let found = inputs::server(name)?;
    let mut words = found.split(' ').map(str::to_owned);
    Some([(); 3].map(|()| words.next().unwrap_or_default()))
}

fn amazon_command([url, id, secret]: &[String; 3], args: &[&str]) -> (i32, String, String) {
    let mut command = s3::bare(args);
    command.args(["--store-option", &format!("endpoint={url}"), "--store-option", "allow_http=true"]);
    s3::told(command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret))
}

#[test]
fn moto_does_what_is_asked() {
    let Some(server) = started("moto") else { return };
    let [url, id, secret] = &server;
    suite("moto", &s3::client(url, id, secret), &[]);
    let pack = inputs::testdata("packs/good/rich");
    let (code, out, err) = amazon_command(&server, &["push", text(&pack), "s3://packs/cli"]);
    assert!(code == 0 && out.contains(": published"), "{out}{err}");
    let (code, out, _) = amazon_command(&server, &["verify", "--recursive", "s3://packs/cli"]);
    assert_eq!(code, 0, "{out}");
    let wrong = [url.clone(), id.clone(), "wrong".to_owned()];
    let (code, out, err) = amazon_command(&wrong, &["push", text(&pack), "s3://packs/cli"]);
    assert!(code == 2 && err.contains("the store answers 403"), "{out}{err}");
}

#[cfg(feature = "azure")]
#[test]
fn azurite_does_what_is_asked() {
    use object_store::azure::MicrosoftAzureBuilder;

    let Some([url, ..]) = started("azurite") else { return };
    s3::crypto_provider();
    let builder = MicrosoftAzureBuilder::new().with_container_name("packs").with_use_emulator(true);
    let store = builder.with_allow_http(true).build().unwrap();
    suite("azurite", &(Arc::new(store) as Arc<dyn ObjectStore>), &[DeleteOfNothingFails]);
    let told = |args: &[&str]| {
        let mut command = s3::bare(args);
        s3::told(command.args(["--store-option", "emulator=true"]).env("AZURITE_BLOB_STORAGE_URL", &url))
    };
    let pack = inputs::testdata("packs/good/rich");
    let (code, out, err) = told(&["push", text(&pack), "az://packs/cli"]);
    assert!(code == 0 && out.contains(": published"), "{out}{err}");
    let (code, out, err) = told(&["verify", "--recursive", "az://packs/cli"]);
    assert_eq!(code, 0, "{out}{err}");
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = told(&["mirror", "az://packs/cli", text(dir.path())]);
    assert!(code == 0 && out.starts_with("1 copied"), "{out}{err}");
}

#[test]
fn a_store_that_overwrites_is_found_out() {
    let Some(server) = started("s3rver") else { return };
    let pack = inputs::testdata("packs/good/rich");
    let push = |more: &[&str]| amazon_command(&server, &[&["push", text(&pack), "s3://packs/cli"], more].concat());
    let (code, out, err) = push(&[]);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("`s3://packs` ignores conditional creates") && err.contains("hint: "), "{err}");
    let (code, out, err) = push(&["--single-writer"]);
    assert!(code == 0 && out.contains(": published; the store ignores conditional creates\n"), "{out}{err}");
    let (code, out, err) = push(&["--single-writer"]);
    assert!(code == 0 && out.contains(": the same pack was there; the store ignores"), "{out}{err}");
    let (code, out, err) = amazon_command(&server, &["verify", "--recursive", "s3://packs/cli"]);
    assert_eq!(code, 0, "{out}{err}");
}
