//! The face for the Model Context Protocol: the same tools, for every standard
//! client of either era, without sessions.
//!
//! The protocol is the SDK's business. Here its words are put to ours: a tool
//! that refuses is an answer the model reads, not an error of the protocol;
//! arguments are held against the schema that was listed; whoever waits long is
//! told that work goes on; whoever stops waiting stops the work.

mod prompts;
mod resources;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::http::request::Parts;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams, CompleteResult,
    CompletionInfo, ContentBlock, ErrorCode, ErrorData, GetPromptRequestParams, GetPromptResponse, Implementation,
    JsonObject, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ReadResourceRequestParams, ReadResourceResponse, Reference,
    ResourceContents, ServerCapabilities, ServerConfig, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::MissedTickBehavior;

use crate::access::Caller;
use crate::rpc::{Fault, Kind};
use crate::tools::{CallError, Context, Served, ToolError, Tools};
use crate::watch::{Asked, Ended, Trace};

/// How often whoever waits is told that work goes on. Clients give up after a
/// minute of silence.
const PROGRESS_EVERY: Duration = Duration::from_secs(15);
/// How long clients may keep lists, which only change with the server's config.
const LIST_TTL_MS: u64 = 60_000;

/// What the server says of itself: the order in which tools are used.
const INSTRUCTIONS: &str = "Decisions about a run are made on evidence, recorded, and exported for auditors.\n\
    1. scenario_define: stages, gates and conditions, once.\n\
    2. scenario_start: a run of it, under an id of your choice.\n\
    3. scenario_next asks whether the run may go on; scenario_trigger tells it that something happened. The same \
    trigger_id again answers the same decision. scenario_submit hands in what should be kept with the run.\n\
    4. runpack_export makes a pack of the run, and runpack_verify checks one.\n\
    precheck and evidence_query try things out and record nothing. Payloads, triggers and evidence are recorded as \
    they are: auditors read them, so send no secrets. decision_gate_docs_search explains the rest.";

/// The work a caller may have done at once, held while it is done.
#[derive(Clone)]
pub struct Place(#[allow(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

impl Place {
    /// Holds `permit` for as long as somebody holds this.
    pub fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(permit))
    }
}

/// The face. Cloned for every request.
#[derive(Clone)]
pub struct Mcp {
    tools: Arc<Tools>,
    /// Made by the first who asks.
    listed: Arc<OnceLock<Vec<rmcp::model::Tool>>>,
    /// Who calls, where the transport cannot tell. Over HTTP it must.
    caller: Option<Caller>,
}

impl Mcp {
    /// For callers that the HTTP door has let in.
    pub fn over_http(tools: Arc<Tools>) -> Self {
        Self::new(tools, None)
    }

    /// For the one caller at the other end of a pipe.
    pub fn over_stdio(tools: Arc<Tools>) -> Self {
        let caller = tools.service().access.known(Caller::stdio());
        Self::new(tools, Some(caller))
    }

    fn new(tools: Arc<Tools>, caller: Option<Caller>) -> Self {
        Self { tools, listed: Arc::default(), caller }
    }

    fn listed(&self) -> &[rmcp::model::Tool] {
        self.listed.get_or_init(|| self.tools.listed().map(listing).collect())
    }

    fn caller(&self, context: &RequestContext<RoleServer>) -> Result<Caller, ErrorData> {
        let let_in = || context.extensions.get::<Parts>()?.extensions.get::<Caller>().cloned();
        self.caller.clone().or_else(let_in).ok_or_else(|| ErrorData::internal_error("nobody is known to ask", None))
    }

    /// For whom a request is answered.
    fn context(&self, request: &RequestContext<RoleServer>) -> Result<Context, ErrorData> {
        let let_in = request.extensions.get::<Parts>().and_then(|parts| parts.extensions.get::<Trace>().cloned());
        let mut trace = let_in.unwrap_or_else(Trace::stdio);
        trace.correlation.request_id = Some(request.id.clone().into_json_value().to_string());
        Ok(Context { stop: request.ct.clone(), ..Context::new(self.caller(request)?, trace) })
    }

