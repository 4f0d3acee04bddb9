//! Answers whether a stored pack agrees with itself.
//!
//! The manifest is read first, then everything that is stored is compared with
//! what it names, then bytes, then records. Every finding is collected; none
//! stops the others unless there is nothing left to look at. A pack that could
//! not be read is neither passed nor refused.

mod bytes;
mod container;
mod records;

use serde::de::DeserializeOwned;

use super::finding::{Code, Finding, Severity};
use super::layout::{ARTIFACT_BYTES_MAX, ARTIFACTS, Content, Log, MANIFEST_BYTES_MAX};
use super::manifest::{MANIFEST_VERSION, Manifest};
use super::report::{FINDINGS_MAX, Report, Subject, Verdict, WireReport};
use super::source::{PackReader, ReadFault};
use crate::canon::Digest;
use crate::model::{
    DecisionRecord, GateEvalRecord, PacketRecord, ScenarioSpec, SubmissionRecord, ToolCallRecord, TriggerRecord,
};
use crate::read::{self, Profile, Refusal};

/// How a pack is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Bytes of one artifact.
    pub artifact_bytes_max: u64,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { artifact_bytes_max: ARTIFACT_BYTES_MAX }
    }
}

/// The answer, and the pack as far as it could be read.
#[derive(Debug)]
pub struct Verified {
    /// What was found.
    pub report: Report,
    /// The records, if every artifact could be read. Believe them as far as
    /// the report goes.
    pub pack: Option<Pack>,
}

/// The records of a pack.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each member is the artifact of that name")]
pub struct Pack {
    pub manifest: Manifest,
    pub scenario: ScenarioSpec,
    pub triggers: Vec<TriggerRecord>,
    pub gate_evals: Vec<GateEvalRecord>,
    pub decisions: Vec<DecisionRecord>,
    pub packets: Vec<PacketRecord>,
    pub submissions: Vec<SubmissionRecord>,
    pub tool_calls: Vec<ToolCallRecord>,
    pub report: Option<WireReport>,
}

/// Verifies the pack behind `reader`, whose manifest is called `manifest_name`.
pub fn verify(reader: &dyn PackReader, manifest_name: &str, options: &VerifyOptions) -> Verified {
    let manifest = bytes::read_all(reader, manifest_name, MANIFEST_BYTES_MAX);
    let mut check = Check::new(reader, options);
    match manifest {
        Ok(manifest) => check.run(&manifest, manifest_name),
        Err(fault) => {
            let (code, message) = match &fault {
                ReadFault::NotAFile(_) | ReadFault::HardLink { .. } => {
                    (Code::NotAFile, format!("the manifest is {fault}"))
                }
                ReadFault::UnsafePath(_) => (Code::UnsafePath, format!("manifest name: {fault}")),
                ReadFault::TooLarge { .. } => (Code::Malformed, format!("the manifest is {fault}")),
                ReadFault::NotFound | ReadFault::TooMany { .. } | ReadFault::Io(_) => {
                    (Code::ManifestUnavailable, format!("manifest {manifest_name}: {fault}"))
                }
            };
            check.add(Finding::new(code, manifest_name, message));
            check.answer(None, None, None)
        }
    }
}

/// Verifies a pack whose artifacts are stored and whose manifest is not yet.
pub fn verify_draft(
    reader: &dyn PackReader,
    manifest: &[u8],
    manifest_name: &str,
    options: &VerifyOptions,
) -> Verified {
    Check::new(reader, options).run(manifest, manifest_name)
}

struct Check<'a> {
    reader: &'a dyn PackReader,
    options: &'a VerifyOptions,
    checked_files: u64,
    findings: Vec<Finding>,
    left_out: u64,
    worst: Severity,
}

impl<'a> Check<'a> {
    fn new(reader: &'a dyn PackReader, options: &'a VerifyOptions) -> Self {
        Self { reader, options, checked_files: 0, findings: Vec::new(), left_out: 0, worst: Severity::Warning }
    }

