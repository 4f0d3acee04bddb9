use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::evidence::{Form, SCHEME, SIGNATURE_BYTES, signed_by};
use super::{PublicKey, Signature};
use crate::canon::Digest;
use crate::model::{
    AnchorPolicy, EvidenceContext, EvidenceQuery, EvidenceSignature, Lane, NamespaceId, ProviderId, ScenarioId,
    TenantId, Timestamp,
};
use crate::read::Admit;

/// Keys in one policy: each unnamed signature is tried with all of them.
const KEYS_MAX: usize = 64;

/// The role that signs evidence, and never a pack.
const EVIDENCE: &str = "evidence";

/// The role of a key that has none.
const PACK: &str = "pack";

/// A trust policy as it is written, version 1.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustTable {
    version: u64,
    #[serde(default)]
    require: RequireTable,
    keys: Vec<KeyTable>,
    #[serde(default)]
    evidence: BTreeMap<ProviderId, EvidenceTable>,
}

impl Admit for TrustTable {}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequireTable {
    signatures: Option<usize>,
    #[serde(default)]
    roles: BTreeMap<String, usize>,
    min_lane: Option<Lane>,
    anchor_policy: Option<AnchorPolicy>,
    #[serde(default)]
    spec_hashes: Vec<String>,
}

/// A key as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the members are described in docs/trust.md")]
pub struct KeyTable {
    pub id: String,
    pub name: Option<String>,
    pub file: Option<String>,
    pub pem: Option<String>,
    pub roles: Option<BTreeSet<String>>,
    pub valid_from: Option<String>,
    pub valid_until: Option<String>,
    pub tenants: Option<BTreeSet<TenantId>>,
    pub namespaces: Option<BTreeSet<NamespaceId>>,
    pub scenarios: Option<BTreeSet<ScenarioId>>,
    #[serde(default)]
    pub keyids: BTreeSet<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct EvidenceTable {
    mode: Mode,
    #[serde(default)]
    binding: Binding,
    keys: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Required,
    Audit,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Binding {
    #[default]
    Bound,
    ValueOnly,
}

/// Why a trust policy makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// Another version.
    #[error("`version` is {0}, and this program knows version 1")]
    Version(u64),
    /// There is nobody to trust, or too many.
    #[error("there must be 1 to {KEYS_MAX} keys")]
    Keys,
    /// A member makes no sense.
    #[error("`{at}`: {problem}")]
    Member {
        /// Where, with dots.
        at: String,
        /// What is wrong.
        problem: String,
    },
}

fn wrong<T>(at: impl Into<String>, problem: impl Into<String>) -> Result<T, PolicyFault> {
    Err(PolicyFault::Member { at: at.into(), problem: problem.into() })
}

/// Whom to believe, about what, and how many of them are needed.
#[derive(Debug, Clone, PartialEq)]
pub struct TrustPolicy {
    /// Whose signatures may count.
    pub keys: Vec<TrustedKey>,
    /// What is asked of a pack.
    pub require: Required,
    /// What is asked of evidence, by provider.
    evidence: BTreeMap<ProviderId, EvidenceRule>,
}

/// What is asked of a pack.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Required {
    /// Different keys that must have signed; with 0 nothing is missed.
    pub signatures: usize,
    /// Of these roles so many, besides.
    pub roles: BTreeMap<String, usize>,
    /// The least lane that may have counted.
    pub min_lane: Option<Lane>,
    /// The anchors that were asked for.
    pub anchor_policy: Option<AnchorPolicy>,
    /// One of these scenarios; any if there are none.
    pub spec_hashes: Vec<Digest>,
}

/// A key and what its owner may say.
#[derive(Debug, Clone, PartialEq)]
pub struct TrustedKey {
    /// What the policy calls it.
    pub id: String,
    /// Whose it is, for people.
    pub name: Option<String>,
    /// The key.
    pub public: PublicKey,
    /// Its digest, which our signatures name it by.
    pub digest: Digest,
    roles: BTreeSet<String>,
    valid_from: Option<i64>,
    valid_until: Option<i64>,
    tenants: Option<BTreeSet<TenantId>>,
    namespaces: Option<BTreeSet<NamespaceId>>,
    scenarios: Option<BTreeSet<ScenarioId>>,
    /// What others call it.
    keyids: BTreeSet<String>,
}

/// What is asked of a provider's evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct EvidenceRule {
    /// Whether evidence without a signature that counts refuses the pack.
    pub required: bool,
    weakest: Form,
    /// Positions in [`TrustPolicy::keys`].
    keys: Vec<usize>,
}

