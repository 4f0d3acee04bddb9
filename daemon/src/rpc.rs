//! The JSON-RPC face: bytes in, bytes out.
//!
//! A small dialect with methods `tools/list`, `tools/call`, `resources/list` and
//! `resources/read`. It knows no transport: an HTTP status is a number in its
//! table of errors.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use runpack_core::read::{self, Profile, Refusal};
use serde::Serialize;
use serde_json::{Value, json};

use crate::docs::{DOCS, Doc};
use crate::tools::{Answer, CallError, Context, Served, ToolError, Tools};
use crate::watch::{Asked, Ended};

/// What went wrong, as clients tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is a row of the table")]
pub enum Kind {
    InvalidRequest,
    MethodNotFound,
    InvalidParams,
    Unauthenticated,
    Unauthorized,
    NotFound,
    Conflict,
    Evidence,
    ControlPlane,
    Runpack,
    Internal,
    Serialization,
    RequestTooLarge,
    RateLimited,
    InflightLimit,
    InvalidCorrelationId,
}

/// Every error of the wire: its number, its name, and the HTTP status it
/// travels with. What a tool found out travels with 200.
#[rustfmt::skip]
pub const ERRORS: [(Kind, i32, &str, u16); 16] = [
    (Kind::InvalidRequest,       -32600, "invalid_request",        400),
    (Kind::MethodNotFound,       -32601, "method_not_found",       400),
    (Kind::InvalidParams,        -32602, "invalid_params",         400),
    (Kind::Unauthenticated,      -32001, "unauthenticated",        401),
    (Kind::Unauthorized,         -32003, "unauthorized",           403),
    (Kind::NotFound,             -32004, "not_found",              200),
    (Kind::Conflict,             -32009, "conflict",               200),
    (Kind::Evidence,             -32020, "evidence",               200),
    (Kind::ControlPlane,         -32030, "control_plane",          200),
    (Kind::Runpack,              -32040, "runpack",                200),
    (Kind::Internal,             -32050, "internal",               200),
    (Kind::Serialization,        -32060, "serialization",          200),
    (Kind::RequestTooLarge,      -32070, "request_too_large",      413),
    (Kind::RateLimited,          -32071, "rate_limited",           429),
    (Kind::InflightLimit,        -32072, "inflight_limit",         503),
    (Kind::InvalidCorrelationId, -32073, "invalid_correlation_id", 400),
];

impl Kind {
    /// The number, the name and the HTTP status.
    pub fn row(self) -> (i32, &'static str, u16) {
        let (_, code, name, status) = ERRORS[self as usize];
        (code, name, status)
    }

    /// Whether the same request may succeed later.
    fn retryable(self) -> bool {
        matches!(self, Self::RateLimited | Self::InflightLimit)
    }
}

/// An error as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub kind: Kind,
    /// What, for people.
    pub message: String,
    /// The HTTP status, usually the kind's.
    pub status: u16,
    /// Milliseconds to wait before asking again, if that is known.
    pub retry_after_ms: Option<u64>,
}

impl Fault {
    /// An error with its kind's status.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), status: kind.row().2, retry_after_ms: None }
    }

    /// The same error under another status.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// The answer to a request whose id is not known.
    pub fn reply(&self) -> Reply {
        self.reply_to(None)
    }

    fn reply_to(&self, id: Option<&Value>) -> Reply {
        let (code, name, _) = self.kind.row();
        let mut response = json!({
            "jsonrpc": "2.0",
            "id": id,
            "error": {
                "code": code,
                "message": self.message,
                "data": {
                    "kind": name,
                    "retryable": self.kind.retryable(),
                    // The id as JSON text, so a string keeps its quotes.
                    "request_id": id.map(ToString::to_string),
                },
            },
        });
        if let Some(wait) = self.retry_after_ms {
            response["error"]["data"]["retry_after_ms"] = wait.into();
        }
        Reply { status: self.status, body: response.to_string().into_bytes() }
    }
}

