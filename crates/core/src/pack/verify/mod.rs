//! Answers whether a stored pack agrees with itself, and whether its decisions
//! come out again.
//!
//! The manifest is read first, then everything that is stored is compared with
//! what it names, then every file is read once: its bytes hashed, its form
//! checked, its records followed through the run in step with the other logs
//! and decided again. Every finding is collected; none stops the others unless
//! there is nothing left to look at. A pack that could not be read is neither
//! passed nor refused.

mod calls;
mod container;
mod fingerprints;
mod logs;
mod replay;
mod stream;
mod trust;

use std::io::{self, Read};
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::attestation::AttestedSettings;
use super::finding::{Code, Finding, Severity};
use super::layout::{ARTIFACT_BYTES_MAX, ARTIFACTS, Content, Log, MANIFEST_BYTES_MAX, REQUIRED};
use super::manifest::{FileHash, MANIFEST_VERSION, Manifest};
use super::report::{
    EvidenceSigned, FINDINGS_MAX, Report, Settings, SignatureSeen, Signer, Subject, Unverifiable, Verdict, WireReport,
    WireStatus,
};
use super::source::{PackReader, ReadFault};
use crate::canon::{self, Digest, Form, Hasher};
use crate::engine::{Policy, Scenario};
use crate::model::{AnchorPolicy, Lane, NamespaceId, RunId, ScenarioId, ScenarioSpec, TenantId};
use crate::read::{self, Profile};
use crate::trust::TrustPolicy;
use stream::Records;

/// How deep a pack is looked into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Checks {
    /// That every file is there and has its digest.
    Digests,
    /// Also form, records, and what records say of each other.
    All,
    /// Also that every decision comes out again.
    #[default]
    Replay,
}

/// What is known of a pack from elsewhere. Only this can show that a pack was
/// not replaced whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expectations {
    /// The root digest.
    pub root: Option<Digest>,
    /// The pack digest: of the manifest's bytes.
    pub digest: Option<Digest>,
    /// Whose run.
    pub tenant: Option<TenantId>,
    /// In which namespace.
    pub namespace: Option<NamespaceId>,
    /// Of which scenario.
    pub scenario: Option<ScenarioId>,
    /// Which run.
    pub run: Option<RunId>,
    /// The anchors that were asked for.
    pub anchor_policy: Option<AnchorPolicy>,
    /// The least lane that counted.
    pub min_lane: Option<Lane>,
    /// Who was asked about disclosures.
    pub policy: Option<Policy>,
    /// One of these scenarios, by digest; any if there are none.
    pub spec_hashes: Vec<Digest>,
    /// Whose signatures count.
    pub trust: Option<Trust>,
}

/// Whom to believe about a pack. What its policy requires besides signatures is
/// in [`Expectations`], where [`Expectations::trusting`] puts it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trust {
    /// Keys, and what they may sign.
    pub policy: Arc<TrustPolicy>,
    /// The time the question is asked for, in Unix milliseconds.
    pub at: Option<i64>,
    /// Attestations that do not lie beside the manifest.
    pub attached: Vec<Attached>,
}

/// An attestation from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// What findings call it.
    pub name: String,
    /// The envelope.
    pub bytes: Vec<u8>,
}

impl Expectations {
    /// Also what `trust` asks for. What was expected already is still asked for.
    #[must_use]
    pub fn trusting(mut self, trust: Trust) -> Self {
        let require = &trust.policy.require;
        self.min_lane = self.min_lane.max(require.min_lane);
        self.spec_hashes.clone_from(&require.spec_hashes);
        self.trust = Some(trust);
        self
    }

    /// Whether something names this very pack, so that no other could stand for it.
    fn pins(&self) -> bool {
        self.root.is_some() || self.digest.is_some()
    }
}

