//! The canonical form of older v1 packs, for verifying only.

use serde::Serialize;
use serde_json::Value;

use super::{CanonError, Checker, Digest, INTEGER_MAX, as_declared};

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
    let mut checker = Checker::default();
    if checker.value(&bytes, 0).is_ok() && checker.both() {
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
