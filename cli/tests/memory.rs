//! A file of a gigabyte goes to a bucket and is verified there in a hundred
//! mebibytes. Only with `RUNPACK_DEEP=1`.

#![cfg(all(target_os = "linux", feature = "s3"))]
#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

#[path = "../../testdata/inputs.rs"]
mod inputs;
#[path = "../../testdata/peak.rs"]
mod peak;
#[path = "common/s3.rs"]
mod s3;

use std::fs;
use std::io::{self, Read};
use std::process::{Command, Stdio};

use peak::peak;
use runpack_core::canon::{Digest, Hasher, to_vec};
use runpack_core::pack::layout::MANIFEST_NAME;
use runpack_core::pack::{FileHash, Listed, PackReader, ReadFault};
use runpack_storage::packs::DirectoryReader;
use runpack_storage::packs::object::{Bucket, Key, Patience, PublishOptions, publish_at};
use s3::S3;
use serde_json::Value;

const BIG: &str = "artifacts/tool_calls.json";
const BYTES: u64 = 1 << 30;
const RSS_KIB_MAX: u64 = 100 * 1024;

/// A gigabyte that differs everywhere.
struct Endless {
    at: u64,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(usize::try_from(BYTES - self.at).unwrap());
        for chunk in buffer[..count].chunks_mut(64) {
            let word = (self.at / 64).to_le_bytes();
            chunk.iter_mut().zip(word.iter().cycle()).for_each(|(byte, word)| *byte = *word);
            self.at += chunk.len() as u64;
        }
        Ok(count)
    }
}

/// A good pack with one artifact in place of another: only its digests hold.
struct Swollen {
    pack: DirectoryReader,
    manifest: Vec<u8>,
}

impl Swollen {
    fn new(digest: Digest) -> Self {
        let from = inputs::testdata("packs/good/rich");
        let mut manifest: Value = serde_json::from_slice(&fs::read(from.join(MANIFEST_NAME)).unwrap()).unwrap();
        let digest = serde_json::to_value(digest).unwrap();
        let lists = [("/artifacts", "path"), ("/integrity/file_hashes", "path")];
        for (list, name) in lists {
            let list = manifest.pointer_mut(list).unwrap().as_array_mut().unwrap();
            list.iter_mut().find(|entry| entry[name] == BIG).unwrap()["hash"] = digest.clone();
        }
        let files: Vec<FileHash> = serde_json::from_value(manifest["integrity"]["file_hashes"].clone()).unwrap();
        manifest["integrity"]["root_hash"] = serde_json::to_value(Digest::of_canonical(&files).unwrap()).unwrap();
        Self { pack: DirectoryReader::open(&from).unwrap(), manifest: to_vec(&manifest).unwrap() }
    }
}

impl PackReader for Swollen {
    fn list(&self) -> Result<Vec<Listed>, ReadFault> {
        self.pack.list()
    }

    fn open(&self, path: &str, bytes_max: u64) -> Result<Box<dyn Read + '_>, ReadFault> {
        match path {
            BIG => Ok(Box::new(Endless { at: 0 })),
            MANIFEST_NAME => Ok(Box::new(&self.manifest[..])),
            path => self.pack.open(path, bytes_max),
        }
    }
}

/// The part of the test that runs in a process of its own.
fn push_to(port: &str) {
    let store = s3::client(&format!("http://127.0.0.1:{port}"), s3::KEY_ID, s3::SECRET);
    let bucket = Bucket::new(store, "s3://packs", &Key::default(), Patience::default());
    let mut hasher = Hasher::default();
    io::copy(&mut Endless { at: 0 }, &mut Hashing(&mut hasher)).unwrap();
    let pack = Swollen::new(hasher.finish());
    publish_at(&bucket, &Key::parse("big").unwrap(), &pack, MANIFEST_NAME, &PublishOptions::default()).unwrap();
}

struct Hashing<'a>(&'a mut Hasher);

impl io::Write for Hashing<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.update(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_gigabyte_goes_through_a_hundred_mebibytes() {
    if let Ok(port) = std::env::var("RUNPACK_MEMORY_OF") {
        return push_to(&port);
    }
    if std::env::var_os("RUNPACK_DEEP").is_none() {
        return;
    }
    let s3 = S3::start();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "a_gigabyte_goes_through_a_hundred_mebibytes", "--quiet"]).stdout(Stdio::null());
    let pushed = peak(child.env("RUNPACK_MEMORY_OF", s3.port.to_string()).spawn().unwrap());
    assert_eq!(fs::metadata(s3.object("s3://packs/big").join(BIG)).unwrap().len(), BYTES);
    let args = ["verify", "s3://packs/big", "--checks", "digests", "--max-artifact-bytes", "4GiB"];
    let verified = peak(s3.command(&args).stdout(Stdio::null()).spawn().unwrap());
    println!("most memory: pushing {pushed} KiB, verifying {verified} KiB");
    assert!(pushed < RSS_KIB_MAX && verified < RSS_KIB_MAX, "pushing {pushed} KiB, verifying {verified} KiB");
}
