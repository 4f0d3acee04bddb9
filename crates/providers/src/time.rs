use std::cmp::Ordering;

use futures_util::future::{BoxFuture, FutureExt, ready};
use runpack_core::model::{EvidenceContext, EvidenceQuery, EvidenceResult, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::Provider;
use crate::query::{self, BadQuery};

/// Answers `now`, `after` and `before` by the trigger's own time.
///
/// No clock is read, so whoever sets a trigger's `time` sets the answer.
#[derive(Debug, Clone)]
pub struct TimeProvider {
    pub(crate) allow_logical: bool,
}

#[derive(Debug, thiserror::Error)]
enum TimeError {
    #[error("logical timestamps are not permitted")]
    Logical,
    #[error("invalid rfc3339 timestamp")]
    Rfc3339,
    #[error("timestamp must be an integer of unix milliseconds or an rfc3339 string")]
    NotMillis,
    #[error("timestamp must be an unsigned integer when the trigger time is logical")]
    NotATick,
    #[error(transparent)]
    Query(#[from] BadQuery),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Threshold {
    timestamp: Value,
}

impl Provider for TimeProvider {
    fn query<'a>(&'a self, query: &'a EvidenceQuery, context: &'a EvidenceContext) -> BoxFuture<'a, EvidenceResult> {
        ready(self.answer(query, context.trigger_time).unwrap_or_else(query::failed)).boxed()
    }
}

impl TimeProvider {
    fn answer(&self, query: &EvidenceQuery, now: Timestamp) -> Result<EvidenceResult, TimeError> {
        let number = match now {
            Timestamp::Logical(_) if !self.allow_logical => return Err(TimeError::Logical),
            Timestamp::Logical(tick) => Value::from(tick),
            Timestamp::UnixMillis(millis) => Value::from(millis),
        };
        let (anchor_type, decimal) = now.anchor();
        let value = match query.check_id.as_str() {
            "now" => query::no_params(query).map(|()| number)?,
            "after" => Value::Bool(against(now, query)? == Ordering::Greater),
            "before" => Value::Bool(against(now, query)? == Ordering::Less),
            _ => return Err(BadQuery::Check(query.check_id.clone()).into()),
        };
        Ok(EvidenceResult {
            evidence_anchor: query::anchor(anchor_type, decimal),
            ..query::found(value, "application/json")
        })
    }
}

/// How `now` stands to the threshold the query names.
fn against(now: Timestamp, query: &EvidenceQuery) -> Result<Ordering, TimeError> {
    let Threshold { timestamp } = query::params(query)?;
    now.against(&timestamp).ok_or(match (now, &timestamp) {
        (Timestamp::Logical(_), _) => TimeError::NotATick,
        (Timestamp::UnixMillis(_), Value::String(_)) => TimeError::Rfc3339,
        (Timestamp::UnixMillis(_), _) => TimeError::NotMillis,
    })
}

#[cfg(test)]
mod tests {
    use runpack_core::model::EvidenceValue;
    use serde_json::json;

    use super::*;
    use crate::TimeConfig;
    use crate::gather::tests::{message, query};

    fn ask(time: Timestamp, check: &str, params: Option<Value>) -> EvidenceResult {
        let provider = TimeConfig::default().build().unwrap();
        provider.answer(&query("time", check, params), time).unwrap_or_else(query::failed)
    }

    fn value(result: &EvidenceResult) -> &Value {
        match &result.value {
            Some(EvidenceValue::Json(value)) => value,
            other => panic!("{other:?} {:?}", result.error),
        }
    }

    #[test]
    fn after_and_before_are_strict() {
        let instant = Timestamp::UnixMillis(1_710_000_000_000);
        let rows = [
            (instant, json!(1_709_999_999_999_i64), true, false),
            (instant, json!(1_710_000_000_000_i64), false, false),
            (instant, json!(1_710_000_000_001_i64), false, true),
            (instant, json!("2024-03-09T15:59:59.999Z"), true, false),
            (instant, json!("2024-03-09T17:00:00+01:00"), false, false),
            (instant, json!("2024-03-09T16:00:00.001Z"), false, true),
            (instant, json!(-1), true, false),
            (Timestamp::UnixMillis(-5), json!(-4), false, true),
            (Timestamp::Logical(2), json!(0), true, false),
            (Timestamp::Logical(2), json!(2), false, false),
            (Timestamp::Logical(2), json!(3), false, true),
        ];
        for (time, threshold, after, before) in rows {
            let params = Some(json!({"timestamp": threshold}));
            assert_eq!(value(&ask(time, "after", params.clone())), &json!(after), "{time} after {threshold}");
            assert_eq!(value(&ask(time, "before", params)), &json!(before), "{time} before {threshold}");
        }
    }

    #[test]
    fn answers_in_the_shape_of_the_golden_packs() {
        let answer = ask(Timestamp::Logical(2), "after", Some(json!({"timestamp": 0})));
        assert_eq!(
            serde_json::to_value(answer).unwrap(),
            json!({
                "value": {"kind": "json", "value": true}, "lane": "verified", "error": null, "evidence_hash": null,
                "evidence_ref": null, "signature": null, "content_type": "application/json",
                "evidence_anchor": {"anchor_type": "trigger_time_logical", "anchor_value": "2"},
            })
        );
        let now = ask(Timestamp::UnixMillis(-5), "now", Some(json!({})));
        assert_eq!(value(&now), &json!(-5));
        assert_eq!(now.evidence_anchor, query::anchor("trigger_time_unix_millis", "-5"));
        assert_eq!(value(&ask(Timestamp::Logical(7), "now", None)), &json!(7));
    }

    #[test]
    fn says_what_is_wrong() {
        let logical = Timestamp::Logical(2);
        let millis = Timestamp::UnixMillis(2);
        let stamp = |value: Value| Some(json!({"timestamp": value}));
        let rows = [
            (millis, "after", stamp(json!("yesterday")), "invalid rfc3339 timestamp"),
            (
                millis,
                "after",
                stamp(json!(1.5)),
                "timestamp must be an integer of unix milliseconds or an rfc3339 string",
            ),
            (
                millis,
                "after",
                stamp(json!(null)),
                "timestamp must be an integer of unix milliseconds or an rfc3339 string",
            ),
            (
                logical,
                "before",
                stamp(json!("2024-03-09T16:00:00Z")),
                "timestamp must be an unsigned integer when the trigger time is logical",
            ),
            (
                logical,
                "before",
                stamp(json!(-1)),
                "timestamp must be an unsigned integer when the trigger time is logical",
            ),
            (logical, "after", None, "missing params"),
            (logical, "after", Some(json!({})), "invalid params: missing field `timestamp`"),
            (logical, "during", None, "unknown check: during"),
        ];
        for (time, check, params, text) in rows {
            assert_eq!(message(&ask(time, check, params)), format!("evidence provider error: {text}"));
        }
        assert!(ask(logical, "now", Some(json!({"zone": "UTC"}))).error.is_some());
    }

    #[test]
    fn logical_times_can_be_refused() {
        let provider = TimeConfig { allow_logical: false }.build().unwrap();
        for check in ["now", "after", "before"] {
            let asked = query("time", check, Some(json!({"timestamp": 0})));
            let error = provider.answer(&asked, Timestamp::Logical(1)).unwrap_err();
            assert_eq!(error.to_string(), "logical timestamps are not permitted");
        }
        let asked = query("time", "after", Some(json!({"timestamp": 0})));
        assert!(provider.answer(&asked, Timestamp::UnixMillis(1)).is_ok());
    }
}
