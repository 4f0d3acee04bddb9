use std::collections::BTreeMap;

use proptest::prelude::*;
use runpack_core::engine::{Evidence, Scenario, Settings, precheck};
use runpack_core::model::{EvidenceResult, EvidenceValue, Lane, TriState};
use serde_json::json;

use super::*;

/// A kind of answer: a schema, some answers, something to expect for each
/// family, and the families that are offered and offered on request.
struct Row {
    name: &'static str,
    schema: Value,
    answers: Vec<Value>,
    expected: Value,
    offered: &'static [&'static str],
    on_request: &'static [&'static str],
}

fn rows() -> Vec<Row> {
    const SCALAR: &[&str] = &["equality", "in_set", "presence"];
    const ORDERED: &[&str] = &["equality", "order", "in_set", "presence"];
    const TEXT: &[&str] = &["equality", "contains", "in_set", "presence"];
    const PRESENCE: &[&str] = &["presence"];
    let row = |name, schema, answers: Value, expected, offered, on_request| Row {
        name,
        schema,
        answers: answers.as_array().unwrap().clone(),
        expected,
        offered,
        on_request,
    };
    let part = json!({"type": "array", "items": {"type": "array", "items": {"type": "string"}}});
    vec![
        row("boolean", json!({"type": "boolean"}), json!([true, false]), json!(true), SCALAR, &[]),
        row("integer", json!({"type": "integer"}), json!([1, 2]), json!(2), ORDERED, &[]),
        row("number", json!({"type": "number"}), json!([1.5, 2]), json!(1.5), ORDERED, &[]),
        row("string", json!({"type": "string"}), json!(["a", ""]), json!("a"), TEXT, &["lexical"]),
        row("email", json!({"type": "string", "format": "email"}), json!(["a@b"]), json!("a@b"), TEXT, &["lexical"]),
        row(
            "date",
            json!({"type": "string", "format": "date"}),
            json!(["2024-01-02"]),
            json!("2024-01-01"),
            ORDERED,
            &[],
        ),
        row(
            "date-time",
            json!({"type": "string", "format": "date-time"}),
            json!(["2024-01-02T00:00:00Z"]),
            json!("2024-01-01T00:00:00+01:00"),
            ORDERED,
            &[],
        ),
        row("uuid", json!({"type": "string", "format": "uuid"}), json!(["u"]), json!("u"), SCALAR, &[]),
        row("enum of text", json!({"enum": ["a", "b"]}), json!(["a", "b"]), json!("a"), SCALAR, &[]),
        row(
            "typed enum of numbers",
            json!({"type": "number", "enum": [1, 2.5]}),
            json!([1, 2.5]),
            json!(1),
            SCALAR,
            &[],
        ),
        row(
            "nullable enum",
            json!({"type": ["string", "null"], "enum": ["a", null]}),
            json!(["a"]),
            json!("a"),
            SCALAR,
            &[],
        ),
        row("const", json!({"const": 7}), json!([7]), json!(7), SCALAR, &[]),
        row(
            "strings",
            json!({"type": "array", "items": {"type": "string"}}),
            json!([["a", "b"], []]),
            json!(["a"]),
            &["contains", "presence"],
            &["deep"],
        ),
        row(
            "union items",
            json!({"type": "array", "items": {"oneOf": [{"type": "string"}, {"anyOf": [{"type": "integer"}, {"type": "null"}]}]}}),
            json!([["a", 1]]),
            json!([1, "a"]),
            &["contains", "presence"],
            &["deep"],
        ),
        row("arrays of arrays", part, json!([[["a"]], []]), json!([["a"]]), PRESENCE, &["deep"]),
        row(
            "arrays of anything",
            json!({"type": "array", "items": {}}),
            json!([[1], []]),
            json!([1]),
            PRESENCE,
            &["deep"],
        ),
        row("arrays without items", json!({"type": "array"}), json!([[1], []]), json!([1]), PRESENCE, &["deep"]),
        row(
            "tuples",
            json!({"type": "array", "prefixItems": [{"type": "string"}], "items": false}),
            json!([["a"]]),
            json!(["a"]),
            PRESENCE,
            &["deep"],
        ),
        row("object", json!({"type": "object"}), json!([{"a": 1}, {}]), json!({"a": 1}), PRESENCE, &["deep"]),
        row("null", json!({"type": "null"}), json!([]), json!(null), &["equality", "presence"], &[]),
        row("integer or null", json!({"type": ["integer", "null"]}), json!([1, 2]), json!(2), ORDERED, &[]),
        row(
            "integer or number",
            json!({"oneOf": [{"type": "integer", "minimum": 5}, {"type": "number", "maximum": 4}]}),
            json!([3, 5]),
            json!(5),
            ORDERED,
            &[],
        ),
        row(
            "string or number",
            json!({"anyOf": [{"type": "string"}, {"type": "number"}]}),
            json!(["a", 1]),
            json!("a"),
            SCALAR,
            &[],
        ),
        row(
            "string or strings",
            json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
            json!(["ab"]),
            json!("a"),
            &["contains", "presence"],
            &[],
        ),
        row(
            "string or null",
            json!({"oneOf": [{"type": "string"}, {"type": "null"}]}),
            json!(["ab"]),
            json!("a"),
            TEXT,
            &["lexical"],
        ),
        row("boolean or object", json!({"type": ["boolean", "object"]}), json!([true, {}]), json!(true), PRESENCE, &[]),
        row(
            "referred",
            json!({"$ref": "#/$defs/n", "description": "d", "$defs": {"n": {"type": "number"}}}),
            json!([1, 2]),
            json!(2),
            ORDERED,
            &[],
        ),
    ]
}

