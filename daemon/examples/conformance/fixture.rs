//! The fixture: every request the suite makes, and what it is answered.

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, ClientCapabilities,
    CompleteRequestParams, CompleteResult, CompletionInfo, ContentBlock, ErrorData, GetPromptRequestParams,
    GetPromptResponse, GetPromptResult, GetTaskParams, GetTaskResult, Implementation, JsonObject, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, LoggingLevel, LoggingMessageNotificationParam,
    PaginatedRequestParams, ProgressNotificationParam, PromptMessage, ProtocolVersion, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, ResourceContents, Role, ServerCapabilities, ServerConfig, ServerRequest,
    SetLevelRequestMethod, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool,
    UnsubscribeRequestParams, UpdateTaskParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::task_manager::TaskManager;
use rmcp::{RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::catalogue::Catalogue;
use crate::rounds::Round;
use crate::tasks::{Job, slow};

/// Between the steps of tools that tell how far they are.
const STEP: Duration = Duration::from_millis(50);
/// How long lists may be kept: they never change, whatever is said.
const TTL_MS: u64 = 60_000;

/// A list that is said to have changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Tools,
    Prompts,
}

/// What the suite talks to. Copies share everything.
#[derive(Clone)]
pub struct Fixture {
    catalogue: Arc<Catalogue>,
    tasks: TaskManager,
    changes: broadcast::Sender<List>,
}

impl Fixture {
    pub fn new(catalogue: Catalogue) -> Self {
        Self { catalogue: Arc::new(catalogue), tasks: TaskManager::new(), changes: broadcast::channel(16).0 }
    }

    /// Tools that answer while they are asked, and those that must be.
    async fn run(
        &self,
        name: &str,
        arguments: &JsonObject,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        if let Some(content) = self.catalogue.results.get(name) {
            return Ok(CallToolResult::success(content.clone()));
        }
        if let Some(question) = self.catalogue.asked.get(name) {
            return ask(question.clone(), arguments, context).await;
        }
        let said = match name {
            "test_error_handling" => {
                let text = "This tool intentionally returns an error for testing";
                return Ok(CallToolResult::error(vec![ContentBlock::text(text)]));
            }
            "greet" => format!("Hello, {}!", arguments.get("name").and_then(Value::as_str).unwrap_or("you")),
            "test_tool_with_logging" => {
                for step in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
                    log(step, context).await;
                    tokio::time::sleep(STEP).await;
                }
                "logged".to_owned()
            }
            "test_logging_tool" => {
                log("somebody looks", context).await;
                "logged, if somebody asked for it".to_owned()
            }
            "test_tool_with_progress" => {
                for percent in [0.0, 50.0, 100.0] {
                    if let Some(token) = context.meta.get_progress_token() {
                        let told = ProgressNotificationParam::new(token, percent).with_total(100.0);
                        let _ = context.peer.notify_progress(told).await;
                    }
                    tokio::time::sleep(STEP).await;
                }
                "done".to_owned()
            }
            "test_reconnection" => {
                tokio::time::sleep(STEP).await;
                "here again".to_owned()
            }
            "test_missing_capability" => {
                let declared = context.client_capabilities().unwrap_or_default();
                if declared.sampling.is_none() {
                    let needed = ClientCapabilities::builder().enable_sampling().build();
                    return Err(ErrorData::missing_required_client_capability(needed));
                }
                "you have a model".to_owned()
            }
            "test_trigger_tool_change" => self.changed(List::Tools),
            "test_trigger_prompt_change" => self.changed(List::Prompts),
            _ => return Err(ErrorData::invalid_params(format!("unknown tool: {name}"), None)),
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(said)]))
    }

    fn changed(&self, list: List) -> String {
        let listening = self.changes.send(list).unwrap_or(0);
        format!("{listening} clients are told")
    }

    fn contents(&self, uri: &str) -> Option<ResourceContents> {
        if let Some(id) = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data")) {
            let data = json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
            return Some(ResourceContents::text(data.to_string(), uri).with_mime_type("application/json"));
        }
        self.catalogue.contents.get(uri).cloned()
    }

    fn known(&self, uri: &str) -> Result<ResourceContents, ErrorData> {
        let unknown = || ErrorData::resource_not_found("no such resource", Some(json!({"uri": uri})));
        self.contents(uri).ok_or_else(unknown)
    }
}

/// Asks a client of the old era, which answers while its request waits.
async fn ask(
    mut question: Value,
    arguments: &JsonObject,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResult, ErrorData> {
    let declared = context.client_capabilities().unwrap_or_default();
    if let Some(prompt) = arguments.get("prompt") {
        question["params"]["messages"][0]["content"]["text"] = prompt.clone();
    }
    if let Some(message) = arguments.get("message") {
        question["params"]["message"] = message.clone();
    }
    let broken = |error: serde_json::Error| ErrorData::internal_error(error.to_string(), None);
    let question: ServerRequest = serde_json::from_value(question).map_err(broken)?;
    let can = match question {
        ServerRequest::CreateMessageRequest(_) => declared.sampling.is_some(),
        _ => declared.elicitation.is_some(),
    };
    if !can {
        return Ok(CallToolResult::error(vec![ContentBlock::text("the client does not answer such questions")]));
    }
    Ok(match context.peer.send_request(question).await {
        Ok(answer) => {
            let answer = serde_json::to_string(&answer).map_err(broken)?;
            CallToolResult::success(vec![ContentBlock::text(format!("answered: {answer}"))])
        }
        Err(error) => CallToolResult::error(vec![ContentBlock::text(error.to_string())]),
    })
}

/// Clients of the new era say in each request whether they want to hear.
async fn log(what: &str, context: &RequestContext<RoleServer>) {
    if !is_new(context) || context.meta.log_level().is_some() {
        let told = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(what)).with_logger("conformance");
        let _ = context.peer.notify_logging_message(told).await;
    }
}

