//! `runpackd`, the service's door: arguments in, exit codes out.

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use runpack_core::model::RunStatus;
use runpackd_lib::client::ClientError;
use runpackd_lib::commands::{call, config, demo, generate, mcp, run, serve, store};
use runpackd_lib::talk::{self, LogArgs, printable};
use runpackd_lib::tools::THREADS;
use tokio::runtime::Builder;
use tracing::{error, info, warn};
use tracing_subscriber::filter::LevelFilter;

/// Run scenarios and export packs, once or as a service
#[derive(Parser)]
#[command(name = "runpackd", version, max_term_width = 100, disable_help_flag = true)]
struct Cli {
    /// Print this help
    #[arg(short, long, global = true, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<run::RunArgs>),
    Demo(demo::DemoArgs),
    Serve(serve::ServeArgs),
    Mcp(mcp::McpArgs),
    Call(call::CallArgs),
    Tools(call::ToolsArgs),
    Config(config::ConfigCommand),
    Store(Box<store::StoreArgs>),
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

fn main() -> ExitCode {
    runpack_storage::packs::object::on_waiting(|why| info!("still trying: {why}"));
    let cli = Cli::parse();
    if matches!(cli.command, Command::Serve(_) | Command::Mcp(_)) {
        begin_again_with_few_heaps();
    }
    let (log, libraries) = match &cli.command {
        Command::Serve(args) => (args.log, LevelFilter::ERROR),
        Command::Mcp(args) => (args.log, LevelFilter::ERROR),
        _ => (LogArgs::default(), LevelFilter::OFF),
    };
    talk::begin(log, libraries);
    let mut builder = match cli.command {
        Command::Serve(_) | Command::Mcp(_) => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    builder.worker_threads(THREADS);
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return could_not(&format!("cannot start: {error}")),
    };
    let outcome = match cli.command {
        Command::Run(args) => runtime.block_on(run::run(&args)).map(|outcome| {
            outcome.warnings.iter().for_each(|warning| warn!("{warning}"));
            say(&outcome.text);
            if outcome.status == RunStatus::Completed { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }),
        Command::Demo(args) => runtime.block_on(demo::demo(&args)).map(|text| {
            say(&text);
            ExitCode::SUCCESS
        }),
        Command::Serve(args) => runtime.block_on(serve::serve(&args)).map(|()| ExitCode::SUCCESS),
        Command::Mcp(args) => runtime.block_on(mcp::mcp(&args)).map(|()| ExitCode::SUCCESS),
        Command::Call(args) => return told(runtime.block_on(call::call(&args))),
        Command::Tools(args) => return told(runtime.block_on(call::tools(&args))),
        Command::Config(args) => config::config(&args).map(|text| {
            say(&text);
            ExitCode::SUCCESS
        }),
        Command::Generate(args) => generate::generate(&args, Cli::command()).map(|()| ExitCode::SUCCESS),
        Command::Store(args) => store::store(&args).map(|(text, whole)| {
            say(&text);
            if whole { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }),
    };
    // A call that did not finish in time is not waited for again.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| could_not(&error))
}

/// The C library keeps a heap for each thread, up to eight for each core, and
/// each grows to the most that was ever in use at once: two hundred slow clients
/// who come and go leave 67 MiB behind, and 21 with four heaps. That has to be
/// said before the program begins.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn begin_again_with_few_heaps() {
    use std::os::unix::process::CommandExt;

    const SETTING: &str = "MALLOC_ARENA_MAX";
    let Ok(program) = std::env::current_exe() else { return };
    if std::env::var_os(SETTING).is_some() {
        return;
    }
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_else(|| "runpackd".into());
    // Comes back only where it is not possible, which costs memory and nothing else.
    let _ = std::process::Command::new(program).arg0(name).args(args).env(SETTING, "4").exec();
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn begin_again_with_few_heaps() {}

fn told(outcome: Result<String, ClientError>) -> ExitCode {
    match outcome {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(ClientError::Refused(why)) => {
            talk::talk(&format!("refused: {why}"));
            ExitCode::from(1)
        }
        Err(ClientError::Unreachable(why)) => could_not(&why),
    }
}

fn could_not(error: &str) -> ExitCode {
    error!("{error}");
    ExitCode::from(2)
}

/// Results go to stdout. A reader that went away is no failure of the run.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(printable(text).as_bytes());
}
