use clap::Args;
use runpack_core::pack::{Pack, VerifyOptions, verify};

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
    let (reader, manifest_name) = args.pack.open()?;
    let options = VerifyOptions { artifact_bytes_max: args.pack.artifact_bytes_max(), ..VerifyOptions::default() };
    let report = verify(&reader, &manifest_name, &options);
    let paint = Paint::for_stdout();
    if !report.verdict.passed() {
        out::say(&out::report(&paint, args.pack.shown(), &report));
    }
    match Pack::read(&reader, &manifest_name, args.pack.artifact_bytes_max()) {
        Ok(pack) if report.verdict.passed() => out::say(&out::pack(&paint, &pack)),
        Ok(pack) => out::say(&format!("\nDo not believe what follows.\n\n{}", out::pack(&paint, &pack))),
        Err(_) => {}
    }
    Ok(exit_code(&report))
}
