use runpack_core::canon::Digest;
use runpack_core::engine::content_hash;
use runpack_core::model::{DecisionId, DispatchTarget, NamespaceId, PacketEnvelope, PacketPayload, TenantId};
use serde_json::Value;

use crate::DispatchError;
use crate::source::{Fetched, Sources};

/// A packet on its way to one target.
#[derive(Debug, Clone, PartialEq)]
pub struct Parcel {
    /// What names this delivery. It is the same however often it is tried, so
    /// whoever gets it twice can tell.
    pub id: String,
    /// Whose run issued it.
    pub tenant_id: TenantId,
    /// In which namespace.
    pub namespace_id: NamespaceId,
    /// On which decision.
    pub decision_id: DecisionId,
    /// To whom.
    pub target: DispatchTarget,
    /// What it is.
    pub envelope: PacketEnvelope,
    /// Its content, or where that is kept.
    pub payload: PacketPayload,
}

/// A parcel whose content is at hand, and is what its digest says.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "as in the parcel")]
pub struct Message {
    pub id: String,
    pub tenant_id: TenantId,
    pub namespace_id: NamespaceId,
    pub decision_id: DecisionId,
    pub target: DispatchTarget,
    pub envelope: PacketEnvelope,
    pub content: Content,
}

/// What a packet carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A value that was in the packet: its canonical form has the digest.
    Json(Value),
    /// Bytes, which have the digest: of the packet, or of what it refers to,
    /// whatever its content type.
    Bytes(Vec<u8>),
}

/// Gets the content of a parcel and compares it with its digest.
pub(crate) async fn resolve(parcel: Parcel, sources: &Sources) -> Result<Message, DispatchError> {
    let Parcel { id, tenant_id, namespace_id, decision_id, target, envelope, payload } = parcel;
    let json = is_json(&envelope.content_type);
    let wrong_kind = |kind| DispatchError::Kind { kind, content_type: envelope.content_type.clone() };
    let content = match payload {
        PacketPayload::Json(_) if !json => return Err(wrong_kind("json")),
        PacketPayload::Bytes(_) if json => return Err(wrong_kind("bytes")),
        PacketPayload::External(reference) => {
            if reference.content_hash != envelope.content_hash {
                let (envelope, reference) = (envelope.content_hash, reference.content_hash);
                return Err(DispatchError::Reference { envelope, reference });
            }
            let Fetched { bytes, content_type } = sources.fetch(&reference.uri).await?;
            if let Some(found) = content_type.filter(|found| !agree(&envelope.content_type, found)) {
                return Err(DispatchError::ContentType { expected: envelope.content_type, found });
            }
            matches(&envelope, Digest::of(&bytes))?;
            // What cannot be read as what it says is refused here, where the
            // sentence still finds somebody who can do something.
            if json {
                serde_json::from_slice::<serde::de::IgnoredAny>(&bytes)
                    .map_err(|error| DispatchError::NotJson(error.to_string()))?;
            }
            Content::Bytes(bytes)
        }
        inline => {
            let found = content_hash(&inline).map_err(|error| DispatchError::NotJson(error.to_string()))?;
            matches(&envelope, found)?;
            match inline {
                PacketPayload::Json(value) => Content::Json(value),
                PacketPayload::Bytes(bytes) => Content::Bytes(bytes),
                PacketPayload::External(_) => return Err(wrong_kind("external")),
            }
        }
    };
    Ok(Message { id, tenant_id, namespace_id, decision_id, target, envelope, content })
}

fn matches(envelope: &PacketEnvelope, found: Digest) -> Result<(), DispatchError> {
    let expected = envelope.content_hash;
    if found == expected { Ok(()) } else { Err(DispatchError::Mismatch { expected, found }) }
}

/// A content type without its parameters.
fn base(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(content_type: &str) -> bool {
    let base = base(content_type);
    base == "application/json" || base.ends_with("+json")
}

fn agree(expected: &str, found: &str) -> bool {
    is_json(expected) && is_json(found) || base(expected) == base(found)
}
