//! What can be asked of the service: one file a tool, one table of them.
//!
//! A tool is a plain async function from arguments to an answer. It knows
//! neither the protocol that carried them nor the transport; the faces (`rpc`,
//! `mcp`) decode, call and render by this table.

mod decision_gate_docs_search;
mod evidence_query;
mod precheck;
mod provider_check_schema_get;
mod provider_contract_get;
mod providers_list;
mod runpack_export;
mod runpack_verify;
mod scenario_define;
mod scenario_next;
mod scenario_start;
mod scenario_status;
mod scenario_submit;
mod scenario_trigger;
mod scenarios_list;
mod schema;
mod schemas_get;
mod schemas_list;
mod schemas_register;

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;
use jsonschema::Validator;
use runpack_core::engine::Scenario;
use runpack_core::model::{NamespaceId, ScenarioId, TenantId};
use runpack_core::read::{self, Admit, Refusal, Unknown};
use runpack_storage::runs::WriteError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::access::{Caller, Denied};
use crate::audit::Metric;
use crate::gatekeeper::GateError;
use crate::roots::RootError;
use crate::scenarios::DefineError;
use crate::service::{NotSeen, Service};
use crate::watch::Trace;

/// Every tool, in the order in which they are listed.
pub const TOOLS: &[Tool] = &[
    scenario_define::TOOL,
    scenario_start::TOOL,
    scenario_status::TOOL,
    scenario_next::TOOL,
    scenario_submit::TOOL,
    scenario_trigger::TOOL,
    evidence_query::TOOL,
    runpack_export::TOOL,
    runpack_verify::TOOL,
    providers_list::TOOL,
    provider_contract_get::TOOL,
    provider_check_schema_get::TOOL,
    schemas_register::TOOL,
    schemas_list::TOOL,
    schemas_get::TOOL,
    scenarios_list::TOOL,
    precheck::TOOL,
    decision_gate_docs_search::TOOL,
];

/// Tools that work for longer than the others, on whole packs: they do so on
/// threads of their own. The others at most wait for a disk, and do it on the
/// thread that serves the connection, of which there are [`THREADS`]. Handing a
/// short call to another thread and its answer back costs more than the call.
const LONG: [&str; 2] = ["runpack_export", "runpack_verify"];

/// Threads that serve connections. Those that wait for the disk at one moment
/// share one write to it, so more of them make fewer writes.
pub const THREADS: usize = 32;

async fn until_stopped(
    tool: Tool,
    service: &Service,
    context: &Context,
    arguments: Value,
) -> Result<Answer, ToolError> {
    tokio::select! {
        biased;
        outcome = (tool.run)(service, context, arguments) => outcome,
        () = context.stop.cancelled() => Err(ToolError::Cancelled),
    }
}

/// One tool.
#[derive(Clone, Copy)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it does, for whoever chooses a tool.
    pub description: &'static str,
    /// The file of its two JSON Schemas, as text.
    pub schemas: &'static str,
    /// What calling it means for the world.
    pub hints: Hints,
    /// Does it.
    pub run: for<'a> fn(&'a Service, &'a Context, Value) -> Running<'a>,
}

/// What calling a tool means for the world, in the words of the Model Context
/// Protocol. Clients ask their users by these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hints {
    /// Nothing is different afterwards.
    pub read_only: bool,
    /// Something may be gone afterwards.
    pub destructive: bool,
    /// The same call again makes no further difference.
    pub idempotent: bool,
    /// What is outside is asked or told.
    pub open_world: bool,
}

impl Hints {
    const READS: Self = Self { read_only: true, destructive: false, idempotent: true, open_world: false };
    const WRITES: Self = Self { read_only: false, destructive: false, idempotent: false, open_world: false };
    const WRITES_ONCE: Self = Self { idempotent: true, ..Self::WRITES };
    const QUESTION: Self = Self { open_world: true, ..Self::READS };
    const ASKS: Self = Self { idempotent: true, open_world: true, ..Self::WRITES };
}

