use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use runpack_core::pack::VerifyOptions;
use runpack_storage::packs::{CopyError, Published, Replace, copy};

use super::{Outcome, ReadArgs};
use crate::out;

/// Bring a pack from object storage, or anywhere else, into a directory
///
/// The copy is verified, and appears whole or not at all.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it is there, 1 it is refused, 2 it could not be brought.\n\nExample:\n  runpack pull s3://bucket/audit/tenant/1/namespace/1/scenario/s/run/r/spec/sha256/5f…/ --out pack"
)]
pub(crate) struct PullArgs {
    /// The pack
    #[arg(value_name = "PACK")]
    pack: String,
    /// Where the copy goes: a directory that is absent, empty, or holds the same pack
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace another pack at DIR
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    read: ReadArgs,
}

pub(crate) fn pull(args: &PullArgs) -> Outcome {
    let (pack, manifest_name) = args.read.open(&args.pack)?;
    let options = VerifyOptions { artifact_bytes_max: args.read.max_artifact_bytes, ..VerifyOptions::default() };
    let replace = if args.replace { Replace::Yes } else { Replace::No };
    let (published, digest) = match copy(&*pack, &manifest_name, &args.out, replace, &options) {
        Ok(done) => done,
        Err(CopyError::Refused(findings)) => {
            out::talk(format_args!("error: `{}` was not brought: {}", args.pack, CopyError::Refused(findings)));
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(format!("`{}` was not brought: {error}", args.pack)),
    };
    let how = if published == Published::Identical { "the same pack was there" } else { "brought" };
    let shown = out::printable(&args.out.display().to_string());
    out::say(&format!("{shown}: {how}\n  pack digest    {digest}\n"));
    Ok(ExitCode::SUCCESS)
}
