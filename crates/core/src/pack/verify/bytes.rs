//! Are the bytes the ones the manifest was written for?

use std::io::{self, Read};

use super::Check;
use crate::canon::{self, Digest, Form};
use crate::pack::finding::{Code, Finding};
use crate::pack::layout::{ARTIFACTS, Artifact};
use crate::pack::manifest::{FileHash, Manifest};
use crate::pack::source::{PackReader, ReadFault};

impl Check<'_> {
    /// Reads and digests every listed artifact of the format, in its order; the
    /// bytes come back for parsing.
    pub(super) fn files(&mut self, manifest: &Manifest) -> Vec<Option<Vec<u8>>> {
        let listed = &manifest.integrity.file_hashes;
        let files = ARTIFACTS
            .iter()
            .map(|artifact| {
                let entry = listed.iter().find(|entry| entry.path == artifact.path)?;
                self.file(artifact, entry)
            })
            .collect();
        match Digest::of_canonical(listed) {
            Ok(root) if root == manifest.integrity.root_hash => {}
            Ok(root) => {
                let finding = Finding::new(Code::RootMismatch, "", "root hash mismatch");
                self.add(finding.at("/integrity/root_hash").differs(root, manifest.integrity.root_hash));
            }
            Err(error) => {
                let message = format!("failed to compute root hash: {error}");
                self.add(Finding::new(Code::RootMismatch, "", message));
            }
        }
        files
    }

    fn file(&mut self, artifact: &Artifact, entry: &FileHash) -> Option<Vec<u8>> {
        let path = artifact.path;
        let bytes = match read_all(self.reader, path, self.options.artifact_bytes_max) {
            Ok(bytes) => bytes,
            Err(fault) => {
                let code = match &fault {
                    ReadFault::NotFound => Code::FileMissing,
                    ReadFault::UnsafePath(_) => Code::UnsafePath,
                    ReadFault::NotAFile(_) | ReadFault::HardLink { .. } => Code::NotAFile,
                    ReadFault::TooLarge { .. } => Code::TooLarge,
                    ReadFault::TooMany { .. } => Code::TooMany,
                    ReadFault::Io(_) => Code::ReadFailed,
                };
                let hint = match &fault {
                    ReadFault::TooLarge { .. } => "; raise the limit with --max-artifact-bytes",
                    ReadFault::HardLink { .. } => "; pass --allow-hard-links if a snapshot tool made them",
                    _ => "",
                };
                self.add(Finding::new(code, path, format!("artifact read failed for {path}: {fault}{hint}")));
                return None;
            }
        };
        self.checked_files += 1;
        let digest = Digest::of(&bytes);
        if digest != entry.hash {
            let finding = Finding::new(Code::DigestMismatch, path, format!("hash mismatch for {path}"));
            self.add(finding.differs(entry.hash, digest));
        }
        self.canonical(path, &bytes);
        Some(bytes)
    }

    /// Judges the form of a document.
    pub(super) fn canonical(&mut self, path: &str, bytes: &[u8]) {
        match canon::check(bytes) {
            Ok(Form::Rfc8785) => {}
            Ok(Form::Legacy { offset }) => {
                let message = format!(
                    "{path}: legacy canonical form at byte {offset}: members or integers are not in the order or form \
                     of RFC 8785"
                );
                self.add(Finding::new(Code::LegacyForm, path, message));
            }
            Err(fault) => {
                self.add(Finding::new(Code::NotCanonical, path, format!("{path} is not canonical JSON: {fault}")));
            }
        }
    }
}

/// Reads a whole file of at most `bytes_max` bytes.
pub(super) fn read_all(reader: &dyn PackReader, path: &str, bytes_max: u64) -> Result<Vec<u8>, ReadFault> {
    let mut file = reader.open(path, bytes_max)?;
    let mut bytes = Vec::new();
    match file.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(ReadFault::TooLarge { limit: bytes_max }),
        Err(error) => Err(ReadFault::Io(error)),
    }
}
