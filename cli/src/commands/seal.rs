use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use runpack_storage::packs::{ARCHIVE_ENDING, Published, Replace, SealError, Sealed, Verified, seal as write, seal_to};

use super::{Outcome, ReadArgs, exit_code};
use crate::out::{self, Paint};

/// Put a pack into one file, byte for byte the same wherever it is done
///
/// The pack is verified first: what does not pass is not sealed. A sealed pack
/// is an uncompressed tar, and every command reads it as it is.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 sealed, or the same archive was there; 1 the pack is refused; 2 could not tell, or could not be written.\n\nExample:\n  runpack seal ./pack --out pack.runpack.tar\n  runpack seal ./pack --out - | ssh host runpack verify -"
)]
pub(crate) struct SealArgs {
    /// The pack: its directory or its manifest
    #[arg(value_name = "PACK")]
    path: String,
    /// Where the archive goes; `-` is standard output
    #[arg(long, value_name = "FILE.runpack.tar")]
    out: PathBuf,
    /// Replace another file at FILE
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    read: ReadArgs,
}

pub(crate) fn seal(args: &SealArgs) -> Outcome {
    let shown = out::printable(&args.out.display().to_string());
    let to_stdout = args.out.as_os_str() == "-";
    if !to_stdout && args.out.extension().is_none_or(|ending| ending != "tar") {
        return Err(format!("`{shown}` is not called like an archive\nhint: let it end with `{ARCHIVE_ENDING}`"));
    }
    let (reader, manifest_name) = args.read.open(&args.path)?;
    let pack = match Verified::new(&*reader, &manifest_name, args.read.max_artifact_bytes) {
        Ok(pack) => pack,
        Err(report) => {
            out::talk(out::report(&Paint::plain(), &args.path, &report));
            return Ok(exit_code(report.verdict));
        }
    };
    let replace = if args.replace { Replace::Yes } else { Replace::No };
    let sealed = if to_stdout { seal_to_stdout(&pack) } else { seal_to(&pack, &args.out, replace) };
    let sealed = sealed.map_err(|error| format!("the pack was not sealed: {error}"))?;
    let how = if sealed.published == Published::Identical { "the same archive was there" } else { "sealed" };
    let text = format!(
        "{shown}: {how}\n  archive        {} bytes\n  root digest    {}\n  pack digest    {}\n",
        sealed.bytes,
        sealed.root_hash,
        pack.pack_digest()
    );
    if to_stdout {
        out::talk(text.trim_end());
    } else {
        out::say(&text);
    }
    Ok(ExitCode::SUCCESS)
}

fn seal_to_stdout(pack: &Verified<'_>) -> Result<Sealed, SealError> {
    let mut out = io::BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    let sealed = write(pack, &mut out)?;
    out.flush()?;
    Ok(sealed)
}
