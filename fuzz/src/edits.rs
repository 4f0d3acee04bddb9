//! Inputs as changes of a pack: what a forger would do, in few bytes.

use runpack_core::canon::{Digest, check, to_vec};
use runpack_core::pack::layout::ARTIFACTS;
use runpack_core::pack::{ArtifactRecord, FileHash, Integrity, Manifest};
use runpack_core::read::{self, escape};
use serde_json::{Value, json};

use super::canonical::older;
use super::common::lies::WORDS;
use super::common::memory::Memory;
use super::honest::MANIFEST;

/// Changes of one pack.
const EDITS_MAX: usize = 16;

/// Bytes of one file beyond which it is left as it is: an edit can double it.
const FILE_BYTES_MAX: usize = 128 * 1024;

/// What is left of an input. Beyond its end stand zeros, so that every input
/// says something.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    /// Up to 63 bytes.
    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte() & 63).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    /// A JSON value, or the text itself.
    fn value(&mut self) -> Value {
        let bytes = self.bytes();
        serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into())
    }
}

/// How a pack is spoilt, besides its edits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    /// Digests of values inside records are computed again.
    pub(crate) refreshed: bool,
    /// The manifest's digests are computed again.
    pub(crate) forged: bool,
    /// Documents that change are written in the older form.
    pub(crate) older: bool,
}

/// Changes what the input says, one edit after the other. `only` is the one
/// file that may change, or all.
pub(crate) fn spoil(pack: &mut Memory, input: &mut Input<'_>, only: Option<&str>, how: How) {
    for _ in 0..EDITS_MAX {
        if input.0.is_empty() {
            break;
        }
        edit(pack, input, only, how);
    }
    if how.refreshed {
        refresh(pack, how);
    }
    if how.forged {
        forge(pack);
    }
}

fn edit(pack: &mut Memory, input: &mut Input<'_>, only: Option<&str>, how: How) {
    let what = input.byte();
    let Some(path) = file(pack, input, only) else { return };
    if pack.0[&path].len() > FILE_BYTES_MAX {
        return;
    }
    match what % 16 {
        0 => {
            let (at, cut) = (input.number(), input.number());
            let bytes = input.bytes();
            splice(pack.0.get_mut(&path).unwrap(), at, cut, bytes);
        }
        1 => {
            let (at, cut, from, length) = (input.number(), input.number(), input.number(), input.number());
            let source = file(pack, input, None).map(|path| pack.0[&path].clone()).unwrap_or_default();
            let from = from % (source.len() + 1);
            let length = length.min(source.len() - from);
            splice(pack.0.get_mut(&path).unwrap(), at, cut, &source[from..from + length]);
        }
        2 => {
            let bytes = pack.0.get_mut(&path).unwrap();
            let at = input.number() % (bytes.len() + 1);
            bytes.truncate(at);
        }
        3 if only.is_none() => drop(pack.0.remove(&path)),
        4 if only.is_none() => {
            let names = [ARTIFACTS[7].path, MANIFEST, "artifacts/evidence_log.json", "notes.txt", "artifacts/../x", ""];
            let name = names[usize::from(input.byte()) % names.len()];
            pack.0.insert(name.to_owned(), input.bytes().to_vec());
        }
        5 if only.is_none() => cut(pack, input),
        what => {
            let donor = pack.0.get(&file(pack, input, None).unwrap_or_default()).cloned().unwrap_or_default();
            let Ok(mut tree) = serde_json::from_slice(&pack.0[&path]) else { return };
            if change(what, &mut tree, &donor, input).is_some() {
                pack.0.insert(path, written(&tree, how));
            }
        }
    }
}

fn file(pack: &Memory, input: &mut Input<'_>, only: Option<&str>) -> Option<String> {
    let choice = usize::from(input.byte());
    match only {
        Some(path) => Some(path.to_owned()),
        None if pack.0.is_empty() => None,
        None => pack.0.keys().nth(choice % pack.0.len()).cloned(),
    }
}

