//! The HTTP door: connections, limits, and who may knock.
//!
//! Connections are accepted here rather than by `axum::serve`, which has no
//! time limit for a request's head. What a request means is for `rpc` and `mcp`
//! to say.

mod face;
mod patience;
mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE,
};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use http_body_util::{BodyExt as _, Full};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rmcp::model::{ErrorData, JsonRpcError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use face::{Face, Sessions};
pub use tls::TlsOptions;
use tracing::warn;

use crate::access::{Authentication, Caller, Claim, Unauthenticated};
use crate::audit::{Correlation, SecurityKind, Transport};
use crate::correlation::{self, ServerIds};
use crate::limits::{Client, RateLimit, RateLimiter};
use crate::mcp::Place;
use crate::rpc::{Fault, Kind, Reply, Rpc};
use crate::stdio::unreadable;
use crate::tools::{CallError, Context, Tools};
use crate::watch::{Asked, Ended, Trace};

const CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");
const SERVER_CORRELATION: HeaderName = HeaderName::from_static("x-server-correlation-id");
const CLIENT_SUBJECT: HeaderName = HeaderName::from_static("x-decision-gate-client-subject");
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"decision-gate\"");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Headers of one request.
const HEADERS_MAX: usize = 64;
/// Bytes of one request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How much of a body that was refused is still read, and for how long: a
/// client that is writing does not hear the refusal.
const LEFTOVER_BYTES_MAX: usize = 16 * 1024 * 1024;
const LEFTOVER_WAIT: Duration = Duration::from_secs(2);

/// How much the door takes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one request's body.
    pub body_bytes_max: usize,
    /// Calls at work at once; more are refused.
    pub inflight_max: usize,
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// How long a request's head may take.
    pub head_wait: Duration,
    /// How long a connection may be silent between requests.
    pub idle_wait: Duration,
    /// How long a request's body may take.
    pub body_wait: Duration,
    /// How long calls at work may take once the server is told to stop.
    pub drain_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1024 * 1024,
            inflight_max: 256,
            connections_max: 1024,
            head_wait: Duration::from_secs(5),
            idle_wait: Duration::from_secs(60),
            body_wait: Duration::from_secs(10),
            drain_wait: Duration::from_secs(10),
        }
    }
}

/// In what shape `/rpc` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies {
    /// A JSON body.
    Json,
    /// A stream of exactly one event, whose data is the same JSON.
    EventStream,
}

/// What the door is like, for as long as it is open.
#[derive(Debug, Clone)]
pub struct Options {
    /// In what shape `/rpc` answers.
    pub replies: Replies,
    /// How much it takes.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self { replies: Replies::Json, limits: Limits::default() }
    }
}

