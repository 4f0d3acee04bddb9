use clap::{Args, ValueEnum};
use runpack_core::canon::to_vec;
use runpack_core::pack::{VerifyOptions, verify as verify_pack};

use super::{Outcome, PackArgs, exit_code};
use crate::out::{self, Paint};

/// Say whether a pack agrees with itself
///
/// Exit codes: 0 it does, 1 it is refused, 2 could not tell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  runpack verify ./pack")]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pack: PackArgs,
    /// How to answer
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// How to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Human,
    /// For programs: canonical JSON, one line
    Json,
}

pub(crate) fn verify(args: &VerifyArgs) -> Outcome {
    let (reader, manifest_name) = args.pack.open()?;
    let options = VerifyOptions { artifact_bytes_max: args.pack.artifact_bytes_max(), ..VerifyOptions::default() };
    let report = verify_pack(&reader, &manifest_name, &options);
    match args.format {
        Format::Human => out::say(&out::report(&Paint::for_stdout(), args.pack.shown(), &report)),
        Format::Json => {
            let bytes = to_vec(&report).map_err(|error| error.to_string())?;
            out::say(&format!("{}\n", String::from_utf8_lossy(&bytes)));
        }
    }
    Ok(exit_code(&report))
}
