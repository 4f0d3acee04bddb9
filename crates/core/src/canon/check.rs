use std::cmp::Ordering;

use crate::read::DOCUMENT_DEPTH_MAX;

/// Which canonical form a document is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// RFC 8785.
    Rfc8785,
    /// The older form of v1 packs, which is not RFC 8785: members ordered by
    /// the bytes of their quoted, escaped names, and integers verbatim.
    /// `offset` is the first byte where the two forms differ.
    Legacy {
        /// Bytes from the start of the document.
        offset: usize,
    },
}

/// Why a document is not canonical JSON, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct NotCanonical {
    /// Bytes from the start of the document.
    pub offset: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

/// Tells whether `bytes` are canonical JSON, in one pass and without building
/// anything from them.
///
/// A document that passes is also strict JSON: UTF-8, no byte order mark, no
/// trailing bytes, no duplicate members, at most [`DOCUMENT_DEPTH_MAX`] levels.
///
/// # Errors
/// The first byte at which the document is in neither form.
pub fn check(bytes: &[u8]) -> Result<Form, NotCanonical> {
    let mut checker = Checker::default();
    let end = checker.value(bytes, 0)?;
    if end != bytes.len() {
        return Err(NotCanonical { offset: end, reason: "bytes after the value" });
    }
    checker.form()
}

/// Checks a document piece by piece, as a log is read record by record.
#[derive(Debug, Clone, Default)]
pub struct Checker {
    /// Offset of the piece in its document.
    base: usize,
    not_rfc: Option<usize>,
    not_legacy: Option<usize>,
}

impl Checker {
    /// A checker whose next piece starts `base` bytes into its document.
    #[must_use]
    pub fn at(self, base: usize) -> Self {
        Self { base, ..self }
    }

    /// Passes the value at the start of `bytes`, which lies inside `depth`
    /// containers, and answers where it ends. Offsets are the document's.
    ///
    /// # Errors
    /// The first fault. At the end of `bytes` it may only mean that more of the
    /// document is needed.
    pub fn value(&mut self, bytes: &[u8], depth: usize) -> Result<usize, NotCanonical> {
        let (not_rfc, not_legacy) = (self.not_rfc, self.not_legacy);
        let mut walk = Walk { bytes, at: 0, depth, base: self.base, not_rfc, not_legacy, fault: None };
        let outcome = walk.value();
        // Where everything else is canonical, they are in strings.
        // No early end: the loop is done many bytes at a time.
        let control = |bytes: &[u8]| bytes.iter().fold(false, |found, byte| found | (*byte < 0x20));
        if control(&bytes[..walk.at]) {
            let at = bytes.iter().position(|byte| *byte < 0x20).unwrap_or_default();
            return Err(NotCanonical { offset: self.base + at, reason: "control character in a string" });
        }
        if outcome.is_err() {
            return Err(walk.fault.unwrap_or(NotCanonical { offset: self.base, reason: "not JSON" }));
        }
        let end = walk.at;
        (self.not_rfc, self.not_legacy) = (walk.not_rfc, walk.not_legacy);
        match std::str::from_utf8(&bytes[..end]) {
            Ok(_) => Ok(end),
            Err(error) => Err(NotCanonical { offset: self.base + error.valid_up_to(), reason: "not UTF-8" }),
        }
    }

    /// Whether everything passed so far reads the same in both forms.
    pub(super) fn both(&self) -> bool {
        self.not_rfc.is_none() && self.not_legacy.is_none()
    }

    /// The form of everything passed so far.
    ///
    /// # Errors
    /// Some of it is in one form only and some in the other.
    pub fn form(&self) -> Result<Form, NotCanonical> {
        match (self.not_rfc, self.not_legacy) {
            (None, _) => Ok(Form::Rfc8785),
            (Some(offset), None) => Ok(Form::Legacy { offset }),
            (Some(rfc), Some(legacy)) => {
                Err(NotCanonical { offset: rfc.max(legacy), reason: "two canonical forms in one document" })
            }
        }
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    base: usize,
    not_rfc: Option<usize>,
    not_legacy: Option<usize>,
    fault: Option<NotCanonical>,
}

/// The fault is kept in the [`Walk`]: a small answer is a fast one.
struct Stop;

impl<'a> Walk<'a> {
    #[cold]
    fn refuse(&mut self, reason: &'static str) -> Stop {
        self.refuse_at(self.at, reason)
    }

