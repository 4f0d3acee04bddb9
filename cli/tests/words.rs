//! What the command says of itself and of wrong input, to people and to shells.
//!
//! `docs/cli.md` is written from the help; with `RUNPACK_BLESS=1` again.

#![cfg(all(feature = "s3", feature = "azure", feature = "gcs", feature = "https", feature = "store"))]
#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::fs;
use std::process::Command;

use common::{copy_pack, text, told};

/// Lines of a help text, at most: a screen, and a little to scroll for verify.
const LINES_MAX: usize = 50;

/// Every command with its help, the nested ones after the one they are in.
fn commands(above: &[String], found: &mut Vec<(Vec<String>, String)>) {
    let (code, help, err) = told(above.iter().map(String::as_str).chain(["--help"]));
    assert_eq!((code, err.as_str()), (0, ""), "{above:?}");
    let names: Vec<String> = help
        .split_once("\nCommands:\n")
        .map(|(_, list)| list.lines().take_while(|line| line.starts_with("  ")))
        .into_iter()
        .flatten()
        // A line further in goes on with what is said of the command above it.
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect();
    found.push((above.to_vec(), help));
    for name in names {
        commands(&[above, &[name]].concat(), found);
    }
}

#[test]
fn the_help_of_every_command_fits_a_screen_with_an_example_and_its_exit_codes() {
    let mut found = Vec::new();
    commands(&[], &mut found);
    for hidden in [vec!["generate"], vec!["generate", "completions"], vec!["generate", "man"]] {
        let hidden: Vec<_> = hidden.into_iter().map(str::to_owned).collect();
        let help = told(hidden.iter().map(String::as_str).chain(["--help"])).1;
        found.push((hidden, help));
    }
    assert!(found.len() >= 20, "{}", found.len());
    let mut page = String::from(
        "# The command `runpack`\n\nWhat `--help` says, command by command. Exit codes are the same everywhere: 0 yes, 1 no, 2 could not tell or could not do.\n",
    );
    for (command, help) in &found {
        let name = ["runpack"].into_iter().chain(command.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
        let lines = help.lines().count();
        assert!(lines <= LINES_MAX, "`{name} --help` has {lines} lines");
        let long = help.lines().find(|line| line.chars().count() > 200);
        assert_eq!(long, None, "`{name} --help`");
        if help.contains("\nCommands:\n") {
            assert!(help.contains("Usage: "), "`{name}`");
        } else {
            assert!(help.contains("\nExit codes: 0 "), "`{name}` names no exit codes");
            assert!(help.contains("\nExample:\n  runpack "), "`{name}` gives no example");
        }
        page.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", help.trim_end()));
    }
    let file = inputs::root().join("docs/cli.md");
    if std::env::var_os("RUNPACK_BLESS").is_some() {
        fs::write(&file, &page).unwrap();
    }
    assert_eq!(fs::read_to_string(file).unwrap(), page, "run `just bless` and read the difference");
}

#[test]
fn wrong_input_is_answered_with_its_place_and_what_to_do() {
    let work = tempfile::tempdir().unwrap();
    let pack = work.path().join("pack");
    copy_pack(&pack);
    fs::write(work.path().join("bad.json"), "{\"a\": 1,\n \"b\": }").unwrap();
    let scenario = fs::read_to_string(inputs::root().join("daemon/demo/scenario.json")).unwrap();
    fs::write(work.path().join("odd.json"), scenario.replacen('{', "{\"speck\": 1,", 1)).unwrap();
    fs::write(work.path().join("lock"), "12  pack\n").unwrap();
    // What is said, and the code; the place and the next step are both in it.
    for (args, code, said) in [
        // A mistyped command, option, value.
        ("verfiy pack", 2, vec!["unrecognized subcommand 'verfiy'", "tip: a similar subcommand exists: 'verify'"]),
        ("verify pack --chekcs all", 2, vec!["'--chekcs'", "tip: a similar argument exists: '--checks'"]),
        ("verify pack --checks al", 2, vec!["'al' for '--checks <CHECKS>'", "possible values: digests, all, replay"]),
        (
            "verify pack --expect-digest 12",
            2,
            vec!["'12' for '--expect-digest <SHA256>'", "64 lower-case hexadecimal digits"],
        ),
        ("verify pack --max-artifact-bytes 1q", 2, vec!["'1q'", "write a number, or one with KiB, MiB or GiB"]),
        (
            "build --scenario a --state b --out c --generated-at soon",
            2,
            vec!["`soon` is not a time", "hint: write `logical:1`"],
        ),
        ("explain RP9", 2, vec!["no finding `RP9`", "hint: `runpack explain` lists them"]),
        // Nothing where something should be.
        ("verify", 2, vec!["there is no pack to verify", "hint: name one"]),
        ("report", 2, vec!["there is no pack to report on", "hint: name one"]),
        ("verify gone", 2, vec!["`gone` not found", "hint: a path is taken from the working directory"]),
        ("show gone", 2, vec!["`gone` not found", "hint: a path is taken from the working directory"]),
        ("report gone", 2, vec!["`gone` not found", "hint: a path is taken from the working directory"]),
        ("verify --from-file gone", 2, vec!["cannot read `gone`", "hint: a path is taken from the working directory"]),
        ("authoring validate gone.json", 2, vec!["cannot read `gone.json`", "hint: a path is taken"]),
        ("verify --recursive gone", 2, vec!["`gone`", "hint: a path is taken from the working directory"]),
        // Something else than was asked for.
        ("authoring validate pack", 2, vec!["cannot read `pack`", "hint: name a file in it"]),
        ("verify bad.json/x", 2, vec!["`bad.json/x` is not a directory"]),
        ("verify ftp://x/y", 2, vec!["`ftp://x/y` is a URL of a kind", "hint: file://, https://"]),
        ("verify --recursive https://x/y", 2, vec!["nothing is below it", "hint: name it alone"]),
        // JSON that is none, with line and column; members nobody knows; lines.
        ("authoring validate bad.json", 1, vec!["bad.json: not valid: not JSON: expected value at line 2 column 7"]),
        ("authoring validate odd.json", 1, vec!["odd.json: not valid", "unknown member `/speck`"]),
        ("replay pack --scenario bad.json", 2, vec!["`bad.json`: not JSON: expected value at line 2 column 7"]),
        (
            "verify pack --expect-anchor-policy bad.json",
            2,
            vec!["`bad.json`: not JSON: expected value at line 2 column 7"],
        ),
        ("verify pack --expect-file lock", 2, vec!["`lock`: line 1: a sha256 digest is 64"]),
        ("verify pack --store-option shape=round", 2, vec!["shape"]),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_runpack"))
            .args(args.split(' '))
            .current_dir(work.path())
            .output()
            .unwrap();
        let told = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "runpack {args}: {told}");
        for part in said {
            assert!(told.contains(part), "runpack {args}: `{part}` is not in:\n{told}");
        }
    }
}

