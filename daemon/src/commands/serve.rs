use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Door, Missing, Preset, ServiceConfiguration};
use crate::dispatch::{self, DispatchConfiguration};
use crate::http::{self, Limits, Options, TlsOptions};
use crate::scheduler;
use crate::service::{Service, broker};
use crate::stdio;
use crate::talk::talk;
use crate::tools::{TOOLS, Tools};

/// Names the config where no argument does.
const CONFIG_VARIABLE: &str = "DECISION_GATE_CONFIG";
/// Says that serving other machines is meant.
const ALLOW_VARIABLE: &str = "DECISION_GATE_ALLOW_NON_LOOPBACK";
/// The config where nothing names one.
const CONFIG_FILE: &str = "decision-gate.toml";

/// Which config
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The config [default: $DECISION_GATE_CONFIG, else decision-gate.toml here]
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    pub config: Option<PathBuf>,
    /// A config that comes with the program; `config show` prints it
    #[arg(long, value_name = "NAME")]
    pub preset: Option<Preset>,
}

impl ConfigArgs {
    /// Reads the config.
    ///
    /// # Errors
    /// A sentence that says why it cannot be used.
    pub fn read(&self, missing: Missing) -> Result<ServiceConfiguration, String> {
        if let Some(preset) = self.preset {
            let name = format!("preset {}", preset.name());
            return ServiceConfiguration::parse(preset.text(), &name, missing).map_err(|error| error.to_string());
        }
        let named = self.config.clone().or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
        if named.is_none() && !Path::new(CONFIG_FILE).exists() {
            return Err(format!(
                "there is no `{CONFIG_FILE}` here\nhint: name a config with --config, or begin with --preset quickstart-dev"
            ));
        }
        let path = named.unwrap_or_else(|| PathBuf::from(CONFIG_FILE));
        ServiceConfiguration::read(&path, missing).map_err(|error| error.to_string())
    }
}

/// Serve runs to programs on this machine: JSON-RPC at /rpc, MCP at /mcp
///
/// With `transport = "stdio"` it serves the process that started it, as `mcp`
/// does.
///
/// Says where it listens on standard error once it does. SIGTERM and SIGINT let
/// calls at work finish, for up to ten seconds; a second one does not.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it was told to stop, 2 it could not serve.\n\nExample:\n  runpackd serve --preset quickstart-dev"
)]
pub struct ServeArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Serve other machines too, if the config says so
    #[arg(long, env = ALLOW_VARIABLE, value_parser = clap::builder::FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub allow_non_loopback: bool,
}

/// Serves until told to stop.
///
/// # Errors
/// A sentence that says why it cannot.
pub async fn serve(args: &ServeArgs) -> Result<(), String> {
    let configuration = read(&args.config)?;
    let server = configuration.server.clone();
    let stop = stop().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let Door::Http { bind, replies, tls } = server.door.clone() else { return pipes(configuration, stop).await };
    if server.door.is_exposed() && !args.allow_non_loopback {
        return Err(format!(
            "server.bind: `{bind}` can be reached from other machines\n\
             hint: say that you mean it with --allow-non-loopback or {ALLOW_VARIABLE}=1"
        ));
    }
    let tls = tls.as_ref().map(TlsOptions::open).transpose()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let scheduler = configuration.scheduler;
    let dispatch = configuration.dispatch.clone();
    let tools = open(configuration)?;
    let deliveries = deliveries(dispatch, &tools)?;
    let listener = listen(bind)?;
    let failed = |error: std::io::Error| format!("cannot serve at `{bind}`: {error}");
    let address = listener.local_addr().map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    let limits = Limits {
        body_bytes_max: server.body_bytes_max,
        inflight_max: server.inflight_max,
        rate: server.rate,
        ..Limits::default()
    };
    // Ends with the runtime; what it is at is one trigger, whole or not at all.
    if let Some(config) = scheduler {
        tokio::spawn(scheduler::run(Arc::clone(tools.service()), config));
    }
    talk(&format!("listening on {scheme}://{address}"));
    let served = http::serve(listener, tools, Options { replies, limits, tls }, stop).await.map_err(failed);
    deliveries.end().await;
    served
}

/// Packets on their way, until they are told to stop.
struct Deliveries(Option<(CancellationToken, JoinHandle<()>)>);

/// Begins to deliver, if that is wanted.
fn deliveries(dispatch: Option<DispatchConfiguration>, tools: &Tools) -> Result<Deliveries, String> {
    let Some(configuration) = dispatch else { return Ok(Deliveries(None)) };
    let broker = Arc::new(broker(&configuration)?);
    let (outbox, stop) = (Arc::clone(&tools.service().outbox), CancellationToken::new());
    let stopped = stop.clone().cancelled_owned();
    let working = tokio::spawn(async move { dispatch::run(outbox, broker, &configuration.options, stopped).await });
    Ok(Deliveries(Some((stop, working))))
}

impl Deliveries {
    /// Takes nothing more, and waits for what is being tried.
    async fn end(self) {
        if let Some((stop, working)) = self.0 {
            stop.cancel();
            let _ = working.await;
        }
    }
}

/// Serves the process at the other end of the pipes, whatever door the config
/// opens, until it is told to stop or the input ends.
///
/// # Errors
/// A sentence that says why it cannot.
pub async fn mcp(args: &ConfigArgs) -> Result<(), String> {
    let configuration = read(args)?;
    let stop = stop().map_err(|error| format!("cannot listen for signals: {error}"))?;
    pipes(configuration, stop).await
}

async fn pipes(configuration: ServiceConfiguration, stop: impl Future<Output = ()>) -> Result<(), String> {
    let message_bytes_max = configuration.server.body_bytes_max;
    let dispatch = configuration.dispatch.clone();
    let tools = open(configuration)?;
    let deliveries = deliveries(dispatch, &tools)?;
    let served = stdio::serve(tools, message_bytes_max, tokio::io::stdin(), tokio::io::stdout());
    let served = tokio::select! {
        served = served => served.map_err(|error| format!("cannot serve the pipes: {error}")),
        () = stop => Ok(()),
    };
    deliveries.end().await;
    served
}

fn read(args: &ConfigArgs) -> Result<ServiceConfiguration, String> {
    let configuration = args.read(Missing::Make)?;
    configuration.run.warnings.iter().for_each(|warning| talk(&format!("warning: {warning}")));
    Ok(configuration)
}

fn open(configuration: ServiceConfiguration) -> Result<Arc<Tools>, String> {
    Ok(Arc::new(Tools::new(Arc::new(Service::open(configuration)?), TOOLS)?))
}

fn listen(bind: SocketAddr) -> Result<TcpListener, String> {
    let bound = TcpListener::bind(bind).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "\nhint: stop what listens there, or choose another server.bind",
            _ => "\nhint: choose another server.bind",
        };
        format!("cannot listen on `{bind}`: {error}{hint}")
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
