use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use runpack_dispatch::Broker;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Door, Fixed, Missing, Preset, ServiceConfiguration};
use crate::dispatch::{self, DispatchConfiguration};
use crate::http::{self, Behind, Change, Face, Limits, Options, Sessions};
use crate::mcp::Mcp;
use crate::scheduler::{self, SchedulerConfig};
use crate::service::{Service, broker};
use crate::stdio;
use crate::talk::LogArgs;
use crate::tools::{TOOLS, Tools};

/// Names the config where no argument does.
const CONFIG_VARIABLE: &str = "DECISION_GATE_CONFIG";
/// Says that serving other machines is meant.
const ALLOW_VARIABLE: &str = "DECISION_GATE_ALLOW_NON_LOOPBACK";
/// The config where nothing names one.
const CONFIG_FILE: &str = "decision-gate.toml";

/// Which config
#[derive(Debug, Clone, Args)]
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
/// calls at work finish, for up to ten seconds; a second one does not. SIGHUP
/// reads the config again; one that cannot be used changes nothing.
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
    #[command(flatten)]
    pub log: LogArgs,
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
    let scheme = if tls.is_some() { "https" } else { "http" };
    let fixed = configuration.fixed();
    let (behind, beside) = open(configuration, None)?;
    let listener = listen(bind)?;
    let failed = |error: std::io::Error| format!("cannot serve at `{bind}`: {error}");
    let address = listener.local_addr().map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    let limits =
        Limits { body_bytes_max: server.body_bytes_max, inflight_max: server.inflight_max, ..Limits::default() };
    let (change, changes) = mpsc::channel(1);
    let tools = Arc::clone(&behind.tools);
    let watch = Arc::clone(&tools.service().watch);
    let beside = Arc::new(Mutex::new(Some(beside.begin(&tools))));
    let reload = Reload { config: args.config.clone(), fixed, tools, beside: Arc::clone(&beside), change };
    reload.on_signals().map_err(|error| format!("cannot listen for signals: {error}"))?;
    info!("listening on {scheme}://{address}");
    let served = http::serve(listener, behind, Options { replies, limits }, changes, stop).await.map_err(failed);
    if let Some(working) = beside.lock().await.take() {
        working.end().await;
    }
    // A call that is still at work holds it too.
    watch.close();
    served
}

/// What goes on beside the answering of calls.
struct Beside {
    scheduler: Option<SchedulerConfig>,
    deliveries: Option<(DispatchConfiguration, Arc<Broker>)>,
}

/// It, going on.
struct Working {
    scheduler: Option<JoinHandle<()>>,
    deliveries: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Beside {
    fn begin(self, tools: &Tools) -> Working {
        let service = tools.service();
        let scheduler = self.scheduler.map(|config| tokio::spawn(scheduler::run(Arc::clone(service), config)));
        let deliveries = self.deliveries.map(|(configuration, broker)| {
            let (outbox, stop) = (Arc::clone(&service.outbox), CancellationToken::new());
            let stopped = stop.clone().cancelled_owned();
            let working =
                tokio::spawn(async move { dispatch::run(outbox, broker, &configuration.options, stopped).await });
            (stop, working)
        });
        Working { scheduler, deliveries }
    }
}

impl Working {
    /// Takes nothing more, and waits for the deliveries that are being tried.
    async fn end(self) {
        // What it is at is one trigger, whole or not at all.
        if let Some(scheduler) = self.scheduler {
            scheduler.abort();
        }
        if let Some((stop, working)) = self.deliveries {
            stop.cancel();
            let _ = working.await;
        }
    }
}

/// Reads the config again when it is told to.
struct Reload {
    config: ConfigArgs,
    fixed: Fixed,
    tools: Arc<Tools>,
    beside: Arc<Mutex<Option<Working>>>,
    change: mpsc::Sender<Change>,
}

impl Reload {
    #[cfg(unix)]
    fn on_signals(self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};

        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            let mut reload = self;
            while hangup.recv().await.is_some() {
                match reload.now().await {
                    Ok(()) => info!("the config was read again, and holds from now on"),
                    Err(why) => warn!("the config was not read again, what held before holds: {why}"),
                }
            }
        });
        Ok(())
    }

    #[cfg(not(unix))]
    fn on_signals(self) -> std::io::Result<()> {
        Ok(())
    }

    async fn now(&mut self) -> Result<(), String> {
        let (config, fixed, tools) = (self.config.clone(), self.fixed.clone(), Arc::clone(&self.tools));
        // Files, and other people's programs.
        let opened = tokio::task::spawn_blocking(move || {
            let configuration = read(&config)?;
            let changed = fixed.changed(&configuration.fixed());
            if !changed.is_empty() {
                let changed = changed.join(", ");
                return Err(format!("{changed} can only be changed by a restart\nhint: start it again, or undo that"));
            }
            open(configuration, Some(tools.service()))
        });
        let (behind, beside) = opened.await.map_err(|_| "reading it came to an unforeseen end".to_owned())??;
        self.tools = Arc::clone(&behind.tools);
        let (done, holds) = oneshot::channel();
        // Told to who asked only once the next call gets it.
        let sent = self.change.send((behind, done)).await.is_ok();
        if !sent || holds.await.is_err() {
            return Err("the server is stopping".to_owned());
        }
        let mut working = self.beside.lock().await;
        // Empty once the server has stopped.
        if let Some(before) = working.take() {
            before.end().await;
            *working = Some(beside.begin(&self.tools));
        }
        Ok(())
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
    let (Behind { tools, .. }, beside) = open(configuration, None)?;
    let watch = Arc::clone(&tools.service().watch);
    // Ticks are sent by the process that listens.
    let working = Beside { scheduler: None, ..beside }.begin(&tools);
    let served = stdio::serve(tools, message_bytes_max, tokio::io::stdin(), tokio::io::stdout());
    let served = tokio::select! {
        served = served => served.map_err(|error| format!("cannot serve the pipes: {error}")),
        () = stop => Ok(()),
    };
    working.end().await;
    watch.close();
    served
}

fn read(args: &ConfigArgs) -> Result<ServiceConfiguration, String> {
    let configuration = args.read(Missing::Make)?;
    configuration.run.warnings.iter().for_each(|warning| warn!("{warning}"));
    Ok(configuration)
}

/// Opens what the config names; what `before` holds open already, it keeps.
fn open(configuration: ServiceConfiguration, before: Option<&Arc<Service>>) -> Result<(Behind, Beside), String> {
    let tls = match &configuration.server.door {
        Door::Http { tls: Some(tls), .. } => Some(tls.open()?),
        _ => None,
    };
    let rate = configuration.server.rate;
    let dispatch = configuration.dispatch.clone();
    let deliveries =
        dispatch.map(|dispatch| broker(&dispatch).map(|broker| (dispatch, Arc::new(broker)))).transpose()?;
    let beside = Beside { scheduler: configuration.scheduler, deliveries };
    let service = match before {
        None => Service::open(configuration)?,
        Some(before) => before.under(configuration)?,
    };
    let tools = Arc::new(Tools::new(Arc::new(service), TOOLS));
    let mcp = Face::new(Mcp::over_http(Arc::clone(&tools)), Sessions::Never);
    Ok((Behind { tools, mcp, rate, tls }, beside))
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
        info!("stopping: calls at work are finished first");
        tokio::spawn(async move {
            either().await;
            info!("stopped at once");
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
