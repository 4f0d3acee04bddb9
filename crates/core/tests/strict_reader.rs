//! The strict reader: what it refuses, and where it says so.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test reads its own data")]

#[path = "../../../testdata/inputs.rs"]
mod inputs;

use std::collections::BTreeMap;
use std::fs;

use runpack_core::model::{Requirement, RunConfig, ScenarioSpec, SubmitRequest, Timestamp, TriggerEvent};
use runpack_core::read::{self, Profile, Refusal, Unknown};

fn ingest<T: serde::de::DeserializeOwned + read::Admit>(text: &str) -> Result<T, Refusal> {
    read::ingest(text.as_bytes(), Unknown::Refuse)
}

/// 318 files against a table that was written once and read by eye.
#[test]
fn the_json_test_suite() {
    let Some(dir) = inputs::shared("vectors/jsontestsuite/test_parsing") else { return };
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let verdict = |profile| match read::value(&bytes, profile) {
            Ok(_) => "accept".to_owned(),
            Err(refusal) => name(&refusal).to_owned(),
        };
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        found.insert(file, [verdict(Profile::Ingest), verdict(Profile::Pack)]);
    }
    assert_eq!(found.len(), 318);
    let found: String = found.iter().map(|(file, [ingest, pack])| format!("{file}\t{ingest}\t{pack}\n")).collect();
    let table = inputs::testdata("json/jsontestsuite.tsv");
    if std::env::var_os("RUNPACK_BLESS").is_some() {
        fs::write(&table, &found).unwrap();
    }
    assert_eq!(found, fs::read_to_string(table).unwrap());
}

/// The table itself keeps to what the suite's names promise.
#[test]
fn the_table_of_the_json_test_suite() {
    let table = fs::read_to_string(inputs::testdata("json/jsontestsuite.tsv")).unwrap();
    assert_eq!(table.lines().count(), 318);
    for line in table.lines() {
        let columns: Vec<_> = line.split('\t').collect();
        let [file, ingest, pack] = columns[..] else { panic!("{line}") };
        let exempt = file.contains("duplicated_key");
        if file.starts_with("y_") && !exempt {
            assert_eq!(pack, "accept", "{line}");
            assert!(matches!(ingest, "accept" | "integer"), "{line}");
        }
        if file.starts_with("n_") || exempt {
            assert_ne!(pack, "accept", "{line}");
            assert_ne!(ingest, "accept", "{line}");
        }
    }
}

fn name(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NotUtf8 { .. } => "not_utf8",
        Refusal::ByteOrderMark => "byte_order_mark",
        Refusal::Syntax { .. } => "syntax",
        Refusal::Trailing { .. } => "trailing",
        Refusal::Duplicate { .. } => "duplicate",
        Refusal::TooDeep { .. } => "too_deep",
        Refusal::Integer { .. } => "integer",
        Refusal::NotFinite { .. } => "not_finite",
        Refusal::Shape { .. } => "shape",
        Refusal::UnknownMember { .. } => "unknown_member",
    }
}

const RUN_CONFIG: &str =
    r#"{"tenant_id":1,"namespace_id":2,"run_id":"r","scenario_id":"s","dispatch_targets":[],"policy_tags":[]}"#;

