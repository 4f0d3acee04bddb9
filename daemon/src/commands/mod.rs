//! The commands of `runpackd`. One file each: its arguments, one call inward,
//! one rendering.

#[allow(missing_docs, reason = "the arguments' docs are the help")]
pub mod call;
#[allow(missing_docs, reason = "the arguments' docs are the help")]
pub mod config;
#[allow(missing_docs, reason = "the arguments' docs are the help")]
pub mod demo;
#[allow(missing_docs, reason = "the arguments' docs are the help")]
pub mod generate;
#[allow(missing_docs, reason = "the arguments' docs are the help")]
pub mod mcp;
#[allow(missing_docs, reason = "the arguments' docs are the help")]
pub mod run;
#[allow(missing_docs, reason = "the arguments' docs are the help")]
pub mod serve;
#[allow(missing_docs, reason = "the arguments' docs are the help")]
pub mod store;

use std::io::ErrorKind;
use std::path::Path;

use runpack_beneath::read_within;
use runpack_core::engine::Scenario;
use runpack_core::model::ScenarioSpec;
use runpack_core::read::{self, Profile, Unknown};

/// Bytes of one input document or line, unless raised with `--max-input-bytes`.
pub const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How much of an input file is read.
#[derive(Debug, Clone, Copy)]
enum Limit {
    /// So many bytes, and no argument says otherwise.
    Fixed(u64),
    /// What `--max-input-bytes` says.
    Flag(u64),
}

fn read_input(path: &Path, limit: Limit) -> Result<Vec<u8>, String> {
    let (Limit::Fixed(bytes) | Limit::Flag(bytes)) = limit;
    read_within(path, bytes).map_err(|error| {
        let hint = match (error.kind(), limit) {
            (ErrorKind::FileTooLarge, Limit::Flag(_)) => "\nhint: raise the limit with --max-input-bytes",
            (ErrorKind::NotFound | ErrorKind::NotADirectory, _) => {
                "\nhint: a path is taken from the working directory; `ls` says what is there"
            }
            _ => "",
        };
        format!("cannot read `{}`: {error}{hint}", path.display())
    })
}

fn read_scenario(path: &Path, limit: Limit) -> Result<Scenario, String> {
    let bytes = read_input(path, limit)?;
    let place = |error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
    let spec: ScenarioSpec = if path.extension().is_some_and(|extension| extension == "ron") {
        read::ron_value(&bytes, Profile::Ingest).and_then(|tree| read::ingest_value(tree, Unknown::Refuse))
    } else {
        read::ingest(&bytes, Unknown::Refuse)
    }
    .map_err(|refusal| place(&refusal))?;
    Scenario::new(spec).map_err(|fault| place(&format_args!("invalid scenario spec: {fault}")))
}
