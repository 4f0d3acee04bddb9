//! The JSON-RPC face: bytes in, bytes out.
//!
//! A small dialect with methods `tools/list` and `tools/call`. It knows no
//! transport: an HTTP status is a number in its table of errors.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use runpack_core::read::{self, Profile, Refusal};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::access::Caller;
use crate::service::Service;
use crate::talk::talk;
use crate::tools::{Answer, Tool, ToolError};

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
}

impl Fault {
    /// An error with its kind's status.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), status: kind.row().2 }
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
        let response = json!({
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
            ToolError::Internal(_) => Kind::Internal,
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

/// The dialect over one service.
pub struct Rpc {
    service: Arc<Service>,
    tools: &'static [Tool],
    /// The result of `tools/list`, which never changes.
    list: Value,
}

/// A request that was understood so far.
struct Request {
    id: Value,
    method: String,
    params: Option<Value>,
}

impl Rpc {
    /// Speaks for `service`, with `tools`.
    pub fn new(service: Arc<Service>, tools: &'static [Tool]) -> Self {
        let listed = tools.iter().filter(|tool| service.access.visible.lists(tool.name)).map(listing).collect();
        let list = Value::Object(Map::from_iter([("tools".to_owned(), Value::Array(listed))]));
        Self { service, tools, list }
    }

    /// What tools work on.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Answers one request. A tool that panics is answered too.
    pub async fn answer(&self, caller: &Caller, body: &[u8]) -> Reply {
        let request = match request(body) {
            Ok(request) => request,
            Err((id, fault)) => return fault.reply_to(id.as_ref()),
        };
        let Request { id, method, params } = request;
        let outcome = match method.as_str() {
            "tools/list" => result(&id, &self.list),
            "tools/call" => match self.call(caller, params).await {
                Ok(answer) => content(&id, &answer),
                Err(fault) => Err(fault),
            },
            _ => Err(Fault::new(Kind::MethodNotFound, "method not found")),
        };
        outcome.unwrap_or_else(|fault| fault.reply_to(Some(&id)))
    }

    async fn call(&self, caller: &Caller, params: Option<Value>) -> Result<Answer, Fault> {
        let (name, arguments) = call_params(params)?;
        let access = &self.service.access;
        let tool = self.tools.iter().find(|tool| tool.name == name && access.visible.sees(tool.name));
        let tool = tool.ok_or_else(|| Fault::new(Kind::MethodNotFound, "unknown tool"))?;
        if let Err(denied) = access.may_call(caller, tool.name) {
            return Err(told(tool, denied.into()));
        }
        // A panic leaves no lock of ours in a state that matters: stores write
        // under theirs only after everything that can fail.
        let run = AssertUnwindSafe(async { (tool.run)(&self.service, caller, arguments).await });
        match run.catch_unwind().await {
            Ok(outcome) => outcome.map_err(|error| told(tool, error)),
            Err(_) => Err(unforeseen()),
        }
    }
}

/// The answer when a call panicked.
pub fn unforeseen() -> Fault {
    let message = "the call came to an unforeseen end\nhint: ask for the run's status before you repeat it";
    Fault::new(Kind::Internal, message).with_status(500)
}

/// Errors an operator has to see are told here, since callers see less.
fn told(tool: &Tool, error: ToolError) -> Fault {
    match &error {
        ToolError::Denied(reason) => talk(&format!("denied: {}: {reason}", tool.name)),
        ToolError::Internal(message) => talk(&format!("error: {}: {message}", tool.name)),
        _ => {}
    }
    error.into()
}

fn listing(tool: &Tool) -> Value {
    // The table's schemas are compiled in, and a test reads each.
    let schema = serde_json::from_str(tool.input_schema).unwrap_or(Value::Null);
    json!({"name": tool.name, "description": tool.description, "input_schema": schema})
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

/// The answer is JSON already, so it is put between the words around it rather
/// than read and written again.
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
