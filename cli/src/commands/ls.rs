use std::process::ExitCode;

use clap::Args;
use runpack_storage::packs::object;

use super::{Outcome, ReadArgs};
use crate::out;

/// List the packs in object storage, without reading them
///
/// A line is the bytes of the pack, the number of its files, and where it is.
/// Artifacts without a manifest are no pack: an export goes on, or was cut off.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 listed, 2 the store cannot be asked.\n\nExample:\n  runpack ls s3://bucket/audit"
)]
pub(crate) struct LsArgs {
    /// Where: s3://BUCKET/PREFIX, az://CONTAINER/PREFIX or gs://BUCKET/PREFIX
    #[arg(value_name = "LOCATION")]
    at: String,
    #[command(flatten)]
    read: ReadArgs,
}

pub(crate) fn ls(args: &LsArgs) -> Outcome {
    let (bucket, url) = args.read.stores()?.bucket(&args.at).map_err(|error| error.to_string())?;
    for pack in object::packs(&bucket, &url.prefix).map_err(|fault| fault.to_string())? {
        let bytes: u64 = pack.objects.iter().map(|object| object.size).sum();
        let unfinished = if pack.manifest { "" } else { "  (no manifest: no pack)" };
        let at = out::printable(&format!("{}/{}/", bucket.url(), pack.directory));
        out::say(&format!("{bytes:>12}  {:>2} files  {at}{unfinished}\n", pack.objects.len()));
    }
    Ok(ExitCode::SUCCESS)
}