fn named(family: Family) -> &'static str {
    match family {
        Family::Equality => "equality",
        Family::Order => "order",
        Family::Lexical => "lexical",
        Family::Contains => "contains",
        Family::InSet => "in_set",
        Family::Deep => "deep",
        Family::Presence => "presence",
    }
}

fn every_option() -> impl Iterator<Item = StrictOptions> {
    [(false, false), (false, true), (true, false), (true, true)]
        .into_iter()
        .map(|(enable_lexicographic, enable_deep_equals)| StrictOptions { enable_lexicographic, enable_deep_equals })
}

fn asking(schema: &Value) -> Value {
    let mut schema = schema.clone();
    schema[EXTENSION] = json!({"allowed_comparators": Comparator::ALL});
    schema
}

fn expectation(comparator: Comparator, plain: &Value) -> Option<Value> {
    match family(comparator) {
        Family::Presence => None,
        Family::InSet => Some(json!([plain])),
        _ => Some(plain.clone()),
    }
}

#[test]
fn every_kind_has_its_comparators() {
    for row in rows() {
        for (schema, asked_for) in [(row.schema.clone(), false), (asking(&row.schema), true)] {
            for options in every_option() {
                for &comparator in Comparator::ALL {
                    let found =
                        Answers::of(&Expanded::of(&schema).unwrap().schema).unwrap().offer(comparator, &options);
                    let family = named(family(comparator));
                    let enabled = match family {
                        "lexical" => options.enable_lexicographic,
                        "deep" => options.enable_deep_equals,
                        _ => true,
                    };
                    let place = format!("{} {comparator} {options:?} {asked_for}", row.name);
                    if row.offered.contains(&family) {
                        assert_eq!(found, Ok(()), "{place}");
                    } else if !row.on_request.contains(&family) {
                        let text = found.unwrap_err().to_string();
                        assert!(
                            text.starts_with(&format!("comparator {comparator} not allowed for ")),
                            "{place}: {text}"
                        );
                    } else if !enabled {
                        let text = found.unwrap_err().to_string();
                        assert!(text.starts_with(&format!("disabled comparator {comparator}\n")), "{place}: {text}");
                    } else if !asked_for {
                        let text = found.unwrap_err().to_string();
                        assert!(
                            text.starts_with(&format!("comparator {comparator} not allowed unless ")),
                            "{place}: {text}"
                        );
                    } else {
                        assert_eq!(found, Ok(()), "{place}");
                    }
                }
            }
        }
    }
}

/// What the engine says of `answer`.
fn status(comparator: Comparator, expected: Option<&Value>, answer: &Value) -> TriState {
    let spec = serde_json::from_value(json!({
        "scenario_id": "s", "namespace_id": 1, "spec_version": "1", "policies": [], "schemas": [],
        "conditions": [{
            "condition_id": "c", "query": {"provider_id": "p", "check_id": "k"}, "comparator": comparator,
            "expected": expected, "policy_tags": [],
        }],
        "stages": [{
            "stage_id": "only", "entry_packets": [], "on_timeout": "fail", "advance_to": {"kind": "terminal"},
            "gates": [{"gate_id": "g", "requirement": {"Condition": "c"}}],
        }],
    }));
    let scenario = Scenario::new(spec.unwrap()).unwrap();
    let value = Some(EvidenceValue::Json(answer.clone()));
    let evidence = Evidence::admit(EvidenceResult { value, ..EvidenceResult::empty(Lane::Verified) });
    let evidence = BTreeMap::from([("c".into(), evidence)]);
    precheck(&scenario, &Settings::default(), None, &evidence).unwrap().gate_evaluations[0].status
}

