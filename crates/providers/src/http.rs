use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderValue;
use reqwest::{Client, ClientBuilder, Method, Request, Response, Url, redirect, retry};
use runpack_core::canon::{Digest, HashingWriter};
use runpack_core::model::{EvidenceContext, EvidenceQuery, EvidenceRef, EvidenceResult};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use crate::address::{Reach, reach};
use crate::query::{self, BadQuery};
use crate::{BodyHashForm, ConfigError, HttpConfig, Provider};

/// Time to reach a host, within the time for the whole request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Finds the addresses of a host name.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Answers `status` and `body_hash` by a GET request.
///
/// A host is asked only if it is listed, its port is listed, and every address
/// its name has leads where the deployment allows; the addresses looked at are
/// the ones connected to. Redirects are answers, not followed. Proxies, cookies,
/// compression, credentials and retries are not used. The URL is recorded whole,
/// so a secret in its query string ends up in packs; one before an `@` is refused.
pub struct HttpProvider {
    client: GuardedClient,
    any_host: bool,
    hosts: BTreeSet<String>,
    ports: BTreeSet<u16>,
    body_bytes_max: u64,
    form: BodyHashForm,
}

#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error(transparent)]
    Guarded(#[from] GuardedError),
    #[error("url port not allowed")]
    Port,
    #[error(transparent)]
    Query(#[from] BadQuery),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    url: String,
}

impl Provider for HttpProvider {
    fn query<'a>(&'a self, query: &'a EvidenceQuery, _: &'a EvidenceContext) -> BoxFuture<'a, EvidenceResult> {
        async move { self.answer(query).await.unwrap_or_else(query::failed) }.boxed()
    }
}

impl HttpProvider {
    pub(crate) fn new(config: &HttpConfig, lookup: Lookup) -> Result<Self, ConfigError> {
        let hosts = config.hosts()?;
        let agent = HeaderValue::from_str(&config.user_agent)
            .map_err(|_| ConfigError::HttpUserAgent(config.user_agent.clone()))?;
        let options = GuardedOptions {
            allow_http: config.allow_http,
            farthest: config.farthest(),
            timeout: Duration::from_millis(config.timeout_ms),
            user_agent: agent,
        };
        Ok(Self {
            client: GuardedClient::new(options, lookup),
            any_host: config.any_host(),
            hosts,
            ports: config.ports(),
            body_bytes_max: config.max_response_bytes,
            form: config.body_hash_form,
        })
    }

    async fn answer(&self, query: &EvidenceQuery) -> Result<EvidenceResult, HttpError> {
        let check = query.check_id.as_str();
        if !["status", "body_hash"].contains(&check) {
            return Err(BadQuery::Check(query.check_id.clone()).into());
        }
        let Params { url } = query::params(query)?;
        let url = self.permitted(&url)?;
        let response = self.client.send(Request::new(Method::GET, url.clone())).await?;
        let value = if check == "status" {
            response.status().as_u16().into()
        } else {
            self.written(self.digest(response).await?)
        };
        Ok(EvidenceResult {
            evidence_anchor: query::anchor("url", url.as_str()),
            evidence_ref: Some(EvidenceRef { uri: url.as_str().into() }),
            ..query::found(value, "application/json")
        })
    }

    /// The URL, if it may be asked as far as it alone tells.
    fn permitted(&self, text: &str) -> Result<Url, HttpError> {
        let url = self.client.url(text)?;
        if !url.host_str().is_some_and(|host| self.any_host || self.hosts.contains(undotted(host))) {
            return Err(GuardedError::Host.into());
        }
        if !url.port_or_known_default().is_some_and(|port| self.ports.contains(&port)) {
            return Err(HttpError::Port);
        }
        self.client.admit(&url)?;
        Ok(url)
    }

    /// The digest of the body, whatever the status.
    async fn digest(&self, response: Response) -> Result<Digest, GuardedError> {
        let mut body = HashingWriter::new(io::sink());
        read_body(response, self.body_bytes_max, &mut body).await?;
        Ok(body.finish().1)
    }

    fn written(&self, digest: Digest) -> Value {
        match self.form {
            BodyHashForm::Digest => json!(digest),
            BodyHashForm::Hex => digest.to_string().into(),
        }
    }
}

