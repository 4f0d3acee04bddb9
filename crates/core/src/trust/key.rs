use std::fmt;

use ed25519_dalek::VerifyingKey as Ed25519Key;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature as P256Signature, VerifyingKey as P256Key};
use pkcs8::LineEnding;
use pkcs8::spki::{DecodePublicKey, EncodePublicKey};

use crate::canon::Digest;
use crate::model::tagged::string_enum;

string_enum! {
    /// How signatures are made.
    pub enum Algorithm {
        /// Ed25519 (RFC 8032), checked strictly: one signature for each message
        /// and key, and no key of small order.
        Ed25519 = "ed25519",
        /// ECDSA on the curve P-256 with SHA-256, signatures in DER.
        P256 = "ecdsa-p256",
    }
}

/// A public key, of which all that is wrong shows when it is read.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Ed25519(Ed25519Key),
    P256(P256Key),
}

/// Why text or bytes are no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Nothing that should leave its owner.
    #[error(
        "this is a private key\nhint: hand out the public one only; `runpack keygen` writes it beside the private one"
    )]
    Private,
    /// A certificate is not a key.
    #[error("this is a certificate\nhint: take its key: openssl x509 -in FILE -pubkey -noout")]
    Certificate,
    /// Not PEM at all.
    #[error("this is not PEM\nhint: a public key is a text that begins with -----BEGIN PUBLIC KEY-----")]
    NotPem,
    /// PEM, and no key of ours in it.
    #[error("the key is of another kind or damaged\nhint: Ed25519 and ECDSA P-256 are taken, as SubjectPublicKeyInfo")]
    Unsupported,
    /// With such a key anybody can sign anything.
    #[error("the key is of small order, so its signatures prove nothing")]
    Weak,
}

impl PublicKey {
    /// Reads PEM: `-----BEGIN PUBLIC KEY-----` around a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// See [`KeyFault`].
    pub fn from_pem(text: &str) -> Result<Self, KeyFault> {
        // Some tools end lines with CR LF; no tool puts text after the end.
        let text = text.trim().replace("\r\n", "\n");
        match text.strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----")).map(|(label, _)| label) {
            Some("PUBLIC KEY") => {}
            Some(label) if label.ends_with("PRIVATE KEY") => return Err(KeyFault::Private),
            Some("CERTIFICATE") => return Err(KeyFault::Certificate),
            Some(_) => return Err(KeyFault::Unsupported),
            None => return Err(KeyFault::NotPem),
        }
        if let Ok(key) = Ed25519Key::from_public_key_pem(&text) {
            return Self::strong(key);
        }
        P256Key::from_public_key_pem(&text).map(|key| Self(Kind::P256(key))).map_err(|_| KeyFault::Unsupported)
    }

    /// The 32 bytes of an Ed25519 key.
    ///
    /// # Errors
    /// [`KeyFault::Unsupported`] if they are no point, [`KeyFault::Weak`].
    pub fn from_ed25519(bytes: &[u8; 32]) -> Result<Self, KeyFault> {
        Self::strong(Ed25519Key::from_bytes(bytes).map_err(|_| KeyFault::Unsupported)?)
    }

    fn strong(key: Ed25519Key) -> Result<Self, KeyFault> {
        if key.is_weak() { Err(KeyFault::Weak) } else { Ok(Self(Kind::Ed25519(key))) }
    }

    /// A point of P-256 as SEC 1 writes it, compressed or not.
    ///
    /// # Errors
    /// [`KeyFault::Unsupported`].
    pub fn from_p256(sec1: &[u8]) -> Result<Self, KeyFault> {
        P256Key::from_sec1_bytes(sec1).map(|key| Self(Kind::P256(key))).map_err(|_| KeyFault::Unsupported)
    }

    /// As [`PublicKey::from_pem`] reads it.
    pub fn to_pem(&self) -> String {
        let pem = match &self.0 {
            Kind::Ed25519(key) => key.to_public_key_pem(LineEnding::LF),
            Kind::P256(key) => key.to_public_key_pem(LineEnding::LF),
        };
        // A key that is there can be written.
        pem.unwrap_or_default()
    }

    /// The digest of its SubjectPublicKeyInfo in DER: what our signatures call it.
    pub fn id(&self) -> Digest {
        let der = match &self.0 {
            Kind::Ed25519(key) => key.to_public_key_der(),
            Kind::P256(key) => key.to_public_key_der(),
        };
        Digest::of(der.as_ref().map_or(&[], |der| der.as_bytes()))
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        match &self.0 {
            Kind::Ed25519(_) => Algorithm::Ed25519,
            Kind::P256(_) => Algorithm::P256,
        }
    }

    /// Whether `signature` is this key's over `message`: 64 bytes of Ed25519; of
    /// ECDSA a DER sequence, or r and s of 32 bytes each, as in the example of
    /// the DSSE protocol.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Kind::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            Kind::P256(key) => {
                let of = |signature: P256Signature| key.verify(message, &signature).is_ok();
                P256Signature::from_der(signature).is_ok_and(of) || P256Signature::from_slice(signature).is_ok_and(of)
            }
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm(), self.id())
    }
}
