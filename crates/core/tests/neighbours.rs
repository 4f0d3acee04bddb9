//! An older pack may hold integers that RFC 8785 writes as their neighbour's.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test reads its own data")]

#[path = "../../../testdata/inputs.rs"]
mod inputs;
#[path = "common/memory.rs"]
mod memory;

use std::fs;

use memory::Memory;
use runpack_core::canon::{Digest, to_vec};
use runpack_core::pack::layout::ARTIFACTS;
use runpack_core::pack::{Verdict, VerifyOptions, verify};
use serde_json::{Value, json};

const TRIGGERS: &str = "artifacts/triggers.json";
const CALLS: &str = "artifacts/tool_calls.json";

fn verdict(pack: &Memory) -> Verdict {
    verify(pack, "manifest.json", &VerifyOptions::default()).verdict
}

/// The payload of a trigger is bound by the request digest of its call.
#[test]
fn a_neighbour_is_another_number() {
    let stored = |path: &str| (path.to_owned(), fs::read(inputs::testdata("packs/good/rich").join(path)).unwrap());
    let paths = ARTIFACTS.iter().map(|artifact| artifact.path).chain(["manifest.json"]);
    let pack = Memory(paths.map(stored).collect());
    let mut triggers: Value = serde_json::from_slice(&pack.0[TRIGGERS]).unwrap();
    triggers[2]["event"]["payload"]["value"]["build"] = json!(9_007_199_254_740_992_u64);
    let mut calls: Value = serde_json::from_slice(&pack.0[CALLS]).unwrap();
    calls[7]["request_hash"] = json!(Digest::of_canonical(&triggers[2]["event"]).unwrap());
    let honest = pack.forged(TRIGGERS, to_vec(&triggers).unwrap()).forged(CALLS, to_vec(&calls).unwrap());
    assert_eq!(verdict(&honest), Verdict::Consistent);

    let text = String::from_utf8(honest.0[TRIGGERS].clone()).unwrap();
    for neighbour in ["9007199254740991", "9007199254740993", "9007199254740994"] {
        let lie = text.replace("9007199254740992", neighbour);
        assert_eq!(verdict(&honest.forged(TRIGGERS, lie.into_bytes())), Verdict::Refused, "{neighbour}");
    }
}