/// A client that sends what it is told to where it is told to, once. Makes
/// ring the process's TLS provider unless one is set.
pub(crate) fn plain_client() -> ClientBuilder {
    // Fails when one is set already, which then is the one to use.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .no_proxy()
        // Off here, but another crate could turn the features on.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never())
}

/// How far a [`GuardedClient`] goes, and how long.
#[derive(Debug, Clone)]
pub struct GuardedOptions {
    /// Whether `http:` URLs are asked besides `https:`.
    pub allow_http: bool,
    /// The farthest that an address may lead. [`Reach::Never`] lets everything
    /// through and is for nobody.
    pub farthest: Reach,
    /// From asking to the last byte of the body.
    pub timeout: Duration,
    /// The `user-agent` header.
    pub user_agent: HeaderValue,
}

/// An HTTP client that connects only to addresses it may reach.
///
/// A name is looked up once a request, and the addresses looked at are the ones
/// connected to; if one of them leads too far, none is. Redirects are answers,
/// not followed. Proxies, cookies, compression and retries are not used. Which
/// hosts may be asked by name is for the caller to say.
#[derive(Clone)]
pub struct GuardedClient {
    /// Made for the first request: reading the system's certificates takes a
    /// megabyte, and many who could ask never do.
    client: Arc<OnceCell<Client>>,
    options: GuardedOptions,
    lookup: Lookup,
}

impl fmt::Debug for GuardedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedClient").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Why nothing was asked, or nothing came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuardedError {
    /// It is no URL.
    #[error("invalid url")]
    Url,
    /// Another scheme than is asked.
    #[error("unsupported url scheme")]
    Scheme,
    /// Something stands before an `@`.
    #[error("url user info not allowed")]
    UserInfo,
    /// It names no host, or one that the caller refuses.
    #[error("url host not allowed")]
    Host,
    /// An address of the host leads too far.
    #[error("url address not allowed")]
    Address,
    /// The system's certificates cannot be read, or there are none.
    #[error("the certificates of this system cannot be read")]
    Certificates,
    /// There was no answer.
    #[error("http request failed")]
    Request,
    /// The body is larger than it may be.
    #[error("http response exceeds size limit")]
    TooLarge,
    /// The body ended before its declared length.
    #[error("http response truncated")]
    Truncated,
    /// The body did not come whole.
    #[error("failed to read response")]
    Read,
}

impl GuardedClient {
    /// A client; nothing is connected or read before it is asked to send.
    pub fn new(options: GuardedOptions, lookup: Lookup) -> Self {
        Self { client: Arc::default(), options, lookup }
    }

    async fn client(&self) -> Result<&Client, GuardedError> {
        let make = || async {
            let (options, lookup) = (self.options.clone(), self.lookup.clone());
            let built = spawn_blocking(move || build(options, lookup)).await;
            built.map_err(|_| GuardedError::Certificates)?.map_err(|_| GuardedError::Certificates)
        };
        self.client.get_or_try_init(make).await
    }

    /// Reads a URL: its scheme is asked, it names a host, and nothing stands
    /// before an `@`.
    ///
    /// # Errors
    /// [`GuardedError::Url`], [`GuardedError::Scheme`], [`GuardedError::UserInfo`],
    /// [`GuardedError::Host`].
    pub fn url(&self, text: &str) -> Result<Url, GuardedError> {
        let url = Url::parse(text).map_err(|_| GuardedError::Url)?;
        self.form(&url)?;
        Ok(url)
    }

    /// Whether the URL may be asked as far as it alone tells: a host that is an
    /// address may be reached. Sending asks this again.
    ///
    /// # Errors
    /// As [`GuardedClient::url`], and [`GuardedError::Address`].
    pub fn admit(&self, url: &Url) -> Result<(), GuardedError> {
        self.form(url)?;
        // The resolver is not asked about hosts that are addresses already.
        let host = url.host_str().map(undotted).unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse();
        if address.is_ok_and(|address| reach(address) > self.options.farthest) {
            return Err(GuardedError::Address);
        }
        Ok(())
    }

