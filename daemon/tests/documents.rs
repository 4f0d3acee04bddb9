//! Every command in the README and in the documents is run, and says what the
//! document says it says.
//!
//! A `sh` block is run as it stands, in a directory where the demo has been, and
//! a document's blocks one after the other as in one terminal: directory and
//! variables stay. Each line of a `text` block after it must be in what was
//! printed. Lines that call cargo or set the path are CI's own steps.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn every_block_of_every_document_runs() {
    let mut documents = vec![inputs::root().join("README.md")];
    markdown(&inputs::root().join("docs"), &mut documents);
    let mut ran = 0;
    for document in documents {
        ran += play(&document);
    }
    assert!(ran >= 5, "{ran} blocks");
}

fn markdown(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            markdown(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// Runs one document and answers how many blocks it had.
fn play(document: &Path) -> usize {
    let text = fs::read_to_string(document).unwrap();
    let blocks = blocks(&text);
    if !blocks.iter().any(|(language, _)| *language == "sh") {
        return 0;
    }
    let (work, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let terminal = kept.path().join("terminal");
    shell(work.path(), &terminal, "runpackd demo");
    let (mut printed, mut ran) = (String::new(), 0);
    for (language, block) in blocks {
        match language {
            "sh" => {
                let own = |line: &&str| !line.starts_with("cargo ") && !line.starts_with("export PATH");
                let script: Vec<_> = block.lines().filter(own).collect();
                printed = shell(work.path(), &terminal, &script.join("\n"));
                ran += 1;
            }
            "text" => {
                for line in block.lines() {
                    assert!(printed.contains(line), "{}: not printed: {line}\nprinted:\n{printed}", document.display());
                }
            }
            _ => {}
        }
    }
    ran
}

/// Fenced blocks that start at the margin, with their languages.
fn blocks(text: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some((info.split(' ').next().unwrap(), String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

/// What a script prints. Commands may answer no; they may not be unknown.
///
/// Begins where the script before it ended, by what that left in `terminal`.
fn shell(dir: &Path, terminal: &Path, script: &str) -> String {
    let binaries = Path::new(env!("CARGO_BIN_EXE_runpackd")).parent().unwrap();
    assert!(binaries.join("runpack").exists(), "runpack is not built beside runpackd: test the whole workspace");
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let terminal = terminal.display();
    let whole = format!(
        "trap '{{ export -p; echo \"cd $PWD\"; }} > {terminal}' EXIT\nif [ -e {terminal} ]; then . {terminal}; fi\n{script}"
    );
    let output = Command::new("sh").args(["-u", "-c", &whole]).env("PATH", path).current_dir(dir).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!matches!(output.status.code(), None | Some(126 | 127)), "{script}\n{text}");
    assert!(!text.contains("Usage: "), "{script}\n{text}");
    let unknown = text.lines().find(|line| line.starts_with("sh: ") && line.ends_with(": not found"));
    assert_eq!(unknown, None, "{script}\n{text}");
    text
}
