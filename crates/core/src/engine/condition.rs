//! Compares observed with expected.

use std::cmp::Ordering;

use serde_json::Value;

use super::{EVIDENCE_BYTES_MAX, Settings};
use crate::canon::{CanonError, Digest, decimal_cmp, size_within, to_vec};
use crate::model::{
    AnchorRequirement, Comparator, ConditionSpec, Date, EvidenceAnchor, EvidenceError, EvidenceRecord, EvidenceResult,
    EvidenceValue, Instant, Lane, TriState,
};
use crate::read::Admit;

/// A provider's answer in a form that deciding can use and a pack can record.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    result: EvidenceResult,
    ruled: Option<TriState>,
}

impl Evidence {
    /// New evidence. A value that could not be recorded faithfully becomes the
    /// error `value_not_recordable`, so its condition is Unknown.
    pub fn admit(mut result: EvidenceResult) -> Self {
        match result.admit() {
            Ok(()) => Self::recorded(result),
            Err(refusal) => {
                let error = EvidenceError::new("value_not_recordable", refusal.to_string());
                Self::recorded(EvidenceResult { error: Some(error), ..result })
            }
        }
    }

    /// Evidence read from a pack, taken exactly as it is.
    pub fn recorded(result: EvidenceResult) -> Self {
        Self { result, ruled: None }
    }

    /// Evidence whose condition came out as `status`, where the recorded value
    /// cannot say: canonical form has no difference between `1` and `1.0`, and
    /// the reference decided on that difference.
    pub fn ruled(result: EvidenceResult, status: TriState) -> Self {
        Self { result, ruled: Some(status) }
    }
}

/// Judges the evidence of one condition, by the reference system's contract, §4.5.
///
/// The evidence is settled first: an anchor that the policy asks for is
/// checked, an error clears the value, the digest is computed here and not
/// believed, and a value that is too large becomes the error
/// `evidence_too_large`. An error makes the condition Unknown whatever the
/// comparator says.
///
/// # Errors
/// A value without a canonical form.
pub fn judge(
    condition: &ConditionSpec,
    evidence: &Evidence,
    settings: &Settings,
) -> Result<EvidenceRecord, CanonError> {
    let mut result = evidence.result.clone();
    if result.error.is_none()
        && let Some(requirement) = settings.anchors.requirement(&condition.query.provider_id)
        && let Some(fault) = anchor_fault(requirement, result.evidence_anchor.as_ref())
    {
        result = EvidenceResult::failed(EvidenceError::new("anchor_invalid", fault.to_string()));
    }
    if result.error.is_none()
        && let Some(value) = &result.value
    {
        match digest_of(value)? {
            Ok(digest) => result.evidence_hash = Some(digest),
            Err(message) => result.error = Some(EvidenceError::new("evidence_too_large", message)),
        }
    }
    if result.error.is_some() {
        result.value = None;
        result.evidence_hash = None;
        result.content_type = None;
    }
    let status = if result.error.is_some() {
        TriState::Unknown
    } else {
        let compared = || compare(condition.comparator, result.value.as_ref(), condition.expected.as_ref());
        evidence.ruled.unwrap_or_else(compared)
    };
    Ok(EvidenceRecord { condition_id: condition.condition_id.clone(), status, result })
}

/// What a condition without any evidence is judged on.
pub(super) fn missing(lane: Lane) -> Evidence {
    Evidence::recorded(EvidenceResult::empty(lane))
}

fn digest_of(value: &EvidenceValue) -> Result<Result<Digest, String>, CanonError> {
    let too_large = |actual| format!("evidence payload exceeds size limit ({actual} > {EVIDENCE_BYTES_MAX})");
    match value {
        EvidenceValue::Bytes(bytes) if bytes.len() as u64 > EVIDENCE_BYTES_MAX => {
            Ok(Err(too_large(bytes.len() as u64)))
        }
        EvidenceValue::Bytes(bytes) => Ok(Ok(Digest::of(bytes))),
        EvidenceValue::Json(value) => {
            let bytes = to_vec(value)?;
            if bytes.len() as u64 <= EVIDENCE_BYTES_MAX {
                return Ok(Ok(Digest::of(&bytes)));
            }
            let actual = match size_within(value, EVIDENCE_BYTES_MAX)? {
                Ok(size) => size,
                Err(error) => error.actual,
            };
            Ok(Err(too_large(actual)))
        }
    }
}

