//! What is packaged fits the program: the config starts, and the unit and the
//! image say words that the program knows.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;
#[path = "common/wire.rs"]
mod wire;

use std::fs;
use std::path::Path;
use std::process::Command;

use toml::Value;
use wire::{Connection, Process};

const RUNPACKD: &str = env!("CARGO_BIN_EXE_runpackd");
const TOKEN: &str = "dG9rZW4gb2YgYSB0ZXN0";

fn packaging(name: &str) -> String {
    fs::read_to_string(inputs::root().join("packaging").join(name)).unwrap()
}

/// A preset, or a file of this directory, as a table.
fn table(text: &str) -> Value {
    toml::from_str(text).unwrap()
}

fn preset(name: &str) -> String {
    fs::read_to_string(inputs::root().join("daemon/presets").join(name)).unwrap()
}

fn at<'a>(table: &'a mut Value, path: &[&str]) -> &'a mut Value {
    path.iter().fold(table, |at, key| match key.parse::<usize>() {
        Ok(index) => &mut at[index],
        Err(_) => &mut at[*key],
    })
}

fn serve(config: &Path) -> Process {
    let mut command = Command::new(RUNPACKD);
    Process::of(command.args(["serve", "--config", config.to_str().unwrap()]).env("RUNPACK_TOKEN", TOKEN))
}

/// The lines of a unit with this key.
fn unit(key: &str) -> Vec<String> {
    let text = packaging("runpackd.service");
    let values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.map(str::to_owned).collect()
}

/// Fails unless `words` are a command of `runpackd` with flags that it has.
fn known(words: &[String]) {
    assert_eq!(words[0], "/usr/bin/runpackd");
    let output = Command::new(RUNPACKD).args([&words[1], "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{words:?}");
    for flag in words.iter().filter(|word| word.starts_with("--")) {
        assert!(help.contains(&format!(" {flag}")), "{flag} is not in:\n{help}");
    }
}

#[test]
fn the_packaged_config_is_the_hardened_preset_at_other_places() {
    let (mut ours, mut theirs) = (table(&packaging("runpackd.toml")), table(&preset("hardened.toml")));
    for path in [
        vec!["server", "auth", "principals", "0", "subject"],
        vec!["server", "audit", "path"],
        vec!["run_state_store", "path"],
        vec!["schema_registry", "path"],
        vec!["providers", "1", "config", "root"],
    ] {
        let there = at(&mut theirs, &path).clone();
        let here = std::mem::replace(at(&mut ours, &path), there.clone());
        assert_ne!(here, there, "{path:?}");
    }
    let auth = at(&mut ours, &["server", "auth"]).as_table_mut().unwrap();
    assert!(auth.remove("bearer_token_files").is_some());
    auth.insert("bearer_token_env".to_owned(), vec!["RUNPACK_TOKEN"].into());
    assert!(ours.as_table_mut().unwrap().remove("runpack").is_some());
    assert_eq!(ours, theirs);
}

#[test]
fn the_packaged_config_starts_and_exports_for_whoever_has_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).display().to_string();
    let text = packaging("runpackd.toml")
        .replace("127.0.0.1:4000", "127.0.0.1:0")
        .replace("/etc/runpack", &place("etc"))
        .replace("/var/lib/runpack", &place("lib"))
        .replace("/var/log/runpack", &place("log"));
    assert!(!text.contains("\"/etc") && !text.contains("\"/var"), "{text}");
    fs::create_dir(dir.path().join("etc")).unwrap();
    // As the package writes it, without a line's end.
    fs::write(dir.path().join("etc/token"), TOKEN).unwrap();
    fs::write(dir.path().join("etc/runpackd.toml"), text).unwrap();
    let served = serve(&dir.path().join("etc/runpackd.toml"));
    let mut connection = Connection::new(served.address);
    assert_eq!(connection.get("/readyz").status, 200);
    // Namespace 1 is closed.
    let mut call = |token: &[(&str, &str)], tool: &str, arguments: serde_json::Value| {
        let body = common::request(tool, arguments).to_string().replace("\"namespace_id\":1", "\"namespace_id\":2");
        connection.post(token, body.as_bytes()).status
    };
    assert_eq!(call(&[], "scenario_define", common::quickstart("a")), 401);
    let bearer = format!("Bearer {TOKEN}");
    for (tool, arguments) in [
        ("scenario_define", common::quickstart("a")),
        ("scenario_start", common::start("a", "r", false)),
        ("scenario_next", common::next("a", "r", "t", common::BASE)),
        ("runpack_export", common::export("a", "r", &dir.path().join("lib/packs/r"))),
    ] {
        assert_eq!(call(&[("Authorization", &bearer)], tool, arguments), 200, "{tool}");
    }
    assert!(dir.path().join("lib/packs/r/manifest.json").exists());
    assert!(fs::metadata(dir.path().join("log/audit.jsonl")).unwrap().len() > 0);
}