/// How a pack is verified.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifyOptions {
    /// Bytes of one artifact.
    pub artifact_bytes_max: u64,
    /// How deep.
    pub checks: Checks,
    /// What is known from elsewhere.
    pub expect: Expectations,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        let (checks, expect) = (Checks::default(), Expectations::default());
        Self { artifact_bytes_max: ARTIFACT_BYTES_MAX, checks, expect }
    }
}

/// Does `count` independent pieces of work, in any order and perhaps at the
/// same time: core has no threads, its callers may.
pub type Spread<'a> = &'a dyn Fn(usize, &(dyn Fn(usize) + Sync));

/// Does one piece of work after the other.
pub fn in_turn(count: usize, work: &(dyn Fn(usize) + Sync)) {
    (0..count).for_each(work);
}

/// Verifies the pack behind `reader`, whose manifest is called `manifest_name`.
pub fn verify(reader: &dyn PackReader, manifest_name: &str, options: &VerifyOptions) -> Report {
    verify_spread(reader, manifest_name, options, &in_turn)
}

/// As [`verify`]; files that nothing is read from but their digests may be
/// hashed at the same time. The report is the same.
pub fn verify_spread(
    reader: &dyn PackReader,
    manifest_name: &str,
    options: &VerifyOptions,
    spread: Spread<'_>,
) -> Report {
    let mut check = Check { spread, ..Check::new(reader, options) };
    match read_all(reader, manifest_name, MANIFEST_BYTES_MAX) {
        Ok(manifest) => check.run(&manifest, manifest_name),
        Err(fault) => {
            let (code, artifact, message) = match &fault {
                ReadFault::NotAFile(_) | ReadFault::HardLink { .. } => {
                    (Code::NotAFile, manifest_name, format!("the manifest is {fault}"))
                }
                ReadFault::UnsafePath(_) => (Code::UnsafePath, manifest_name, format!("manifest name: {fault}")),
                ReadFault::TooLarge { .. } => (Code::Malformed, manifest_name, format!("the manifest is {fault}")),
                ReadFault::Archive { .. } => (Code::ArchiveMalformed, "", fault.to_string()),
                ReadFault::NotFound | ReadFault::TooMany { .. } | ReadFault::Io(_) => {
                    (Code::ManifestUnavailable, manifest_name, format!("manifest {manifest_name}: {fault}"))
                }
            };
            check.found.add(Finding::new(code, artifact, message));
            check.answer(None, None)
        }
    }
}

/// Verifies a pack whose artifacts are stored and whose manifest is not yet.
pub fn verify_draft(reader: &dyn PackReader, manifest: &[u8], manifest_name: &str, options: &VerifyOptions) -> Report {
    Check::new(reader, options).run(manifest, manifest_name)
}

/// Findings under a cap.
#[derive(Default)]
struct Found {
    list: Vec<Finding>,
    left_out: u64,
    worst: Option<Severity>,
}

impl Found {
    fn add(&mut self, finding: Finding) {
        self.worst = self.worst.max(Some(finding.severity));
        if self.list.len() < FINDINGS_MAX {
            self.list.push(finding);
        } else {
            self.left_out += 1;
        }
    }

    /// Findings so far, those beyond the cap included.
    fn count(&self) -> u64 {
        self.list.len() as u64 + self.left_out
    }

    fn append(&mut self, other: Self) {
        self.left_out += other.left_out;
        self.worst = self.worst.max(other.worst);
        other.list.into_iter().for_each(|finding| self.add(finding));
    }
}

struct Check<'a> {
    reader: &'a dyn PackReader,
    options: &'a VerifyOptions,
    spread: Spread<'a>,
    checked_files: u64,
    found: Found,
    settings: Option<Settings>,
    signed_by: Vec<Signer>,
    signatures: Vec<SignatureSeen>,
    attested: Option<AttestedSettings>,
    evidence_signed: Option<EvidenceSigned>,
    unverifiable: Vec<Unverifiable>,
}

