//! Canonical bytes and digests. The only code that hashes.
//!
//! Canonical means RFC 8785: no white space, members ordered by the UTF-16
//! code units of their names, numbers in their ECMAScript form. Every digest in
//! a pack is SHA-256 over bytes; where a value is digested, it is over the
//! value's canonical bytes.

mod check;
mod legacy;
mod number;
mod size;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

pub use check::{Checker, Form, NotCanonical, check};
pub(crate) use legacy::{Here, Written, changes_an_integer};
pub use legacy::{covers, forms, legacy_digest};
pub use number::{INTEGER_MAX, Unrepresentable, canonical_number, decimal_cmp};
pub use size::{TooLarge, size_within};

/// The canonical bytes of `value`.
///
/// `serde_jcs` is the authority and slow. The types of [`crate::model`] name
/// their members in canonical order, so most values only have to be written as
/// they come; what comes out is checked, and anything that is not canonical is
/// written again by the authority. Equal for every value: a test compares them.
///
/// # Errors
/// A value that has no JSON form, such as a map with keys that are not strings.
/// The types of [`crate::model`] hold none, and no number that is not finite.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonError> {
    let bytes = as_declared(value)?;
    if check(&bytes) == Ok(Form::Rfc8785) {
        return Ok(bytes);
    }
    serde_jcs::to_vec(value).map_err(CanonError)
}

/// Compact JSON with members as they are declared and numbers in their
/// ECMAScript form: canonical for most values, and unchecked.
pub(crate) fn as_declared<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonError> {
    let mut bytes = Vec::with_capacity(256);
    let mut writer = serde_json::Serializer::with_formatter(&mut bytes, number::EcmaNumbers);
    value.serialize(&mut writer).map_err(CanonError)?;
    Ok(bytes)
}

/// Hashes what it is given, piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// A value could not be written as canonical JSON.
#[derive(Debug, thiserror::Error)]
#[error("failed to canonicalize json: {0}")]
pub struct CanonError(#[source] serde_json::Error);

/// A SHA-256 digest. On the wire `{"algorithm":"sha256","value":"<64 hex>"}`.
///
/// Only lower-case hex of the right length is a digest; a document that says
/// otherwise does not parse.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of the canonical bytes of `value`.
    ///
    /// # Errors
    /// As [`to_vec`].
    pub fn of_canonical<T: Serialize + ?Sized>(value: &T) -> Result<Self, CanonError> {
        to_vec(value).map(|bytes| Self::of(&bytes))
    }

    /// The raw 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(raw: [u8; 32]) -> Self {
        Self(raw)
    }
}

/// The 64 digits of a digest.
struct Hex([u8; 64]);

impl Hex {
    fn of(digest: &Digest) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(digest.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Self(text)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Hex::of(self).as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a sha256 digest is 64 lower-case hexadecimal digits")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let nibble = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(NotADigest),
        };
        let mut raw = [0; 32];
        if text.len() != 64 {
            return Err(NotADigest);
        }
        for (byte, pair) in raw.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(raw))
    }
}

/// The one hash algorithm of the v1 format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sha256Name;

impl Serialize for Sha256Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("sha256")
    }
}

impl<'de> Deserialize<'de> for Sha256Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Sha256Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the hash algorithm `sha256`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Sha256Name, E> {
                if text == "sha256" { Ok(Sha256Name) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
            }
        }
        deserializer.deserialize_str(Name)
    }
}

#[derive(serde::Serialize)]
struct DigestOut<'a> {
    algorithm: Sha256Name,
    value: &'a str,
}

#[derive(serde::Deserialize)]
#[serde(expecting = "a digest object with `algorithm` and `value`")]
struct DigestWire {
    #[serde(rename = "algorithm")]
    _algorithm: Sha256Name,
    value: Value,
}

/// The raw bytes, read from their digits without a copy in between.
struct Value(Digest);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 lower-case hexadecimal digits")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
                text.parse().map(Value).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Digits)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        DigestOut { algorithm: Sha256Name, value: Hex::of(self).as_str() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DigestWire::deserialize(deserializer).map(|wire| wire.value.0)
    }
}

/// Passes bytes on while hashing and counting them.
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
    written: u64,
}

impl<W: Write> HashingWriter<W> {
    /// Nothing hashed yet.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::default(), written: 0 }
    }

    /// Bytes passed on so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The writer behind, and the digest of what went to it.
    pub fn finish(self) -> (W, Digest) {
        (self.inner, self.hasher.finish())
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
