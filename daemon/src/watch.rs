//! What is noted of calls: lines of the audit log, and numbers for `/metrics`.
//!
//! Everything that is noted of one call carries the same ids. Nothing here
//! changes an answer, save that calls are refused while an audit log that must
//! not miss any cannot be written.

mod metrics;

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use runpack_core::canon::Digest;
use runpack_core::model::{NamespaceId, ScenarioId, SchemaId, StageId, TenantId};
use serde_json::Value;
use tracing::debug;

use crate::access::{Action, Caller, Method};
use crate::audit::{
    AuditFault, AuditLog, AuthMethod, AuthzDecision, Correlation, Event, McpRequest, McpToolAuthz, Metric, Outcome,
    PayloadRedaction, PrecheckAudit, Redaction, RegistryAction, RegistryAudit, SecurityAudit, SecurityKind,
    TenantAuthz, Transport, UsageAudit,
};
use crate::tools::Context;

pub use crate::audit::Method as Asked;
pub use metrics::Metrics;

/// What ties everything that is noted of one request together.
#[derive(Debug, Clone)]
pub struct Trace {
    /// How it came.
    pub transport: Transport,
    /// From where.
    pub peer: Option<IpAddr>,
    /// Its ids.
    pub correlation: Correlation,
    /// Bytes of its body, once it was read. Over pipes the protocol's SDK reads,
    /// and does not say.
    pub request_bytes: usize,
}

