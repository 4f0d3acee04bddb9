use clap::Args;

use super::serve::{self, ConfigArgs};
use crate::talk::LogArgs;

/// Serve runs to the program that starts this one, over its pipes
///
/// Lines of JSON are the Model Context Protocol; frames with Content-Length are
/// the dialect of /rpc. Several of these and a daemon may use one store at once.
/// Ends when the input does.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 the input ended, 2 it could not serve.\n\nExample:\n  runpackd mcp --preset quickstart-dev"
)]
pub struct McpArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    pub log: LogArgs,
}

/// Serves until the input ends.
///
/// # Errors
/// A sentence that says why it cannot.
pub async fn mcp(args: &McpArgs) -> Result<(), String> {
    serve::mcp(&args.config).await
}
