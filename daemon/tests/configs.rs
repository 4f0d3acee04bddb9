//! Configs as operators write them: what could start is valid, what could not
//! says why, and a first start wants for nothing.

#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;
#[path = "common/wire.rs"]
mod wire;

use std::path::Path;
use std::process::Command;

use common::CONFIG;
use serde_json::Value;
use wire::{Connection, Process};

fn runpackd(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runpackd"));
    command.args(args).current_dir(dir).env_remove("DECISION_GATE_CONFIG").env("RUNPACK_TOKEN", "a-token");
    command
}

/// The exit code, and what was said on both streams.
fn said(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

const PRESETS: [&str; 4] = ["quickstart-dev", "default-recommended", "hardened", "container-prod"];

#[test]
fn every_preset_is_valid_and_makes_nothing_until_it_is_served() {
    let dir = tempfile::tempdir().unwrap();
    for preset in PRESETS {
        let (code, text) = said(&mut runpackd(dir.path(), &["config", "validate", "--preset", preset]));
        assert!(code == Some(0) && text.contains("Config valid."), "{preset}: {text}");
        let (_, shown) = said(&mut runpackd(dir.path(), &["config", "show", preset]));
        std::fs::write(dir.path().join("own.toml"), shown).unwrap();
        let (code, text) = said(&mut runpackd(dir.path(), &["config", "validate", "--config", "own.toml"]));
        assert!(code == Some(0), "{preset}: {text}");
        std::fs::remove_file(dir.path().join("own.toml")).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{preset} made something");
    }
    // Without the token that it names, a preset says which one is missing.
    let (code, text) =
        said(runpackd(dir.path(), &["config", "validate", "--preset", "hardened"]).env_remove("RUNPACK_TOKEN"));
    assert!(code == Some(2) && text.contains("the variable `RUNPACK_TOKEN` is not set"), "{text}");
}

/// The presets listen at fixed ports, so they are served from a copy.
#[test]
fn every_preset_starts_in_an_empty_directory_and_takes_a_run_as_it_says() {
    for preset in PRESETS {
        let dir = tempfile::tempdir().unwrap();
        let (_, text) = said(&mut runpackd(dir.path(), &["config", "show", preset]));
        let text = text
            .replace("127.0.0.1:4000", "127.0.0.1:0")
            .replace("0.0.0.0:8080", "127.0.0.1:0")
            .replace("/data", &dir.path().join("data").display().to_string());
        std::fs::write(dir.path().join("own.toml"), text).unwrap();
        let served = Process::of(&mut runpackd(dir.path(), &["serve", "--config", "own.toml"]));
        let mut connection = Connection::new(served.address);
        assert_eq!(connection.get("/readyz").status, 200, "{preset}");
        let open = preset == "quickstart-dev" || preset == "default-recommended";
        let body = |tool: &str| -> Value {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/quickstart").join(tool);
            serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
        };
        let mut define = common::request("scenario_define", body("1-scenario_define.json"));
        assert_eq!(
            connection.post(&[], define.to_string().as_bytes()).status,
            if open { 200 } else { 401 },
            "{preset}"
        );
        define["params"]["arguments"]["spec"]["namespace_id"] = 2.into();
        define["params"]["arguments"]["spec"]["scenario_id"] = "two".into();
        let token: &[(&str, &str)] = &[("Authorization", "Bearer a-token")];
        let status = connection.post(token, define.to_string().as_bytes()).status;
        // Local callers of the recommended preset have a role for namespace 1 only.
        assert_eq!(status, if preset == "default-recommended" { 403 } else { 200 }, "{preset}");
    }
}

/// What `serve` cannot start, `config validate` finds, with the same words.
#[test]
fn what_could_not_start_is_not_valid() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    for (text, problem) in [
        ("[run_state_store]\ntype = \"sqlite\"\npath = \"file/runs.db\"\n", "run_state_store"),
        ("[run_state_store]\ntype = \"sqlite\"\npath = \"file\"\n", "run_state_store: "),
        ("[docs]\nextra_paths = [\"none\"]\n", "docs.extra_paths missing `none`"),
        (
            "[[providers]]\nname = \"json\"\ntype = \"builtin\"\nconfig = { root = \"file/x\", root_id = \"r\" }\n",
            "providers.json.config.root",
        ),
        ("[server.tls]\ncert_path = \"file\"\nkey_path = \"file\"\n", "server.tls."),
        ("[server.audit]\npath = \"file/audit\"\n", "audit"),
    ] {
        std::fs::write(dir.path().join("decision-gate.toml"), format!("{CONFIG}{text}")).unwrap();
        let (code, said_by_validate) = said(&mut runpackd(dir.path(), &["config", "validate"]));
        assert!(code == Some(2) && said_by_validate.contains(problem), "{text}: {said_by_validate}");
        let (code, said_by_serve) = said(&mut runpackd(dir.path(), &["serve"]));
        assert!(code == Some(2) && said_by_serve.contains(problem), "{text}: {said_by_serve}");
    }
    std::fs::remove_file(dir.path().join("decision-gate.toml")).unwrap();
    let (code, text) = said(&mut runpackd(dir.path(), &["serve"]));
    assert!(code == Some(2) && text.contains("--preset quickstart-dev"), "{text}");
}

const CONTRACT: &str = r#"{"provider_id": "weather", "name": "Weather", "description": "Rain.", "transport": "mcp",
    "config_schema": {"type": "object"}, "notes": [], "checks": [{"check_id": "rain", "description": "Whether it rains.",
    "determinism": "external", "params_required": false, "params_schema": {"type": "object"},
    "result_schema": {"type": "boolean"}, "allowed_comparators": ["equals"], "anchor_types": [],
    "content_types": ["application/json"], "examples": []}]}"#;

