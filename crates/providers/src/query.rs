use runpack_core::model::{CheckId, EvidenceAnchor, EvidenceError, EvidenceQuery, EvidenceResult, EvidenceValue, Lane};
use serde::Deserialize;
use serde_json::Value;

/// A question the provider does not understand.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadQuery {
    #[error("unknown check: {0}")]
    Check(CheckId),
    #[error("missing params")]
    NoParams,
    #[error("invalid params: {0}")]
    Params(serde_json::Error),
}

pub(crate) fn params<'a, T: Deserialize<'a>>(query: &'a EvidenceQuery) -> Result<T, BadQuery> {
    let params = query.params.as_ref().ok_or(BadQuery::NoParams)?;
    T::deserialize(params).map_err(BadQuery::Params)
}

/// Params of a check that takes none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

pub(crate) fn no_params(query: &EvidenceQuery) -> Result<(), BadQuery> {
    match &query.params {
        None => Ok(()),
        Some(params) => Nothing::deserialize(params).map(|Nothing {}| ()).map_err(BadQuery::Params),
    }
}

pub(crate) fn anchor(anchor_type: &str, anchor_value: impl AsRef<str>) -> Option<EvidenceAnchor> {
    Some(EvidenceAnchor { anchor_type: anchor_type.into(), anchor_value: anchor_value.as_ref().into() })
}

pub(crate) fn found(value: Value, content_type: &str) -> EvidenceResult {
    EvidenceResult {
        value: Some(EvidenceValue::Json(value)),
        content_type: Some(content_type.into()),
        ..EvidenceResult::empty(Lane::Verified)
    }
}

/// The error without a structure of its own: code `provider_error`.
pub(crate) fn failed(text: impl std::fmt::Display) -> EvidenceResult {
    EvidenceResult::failed(EvidenceError::provider(text))
}
