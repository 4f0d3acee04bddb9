//! Writes a run as a pack.

use std::io::{self, Write};

use serde::Serialize;

use super::layout::{ARTIFACT_BYTES_MAX, ARTIFACTS, Artifact, Content, Log, REQUIRED};
use super::manifest::{ArtifactRecord, FileHash, Integrity, MANIFEST_VERSION, Manifest, SecurityContext, VerifierMode};
use super::report::WireReport;
use super::source::PackSink;
use crate::canon::{CanonError, Digest, HashingWriter, Sha256Name, to_vec};
use crate::engine::{Head, Scenario};
use crate::model::{AnchorPolicy, NamespaceId, RunId, RunState, ScenarioId, TenantId, Timestamp};

/// A run whose logs can be walked in order. Small enough for a store to stream.
pub trait RunLogs: Sync {
    /// Whose run.
    fn identity(&self) -> RunIdentity;

    /// Writes every entry of `log`, oldest first.
    ///
    /// # Errors
    /// The store's, or the writer's.
    fn write(&self, log: Log, out: &mut LogWriter<'_>) -> io::Result<()>;
}

/// Whose run, of which scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the members are the manifest's")]
pub struct RunIdentity {
    pub tenant_id: TenantId,
    pub namespace_id: NamespaceId,
    pub scenario_id: ScenarioId,
    pub run_id: RunId,
    pub spec_hash: Digest,
}

/// Whose run a record says it is of: what names a run stands in each under the
/// same names.
macro_rules! names_a_run {
    ($($record:ty),*) => {$(
        impl From<&$record> for RunIdentity {
            fn from(record: &$record) -> Self {
                Self {
                    tenant_id: record.tenant_id,
                    namespace_id: record.namespace_id,
                    scenario_id: record.scenario_id.clone(),
                    run_id: record.run_id.clone(),
                    spec_hash: record.spec_hash,
                }
            }
        }
    )*};
}
names_a_run!(RunState, Manifest, Head);

/// Writes one log: a JSON array, entry by entry.
pub struct LogWriter<'a> {
    out: &'a mut dyn Write,
    first: bool,
}

impl LogWriter<'_> {
    /// Writes the array of what `entries` writes.
    ///
    /// # Errors
    /// The writer's, or that of `entries`.
    pub fn array(out: &mut dyn Write, entries: impl FnOnce(&mut LogWriter<'_>) -> io::Result<()>) -> io::Result<()> {
        let mut writer = LogWriter { out, first: true };
        entries(&mut writer)?;
        let empty = writer.first;
        out.write_all(if empty { b"[]" } else { b"]" })
    }

    /// Writes one entry.
    ///
    /// # Errors
    /// The writer's, or the entry has no canonical form.
    pub fn entry(&mut self, entry: &impl Serialize) -> io::Result<()> {
        let bytes = to_vec(entry).map_err(io::Error::other)?;
        self.canonical(&bytes)
    }

    /// Writes one entry that is canonical already.
    ///
    /// # Errors
    /// The writer's.
    pub fn canonical(&mut self, entry: &[u8]) -> io::Result<()> {
        self.out.write_all(if self.first { b"[" } else { b"," })?;
        self.first = false;
        self.out.write_all(entry)
    }
}

impl RunLogs for RunState {
    fn identity(&self) -> RunIdentity {
        self.into()
    }

    fn write(&self, log: Log, out: &mut LogWriter<'_>) -> io::Result<()> {
        match log {
            Log::Triggers => self.triggers.iter().try_for_each(|entry| out.entry(entry)),
            Log::GateEvals => self.gate_evals.iter().try_for_each(|entry| out.entry(entry)),
            Log::Decisions => self.decisions.iter().try_for_each(|entry| out.entry(entry)),
            Log::Packets => self.packets.iter().try_for_each(|entry| out.entry(entry)),
            Log::Submissions => self.submissions.iter().try_for_each(|entry| out.entry(entry)),
            Log::ToolCalls => self.tool_calls.iter().try_for_each(|entry| out.entry(entry)),
        }
    }
}

