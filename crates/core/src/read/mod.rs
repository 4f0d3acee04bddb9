//! The strict reader for JSON that comes from outside.
//!
//! Two readers of one document must never see two things, so what JSON leaves
//! open is refused, each with its own error and place: text that is not UTF-8,
//! a byte order mark, trailing bytes, duplicate members at any depth, arrays
//! where an object is meant, numbers that are not finite, more than
//! [`DOCUMENT_DEPTH_MAX`] levels.
//!
//! The [`Profile`] says what is read. [`Profile::Ingest`] is for scenarios,
//! requests and evidence, which will be recorded: it also refuses integers
//! whose canonical form could be another number, and brings free-form values
//! to their canonical numbers. [`Profile::Pack`] reads what was recorded, and
//! takes every number exactly.

mod exact;
mod objects;
mod walk;

use serde::de::{DeserializeOwned, Deserializer};
use serde_json::Value;

use crate::canon::{self, Unrepresentable};
pub(crate) use exact::exactly;
use objects::ObjectsOnly;

/// Containers inside one another in one document.
pub const DOCUMENT_DEPTH_MAX: usize = 127;

/// Containers inside one another in one free-form value: evidence, payload,
/// params, expected. Lower than the document's, since it is recorded inside
/// documents of our own.
pub const FREE_FORM_DEPTH_MAX: usize = 64;

/// What is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Something new that will be recorded.
    Ingest,
    /// Something recorded in a pack.
    Pack,
}

/// What happens to members that no type knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// They are an error: a misspelt name must not be silence.
    Refuse,
    /// They are dropped before anything is hashed, as `/rpc` clients expect.
    Drop,
}

/// Why a document was not read. `at` is a JSON pointer; lines and columns
/// count from 1 and are 0 where the input was not text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not UTF-8.
    #[error("not UTF-8 at byte {offset}")]
    NotUtf8 {
        /// Bytes from the start.
        offset: usize,
    },
    /// U+FEFF at the start.
    #[error("byte order mark at the start; save the file as UTF-8 without it")]
    ByteOrderMark,
    /// The text is not JSON.
    #[error("not JSON: {message}")]
    Syntax {
        /// What, and at which line and column.
        message: String,
    },
    /// Something follows the value.
    #[error("bytes after the end of the JSON value, line {line} column {column}")]
    Trailing {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// One object names a member twice.
    #[error("duplicate member `{name}` in `{at}`")]
    Duplicate {
        /// The object.
        at: String,
        /// The name.
        name: String,
    },
    /// Containers within containers.
    #[error("more than {limit} levels of arrays and objects{}", shown(at))]
    TooDeep {
        /// Empty for the document itself.
        at: String,
        /// Levels allowed.
        limit: usize,
    },
    /// See [`Unrepresentable`].
    #[error("{number} (`{at}`)")]
    Integer {
        /// The number.
        at: String,
        /// Its text.
        number: Unrepresentable,
    },
    /// A number too large for a double, or an infinity or NaN of a richer format.
    #[error("number out of range: {message}")]
    NotFinite {
        /// Where, as far as it is known.
        message: String,
    },
    /// A member has the wrong type, is missing, or has a value out of its set.
    #[error("{message}{}", shown(at))]
    Shape {
        /// The member.
        at: String,
        /// What was expected.
        message: String,
    },
    /// A member no type knows.
    #[error("unknown member `{at}`")]
    UnknownMember {
        /// The member.
        at: String,
    },
}

fn shown(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(" (`{at}`)") }
}

/// A type that is read to be recorded. Free-form values inside are admitted
/// once it is read; a type without any needs no method.
pub trait Admit {
    /// Brings free-form values to canonical numbers and checks their depth.
    ///
    /// # Errors
    /// [`Refusal::Integer`] or [`Refusal::TooDeep`], with the place inside `self`.
    fn admit(&mut self) -> Result<(), Refusal> {
        Ok(())
    }
}

/// The same refusal, for a value that lies at `prefix` in a larger one.
pub fn below(prefix: &str, refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Integer { at, number } => Refusal::Integer { at: format!("{prefix}{at}"), number },
        Refusal::TooDeep { at, limit } => Refusal::TooDeep { at: format!("{prefix}{at}"), limit },
        other => other,
    }
}

/// Reads a document that will be recorded.
///
/// # Errors
/// The first thing the strict reader refuses.
pub fn ingest<T: DeserializeOwned + Admit>(bytes: &[u8], unknown: Unknown) -> Result<T, Refusal> {
    let text = plain_text(bytes)?;
    walk::json(text, Profile::Ingest)?;
    let mut value: T = typed_text(text, unknown)?;
    value.admit()?;
    Ok(value)
}

/// As [`ingest`], for a tree that was not JSON text: RON, YAML, a request's arguments.
///
/// # Errors
/// As [`ingest`].
pub fn ingest_value<T: DeserializeOwned + Admit>(tree: Value, unknown: Unknown) -> Result<T, Refusal> {
    walk::tree(&tree, Profile::Ingest)?;
    let mut value: T = typed(tree, unknown)?;
    value.admit()?;
    Ok(value)
}

