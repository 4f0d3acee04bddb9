use serde_json::Value;

use super::{CanonError, to_vec};

/// A value's canonical form is larger than allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("exceeds size limit ({actual} > {limit})")]
pub struct TooLarge {
    /// Bytes accepted, plus the piece that did not fit.
    pub actual: u64,
    /// Bytes allowed.
    pub limit: u64,
}

/// The length of the canonical form of `value`, if it is at most `limit`.
///
/// The `actual` of the error can end up in a decision's `fail` reason, so it is
/// wire-visible and follows the reference's writer (the reference system's contract, §2.3),
/// which accepts whole pieces: a scalar; of a string the quotes, each run of
/// plain text and each escape; of an array its punctuation and elements; of an
/// object its punctuation, each quoted name and **each whole value**. The piece
/// that does not fit is counted in full.
///
/// # Errors
/// `Ok(Err(_))` is the value being too large; `Err(_)` it having no JSON form.
pub fn size_within(value: &Value, limit: u64) -> Result<Result<u64, TooLarge>, CanonError> {
    let mut meter = Meter { limit, total: 0, full: false };
    meter.value(value)?;
    Ok(if meter.full { Err(TooLarge { actual: meter.total, limit }) } else { Ok(meter.total) })
}

struct Meter {
    limit: u64,
    total: u64,
    full: bool,
}

impl Meter {
    /// Counts one piece; after the first that does not fit, nothing more.
    fn piece(&mut self, length: usize) {
        if !self.full {
            self.total += length as u64;
            self.full = self.total > self.limit;
        }
    }

    fn value(&mut self, value: &Value) -> Result<(), CanonError> {
        match value {
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                self.piece(1);
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.piece(1);
                    }
                    self.value(item)?;
                }
                self.piece(1);
            }
            Value::Object(_) => {
                // The members in canonical order, which is not the map's.
                let text = to_vec(value)?;
                self.object(&text);
            }
            scalar => self.piece(to_vec(scalar)?.len()),
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.piece(1);
        let mut run = 0;
        for byte in text.bytes() {
            let escape = match byte {
                b'"' | b'\\' | 0x08 | b'\t' | b'\n' | 0x0c | b'\r' => 2,
                0..0x20 => 6,
                _ => {
                    run += 1;
                    continue;
                }
            };
            if run > 0 {
                self.piece(std::mem::take(&mut run));
            }
            self.piece(escape);
        }
        if run > 0 {
            self.piece(run);
        }
        self.piece(1);
    }

    /// Walks the canonical text of one object: names and whole values.
    fn object(&mut self, text: &[u8]) {
        let (mut start, mut depth, mut quoted) = (1, 0_u32, false);
        self.piece(1);
        let mut index = 1;
        while index < text.len() {
            match text[index] {
                b'\\' if quoted => index += 1,
                b'"' => quoted = !quoted,
                b'{' | b'[' if !quoted => depth += 1,
                b':' | b',' if !quoted && depth == 0 => {
                    self.piece(index - start);
                    self.piece(1);
                    start = index + 1;
                }
                b'}' | b']' if !quoted && depth > 0 => depth -= 1,
                b'}' if !quoted => {
                    if index > start {
                        self.piece(index - start);
                    }
                    self.piece(1);
                }
                _ => {}
            }
            index += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn actual(value: &Value, limit: u64) -> u64 {
        match size_within(value, limit).unwrap() {
            Ok(size) => panic!("{size} fits into {limit}"),
            Err(error) => error.actual,
        }
    }

    /// The examples of the contract, §2.3.
    #[test]
    fn reports_the_size_the_reference_reports() {
        assert_eq!(actual(&json!("xxxxxxxxxx"), 5), 11);
        assert_eq!(actual(&json!("xxxxxxxxxx"), 11), 12);
        let object = json!({"data": "xxxxxxxxxx"});
        assert_eq!(actual(&object, 5), 7);
        assert_eq!(actual(&object, 10), 20);
        assert_eq!(actual(&object, 20), 21);
        assert_eq!(actual(&json!([1, 22, 333]), 3), 5);
    }

    #[test]
    fn the_limit_itself_fits_and_equals_the_canonical_length() {
        for value in [
            json!({"a": [1, {"b": "}{\"\\"}], "z": {}, "": []}),
            json!([[], {}, "\u{1}\n\"x", 1.5, null, true, {"k": "v"}]),
            json!("plain \u{e9} text"),
        ] {
            let length = to_vec(&value).unwrap().len() as u64;
            assert_eq!(size_within(&value, length).unwrap(), Ok(length));
            assert!(size_within(&value, length - 1).unwrap().is_err());
        }
    }
}
