//! What a provider signs when it signs evidence, in two forms:
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

use serde::Serialize;

use super::PublicKey;
use crate::canon::{self, CanonError, Digest};
use crate::model::{
    EvidenceContext, EvidenceQuery, NamespaceId, RunId, ScenarioId, StageId, TenantId, Timestamp, TriggerId,
};

/// What the message of a bound signature begins with. No JSON text does, so
/// neither form can be taken for the other.
pub const BOUND_PREFIX: &[u8] = b"runpack evidence v1\n";

/// The one scheme there is, as records name it.
pub const SCHEME: &str = "ed25519";

/// Bytes of a signature of [`SCHEME`].
pub const SIGNATURE_BYTES: usize = 64;

/// What a signature says. Ordered: the weaker form is below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// That the value was found, somewhere and at some time.
    ValueOnly,
    /// That the value was found for this question, in this run, at this time.
    Bound,
}

/// The form in which `key` has signed evidence with the digest `evidence_hash`
/// as the answer to `query`; `None` if it has not. The absence of a value can be
/// signed in the bound form only.
///
/// # Errors
/// None for a query that was read from JSON.
pub fn signed_by(
    key: &PublicKey,
    query: &EvidenceQuery,
    context: &EvidenceContext,
    evidence_hash: Option<&Digest>,
    signature: &[u8],
) -> Result<Option<Form>, CanonError> {
    if key.verifies(&bound_message(query, context, evidence_hash)?, signature) {
        return Ok(Some(Form::Bound));
    }
    match evidence_hash {
        Some(digest) if key.verifies(&canon::to_vec(digest)?, signature) => Ok(Some(Form::ValueOnly)),
        _ => Ok(None),
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
