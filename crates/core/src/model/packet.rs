use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::tagged::{need, only, present, string_enum};
use super::{
    AgentId, CorrelationId, DecisionId, DispatchId, PacketId, RunId, ScenarioId, SchemaId, StageId, Timestamp,
};
use crate::canon::Digest;
use crate::read::{Refusal, admit_value};

/// What a packet, a trigger or a submission carries.
#[derive(Debug, Clone, PartialEq)]
pub enum PacketPayload {
    /// Any JSON value.
    Json(Value),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Something kept elsewhere, named by its digest and never fetched here.
    External(ContentRef),
}

/// Where an external payload is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct ContentRef {
    pub content_hash: Digest,
    pub encryption: Option<String>,
    pub uri: String,
}

impl PacketPayload {
    /// Admits the free-form value inside; `at` is the payload's place.
    pub(crate) fn admit_at(&mut self, at: &str) -> Result<(), Refusal> {
        match self {
            Self::Json(value) => admit_value(value, &format!("{at}/value")),
            Self::Bytes(_) | Self::External(_) => Ok(()),
        }
    }
}

string_enum! {
    /// The kinds of [`PacketPayload`].
    enum PayloadKind {
        /// A value.
        Json = "json",
        /// Bytes.
        Bytes = "bytes",
        /// A reference.
        External = "external",
    }
}

#[derive(Deserialize)]
#[serde(expecting = "a payload object")]
struct PayloadUnion {
    kind: PayloadKind,
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
    bytes: Option<Vec<u8>>,
    content_ref: Option<ContentRef>,
}

impl<'de> Deserialize<'de> for PacketPayload {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let PayloadUnion { kind, value, bytes, content_ref } = PayloadUnion::deserialize(reader)?;
        let name = kind.as_str();
        let has = [("value", value.is_some()), ("bytes", bytes.is_some()), ("content_ref", content_ref.is_some())];
        match kind {
            PayloadKind::Json => {
                only(name, &[has[1], has[2]]).and_then(|()| need(name, "value", value)).map(Self::Json)
            }
            PayloadKind::Bytes => {
                only(name, &[has[0], has[2]]).and_then(|()| need(name, "bytes", bytes)).map(Self::Bytes)
            }
            PayloadKind::External => {
                only(name, &[has[0], has[1]]).and_then(|()| need(name, "content_ref", content_ref)).map(Self::External)
            }
        }
        .map_err(D::Error::custom)
    }
}

impl Serialize for PacketPayload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        match self {
            Self::Json(value) => {
                map.serialize_entry("kind", &PayloadKind::Json)?;
                map.serialize_entry("value", value)?;
            }
            Self::Bytes(bytes) => {
                map.serialize_entry("bytes", bytes)?;
                map.serialize_entry("kind", &PayloadKind::Bytes)?;
            }
            Self::External(content_ref) => {
                map.serialize_entry("content_ref", content_ref)?;
                map.serialize_entry("kind", &PayloadKind::External)?;
            }
        }
        map.end()
    }
}

/// To whom packets of a run are disclosed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "wire format")]
pub enum DispatchTarget {
    Agent { agent_id: AgentId },
    Session { session_id: String },
    External { system: String, target: String },
    Channel { channel: String },
}

string_enum! {
    /// The kinds of [`DispatchTarget`].
    pub enum TargetKind {
        /// An agent.
        Agent = "agent",
        /// A session.
        Session = "session",
        /// Another system.
        External = "external",
        /// A channel.
        Channel = "channel",
    }
}

#[derive(Deserialize)]
#[serde(expecting = "a dispatch target object")]
struct TargetUnion {
    kind: TargetKind,
    agent_id: Option<AgentId>,
    session_id: Option<String>,
    system: Option<String>,
    target: Option<String>,
    channel: Option<String>,
}

impl<'de> Deserialize<'de> for DispatchTarget {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let TargetUnion { kind, agent_id, session_id, system, target, channel } = TargetUnion::deserialize(reader)?;
        let name = kind.as_str();
        let [agent, session, outside, remote, named] = [
            ("agent_id", agent_id.is_some()),
            ("session_id", session_id.is_some()),
            ("system", system.is_some()),
            ("target", target.is_some()),
            ("channel", channel.is_some()),
        ];
        match kind {
            TargetKind::Agent => only(name, &[session, outside, remote, named])
                .and_then(|()| need(name, "agent_id", agent_id))
                .map(|agent_id| Self::Agent { agent_id }),
            TargetKind::Session => only(name, &[agent, outside, remote, named])
                .and_then(|()| need(name, "session_id", session_id))
                .map(|session_id| Self::Session { session_id }),
            TargetKind::External => only(name, &[agent, session, named])
                .and_then(|()| Ok((need(name, "system", system)?, need(name, "target", target)?)))
                .map(|(system, target)| Self::External { system, target }),
            TargetKind::Channel => only(name, &[agent, session, outside, remote])
                .and_then(|()| need(name, "channel", channel))
                .map(|channel| Self::Channel { channel }),
        }
        .map_err(D::Error::custom)
    }
}

impl Serialize for DispatchTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Agent { agent_id } => {
                map.serialize_entry("agent_id", agent_id)?;
                map.serialize_entry("kind", &self.kind())?;
            }
            Self::Session { session_id } => {
                map.serialize_entry("kind", &self.kind())?;
                map.serialize_entry("session_id", session_id)?;
            }
            Self::External { system, target } => {
                map.serialize_entry("kind", &self.kind())?;
                map.serialize_entry("system", system)?;
                map.serialize_entry("target", target)?;
            }
            Self::Channel { channel } => {
                map.serialize_entry("channel", channel)?;
                map.serialize_entry("kind", &self.kind())?;
            }
        }
        map.end()
    }
}

impl DispatchTarget {
    /// Which kind this is.
    pub fn kind(&self) -> TargetKind {
        match self {
            Self::Agent { .. } => TargetKind::Agent,
            Self::Session { .. } => TargetKind::Session,
            Self::External { .. } => TargetKind::External,
            Self::Channel { .. } => TargetKind::Channel,
        }
    }
}

/// Who may see a packet; carried for policies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct Visibility {
    pub labels: Vec<String>,
    pub policy_tags: Vec<String>,
}

/// What a packet is, without its payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct PacketEnvelope {
    pub content_hash: Digest,
    pub content_type: String,
    pub correlation_id: Option<CorrelationId>,
    pub expiry: Option<Timestamp>,
    pub issued_at: Timestamp,
    pub packet_id: PacketId,
    pub run_id: RunId,
    pub scenario_id: ScenarioId,
    pub schema_id: SchemaId,
    /// The stage entered, not the one left.
    pub stage_id: StageId,
    pub visibility: Visibility,
}

/// That a packet was queued for a target. It does not say it arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct DispatchReceipt {
    pub dispatch_id: DispatchId,
    pub dispatched_at: Timestamp,
    pub dispatcher: String,
    pub receipt_hash: Digest,
    pub target: DispatchTarget,
}

/// A packet that was issued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct PacketRecord {
    pub decision_id: DecisionId,
    pub envelope: PacketEnvelope,
    pub payload: PacketPayload,
    pub receipts: Vec<DispatchReceipt>,
}
