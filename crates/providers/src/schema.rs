//! JSON Schema, draft 2020-12, with an end to every computation.
//!
//! Schemas come from contracts and callers. A schema is first written out:
//! every reference is replaced by what it points to, under limits. What is
//! compiled then refers to nothing, so nothing is fetched, nothing recurses,
//! and its size says what checking a value against it costs.

use std::sync::OnceLock;

use jsonschema::Validator;
use runpack_core::canon::size_within;
use runpack_core::read::{FREE_FORM_DEPTH_MAX, escape};
use serde_json::{Map, Value};

/// Bytes of a schema with its references written out.
const EXPANDED_BYTES_MAX: u64 = 1_048_576;

/// Bytes of one `pattern`, or name in `patternProperties`.
const PATTERN_BYTES_MAX: usize = 1_024;

/// Patterns of a schema with its references written out.
const PATTERNS_MAX: usize = 64;

/// Bytes of one compiled pattern, and of what it caches while matching.
const PATTERN_COMPILED_BYTES_MAX: usize = 262_144;

/// What a pattern weighs, in values of a schema.
const PATTERN_WEIGHT: u64 = 1_000;

/// `unevaluatedProperties` or `unevaluatedItems` around one another. Each makes
/// the library apply what is inside several times, so their depth is an exponent.
const UNEVALUATED_DEPTH_MAX: u32 = 4;

/// How many times, at most. Measured: a little more than three.
const UNEVALUATED_FACTOR: u64 = 4;

/// Values of a schema times bytes of a value that is checked against it: a few
/// seconds at the very worst, which takes a pattern made for it.
const WORK_MAX: u64 = 250_000_000;

/// The same product, up to which a mismatch is told in detail: the library
/// collects every fault of every alternative before it names the first.
const DETAIL_MAX: u64 = 10_000_000;

/// Characters of somebody else's sentence that are passed on.
const FAULT_CHARS_MAX: usize = 300;

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Why a schema is not used. `at` is a JSON pointer into it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Neither an object nor a boolean stands where a schema must.
    #[error("a schema must be an object or a boolean (`{at}`)")]
    NotASchema {
        /// Where.
        at: String,
    },
    /// `$schema` names something else than draft 2020-12.
    #[error("`$schema` must be `{DRAFT}`, or absent (`{at}`)")]
    Dialect {
        /// Where.
        at: String,
    },
    /// An identifier inside, which would change what references mean.
    #[error("`$id` must stand at the top of a schema only (`{at}`)")]
    Identifier {
        /// Where.
        at: String,
    },
    /// A reference that is not followed.
    #[error("reference `{reference}` {problem} (`{at}`)\nhint: refer by `#/$defs/name`")]
    Reference {
        /// Where.
        at: String,
        /// As written.
        reference: String,
        /// `leads out of the schema`, `points nowhere`, `leads back to itself`, …
        problem: &'static str,
    },
    /// More of something than is allowed.
    #[error("schema has more than {limit} {what} (`{at}`)")]
    TooLarge {
        /// Where it became too much.
        at: String,
        /// Of what.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// Not valid as a schema, or with a pattern that is not a regular
    /// expression without look-around and back-references.
    #[error("{fault} (`{at}`)")]
    Invalid {
        /// Where, with references written out.
        at: String,
        /// What.
        fault: String,
    },
}

/// A value is not as a schema wants it. Says where, and never what the value
/// is: values can be secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The first fault that was found.
    #[error("{fault}{}", shown(at))]
    Fault {
        /// JSON pointer into the value.
        at: String,
        /// What the schema wants there.
        fault: String,
    },
    /// Checking would take too long.
    #[error("value is too large to be checked against this schema")]
    TooCostly,
}

fn shown(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(" (`{at}`)") }
}

/// A compiled JSON Schema of draft 2020-12.
///
/// `format` is an annotation, as the draft has it. Not supported, and refused
/// when compiled: references out of the schema, `$dynamicRef`, anchors, schemas
/// that contain themselves, and patterns that need backtracking.
#[derive(Debug, Clone)]
pub struct Schema {
    compiled: OnceLock<Result<Validator, SchemaError>>,
    /// What is yet to be compiled, and empty where nothing is: as text, which is
    /// a tenth of the values.
    expanded: String,
    weight: u64,
}

