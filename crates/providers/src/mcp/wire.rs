//! JSON-RPC as both dialects have it. The SDK's reader takes duplicate members
//! and rounds integers it cannot hold; evidence is read strictly or not at all.

use runpack_core::model::{EvidenceContext, EvidenceQuery};
use runpack_core::read::{self, Profile};
use serde_json::{Map, Value, json};

/// The one tool that is called.
pub(super) const TOOL: &str = "evidence_query";
/// The version of the protocol that begins with a handshake.
const WITH_HANDSHAKE: &str = "2025-11-25";
/// Older ones, which call tools in the same way.
const OLDER: [&str; 3] = ["2024-11-05", "2025-03-26", "2025-06-18"];
/// The version without a handshake: every request says who asks and how.
pub(super) const WITHOUT_HANDSHAKE: &str = "2026-07-28";

/// Bytes of a provider's text that are passed on.
const TEXT_BYTES_MAX: usize = 2_048;

/// One question, as the tool takes it.
pub(super) struct Call {
    arguments: Value,
    /// The caller's own id. It is fit for a header.
    pub(super) correlation: Option<String>,
}

impl Call {
    pub(super) fn new(query: &EvidenceQuery, context: &EvidenceContext) -> Self {
        Self {
            arguments: json!({"query": query, "context": context}),
            correlation: context.correlation_id.as_ref().map(|id| id.as_str().to_owned()),
        }
    }

    /// What `tools/call` is sent.
    pub(super) fn params(&self) -> Value {
        json!({"name": TOOL, "arguments": self.arguments})
    }

    /// The same, from somebody who has not shaken hands.
    pub(super) fn params_without_handshake(&self) -> Value {
        json!({
            "name": TOOL,
            "arguments": self.arguments,
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": WITHOUT_HANDSHAKE,
                "io.modelcontextprotocol/clientInfo": client(),
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        })
    }
}

fn client() -> Value {
    json!({"name": "runpack", "version": env!("CARGO_PKG_VERSION")})
}

/// What `initialize` is sent.
pub(super) fn greeting() -> Value {
    json!({"protocolVersion": WITH_HANDSHAKE, "capabilities": {}, "clientInfo": client()})
}

/// The version that the answer to [`greeting`] settles on.
pub(super) fn settled(answer: Option<&Value>) -> Result<String, String> {
    let version = answer.and_then(|answer| answer.get("protocolVersion")).and_then(Value::as_str);
    match version {
        Some(version) if version == WITH_HANDSHAKE || OLDER.contains(&version) => Ok(version.to_owned()),
        Some(version) => Err(invalid(format_args!("protocol version `{}` is not known", shortened(version)))),
        None => Err(invalid("initialize was answered without a protocol version")),
    }
}

pub(super) fn request(id: &Value, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

pub(super) fn notification(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

/// What came in.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// An answer to the request of that id.
    Reply(Value, Reply),
    /// A request of the other side's.
    Request(Value, String),
    /// Something nobody waits for.
    Notification,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    /// A result, unless even that is missing.
    Result(Option<Value>),
    /// A refusal.
    Error(RpcError),
}

/// A refusal, as JSON-RPC words it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RpcError {
    pub(super) code: Value,
    pub(super) message: String,
    pub(super) data: Option<Value>,
}

/// Reads one message.
///
/// The error is a sentence that begins as the reference system's does.
pub(super) fn message(bytes: &[u8]) -> Result<Message, String> {
    let tree = read::value(bytes, Profile::Ingest).map_err(invalid)?;
    let Value::Object(mut members) = tree else {
        return Err(invalid("not an object"));
    };
    if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(invalid("`jsonrpc` is not `2.0`"));
    }
    let id = members.remove("id");
    if let Some(method) = members.get("method") {
        let method = method.as_str().ok_or_else(|| invalid("`method` is no text"))?;
        return Ok(match id {
            Some(id) => Message::Request(id, method.to_owned()),
            None => Message::Notification,
        });
    }
    let id = id.ok_or_else(|| invalid("no id"))?;
    match members.remove("error") {
        None | Some(Value::Null) => {
            let result = members.remove("result").filter(|result| !result.is_null());
            Ok(Message::Reply(id, Reply::Result(result)))
        }
        Some(Value::Object(error)) => Ok(Message::Reply(id, Reply::Error(rpc_error(error)?))),
        Some(_) => Err(invalid("`error` is no object")),
    }
}

