use std::path::PathBuf;

use clap::Args;
use runpack_core::engine::{Logic, Settings};
use runpack_core::model::Lane;
use runpack_core::pack::{Pack, Report, what_if};

use super::{INPUT_BYTES_MAX, Limit, Outcome, ReadArgs, exit_code, read_scenario};
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
    /// The pack: its directory, its manifest or its archive; `-` is standard input
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
            let scenario = read_scenario(path, Limit::Fixed(INPUT_BYTES_MAX))?;
            out::say(&out::what_if(&paint, &what_if(&pack, &scenario, &settings(&report, &pack))));
        }
    }
    Ok(exit_code(report.verdict))
}

/// The settings that explain the run as it was.
fn settings(report: &Report, pack: &Pack) -> Settings {
    let mut settings =
        Settings { anchors: pack.manifest.anchor_policy.clone().unwrap_or_default(), ..Settings::default() };
    if let Some(shown) = &report.settings {
        settings.min_lane = shown.min_lanes.first().copied().unwrap_or(Lane::Verified);
        settings.provider_lanes =
            shown.stricter_providers.iter().map(|provider| (provider.clone(), Lane::Verified)).collect();
        settings.logic =
            if shown.logics.iter().any(|logic| logic == "kleene") { Logic::Kleene } else { Logic::Bochvar };
    }
    settings
}
