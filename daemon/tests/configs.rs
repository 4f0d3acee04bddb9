//! Configs as operators write them: what could start is valid, what could not
//! says why, and a first start wants for nothing.

#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;
#[path = "common/wire.rs"]
mod wire;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::CONFIG;
use serde_json::Value;
use wire::Connection;

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

struct Served(Child, String);

impl Served {
    fn new(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut talk = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("listening on ") {
            assert_ne!(talk.read_line(&mut said).unwrap(), 0, "{said}");
        }
        let address = said.lines().last().unwrap().split_once("://").unwrap().1.to_owned();
        Self(child, address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
        let served = Served::new(&mut runpackd(dir.path(), &["serve", "--config", "own.toml"]));
        let mut connection = Connection::new(served.1.parse().unwrap());
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
