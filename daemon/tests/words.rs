//! What `runpackd` says of itself, to people and to shells.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

use std::fs;
use std::process::Command;

/// Lines of a help text, at most.
const LINES_MAX: usize = 50;

fn told(args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_runpackd")).args(args).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said)
}

/// Every command below `above`, with its help.
fn commands(above: &[&str], found: &mut Vec<(String, String)>) {
    let (code, help) = told(&[above, &["--help"]].concat());
    assert_eq!(code, 0, "{above:?}");
    let list = help.split_once("\nCommands:\n").map_or("", |(_, list)| list).to_owned();
    found.push((above.join(" "), help));
    for line in list.lines().take_while(|line| line.starts_with("  ")).filter(|line| !line.starts_with("   ")) {
        if line.trim_start().starts_with("help ") {
            continue;
        }
        commands(&[above, &[line.split_whitespace().next().unwrap()]].concat(), found);
    }
}

#[test]
fn the_help_of_every_command_fits_a_screen_with_an_example_and_its_exit_codes() {
    let mut found = Vec::new();
    commands(&[], &mut found);
    commands(&["generate"], &mut found);
    assert!(found.len() >= 12, "{}", found.len());
    for (command, help) in &found {
        let lines = help.lines().count();
        assert!(lines <= LINES_MAX, "`runpackd {command} --help` has {lines} lines");
        if !help.contains("\nCommands:\n") {
            assert!(help.contains("\nExit codes: 0 "), "`runpackd {command}` names no exit codes");
            assert!(help.contains("\nExample:\n  runpackd "), "`runpackd {command}` gives no example");
        }
    }
}

#[test]
fn completions_load_and_manual_pages_are_written() {
    let work = tempfile::tempdir().unwrap();
    let bash = work.path().join("runpackd.bash");
    let (code, script) = told(&["generate", "completions", "bash"]);
    assert_eq!(code, 0, "{script}");
    fs::write(&bash, script).unwrap();
    let ask = "source \"$0\"; COMP_WORDS=(runpackd ser); COMP_CWORD=1; _runpackd runpackd ser runpackd; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["--noprofile", "--norc", "-c", ask]).arg(&bash).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "serve\n", "{output:?}");
    let man = work.path().join("man1");
    assert_eq!(told(&["generate", "man", man.to_str().unwrap()]), (0, String::new()));
    let page = fs::read_to_string(man.join("runpackd-serve.1")).unwrap();
    assert!(page.contains(".TH runpackd-serve 1"), "{page}");
}

#[test]
fn wrong_input_is_answered_with_its_place_and_what_to_do() {
    let work = tempfile::tempdir().unwrap();
    let config = work.path().join("decision-gate.toml");
    fs::write(&config, "[server]\nbint = \"127.0.0.1:4000\"\n").unwrap();
    let config = config.to_str().unwrap();
    let local = work.path().join("local.toml");
    let gone = work.path().join("gone");
    let storage = "type = \"object_store\"\nprovider = \"local\"";
    fs::write(&local, format!("[runpack_storage]\n{storage}\nbucket = {gone:?}\nprefix = \"a\"\n")).unwrap();
    let local = local.to_str().unwrap();
    for (args, parts) in [
        (
            vec!["sevre"],
            vec!["unrecognized subcommand 'sevre'", "tip: some similar subcommands exist: 'store', 'serve'"],
        ),
        (
            vec!["config", "validate", "--config", config],
            vec!["server.bint: there is no such key", "hint: `server.bind` looks most like it"],
        ),
        (
            vec!["config", "validate", "--config", local],
            vec!["gone`: there is no such directory", "hint: make it first"],
        ),
        (vec!["config", "show", "no-preset"], vec!["no-preset"]),
    ] {
        let (code, said) = told(&args);
        assert_ne!(code, 0, "{args:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{args:?}: `{part}` is not in:\n{said}");
        }
    }
}