impl From<ToolError> for Fault {
    fn from(error: ToolError) -> Self {
        let kind = match &error {
            ToolError::Arguments(_) => Kind::InvalidParams,
            ToolError::Denied(_) => Kind::Unauthorized,
            ToolError::NotFound(_) => Kind::NotFound,
            ToolError::Conflict(_) => Kind::Conflict,
            ToolError::ControlPlane(_) => Kind::ControlPlane,
            ToolError::Runpack(_) => Kind::Runpack,
            ToolError::Busy(_) => Kind::InflightLimit,
            // The request was fine, so this is a finding like any other.
            ToolError::TooLarge(_) => return Self::new(Kind::RequestTooLarge, error.to_string()).with_status(200),
            ToolError::Cancelled | ToolError::Unavailable(_) | ToolError::Internal(_) => Kind::Internal,
            ToolError::Serialization => Kind::Serialization,
        };
        Self::new(kind, error.to_string())
    }
}

/// What goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Vec<u8>,
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        match error {
            CallError::Unknown => Self::new(Kind::MethodNotFound, message),
            CallError::Tool(error) => error.into(),
            CallError::Unforeseen => Self::new(Kind::Internal, message).with_status(500),
        }
    }
}

/// The dialect over the tools of one service.
pub struct Rpc {
    tools: Arc<Tools>,
    /// The result of `tools/list`, which never changes, as JSON text. Made by the
    /// first who asks.
    list: OnceLock<Vec<u8>>,
}

/// What is noted of a request.
struct Noted {
    asked: Asked,
    tool: Option<&'static str>,
}

/// A request that was understood so far.
struct Request {
    id: Value,
    method: String,
    params: Option<Value>,
}

impl Rpc {
    /// Speaks for `tools`.
    pub fn new(tools: Arc<Tools>) -> Self {
        Self { tools, list: OnceLock::new() }
    }

    /// Answers one request. A tool that panics is answered too.
    pub async fn answer(&self, mut context: Context, body: &[u8]) -> Reply {
        let began = Instant::now();
        let mut noted = Noted { asked: Asked::Invalid, tool: None };
        let (id, outcome) = match request(body) {
            Ok(Request { id, method, params }) => {
                context.trace.correlation.request_id = Some(id.to_string());
                let outcome = self.perform(&context, &id, &method, params, &mut noted).await;
                (Some(id), outcome)
            }
            Err((id, fault)) => (id, Err(fault)),
        };
        let error = outcome.as_ref().err().map(|fault| (fault.kind.row().0, fault.kind.row().1));
        let reply = outcome.unwrap_or_else(|fault| fault.reply_to(id.as_ref()));
        let ended = Ended {
            asked: noted.asked,
            tool: noted.tool,
            error,
            request_bytes: body.len(),
            response_bytes: reply.body.len(),
            took: began.elapsed(),
        };
        self.tools.service().watch.request(&context.trace, Some(&context.caller), &ended);
        reply
    }

    async fn perform(
        &self,
        context: &Context,
        id: &Value,
        method: &str,
        params: Option<Value>,
        noted: &mut Noted,
    ) -> Result<Reply, Fault> {
        let watch = &self.tools.service().watch;
        noted.asked = match method {
            "tools/list" => Asked::ToolsList,
            "tools/call" => Asked::ToolsCall,
            "resources/list" => Asked::ResourcesList,
            "resources/read" => Asked::ResourcesRead,
            _ => Asked::Other,
        };
        match noted.asked {
            Asked::ToolsCall => {
                let (name, arguments) = call_params(params)?;
                noted.tool = self.tools.get(&name).map(|served| served.tool.name);
                content(id, &self.tools.call(context, &name, arguments).await?)
            }
            Asked::ToolsList => {
                watch.authorized(context, "tools/list", None);
                Ok(written(id, self.list()))
            }
            Asked::ResourcesList => {
                watch.authorized(context, "tools/list", None);
                result(id, &resource_list(self.resources()?))
            }
            Asked::ResourcesRead => {
                watch.authorized(context, "tools/list", None);
                result(id, &resource(self.resources()?, params.as_ref())?)
            }
            Asked::Invalid | Asked::Other => Err(Fault::new(Kind::MethodNotFound, "method not found")),
        }
    }

    fn list(&self) -> &[u8] {
        // One tool after another: the schemas of all take a megabyte.
        self.list.get_or_init(|| {
            let listed: Vec<_> = self.tools.listed().map(|served| listing(served).to_string()).collect();
            format!("{{\"tools\":[{}]}}", listed.join(",")).into_bytes()
        })
    }

    /// The documents, if they are read whole.
    fn resources(&self) -> Result<&[Doc], Fault> {
        let service = self.tools.service();
        let served = service.docs_config.enabled && service.docs_config.resources;
        let docs = served.then(|| service.docs.docs());
        docs.ok_or_else(|| Fault::new(Kind::MethodNotFound, "method not found"))
    }
}