fn rpc_error(mut error: Map<String, Value>) -> Result<RpcError, String> {
    let message = error.get("message").and_then(Value::as_str);
    let message = shortened(message.ok_or_else(|| invalid("an error without a message"))?);
    let code = error.get("code").filter(|code| code.is_number()).cloned();
    let code = code.ok_or_else(|| invalid("an error without a code"))?;
    Ok(RpcError { code, message, data: error.remove("data").filter(|data| !data.is_null()) })
}

/// The answer to `id` among messages that carry one answer only.
pub(super) fn reply_to(id: &Value, message: Message) -> Result<Option<Reply>, String> {
    match message {
        Message::Reply(got, reply) if got == *id => Ok(Some(reply)),
        // Whoever could not read a request cannot tell its id.
        Message::Reply(Value::Null, reply @ Reply::Error(_)) => Ok(Some(reply)),
        Message::Reply(got, _) => Err(wrong_id(&got)),
        Message::Request(..) | Message::Notification => Ok(None),
    }
}

pub(super) fn wrong_id(got: &Value) -> String {
    invalid(format_args!("nothing was asked under the id {}", shortened(&got.to_string())))
}

pub(super) fn invalid(problem: impl std::fmt::Display) -> String {
    format!("invalid json-rpc response: {problem}")
}

/// A text of somebody else's, on one line and not too long.
pub(super) fn shortened(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    match text.char_indices().find(|(at, _)| *at >= TEXT_BYTES_MAX) {
        Some((end, _)) => text[..end].chars().map(plain).chain(['…']).collect(),
        None => text.trim().chars().map(plain).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_reply_a_request_or_neither() {
        let read = |text: &str| message(text.as_bytes()).unwrap();
        let result = Reply::Result(Some(json!({"a": 1})));
        assert_eq!(read(r#"{"jsonrpc":"2.0","id":"x","result":{"a":1}}"#), Message::Reply(json!("x"), result));
        assert_eq!(read(r#"{"jsonrpc":"2.0","id":1}"#), Message::Reply(json!(1), Reply::Result(None)));
        let error = RpcError { code: json!(-32_000), message: "no".to_owned(), data: Some(json!([1])) };
        assert_eq!(
            read(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no","data":[1]}}"#),
            Message::Reply(json!(1), Reply::Error(error))
        );
        assert_eq!(read(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#), Message::Request(json!(1), "ping".to_owned()));
        assert_eq!(read(r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#), Message::Notification);
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let rows = [
            ("", "not JSON"),
            ("hello", "not JSON"),
            ("[]", "not an object"),
            (r#"{"id":1,"result":{}}"#, "`jsonrpc` is not `2.0`"),
            (r#"{"jsonrpc":"2.0","result":{}}"#, "no id"),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"result":{}}"#, "duplicate member"),
            (r#"{"jsonrpc":"2.0","id":1,"result":{"n":36893488147419103232}}"#, "outside ±(2^53−1)"),
            (r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#, "`error` is no object"),
            (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1}}"#, "without a message"),
            (r#"{"jsonrpc":"2.0","id":1,"error":{"message":"no"}}"#, "without a code"),
        ];
        for (text, problem) in rows {
            let error = message(text.as_bytes()).unwrap_err();
            assert!(error.starts_with("invalid json-rpc response: ") && error.contains(problem), "{text} {error}");
        }
    }

    #[test]
    fn an_answer_to_something_else_is_not_taken() {
        let reply = || Reply::Result(None);
        assert_eq!(reply_to(&json!(1), Message::Reply(json!(1), reply())), Ok(Some(reply())));
        assert_eq!(reply_to(&json!(1), Message::Notification), Ok(None));
        for other in [json!("1"), json!(2), Value::Null] {
            let error = reply_to(&json!(1), Message::Reply(other.clone(), reply())).unwrap_err();
            assert_eq!(error, format!("invalid json-rpc response: nothing was asked under the id {other}"));
        }
        let error = RpcError { code: json!(-32_700), message: "no".to_owned(), data: None };
        let unread = || Reply::Error(error.clone());
        assert_eq!(reply_to(&json!(1), Message::Reply(Value::Null, unread())), Ok(Some(unread())));
    }

    #[test]
    fn texts_of_others_are_one_line_and_short() {
        assert_eq!(shortened(" a\nb\u{1b}[31m\n"), "a b [31m");
        let long = shortened(&"é".repeat(4_000));
        assert!(long.ends_with('…') && long.len() <= TEXT_BYTES_MAX + 5);
    }
}
