use clap::{Args, Subcommand};

use super::serve::ConfigArgs;
use crate::config::{Door, Missing, Preset};
use crate::service::Service;

/// Check a config, or print one that comes with the program
#[derive(Debug, Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    pub what: What,
}

#[derive(Debug, Subcommand)]
pub enum What {
    Validate(ValidateArgs),
    Show(ShowArgs),
}

/// Say whether `serve` could start with a config
///
/// Files, directories, keys and certificates that it names are looked at;
/// nothing is made or changed.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it could, 2 it could not.\n\nExample:\n  runpackd config validate --preset quickstart-dev"
)]
pub struct ValidateArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Print a config that comes with the program
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 printed.\n\nExample:\n  runpackd config show quickstart-dev")]
pub struct ShowArgs {
    /// Which
    pub preset: Preset,
}

/// Does what is asked for.
///
/// # Errors
/// A sentence that says why `serve` could not start.
pub fn config(args: &ConfigCommand) -> Result<String, String> {
    match &args.what {
        What::Show(ShowArgs { preset }) => Ok(preset.text().to_owned()),
        What::Validate(ValidateArgs { config }) => {
            let configuration = config.read(Missing::Imagine)?;
            if let Door::Http { tls: Some(tls), .. } = &configuration.server.door {
                tls.open()?;
            }
            Service::could_open(&configuration)?;
            let mut text: String =
                configuration.run.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
            text.push_str("Config valid.\n");
            if configuration.server.door.is_exposed() {
                text.push_str("It serves other machines, so `serve` needs --allow-non-loopback.\n");
            }
            Ok(text)
        }
    }
}
