use std::path::Path;

use runpack_core::canon::{CanonError, Digest, to_vec};
use runpack_core::engine::Scenario;
use runpack_core::pack::{
    BuildError, BuildOptions, Finding, Manifest, PackReader, RunLogs, Severity, Verdict, VerifyOptions, WireReport,
    build, verify, verify_draft,
};

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
    #[error("the run does not make a pack that verifies: {}", first(.0))]
    Refused(Vec<Finding>),
    /// What was written cannot be read back.
    #[error(transparent)]
    ReadBack(#[from] OpenFault),
    /// A record has no canonical form.
    #[error(transparent)]
    Canon(#[from] CanonError),
    /// Whoever keeps packs did not take it.
    #[error("{0}")]
    Store(String),
}

fn first(findings: &[Finding]) -> String {
    let worst = findings.iter().find(|finding| finding.severity != Severity::Warning);
    worst.map_or_else(String::new, |finding| format!("{} {}", finding.code, finding.message))
}

/// Builds a pack beside its target, verifies it as anybody else would, and only
/// then lets it appear, whole, under its name. For a store it is built in the
/// system's directory for temporary files.
///
/// # Errors
/// See [`ExportError`]; the target is as it was.
pub fn export(request: &ExportRequest<'_>) -> Result<Exported, ExportError> {
    let options = VerifyOptions { artifact_bytes_max: request.options.artifact_bytes_max, ..VerifyOptions::default() };
    let elsewhere = std::env::temp_dir().join("runpack-export");
    let (target, replace) = match request.destination {
        Destination::Directory { target, replace } => (target, replace),
        // Never published there: it goes with the staging.
        Destination::Store(_) => (elsewhere.as_path(), Replace::Yes),
    };
    let mut staged = StagedPack::create(target, request.manifest_name, replace)?;
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
    let manifest = draft.finish(&mut staged, request.manifest_name, report.as_ref())?;
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
