//! Private keys: where they are, how they sign, and what keeps them private.
//!
//! A key is read from a file that nobody else can read, or stays with a command
//! that signs for us. Once one is in memory the process leaves no core dump and
//! lets no other process of its user look into it. Nothing here can be printed,
//! and what was secret is overwritten when it is dropped.

mod command;
mod file;
mod harden;
mod secret;

use runpack_core::pack::{PAYLOAD_TYPE, Predicate, Statement};
use runpack_core::trust::{Envelope, PublicKey, Signature, pae};

pub use command::Command;
pub use file::{Passphrase, write_pair};
pub use harden::harden;
pub use secret::SecretKey;

/// Who signs.
pub trait Signer: Send + Sync {
    /// The key that others check with.
    fn public(&self) -> &PublicKey;

    /// The signature over `message`, which [`PublicKey::verifies`].
    ///
    /// # Errors
    /// See [`KeyError`].
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError>;
}

/// Why a key cannot be used. No text holds anything of it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("cannot {doing} `{path}`: {source}")]
    Io {
        /// The verb.
        doing: &'static str,
        /// As given.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing is written over.
    #[error("`{path}` is there already\nhint: keys are never overwritten; choose another name")]
    Exists {
        /// As given.
        path: String,
    },
    /// Others can read it.
    #[error("`{path}` can be read by others (mode {mode:03o})\nhint: chmod 600 {path}")]
    Open {
        /// As given.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// Somebody else can change it.
    #[error("`{path}` belongs to another user\nhint: copy it to a file of your own")]
    Foreign {
        /// As given.
        path: String,
    },
    /// What is in it is not what is needed.
    #[error("`{path}` cannot be used: {problem}")]
    NotAKey {
        /// As given.
        path: String,
        /// What speaks against it.
        problem: &'static str,
    },
    /// It is encrypted, and there is no passphrase.
    #[error(
        "`{path}` is encrypted\nhint: pass --passphrase-file, or run this at a terminal (a service: passphrase_file)"
    )]
    Encrypted {
        /// As given.
        path: String,
    },
    /// It is encrypted with another passphrase, or damaged.
    #[error("`{path}` cannot be decrypted with this passphrase")]
    Passphrase {
        /// As given.
        path: String,
    },
    /// The process cannot be made one that nobody looks into.
    #[error("cannot keep this process from being dumped: {0}")]
    Harden(std::io::Error),
    /// There are no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// The command did not sign.
    #[error("the signing command `{program}` {problem}")]
    Command {
        /// Its name.
        program: String,
        /// What went wrong.
        problem: String,
    },
    /// What there is to sign has no canonical form, or the key cannot sign.
    #[error("cannot sign: {0}")]
    Sign(String),
}

/// A signed statement about the pack with this manifest, in an envelope.
///
/// # Errors
/// The signer's.
pub fn attest(
    signer: &dyn Signer,
    manifest_bytes: &[u8],
    manifest_name: &str,
    predicate: &Predicate,
) -> Result<Envelope, KeyError> {
    let statement = Statement::write(manifest_bytes, manifest_name, predicate);
    let payload = statement.map_err(|error| KeyError::Sign(error.to_string()))?;
    let mut envelope = Envelope { payload_type: PAYLOAD_TYPE.to_owned(), payload, signatures: Vec::new() };
    co_sign(signer, &mut envelope)?;
    Ok(envelope)
}

/// Adds a signature to an envelope. What it says is for the caller to judge.
///
/// # Errors
/// The signer's.
pub fn co_sign(signer: &dyn Signer, envelope: &mut Envelope) -> Result<(), KeyError> {
    let signature = signer.sign(&pae(&envelope.payload_type, &envelope.payload))?;
    let keyid = signer.public().id().to_string();
    envelope.signatures.push(Signature { keyid, signature });
    Ok(())
}

#[cfg(all(test, unix))]
mod tests;
