//! What answers `/mcp` behind the door: our tools, or in a test whatever else
//! speaks the protocol, through the same SDK in the same configuration.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use futures_util::future::{BoxFuture, FutureExt as _};
use http_body_util::Full;
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::session::SessionManager;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio_util::sync::CancellationToken;

/// What is remembered of clients of the old era between their requests.
#[derive(Debug, Clone)]
pub enum Sessions {
    /// Nothing: there is no table of sessions to leak, and a restart breaks no
    /// client.
    Never,
    /// A session for each, in this table, and answers that are streams, as
    /// sessions are for. The service never does: it is there for what tests of
    /// the protocol ask of sessions and streams.
    Kept(Arc<LocalSessionManager>),
}

/// A handler of the protocol, to be put behind the door.
pub struct Face(Box<dyn FnOnce(CancellationToken) -> McpService + Send>);

impl Face {
    /// `handler` is cloned for every request, or for every session.
    ///
    /// Whom the server is called by and where calls may come from is the
    /// door's to say, for every path the same.
    pub fn new(handler: impl ServerHandler + Clone, sessions: Sessions) -> Self {
        Self(Box::new(move |ended| {
            let kept = matches!(sessions, Sessions::Kept(_));
            let config = StreamableHttpServerConfig::default()
                .with_legacy_session_mode(kept)
                .with_json_response(!kept)
                .disable_allowed_hosts()
                .with_cancellation_token(ended);
            match sessions {
                Sessions::Never => McpService::new(handler, Arc::new(NeverSessionManager::default()), config),
                Sessions::Kept(table) => McpService::new(handler, table, config),
            }
        }))
    }

    /// Answers until `ended` is told.
    pub(super) fn behind(self, ended: CancellationToken) -> McpService {
        (self.0)(ended)
    }
}

/// The protocol, whoever speaks it.
pub(super) struct McpService(Box<dyn Fn(Request<Full<Bytes>>) -> BoxFuture<'static, Response> + Send + Sync>);

impl McpService {
    fn new(
        handler: impl ServerHandler + Clone,
        sessions: Arc<impl SessionManager>,
        config: StreamableHttpServerConfig,
    ) -> Self {
        let service = StreamableHttpService::new(move || Ok(handler.clone()), sessions, config);
        Self(Box::new(move |request| {
            let service = service.clone();
            async move { service.handle(request).await.map(Body::new) }.boxed()
        }))
    }

    /// Answers a request that was let in.
    pub(super) async fn handle(&self, request: Request<Full<Bytes>>) -> Response {
        (self.0)(request).await
    }
}