/// For whom a tool works.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who asked.
    pub caller: Caller,
    /// Set when nobody waits for the answer any more.
    pub stop: CancellationToken,
    /// What ties together what is noted of the call.
    pub trace: Trace,
    /// The tool, once it is known.
    pub tool: &'static str,
}

impl Context {
    /// For `caller`, who waits.
    pub fn new(caller: Caller, trace: Trace) -> Self {
        Self { caller, stop: CancellationToken::new(), trace, tool: "" }
    }
}

/// A tool at work.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<Answer, ToolError>> + Send + 'a>>;

/// A tool's answer as JSON text: written once, and put as it is into whatever
/// carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer(Vec<u8>);

impl Answer {
    /// Writes `answer`.
    ///
    /// # Errors
    /// [`ToolError::Serialization`].
    pub fn of(answer: &impl Serialize) -> Result<Self, ToolError> {
        serde_json::to_vec(answer).map(Self).map_err(|_| ToolError::Serialization)
    }

    /// The text.
    pub fn json(&self) -> &[u8] {
        &self.0
    }
}

/// Why a tool has no answer: one variant for each thing a caller does next.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// Write the arguments differently.
    #[error("{0}")]
    Arguments(String),
    /// Ask the operator. The reason is in the log; callers only hear the word.
    #[error("unauthorized")]
    Denied(String),
    /// Ask again later: who decides about namespaces cannot be asked. The reason
    /// is in the log.
    #[error("the namespace authority cannot be asked, nothing was recorded\nhint: ask again later")]
    Unavailable(String),
    /// Make it first, or name another.
    #[error("{0}")]
    NotFound(String),
    /// Something else has that name.
    #[error("{0}")]
    Conflict(String),
    /// Look at the scenario, the run or the request.
    #[error("{0}")]
    ControlPlane(String),
    /// Look at the pack or where it should go.
    #[error("{0}")]
    Runpack(String),
    /// Ask again: nothing was written.
    #[error("{0}")]
    Busy(String),
    /// Have the server's limit raised.
    #[error("{0}")]
    TooLarge(String),
    /// Look at the server.
    #[error("{0}")]
    Internal(String),
    /// Nobody waited for the answer.
    #[error("the call was cancelled")]
    Cancelled,
    /// Look at the server.
    #[error("serialization failed")]
    Serialization,
}

impl ToolError {
    /// Where no page ended.
    fn cursor() -> Self {
        Self::Arguments("invalid cursor\nhint: pass the next_token of the page before, or none".to_owned())
    }
}

impl From<Refusal> for ToolError {
    fn from(refusal: Refusal) -> Self {
        Self::Arguments(refusal.to_string())
    }
}

impl From<Denied> for ToolError {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied.0)
    }
}

impl From<NotSeen> for ToolError {
    fn from(not_seen: NotSeen) -> Self {
        match not_seen {
            NotSeen::Denied(reason) => Self::Denied(reason),
            NotSeen::Unknown(reason) => Self::Unavailable(reason),
        }
    }
}

impl From<RootError> for ToolError {
    fn from(error: RootError) -> Self {
        Self::Runpack(error.to_string())
    }
}

