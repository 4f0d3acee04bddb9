//! Who may call what, and how much of an answer they are shown.

use std::collections::BTreeSet;
use std::fmt;

use runpack_core::model::{GateEvalRecord, NamespaceId, ProviderId, ScenarioSpec, TenantId};
use serde::{Deserialize, Serialize};

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name that policies use.
    pub subject: String,
    /// On this machine and without credentials.
    pub local: bool,
}

impl Caller {
    /// Somebody on this machine, over a loopback connection.
    pub fn loopback() -> Self {
        Self { subject: "loopback".to_owned(), local: true }
    }
}

/// Why a call was refused. The reason is for the operator; the caller only
/// hears that it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied(pub String);

/// Everything that decides about access.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Which tools there are, for anybody.
    pub visible: Visible,
    /// Tools that may be called; empty for all.
    pub allowed_tools: BTreeSet<String>,
    /// Who may use the default namespace.
    pub namespaces: Namespaces,
    /// How much `scenario_next` says of its gates.
    pub feedback: FeedbackPolicy,
    /// Whose evidence is shown.
    pub evidence: EvidencePolicy,
}

/// Which tools are hidden: unknown to callers, as if they did not exist.
#[derive(Debug, Clone, Default)]
pub struct Visible {
    /// Hidden tools are listed all the same; calling them is still refused.
    pub listed_all_the_same: bool,
    /// Only these; empty for all.
    pub allowed: BTreeSet<String>,
    /// Never these.
    pub denied: BTreeSet<String>,
}

impl Visible {
    /// Whether there is such a tool as far as callers know.
    pub fn sees(&self, tool: &str) -> bool {
        !self.denied.contains(tool) && (self.allowed.is_empty() || self.allowed.contains(tool))
    }

    /// Whether the tool is listed.
    pub fn lists(&self, tool: &str) -> bool {
        self.listed_all_the_same || self.sees(tool)
    }
}

/// The namespace whose number is 1 belongs to nobody in particular, so it is
/// opened for tenants by name or not at all.
#[derive(Debug, Clone, Default)]
pub struct Namespaces {
    /// Whether it may be used.
    pub allow_default: bool,
    /// By whom.
    pub default_tenants: BTreeSet<TenantId>,
}

/// The number of the default namespace.
const DEFAULT_NAMESPACE: u64 = 1;

impl Access {
    /// Whether `caller` may call the tool at all.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn may_call(&self, caller: &Caller, tool: &str) -> Result<(), Denied> {
        if self.allowed_tools.is_empty() || self.allowed_tools.contains(tool) {
            return Ok(());
        }
        Err(Denied(format!("{} may not call {tool}: server.auth.allowed_tools does not name it", caller.subject)))
    }

    /// Whether `caller` may act in `namespace` for `tenant`.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn may_enter(&self, caller: &Caller, tenant: Option<TenantId>, namespace: NamespaceId) -> Result<(), Denied> {
        if namespace.get() != DEFAULT_NAMESPACE {
            return Ok(());
        }
        let rule = &self.namespaces;
        let reason = match tenant {
            _ if !rule.allow_default => "namespace.allow_default is false".to_owned(),
            None => "no tenant is named\nhint: set default_tenant_id in the scenario".to_owned(),
            Some(tenant) if !rule.default_tenants.contains(&tenant) => {
                format!("namespace.default_tenants does not name tenant {tenant}")
            }
            Some(_) => return Ok(()),
        };
        Err(Denied(format!("{} may not use namespace {namespace}: {reason}", caller.subject)))
    }
}

/// How much `scenario_next` says of the gates behind its decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedbackLevel {
    /// Which gates are unmet, as the decision itself says.
    Summary,
    /// How each gate came out, and by which conditions.
    Trace,
    /// Also the evidence.
    Evidence,
}

impl FeedbackLevel {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Summary => "summary",
            Self::Trace => "trace",
            Self::Evidence => "evidence",
        }
    }

    fn below(self) -> Self {
        match self {
            Self::Evidence => Self::Trace,
            Self::Trace | Self::Summary => Self::Summary,
        }
    }
}

impl fmt::Display for FeedbackLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who is told how much.
#[derive(Debug, Clone)]
pub struct FeedbackPolicy {
    /// Where a request that names no level starts.
    pub default: FeedbackLevel,
    /// The same for local callers.
    pub local_default: FeedbackLevel,
    /// The most anybody gets.
    pub max: FeedbackLevel,
    /// Who may have a trace.
    pub trace_subjects: BTreeSet<String>,
    /// Who may have evidence.
    pub evidence_subjects: BTreeSet<String>,
}