    #[cold]
    fn refuse_at(&mut self, at: usize, reason: &'static str) -> Stop {
        self.fault = Some(NotCanonical { offset: self.base + at, reason });
        Stop
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8, reason: &'static str) -> Result<(), Stop> {
        if self.peek() != Some(byte) {
            return Err(self.refuse(reason));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self) -> Result<(), Stop> {
        match self.peek() {
            Some(b'{') => {
                self.enter()?;
                self.object()?;
                self.depth -= 1;
                Ok(())
            }
            Some(b'[') => {
                self.enter()?;
                self.array()?;
                self.depth -= 1;
                Ok(())
            }
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            Some(b' ' | b'\t' | b'\n' | b'\r') => Err(self.refuse("white space")),
            Some(0xef) => Err(self.refuse("byte order mark or other text where a value should be")),
            Some(_) => Err(self.refuse("not JSON")),
            None => Err(self.refuse("the document ends early")),
        }
    }

    #[inline]
    fn enter(&mut self) -> Result<(), Stop> {
        if self.depth == DOCUMENT_DEPTH_MAX {
            return Err(self.refuse("more than 127 levels"));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn array(&mut self) -> Result<(), Stop> {
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value()?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.refuse("expected `,` or `]`")),
            }
        }
    }

    fn object(&mut self) -> Result<(), Stop> {
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        let mut previous: Option<&'a [u8]> = None;
        loop {
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.refuse("expected a member name"));
            }
            let name = self.string()?;
            if let Some(previous) = previous
                && !plainly_before(previous, name)
            {
                self.order(previous, name, start)?;
            }
            previous = Some(name);
            self.expect(b':', "expected `:`")?;
            self.value()?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.refuse("expected `,` or `}`")),
            }
        }
    }

    /// Checks two neighbouring names, given between their quotes and escaped.
    fn order(&mut self, left: &[u8], right: &[u8], start: usize) -> Result<(), Stop> {
        let length = left.len().min(right.len());
        let differ = left.iter().zip(right).position(|(l, r)| l != r).unwrap_or(length);
        if differ == left.len() && differ == right.len() {
            return Err(self.refuse_at(start, "duplicate member"));
        }
        // The closing quote takes part in the older order.
        let quoted = |name: &[u8]| name.get(differ).copied().unwrap_or(b'"');
        if quoted(left) > quoted(right) {
            self.not_legacy.get_or_insert(self.base + start);
        }
        if utf16_cmp(left, right) != Ordering::Less {
            self.not_rfc.get_or_insert(self.base + start);
        }
        if self.not_rfc.is_some() && self.not_legacy.is_some() {
            return Err(self.refuse_at(start, "member names out of order"));
        }
        Ok(())
    }

    /// Passes a string and answers what stands between its quotes. Control
    /// characters are looked for at the end, in everything that was passed.
    #[inline]
    fn string(&mut self) -> Result<&'a [u8], Stop> {
        self.at += 1;
        let start = self.at;
        loop {
            // Eight bytes at a time, up to the first that means something.
            while let Some(eight) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()) {
                let stops = quote_or_backslash(u64::from_le_bytes(*eight));
                if stops != 0 {
                    self.at += stops.trailing_zeros() as usize / 8;
                    break;
                }
                self.at += 8;
            }
            match self.peek() {
                None => return Err(self.refuse("the document ends inside a string")),
                Some(b'"') => {
                    let text = &self.bytes[start..self.at];
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => self.escape()?,
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), Stop> {
        let length = match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'b' | b't' | b'n' | b'f' | b'r') => 2,
            Some(b'u') => match self.bytes.get(self.at + 2..self.at + 6) {
                Some([b'0', b'0', high @ (b'0' | b'1'), low @ (b'0'..=b'9' | b'a'..=b'f')])
                    if !(*high == b'0' && matches!(low, b'8' | b'9' | b'a' | b'c' | b'd')) =>
                {
                    6
                }
                _ => return Err(self.refuse("escape not in canonical form")),
            },
            _ => return Err(self.refuse("escape not in canonical form")),
        };
        self.at += length;
        Ok(())
    }

    fn literal(&mut self, text: &'static [u8]) -> Result<(), Stop> {
        if !self.bytes[self.at..].starts_with(text) {
            return Err(self.refuse("not JSON"));
        }
        self.at += text.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Stop> {
        const REASON: &str = "number not in canonical form";
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let digits = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        let integral = !matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        if !integral {
            while let Some(b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') = self.peek() {
                self.at += 1;
            }
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).map_err(|_| self.refuse_at(start, REASON))?;
        if integral && self.at - digits <= 15 {
            let zero_first = self.bytes[digits..].first() == Some(&b'0');
            let plain = self.at > digits && (!zero_first || text == "0");
            return if plain { Ok(()) } else { Err(self.refuse_at(start, REASON)) };
        }
        // The slow path also judges syntax: `1.`, `.5` and `1e5` all come back
        // from the ECMAScript writer in another form.
        let value: f64 = text.parse().map_err(|_| self.refuse_at(start, REASON))?;
        if value.is_finite() && ryu_js::Buffer::new().format(value) == text {
            return Ok(());
        }
        let verbatim =
            integral && self.bytes[digits] != b'0' && (text.parse::<u64>().is_ok() || text.parse::<i64>().is_ok());
        if !verbatim {
            return Err(self.refuse_at(start, REASON));
        }
        self.not_rfc.get_or_insert(self.base + start);
        if self.not_legacy.is_some() {
            return Err(self.refuse_at(start, REASON));
        }
        Ok(())
    }
}