#[test]
fn each_refusal_names_its_place() {
    let cases: [(&str, &str); 23] = [
        ("\u{feff}{}", "byte order mark at the start; save the file as UTF-8 without it"),
        ("{\"tenant_id\":1,\n  tenant}", "not JSON: key must be a string at line 2 column 3"),
        ("{} {}", "bytes after the end of the JSON value, line 1 column 4"),
        (r#"{"a":{"b":1,"\u0062":2}}"#, "duplicate member `b` in `/a`"),
        (
            r#"{"a":[9007199254740993]}"#,
            "integer 9007199254740993 is outside ±(2^53−1), so its canonical form could be another number (`/a/0`)",
        ),
        (r#"{"a":1e300}"#, "integer 1e+300 is outside ±(2^53−1), so its canonical form could be another number (`/a`)"),
        (r#"{"a":1e400}"#, "number out of range: number out of range at line 1 column 10"),
        (r#"[1,2,"r","s",[],[]]"#, "invalid type: sequence, expected struct RunConfig at line 1 column 0"),
        (
            &RUN_CONFIG.replace(r#""tenant_id":1"#, r#""tenant_id":0"#),
            "invalid value: integer `0`, expected a nonzero u64 at line 1 column 14 (`/tenant_id`)",
        ),
        (
            &RUN_CONFIG.replace(r#""tenant_id":1"#, r#""tenant_id":1.0"#),
            "invalid type: floating point `1.0`, expected a nonzero u64 at line 1 column 16 (`/tenant_id`)",
        ),
        (&RUN_CONFIG.replace(r#""run_id":"r","#, ""), "missing field `run_id` at line 1 column 89"),
        (
            &RUN_CONFIG.replace(r#""run_id":"#, r#""runid":"#),
            "missing field `run_id` at line 1 column 101, and there is an unknown member `/runid`",
        ),
        (&RUN_CONFIG.replace(r#""run_id""#, r#""runid":"x","run_id""#), "unknown member `/runid`"),
        (
            &RUN_CONFIG.replace(
                "\"dispatch_targets\":[]",
                r#""dispatch_targets":[{"kind":"agent","agent_id":"a","colour":1}]"#,
            ),
            "unknown member `/dispatch_targets/0/colour`",
        ),
        (
            &RUN_CONFIG.replace("\"dispatch_targets\":[]", r#""dispatch_targets":[["agent","a"]]"#),
            "invalid type: sequence, expected a dispatch target object at line 1 column 83 (`/dispatch_targets/0`)",
        ),
        (
            &RUN_CONFIG.replace("\"dispatch_targets\":[]", r#""dispatch_targets":[{"kind":"agent"}]"#),
            "missing member `agent_id` for kind `agent` at line 1 column 100 (`/dispatch_targets/0`)",
        ),
        (
            &RUN_CONFIG.replace(
                "\"dispatch_targets\":[]",
                r#""dispatch_targets":[{"kind":"agent","agent_id":"a","channel":"c"}]"#,
            ),
            "member `channel` does not belong to kind `agent` at line 1 column 129 (`/dispatch_targets/0`)",
        ),
        (
            &RUN_CONFIG
                .replace("\"dispatch_targets\":[]", r#""dispatch_targets":[{"kind":{"agent":null},"agent_id":"a"}]"#),
            "invalid type: map, expected one of `agent` `session` `external` `channel` at line 1 column 91 (`/dispatch_targets/0/kind`)",
        ),
        (
            &RUN_CONFIG.replace("\"policy_tags\":[]", "\"policy_tags\":null"),
            "invalid type: null, expected a sequence at line 1 column 103 (`/policy_tags`)",
        ),
        ("", "not JSON: EOF while parsing a value at line 1 column 0"),
        ("{\"a\":NaN}", "not JSON: expected value at line 1 column 6"),
        ("null", "invalid type: null, expected struct RunConfig at line 1 column 4"),
        (
            "{\"tenant_id\":\"1\"}",
            "invalid type: string \"1\", expected a nonzero u64 at line 1 column 16 (`/tenant_id`)",
        ),
    ];
    let mut wrong = String::new();
    for (text, expected) in cases {
        let found =
            ingest::<RunConfig>(text).map(|_| "accepted".to_owned()).unwrap_or_else(|refusal| refusal.to_string());
        if found != expected {
            wrong += &format!("{text}\n  expected {expected}\n  found    {found}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(matches!(read::value(b"\"\xff\"", Profile::Pack), Err(Refusal::NotUtf8 { offset: 1 })));
    assert!(ingest::<RunConfig>(RUN_CONFIG).is_ok());
}

#[test]
fn unknown_members_are_dropped_where_clients_expect_it() {
    let text = RUN_CONFIG.replace(r#""run_id""#, r#""note":{"a":[1]},"run_id""#);
    let config: RunConfig = read::ingest(text.as_bytes(), Unknown::Drop).unwrap();
    assert_eq!(config, ingest(RUN_CONFIG).unwrap());
}

#[test]
fn depth_is_bounded_and_its_maximum_is_read() {
    let nest = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read::value(nest(127).as_bytes(), Profile::Pack).is_ok());
    for depth in [128, 129, 200_000] {
        assert!(
            matches!(read::value(nest(depth).as_bytes(), Profile::Pack), Err(Refusal::TooDeep { limit: 127, .. })),
            "{depth}"
        );
    }
    let submit = |depth| {
        let value = nest(depth);
        ingest::<SubmitRequest>(&format!(
            r#"{{"run_id":"r","tenant_id":1,"namespace_id":1,"submission_id":"s","content_type":"t",
                "payload":{{"kind":"json","value":{value}}},"submitted_at":{{"kind":"logical","value":1}}}}"#
        ))
    };
    assert!(submit(64).is_ok());
    assert!(matches!(submit(65), Err(Refusal::TooDeep { limit: 64, .. })));
}

#[test]
fn free_form_numbers_become_canonical_before_deciding() {
    let event: TriggerEvent = ingest(
        r#"{"trigger_id":"t","tenant_id":1,"namespace_id":1,"run_id":"r","kind":"tick","source_id":"s",
            "time":{"kind":"logical","value":1},"payload":{"kind":"json","value":[1.0,-0.0,1e2,0.5]}}"#,
    )
    .unwrap();
    let text = serde_json::to_string(&event.payload).unwrap();
    assert_eq!(text, r#"{"kind":"json","value":[1,0,100,0.5]}"#);
}

#[test]
fn requirements_and_times_have_one_spelling() {
    for wrong in [
        r#"{"And":[],"Or":[]}"#,
        "{}",
        "[]",
        r#"{"RequireGroup":[1,[]]}"#,
        r#"{"Nand":[]}"#,
        r#"{"Condition":["a"]}"#,
        r#"{"RequireGroup":{"min":256,"reqs":[]}}"#,
        r#"{"RequireGroup":{"min":1,"reqs":[],"max":2}}"#,
    ] {
        assert!(read::recorded::<Requirement>(wrong.as_bytes()).is_err(), "{wrong}");
    }
    for wrong in [
        r#"["logical",3]"#,
        r#"{"kind":"logical"}"#,
        r#"{"kind":"logical","value":-1}"#,
        r#"{"kind":"logical","value":1.0}"#,
        r#"{"kind":"unix_millis","value":9223372036854775808}"#,
        r#"{"kind":"wall","value":1}"#,
    ] {
        assert!(read::recorded::<Timestamp>(wrong.as_bytes()).is_err(), "{wrong}");
    }
    // A pack's numbers are read exactly, however large.
    let far = read::recorded::<Timestamp>(br#"{"kind":"logical","value":18446744073709551615}"#);
    assert_eq!(far, Ok(Timestamp::Logical(u64::MAX)));
}

#[test]
fn scenarios_in_ron_are_the_scenarios_in_json() {
    let Some(dir) = inputs::shared("reference/examples") else { return };
    let json: ScenarioSpec = read::ingest(&fs::read(dir.join("scenario.json")).unwrap(), Unknown::Refuse).unwrap();
    let tree = read::ron_value(&fs::read(dir.join("scenario.ron")).unwrap(), Profile::Ingest).unwrap();
    let ron: ScenarioSpec = read::ingest_value(tree, Unknown::Refuse).unwrap();
    assert_eq!(json, ron);
}

#[test]
fn ron_is_read_as_strictly_as_json() {
    let refused = |text: &str| read::ron_value(text.as_bytes(), Profile::Ingest).unwrap_err().to_string();
    assert_eq!(refused(r#"{"a":1,"a":2}"#), "duplicate member `a` in ``");
    assert!(refused("{\"a\": 'x'}").contains("write a string"));
    assert!(refused("{\"a\": 9007199254740992}").contains("outside"));
    assert!(refused("{\"a\": inf}").contains("out of range"));
    assert!(refused("{\"a\": 1} 2").starts_with("not JSON: 1:"));
    assert!(refused("{\"a\": Some}").starts_with("not JSON: 1:"));
    assert!(matches!(
        read::ron_value("[".repeat(200).as_bytes(), Profile::Ingest),
        Err(Refusal::TooDeep { .. } | Refusal::Syntax { .. })
    ));
    assert_eq!(read::ron_value(b"(1, None, Some(2))", Profile::Ingest), read::value(b"[1,null,2]", Profile::Ingest));
}
