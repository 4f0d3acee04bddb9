//! Served schemas: each complete by itself.
//!
//! A tool's file says its two schemas and refers to `types.json` for what tools
//! have in common. Clients cannot fetch that file, and some do not follow
//! references at all, so types are put in place. Only a type that contains
//! itself stays a reference, to `$defs` at the root.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

const TYPES: &str = include_str!("../../../schemas/tools/types.json");
const TYPE: &str = "types.json#/$defs/";

/// One side of a tool, as clients are shown it: `input` or `output` of the
/// tool's file. Null if the file does not say; a test looks at every tool.
pub(super) fn served(file: &str, side: &str) -> Value {
    let read = |text| serde_json::from_str::<Value>(text).unwrap_or_default();
    let types = Types(read(TYPES)["$defs"].take());
    let mut recursive = BTreeSet::new();
    let mut whole = types.in_place(read(file)[side].take(), &mut recursive);
    let mut defs = Map::new();
    // What a recursive type refers to may be recursive too.
    while let Some(name) = recursive.iter().find(|name| !defs.contains_key(*name)).cloned() {
        let body = types.in_place(types.0[name.as_str()].clone(), &mut recursive);
        defs.insert(name, body);
    }
    if let Value::Object(members) = &mut whole {
        members.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
        if !defs.is_empty() {
            members.insert("$defs".to_owned(), Value::Object(defs));
        }
    }
    whole
}

struct Types(Value);

impl Types {
    fn in_place(&self, schema: Value, recursive: &mut BTreeSet<String>) -> Value {
        match schema {
            Value::Array(items) => items.into_iter().map(|item| self.in_place(item, recursive)).collect(),
            Value::Object(mut members) => {
                let name = members.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix(TYPE));
                let Some(name) = name.map(str::to_owned) else {
                    return members.into_iter().map(|(key, value)| (key, self.in_place(value, recursive))).collect();
                };
                if self.contains(&name, &name, &mut BTreeSet::new()) {
                    members.insert("$ref".to_owned(), format!("#/$defs/{name}").into());
                    recursive.insert(name);
                    return Value::Object(members);
                }
                members.remove("$ref");
                let mut body = self.in_place(self.0[name.as_str()].clone(), recursive);
                // What the place says of the type goes before what the type says.
                if let Value::Object(body) = &mut body {
                    body.extend(members);
                }
                body
            }
            other => other,
        }
    }

    /// Whether `outer` refers to `inner`, at whatever depth.
    fn contains(&self, outer: &str, inner: &str, seen: &mut BTreeSet<String>) -> bool {
        let mut names = BTreeSet::new();
        references(&self.0[outer], &mut names);
        names.into_iter().any(|name| name == inner || (seen.insert(name.clone()) && self.contains(&name, inner, seen)))
    }
}

fn references(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        Value::Object(members) => {
            let name = members.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix(TYPE));
            names.extend(name.map(str::to_owned));
            members.values().for_each(|value| references(value, names));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_type_is_put_in_place_and_one_that_contains_itself_is_hoisted() {
        let file = json!({"input": {
            "type": "object",
            "properties": {"at": {"$ref": "types.json#/$defs/timestamp", "description": "when"}, "gate": {"$ref": "types.json#/$defs/gate"}},
        }});
        let whole = served(&file.to_string(), "input");
        assert_eq!(whole["properties"]["at"]["description"], "when");
        assert!(whole["properties"]["at"]["oneOf"].is_array());
        assert_eq!(whole["properties"]["gate"]["properties"]["requirement"]["$ref"], "#/$defs/requirement");
        assert_eq!(whole["$defs"].as_object().unwrap().len(), 1);
        assert!(!whole.to_string().contains("types.json"));
    }
}
