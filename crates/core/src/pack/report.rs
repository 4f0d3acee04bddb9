use serde::{Deserialize, Serialize};

use super::finding::{Finding, Severity};
use super::manifest::Manifest;
use super::verify::Checks;
use crate::canon::Digest;
use crate::model::tagged::string_enum;
use crate::model::{Lane, NamespaceId, ProviderId, RunId, ScenarioId, TenantId, Timestamp};

/// Findings kept in one report; further ones are counted.
pub const FINDINGS_MAX: usize = 1_000;

/// The report of the v1 wire: what `verifier_report.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct WireReport {
    pub checked_files: u64,
    pub errors: Vec<String>,
    pub status: WireStatus,
}

string_enum! {
    /// The two outcomes of the v1 wire.
    pub enum WireStatus {
        /// No errors.
        Pass = "pass",
        /// Errors.
        Fail = "fail",
    }
}

/// What a verification comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The pack agrees with itself. Nothing outside it was asked, so it may
    /// still have been replaced whole.
    Consistent,
    /// The pack agrees with itself, and has the digest that was expected.
    Pinned,
    /// The pack agrees with itself, and keys that are trusted have signed it,
    /// as many as are required.
    Signed,
    /// The pack is refused.
    Refused,
    /// Something could not be looked at.
    CouldNotTell,
}

impl Verdict {
    /// Whether the answer is yes.
    pub fn passed(self) -> bool {
        matches!(self, Self::Consistent | Self::Pinned | Self::Signed)
    }
}

/// What a run was decided by, as far as its pack shows. A v1 pack records none
/// of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Least lanes that explain the whole run.
    pub min_lanes: Vec<Lane>,
    /// Providers whose lane was stricter than the least.
    pub stricter_providers: Vec<ProviderId>,
    /// Logics that explain the whole run: `kleene`, `bochvar`.
    pub logics: Vec<String>,
    /// Disclosures that a policy or a dispatcher refused.
    pub disclosures_refused: u64,
    /// Whether lanes, logic and policy were taken from a signature that counts,
    /// and not inferred.
    pub attested: bool,
}

/// A trusted key whose signature counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signer {
    /// What the trust policy calls the key.
    pub key: String,
    /// Whose it is, if the policy says it.
    pub name: Option<String>,
    /// The digest of the key.
    pub key_digest: Digest,
}

/// A signature beside a pack, or handed in with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignatureSeen {
    /// The attestation it is in.
    pub attestation: String,
    /// What it calls its key, which nothing covers.
    pub keyid: String,
    /// The trusted key it is, or claims to be, if that is known.
    pub key: Option<String>,
    /// What it is worth.
    pub standing: SignatureStanding,
}

/// What a signature is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureStanding {
    /// It counts.
    Counts,
    /// Nobody was named who could be trusted.
    NotChecked,
    /// No trusted key made it.
    UnknownKey,
    /// It is not what it claims to be.
    Invalid,
    /// A trusted key's, and not at that time.
    OutOfTime,
    /// A trusted key's, that may not sign this.
    WithoutSay,
    /// A trusted key's, on a statement that does not count: about another
    /// pack, of another kind, or contradicting this one.
    NotOfThis,
}

/// Evidence of providers that the trust policy has rules for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EvidenceSigned {
    /// Signed as the answer to its question, by a key that counts.
    pub bound: u64,
    /// Signed as a value, by a key that counts, where that is enough.
    pub value_only: u64,
    /// Without a signature that counts.
    pub unconfirmed: u64,
}

/// Digests that nothing in the pack can confirm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unverifiable {
    /// What they cover.
    pub what: String,
    /// How many there are.
    pub count: u64,
}

/// The answer about one pack. It holds no time and no path of this machine, so
/// the same pack gives the same report everywhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What it comes to.
    pub verdict: Verdict,
    /// How deep the pack was looked into.
    pub checks: Checks,
    /// Listed files that could be read, whether or not their digests match.
    pub checked_files: u64,
    /// What the manifest says the pack is; nothing of it is proven by being here.
    pub subject: Option<Subject>,
    /// The digest of the manifest's bytes: the one number to compare by eye or pin.
    pub pack_digest: Option<Digest>,
    /// What explains the run; only known after replay.
    pub settings: Option<Settings>,
    /// Trusted keys whose signatures count, each once, in the policy's order.
    pub signed_by: Vec<Signer>,
    /// All signatures that were seen, in the order of attestations.
    pub signatures: Vec<SignatureSeen>,
    /// Signatures of evidence, if the trust policy asks for them and the logs
    /// were followed.
    pub evidence_signed: Option<EvidenceSigned>,
    /// What could not be confirmed, and is no fault.
    pub unverifiable: Vec<Unverifiable>,
    /// What was found, in the order of looking.
    pub findings: Vec<Finding>,
    /// Findings beyond [`FINDINGS_MAX`].
    pub findings_left_out: u64,
}

/// Whose run a manifest says it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the members are the manifest's")]
pub struct Subject {
    pub generated_at: Timestamp,
    pub manifest_version: String,
    pub namespace_id: NamespaceId,
    pub root_hash: Digest,
    pub run_id: RunId,
    pub scenario_id: ScenarioId,
    pub spec_hash: Digest,
    pub tenant_id: TenantId,
}

impl Subject {
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self {
            manifest_version: manifest.manifest_version.clone(),
            tenant_id: manifest.tenant_id,
            namespace_id: manifest.namespace_id,
            scenario_id: manifest.scenario_id.clone(),
            run_id: manifest.run_id.clone(),
            generated_at: manifest.generated_at,
            spec_hash: manifest.spec_hash,
            root_hash: manifest.integrity.root_hash,
        }
    }
}

impl Report {
    /// The three members every v1 client knows. What could not be checked is a
    /// fail there: the wire has no third word.
    pub fn wire(&self) -> WireReport {
        let status = if self.verdict.passed() { WireStatus::Pass } else { WireStatus::Fail };
        let errors = self.findings.iter().filter(|finding| finding.severity != Severity::Warning);
        WireReport {
            status,
            checked_files: self.checked_files,
            errors: errors.map(|finding| finding.message.clone()).collect(),
        }
    }
}

/// The machine-readable report: the wire's three members, and ours.
#[derive(Serialize)]
struct ReportWire<'a> {
    #[serde(flatten)]
    wire: WireReport,
    verdict: Verdict,
    checks: Checks,
    pack_digest: Option<Digest>,
    subject: Option<&'a Subject>,
    settings: Option<&'a Settings>,
    signed_by: &'a [Signer],
    signatures: &'a [SignatureSeen],
    evidence_signed: Option<EvidenceSigned>,
    unverifiable: &'a [Unverifiable],
    findings: &'a [Finding],
    findings_left_out: u64,
}

impl Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ReportWire {
            wire: self.wire(),
            verdict: self.verdict,
            checks: self.checks,
            pack_digest: self.pack_digest,
            subject: self.subject.as_ref(),
            settings: self.settings.as_ref(),
            signed_by: &self.signed_by,
            signatures: &self.signatures,
            evidence_signed: self.evidence_signed,
            unverifiable: &self.unverifiable,
            findings: &self.findings,
            findings_left_out: self.findings_left_out,
        }
        .serialize(serializer)
    }
}
