use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use runpack_storage::packs::object::{self, Collected};

use super::{Outcome, ReadArgs};
use crate::out;

/// Remove what exports that were cut off left in object storage
///
/// That is content without a manifest that nobody has touched for a while.
/// Without --delete it is only listed. Packs are never removed.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done, 1 the store keeps something, 2 the store cannot be asked.\n\nExample:\n  runpack gc s3://bucket/audit\n  runpack gc s3://bucket/audit --delete"
)]
pub(crate) struct GcArgs {
    /// Where: s3://BUCKET/PREFIX, az://CONTAINER/PREFIX or gs://BUCKET/PREFIX
    #[arg(value_name = "LOCATION")]
    at: String,
    /// Remove it
    #[arg(long)]
    delete: bool,
    /// Only what has not been written to for so many hours
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    older_than: u64,
    #[command(flatten)]
    read: ReadArgs,
}

pub(crate) fn gc(args: &GcArgs) -> Outcome {
    let (bucket, url) = args.read.stores()?.bucket(&args.at).map_err(|error| error.to_string())?;
    let age = Duration::from_secs(args.older_than.saturating_mul(3600));
    let left = object::orphans(&bucket, &url.prefix, age, SystemTime::now()).map_err(|fault| fault.to_string())?;
    let mut code = ExitCode::SUCCESS;
    for orphan in &left {
        let at = out::printable(&format!("{}/{}/", bucket.url(), orphan.directory));
        let what = if args.delete {
            match object::collect(&bucket, orphan).map_err(|fault| fault.to_string())? {
                Collected::Removed => "removed".to_owned(),
                Collected::Published => "has become a pack, and stays".to_owned(),
                Collected::Retained(keys) => {
                    code = ExitCode::FAILURE;
                    format!(
                        "retained by the store: {}, {} first",
                        out::counted(keys.len(), "object"),
                        out::printable(&keys[0])
                    )
                }
            }
        } else {
            "no manifest; --delete removes it".to_owned()
        };
        out::say(&format!("{:>12}  {:>8}  {at}: {what}\n", orphan.bytes, out::counted(orphan.objects.len(), "file")));
    }
    if left.is_empty() {
        out::talk(format_args!("nothing left behind below `{}` is older than {} hours", args.at, args.older_than));
    }
    Ok(code)
}
