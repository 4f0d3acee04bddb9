//! Packs in memory.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use runpack_core::canon::{Digest, to_vec};
use runpack_core::pack::{Integrity, Listed, ListedKind, Manifest, PackReader, PackSink, ReadFault};
use runpack_core::read;

#[derive(Default, Clone)]
pub(crate) struct Memory(pub(crate) BTreeMap<String, Vec<u8>>);

impl PackSink for Memory {
    fn put(&mut self, path: &str, content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut bytes = Vec::new();
        content(&mut bytes)?;
        self.0.insert(path.to_owned(), bytes);
        Ok(())
    }
}

impl PackReader for Memory {
    fn list(&self) -> Result<Vec<Listed>, ReadFault> {
        Ok(self.0.keys().map(|path| Listed { path: path.clone(), kind: ListedKind::File }).collect())
    }

    fn open(&self, path: &str, bytes_max: u64) -> Result<Box<dyn Read + '_>, ReadFault> {
        let bytes = self.0.get(path).ok_or(ReadFault::NotFound)?;
        if bytes.len() as u64 > bytes_max {
            return Err(ReadFault::TooLarge { limit: bytes_max });
        }
        Ok(Box::new(bytes.as_slice()))
    }
}

impl Memory {
    /// The pack a forger makes who puts `bytes` in the place of one artifact
    /// and computes every digest of the manifest again.
    pub(crate) fn forged(&self, path: &str, bytes: Vec<u8>) -> Self {
        let mut manifest: Manifest = read::recorded(&self.0["manifest.json"]).unwrap();
        let hash = Digest::of(&bytes);
        let mut hashes = manifest.integrity.file_hashes;
        hashes.iter_mut().filter(|entry| entry.path == path).for_each(|entry| entry.hash = hash);
        manifest.artifacts.iter_mut().filter(|entry| entry.path == path).for_each(|entry| entry.hash = hash);
        manifest.integrity = Integrity::of(hashes).unwrap();
        if path == "artifacts/scenario_spec.json" {
            manifest.spec_hash = hash;
        }
        let mut forged = self.clone();
        forged.0.insert(path.to_owned(), bytes);
        forged.0.insert("manifest.json".to_owned(), to_vec(&manifest).unwrap());
        forged
    }
}
