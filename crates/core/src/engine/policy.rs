use serde::{Deserialize, Serialize};

use crate::model::{DispatchTarget, PacketEnvelope};
use crate::read::Admit;

/// Who decides whether a packet may be disclosed to a target.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Policy {
    /// Always yes.
    #[default]
    PermitAll,
    /// Always no.
    DenyAll,
    /// By rules.
    Static(StaticPolicy),
}

/// A policy as it is configured: an engine, and the rules of engine `static`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyTable {
    engine: Engine,
    #[serde(rename = "static", skip_serializing_if = "Option::is_none")]
    rules: Option<StaticPolicy>,
}

impl Admit for PolicyTable {}

impl From<Policy> for PolicyTable {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::PermitAll => Self { engine: Engine::PermitAll, rules: None },
            Policy::DenyAll => Self { engine: Engine::DenyAll, rules: None },
            Policy::Static(rules) => Self { engine: Engine::Static, rules: Some(rules) },
        }
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Engine {
    #[default]
    PermitAll,
    DenyAll,
    Static,
}

/// A policy table that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {problem}")]
pub struct PolicyFault {
    /// The member, with dots.
    pub key: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl TryFrom<PolicyTable> for Policy {
    type Error = PolicyFault;

    fn try_from(table: PolicyTable) -> Result<Self, PolicyFault> {
        let wrong = |key: &str, problem| Err(PolicyFault { key: key.to_owned(), problem });
        match (table.engine, table.rules) {
            (Engine::PermitAll, None) => Ok(Self::PermitAll),
            (Engine::DenyAll, None) => Ok(Self::DenyAll),
            (Engine::Static, Some(rules)) => {
                for (index, rule) in rules.rules.iter().enumerate() {
                    let key = format!("policy.static.rules[{index}]");
                    if !rule.has_criteria() {
                        return wrong(&key, "rule must include at least one match criterion");
                    }
                    if (rule.effect == Effect::Error) != rule.error_message.is_some() {
                        return wrong(&key, "`error_message` belongs to effect \"error\", which needs it");
                    }
                }
                Ok(Self::Static(rules))
            }
            (Engine::Static, None) => wrong("policy.static", "is required with engine \"static\""),
            (_, Some(_)) => wrong("policy.static", "belongs to engine \"static\""),
        }
    }
}

/// A policy's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Disclose.
    Permit,
    /// Do not.
    Deny,
    /// It cannot be said, and why.
    Error(String),
}

/// Rules in order; the first that matches answers, else the default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticPolicy {
    /// The answer when no rule matches.
    #[serde(default)]
    pub default: DefaultEffect,
    /// The rules.
    #[serde(default)]
    pub rules: Vec<PolicyRule>,
}

/// The answer when no rule matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultEffect {
    /// Disclose.
    Permit,
    /// Do not.
    #[default]
    Deny,
}

/// What a rule answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Disclose.
    Permit,
    /// Do not.
    Deny,
    /// Refuse with the rule's `error_message`.
    Error,
}

/// One rule. Every criterion it names must hold: of `require_*` every entry is
/// present, of `forbid_*` none, of the others any entry is equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the members are the config keys, described in docs")]
pub struct PolicyRule {
    pub effect: Effect,
    pub error_message: Option<String>,
    #[serde(default)]
    pub target_kinds: Vec<String>,
    #[serde(default)]
    pub targets: Vec<Target>,
    #[serde(default)]
    pub require_labels: Vec<String>,
    #[serde(default)]
    pub forbid_labels: Vec<String>,
    #[serde(default)]
    pub require_policy_tags: Vec<String>,
    #[serde(default)]
    pub forbid_policy_tags: Vec<String>,
    #[serde(default)]
    pub content_types: Vec<String>,
    #[serde(default)]
    pub schema_ids: Vec<String>,
    #[serde(default)]
    pub packet_ids: Vec<String>,
    #[serde(default)]
    pub stage_ids: Vec<String>,
    #[serde(default)]
    pub scenario_ids: Vec<String>,
}

