//! Signatures of evidence: Ed25519, in two forms.
//!
//! A provider signs one of two messages:
//!
//! * **bound**: the bytes of [`BOUND_PREFIX`], then the canonical JSON of
//!   `{"context":{…},"evidence_hash":…,"query":{…}}`. The context has
//!   `namespace_id`, `run_id`, `scenario_id`, `stage_id`, `tenant_id`,
//!   `trigger_id` and `trigger_time`; the hash is null where there is no value.
//! * **value only**: the canonical JSON of the digest object
//!   `{"algorithm":"sha256","value":"…"}`, as the reference system has it. It
//!   says that the provider found the value once, for whatever question: who
//!   has seen it can answer any other question of any other run with it.
//!
//! Neither covers `lane`, `evidence_anchor`, `evidence_ref` or `content_type`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::future::{BoxFuture, FutureExt};
use ring::signature::{ED25519, UnparsedPublicKey};
use runpack_core::canon::{self, CanonError, Digest};
use runpack_core::model::{
    EvidenceContext, EvidenceQuery, EvidenceResult, EvidenceValue, NamespaceId, RunId, ScenarioId, StageId, TenantId,
    Timestamp, TriggerId,
};
use serde::Serialize;

use crate::{Provider, query};

/// What the message of a bound signature begins with. No JSON text does, so
/// neither form can be taken for the other.
pub const BOUND_PREFIX: &[u8] = b"runpack evidence v1\n";

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
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(KEY_FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|source| KeyError::Read { path: path.to_owned(), source })?;
    let decoded = if bytes.len() == 32 { Ok(bytes) } else { BASE64_STANDARD.decode(bytes.trim_ascii()) };
    decoded.ok().and_then(|key| key.try_into().ok()).ok_or_else(|| KeyError::NotAKey(path.to_owned()))
}

/// What a signature says. Ordered: the weaker form is below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// That the value was found, somewhere and at some time.
    ValueOnly,
    /// That the value was found for this question, in this run, at this time.
    Bound,
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
    if signature.scheme != "ed25519" {
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
    if signature.signature.len() != 64 {
        return Err(SignatureError::Bytes);
    }
    if authentic(key, &bound_message(query, context, found.as_ref())?, &signature.signature) {
        return Ok(Form::Bound);
    }
    match found {
        Some(digest) if authentic(key, &canon::to_vec(&digest)?, &signature.signature) => Ok(Form::ValueOnly),
        _ => Err(SignatureError::Verification),
    }
}

/// The message of a bound signature.
///
/// # Errors
/// None for a query that was read from JSON.
pub fn bound_message(
    query: &EvidenceQuery,
    context: &EvidenceContext,
    evidence_hash: Option<&Digest>,
) -> Result<Vec<u8>, CanonError> {
    let asked = Asked {
        context: AskedIn {
            namespace_id: context.namespace_id,
            run_id: &context.run_id,
            scenario_id: &context.scenario_id,
            stage_id: &context.stage_id,
            tenant_id: context.tenant_id,
            trigger_id: &context.trigger_id,
            trigger_time: context.trigger_time,
        },
        evidence_hash,
        query,
    };
    Ok([BOUND_PREFIX, &canon::to_vec(&asked)?].concat())
}

#[derive(Serialize)]
struct Asked<'a> {
    context: AskedIn<'a>,
    evidence_hash: Option<&'a Digest>,
    query: &'a EvidenceQuery,
}

/// The context without the caller's own correlation id, which may differ when
/// the same question is asked again.
#[derive(Serialize)]
struct AskedIn<'a> {
    namespace_id: NamespaceId,
    run_id: &'a RunId,
    scenario_id: &'a ScenarioId,
    stage_id: &'a StageId,
    tenant_id: TenantId,
    trigger_id: &'a TriggerId,
    trigger_time: Timestamp,
}

fn authentic(key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
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
