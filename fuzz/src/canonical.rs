//! The checker that builds nothing, against parsing and writing again.

use std::borrow::Cow;

use runpack_core::canon::{Digest, Form, check, forms, legacy_digest, size_within, to_vec};
use serde_json::Value;

/// Any bytes: `check` says of them what two writers say.
///
/// RFC 8785 is written by `serde_jcs`, the older form here, by the rules of
/// `docs/format.md` 2.6. A document is in a form if that writer gives it back.
pub fn canonical(input: &[u8]) {
    let found = check(input);
    let shown = || String::from_utf8_lossy(input);
    let Ok(tree) = serde_json::from_slice::<Value>(input) else {
        assert!(found.is_err(), "not JSON, and canonical: {}", shown());
        return;
    };
    let rfc = serde_jcs::to_vec(&tree).unwrap();
    let mut old = Vec::new();
    older(&tree, &mut old);
    match found {
        Ok(Form::Rfc8785) => assert!(rfc == input, "not RFC 8785: {}", shown()),
        Ok(Form::Legacy { offset }) => {
            assert!(old == input && rfc != input, "not legacy: {}", shown());
            assert!(matches!(input[offset], b'"' | b'-' | b'0'..=b'9'), "no name or number at {offset}: {}", shown());
        }
        Err(fault) => {
            assert!(rfc != input, "canonical, and refused: {fault}: {}", shown());
            assert!(old != input, "legacy, and refused: {fault}: {}", shown());
            assert!(fault.offset <= input.len(), "{fault}: {}", shown());
        }
    }

    assert!(to_vec(&tree).unwrap() == rfc, "written otherwise: {}", shown());
    assert_eq!(check(&rfc), Ok(Form::Rfc8785), "{}", shown());
    assert!(check(&old).is_ok(), "{}", shown());
    let digests = (Digest::of(&rfc), Digest::of(&old));
    assert_eq!(legacy_digest(&tree).unwrap(), digests.1, "{}", shown());
    // A digest over a neighbour of what was written covers the neighbour.
    let counting = match changed(&tree) {
        true => (digests.1, None),
        false => (digests.0, (digests.0 != digests.1).then_some(digests.1)),
    };
    assert_eq!(forms(&tree).unwrap(), counting, "{}", shown());
    let length = rfc.len() as u64;
    assert_eq!(size_within(&tree, length).unwrap(), Ok(length), "{}", shown());
    assert!(size_within(&tree, length - 1).unwrap().is_err(), "{}", shown());
}

fn changed(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(changed),
        Value::Object(members) => members.values().any(changed),
        Value::Number(number) => !number.is_f64() && serde_jcs::to_string(number).unwrap() != number.to_string(),
        _ => false,
    }
}

/// The older form: names ordered as they are written, integers digit for digit.
pub(super) fn older(value: &Value, out: &mut Vec<u8>) {
    let list = |out: &mut Vec<u8>, index: usize| out.extend_from_slice(if index > 0 { b"," } else { b"" });
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                list(out, index);
                older(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut named: Vec<_> =
                members.iter().map(|(name, member)| (serde_jcs::to_string(name).unwrap(), member)).collect();
            named.sort_by(|left, right| left.0.as_bytes().cmp(right.0.as_bytes()));
            out.push(b'{');
            for (index, (name, member)) in named.into_iter().enumerate() {
                list(out, index);
                out.extend_from_slice(name.as_bytes());
                out.push(b':');
                older(member, out);
            }
            out.push(b'}');
        }
        scalar => {
            let text: Cow<'_, str> = match (scalar.as_u64(), scalar.as_i64()) {
                (Some(natural), _) => natural.to_string().into(),
                (_, Some(integer)) => integer.to_string().into(),
                _ => serde_jcs::to_string(scalar).unwrap().into(),
            };
            out.extend_from_slice(text.as_bytes());
        }
    }
}
