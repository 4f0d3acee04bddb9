use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::manifest::Manifest;
use crate::canon::{self, CanonError, Digest};
use crate::engine::{self, Logic, Policy, PolicyFault, PolicyTable};
use crate::model::tagged::string_enum;
use crate::model::{AnchorPolicy, Lane, NamespaceId, ProviderId, RunId, ScenarioId, TenantId};
use crate::read::{self, Profile, Refusal, Unknown};

/// The type of the message in an envelope: an in-toto statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// What our statements say: the members of [`Predicate`].
pub const PREDICATE_TYPE: &str = "urn:runpack:attestation:v1";

/// Whose run a pack is and how it was decided, as its signers say it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "a runpack predicate")]
#[allow(missing_docs, reason = "the members are described in docs/format.md")]
pub struct Predicate {
    pub namespace_id: NamespaceId,
    pub root_hash: Digest,
    pub run_id: RunId,
    pub scenario_id: ScenarioId,
    /// `None` from who did not decide the run, and so does not know.
    pub settings: Option<AttestedSettings>,
    pub spec_hash: Digest,
    pub tenant_id: TenantId,
}

/// What a v1 pack does not record of how its run was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "an object of settings")]
#[allow(missing_docs, reason = "the members are described in docs/format.md")]
pub struct AttestedSettings {
    pub anchor_policy: AnchorPolicy,
    pub logic: LogicName,
    pub min_lane: Lane,
    pub policy: PolicyTable,
    pub provider_lanes: BTreeMap<ProviderId, Lane>,
}

string_enum! {
    /// A logic by its name.
    pub enum LogicName {
        /// Unknown counts where it matters.
        Kleene = "kleene",
        /// Unknown always counts.
        Bochvar = "bochvar",
    }
}

impl From<Logic> for LogicName {
    fn from(logic: Logic) -> Self {
        match logic {
            Logic::Kleene => Self::Kleene,
            Logic::Bochvar => Self::Bochvar,
        }
    }
}

impl AttestedSettings {
    /// What a deployment decides by.
    pub fn of(settings: &engine::Settings, policy: &Policy) -> Self {
        Self {
            anchor_policy: settings.anchors.clone(),
            logic: settings.logic.into(),
            min_lane: settings.min_lane,
            policy: policy.clone().into(),
            provider_lanes: settings.provider_lanes.clone(),
        }
    }

    /// The least lane of a provider.
    pub(super) fn lane(&self, provider: &ProviderId) -> Lane {
        self.provider_lanes.get(provider).map_or(self.min_lane, |lane| self.min_lane.max(*lane))
    }
}

impl Predicate {
    /// What is to be said of the pack with this manifest.
    pub fn of(manifest: &Manifest, settings: Option<AttestedSettings>) -> Self {
        Self {
            namespace_id: manifest.namespace_id,
            root_hash: manifest.integrity.root_hash,
            run_id: manifest.run_id.clone(),
            scenario_id: manifest.scenario_id.clone(),
            settings,
            spec_hash: manifest.spec_hash,
            tenant_id: manifest.tenant_id,
        }
    }

    /// The first member that says otherwise than `manifest`: its name, what the
    /// manifest says, what this says.
    pub(super) fn contradicts(&self, manifest: &Manifest) -> Option<(&'static str, String, String)> {
        let wanted = Self::of(manifest, None);
        let members = [
            ("root_hash", wanted.root_hash.to_string(), self.root_hash.to_string()),
            ("spec_hash", wanted.spec_hash.to_string(), self.spec_hash.to_string()),
            ("tenant_id", wanted.tenant_id.to_string(), self.tenant_id.to_string()),
            ("namespace_id", wanted.namespace_id.to_string(), self.namespace_id.to_string()),
            ("scenario_id", wanted.scenario_id.to_string(), self.scenario_id.to_string()),
            ("run_id", wanted.run_id.to_string(), self.run_id.to_string()),
        ];
        let anchors = self.settings.as_ref().map(|settings| &settings.anchor_policy);
        let stated = manifest.anchor_policy.clone().unwrap_or_default();
        let text =
            |policy: &AnchorPolicy| canon::to_vec(policy).map(|text| String::from_utf8_lossy(&text).into_owned());
        let anchors = anchors.filter(|policy| **policy != stated).map(|policy| {
            ("settings/anchor_policy", text(&stated).unwrap_or_default(), text(policy).unwrap_or_default())
        });
        members.into_iter().find(|(_, wanted, stated)| wanted != stated).or(anchors)
    }
}

