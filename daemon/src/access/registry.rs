//! Who may read and write data shapes.

use std::collections::BTreeSet;

use runpack_core::model::{NamespaceId, TenantId};
use serde::{Deserialize, Serialize};

use super::{Caller, Role};

/// What is done with data shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Action {
    Register,
    List,
    Get,
}

/// Whether something is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Effect {
    Allow,
    #[default]
    Deny,
}

/// `[schema_registry.acl]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegistryAcl {
    /// Whether local callers need no role.
    pub allow_local_only: bool,
    /// Whether a data shape has to be signed.
    pub require_signing: bool,
    /// Rules of the operator's own, instead of the built-in ones.
    pub custom: Option<CustomAcl>,
}

/// Rules, of which the first that matches counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct CustomAcl {
    pub rules: Vec<AclRule>,
    pub default: Effect,
}

/// Matches if every list that is not empty does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the list of that name")]
pub struct AclRule {
    pub effect: Effect,
    pub actions: BTreeSet<Action>,
    pub tenants: BTreeSet<TenantId>,
    pub namespaces: BTreeSet<NamespaceId>,
    pub subjects: BTreeSet<String>,
    pub roles: BTreeSet<Role>,
    pub policy_classes: BTreeSet<String>,
}

/// The class of whoever has none.
const STRICT_CLASS: &str = "prod";

impl RegistryAcl {
    /// Whether `caller` may do that there, and by which rule.
    pub fn decide(
        &self,
        caller: &Caller,
        action: Action,
        tenant: TenantId,
        namespace: NamespaceId,
    ) -> (bool, &'static str) {
        if caller.is_local() && self.allow_local_only {
            return (true, "builtin_allow_local_only");
        }
        let roles: BTreeSet<Role> = caller.roles_in(tenant, namespace).collect();
        let class = caller.principal.policy_class.as_deref().unwrap_or(STRICT_CLASS);
        if let Some(custom) = &self.custom {
            let matches = |rule: &&AclRule| {
                (rule.actions.is_empty() || rule.actions.contains(&action))
                    && (rule.tenants.is_empty() || rule.tenants.contains(&tenant))
                    && (rule.namespaces.is_empty() || rule.namespaces.contains(&namespace))
                    && (rule.subjects.is_empty() || rule.subjects.contains(&caller.subject))
                    && (rule.roles.is_empty() || !rule.roles.is_disjoint(&roles))
                    && (rule.policy_classes.is_empty() || rule.policy_classes.contains(class))
            };
            return match (custom.rules.iter().find(matches).map(|rule| rule.effect), custom.default) {
                (Some(Effect::Allow), _) => (true, "custom_allow"),
                (Some(Effect::Deny), _) => (false, "custom_deny"),
                (None, Effect::Allow) => (true, "default_allow"),
                (None, Effect::Deny) => (false, "default_deny"),
            };
        }
        match action {
            Action::List | Action::Get if !roles.is_empty() => (true, "builtin_allow_read"),
            Action::List | Action::Get => (false, "builtin_deny_read"),
            Action::Register => {
                // Only a class that says it is not production makes it easier.
                let manager = class != STRICT_CLASS && roles.contains(&Role::SchemaManager);
                let writers = [Role::TenantAdmin, Role::NamespaceOwner, Role::NamespaceAdmin];
                if manager || writers.iter().any(|role| roles.contains(role)) {
                    (true, "builtin_allow_write")
                } else {
                    (false, "builtin_deny_write")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Assignment, Method, Principal};
    use super::*;

    fn caller(role: Option<Role>, class: Option<&str>) -> Caller {
        let roles = role.map(|role| Assignment { role, tenant: TenantId::new(1), namespace: None });
        let principal = Principal { policy_class: class.map(str::to_owned), roles: roles.into_iter().collect() };
        Caller { subject: "s".to_owned(), method: Method::BearerToken, principal }
    }

    fn decide(acl: &RegistryAcl, caller: &Caller, action: Action, tenant: u64) -> (bool, &'static str) {
        acl.decide(caller, action, TenantId::new(tenant).unwrap(), NamespaceId::new(1).unwrap())
    }

    #[test]
    fn the_built_in_rules_are_those_of_the_table() {
        use Role::*;
        let acl = RegistryAcl::default();
        for (role, class, writes) in [
            (TenantAdmin, Some("prod"), true),
            (NamespaceOwner, None, true),
            (NamespaceAdmin, None, true),
            (NamespaceWriter, Some("dev"), false),
            (NamespaceReader, Some("dev"), false),
            (SchemaManager, None, false),
            (SchemaManager, Some("prod"), false),
            (SchemaManager, Some("dev"), true),
        ] {
            let caller = caller(Some(role), class);
            assert_eq!(decide(&acl, &caller, Action::Register, 1).0, writes, "{role:?} {class:?}");
            assert_eq!(decide(&acl, &caller, Action::List, 1), (true, "builtin_allow_read"));
            assert_eq!(decide(&acl, &caller, Action::Get, 2), (false, "builtin_deny_read"), "another tenant's");
        }
        assert_eq!(decide(&acl, &caller(None, Some("dev")), Action::Get, 1), (false, "builtin_deny_read"));
        assert_eq!(decide(&acl, &Caller::loopback(), Action::Register, 1), (false, "builtin_deny_write"));
        let local = RegistryAcl { allow_local_only: true, ..acl };
        assert_eq!(decide(&local, &Caller::loopback(), Action::Register, 1), (true, "builtin_allow_local_only"));
    }

    #[test]
    fn the_first_custom_rule_that_matches_counts() {
        let rule = |effect, actions: &[Action], roles: &[Role]| AclRule {
            effect,
            actions: actions.iter().copied().collect(),
            tenants: BTreeSet::new(),
            namespaces: BTreeSet::new(),
            subjects: BTreeSet::new(),
            roles: roles.iter().copied().collect(),
            policy_classes: BTreeSet::new(),
        };
        let rules = vec![
            rule(Effect::Deny, &[Action::Register], &[Role::SchemaManager]),
            rule(Effect::Allow, &[], &[Role::SchemaManager]),
        ];
        let acl = RegistryAcl { custom: Some(CustomAcl { rules, default: Effect::Deny }), ..RegistryAcl::default() };
        let manager = caller(Some(Role::SchemaManager), None);
        assert_eq!(decide(&acl, &manager, Action::Register, 1), (false, "custom_deny"));
        assert_eq!(decide(&acl, &manager, Action::Get, 1), (true, "custom_allow"));
        assert_eq!(decide(&acl, &caller(None, None), Action::Get, 1), (false, "default_deny"));
    }
}
