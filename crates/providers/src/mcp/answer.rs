//! Evidence out of what a tool answered.

use runpack_core::model::{EvidenceError, EvidenceResult, Lane};
use runpack_core::read::{self, Profile, Unknown};
use serde_json::{Map, Value, json};

use super::wire::{RpcError, shortened};

/// Bytes of the data of a JSON-RPC error that are passed on.
const DATA_BYTES_MAX: usize = 16_384;

/// The evidence in a tool's result: of `structuredContent` if there is any,
/// otherwise of the first block, which is the reference system's `json` or
/// text that is JSON. Evidence that names no lane is of `lane`.
pub(super) fn evidence(result: Option<Value>, lane: Lane) -> Result<EvidenceResult, EvidenceError> {
    let Some(Value::Object(mut result)) = result else {
        return Err(EvidenceError::provider("missing tool result"));
    };
    if let Some(kind) = result.get("resultType").and_then(Value::as_str).filter(|kind| *kind != "complete") {
        return Err(EvidenceError::provider(format_args!("unexpected {} result", shortened(kind))));
    }
    let failed = result.get("isError") == Some(&Value::Bool(true));
    let structured = result.remove("structuredContent").filter(|value| !value.is_null());
    let first = match result.remove("content") {
        Some(Value::Array(blocks)) => blocks.into_iter().next(),
        _ => None,
    };
    if failed {
        let text = first.as_ref().and_then(|block| block.get("text")).and_then(Value::as_str);
        return Err(EvidenceError::provider(shortened(text.unwrap_or("the tool failed and does not say why"))));
    }
    if let Some(structured) = structured {
        return admitted(structured, lane);
    }
    let Some(Value::Object(mut block)) = first else {
        return Err(EvidenceError::provider("empty tool result"));
    };
    match block.get("type").and_then(Value::as_str) {
        Some("json") => admitted(block.remove("json").unwrap_or_default(), lane),
        Some("text") => {
            let text = block.get("text").and_then(Value::as_str).unwrap_or_default();
            let refused = |refusal| EvidenceError::provider(format_args!("unexpected text response: {refusal}"));
            admitted(read::value(text.as_bytes(), Profile::Ingest).map_err(refused)?, lane)
        }
        Some(kind) => Err(EvidenceError::provider(format_args!("unexpected {} response", shortened(kind)))),
        None => Err(EvidenceError::provider("empty tool result")),
    }
}

/// Members without which an object is not taken for evidence: whatever else a
/// tool answers would be evidence that there is no value.
const TELLING: [&str; 3] = ["error", "lane", "value"];

