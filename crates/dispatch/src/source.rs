use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, Url};
use runpack_beneath::{Fault, Links, Root};
use runpack_core::engine::PAYLOAD_BYTES_MAX;
use runpack_providers::{GuardedClient, GuardedError, GuardedOptions, Lookup, Reach, read_body};

use crate::hosts::Hosts;
use crate::{Again, SetupError};

/// Where content is got from, if a packet only refers to it.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// The directory that `file:` references lie beneath; without it there are
    /// none.
    pub file_root: Option<PathBuf>,
    /// Hosts that are asked: names and addresses, compared whole, or `*.` and
    /// what a name ends with. None is asked unless it is listed.
    pub allow_hosts: Vec<String>,
    /// Hosts that are not asked, whatever the list of those that are.
    pub deny_hosts: Vec<String>,
    /// Ports that are asked; without it 443, and 80 with `allow_http`.
    pub allow_ports: Option<Vec<u16>>,
    /// Whether `http:` is asked besides `https:`.
    pub allow_http: bool,
    /// Whether hosts may be on this machine or its own network. Where clouds
    /// hand out credentials is never asked.
    pub allow_private: bool,
    /// From asking to the last byte.
    pub timeout: Duration,
    /// Bytes of what is referred to.
    pub bytes_max: u64,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            file_root: None,
            allow_hosts: Vec::new(),
            deny_hosts: Vec::new(),
            allow_ports: None,
            allow_http: false,
            allow_private: false,
            timeout: Duration::from_secs(30),
            bytes_max: PAYLOAD_BYTES_MAX,
        }
    }
}

/// Why content could not be got.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The reference names nothing that can be got.
    #[error("invalid uri: {0}")]
    Uri(&'static str),
    /// Nobody gets such references.
    #[error("missing source for scheme: {0}")]
    Scheme(String),
    /// It has more bytes than it may.
    #[error("payload exceeds size limit: more than {0} bytes")]
    TooLarge(u64),
    /// There is no such file.
    #[error("resource not found: {0}")]
    NotFound(String),
    /// There is something else than a file that may be read.
    #[error("cannot read `{path}`: {fault}")]
    File {
        /// Beneath the root.
        path: String,
        /// Why.
        fault: Fault,
    },
    /// The URL is not asked, or nothing came back.
    #[error("http failure: {0}")]
    Http(#[from] GuardedError),
    /// The port is not on the list.
    #[error("http failure: url port not allowed")]
    Port,
    /// Something else came back.
    #[error("http failure: http status {0}")]
    Status(u16),
}

impl SourceError {
    pub(crate) fn again(&self) -> Again {
        match self {
            Self::Uri(_) | Self::Scheme(_) | Self::TooLarge(_) | Self::Port => Again::Never,
            Self::File { fault: Fault::UnsafePath(_), .. } => Again::Never,
            Self::NotFound(_) | Self::File { .. } | Self::Status(_) => Again::Later,
            Self::Http(error) => again(*error),
        }
    }
}

/// Whether another try may fare better. What the filter refuses stays refused:
/// a name that leads inside now and outside later is no name to try again.
pub(crate) fn again(error: GuardedError) -> Again {
    match error {
        GuardedError::Url
        | GuardedError::Scheme
        | GuardedError::UserInfo
        | GuardedError::Host
        | GuardedError::Address
        | GuardedError::TooLarge => Again::Never,
        GuardedError::Certificates | GuardedError::Request | GuardedError::Truncated | GuardedError::Read => {
            Again::Later
        }
    }
}

/// What was got, and what it says of itself.
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content_type: Option<String>,
}

pub(crate) struct Sources {
    files: Option<Arc<Files>>,
    client: GuardedClient,
    allowed: Hosts,
    denied: Hosts,
    ports: BTreeSet<u16>,
    bytes_max: u64,
}

struct Files {
    root: Root,
    /// What the path of a reference begins with.
    prefix: PathBuf,
}

