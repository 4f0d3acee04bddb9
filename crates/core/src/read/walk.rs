//! One pass over a document that finds what the strict reader refuses.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{DOCUMENT_DEPTH_MAX, Profile, Refusal, escape};
use crate::canon;

/// Either our own refusal, or the format's own error.
pub(super) enum Stop<E> {
    Refused(Refusal),
    Format(E),
}

/// Checks JSON text.
pub(super) fn json(text: &str, profile: Profile) -> Result<Value, Refusal> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let tree = match build(&mut reader, profile) {
        Ok(tree) => tree,
        Err(Stop::Refused(refusal)) => return Err(refusal),
        Err(Stop::Format(error)) => return Err(syntax(&error)),
    };
    match reader.end() {
        Ok(()) => Ok(tree),
        Err(error) => Err(Refusal::Trailing { line: error.line(), column: error.column() }),
    }
}

/// Checks a tree that is already there.
pub(super) fn tree(tree: &Value, profile: Profile) -> Result<(), Refusal> {
    match build(tree, profile) {
        Ok(_) => Ok(()),
        Err(Stop::Refused(refusal)) => Err(refusal),
        Err(Stop::Format(error)) => Err(syntax(&error)),
    }
}

/// Builds a tree from any format, refusing what the strict reader refuses.
pub(super) fn build<'de, D: Deserializer<'de>>(reader: D, profile: Profile) -> Result<Value, Stop<D::Error>> {
    let refused = RefCell::new(None);
    let seed = Walk { profile, at: String::new(), depth: 0, refused: &refused };
    seed.deserialize(reader).map_err(|error| match refused.take() {
        Some(refusal) => Stop::Refused(refusal),
        None => Stop::Format(error),
    })
}

pub(super) fn syntax(error: &serde_json::Error) -> Refusal {
    let message = error.to_string();
    if message.starts_with("recursion limit exceeded") {
        return Refusal::TooDeep { at: String::new(), limit: DOCUMENT_DEPTH_MAX };
    }
    if message.starts_with("number out of range") {
        return Refusal::NotFinite { message };
    }
    Refusal::Syntax { message }
}

struct Walk<'a> {
    profile: Profile,
    at: String,
    depth: usize,
    refused: &'a RefCell<Option<Refusal>>,
}

impl Walk<'_> {
    fn refuse<E: serde::de::Error>(&self, refusal: Refusal) -> E {
        let error = E::custom(&refusal);
        *self.refused.borrow_mut() = Some(refusal);
        error
    }

    fn deeper<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.depth == DOCUMENT_DEPTH_MAX {
            return Err(self.refuse(Refusal::TooDeep { at: String::new(), limit: DOCUMENT_DEPTH_MAX }));
        }
        Ok(())
    }

    fn child(&self, segment: &str) -> Walk<'_> {
        Walk {
            profile: self.profile,
            at: format!("{}/{}", self.at, escape(segment)),
            depth: self.depth + 1,
            refused: self.refused,
        }
    }

    fn number<E: serde::de::Error>(&self, number: Number) -> Result<Value, E> {
        if self.profile == Profile::Ingest
            && let Err(number) = canon::canonical_number(&number)
        {
            return Err(self.refuse(Refusal::Integer { at: self.at.clone(), number }));
        }
        Ok(Value::Number(number))
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        self.deserialize(inner)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.number(value.into())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.number(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        match Number::from_f64(value) {
            Some(number) => self.number(number),
            None => Err(self.refuse(Refusal::NotFinite { message: format!("{value} at `{}`", self.at) })),
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.child(&list.len().to_string()))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let member = members.next_value_seed(self.child(&name))?;
            if map.contains_key(&name) {
                return Err(self.refuse(Refusal::Duplicate { at: self.at.clone(), name }));
            }
            map.insert(name, member);
        }
        Ok(Value::Object(map))
    }

    fn visit_char<E: serde::de::Error>(self, value: char) -> Result<Value, E> {
        Err(E::custom(format_args!("a character ('{value}') has no JSON form; write a string")))
    }
}
