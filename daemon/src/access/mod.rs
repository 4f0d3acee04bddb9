//! Who may call what, and how much of an answer they are shown.

mod authority;
mod identity;
mod registry;

use std::collections::BTreeSet;
use std::fmt;

use runpack_core::canon::Digest;
use runpack_core::model::{EvidenceResult, GateEvalRecord, NamespaceId, ProviderId, ScenarioSpec, TenantId};
use serde::{Deserialize, Serialize};

use crate::audit::TokenFingerprint;
pub use authority::{Authority, AuthorityConfig, Refused};
pub use identity::{Assignment, Authentication, Claim, Method, Principal, Principals, Role, Unauthenticated};
pub use registry::{AclRule, Action, CustomAcl, Effect, RegistryAcl};

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name that policies use: `stdio`, `loopback`, `token:` with the
    /// token's digest, or the subject of a certificate.
    pub subject: String,
    /// How that was found out.
    pub method: Method,
    /// What is known of the subject.
    pub principal: Principal,
}

impl Caller {
    /// Somebody on this machine, over a loopback connection.
    pub fn loopback() -> Self {
        Self::local("loopback")
    }

    /// Whoever started this process and holds the other end of its pipes.
    pub fn stdio() -> Self {
        Self::local("stdio")
    }

    fn local(subject: &str) -> Self {
        Self { subject: subject.to_owned(), method: Method::Local, principal: Principal::default() }
    }

    /// On this machine and without credentials.
    pub fn is_local(&self) -> bool {
        self.method == Method::Local
    }

    /// The digest of the token that was shown, for the audit log.
    pub fn fingerprint(&self) -> Option<TokenFingerprint> {
        let digest = self.subject.strip_prefix("token:").filter(|_| self.method == Method::BearerToken)?;
        digest.parse::<Digest>().ok().map(TokenFingerprint::from)
    }

    /// The roles the caller has there.
    pub fn roles_in(&self, tenant: TenantId, namespace: NamespaceId) -> impl Iterator<Item = Role> {
        self.principal.roles.iter().filter(move |assigned| assigned.holds(tenant, namespace)).map(|found| found.role)
    }
}

/// Why a call was refused. The reason is for the operator; the caller only
/// hears that it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied(pub String);

/// Everything that decides about access.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// How callers show who they are.
    pub authentication: Authentication,
    /// What is known of them.
    pub principals: Principals,
    /// Whether callers are kept to the tenants and namespaces of their roles.
    pub isolation: Isolation,
    /// Who may read and write data shapes.
    pub registry: RegistryAcl,
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

/// Whether callers are kept to the tenants and namespaces of their roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// As soon as any principal has a role that names a tenant: from then on a
    /// caller may enter where a role of its own holds, and a caller without
    /// roles nowhere. Local callers without roles may still go anywhere.
    #[default]
    Roles,
    /// Not: tenants and namespaces are labels.
    None,
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
    /// Who shows this.
    ///
    /// # Errors
    /// Why that is nobody we know.
    pub fn identify(&self, claim: &Claim<'_>) -> Result<Caller, Unauthenticated> {
        let (subject, method) = self.authentication.identify(claim)?;
        Ok(self.known(Caller { subject, method, principal: Principal::default() }))
    }

    /// The caller with what is known of it.
    pub fn known(&self, caller: Caller) -> Caller {
        let principal = self.principals.get(&caller.subject).cloned().unwrap_or_default();
        Caller { principal, ..caller }
    }

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
        self.keeps_to_itself(caller, tenant, namespace)?;
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

    fn keeps_to_itself(&self, caller: &Caller, tenant: Option<TenantId>, namespace: NamespaceId) -> Result<(), Denied> {
        let assigned = || self.principals.values().flat_map(|principal| &principal.roles);
        let free = caller.is_local() && caller.principal.roles.is_empty();
        if self.isolation == Isolation::None || free || assigned().all(|role| role.tenant.is_none()) {
            return Ok(());
        }
        let own = |role: &Assignment| match tenant {
            Some(tenant) => role.holds(tenant, namespace),
            // What belongs to nobody is for those whose role holds everywhere.
            None => role.tenant.is_none() && role.namespace.is_none_or(|own| own == namespace),
        };
        if caller.principal.roles.iter().any(own) {
            return Ok(());
        }
        let whose = tenant.map_or_else(|| "no tenant".to_owned(), |tenant| format!("tenant {tenant}"));
        Err(Denied(format!("{} has no role for {whose} in namespace {namespace}", caller.subject)))
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
    /// Who may have a trace by a role, wherever it holds.
    pub trace_roles: BTreeSet<Role>,
    /// Who may have evidence.
    pub evidence_subjects: BTreeSet<String>,
    /// Who may have evidence by a role, wherever it holds.
    pub evidence_roles: BTreeSet<Role>,
}