/// What a pack says besides the run.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildOptions {
    /// Given, never read from a clock.
    pub generated_at: Timestamp,
    /// The policy the run was decided under; an empty one is left out.
    pub anchor_policy: AnchorPolicy,
    /// The exporter's posture, if it wants to state it.
    pub security: Option<SecurityContext>,
    /// Bytes of one artifact.
    pub artifact_bytes_max: u64,
}

impl BuildOptions {
    /// No anchors, no posture, the default limit.
    pub fn at(generated_at: Timestamp) -> Self {
        Self {
            generated_at,
            anchor_policy: AnchorPolicy::default(),
            security: None,
            artifact_bytes_max: ARTIFACT_BYTES_MAX,
        }
    }
}

/// Why a pack was not written.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The run was decided under another scenario.
    #[error("hashing error: run state spec hash mismatch: the scenario's digest is {scenario}, the run's is {run}")]
    SpecHash {
        /// Of the scenario given.
        scenario: Digest,
        /// In the run.
        run: Digest,
    },
    /// The run says it belongs elsewhere.
    #[error("the run's {member} is {run}, the scenario's is {scenario}")]
    Identity {
        /// `scenario_id` or `namespace_id`.
        member: &'static str,
        /// In the run.
        run: String,
        /// In the scenario.
        scenario: String,
    },
    /// A verifier would not read the artifact.
    #[error(
        "artifact too large: {path} ({actual} > {limit})\nhint: raise the limit with --max-artifact-bytes, here and when verifying (a service: max_artifact_bytes under [runpack])"
    )]
    TooLarge {
        /// Which.
        path: &'static str,
        /// Bytes it would have had at least.
        actual: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The sink failed.
    #[error("cannot write {path}: {source}")]
    Sink {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A record has no canonical form.
    #[error(transparent)]
    Canon(#[from] CanonError),
}

/// A pack whose artifacts are written and whose manifest is not, so that it can
/// be checked first. Nothing before [`Draft::finish`] looks like a pack.
#[derive(Debug)]
#[must_use = "a draft without its manifest is no pack"]
pub struct Draft {
    manifest: Manifest,
    artifact_bytes_max: u64,
}

/// Writes the seven artifacts of a run.
///
/// # Errors
/// See [`BuildError`]; the sink must then be thrown away.
pub fn build(
    sink: &mut dyn PackSink,
    scenario: &Scenario,
    run: &dyn RunLogs,
    options: &BuildOptions,
) -> Result<Draft, BuildError> {
    let identity = run.identity();
    agree(scenario, &identity)?;
    let limit = options.artifact_bytes_max;
    let mut file_hashes = Vec::new();
    let mut artifacts = Vec::new();
    for artifact in &ARTIFACTS[..REQUIRED] {
        let hash = put(sink, artifact, limit, |out| match artifact.content {
            Content::Scenario => out.write_all(scenario.canonical_bytes()),
            Content::Log(log) => LogWriter::array(out, |writer| run.write(log, writer)),
            Content::Report => unreachable!("the report follows the required artifacts"),
        })?;
        file_hashes.push(FileHash { path: artifact.path.to_owned(), hash });
        artifacts.push(ArtifactRecord::of(artifact, hash));
    }
    let anchors = &options.anchor_policy;
    let manifest = Manifest {
        manifest_version: MANIFEST_VERSION.to_owned(),
        generated_at: options.generated_at,
        scenario_id: identity.scenario_id,
        run_id: identity.run_id,
        tenant_id: identity.tenant_id,
        namespace_id: identity.namespace_id,
        spec_hash: identity.spec_hash,
        hash_algorithm: Sha256Name,
        verifier_mode: VerifierMode::OfflineStrict,
        anchor_policy: (!anchors.providers.is_empty()).then(|| anchors.clone()),
        security: options.security.clone(),
        integrity: Integrity::of(file_hashes)?,
        artifacts,
    };
    Ok(Draft { manifest, artifact_bytes_max: limit })
}

impl Draft {
    /// The canonical bytes the manifest would have now.
    ///
    /// # Errors
    /// Never for this type; the signature is the canonicaliser's.
    pub fn manifest_bytes(&self) -> Result<Vec<u8>, CanonError> {
        to_vec(&self.manifest)
    }

    /// The manifest as it would be now.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Adds a report, which the manifest then lists.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn enclose(mut self, sink: &mut dyn PackSink, report: &WireReport) -> Result<Self, BuildError> {
        let artifact = &ARTIFACTS[REQUIRED];
        let bytes = to_vec(report)?;
        let hash = put(sink, artifact, self.artifact_bytes_max, |out| out.write_all(&bytes))?;
        let mut file_hashes = self.manifest.integrity.file_hashes;
        file_hashes.push(FileHash { path: artifact.path.to_owned(), hash });
        self.manifest.integrity = Integrity::of(file_hashes)?;
        self.manifest.artifacts.push(ArtifactRecord::of(artifact, hash));
        Ok(self)
    }

    /// Adds the report, if there is one, and writes the manifest.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn finish(
        self,
        sink: &mut dyn PackSink,
        manifest_name: &str,
        report: Option<&WireReport>,
    ) -> Result<Manifest, BuildError> {
        let draft = match report {
            Some(report) => self.enclose(sink, report)?,
            None => self,
        };
        let bytes = draft.manifest_bytes()?;
        sink.put(manifest_name, &mut |out| out.write_all(&bytes))
            .map_err(|source| BuildError::Sink { path: manifest_name.to_owned(), source })?;
        Ok(draft.manifest)
    }
}