/// Versions are dates.
fn is_new(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version().is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

/// The messages with what stands in braces replaced.
fn filled(messages: &[PromptMessage], arguments: &JsonObject) -> Result<Vec<PromptMessage>, ErrorData> {
    let mut text = serde_json::to_string(messages).unwrap_or_default();
    for (name, value) in arguments {
        let quoted = json!(value.as_str().unwrap_or_default()).to_string();
        text = text.replace(&format!("{{{name}}}"), quoted.trim_matches('"'));
    }
    serde_json::from_str(&text).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_logging()
            .enable_completions()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_tasks()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("runpackd-conformance", env!("CARGO_PKG_VERSION")))
            .with_instructions("What the conformance suite expects to find, behind the door of runpackd")
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let list = ListToolsResult::with_all_items(self.catalogue.tools.clone());
        Ok(list.with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Public))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.catalogue.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = request.name.as_ref();
        let arguments = request.arguments.unwrap_or_default();
        let takes_tickets = context.client_capabilities().is_some_and(|declared| declared.supports_tasks());
        let mut job = Job::named(name, &arguments);
        if let Some(asking) = self.catalogue.rounds.get(name) {
            match asking.take(name, request.input_responses, request.request_state.as_deref(), &context)? {
                Round::Asks(result) => return Ok(result.into()),
                Round::Answered(known) if name == "test_tool_with_task" => job = Some(Job::Knowing { known }),
                Round::Answered(known) => {
                    let state = if asking.sealed { "state-ok" } else { "no state" };
                    let text = format!("{state}: {}", json!(known));
                    return Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into());
                }
            }
        }
        match job {
            None => self.run(name, &arguments, &context).await.map(Into::into),
            Some(job) if takes_tickets => Ok(job.begin(&self.tasks).into()),
            Some(Job::Slow { seconds }) => tokio::select! {
                result = slow(seconds) => Ok(result.into()),
                () = context.ct.cancelled() => Err(ErrorData::internal_error("cancelled", None)),
            },
            Some(_) => {
                let needed = ClientCapabilities::builder().enable_tasks().build();
                Err(ErrorData::missing_required_client_capability(needed))
            }
        }
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let list = ListResourcesResult::with_all_items(self.catalogue.resources.clone());
        Ok(list.with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let list = ListResourceTemplatesResult::with_all_items(self.catalogue.templates.clone());
        Ok(list.with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let read = ReadResourceResult::new(vec![self.known(&request.uri)?]);
        Ok(read.with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Public).into())
    }

    async fn subscribe(&self, request: SubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.known(&request.uri).map(|_| ())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.known(&request.uri).map(|_| ())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let list = ListPromptsResult::with_all_items(self.catalogue.prompts.clone());
        Ok(list.with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let name = &request.name;
        if let Some(asking) = self.catalogue.rounds.get(name) {
            return Ok(
                match asking.take(name, request.input_responses, request.request_state.as_deref(), &context)? {
                    Round::Asks(result) => result.into(),
                    Round::Answered(known) => {
                        let message = PromptMessage::new_text(Role::User, json!(known).to_string());
                        GetPromptResult::new(vec![message]).into()
                    }
                },
            );
        }
        let unknown = || ErrorData::invalid_params(format!("unknown prompt: {name}"), None);
        let messages = self.catalogue.messages.get(name).ok_or_else(unknown)?;
        Ok(GetPromptResult::new(filled(messages, &request.arguments.unwrap_or_default())?).into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let values =
            ["testing", "tested", "text"].into_iter().filter(|value| value.starts_with(&request.argument.value));
        let completion = CompletionInfo::new(values.map(str::to_owned).collect());
        Ok(CompleteResult::new(completion.map_err(|error| ErrorData::internal_error(error, None))?))
    }

    async fn set_level(&self, _: SetLevelRequestParams, context: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        // Gone in the new era. What is logged is worth hearing at any level.
        if is_new(&context) { Err(ErrorData::method_not_found::<SetLevelRequestMethod>()) } else { Ok(()) }
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.changes.subscribe();
        loop {
            let change = tokio::select! {
                () = subscription.cancelled() => return Ok(()),
                change = changes.recv() => change,
            };
            // What was not asked for is not sent.
            let _ = match change {
                Ok(List::Tools) => subscription.sink().notify_tool_list_changed().await,
                Ok(List::Prompts) => subscription.sink().notify_prompt_list_changed().await,
                Err(_) => return Ok(()),
            };
        }
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.tasks.get_task(&request.task_id).map(GetTaskResult::new)
    }

    async fn update_task(&self, request: UpdateTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.tasks.update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(&self, request: CancelTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }
}