fn splice(bytes: &mut Vec<u8>, at: usize, cut: usize, new: &[u8]) {
    let at = at % (bytes.len() + 1);
    let end = at.saturating_add(cut).min(bytes.len());
    bytes.splice(at..end, new.iter().copied());
}

fn written(tree: &Value, how: How) -> Vec<u8> {
    if !how.older {
        return to_vec(tree).unwrap();
    }
    let mut bytes = Vec::new();
    older(tree, &mut bytes);
    bytes
}

/// One change of a document; `None` if there is nothing to change.
fn change(what: u8, tree: &mut Value, donor: &[u8], input: &mut Input<'_>) -> Option<()> {
    let at = place(tree, input.number());
    match what {
        6 => *tree.pointer_mut(&at)? = input.value(),
        7 => {
            let (above, last) = at.rsplit_once('/')?;
            match tree.pointer_mut(above)? {
                Value::Array(items) => drop(items.remove(last.parse().ok()?)),
                Value::Object(members) => drop(members.remove(&unescape(last))),
                _ => return None,
            }
        }
        8 => {
            let copy = tree.pointer(&at)?.clone();
            let (above, last) = at.rsplit_once('/')?;
            match tree.pointer_mut(above)? {
                Value::Array(items) => items.insert(last.parse().ok()?, copy),
                Value::Object(members) => drop(members.insert(String::from_utf8_lossy(input.bytes()).into(), copy)),
                _ => return None,
            }
        }
        9 => {
            let other = place(tree, input.number());
            let (left, right) = (tree.pointer(&at)?.clone(), tree.pointer(&other)?.clone());
            *tree.pointer_mut(&at)? = right;
            *tree.pointer_mut(&other)? = left;
        }
        10 => {
            let donor: Value = serde_json::from_slice(donor).ok()?;
            *tree.pointer_mut(&at)? = donor.pointer(&place(&donor, input.number()))?.clone();
        }
        11 => {
            let (above, last) = at.rsplit_once('/')?;
            let items = tree.pointer_mut(above)?.as_array_mut()?;
            let item = items.remove(last.parse().ok()?);
            items.insert(usize::from(input.byte()) % (items.len() + 1), item);
        }
        // Most places are in free text; this finds those where words matter.
        12 => {
            let wanted = usize::from(input.byte()) % WORDS.len();
            let group = WORDS[wanted];
            let mut places = Vec::new();
            pointers(tree, &mut String::new(), &mut |at, value| {
                if value.as_str().is_some_and(|text| group.contains(&text)) {
                    places.push(at.to_owned());
                }
            });
            let at = places.get(input.number().checked_rem(places.len())?)?;
            *tree.pointer_mut(at)? = json!(group[usize::from(input.byte()) % group.len()]);
        }
        13 => {
            let copy = tree.pointer(&at)?.clone();
            *tree.pointer_mut(&at)? = (0..input.byte() % 64).fold(copy, |inner, _| Value::Array(vec![inner]));
        }
        _ => nudge(tree.pointer_mut(&at)?, i64::from(input.byte() as i8))?,
    }
    Some(())
}

/// A little more or less.
fn nudge(value: &mut Value, by: i64) -> Option<()> {
    *value = match value {
        Value::Null => json!({}),
        Value::Bool(flag) => json!(!*flag),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(natural), ..) => natural.checked_add_signed(by).map_or(json!(-by), Into::into),
            (_, Some(integer), _) => integer.checked_add(by)?.into(),
            (.., double) => json!(double? * by as f64),
        },
        Value::String(text) => match WORDS.iter().find(|words| words.contains(&text.as_str())) {
            Some(words) => json!(words[by.unsigned_abs() as usize % words.len()]),
            None => {
                let stem = text.trim_end_matches(|digit: char| digit.is_ascii_digit());
                let count: i64 = text[stem.len()..].parse().unwrap_or_default();
                json!(format!("{stem}{}", count.wrapping_add(by)))
            }
        },
        Value::Array(_) => json!([]),
        Value::Object(_) => Value::Null,
    };
    Some(())
}

/// The pointer of the place with that number, the root being the first.
fn place(tree: &Value, number: usize) -> String {
    let mut found = Vec::new();
    pointers(tree, &mut String::new(), &mut |at, _| found.push(at.to_owned()));
    found.swap_remove(number % found.len())
}