/// Answers every question in the reference's frames with `true`.
const PROVIDER: &str = r#"
import json, sys
while True:
    length = None
    while (line := sys.stdin.buffer.readline().strip()):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    if length is None:
        break
    request = json.loads(sys.stdin.buffer.read(length))
    result = {"value": {"kind": "json", "value": True}, "lane": "verified", "error": None, "evidence_hash": None,
              "evidence_ref": None, "evidence_anchor": None, "signature": None, "content_type": "application/json"}
    answer = {"jsonrpc": "2.0", "id": request["id"], "result": {"content": [{"type": "json", "json": result}]}}
    body = json.dumps(answer).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    sys.stdout.buffer.flush()
"#;

#[test]
fn a_program_outside_can_be_a_provider() {
    if Command::new("python3").arg("--version").output().is_err() {
        assert!(!std::env::var("RUNPACK_REQUIRE").unwrap_or_default().contains("python"), "python3 is required");
        println!("python3 is not here, so no program outside is asked");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("weather.json"), CONTRACT).unwrap();
    std::fs::write(dir.path().join("weather.py"), PROVIDER).unwrap();
    let table = "[[providers]]\nname = \"weather\"\ntype = \"mcp\"\ncommand = [\"python3\", \"weather.py\"]\n";
    let whole = format!(
        "{CONFIG}{table}capabilities_path = \"weather.json\"\nallow_raw = true\n[evidence]\nallow_raw_values = true\n"
    );
    std::fs::write(dir.path().join("decision-gate.toml"), whole).unwrap();
    let served = Process::of(&mut runpackd(dir.path(), &["serve"]));
    let mut connection = Connection::new(served.address);
    let mut call = |tool: &str, arguments: Value| connection.try_call(&common::request(tool, arguments)).unwrap();
    let listed = call("providers_list", serde_json::json!({}));
    assert!(listed.to_string().contains(r#""provider_id":"weather","transport":"mcp""#), "{listed}");
    let mut scenario = common::quickstart("a");
    let query = serde_json::json!({"provider_id": "weather", "check_id": "rain"});
    scenario["spec"]["conditions"][0]["query"] = query;
    call("scenario_define", scenario);
    call("scenario_start", common::start("a", "r", false));
    let answer = call("scenario_next", common::next("a", "r", "t", common::BASE));
    assert_eq!(answer["result"]["content"][0]["json"]["status"], "completed", "{answer}");
    drop(served);
    for (text, problem) in [
        (table.to_owned(), "providers.weather.capabilities_path: an external provider needs"),
        (table.replace("weather\"\ntype", "time\"\ntype"), "name reserved for builtin: time"),
        (table.replace("command = [\"python3\", \"weather.py\"]\n", ""), "mcp provider requires command or url"),
        (format!("{table}url = \"https://a\"\n"), "has a command and a url"),
        (format!("{table}capabilities_path = \"none\"\n"), "contract_read_failed"),
        (format!("{table}capabilities_path = \"weather.py\"\n"), "providers.weather: "),
        (
            format!("{table}capabilities_path = \"weather.json\"\ntimeouts = {{ request_timeout_ms = 499 }}\n"),
            "providers.weather.timeouts.request_timeout_ms: must be between 500 and 30000",
        ),
    ] {
        let config = CONFIG.replace("[[providers]]\nname = \"time\"\ntype = \"builtin\"\n\n", "");
        std::fs::write(dir.path().join("decision-gate.toml"), format!("{config}{text}")).unwrap();
        let (code, said) = said(&mut runpackd(dir.path(), &["config", "validate"]));
        assert!(code == Some(2) && said.contains(problem), "{text}: {said}");
    }
}

#[test]
fn packets_are_delivered_to_a_log_and_a_run_does_not_wait_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "{CONFIG}[run_state_store]\ntype = \"sqlite\"\npath = \"runs.db\"\n[dispatch]\nenabled = true\nlog = \"delivered.jsonl\"\n"
    );
    std::fs::write(dir.path().join("decision-gate.toml"), text).unwrap();
    let served = Process::of(&mut runpackd(dir.path(), &["serve"]));
    let mut connection = Connection::new(served.address);
    let mut call = |tool: &str, arguments: Value| connection.try_call(&common::request(tool, arguments)).unwrap();
    let mut scenario = common::quickstart("a");
    scenario["spec"]["stages"][0]["entry_packets"] = serde_json::json!([{"packet_id": "note", "schema_id": "note-v1",
        "content_type": "application/json", "visibility_labels": [], "policy_tags": [], "expiry": null,
        "payload": {"kind": "json", "value": {"hello": true}}}]);
    call("scenario_define", scenario);
    let mut start = common::start("a", "r", true);
    start["run_config"]["dispatch_targets"] = serde_json::json!([{"kind": "agent", "agent_id": "agent-1"}]);
    let started = call("scenario_start", start);
    assert_eq!(started["result"]["content"][0]["json"]["packets"].as_array().unwrap().len(), 1, "{started}");
    let log = dir.path().join("delivered.jsonl");
    for _ in 0..200 {
        if std::fs::read_to_string(&log).is_ok_and(|text| text.ends_with('\n')) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("agent-1") && text.lines().count() == 1, "{text}");
}

/// The published presets and examples of the reference, whose demo tokens are
/// theirs, are understood.
#[test]
fn the_published_configs_are_understood() {
    let Some(presets) = inputs::shared("reference/presets") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(presets).unwrap() {
        let path = entry.unwrap().path();
        let (code, text) = said(&mut runpackd(dir.path(), &["config", "validate", "--config", path.to_str().unwrap()]));
        assert!(code == Some(0), "{}: {text}", path.display());
        seen += 1;
    }
    assert_eq!(seen, 5);
}
