//! `runpackd store` as a user would use it, on runs that `runpackd run` kept.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use serde_json::{Value, json};

struct Work(tempfile::TempDir);

impl Work {
    /// A store with the demo's run, which completed, and one that is held.
    fn new() -> Self {
        let work = Self(tempfile::tempdir().unwrap());
        let dir = work.0.path();
        for name in ["scenario.json", "run-config.json", "calls.jsonl"] {
            fs::copy(inputs::root().join("daemon/demo").join(name), dir.join(name)).unwrap();
        }
        fs::create_dir(dir.join("evidence")).unwrap();
        fs::copy(inputs::root().join("daemon/demo/report.json"), dir.join("evidence/report.json")).unwrap();
        let config = "[[providers]]\nname = \"time\"\ntype = \"builtin\"\n\n[[providers]]\nname = \"json\"\ntype = \"builtin\"\n\
                      config = { root = \"evidence\", root_id = \"evidence\" }\n";
        fs::write(dir.join("decision-gate.toml"), config).unwrap();
        let calls = fs::read_to_string(dir.join("calls.jsonl")).unwrap();
        let run_config: Value = serde_json::from_slice(&fs::read(dir.join("run-config.json")).unwrap()).unwrap();
        let run_id = run_config["run_id"].as_str().unwrap().to_owned();
        fs::write(dir.join("held.jsonl"), calls.lines().next().unwrap().replace(&run_id, "held")).unwrap();
        let mut held = run_config;
        held["run_id"] = json!("held");
        fs::write(dir.join("held.json"), held.to_string()).unwrap();
        assert_eq!(work.run("run-config.json", "calls.jsonl", "pack").0, 0);
        assert_eq!(work.run("held.json", "held.jsonl", "held-pack").0, 1);
        work
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, config: &str, calls: &str, out: &str) -> (i32, String, String) {
        self.runpackd(&format!(
            "run --scenario scenario.json --run-config {config} --config decision-gate.toml --calls {calls} \
             --store runs.db --out {out}"
        ))
    }

    fn store(&self, line: &str) -> (i32, String, String) {
        self.runpackd(&format!("store {line}"))
    }

    fn runpackd(&self, line: &str) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runpackd"));
        let output = command.args(line.split_whitespace()).current_dir(self.0.path()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn run_id(&self) -> String {
        let config: Value = serde_json::from_slice(&fs::read(self.at("run-config.json")).unwrap()).unwrap();
        config["run_id"].as_str().unwrap().to_owned()
    }

    fn generated_at(&self, pack: &str) -> String {
        let manifest: Value = serde_json::from_slice(&fs::read(self.at(pack).join("manifest.json")).unwrap()).unwrap();
        let time = &manifest["generated_at"];
        format!("{}:{}", time["kind"].as_str().unwrap(), time["value"])
    }
}

fn seen(dir: &Path) -> BTreeMap<PathBuf, (SystemTime, u64)> {
    let one = |entry: fs::DirEntry| {
        let metadata = entry.metadata().unwrap();
        (entry.path(), (metadata.modified().unwrap(), metadata.len()))
    };
    fs::read_dir(dir).unwrap().map(|entry| one(entry.unwrap())).collect()
}

#[test]
fn runs_are_listed_read_and_exported_and_the_store_stays_as_it_is() {
    let work = Work::new();
    let (run, before) = (work.run_id(), seen(work.0.path()));
    let (code, text, _) = work.store("list --store runs.db");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, lines.len()), (0, 2));
    let status = |id: &str| lines.iter().find(|line| line["run_id"] == id).unwrap()["status"].clone();
    assert_eq!((status(&run), status("held")), (json!("completed"), json!("active")));
    assert_eq!(work.store("list --store runs.db --tenant 7"), (0, String::new(), String::new()));
    let (code, text, _) = work.store(&format!("get --store runs.db --run {run}"));
    let state: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &state["run_id"]), (0, &json!(run)));
    let triggers: Value = serde_json::from_slice(&fs::read(work.at("pack/artifacts/triggers.json")).unwrap()).unwrap();
    assert_eq!(state["triggers"], triggers);
    let (code, text, _) = work.store("verify --store runs.db");
    assert!(code == 0 && text.contains("runs 2"), "{text}");
    assert_eq!(seen(work.0.path()), before);
    let time = work.generated_at("pack");
    let export =
        format!("export --store runs.db --run {run} --generated-at {time} --config decision-gate.toml --out again");
    assert_eq!(work.store(&export).0, 0);
    for file in ["manifest.json", "artifacts/gate_evals.json", "artifacts/tool_calls.json"] {
        assert_eq!(fs::read(work.at("again").join(file)).unwrap(), fs::read(work.at("pack").join(file)).unwrap());
    }
    assert!(work.store(&export).1.contains("the same pack was there"));
}

#[test]
fn what_is_not_there_is_said_and_not_made() {
    let work = Work::new();
    for line in ["list", "verify", "get --run x", "prune --closed --remove", "scenario list", "backup --to copy.db"] {
        let (code, _, told) = work.store(&format!("{line} --store mistyped.db"));
        assert!(code == 2 && told.contains("there is no run store"), "{line}: {told}");
        assert!(!work.at("mistyped.db").exists());
    }
    let (code, _, told) = work.store("get --store runs.db --run nobody");
    assert!(code == 2 && told.contains("there is no run nobody"), "{told}");
    let (code, _, told) = work.store("get --store decision-gate.toml --run nobody");
    assert!(code == 2 && told.contains("not a database"), "{told}");
}

