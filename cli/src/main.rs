//! `runpack`, the auditor's door: arguments in, exit codes out.
//!
//! 0 is yes, 1 is no, 2 is could not tell.

mod batch;
mod commands;
mod formats;
mod out;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use commands::{COULD_NOT, authoring, build, diff, explain, pin, pull, replay, seal, show, unseal, verify};
#[cfg(feature = "object-store")]
use commands::{gc, ls, mirror, push};

/// Verify, replay, compare, seal and build packs, offline
#[derive(Parser)]
#[command(name = "runpack", version, max_term_width = 100, disable_help_flag = true)]
struct Cli {
    /// Print help: all of it, on one screen
    #[arg(short, long, global = true, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Verify(Box<verify::VerifyArgs>),
    Replay(replay::ReplayArgs),
    Show(show::ShowArgs),
    Diff(diff::DiffArgs),
    Pin(pin::PinArgs),
    Explain(explain::ExplainArgs),
    Seal(seal::SealArgs),
    Unseal(unseal::UnsealArgs),
    Build(Box<build::BuildArgs>),
    Pull(pull::PullArgs),
    #[cfg(feature = "object-store")]
    Push(push::PushArgs),
    #[cfg(feature = "object-store")]
    Mirror(mirror::MirrorArgs),
    #[cfg(feature = "object-store")]
    Ls(ls::LsArgs),
    #[cfg(feature = "object-store")]
    Gc(gc::GcArgs),
    Authoring(authoring::AuthoringArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Verify(args) => verify::verify(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Show(args) => show::show(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Pin(args) => pin::pin(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Seal(args) => seal::seal(&args),
        Command::Unseal(args) => unseal::unseal(&args),
        Command::Build(args) => build::build(&args),
        Command::Pull(args) => pull::pull(&args),
        #[cfg(feature = "object-store")]
        Command::Push(args) => push::push(&args),
        #[cfg(feature = "object-store")]
        Command::Mirror(args) => mirror::mirror(&args),
        #[cfg(feature = "object-store")]
        Command::Ls(args) => ls::ls(&args),
        #[cfg(feature = "object-store")]
        Command::Gc(args) => gc::gc(&args),
        Command::Authoring(args) => authoring::authoring(&args),
    };
    outcome.unwrap_or_else(|error| {
        out::talk(format_args!("error: {error}"));
        ExitCode::from(COULD_NOT)
    })
}
