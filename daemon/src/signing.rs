//! Signs what is exported, if the config says who does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runpack_beneath::read_text_within;
use runpack_core::engine::{Policy, Settings};
use runpack_core::pack::{AttestedSettings, Manifest, Predicate};
use runpack_core::trust::PublicKey;
use runpack_keys::{Command, Passphrase, SecretKey, Signer, attest};
use runpack_storage::packs::Attest;
use serde::Deserialize;

/// Bytes of a public key's file.
const KEY_BYTES_MAX: u64 = 64 * 1024;

/// How long a command may take to sign, unless the config says otherwise.
const TIMEOUT_MS: u64 = 10_000;

/// `[signing]`, as it is written: a key file, or a command and its public key.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SigningTable {
    key_file: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
    command: Vec<String>,
    public_key_file: Option<PathBuf>,
    pass_env: Vec<String>,
    timeout_ms: Option<u64>,
}

/// Who signs packs, and what runs are decided by here.
pub struct Signing {
    signer: Box<dyn Signer>,
    settings: AttestedSettings,
}

impl SigningTable {
    /// Loads the key, or finds out who has it.
    ///
    /// # Errors
    /// The key of the config that is wrong, and a sentence.
    pub fn open(self, settings: &Settings, policy: &Policy) -> Result<Signing, (&'static str, String)> {
        let signer: Box<dyn Signer> = match (self.key_file, self.command.split_first()) {
            (Some(_), Some(_)) | (None, None) => {
                let problem = "has either `key_file` or `command`";
                return Err(("signing", problem.to_owned()));
            }
            (Some(file), None) => {
                if self.public_key_file.is_some() || self.timeout_ms.is_some() || !self.pass_env.is_empty() {
                    let problem = "`public_key_file`, `timeout_ms` and `pass_env` are for a `command` only";
                    return Err(("signing", problem.to_owned()));
                }
                let passphrase = self.passphrase_file.as_deref().map(Passphrase::read).transpose();
                let passphrase = passphrase.map_err(|error| ("signing.passphrase_file", error.to_string()))?;
                let key = SecretKey::load(&file, || passphrase);
                Box::new(key.map_err(|error| ("signing.key_file", error.to_string()))?)
            }
            (None, Some((program, arguments))) => {
                if self.passphrase_file.is_some() {
                    return Err(("signing.passphrase_file", "is for a `key_file` only".to_owned()));
                }
                let Some(file) = self.public_key_file else {
                    let problem = "must be set: what the command answers is checked with it";
                    return Err(("signing.public_key_file", problem.to_owned()));
                };
                let public = public_key(&file).map_err(|problem| ("signing.public_key_file", problem))?;
                let timeout = match self.timeout_ms.unwrap_or(TIMEOUT_MS) {
                    0 => return Err(("signing.timeout_ms", "must be at least 1".to_owned())),
                    millis => Duration::from_millis(millis),
                };
                Box::new(Command::new(PathBuf::from(program), arguments.to_vec(), self.pass_env, timeout, public))
            }
        };
        Ok(Signing { signer, settings: AttestedSettings::of(settings, policy) })
    }
}

fn public_key(path: &Path) -> Result<PublicKey, String> {
    let failed = |error: std::io::Error| format!("cannot read `{}`: {error}", path.display());
    let text = read_text_within(path, KEY_BYTES_MAX).map_err(failed)?;
    PublicKey::from_pem(&text).map_err(|fault| format!("`{}`: {fault}", path.display()))
}

impl Attest for Signing {
    fn key(&self) -> &PublicKey {
        self.signer.public()
    }

    fn attest(&self, manifest: &Manifest, bytes: &[u8], name: &str, decided: bool) -> Result<Vec<u8>, String> {
        let predicate = Predicate::of(manifest, decided.then(|| self.settings.clone()));
        let envelope = attest(&*self.signer, bytes, name, &predicate);
        envelope.map(|envelope| envelope.to_bytes()).map_err(|error| error.to_string())
    }
}
