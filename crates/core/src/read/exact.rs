//! A deserializer that reads a record only if it has the members a writer of
//! the format writes, and no others.
//!
//! A log holds hundreds of thousands of records, and each must be exactly what
//! a writer writes: nothing left out, nothing added. Writing every record again
//! to compare it costs more than reading it. But serde tells the deserializer
//! the names of a struct's members, and ours are declared in canonical order;
//! so the members of canonical text must be those names, one by one.
//!
//! What this reader takes is right. What it does not take may still be right,
//! and is read again by the reader that can say why not.

use std::fmt;

use serde::de::value::U64Deserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

/// Reads a record from `text`, which must be canonical. `None` if it is not
/// surely what a writer writes.
pub(crate) fn exactly<T: DeserializeOwned>(text: &str) -> Option<T> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let record = T::deserialize(Exact(&mut reader)).ok()?;
    reader.end().ok().map(|()| record)
}

/// Structs that name the members of all variants of a tagged enum. Their
/// conversion says which of them a variant has.
const UNION: &str = "Union";

/// Wraps a deserializer, and everything that comes out of it.
struct Exact<T>(T);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Exact<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        if name.ends_with(UNION) {
            self.0.deserialize_map(Union(visitor))
        } else {
            self.0.deserialize_map(Struct { visitor, fields })
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(Exact(visitor))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_seq(Exact(visitor))
    }

    /// Free-form values: nothing inside is a struct.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_str(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_string(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_bool(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_u8(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_u64(visitor)
    }

    /// A member that no struct names.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, D::Error> {
        Err(D::Error::custom("unknown member"))
    }

    // No record has these.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, D::Error> {
        Err(D::Error::custom("an enum that is not a string"))
    }

    fn deserialize_map<V: Visitor<'de>>(self, _: V) -> Result<V::Value, D::Error> {
        Err(D::Error::custom("a map"))
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u16 u32 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct
        tuple tuple_struct identifier
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Exact<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Exact(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Exact(items))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Exact<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Exact(inner))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Exact<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Exact(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

/// A struct: all its members, in their order.
struct Struct<V> {
    visitor: V,
    fields: &'static [&'static str],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Struct<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Members { members, fields: self.fields, passed: 0 })
    }
}

struct Members<A> {
    members: A,
    fields: &'static [&'static str],
    passed: usize,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let Some(&field) = self.fields.get(self.passed) else {
            return match self.members.next_key_seed(Named("")) {
                Ok(None) => Ok(None),
                _ => Err(A::Error::custom("one member more")),
            };
        };
        if self.members.next_key_seed(Named(field))?.is_none() {
            return Err(A::Error::custom("a member is left out"));
        }
        // Derived readers know their members by position, too.
        let position: U64Deserializer<A::Error> = (self.passed as u64).into_deserializer();
        self.passed += 1;
        seed.deserialize(position).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.members.next_value_seed(Exact(seed))
    }
}

/// Passes a member's name if it is this one.
struct Named(&'static str);

impl<'de> DeserializeSeed<'de> for Named {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<(), D::Error> {
        name.deserialize_str(self)
    }
}

impl Visitor<'_> for Named {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the member `{}`", self.0)
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<(), E> {
        if name == self.0 { Ok(()) } else { Err(E::custom("another member")) }
    }
}

/// A tagged enum: known members, and `null` for none of them. That a member
/// belongs to the variant, and that none is missing, its conversion says.
struct Union<T>(T);

impl<'de, V: Visitor<'de>> Visitor<'de> for Union<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Union(members))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Union<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Present(seed))
    }
}

