//! Completions and manual pages, for whoever packages the service.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, Command, Subcommand};
use clap_complete::Shell;

/// Write completions for a shell, or manual pages: for whoever packages this
#[derive(Debug, Args)]
pub struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the completions of a shell
    #[command(
        after_help = "Exit codes: 0 printed, 2 there is no such shell.\n\nExample:\n  runpackd generate completions bash > /etc/bash_completion.d/runpackd"
    )]
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Write a manual page for every command into a directory
    #[command(
        after_help = "Exit codes: 0 written, 2 could not be written.\n\nExample:\n  runpackd generate man /usr/local/share/man/man1"
    )]
    Man {
        /// The directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// Writes what `args` ask for about `command`.
///
/// # Errors
/// The directory cannot be written into.
pub fn generate(args: &GenerateArgs, mut command: Command) -> Result<(), String> {
    match &args.what {
        What::Completions { shell } => {
            let name = command.get_name().to_owned();
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut command, name, &mut text);
            // A reader that went away is no failure.
            let _ = io::stdout().write_all(&text);
            Ok(())
        }
        What::Man { directory } => {
            let written = fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory));
            written.map_err(|error| format!("cannot write into `{}`: {error}", directory.display()))
        }
    }
}
