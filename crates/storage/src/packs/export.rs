use std::path::Path;
use std::sync::Arc;

use runpack_core::canon::{CanonError, Digest, to_vec};
use runpack_core::engine::Scenario;
use runpack_core::pack::layout::attestation_name;
use runpack_core::pack::{
    Attached, BuildError, BuildOptions, Draft, Expectations, Finding, Manifest, PackReader, PackSink, Report, RunLogs,
    Trust, Verdict, VerifyOptions, WireReport, build, verify, verify_draft,
};
use runpack_core::trust::{PublicKey, TrustPolicy};

use super::{OpenFault, PublishError, Published, Replace, StagedPack};

/// Where an export goes.
#[derive(Clone, Copy)]
pub enum Destination<'a> {
    /// Into a directory of its own.
    Directory {
        /// The directory.
        target: &'a Path,
        /// Whether another pack there may be replaced.
        replace: Replace,
    },
    /// To somebody who keeps packs.
    Store(&'a dyn PackStore),
}

/// Keeps packs: object storage, or whatever embeds this library.
pub trait PackStore: Send + Sync {
    /// Takes a pack that was verified, whole or not at all, and answers where
    /// it is.
    ///
    /// # Errors
    /// A sentence, with a hint if there is something to do. Nothing that looks
    /// like a pack is there then that was not there before.
    fn keep(&self, pack: &dyn PackReader, manifest_name: &str) -> Result<Kept, String>;
}

/// What became of a pack that was handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Where it is, with a slash at the end.
    pub storage_uri: String,
    /// Whether it was there already.
    pub already: bool,
}

/// What to export, and where.
pub struct ExportRequest<'a> {
    /// Where.
    pub destination: Destination<'a>,
    /// The manifest's name.
    pub manifest_name: &'a str,
    /// The scenario of the run.
    pub scenario: &'a Scenario,
    /// The run.
    pub run: &'a dyn RunLogs,
    /// What the pack says besides.
    pub options: &'a BuildOptions,
    /// Whether the builder's own verification is enclosed.
    pub include_verification: bool,
    /// Who signs it, if anybody does.
    pub attest: Option<&'a dyn Attest>,
}

/// Signs packs: whoever holds a key, or knows who does.
pub trait Attest: Send + Sync {
    /// What others check its signatures with.
    fn key(&self) -> &PublicKey;

    /// A signed envelope about the pack with this manifest; also about what its
    /// run was decided by, if `decided`.
    ///
    /// # Errors
    /// A sentence, with a hint if there is something to do.
    fn attest(&self, manifest: &Manifest, bytes: &[u8], name: &str, decided: bool) -> Result<Vec<u8>, String>;
}

