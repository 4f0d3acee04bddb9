//! The canonical form of older v1 packs, for verifying only.

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::number::Around;
use super::{CanonError, Checker, Digest, Hasher, INTEGER_MAX, as_declared};

/// The digest that covers `value`, and a second one where the older form gives
/// another.
///
/// RFC 8785 writes an integer that no double holds, or whose shortest digits
/// are others, as its neighbour's digits. Its digest then covers that neighbour
/// as well, so for such a value only the older one counts.
///
/// # Errors
/// As [`super::to_vec`].
pub fn forms<T: Serialize + ?Sized>(value: &T) -> Result<(Digest, Option<Digest>), CanonError> {
    let bytes = as_declared(value)?;
    if in_both_forms(&bytes) {
        return Ok((Digest::of(&bytes), None));
    }
    let tree = serde_json::to_value(value).map_err(CanonError)?;
    let older = legacy_digest(&tree)?;
    if changes_an_integer(&tree) {
        return Ok((older, None));
    }
    let digest = Digest::of_canonical(&tree)?;
    Ok((digest, (digest != older).then_some(older)))
}

/// Whether `stated` covers `value`, in either form.
pub fn covers<T: Serialize + ?Sized>(stated: &Digest, value: &T) -> bool {
    forms(value).is_ok_and(|(digest, older)| digest == *stated || older == Some(*stated))
}

/// A value written once, for all digests that cover it: its own, and those of
/// larger values that it is part of.
#[derive(Debug)]
pub(crate) struct Written(Vec<u8>);

/// Stands in a larger value where the [`Written`] one is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here;

/// What no JSON text holds.
const HERE: u8 = 0;

impl Serialize for Here {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&[HERE])
    }
}

impl Written {
    /// `None` if the two forms differ, or there is none.
    pub(crate) fn of<T: Serialize + ?Sized>(value: &T) -> Option<Self> {
        let bytes = as_declared(value).ok()?;
        in_both_forms(&bytes).then_some(Self(bytes))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }

    /// The digest of `around` with this value where [`Here`] is. `None` if the
    /// two forms differ: then [`forms`] tells.
    pub(crate) fn within<T: Serialize + ?Sized>(&self, around: &T) -> Option<Digest> {
        let mut text = Vec::with_capacity(512);
        let mut writer = serde_json::Serializer::with_formatter(&mut text, Around);
        around.serialize(&mut writer).ok()?;
        let mut halves = text.split(|byte| *byte == HERE);
        let (Some(before), Some(after), None) = (halves.next(), halves.next(), halves.next()) else { return None };
        if !in_both_forms(&[before, b"null", after].concat()) {
            return None;
        }
        let mut hasher = Hasher::default();
        [before, &self.0, after].into_iter().for_each(|piece| hasher.update(piece));
        Some(hasher.finish())
    }
}

fn in_both_forms(text: &[u8]) -> bool {
    let mut checker = Checker::default();
    checker.value(text, 0).is_ok() && checker.both()
}

/// Whether RFC 8785 writes some integer in `tree` with other digits.
pub(crate) fn changes_an_integer(tree: &Value) -> bool {
    match tree {
        Value::Array(items) => items.iter().any(changes_an_integer),
        Value::Object(members) => members.values().any(changes_an_integer),
        Value::Number(number) if !number.is_f64() => {
            let small = number.as_i64().is_some_and(|integer| integer.unsigned_abs() <= INTEGER_MAX);
            let double = number.as_f64().unwrap_or_default();
            !small && ryu_js::Buffer::new().format(double) != number.to_string()
        }
        _ => false,
    }
}