impl Schema {
    /// Compiles `schema`. Never fetches anything.
    ///
    /// # Errors
    /// The first reason not to use it.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        Self::compile_expanded(&Expanded::of(schema)?)
    }

    /// Compiles `schema` when something is first checked against it: for one
    /// of our own, which a test compiles. Compiling all of them was a tenth of
    /// the memory of a server at rest. One that cannot be compiled after all
    /// takes no value.
    ///
    /// # Errors
    /// As far as they are known without compiling.
    pub(crate) fn later(schema: &Value) -> Result<Self, SchemaError> {
        let Expanded { schema, weight } = Expanded::of(schema)?;
        Ok(Self { compiled: OnceLock::new(), expanded: schema.to_string(), weight })
    }

    fn compile_expanded(expanded: &Expanded) -> Result<Self, SchemaError> {
        let compiled = OnceLock::from(Ok(Self::validator(&expanded.schema)?));
        Ok(Self { compiled, expanded: String::new(), weight: expanded.weight })
    }

    fn later_validator(expanded: &str) -> Result<Validator, SchemaError> {
        let invalid = |error: serde_json::Error| SchemaError::Invalid { at: String::new(), fault: error.to_string() };
        Self::validator(&serde_json::from_str(expanded).map_err(invalid)?)
    }

    fn validator(schema: &Value) -> Result<Validator, SchemaError> {
        let patterns = jsonschema::PatternOptions::regex()
            .size_limit(PATTERN_COMPILED_BYTES_MAX)
            .dfa_size_limit(PATTERN_COMPILED_BYTES_MAX);
        let built = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .should_validate_formats(false)
            .with_pattern_options(patterns)
            .with_retriever(Nowhere)
            .build(schema);
        match built {
            Ok(validator) => Ok(validator),
            Err(error) if matches!(error.kind(), jsonschema::error::ValidationErrorKind::Format { .. }) => {
                // Compiling, unlike checking, says by the schema's place where it failed.
                let fault = format!(
                    "a pattern must be a regular expression without look-around and back-references, of at most \
                     {PATTERN_COMPILED_BYTES_MAX} bytes when compiled"
                );
                Err(SchemaError::Invalid { at: error.schema_path().to_string(), fault })
            }
            Err(error) => {
                let fault = cut(&error.masked().to_string());
                Err(SchemaError::Invalid { at: error.instance_path().to_string(), fault })
            }
        }
    }

    /// Whether `value` is as the schema wants it.
    ///
    /// # Errors
    /// What is wrong with the value, or that it is too large to tell.
    pub fn check(&self, value: &Value) -> Result<(), Mismatch> {
        let Ok(Ok(bytes)) = size_within(value, WORK_MAX / self.weight.max(1)) else {
            return Err(Mismatch::TooCostly);
        };
        let validator = match self.compiled.get_or_init(|| Self::later_validator(&self.expanded)) {
            Ok(validator) => validator,
            Err(error) => return Err(Mismatch::Fault { at: String::new(), fault: cut(&error.to_string()) }),
        };
        if validator.is_valid(value) {
            return Ok(());
        }
        let error = if bytes * self.weight <= DETAIL_MAX { validator.validate(value).err() } else { None };
        Err(match error {
            Some(error) => {
                Mismatch::Fault { at: error.instance_path().to_string(), fault: cut(&error.masked().to_string()) }
            }
            None => Mismatch::Fault { at: String::new(), fault: "value is not as its schema says".to_owned() },
        })
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(FAULT_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The second wall: what is compiled has no references, and if it had, this
/// would not follow them. The library's own default depends on features that
/// another crate could turn on.
struct Nowhere;

impl jsonschema::Retrieve for Nowhere {
    fn retrieve(&self, uri: &jsonschema::Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("`{uri}` is not fetched").into())
    }
}

/// A schema with its references written out.
#[derive(Debug, Clone)]
pub(crate) struct Expanded {
    pub(crate) schema: Value,
    /// What applying it to a value costs, in values of the schema.
    weight: u64,
}

impl Expanded {
    pub(crate) fn of(schema: &Value) -> Result<Self, SchemaError> {
        let mut expansion = Expansion {
            root: schema,
            at: Vec::new(),
            followed: vec![""],
            depth: 0,
            unevaluated: 0,
            bytes: 0,
            weight: 0,
            patterns: 0,
        };
        let schema = expansion.schema(schema)?;
        Ok(Self { schema, weight: expansion.weight })
    }

    pub(crate) fn compile(&self) -> Result<Schema, SchemaError> {
        Schema::compile_expanded(self)
    }
}

struct Expansion<'a> {
    root: &'a Value,
    /// The place being written, as names.
    at: Vec<String>,
    /// The references being followed.
    followed: Vec<&'a str>,
    depth: usize,
    /// See [`UNEVALUATED_DEPTH_MAX`].
    unevaluated: u32,
    bytes: u64,
    weight: u64,
    patterns: usize,
}

