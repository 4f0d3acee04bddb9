use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Request, Url};
use runpack_core::canon::to_vec;
use runpack_core::model::{DecisionId, DispatchTarget, NamespaceId, PacketEnvelope, TenantId};
use runpack_providers::GuardedClient;
use serde::Serialize;
use serde_json::Value;

use super::SinkError;
use crate::content::{Content, Message};

/// The longest that is waited because somebody asked for it.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// Posts messages to a URL.
pub(crate) struct Callback {
    pub(crate) client: GuardedClient,
    pub(crate) url: Url,
    /// The `authorization` header.
    pub(crate) authorization: Option<HeaderValue>,
}

/// What is posted. Members in canonical order.
#[derive(Serialize)]
struct Posted<'a> {
    content: Spelled<'a>,
    decision_id: &'a DecisionId,
    delivery_id: &'a str,
    envelope: &'a PacketEnvelope,
    namespace_id: NamespaceId,
    target: &'a DispatchTarget,
    tenant_id: TenantId,
}

#[derive(Serialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
enum Spelled<'a> {
    Base64(String),
    Json(&'a Value),
}

impl Callback {
    /// Posts once; the status that was answered, if that says it was taken.
    pub(crate) async fn send(&self, message: &Message) -> Result<u16, SinkError> {
        let body = to_vec(&Posted {
            content: match &message.content {
                Content::Json(value) => Spelled::Json(value),
                Content::Bytes(bytes) => Spelled::Base64(STANDARD.encode(bytes)),
            },
            decision_id: &message.decision_id,
            delivery_id: &message.id,
            envelope: &message.envelope,
            namespace_id: message.namespace_id,
            target: &message.target,
            tenant_id: message.tenant_id,
        })?;
        let mut request = Request::new(Method::POST, self.url.clone());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(id) = HeaderValue::from_str(&message.id) {
            headers.insert("idempotency-key", id);
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        *request.body_mut() = Some(body.into());
        let response = self.client.send(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(status.as_u16());
        }
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let wait = wait.map(|seconds| Duration::from_secs(seconds).min(WAIT_MAX));
        Err(SinkError::Status { status: status.as_u16(), wait })
    }
}