#[test]
fn the_unit_starts_it_as_it_can_be_started() {
    let exec = unit("ExecStart");
    let words: Vec<_> = exec[0].split(' ').map(str::to_owned).collect();
    known(&words);
    // The config is one that dpkg keeps, and everything in it is where the unit lets it write.
    let manifest = table(&fs::read_to_string(inputs::root().join("daemon/Cargo.toml")).unwrap());
    let deb = &manifest["package"]["metadata"]["deb"];
    assert!(
        deb["conf-files"]
            .as_array()
            .unwrap()
            .iter()
            .any(|file| Some(file.as_str().unwrap()) == words.last().map(String::as_str))
    );
    let (state, logs) = (unit("StateDirectory").remove(0), unit("LogsDirectory").remove(0));
    let config = packaging("runpackd.toml");
    let paths: Vec<_> = config.lines().filter(|line| !line.starts_with('#')).flat_map(|line| line.split('"')).collect();
    let paths: Vec<_> = paths.into_iter().filter(|word| word.starts_with('/')).collect();
    assert!(paths.len() >= 6, "{paths:?}");
    for path in paths {
        let roots = [format!("/var/lib/{state}/"), format!("/var/log/{logs}/"), "/etc/runpack/".to_owned()];
        assert!(roots.iter().any(|root| path.starts_with(root)), "{path}");
    }
    // What it packs is there, but for what `just dist` makes.
    for asset in deb["assets"].as_array().unwrap() {
        let source = asset[0].as_str().unwrap();
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(source.split('*').next().unwrap());
        assert!(source.starts_with("../target/dist/") || directory.exists(), "{source}");
    }
}

#[test]
fn the_image_starts_it_and_asks_after_its_health_as_it_answers() {
    let text = packaging("Containerfile");
    let words = |start: &str| -> Vec<String> {
        let line = text.lines().find_map(|line| line.strip_prefix(start)).unwrap();
        serde_json::from_str(line).unwrap()
    };
    let entrypoint = words("ENTRYPOINT ");
    let command = [entrypoint.clone(), words("CMD ")].concat();
    let health = words("    CMD ");
    known(&command);
    known(&health);
    let name = &command[command.iter().position(|word| word == "--preset").unwrap() + 1];
    let preset = preset(&format!("{name}.toml"));
    let bind = table(&preset)["server"]["bind"].as_str().unwrap().to_owned();
    let port = bind.rsplit_once(':').unwrap().1;
    assert!(text.contains(&format!("\nEXPOSE {port}\n")));
    let volume = words("VOLUME ").remove(0);
    let dir = tempfile::tempdir().unwrap();
    let moved = preset.replace(&bind, "127.0.0.1:0").replace(&volume, &dir.path().display().to_string());
    assert!(!moved.contains("\"/data"), "{moved}");
    fs::write(dir.path().join("own.toml"), &moved).unwrap();
    let served = serve(&dir.path().join("own.toml"));
    let (named, there) = (format!("127.0.0.1:{port}"), served.address.to_string());
    let asked: Vec<_> = health[1..].iter().map(|word| word.replace(&named, &there)).collect();
    assert_ne!(asked, health[1..]);
    for (token, code) in [(TOKEN, 0), ("another", 1)] {
        let output = Command::new(RUNPACKD).args(&asked).env("RUNPACK_TOKEN", token).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}