/// What is wrong with an anchor. The sentences are on the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorFault {
    /// There is none.
    #[error("missing evidence_anchor")]
    Missing,
    /// It is of another type.
    #[error("anchor_type mismatch: expected {expected} got {got}")]
    Type {
        /// By the policy.
        expected: String,
        /// In the evidence.
        got: String,
    },
    /// Its value is not JSON.
    #[error("anchor_value must be canonical JSON")]
    NotJson,
    /// Its value is no object.
    #[error("anchor_value must be a JSON object")]
    NotAnObject,
    /// A required member is missing, or says nothing.
    #[error("anchor field {field} {problem}")]
    Field {
        /// The member.
        field: String,
        /// `missing`, `must be set`, `must be string or number`, `must be scalar`.
        problem: &'static str,
    },
}

/// What is wrong with `anchor` under `requirement`, if anything.
pub fn anchor_fault(requirement: &AnchorRequirement, anchor: Option<&EvidenceAnchor>) -> Option<AnchorFault> {
    let Some(anchor) = anchor else { return Some(AnchorFault::Missing) };
    if anchor.anchor_type != requirement.anchor_type {
        let (expected, got) = (requirement.anchor_type.to_string(), anchor.anchor_type.to_string());
        return Some(AnchorFault::Type { expected, got });
    }
    let members = match serde_json::from_str(&anchor.anchor_value) {
        Ok(Value::Object(members)) => members,
        Ok(_) => return Some(AnchorFault::NotAnObject),
        Err(_) => return Some(AnchorFault::NotJson),
    };
    requirement.required_fields.iter().find_map(|field| {
        let problem = match members.get(field) {
            Some(Value::String(_) | Value::Number(_)) => return None,
            None => "missing",
            Some(Value::Null) => "must be set",
            Some(Value::Bool(_)) => "must be string or number",
            Some(Value::Array(_) | Value::Object(_)) => "must be scalar",
        };
        Some(AnchorFault::Field { field: field.clone(), problem })
    })
}

fn compare(comparator: Comparator, evidence: Option<&EvidenceValue>, expected: Option<&Value>) -> TriState {
    match comparator {
        Comparator::Exists => decided(evidence.is_some()),
        Comparator::NotExists => decided(evidence.is_none()),
        _ => match (evidence, expected) {
            (Some(EvidenceValue::Json(value)), Some(expected)) => compare_json(comparator, value, expected),
            (Some(EvidenceValue::Bytes(bytes)), Some(expected)) => compare_bytes(comparator, bytes, expected),
            _ => TriState::Unknown,
        },
    }
}

fn decided(yes: bool) -> TriState {
    if yes { TriState::True } else { TriState::False }
}

/// Bytes can only be equal to an array of integers 0..=255.
fn compare_bytes(comparator: Comparator, bytes: &[u8], expected: &Value) -> TriState {
    let byte = |item: &Value| item.as_u64().and_then(|number| u8::try_from(number).ok());
    let expected = expected.as_array().and_then(|items| items.iter().map(byte).collect::<Option<Vec<u8>>>());
    match (comparator, expected) {
        (Comparator::Equals, Some(expected)) => decided(expected == bytes),
        (Comparator::NotEquals, Some(expected)) => decided(expected != bytes),
        _ => TriState::Unknown,
    }
}

