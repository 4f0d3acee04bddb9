use std::path::PathBuf;

use clap::Args;
use runpack_core::engine::Settings;
use runpack_core::model::Lane;
use runpack_core::pack::what_if;

use super::{INPUT_BYTES_MAX, Outcome, ReadArgs, exit_code, read_scenario};
use crate::out::{self, Paint};

/// Decide a pack's run again, and show the working step by step
///
/// With --scenario: what would have been decided under another scenario, on the
/// evidence the pack holds. Evidence is found by its query; what was never
/// asked is Unknown.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 every decision comes out again, 1 it does not, 2 could not tell.\n\nExample:\n  runpack replay ./pack\n  runpack replay ./pack --scenario stricter.json"
)]
pub(crate) struct ReplayArgs {
    /// The pack: its directory, or its manifest
    #[arg(value_name = "PATH")]
    path: String,
    /// Another scenario, JSON or (by extension) RON
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
}

pub(crate) fn replay(args: &ReplayArgs) -> Outcome {
    let (report, pack) = args.read.read(&args.path)?;
    let paint = Paint::for_stdout();
    out::say(&out::report(&paint, &args.path, &report));
    let Ok(pack) = pack else { return Ok(exit_code(report.verdict)) };
    match &args.scenario {
        None => out::say(&format!("\n{}", out::pack(&paint, &pack, true))),
        Some(path) => {
            let scenario = read_scenario(path, INPUT_BYTES_MAX)?;
            let lanes = report.settings.as_ref().and_then(|settings| settings.min_lanes.first());
            let settings = Settings {
                min_lane: lanes.copied().unwrap_or(Lane::Verified),
                anchors: pack.manifest.anchor_policy.clone().unwrap_or_default(),
                ..Settings::default()
            };
            out::say(&out::what_if(&paint, &what_if(&pack, &scenario, &settings)));
        }
    }
    Ok(exit_code(report.verdict))
}