fn admitted(value: Value, lane: Lane) -> Result<EvidenceResult, EvidenceError> {
    let telling = |members: &Map<String, Value>| TELLING.iter().any(|name| members.contains_key(*name));
    let mut members = match value {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    if !telling(&members)
        && let Some(Value::Object(inner)) = members.remove("result")
    {
        members = inner;
    }
    if !telling(&members) {
        return Err(EvidenceError::provider("the tool result is no evidence: it has neither value nor error"));
    }
    members.entry("lane").or_insert_with(|| json!(lane));
    let refused = |refusal| EvidenceError::provider(format_args!("the tool result is no evidence: {refusal}"));
    read::ingest_value(Value::Object(members), Unknown::Drop).map_err(refused)
}

/// A refusal as evidence. The reference system keeps its message only.
pub(super) fn refusal(error: &RpcError) -> EvidenceError {
    let mut details = json!({"code": error.code});
    if let Some(data) = &error.data {
        let bytes = data.to_string().len();
        details["data"] =
            if bytes <= DATA_BYTES_MAX { data.clone() } else { format!("left out: {bytes} bytes").into() };
    }
    EvidenceError { details: Some(details), ..EvidenceError::provider(&error.message) }
}

#[cfg(test)]
mod tests {
    use runpack_core::model::EvidenceValue;

    use super::*;

    fn seven() -> Value {
        json!({"value": {"kind": "json", "value": 7}})
    }

    fn text(text: &str) -> Value {
        json!({"content": [{"type": "text", "text": text}]})
    }

    fn said(result: Option<Value>) -> String {
        let error = evidence(result, Lane::Verified).unwrap_err();
        assert_eq!((error.code.as_str(), &error.details), ("provider_error", &None));
        error.message.strip_prefix("evidence provider error: ").unwrap().to_owned()
    }

    #[test]
    fn evidence_comes_in_four_forms() {
        let rows = [
            json!({"content": [{"type": "json", "json": seven()}]}),
            json!({"structuredContent": seven(), "content": [{"type": "text", "text": "something else"}]}),
            json!({"structuredContent": {"result": seven()}}),
            text(&seven().to_string()),
            text(&json!({"result": seven()}).to_string()),
            json!({"resultType": "complete", "isError": false, "structuredContent": seven()}),
        ];
        for row in rows {
            let result = evidence(Some(row), Lane::Verified).unwrap();
            assert_eq!(result.value, Some(EvidenceValue::Json(json!(7))));
        }
    }

    #[test]
    fn a_lane_that_is_not_named_is_the_configured_one() {
        let of = |lane: Value, default| {
            let mut result = seven();
            if !lane.is_null() {
                result["lane"] = lane;
            }
            evidence(Some(json!({"structuredContent": result})), default).unwrap().lane
        };
        assert_eq!(of(Value::Null, Lane::Verified), Lane::Verified);
        assert_eq!(of(Value::Null, Lane::Asserted), Lane::Asserted);
        assert_eq!(of(json!("verified"), Lane::Asserted), Lane::Verified);
        assert_eq!(of(json!("asserted"), Lane::Verified), Lane::Asserted);
    }

    #[test]
    fn what_is_no_evidence_says_why() {
        let rows = [
            (Value::Null, "missing tool result"),
            (json!([]), "missing tool result"),
            (json!({}), "empty tool result"),
            (json!({"content": []}), "empty tool result"),
            (json!({"content": [1]}), "empty tool result"),
            (text("all is well"), "unexpected text response: not JSON"),
            (text(r#"{"value":null,"value":null}"#), "unexpected text response: duplicate member"),
            (json!({"content": [{"type": "image"}]}), "unexpected image response"),
            (json!({"resultType": "input_required"}), "unexpected input_required result"),
            (json!({"structuredContent": {"rows": 3}}), "the tool result is no evidence: it has neither"),
            (json!({"structuredContent": [1]}), "the tool result is no evidence: it has neither"),
            (json!({"content": [{"type": "json"}]}), "the tool result is no evidence: it has neither"),
            (json!({"structuredContent": {"value": 7}}), "the tool result is no evidence: "),
            (json!({"structuredContent": {"value": null, "lane": "hearsay"}}), "the tool result is no evidence: "),
            (json!({"isError": true, "content": [{"type": "text", "text": "no such\nrow"}]}), "no such row"),
            (json!({"isError": true, "structuredContent": seven()}), "the tool failed and does not say why"),
        ];
        for (result, text) in rows {
            let found = said(Some(result.clone()));
            assert!(found.starts_with(text), "{result} {found}");
        }
        assert_eq!(said(None), "missing tool result");
    }

    #[test]
    fn a_refusal_keeps_its_code_and_data() {
        let error =
            |data: Option<Value>| refusal(&RpcError { code: json!(-32_602), message: "bad key".to_owned(), data });
        let kept = error(Some(json!({"key": "x"})));
        assert_eq!((kept.code.as_str(), kept.message.as_str()), ("provider_error", "evidence provider error: bad key"));
        assert_eq!(kept.details, Some(json!({"code": -32_602, "data": {"key": "x"}})));
        assert_eq!(error(None).details, Some(json!({"code": -32_602})));
        let long = error(Some("x".repeat(20_000).into())).details.unwrap();
        assert_eq!(long["data"], "left out: 20002 bytes");
    }
}
