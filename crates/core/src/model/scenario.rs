use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::tagged::{need, only, string_enum};
use super::{
    CheckId, ConditionId, GateId, Lane, NamespaceId, PacketId, PacketPayload, PolicyId, ProviderId, ScenarioId,
    SchemaId, SpecVersion, StageId, TenantId, Timestamp,
};
use crate::read::{Admit, Refusal, admit_value};

/// A scenario as written: stages, their gates, and the conditions gates ask for.
///
/// Having one says nothing about its sense; [`crate::engine::Scenario`] does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the members are the wire format, described in docs/format.md")]
pub struct ScenarioSpec {
    pub conditions: Vec<ConditionSpec>,
    pub default_tenant_id: Option<TenantId>,
    pub namespace_id: NamespaceId,
    pub policies: Vec<PolicyRef>,
    pub scenario_id: ScenarioId,
    pub schemas: Vec<SchemaRef>,
    pub spec_version: SpecVersion,
    pub stages: Vec<StageSpec>,
}

impl Admit for ScenarioSpec {
    fn admit(&mut self) -> Result<(), Refusal> {
        for (index, condition) in self.conditions.iter_mut().enumerate() {
            if let Some(params) = &mut condition.query.params {
                admit_value(params, &format!("/conditions/{index}/query/params"))?;
            }
            if let Some(expected) = &mut condition.expected {
                admit_value(expected, &format!("/conditions/{index}/expected"))?;
            }
        }
        for (index, stage) in self.stages.iter_mut().enumerate() {
            for (packet_index, packet) in stage.entry_packets.iter_mut().enumerate() {
                packet.payload.admit_at(&format!("/stages/{index}/entry_packets/{packet_index}/payload"))?;
            }
        }
        Ok(())
    }
}

/// One step of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct StageSpec {
    pub advance_to: AdvanceTo,
    pub entry_packets: Vec<PacketSpec>,
    pub gates: Vec<GateSpec>,
    pub on_timeout: OnTimeout,
    pub stage_id: StageId,
    pub timeout: Option<TimeoutSpec>,
}

string_enum! {
    /// What an expired stage does.
    pub enum OnTimeout {
        /// The run fails.
        Fail = "fail",
        /// The run advances as if every gate were True, and the decision says so.
        AdvanceWithFlag = "advance_with_flag",
        /// The run advances as if every gate were Unknown.
        AlternateBranch = "alternate_branch",
    }
}

/// Where a run goes from a stage.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "wire format")]
pub enum AdvanceTo {
    /// To the following stage in written order; the last one ends the run.
    Linear,
    /// To the named stage.
    Fixed { stage_id: StageId },
    /// To the stage of the first rule that matches, else to the default.
    Branch { branches: Vec<BranchRule>, default: Option<StageId> },
    /// Nowhere: the run is complete.
    Terminal,
}

string_enum! {
    /// The kinds of [`AdvanceTo`].
    enum AdvanceKind {
        /// Next in order.
        Linear = "linear",
        /// A named stage.
        Fixed = "fixed",
        /// By rules.
        Branch = "branch",
        /// The end.
        Terminal = "terminal",
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object that says where to advance")]
struct AdvanceUnion {
    kind: AdvanceKind,
    stage_id: Option<StageId>,
    branches: Option<Vec<BranchRule>>,
    default: Option<StageId>,
}

impl<'de> Deserialize<'de> for AdvanceTo {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let AdvanceUnion { kind, stage_id, branches, default } = AdvanceUnion::deserialize(reader)?;
        let (name, stage, rules) = (
            kind.as_str(),
            ("stage_id", stage_id.is_some()),
            [("branches", branches.is_some()), ("default", default.is_some())],
        );
        match kind {
            AdvanceKind::Linear => only(name, &[stage, rules[0], rules[1]]).map(|()| Self::Linear),
            AdvanceKind::Terminal => only(name, &[stage, rules[0], rules[1]]).map(|()| Self::Terminal),
            AdvanceKind::Fixed => only(name, &rules)
                .and_then(|()| need(name, "stage_id", stage_id))
                .map(|stage_id| Self::Fixed { stage_id }),
            AdvanceKind::Branch => only(name, &[stage])
                .and_then(|()| need(name, "branches", branches))
                .map(|branches| Self::Branch { branches, default }),
        }
        .map_err(D::Error::custom)
    }
}

impl Serialize for AdvanceTo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Linear => map.serialize_entry("kind", &AdvanceKind::Linear)?,
            Self::Terminal => map.serialize_entry("kind", &AdvanceKind::Terminal)?,
            Self::Fixed { stage_id } => {
                map.serialize_entry("kind", &AdvanceKind::Fixed)?;
                map.serialize_entry("stage_id", stage_id)?;
            }
            Self::Branch { branches, default } => {
                map.serialize_entry("branches", branches)?;
                map.serialize_entry("default", default)?;
                map.serialize_entry("kind", &AdvanceKind::Branch)?;
            }
        }
        map.end()
    }
}

/// One rule of a branch: if the gate came out so, go there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct BranchRule {
    pub gate_id: GateId,
    pub next_stage_id: StageId,
    pub outcome: GateOutcome,
}

string_enum! {
    /// A gate's outcome as branch rules spell it: lower case, unlike [`super::TriState`].
    pub enum GateOutcome {
        /// The gate is True.
        True = "true",
        /// The gate is False.
        False = "false",
        /// The gate is Unknown.
        Unknown = "unknown",
    }
}

