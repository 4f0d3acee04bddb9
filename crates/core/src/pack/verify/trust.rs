//! Who says so: the attestations of a pack, and the signatures on them.
//!
//! An attestation beside the manifest is always read, since nothing else covers
//! it; whose signature counts is asked only of a trust policy. A signature that
//! counts is one of a trusted key, in its time and in its say, on a statement
//! about this very manifest.

use super::{Check, read_all};
use crate::canon::Digest;
use crate::pack::attestation::{AttestedSettings, Claim, Statement};
use crate::pack::finding::{Code, Finding};
use crate::pack::layout::ATTESTATIONS_MAX;
use crate::pack::manifest::Manifest;
use crate::pack::report::{SignatureSeen, SignatureStanding, Signer};
use crate::pack::source::ReadFault;
use crate::trust::{ENVELOPE_BYTES_MAX, Envelope, Refused, Signed, Standing, TrustedKey};

impl<'a> Check<'a> {
    /// Reads the attestations that are stored, by name, and those handed in.
    pub(super) fn trust(&mut self, stored: &[String], manifest: &Manifest, pack_digest: Digest) {
        let trust = self.options.expect.trust.as_ref();
        if stored.len() > ATTESTATIONS_MAX {
            let message = format!("there are more than {ATTESTATIONS_MAX} attestations");
            self.found.add(Finding::new(Code::TooMany, "", message).differs(ATTESTATIONS_MAX, stored.len()));
        }
        let mut signers = Vec::new();
        for path in stored.iter().take(ATTESTATIONS_MAX) {
            match read_all(self.reader, path, ENVELOPE_BYTES_MAX) {
                Ok(bytes) => self.attestation(path, &bytes, manifest, pack_digest, &mut signers),
                Err(fault) => self.unread(path, &fault),
            }
        }
        for attached in trust.iter().flat_map(|trust| &trust.attached) {
            if attached.bytes.len() as u64 > ENVELOPE_BYTES_MAX {
                self.unread(&attached.name, &ReadFault::TooLarge { limit: ENVELOPE_BYTES_MAX });
            } else {
                self.attestation(&attached.name, &attached.bytes, manifest, pack_digest, &mut signers);
            }
        }
        let Some(trust) = trust else { return };
        if self.signatures.is_empty() && trust.policy.requires_signatures() {
            let message = "the pack is not signed, and signatures are required";
            self.found.add(Finding::new(Code::SignatureAbsent, "", message));
        } else if let Err((what, needed, have)) = trust.policy.enough(&signers) {
            let message = format!("signatures of {needed} {what} are required, and {have} count");
            self.found.add(Finding::new(Code::SignaturesTooFew, "", message).differs(needed, have));
        }
        let counts = |key: &&TrustedKey| signers.iter().any(|signer| signer.id == key.id);
        let signer = |key: &TrustedKey| Signer { key: key.id.clone(), name: key.name.clone(), key_digest: key.digest };
        self.signed_by = trust.policy.keys.iter().filter(counts).map(signer).collect();
    }

    fn unread(&mut self, path: &str, fault: &ReadFault) {
        let code = match fault {
            ReadFault::NotAFile(_) | ReadFault::HardLink { .. } => Code::NotAFile,
            ReadFault::TooLarge { .. } => Code::AttestationMalformed,
            ReadFault::NotFound | ReadFault::Io(_) | ReadFault::TooMany { .. } => Code::ReadFailed,
            ReadFault::UnsafePath(_) => Code::UnsafePath,
            ReadFault::Archive { .. } => Code::ArchiveMalformed,
        };
        self.found.add(Finding::new(code, path, format!("attestation {path}: {fault}")));
    }

    fn attestation(
        &mut self,
        path: &str,
        bytes: &[u8],
        manifest: &Manifest,
        pack_digest: Digest,
        signers: &mut Vec<&'a TrustedKey>,
    ) {
        let envelope = match Envelope::parse(bytes) {
            Ok(envelope) => envelope,
            Err(fault) => {
                let message = format!("{path} is not a signed envelope: {fault}");
                self.found.add(Finding::new(Code::AttestationMalformed, path, message));
                return;
            }
        };
        // What it says is judged before who says it, but told of both: bytes
        // that were changed are no statement, and their signature is invalid.
        let statement = match Statement::parse(&envelope.payload_type, &envelope.payload) {
            Ok(statement) => Some(statement),
            Err(fault) => {
                let message = format!("{path} does not hold a statement about a pack: {fault}");
                self.found.add(Finding::new(Code::AttestationMalformed, path, message).at("/payload"));
                None
            }
        };
        let of_this = statement.as_ref().and_then(|statement| self.statement(path, statement, manifest, pack_digest));
        let mut counted = false;
        let signed = envelope.signed();
        for (index, signature) in envelope.signatures.iter().enumerate() {
            let at = format!("/signatures/{index}");
            let (key, standing) = self.signature(path, &at, &signed, signature, manifest, of_this.is_some(), signers);
            counted |= standing == SignatureStanding::Counts;
            let keyid = signature.keyid.chars().take(200).collect();
            let key = key.map(|key| key.id.clone());
            self.signatures.push(SignatureSeen { attestation: path.to_owned(), keyid, key, standing });
        }
        if let Some(Some(settings)) = of_this
            && counted
        {
            self.learn(path, settings);
        }
    }

