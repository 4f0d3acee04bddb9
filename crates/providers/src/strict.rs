//! The profile `strict_core_v1`: which comparators make sense for an answer.
//!
//! What a schema says of an answer decides which comparators it may be judged
//! by. A comparator that no such answer could be True or False for is refused
//! when a scenario is defined, rather than holding every run for ever.

use std::collections::BTreeSet;

use runpack_core::model::{Comparator, ConditionId, Date, Instant};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::expected::{self, Family, family};
use crate::schema::Expanded;

pub use crate::expected::ExpectedError;
pub use crate::schema::SchemaError;

/// Comparators that need the deployment's consent besides the schema's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StrictOptions {
    /// Whether text may be ordered by code points, by `lex_greater_than` and its like.
    pub enable_lexicographic: bool,
    /// Whether arrays and objects may be compared whole, by `deep_equals` and `deep_not_equals`.
    pub enable_deep_equals: bool,
}

/// Why a condition makes no sense for a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrictError {
    /// The schema does not say plainly what type an answer has. `at` is a JSON
    /// pointer, with references written out.
    #[error("malformed schema: {fault} (`{at}`)")]
    Malformed {
        /// Where.
        at: String,
        /// What.
        fault: &'static str,
    },
    /// The schema cannot be used at all.
    #[error("invalid schema: {0}")]
    Schema(#[from] SchemaError),
    /// No answer of this type can be judged so.
    #[error("comparator {comparator} not allowed for {kinds}\nhint: {}", instead(allowed))]
    NotAllowed {
        /// Which.
        comparator: Comparator,
        /// What the schema describes.
        kinds: String,
        /// What would be allowed.
        allowed: Vec<Comparator>,
    },
    /// The deployment has not turned it on.
    #[error("disabled comparator {comparator}\nhint: validation.{option} turns it on")]
    Disabled {
        /// Which.
        comparator: Comparator,
        /// The option that turns it on.
        option: &'static str,
    },
    /// The schema has not listed it.
    #[error(
        "comparator {0} not allowed unless the schema asks for it\nhint: list it in `x-decision-gate.allowed_comparators`"
    )]
    NotAskedFor(Comparator),
    /// The expected value makes no sense.
    #[error(transparent)]
    Expected(#[from] ExpectedError),
    /// A data shape has no member for a condition.
    #[error("condition {0} missing from data shape schema")]
    Missing(ConditionId),
    /// A data shape lets the member be anything.
    #[error("schema allows untyped additionalProperties for condition {0}")]
    Untyped(ConditionId),
    /// A data shape that is one value stands for one condition.
    #[error("data shape schema is not an object, and requires exactly one condition (there are {0})")]
    OneValue(usize),
}

fn instead(allowed: &[Comparator]) -> String {
    let names: Vec<_> = allowed.iter().map(|comparator| comparator.as_str()).collect();
    format!("it takes {}", names.join(", "))
}

/// Whether answers as `schema` describes them may be judged by `comparator`
/// and `expected`.
///
/// # Errors
/// A schema that does not say what type an answer has, a comparator that is
/// not for that type, or an expected value that no answer could be like.
pub fn admit(
    schema: &Value,
    comparator: Comparator,
    expected: Option<&Value>,
    options: &StrictOptions,
) -> Result<(), StrictError> {
    let schema = Expanded::of(schema)?;
    let answers = Answers::of(&schema.schema)?;
    let compiled = schema.compile()?;
    answers.offer(comparator, options)?;
    expected::admit(&compiled, comparator, expected)?;
    answers.takes(comparator, expected)
}

/// The schema of the value that a data shape has for a condition: of an object
/// the member of the condition's name, of anything else the whole, if it is
/// the only one of `conditions`. References are written out.
///
/// # Errors
/// [`StrictError::Schema`], [`StrictError::Missing`], [`StrictError::Untyped`]
/// and [`StrictError::OneValue`].
pub fn property_schema(shape: &Value, condition: &ConditionId, conditions: usize) -> Result<Value, StrictError> {
    let shape = Expanded::of(shape)?.schema;
    let Some(members) = object(&shape) else {
        return if conditions == 1 { Ok(shape) } else { Err(StrictError::OneValue(conditions)) };
    };
    if let Some(schema) = members.get("properties").and_then(|named| named.get(condition.as_str())) {
        return Ok(schema.clone());
    }
    match members.get("additionalProperties") {
        Some(Value::Bool(true)) => Err(StrictError::Untyped(condition.clone())),
        Some(Value::Object(schema)) if schema.is_empty() => Err(StrictError::Untyped(condition.clone())),
        // Where names also have patterns, which schema is meant depends on them.
        Some(schema @ Value::Object(_)) if !members.contains_key("patternProperties") => Ok(schema.clone()),
        _ => Err(StrictError::Missing(condition.clone())),
    }
}

