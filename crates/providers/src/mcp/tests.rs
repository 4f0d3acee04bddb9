use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};
use runpack_core::model::EvidenceValue;
use serde_json::{Map, Value, json};

use super::*;
use crate::gather::tests::{context, query};

/// Asks `provider` with `params`.
pub(super) async fn ask(provider: &McpProvider, params: Value) -> EvidenceResult {
    provider.query(&query("outside", "look", Some(params)), &context()).await
}

/// What a failure says, without what all of them say.
pub(super) fn said(result: &EvidenceResult) -> String {
    assert_eq!(result.value, None);
    let error = result.error.as_ref().unwrap();
    assert_eq!(error.code, "provider_error");
    error.message.strip_prefix("evidence provider error: ").unwrap().to_owned()
}

pub(super) fn value(result: &EvidenceResult) -> &Value {
    assert_eq!(result.error, None);
    match &result.value {
        Some(EvidenceValue::Json(value)) => value,
        other => panic!("{other:?}"),
    }
}

/// Waits until `happened`, but not for ever.
pub(super) async fn eventually(what: &str, happened: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if happened() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}

/// A server by the SDK. Its tool answers with the params it was asked with.
#[derive(Clone)]
pub(super) struct StandardServer;

impl ServerHandler for StandardServer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.get_tool(wire::TOOL).into_iter().collect()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        (name == wire::TOOL).then(|| Tool::new(wire::TOOL, "Looks.", Arc::new(Map::new())))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        assert_eq!(request.name, wire::TOOL);
        let params = request.arguments.unwrap_or_default()["query"]["params"].clone();
        let found = json!({"value": {"kind": "json", "value": params}});
        Ok(match params["do"].as_str() {
            Some("text") => CallToolResult::success(vec![ContentBlock::text(found.to_string())]).into(),
            Some("fail") => CallToolResult::error(vec![ContentBlock::text("no such row")]).into(),
            Some("refuse") => return Err(ErrorData::invalid_params("bad row", Some(json!({"row": 7})))),
            Some("wait") => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                return Err(ErrorData::internal_error("waited in vain", None));
            }
            _ => CallToolResult::structured(found).into(),
        })
    }
}

/// What every way to the [`StandardServer`] must carry.
pub(super) async fn speaks_the_standard(provider: &McpProvider) {
    for params in [json!({"n": 1}), json!({"do": "text", "n": 2}), json!({"n": 3})] {
        let result = ask(provider, params.clone()).await;
        assert_eq!((value(&result), result.lane), (&params, Lane::Verified));
    }
    assert_eq!(said(&ask(provider, json!({"do": "fail"})).await), "no such row");
    let refused = ask(provider, json!({"do": "refuse"})).await;
    assert!(said(&refused).ends_with("bad row"), "{refused:?}");
    assert_eq!(refused.error.unwrap().details, Some(json!({"code": -32_602, "data": {"row": 7}})));
}

fn nowhere() -> McpConfig {
    let target = McpTarget::Command { command: vec!["/nonexistent/runpack-provider".to_owned()], pass_env: Vec::new() };
    McpConfig::new("outside".into(), target)
}

#[tokio::test]
async fn a_program_that_is_not_there_is_left_alone_after_a_while() {
    let provider = McpConfig { breaker_failures: 2, ..nowhere() }.build().unwrap();
    for _ in 0..2 {
        let text = said(&ask(&provider, Value::Null).await);
        assert!(text.starts_with("cannot start `/nonexistent/runpack-provider`: "), "{text}");
    }
    let text = said(&ask(&provider, Value::Null).await);
    assert!(text.starts_with("not asked: it is tried again in "), "{text}");
    assert!(text.contains("; failures in a row: 2, of which the last: cannot start"), "{text}");
}

#[tokio::test]
async fn a_bad_correlation_id_is_never_sent() {
    let provider = nowhere().build().unwrap();
    let bad = EvidenceContext { correlation_id: Some("a\r\nb".into()), ..context() };
    let result = provider.query(&query("outside", "look", None), &bad).await;
    assert_eq!(said(&result), "invalid correlation id");
}

#[test]
fn a_config_that_cannot_work_names_its_provider() {
    let error = |target: McpTarget| McpConfig { target, ..nowhere() }.build().map(drop).unwrap_err().to_string();
    let command = |command: Vec<String>| error(McpTarget::Command { command, pass_env: Vec::new() });
    assert_eq!(command(Vec::new()), "providers.outside command: names no program");
    assert_eq!(command(vec![String::new()]), "providers.outside command: names no program");
    let url = |url: &str, token: Option<&str>| {
        let bearer_token = token.map(str::to_owned);
        error(McpTarget::Url { url: url.to_owned(), allow_insecure_http: false, bearer_token })
    };
    assert_eq!(url("nowhere", None), "providers.outside url: relative URL without a base");
    assert_eq!(url("http://127.0.0.1/", None), "providers.outside url: insecure http requires allow_insecure_http");
    assert_eq!(url("ftp://127.0.0.1/", None), "providers.outside url: must be http or https");
    let text = url("https://me:hunter2@127.0.0.1/", None);
    assert!(text.starts_with("providers.outside url: must not hold credentials") && !text.contains("hunter2"));
    let text = url("https://127.0.0.1/", Some("hunter2\n"));
    assert_eq!(text, "providers.outside auth.bearer_token: cannot be sent as a header");
}

#[test]
fn a_contract_is_of_the_provider_it_is_given_for() {
    let contract = |id: &str| {
        let document = json!({
            "provider_id": id, "name": "Outside", "description": "Looks.", "transport": "mcp",
            "config_schema": {"type": "object"}, "checks": [], "notes": [],
        });
        nowhere().contract(document.to_string().as_bytes()).map(|contract| contract.id().clone())
    };
    assert_eq!(contract("outside").unwrap(), "outside".into());
    let error = contract("inside").unwrap_err();
    assert_eq!(error.to_string(), "contract_invalid: is `inside`, and the provider is `outside` (`/provider_id`)");
}