/// A target as rules name it: by id, or for `external` by system and target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the members are the config keys")]
pub struct Target {
    pub target_kind: String,
    pub target_id: Option<String>,
    pub system: Option<String>,
    pub target: Option<String>,
}

impl Policy {
    /// Whether `envelope` may go to `target`.
    pub fn authorize(&self, target: &DispatchTarget, envelope: &PacketEnvelope) -> Answer {
        match self {
            Self::PermitAll => Answer::Permit,
            Self::DenyAll => Answer::Deny,
            Self::Static(policy) => policy.authorize(target, envelope),
        }
    }
}

impl StaticPolicy {
    fn authorize(&self, target: &DispatchTarget, envelope: &PacketEnvelope) -> Answer {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(target, envelope)) else {
            return match self.default {
                DefaultEffect::Permit => Answer::Permit,
                DefaultEffect::Deny => Answer::Deny,
            };
        };
        match rule.effect {
            Effect::Permit => Answer::Permit,
            Effect::Deny => Answer::Deny,
            Effect::Error => Answer::Error(rule.error_message.clone().unwrap_or_default()),
        }
    }
}

impl PolicyRule {
    /// A rule that matches everything and answers with an error.
    pub fn error(message: &str) -> Self {
        Self {
            effect: Effect::Error,
            error_message: Some(message.to_owned()),
            target_kinds: Vec::new(),
            targets: Vec::new(),
            require_labels: Vec::new(),
            forbid_labels: Vec::new(),
            require_policy_tags: Vec::new(),
            forbid_policy_tags: Vec::new(),
            content_types: Vec::new(),
            schema_ids: Vec::new(),
            packet_ids: Vec::new(),
            stage_ids: Vec::new(),
            scenario_ids: Vec::new(),
        }
    }

    fn matches(&self, target: &DispatchTarget, envelope: &PacketEnvelope) -> bool {
        let any = |wanted: &[String], found: &str| wanted.is_empty() || wanted.iter().any(|entry| entry == found);
        let (labels, tags) = (&envelope.visibility.labels, &envelope.visibility.policy_tags);
        any(&self.target_kinds, target.kind().as_str())
            && (self.targets.is_empty() || self.targets.iter().any(|named| named.is(target)))
            && self.require_labels.iter().all(|label| labels.contains(label))
            && !self.forbid_labels.iter().any(|label| labels.contains(label))
            && self.require_policy_tags.iter().all(|tag| tags.contains(tag))
            && !self.forbid_policy_tags.iter().any(|tag| tags.contains(tag))
            && any(&self.content_types, &envelope.content_type)
            && any(&self.schema_ids, envelope.schema_id.as_str())
            && any(&self.packet_ids, envelope.packet_id.as_str())
            && any(&self.stage_ids, envelope.stage_id.as_str())
            && any(&self.scenario_ids, envelope.scenario_id.as_str())
    }

    /// Whether the rule names anything at all.
    fn has_criteria(&self) -> bool {
        let lists = [
            &self.target_kinds,
            &self.require_labels,
            &self.forbid_labels,
            &self.require_policy_tags,
            &self.forbid_policy_tags,
            &self.content_types,
            &self.schema_ids,
            &self.packet_ids,
            &self.stage_ids,
            &self.scenario_ids,
        ];
        !self.targets.is_empty() || lists.iter().any(|list| !list.is_empty())
    }
}

impl Target {
    fn is(&self, other: &DispatchTarget) -> bool {
        let id = |text: &str| self.target_id.as_deref() == Some(text);
        self.target_kind == other.kind().as_str()
            && match other {
                DispatchTarget::Agent { agent_id } => id(agent_id.as_str()),
                DispatchTarget::Session { session_id } => id(session_id),
                DispatchTarget::Channel { channel } => id(channel),
                DispatchTarget::External { system, target } => {
                    self.system.as_ref() == Some(system) && self.target.as_ref() == Some(target)
                }
            }
    }
}
