use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderValue;
use reqwest::{Client, ClientBuilder, Response, Url, redirect, retry};
use runpack_core::canon::{Digest, HashingWriter};
use runpack_core::model::{EvidenceContext, EvidenceQuery, EvidenceRef, EvidenceResult};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::address::{Reach, reach};
use crate::query::{self, BadQuery};
use crate::{BodyHashForm, ConfigError, HttpConfig, Provider};

/// Time to reach a host, within the time for the whole request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Finds the addresses of a host name.
pub(crate) type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Answers `status` and `body_hash` by a GET request.
///
/// A host is asked only if it is listed, its port is listed, and every address
/// its name has leads where the deployment allows; the addresses looked at are
/// the ones connected to. Redirects are answers, not followed. Proxies, cookies,
/// compression, credentials and retries are not used. The URL is recorded whole,
/// so a secret in its query string ends up in packs; one before an `@` is refused.
pub struct HttpProvider {
    client: Client,
    allow_http: bool,
    hosts: BTreeSet<String>,
    ports: BTreeSet<u16>,
    farthest: Reach,
    body_bytes_max: u64,
    form: BodyHashForm,
}

#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error("invalid url")]
    Url,
    #[error("unsupported url scheme")]
    Scheme,
    #[error("url user info not allowed")]
    UserInfo,
    #[error("url host not allowed")]
    Host,
    #[error("url port not allowed")]
    Port,
    #[error("url address not allowed")]
    Address,
    #[error("http request failed")]
    Request,
    #[error("http response exceeds size limit")]
    TooLarge,
    #[error("http response truncated")]
    Truncated,
    #[error("failed to read response")]
    Read,
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
        let farthest = config.farthest();
        let client = plain_client()
            .user_agent(agent)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(Duration::from_millis(config.timeout_ms))
            // A connection kept is an address not looked at again.
            .pool_max_idle_per_host(0)
            .https_only(!config.allow_http)
            .dns_resolver(Guarded { lookup, farthest })
            .build()
            .map_err(ConfigError::HttpClient)?;
        Ok(Self {
            client,
            allow_http: config.allow_http,
            hosts,
            ports: config.ports(),
            farthest,
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
        let response = self.get(&url).await?;
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
        let url = Url::parse(text).map_err(|_| HttpError::Url)?;
        if url.scheme() != "https" && !(self.allow_http && url.scheme() == "http") {
            return Err(HttpError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(HttpError::UserInfo);
        }
        let host = url.host_str().map(undotted).ok_or(HttpError::Host)?;
        if !self.hosts.contains(host) {
            return Err(HttpError::Host);
        }
        if !url.port_or_known_default().is_some_and(|port| self.ports.contains(&port)) {
            return Err(HttpError::Port);
        }
        // The resolver is not asked about hosts that are addresses already.
        let address = host.trim_start_matches('[').trim_end_matches(']').parse();
        if address.is_ok_and(|address| reach(address) > self.farthest) {
            return Err(HttpError::Address);
        }
        Ok(url)
    }

    async fn get(&self, url: &Url) -> Result<Response, HttpError> {
        let response = self
            .client
            .get(url.clone())
            .send()
            .await
            .map_err(|error| if refused(&error) { HttpError::Address } else { HttpError::Request })?;
        match response.remote_addr() {
            Some(peer) if reach(peer.ip()) <= self.farthest => Ok(response),
            _ => Err(HttpError::Address),
        }
    }

    /// The digest of the body, whatever the status.
    async fn digest(&self, mut response: Response) -> Result<Digest, HttpError> {
        let declared = response.content_length();
        if declared.is_some_and(|length| length > self.body_bytes_max) {
            return Err(HttpError::TooLarge);
        }
        let mut body = HashingWriter::new(io::sink());
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    if body.written() + chunk.len() as u64 > self.body_bytes_max {
                        return Err(HttpError::TooLarge);
                    }
                    body.write_all(&chunk).map_err(|_| HttpError::Read)?;
                }
                Ok(None) => return Ok(body.finish().1),
                Err(error) if !error.is_timeout() && declared.is_some_and(|length| length > body.written()) => {
                    return Err(HttpError::Truncated);
                }
                Err(_) => return Err(HttpError::Read),
            }
        }
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

/// A host as URLs spell it, without the dot that may end it: lower case,
/// punycode, IPv6 in brackets. `None` if the text is anything but a host.
pub(crate) fn host(text: &str) -> Option<String> {
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

/// Asks the operating system.
pub(crate) fn system_lookup() -> Lookup {
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
