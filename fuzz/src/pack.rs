//! A whole pack, spoilt anywhere, at every depth.

use runpack_core::canon::Digest;
use runpack_core::engine::{Scenario, Settings};
use runpack_core::pack::layout::ARTIFACT_BYTES_MAX;
use runpack_core::pack::{Checks, Expectations, Pack, Verdict, VerifyOptions, diff, verify_spread, what_if};

use super::common::memory::Memory;
use super::edits::{How, Input, spoil};
use super::honest::{Honest, MANIFEST, honest};
use super::verdicts::{Pieces, covered, holds_less_deep, unbound, verified};

/// The first byte chooses a pack, the second how it is spoilt; the rest are edits.
///
/// The report is the same however the bytes come in, and in whatever order
/// files are hashed. What passes with replay passes at every depth; without a
/// forged manifest nothing passes but the honest pack, and with one nothing
/// that the digests of its calls do not cover. An expected digest lets nothing
/// but the honest pack pass.
pub fn pack(input: &[u8]) {
    let mut input = Input(input);
    let honest = honest(input.byte());
    let bits = input.byte();
    let how = How { forged: bits & 1 != 0, refreshed: bits & 2 != 0, older: bits & 4 != 0 };
    let mut pack = honest.pack.clone();
    spoil(&mut pack, &mut input, None, how);

    let report = verified(&pack, Checks::Replay, Expectations::default());
    let pieces = Pieces { pack: &pack, bytes: 61 + 97 * usize::from(bits >> 4) };
    let again = verified(&pieces, Checks::Replay, Expectations::default());
    assert_eq!(again, report, "{} bytes at a time", pieces.bytes);
    if report.verdict.passed() {
        holds_less_deep(&pack);
        if how.forged {
            covered(honest, &pack);
        } else {
            let artifacts = |(path, _): &(&String, &Vec<u8>)| *path != MANIFEST;
            assert!(pack.0.iter().filter(artifacts).eq(honest.pack.0.iter().filter(artifacts)));
            assert!(unbound(honest, &pack.0[MANIFEST]));
        }
    } else if bits & 8 != 0 {
        let shallow = verified(&pack, Checks::All, Expectations::default());
        assert!(shallow.verdict != Verdict::Refused || report.verdict == Verdict::Refused, "{:?}", shallow.findings);
    }

    let digest = Some(Digest::of(&honest.pack.0[MANIFEST]));
    let expect = Expectations { digest, ..Expectations::default() };
    let options = VerifyOptions { checks: Checks::Digests, expect: expect.clone(), ..VerifyOptions::default() };
    let pinned = verified(&pack, Checks::Digests, expect);
    assert_eq!(pinned.verdict.passed(), pack.0 == honest.pack.0, "{:?}", pinned.findings);
    assert_eq!(verify_spread(&pieces, MANIFEST, &options, &backwards), pinned);
    if bits & 8 != 0 {
        show(honest, &pack);
    }
}

/// Hashes the last file first.
fn backwards(count: usize, work: &(dyn Fn(usize) + Sync)) {
    (0..count).rev().for_each(work);
}

/// What an auditor may do with a pack besides verifying it, honest or not.
fn show(honest: &Honest, pack: &Memory) {
    let Ok(told) = Pack::read(pack, MANIFEST, ARTIFACT_BYTES_MAX) else { return };
    assert_eq!(diff(&told, &told), []);
    let (forth, back) = (diff(&honest.read, &told), diff(&told, &honest.read));
    assert_eq!(forth.is_empty(), back.is_empty(), "{forth:?}, {back:?}");
    what_if(&told, &honest.scenario, &Settings::default());
    if let Ok(scenario) = Scenario::recorded(told.scenario.clone()) {
        what_if(&honest.read, &scenario, &Settings::default());
        what_if(&told, &scenario, &Settings::default());
    }
}
