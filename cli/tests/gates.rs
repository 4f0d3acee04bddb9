//! The shell of the gates in `docs/ci`, run as their services run it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{copy_pack, text};
use serde_json::Value;

fn ci(name: &str) -> PathBuf {
    inputs::root().join("docs/ci").join(name)
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(ci(name)).unwrap()).unwrap()
}

fn bin() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_runpack"))
}

/// A directory with two packs, the second of them spoilt if asked.
fn packs(root: &Path, spoilt: bool) {
    copy_pack(&root.join("packs/first"));
    copy_pack(&root.join("packs/se cond"));
    if spoilt {
        let path = root.join("packs/se cond/artifacts/decisions.json");
        fs::write(&path, fs::read_to_string(&path).unwrap().replace("\"hold\"", "\"HOLD\"")).unwrap();
    }
}

/// Exit code, and everything it said.
fn came_to(output: &Output) -> (i32, String) {
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), said)
}

#[test]
fn the_github_action_fails_for_what_does_not_verify() {
    let action = yaml("github/action.yml");
    let steps = action["runs"]["steps"].as_array().unwrap();
    assert_eq!((steps.len(), steps[0]["shell"].as_str()), (1, Some("bash")));
    let script = steps[0]["run"].as_str().unwrap();
    assert!(!script.contains("${{"), "inputs come as variables");
    let run = |work: &Path, inputs: &[(&str, &str)]| {
        let mut command = Command::new("bash");
        // As the service runs it: a file, with -e.
        fs::write(work.join("step.sh"), script).unwrap();
        command.args(["--noprofile", "--norc", "-e", "-o", "pipefail", "step.sh"]).current_dir(work);
        command.env("GITHUB_STEP_SUMMARY", work.join("summary.md")).env("GITHUB_OUTPUT", work.join("output"));
        for (variable, expression) in steps[0]["env"].as_object().unwrap() {
            let input = expression.as_str().unwrap().trim_start_matches("${{ inputs.").trim_end_matches(" }}");
            let default = action["inputs"][input]["default"].as_str().unwrap();
            let given = inputs.iter().find(|(name, _)| *name == input).map_or(default, |(_, value)| value);
            command.env(variable, given);
        }
        came_to(&command.output().unwrap())
    };
    let runpack = ("runpack", text(bin()));

    let work = tempfile::tempdir().unwrap();
    packs(work.path(), false);
    let (code, said) = run(work.path(), &[runpack]);
    assert_eq!(code, 0, "{said}");
    assert!(fs::read_to_string(work.path().join("summary.md")).unwrap().contains("2 passed, 0 refused"));
    let lock = Command::new(bin()).args(["pin", "packs/first"]).current_dir(work.path()).output().unwrap().stdout;
    fs::write(work.path().join("packs.lock"), lock).unwrap();
    let (code, _) = run(work.path(), &[runpack, ("expect-file", "packs.lock")]);
    assert_eq!(code, 2, "a pack that is not pinned, where digests are expected");

    let work = tempfile::tempdir().unwrap();
    packs(work.path(), true);
    let (code, said) = run(work.path(), &[runpack, ("sarif", "found.sarif")]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("::error file=packs/se cond/artifacts/decisions.json,title=RP0201::hash mismatch"), "{said}");
    let sarif: Value = serde_json::from_slice(&fs::read(work.path().join("found.sarif")).unwrap()).unwrap();
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "RP0201");
    assert_eq!(fs::read_to_string(work.path().join("output")).unwrap(), "exit-code=1\n");

    let (code, said) = run(tempfile::tempdir().unwrap().path(), &[runpack]);
    assert_eq!(code, 2, "no packs are no success: {said}");
}

#[test]
fn the_gitlab_job_fails_for_what_does_not_verify() {
    let job = &yaml("runpack.gitlab-ci.yml")["runpack-verify"];
    let script: Vec<_> = job["script"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let report = job["artifacts"]["reports"]["junit"].as_str().unwrap();
    for (spoilt, expected) in [(false, 0), (true, 1)] {
        let work = tempfile::tempdir().unwrap();
        packs(work.path(), spoilt);
        let mut command = Command::new("sh");
        command.args(["-e", "-c", &script.join("\n")]).current_dir(work.path());
        for (name, value) in job["variables"].as_object().unwrap() {
            command.env(name, value.as_str().unwrap());
        }
        let path = format!("{}:{}", text(bin().parent().unwrap()), std::env::var("PATH").unwrap());
        let (code, said) = came_to(&command.env("PATH", path).output().unwrap());
        assert_eq!(code, expected, "{said}");
        let junit = fs::read_to_string(work.path().join(report)).unwrap();
        assert!(junit.contains(&format!("tests=\"2\" failures=\"{expected}\" errors=\"0\"")), "{junit}");
    }
}

#[test]
fn the_hook_judges_what_is_staged() {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(work.path()).env("RUNPACK_BIN", bin()).env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.args(["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "core.autocrlf=false"]);
        came_to(&command.args(args).output().unwrap())
    };
    let commits = |message: &str| git(&["commit", "-q", "-m", message]);
    assert_eq!(git(&["init", "-q"]).0, 0);
    fs::create_dir_all(at(".git/hooks")).unwrap();
    fs::copy(ci("pre-commit"), at(".git/hooks/pre-commit")).unwrap();

    fs::write(at("note.txt"), "no pack").unwrap();
    git(&["add", "note.txt"]);
    assert_eq!(commits("no pack"), (0, String::new()));
    packs(work.path(), false);
    git(&["add", "packs"]);
    let (code, said) = commits("two packs");
    assert!(code == 0 && said.contains("2 passed, 0 refused"), "{code} {said}");

    // What is not staged does not count.
    let path = at("packs/se cond/artifacts/decisions.json");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replace("\"hold\"", "\"HOLD\"")).unwrap();
    fs::write(at("note.txt"), "still no pack").unwrap();
    git(&["add", "note.txt"]);
    assert_eq!(commits("not the pack").0, 0);
    // What is staged does, also if it lies there whole again.
    git(&["add", "packs"]);
    fs::write(&path, &good).unwrap();
    let (code, said) = commits("a spoilt pack");
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("packs/se cond: refused") && said.contains("the commit was stopped"), "{said}");
    git(&["add", "packs"]);
    // A file taken out is a change of its pack; a pack that goes is none.
    fs::remove_file(at("packs/first/manifest.json")).unwrap();
    git(&["add", "-A"]);
    let (code, said) = commits("without its manifest");
    assert!(code != 0 && said.contains("packs/first: could not tell"), "{said}");
    fs::remove_dir_all(at("packs/first")).unwrap();
    git(&["add", "-A"]);
    assert_eq!(commits("without the pack").0, 0);
    // An archive, too.
    fs::write(at("spoilt.runpack.tar"), "not an archive").unwrap();
    git(&["add", "-A"]);
    let (code, said) = commits("an archive");
    assert!(code != 0 && said.contains("spoilt.runpack.tar: refused"), "{said}");
}