fn agree(scenario: &Scenario, run: &RunIdentity) -> Result<(), BuildError> {
    let spec = scenario.spec();
    if run.spec_hash != scenario.digest() {
        return Err(BuildError::SpecHash { scenario: scenario.digest(), run: run.spec_hash });
    }
    let members = [
        ("scenario_id", run.scenario_id.to_string(), spec.scenario_id.to_string()),
        ("namespace_id", run.namespace_id.to_string(), spec.namespace_id.to_string()),
    ];
    match members.into_iter().find(|(_, run, scenario)| run != scenario) {
        Some((member, run, scenario)) => Err(BuildError::Identity { member, run, scenario }),
        None => Ok(()),
    }
}

/// Stores one artifact and answers its digest.
fn put(
    sink: &mut dyn PackSink,
    artifact: &Artifact,
    limit: u64,
    content: impl Fn(&mut dyn Write) -> io::Result<()>,
) -> Result<Digest, BuildError> {
    let mut digest = None;
    let mut too_large = None;
    let outcome = sink.put(artifact.path, &mut |out| {
        let mut limited = Limited { out: HashingWriter::new(out), limit, too_large: &mut too_large };
        content(&mut limited)?;
        digest = Some(limited.out.finish().1);
        Ok(())
    });
    match (outcome, digest, too_large) {
        (_, _, Some(actual)) => Err(BuildError::TooLarge { path: artifact.path, actual, limit }),
        (Ok(()), Some(digest), None) => Ok(digest),
        (outcome, ..) => {
            let source = outcome.err().unwrap_or_else(|| io::Error::other("the sink did not ask for the content"));
            Err(BuildError::Sink { path: artifact.path.to_owned(), source })
        }
    }
}

struct Limited<'a, W> {
    out: HashingWriter<W>,
    limit: u64,
    too_large: &'a mut Option<u64>,
}

impl<W: Write> Write for Limited<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let actual = self.out.written() + buffer.len() as u64;
        if actual > self.limit {
            *self.too_large = Some(actual);
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.out.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
