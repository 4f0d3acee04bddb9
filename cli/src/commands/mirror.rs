use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use runpack_core::pack::VerifyOptions;
use runpack_storage::packs::object::{self, Bucket, BucketUrl, Place, Pushed};
use runpack_storage::packs::{Published, Replace, directory, in_object_storage};

use super::push::{PublishArgs, verified_to};
use super::verify::Depth;
use super::{COULD_NOT, Outcome, ReadArgs, packs_below, pull};
use crate::batch;
use crate::out;
use crate::progress::ProgressArgs;

/// Copy every pack below one place to another, each under the path it had
///
/// From a directory or object storage, to a directory or object storage. What
/// is copied is verified; what is there already is compared and left alone, so
/// running it again copies what is new.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all are there, 1 a pack is refused, 2 one could not be copied.\n\nExample:\n  runpack mirror s3://bucket/audit ./audit"
)]
pub(crate) struct MirrorArgs {
    /// From: a directory, s3://BUCKET/PREFIX, az:// or gs://
    #[arg(value_name = "FROM")]
    from: String,
    /// To: a directory, s3://BUCKET/PREFIX, az:// or gs://
    #[arg(value_name = "TO")]
    to: String,
    #[command(flatten)]
    publish: PublishArgs,
    /// How deep to look into a pack before it is copied
    #[arg(long, value_enum, default_value_t = Depth::Replay)]
    checks: Depth,
    /// Packs in flight
    #[arg(long, value_name = "N", default_value_t = 8)]
    jobs: usize,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    read: ReadArgs,
}

enum Target {
    Directory(PathBuf),
    Bucket(Bucket, BucketUrl),
}

pub(crate) fn mirror(args: &MirrorArgs) -> Outcome {
    args.progress.begin();
    let stores = args.read.stores()?;
    let packs = packs_below(&args.read, &args.from)?;
    let root = if in_object_storage(&args.from) {
        let (_, url) = stores.bucket(&args.from).map_err(|error| error.to_string())?;
        url.to_string().trim_end_matches('/').to_owned()
    } else {
        directory(&args.from).map_err(|error| error.to_string())?.display().to_string()
    };
    let target = if in_object_storage(&args.to) {
        let (bucket, url) = stores.bucket(&args.to).map_err(|error| error.to_string())?;
        Target::Bucket(bucket, url)
    } else {
        Target::Directory(directory(&args.to).map_err(|error| error.to_string())?)
    };
    let one = |index: usize| copied(args, &packs[index], &root, &target);
    let (mut worst, mut new, mut there) = (0, 0, 0);
    let left = batch::each(packs.len(), args.jobs, one, args.progress, |told| match told {
        Ok(true) => new += 1,
        Ok(false) => there += 1,
        Err((code, error)) => {
            worst = worst.max(code);
            out::talk(format_args!("error: {error}"));
        }
    });
    let failed = packs.len() - new - there - left;
    out::say(&format!("{new} copied, {there} were there, {failed} failed\n"));
    if left > 0 {
        return Err(format!("interrupted, {left} not looked at"));
    }
    Ok(ExitCode::from(worst))
}

/// Whether the pack is new there.
fn copied(args: &MirrorArgs, path: &str, root: &str, target: &Target) -> Result<bool, (u8, String)> {
    let below = path.strip_prefix(root).unwrap_or(path).trim_matches('/');
    let could_not = |error: String| (COULD_NOT, format!("{path}: {error}"));
    let verification = VerifyOptions { checks: args.checks.checks(), ..args.read.verify_options() };
    match target {
        Target::Bucket(bucket, url) => {
            let text = format!("{}/{below}", url.prefix);
            let directory = object::Key::parse(&text).map_err(|error| could_not(error.to_string()))?;
            let (place, options) = (Place::At(&directory), args.publish.options());
            let receipt = verified_to(bucket, place, &args.read, path, &options, &verification)?;
            Ok(receipt.pushed == Pushed::New)
        }
        Target::Directory(directory) => {
            let to = directory.join(below);
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent).map_err(|error| could_not(error.to_string()))?;
            }
            let (published, _) = pull::copied(&args.read, path, &to, Replace::No, &verification)?;
            Ok(published != Published::Identical)
        }
    }
}
