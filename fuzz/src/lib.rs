//! What is fuzzed: plain functions from bytes, which panic where a promise of
//! `docs/format.md` is broken. The fuzzer calls them with what it makes up,
//! and `crates/core/tests/corpus.rs` with what is kept in `testdata/fuzz`.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a panic is how a target says no")]

mod canonical;
#[allow(dead_code, reason = "tests of core use the rest")]
#[path = "../../crates/core/tests/common/mod.rs"]
mod common;
mod edits;
mod honest;
mod manifest;
mod pack;
mod reader;
mod verdicts;

pub use canonical::canonical;
pub use manifest::manifest;
pub use pack::pack;
pub use reader::reader;

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
#[allow(dead_code, reason = "only the test walks through them")]
pub const TARGETS: [Target; 4] = [("reader", reader), ("canonical", canonical), ("manifest", manifest), ("pack", pack)];