/// What a keyword holds.
enum Holds {
    Schema,
    Schemas,
    /// By names that are not keywords.
    NamedSchemas,
    Reference,
    /// Something that is settled here and not passed on.
    Settled,
    Unsupported,
    Data,
}

fn holds(keyword: &str) -> Holds {
    match keyword {
        "additionalProperties"
        | "items"
        | "contains"
        | "propertyNames"
        | "not"
        | "if"
        | "then"
        | "else"
        | "unevaluatedItems"
        | "unevaluatedProperties"
        | "contentSchema"
        | "additionalItems" => Holds::Schema,
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => Holds::Schemas,
        "properties" | "patternProperties" | "dependentSchemas" | "dependencies" | "$defs" | "definitions" => {
            Holds::NamedSchemas
        }
        "$ref" => Holds::Reference,
        "$id" | "$schema" | "$anchor" | "$dynamicAnchor" | "$recursiveAnchor" => Holds::Settled,
        "$dynamicRef" | "$recursiveRef" => Holds::Unsupported,
        _ => Holds::Data,
    }
}

impl<'a> Expansion<'a> {
    fn schema(&mut self, schema: &'a Value) -> Result<Value, SchemaError> {
        let members = match schema {
            Value::Bool(_) => return self.data(schema),
            Value::Object(members) => members,
            _ => return Err(SchemaError::NotASchema { at: self.place() }),
        };
        self.dialect(members)?;
        self.enter(2)?;
        let outer = self.unevaluated;
        let inside =
            outer + u32::from(["unevaluatedProperties", "unevaluatedItems"].iter().any(|it| members.contains_key(*it)));
        let mut written = Map::new();
        let mut referred = None;
        for (name, member) in members {
            self.at.push(name.clone());
            self.count(name.len() as u64 + 3)?;
            // What stands in `properties` is known to `unevaluatedProperties` by name only.
            self.unevaluated = if name == "properties" { outer } else { inside };
            if self.unevaluated > UNEVALUATED_DEPTH_MAX {
                return Err(self.too_large("levels of `unevaluated…`", UNEVALUATED_DEPTH_MAX.into()));
            }
            match (holds(name), member) {
                (Holds::Settled, _) => {}
                (Holds::Unsupported, _) => {
                    return Err(
                        self.reference(member.as_str().unwrap_or_default(), "is of a kind that is not followed")
                    );
                }
                (Holds::Reference, _) => referred = Some(self.referred(member)?),
                (Holds::Schema, _) => {
                    written.insert(name.clone(), self.schema(member)?);
                }
                (Holds::Schemas, Value::Array(items)) => {
                    let items = self.each(items.iter().enumerate().map(|(index, item)| (index.to_string(), item)))?;
                    written.insert(name.clone(), items.into_iter().map(|(_, item)| item).collect());
                }
                (Holds::NamedSchemas, Value::Object(named)) => {
                    if name == "patternProperties" {
                        named.keys().try_for_each(|pattern| self.pattern(pattern))?;
                    }
                    let named = self.each(named.iter().map(|(name, member)| (name.clone(), member)))?;
                    written.insert(name.clone(), Value::Object(named.into_iter().collect()));
                }
                // Where schemas should be and are not, the library says so.
                (Holds::Schemas | Holds::NamedSchemas | Holds::Data, _) => {
                    if let ("pattern", Value::String(pattern)) = (name.as_str(), member) {
                        self.pattern(pattern)?;
                    }
                    written.insert(name.clone(), self.data(member)?);
                }
            }
            self.at.pop();
        }
        self.unevaluated = outer;
        self.depth -= 1;
        match referred {
            None => Ok(Value::Object(written)),
            Some(referred) if written.is_empty() => Ok(referred),
            // `$ref` beside other keywords is one more thing that must hold.
            Some(referred) => match written.entry("allOf").or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(all) => {
                    all.push(referred);
                    Ok(Value::Object(written))
                }
                _ => Err(SchemaError::Invalid { at: self.place(), fault: "`allOf` must be an array".to_owned() }),
            },
        }
    }

    fn dialect(&self, members: &Map<String, Value>) -> Result<(), SchemaError> {
        let named = members.get("$schema").map(|named| named.as_str().map(|named| named.trim_end_matches('#')));
        if named.is_some_and(|named| named != Some(DRAFT)) {
            return Err(SchemaError::Dialect { at: self.place() });
        }
        if members.contains_key("$id") && !self.at.is_empty() {
            return Err(SchemaError::Identifier { at: self.place() });
        }
        Ok(())
    }

    fn each(
        &mut self,
        schemas: impl Iterator<Item = (String, &'a Value)>,
    ) -> Result<Vec<(String, Value)>, SchemaError> {
        self.enter(2)?;
        let mut written = Vec::new();
        for (name, schema) in schemas {
            self.count(name.len() as u64 + 3)?;
            self.at.push(name.clone());
            // `dependencies` may also hold lists of names.
            let schema = if schema.is_array() { self.data(schema)? } else { self.schema(schema)? };
            self.at.pop();
            written.push((name, schema));
        }
        self.depth -= 1;
        Ok(written)
    }

    fn referred(&mut self, reference: &'a Value) -> Result<Value, SchemaError> {
        let Some(text) = reference.as_str() else {
            return Err(self.reference("", "must be a string"));
        };
        let Some(pointer) = text.strip_prefix('#') else {
            return Err(self.reference(text, "leads out of the schema"));
        };
        if pointer.contains('%') || !(pointer.is_empty() || pointer.starts_with('/')) {
            return Err(self.reference(text, "is of a kind that is not followed"));
        }
        if self.followed.contains(&pointer) {
            return Err(self.reference(text, "leads back to itself"));
        }
        let Some(target) = self.root.pointer(pointer) else {
            return Err(self.reference(text, "points nowhere"));
        };
        // It may come to stand in an `allOf`, a level deeper.
        self.enter(2)?;
        self.followed.push(pointer);
        let written = self.schema(target)?;
        self.followed.pop();
        self.depth -= 1;
        Ok(written)
    }

    fn data(&mut self, value: &Value) -> Result<Value, SchemaError> {
        self.measure(value)?;
        Ok(value.clone())
    }

    fn measure(&mut self, value: &Value) -> Result<(), SchemaError> {
        match value {
            Value::String(text) => self.count(text.len() as u64 + 2)?,
            Value::Array(items) => {
                self.enter(2)?;
                items.iter().try_for_each(|item| self.measure(item))?;
                self.depth -= 1;
            }
            Value::Object(members) => {
                self.enter(2)?;
                for (name, member) in members {
                    self.count(name.len() as u64 + 3)?;
                    self.measure(member)?;
                }
                self.depth -= 1;
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => self.count(2)?,
        }
        Ok(())
    }

    fn pattern(&mut self, pattern: &str) -> Result<(), SchemaError> {
        self.patterns += 1;
        self.weight += PATTERN_WEIGHT * self.factor();
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(self.too_large("bytes in a pattern", PATTERN_BYTES_MAX as u64));
        }
        if self.patterns > PATTERNS_MAX {
            return Err(self.too_large("patterns", PATTERNS_MAX as u64));
        }
        Ok(())
    }

    fn enter(&mut self, bytes: u64) -> Result<(), SchemaError> {
        self.depth += 1;
        if self.depth > FREE_FORM_DEPTH_MAX {
            return Err(self.too_large("levels", FREE_FORM_DEPTH_MAX as u64));
        }
        self.count(bytes)
    }

    /// Counts one value, or name, of so many bytes.
    fn count(&mut self, bytes: u64) -> Result<(), SchemaError> {
        self.weight += self.factor();
        self.bytes += bytes;
        if self.bytes > EXPANDED_BYTES_MAX {
            return Err(self.too_large("bytes with its references written out", EXPANDED_BYTES_MAX));
        }
        Ok(())
    }

    fn factor(&self) -> u64 {
        UNEVALUATED_FACTOR.pow(self.unevaluated.min(UNEVALUATED_DEPTH_MAX))
    }

    fn place(&self) -> String {
        self.at.iter().map(|name| format!("/{}", escape(name))).collect()
    }

    fn too_large(&self, what: &'static str, limit: u64) -> SchemaError {
        SchemaError::TooLarge { at: self.place(), what, limit }
    }

    fn reference(&self, reference: &str, problem: &'static str) -> SchemaError {
        SchemaError::Reference { at: self.place(), reference: cut(reference), problem }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    fn refused(schema: &Value) -> String {
        Schema::compile(schema).map(drop).unwrap_err().to_string()
    }

    fn takes(schema: &Value, value: &Value) -> bool {
        Schema::compile(schema).unwrap().check(value).is_ok()
    }

    #[test]
    fn a_reference_means_what_it_points_to() {
        let schema = json!({
            "$id": "https://example.com/shape", "$schema": DRAFT,
            "$defs": {"id": {"type": "string", "minLength": 2}, "pair": {"items": {"$ref": "#/$defs/id"}}},
            "properties": {"a": {"$ref": "#/$defs/id"}, "b": {"$ref": "#/$defs/pair", "minItems": 1}},
        });
        assert!(takes(&schema, &json!({"a": "xy", "b": ["xy"]})));
        for bad in [json!({"a": "x"}), json!({"b": ["x"]}), json!({"b": []})] {
            assert!(!takes(&schema, &bad), "{bad}");
        }
    }

    #[test]
    fn names_that_look_like_keywords_are_names() {
        let schema = json!({"properties": {"$ref": {"type": "string"}, "$id": {"const": {"$ref": "x"}}}});
        assert!(takes(&schema, &json!({"$ref": "x", "$id": {"$ref": "x"}})));
        assert!(!takes(&schema, &json!({"$ref": 1})));
    }

    #[test]
    fn nothing_leads_out_of_a_schema() {
        for uri in ["https://example.com/s", "http://127.0.0.1:1/s", "file:///etc/passwd", "other.json", ""] {
            let text = refused(&json!({"properties": {"a": {"$ref": uri}}}));
            assert_eq!(
                text,
                format!(
                    "reference `{uri}` leads out of the schema (`/properties/a/$ref`)\nhint: refer by `#/$defs/name`"
                )
            );
        }
        // Where no keyword says that a schema stands there, nothing is followed either.
        for schema in [json!({"x-more": {"$ref": "https://example.com/s"}}), json!({"default": {"$ref": "file:///x"}})]
        {
            assert!(Schema::compile(&schema).is_ok_and(|schema| schema.check(&json!(1)).is_ok()));
        }
    }

    #[test]
    fn says_why_a_schema_is_not_used() {
        let rows = [
            (json!(1), "a schema must be an object or a boolean (``)"),
            (json!({"items": [true]}), "a schema must be an object or a boolean (`/items`)"),
            (
                json!({"$schema": "http://json-schema.org/draft-07/schema#"}),
                "`$schema` must be `https://json-schema.org/draft/2020-12/schema`, or absent (``)",
            ),
            (json!({"not": {"$id": "x"}}), "`$id` must stand at the top of a schema only (`/not`)"),
            (json!({"$ref": "#"}), "reference `#` leads back to itself"),
            (
                json!({"$defs": {"a/b": {"items": {"$ref": "#/$defs/a~1b"}}}}),
                "reference `#/$defs/a~1b` leads back to itself",
            ),
            (json!({"$ref": "#/$defs/a"}), "reference `#/$defs/a` points nowhere"),
            (
                json!({"$ref": "#a", "$defs": {"a": {"$anchor": "a"}}}),
                "reference `#a` is of a kind that is not followed",
            ),
            (json!({"$dynamicRef": "#a"}), "reference `#a` is of a kind that is not followed"),
            (json!({"$ref": 1}), "reference `` must be a string"),
            (json!({"$ref": "#/$defs/a", "$defs": {"a": {}}, "allOf": 1}), "`allOf` must be an array (``)"),
            (json!({"type": "text"}), "(`/type`)"),
            (json!({"properties": 1}), "(`/properties`)"),
            (json!({"pattern": "(?=a)"}), "(`/pattern`)"),
            (json!({"pattern": "(a)\\1"}), "(`/pattern`)"),
            (json!({"pattern": "(a{1000}){1000}"}), "(`/pattern`)"),
            (json!({"pattern": "a".repeat(1_025)}), "schema has more than 1024 bytes in a pattern (`/pattern`)"),
            (
                json!({"enum": ["a".repeat(1_048_577)]}),
                "schema has more than 1048576 bytes with its references written out (`/enum`)",
            ),
        ];
        for (schema, text) in rows {
            let found = refused(&schema);
            assert!(found.contains(text), "{text}\n{found}");
        }
        let patterns: Vec<_> = (0..65).map(|n| json!({"pattern": format!("a{n}")})).collect();
        assert!(refused(&json!({"anyOf": patterns})).contains("more than 64 patterns"));
        let deep = (0..64).fold(json!({}), |inner, _| json!({"not": inner}));
        assert!(refused(&deep).contains("more than 64 levels"));
    }

    #[test]
    fn references_cannot_multiply_without_end() {
        let mut defs = Map::new();
        defs.insert("d0".to_owned(), json!({"type": "integer"}));
        for n in 1..30 {
            let reference = json!({"$ref": format!("#/$defs/d{}", n - 1)});
            defs.insert(format!("d{n}"), json!({"allOf": [reference, reference]}));
        }
        let start = Instant::now();
        let text = refused(&json!({"$defs": defs, "$ref": "#/$defs/d29"}));
        assert!(text.contains("bytes with its references written out"), "{text}");
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    /// Schemas of the kinds that make naive validators take for ever.
    #[test]
    fn compiling_and_checking_come_to_an_end() {
        let nest = |levels: usize, wrap: &dyn Fn(Value) -> Value| {
            (0..levels).fold(json!({"type": "integer"}), |inner, _| wrap(inner))
        };
        let rows = [
            nest(30, &|inner| json!({"anyOf": [inner, {"type": "integer"}]})),
            nest(30, &|inner| json!({"oneOf": [inner, {"type": "boolean"}]})),
            nest(30, &|inner| json!({"allOf": [inner], "unevaluatedProperties": false})),
            (0..30).fold(json!({}), |inner, _| json!({"anyOf": [inner], "unevaluatedProperties": {"not": false}})),
            nest(30, &|inner| json!({"properties": {"a": inner}, "unevaluatedProperties": false})),
            nest(30, &|inner| json!({"if": inner, "then": {"type": "integer"}, "else": {"type": "integer"}})),
            json!({"items": {"pattern": "^(a+)+$"}}),
            json!({"items": {"pattern": "(.*a){12}"}}),
            json!({"uniqueItems": true}),
        ];
        let values = [json!([{"a": {"a": "b"}}, "a".repeat(100_000), "x", "y"]), json!({"a": {"a": "b"}, "b": 1})];
        for schema in rows {
            for value in &values {
                let start = Instant::now();
                let outcome = Schema::compile(&schema).map(|schema| schema.check(value));
                assert!(start.elapsed() < Duration::from_secs(5), "{:?} {outcome:?} {schema}", start.elapsed());
            }
        }
        let open = |levels| {
            (0..levels).fold(json!({}), |inner, _| json!({"anyOf": [inner], "unevaluatedProperties": {"not": false}}))
        };
        assert!(Schema::compile(&open(4)).is_ok_and(|schema| schema.check(&values[1]).is_ok()));
        assert!(refused(&open(5)).contains("more than 4 levels of `unevaluated…`"));
        let objects = nest(20, &|inner| json!({"properties": {"a": inner}, "unevaluatedProperties": false}));
        assert!(Schema::compile(&objects).is_ok());
    }

    #[test]
    fn what_would_take_too_long_is_not_begun() {
        let schema = Schema::compile(&json!({"items": {"enum": (0..5_000).collect::<Vec<_>>()}})).unwrap();
        assert_eq!(schema.check(&json!([1, 2, 4_999])), Ok(()));
        assert_eq!(schema.check(&json!(vec![1; 200_000])), Err(Mismatch::TooCostly));
    }

    #[test]
    fn a_mismatch_says_where_and_not_what() {
        let schema = Schema::compile(&json!({"properties": {"key": {"type": "string", "maxLength": 2}}})).unwrap();
        let text = schema.check(&json!({"key": "hunter2"})).unwrap_err().to_string();
        assert!(text.ends_with("(`/key`)") && !text.contains("hunter2"), "{text}");
        let long = Schema::compile(&json!({"const": "x".repeat(1_000)})).unwrap();
        assert!(long.check(&json!(1)).unwrap_err().to_string().chars().count() < 400);
    }

    #[test]
    fn formats_are_annotations() {
        assert!(takes(&json!({"type": "string", "format": "date-time"}), &json!("soon")));
    }
}