impl<'a> Check<'a> {
    fn new(reader: &'a dyn PackReader, options: &'a VerifyOptions) -> Self {
        let found = Found::default();
        Self {
            reader,
            options,
            spread: &in_turn,
            checked_files: 0,
            found,
            settings: None,
            signed_by: Vec::new(),
            signatures: Vec::new(),
            attested: None,
            evidence_signed: None,
            unverifiable: Vec::new(),
        }
    }

    fn answer(self, subject: Option<Subject>, pack_digest: Option<Digest>) -> Report {
        let verdict = match self.found.worst {
            Some(Severity::Error) => Verdict::Refused,
            Some(Severity::CouldNotTell) => Verdict::CouldNotTell,
            Some(Severity::Warning) | None if !self.signed_by.is_empty() => Verdict::Signed,
            Some(Severity::Warning) | None if self.options.expect.pins() => Verdict::Pinned,
            Some(Severity::Warning) | None => Verdict::Consistent,
        };
        Report {
            verdict,
            checks: self.options.checks,
            checked_files: self.checked_files,
            subject,
            pack_digest,
            settings: self.settings,
            signed_by: self.signed_by,
            signatures: self.signatures,
            evidence_signed: self.evidence_signed,
            unverifiable: self.unverifiable,
            findings: self.found.list,
            findings_left_out: self.found.left_out,
        }
    }

    fn run(mut self, manifest_bytes: &[u8], manifest_name: &str) -> Report {
        let pack_digest = Digest::of(manifest_bytes);
        if let Some(expected) = self.options.expect.digest {
            self.expected(manifest_name, "", "pack digest", &expected, &pack_digest);
        }
        let Some(manifest) = self.manifest(manifest_bytes, manifest_name) else {
            return self.answer(None, Some(pack_digest));
        };
        let subject = Subject::of(&manifest);
        self.pins(&manifest, manifest_name);
        let attestations = self.container(&manifest, manifest_name);
        self.trust(&attestations, &manifest, pack_digest);
        self.root(&manifest, manifest_name);
        if self.options.checks == Checks::Digests {
            self.digests(&manifest);
        } else {
            self.contents(&manifest, manifest_name);
        }
        self.answer(Some(subject), Some(pack_digest))
    }

    /// Reads the manifest; `None` if nothing more can be said.
    fn manifest(&mut self, bytes: &[u8], name: &str) -> Option<Manifest> {
        if let Some(manifest) = stream::written_again::<Manifest>(bytes)
            && manifest.manifest_version == MANIFEST_VERSION
        {
            self.form(name, bytes);
            return Some(manifest);
        }
        let tree = match read::value(bytes, Profile::Pack) {
            Ok(tree) => tree,
            Err(refusal) => {
                self.found.add(Finding::new(Code::Malformed, name, format!("invalid manifest: {refusal}")));
                return None;
            }
        };
        if let Some(version) = tree.get("manifest_version").and_then(|version| version.as_str())
            && version != MANIFEST_VERSION
        {
            let message = format!("unsupported manifest version: {version}");
            let finding = Finding::new(Code::UnsupportedVersion, name, message).at("/manifest_version");
            self.found.add(finding.differs(MANIFEST_VERSION, version));
            return None;
        }
        self.document(name, bytes)
    }

