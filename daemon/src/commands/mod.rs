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

use std::io::Read;
use std::path::Path;

use runpack_core::engine::Scenario;
use runpack_core::model::ScenarioSpec;
use runpack_core::read::{self, Profile, Unknown};

/// Bytes of one input document or line, unless raised with `--max-input-bytes`.
pub const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads an input file of at most `limit` bytes.
fn read_input(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot read `{}`: {error}", path.display());
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(format!(
            "`{}` has more than {limit} bytes\nhint: raise the limit with --max-input-bytes",
            path.display()
        ));
    }
    Ok(bytes)
}

fn read_scenario(path: &Path, limit: u64) -> Result<Scenario, String> {
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