/// A pack that is there to stay.
#[derive(Debug)]
pub struct Exported {
    /// Its manifest.
    pub manifest: Manifest,
    /// The digest of the manifest's bytes.
    pub pack_digest: Digest,
    /// The enclosed report, if one was asked for.
    pub report: Option<WireReport>,
    /// Whether it was there already.
    pub published: Published,
    /// Where it is, if somebody else keeps it.
    pub storage_uri: Option<String>,
}

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The run cannot be a pack.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The directory cannot take it.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Our own verifier refuses what was built, so nobody gets to see it.
    #[error("the run does not make a pack that verifies: {}", Finding::worst_of(.0))]
    Refused(Vec<Finding>),
    /// What was written cannot be read back.
    #[error(transparent)]
    ReadBack(#[from] OpenFault),
    /// A record has no canonical form.
    #[error(transparent)]
    Canon(#[from] CanonError),
    /// Whoever signs did not.
    #[error("the pack was not signed: {0}")]
    Unsigned(String),
    /// The attestation could not be written.
    #[error("cannot write the attestation `{name}`: {source}")]
    Attestation {
        /// Its name.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// Whoever keeps packs did not take it.
    #[error("{0}")]
    Store(String),
}

/// Builds a pack beside its target, verifies it as anybody else would, and only
/// then lets it appear, whole, under its name. For a store it is built in the
/// system's directory for temporary files.
///
/// Where it is signed, the attestation is stored before the manifest: there is
/// no moment at which the pack is there without it.
///
/// # Errors
/// See [`ExportError`]; the target is as it was.
pub fn export(request: &ExportRequest<'_>) -> Result<Exported, ExportError> {
    let options = VerifyOptions { artifact_bytes_max: request.options.artifact_bytes_max, ..VerifyOptions::default() };
    // Never published there: it goes with the staging.
    let elsewhere = match request.destination {
        Destination::Directory { .. } => None,
        Destination::Store(_) => Some(tempfile::tempdir().map_err(|source| PublishError::Io {
            doing: "make a directory in",
            path: std::env::temp_dir(),
            source,
        })?),
    };
    let (target, replace) = match (request.destination, &elsewhere) {
        (Destination::Directory { target, replace }, _) => (target.to_owned(), replace),
        (Destination::Store(_), elsewhere) => {
            (elsewhere.as_ref().map_or_else(std::env::temp_dir, |elsewhere| elsewhere.path().join("pack")), Replace::No)
        }
    };
    let mut staged = StagedPack::create(&target, request.manifest_name, replace)?;
    let draft = build(&mut staged, request.scenario, request.run, request.options)?;
    let report = if request.include_verification {
        let manifest = draft.manifest_bytes()?;
        let checked = verify_draft(&staged.reader()?, &manifest, request.manifest_name, &options);
        if checked.verdict != Verdict::Consistent {
            return Err(ExportError::Refused(checked.findings));
        }
        Some(checked.wire())
    } else {
        None
    };
    let draft = match &report {
        Some(report) => draft.enclose(&mut staged, report)?,
        None => draft,
    };
    if let Some(attest) = request.attest {
        let (name, attestation) = attestation(attest, &draft, &staged, request.manifest_name, &options)?;
        let written = staged.put(&name, &mut |out| out.write_all(&attestation));
        written.map_err(|source| ExportError::Attestation { name, source })?;
    }
    let manifest = draft.finish(&mut staged, request.manifest_name, None)?;
    let checked = verify(&staged.reader()?, request.manifest_name, &options);
    if checked.verdict != Verdict::Consistent {
        return Err(ExportError::Refused(checked.findings));
    }
    let pack_digest = Digest::of(&to_vec(&manifest)?);
    let (published, storage_uri) = match request.destination {
        Destination::Directory { .. } => (staged.publish()?, None),
        Destination::Store(store) => {
            let kept = store.keep(&staged.reader()?, request.manifest_name).map_err(ExportError::Store)?;
            let published = if kept.already { Published::Identical } else { Published::New };
            (published, Some(kept.storage_uri))
        }
    };
    Ok(Exported { manifest, pack_digest, report, published, storage_uri })
}

/// What is said of a draft, and under which name. What its run was decided by
/// is said only if that is how its decisions come out again: a run may be older
/// than the settings of today.
fn attestation(
    attest: &dyn Attest,
    draft: &Draft,
    staged: &StagedPack,
    manifest_name: &str,
    options: &VerifyOptions,
) -> Result<(String, Vec<u8>), ExportError> {
    let bytes = draft.manifest_bytes()?;
    let name = attestation_name(&attest.key().id());
    let say = |decided| attest.attest(draft.manifest(), &bytes, manifest_name, decided).map_err(ExportError::Unsigned);
    let checked = |attestation: &[u8]| -> Result<Report, ExportError> {
        let policy = TrustPolicy::of_keys(vec![("exporter".to_owned(), attest.key().clone())], 1);
        let policy = Arc::new(policy.map_err(|fault| ExportError::Unsigned(fault.to_string()))?);
        let attached = vec![Attached { name: name.clone(), bytes: attestation.to_vec() }];
        let expect = Expectations::default().trusting(Trust { policy, at: None, attached });
        let options = VerifyOptions { expect, ..options.clone() };
        Ok(verify_draft(&staged.reader()?, &bytes, manifest_name, &options))
    };
    let all = say(true)?;
    if checked(&all)?.verdict == Verdict::Signed {
        return Ok((name, all));
    }
    let less = say(false)?;
    match checked(&less)? {
        report if report.verdict == Verdict::Signed => Ok((name, less)),
        report => Err(ExportError::Refused(report.findings)),
    }
}
