//! Is everything there that the manifest names, and nothing else?

use std::collections::BTreeSet;

use super::Check;
use crate::pack::finding::{Code, Finding};
use crate::pack::layout::{ARTIFACTS, Artifact, REQUIRED, is_attestation};
use crate::pack::manifest::{ArtifactRecord, FileHash, Manifest};
use crate::pack::source::{ListedKind, ReadFault};

impl Check<'_> {
    /// Answers which attestations lie beside the manifest, in order of name.
    pub(super) fn container(&mut self, manifest: &Manifest, manifest_name: &str) -> Vec<String> {
        self.digest_list(&manifest.integrity.file_hashes, manifest_name);
        self.index(manifest, manifest_name);
        self.closed_world(&manifest.integrity.file_hashes, manifest_name)
    }

    /// The digest list names the artifacts of the format, in its order.
    fn digest_list(&mut self, listed: &[FileHash], manifest_name: &str) {
        let mut seen = BTreeSet::new();
        for (position, entry) in listed.iter().enumerate() {
            let at = || format!("/integrity/file_hashes/{position}/path");
            let path = &entry.path;
            let code = if !seen.insert(path) {
                Code::DuplicatePath
            } else if let Some(problem) = unsafe_path(path) {
                self.found.add(
                    Finding::new(Code::UnsafePath, manifest_name, format!("unsafe path `{path}`: {problem}")).at(at()),
                );
                continue;
            } else if artifact(path).is_none() {
                Code::ArtifactUnknown
            } else {
                continue;
            };
            self.found.add(Finding::new(code, manifest_name, format!("{}: `{path}`", code.title())).at(at()));
        }
        for artifact in &ARTIFACTS[..REQUIRED] {
            if !seen.iter().any(|path| *path == artifact.path) {
                let message = format!("required artifact `{}` is not listed", artifact.path);
                let finding = Finding::new(Code::ArtifactMissing, manifest_name, message);
                self.found.add(finding.at("/integrity/file_hashes"));
            }
        }
        let order: Vec<_> = listed.iter().filter_map(|entry| position(&entry.path)).collect();
        if !order.is_sorted() {
            let message = "file_hashes are not in the order of the format";
            let finding = Finding::new(Code::IndexMismatch, manifest_name, message);
            self.found.add(finding.at("/integrity/file_hashes"));
        }
    }

    /// The artifact index says the same as the digest list, in the same order.
    fn index(&mut self, manifest: &Manifest, manifest_name: &str) {
        let (index, listed) = (&manifest.artifacts, &manifest.integrity.file_hashes);
        if index.len() != listed.len() {
            let message = "artifacts and file_hashes have different lengths";
            let finding = Finding::new(Code::IndexMismatch, manifest_name, message).at("/artifacts");
            self.found.add(finding.differs(listed.len(), index.len()));
        }
        for (position, (record, entry)) in index.iter().zip(listed).enumerate() {
            let Some(artifact) = artifact(&entry.path) else { continue };
            let wanted = ArtifactRecord::of(artifact, entry.hash);
            if wanted == *record {
                continue;
            }
            if let Some((member, expected, found)) = first_difference(&wanted, record) {
                let message = format!("artifacts[{position}].{member} disagrees with the format or with file_hashes");
                let finding = Finding::new(Code::IndexMismatch, manifest_name, message);
                self.found.add(finding.at(format!("/artifacts/{position}/{member}")).differs(expected, found));
            }
        }
    }

    /// What is stored is what is named, both ways; but for attestations, for
    /// which their signatures speak.
    fn closed_world(&mut self, listed: &[FileHash], manifest_name: &str) -> Vec<String> {
        let found = match self.reader.list() {
            Ok(found) => found,
            Err(fault) => {
                let code = match fault {
                    ReadFault::TooMany { .. } => Code::TooMany,
                    ReadFault::Archive { .. } => Code::ArchiveMalformed,
                    _ => Code::ReadFailed,
                };
                self.found.add(Finding::new(code, "", format!("the pack cannot be listed: {fault}")));
                return Vec::new();
            }
        };
        let mut found = found;
        found.sort_by(|left, right| left.path.cmp(&right.path));
        let mut attestations = Vec::new();
        for entry in &found {
            let named = entry.path == manifest_name || listed.iter().any(|listed| listed.path == entry.path);
            if let ListedKind::Special(kind) = entry.kind {
                let message = format!("`{}` is not an ordinary file: {kind}", entry.path);
                self.found.add(Finding::new(Code::NotAFile, &entry.path, message).differs("file", kind));
            } else if !named && is_attestation(&entry.path) {
                attestations.push(entry.path.clone());
            } else if !named {
                let message = format!("`{}` is in the pack and not in its manifest", entry.path);
                self.found.add(Finding::new(Code::FileUnlisted, &entry.path, message));
            }
        }
        attestations
    }
}

/// The artifact of the format stored at `path`.
fn artifact(path: &str) -> Option<&'static Artifact> {
    position(path).map(|position| &ARTIFACTS[position])
}

fn position(path: &str) -> Option<usize> {
    ARTIFACTS.iter().position(|artifact| artifact.path == path)
}

fn unsafe_path(path: &str) -> Option<&'static str> {
    let component = |wanted: &str| path.split('/').any(|component| component == wanted);
    if path.starts_with('/') {
        Some("absolute")
    } else if component("..") {
        Some("leaves the pack")
    } else if component(".") || component("") {
        Some("empty or `.` component")
    } else if path.contains(['\\', ':', '\0']) {
        Some("means something else on another machine")
    } else {
        None
    }
}

fn first_difference(wanted: &ArtifactRecord, found: &ArtifactRecord) -> Option<(&'static str, String, String)> {
    let text = |content_type: &Option<String>| content_type.clone().unwrap_or_else(|| "null".to_owned());
    let members = [
        ("path", wanted.path.clone(), found.path.clone()),
        ("hash", wanted.hash.to_string(), found.hash.to_string()),
        ("kind", wanted.kind.to_string(), found.kind.to_string()),
        ("artifact_id", wanted.artifact_id.clone(), found.artifact_id.clone()),
        ("content_type", text(&wanted.content_type), text(&found.content_type)),
        ("required", wanted.required.to_string(), found.required.to_string()),
    ];
    members.into_iter().find(|(_, wanted, found)| wanted != found)
}
