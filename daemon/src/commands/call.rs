use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use runpack_core::read::{self, Profile};
use serde_json::{Value, json};

use super::serve::ConfigArgs;
use super::{INPUT_BYTES_MAX, Limit, read_input};
use crate::client::{Client, ClientError, Endpoint};

/// Where the server is
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4000")]
    pub url: String,
    /// How to speak to it; `pipe` starts `runpackd mcp` instead of asking --url
    #[arg(long, value_name = "FACE", default_value = "rpc")]
    pub over: Face,
    /// A file with the token that shows who you are; else $RUNPACK_TOKEN
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Seconds to wait for the answer
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub timeout_s: u64,
    #[command(flatten, next_help_heading = "Of the server that --over pipe starts")]
    pub config: ConfigArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Face {
    /// The dialect of Decision Gate, at /rpc
    Rpc,
    /// The Model Context Protocol, at /mcp
    Mcp,
    /// The Model Context Protocol, over the pipes of a server of its own
    Pipe,
}

/// Call a tool of a server and print its answer
///
/// Where the call is refused, the reason is on standard error.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 answered, 1 refused by the server, 2 it could not be asked.\n\nExample:\n  runpackd call providers_list --over mcp"
)]
pub struct CallArgs {
    /// The tool
    pub tool: String,
    /// The arguments: an object [default: {}]
    #[arg(long, value_name = "JSON", conflicts_with = "input")]
    pub json: Option<String>,
    /// A file of the arguments, `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// List the tools of a server
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 listed, 1 refused by the server, 2 it could not be asked.\n\nExample:\n  runpackd tools --over pipe"
)]
pub struct ToolsArgs {
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The tool's answer as one line of JSON.
///
/// # Errors
/// See [`ClientError`].
pub async fn call(args: &CallArgs) -> Result<String, ClientError> {
    let arguments = arguments(args).map_err(ClientError::Unreachable)?;
    let client = client(&args.server).map_err(ClientError::Unreachable)?;
    Ok(format!("{}\n", client.call(&args.tool, arguments).await?))
}

/// A line for each tool: its name, and the first sentence of what it does.
///
/// # Errors
/// See [`ClientError`].
pub async fn tools(args: &ToolsArgs) -> Result<String, ClientError> {
    let tools = client(&args.server).map_err(ClientError::Unreachable)?.tools().await?;
    let width = tools.iter().map(|tool| tool.name.len()).max().unwrap_or_default();
    let lines = tools.iter().map(|tool| {
        let sentence = tool.description.split_inclusive(". ").next().unwrap_or_default().trim();
        format!("{:width$}  {sentence}\n", tool.name)
    });
    Ok(lines.collect())
}

fn arguments(args: &CallArgs) -> Result<Value, String> {
    let bytes = match (&args.json, &args.input) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(path)) if path == Path::new("-") => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes);
            read.map_err(|error| format!("cannot read standard input: {error}"))?;
            if bytes.len() as u64 > INPUT_BYTES_MAX {
                return Err(format!("standard input has more than {INPUT_BYTES_MAX} bytes"));
            }
            bytes
        }
        (None, Some(path)) => read_input(path, Limit::Fixed(INPUT_BYTES_MAX))?,
        (None, None) => return Ok(json!({})),
    };
    read::value(&bytes, Profile::Pack).map_err(|refusal| format!("the arguments are no JSON: {refusal}"))
}

fn client(args: &ServerArgs) -> Result<Client, String> {
    if !["http://", "https://"].iter().any(|scheme| args.url.starts_with(scheme)) {
        return Err(format!("--url: `{}` is no address of a server\nhint: write http://127.0.0.1:4000", args.url));
    }
    let base = args.url.trim_end_matches('/');
    let at = |path: &str| if base.ends_with(path) { base.to_owned() } else { format!("{base}{path}") };
    let endpoint = match args.over {
        Face::Rpc => Endpoint::Rpc(at("/rpc")),
        Face::Mcp => Endpoint::Mcp(at("/mcp")),
        Face::Pipe => {
            let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
            let mut command = vec![program.to_string_lossy().into_owned(), "mcp".to_owned()];
            let ConfigArgs { config, preset } = &args.config;
            if let Some(config) = config {
                command.extend(["--config".to_owned(), config.to_string_lossy().into_owned()]);
            }
            if let Some(preset) = preset {
                command.extend(["--preset".to_owned(), preset.name().to_owned()]);
            }
            Endpoint::Pipe(command)
        }
    };
    let token = match &args.token_file {
        Some(path) => {
            let bytes = read_input(path, Limit::Fixed(4096))?;
            let text = String::from_utf8(bytes).map_err(|_| format!("`{}` is not text", path.display()))?;
            Some(text.trim().to_owned())
        }
        None => std::env::var("RUNPACK_TOKEN").ok(),
    };
    Ok(Client { endpoint, token, patience: Duration::from_secs(args.timeout_s.max(1)) })
}
