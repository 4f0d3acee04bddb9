//! A sealed archive at a web address: fetched once, and read like one that
//! comes in on standard input.

use std::error::Error;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::{Buf, Bytes};
use reqwest::header::TRANSFER_ENCODING;
use reqwest::{Response, StatusCode, Version, redirect, retry};
use url::{Host, Url};

use super::location::shown;
use super::object::{StoreOptions, wait};
use super::{ArchiveReader, LocationError, OpenFault};

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 5;

/// Fetches the archive at `url`. What the server says decides nothing about the
/// pack: any answer but 200 with all of its body is an error.
pub(super) fn open(
    url: &str,
    artifact_bytes_max: u64,
    options: &StoreOptions,
) -> Result<Box<ArchiveReader>, LocationError> {
    let name = shown(url).into_owned();
    let failed = |problem: String| LocationError::Web { location: name.clone(), problem };
    let parsed = Url::parse(url).map_err(|error| failed(error.to_string()))?;
    permitted(&parsed).map_err(|problem| failed(problem.to_owned()))?;
    let client = options
        .web_client()
        .map_err(|fault| LocationError::Store(fault.to_string()))?
        .redirect(redirect::Policy::custom(follow));
    let client = client
        // The same bytes come each time: what fails is not asked for again here.
        .retry(retry::never())
        .referer(false)
        // Off here, but another crate could turn the features on.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate();
    let client = if parsed.scheme() == "http" {
        // What this name means is not for a resolver to say, nor for a proxy.
        let here = [SocketAddr::from(([127, 0, 0, 1], 0)), SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0))];
        client.no_proxy().resolve_to_addrs("localhost", &here)
    } else {
        client
    };
    let client = client.build().map_err(|error| failed(told(error)))?;
    let response = wait(async { client.get(parsed).send().await }).map_err(|error| failed(told(error)))?;
    if response.status() != StatusCode::OK {
        return Err(failed(format!("the server answers {}", response.status())));
    }
    let old = [Version::HTTP_09, Version::HTTP_10, Version::HTTP_11].contains(&response.version());
    if old && response.content_length().is_none() && !response.headers().contains_key(TRANSFER_ENCODING) {
        let problem = "the server does not say how long it is, so that one that was cut off would look whole";
        return Err(failed(problem.to_owned()));
    }
    let body = Body { response, here: Bytes::new() };
    ArchiveReader::spool(body, artifact_bytes_max).map(Box::new).map_err(|fault| {
        let path = PathBuf::from(&name);
        LocationError::Open(match fault {
            OpenFault::TooLarge { what, limit, .. } => OpenFault::TooLarge { path, what, limit },
            OpenFault::Io { source, .. } => OpenFault::Io { path, source },
            other => other,
        })
    })
}

/// Without TLS only from this machine.
fn permitted(url: &Url) -> Result<(), &'static str> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "a name or password before the host is not taken\nhint: use an address that needs none, or download \
                    the archive and give its path",
        );
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(url) => Ok(()),
        _ => Err("without TLS anybody on the way could read it, or put another in its place\nhint: use https://; \
                  http:// only reaches this machine"),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let downwards = attempt.url().scheme() != "https" && attempt.previous().iter().any(|url| url.scheme() == "https");
    if downwards || permitted(attempt.url()).is_err() {
        let to = shown(attempt.url().as_str()).into_owned();
        return attempt.error(format!("it redirects to `{to}`, and only https:// is followed"));
    }
    if attempt.previous().len() > REDIRECTS_MAX {
        return attempt.error(format!("it redirects more than {REDIRECTS_MAX} times"));
    }
    attempt.follow()
}

/// What went wrong, without the address, which may hold a secret.
fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut innermost: &dyn Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

struct Body {
    response: Response,
    here: Bytes,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.here.is_empty() {
            match wait(self.response.chunk()) {
                Ok(Some(chunk)) => self.here = chunk,
                Ok(None) => return Ok(0),
                Err(error) => return Err(io::Error::other(told(error))),
            }
        }
        let count = buffer.len().min(self.here.len());
        self.here.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