    fn note(&self, context: &Context, asked: Asked, began: Instant, outcome: Result<usize, Kind>) {
        let (request_bytes, took) = (context.trace.request_bytes, began.elapsed());
        let error = outcome.err().map(|kind| (kind.row().0, kind.row().1));
        let response_bytes = outcome.unwrap_or_default();
        let ended = Ended { asked, tool: None, error, request_bytes, response_bytes, took };
        self.tools.service().watch.request(&context.trace, Some(&context.caller), &ended);
    }
}

fn text_bytes(contents: &ResourceContents) -> usize {
    match contents {
        ResourceContents::TextResourceContents { text, .. } => text.len(),
        _ => 0,
    }
}

fn listing(served: &Served) -> rmcp::model::Tool {
    let schema = |schema: Value| -> Arc<JsonObject> {
        Arc::new(if let Value::Object(members) = schema { members } else { JsonObject::new() })
    };
    let hints = served.tool.hints;
    let annotations = ToolAnnotations::with_title(served.tool.title)
        .read_only(hints.read_only)
        .destructive(hints.destructive)
        .idempotent(hints.idempotent)
        .open_world(hints.open_world);
    rmcp::model::Tool::new(served.tool.name, served.tool.description, schema(served.input()))
        .with_title(served.tool.title)
        .with_raw_output_schema(schema(served.output()))
        .with_annotations(annotations)
}

/// A list fits one page, so a cursor is none of ours.
fn one_page(request: Option<&PaginatedRequestParams>) -> Result<(), ErrorData> {
    match request.and_then(|request| request.cursor.as_ref()) {
        None => Ok(()),
        Some(_) => Err(ErrorData::invalid_params("invalid cursor: the list has one page", None)),
    }
}

/// What a tool refuses is for the model to read; what is wrong with the server
/// is not.
fn refused(fault: Fault) -> Result<CallToolResponse, ErrorData> {
    let (_, kind, _) = fault.kind.row();
    if matches!(fault.kind, Kind::Internal | Kind::Serialization) {
        return Err(ErrorData::internal_error(fault.message, Some(json!({"kind": kind}))));
    }
    Ok(CallToolResult::error(vec![ContentBlock::text(format!("{kind}: {}", fault.message))]).into())
}