/// What is behind the door until somebody puts something else there.
pub struct Behind {
    /// What is called.
    pub tools: Arc<Tools>,
    /// What answers the Model Context Protocol.
    pub mcp: Face,
    /// How often each may call; as often as they like without it.
    pub rate: Option<RateLimit>,
    /// With what connections are made, if not in the clear.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// Something else to put behind the door, and who hears that it is there.
pub type Change = (Behind, oneshot::Sender<()>);

/// Serves until `stop` says so, and then finishes what is at work. Calls and
/// connections that begin after a change was acknowledged get what it brought.
///
/// # Errors
/// The listener's.
pub async fn serve(
    listener: TcpListener,
    behind: Behind,
    options: Options,
    mut changes: mpsc::Receiver<Change>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let Options { replies, limits } = options;
    let address = listener.local_addr()?;
    let ended = CancellationToken::new();
    let mut acceptor = behind.tls.clone().map(TlsAcceptor::from);
    let door = Arc::new(Door {
        scheme: if acceptor.is_some() { "https://" } else { "http://" },
        room: RwLock::new(Arc::new(Room::new(behind, &ended))),
        replies,
        limits,
        inflight: Arc::new(Semaphore::new(limits.inflight_max)),
        names: names(address),
        ids: ServerIds::default(),
        draining: AtomicBool::new(false),
    });
    let router = Router::new()
        .route("/rpc", post(answer_rpc))
        .route("/mcp", any(answer_mcp))
        .route("/healthz", get(async || status(StatusCode::OK, "ok")))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(&door));
    let mut server = http1::Builder::new();
    server.header_read_timeout(limits.head_wait).max_headers(HEADERS_MAX).max_buf_size(HEAD_BYTES_MAX);
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let connections = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let (stream, peer, place) = tokio::select! {
            () = &mut stop => break,
            Some((behind, done)) = changes.recv() => {
                acceptor = behind.tls.clone().map(TlsAcceptor::from);
                *door.room.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Room::new(behind, &ended));
                let _ = done.send(());
                continue;
            }
            accepted = accept(&listener, &places) => accepted,
        };
        // Answers are written in one piece; waiting for more only delays them.
        let _ = stream.set_nodelay(true);
        let (router, server, watcher) = (router.clone(), server.clone(), connections.watcher());
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // How a connection ends is the client's business.
            match acceptor {
                None => {
                    let _ = converse(stream, Peer { ip: peer, subject: None }, router, server, limits, watcher).await;
                }
                Some(acceptor) => {
                    if let Ok(Ok(stream)) = timeout(limits.head_wait, acceptor.accept(stream)).await {
                        let peer = Peer { ip: peer, subject: tls::subject(&stream) };
                        let _ = converse(stream, peer, router, server, limits, watcher).await;
                    }
                }
            }
            drop(place);
        });
    }
    door.draining.store(true, Ordering::Relaxed);
    drop(listener);
    let drained = timeout(limits.drain_wait, async {
        connections.shutdown().await;
        // A caller who went away leaves its call at work.
        let all = u32::try_from(limits.inflight_max).unwrap_or(u32::MAX);
        let _ = door.inflight.acquire_many(all).await;
    });
    let drained = drained.await;
    ended.cancel();
    if drained.is_err() {
        let left = limits.inflight_max - door.inflight.available_permits();
        warn!("stopped with {left} calls at work");
    }
    Ok(())
}

async fn converse<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    peer: Peer,
    router: Router,
    mut server: http1::Builder,
    limits: Limits,
    watcher: Watcher,
) -> Result<(), hyper::Error> {
    let (stream, patience) = patience::patient(stream, limits.idle_wait);
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let connection = server.timer(patience).serve_connection(TokioIo::new(stream), service);
    watcher.watch(connection).await
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, IpAddr, Option<OwnedSemaphorePermit>) {
    // It is never closed, so there is always a place in the end.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer.ip().to_canonical(), place),
            // Out of descriptors, most likely: others have to end first.
            Err(error) => {
                warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Names under which a server at a loopback address is called on purpose. A
/// page whose own name was made to resolve to this machine calls by that name.
///
/// A server that others reach is called by names it does not know. Its callers
/// show credentials that no page has.
fn names(address: SocketAddr) -> Vec<String> {
    if !address.ip().is_loopback() {
        return Vec::new();
    }
    let port = address.port();
    let mut names = ["127.0.0.1", "localhost", "[::1]"].map(|name| format!("{name}:{port}")).to_vec();
    // Any other of the many loopback addresses.
    let bound = SocketAddr::new(address.ip(), port).to_string();
    if !names.contains(&bound) {
        names.push(bound);
    }
    if port == 80 {
        let bare: Vec<_> = names.iter().map(|name| name.trim_end_matches(":80").to_owned()).collect();
        names.extend(bare);
    }
    names
}

/// The other end of a request's connection.
#[derive(Clone)]
struct Peer {
    ip: IpAddr,
    /// Of its certificate, if it has shown one.
    subject: Option<String>,
}

/// What every request passes.
struct Door {
    /// What is behind it now.
    room: RwLock<Arc<Room>>,
    replies: Replies,
    limits: Limits,
    inflight: Arc<Semaphore>,
    /// What the server is called by; by anything if it is empty.
    names: Vec<String>,
    scheme: &'static str,
    ids: ServerIds,
    draining: AtomicBool,
}

/// What is behind the door, in the shapes that requests ask for.
struct Room {
    rpc: Rpc,
    mcp: face::McpService,
    tools: Arc<Tools>,
    limiter: Option<RateLimiter>,
}

impl Room {
    fn new(behind: Behind, ended: &CancellationToken) -> Self {
        let Behind { tools, mcp, rate, tls: _ } = behind;
        Self {
            rpc: Rpc::new(Arc::clone(&tools)),
            mcp: mcp.behind(ended.clone()),
            limiter: rate.map(RateLimiter::new),
            tools,
        }
    }

    /// Notes a request that came to nothing before it was understood.
    fn turned_away<'f>(&self, trace: &Trace, fault: &'f Fault) -> &'f Fault {
        let (code, kind, _) = fault.kind.row();
        let ended = Ended {
            asked: Asked::Invalid,
            tool: None,
            error: Some((code, kind)),
            request_bytes: trace.request_bytes,
            response_bytes: fault.message.len(),
            took: Duration::ZERO,
        };
        let service = self.tools.service();
        if fault.kind == Kind::InvalidCorrelationId {
            let label = fault.message.split([' ', '\n']).nth(3).unwrap_or_default();
            let message = format!("correlation_id_rejected: {label}");
            let security = &service.security;
            let (permissive, authority) = (security.dev_permissive, security.namespace_authority.as_str());
            service.watch.security(SecurityKind::InvalidCorrelationId, message, permissive, authority);
        }
        service.watch.request(trace, None, &ended);
        fault
    }

    fn identify(&self, head: &Parts, trace: &Trace) -> Result<Caller, Fault> {
        let peer = head.extensions.get::<Peer>();
        let claim = Claim {
            // The door puts it into every request.
            peer: peer.map_or(IpAddr::from([0; 4]), |peer| peer.ip),
            authorization: head.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes),
            certificate: peer.and_then(|peer| peer.subject.as_deref()),
            asserted: head.headers.get(CLIENT_SUBJECT).and_then(|subject| subject.to_str().ok()),
        };
        let service = self.tools.service();
        let identified = service.access.identify(&claim).map_err(|Unauthenticated(reason)| {
            service.watch.unauthenticated(trace, service.access.authentication.method(), reason);
            Fault::new(Kind::Unauthenticated, "unauthenticated")
        });
        // Who proved nothing is counted by address, also when refused.
        let client = match &identified {
            Ok(caller) if !caller.is_local() => Client::Verified(&caller.subject),
            _ => Client::Peer(claim.peer),
        };
        let limited = self.limiter.as_ref().map_or(Ok(()), |limiter| limiter.admit(client, Instant::now()));
        limited.map_err(|limited| {
            service.watch.metrics.rate_limited();
            let fault = Fault::new(Kind::RateLimited, limited.to_string());
            Fault { retry_after_ms: Some(limited.retry_after_ms), ..fault }
        })?;
        identified
    }
}