impl Default for FeedbackPolicy {
    fn default() -> Self {
        Self {
            default: FeedbackLevel::Summary,
            local_default: FeedbackLevel::Trace,
            max: FeedbackLevel::Trace,
            trace_subjects: ["loopback", "stdio"].map(str::to_owned).into(),
            trace_roles: BTreeSet::new(),
            evidence_subjects: BTreeSet::new(),
            evidence_roles: BTreeSet::new(),
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
        let asked = requested.unwrap_or(if caller.is_local() { self.local_default } else { self.default });
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
            FeedbackLevel::Trace => named(caller, &self.trace_subjects, &self.trace_roles),
            FeedbackLevel::Evidence => named(caller, &self.evidence_subjects, &self.evidence_roles),
        }
    }
}

fn named(caller: &Caller, subjects: &BTreeSet<String>, roles: &BTreeSet<Role>) -> bool {
    subjects.contains(&caller.subject) || caller.principal.roles.iter().any(|assigned| roles.contains(&assigned.role))
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
    /// Takes the value out of what `provider` answered, if callers may not see it.
    pub fn redact_result(&self, provider: &ProviderId, result: &mut EvidenceResult) {
        if !self.shows(provider) {
            result.value = None;
            result.content_type = None;
        }
    }

    /// Takes the values out of records that callers may not see.
    pub fn redact(&self, scenario: &ScenarioSpec, records: &mut [GateEvalRecord]) {
        for evidence in records.iter_mut().flat_map(|record| &mut record.evidence) {
            let asked = scenario.conditions.iter().find(|condition| condition.condition_id == evidence.condition_id);
            match asked {
                Some(condition) => self.redact_result(&condition.query.provider_id, &mut evidence.result),
                None => (evidence.result.value, evidence.result.content_type) = (None, None),
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
        let stranger = token(None);
        assert_eq!(policy.grant(&stranger, None), Granted { level: FeedbackLevel::Summary, denied: None });
        assert_eq!(policy.grant(&stranger, Some(FeedbackLevel::Trace)).level, FeedbackLevel::Summary);
        let open = FeedbackPolicy {
            max: FeedbackLevel::Evidence,
            evidence_subjects: ["loopback".to_owned()].into(),
            ..policy
        };
        assert_eq!(open.grant(&caller, Some(FeedbackLevel::Evidence)).denied, None);
    }

    fn token(role: Option<Assignment>) -> Caller {
        let principal = Principal { policy_class: None, roles: role.into_iter().collect() };
        Caller { subject: "token:0".to_owned(), method: Method::BearerToken, principal }
    }

    #[test]
    fn a_role_may_give_what_a_subject_has_not() {
        let role = Assignment { role: Role::TenantAdmin, tenant: None, namespace: None };
        let policy = FeedbackPolicy { trace_roles: [Role::TenantAdmin].into(), ..FeedbackPolicy::default() };
        assert_eq!(policy.grant(&token(Some(role)), Some(FeedbackLevel::Trace)).level, FeedbackLevel::Trace);
        assert_eq!(policy.grant(&token(None), Some(FeedbackLevel::Trace)).level, FeedbackLevel::Summary);
    }

    #[test]
    fn callers_are_kept_to_the_tenants_of_their_roles() {
        let (one, two) = (TenantId::new(1), TenantId::new(2));
        let namespace = NamespaceId::new(7).unwrap();
        let role = Assignment { role: Role::NamespaceReader, tenant: one, namespace: NamespaceId::new(7) };
        let own = token(Some(role.clone()));
        let principals = [("token:0".to_owned(), own.principal.clone())].into();
        let access = Access { principals, ..Access::default() };
        assert!(access.may_enter(&own, one, namespace).is_ok());
        let denied = access.may_enter(&own, two, namespace).unwrap_err().0;
        assert_eq!(denied, "token:0 has no role for tenant 2 in namespace 7");
        assert!(access.may_enter(&own, one, NamespaceId::new(8).unwrap()).is_err());
        assert!(access.may_enter(&own, None, namespace).is_err(), "what is nobody's");
        assert!(access.may_enter(&token(None), one, namespace).is_err(), "a token without a role");
        assert!(access.may_enter(&Caller::loopback(), two, namespace).is_ok(), "local and without roles");
        let labels = Access { isolation: Isolation::None, ..access };
        assert!(labels.may_enter(&token(None), two, namespace).is_ok());
        // Roles that name no tenant keep nobody apart.
        let anywhere = Assignment { tenant: None, namespace: None, ..role };
        let principals = [("x".to_owned(), Principal { policy_class: None, roles: vec![anywhere] })].into();
        let open = Access { principals, ..Access::default() };
        assert!(open.may_enter(&token(None), two, namespace).is_ok());
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
