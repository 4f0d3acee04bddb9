use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{NamespaceId, SchemaId, TenantId, Timestamp};
use crate::read::{Admit, Refusal, admit_value};

/// A registered data shape: a JSON Schema under an id and a version. It never
/// changes; what it says is not looked at here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct DataShapeRecord {
    /// When it was written, as its author says.
    pub created_at: Timestamp,
    pub description: Option<String>,
    pub namespace_id: NamespaceId,
    /// Any JSON.
    pub schema: Value,
    pub schema_id: SchemaId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing: Option<DataShapeSignature>,
    pub tenant_id: TenantId,
    /// Any text; compared and ordered by its UTF-8 bytes.
    pub version: String,
}

impl Admit for DataShapeRecord {
    fn admit(&mut self) -> Result<(), Refusal> {
        admit_value(&mut self.schema, "/schema")
    }
}

/// What a data shape says of its signature. Nothing here checks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct DataShapeSignature {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    pub key_id: String,
    pub signature: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::to_vec;
    use crate::read::{Unknown, ingest};

    fn read(text: &str) -> Result<DataShapeRecord, Refusal> {
        ingest(text.as_bytes(), Unknown::Refuse)
    }

    #[test]
    fn a_record_is_written_with_a_description_and_without_an_absent_signature() {
        let record = read(
            r#"{"tenant_id":1,"namespace_id":2,"schema_id":"s","version":"v1","schema":{"minimum":1.0},
                "created_at":{"kind":"logical","value":3}}"#,
        );
        let written = to_vec(&record.unwrap()).unwrap();
        let expected = r#"{"created_at":{"kind":"logical","value":3},"description":null,"namespace_id":2,"schema":{"minimum":1},"schema_id":"s","tenant_id":1,"version":"v1"}"#;
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }

    #[test]
    fn members_are_declared_in_the_order_of_the_canonical_form() {
        let text = r#"{"created_at":{"kind":"logical","value":3},"description":"d","namespace_id":2,"schema":true,"schema_id":"s","signing":{"algorithm":"ed25519","key_id":"k","signature":"x"},"tenant_id":1,"version":""}"#;
        let record = read(text).unwrap();
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        let unsigned = text.replace(r#""algorithm":"ed25519","#, "");
        assert_eq!(serde_json::to_string(&read(&unsigned).unwrap()).unwrap(), unsigned);
    }

    #[test]
    fn what_could_not_be_recorded_is_refused() {
        let with = |schema: &str| {
            read(&format!(
                r#"{{"tenant_id":1,"namespace_id":2,"schema_id":"s","version":"v1","schema":{schema},
                    "created_at":{{"kind":"logical","value":3}}}}"#
            ))
        };
        assert!(with("{}").is_ok());
        let refused = with("{\"maximum\":9007199254740993}").unwrap_err();
        assert!(matches!(&refused, Refusal::Integer { at, .. } if at == "/schema/maximum"), "{refused}");
        let deep = "[".repeat(70) + &"]".repeat(70);
        assert!(matches!(with(&deep), Err(Refusal::TooDeep { .. })));
        assert!(matches!(with("1,\"schemas\":2"), Err(Refusal::UnknownMember { .. })));
        assert!(read(r#"{"tenant_id":1}"#).is_err());
    }
}