    fn form(&self, url: &Url) -> Result<(), GuardedError> {
        if url.scheme() != "https" && !(self.options.allow_http && url.scheme() == "http") {
            return Err(GuardedError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(GuardedError::UserInfo);
        }
        if url.host_str().is_none() { Err(GuardedError::Host) } else { Ok(()) }
    }

    /// Asks, and answers what came back before the body. The first time, makes
    /// ring the process's TLS provider unless one is set.
    ///
    /// # Errors
    /// As [`GuardedClient::admit`], [`GuardedError::Certificates`] and
    /// [`GuardedError::Request`].
    pub async fn send(&self, request: Request) -> Result<Response, GuardedError> {
        self.admit(request.url())?;
        let response = self
            .client()
            .await?
            .execute(request)
            .await
            .map_err(|error| if refused(&error) { GuardedError::Address } else { GuardedError::Request })?;
        match response.remote_addr() {
            Some(peer) if reach(peer.ip()) <= self.options.farthest => Ok(response),
            _ => Err(GuardedError::Address),
        }
    }
}

fn build(options: GuardedOptions, lookup: Lookup) -> Result<Client, reqwest::Error> {
    let GuardedOptions { allow_http, farthest, timeout, user_agent } = options;
    plain_client()
        .user_agent(user_agent)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        // A connection kept is an address not looked at again.
        .pool_max_idle_per_host(0)
        .https_only(!allow_http)
        .dns_resolver(Guarded { lookup, farthest })
        .build()
}

/// Hands over the body of a response, which may have so many bytes.
///
/// # Errors
/// [`GuardedError::TooLarge`], before anything is read where the length is
/// declared; [`GuardedError::Truncated`], [`GuardedError::Read`].
pub async fn read_body(mut response: Response, bytes_max: u64, to: &mut impl Write) -> Result<(), GuardedError> {
    let declared = response.content_length();
    if declared.is_some_and(|length| length > bytes_max) {
        return Err(GuardedError::TooLarge);
    }
    let mut read = 0;
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                read += chunk.len() as u64;
                if read > bytes_max {
                    return Err(GuardedError::TooLarge);
                }
                to.write_all(&chunk).map_err(|_| GuardedError::Read)?;
            }
            Ok(None) => return Ok(()),
            Err(error) if !error.is_timeout() && declared.is_some_and(|length| length > read) => {
                return Err(GuardedError::Truncated);
            }
            Err(_) => return Err(GuardedError::Read),
        }
    }
}

/// A host as URLs spell it, without the dot that may end it: lower case,
/// punycode, IPv6 in brackets. `None` if the text is anything but a host.
pub fn host(text: &str) -> Option<String> {
    let bracketed = if text.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{text}]") } else { text.to_owned() };
    let plain = |c: char| !c.is_whitespace() && !"/\\?#@*".contains(c);
    let url = Url::parse(&format!("https://{bracketed}/")).ok()?;
    let host = undotted(url.host_str()?);
    // The port 443 would vanish, so the colon is looked for in the text.
    let colon = !bracketed.starts_with('[') && bracketed.contains(':') || bracketed.contains("]:");
    (text.chars().all(plain) && !colon && !host.is_empty() && !host.ends_with('.')).then(|| host.to_owned())
}

fn undotted(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// Asks the operating system for the addresses of names.
pub fn system_lookup() -> Lookup {
    Arc::new(|host| {
        async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect()) }.boxed()
    })
}

/// Looks a name up once and passes on what it found, or nothing at all if any
/// of it leads too far: a name with one good and one bad address is an attack
/// or a mistake.
struct Guarded {
    lookup: Lookup,
    farthest: Reach,
}

#[derive(Debug, thiserror::Error)]
#[error("address not allowed")]
struct Refused;

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let found = (self.lookup)(name.as_str().to_owned());
        let farthest = self.farthest;
        Box::pin(async move {
            let addresses = found.await?;
            if addresses.iter().any(|&address| reach(address) > farthest) {
                return Err(Refused.into());
            }
            // Port 0 stands for the URL's own.
            Ok(Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

/// Whether [`Guarded`] is why the request failed.
fn refused(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<Refused>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests;