/// Reads a recorded document whose canonical form has been checked already.
///
/// # Errors
/// As [`ingest`], without the rules for new values.
pub fn recorded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    typed_text(plain_text(bytes)?, Unknown::Refuse)
}

/// As [`recorded`], for a tree that was read already.
///
/// # Errors
/// As [`recorded`].
pub fn recorded_value<T: DeserializeOwned>(tree: Value, unknown: Unknown) -> Result<T, Refusal> {
    typed(tree, unknown)
}

/// Reads any JSON value under `profile`.
///
/// # Errors
/// The first thing the strict reader refuses.
pub fn value(bytes: &[u8], profile: Profile) -> Result<Value, Refusal> {
    walk::json(plain_text(bytes)?, profile)
}

/// Reads RON in the shape of JSON: maps with string keys, lists, numbers,
/// strings, booleans, and `()` or `None` for null.
///
/// # Errors
/// As [`value`], and for what JSON cannot hold: characters, bytes, other keys.
pub fn ron_value(bytes: &[u8], profile: Profile) -> Result<Value, Refusal> {
    let text = plain_text(bytes)?;
    let options = ron::Options::default().with_recursion_limit(DOCUMENT_DEPTH_MAX + 1);
    let mut reader = ron::Deserializer::from_str_with_options(text, &options)
        .map_err(|error| Refusal::Syntax { message: error.to_string() })?;
    let place = |error: ron::Error, reader: &ron::Deserializer<'_>| Refusal::Syntax {
        message: reader.span_error(error).to_string(),
    };
    let tree = match walk::build(&mut reader, profile) {
        Ok(tree) => tree,
        Err(walk::Stop::Refused(refusal)) => return Err(refusal),
        Err(walk::Stop::Format(error)) => return Err(place(error, &reader)),
    };
    reader.end().map_err(|error| place(error, &reader))?;
    Ok(tree)
}

/// Brings one free-form value to canonical numbers, in place.
///
/// # Errors
/// [`Refusal::Integer`] or [`Refusal::TooDeep`]; `at` is the value's own place.
pub fn admit_value(value: &mut Value, at: &str) -> Result<(), Refusal> {
    fn descend(value: &mut Value, at: &str, depth: usize) -> Result<(), Refusal> {
        match value {
            Value::Number(number) => match canon::canonical_number(number) {
                Ok(canonical) => *number = canonical,
                Err(number) => return Err(Refusal::Integer { at: at.to_owned(), number }),
            },
            Value::Array(_) | Value::Object(_) if depth == FREE_FORM_DEPTH_MAX => {
                return Err(Refusal::TooDeep { at: at.to_owned(), limit: FREE_FORM_DEPTH_MAX });
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    descend(item, &format!("{at}/{index}"), depth + 1)?;
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    descend(member, &format!("{at}/{}", escape(name)), depth + 1)?;
                }
            }
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
        Ok(())
    }
    descend(value, at, 0)
}

/// A number of bytes, as people write it: `100`, `64MiB`.
///
/// # Errors
/// A sentence that says how to write one.
pub fn byte_count(text: &str) -> Result<u64, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("write a number, or one with KiB, MiB or GiB".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "write a number, or one with KiB, MiB or GiB".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "more than any file can have".to_owned())
}

/// A name as a segment of a JSON pointer (RFC 6901).
pub fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn plain_text(bytes: &[u8]) -> Result<&str, Refusal> {
    if bytes.starts_with("\u{feff}".as_bytes()) {
        return Err(Refusal::ByteOrderMark);
    }
    std::str::from_utf8(bytes).map_err(|error| Refusal::NotUtf8 { offset: error.valid_up_to() })
}

fn typed_text<T: DeserializeOwned>(text: &str, unknown: Unknown) -> Result<T, Refusal> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = typed(&mut reader, unknown)?;
    reader.end().map_err(|error| walk::syntax(&error))?;
    Ok(value)
}

fn typed<'de, T: DeserializeOwned, D>(reader: D, unknown: Unknown) -> Result<T, Refusal>
where
    D: Deserializer<'de>,
{
    let mut track = serde_path_to_error::Track::new();
    let reader = ObjectsOnly(serde_path_to_error::Deserializer::new(reader, &mut track));
    let mut stranger = None;
    let outcome = serde_ignored::deserialize(reader, |path| {
        stranger.get_or_insert_with(|| pointer(&path.to_string()));
    });
    match (outcome, stranger) {
        (Err(error), stranger) => {
            let mut message = error.to_string();
            // What is missing is often there under a misspelt name.
            if let (Some(at), true, Unknown::Refuse) = (stranger, message.starts_with("missing field"), unknown) {
                message = format!("{message}, and there is an unknown member `{at}`");
            }
            Err(Refusal::Shape { at: pointer(&track.path().to_string()), message })
        }
        (Ok(_), Some(at)) if unknown == Unknown::Refuse => Err(Refusal::UnknownMember { at }),
        (Ok(value), _) => Ok(value),
    }
}

/// `stages[0].gates` or `stages.0.gates` as `/stages/0/gates`.
fn pointer(path: &str) -> String {
    if path == "." {
        return String::new();
    }
    let plain = path.replace(['[', '.'], "/").replace([']', '?'], "");
    format!("/{}", plain.trim_start_matches('/').replace("//", "/"))
}
