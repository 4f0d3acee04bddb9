use std::error::Error;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde_json::{Value, json};
use sse_stream::SseStream;

use super::wire::{self, Call, Message, Reply, invalid};
use super::{Failure, McpConfig, McpDialect, locked};
use crate::ConfigError;
use crate::http::plain_client;

const CORRELATION: &str = "x-correlation-id";
const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";

/// Bytes of the body of a refusal.
const REFUSAL_BYTES_MAX: u64 = 65_536;

/// A server that is asked over HTTP.
pub(super) struct Http {
    client: Client,
    url: Url,
    token: Option<HeaderValue>,
    body_bytes_max: u64,
    /// What to try, in order.
    manners: &'static [Manner],
    /// What has worked.
    known: Mutex<Option<Manner>>,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    next: AtomicU64,
}

/// How to put a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// As the reference system does.
    Bare,
    /// As the standard's versions without a handshake do.
    Introduced,
    /// As those with a handshake do.
    Greeted,
}

/// What a handshake came to.
struct Session {
    id: Option<HeaderValue>,
    version: HeaderValue,
}

/// Why there is no reply to a question that may need a handshake.
enum Unanswered {
    /// Hands were not shaken.
    Ungreeted(Result<Reply, Failure>),
    Failure(Failure),
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Http {
    pub(super) fn new(
        config: &McpConfig,
        url: &str,
        allow_insecure_http: bool,
        bearer_token: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let id = &config.provider_id;
        let wrong = |problem: &str| ConfigError::McpUrl(id.clone(), problem.to_owned());
        let url = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        match url.scheme() {
            "https" => {}
            "http" if allow_insecure_http => {}
            "http" => return Err(wrong("insecure http requires allow_insecure_http")),
            _ => return Err(wrong("must be http or https")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("must not hold credentials\nhint: use auth.bearer_token"));
        }
        let bearer = |token: &str| {
            let mut token = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| ConfigError::McpToken(config.provider_id.clone()))?;
            token.set_sensitive(true);
            Ok(token)
        };
        let client = plain_client()
            .user_agent(concat!("runpack/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.connect_timeout)
            .https_only(!allow_insecure_http)
            .build()
            .map_err(|error| ConfigError::McpClient(id.clone(), error))?;
        let manners: &[_] = match config.dialect {
            McpDialect::Auto => &[Manner::Bare, Manner::Introduced, Manner::Greeted],
            McpDialect::Reference => &[Manner::Bare],
            McpDialect::Standard => &[Manner::Introduced, Manner::Greeted],
        };
        Ok(Self {
            client,
            url,
            token: bearer_token.map(bearer).transpose()?,
            body_bytes_max: config.max_response_bytes,
            manners,
            known: Mutex::new(None),
            session: tokio::sync::Mutex::default(),
            next: AtomicU64::new(1),
        })
    }

    /// Asks once, or once in every manner until one is accepted.
    pub(super) async fn ask(&self, call: &Call) -> Result<Reply, Failure> {
        let known = *locked(&self.known);
        if let Some(manner) = known {
            return match self.ask_in(manner, call).await {
                Ok(reply) | Err(Unanswered::Ungreeted(Ok(reply))) => Ok(reply),
                Err(Unanswered::Failure(failure) | Unanswered::Ungreeted(Err(failure))) => Err(failure),
            };
        }
        let mut first = None;
        for &manner in self.manners {
            let (reply, greeted) = match self.ask_in(manner, call).await {
                Ok(reply) => (Ok(reply), manner == Manner::Greeted),
                Err(Unanswered::Failure(failure)) => (Err(failure), manner == Manner::Greeted),
                Err(Unanswered::Ungreeted(reply)) => (reply, false),
            };
            if greeted || matches!(reply, Ok(Reply::Result(_))) {
                *locked(&self.known) = Some(manner);
                return reply;
            }
            let refused = refused(&reply);
            let first = first.get_or_insert(reply);
            if !refused {
                // Nothing is known of the manners that are left.
                return first.clone();
            }
        }
        // It is spoken to as it should be, and does not like the question.
        *locked(&self.known) = self.manners.first().copied();
        first.unwrap_or_else(|| Err(Failure::Broken(invalid("there is no way to ask"))))
    }

    async fn ask_in(&self, manner: Manner, call: &Call) -> Result<Reply, Unanswered> {
        let numbered = || Value::from(self.next.fetch_add(1, Ordering::Relaxed));
        match manner {
            Manner::Bare => {
                let id = call.correlation.as_deref().map_or_else(numbered, Value::from);
                let request = wire::request(&id, "tools/call", &call.params());
                Ok(self.post(call, &request, &id, |request| request).await?.0)
            }
            Manner::Introduced => {
                let id = numbered();
                let request = wire::request(&id, "tools/call", &call.params_without_handshake());
                let headed = |request: RequestBuilder| {
                    request
                        .header(VERSION, wire::WITHOUT_HANDSHAKE)
                        .header("mcp-method", "tools/call")
                        .header("mcp-name", wire::TOOL)
                };
                Ok(self.post(call, &request, &id, headed).await?.0)
            }
            Manner::Greeted => {
                let session = self.session(call, None).await?;
                match self.ask_session(&session, call, &numbered()).await {
                    // The server has forgotten the session, or been started again.
                    Err(Failure::Status(StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST, _))
                        if session.id.is_some() =>
                    {
                        let session = self.session(call, Some(&session)).await?;
                        Ok(self.ask_session(&session, call, &numbered()).await?)
                    }
                    reply => Ok(reply?),
                }
            }
        }
    }

    async fn ask_session(&self, session: &Session, call: &Call, id: &Value) -> Result<Reply, Failure> {
        let request = wire::request(id, "tools/call", &call.params());
        Ok(self.post(call, &request, id, |request| session.head(request)).await?.0)
    }

    /// The session, begun now if there is none, or none but `stale`.
    async fn session(&self, call: &Call, stale: Option<&Arc<Session>>) -> Result<Arc<Session>, Unanswered> {
        let mut current = self.session.lock().await;
        if let Some(session) = &*current
            && !stale.is_some_and(|stale| Arc::ptr_eq(stale, session))
        {
            return Ok(session.clone());
        }
        *current = None;
        let id = Value::from(self.next.fetch_add(1, Ordering::Relaxed));
        let request = wire::request(&id, "initialize", &wire::greeting());
        let (answer, headers) = match self.post(call, &request, &id, |request| request).await {
            Ok((Reply::Result(answer), headers)) => (answer, headers),
            Ok((reply, _)) => return Err(Unanswered::Ungreeted(Ok(reply))),
            Err(failure) => return Err(Unanswered::Ungreeted(Err(failure))),
        };
        let broken = |text| Unanswered::Ungreeted(Err(Failure::Broken(text)));
        let version = wire::settled(answer.as_ref()).map_err(broken)?;
        let version = HeaderValue::from_str(&version).map_err(|error| broken(invalid(error)))?;
        let session = Arc::new(Session { id: headers.get(SESSION).cloned(), version });
        let ready = wire::notification("notifications/initialized", &json!({}));
        // Whatever it says to that: if it matters, it will say so again.
        self.send(call, &ready, |request| session.head(request)).await?;
        *current = Some(session.clone());
        Ok(session)
    }

    /// Posts `message` and reads the reply to `id`.
    async fn post(
        &self,
        call: &Call,
        message: &Value,
        id: &Value,
        head: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<(Reply, HeaderMap), Failure> {
        let response = self.send(call, message, head).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let stream = headers.get(CONTENT_TYPE).is_some_and(|kind| {
            let kind = kind.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default();
            kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
        });
        if !status.is_success() {
            let body = body(response, REFUSAL_BYTES_MAX).await.unwrap_or_default();
            let error = match wire::message(&body) {
                Ok(Message::Reply(_, Reply::Error(error))) => Some(error),
                _ => None,
            };
            return Err(Failure::Status(status, error));
        }
        let reply = if stream {
            self.reply_among_events(response, id).await?
        } else {
            let body = body(response, self.body_bytes_max).await?;
            wire::message(&body).and_then(|message| wire::reply_to(id, message)).map_err(Failure::Broken)?
        };
        let reply = reply.ok_or_else(|| Failure::Broken(invalid("no reply among the messages")))?;
        Ok((reply, headers))
    }

    async fn send(
        &self,
        call: &Call,
        message: &Value,
        head: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let mut request = head(self.client.post(self.url.clone()))
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        if let Some(correlation) = &call.correlation {
            request = request.header(CORRELATION, correlation);
        }
        request.body(message.to_string()).send().await.map_err(|error| {
            let mut text = "http request failed".to_owned();
            let error = error.without_url();
            let mut cause: Option<&dyn Error> = Some(&error);
            while let Some(error) = cause {
                let _ = write!(text, ": {error}");
                cause = error.source();
            }
            Failure::Unreachable(text)
        })
    }

    /// The reply among events, which are read no further than that.
    async fn reply_among_events(&self, response: Response, id: &Value) -> Result<Option<Reply>, Failure> {
        let mut events = SseStream::from_bytes_stream(chunks(response, self.body_bytes_max).boxed());
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| match error {
                sse_stream::Error::Body(error) => Failure::Broken(error.to_string()),
                error => Failure::Broken(invalid(error)),
            })?;
            // An event without data asks to come back later, which nobody will.
            let Some(data) = event.data.filter(|data| !data.trim().is_empty()) else {
                continue;
            };
            let reply = wire::message(data.as_bytes()).and_then(|message| wire::reply_to(id, message));
            if let Some(reply) = reply.map_err(Failure::Broken)? {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }
}

impl Session {
    fn head(&self, request: RequestBuilder) -> RequestBuilder {
        let request = request.header(VERSION, self.version.clone());
        match &self.id {
            Some(id) => request.header(SESSION, id.clone()),
            None => request,
        }
    }
}

/// Whether the question, as it was put, was not to the server's liking.
fn refused(reply: &Result<Reply, Failure>) -> bool {
    match reply {
        Ok(Reply::Error(_)) => true,
        Err(Failure::Status(status, _)) => {
            // Another manner is no better a credential, nor does it wait.
            status.is_client_error() && ![401, 403, 408, 429].contains(&status.as_u16())
        }
        _ => false,
    }
}

/// Why a body is not read to its end.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("http response exceeds size limit of {0} bytes")]
    TooLarge(u64),
    #[error("failed to read response")]
    Failed,
}

impl From<Unread> for Failure {
    fn from(unread: Unread) -> Self {
        Self::Broken(unread.to_string())
    }
}

async fn body(response: Response, bytes_max: u64) -> Result<Vec<u8>, Unread> {
    let add = |mut body: Vec<u8>, chunk: Bytes| async move {
        body.extend_from_slice(&chunk);
        Ok(body)
    };
    chunks(response, bytes_max).try_fold(Vec::new(), add).await
}

/// What comes in, up to that many bytes.
fn chunks(response: Response, bytes_max: u64) -> impl Stream<Item = Result<Bytes, Unread>> {
    let too_large = response.content_length().is_some_and(|length| length > bytes_max);
    stream::try_unfold((response, 0), move |(mut response, read)| async move {
        if too_large {
            return Err(Unread::TooLarge(bytes_max));
        }
        let Some(chunk) = response.chunk().await.map_err(|_| Unread::Failed)? else {
            return Ok(None);
        };
        let read = read + chunk.len() as u64;
        if read > bytes_max {
            return Err(Unread::TooLarge(bytes_max));
        }
        Ok(Some((chunk, (response, read))))
    })
}

#[cfg(test)]
mod tests;
