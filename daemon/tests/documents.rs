//! Every command in the README and in the documents is run, and says what the
//! document says it says.
//!
//! A `sh` block is run as it stands, in a directory where the demo has been, and
//! a document's blocks one after the other as in one terminal: directory and
//! variables stay. Each line of a `text` block after it must be in what was
//! printed. Lines that call cargo or set the path are CI's own steps.
//!
//! Words after `sh` are programs that the block needs; where one is missing the
//! document is left there, and a line says so. Blocks that need a bucket are
//! marked `sh bucket` and run where a server is, in `cli/tests/buckets.rs`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

#[path = "../../testdata/inputs.rs"]
mod inputs;
#[path = "../../testdata/pages.rs"]
mod pages;

use std::path::Path;

use pages::Terminal;

#[test]
fn every_block_of_every_document_runs() {
    let ran: usize = pages::pages().iter().map(|page| play(page)).sum();
    // Those that need nothing but our own programs.
    assert!(ran >= 45, "{ran} blocks");
}

/// Runs one document and answers how many blocks it had.
fn play(page: &Path) -> usize {
    let blocks = pages::blocks(page);
    if !blocks.iter().any(|block| block.language == "sh") {
        return 0;
    }
    let binaries = Path::new(env!("CARGO_BIN_EXE_runpackd")).parent().unwrap();
    assert!(binaries.join("runpack").exists(), "runpack is not built beside runpackd: test the whole workspace");
    let work = tempfile::tempdir().unwrap();
    let terminal = Terminal::new(work.path(), &[binaries]);
    terminal.told("runpackd demo");
    let (mut printed, mut ran) = (None::<String>, 0);
    for block in blocks {
        match block.language.as_str() {
            "sh" if block.words.iter().any(|word| word == "bucket") => printed = None,
            "sh" => {
                if let Some(missing) = block.words.iter().find(|program| !terminal.knows(program)) {
                    let required = std::env::var("RUNPACK_REQUIRE").unwrap_or_default();
                    let required = required.split(',').any(|name| missing.starts_with(name) && !name.is_empty());
                    assert!(!required, "{missing} is required and absent");
                    inputs::absent(&format!("{missing} is not there; the rest of {}", page.display()));
                    return ran;
                }
                let own = |line: &&str| !line.starts_with("cargo ") && !line.starts_with("export PATH");
                let script: Vec<_> = block.text.lines().filter(own).collect();
                printed = Some(terminal.told(&script.join("\n")));
                ran += 1;
            }
            "text" => {
                if let Some(printed) = &printed {
                    pages::printed(page, &block, printed);
                }
            }
            _ => {}
        }
    }
    ran
}