    fn pins(&mut self, manifest: &Manifest, name: &str) {
        let expect = &self.options.expect;
        if let Some(root) = expect.root {
            self.expected(name, "/integrity/root_hash", "root digest", &root, &manifest.integrity.root_hash);
        }
        if let Some(tenant) = expect.tenant {
            self.expected(name, "/tenant_id", "tenant", &tenant, &manifest.tenant_id);
        }
        if let Some(namespace) = expect.namespace {
            self.expected(name, "/namespace_id", "namespace", &namespace, &manifest.namespace_id);
        }
        if let Some(scenario) = &expect.scenario {
            self.expected(name, "/scenario_id", "scenario", scenario, &manifest.scenario_id);
        }
        if let Some(run) = &expect.run {
            self.expected(name, "/run_id", "run", run, &manifest.run_id);
        }
        if !expect.spec_hashes.is_empty() && !expect.spec_hashes.contains(&manifest.spec_hash) {
            let message = "the scenario is none of those that the trust policy names";
            let finding = Finding::new(Code::NotAsExpected, name, message).at("/spec_hash");
            let wanted: Vec<_> = expect.spec_hashes.iter().map(ToString::to_string).collect();
            self.found.add(finding.differs(wanted.join(" or "), manifest.spec_hash));
        }
        // One from the arguments and one from the trust policy: both must hold.
        let required = expect.trust.as_ref().and_then(|trust| trust.policy.require.anchor_policy.as_ref());
        for policy in expect.anchor_policy.iter().chain(required) {
            let found = manifest.anchor_policy.clone().unwrap_or_default();
            if *policy != found {
                let text = |policy| canon::to_vec(policy).map(|text| String::from_utf8_lossy(&text).into_owned());
                let message = "the anchor policy is not the expected one";
                let finding = Finding::new(Code::NotAsExpected, name, message).at("/anchor_policy");
                self.found.add(finding.differs(text(policy).unwrap_or_default(), text(&found).unwrap_or_default()));
            }
        }
    }

    fn expected<T: PartialEq + std::fmt::Display>(
        &mut self,
        name: &str,
        at: &str,
        what: &str,
        expected: &T,
        found: &T,
    ) {
        if expected != found {
            let message = format!("the {what} is not the expected one");
            let finding = Finding::new(Code::NotAsExpected, name, message).at(at);
            self.found.add(finding.differs(expected, found));
        }
    }

    fn root(&mut self, manifest: &Manifest, name: &str) {
        let found = manifest.integrity.root_hash;
        match Digest::of_canonical(&manifest.integrity.file_hashes) {
            Ok(root) if root == found => {}
            Ok(root) => {
                let finding = Finding::new(Code::RootMismatch, name, "root hash mismatch").at("/integrity/root_hash");
                self.found.add(finding.differs(root, found));
            }
            Err(error) => {
                let message = format!("failed to compute root hash: {error}");
                self.found.add(Finding::new(Code::RootMismatch, name, message));
            }
        }
    }

    /// Everything inside the artifacts.
    fn contents(&mut self, manifest: &Manifest, manifest_name: &str) {
        let max = self.options.artifact_bytes_max;
        let spec: Option<ScenarioSpec> = self.whole(manifest, path_of(Content::Scenario));
        let mut logs = logs::Logs {
            triggers: self.log(manifest, Log::Triggers, max),
            gate_evals: self.log(manifest, Log::GateEvals, max),
            decisions: self.log(manifest, Log::Decisions, max),
            packets: self.log(manifest, Log::Packets, max),
            submissions: self.log(manifest, Log::Submissions, max),
            calls: self.log(manifest, Log::ToolCalls, max),
        };
        let mut told = Found::default();
        let scenario = spec.and_then(|spec| self.scenario(manifest, manifest_name, spec, &mut told));
        if let Some(scenario) = &scenario {
            let mut walk = logs::Walk::new(manifest, scenario, self.options, self.attested.as_ref());
            walk.follow(&mut logs);
            let walked = walk.conclude(&mut told);
            self.settings = walked.settings;
            self.evidence_signed = walked.evidence_signed;
            self.unverifiable = walked.unverifiable;
        }
        self.close(manifest, logs.triggers, path_of(Content::Log(Log::Triggers)));
        self.close(manifest, logs.gate_evals, path_of(Content::Log(Log::GateEvals)));
        self.close(manifest, logs.decisions, path_of(Content::Log(Log::Decisions)));
        self.close(manifest, logs.packets, path_of(Content::Log(Log::Packets)));
        self.close(manifest, logs.submissions, path_of(Content::Log(Log::Submissions)));
        self.close(manifest, logs.calls, path_of(Content::Log(Log::ToolCalls)));
        self.enclosed_report(manifest);
        self.found.append(told);
    }

