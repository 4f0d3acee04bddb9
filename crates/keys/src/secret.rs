use std::path::Path;

use ed25519_dalek::Signer as _;
use ed25519_dalek::pkcs8::KeypairBytes;
use p256::ecdsa::DerSignature;
use pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use runpack_core::trust::{Algorithm, PublicKey};
use zeroize::Zeroizing;

use crate::file::{read_private, shown};
use crate::{KeyError, Passphrase, Signer, harden};

/// A private key in memory. It cannot be printed, copied or compared, and is
/// overwritten when dropped.
pub struct SecretKey {
    kind: Kind,
    public: PublicKey,
}

/// Boxed, so that moving the key moves no secret.
enum Kind {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    P256(Box<p256::ecdsa::SigningKey>),
}

impl SecretKey {
    /// Reads PKCS#8 in PEM, encrypted or not, from a file that nobody else can
    /// read. `passphrase` is asked only if it is encrypted. Before the file is
    /// opened the process is made one that leaves no core dump.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn load(path: &Path, passphrase: impl FnOnce() -> Option<Passphrase>) -> Result<Self, KeyError> {
        harden()?;
        let bytes = read_private(path)?;
        let not = |problem| KeyError::NotAKey { path: shown(path), problem };
        let pem = std::str::from_utf8(&bytes).map_err(|_| not("it is not PEM"))?.trim();
        let label = pem.strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----")).map(|(label, _)| label);
        let kind = match label {
            Some("PRIVATE KEY") => Kind::plain(pem).ok_or_else(|| not(UNKNOWN))?,
            Some("ENCRYPTED PRIVATE KEY") => {
                let passphrase = passphrase().ok_or_else(|| KeyError::Encrypted { path: shown(path) })?;
                Kind::encrypted(pem, &passphrase).ok_or_else(|| KeyError::Passphrase { path: shown(path) })?
            }
            Some("PUBLIC KEY") => return Err(not("it is a public key; the private one signs")),
            Some("EC PRIVATE KEY" | "RSA PRIVATE KEY" | "OPENSSH PRIVATE KEY") => {
                return Err(not("it is of an older form\nhint: openssl pkcs8 -topk8 -in OLD -out NEW"));
            }
            Some(_) => return Err(not(UNKNOWN)),
            None => return Err(not("it is not PEM")),
        };
        Self::of(kind)
    }

    /// A new key.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        harden()?;
        loop {
            let mut seed = Zeroizing::new([0; 32]);
            getrandom::fill(&mut *seed).map_err(|_| KeyError::Random)?;
            let kind = match algorithm {
                Algorithm::Ed25519 => Kind::Ed25519(Box::new(ed25519_dalek::SigningKey::from_bytes(&seed))),
                // One in 2^32 seeds is no scalar of the curve.
                Algorithm::P256 => match p256::ecdsa::SigningKey::from_slice(&*seed) {
                    Ok(key) => Kind::P256(Box::new(key)),
                    Err(_) => continue,
                },
            };
            return Self::of(kind);
        }
    }

    fn of(kind: Kind) -> Result<Self, KeyError> {
        let public = match &kind {
            Kind::Ed25519(key) => PublicKey::from_ed25519(key.verifying_key().as_bytes()),
            Kind::P256(key) => PublicKey::from_p256(&key.verifying_key().to_sec1_bytes()),
        };
        let public = public.map_err(|fault| KeyError::Sign(fault.to_string()))?;
        Ok(Self { kind, public })
    }

    /// PKCS#8 in PEM; with a passphrase encrypted by PBES2 with scrypt and
    /// AES-256.
    pub(crate) fn to_pem(&self, passphrase: Option<&Passphrase>) -> Result<Zeroizing<String>, KeyError> {
        fn pem(key: &impl EncodePrivateKey, passphrase: Option<&Passphrase>) -> pkcs8::Result<Zeroizing<String>> {
            match passphrase {
                Some(passphrase) => key.to_pkcs8_encrypted_pem(passphrase.bytes(), LineEnding::LF),
                None => key.to_pkcs8_pem(LineEnding::LF),
            }
        }
        let pem = match &self.kind {
            Kind::Ed25519(key) => {
                // Without the public key: OpenSSL and others know version 1 of PKCS#8 only.
                pem(&KeypairBytes { secret_key: key.to_bytes(), public_key: None }, passphrase)
            }
            Kind::P256(key) => pem(key.as_ref(), passphrase),
        };
        pem.map_err(|error| KeyError::Sign(error.to_string()))
    }
}

const UNKNOWN: &str = "it holds no Ed25519 and no ECDSA P-256 key";

impl Kind {
    fn plain(pem: &str) -> Option<Self> {
        let ed25519 = ed25519_dalek::SigningKey::from_pkcs8_pem(pem).map(|key| Self::Ed25519(Box::new(key)));
        ed25519.ok().or_else(|| Some(Self::P256(Box::new(p256::ecdsa::SigningKey::from_pkcs8_pem(pem).ok()?))))
    }

    fn encrypted(pem: &str, passphrase: &Passphrase) -> Option<Self> {
        let document = {
            let (_, document) = pkcs8::SecretDocument::from_pem(pem).ok()?;
            let encrypted = pkcs8::EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).ok()?;
            encrypted.decrypt(passphrase.bytes()).ok()?
        };
        let der = document.as_bytes();
        let ed25519 = ed25519_dalek::SigningKey::from_pkcs8_der(der).map(|key| Self::Ed25519(Box::new(key)));
        ed25519.ok().or_else(|| Some(Self::P256(Box::new(p256::ecdsa::SigningKey::from_pkcs8_der(der).ok()?))))
    }
}

impl Signer for SecretKey {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Neither algorithm needs random numbers: the same message has the same
    /// signature (RFC 8032, RFC 6979).
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let failed = |error: p256::ecdsa::Error| KeyError::Sign(error.to_string());
        match &self.kind {
            Kind::Ed25519(key) => Ok(key.try_sign(message).map_err(failed)?.to_bytes().to_vec()),
            Kind::P256(key) => {
                let signature: DerSignature = key.try_sign(message).map_err(failed)?;
                Ok(signature.as_bytes().to_vec())
            }
        }
    }
}