/// When a stage expires. `policy_tags` are carried and not interpreted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct TimeoutSpec {
    pub policy_tags: Vec<String>,
    /// Milliseconds, or ticks of a logical clock.
    pub timeout_ms: u64,
}

/// A gate: a requirement over conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct GateSpec {
    pub gate_id: GateId,
    pub requirement: Requirement,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustRequirement>,
}

/// A tree over conditions, decided in three-valued logic.
#[derive(Debug, Clone, PartialEq)]
pub enum Requirement {
    /// Every member.
    And(Vec<Requirement>),
    /// Any member.
    Or(Vec<Requirement>),
    /// The opposite.
    Not(Box<Requirement>),
    /// At least `min` of `reqs`.
    RequireGroup {
        /// 0 is always True.
        min: u8,
        /// The members.
        reqs: Vec<Requirement>,
    },
    /// A condition of the scenario.
    Condition(ConditionId),
}

#[derive(Deserialize)]
#[serde(expecting = "an object with `min` and `reqs`")]
struct GroupWire {
    min: u8,
    reqs: Vec<Requirement>,
}

/// The same, to write; deriving both on one struct would clone the members.
#[derive(Serialize)]
struct GroupOut<'a> {
    min: u8,
    reqs: &'a [Requirement],
}

impl Serialize for Requirement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::And(members) => map.serialize_entry("And", members)?,
            Self::Or(members) => map.serialize_entry("Or", members)?,
            Self::Not(member) => map.serialize_entry("Not", member)?,
            Self::RequireGroup { min, reqs } => {
                map.serialize_entry("RequireGroup", &GroupOut { min: *min, reqs })?;
            }
            Self::Condition(id) => map.serialize_entry("Condition", id)?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Requirement {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Node;
        impl<'de> Visitor<'de> for Node {
            type Value = Requirement;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one of `And`, `Or`, `Not`, `RequireGroup`, `Condition`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Requirement, A::Error> {
                let Some(key) = map.next_key::<String>()? else {
                    return Err(A::Error::invalid_length(0, &self));
                };
                let node = match key.as_str() {
                    "And" => Requirement::And(map.next_value()?),
                    "Or" => Requirement::Or(map.next_value()?),
                    "Not" => Requirement::Not(map.next_value()?),
                    "RequireGroup" => {
                        let GroupWire { min, reqs } = map.next_value()?;
                        Requirement::RequireGroup { min, reqs }
                    }
                    "Condition" => Requirement::Condition(map.next_value()?),
                    other => {
                        return Err(A::Error::custom(format_args!(
                            "unknown requirement `{other}`, expected {Expected}"
                        )));
                    }
                };
                match map.next_key::<String>()? {
                    None => Ok(node),
                    Some(extra) => Err(A::Error::custom(format_args!(
                        "a requirement has exactly one member, found `{key}` and `{extra}`"
                    ))),
                }
            }
        }
        struct Expected;
        impl fmt::Display for Expected {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Node.expecting(f)
            }
        }
        reader.deserialize_map(Node)
    }
}

/// A condition: a question to a provider, and how to judge the answer.
/// `policy_tags` are carried and not interpreted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct ConditionSpec {
    pub comparator: Comparator,
    pub condition_id: ConditionId,
    /// `null` is the same as absent: an expected JSON null cannot be stated.
    pub expected: Option<Value>,
    pub policy_tags: Vec<String>,
    pub query: EvidenceQuery,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustRequirement>,
}

/// What a condition asks a provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct EvidenceQuery {
    pub check_id: CheckId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
    pub provider_id: ProviderId,
}

string_enum! {
    /// How evidence is judged against what is expected.
    pub enum Comparator {
        /// Equal: numbers as decimals, everything else by structure.
        Equals = "equals",
        /// The negation of `equals`.
        NotEquals = "not_equals",
        /// Later or larger.
        GreaterThan = "greater_than",
        /// Later, larger or level.
        GreaterThanOrEqual = "greater_than_or_equal",
        /// Earlier or smaller.
        LessThan = "less_than",
        /// Earlier, smaller or level.
        LessThanOrEqual = "less_than_or_equal",
        /// After, by code points.
        LexGreaterThan = "lex_greater_than",
        /// After or the same, by code points.
        LexGreaterThanOrEqual = "lex_greater_than_or_equal",
        /// Before, by code points.
        LexLessThan = "lex_less_than",
        /// Before or the same, by code points.
        LexLessThanOrEqual = "lex_less_than_or_equal",
        /// Substring, or every expected element present.
        Contains = "contains",
        /// One of the expected.
        InSet = "in_set",
        /// Equal containers.
        DeepEquals = "deep_equals",
        /// Unequal containers.
        DeepNotEquals = "deep_not_equals",
        /// There is a value.
        Exists = "exists",
        /// There is no value, and no error either.
        NotExists = "not_exists",
    }
}

/// The least trusted lane that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct TrustRequirement {
    pub min_lane: Lane,
}

/// What a run discloses when it enters a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct PacketSpec {
    pub content_type: String,
    pub expiry: Option<Timestamp>,
    pub packet_id: PacketId,
    pub payload: PacketPayload,
    pub policy_tags: Vec<String>,
    pub schema_id: SchemaId,
    pub visibility_labels: Vec<String>,
}

/// A policy a scenario refers to; carried and not interpreted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct PolicyRef {
    pub description: Option<String>,
    pub policy_id: PolicyId,
}

/// A schema a scenario refers to; carried and not interpreted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct SchemaRef {
    pub schema_id: SchemaId,
    pub uri: Option<String>,
    pub version: Option<String>,
}