/// Whether `left` comes before `right` in either form, without having to look
/// closer. Both stand between their quotes, escaped.
fn plainly_before(left: &[u8], right: &[u8]) -> bool {
    for (left, right) in left.iter().zip(right) {
        if left != right {
            // From 0xee the two orders of code units part.
            let plain = *left != b'\\' && *right != b'\\' && *right < 0xee;
            return plain && left < right;
        }
        if *left == b'\\' {
            return false;
        }
    }
    // The closing quote takes part in the older order.
    right.get(left.len()).is_some_and(|byte| *byte > b'"' && *byte != b'\\')
}

/// Marks the bytes that are quotes or backslashes, the first of them (from the
/// low end) always rightly.
fn quote_or_backslash(eight: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let zero = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes;
    (zero(eight ^ (ONES * b'"' as u64)) | zero(eight ^ (ONES * b'\\' as u64))) & (ONES << 7)
}

/// Orders two escaped names as RFC 8785 asks: by UTF-16 code units.
fn utf16_cmp(left: &[u8], right: &[u8]) -> Ordering {
    let units = |name: &[u8]| {
        let quoted = [b"\"", name, b"\""].concat();
        serde_json::from_slice::<String>(&quoted).unwrap_or_default()
    };
    units(left).encode_utf16().cmp(units(right).encode_utf16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_canonical_and_names_the_first_fault() {
        for good in ["{}", "[]", "null", "\"\u{2028}\"", "[1,-1,0,1.5,1e+21,1e-7]", r#"{"":1," ":2,"a":{"b":[]}}"#] {
            assert_eq!(check(good.as_bytes()), Ok(Form::Rfc8785), "{good}");
        }
        for (bad, offset, reason) in [
            ("{ }", 1, "expected a member name"),
            ("[1, 2]", 3, "white space"),
            ("[1.0]", 1, "number not in canonical form"),
            ("[-0]", 1, "number not in canonical form"),
            ("[01]", 1, "number not in canonical form"),
            ("[1e5]", 1, "number not in canonical form"),
            ("[-]", 1, "number not in canonical form"),
            ("[1e400]", 1, "number not in canonical form"),
            (r#"{"b":1,"a":2}"#, 7, "member names out of order"),
            (r#"{"a":1,"a":2}"#, 7, "duplicate member"),
            (r#"["\u0041"]"#, 2, "escape not in canonical form"),
            (r#"["\/"]"#, 2, "escape not in canonical form"),
            (r#"["\u001F"]"#, 2, "escape not in canonical form"),
            (r#"["\u000a"]"#, 2, "escape not in canonical form"),
            ("[]\n", 2, "bytes after the value"),
            ("[1", 2, "expected `,` or `]`"),
            ("", 0, "the document ends early"),
            ("\u{feff}[]", 0, "byte order mark or other text where a value should be"),
        ] {
            assert_eq!(check(bad.as_bytes()), Err(NotCanonical { offset, reason }), "{bad}");
        }
        assert_eq!(check(b"[\"\xff\"]").unwrap_err().reason, "not UTF-8");
    }

    #[test]
    fn knows_the_older_form() {
        for (text, offset) in [
            (r#"{"a ":3,"a!":2,"a":1}"#, 8),
            (r#"{"xZ":2,"x\n":1,"x]":3}"#, 8),
            ("[9007199254740993]", 1),
            ("{\"\u{fb33}\":2,\"\u{1f600}\":1}", 9),
        ] {
            // The offset is of the first name or number RFC 8785 would not have.
            assert!(
                matches!(check(text.as_bytes()), Ok(Form::Legacy { offset: o }) if o >= 1 && o <= offset + 8),
                "{text}"
            );
        }
        // One document cannot mix the two forms.
        assert!(check(br#"[{"a":1,"a ":2},9007199254740993]"#).is_err());
    }

    #[test]
    fn bounds_the_depth() {
        let nest = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(check(&nest(127)).is_ok());
        assert_eq!(check(&nest(128)).unwrap_err().reason, "more than 127 levels");
        assert!(check(&vec![b'['; 1_000_000]).is_err());
    }
}