fn resource_list(docs: &[Doc]) -> Value {
    let listed = docs
        .iter()
        .map(|doc| json!({"uri": doc.uri, "name": doc.title, "description": doc.title, "mimeType": "text/markdown"}));
    json!({"resources": listed.collect::<Vec<_>>()})
}

/// The document whose uri the params name, beside or below `arguments`.
fn resource(docs: &[Doc], params: Option<&Value>) -> Result<Value, Fault> {
    let invalid = |message: String| Fault::new(Kind::InvalidParams, message);
    let named = params.and_then(|params| params["uri"].as_str().or_else(|| params["arguments"]["uri"].as_str()));
    let uri = named.ok_or_else(|| invalid("invalid resource params: uri is missing".to_owned()))?;
    if !uri.starts_with(DOCS) {
        return Err(invalid(format!("resource uri must start with {DOCS}")));
    }
    let doc = docs.iter().find(|doc| doc.uri == uri).ok_or_else(|| invalid(format!("unknown resource uri: {uri}")))?;
    Ok(json!({"contents": [{"uri": doc.uri, "mimeType": "text/markdown", "text": doc.text}]}))
}

fn listing(served: &Served) -> Value {
    json!({"name": served.tool.name, "description": served.tool.description, "input_schema": served.input()})
}

/// Reads the envelope. Without all its members there is no id to answer to.
fn request(body: &[u8]) -> Result<Request, (Option<Value>, Fault)> {
    let invalid = || Fault::new(Kind::InvalidRequest, "invalid json-rpc request");
    let tree = read::value(body, Profile::Pack).map_err(|refusal| match refusal {
        // Well-formed as far as other readers go, so it has to be said.
        Refusal::Duplicate { .. } | Refusal::TooDeep { .. } | Refusal::NotFinite { .. } => {
            (None, Fault::new(Kind::InvalidRequest, format!("invalid json-rpc request: {refusal}")))
        }
        _ => (None, invalid()),
    })?;
    let Value::Object(mut members) = tree else { return Err((None, invalid())) };
    let (Some(id), Some(Value::String(version)), Some(Value::String(method))) =
        (members.remove("id"), members.remove("jsonrpc"), members.remove("method"))
    else {
        return Err((None, invalid()));
    };
    if version != "2.0" {
        return Err((Some(id), Fault::new(Kind::InvalidRequest, "invalid json-rpc version")));
    }
    Ok(Request { id, method, params: members.remove("params") })
}

/// Which tool is called, with what.
fn call_params(params: Option<Value>) -> Result<(String, Value), Fault> {
    if let Some(Value::Object(mut params)) = params
        && let (Some(Value::String(name)), Some(arguments)) = (params.remove("name"), params.remove("arguments"))
    {
        return Ok((name, arguments));
    }
    Err(Fault::new(Kind::InvalidParams, "invalid tool params"))
}

fn result(id: &Value, result: &Value) -> Result<Reply, Fault> {
    #[derive(Serialize)]
    struct Response<'a> {
        id: &'a Value,
        jsonrpc: &'static str,
        result: &'a Value,
    }
    match serde_json::to_vec(&Response { id, jsonrpc: "2.0", result }) {
        Ok(body) => Ok(Reply { status: 200, body }),
        Err(_) => Err(Fault::new(Kind::Serialization, "serialization failed")),
    }
}

/// The result is JSON already, so it is put between the words around it rather
/// than read and written again.
fn written(id: &Value, result: &[u8]) -> Reply {
    let head = format!("{{\"id\":{id},\"jsonrpc\":\"2.0\",\"result\":");
    Reply { status: 200, body: [head.as_bytes(), result, b"}"].concat() }
}

/// The same for what a tool answered.
fn content(id: &Value, answer: &Answer) -> Result<Reply, Fault> {
    let head = format!("{{\"id\":{id},\"jsonrpc\":\"2.0\",\"result\":{{\"content\":[{{\"json\":");
    let body = [head.as_bytes(), answer.json(), b",\"type\":\"json\"}]}}"].concat();
    Ok(Reply { status: 200, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_row() {
        for (index, (kind, code, name, _)) in ERRORS.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            assert_eq!(ERRORS.iter().filter(|row| row.1 == code || row.2 == name).count(), 1, "{name}");
        }
    }
}
