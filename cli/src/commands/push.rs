use std::process::ExitCode;

use clap::{Args, ValueEnum};
use runpack_core::pack::{Verdict, VerifyOptions};
use runpack_storage::packs::object::{self, Bucket, Place, PublishOptions, PushError, Pushed, Receipt};
use runpack_storage::packs::shown;

use super::verify::Depth;
use super::{COULD_NOT, Outcome, ReadArgs};
use crate::batch;
use crate::out::{self, Paint};
use crate::progress::ProgressArgs;

/// Publish packs to object storage, each whole or not at all
///
/// Every pack is verified first. It goes below the prefix to
/// tenant/…/namespace/…/scenario/…/run/…/spec/sha256/…/, its manifest last. The
/// same pack again is success; another pack of the same run is never
/// overwritten. A push that was cut off goes on when it is run again.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all are there, 1 a pack is refused, 2 one could not be published.\n\nExample:\n  runpack push packs/* s3://bucket/audit"
)]
pub(crate) struct PushArgs {
    /// Packs: their directories, manifests or archives
    #[arg(value_name = "PACK", required = true)]
    packs: Vec<String>,
    /// Where to: s3://BUCKET/PREFIX, az://CONTAINER/PREFIX or gs://BUCKET/PREFIX
    #[arg(value_name = "LOCATION")]
    to: String,
    #[command(flatten)]
    publish: PublishArgs,
    /// How deep to look into a pack before it is published
    #[arg(long, value_enum, default_value_t = Depth::Replay)]
    checks: Depth,
    /// Packs in flight
    #[arg(long, value_name = "N", default_value_t = 4)]
    jobs: usize,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    read: ReadArgs,
}

/// What happens at the target.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct PublishArgs {
    /// What is done about another pack of the same run
    #[arg(long, value_enum, default_value_t = OnExisting::Refuse)]
    on_existing: OnExisting,
    /// Nobody else writes there: accept a store that ignores conditional creates
    #[arg(long)]
    single_writer: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnExisting {
    /// It stays, and nothing is written
    Refuse,
    /// This one goes beside it, below snapshot/PACK-DIGEST/
    Snapshot,
}

impl PublishArgs {
    pub(crate) fn options(self) -> PublishOptions {
        let on_existing = match self.on_existing {
            OnExisting::Refuse => object::OnExisting::Refuse,
            OnExisting::Snapshot => object::OnExisting::Snapshot,
        };
        PublishOptions { on_existing, single_writer: self.single_writer }
    }
}

pub(crate) fn push(args: &PushArgs) -> Outcome {
    args.progress.begin();
    let (bucket, url) = args.read.stores()?.bucket(&args.to).map_err(|error| error.to_string())?;
    let options = args.publish.options();
    let verification = VerifyOptions { checks: args.checks.checks(), ..args.read.verify_options() };
    let one = |index: usize| {
        let place = Place::Below(&url.prefix);
        verified_to(&bucket, place, &args.read, &args.packs[index], &options, &verification)
    };
    let mut worst = 0;
    let left = batch::each(args.packs.len(), args.jobs, one, args.progress, |told| match told {
        Ok(receipt) => {
            let how = match receipt.pushed {
                Pushed::New => "published",
                Pushed::AlreadyThere => "the same pack was there",
            };
            let unsafely = if receipt.conditional { "" } else { "; the store ignores conditional creates" };
            let uri = out::printable(&receipt.storage_uri);
            out::say(&format!("{uri}: {how}{unsafely}\n  pack digest    {}\n", receipt.pack_digest));
        }
        Err((code, error)) => {
            worst = worst.max(code);
            out::talk(format_args!("error: {error}"));
        }
    });
    if left > 0 {
        return Err(format!("interrupted, {left} not published"));
    }
    Ok(ExitCode::from(worst))
}

/// Publishes a pack that verifies; or the exit code and the reason.
pub(crate) fn verified_to(
    bucket: &Bucket,
    place: Place<'_>,
    read: &ReadArgs,
    path: &str,
    options: &PublishOptions,
    verification: &VerifyOptions,
) -> Result<Receipt, (u8, String)> {
    let (pack, manifest_name) = read.open(path).map_err(|error| (COULD_NOT, error))?;
    let published = object::publish_verified(bucket, place, &*pack, &manifest_name, options, verification);
    published.map_err(|error| match error {
        PushError::Unverified { report, left } => {
            let code = if report.verdict == Verdict::Refused { 1 } else { COULD_NOT };
            let report = out::report(&Paint::plain(), path, &report);
            (code, format!("a pack that does not verify goes nowhere\n{report}{left}"))
        }
        error => (COULD_NOT, format!("{}: {error}", shown(path))),
    })
}