impl ServerHandler for Mcp {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_prompts()
            .enable_resources()
            .enable_tools()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("runpackd", env!("CARGO_PKG_VERSION")).with_title("Runpack"))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let asked = self.context(&context)?;
        one_page(request.as_ref())?;
        self.tools.service().watch.authorized(&asked, "tools/list", None);
        self.note(&asked, Asked::ToolsList, Instant::now(), Ok(0));
        let list = ListToolsResult::with_all_items(self.listed().to_vec());
        Ok(list.with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Private))
    }

    fn get_tool(&self, name: &str) -> Option<rmcp::model::Tool> {
        self.listed().iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let began = Instant::now();
        let asked = self.context(&context)?;
        let Some(served) = self.tools.get(&request.name) else {
            self.note(&asked, Asked::ToolsCall, began, Err(Kind::MethodNotFound));
            return Err(ErrorData::invalid_params(format!("unknown tool: {}", request.name), None));
        };
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let name = served.tool.name;
        let noted = asked.clone();
        let ended = move |error: Option<(i32, &'static str)>, response_bytes| {
            let (asked, request_bytes, took) = (Asked::ToolsCall, noted.trace.request_bytes, began.elapsed());
            let ended = Ended { asked, tool: Some(name), error, request_bytes, response_bytes, took };
            self.tools.service().watch.request(&noted.trace, Some(&noted.caller), &ended);
        };
        if let Err(faults) = served.admit(&arguments) {
            let (code, kind, _) = Kind::InvalidParams.row();
            ended(Some((code, kind)), faults.len());
            let text = format!("{kind}: {faults}\nhint: compare with the tool's inputSchema");
            return Ok(CallToolResult::error(vec![ContentBlock::text(text)]).into());
        }
        // If the transport drops the call, the work is told.
        let _stop = context.ct.clone().drop_guard();
        let place = context.extensions.get::<Parts>().and_then(|parts| parts.extensions.get::<Place>().cloned());
        let tools = Arc::clone(&self.tools);
        let mut work = tokio::spawn(async move {
            let _place = place;
            tools.call(&asked, name, arguments).await
        });
        let outcome = match context.meta.get_progress_token() {
            None => work.await,
            Some(token) => {
                let mut beat = tokio::time::interval(PROGRESS_EVERY);
                beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let mut beats = 0_u32;
                loop {
                    tokio::select! {
                        outcome = &mut work => break outcome,
                        _ = beat.tick() => {
                            let told = ProgressNotificationParam::new(token.clone(), f64::from(beats))
                                .with_message(format!("{name} is at work"));
                            beats += 1;
                            // Who does not listen still gets the answer.
                            let _ = context.peer.notify_progress(told).await;
                        }
                    }
                }
            }
        };
        let outcome = outcome.unwrap_or(Err(CallError::Unforeseen)).and_then(|answer| {
            let value = serde_json::from_slice::<Value>(answer.json());
            value.map(|value| (value, answer.json().len())).map_err(|_| ToolError::Serialization.into())
        });
        match outcome {
            Ok((value, bytes)) => {
                ended(None, bytes);
                Ok(CallToolResult::structured(value).into())
            }
            Err(error) => {
                let fault = Fault::from(error);
                let (code, kind, _) = fault.kind.row();
                ended(Some((code, kind)), fault.message.len());
                refused(fault)
            }
        }
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let asked = self.context(&context)?;
        one_page(request.as_ref())?;
        self.note(&asked, Asked::ResourcesList, Instant::now(), Ok(0));
        let list = ListResourcesResult::with_all_items(resources::list(self.tools.service()));
        Ok(list.with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Private))
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        one_page(request.as_ref())?;
        self.caller(&context)?;
        let list = ListResourceTemplatesResult::with_all_items(resources::templates());
        Ok(list.with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Private))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let asked = self.context(&context)?;
        let (tools, began, caller) = (Arc::clone(&self.tools), Instant::now(), asked.caller.clone());
        let read = tokio::task::spawn_blocking(move || resources::read(tools.service(), &caller, &request.uri)).await;
        let read = read.map_err(|_| ErrorData::internal_error("reading came to an unforeseen end", None)).flatten();
        let outcome = match &read {
            Ok(result) => Ok(result.contents.iter().map(text_bytes).sum()),
            Err(error) if error.code == ErrorCode::INTERNAL_ERROR => Err(Kind::Internal),
            Err(_) => Err(Kind::NotFound),
        };
        self.note(&asked, Asked::ResourcesRead, began, outcome);
        read.map(Into::into)
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        one_page(request.as_ref())?;
        let list = ListPromptsResult::with_all_items(prompts::list());
        Ok(list.with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Private))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        prompts::get(&request.name, &request.arguments.unwrap_or_default()).map(Into::into)
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let caller = self.caller(&context)?;
        let Reference::Resource(template) = request.r#ref else { return Ok(CompleteResult::default()) };
        let tools = Arc::clone(&self.tools);
        let known = request.context.and_then(|context| context.arguments).unwrap_or_default();
        let found = tokio::task::spawn_blocking(move || {
            resources::complete(tools.service(), &caller, &template.uri, &request.argument, &known)
        });
        let values =
            found.await.map_err(|_| ErrorData::internal_error("completion came to an unforeseen end", None))?;
        let completion = CompletionInfo::new(values).map_err(|error| ErrorData::internal_error(error, None))?;
        Ok(CompleteResult::new(completion))
    }
}