/// The point of it all. And the other way round: what is refused for its
/// comparator is refused for a reason.
#[test]
fn what_is_admitted_can_be_decided() {
    let all = StrictOptions { enable_lexicographic: true, enable_deep_equals: true };
    let candidates = [
        json!(true),
        json!(2),
        json!(1.5),
        json!("a"),
        json!("2024-01-01"),
        json!("2024-01-01T00:00:00Z"),
        json!(["a"]),
        json!([1]),
        json!([["a"]]),
        json!([]),
        json!({"a": 1}),
        json!({}),
    ];
    let mut decided = 0;
    for row in rows() {
        let schema = asking(&row.schema);
        for &comparator in Comparator::ALL {
            let some = candidates.iter().chain([&row.expected]).map(Some).chain([None]);
            for expected in some {
                if admit(&schema, comparator, expected, &all).is_err() {
                    continue;
                }
                let of_one_type = row.answers.iter().filter(|answer| {
                    !(row.name == "string or strings" && expected.is_some_and(Value::is_array) && answer.is_string())
                });
                for answer in of_one_type {
                    let status = status(comparator, expected, answer);
                    assert_ne!(status, TriState::Unknown, "{} {comparator} {expected:?} {answer}", row.name);
                    decided += 1;
                }
            }
        }
    }
    assert!(decided > 500, "{decided}");
}

#[test]
fn what_each_kind_is_for_is_admitted() {
    let all = StrictOptions { enable_lexicographic: true, enable_deep_equals: true };
    for row in rows() {
        for &comparator in Comparator::ALL {
            let family = named(family(comparator));
            if !row.offered.contains(&family) && !row.on_request.contains(&family) {
                continue;
            }
            let expected = expectation(comparator, &row.expected);
            let found = admit(&asking(&row.schema), comparator, expected.as_ref(), &all);
            if row.name == "null" && family == "equality" {
                assert_eq!(found, Err(ExpectedError::Missing(comparator).into()));
            } else {
                assert_eq!(found, Ok(()), "{} {comparator}", row.name);
            }
        }
    }
}

#[test]
fn an_answer_of_any_type_may_be_judged_by_everything() {
    let dynamic = json!({"x-decision-gate": {"dynamic_type": true}});
    for &comparator in Comparator::ALL {
        let expected = match family(comparator) {
            Family::Presence => None,
            Family::Order => Some(json!(1)),
            Family::InSet | Family::Deep => Some(json!([1])),
            _ => Some(json!("a")),
        };
        assert_eq!(admit(&dynamic, comparator, expected.as_ref(), &StrictOptions::default()), Ok(()), "{comparator}");
    }
    let says = |comparator, expected: Value| {
        admit(&dynamic, comparator, Some(&expected), &StrictOptions::default()).unwrap_err().to_string()
    };
    assert!(says(Comparator::GreaterThan, json!("b")).starts_with("expected number, date or date-time required"));
    assert!(says(Comparator::Contains, json!(1)).starts_with("expected string or array required"));
}

#[test]
fn says_the_sentences_that_clients_know() {
    let strict = |schema: Value, comparator, expected: Value| {
        admit(&schema, comparator, Some(&expected), &StrictOptions::default()).unwrap_err().to_string()
    };
    let text = || json!({"type": "string"});
    assert_eq!(
        strict(json!({"type": "boolean"}), Comparator::GreaterThan, json!(true)),
        "comparator greater_than not allowed for booleans\nhint: it takes equals, not_equals, in_set, exists, not_exists"
    );
    for schema in [text(), asking(&text())] {
        assert_eq!(
            strict(schema, Comparator::LexGreaterThan, json!("a")),
            "disabled comparator lex_greater_than\nhint: validation.enable_lexicographic turns it on"
        );
    }
    assert!(strict(text(), Comparator::InSet, json!("a")).contains("expected array required"));
    assert!(strict(text(), Comparator::InSet, Value::Null).contains("expected array required"));
    let strings = json!({"type": "array", "items": {"type": "string"}});
    assert!(strict(strings.clone(), Comparator::Contains, json!("a")).contains("expected array required"));
    assert!(strict(strings, Comparator::Contains, json!(["a", 1])).starts_with("expected value 1: "));
}