fn compare_json(comparator: Comparator, value: &Value, expected: &Value) -> TriState {
    use Comparator as C;
    match comparator {
        C::Equals => decided(equal(value, expected)),
        C::NotEquals => decided(!equal(value, expected)),
        C::GreaterThan => ordered(value, expected, Ordering::is_gt),
        C::GreaterThanOrEqual => ordered(value, expected, Ordering::is_ge),
        C::LessThan => ordered(value, expected, Ordering::is_lt),
        C::LessThanOrEqual => ordered(value, expected, Ordering::is_le),
        C::LexGreaterThan => lexical(value, expected, Ordering::is_gt),
        C::LexGreaterThanOrEqual => lexical(value, expected, Ordering::is_ge),
        C::LexLessThan => lexical(value, expected, Ordering::is_lt),
        C::LexLessThanOrEqual => lexical(value, expected, Ordering::is_le),
        C::Contains => match (value, expected) {
            (Value::String(text), Value::String(part)) => decided(text.contains(part.as_str())),
            (Value::Array(items), Value::Array(wanted)) => decided(all_in(wanted, items)),
            _ => TriState::Unknown,
        },
        C::InSet => match (value, expected) {
            (Value::Array(_) | Value::Object(_), _) => TriState::Unknown,
            (scalar, Value::Array(set)) => decided(set.contains(scalar)),
            _ => TriState::Unknown,
        },
        C::DeepEquals | C::DeepNotEquals => match (value, expected) {
            (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => {
                decided((value == expected) == (comparator == C::DeepEquals))
            }
            _ => TriState::Unknown,
        },
        C::Exists | C::NotExists => TriState::Unknown,
    }
}

/// Comparisons that are made one by one; beyond these the values are found by
/// hash, so that the cost of long lists is the sum of them and not the product.
const COMPARED_MAX: usize = 4_096;

#[allow(clippy::disallowed_types, reason = "it is asked what is in it, and nobody walks through it")]
fn all_in(wanted: &[Value], items: &[Value]) -> bool {
    if wanted.len().saturating_mul(items.len()) <= COMPARED_MAX {
        return wanted.iter().all(|item| items.contains(item));
    }
    let items: std::collections::HashSet<_> = items.iter().collect();
    wanted.iter().all(|item| items.contains(item))
}

/// Numbers as decimals; everything else by structure, where numbers inside are
/// equal only if they are written alike.
fn equal(value: &Value, expected: &Value) -> bool {
    match (value, expected) {
        (Value::Number(value), Value::Number(expected)) => decimal_cmp(value, expected).is_eq(),
        _ => value == expected,
    }
}

fn ordered(value: &Value, expected: &Value, holds: fn(Ordering) -> bool) -> TriState {
    let order = match (value, expected) {
        (Value::Number(value), Value::Number(expected)) => Some(decimal_cmp(value, expected)),
        (Value::String(value), Value::String(expected)) => in_time(value, expected),
        _ => None,
    };
    order.map_or(TriState::Unknown, |order| decided(holds(order)))
}

/// Two date-times, or two dates; one of each has no order.
fn in_time(value: &str, expected: &str) -> Option<Ordering> {
    let instants = Instant::parse(value).zip(Instant::parse(expected)).map(|(left, right)| left.cmp(&right));
    instants.or_else(|| Date::parse(value).zip(Date::parse(expected)).map(|(left, right)| left.cmp(&right)))
}

fn lexical(value: &Value, expected: &Value, holds: fn(Ordering) -> bool) -> TriState {
    match (value, expected) {
        (Value::String(value), Value::String(expected)) => decided(holds(value.as_bytes().cmp(expected.as_bytes()))),
        _ => TriState::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn in_long_lists_the_same_is_found_as_in_short_ones() {
        let items: Vec<_> = (0..100).map(|n| json!(n)).chain([json!(1.0), json!(-0.0), json!({"a": [1]})]).collect();
        for wanted in [json!(5), json!(1.0), json!(0.0), json!(5.0), json!({"a": [1]}), json!({"a": [1.0]}), json!("5")]
        {
            let many = vec![wanted.clone(); COMPARED_MAX];
            assert_eq!(all_in(&many, &items), items.contains(&wanted), "{wanted}");
        }
    }
}
