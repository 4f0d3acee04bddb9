//! `runpack`, the auditor's door: arguments in, exit codes out.
//!
//! 0 is yes, 1 is no, 2 is could not tell.

mod commands;
mod out;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use commands::{COULD_NOT, authoring, build, show, verify};

/// Build, verify and show packs, offline
#[derive(Parser)]
#[command(name = "runpack", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Verify(verify::VerifyArgs),
    Show(show::ShowArgs),
    Build(build::BuildArgs),
    Authoring(authoring::AuthoringArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Verify(args) => verify::verify(&args),
        Command::Show(args) => show::show(&args),
        Command::Build(args) => build::build(&args),
        Command::Authoring(args) => authoring::authoring(&args),
    };
    outcome.unwrap_or_else(|error| {
        out::talk(format_args!("error: {error}"));
        ExitCode::from(COULD_NOT)
    })
}