    fn scenario(
        &mut self,
        manifest: &Manifest,
        manifest_name: &str,
        spec: ScenarioSpec,
        told: &mut Found,
    ) -> Option<Scenario> {
        let path = path_of(Content::Scenario);
        let same = |at: &str, expected: String, found: String| {
            let message = format!("{path}{at} is `{found}`, the manifest says `{expected}`");
            let finding = Finding::new(Code::IdentityMismatch, path, message).at(at).differs(&expected, &found);
            (expected != found).then_some(finding)
        };
        let members = [
            same("/scenario_id", manifest.scenario_id.to_string(), spec.scenario_id.to_string()),
            same("/namespace_id", manifest.namespace_id.to_string(), spec.namespace_id.to_string()),
        ];
        members.into_iter().flatten().for_each(|finding| told.add(finding));
        // The file's digest, not a digest of what was parsed: older packs are
        // in another canonical form.
        if let Some(file) = listed(manifest, path)
            && file.hash != manifest.spec_hash
        {
            let finding = Finding::new(Code::SpecHashMismatch, manifest_name, "spec_hash is not the scenario's digest");
            told.add(finding.at("/spec_hash").differs(file.hash, manifest.spec_hash));
        }
        match Scenario::recorded(spec) {
            Ok(scenario) => Some(scenario),
            Err(fault) => {
                told.add(Finding::new(Code::ScenarioInvalid, path, format!("invalid scenario spec: {fault}")));
                None
            }
        }
    }

    /// The builder verified the seven artifacts before it; an honest one only
    /// ever encloses the report of a pass.
    fn enclosed_report(&mut self, manifest: &Manifest) {
        let path = path_of(Content::Report);
        if listed(manifest, path).is_none() {
            return;
        }
        let honest = WireReport { status: WireStatus::Pass, checked_files: REQUIRED as u64, errors: Vec::new() };
        if let Some(report) = self.whole::<WireReport>(manifest, path)
            && report != honest
        {
            let message = "the enclosed report is not that of a pass over the seven artifacts";
            self.found.add(Finding::new(Code::ReportContradicts, path, message));
        }
    }

    /// Opens a listed artifact for reading it once.
    fn open(&mut self, manifest: &Manifest, path: &'static str) -> Option<Box<dyn Read + 'a>> {
        listed(manifest, path)?;
        let reader = self.reader;
        match reader.open(path, self.options.artifact_bytes_max) {
            Ok(file) => Some(file),
            Err(fault) => {
                self.found.add(cannot_open(path, &fault));
                None
            }
        }
    }

    fn log<T: DeserializeOwned + Serialize>(&mut self, manifest: &Manifest, log: Log, max: u64) -> Records<'a, T> {
        let path = path_of(Content::Log(log));
        Records::new(path, self.open(manifest, path), max)
    }

    /// Reads what is left of a log and compares its digest.
    fn close<T: DeserializeOwned + Serialize>(&mut self, manifest: &Manifest, log: Records<'_, T>, path: &'static str) {
        let (digest, findings) = log.finish();
        if let Some(digest) = digest {
            self.checked_files += 1;
            self.digest(manifest, path, digest);
        }
        findings.into_iter().for_each(|finding| self.found.add(finding));
    }

    /// Reads an artifact that is one document.
    fn whole<T: DeserializeOwned + Serialize>(&mut self, manifest: &Manifest, path: &'static str) -> Option<T> {
        let mut bytes = Vec::new();
        if let Err(error) = self.open(manifest, path)?.read_to_end(&mut bytes) {
            self.found.add(stream::unreadable(path, &error, self.options.artifact_bytes_max));
            return None;
        }
        self.checked_files += 1;
        self.digest(manifest, path, Digest::of(&bytes));
        self.document(path, &bytes)
    }

