//! Somebody else who knows which namespaces there are and who may write there.
//!
//! The catalogue is asked over HTTP for every call that names a namespace:
//! `GET {base_url}/v1/write/namespaces/{namespace_id}`. Nothing is kept and
//! nothing is asked twice, so what the catalogue takes back holds at once. Only
//! 200 lets a call through.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, StatusCode, Url, redirect, retry};
use runpack_core::model::NamespaceId;

use crate::talk::with_causes;

const CORRELATION: &str = "x-correlation-id";

/// Whom to ask, and how long.
#[derive(Clone)]
pub struct AuthorityConfig {
    /// Where the catalogue is.
    pub base_url: Url,
    /// What is shown to it.
    pub token: Option<HeaderValue>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub request_timeout: Duration,
}

/// Asks the catalogue.
pub struct Authority {
    client: Client,
    config: AuthorityConfig,
}

/// Why a namespace may not be used.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The catalogue says so.
    #[error("the namespace authority answered {0} for namespace {1}")]
    Denied(StatusCode, NamespaceId),
    /// It says nothing that can be used.
    #[error("the namespace authority cannot be asked: {0}")]
    Unavailable(String),
}

impl Authority {
    /// Asks as `config` says.
    ///
    /// # Errors
    /// A sentence that says why no connection could ever be made.
    pub fn new(config: AuthorityConfig) -> Result<Self, String> {
        // Whoever was first has said the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(retry::never())
            .connect_timeout(config.connect_timeout)
            .timeout(config.request_timeout)
            .build();
        Ok(Self { client: client.map_err(|error| error.to_string())?, config })
    }

    /// Whether the namespace may be used now. `correlation` ties the question
    /// to the call in the catalogue's own log.
    ///
    /// # Errors
    /// [`Refused`]: an answer that is neither yes nor no lets nobody through.
    pub async fn admits(&self, namespace: NamespaceId, correlation: Option<&str>) -> Result<(), Refused> {
        let mut url = self.config.base_url.clone();
        let unavailable = |error: String| Refused::Unavailable(error);
        url.path_segments_mut()
            .map_err(|()| unavailable("its address has no path".to_owned()))?
            .pop_if_empty()
            .extend(["v1", "write", "namespaces", &namespace.to_string()]);
        let mut request = self.client.get(url);
        if let Some(token) = &self.config.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        if let Some(correlation) = correlation.and_then(|id| HeaderValue::from_str(id).ok()) {
            request = request.header(CORRELATION, correlation);
        }
        // Without the address: it may hold what only the operator should read.
        let response = request.send().await.map_err(|error| unavailable(with_causes(&error.without_url())))?;
        match response.status() {
            StatusCode::OK => Ok(()),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) => {
                Err(Refused::Denied(status, namespace))
            }
            status => Err(unavailable(format!("it answered {status}"))),
        }
    }
}
