use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use runpack_core::engine::Scenario;
use runpack_core::read;

use super::{Form, INPUT_BYTES_MAX, Limit, Outcome, parse_scenario, read_input};
use crate::out;

/// Check and normalise scenario files
#[derive(Debug, Args)]
pub(crate) struct AuthoringArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Validate(ValidateArgs),
    Normalize(NormalizeArgs),
}

/// Say whether a scenario file makes sense
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it does, 1 it does not, and why; 2 the file cannot be read.\n\nExample:\n  runpack authoring validate scenario.ron"
)]
struct ValidateArgs {
    #[command(flatten)]
    input: InputArgs,
}

/// Print a scenario in its canonical form, which is what digests cover
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 printed, 1 the scenario makes no sense, and why; 2 the file cannot be read.\n\nExample:\n  runpack authoring normalize scenario.ron > scenario.json"
)]
struct NormalizeArgs {
    #[command(flatten)]
    input: InputArgs,
    /// What to print: canonical JSON, or RON for people
    #[arg(long, value_enum, default_value_t = Form::Json)]
    to: Form,
}

#[derive(Debug, Args)]
struct InputArgs {
    /// The scenario
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How it is written [default: by extension]
    #[arg(long, value_enum)]
    format: Option<Form>,
    /// Bytes of the file
    #[arg(long, value_name = "BYTES", value_parser = read::byte_count, default_value_t = INPUT_BYTES_MAX)]
    max_input_bytes: u64,
}

impl InputArgs {
    /// Reads the file and hands its scenario to `tell`; a scenario that makes
    /// no sense is an answer.
    fn answer(&self, tell: impl FnOnce(&Scenario) -> Result<String, String>) -> Outcome {
        let bytes = read_input(&self.file, Limit::Flag(self.max_input_bytes))?;
        match parse_scenario(&bytes, self.format.unwrap_or_else(|| Form::of(&self.file))) {
            Ok(scenario) => {
                out::say(&tell(&scenario)?);
                Ok(ExitCode::SUCCESS)
            }
            Err(problem) => {
                out::talk(format_args!("{}: not valid: {problem}", self.file.display()));
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

pub(crate) fn authoring(args: &AuthoringArgs) -> Outcome {
    match &args.command {
        Command::Validate(args) => args.input.answer(|scenario| {
            Ok(format!(
                "{}: valid\n  scenario     {}\n  spec digest  {}\n",
                out::printable(&args.input.file.display().to_string()),
                out::printable(scenario.spec().scenario_id.as_str()),
                scenario.digest()
            ))
        }),
        Command::Normalize(args) => args.input.answer(|scenario| match args.to {
            Form::Json => Ok(format!("{}\n", String::from_utf8_lossy(scenario.canonical_bytes()))),
            Form::Ron => ron(scenario).map(|text| text + "\n"),
        }),
    }
}

/// RON in the shape of JSON, so that the reader takes it back.
fn ron(scenario: &Scenario) -> Result<String, String> {
    let tree: serde_json::Value =
        serde_json::from_slice(scenario.canonical_bytes()).map_err(|error| error.to_string())?;
    ron::ser::to_string_pretty(&tree, ron::ser::PrettyConfig::default()).map_err(|error| error.to_string())
}
