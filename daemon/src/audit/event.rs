use std::fmt::Display;
use std::net::IpAddr;

use runpack_core::canon::{Digest, size_within};
use runpack_core::model::{NamespaceId, ScenarioId, SchemaId, StageId, TenantId};
use runpack_core::read::admit_value;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

/// Bytes that are kept of one text. Some are a caller's own, as long as the
/// caller likes.
const TEXT_BYTES_MAX: usize = 1_024;

/// Bytes of the request, or the answer, of a precheck.
const PAYLOAD_BYTES_MAX: u64 = 1024 * 1024;

/// Something that happened, with the names that readers of these logs know. Ids
/// are texts here.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A request was answered.
    McpRequest(McpRequest),
    /// Whether somebody may act for a tenant.
    TenantAuthz(TenantAuthz),
    /// Something was counted.
    UsageAudit(UsageAudit),
    /// Whether somebody may use the registry of data shapes.
    RegistryAudit(RegistryAudit),
    /// A precheck was answered.
    PrecheckAudit(PrecheckAudit),
    /// Something about how safely this deployment runs.
    SecurityAudit(SecurityAudit),
    /// Whether somebody may call a tool. The one event without a time: the
    /// `mcp_request` with the same `server_correlation_id` has it.
    McpToolAuthz(McpToolAuthz),
}

/// What ties lines to one request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Correlation {
    /// The request's own id, as JSON text: a string keeps its quotes.
    pub request_id: Option<String>,
    /// The id of the answer.
    pub server_correlation_id: Option<String>,
    /// The caller's id, which is whatever the caller likes.
    pub unsafe_client_correlation_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the members of the line")]
