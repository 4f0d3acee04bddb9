//! The runpack format, version v1: its layout, how a pack is built, and how it
//! is verified. One table of artifacts ([`layout`]) serves both.

mod attestation;
mod build;
mod diff;
mod finding;
pub mod layout;
mod manifest;
mod read;
mod report;
mod source;
mod verify;
mod what_if;

pub use attestation::{
    AttestedSettings, Claim, LogicName, PAYLOAD_TYPE, PREDICATE_TYPE, Predicate, Statement, StatementFault,
};
pub use build::{BuildError, BuildOptions, Draft, LogWriter, RunIdentity, RunLogs, build};
pub use diff::{Difference, DifferenceKind, diff};
pub use finding::{Code, Finding, Severity, TEXT_BYTES_MAX};
pub use manifest::{
    ArtifactKind, ArtifactRecord, FileHash, Integrity, MANIFEST_VERSION, Manifest, SecurityContext, VerifierMode,
};
pub use read::{Pack, PackFault};
pub use report::{
    EvidenceSigned, FINDINGS_MAX, Report, Settings, SignatureSeen, SignatureStanding, Signer, Subject, Unverifiable,
    Verdict, WireReport, WireStatus,
};
pub use source::{Listed, ListedKind, PackReader, PackSink, ReadFault};
pub use verify::{
    Attached, Checks, Expectations, Spread, Trust, VerifyOptions, in_turn, verify, verify_draft, verify_spread,
};
pub use what_if::{WhatIf, what_if};
