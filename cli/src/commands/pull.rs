use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use runpack_core::canon::Digest;
use runpack_core::pack::{Verdict, VerifyOptions, verify};
use runpack_storage::packs::{CopyError, Published, Replace, copy, directory, shown};

use super::{COULD_NOT, Outcome, ReadArgs};
use crate::out::{self, Paint};
use crate::progress::ProgressArgs;

/// What `pull` and `unseal` are told.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// The pack, wherever it is; `-` is an archive on standard input
    #[arg(value_name = "PACK")]
    pack: String,
    /// Where the copy goes: a directory that is absent, empty, or holds the same pack
    #[arg(long, value_name = "DIR")]
    out: String,
    /// Replace another pack at DIR
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    read: ReadArgs,
}

/// The same work under two names: `done` is the word for it.
pub(crate) fn pull(args: &PullArgs, done: &str) -> Outcome {
    args.progress.begin();
    let mut meter = args.progress.meter(1);
    let replace = if args.replace { Replace::Yes } else { Replace::No };
    let to = directory(&args.out).map_err(|error| error.to_string())?;
    let (published, digest) = match copied(&args.read, &args.pack, &to, replace, &args.read.verify_options()) {
        Ok(copied) => copied,
        Err((code, error)) => {
            out::talk(format_args!("error: the pack was not {done}: {error}"));
            return Ok(ExitCode::from(code));
        }
    };
    meter.step();
    drop(meter);
    let how = if published == Published::Identical { "the same pack was there" } else { done };
    let shown = out::printable(&args.out);
    out::say(&format!("{shown}: {how}\n  pack digest    {digest}\n"));
    Ok(ExitCode::SUCCESS)
}

/// Brings a pack into a directory; or the exit code and the reason.
pub(crate) fn copied(
    read: &ReadArgs,
    path: &str,
    to: &Path,
    replace: Replace,
    options: &VerifyOptions,
) -> Result<(Published, Digest), (u8, String)> {
    let (pack, manifest_name) = read.open(path).map_err(|error| (COULD_NOT, error))?;
    copy(&*pack, &manifest_name, to, replace, options).map_err(|error| {
        let could_not = (COULD_NOT, format!("`{}`: {error}", shown(path)));
        if !matches!(error, CopyError::Read { .. } | CopyError::Unlisted(_) | CopyError::Refused(_)) {
            return could_not;
        }
        // Where it is, all of what is wrong with it can be said; unless that
        // was the way here.
        let report = verify(&*pack, &manifest_name, options);
        let code = if report.verdict == Verdict::Refused { 1 } else { COULD_NOT };
        if report.verdict.passed() { could_not } else { (code, out::report(&Paint::plain(), path, &report)) }
    })
}
