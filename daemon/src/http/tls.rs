//! TLS by rustls itself, and who the other end is by its certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// `[server.tls]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// The certificate and those above it, PEM.
    pub cert_path: PathBuf,
    /// Its key, PEM.
    pub key_path: PathBuf,
    /// Who signs certificates of clients, PEM; without it none is asked for.
    pub client_ca_path: Option<PathBuf>,
    /// Whether clients without a certificate are refused.
    pub require_client_cert: bool,
}

impl TlsOptions {
    /// Reads the files.
    ///
    /// # Errors
    /// A sentence that names the key and the file that cannot be used.
    pub fn open(&self) -> Result<Arc<ServerConfig>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificates = certificates("cert_path", &self.cert_path)?;
        let key = PrivateKeyDer::from_pem_file(&self.key_path)
            .map_err(|error| unusable("key_path", &self.key_path, &error, "a PEM file with a private key"))?;
        let verifier = match &self.client_ca_path {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in self::certificates("client_ca_path", path)? {
                    roots
                        .add(authority)
                        .map_err(|error| unusable("client_ca_path", path, &error, "certificates of authorities"))?;
                }
                let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
                let builder = if self.require_client_cert { builder } else { builder.allow_unauthenticated() };
                builder
                    .build()
                    .map_err(|error| unusable("client_ca_path", path, &error, "certificates of authorities"))?
            }
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("server.tls: {error}"))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates, key)
            .map_err(|error| unusable("cert_path", &self.cert_path, &error, "a certificate that belongs to the key"))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wanted = "a PEM file with certificates";
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(unusable(key, path, &"there is none in it", wanted)),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(key, path, &error, wanted)),
    }
}

fn unusable(key: &str, path: &Path, error: &dyn std::fmt::Display, wanted: &str) -> String {
    format!("server.tls.{key}: cannot use `{}`: {error}\nhint: name {wanted}", path.display())
}

/// The subject of the certificate that the other end has shown, in the form of
/// RFC 4514. It was checked when the connection was made.
pub(super) fn subject(stream: &TlsStream<TcpStream>) -> Option<String> {
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    Some(Certificate::from_der(leaf).ok()?.tbs_certificate().subject().to_string())
}
