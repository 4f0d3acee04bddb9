use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use runpack_core::pack::{VerifyOptions, verify};
use runpack_storage::packs::{Published, Replace, copy};

use super::{Outcome, ReadArgs, exit_code};
use crate::out::{self, Paint};

/// Take a pack out of its archive, into a directory
///
/// The pack is verified first: of what does not pass nothing is written. The
/// directory appears whole or not at all.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 unsealed, or the same pack was there; 1 the pack is refused; 2 could not tell, or could not be written.\n\nExample:\n  runpack unseal pack.runpack.tar --out ./pack"
)]
pub(crate) struct UnsealArgs {
    /// The archive; `-` is standard input
    #[arg(value_name = "FILE")]
    path: String,
    /// Where the pack goes: a directory that is absent, empty, or holds the same pack
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace another pack at DIR
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    read: ReadArgs,
}

pub(crate) fn unseal(args: &UnsealArgs) -> Outcome {
    let (reader, manifest_name) = args.read.open(&args.path)?;
    let options = VerifyOptions { artifact_bytes_max: args.read.max_artifact_bytes, ..VerifyOptions::default() };
    let report = verify(&*reader, &manifest_name, &options);
    if !report.verdict.passed() {
        out::talk(out::report(&Paint::plain(), &args.path, &report));
        return Ok(exit_code(report.verdict));
    }
    let replace = if args.replace { Replace::Yes } else { Replace::No };
    let (published, digest) = copy(&*reader, &manifest_name, &args.out, replace, &options)
        .map_err(|error| format!("the pack was not unsealed: {error}"))?;
    let how = if published == Published::Identical { "the same pack was there" } else { "unsealed" };
    let shown = out::printable(&args.out.display().to_string());
    out::say(&format!("{shown}: {how}\n  pack digest    {digest}\n"));
    Ok(ExitCode::SUCCESS)
}
