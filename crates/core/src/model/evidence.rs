use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use smol_str::SmolStr;

use super::tagged::{need, present, string_enum};
use super::{CorrelationId, NamespaceId, ProviderId, RunId, ScenarioId, StageId, TenantId, Timestamp, TriggerId};
use crate::canon::Digest;
use crate::read::{Admit, Refusal, admit_value};

string_enum! {
    /// How far evidence is trusted. Ordered: asserted is below verified.
    pub enum Lane {
        /// Somebody says so.
        Asserted = "asserted",
        /// A provider found out.
        Verified = "verified",
    }
}

/// What a provider answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct EvidenceResult {
    pub content_type: Option<SmolStr>,
    pub error: Option<EvidenceError>,
    pub evidence_anchor: Option<EvidenceAnchor>,
    pub evidence_hash: Option<Digest>,
    pub evidence_ref: Option<EvidenceRef>,
    #[serde(default = "verified")]
    pub lane: Lane,
    pub signature: Option<EvidenceSignature>,
    pub value: Option<EvidenceValue>,
}

fn verified() -> Lane {
    Lane::Verified
}

impl EvidenceResult {
    /// No value, no error, and nothing else.
    pub fn empty(lane: Lane) -> Self {
        Self {
            value: None,
            lane,
            error: None,
            evidence_hash: None,
            evidence_ref: None,
            evidence_anchor: None,
            signature: None,
            content_type: None,
        }
    }

    /// No value, because of `error`.
    pub fn failed(error: EvidenceError) -> Self {
        Self { error: Some(error), ..Self::empty(Lane::Verified) }
    }
}

impl Admit for EvidenceResult {
    fn admit(&mut self) -> Result<(), Refusal> {
        if let Some(EvidenceValue::Json(value)) = &mut self.value {
            admit_value(value, "/value/value")?;
        }
        match self.error.as_mut().and_then(|error| error.details.as_mut()) {
            Some(details) => admit_value(details, "/error/details"),
            None => Ok(()),
        }
    }
}

/// A value found as evidence.
#[derive(Debug, Clone, PartialEq)]
pub enum EvidenceValue {
    /// Any JSON value; `null` is a value.
    Json(Value),
    /// Bytes.
    Bytes(Vec<u8>),
}

string_enum! {
    /// The kinds of [`EvidenceValue`].
    enum ValueKind {
        /// A value.
        Json = "json",
        /// Bytes.
        Bytes = "bytes",
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an evidence value object")]
struct ValueWire {
    kind: ValueKind,
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
}

impl<'de> Deserialize<'de> for EvidenceValue {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let ValueWire { kind, value } = ValueWire::deserialize(reader)?;
        let value = need(kind.as_str(), "value", value).map_err(D::Error::custom)?;
        match kind {
            ValueKind::Json => Ok(Self::Json(value)),
            ValueKind::Bytes => Vec::deserialize(value).map(Self::Bytes).map_err(D::Error::custom),
        }
    }
}

impl Serialize for EvidenceValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        match self {
            Self::Json(value) => {
                map.serialize_entry("kind", &ValueKind::Json)?;
                map.serialize_entry("value", value)?;
            }
            Self::Bytes(bytes) => {
                map.serialize_entry("kind", &ValueKind::Bytes)?;
                map.serialize_entry("value", bytes)?;
            }
        }
        map.end()
    }
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct EvidenceError {
    pub code: SmolStr,
    pub details: Option<Value>,
    pub message: SmolStr,
}

impl EvidenceError {
    /// An error without details.
    pub fn new(code: &str, message: impl Into<SmolStr>) -> Self {
        Self { code: code.into(), message: message.into(), details: None }
    }

    /// What a provider that could not answer says.
    pub fn provider(message: impl std::fmt::Display) -> Self {
        Self::new("provider_error", format!("evidence provider error: {message}"))
    }
}

/// Where evidence came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct EvidenceRef {
    pub uri: SmolStr,
}

/// What ties evidence to something that can be looked up again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct EvidenceAnchor {
    pub anchor_type: SmolStr,
    pub anchor_value: SmolStr,
}

/// A provider's signature over its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct EvidenceSignature {
    pub key_id: String,
    pub scheme: String,
    pub signature: Vec<u8>,
}

/// What a provider is told about who asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct EvidenceContext {
    pub correlation_id: Option<CorrelationId>,
    pub namespace_id: NamespaceId,
    pub run_id: RunId,
    pub scenario_id: ScenarioId,
    pub stage_id: StageId,
    pub tenant_id: TenantId,
    pub trigger_id: TriggerId,
    pub trigger_time: Timestamp,
}

/// Which providers must anchor their evidence, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct AnchorPolicy {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<ProviderAnchorPolicy>,
}

impl AnchorPolicy {
    /// The first entry for `provider`.
    pub fn requirement(&self, provider: &ProviderId) -> Option<&AnchorRequirement> {
        self.providers.iter().find(|entry| entry.provider_id == *provider).map(|entry| &entry.requirement)
    }
}

impl Admit for AnchorPolicy {}

/// One provider's entry in an [`AnchorPolicy`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct ProviderAnchorPolicy {
    pub provider_id: ProviderId,
    pub requirement: AnchorRequirement,
}

/// The anchor a provider must give: its type, and the members of its value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct AnchorRequirement {
    pub anchor_type: SmolStr,
    pub required_fields: Vec<String>,
}