#[test]
fn completions_load_and_manual_pages_are_read() {
    let work = tempfile::tempdir().unwrap();
    let bash = work.path().join("runpack.bash");
    let (code, script, err) = told(["generate", "completions", "bash"]);
    assert_eq!((code, err.as_str()), (0, ""));
    fs::write(&bash, script).unwrap();
    // As a shell would ask: the words so far, and which of them is being typed.
    let ask = format!(
        "source {}; COMP_WORDS=(runpack ver); COMP_CWORD=1; _runpack runpack ver runpack; echo \"${{COMPREPLY[@]}}\"; \
         COMP_WORDS=(runpack report --max-d); COMP_CWORD=2; _runpack runpack --max-d report; echo \"${{COMPREPLY[@]}}\"",
        text(&bash)
    );
    let output = Command::new("bash").args(["--noprofile", "--norc", "-c", &ask]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "verify\n--max-details\n", "{output:?}");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let (code, script, _) = told(["generate", "completions", shell]);
        assert!(code == 0 && script.contains("max-details"), "{shell}");
    }
    let man = work.path().join("man1");
    assert_eq!(told(["generate", "man", text(&man)]).0, 0);
    let names: Vec<_> =
        fs::read_dir(&man).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for name in ["runpack.1", "runpack-verify.1", "runpack-report.1", "runpack-authoring-validate.1"] {
        assert!(names.iter().any(|known| known == name), "{name} is not in {names:?}");
    }
    let page = fs::read_to_string(man.join("runpack-verify.1")).unwrap();
    assert!(page.contains(".TH runpack-verify 1") && page.contains("Exit codes: 0 all do"), "{page}");
}