#[test]
fn an_expected_value_must_be_like_an_answer() {
    let with = |schema: Value, comparator, expected: Value| {
        admit(&schema, comparator, Some(&expected), &StrictOptions::default()).map_err(|error| error.to_string())
    };
    let small = || json!({"type": "integer", "maximum": 9});
    assert_eq!(with(small(), Comparator::Equals, json!(9)), Ok(()));
    for (comparator, expected) in [
        (Comparator::Equals, json!(10)),
        (Comparator::LessThan, json!(10)),
        (Comparator::NotEquals, json!("9")),
        (Comparator::GreaterThan, json!(1.5)),
    ] {
        assert!(with(small(), comparator, expected).unwrap_err().starts_with("expected value: "), "{comparator}");
    }
    assert!(with(small(), Comparator::InSet, json!([1, 10])).unwrap_err().starts_with("expected value 1: "));
    assert!(with(json!({"enum": ["a", "b"]}), Comparator::Equals, json!("c")).is_err());
    assert!(with(small(), Comparator::Exists, json!(1)).unwrap_err().contains("takes no expected value"));
    assert_eq!(with(small(), Comparator::Exists, Value::Null), Ok(()));
    for comparator in [Comparator::Equals, Comparator::NotEquals, Comparator::LessThan] {
        assert!(with(small(), comparator, Value::Null).unwrap_err().contains("needs an expected value"));
    }
    let date = || json!({"type": "string", "format": "date"});
    let instant = || json!({"type": "string", "format": "date-time"});
    assert_eq!(with(date(), Comparator::LessThan, json!("2024-02-29")), Ok(()));
    assert!(
        with(date(), Comparator::LessThan, json!("2024-02-29T00:00:00Z"))
            .unwrap_err()
            .starts_with("expected date required")
    );
    assert!(
        with(instant(), Comparator::LessThan, json!("2024-02-29"))
            .unwrap_err()
            .starts_with("expected date-time required")
    );
    assert!(with(instant(), Comparator::LessThan, json!("soon")).is_err());
}

#[test]
fn a_schema_that_leaves_the_type_open_is_refused() {
    let rows = [
        (json!({}), "malformed schema: missing type (``)"),
        (json!(true), "malformed schema: missing type (``)"),
        (json!({"minimum": 1}), "malformed schema: missing type (``)"),
        (
            json!({"oneOf": [{"type": "string"}], "anyOf": [{"type": "string"}]}),
            "malformed schema: both `oneOf` and `anyOf` (``)",
        ),
        (json!({"oneOf": [{"type": "string"}, {}]}), "malformed schema: missing type (`/oneOf/1`)"),
        (json!({"enum": []}), "malformed schema: empty enum (``)"),
        (json!({"enum": ["a", 1]}), "malformed schema: mixed enum types (``)"),
        (json!({"enum": [true, "a", null]}), "malformed schema: mixed enum types (``)"),
        (json!({"type": "array", "items": {"enum": [1, "a"]}}), "malformed schema: mixed enum types (`/items`)"),
        (
            json!({"type": "array", "items": {"oneOf": [{"minimum": 1}]}}),
            "malformed schema: missing type (`/items/oneOf/0`)",
        ),
        (json!({"anyOf": []}), "malformed schema: empty union (``)"),
        (json!({"allOf": [{"type": "string"}, {"type": "string"}]}), "malformed schema: missing type (``)"),
        (json!({"type": "text"}), "malformed schema: unknown type (``)"),
        (json!({"type": "string", "x-decision-gate": []}), "malformed schema: `x-decision-gate` must be an object"),
        (
            json!({"type": "string", "x-decision-gate": {"allowed_comparators": ["like"]}}),
            "malformed schema: `x-decision-gate` must be an object",
        ),
        (json!({"type": "string", "minLength": -1}), "invalid schema: "),
        (json!({"type": "string", "pattern": "("}), "invalid schema: "),
        (
            json!({"$ref": "https://example.com/s"}),
            "invalid schema: reference `https://example.com/s` leads out of the schema",
        ),
    ];
    for (schema, text) in rows {
        let found = admit(&schema, Comparator::Exists, None, &StrictOptions::default()).unwrap_err().to_string();
        assert!(found.starts_with(text), "{text}\n{found}");
    }
}