    fn add(&mut self, finding: Finding) {
        self.worst = self.worst.max(finding.severity);
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.left_out += 1;
        }
    }

    fn answer(self, subject: Option<Subject>, pack_digest: Option<Digest>, pack: Option<Pack>) -> Verified {
        let verdict = match self.worst {
            Severity::Warning => Verdict::Consistent,
            Severity::CouldNotTell => Verdict::CouldNotTell,
            Severity::Error => Verdict::Refused,
        };
        let report = Report {
            verdict,
            checked_files: self.checked_files,
            subject,
            pack_digest,
            findings: self.findings,
            findings_left_out: self.left_out,
        };
        Verified { report, pack }
    }

    fn run(mut self, manifest_bytes: &[u8], manifest_name: &str) -> Verified {
        let pack_digest = Some(Digest::of(manifest_bytes));
        let Some(manifest) = self.manifest(manifest_bytes, manifest_name) else {
            return self.answer(None, pack_digest, None);
        };
        let subject = Some(Subject::of(&manifest));
        self.container(&manifest, manifest_name);
        let files = self.files(&manifest);
        let pack = self.parse(manifest, &files);
        if let Some(pack) = &pack {
            self.records(pack, manifest_name);
        }
        self.answer(subject, pack_digest, pack)
    }

    /// Reads the manifest; `None` if nothing more can be said.
    fn manifest(&mut self, bytes: &[u8], name: &str) -> Option<Manifest> {
        let tree = match read::value(bytes, Profile::Pack) {
            Ok(tree) => tree,
            Err(refusal) => {
                self.add(Finding::new(Code::Malformed, name, format!("invalid manifest: {refusal}")));
                return None;
            }
        };
        if let Some(version) = tree.get("manifest_version").and_then(|version| version.as_str())
            && version != MANIFEST_VERSION
        {
            let message = format!("unsupported manifest version: {version}");
            let finding = Finding::new(Code::UnsupportedVersion, name, message).at("/manifest_version");
            self.add(finding.differs(MANIFEST_VERSION, version));
            return None;
        }
        self.canonical(name, bytes);
        match read::recorded(bytes) {
            Ok(manifest) => Some(manifest),
            Err(refusal) => {
                self.malformed(name, &refusal);
                None
            }
        }
    }

    /// Turns the artifacts into records, once their bytes are judged.
    fn parse(&mut self, manifest: Manifest, files: &[Option<Vec<u8>>]) -> Option<Pack> {
        let bytes = |content| {
            let index = ARTIFACTS.iter().position(|artifact| artifact.content == content)?;
            Some((ARTIFACTS[index].path, files.get(index)?.as_deref()))
        };
        let scenario = self.records_of(bytes(Content::Scenario));
        let triggers = self.records_of(bytes(Content::Log(Log::Triggers)));
        let gate_evals = self.records_of(bytes(Content::Log(Log::GateEvals)));
        let decisions = self.records_of(bytes(Content::Log(Log::Decisions)));
        let packets = self.records_of(bytes(Content::Log(Log::Packets)));
        let submissions = self.records_of(bytes(Content::Log(Log::Submissions)));
        let tool_calls = self.records_of(bytes(Content::Log(Log::ToolCalls)));
        let report = self.records_of(bytes(Content::Report));
        Some(Pack {
            manifest,
            scenario: scenario?,
            triggers: triggers?,
            gate_evals: gate_evals?,
            decisions: decisions?,
            packets: packets?,
            submissions: submissions?,
            tool_calls: tool_calls?,
            report,
        })
    }

    fn records_of<T: DeserializeOwned>(&mut self, artifact: Option<(&'static str, Option<&[u8]>)>) -> Option<T> {
        let (path, bytes) = artifact?;
        match read::recorded(bytes?) {
            Ok(records) => Some(records),
            Err(refusal) => {
                self.malformed(path, &refusal);
                None
            }
        }
    }

    fn malformed(&mut self, artifact: &str, refusal: &Refusal) {
        let pointer = match refusal {
            Refusal::Shape { at, .. } | Refusal::UnknownMember { at } => at.as_str(),
            _ => "",
        };
        let finding = Finding::new(Code::Malformed, artifact, format!("{artifact}: {refusal}"));
        self.add(finding.at(pointer));
    }
}