impl From<DefineError> for ToolError {
    fn from(error: DefineError) -> Self {
        match error {
            DefineError::Fault(_) => Self::ControlPlane(error.to_string()),
            DefineError::Defined => Self::Conflict(error.to_string()),
            DefineError::Store(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<GateError> for ToolError {
    fn from(error: GateError) -> Self {
        let message = error.to_string();
        match error {
            GateError::RunNotFound(_) | GateError::Store(WriteError::NotFound(_)) => Self::NotFound(message),
            GateError::SubmissionConflict(_) => Self::Conflict(message),
            GateError::Start(_)
            | GateError::Scenario(_)
            | GateError::Decide(_)
            | GateError::Providers(_)
            | GateError::Payload(_)
            | GateError::NotActive(_)
            | GateError::Store(WriteError::Exists(_) | WriteError::Active(_) | WriteError::Undelivered { .. }) => {
                Self::ControlPlane(message)
            }
            GateError::Store(WriteError::Conflict { .. }) => {
                Self::Busy("others keep writing to the run, nothing was recorded\nhint: ask again".to_owned())
            }
            GateError::Store(WriteError::Damaged(_) | WriteError::Refused(_) | WriteError::Unknown(_))
            | GateError::Read(_)
            | GateError::Canon(_) => Self::Internal(message),
        }
    }
}

/// Reads arguments. Members nobody knows are dropped, as callers count on.
fn arguments<T: DeserializeOwned + Admit>(arguments: Value) -> Result<T, ToolError> {
    Ok(read::ingest_value(arguments, Unknown::Drop)?)
}

/// Items of a page, unless the call says otherwise.
const PAGE: i64 = 50;
/// Items of a page at most.
const PAGE_MAX: i64 = 1_000;

/// How many items a page has.
fn page_limit(limit: Option<i64>) -> Result<usize, ToolError> {
    let limit = limit.unwrap_or(PAGE);
    let problem = || ToolError::Arguments(format!("limit must be between 1 and {PAGE_MAX}"));
    let within = Some(limit).filter(|limit| (1..=PAGE_MAX).contains(limit));
    within.and_then(|limit| usize::try_from(limit).ok()).ok_or_else(problem)
}

/// The scenario a call names, if the caller may act there for the tenant.
async fn scenario(
    service: &Service,
    context: &Context,
    tenant: TenantId,
    namespace: NamespaceId,
    id: &ScenarioId,
) -> Result<Arc<Scenario>, ToolError> {
    service.enter(context, Some(tenant), namespace).await?;
    let found = service.scenarios.get(namespace, id).map_err(|error| ToolError::Internal(error.to_string()))?;
    found.ok_or_else(|| ToolError::NotFound("scenario not defined".to_owned()))
}

/// The tools of one service, as callers see them.
pub struct Tools {
    service: Arc<Service>,
    served: Vec<Served>,
}

/// A tool as it is served.
pub struct Served {
    /// The tool.
    pub tool: Tool,
    /// Made by the first call that needs it.
    arguments: OnceLock<Result<Validator, String>>,
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no such tool, as far as callers know.
    #[error("unknown tool")]
    Unknown,
    /// The tool says why.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// It panicked.
    #[error("the call came to an unforeseen end\nhint: ask for the run's status before you repeat it")]
    Unforeseen,
}

impl Tools {
    /// `tools` over `service`.
    pub fn new(service: Arc<Service>, tools: &[Tool]) -> Self {
        let served = tools.iter().map(|tool| Served { tool: *tool, arguments: OnceLock::new() });
        Self { served: served.collect(), service }
    }

    /// What tools work on.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The tools that are listed, in order.
    pub fn listed(&self) -> impl Iterator<Item = &Served> {
        self.served.iter().filter(|served| self.service.access.visible.lists(served.tool.name))
    }

    /// The tool of that name, if callers may know of it.
    pub fn get(&self, name: &str) -> Option<&Served> {
        let sees = |served: &&Served| self.service.access.visible.sees(served.tool.name);
        self.served.iter().find(|served| served.tool.name == name).filter(sees)
    }

    /// Calls a tool. One that panics is answered too.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, context: &Context, name: &str, arguments: Value) -> Result<Answer, CallError> {
        let tool = self.get(name).ok_or(CallError::Unknown)?.tool;
        let context = &Context { tool: tool.name, ..context.clone() };
        let watch = &self.service.watch;
        let call = async {
            if let Err(fault) = watch.ready() {
                return Err(ToolError::Internal(format!("{fault}\nhint: calls are refused until it can be")));
            }
            let may = self.service.access.may_call(&context.caller, tool.name);
            watch.authorized(context, tool.name, may.as_ref().err().map(|denied| denied.0.as_str()));
            may?;
            watch.used(context, Metric::ToolCalls, 1);
            let asked = (tool.name == precheck::TOOL.name && watch.audit.is_some()).then(|| arguments.clone());
            let outcome = if LONG.contains(&tool.name) {
                let (service, context) = (Arc::clone(&self.service), context.clone());
                let runtime = Handle::current();
                let work = move || runtime.block_on(until_stopped(tool, &service, &context, arguments));
                tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| match error.try_into_panic() {
                    Ok(panic) => resume_unwind(panic),
                    Err(_) => Err(ToolError::Cancelled),
                })?
            } else {
                until_stopped(tool, &self.service, context, arguments).await?
            };
            if let Some(metric) = usage(tool.name) {
                watch.used(context, metric, 1);
            }
            if let Some(asked) = asked {
                watch.precheck(context, asked, outcome.json(), self.service.log_precheck_payloads);
            }
            Ok(outcome)
        };
        // A panic leaves no lock of ours in a state that matters: stores write
        // under theirs only after everything that can fail.
        let outcome = AssertUnwindSafe(call).catch_unwind().await.map_err(|_| CallError::Unforeseen)?;
        outcome.map_err(|error| CallError::Tool(told(context, error)))
    }
}

impl Served {
    /// The schema of its arguments, complete by itself.
    pub fn input(&self) -> Value {
        schema::served(self.tool.schemas, "input")
    }

    /// The schema of its answers, complete by itself.
    pub fn output(&self) -> Value {
        schema::served(self.tool.schemas, "output")
    }

    /// Holds `arguments` against the tool's schema.
    ///
    /// # Errors
    /// The first places that do not fit, each with its path.
    pub fn admit(&self, arguments: &Value) -> Result<(), String> {
        const SHOWN: usize = 5;
        // A test looks at every tool's schema.
        let made = || jsonschema::draft202012::new(&self.input()).map_err(|error| format!("no schema: {error}"));
        let schema = self.arguments.get_or_init(made).as_ref().map_err(Clone::clone)?;
        let faults: Vec<_> = schema.iter_errors(arguments).take(SHOWN).map(|fault| placed(&fault)).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
    }
}

fn placed(fault: &jsonschema::ValidationError<'_>) -> String {
    let place = fault.instance_path().to_string();
    format!("{}: {}", if place.is_empty() { "arguments" } else { &place }, fault.masked())
}

/// What besides a call a tool uses up.
fn usage(tool: &str) -> Option<Metric> {
    match tool {
        "scenario_start" => Some(Metric::RunsStarted),
        "evidence_query" => Some(Metric::EvidenceQueries),
        "runpack_export" => Some(Metric::RunpackExports),
        "schemas_register" => Some(Metric::SchemasWritten),
        _ => None,
    }
}

/// Errors an operator has to see are told here, since callers see less.
fn told(context: &Context, error: ToolError) -> ToolError {
    let (tool, ids) = (context.tool, &context.trace.correlation);
    let (id, request_id) = (ids.server_correlation_id.as_deref(), ids.request_id.as_deref());
    match &error {
        ToolError::Denied(reason) => warn!(id, request_id, "denied: {tool}: {reason}"),
        ToolError::Unavailable(reason) => error!(id, request_id, "{tool}: {reason}"),
        ToolError::Internal(message) => error!(id, request_id, "{tool}: {message}"),
        _ => {}
    }
    error
}

/// The row of a tool: its file's `call` between reading and writing, and the
/// schemas of the same name.
macro_rules! tool {
    ($name:literal, $title:literal, $hints:ident, $description:literal) => {
        /// The tool's row in the table.
        pub(super) const TOOL: $crate::tools::Tool = $crate::tools::Tool {
            name: $name,
            title: $title,
            description: $description,
            schemas: include_str!(concat!("../../../schemas/tools/", $name, ".json")),
            hints: $crate::tools::Hints::$hints,
            run: |service, context, arguments| {
                Box::pin(async move {
                    let arguments = $crate::tools::arguments(arguments)?;
                    $crate::tools::Answer::of(&call(service, context, arguments).await?)
                })
            },
        };
    };
}
use tool;