impl Trace {
    /// A request over pipes.
    pub fn stdio() -> Self {
        Self { transport: Transport::Stdio, peer: None, correlation: Correlation::default(), request_bytes: 0 }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// What was asked for.
    pub asked: Asked,
    /// Which tool, if one was named.
    pub tool: Option<&'a str>,
    /// The code and the kind of the error, if it was one.
    pub error: Option<(i32, &'a str)>,
    /// Bytes of the request.
    pub request_bytes: usize,
    /// Bytes of the answer.
    pub response_bytes: usize,
    /// How long it took.
    pub took: Duration,
}

/// Notes what happens.
pub struct Watch {
    /// The log, if one is kept.
    pub audit: Option<AuditLog>,
    /// The numbers.
    pub metrics: Metrics,
}

impl Watch {
    /// Without a log.
    pub fn unlogged() -> Self {
        Self { audit: None, metrics: Metrics::default() }
    }

    /// Whether calls may be taken.
    ///
    /// # Errors
    /// The log cannot be written, and that matters.
    pub fn ready(&self) -> Result<(), AuditFault> {
        self.audit.as_ref().map_or(Ok(()), AuditLog::ready)
    }

    /// Puts everything noted so far into the log, and ends it.
    pub fn close(&self) {
        if let Some(audit) = &self.audit {
            audit.close();
        }
    }

    fn note(&self, event: impl FnOnce() -> Event) {
        if let Some(audit) = &self.audit {
            audit.record(now_ms(), event());
        }
    }

    /// A request was answered. `caller` is missing if nobody was recognised.
    pub fn request(&self, trace: &Trace, caller: Option<&Caller>, ended: &Ended<'_>) {
        let ids = &trace.correlation;
        let id = ids.server_correlation_id.as_deref();
        self.metrics.request(ended, id);
        debug!(
            id,
            request_id = ids.request_id.as_deref(),
            correlation_id = ids.unsafe_client_correlation_id.as_deref(),
            subject = caller.map(|caller| caller.subject.as_str()),
            tool = ended.tool,
            code = ended.error.map(|(code, _)| code),
            request_bytes = ended.request_bytes,
            response_bytes = ended.response_bytes,
            took_us = u64::try_from(ended.took.as_micros()).unwrap_or(u64::MAX),
            "{}",
            name(ended.asked)
        );
        self.note(|| {
            Event::McpRequest(McpRequest {
                correlation: trace.correlation.clone(),
                transport: trace.transport,
                peer_ip: trace.peer,
                method: ended.asked,
                tool: ended.tool.map(str::to_owned),
                outcome: if ended.error.is_some() { Outcome::Error } else { Outcome::Ok },
                error_code: ended.error.map(|(code, _)| code),
                error_kind: ended.error.map(|(_, kind)| kind.to_owned()),
                request_bytes: ended.request_bytes as u64,
                response_bytes: ended.response_bytes as u64,
                client_subject: caller.map(|caller| caller.subject.clone()),
                redaction: if ended.tool == Some("evidence_query") { Redaction::Evidence } else { Redaction::Full },
            })
        });
    }

    /// Whether a caller may do `action`: call a tool, or list them.
    pub fn authorized(&self, context: &Context, action: &str, denied: Option<&str>) {
        self.note(|| {
            let caller = &context.caller;
            Event::McpToolAuthz(McpToolAuthz {
                correlation: context.trace.correlation.clone(),
                decision: if denied.is_some() { AuthzDecision::Deny } else { AuthzDecision::Allow },
                action: action.to_owned(),
                transport: context.trace.transport,
                peer_ip: context.trace.peer,
                auth_method: method(caller.method),
                subject: Some(caller.subject.clone()),
                token_fingerprint: caller.fingerprint(),
                reason: denied.map(str::to_owned),
            })
        });
    }

    /// Nobody was recognised.
    pub fn unauthenticated(&self, trace: &Trace, expected: Method, reason: &str) {
        self.metrics.unauthenticated();
        self.note(|| {
            Event::McpToolAuthz(McpToolAuthz {
                correlation: trace.correlation.clone(),
                decision: AuthzDecision::Deny,
                action: "authenticate".to_owned(),
                transport: trace.transport,
                peer_ip: trace.peer,
                auth_method: method(expected),
                subject: None,
                token_fingerprint: None,
                reason: Some(reason.to_owned()),
            })
        });
    }

    /// Whether a caller may act for a tenant in a namespace.
    pub fn entered(&self, context: &Context, tenant: Option<TenantId>, namespace: NamespaceId, denied: Option<&str>) {
        self.note(|| {
            Event::TenantAuthz(TenantAuthz {
                correlation: context.trace.correlation.clone(),
                tool: context.tool.to_owned(),
                allowed: denied.is_none(),
                reason: denied.unwrap_or("allow").to_owned(),
                principal_id: Some(context.caller.subject.clone()),
                tenant_id: tenant,
                namespace_id: Some(namespace),
            })
        });
    }

    /// Something was used.
    pub fn used(&self, context: &Context, metric: Metric, units: u64) {
        self.note(|| {
            Event::UsageAudit(UsageAudit {
                correlation: context.trace.correlation.clone(),
                tool: context.tool.to_owned(),
                tenant_id: None,
                namespace_id: None,
                principal_id: Some(context.caller.subject.clone()),
                metric,
                units,
                allowed: true,
                reason: "unmetered".to_owned(),
            })
        });
    }

    /// Whether a caller may use the registry of data shapes, and by which rule.
    pub fn registry(
        &self,
        context: &Context,
        action: Action,
        tenant: TenantId,
        namespace: NamespaceId,
        (allowed, rule): (bool, &str),
    ) {
        self.note(|| {
            let caller = &context.caller;
            let roles = caller.roles_in(tenant, namespace).map(|role| format!("{role:?}")).collect();
            Event::RegistryAudit(RegistryAudit {
                correlation: context.trace.correlation.clone(),
                tenant_id: Some(tenant),
                namespace_id: Some(namespace),
                action: match action {
                    Action::Register => RegistryAction::Register,
                    Action::List => RegistryAction::List,
                    Action::Get => RegistryAction::Get,
                },
                allowed,
                reason: rule.to_owned(),
                principal_id: Some(caller.subject.clone()),
                roles,
                policy_class: caller.principal.policy_class.clone(),
                schema_id: None,
                schema_version: None,
            })
        });
    }

    /// A precheck was answered. The log has the payloads if `whole`, or their
    /// digests only.
    pub fn precheck(&self, context: &Context, request: Value, response: &[u8], whole: bool) {
        let response: Value = serde_json::from_slice(response).unwrap_or_default();
        // What was asked and answered was read from JSON, so it has a digest.
        let digest = |value: &Value| Digest::of_canonical(value).unwrap_or_else(|_| Digest::of(b""));
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.note(|| {
            Event::PrecheckAudit(PrecheckAudit {
                correlation: context.trace.correlation.clone(),
                tenant_id: request["tenant_id"].as_u64().and_then(TenantId::new),
                namespace_id: request["namespace_id"].as_u64().and_then(NamespaceId::new),
                scenario_id: request["scenario_id"].as_str().map(ScenarioId::from),
                stage_id: request["stage_id"].as_str().map(StageId::from),
                schema_id: request["data_shape"]["schema_id"].as_str().map(SchemaId::from),
                schema_version: text(&request["data_shape"]["version"]),
                request_hash: digest(&request),
                response_hash: digest(&response),
                request: if whole { request } else { Value::Null },
                response: if whole { response } else { Value::Null },
                redaction: if whole { PayloadRedaction::Payload } else { PayloadRedaction::HashOnly },
            })
        });
    }

    /// Something about how safely this deployment runs.
    pub fn security(&self, kind: SecurityKind, message: String, dev_permissive: bool, namespace_authority: &str) {
        self.note(|| {
            let namespace_authority = namespace_authority.to_owned();
            Event::SecurityAudit(SecurityAudit { kind, message, dev_permissive, namespace_authority })
        });
    }
}

/// What was asked for, as clients write it.
fn name(asked: Asked) -> &'static str {
    match asked {
        Asked::ToolsCall => "tools/call",
        Asked::ToolsList => "tools/list",
        Asked::ResourcesList => "resources/list",
        Asked::ResourcesRead => "resources/read",
        Asked::Invalid => "invalid",
        Asked::Other => "other",
    }
}

fn method(method: Method) -> AuthMethod {
    match method {
        Method::Local => AuthMethod::Local,
        Method::BearerToken => AuthMethod::BearerToken,
        Method::MtlsSubject => AuthMethod::MtlsSubject,
    }
}

/// For the log alone: nothing that is decided or hashed reads a clock.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