/// An in-toto statement about one pack: what is signed.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The digest of the manifest's bytes.
    pub pack_digest: Digest,
    /// What is said of it.
    pub claim: Claim,
}

/// What a statement says.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// Of our kind.
    Run(Box<Predicate>),
    /// Of another kind, by its type.
    Other(String),
}

/// Why a message is no statement about one pack.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatementFault {
    /// The envelope holds something else.
    #[error("its payload is of the type `{0}`, not `{PAYLOAD_TYPE}`")]
    PayloadType(String),
    /// No JSON, or another shape.
    #[error("{0}")]
    Shape(#[from] Refusal),
    /// Another version of in-toto.
    #[error("its `_type` is `{0}`, not `{STATEMENT_TYPE}`")]
    Type(String),
    /// None, several, or one without SHA-256.
    #[error("it does not have one subject with a SHA-256 digest")]
    Subject,
    /// Settings that make no sense.
    #[error("its settings: {0}")]
    Policy(#[from] PolicyFault),
}

#[derive(Deserialize)]
#[serde(expecting = "an in-toto statement")]
struct StatementWire {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(default)]
    predicate: Value,
    #[serde(rename = "predicateType")]
    _predicate_type: String,
    subject: Vec<SubjectWire>,
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "a subject")]
struct SubjectWire {
    digest: BTreeMap<String, String>,
    #[serde(default)]
    name: Option<String>,
}

impl Statement {
    /// What there is to sign about a pack.
    ///
    /// # Errors
    /// None for a manifest that was read from JSON.
    pub fn write(manifest_bytes: &[u8], manifest_name: &str, predicate: &Predicate) -> Result<Vec<u8>, CanonError> {
        let subject = SubjectWire {
            digest: BTreeMap::from([("sha256".to_owned(), Digest::of(manifest_bytes).to_string())]),
            name: Some(manifest_name.to_owned()),
        };
        #[derive(Serialize)]
        struct Ours<'a> {
            #[serde(rename = "_type")]
            kind: &'a str,
            predicate: &'a Predicate,
            #[serde(rename = "predicateType")]
            predicate_type: &'a str,
            subject: [SubjectWire; 1],
        }
        canon::to_vec(&Ours { kind: STATEMENT_TYPE, predicate, predicate_type: PREDICATE_TYPE, subject: [subject] })
    }

    /// Reads a message, in any spelling of JSON: others write `1.0` for 1. What the subject is called is
    /// not looked at: a manifest may have any name.
    ///
    /// # Errors
    /// See [`StatementFault`].
    pub fn parse(payload_type: &str, payload: &[u8]) -> Result<Self, StatementFault> {
        if payload_type != PAYLOAD_TYPE {
            return Err(StatementFault::PayloadType(payload_type.to_owned()));
        }
        let mut tree = read::value(payload, Profile::Pack)?;
        whole_numbers(&mut tree);
        let foreign = tree.get("predicateType").and_then(|kind| kind.as_str()).filter(|kind| *kind != PREDICATE_TYPE);
        let foreign = foreign.map(str::to_owned);
        // Of another kind it may have members that we do not know.
        let unknown = if foreign.is_some() { Unknown::Drop } else { Unknown::Refuse };
        let wire: StatementWire = read::recorded_value(tree, unknown)?;
        if wire.kind != STATEMENT_TYPE {
            return Err(StatementFault::Type(wire.kind));
        }
        let [subject] = wire.subject.as_slice() else { return Err(StatementFault::Subject) };
        let digest = subject.digest.get("sha256").and_then(|hex| hex.parse().ok());
        let pack_digest = digest.ok_or(StatementFault::Subject)?;
        let claim = match foreign {
            Some(kind) => Claim::Other(kind),
            None => {
                let predicate: Predicate = read::recorded_value(wire.predicate, Unknown::Refuse)?;
                if let Some(settings) = &predicate.settings {
                    Policy::try_from(settings.policy.clone())?;
                }
                Claim::Run(Box::new(predicate))
            }
        };
        Ok(Self { pack_digest, claim })
    }
}

/// Floats that are whole numbers, as whole numbers: in-toto's own messages are
/// made with a library that knows no others.
fn whole_numbers(tree: &mut Value) {
    const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;
    match tree {
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(members) => members.values_mut().for_each(whole_numbers),
        Value::Number(number) if number.is_f64() => {
            if let Some(float) = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT_BELOW) {
                *tree = Value::from(float as i64);
            }
        }
        Value::Number(_) | Value::String(_) | Value::Bool(_) | Value::Null => {}
    }
}
