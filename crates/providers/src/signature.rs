//! Answers that are believed only if they are signed, with Ed25519. What is
//! signed, and how it is checked, is in [`runpack_core::trust::evidence`], since
//! an auditor checks the same signatures again.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::future::{BoxFuture, FutureExt};
use runpack_beneath::read_within;
use runpack_core::canon::{CanonError, Digest};
use runpack_core::model::{EvidenceContext, EvidenceQuery, EvidenceResult, EvidenceValue};
use runpack_core::trust::PublicKey;
pub use runpack_core::trust::evidence::Form;
use runpack_core::trust::evidence::{SCHEME, SIGNATURE_BYTES, signed_by};

use crate::{Provider, query};

/// Bytes of a key file: more than any encoding of a key needs.
const KEY_FILE_BYTES_MAX: u64 = 1_024;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key file `{path}`: {source}")]
    Read {
        /// As configured.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("`{0}` is not a key file\nhint: an Ed25519 public key is 32 bytes, raw or in base64")]
    NotAKey(String),
}

/// Public keys, by the path they were read from, which is their `key_id`.
///
/// With none, no evidence is believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(BTreeMap<String, [u8; 32]>);

impl Keys {
    /// Reads key files: each 32 raw bytes, or their base64 with padding.
    ///
    /// # Errors
    /// The first file that cannot be read or is no key. Whether 32 bytes are a
    /// point of the curve shows when a signature is verified: if not, none is.
    pub fn load(paths: &[String]) -> Result<Self, KeyError> {
        paths.iter().map(|path| Ok((path.clone(), load(path)?))).collect::<Result<_, _>>().map(Self)
    }
}

fn load(path: &str) -> Result<[u8; 32], KeyError> {
    let bytes = read_within(Path::new(path), KEY_FILE_BYTES_MAX).map_err(|source| match source.kind() {
        io::ErrorKind::FileTooLarge => KeyError::NotAKey(path.to_owned()),
        _ => KeyError::Read { path: path.to_owned(), source },
    })?;
    let decoded = if bytes.len() == 32 { Ok(bytes) } else { BASE64_STANDARD.decode(bytes.trim_ascii()) };
    decoded.ok().and_then(|key| key.try_into().ok()).ok_or_else(|| KeyError::NotAKey(path.to_owned()))
}

/// Why evidence is not believed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("missing evidence signature")]
    Missing,
    /// It is not Ed25519.
    #[error("unsupported signature scheme")]
    Scheme,
    /// The key is not one of those configured.
    #[error("signature key not authorized")]
    Key,
    /// The provider gives a value without its hash.
    #[error("missing evidence hash")]
    NoHash,
    /// The hash is not that of the value.
    #[error("evidence hash mismatch")]
    Hash,
    /// No signature is of that length.
    #[error("invalid signature bytes")]
    Bytes,
    /// It was made for something else, or with another key.
    #[error("signature verification failed")]
    Verification,
    /// It is of a weaker form than asked for.
    #[error("signature does not cover query and run")]
    Weak,
    /// What was to be signed has no canonical form.
    #[error(transparent)]
    Canon(#[from] CanonError),
}

/// Which form of signature `result` carries as the answer to `query`.
///
/// The hash of the result is computed again and not believed. A result without
/// a value can be signed in the bound form only.
///
/// # Errors
/// The first reason not to believe the result.
pub fn verify(
    keys: &Keys,
    query: &EvidenceQuery,
    context: &EvidenceContext,
    result: &EvidenceResult,
) -> Result<Form, SignatureError> {
    let signature = result.signature.as_ref().ok_or(SignatureError::Missing)?;
    if signature.scheme != SCHEME {
        return Err(SignatureError::Scheme);
    }
    let key = keys.0.get(&signature.key_id).ok_or(SignatureError::Key)?;
    let found = match &result.value {
        None => None,
        Some(EvidenceValue::Bytes(bytes)) => Some(Digest::of(bytes)),
        Some(EvidenceValue::Json(value)) => Some(Digest::of_canonical(value)?),
    };
    match (result.evidence_hash, found) {
        (None, Some(_)) => return Err(SignatureError::NoHash),
        (claimed, found) if claimed != found => return Err(SignatureError::Hash),
        _ => {}
    }
    if signature.signature.len() != SIGNATURE_BYTES {
        return Err(SignatureError::Bytes);
    }
    // Bytes that are no key, or one of small order, have signed nothing.
    let key = PublicKey::from_ed25519(key).map_err(|_| SignatureError::Verification)?;
    let form = signed_by(&key, query, context, found.as_ref(), &signature.signature)?;
    form.ok_or(SignatureError::Verification)
}

/// A provider whose answers are believed only if they are signed.
///
/// Anything else becomes a `provider_error`, so that the condition is Unknown.
/// An answer that is an error already stays as it is, signed or not. The
/// built-in providers sign nothing.
pub struct Signed {
    inner: Arc<dyn Provider>,
    keys: Keys,
    weakest: Form,
}

impl Signed {
    /// Believes `inner` if a key of `keys` has signed in the form `weakest` or
    /// a stronger one.
    pub fn new(inner: Arc<dyn Provider>, keys: Keys, weakest: Form) -> Self {
        Self { inner, keys, weakest }
    }
}

impl Provider for Signed {
    fn query<'a>(&'a self, query: &'a EvidenceQuery, context: &'a EvidenceContext) -> BoxFuture<'a, EvidenceResult> {
        async move {
            let result = self.inner.query(query, context).await;
            if result.error.is_some() {
                return result;
            }
            match verify(&self.keys, query, context, &result) {
                Ok(form) if form >= self.weakest => result,
                Ok(_) => query::failed(SignatureError::Weak),
                Err(error) => query::failed(error),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
