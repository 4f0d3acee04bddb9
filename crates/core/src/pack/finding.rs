//! The catalogue of findings: what can be wrong with a pack.

use std::fmt;

use serde::{Serialize, Serializer};

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; the pack may still pass.
    Warning,
    /// Something could not be looked at, so nothing can be said.
    CouldNotTell,
    /// The pack is refused.
    Error,
}

macro_rules! catalogue {
    ($($(#[$group:meta])* $name:ident $code:literal $severity:ident $title:literal, $why:literal;)*) => {
        /// A kind of finding, with a code that never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code { $(#[doc = $title] $name,)* }

        impl Code {
            /// The whole catalogue, in code order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// `RP` and four digits.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// How much it weighs.
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// A few words.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// One sentence: why it matters.
            pub fn why(self) -> &'static str {
                match self { $(Self::$name => $why,)* }
            }
        }
    };
}

catalogue! {
    ManifestUnavailable "RP0101" CouldNotTell "the manifest cannot be read",
        "Without its manifest nothing says what the pack holds.";
    UnsupportedVersion "RP0102" Error "unsupported manifest version",
        "Rules of a version this program does not know cannot be checked, so such a pack is refused.";
    FileMissing "RP0103" Error "a listed file is missing",
        "A record the manifest promises is not there.";
    FileUnlisted "RP0104" Error "a file is not listed",
        "Nothing covers a file that the manifest does not name, so it could say anything.";
    NotAFile "RP0105" Error "not an ordinary file",
        "Links and special files can change or never end, so they are never opened.";
    UnsafePath "RP0106" Error "an unsafe path",
        "A path that could leave the pack, or that machines read differently, is never opened.";
    DuplicatePath "RP0107" Error "a path is listed twice",
        "Two entries for one file make the count and the digest ambiguous.";
    ArtifactMissing "RP0108" Error "a required artifact is not listed",
        "A v1 pack has seven artifacts; leaving one out leaves its records unproven.";
    ArtifactUnknown "RP0109" Error "an artifact the v1 format does not have",
        "What the format does not define cannot be checked.";
    IndexMismatch "RP0110" Error "artifact index and digest list disagree",
        "Two readers of the manifest would believe different things.";
    TooLarge "RP0111" CouldNotTell "larger than the limit",
        "The file was not read; raise the limit with --max-artifact-bytes to check it.";
    ReadFailed "RP0112" CouldNotTell "a file cannot be read",
        "The medium failed, which says nothing about the pack.";
    TooMany "RP0113" CouldNotTell "more entries than will be walked through",
        "Something other than a pack lies here, or somebody wants the verifier to work for ever.";
    ArchiveMalformed "RP0114" Error "not a sealed archive",
        "Nothing covers what an archive says beside its files, so there is one way to write it.";
    DigestMismatch "RP0201" Error "hash mismatch",
        "The file is not the one the manifest was written for.";
    RootMismatch "RP0202" Error "root hash mismatch",
        "The list of digests is not the one the root was computed over.";
    NotCanonical "RP0203" Error "not canonical JSON",
        "Only one spelling of a record has this digest; another spelling was not written by an exporter.";
    LegacyForm "RP0204" Warning "legacy canonical form",
        "Members or integers are written in the older form of v1, which is not RFC 8785.";
    Malformed "RP0205" Error "not the shape the format asks for",
        "A record that cannot be read cannot be true.";
    SpecHashMismatch "RP0301" Error "spec hash is not the scenario's digest",
        "The manifest speaks of another scenario than the pack holds.";
    IdentityMismatch "RP0302" Error "records disagree on whose run this is",
        "Tenant, namespace, scenario and run must be the same everywhere.";
    ScenarioInvalid "RP0303" Error "the scenario makes no sense",
        "No run can follow a scenario whose parts do not fit together.";
    ReportContradicts "RP0304" Error "the enclosed report contradicts the pack",
        "The exporter's own verification did not say what an honest one says.";
    DuplicateDecision "RP0401" Error "a trigger was decided twice",
        "A trigger has at most one decision.";
    SequenceBroken "RP0402" Error "a number or id is out of sequence",
        "Logs count from 1 without gaps; a gap is a record taken out, a repeat one put in.";
    ReferenceUnresolved "RP0403" Error "a record refers to nothing",
        "A record names a trigger, stage, gate, condition or decision that is not there.";
    TimesDisagree "RP0404" Error "times or correlation disagree",
        "A decision, its packets and its call carry the time and correlation of their trigger.";
    StageBroken "RP0405" Error "a decision in the wrong stage",
        "A run is in one stage at a time and moves only by its decisions.";
    AfterTheEnd "RP0406" Error "something was decided after the end",
        "A run that completed or failed takes no more triggers.";
    TriggerUndecided "RP0407" Error "a trigger and its decision do not pair",
        "Every trigger in the log has exactly one decision, in the same order.";
    TriggerRepeated "RP0408" Error "a trigger is logged twice",
        "A trigger id that comes again is answered from the log and not logged.";
    SubmissionRepeated "RP0409" Error "a submission is logged twice",
        "A submission id that comes again is answered from the log and not logged.";
    AnchorInvalid "RP0501" Error "evidence without the anchor its policy asks for",
        "The manifest's anchor policy names this provider, and the evidence does not meet it.";
    UnknownCondition "RP0502" Error "evidence for a condition the scenario does not have",
        "Evidence must answer a question the scenario asks.";
    EvidenceHashMismatch "RP0503" Error "evidence is not what its hash says",
        "The digest of a value is computed by whoever decides, so it always fits.";
    ContentHashMismatch "RP0504" Error "a payload is not what its hash says",
        "The digest of a packet or submission covers its payload.";
    RequestHashMismatch "RP0505" Error "a call's request hash fits no request",
        "The logs say what was asked, so the digest of the request can be computed again.";
    ResponseHashMismatch "RP0506" Error "a call's response hash fits no answer",
        "The logs say what was answered, so the digest of the answer can be computed again.";
    CallUnexplained "RP0507" Error "calls and logs do not pair",
        "Every trigger and submission came in by one call, and every call left its mark.";
    ClockEvidence "RP0508" Error "evidence of the time contradicts its trigger",
        "The time provider answers from the trigger's own time.";
    EvidenceSet "RP0601" Error "not the evidence the scenario asks for",
        "Each gate of the stage is evaluated, on the evidence of exactly its conditions.";
    StatusDiffers "RP0602" Error "a condition comes out otherwise",
        "Comparing the recorded evidence with what is expected gives another answer.";
    GateDiffers "RP0603" Error "a gate comes out otherwise",
        "Combining the recorded conditions gives another answer.";
    OutcomeDiffers "RP0604" Error "the decision comes out otherwise",
        "Deciding again on the recorded gates gives another decision.";
    PacketsDiffer "RP0605" Error "other packets would have been issued",
        "Entering a stage discloses exactly its entry packets.";
    NoSetting "RP0606" Error "no setting explains the whole run",
        "Lanes and logic are one setting for all of a run; here two would be needed.";
    LooserThanClaimed "RP0607" Warning "asserted evidence counted, and the pack does not say dev-permissive",
        "The deployment's least lane was lower than strict; pin it with --expect-min-lane.";
    Undecidable "RP0608" CouldNotTell "canonical form hides what was decided on",
        "A whole number and a float are written alike, and the reference tells them apart.";
    NotAsExpected "RP0701" Error "not what was expected from outside",
        "The pack may agree with itself and still not be the one that was asked for.";
    SignatureAbsent "RP0801" Error "signatures are required, and there is none",
        "Whoever can write a whole pack can leave its signatures out.";
    SignaturesTooFew "RP0802" Error "fewer signatures count than are required",
        "One signer alone may be mistaken, or robbed of the key.";
    AttestationMalformed "RP0803" Error "not an attestation",
        "Beside a manifest lies nothing but attestations, and what cannot be read could say anything.";
    AttestationElsewhere "RP0804" Error "an attestation of another pack",
        "Its signatures may be good; they speak of other bytes.";
    SignatureInvalid "RP0805" Error "an invalid signature under a trusted key",
        "Somebody changed what was signed, or claims to be somebody else.";
    AttestationContradicts "RP0806" Error "an attestation contradicts the pack",
        "What was signed is not what the pack says, or not how its run was decided.";
    SignerUnknown "RP0807" Warning "a signature by an unknown key",
        "Anybody can make a key, so it is told and never counted.";
    KeyOutOfTime "RP0808" Warning "a trusted key, but not at that time",
        "A key is believed for the time its policy gives, and counts at no other.";
    KeyWithoutSay "RP0809" Warning "a trusted key, but not for this",
        "Who may speak for one thing may not for another, so the signature is not counted.";
    StatementForeign "RP0810" Warning "an attestation that says something else",
        "It is about these bytes, and not of the kind that says whose run they are, so it is not counted.";
    EvidenceUnsigned "RP0811" Error "evidence without the signature that is required",
        "The policy wants this provider's own word, and whoever recorded the evidence cannot give it.";
    EvidenceSignatureInvalid "RP0812" Error "an invalid signature of evidence under a trusted key",
        "The provider signed another answer, to another question, or nothing at all.";
    EvidenceUnconfirmed "RP0813" Warning "evidence that no signature which counts confirms",
        "The policy asks that this is told, and does not refuse it.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Bytes of each text of a finding, at most:
/// a pack may hold ids of any length, and a report holds many findings.
pub const TEXT_BYTES_MAX: usize = 1_000;

/// One thing that is wrong, and where. Texts longer than [`TEXT_BYTES_MAX`] are
/// cut, and say so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which kind.
    pub code: Code,
    /// How much it weighs.
    pub severity: Severity,
    /// The file, relative to the pack.
    pub artifact: String,
    /// The place in it as a JSON pointer; empty for the whole file.
    pub pointer: String,
    /// What should be there, if that can be said.
    pub expected: Option<String>,
    /// What is there.
    pub found: Option<String>,
    /// One sentence for people.
    pub message: String,
}

impl Finding {
    /// The first of `findings` that is a reason to refuse, in words; empty if
    /// there is none.
    pub fn worst_of(findings: &[Self]) -> String {
        let worst = findings.iter().find(|finding| finding.severity != Severity::Warning);
        worst.map_or_else(String::new, |finding| format!("{} {}", finding.code, finding.message))
    }

    pub(super) fn new(code: Code, artifact: &str, message: impl fmt::Display) -> Self {
        Self {
            code,
            severity: code.severity(),
            artifact: cut(artifact),
            pointer: String::new(),
            expected: None,
            found: None,
            message: cut(message),
        }
    }

    pub(super) fn at(mut self, pointer: impl fmt::Display) -> Self {
        self.pointer = cut(pointer);
        self
    }

    pub(super) fn differs(mut self, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        self.expected = Some(cut(expected));
        self.found = Some(cut(found));
        self
    }
}

/// Text as far as it is kept.
#[derive(Default)]
struct Cut {
    text: String,
    length: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let room = TEXT_BYTES_MAX.saturating_sub(self.length);
        self.text.push_str(&piece[..piece.floor_char_boundary(room)]);
        self.length += piece.len();
        Ok(())
    }
}

fn cut(text: impl fmt::Display) -> String {
    let mut cut = Cut::default();
    let _ = fmt::Write::write_fmt(&mut cut, format_args!("{text}"));
    if cut.length > TEXT_BYTES_MAX {
        cut.text.push_str(&format!("… ({} bytes)", cut.length));
    }
    cut.text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("x".repeat(TEXT_BYTES_MAX)).len(), TEXT_BYTES_MAX);
        let long = format!("{}ü{}", "x".repeat(TEXT_BYTES_MAX - 1), "y".repeat(7));
        assert_eq!(cut(long), format!("{}… (1008 bytes)", "x".repeat(TEXT_BYTES_MAX - 1)));
    }
}
