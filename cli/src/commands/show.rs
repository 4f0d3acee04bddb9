use clap::Args;
use runpack_core::pack::Verdict;

use super::{Outcome, PackArgs, exit_code};
use crate::out::{self, Paint};

/// Show a pack to people: who, what, when, and each decision with its gates
///
/// The pack is verified first, and what does not verify is shown with a warning.
///
/// Exit codes: 0 shown, 1 shown but refused, 2 could not be read.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  runpack show ./pack")]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pack: PackArgs,
}

pub(crate) fn show(args: &ShowArgs) -> Outcome {
    let verified = args.pack.verify()?;
    let paint = Paint::for_stdout();
    if verified.report.verdict != Verdict::Consistent {
        out::say(&out::report(&paint, args.pack.shown(), &verified.report));
    }
    match &verified.pack {
        Some(pack) if verified.report.verdict == Verdict::Consistent => out::say(&out::pack(&paint, pack)),
        Some(pack) => out::say(&format!("\nDo not believe what follows.\n\n{}", out::pack(&paint, pack))),
        None => {}
    }
    Ok(exit_code(&verified.report))
}