/// What something signed speaks about.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// Whose run.
    pub tenant: TenantId,
    /// In which namespace.
    pub namespace: NamespaceId,
    /// Of which scenario.
    pub scenario: &'a ScenarioId,
    /// When the question is asked, in Unix milliseconds, if that was said.
    pub at: Option<i64>,
}

/// Why a valid signature of a trusted key does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not at the time that was given, or none was.
    #[error("{0}")]
    Time(String),
    /// The key's owner has no say in this.
    #[error("{0}")]
    Say(String),
    /// Of evidence: it is of a weaker form than asked for.
    #[error("it covers the value only, and neither question nor run")]
    Weak,
}

/// What a signature is worth.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing<'p, T> {
    /// It is the key's, and counts.
    Counts(&'p TrustedKey, T),
    /// It is the key's, and does not count.
    Refused(&'p TrustedKey, Refused),
    /// It says that it is the key's, and is not.
    Invalid(&'p TrustedKey),
    /// No key of the policy made it.
    Unknown,
}

impl TrustPolicy {
    /// Makes a policy of its table; `read` brings the files of keys.
    ///
    /// # Errors
    /// See [`PolicyFault`].
    pub fn new(table: TrustTable, read: &mut dyn FnMut(&str) -> Result<String, String>) -> Result<Self, PolicyFault> {
        if table.version != 1 {
            return Err(PolicyFault::Version(table.version));
        }
        let RequireTable { signatures, roles, min_lane, anchor_policy, spec_hashes } = table.require;
        let mut keys = Vec::new();
        for (index, key) in table.keys.into_iter().enumerate() {
            keys.push(TrustedKey::new(key, &format!("keys[{index}]"), read)?);
        }
        let mut hashes = Vec::new();
        for (index, hash) in spec_hashes.iter().enumerate() {
            let digest = hash.strip_prefix("sha256:").unwrap_or(hash).parse();
            match digest {
                Ok(digest) => hashes.push(digest),
                Err(_) => return wrong(format!("require.spec_hashes[{index}]"), "this is no SHA-256 digest"),
            }
        }
        let require = Required {
            // Fail closed: who names keys and no number wants one signature.
            signatures: signatures.unwrap_or(1),
            roles,
            min_lane,
            anchor_policy,
            spec_hashes: hashes,
        };
        Self::of(keys, require, table.evidence)
    }

    /// A policy of keys that may sign anything.
    ///
    /// # Errors
    /// See [`PolicyFault`].
    pub fn of_keys(keys: Vec<(String, PublicKey)>, signatures: usize) -> Result<Self, PolicyFault> {
        let keys = keys.into_iter().map(|(id, public)| TrustedKey::of(id, public)).collect();
        Self::of(keys, Required { signatures, ..Required::default() }, BTreeMap::new())
    }

    fn of(
        keys: Vec<TrustedKey>,
        require: Required,
        evidence: BTreeMap<ProviderId, EvidenceTable>,
    ) -> Result<Self, PolicyFault> {
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(PolicyFault::Keys);
        }
        for (index, key) in keys.iter().enumerate() {
            let before = &keys[..index];
            if before.iter().any(|other| other.id == key.id) {
                return wrong(format!("keys[{index}].id"), format!("`{}` is there already", key.id));
            }
            // Two names for one key would make one signer two.
            if let Some(other) = before.iter().find(|other| other.digest == key.digest) {
                return wrong(format!("keys[{index}]"), format!("it is the same key as `{}`", other.id));
            }
        }
        let signers = |role: Option<&str>| {
            let may = |key: &&TrustedKey| match role {
                Some(role) => key.roles.contains(role),
                None => key.signs_packs(),
            };
            keys.iter().filter(may).count()
        };
        if require.signatures > signers(None) {
            let problem =
                format!("{} signatures are asked for, and {} keys may sign packs", require.signatures, signers(None));
            return wrong("require.signatures", problem);
        }
        for (role, count) in &require.roles {
            let have = signers(Some(role));
            if role == EVIDENCE || *count > have {
                let problem = format!("{count} signatures are asked for, and {have} keys have that role to sign packs");
                return wrong(format!("require.roles.{role}"), problem);
            }
        }
        let mut rules = BTreeMap::new();
        for (provider, table) in evidence {
            let at = format!("evidence.{provider}.keys");
            let with_role = |(index, key): (usize, &TrustedKey)| key.roles.contains(EVIDENCE).then_some(index);
            let mut positions: Vec<_> = keys.iter().enumerate().filter_map(with_role).collect();
            if let Some(ids) = &table.keys {
                for id in ids {
                    if !positions.iter().any(|index| keys[*index].id == *id) {
                        return wrong(at, format!("no key with the role `{EVIDENCE}` is called `{id}`"));
                    }
                }
                positions.retain(|index| ids.contains(&keys[*index].id));
            }
            if positions.is_empty() {
                return wrong(at, format!("no key has the role `{EVIDENCE}`"));
            }
            let weakest = if table.binding == Binding::Bound { Form::Bound } else { Form::ValueOnly };
            rules.insert(provider, EvidenceRule { required: table.mode == Mode::Required, weakest, keys: positions });
        }
        Ok(Self { keys, require, evidence: rules })
    }

    /// What a signature over `message` is worth, for a pack.
    pub fn standing(&self, message: &[u8], signature: &Signature, signed: &Signed<'_>) -> Standing<'_, ()> {
        let claimed = |key: &&TrustedKey| key.is_called(&signature.keyid);
        let known = self.keys.iter().any(|key| claimed(&key));
        let mut tried = self.keys.iter().filter(|key| !known || claimed(key));
        match tried.find(|key| key.public.verifies(message, &signature.signature)) {
            Some(key) if !key.signs_packs() => {
                Standing::Refused(key, Refused::Say("it may sign evidence only".to_owned()))
            }
            Some(key) => {
                key.may(signed).map_or_else(|refused| Standing::Refused(key, refused), |()| Standing::Counts(key, ()))
            }
            None => self.keys.iter().find(claimed).map_or(Standing::Unknown, Standing::Invalid),
        }
    }

    /// What is asked of a provider's evidence, if anything is.
    pub fn evidence_rule(&self, provider: &ProviderId) -> Option<&EvidenceRule> {
        self.evidence.get(provider)
    }

    /// Whether something is asked of evidence at all.
    pub fn asks_for_evidence(&self) -> bool {
        !self.evidence.is_empty()
    }

    /// What the signature of evidence is worth.
    pub fn evidence_standing(
        &self,
        rule: &EvidenceRule,
        query: &EvidenceQuery,
        context: &EvidenceContext,
        evidence_hash: Option<&Digest>,
        signature: &EvidenceSignature,
        at: Option<i64>,
    ) -> Standing<'_, Form> {
        if signature.scheme != SCHEME || signature.signature.len() != SIGNATURE_BYTES {
            return rule
                .keys
                .iter()
                .map(|index| &self.keys[*index])
                .find(|key| key.is_called(&signature.key_id))
                .map_or(Standing::Unknown, Standing::Invalid);
        }
        let signed =
            Signed { tenant: context.tenant_id, namespace: context.namespace_id, scenario: &context.scenario_id, at };
        let keys = || rule.keys.iter().map(|index| &self.keys[*index]);
        let known = keys().any(|key| key.is_called(&signature.key_id));
        for key in keys().filter(|key| !known || key.is_called(&signature.key_id)) {
            let form = signed_by(&key.public, query, context, evidence_hash, &signature.signature);
            if let Ok(Some(form)) = form {
                return match key.may(&signed) {
                    Err(refused) => Standing::Refused(key, refused),
                    Ok(()) if form < rule.weakest => Standing::Refused(key, Refused::Weak),
                    Ok(()) => Standing::Counts(key, form),
                };
            }
        }
        keys().find(|key| key.is_called(&signature.key_id)).map_or(Standing::Unknown, Standing::Invalid)
    }

    /// Whether the signers are enough; the sentence says what is missing.
    ///
    /// # Errors
    /// The first number that is not reached: what it is of, how many are
    /// needed, how many there are.
    pub fn enough(&self, signers: &[&TrustedKey]) -> Result<(), (String, usize, usize)> {
        let different: BTreeSet<_> = signers.iter().map(|key| &key.id).collect();
        if different.len() < self.require.signatures {
            return Err(("trusted keys".to_owned(), self.require.signatures, different.len()));
        }
        for (role, needed) in &self.require.roles {
            let have: BTreeSet<_> = signers.iter().filter(|key| key.roles.contains(role)).map(|key| &key.id).collect();
            if have.len() < *needed {
                return Err((format!("keys with the role {role}"), *needed, have.len()));
            }
        }
        Ok(())
    }

    /// Whether anything is missed in a pack that nobody signed.
    pub fn requires_signatures(&self) -> bool {
        self.require.signatures > 0 || self.require.roles.values().any(|count| *count > 0)
    }
}

impl TrustedKey {
    /// A key that may sign any pack.
    fn of(id: String, public: PublicKey) -> Self {
        Self {
            digest: public.id(),
            id,
            name: None,
            public,
            roles: BTreeSet::from([PACK.to_owned()]),
            valid_from: None,
            valid_until: None,
            tenants: None,
            namespaces: None,
            scenarios: None,
            keyids: BTreeSet::new(),
        }
    }

    fn new(
        table: KeyTable,
        at: &str,
        read: &mut dyn FnMut(&str) -> Result<String, String>,
    ) -> Result<Self, PolicyFault> {
        let member = |name: &str| format!("{at}.{name}");
        if table.id.is_empty() {
            return wrong(member("id"), "a key has a name");
        }
        let (source, pem) = match (table.file, table.pem) {
            (Some(file), None) => match read(&file) {
                Ok(pem) => ("file", pem),
                Err(problem) => return wrong(member("file"), problem),
            },
            (None, Some(pem)) => ("pem", pem),
            _ => return wrong(at, "a key has either `file` or `pem`"),
        };
        let public = match PublicKey::from_pem(&pem) {
            Ok(public) => public,
            Err(fault) => return wrong(member(source), fault.to_string()),
        };
        let roles = table.roles.unwrap_or_else(|| BTreeSet::from([PACK.to_owned()]));
        if roles.is_empty() {
            return wrong(member("roles"), "a key without a role can sign nothing");
        }
        let time = |name: &str, text: Option<String>| match text.as_deref().map(instant) {
            None => Ok(None),
            Some(Some(millis)) => Ok(Some(millis)),
            Some(None) => wrong(member(name), "write 2026-01-31 or 2026-01-31T12:00:00Z"),
        };
        let valid_from = time("valid_from", table.valid_from)?;
        let valid_until = time("valid_until", table.valid_until)?;
        if let (Some(from), Some(until)) = (valid_from, valid_until)
            && from >= until
        {
            return wrong(member("valid_until"), "it ends before it begins");
        }
        Ok(Self {
            digest: public.id(),
            id: table.id,
            name: table.name,
            public,
            roles,
            valid_from,
            valid_until,
            tenants: table.tenants,
            namespaces: table.namespaces,
            scenarios: table.scenarios,
            keyids: table.keyids,
        })
    }

    fn signs_packs(&self) -> bool {
        self.roles.iter().any(|role| role != EVIDENCE)
    }

    /// Whether a signature that names its key so means this one.
    fn is_called(&self, keyid: &str) -> bool {
        !keyid.is_empty() && (self.id == keyid || self.keyids.contains(keyid) || self.digest.to_string() == keyid)
    }

    /// Whether its owner has a say in this, then.
    fn may(&self, signed: &Signed<'_>) -> Result<(), Refused> {
        let shown = |millis: i64| {
            let at = Timestamp::UnixMillis(millis);
            at.utc().unwrap_or_else(|| at.to_string())
        };
        if self.valid_from.is_some() || self.valid_until.is_some() {
            let Some(at) = signed.at else {
                let text = "it is valid for a time only, and no time was given (--at)";
                return Err(Refused::Time(text.to_owned()));
            };
            if let Some(from) = self.valid_from.filter(|from| at < *from) {
                return Err(Refused::Time(format!("it is valid from {}", shown(from))));
            }
            if let Some(until) = self.valid_until.filter(|until| at >= *until) {
                return Err(Refused::Time(format!("it was valid until {}", shown(until))));
            }
        }
        let says =
            |what: &str, may: bool| if may { Ok(()) } else { Err(Refused::Say(format!("it may not sign for {what}"))) };
        let within = |may: Option<bool>| may.unwrap_or(true);
        let tenant = signed.tenant;
        says(&format!("tenant {tenant}"), within(self.tenants.as_ref().map(|set| set.contains(&tenant))))?;
        let namespace = signed.namespace;
        says(&format!("namespace {namespace}"), within(self.namespaces.as_ref().map(|set| set.contains(&namespace))))?;
        let scenario = signed.scenario;
        says(&format!("scenario {scenario}"), within(self.scenarios.as_ref().map(|set| set.contains(scenario))))
    }
}

/// A date, which is its first moment in UTC, or a date-time, in Unix milliseconds.
fn instant(text: &str) -> Option<i64> {
    let full = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    match full.parse().ok()? {
        Timestamp::UnixMillis(millis) => Some(millis),
        Timestamp::Logical(_) => None,
    }
}
