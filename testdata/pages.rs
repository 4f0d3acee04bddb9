//! The documents as tests read them: the pages, their fenced blocks, the files
//! that their commands write, and a terminal in which the commands are typed.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The README and everything below `docs`, by path.
pub fn pages() -> Vec<PathBuf> {
    let mut found = vec![crate::inputs::root().join("README.md")];
    below(&crate::inputs::root().join("docs"), &mut found);
    found
}

fn below(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// A fenced block.
pub struct Block {
    /// Between the backticks and the first space.
    pub language: String,
    /// After it.
    pub words: Vec<String>,
    /// What stands in it.
    pub text: String,
}

/// The fenced blocks that start at the margin.
pub fn blocks(page: &Path) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for line in fs::read_to_string(page).unwrap().lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => {
                let mut words = info.split(' ').map(str::to_owned);
                let language = words.next().unwrap();
                open = Some(Block { language, words: words.collect(), text: String::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a block does not end", page.display());
    found
}

/// The files that the commands of a page write, each `cat > NAME <<'END'`.
pub fn written(page: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for block in blocks(page).iter().filter(|block| block.language == "sh") {
        let mut lines = block.text.lines();
        while let Some(line) = lines.next() {
            if let Some(name) = line.strip_prefix("cat > ").and_then(|rest| rest.strip_suffix(" <<'END'")) {
                let text = lines.by_ref().take_while(|line| *line != "END").map(|line| format!("{line}\n"));
                found.push((name.to_owned(), text.collect()));
            }
        }
    }
    found
}

/// A terminal: what is typed later finds the directory and the variables that
/// what was typed before has left.
pub struct Terminal {
    work: PathBuf,
    kept: tempfile::TempDir,
    path: OsString,
}

impl Terminal {
    /// In `work`, with these directories before those where commands are found.
    pub fn new(work: &Path, before: &[&Path]) -> Self {
        let usual = std::env::var_os("PATH").unwrap();
        let path = before.iter().map(|dir| dir.to_path_buf()).chain(std::env::split_paths(&usual));
        let path = std::env::join_paths(path).unwrap();
        Self { work: work.to_owned(), kept: tempfile::tempdir().unwrap(), path }
    }

    /// Whether there is such a command.
    pub fn knows(&self, command: &str) -> bool {
        self.sh(&format!("command -v {command}")).0 == Some(0)
    }

    /// What a script prints. Commands may answer no; they may not be unknown, or
    /// called wrongly.
    pub fn told(&self, script: &str) -> String {
        let kept = self.kept.path().join("left");
        let kept = kept.display();
        let (code, text) = self.sh(&format!(
            "trap '{{ export -p; echo \"cd $PWD\"; }} > {kept}' EXIT\nif [ -e {kept} ]; then . {kept}; fi\n{script}"
        ));
        assert!(!matches!(code, None | Some(126 | 127)), "{script}\n{text}");
        assert!(!text.contains("Usage: "), "{script}\n{text}");
        let unknown = text.lines().find(|line| line.starts_with("sh: ") && line.ends_with("not found"));
        assert_eq!(unknown, None, "{script}\n{text}");
        text
    }

    fn sh(&self, script: &str) -> (Option<i32>, String) {
        let mut command = Command::new("sh");
        let output =
            command.args(["-u", "-c", script]).env("PATH", &self.path).current_dir(&self.work).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    }
}

/// Asserts that a `text` block says only what was printed.
#[track_caller]
pub fn printed(page: &Path, text: &Block, printed: &str) {
    for line in text.text.lines() {
        assert!(printed.contains(line), "{}: not printed: {line}\nprinted:\n{printed}", page.display());
    }
}
