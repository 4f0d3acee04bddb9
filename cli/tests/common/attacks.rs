//! A pack in which every text is an attack on whoever shows it.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use runpack_core::pack::Pack;
use runpack_storage::packs::DirectoryReader;
use serde_json::Value;

use super::inputs;

/// Every text of a pack, and where it stands.
fn strings(value: &Value, at: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => found.push((at.to_owned(), text.clone())),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| strings(item, &format!("{at}/{index}"), found));
        }
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            strings(member, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
        }),
        _ => {}
    }
}

const FILES: [&str; 8] = [
    "manifest.json",
    "artifacts/scenario_spec.json",
    "artifacts/triggers.json",
    "artifacts/gate_evals.json",
    "artifacts/decisions.json",
    "artifacts/packets.json",
    "artifacts/submissions.json",
    "artifacts/tool_calls.json",
];

/// A pack in which every text that may be any text is an attack, and how many
/// attacks there are. The same text is the same attack everywhere, so records
/// still refer to each other.
pub fn hostile(pack: &Path) -> usize {
    let from = inputs::testdata("packs/good/rich");
    let scratch = tempfile::tempdir().unwrap();
    let mut attacks: BTreeMap<String, usize> = BTreeMap::new();
    fs::create_dir_all(scratch.path().join("artifacts")).unwrap();
    fs::create_dir_all(pack.join("artifacts")).unwrap();
    for file in FILES {
        fs::copy(from.join(file), scratch.path().join(file)).unwrap();
    }
    let readable = || Pack::read(&DirectoryReader::open(scratch.path()).unwrap(), "manifest.json", 1 << 24).is_ok();
    for file in FILES {
        let good: Value = serde_json::from_slice(&fs::read(from.join(file)).unwrap()).unwrap();
        let mut spoilt = good.clone();
        let mut found = Vec::new();
        strings(&good, "", &mut found);
        // Another version would be looked into no further.
        for (at, text) in found.into_iter().filter(|(at, _)| at != "/manifest_version") {
            let next = attacks.len();
            let number = *attacks.get(&text).unwrap_or(&next);
            let mut one = good.clone();
            *one.pointer_mut(&at).unwrap() = attack(number).into();
            fs::write(scratch.path().join(file), one.to_string()).unwrap();
            if readable() {
                attacks.insert(text, number);
                *spoilt.pointer_mut(&at).unwrap() = attack(number).into();
            }
        }
        fs::write(scratch.path().join(file), good.to_string()).unwrap();
        fs::write(pack.join(file), spoilt.to_string()).unwrap();
    }
    attacks.len()
}

fn attack(number: usize) -> String {
    format!("\"'><script>alert({number})</script><img src=x onerror=alert({number})>\u{202e}</bdi></svg></style>&lt;")
}
