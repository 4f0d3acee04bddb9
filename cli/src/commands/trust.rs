use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use runpack_core::model::Timestamp;
use runpack_core::pack::{Attached, Trust};
use runpack_core::read::{self, Unknown};
use runpack_core::trust::{ENVELOPE_BYTES_MAX, PublicKey, TrustPolicy, TrustTable};

use super::{Limit, read_input};

/// Bytes of a public key's file.
const KEY_BYTES_MAX: u64 = 64 * 1024;

/// Bytes of a trust policy.
const POLICY_BYTES_MAX: u64 = 1024 * 1024;

/// Whose signatures count.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// A public key to trust, in PEM, and what to call it
    #[arg(long, value_name = "ID=FILE", value_parser = named_file, conflicts_with = "policy")]
    trusted_key: Vec<(String, PathBuf)>,
    /// Different trusted keys that must have signed; 0 only reports [default: 1 with --trusted-key]
    #[arg(long, value_name = "N", requires = "trusted_key", conflicts_with = "policy")]
    require_signatures: Option<usize>,
    /// A trust policy in TOML: whose signatures count, for what
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// When keys must be valid: a date, a date-time or now
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<i64>,
    /// An attestation that does not lie beside the manifest
    #[arg(long, value_name = "FILE")]
    attestation: Vec<PathBuf>,
}

fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((id, file)) if !id.is_empty() && !file.is_empty() => Ok((id.to_owned(), PathBuf::from(file))),
        _ => Err("write ID=FILE".to_owned()),
    }
}

fn time(text: &str) -> Result<i64, String> {
    if text == "now" {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(|error| error.to_string())?;
        return i64::try_from(since.as_millis()).map_err(|error| error.to_string());
    }
    let full = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    match full.parse() {
        Ok(Timestamp::UnixMillis(millis)) => Ok(millis),
        _ => Err("write 2026-01-31, 2026-01-31T12:00:00Z, unix_millis:N or now".to_owned()),
    }
}

impl TrustArgs {
    /// Whether an attestation is named.
    pub(crate) fn attaches(&self) -> bool {
        !self.attestation.is_empty()
    }

    /// Whom to believe, if anybody is named.
    ///
    /// # Errors
    /// A file that cannot be read or makes no sense; an option that does
    /// nothing without a key.
    pub(crate) fn read(&self) -> Result<Option<Trust>, String> {
        let policy = match &self.policy {
            Some(file) => policy(file)?,
            None if self.trusted_key.is_empty() => {
                let unused = [("--at", self.at.is_some()), ("--attestation", self.attaches())];
                return match unused.iter().find(|(_, given)| *given) {
                    Some((flag, _)) => {
                        Err(format!("{flag} says nothing without a key to trust\nhint: pass --trusted-key or --policy"))
                    }
                    None => Ok(None),
                };
            }
            None => {
                let key = |(id, file): &(String, PathBuf)| Ok((id.clone(), public_key(file)?));
                let keys: Result<Vec<_>, String> = self.trusted_key.iter().map(key).collect();
                let policy = TrustPolicy::of_keys(keys?, self.require_signatures.unwrap_or(1));
                policy.map_err(|fault| format!("--trusted-key: {fault}"))?
            }
        };
        let attached = |path: &PathBuf| {
            let bytes = read_input(path, Limit::Fixed(ENVELOPE_BYTES_MAX))?;
            Ok(Attached { name: path.display().to_string(), bytes })
        };
        let attached: Result<_, String> = self.attestation.iter().map(attached).collect();
        Ok(Some(Trust { policy: Arc::new(policy), at: self.at, attached: attached? }))
    }
}

/// A public key's file.
///
/// # Errors
/// It cannot be read, or is none.
pub(crate) fn public_key(path: &Path) -> Result<PublicKey, String> {
    let text = text(path, KEY_BYTES_MAX)?;
    PublicKey::from_pem(&text).map_err(|fault| format!("`{}`: {fault}", path.display()))
}

fn text(path: &Path, limit: u64) -> Result<String, String> {
    String::from_utf8(read_input(path, Limit::Fixed(limit))?).map_err(|_| format!("`{}` is not UTF-8", path.display()))
}

fn policy(path: &Path) -> Result<TrustPolicy, String> {
    let shown = path.display();
    let tree: toml::Value = toml::from_str(&text(path, POLICY_BYTES_MAX)?)
        .map_err(|error| format!("`{shown}`: {}", error.to_string().trim_end()))?;
    let tree = serde_json::to_value(tree).map_err(|error| format!("`{shown}`: {error}"))?;
    let table: TrustTable =
        read::ingest_value(tree, Unknown::Refuse).map_err(|refusal| format!("`{shown}`: {refusal}"))?;
    // Keys lie beside the policy that names them.
    let beside = path.parent().unwrap_or(Path::new(""));
    let mut read = |file: &str| text(&beside.join(file), KEY_BYTES_MAX);
    TrustPolicy::new(table, &mut read).map_err(|fault| format!("`{shown}`: {fault}"))
}
