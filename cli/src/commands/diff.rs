use std::process::ExitCode;

use clap::Args;
use runpack_core::pack::diff as compare;
use runpack_storage::packs::shown;

use super::{Outcome, ReadArgs, one_standard_input};
use crate::out::{self, Paint};

/// Compare two packs by meaning: decisions, the evidence that flipped them, the scenario
///
/// Packs whose digests differ are never called the same: where no difference of
/// meaning is found, the files that differ are named.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 the same pack, 1 they differ, 2 one cannot be read.\n\nExample:\n  runpack diff ./before ./after"
)]
pub(crate) struct DiffArgs {
    /// One pack
    #[arg(value_name = "A")]
    left: String,
    /// The other
    #[arg(value_name = "B")]
    right: String,
    #[command(flatten)]
    read: ReadArgs,
}

pub(crate) fn diff(args: &DiffArgs) -> Outcome {
    one_standard_input([args.left.as_str(), &args.right])?;
    let read = |path: &str| {
        let (report, pack) = args.read.read(path)?;
        let pack = pack.map_err(|fault| format!("`{}` cannot be read: {fault}", shown(path)))?;
        Ok::<_, String>((report, pack))
    };
    let ((left_report, left), (right_report, right)) = (read(&args.left)?, read(&args.right)?);
    let paint = Paint::for_stdout();
    for (path, report) in [(&args.left, &left_report), (&args.right, &right_report)] {
        if !report.verdict.passed() {
            out::say(&out::report(&paint, path, report));
        }
    }
    let differences = compare(&left, &right);
    let same = left_report.pack_digest == right_report.pack_digest;
    out::say(&out::differences(&paint, &differences, same));
    Ok(if same && differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