    /// Whether a statement is about this pack and agrees with it; then what it
    /// says of settings.
    fn statement(
        &mut self,
        path: &str,
        statement: &Statement,
        manifest: &Manifest,
        pack_digest: Digest,
    ) -> Option<Option<AttestedSettings>> {
        if statement.pack_digest != pack_digest {
            let message = format!("{path} speaks of another pack");
            let finding = Finding::new(Code::AttestationElsewhere, path, message).at("/payload/subject/0/digest");
            self.found.add(finding.differs(pack_digest, statement.pack_digest));
            return None;
        }
        match &statement.claim {
            Claim::Other(kind) => {
                let message =
                    format!("{path} is a statement of the kind `{kind}`, which does not say whose run this is");
                self.found.add(Finding::new(Code::StatementForeign, path, message).at("/payload/predicateType"));
                None
            }
            Claim::Run(predicate) => match predicate.contradicts(manifest) {
                Some((member, expected, found)) => {
                    let message = format!("{path} says another {member} than the manifest");
                    let finding = Finding::new(Code::AttestationContradicts, path, message);
                    self.found.add(finding.at(format!("/payload/predicate/{member}")).differs(expected, found));
                    None
                }
                None => Some(predicate.settings.clone()),
            },
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one signature and all it is judged by")]
    fn signature(
        &mut self,
        path: &str,
        at: &str,
        signed: &[u8],
        signature: &crate::trust::Signature,
        manifest: &Manifest,
        of_this: bool,
        signers: &mut Vec<&'a TrustedKey>,
    ) -> (Option<&'a TrustedKey>, SignatureStanding) {
        let Some(trust) = self.options.expect.trust.as_ref() else { return (None, SignatureStanding::NotChecked) };
        let about = Signed {
            tenant: manifest.tenant_id,
            namespace: manifest.namespace_id,
            scenario: &manifest.scenario_id,
            at: trust.at,
        };
        let (code, key, standing, message) = match trust.policy.standing(signed, signature, &about) {
            Standing::Counts(key, ()) if of_this => {
                signers.push(key);
                return (Some(key), SignatureStanding::Counts);
            }
            Standing::Counts(key, ()) => return (Some(key), SignatureStanding::NotOfThis),
            Standing::Invalid(key) => {
                let message = format!("the signature in {path} is not that of the trusted key {}", key.id);
                (Code::SignatureInvalid, Some(key), SignatureStanding::Invalid, message)
            }
            Standing::Unknown => {
                let message = format!("a signature in {path} is by no trusted key");
                (Code::SignerUnknown, None, SignatureStanding::UnknownKey, message)
            }
            Standing::Refused(key, refused) => {
                let (code, standing) = match refused {
                    Refused::Time(_) => (Code::KeyOutOfTime, SignatureStanding::OutOfTime),
                    Refused::Say(_) | Refused::Weak => (Code::KeyWithoutSay, SignatureStanding::WithoutSay),
                };
                (code, Some(key), standing, format!("the signature of {} in {path} does not count: {refused}", key.id))
            }
        };
        self.found.add(Finding::new(code, path, message).at(at));
        (key, standing)
    }

    /// Two signers who were there say the same of it.
    fn learn(&mut self, path: &str, settings: AttestedSettings) {
        match &self.attested {
            Some(known) if *known != settings => {
                let message = format!("{path} says other settings than an attestation before it");
                let finding = Finding::new(Code::AttestationContradicts, path, message);
                self.found.add(finding.at("/payload/predicate/settings"));
            }
            Some(_) => {}
            None => {
                if self.options.expect.min_lane > Some(settings.min_lane) {
                    let message = format!("the run was decided with the least lane {}", settings.min_lane);
                    let finding = Finding::new(Code::NotAsExpected, path, message);
                    let expected = self.options.expect.min_lane.map_or("null".to_owned(), |lane| lane.to_string());
                    self.found
                        .add(finding.at("/payload/predicate/settings/min_lane").differs(expected, settings.min_lane));
                }
                self.attested = Some(settings);
            }
        }
    }
}
