//! Honest packs, which the targets spoil.

use std::sync::OnceLock;

use runpack_core::engine::Scenario;
use runpack_core::pack::layout::ARTIFACT_BYTES_MAX;
use runpack_core::pack::{Pack, Verdict, VerifyOptions, build, verify};

use super::common::memory::Memory;
use super::common::runs::case;

/// An honest pack and what is in it.
pub(crate) struct Honest {
    pub(crate) pack: Memory,
    pub(crate) read: Pack,
    pub(crate) scenario: Scenario,
    /// Whether it is any run's, as far as its records say (`docs/format.md` 6.1).
    pub(crate) anybodys: bool,
}

pub(crate) const MANIFEST: &str = "manifest.json";

/// Runs by chance, each for what it has: nothing but its beginning; a start
/// with packets, and nothing more; decisions that only Bochvar's logic gives; a
/// refused disclosure and calls that repeat it; a stage that timed out;
/// asserted evidence that counts, beside a stricter provider; an end, by the
/// calendar; thirty calls.
const SEEDS: [u64; 8] = [7, 9, 71, 126, 193, 324, 16, 10];

/// The pack that an input's first byte chooses.
pub(crate) fn honest(choice: u8) -> &'static Honest {
    static PACKS: OnceLock<Vec<Honest>> = OnceLock::new();
    let packs = PACKS.get_or_init(|| {
        let stored = [release_gate(), rich()].into_iter();
        stored.chain(SEEDS.iter().map(|seed| by_chance(*seed))).map(Honest::of).collect()
    });
    &packs[usize::from(choice) % packs.len()]
}

impl Honest {
    fn of(pack: Memory) -> Self {
        let report = verify(&pack, MANIFEST, &VerifyOptions::default());
        assert_eq!(report.verdict, Verdict::Consistent, "{:?}", report.findings);
        let read = Pack::read(&pack, MANIFEST, ARTIFACT_BYTES_MAX).unwrap();
        let scenario = Scenario::recorded(read.scenario.clone()).unwrap();
        let brought = read.tool_calls.iter().any(|call| call.error.is_none());
        let anybodys = read.triggers.is_empty() && read.submissions.is_empty() && !brought;
        Self { pack, read, scenario, anybodys }
    }
}

macro_rules! stored {
    ($name:literal) => {
        Memory(
            [
                stored!($name, "manifest.json"),
                stored!($name, "artifacts/scenario_spec.json"),
                stored!($name, "artifacts/triggers.json"),
                stored!($name, "artifacts/gate_evals.json"),
                stored!($name, "artifacts/decisions.json"),
                stored!($name, "artifacts/packets.json"),
                stored!($name, "artifacts/submissions.json"),
                stored!($name, "artifacts/tool_calls.json"),
                stored!($name, "artifacts/verifier_report.json"),
            ]
            .into(),
        )
    };
    ($name:literal, $path:literal) => {
        ($path.to_owned(), include_bytes!(concat!("../../testdata/packs/good/", $name, "/", $path)).to_vec())
    };
}

fn release_gate() -> Memory {
    stored!("release-gate")
}

fn rich() -> Memory {
    stored!("rich")
}

/// The pack of a run by chance. Should the chance of a seed change, the next
/// that gives a run is taken.
fn by_chance(seed: u64) -> Memory {
    let case = (seed..).find_map(case).unwrap();
    let mut pack = Memory::default();
    build(&mut pack, &case.scenario, &case.state, &case.options).unwrap().finish(&mut pack, MANIFEST, None).unwrap();
    pack
}
