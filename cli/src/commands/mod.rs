//! The commands of `runpack`. One file each: its arguments, one call inward,
//! one rendering.

pub(crate) mod authoring;
pub(crate) mod build;
pub(crate) mod show;
pub(crate) mod verify;

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use runpack_core::engine::Scenario;
use runpack_core::model::ScenarioSpec;
use runpack_core::pack::layout::ARTIFACT_BYTES_MAX;
use runpack_core::pack::{Report, Verdict};
use runpack_core::read::{self, Admit, Profile, Unknown};
use runpack_storage::packs::{DirectoryReader, Links, PackLocation};
use serde::de::DeserializeOwned;

/// Could not tell, or could not do.
pub(crate) const COULD_NOT: u8 = 2;

/// A command's own failure: a sentence for stderr, exit code 2.
pub(crate) type Outcome = Result<ExitCode, String>;

/// A pack, and how it is read.
#[derive(Debug, Args)]
pub(crate) struct PackArgs {
    /// The pack: its directory, or its manifest
    #[arg(value_name = "PATH")]
    path: String,
    /// The manifest's name, when PATH is a directory
    #[arg(long, value_name = "NAME")]
    manifest: Option<String>,
    /// Bytes of one artifact
    #[arg(long, value_name = "BYTES", default_value_t = ARTIFACT_BYTES_MAX)]
    max_artifact_bytes: u64,
    /// Accept files that have other names, as snapshot tools make them
    #[arg(long)]
    allow_hard_links: bool,
}

impl PackArgs {
    /// The pack as the user named it.
    pub(crate) fn shown(&self) -> &str {
        &self.path
    }

    /// The pack, opened.
    ///
    /// # Errors
    /// The place cannot be opened at all.
    pub(crate) fn open(&self) -> Result<(DirectoryReader, String), String> {
        let location = PackLocation::parse(&self.path, self.manifest.as_deref()).map_err(|error| error.to_string())?;
        let links = if self.allow_hard_links { Links::Any } else { Links::Single };
        let reader = DirectoryReader::open(&location.directory).map_err(|error| error.to_string())?.links(links);
        Ok((reader, location.manifest_name))
    }

    /// Bytes of one artifact.
    pub(crate) fn artifact_bytes_max(&self) -> u64 {
        self.max_artifact_bytes
    }
}

/// 0 yes, 1 no, 2 could not tell.
pub(crate) fn exit_code(report: &Report) -> ExitCode {
    match report.verdict {
        Verdict::Consistent | Verdict::Pinned => ExitCode::SUCCESS,
        Verdict::Refused => ExitCode::FAILURE,
        Verdict::CouldNotTell => ExitCode::from(COULD_NOT),
    }
}

/// How an authored file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// JSON
    Json,
    /// RON in the shape of JSON
    Ron,
}

impl Form {
    /// By extension; JSON unless it says `.ron`.
    pub(crate) fn of(path: &Path) -> Self {
        if path.extension().is_some_and(|extension| extension == "ron") { Self::Ron } else { Self::Json }
    }
}

/// Bytes of one input file, unless raised with `--max-input-bytes`. A recorded
/// state may be larger than a scenario.
pub(crate) const INPUT_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Reads an input file of at most `limit` bytes.
pub(crate) fn read_input(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot read `{}`: {error}", path.display());
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        let shown = path.display();
        return Err(format!("`{shown}` has more than {limit} bytes\nhint: raise the limit with --max-input-bytes"));
    }
    Ok(bytes)
}

/// Reads a JSON document that will be recorded.
pub(crate) fn read_json<T: DeserializeOwned + Admit>(path: &Path, limit: u64) -> Result<T, String> {
    let bytes = read_input(path, limit)?;
    read::ingest(&bytes, Unknown::Refuse).map_err(|refusal| format!("`{}`: {refusal}", path.display()))
}

/// Reads a scenario to be used.
pub(crate) fn read_scenario(path: &Path, limit: u64) -> Result<Scenario, String> {
    let bytes = read_input(path, limit)?;
    parse_scenario(&bytes, Form::of(path)).map_err(|problem| format!("`{}`: {problem}", path.display()))
}

/// Checks a scenario; the error says what makes no sense, and where.
pub(crate) fn parse_scenario(bytes: &[u8], form: Form) -> Result<Scenario, String> {
    let spec: Result<ScenarioSpec, _> = match form {
        Form::Json => read::ingest(bytes, Unknown::Refuse),
        Form::Ron => read::ron_value(bytes, Profile::Ingest).and_then(|tree| read::ingest_value(tree, Unknown::Refuse)),
    };
    let spec = spec.map_err(|refusal| refusal.to_string())?;
    Scenario::new(spec).map_err(|fault| format!("invalid scenario spec: {fault}"))
}
