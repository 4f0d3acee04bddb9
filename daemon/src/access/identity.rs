//! Who is calling, by what they show.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use runpack_core::canon::Digest;
use runpack_core::model::{NamespaceId, TenantId};
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

/// Bytes of an `Authorization` header.
const AUTHORIZATION_BYTES_MAX: usize = 8 * 1024;

/// What a request shows of who sent it.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The `Authorization` header.
    pub authorization: Option<&'a [u8]>,
    /// The subject of the certificate that the connection was made with,
    /// checked against the client authority.
    pub certificate: Option<&'a str>,
    /// The subject that somebody in between asserts.
    pub asserted: Option<&'a str>,
}

/// How callers show who they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Authentication {
    /// By being on this machine.
    #[default]
    LocalOnly,
    /// By one of these tokens, of which only digests are kept.
    Bearer(Vec<Digest>),
    /// By a certificate with one of these subjects.
    Mtls {
        /// The subjects.
        subjects: BTreeSet<String>,
        /// Who may assert a subject for others, having checked it.
        proxies: BTreeSet<IpAddr>,
    },
}

/// How a caller was recognised, by its name in the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `local`
    Local,
    /// `bearer_token`
    BearerToken,
    /// `mtls_subject`
    MtlsSubject,
}

impl Method {
    /// The name in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::BearerToken => "bearer_token",
            Self::MtlsSubject => "mtls_subject",
        }
    }
}

/// Why nobody was recognised, for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unauthenticated(pub &'static str);

impl Authentication {
    /// How callers are recognised.
    pub fn method(&self) -> Method {
        match self {
            Self::LocalOnly => Method::Local,
            Self::Bearer(_) => Method::BearerToken,
            Self::Mtls { .. } => Method::MtlsSubject,
        }
    }

    /// The subject that `claim` shows.
    ///
    /// # Errors
    /// Why there is none. The caller only hears that there is none.
    pub fn identify(&self, claim: &Claim<'_>) -> Result<(String, Method), Unauthenticated> {
        match self {
            Self::LocalOnly if claim.peer.is_loopback() => Ok(("loopback".to_owned(), Method::Local)),
            Self::LocalOnly => Err(Unauthenticated("the caller is on another machine")),
            Self::Bearer(digests) => {
                let shown = Digest::of(token(claim.authorization)?);
                // Every token is looked at whole, so time says nothing.
                let known = digests
                    .iter()
                    .fold(subtle::Choice::from(0), |known, digest| known | digest.as_bytes().ct_eq(shown.as_bytes()));
                if bool::from(known) {
                    Ok((format!("token:{shown}"), Method::BearerToken))
                } else {
                    Err(Unauthenticated("the token is none of those configured"))
                }
            }
            Self::Mtls { subjects, proxies } => {
                let asserted = || claim.asserted.filter(|_| proxies.contains(&claim.peer));
                let Some(subject) = claim.certificate.or_else(asserted) else {
                    let problem = match claim.asserted {
                        Some(_) => "the subject is asserted by an address that is no trusted proxy",
                        None => "there is no client certificate",
                    };
                    return Err(Unauthenticated(problem));
                };
                if subjects.contains(subject) {
                    Ok((subject.to_owned(), Method::MtlsSubject))
                } else {
                    Err(Unauthenticated("the certificate's subject is not configured"))
                }
            }
        }
    }
}

fn token(authorization: Option<&[u8]>) -> Result<&[u8], Unauthenticated> {
    let header = authorization.ok_or(Unauthenticated("there is no Authorization header"))?;
    if header.len() > AUTHORIZATION_BYTES_MAX {
        return Err(Unauthenticated("the Authorization header is too long"));
    }
    let (scheme, token) = header.split_at_checked(7).ok_or(Unauthenticated("the scheme is not Bearer"))?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Err(Unauthenticated("the scheme is not Bearer"));
    }
    match token.trim_ascii() {
        [] => Err(Unauthenticated("the token is empty")),
        token => Ok(token),
    }
}

