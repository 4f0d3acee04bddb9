use base64::Engine as _;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use base64::{alphabet, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use crate::canon;
use crate::read::{self, Profile, Refusal};

/// Bytes of an envelope. One of ours has about 3 KiB.
pub const ENVELOPE_BYTES_MAX: u64 = 1024 * 1024;

/// Signatures in one envelope.
pub const SIGNATURES_MAX: usize = 16;

/// A message with its signatures: a DSSE envelope, version 1.
///
/// The signatures cover [`pae`] of the message, not the JSON around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What kind of message.
    pub payload_type: String,
    /// The message.
    pub payload: Vec<u8>,
    /// Who says so.
    pub signatures: Vec<Signature>,
}

/// One signature over an [`Envelope`]'s message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// What the signer calls the key. Nothing covers it, so it only ever says
    /// whose signature this claims to be.
    pub keyid: String,
    /// The signature, as [`crate::trust::PublicKey::verifies`] takes it.
    pub signature: Vec<u8>,
}

/// Why bytes are no envelope.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EnvelopeFault {
    /// No JSON, or another shape.
    #[error("{0}")]
    Shape(Refusal),
    /// No base64.
    #[error("`{0}` is not base64")]
    Base64(&'static str),
    /// There is nobody.
    #[error("it has no signature")]
    Unsigned,
    /// There is no end.
    #[error("it has more than {SIGNATURES_MAX} signatures")]
    TooMany,
}

/// What a signature covers: type and message, each behind its length, so that
/// no message can be taken for one of another type.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "a DSSE envelope")]
struct Wire {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<SignatureWire>,
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "a signature object")]
struct SignatureWire {
    #[serde(default)]
    keyid: Option<String>,
    sig: String,
}

impl Envelope {
    /// Reads an envelope in any spelling of JSON, with either alphabet of
    /// base64, padded or not. A member that DSSE does not define is refused:
    /// no signature would cover it.
    ///
    /// # Errors
    /// See [`EnvelopeFault`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeFault> {
        read::value(bytes, Profile::Pack).map_err(EnvelopeFault::Shape)?;
        let wire: Wire = read::recorded(bytes).map_err(EnvelopeFault::Shape)?;
        if wire.signatures.is_empty() {
            return Err(EnvelopeFault::Unsigned);
        }
        if wire.signatures.len() > SIGNATURES_MAX {
            return Err(EnvelopeFault::TooMany);
        }
        let signature = |wire: SignatureWire| {
            let signature = decode(&wire.sig).ok_or(EnvelopeFault::Base64("sig"))?;
            Ok(Signature { keyid: wire.keyid.unwrap_or_default(), signature })
        };
        Ok(Self {
            payload: decode(&wire.payload).ok_or(EnvelopeFault::Base64("payload"))?,
            payload_type: wire.payload_type,
            signatures: wire.signatures.into_iter().map(signature).collect::<Result<_, _>>()?,
        })
    }

    /// What the signatures cover.
    pub fn signed(&self) -> Vec<u8> {
        pae(&self.payload_type, &self.payload)
    }

    /// In canonical form, with the standard alphabet.
    pub fn to_bytes(&self) -> Vec<u8> {
        let signature = |signature: &Signature| SignatureWire {
            keyid: Some(signature.keyid.clone()),
            sig: BASE64_STANDARD.encode(&signature.signature),
        };
        let wire = Wire {
            payload: BASE64_STANDARD.encode(&self.payload),
            payload_type: self.payload_type.clone(),
            signatures: self.signatures.iter().map(signature).collect(),
        };
        // Strings always have a canonical form.
        canon::to_vec(&wire).unwrap_or_default()
    }
}

/// Either alphabet, with padding or without, as DSSE asks of readers; trailing
/// bits that are not zero would be a second spelling.
fn decode(text: &str) -> Option<Vec<u8>> {
    const ANY: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let url = text.contains(['-', '_']);
    let engine = GeneralPurpose::new(if url { &alphabet::URL_SAFE } else { &alphabet::STANDARD }, ANY);
    engine.decode(text).ok()
}