fn pointers(value: &Value, at: &mut String, tell: &mut impl FnMut(&str, &Value)) {
    tell(at, value);
    let length = at.len();
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                at.push_str(&format!("/{index}"));
                pointers(item, at, tell);
                at.truncate(length);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                at.push_str(&format!("/{}", escape(name)));
                pointers(member, at, tell);
                at.truncate(length);
            }
        }
        _ => {}
    }
}

fn unescape(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

/// Cuts the logs off, as if the run had been exported earlier.
fn cut(pack: &mut Memory, input: &mut Input<'_>) {
    for artifact in &ARTIFACTS[1..7] {
        let kept = usize::from(input.byte());
        let Some(bytes) = pack.0.get_mut(artifact.path) else { continue };
        let Ok(Value::Array(mut records)) = serde_json::from_slice(bytes) else { continue };
        if kept < records.len() {
            records.truncate(kept);
            *bytes = to_vec(&records).unwrap();
        }
    }
}

/// Computes again what records say of the values in them. Digests of calls stay.
fn refresh(pack: &mut Memory, how: How) {
    for path in ["artifacts/gate_evals.json", "artifacts/packets.json", "artifacts/submissions.json"] {
        let Some(bytes) = pack.0.get_mut(path) else { continue };
        let Ok(Value::Array(mut records)) = serde_json::from_slice(bytes) else { continue };
        for record in &mut records {
            let evidence = record.get_mut("evidence").and_then(Value::as_array_mut);
            for entry in evidence.into_iter().flatten() {
                if let Some(digest) = digest(&entry["result"]["value"]) {
                    put(&mut entry["result"], "evidence_hash", &digest);
                }
            }
            let Some(digest) = digest(&record["payload"]) else { continue };
            put(record, "content_hash", &digest);
            if let Some(envelope) = record.get_mut("envelope") {
                put(envelope, "content_hash", &digest);
                let digest = json!(Digest::of_canonical(envelope).unwrap());
                let receipts = record.get_mut("receipts").and_then(Value::as_array_mut);
                receipts.into_iter().flatten().for_each(|receipt| put(receipt, "receipt_hash", &digest));
            }
        }
        let again = written(&Value::Array(records), how);
        if check(bytes).is_ok() {
            *bytes = again;
        }
    }
}

/// Only in the place of what is there.
fn put(record: &mut Value, member: &str, digest: &Value) {
    if let Some(old) = record.get_mut(member) {
        old.clone_from(digest);
    }
}

fn digest(value: &Value) -> Option<Value> {
    let digest = match value.get("kind")?.as_str()? {
        "json" => Digest::of_canonical(value.get("value")?).unwrap(),
        "external" => return value.get("content_ref")?.get("content_hash").cloned(),
        _ => {
            let bytes = value.get("bytes").or(value.get("value"))?.as_array()?;
            let bytes: Option<Vec<u8>> = bytes.iter().map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
            Digest::of(&bytes?)
        }
    };
    Some(json!(digest))
}

/// Makes the manifest that an honest builder would make for what is stored.
fn forge(pack: &mut Memory) {
    let Some(Ok(mut manifest)) = pack.0.get(MANIFEST).map(|bytes| read::recorded::<Manifest>(bytes)) else { return };
    let stored = ARTIFACTS.iter().filter_map(|artifact| {
        let hash = Digest::of(pack.0.get(artifact.path)?);
        Some((FileHash { path: artifact.path.to_owned(), hash }, ArtifactRecord::of(artifact, hash)))
    });
    let (hashes, artifacts): (Vec<_>, _) = stored.unzip();
    if let Some(scenario) = hashes.iter().find(|file| file.path == ARTIFACTS[0].path) {
        manifest.spec_hash = scenario.hash;
    }
    manifest.integrity = Integrity::of(hashes).unwrap();
    manifest.artifacts = artifacts;
    pack.0.insert(MANIFEST.to_owned(), to_vec(&manifest).unwrap());
}