impl Sources {
    pub(crate) fn new(options: &SourceOptions, lookup: Lookup) -> Result<Self, SetupError> {
        let hosts = |list: &'static str, entries: &[String]| {
            Hosts::read(entries).map_err(|host| SetupError::Host { list, host })
        };
        let client = GuardedOptions {
            allow_http: options.allow_http,
            farthest: if options.allow_private { Reach::Internal } else { Reach::Public },
            timeout: options.timeout,
            user_agent: HeaderValue::from_static(crate::broker::USER_AGENT),
        };
        let ports = match &options.allow_ports {
            Some(ports) => ports.iter().copied().collect(),
            None if options.allow_http => BTreeSet::from([80, 443]),
            None => BTreeSet::from([443]),
        };
        Ok(Self {
            files: options.file_root.as_deref().map(Files::open).transpose()?.map(Arc::new),
            client: GuardedClient::new(client, lookup),
            allowed: hosts("allow_hosts", &options.allow_hosts)?,
            denied: hosts("deny_hosts", &options.deny_hosts)?,
            ports,
            bytes_max: options.bytes_max.min(PAYLOAD_BYTES_MAX),
        })
    }

    /// Whether a list says that this host is not to be asked.
    pub(crate) fn denies(&self, host: &str) -> bool {
        self.denied.has(host)
    }

    pub(crate) async fn fetch(&self, uri: &str) -> Result<Fetched, SourceError> {
        let (scheme, rest) = uri.split_once(':').ok_or(SourceError::Uri("it has no scheme"))?;
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "inline" => self.inline(rest, None),
            "inline+json" => self.inline(rest, Some("application/json")),
            "inline+bytes" => self.inline(rest, Some("application/octet-stream")),
            "file" => self.file(uri).await,
            "http" | "https" => self.http(uri).await,
            _ => Err(SourceError::Scheme(scheme)),
        }
    }

    fn inline(&self, text: &str, content_type: Option<&str>) -> Result<Fetched, SourceError> {
        // Four characters hold three bytes, the last four perhaps fewer.
        if text.len() as u64 > (self.bytes_max.div_ceil(3)) * 4 {
            return Err(SourceError::TooLarge(self.bytes_max));
        }
        let bytes = STANDARD.decode(text).map_err(|_| SourceError::Uri("it is not padded base64"))?;
        if bytes.len() as u64 > self.bytes_max {
            return Err(SourceError::TooLarge(self.bytes_max));
        }
        Ok(Fetched { bytes, content_type: content_type.map(str::to_owned) })
    }

    async fn file(&self, uri: &str) -> Result<Fetched, SourceError> {
        let files = self.files.clone().ok_or_else(|| SourceError::Scheme("file".to_owned()))?;
        let relative = files.relative(uri)?;
        let bytes_max = self.bytes_max;
        let read = tokio::task::spawn_blocking(move || files.read(&relative, bytes_max));
        // It only ends otherwise if the runtime does.
        let bytes = read.await.unwrap_or(Err(SourceError::Uri("it was not read to its end")))?;
        Ok(Fetched { bytes, content_type: None })
    }

    async fn http(&self, uri: &str) -> Result<Fetched, SourceError> {
        let url = self.client.url(uri)?;
        let host = url.host_str().unwrap_or_default();
        if self.denied.has(host) || !self.allowed.has(host) {
            return Err(GuardedError::Host.into());
        }
        if !url.port_or_known_default().is_some_and(|port| self.ports.contains(&port)) {
            return Err(SourceError::Port);
        }
        let response = self.client.send(Request::new(Method::GET, url)).await?;
        if !response.status().is_success() {
            return Err(SourceError::Status(response.status().as_u16()));
        }
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let mut bytes = Vec::new();
        read_body(response, self.bytes_max, &mut bytes).await?;
        Ok(Fetched { bytes, content_type })
    }
}

impl Files {
    fn open(path: &Path) -> Result<Self, SetupError> {
        let failed = |source| SetupError::FileRoot { path: path.to_owned(), source };
        Ok(Self { root: Root::open(path).map_err(failed)?, prefix: std::path::absolute(path).map_err(failed)? })
    }

    /// The path of a reference beneath the root.
    fn relative(&self, uri: &str) -> Result<String, SourceError> {
        let url = Url::parse(uri).map_err(|_| SourceError::Uri("it cannot be read"))?;
        if url.host_str().is_some_and(|host| !host.is_empty() && host != "localhost") {
            return Err(SourceError::Uri("a file of another host"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(SourceError::Uri("a file has no query and no fragment"));
        }
        let path = url.to_file_path().map_err(|()| SourceError::Uri("it names no file"))?;
        let escapes = SourceError::Uri("file path escapes configured root");
        let Ok(relative) = path.strip_prefix(&self.prefix) else { return Err(escapes) };
        match relative.to_str() {
            Some("") => Err(SourceError::Uri("file path refers to directory")),
            // A separator that was hidden in the URL may have hidden a way out.
            Some(relative) if !relative.split('/').any(|part| part == "..") => Ok(relative.to_owned()),
            _ => Err(escapes),
        }
    }

    fn read(&self, relative: &str, bytes_max: u64) -> Result<Vec<u8>, SourceError> {
        let fault = |fault| match fault {
            Fault::NotFound => SourceError::NotFound(relative.to_owned()),
            fault => SourceError::File { path: relative.to_owned(), fault },
        };
        let (file, size): (File, u64) = self.root.file(relative, Links::Single).map_err(fault)?;
        let mut bytes = Vec::new();
        if size <= bytes_max {
            file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| fault(error.into()))?;
        }
        if size > bytes_max || bytes.len() as u64 > bytes_max {
            return Err(SourceError::TooLarge(bytes_max));
        }
        Ok(bytes)
    }
}
