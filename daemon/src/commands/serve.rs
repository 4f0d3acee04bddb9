use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::config::{ServerConfiguration, ServiceConfiguration};
use crate::http::{self, Limits};
use crate::rpc::Rpc;
use crate::service::Service;
use crate::talk::talk;
use crate::tools::TOOLS;

/// Names the config where no argument does.
const CONFIG_VARIABLE: &str = "DECISION_GATE_CONFIG";
/// The config where nothing names one.
const CONFIG_FILE: &str = "decision-gate.toml";

/// Serve runs to programs on this machine: JSON-RPC at POST /rpc
///
/// Says where it listens on standard error once it does. SIGTERM and SIGINT let
/// calls at work finish, for up to ten seconds; a second one does not.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it was told to stop, 2 it could not serve.\n\nExample:\n  runpackd serve --config decision-gate.toml"
)]
pub struct ServeArgs {
    /// The config [default: $DECISION_GATE_CONFIG, else decision-gate.toml here]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Serves until told to stop.
///
/// # Errors
/// A sentence that says why it cannot.
pub async fn serve(args: &ServeArgs) -> Result<(), String> {
    let path = config_path(args);
    let configuration = ServiceConfiguration::read(&path).map_err(|error| error.to_string())?;
    configuration.run.warnings.iter().for_each(|warning| talk(&format!("warning: {warning}")));
    let server = configuration.server;
    let service = Service::open(configuration)?;
    let stop = stop().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let listener = listen(&server)?;
    let failed = |error: std::io::Error| format!("cannot serve at `{}`: {error}", server.bind);
    let address = listener.local_addr().map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    let limits =
        Limits { body_bytes_max: server.body_bytes_max, inflight_max: server.inflight_max, ..Limits::default() };
    talk(&format!("listening on http://{address}"));
    http::serve(listener, Rpc::new(Arc::new(service), TOOLS), limits, stop).await.map_err(failed)
}

fn config_path(args: &ServeArgs) -> PathBuf {
    let named = args.config.clone().or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
    named.unwrap_or_else(|| PathBuf::from(CONFIG_FILE))
}

fn listen(server: &ServerConfiguration) -> Result<TcpListener, String> {
    let bound = TcpListener::bind(server.bind).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "\nhint: stop what listens there, or choose another server.bind",
            _ => "\nhint: choose another server.bind",
        };
        format!("cannot listen on `{}`: {error}{hint}", server.bind)
    })
}

/// Ends when the process is told to stop. A second signal ends the process.
///
/// A file that reached its size limit must be an error of the write, not the
/// death of the process, so that signal is taken and left at that.
#[cfg(unix)]
fn stop() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut full = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    tokio::spawn(async move { while full.recv().await.is_some() {} });
    Ok(async move {
        let mut either = async move || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        either().await;
        talk("stopping: calls at work are finished first");
        tokio::spawn(async move {
            either().await;
            talk("stopped at once");
            std::process::exit(2);
        });
    })
}

#[cfg(not(unix))]
fn stop() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
        tokio::spawn(async {
            let _ = tokio::signal::ctrl_c().await;
            std::process::exit(2);
        });
    })
}