impl Default for FeedbackPolicy {
    fn default() -> Self {
        Self {
            default: FeedbackLevel::Summary,
            local_default: FeedbackLevel::Trace,
            max: FeedbackLevel::Trace,
            trace_subjects: ["loopback", "stdio"].map(str::to_owned).into(),
            evidence_subjects: BTreeSet::new(),
        }
    }
}

/// The level that a caller gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The level.
    pub level: FeedbackLevel,
    /// Why it is lower than what was asked for.
    pub denied: Option<String>,
}

impl FeedbackPolicy {
    /// The level `caller` gets: what was asked for, at most `max`, and from
    /// there down to the first the caller is listed for.
    pub fn grant(&self, caller: &Caller, requested: Option<FeedbackLevel>) -> Granted {
        let asked = requested.unwrap_or(if caller.local { self.local_default } else { self.default });
        let mut level = asked.min(self.max);
        while !self.listed(caller, level) {
            level = level.below();
        }
        let denied = (level < asked).then(|| format!("feedback level denied (requested={asked}, allowed={level})"));
        Granted { level, denied }
    }

    fn listed(&self, caller: &Caller, level: FeedbackLevel) -> bool {
        match level {
            FeedbackLevel::Summary => true,
            FeedbackLevel::Trace => self.trace_subjects.contains(&caller.subject),
            FeedbackLevel::Evidence => self.evidence_subjects.contains(&caller.subject),
        }
    }
}

/// Whose evidence is shown as it is. Digests, anchors and references always are.
#[derive(Debug, Clone)]
pub struct EvidencePolicy {
    /// Whether any value is.
    pub allow_raw: bool,
    /// Whether a provider has to agree.
    pub provider_must_agree: bool,
    /// Those that do.
    pub agreeing: BTreeSet<ProviderId>,
}

impl Default for EvidencePolicy {
    fn default() -> Self {
        Self { allow_raw: false, provider_must_agree: true, agreeing: BTreeSet::new() }
    }
}

impl EvidencePolicy {
    /// Takes the values out of records that callers may not see.
    pub fn redact(&self, scenario: &ScenarioSpec, records: &mut [GateEvalRecord]) {
        for evidence in records.iter_mut().flat_map(|record| &mut record.evidence) {
            let asked = scenario.conditions.iter().find(|condition| condition.condition_id == evidence.condition_id);
            if !asked.is_some_and(|condition| self.shows(&condition.query.provider_id)) {
                evidence.result.value = None;
                evidence.result.content_type = None;
            }
        }
    }

    fn shows(&self, provider: &ProviderId) -> bool {
        self.allow_raw && (!self.provider_must_agree || self.agreeing.contains(provider))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_capped_and_then_lowered_to_the_first_the_caller_is_listed_for() {
        let caller = Caller::loopback();
        let policy = FeedbackPolicy::default();
        assert_eq!(policy.grant(&caller, None), Granted { level: FeedbackLevel::Trace, denied: None });
        let granted = policy.grant(&caller, Some(FeedbackLevel::Evidence));
        assert_eq!(granted.level, FeedbackLevel::Trace);
        assert_eq!(granted.denied.as_deref(), Some("feedback level denied (requested=evidence, allowed=trace)"));
        let stranger = Caller { subject: "token:0".to_owned(), local: false };
        assert_eq!(policy.grant(&stranger, None), Granted { level: FeedbackLevel::Summary, denied: None });
        assert_eq!(policy.grant(&stranger, Some(FeedbackLevel::Trace)).level, FeedbackLevel::Summary);
        let open = FeedbackPolicy {
            max: FeedbackLevel::Evidence,
            evidence_subjects: ["loopback".to_owned()].into(),
            ..policy
        };
        assert_eq!(open.grant(&caller, Some(FeedbackLevel::Evidence)).denied, None);
    }

    #[test]
    fn the_default_namespace_is_for_tenants_named_in_the_config() {
        let number = |value| TenantId::new(value).unwrap();
        let caller = Caller::loopback();
        let (default, other) = (NamespaceId::new(1).unwrap(), NamespaceId::new(2).unwrap());
        let mut access = Access::default();
        assert!(access.may_enter(&caller, None, other).is_ok());
        assert!(access.may_enter(&caller, Some(number(1)), default).unwrap_err().0.contains("allow_default is false"));
        access.namespaces = Namespaces { allow_default: true, default_tenants: [number(1)].into() };
        assert!(access.may_enter(&caller, Some(number(1)), default).is_ok());
        assert!(access.may_enter(&caller, Some(number(2)), default).unwrap_err().0.contains("does not name tenant 2"));
        assert!(access.may_enter(&caller, None, default).unwrap_err().0.contains("no tenant"));
    }
}
