//! One change of one value in a JSON document.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::random::Random;

/// A place in a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    Member(String),
    Item(usize),
}

/// Values seen elsewhere, by pattern of their place: what somebody would copy.
pub(crate) type Donors = BTreeMap<String, Vec<Value>>;

/// A document with one change.
pub(crate) struct Lie {
    pub(crate) at: Vec<Part>,
    pub(crate) what: &'static str,
    pub(crate) told: Value,
}

/// Every place in `document`, the root included.
pub(crate) fn places(document: &Value) -> Vec<Vec<Part>> {
    fn descend(value: &Value, at: &mut Vec<Part>, found: &mut Vec<Vec<Part>>) {
        found.push(at.clone());
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    at.push(Part::Member(name.clone()));
                    descend(member, at, found);
                    at.pop();
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    at.push(Part::Item(index));
                    descend(item, at, found);
                    at.pop();
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    descend(document, &mut Vec::new(), &mut found);
    found
}

/// The pattern of a place: positions are `*`, and what is inside a free-form
/// value or a requirement is `…`.
pub(crate) fn pattern(at: &[Part]) -> String {
    let mut text = String::new();
    for (index, part) in at.iter().enumerate() {
        let free = match part {
            Part::Member(name) => match name.as_str() {
                "expected" | "params" | "details" => index + 1 < at.len(),
                "requirement" => index + 1 < at.len(),
                "value" => {
                    index > 0
                        && matches!(&at[index - 1], Part::Member(above) if above == "payload" || above == "value")
                        && index + 1 < at.len()
                }
                _ => false,
            },
            Part::Item(_) => false,
        };
        match part {
            Part::Member(name) => text.push_str(&format!("/{name}")),
            Part::Item(_) => text.push_str("/*"),
        }
        if free {
            text.push_str("/…");
            break;
        }
    }
    text
}

pub(crate) fn get<'v>(document: &'v Value, at: &[Part]) -> &'v Value {
    at.iter().fold(document, |value, part| match part {
        Part::Member(name) => &value[name.as_str()],
        Part::Item(index) => &value[*index],
    })
}

fn get_mut<'v>(document: &'v mut Value, at: &[Part]) -> &'v mut Value {
    at.iter().fold(document, |value, part| match part {
        Part::Member(name) => &mut value[name.as_str()],
        Part::Item(index) => &mut value[*index],
    })
}

pub(crate) const WORDS: [&[&str]; 8] = [
    &["True", "False", "Unknown"],
    &["true", "false", "unknown"],
    &["verified", "asserted"],
    &["agent_request_next", "tick", "external_event", "backend_event"],
    &["fail", "advance_with_flag", "alternate_branch"],
    &["scenario.next", "scenario.trigger", "scenario.submit", "scenario.status"],
    &["unix_millis", "logical"],
    &["provider_error", "trust_lane", "anchor_invalid", "evidence_too_large", "value_not_recordable"],
];

/// One change somewhere; `None` if chance found nothing to change.
pub(crate) fn lie(random: &mut Random, document: &Value, donors: &Donors) -> Option<Lie> {
    let mut places = places(document);
    let at = places.swap_remove(random.below(places.len()));
    let old = get(document, &at);
    if random.percent(15) {
        let like: Vec<_> = places.iter().filter(|other| pattern(other) == pattern(&at)).collect();
        if !like.is_empty() {
            let new = get(document, like[random.below(like.len())]).clone();
            return changed(document, at, "copied from a neighbour", new);
        }
    }
    let donor = donors.get(&pattern(&at)).filter(|_| random.percent(30)).map(|donors| random.pick(donors).clone());
    let (what, new) = match (donor, old) {
        (Some(donor), _) => ("copied from elsewhere", donor),
        (None, Value::Null) => {
            ("set", random.pick(&[json!("x"), json!(1), json!(false), json!([]), json!({})]).clone())
        }
        (None, Value::Bool(flag)) => ("flipped", json!(!flag)),
        (None, Value::Number(number)) => (
            "changed",
            match random.below(4) {
                0 => json!(0),
                1 => Value::Null,
                2 => json!(number.as_i64().unwrap_or(7).saturating_add(1)),
                _ => json!(number.as_i64().unwrap_or(7).saturating_sub(1)),
            },
        ),
        (None, Value::String(text)) => word(random, text),
        (None, Value::Array(items)) => array(random, items)?,
        (None, Value::Object(members)) => object(random, members)?,
    };
    changed(document, at, what, new)
}

fn changed(document: &Value, at: Vec<Part>, what: &'static str, new: Value) -> Option<Lie> {
    if *get(document, &at) == new {
        return None;
    }
    let mut told = document.clone();
    *get_mut(&mut told, &at) = new;
    Some(Lie { at, what, told })
}

fn word(random: &mut Random, text: &str) -> (&'static str, Value) {
    if let Some(words) = WORDS.iter().find(|words| words.contains(&text)).filter(|_| random.percent(80)) {
        return ("another word", json!(random.pick(words)));
    }
    if text.len() == 64 && random.percent(80) {
        let at = random.below(64);
        let digit = format!("{:x}", random.below(16));
        return ("another digit", json!(format!("{}{digit}{}", &text[..at], &text[at + 1..])));
    }
    match random.below(5) {
        0 => ("emptied", json!("")),
        1 => ("nulled", Value::Null),
        2 => {
            let stem = text.trim_end_matches(|digit: char| digit.is_ascii_digit());
            ("counted", json!(format!("{stem}{}", random.below(6))))
        }
        _ => ("lengthened", json!(format!("{text}x"))),
    }
}

fn array(random: &mut Random, items: &[Value]) -> Option<(&'static str, Value)> {
    let mut items = items.to_vec();
    if items.is_empty() {
        return Some(("filled", json!([random.pick(&[json!("x"), json!(1), json!({})])])));
    }
    let at = random.below(items.len());
    let what = match random.below(6) {
        0 | 1 => {
            items.remove(at);
            "item removed"
        }
        2 => {
            items.insert(at, items[at].clone());
            "item doubled"
        }
        3 => {
            let last = items.len() - 1;
            items.remove(last);
            "last item removed"
        }
        4 => {
            let next = (at + 1) % items.len();
            items.swap(at, next);
            "neighbours swapped"
        }
        _ => {
            let item = items.remove(at);
            items.insert(random.below(items.len() + 1), item);
            "item moved"
        }
    };
    Some((what, Value::Array(items)))
}

fn object(random: &mut Random, members: &Map<String, Value>) -> Option<(&'static str, Value)> {
    let mut members = members.clone();
    let name = members.keys().nth(random.below(members.len().max(1))).cloned();
    let what = match (random.below(5), name) {
        (0, Some(name)) => {
            members.remove(&name);
            "member removed"
        }
        (1, Some(name)) => {
            let value = members.remove(&name)?;
            members.insert(format!("{name}x"), value);
            "member renamed"
        }
        (2, Some(name)) => {
            let other = members.keys().nth(random.below(members.len()))?.clone();
            let (left, right) = (members[&name].clone(), members[&other].clone());
            members.insert(name, right);
            members.insert(other, left);
            "members exchanged"
        }
        (3, _) => return Some(("nulled", Value::Null)),
        _ => {
            members.insert("new".to_owned(), random.pick(&[Value::Null, json!(1), json!("x")]).clone());
            "member added"
        }
    };
    Some((what, Value::Object(members)))
}