    /// Judges the form of a document, and reads it.
    fn document<T: DeserializeOwned + Serialize>(&mut self, path: &str, bytes: &[u8]) -> Option<T> {
        self.form(path, bytes);
        match stream::written_again(bytes).map_or_else(|| stream::exact(bytes), Ok) {
            Ok(document) => Some(document),
            Err(refusal) => {
                self.found.add(stream::malformed(path, &refusal, ""));
                None
            }
        }
    }

    fn form(&mut self, path: &str, bytes: &[u8]) {
        match canon::check(bytes) {
            Ok(Form::Rfc8785) => {}
            Ok(Form::Legacy { offset }) => self.found.add(stream::legacy(path, offset)),
            Err(fault) => self.found.add(stream::not_canonical(path, fault)),
        }
    }

    fn digests(&mut self, manifest: &Manifest) {
        let listed: Vec<_> = ARTIFACTS.iter().filter(|artifact| listed(manifest, artifact.path).is_some()).collect();
        let answers: Vec<OnceLock<_>> = listed.iter().map(|_| OnceLock::new()).collect();
        let (reader, bytes_max) = (self.reader, self.options.artifact_bytes_max);
        (self.spread)(listed.len(), &|index| {
            // Each index comes once; a second answer would be the same.
            answers[index].get_or_init(|| digest_of(reader, listed[index].path, bytes_max));
        });
        for (artifact, answer) in listed.iter().zip(answers) {
            let path = artifact.path;
            match answer.into_inner().unwrap_or_else(|| digest_of(reader, path, bytes_max)) {
                Ok(digest) => {
                    self.checked_files += 1;
                    self.digest(manifest, path, digest);
                }
                Err(finding) => self.found.add(*finding),
            }
        }
    }

    fn digest(&mut self, manifest: &Manifest, path: &str, digest: Digest) {
        if let Some(entry) = listed(manifest, path)
            && entry.hash != digest
        {
            let finding = Finding::new(Code::DigestMismatch, path, format!("hash mismatch for {path}"));
            self.found.add(finding.differs(entry.hash, digest));
        }
    }
}

/// The digest of the file at `path`; the finding says why there is none.
fn digest_of(reader: &dyn PackReader, path: &'static str, bytes_max: u64) -> Result<Digest, Box<Finding>> {
    let mut file = reader.open(path, bytes_max).map_err(|fault| Box::new(cannot_open(path, &fault)))?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Box::new(stream::unreadable(path, &error, bytes_max))),
        }
    }
}

fn listed<'m>(manifest: &'m Manifest, path: &str) -> Option<&'m FileHash> {
    manifest.integrity.file_hashes.iter().find(|entry| entry.path == path)
}

fn path_of(content: Content) -> &'static str {
    ARTIFACTS.iter().find(|artifact| artifact.content == content).map_or("", |artifact| artifact.path)
}

fn cannot_open(path: &str, fault: &ReadFault) -> Finding {
    let code = match fault {
        ReadFault::NotFound => Code::FileMissing,
        ReadFault::UnsafePath(_) => Code::UnsafePath,
        ReadFault::NotAFile(_) | ReadFault::HardLink { .. } => Code::NotAFile,
        ReadFault::TooLarge { .. } => Code::TooLarge,
        ReadFault::TooMany { .. } => Code::TooMany,
        ReadFault::Archive { .. } => Code::ArchiveMalformed,
        ReadFault::Io(_) => Code::ReadFailed,
    };
    let hint = match fault {
        ReadFault::TooLarge { .. } => {
            "; raise the limit with --max-artifact-bytes (a service: max_artifact_bytes under [runpack])"
        }
        ReadFault::HardLink { .. } => "; pass --allow-hard-links if a snapshot tool made them",
        _ => "",
    };
    Finding::new(code, path, format!("artifact read failed for {path}: {fault}{hint}"))
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
