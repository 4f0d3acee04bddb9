use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command, Subcommand};
use clap_complete::Shell;

use super::Outcome;
use crate::out;

/// Write completions for a shell, or manual pages: for whoever packages this
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Print the completions of a shell
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 printed, 2 there is no such shell.\n\nExample:\n  runpack generate completions bash > /etc/bash_completion.d/runpack"
)]
struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Write a manual page for every command into a directory
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 written, 2 could not be written.\n\nExample:\n  runpack generate man /usr/local/share/man/man1"
)]
struct ManArgs {
    /// The directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(crate) fn generate(args: &GenerateArgs, mut command: Command) -> Outcome {
    match &args.what {
        What::Completions(args) => {
            let mut text = Vec::new();
            let name = command.get_name().to_owned();
            clap_complete::generate(args.shell, &mut command, name, &mut text);
            out::say(&String::from_utf8_lossy(&text));
        }
        What::Man(args) => {
            let failed = |error: io::Error| format!("cannot write into `{}`: {error}", args.directory.display());
            fs::create_dir_all(&args.directory).map_err(failed)?;
            clap_mangen::generate_to(command, &args.directory).map_err(failed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
