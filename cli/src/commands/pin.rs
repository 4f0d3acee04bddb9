use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use runpack_core::pack::verify;
use runpack_storage::packs::shown;

use super::{COULD_NOT, Outcome, ReadArgs, exit_code, one_standard_input, same_kind};
use crate::out::{self, Paint};

/// Write down the digests of packs, to compare with later
///
/// Every pack is verified first. A line is the pack digest, two spaces and the
/// path as it was named; `runpack verify --expect-file` reads it back.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 written, 1 a pack is refused and nothing is written, 2 could not tell.\n\nExample:\n  runpack pin packs/* --output packs.lock\n  runpack verify packs/* --expect-file packs.lock"
)]
pub(crate) struct PinArgs {
    /// Packs: directories, manifests or sealed archives
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
    /// Where to write [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
}

pub(crate) fn pin(args: &PinArgs) -> Outcome {
    one_standard_input(args.paths.iter().map(String::as_str))?;
    let mut lock = String::new();
    for path in &args.paths {
        if path.contains('\n') {
            return Err(format!("`{}` has a line break in its name, which a line cannot hold", shown(path)));
        }
        let (reader, manifest_name) = args.read.open(path)?;
        let report = verify(&*reader, &manifest_name, &args.read.verify_options());
        match report.pack_digest {
            Some(digest) if report.verdict.passed() => {
                let _ = writeln!(lock, "{digest}  {}", shown(path));
            }
            _ => {
                out::talk(out::report(&Paint::plain(), path, &report));
                return Ok(if report.verdict.passed() { ExitCode::from(COULD_NOT) } else { exit_code(report.verdict) });
            }
        }
    }
    match &args.output {
        None => out::say(&lock),
        Some(file) => {
            let is_pin = |beginning: &[u8]| {
                beginning.get(64..66) == Some(b"  ") && beginning[..64].iter().all(u8::is_ascii_hexdigit)
            };
            same_kind(file, "file of pins", is_pin)?;
            std::fs::write(file, lock).map_err(|error| format!("cannot write `{}`: {error}", file.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