async fn answer_mcp(State(door): State<Arc<Door>>, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let (room, mut trace) = (door.room(), door.trace(&head));
    let mut response = match door.prepare(&room, &mut head, body, &mut trace).await {
        Ok(body) => room.mcp.handle(Request::from_parts(head, body)).await,
        Err((status, error)) => protocol_error(status, error),
    };
    door.mark(&room, &mut response, &trace);
    response
}

/// An error of the Model Context Protocol's to a request whose id is not known.
fn protocol_error(status: u16, error: ErrorData) -> Response {
    json(status, serde_json::to_vec(&JsonRpcError::new(None, error)).unwrap_or_default())
}

async fn answer_rpc(State(door): State<Arc<Door>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let (room, mut trace) = (door.room(), door.trace(&head));
    let answered = match door.admit(&room, &head, &mut trace) {
        Ok(caller) => door.answer(Arc::clone(&room), caller, trace.clone(), &head, body).await,
        Err(fault) => {
            finish_reading(body);
            Err(fault)
        }
    };
    let reply = answered.unwrap_or_else(|fault| room.turned_away(&trace, &fault).reply());
    let mut response = match door.replies {
        Replies::Json => json(reply.status, reply.body),
        Replies::EventStream => event(reply.status, &reply.body),
    };
    door.mark(&room, &mut response, &trace);
    response
}

