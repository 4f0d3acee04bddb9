//! `runpack`, the auditor's door: arguments in, exit codes out.
//!
//! 0 is yes, 1 is no, 2 is could not tell.

mod batch;
mod commands;
mod formats;
mod out;
mod page;
mod progress;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use commands::{
    COULD_NOT, authoring, build, diff, explain, generate, keygen, pin, pull, replay, report, seal, show, sign, verify,
};
#[cfg(feature = "object-store")]
use commands::{gc, ls, mirror, push};

/// Verify, replay, compare, sign, seal and build packs, offline
#[derive(Parser)]
#[command(name = "runpack", version, max_term_width = 100, disable_help_flag = true)]
struct Cli {
    /// Print this help
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
    Report(report::ReportArgs),
    Diff(diff::DiffArgs),
    Pin(pin::PinArgs),
    Keygen(keygen::KeygenArgs),
    Sign(Box<sign::SignArgs>),
    Explain(explain::ExplainArgs),
    Seal(seal::SealArgs),
    /// Take a pack out of its archive, into a directory
    ///
    /// The copy is verified, and appears whole or not at all.
    #[command(
        after_help = "Exit codes: 0 unsealed, or the same pack was there; 1 the pack is refused; 2 could not tell, or could not be written.\n\nExample:\n  runpack unseal pack.runpack.tar --out ./pack"
    )]
    Unseal(pull::PullArgs),
    Build(Box<build::BuildArgs>),
    /// Bring a pack from object storage, or anywhere else, into a directory
    ///
    /// The copy is verified, and appears whole or not at all.
    #[command(
        after_help = "Exit codes: 0 it is there, 1 it is refused, 2 it could not be brought.\n\nExample:\n  runpack pull s3://bucket/audit/tenant/1/namespace/1/scenario/s/run/r/spec/sha256/5f…/ --out pack"
    )]
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
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

fn main() -> ExitCode {
    #[cfg(feature = "object-store")]
    runpack_storage::packs::object::on_waiting(progress::waiting);
    let outcome = match Cli::parse().command {
        Command::Verify(args) => verify::verify(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Show(args) => show::show(&args),
        Command::Report(args) => report::report(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Pin(args) => pin::pin(&args),
        Command::Keygen(args) => keygen::keygen(&args),
        Command::Sign(args) => sign::sign(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Seal(args) => seal::seal(&args),
        Command::Unseal(args) => pull::pull(&args, "unsealed"),
        Command::Build(args) => build::build(&args),
        Command::Pull(args) => pull::pull(&args, "brought"),
        #[cfg(feature = "object-store")]
        Command::Push(args) => push::push(&args),
        #[cfg(feature = "object-store")]
        Command::Mirror(args) => mirror::mirror(&args),
        #[cfg(feature = "object-store")]
        Command::Ls(args) => ls::ls(&args),
        #[cfg(feature = "object-store")]
        Command::Gc(args) => gc::gc(&args),
        Command::Authoring(args) => authoring::authoring(&args),
        Command::Generate(args) => generate::generate(&args, Cli::command()),
    };
    outcome.unwrap_or_else(|error| {
        out::talk(format_args!("error: {error}"));
        ExitCode::from(COULD_NOT)
    })
}
