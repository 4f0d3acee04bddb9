use std::fs;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::gather::tests::{context, message, query as asked};

struct Fixture {
    dir: TempDir,
    provider: JsonProvider,
}

fn fixture(change: impl FnOnce(&mut JsonConfig)) -> Fixture {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    let mut config: JsonConfig = serde_json::from_value(json!({"root": root, "root_id": "repo"})).unwrap();
    change(&mut config);
    Fixture { provider: config.build().unwrap(), dir }
}

impl Fixture {
    fn put(&self, file: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.dir.path().join("root").join(file), content).unwrap();
        self
    }

    async fn ask(&self, params: Value) -> EvidenceResult {
        self.provider.query(&asked("json", "path", Some(params)), &context()).await
    }

    async fn value(&self, params: Value) -> Value {
        let result = self.ask(params).await;
        match result.value {
            Some(EvidenceValue::Json(value)) => value,
            other => panic!("{other:?} {:?}", result.error),
        }
    }

    async fn error(&self, params: Value) -> EvidenceError {
        let result = self.ask(params).await;
        assert_eq!((&result.value, &result.content_type), (&None, &None));
        result.error.unwrap()
    }

    async fn code(&self, params: Value) -> String {
        self.error(params).await.code.to_string()
    }
}

#[tokio::test]
async fn answers_in_the_shape_of_the_catalogue() {
    let fixture = fixture(|_| {});
    fixture.put("config.json", r#"{"version":"1.2.3"}"#).put("sub/c.yaml", "version: 1.2.3\n");
    let result = fixture.ask(json!({"file": "config.json", "jsonpath": "$.version"})).await;
    assert_eq!(
        serde_json::to_value(result).unwrap(),
        json!({
            "value": {"kind": "json", "value": "1.2.3"}, "lane": "verified", "error": null, "evidence_hash": null,
            "evidence_ref": {"uri": "dg+file://repo/config.json"}, "signature": null, "content_type": "application/json",
            "evidence_anchor": {
                "anchor_type": "file_path_rooted",
                "anchor_value": r#"{"path":"config.json","root_id":"repo"}"#,
            },
        })
    );
    let yaml = fixture.ask(json!({"file": ".//sub/./c.yaml"})).await;
    assert_eq!(yaml.value, Some(EvidenceValue::Json(json!({"version": "1.2.3"}))));
    assert_eq!(yaml.content_type.as_deref(), Some("application/yaml"));
    assert_eq!(yaml.evidence_ref.unwrap().uri, "dg+file://repo/sub/c.yaml");
    let anchor = yaml.evidence_anchor.unwrap().anchor_value;
    assert_eq!(anchor, r#"{"path":"sub/c.yaml","root_id":"repo"}"#);
}

#[tokio::test]
async fn one_match_is_the_value_and_several_are_an_array() {
    let fixture = fixture(|_| {});
    fixture.put("a.json", r#"{"n":null,"s":{"x":[1,2,3]},"list":[{"k":1,"on":true},{"k":2,"on":false}],"é":"e"}"#);
    let rows = [
        ("$.n", json!(null)),
        ("$.s.x", json!([1, 2, 3])),
        ("$.s.x[0]", json!(1)),
        ("$.s.x[-1]", json!(3)),
        ("$.s.x[0,2]", json!([1, 3])),
        ("$.s.x[1:]", json!([2, 3])),
        ("$.s.x[2:]", json!(3)),
        ("$..k", json!([1, 2])),
        ("$.list[?@.on].k", json!([1, 2])),
        ("$.list[?@.on == true].k", json!(1)),
        ("$.list[?@.k > 1 && !(@.on == true)].k", json!(2)),
        ("$['é']", json!("e")),
        ("$.list[?@.k == $.s.x[1]]['k','on']", json!([2, false])),
        ("$.list[?@.k == $['s']['x'][0]][*]", json!([1, true])),
        ("$.list[?$.é == 'e' && @.k < 2]..k", json!(1)),
        ("$[?length(@.x) == 3].x[0]", json!(1)),
    ];
    for (path, expected) in rows {
        assert_eq!(fixture.value(json!({"file": "a.json", "jsonpath": path})).await, expected, "{path}");
    }
    let whole = fixture.value(json!({"file": "a.json", "jsonpath": null})).await;
    assert_eq!(whole, fixture.value(json!({"file": "a.json", "jsonpath": "$"})).await);
}

#[tokio::test]
async fn what_is_absent_is_an_error_or_no_value_as_configured() {
    let params = json!({"file": "a.json", "jsonpath": "$.b"});
    let strict = fixture(|_| {});
    strict.put("a.json", "{}");
    let result = strict.ask(params.clone()).await;
    let error = result.error.unwrap();
    assert_eq!(error.code, "jsonpath_not_found");
    assert_eq!(error.details, Some(json!({"file": "a.json", "jsonpath": "$.b"})));
    assert!(result.evidence_anchor.is_some() && result.evidence_ref.is_some());

    let lenient = fixture(|config| config.absent_path = AbsentPath::NoValue);
    lenient.put("a.json", "{}");
    let result = lenient.ask(params).await;
    assert_eq!((&result.value, &result.error, &result.content_type), (&None, &None, &None));
    assert_eq!(result.evidence_anchor.unwrap().anchor_value, r#"{"path":"a.json","root_id":"repo"}"#);
    assert_eq!(lenient.code(json!({"file": "b.json", "jsonpath": "$.b"})).await, "file_not_found");
}

#[tokio::test]
async fn every_mistake_has_its_code() {
    let fixture = fixture(|config| config.max_bytes = 100);
    fixture
        .put("a.json", "{}")
        .put("bad.json", "{")
        .put("bad.yaml", "a: [")
        .put("limit.json", format!("\"{}\"", "x".repeat(98)))
        .put("large.json", format!("\"{}\"", "x".repeat(99)));
    let rows = [
        (json!([]), "params_invalid"),
        (json!("a.json"), "params_invalid"),
        (json!({"file": 5}), "params_invalid"),
        (json!({"file": "a.json", "jsonpath": 5}), "params_invalid"),
        (json!({"file": "a.json", "json_path": "$"}), "params_invalid"),
        (json!({}), "path_missing"),
        (json!({"file": ""}), "path_missing"),
        (json!({"file": "/etc/passwd"}), "absolute_path_forbidden"),
        (json!({"file": "C:/a.json"}), "absolute_path_forbidden"),
        (json!({"file": "\\\\host\\share"}), "absolute_path_forbidden"),
        (json!({"file": "../a.json"}), "path_outside_root"),
        (json!({"file": "sub/../../a.json"}), "path_outside_root"),
        (json!({"file": "."}), "path_invalid"),
        (json!({"file": "sub"}), "path_invalid"),
        (json!({"file": "a.json/"}), "path_invalid"),
        (json!({"file": "a\u{0}.json"}), "path_invalid"),
        (json!({"file": "sub\\a.json"}), "path_invalid"),
        (json!({"file": "b.json"}), "file_not_found"),
        (json!({"file": "nowhere/b.json"}), "file_not_found"),
        (json!({"file": "large.json"}), "size_limit_exceeded"),
        (json!({"file": "bad.json"}), "invalid_json"),
        (json!({"file": "bad.yaml"}), "invalid_yaml"),
        (json!({"file": "a.json", "jsonpath": ""}), "invalid_jsonpath"),
        (json!({"file": "a.json", "jsonpath": "version"}), "invalid_jsonpath"),
        (json!({"file": "a.json", "jsonpath": "$["}), "invalid_jsonpath"),
    ];
    for (params, code) in rows {
        assert_eq!(fixture.code(params.clone()).await, code, "{params}");
    }
    assert_eq!(fixture.value(json!({"file": "limit.json"})).await, json!("x".repeat(98)));
    let none = fixture.provider.query(&asked("json", "path", None), &context()).await;
    assert_eq!(none.error.unwrap().code, "params_missing");
    let unknown = fixture.provider.query(&asked("json", "get", None), &context()).await;
    assert_eq!(message(&unknown), "evidence provider error: unknown check: get");
    let details = fixture.error(json!({"file": "large.json"})).await.details;
    assert_eq!(details, Some(json!({"file": "large.json", "max_bytes": 100})));
}

#[tokio::test]
async fn json_is_read_strictly() {
    let fixture = fixture(|_| {});
    let deep = format!("{}1{}", "[".repeat(128), "]".repeat(128));
    let rows: [(&[u8], &str); 7] = [
        (br#"{"secret":1,"secret":2}"#, "duplicate member"),
        (b"[1e400]", "number out of range"),
        (b"{} {}", "bytes after the end of the JSON value, line 1 column 4"),
        (b"\"\xff\"", "not UTF-8 at byte 1"),
        (b"\xef\xbb\xbf{}", "byte order mark at the start; save the file as UTF-8 without it"),
        (b"", "not JSON: "),
        (deep.as_bytes(), "more than 127 levels of arrays and objects"),
    ];
    for (content, reason) in rows {
        let error = fixture.put("a.json", content).error(json!({"file": "a.json"})).await;
        assert_eq!((error.code.as_str(), error.message.as_str()), ("invalid_json", "file is not valid json"));
        let details = error.details.unwrap();
        assert!(details["reason"].as_str().unwrap().starts_with(reason), "{details}");
        assert!(!details.to_string().contains("secret") && !details.to_string().contains("9007"), "{details}");
    }
}

#[tokio::test]
async fn a_large_integer_matters_only_where_it_is_selected() {
    let fixture = fixture(|_| {});
    let file = fixture.put("a.json", br#"{"serial":9007199254740993,"failed":0}"#);
    assert_eq!(file.value(json!({"file": "a.json", "jsonpath": "$.failed"})).await, json!(0));
    assert_eq!(file.value(json!({"file": "a.json", "jsonpath": "$.serial"})).await, json!(9_007_199_254_740_993_u64));
}

#[tokio::test]
async fn yaml_is_read_strictly() {
    let fixture = fixture(|_| {});
    let good = "\
yes: no
on: Off
t: [true, False]
n: [1, -2.5, 0x10, ~, null, '1']
text: [018, 1_000, 1.2.3, 2024-01-01]
one: &one {a: 1}
two: *one
merged:
  <<: x
";
    let expected = json!({
        "yes": "no", "on": "Off", "t": [true, false], "n": [1, -2.5, 16, null, null, "1"],
        "text": ["018", "1_000", "1.2.3", "2024-01-01"], "one": {"a": 1}, "two": {"a": 1}, "merged": {"<<": "x"},
    });
    for file in ["a.yaml", "a.yml", "a.YAML"] {
        assert_eq!(fixture.put(file, good).value(json!({"file": file})).await, expected);
    }
    let mut bomb = "a0: &a0 [x, x]\n".to_owned();
    for level in 1..40 {
        bomb += &format!("a{level}: &a{level} [*a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}]\n", level - 1);
    }
    let deep = "[".repeat(10_000);
    let bad: [&[u8]; 13] = [
        b"secret: 1\nsecret: 2\n",
        b"1: a\n\"1\": b\n",
        b"a: 1\n---\nb: 2\n",
        b"a: .nan",
        b"a: -.inf",
        b"a: 123456789012345678901234",
        b"a: 1e400",
        b"a: !secret x",
        b"a: *secret",
        b"a: \xff",
        b"? {a: 1}\n: b\n",
        bomb.as_bytes(),
        deep.as_bytes(),
    ];
    for content in bad {
        let start = Instant::now();
        let error = fixture.put("b.yaml", content).error(json!({"file": "b.yaml"})).await;
        let shown = String::from_utf8_lossy(&content[..content.len().min(40)]);
        assert_eq!(error.code, "invalid_yaml", "{shown}");
        assert!(!serde_json::to_string(&error).unwrap().contains("secret"), "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{shown}");
    }
    let place = fixture.put("b.yaml", "a: 1\na: 2\n").error(json!({"file": "b.yaml"})).await.details;
    assert_eq!(place, Some(json!({"file": "b.yaml", "line": 2, "column": 1})));
}

#[tokio::test]
async fn yaml_can_be_refused() {
    let fixture = fixture(|config| config.allow_yaml = false);
    fixture.put("a.yaml", "a: 1").put("a.json", "1");
    assert_eq!(fixture.code(json!({"file": "a.yaml"})).await, "yaml_disabled");
    assert_eq!(fixture.code(json!({"file": "absent.yml"})).await, "yaml_disabled");
    assert_eq!(fixture.value(json!({"file": "a.json"})).await, json!(1));
}

#[cfg(unix)]
#[tokio::test]
async fn links_and_special_files_are_not_followed_or_opened() {
    use std::os::unix::fs::symlink;

    let fixture = fixture(|_| {});
    fixture.put("a.json", "1").put("sub/b.json", "2");
    let root = fixture.dir.path().join("root");
    fs::write(fixture.dir.path().join("outside.json"), "\"secret\"").unwrap();
    symlink("../outside.json", root.join("out.json")).unwrap();
    symlink(fixture.dir.path(), root.join("up")).unwrap();
    symlink("a.json", root.join("in.json")).unwrap();
    symlink("sub", root.join("also")).unwrap();
    for file in ["out.json", "up/outside.json", "in.json", "also/b.json"] {
        assert_eq!(fixture.code(json!({"file": file})).await, "path_outside_root", "{file}");
    }
    let pipe = std::process::Command::new("mkfifo").arg(root.join("pipe.json")).status().unwrap();
    assert!(pipe.success());
    assert_eq!(fixture.code(json!({"file": "pipe.json"})).await, "path_invalid");
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket.json")).unwrap();
    assert_eq!(fixture.code(json!({"file": "socket.json"})).await, "path_invalid");
    // Backup tools make second names of honest files.
    fs::hard_link(root.join("a.json"), root.join("hard.json")).unwrap();
    assert_eq!(fixture.value(json!({"file": "hard.json"})).await, json!(1));
}

#[tokio::test]
async fn greedy_paths_are_refused_or_end() {
    let fixture = fixture(|_| {});
    fixture.put("wide.json", format!("[{}1]", "1,".repeat(200_000)));
    let nested = format!("{}1{}", "[".repeat(120), "]".repeat(120));
    fixture.put("deep.json", format!("[{}1]", format!("{nested},").repeat(100)));
    let refused = [
        "$..*..*..*".to_owned(),
        format!("${}", "[0,0,0,0]".repeat(10)),
        format!("$[?{}1==1{}]", "(".repeat(60), ")".repeat(60)),
        format!("${}", "[?@]".repeat(5)),
        format!("$.{}", "a".repeat(1_024)),
        "$[?count($..*) > 1]".to_owned(),
        "$[?count($[*]) > 1]".to_owned(),
        "$[?$[0:].a == 1]".to_owned(),
        "$[?$[?@ == 1]]".to_owned(),
        "$[?@ == $.*]".to_owned(),
    ];
    for path in refused {
        assert_eq!(fixture.code(json!({"file": "wide.json", "jsonpath": path})).await, "invalid_jsonpath", "{path}");
    }
    let ends = [
        ("deep.json", "$..*".to_owned()),
        ("deep.json", "$..*..*".to_owned()),
        ("wide.json", "$[0,0,0,0,0][0,0,0,0,0][0,0,0,0,0][0,0,0,0,0]".to_owned()),
        ("wide.json", format!("$[?{}@==2{}]", "(".repeat(7), ")".repeat(7))),
        ("wide.json", format!("$[?{}@==2]", "!(".repeat(7) + &")".repeat(7))),
    ];
    for (file, path) in ends {
        let start = Instant::now();
        let result = fixture.ask(json!({"file": file, "jsonpath": path})).await;
        assert!(result.error.is_some(), "{path}");
        assert!(start.elapsed() < Duration::from_secs(5), "{path} {:?}", start.elapsed());
    }
    let error = fixture.error(json!({"file": "deep.json", "jsonpath": "$..*"})).await;
    assert_eq!(
        (error.code.as_str(), error.details.unwrap()["max_bytes"].as_u64()),
        ("size_limit_exceeded", Some(1_048_576))
    );
    // Signs within names are no selectors.
    fixture.put("names.json", r#"{"a..b,((((((((((?":{"c":1}}"#);
    let path = "$['a..b,((((((((((?'].c";
    assert_eq!(fixture.value(json!({"file": "names.json", "jsonpath": path})).await, json!(1));
}