/// The digest of `value` in the older form: members ordered by the bytes of
/// their quoted, escaped names, and integers verbatim.
///
/// # Errors
/// As [`super::to_vec`].
pub fn legacy_digest<T: Serialize + ?Sized>(value: &T) -> Result<Digest, CanonError> {
    let tree = serde_json::to_value(value).map_err(CanonError)?;
    let mut bytes = Vec::new();
    write(&tree, &mut bytes).map_err(CanonError)?;
    Ok(Digest::of(&bytes))
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut quoted = members
                .iter()
                .map(|(name, member)| Ok((serde_json::to_vec(name)?, member)))
                .collect::<Result<Vec<_>, serde_json::Error>>()?;
            quoted.sort_by(|(left, _), (right, _)| left.cmp(right));
            out.push(b'{');
            for (index, (name, member)) in quoted.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(&name);
                out.push(b':');
                write(member, out)?;
            }
            out.push(b'}');
        }
        Value::Number(number) if number.is_f64() => {
            let double = number.as_f64().unwrap_or_default();
            out.extend_from_slice(ryu_js::Buffer::new().format(double).as_bytes());
        }
        scalar => serde_json::to_writer(out, scalar)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_digests_are_given_where_they_differ() {
        for (text, two) in [
            (r#"{"a":1,"b":[1.5,"x"]}"#, false),
            (r#"{"b":1,"a":1}"#, false),
            (r#"{"a":1,"a ":2}"#, true),
            ("9007199254740992", false),
            ("1e300", false),
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            let (digest, older) = forms(&value).unwrap();
            assert_eq!(digest, Digest::of_canonical(&value).unwrap(), "{text}");
            assert_eq!(older.is_some(), two, "{text}");
            assert_eq!(older.unwrap_or(digest), legacy_digest(&value).unwrap(), "{text}");
        }
    }

    /// Written once or with what is around it, the digest is the same; and where
    /// the forms differ, in it or around it, the quick way does not know.
    #[test]
    fn what_is_written_once_is_covered_all_the_same() {
        #[derive(Serialize)]
        struct Body<'a, P> {
            after: Option<i64>,
            at: &'a str,
            payload: P,
        }
        for (text, same) in [
            (r#"{"a":[1.5,"\u0000\u001f\"é"],"b":null}"#, true),
            (r#""""#, true),
            (r#"{"a":1,"a ":2}"#, false),
            ("9007199254740993", false),
        ] {
            for (after, known) in [(None, true), (Some(-7), true), (Some(i64::MAX), false)] {
                let value: Value = serde_json::from_str(text).unwrap();
                let at = "a \u{0} \" é";
                let whole = forms(&Body { after, at, payload: &value }).unwrap().0;
                let written = Written::of(&value);
                assert_eq!(written.is_some(), same, "{text}");
                let Some(written) = written else { continue };
                assert_eq!((written.digest(), None), forms(&value).unwrap());
                let around = Body { after, at, payload: Here };
                assert_eq!(written.within(&around) == Some(whole), known, "{text} {after:?}");
                assert_ne!(written.within(&around), Some(written.digest()));
                assert_ne!(written.within(&Body { after, at: "b", payload: Here }), Some(whole));
                assert_eq!(written.within(&Body { after, at, payload: [Here, Here] }), None);
            }
        }
    }

    #[test]
    fn a_digest_never_covers_a_neighbour() {
        for text in ["9007199254740993", "-9007199254740993", "9223372036854775807", r#"{"a":[18446744073709551615]}"#]
        {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(forms(&value).unwrap(), (legacy_digest(&value).unwrap(), None), "{text}");
            assert!(!covers(&Digest::of_canonical(&value).unwrap(), &value), "{text}");
        }
    }

    /// Vectors of the contract, §2.1.
    #[test]
    fn digests_as_the_reference_does() {
        for (text, digest) in [
            ("9007199254740993", "a1c367c29158357e62a3ff5d3e800fb7698a22396439dbc0a9d4929322afd35d"),
            ("18446744073709551615", "2cdb26265b4dc65e3b44d694f121fd6de99b9e4b8ae7f08d84bfa9537635ae43"),
            (r##"{"a":1,"a!":2,"a ":3,"a#":4}"##, "5af44ee50adcb78d08e29d4098bdcf698070051956a2634939ecb2981ed07302"),
            (r#"{"":1," ":2,"!":3}"#, "cc87c861b013d1879346232d37a0f9b64d4fafdbe456976a9cebc2c3dad6b86d"),
            (r#"{"xZ":2,"x\n":1,"x]":3}"#, "e4310e237dd2b065b93d618caf458be0abfcd05b90111f908fbbdf830856533c"),
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(legacy_digest(&value).unwrap().to_string(), digest, "{text}");
        }
    }
}