pub struct McpRequest {
    #[serde(flatten)]
    pub correlation: Correlation,
    pub transport: Transport,
    pub peer_ip: Option<IpAddr>,
    pub method: Method,
    pub tool: Option<String>,
    pub outcome: Outcome,
    pub error_code: Option<i32>,
    pub error_kind: Option<String>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub client_subject: Option<String>,
    pub redaction: Redaction,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the members of the line")]
pub struct TenantAuthz {
    #[serde(flatten)]
    pub correlation: Correlation,
    pub tool: String,
    pub allowed: bool,
    pub reason: String,
    pub principal_id: Option<String>,
    #[serde(serialize_with = "text")]
    pub tenant_id: Option<TenantId>,
    #[serde(serialize_with = "text")]
    pub namespace_id: Option<NamespaceId>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the members of the line")]
pub struct UsageAudit {
    #[serde(flatten)]
    pub correlation: Correlation,
    pub tool: String,
    #[serde(serialize_with = "text")]
    pub tenant_id: Option<TenantId>,
    #[serde(serialize_with = "text")]
    pub namespace_id: Option<NamespaceId>,
    pub principal_id: Option<String>,
    pub metric: Metric,
    pub units: u64,
    pub allowed: bool,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the members of the line")]
pub struct RegistryAudit {
    #[serde(flatten)]
    pub correlation: Correlation,
    #[serde(serialize_with = "text")]
    pub tenant_id: Option<TenantId>,
    #[serde(serialize_with = "text")]
    pub namespace_id: Option<NamespaceId>,
    pub action: RegistryAction,
    pub allowed: bool,
    pub reason: String,
    pub principal_id: Option<String>,
    pub roles: Vec<String>,
    pub policy_class: Option<String>,
    pub schema_id: Option<SchemaId>,
    pub schema_version: Option<String>,
}

/// A request or an answer that is too large, or could not be written down just
/// so, is left out, and the line says `hash_only`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the members of the line")]
pub struct PrecheckAudit {
    #[serde(flatten)]
    pub correlation: Correlation,
    #[serde(serialize_with = "text")]
    pub tenant_id: Option<TenantId>,
    #[serde(serialize_with = "text")]
    pub namespace_id: Option<NamespaceId>,
    pub scenario_id: Option<ScenarioId>,
    pub stage_id: Option<StageId>,
    pub schema_id: Option<SchemaId>,
    pub schema_version: Option<String>,
    pub request_hash: Digest,
    pub response_hash: Digest,
    /// `null` unless payloads are logged.
    pub request: Value,
    /// `null` unless payloads are logged.
    pub response: Value,
    pub redaction: PayloadRedaction,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the members of the line")]
pub struct SecurityAudit {
    pub kind: SecurityKind,
    pub message: String,
    pub dev_permissive: bool,
    pub namespace_authority: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the members of the line")]
pub struct McpToolAuthz {
    #[serde(flatten)]
    pub correlation: Correlation,
    pub decision: AuthzDecision,
    /// The tool, or `tools/list`.
    pub action: String,
    pub transport: Transport,
    pub peer_ip: Option<IpAddr>,
    pub auth_method: AuthMethod,
    pub subject: Option<String>,
    pub token_fingerprint: Option<TokenFingerprint>,
    pub reason: Option<String>,
}

/// What is written of a token: the SHA-256 of its text, in hex. There is no way
/// to put the token itself into an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenFingerprint(Digest);

impl TokenFingerprint {
    /// Of the token as it was presented, without the word before it.
    pub fn of(token: &str) -> Self {
        Self(Digest::of(token.as_bytes()))
    }
}

impl From<Digest> for TokenFingerprint {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

impl Serialize for TokenFingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

macro_rules! words {
    ($($case:literal: $name:ident { $($variant:ident),* })*) => {$(
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        #[serde(rename_all = $case)]
        #[allow(missing_docs, reason = "the words of the line")]
        pub enum $name { $($variant),* }
    )*};
}

words! {
    "snake_case": Transport { Http, Sse, Stdio }
    "PascalCase": Method { ToolsList, ToolsCall, ResourcesList, ResourcesRead, Invalid, Other }
    "PascalCase": Outcome { Ok, Error }
    "snake_case": Redaction { Full, Evidence }
    "snake_case": PayloadRedaction { HashOnly, Payload }
    "snake_case": Metric {
        ToolCalls, RunsStarted, EvidenceQueries, RunpackExports, SchemasWritten, RegistryEntries, StorageBytes
    }
    "snake_case": RegistryAction { Register, List, Get }
    "snake_case": SecurityKind { DevPermissiveEnabled, InvalidCorrelationId }
    "snake_case": AuthzDecision { Allow, Deny }
    "snake_case": AuthMethod { Local, BearerToken, MtlsSubject }
}

/// What the log says of itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Own {
    /// Something at the end of the file was no line, and was put aside.
    AuditRecovered { bytes: u64, kept: String, sha256: String },
    /// The log could not be written, and more happened than memory was kept for.
    AuditLost { lines: u64, reason: String },
}

impl Event {
    /// The line's own members, without its place in the chain.
    pub(super) fn members(mut self, timestamp_ms: u64) -> Map<String, Value> {
        if let Self::PrecheckAudit(event) = &mut self
            && !(recordable(&event.request) && recordable(&event.response))
        {
            (event.request, event.response) = (Value::Null, Value::Null);
            event.redaction = PayloadRedaction::HashOnly;
        }
        let timestamp = (!matches!(self, Self::McpToolAuthz(_))).then_some(timestamp_ms);
        finished(json!(self), timestamp)
    }
}

impl Own {
    pub(super) fn members(&self, timestamp_ms: u64) -> Map<String, Value> {
        finished(json!(self), Some(timestamp_ms))
    }
}

fn finished(event: Value, timestamp_ms: Option<u64>) -> Map<String, Value> {
    let Value::Object(mut members) = event else { return Map::new() };
    for (name, value) in &mut members {
        match value {
            Value::String(text) => shorten(text),
            Value::Array(items) if name == "roles" => items.iter_mut().for_each(|item| {
                if let Value::String(text) = item {
                    shorten(text);
                }
            }),
            _ => {}
        }
    }
    if let Some(timestamp) = timestamp_ms {
        members.insert("timestamp_ms".to_owned(), timestamp.into());
    }
    members
}

fn shorten(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
    }
}

/// Whether a value reads back as it is from a line of ours.
fn recordable(value: &Value) -> bool {
    matches!(size_within(value, PAYLOAD_BYTES_MAX), Ok(Ok(_))) && admit_value(&mut value.clone(), "").is_ok()
}

fn text<T: Display, S: Serializer>(id: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => serializer.collect_str(id),
        None => serializer.serialize_none(),
    }
}