#[test]
fn closed_runs_are_pruned_when_it_is_meant() {
    let work = Work::new();
    let run = work.run_id();
    let (code, text, _) = work.store("prune --store runs.db --closed");
    assert!(code == 0 && text.contains(&format!("would remove run {run}")) && text.contains("nothing was removed"));
    let (code, _, told) = work.store("prune --store runs.db --run held --remove");
    assert!(code == 2 && told.contains("still active"), "{told}");
    let (code, text, _) = work.store("prune --store runs.db --closed --remove");
    assert!(code == 0 && text.contains(&format!("removed run {run}")), "{text}");
    assert!(work.store("verify --store runs.db").1.contains("runs 1, "));
    let (code, _, told) = work.run("run-config.json", "calls.jsonl", "third");
    assert!(code == 2 && told.contains("run already exists"), "{told}");
}

#[test]
fn damage_is_an_answer_and_stops_an_export() {
    let work = Work::new();
    let bytes = fs::read(work.at("runs.db")).unwrap();
    let needle = b"\"decision_id\":\"decision-2\"";
    let mut lie = bytes;
    let at = lie.windows(needle.len()).rposition(|window| window == needle).unwrap();
    lie[at + needle.len() - 2] = b'9';
    fs::write(work.at("runs.db"), &lie).unwrap();
    let (code, text, _) = work.store("verify --store runs.db");
    assert!(code == 1 && text.contains("is not what its digest says"), "{text}");
    let run = work.run_id();
    let (code, _, told) =
        work.store(&format!("export --store runs.db --run {run} --generated-at logical:1 --out none"));
    assert!(code == 2 && told.contains("damaged"), "{told}");
    assert!(!work.at("none").exists());
}

#[test]
fn scenarios_are_kept_retired_and_defined_anew() {
    let work = Work::new();
    let (_, text, _) = work.store("scenario list --store runs.db");
    let line: Value = serde_json::from_str(text.trim()).unwrap();
    let id = line["scenario_id"].as_str().unwrap().to_owned();
    let text = fs::read_to_string(work.at("scenario.json")).unwrap();
    let mut changed: Value = serde_json::from_str(&text).unwrap();
    changed["spec_version"] = json!("other");
    fs::write(work.at("changed.json"), changed.to_string()).unwrap();
    let (code, _, told) = work.store("scenario define --store runs.db changed.json");
    assert!(code == 2 && told.contains("retire"), "{told}");
    assert!(work.store("scenario define --store runs.db scenario.json").1.contains("was kept already"));
    assert_eq!(work.store(&format!("scenario retire --store runs.db {id}")).0, 0);
    assert_eq!(work.store("scenario define --store runs.db changed.json").0, 0);
    assert_eq!(work.store("scenario list --store runs.db").1.lines().count(), 2);
    // What ran under the retired one can still be exported.
    let run = work.run_id();
    assert_eq!(work.store(&format!("export --store runs.db --run {run} --generated-at logical:99 --out late")).0, 0);
}

#[test]
fn a_backup_is_checked_and_never_overwrites() {
    let work = Work::new();
    let (code, text, _) = work.store("backup --store runs.db --to copy.db");
    assert!(code == 0 && text.contains("2 runs"), "{text}");
    assert_eq!(work.store("list --store copy.db").1, work.store("list --store runs.db").1);
    assert_eq!(work.store("backup --store runs.db --to copy.db").0, 2);
}

/// What was disclosed should arrive, or somebody should say that it will not.
#[test]
fn a_run_with_open_deliveries_stays_unless_they_are_given_up() {
    use runpack_storage::runs::RunStore as _;
    use runpack_storage::runs::sqlite::{SqliteOptions, SqliteRuns};
    use runpack_storage::runs::suite::{self, Story};

    let work = Work::new();
    let store = SqliteRuns::open(&work.at("runs.db"), &SqliteOptions::default()).unwrap().with_outbox();
    let (mut story, entries) = Story::begin_for(&suite::scenario("kept", 10), "posted", 1, suite::targets(2));
    store.create(story.head(), &entries).unwrap();
    for (trigger, time) in [("a", 11), ("b", 12)] {
        let expected = story.head().counts.total();
        let entries = story.decide(trigger, time);
        store.append(expected, story.head(), &entries).unwrap();
    }
    drop(store);
    assert!(work.store("verify --store runs.db").1.contains("deliveries 6 (6 open)"));
    let (code, _, told) = work.store("prune --store runs.db --run posted --remove");
    assert!(
        code == 2 && told.contains("6 deliveries that are open") && told.contains("--give-up-deliveries"),
        "{told}"
    );
    let (code, text, _) = work.store("prune --store runs.db --closed --remove");
    assert!(code == 0 && text.contains("run posted stays: 6 deliveries are open"), "{text}");
    assert!(text.contains(&format!("removed run {}", work.run_id())), "{text}");
    let (code, text, _) = work.store("prune --store runs.db --run posted --remove --give-up-deliveries");
    assert!(code == 0 && text.contains("removed run posted") && text.contains("6 deliveries given up"), "{text}");
    assert!(work.store("verify --store runs.db").1.contains("deliveries 0 (0 open)"));
}