struct Present<T>(T);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Present<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Present(inner))
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Present<D> {
    type Error = D::Error;

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(Present(visitor))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        Exact(self.0).deserialize_ignored_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        Exact(self.0).deserialize_struct(name, fields, visitor)
    }

    // The tag itself, and the members that are never left out.
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Present<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Exact(inner))
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::{Value, json};

    use super::*;
    use crate::canon;
    use crate::model::{DecisionRecord, GateEvalRecord, PacketRecord, SubmissionRecord, ToolCallRecord, TriggerRecord};

    const DIGEST: &str = "b5bea41b6c623f7c09f1bf24dcae58ebab3c0cdd90ad966bc43a45b44867e12b";

    /// Every record with one member taken out, made `null`, or added.
    fn spoilt(record: &Value) -> Vec<Value> {
        fn places(value: &Value, at: &str, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    found.push(at.to_owned());
                    members.iter().for_each(|(name, member)| places(member, &format!("{at}/{name}"), found));
                }
                Value::Array(items) => {
                    items.iter().enumerate().for_each(|(index, item)| places(item, &format!("{at}/{index}"), found));
                }
                _ => {}
            }
        }
        let mut objects = Vec::new();
        places(record, "", &mut objects);
        let mut all = Vec::new();
        for at in objects {
            let members = record.pointer(&at).and_then(Value::as_object).unwrap();
            let mut changed = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
                let mut other = record.clone();
                change(other.pointer_mut(&at).and_then(Value::as_object_mut).unwrap());
                all.push(other);
            };
            for name in members.keys() {
                changed(&|members| drop(members.remove(name)));
                changed(&|members| drop(members.insert(name.clone(), Value::Null)));
            }
            for name in ["a", "bytes", "kind", "reason", "stage_id", "timeout", "value", "zz"] {
                changed(&|members| drop(members.insert(name.to_owned(), Value::Null)));
                changed(&|members| drop(members.insert(name.to_owned(), json!("x"))));
            }
        }
        all
    }

    fn holds<T: DeserializeOwned + Serialize>(record: &Value) {
        let text = record.to_string();
        assert!(exactly::<T>(&text).is_some(), "an honest record takes the quick way: {text}");
        for other in spoilt(record) {
            let text = other.to_string();
            if let Some(read) = exactly::<T>(&text) {
                assert_eq!(String::from_utf8(canon::to_vec(&read).unwrap()).unwrap(), text);
            }
        }
    }

    #[test]
    fn takes_only_what_a_writer_writes() {
        let digest = json!({"algorithm": "sha256", "value": DIGEST});
        let time = json!({"kind": "logical", "value": 3});
        holds::<TriggerRecord>(&json!({"event": {"correlation_id": null, "kind": "tick", "namespace_id": 1,
            "payload": {"kind": "json", "value": {"a": [1, null]}}, "run_id": "r", "source_id": "s", "tenant_id": 1,
            "time": time, "trigger_id": "t"}, "seq": 1}));
        for outcome in [
            json!({"kind": "start", "stage_id": "a"}),
            json!({"kind": "complete", "stage_id": "a"}),
            json!({"from_stage": "a", "kind": "advance", "timeout": false, "to_stage": "b"}),
            json!({"kind": "hold", "summary": {"policy_tags": [], "retry_hint": null, "status": "hold", "unmet_gates": ["g"]}}),
            json!({"kind": "fail", "reason": "timeout"}),
        ] {
            holds::<DecisionRecord>(&json!({"correlation_id": "c", "decided_at": time, "decision_id": "decision-1",
                "outcome": outcome, "seq": 1, "stage_id": "a", "trigger_id": "t"}));
        }
        holds::<GateEvalRecord>(&json!({"evaluation": {"gate_id": "g", "status": "True",
            "trace": [{"condition_id": "c", "status": "True"}]}, "evidence": [{"condition_id": "c", "result": {
            "content_type": "text/plain", "error": {"code": "x", "details": {"k": 1}, "message": "m"},
            "evidence_anchor": {"anchor_type": "env", "anchor_value": "K"}, "evidence_hash": digest,
            "evidence_ref": {"uri": "u"}, "lane": "verified", "signature": {"key_id": "k", "scheme": "s",
            "signature": [1, 255]}, "value": {"kind": "bytes", "value": [0, 7]}}, "status": "Unknown"}],
            "stage_id": "a", "trigger_id": "t"}));
        for (target, payload) in [
            (json!({"agent_id": "a", "kind": "agent"}), json!({"bytes": [1], "kind": "bytes"})),
            (json!({"kind": "session", "session_id": "s"}), json!({"kind": "json", "value": null})),
            (
                json!({"kind": "external", "system": "s", "target": "t"}),
                json!({"content_ref": {"content_hash": digest, "encryption": null, "uri": "u"}, "kind": "external"}),
            ),
            (json!({"channel": "c", "kind": "channel"}), json!({"kind": "json", "value": "x"})),
        ] {
            holds::<PacketRecord>(&json!({"decision_id": "decision-1", "envelope": {"content_hash": digest,
                "content_type": "application/json", "correlation_id": null, "expiry": time, "issued_at": time,
                "packet_id": "p", "run_id": "r", "scenario_id": "s", "schema_id": "x", "stage_id": "a",
                "visibility": {"labels": [], "policy_tags": ["t"]}}, "payload": payload, "receipts": [{
                "dispatch_id": "d", "dispatched_at": time, "dispatcher": "log", "receipt_hash": digest,
                "target": target}]}));
        }
        holds::<SubmissionRecord>(
            &json!({"content_hash": digest, "content_type": "text/plain", "correlation_id": null,
            "payload": {"kind": "json", "value": 1}, "run_id": "r", "submission_id": "s", "submitted_at": time}),
        );
        for details in [
            json!({"info": "i", "kind": "message"}),
            json!({"blocked_by_policy": true, "kind": "provider_missing", "missing_providers": ["p"],
                "required_capabilities": []}),
        ] {
            holds::<ToolCallRecord>(&json!({"call_id": "call-1", "called_at": time, "correlation_id": null,
                "error": {"code": "c", "details": details, "message": "m"}, "method": "scenario.next",
                "request_hash": digest, "response_hash": digest}));
        }
    }
}