/// The schema, if what it describes can be an object.
fn object(schema: &Value) -> Option<&Map<String, Value>> {
    let members = schema.as_object()?;
    if let Some(only) = wrapped(members) {
        return object(only);
    }
    let is = match members.get("type") {
        Some(Value::Array(names)) => names.iter().any(|name| name == "object"),
        Some(name) => name == "object",
        None => ["properties", "patternProperties", "additionalProperties"].iter().any(|it| members.contains_key(*it)),
    };
    is.then_some(members)
}

/// The only schema of an `allOf` that says nothing of types beside it, as a
/// reference with a description does.
fn wrapped(members: &Map<String, Value>) -> Option<&Value> {
    let plain = ["type", "enum", "const", "oneOf", "anyOf", "properties", "additionalProperties"];
    match members.get("allOf")?.as_array()?.as_slice() {
        [only] if !plain.iter().any(|it| members.contains_key(*it)) => Some(only),
        _ => None,
    }
}

/// What one type of answer is to comparators.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Boolean,
    Number,
    Text,
    Date,
    DateTime,
    Uuid,
    /// One of a list of scalars.
    Choice,
    /// An array of scalars, with the schema of one.
    Scalars(Value),
    Array,
    Object,
    Null,
    Dynamic,
}

/// Whether a kind of answer has a family of comparators.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Offer {
    Yes,
    /// If schema and deployment both ask for it.
    OnRequest,
    No,
}

/// How a comparator stands to all types that answers can have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Allowed,
    NotForIt,
    /// By the deployment; the option would turn it on.
    Disabled(&'static str),
    NotAskedFor,
}

impl Kind {
    fn offer(&self, family: Family) -> Offer {
        use Family as F;
        match (self, family) {
            (_, F::Presence) | (Self::Dynamic, _) => Offer::Yes,
            (
                Self::Boolean | Self::Number | Self::Text | Self::Date | Self::DateTime | Self::Uuid | Self::Choice,
                F::Equality | F::InSet,
            ) => Offer::Yes,
            (Self::Null, F::Equality)
            | (Self::Number | Self::Date | Self::DateTime, F::Order)
            | (Self::Text | Self::Scalars(_), F::Contains) => Offer::Yes,
            (Self::Text, F::Lexical) | (Self::Scalars(_) | Self::Array | Self::Object, F::Deep) => Offer::OnRequest,
            _ => Offer::No,
        }
    }

    fn is_scalar(&self) -> bool {
        !matches!(self, Self::Scalars(_) | Self::Array | Self::Object | Self::Dynamic)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Boolean => "booleans",
            Self::Number => "numbers",
            Self::Text => "strings",
            Self::Date => "dates",
            Self::DateTime => "date-times",
            Self::Uuid => "uuids",
            Self::Choice => "enums",
            Self::Scalars(_) => "arrays of scalars",
            Self::Array => "arrays",
            Self::Object => "objects",
            Self::Null => "null",
            Self::Dynamic => "any type",
        }
    }
}

/// What a schema says of answers.
#[derive(Debug, PartialEq)]
struct Answers(Vec<Answer>);

/// One type that answers can have.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    kind: Kind,
    /// What the schema allows beyond what the kind offers anyway.
    asked_for: BTreeSet<Comparator>,
}

const EXTENSION: &str = "x-decision-gate";

#[derive(Default, Deserialize)]
struct Extension {
    #[serde(default)]
    dynamic_type: bool,
    #[serde(default)]
    allowed_comparators: BTreeSet<Comparator>,
}

impl Answers {
    fn of(schema: &Value) -> Result<Self, StrictError> {
        let mut reading = Reading { at: String::new(), asked_for: BTreeSet::new(), found: Vec::new() };
        reading.schema(schema)?;
        let mut found = reading.found;
        // Null beside something else is no answer, and asks for nothing.
        if found.iter().any(|answer| answer.kind != Kind::Null) {
            found.retain(|answer| answer.kind != Kind::Null);
        } else {
            found.truncate(1);
        }
        Ok(Self(found))
    }