/// What somebody may be in a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[allow(missing_docs, reason = "the names are the wire's")]
pub enum Role {
    TenantAdmin,
    NamespaceOwner,
    NamespaceAdmin,
    NamespaceWriter,
    NamespaceReader,
    SchemaManager,
}

/// A role, and where it holds; everywhere if it does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the members say it")]
pub struct Assignment {
    pub role: Role,
    pub tenant: Option<TenantId>,
    pub namespace: Option<NamespaceId>,
}

impl Assignment {
    /// Whether the role holds there.
    pub fn holds(&self, tenant: TenantId, namespace: NamespaceId) -> bool {
        self.tenant.is_none_or(|own| own == tenant) && self.namespace.is_none_or(|own| own == namespace)
    }
}

/// What is known of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Principal {
    /// Free text; `prod` is the strict one, and what holds without any.
    pub policy_class: Option<String>,
    /// What it is, and where.
    pub roles: Vec<Assignment>,
}

/// What is known of subjects, by subject.
pub type Principals = BTreeMap<String, Principal>;

#[cfg(test)]
mod tests {
    use super::*;

    fn claim<'a>(peer: &str, authorization: Option<&'a str>) -> Claim<'a> {
        let authorization = authorization.map(str::as_bytes);
        Claim { peer: peer.parse().unwrap(), authorization, certificate: None, asserted: None }
    }

    #[test]
    fn local_only_takes_loopback_and_nothing_else() {
        let found = Authentication::LocalOnly.identify(&claim("127.9.9.9", None)).unwrap();
        assert_eq!(found, ("loopback".to_owned(), Method::Local));
        assert!(Authentication::LocalOnly.identify(&claim("192.0.2.1", Some("Bearer x"))).is_err());
    }

    #[test]
    fn a_token_is_known_by_its_digest_and_named_after_it() {
        let tokens = Authentication::Bearer(vec![Digest::of(b"one"), Digest::of(b"two")]);
        let (subject, method) = tokens.identify(&claim("192.0.2.1", Some("bEaReR  two "))).unwrap();
        assert_eq!((subject, method), (format!("token:{}", Digest::of(b"two")), Method::BearerToken));
        for wrong in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Basic two"),
            Some("Bearer three"),
            Some("Bearer onetwo"),
        ] {
            assert!(tokens.identify(&claim("127.0.0.1", wrong)).is_err(), "{wrong:?}");
        }
        let long = format!("Bearer {}", "x".repeat(AUTHORIZATION_BYTES_MAX));
        assert!(tokens.identify(&claim("127.0.0.1", Some(&long))).unwrap_err().0.contains("too long"));
    }

    #[test]
    fn a_subject_is_believed_from_a_certificate_or_from_a_trusted_proxy_only() {
        let mtls = Authentication::Mtls {
            subjects: ["CN=auditor".to_owned()].into(),
            proxies: ["10.0.0.1".parse().unwrap()].into(),
        };
        let certificate = Claim { certificate: Some("CN=auditor"), ..claim("192.0.2.1", None) };
        assert_eq!(mtls.identify(&certificate).unwrap().0, "CN=auditor");
        // The certificate counts, whatever a header says.
        let both = Claim { certificate: Some("CN=other"), asserted: Some("CN=auditor"), ..claim("10.0.0.1", None) };
        assert!(mtls.identify(&both).is_err());
        let proxied = Claim { asserted: Some("CN=auditor"), ..claim("10.0.0.1", None) };
        assert_eq!(mtls.identify(&proxied).unwrap().1, Method::MtlsSubject);
        let forged = Claim { asserted: Some("CN=auditor"), ..claim("127.0.0.1", None) };
        assert!(mtls.identify(&forged).unwrap_err().0.contains("no trusted proxy"));
        assert!(mtls.identify(&claim("10.0.0.1", None)).unwrap_err().0.contains("no client certificate"));
    }
}
