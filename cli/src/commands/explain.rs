use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use runpack_core::pack::{Code, Severity};

use super::Outcome;
use crate::out;

/// Say what a finding means; without a code, list them all
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 said, 2 there is no such code.\n\nExample:\n  runpack explain RP0201")]
pub(crate) struct ExplainArgs {
    /// RP and four digits
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

pub(crate) fn explain(args: &ExplainArgs) -> Outcome {
    let mut text = String::new();
    match &args.code {
        None => {
            for code in Code::ALL {
                let _ = writeln!(text, "{code}  {}", code.title());
            }
        }
        Some(wanted) => {
            let code = Code::ALL.iter().find(|code| code.as_str().eq_ignore_ascii_case(wanted));
            let code =
                code.ok_or_else(|| format!("there is no finding `{wanted}`\nhint: `runpack explain` lists them"))?;
            let weight = match code.severity() {
                Severity::Error => "the pack is refused (exit 1)",
                Severity::CouldNotTell => "it could not be checked (exit 2)",
                Severity::Warning => "the pack may still pass",
            };
            let _ = writeln!(text, "{code}: {}\n\n{}\n\nWith this finding {weight}.", code.title(), code.why());
        }
    }
    out::say(&text);
    Ok(ExitCode::SUCCESS)
}
