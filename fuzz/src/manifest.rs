//! Any manifest in an otherwise honest pack.

use runpack_core::pack::{Checks, Expectations};

use super::edits::{How, Input, spoil};
use super::honest::{MANIFEST, honest};
use super::verdicts::{holds_less_deep, unbound, verified};

/// The first byte chooses a pack; its highest bit says whether the rest is the
/// manifest itself or edits of the honest one.
///
/// A manifest passes exactly if it differs from the honest one in nothing but
/// what `docs/format.md` 6.1 lists.
pub fn manifest(input: &[u8]) {
    let mut input = Input(input);
    let choice = input.byte();
    let honest = honest(choice & 127);
    let mut pack = honest.pack.clone();
    if choice > 127 {
        let how = How { refreshed: false, forged: false, older: choice & 64 != 0 };
        spoil(&mut pack, &mut input, Some(MANIFEST), how);
    } else {
        pack.0.insert(MANIFEST.to_owned(), input.0.to_vec());
    }

    let report = verified(&pack, Checks::Replay, Expectations::default());
    let passed = report.verdict.passed();
    let text = &pack.0[MANIFEST];
    let shown = String::from_utf8_lossy(text);
    assert_eq!(passed, unbound(honest, text), "{:?}, {:?}: {shown}", report.verdict, report.findings);
    if passed {
        holds_less_deep(&pack);
    } else {
        assert_eq!(verified(&pack, Checks::Replay, Expectations::default()), report, "{shown}");
    }
}
