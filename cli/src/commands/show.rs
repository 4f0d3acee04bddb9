use clap::Args;

use super::{Outcome, ReadArgs, exit_code};
use crate::out::{self, Paint};

/// Show a pack to people: who, what, when, and each decision with its gates
///
/// The pack is verified first, and what does not verify is shown with a warning.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 shown, 1 shown but refused, 2 could not be read.\n\nExample:\n  runpack show ./pack"
)]
pub(crate) struct ShowArgs {
    /// The pack: its directory, its manifest or its archive; `-` is standard input
    #[arg(value_name = "PATH")]
    path: String,
    #[command(flatten)]
    read: ReadArgs,
}

pub(crate) fn show(args: &ShowArgs) -> Outcome {
    let (report, pack) = args.read.read(&args.path)?;
    let paint = Paint::for_stdout();
    let passed = report.verdict.passed();
    if !passed {
        out::say(&out::report(&paint, &args.path, &report));
    }
    if let Ok(pack) = pack {
        let warning = if passed { "" } else { "\nDo not believe what follows.\n\n" };
        out::say(&format!("{warning}{}", out::pack(&paint, &pack, false)));
    }
    Ok(exit_code(report.verdict))
}