async fn readyz(State(door): State<Arc<Door>>) -> Response {
    let room = door.room();
    let ready = tokio::task::spawn_blocking(move || room.tools.service().ready()).await.unwrap_or(false);
    if ready && !door.draining.load(Ordering::Relaxed) {
        status(StatusCode::OK, "ready")
    } else {
        status(StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    }
}

/// The numbers, for whoever may call.
async fn metrics(State(door): State<Arc<Door>>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let (room, mut trace) = (door.room(), door.trace(&head));
    let let_in = door.guard(&head).and_then(|client| {
        trace.correlation.unsafe_client_correlation_id = client;
        room.identify(&head, &trace)
    });
    let mut response = match let_in {
        Ok(_) => {
            let watch = &room.tools.service().watch;
            let lost = watch.audit.as_ref().map_or(0, |audit| audit.status().lost);
            let inflight = door.limits.inflight_max - door.inflight.available_permits();
            let mut response = Response::new(Body::from(watch.metrics.text(inflight, lost)));
            response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
            response
        }
        Err(fault) => {
            let reply = room.turned_away(&trace, &fault).reply();
            json(reply.status, reply.body)
        }
    };
    door.mark(&room, &mut response, &trace);
    response
}

fn status(code: StatusCode, word: &str) -> Response {
    json(code.as_u16(), format!("{{\"status\":\"{word}\"}}").into_bytes())
}

fn json(status: u16, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// JSON as we write it has no line breaks, so it is one line of data.
fn event(status: u16, body: &[u8]) -> Response {
    let mut response = json(status, [b"data: ", body, b"\n\n"].concat());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

impl Door {
    fn room(&self) -> Arc<Room> {
        Arc::clone(&self.room.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known of a request before anything is asked of it.
    fn trace(&self, head: &Parts) -> Trace {
        let correlation = Correlation { server_correlation_id: Some(self.ids.next()), ..Correlation::default() };
        let transport = match self.replies {
            Replies::Json => Transport::Http,
            Replies::EventStream => Transport::Sse,
        };
        Trace { transport, peer: head.extensions.get::<Peer>().map(|peer| peer.ip), correlation, request_bytes: 0 }
    }

    /// Whether the head alone speaks against a call. Answers who calls.
    fn admit(&self, room: &Room, head: &Parts, trace: &mut Trace) -> Result<Caller, Fault> {
        trace.correlation.unsafe_client_correlation_id = self.guard(head)?;
        let caller = room.identify(head, trace)?;
        let media = head.headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        let media = media.and_then(|media| media.split(';').next()).unwrap_or_default();
        if head.method == Method::POST && !media.trim().eq_ignore_ascii_case("application/json") {
            let message = "the body is not declared as JSON\nhint: send the header Content-Type: application/json";
            return Err(Fault::new(Kind::InvalidRequest, message).with_status(415));
        }
        Ok(caller)
    }

    /// Whether a request comes from where it may and to whom it should.
    fn guard(&self, head: &Parts) -> Result<Option<String>, Fault> {
        let text = |name| head.headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let called =
            |name: &str| self.names.is_empty() || self.names.iter().any(|known| known.eq_ignore_ascii_case(name));
        let target = head.uri.authority().map(|authority| authority.as_str());
        if !text(HOST).is_some_and(called)
            || head.headers.get_all(HOST).iter().count() > 1
            || !target.is_none_or(called)
        {
            let message = format!("this server is called {}\nhint: use one of these in the URL", self.names.join(", "));
            return Err(Fault::new(Kind::InvalidRequest, message).with_status(421));
        }
        let host = text(HOST).unwrap_or_default();
        let own = |origin: &str| {
            let own = |name: &str| called(name) && (!self.names.is_empty() || name.eq_ignore_ascii_case(host));
            origin.strip_prefix(self.scheme).is_some_and(own)
        };
        if !head.headers.get_all(ORIGIN).iter().all(|origin| origin.to_str().is_ok_and(own)) {
            let message = "unauthorized: requests made by web pages are refused\nhint: call from a program, which sends no Origin header";
            return Err(Fault::new(Kind::Unauthorized, message));
        }
        match head.headers.get(CORRELATION).map(|value| correlation::client(value.as_bytes())) {
            None => Ok(None),
            Some(Ok(id)) => Ok(Some(id.to_owned())),
            Some(Err(label)) => {
                let message = format!(
                    "invalid correlation id: {label}\nhint: send 1 to 128 letters, digits or !#$%&'*+-.^_`|~ as x-correlation-id"
                );
                Err(Fault::new(Kind::InvalidCorrelationId, message))
            }
        }
    }

    /// Reads the body and has the call done.
    async fn answer(
        &self,
        room: Arc<Room>,
        caller: Caller,
        trace: Trace,
        head: &Parts,
        body: Body,
    ) -> Result<Reply, Fault> {
        let bytes = self.read(head, body).await?;
        let permit = self.place()?;
        // Whoever goes away leaves the call at work.
        let call = tokio::spawn(async move {
            let _permit = permit;
            room.rpc.answer(Context::new(caller, trace), &bytes).await
        });
        call.await.map_err(|_| CallError::Unforeseen.into())
    }

    /// Makes a request ready for the protocol: let in, read, and known to be one
    /// message of JSON. The numbers of the other dialect mean something else
    /// there, so every refusal is an invalid request.
    async fn prepare(
        &self,
        room: &Room,
        head: &mut Parts,
        body: Body,
        trace: &mut Trace,
    ) -> Result<Full<Bytes>, (u16, ErrorData)> {
        let refused = |trace: &Trace, fault: Fault| {
            room.turned_away(trace, &fault);
            (fault.status, ErrorData::invalid_request(fault.message, None))
        };
        let caller = match self.admit(room, head, trace) {
            Ok(caller) => caller,
            Err(fault) => {
                finish_reading(body);
                return Err(refused(trace, fault));
            }
        };
        if head.method != Method::POST {
            return Ok(Full::default());
        }
        let bytes = self.read(head, body).await.map_err(|fault| refused(trace, fault))?;
        trace.request_bytes = bytes.len();
        if let Some(error) = unreadable(&bytes) {
            return Err((400, error));
        }
        head.extensions.insert(caller);
        head.extensions.insert(Place::new(self.place().map_err(|fault| refused(trace, fault))?));
        head.extensions.insert(trace.clone());
        Ok(Full::from(bytes))
    }

    /// A place among the calls at work.
    fn place(&self) -> Result<OwnedSemaphorePermit, Fault> {
        let overloaded = |_| Fault::new(Kind::InflightLimit, "server overloaded\nhint: ask again in a moment");
        Arc::clone(&self.inflight).try_acquire_owned().map_err(overloaded)
    }

    /// What every answer carries.
    fn mark(&self, room: &Room, response: &mut Response, trace: &Trace) {
        let headers = response.headers_mut();
        let Correlation { unsafe_client_correlation_id: client, server_correlation_id: server, .. } =
            &trace.correlation;
        for (name, id) in [(CORRELATION, client), (SERVER_CORRELATION, server)] {
            headers.extend(id.as_ref().and_then(|id| HeaderValue::try_from(id).ok()).map(|id| (name, id)));
        }
        let by_token = matches!(room.tools.service().access.authentication, Authentication::Bearer(_));
        if response.status() == StatusCode::UNAUTHORIZED && by_token {
            response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
        }
        let headers = response.headers_mut();
        // Said here, since the connection itself may hear of it a moment later.
        if self.draining.load(Ordering::Relaxed) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    async fn read(&self, head: &Parts, body: Body) -> Result<Vec<u8>, Fault> {
        let limit = self.limits.body_bytes_max;
        let too_large = || {
            let message =
                format!("request body too large\nhint: send at most {limit} bytes, or raise server.max_body_bytes");
            Fault::new(Kind::RequestTooLarge, message)
        };
        let declared = head.headers.get(CONTENT_LENGTH);
        let declared: usize = declared.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0);
        if declared > limit {
            finish_reading(body);
            return Err(too_large());
        }
        match timeout(self.limits.body_wait, collect(body, declared, limit)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(NotRead::TooLarge)) => Err(too_large()),
            Ok(Err(NotRead::Gone)) => Err(Fault::new(Kind::InvalidRequest, "the body ended early")),
            Err(_) => {
                let message = format!("the body did not arrive within {} s", self.limits.body_wait.as_secs());
                Err(Fault::new(Kind::InvalidRequest, message).with_status(408))
            }
        }
    }
}

enum NotRead {
    TooLarge,
    Gone,
}

async fn collect(mut body: Body, declared: usize, limit: usize) -> Result<Vec<u8>, NotRead> {
    // A length is a promise, and not believed further than this.
    let mut bytes = Vec::with_capacity(declared.min(64 * 1024));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| NotRead::Gone)?.into_data() else { continue };
        if data.len() > limit - bytes.len() {
            finish_reading(body);
            return Err(NotRead::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Reads on for a while what nobody will look at.
fn finish_reading(mut body: Body) {
    tokio::spawn(timeout(LEFTOVER_WAIT, async move {
        let mut left = LEFTOVER_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, bytes_of));
            if left == 0 {
                return;
            }
        }
    }));
}

fn bytes_of(data: &impl AsRef<[u8]>) -> usize {
    data.as_ref().len()
}