    fn offer(&self, comparator: Comparator, options: &StrictOptions) -> Result<(), StrictError> {
        match self.standing(comparator, options) {
            Standing::Allowed => Ok(()),
            Standing::NotForIt => Err(StrictError::NotAllowed {
                comparator,
                kinds: self.kinds(),
                allowed: Comparator::ALL
                    .iter()
                    .copied()
                    .filter(|other| self.standing(*other, options) == Standing::Allowed)
                    .collect(),
            }),
            Standing::Disabled(option) => Err(StrictError::Disabled { comparator, option }),
            Standing::NotAskedFor => Err(StrictError::NotAskedFor(comparator)),
        }
    }

    fn standing(&self, comparator: Comparator, options: &StrictOptions) -> Standing {
        let family = family(comparator);
        let offers = || self.0.iter().map(|answer| (answer.kind.offer(family), answer));
        if offers().any(|(offer, _)| offer == Offer::No) {
            return Standing::NotForIt;
        }
        let mut requested = offers().filter(|(offer, _)| *offer == Offer::OnRequest).peekable();
        if requested.peek().is_none() {
            return Standing::Allowed;
        }
        let (enabled, option) = match family {
            Family::Lexical => (options.enable_lexicographic, "enable_lexicographic"),
            _ => (options.enable_deep_equals, "enable_deep_equals"),
        };
        if !enabled {
            return Standing::Disabled(option);
        }
        if requested.all(|(_, answer)| answer.asked_for.contains(&comparator)) {
            Standing::Allowed
        } else {
            Standing::NotAskedFor
        }
    }

    fn kinds(&self) -> String {
        let mut names: Vec<_> = self.0.iter().map(|answer| answer.kind.name()).collect();
        names.dedup();
        names.join(" or ")
    }

    /// Whether some type of answer can be compared with an expected value that
    /// [`expected::admit`] has let through.
    fn takes(&self, comparator: Comparator, expected: Option<&Value>) -> Result<(), StrictError> {
        let Some(expected) = expected else { return Ok(()) };
        match (family(comparator), expected) {
            (Family::Order, Value::String(text)) => {
                let comparable = |answer: &Answer| match answer.kind {
                    Kind::Date => Date::parse(text).is_some(),
                    Kind::DateTime => Instant::parse(text).is_some(),
                    _ => answer.kind == Kind::Dynamic,
                };
                let needed = if self.0.iter().any(|answer| answer.kind == Kind::Date) { "date" } else { "date-time" };
                self.any(comparable).ok_or_else(|| ExpectedError::Type { comparator, needed }.into())
            }
            (Family::Contains, Value::String(_)) => self
                .any(|answer| matches!(answer.kind, Kind::Text | Kind::Dynamic))
                .ok_or_else(|| ExpectedError::Type { comparator, needed: "array" }.into()),
            (Family::Contains, Value::Array(wanted)) => self.contain(wanted),
            _ => Ok(()),
        }
    }

    fn any(&self, is: impl FnMut(&Answer) -> bool) -> Option<()> {
        self.0.iter().any(is).then_some(())
    }

    fn contain(&self, wanted: &[Value]) -> Result<(), StrictError> {
        let mut fault = ExpectedError::Type { comparator: Comparator::Contains, needed: "string" };
        for answer in &self.0 {
            match &answer.kind {
                Kind::Dynamic => return Ok(()),
                Kind::Scalars(one) => match expected::each(&Expanded::of(one)?.compile()?, wanted) {
                    Ok(()) => return Ok(()),
                    Err(mismatch) => fault = mismatch,
                },
                _ => {}
            }
        }
        Err(fault.into())
    }
}

/// Reads what a schema says of types.
struct Reading {
    at: String,
    asked_for: BTreeSet<Comparator>,
    found: Vec<Answer>,
}

impl Reading {
    fn schema(&mut self, schema: &Value) -> Result<(), StrictError> {
        let Some(members) = schema.as_object() else {
            return Err(self.malformed("missing type"));
        };
        let outer = self.asked_for.clone();
        if let Some(extension) = members.get(EXTENSION) {
            // Only as an object: serde would also read an array by position.
            let extension = extension.as_object().map(|_| Extension::deserialize(extension));
            let Some(Ok(extension)) = extension else {
                return Err(
                    self.malformed("`x-decision-gate` must be an object with `dynamic_type` or `allowed_comparators`")
                );
            };
            if extension.dynamic_type {
                self.found(Kind::Dynamic);
                return Ok(());
            }
            self.asked_for.extend(extension.allowed_comparators);
        }
        self.types(members)?;
        self.asked_for = outer;
        Ok(())
    }