#[test]
fn a_data_shape_names_the_schema_of_each_condition() {
    let shape = json!({
        "type": "object", "$defs": {"score": {"type": "number"}},
        "properties": {"ready": {"type": "boolean"}, "score": {"$ref": "#/$defs/score"}},
    });
    let of = |shape: &Value, id: &str, conditions| {
        property_schema(shape, &id.into(), conditions).map_err(|error| error.to_string())
    };
    assert_eq!(of(&shape, "ready", 2), Ok(json!({"type": "boolean"})));
    assert_eq!(of(&shape, "score", 2), Ok(json!({"type": "number"})));
    assert_eq!(of(&shape, "other", 2), Err("condition other missing from data shape schema".to_owned()));
    let with = |additional: Value| json!({"type": ["object", "null"], "additionalProperties": additional});
    let untyped = Err("schema allows untyped additionalProperties for condition other".to_owned());
    assert_eq!(of(&with(json!(true)), "other", 2), untyped);
    assert_eq!(of(&with(json!({})), "other", 2), untyped);
    assert_eq!(of(&with(json!({"type": "string"})), "other", 2), Ok(json!({"type": "string"})));
    let missing = Err("condition other missing from data shape schema".to_owned());
    assert_eq!(of(&with(json!(false)), "other", 2), missing);
    let patterned = json!({"properties": {}, "patternProperties": {"^o": {"type": "string"}}, "additionalProperties": {"type": "integer"}});
    assert_eq!(of(&patterned, "other", 2), missing);
    let wrapped = json!({"$ref": "#/$defs/o", "title": "t", "$defs": {"o": shape}});
    assert_eq!(
        of(&json!({"$defs": {"o": {"properties": {"a": {"type": "null"}}}}, "$ref": "#/$defs/o"}), "a", 2),
        Ok(json!({"type": "null"}))
    );
    assert!(of(&wrapped, "ready", 2).is_err(), "its references are from its own top");
    assert_eq!(of(&json!({"type": "string"}), "other", 1), Ok(json!({"type": "string"})));
    assert_eq!(
        of(&json!({"type": "string"}), "other", 2),
        Err("data shape schema is not an object, and requires exactly one condition (there are 2)".to_owned())
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..300).prop_map(Value::from),
        (-2.0..2.0).prop_map(Value::from),
        prop_oneof![
            "[a-z(){}*+.\\\\]{0,6}",
            Just("string".to_owned()),
            Just("integer".to_owned()),
            Just("array".to_owned()),
            Just("object".to_owned()),
            Just("null".to_owned()),
            Just("#".to_owned()),
            Just("#/$defs/a".to_owned()),
            Just("#/properties/a".to_owned()),
            Just("date".to_owned()),
            Just("2024-01-01".to_owned()),
        ]
        .prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "type",
        "enum",
        "const",
        "oneOf",
        "anyOf",
        "allOf",
        "items",
        "properties",
        "additionalProperties",
        "$ref",
        "$defs",
        "a",
        "format",
        "pattern",
        "patternProperties",
        "not",
        "if",
        "then",
        "minimum",
        "multipleOf",
        "uniqueItems",
        "unevaluatedProperties",
        "unevaluatedItems",
        "prefixItems",
        "contains",
        "dependentSchemas",
        "dependencies",
        "x-decision-gate",
        "allowed_comparators",
        "dynamic_type",
        "$id",
        "$schema",
        "maxLength",
        "required",
        "propertyNames",
    ]);
    leaf.prop_recursive(6, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_schema_is_answered(
        schema in any_json(), expected in any_json(), comparator in prop::sample::select(Comparator::ALL.to_vec()),
    ) {
        let options = StrictOptions { enable_lexicographic: true, enable_deep_equals: true };
        let _ = admit(&schema, comparator, Some(&expected), &options);
        let _ = property_schema(&schema, &"a".into(), 1);
        if let Ok(schema) = crate::Schema::compile(&schema) {
            let _ = schema.check(&expected);
        }
    }

    /// Writing references out changes nothing for whoever had none to write out.
    #[test]
    fn an_expanded_schema_expands_to_itself(schema in any_json()) {
        if let Ok(once) = Expanded::of(&schema) {
            prop_assert_eq!(Expanded::of(&once.schema).unwrap().schema, once.schema);
        }
    }
}