    fn types(&mut self, members: &Map<String, Value>) -> Result<(), StrictError> {
        let union = match (members.get("oneOf"), members.get("anyOf")) {
            (Some(_), Some(_)) => return Err(self.malformed("both `oneOf` and `anyOf`")),
            (Some(union), None) => Some(("oneOf", union)),
            (None, Some(union)) => Some(("anyOf", union)),
            (None, None) => None,
        };
        if let Some(choices) = members.get("enum") {
            return self.choices(choices.as_array().map_or(&[][..], Vec::as_slice));
        }
        if let Some(only) = members.get("const") {
            return self.choices(std::slice::from_ref(only));
        }
        match (members.get("type"), union) {
            (Some(Value::Array(names)), _) if !names.is_empty() => {
                names.iter().try_for_each(|name| self.named(name.as_str().unwrap_or_default(), members))
            }
            (Some(name), _) => self.named(name.as_str().unwrap_or_default(), members),
            (None, Some((keyword, union))) => match union.as_array() {
                Some(parts) if !parts.is_empty() => parts
                    .iter()
                    .enumerate()
                    .try_for_each(|(index, part)| self.below(&format!("/{keyword}/{index}"), part)),
                _ => Err(self.malformed("empty union")),
            },
            (None, None) => match wrapped(members) {
                Some(only) => self.below("/allOf/0", only),
                None => Err(self.malformed("missing type")),
            },
        }
    }

    fn below(&mut self, name: &str, schema: &Value) -> Result<(), StrictError> {
        let length = self.at.len();
        self.at.push_str(name);
        self.schema(schema)?;
        self.at.truncate(length);
        Ok(())
    }

    fn named(&mut self, name: &str, members: &Map<String, Value>) -> Result<(), StrictError> {
        let kind = match name {
            "boolean" => Kind::Boolean,
            "integer" | "number" => Kind::Number,
            "null" => Kind::Null,
            "object" => Kind::Object,
            "array" => self.array(members.get("items"))?,
            "string" => match members.get("format").and_then(Value::as_str) {
                Some("date") => Kind::Date,
                Some("date-time") => Kind::DateTime,
                Some("uuid") => Kind::Uuid,
                _ => Kind::Text,
            },
            _ => return Err(self.malformed("unknown type")),
        };
        self.found(kind);
        Ok(())
    }

    fn array(&mut self, items: Option<&Value>) -> Result<Kind, StrictError> {
        let Some(items @ Value::Object(members)) = items else { return Ok(Kind::Array) };
        if members.is_empty() {
            return Ok(Kind::Array);
        }
        let mut inside = Reading { at: format!("{}/items", self.at), asked_for: BTreeSet::new(), found: Vec::new() };
        inside.schema(items)?;
        let scalar = inside.found.iter().all(|answer| answer.kind.is_scalar());
        Ok(if scalar { Kind::Scalars(items.clone()) } else { Kind::Array })
    }

    /// What a list of values says. Null among others is as in a union.
    fn choices(&mut self, choices: &[Value]) -> Result<(), StrictError> {
        let kind = |value: &Value| match value {
            Value::Null => Kind::Null,
            Value::Array(_) => Kind::Array,
            Value::Object(_) => Kind::Object,
            Value::Bool(_) => Kind::Boolean,
            Value::Number(_) => Kind::Number,
            Value::String(_) => Kind::Text,
        };
        let mut kinds = choices.iter().map(kind).filter(|kind| *kind != Kind::Null);
        let Some(first) = kinds.next() else {
            if choices.is_empty() {
                return Err(self.malformed("empty enum"));
            }
            self.found(Kind::Null);
            return Ok(());
        };
        if kinds.any(|kind| kind != first) {
            return Err(self.malformed("mixed enum types"));
        }
        self.found(if first.is_scalar() { Kind::Choice } else { first });
        Ok(())
    }

    fn found(&mut self, kind: Kind) {
        self.found.push(Answer { kind, asked_for: self.asked_for.clone() });
    }

    fn malformed(&self, fault: &'static str) -> StrictError {
        StrictError::Malformed { at: self.at.clone(), fault }
    }
}

#[cfg(test)]
mod tests;
