//! Who may do what: `[server.auth]`, `[server.tools]`, `[server.feedback]`,
//! `[namespace]`, `[evidence]`, and the ACL of `[schema_registry]`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use runpack_beneath::read_text_within;
use runpack_core::canon::Digest;
use runpack_core::model::{NamespaceId, ProviderId, TenantId};
use serde::Deserialize;

use super::service::File;
use super::{ConfigError, wrong};
use crate::access::{
    Access, AclRule, Action, Assignment, Authentication, CustomAcl, Effect, EvidencePolicy, FeedbackLevel,
    FeedbackPolicy, Isolation, Namespaces, Principal, Principals, RegistryAcl, Role, Visible,
};
use crate::tools::TOOLS;

/// Entries of a list of credentials or principals.
const ENTRIES_MAX: usize = 64;
/// Roles of a principal, and names in a list of tools.
const NAMES_MAX: usize = 128;
/// Rules of the registry's ACL.
const RULES_MAX: usize = 256;
/// Bytes of a token.
const TOKEN_BYTES_MAX: usize = 256;
/// Bytes of a certificate's subject.
const SUBJECT_BYTES_MAX: usize = 512;
/// Bytes of a file of tokens.
const TOKEN_FILE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuthTable {
    pub(super) mode: AuthMode,
    bearer_tokens: Vec<String>,
    bearer_token_files: Vec<PathBuf>,
    bearer_token_env: Vec<String>,
    mtls_subjects: Vec<String>,
    pub(super) trusted_proxies: Vec<IpAddr>,
    allowed_tools: BTreeSet<String>,
    principals: Vec<PrincipalTable>,
    tenant_isolation: Option<bool>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AuthMode {
    #[default]
    LocalOnly,
    BearerToken,
    Mtls,
}

#[derive(Debug, Deserialize)]
struct PrincipalTable {
    subject: String,
    policy_class: Option<String>,
    #[serde(default)]
    roles: Vec<RoleTable>,
}

#[derive(Debug, Deserialize)]
struct RoleTable {
    name: Role,
    tenant_id: Option<u64>,
    namespace_id: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FeedbackSection {
    scenario_next: FeedbackTable,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
struct FeedbackTable {
    default: Option<FeedbackLevel>,
    local_only_default: Option<FeedbackLevel>,
    max: Option<FeedbackLevel>,
    trace_subjects: Option<BTreeSet<String>>,
    trace_roles: BTreeSet<Role>,
    evidence_subjects: BTreeSet<String>,
    evidence_roles: BTreeSet<Role>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ToolsTable {
    mode: ToolsMode,
    allowlist: BTreeSet<String>,
    denylist: BTreeSet<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ToolsMode {
    #[default]
    Filter,
    Passthrough,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NamespaceTable {
    allow_default: bool,
    default_tenants: Vec<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct EvidenceTable {
    allow_raw_values: bool,
    require_provider_opt_in: bool,
}

impl Default for EvidenceTable {
    fn default() -> Self {
        Self { allow_raw_values: false, require_provider_opt_in: true }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct ProviderTable {
    name: String,
    #[serde(default)]
    allow_raw: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AclTable {
    mode: AclMode,
    default: Effect,
    allow_local_only: bool,
    require_signing: bool,
    rules: Vec<RuleTable>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AclMode {
    #[default]
    Builtin,
    Custom,
}

#[derive(Debug, Deserialize)]
struct RuleTable {
    effect: Effect,
    #[serde(default)]
    actions: BTreeSet<Action>,
    #[serde(default)]
    tenants: Vec<u64>,
    #[serde(default)]
    namespaces: Vec<u64>,
    #[serde(default)]
    subjects: BTreeSet<String>,
    #[serde(default)]
    roles: BTreeSet<Role>,
    #[serde(default)]
    policy_classes: BTreeSet<String>,
}

/// Everything that decides about access.
pub(super) fn access(file: &File) -> Result<Access, ConfigError> {
    let (auth, tools) = (&file.server.auth, &file.server.tools);
    known(&auth.allowed_tools, "server.auth.allowed_tools", "unknown tool in allowlist")?;
    known(&tools.allowlist, "server.tools.allowlist", "unknown tool in server.tools list")?;
    known(&tools.denylist, "server.tools.denylist", "unknown tool in server.tools list")?;
    let agreeing = file.providers.iter().filter(|provider| provider.allow_raw);
    Ok(Access {
        authentication: authentication(auth)?,
        principals: principals(auth)?,
        isolation: if auth.tenant_isolation == Some(false) { Isolation::None } else { Isolation::Roles },
        registry: registry(&file.schema_registry.acl)?,
        visible: Visible {
            listed_all_the_same: tools.mode == ToolsMode::Passthrough,
            allowed: tools.allowlist.clone(),
            denied: tools.denylist.clone(),
        },
        allowed_tools: auth.allowed_tools.clone(),
        namespaces: namespaces(&file.namespace)?,
        feedback: feedback_policy(file.server.feedback.scenario_next.clone())?,
        evidence: EvidencePolicy {
            allow_raw: file.evidence.allow_raw_values,
            provider_must_agree: file.evidence.require_provider_opt_in,
            agreeing: agreeing.map(|provider| ProviderId::from(provider.name.trim())).collect(),
        },
    })
}

fn known(names: &BTreeSet<String>, key: &str, problem: &str) -> Result<(), ConfigError> {
    at_most(key, names.len(), NAMES_MAX)?;
    match names.iter().find(|name| TOOLS.iter().all(|tool| tool.name != **name)) {
        None => Ok(()),
        Some(name) => Err(wrong(key, format!("{problem}: {name}"))),
    }
}

fn at_most(key: &str, found: usize, most: usize) -> Result<(), ConfigError> {
    if found <= most { Ok(()) } else { Err(wrong(key, format!("has {found} entries, at most {most} are taken"))) }
}

fn authentication(auth: &AuthTable) -> Result<Authentication, ConfigError> {
    match auth.mode {
        AuthMode::LocalOnly => Ok(Authentication::LocalOnly),
        AuthMode::BearerToken => {
            let digests = tokens(auth)?;
            if digests.is_empty() {
                let problem = "bearer_token auth requires a token\nhint: name a file of tokens in bearer_token_files, \
                               or a variable in bearer_token_env";
                return Err(wrong("server.auth.bearer_tokens", problem));
            }
            at_most("server.auth.bearer_tokens", digests.len(), ENTRIES_MAX)?;
            Ok(Authentication::Bearer(digests))
        }
        AuthMode::Mtls => {
            let key = "server.auth.mtls_subjects";
            if auth.mtls_subjects.is_empty() {
                return Err(wrong(
                    key,
                    "mtls auth requires a subject\nhint: write it as RFC 4514 does, as in \"CN=auditor,O=Example\"",
                ));
            }
            at_most(key, auth.mtls_subjects.len(), ENTRIES_MAX)?;
            if auth.mtls_subjects.iter().any(|subject| subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX) {
                return Err(wrong(key, format!("a subject has 1 to {SUBJECT_BYTES_MAX} bytes")));
            }
            let subjects = auth.mtls_subjects.iter().cloned().collect();
            Ok(Authentication::Mtls { subjects, proxies: auth.trusted_proxies.iter().copied().collect() })
        }
    }
}

/// Digests of all tokens, wherever they are written.
fn tokens(auth: &AuthTable) -> Result<Vec<Digest>, ConfigError> {
    let mut digests = Vec::new();
    for token in &auth.bearer_tokens {
        digests.push(digest("server.auth.bearer_tokens", token)?);
    }
    for path in &auth.bearer_token_files {
        let key = "server.auth.bearer_token_files";
        for token in token_file(path)?.lines().map(str::trim).filter(|line| !line.is_empty()) {
            digests.push(digest(key, token)?);
        }
    }
    for name in &auth.bearer_token_env {
        let key = "server.auth.bearer_token_env";
        let Ok(token) = std::env::var(name) else {
            return Err(wrong(key, format!("the variable `{name}` is not set, or is not text")));
        };
        digests.push(digest(key, &token)?);
    }
    Ok(digests)
}

fn token_file(path: &Path) -> Result<String, ConfigError> {
    let key = "server.auth.bearer_token_files";
    let failed = |error: std::io::Error| wrong(key, format!("cannot read `{}`: {error}", path.display()));
    read_text_within(path, TOKEN_FILE_BYTES_MAX).map_err(failed)
}

/// The digest of a token, or the one that stands for it as `sha256:<hex>`.
fn digest(key: &str, token: &str) -> Result<Digest, ConfigError> {
    if let Some(hex) = token.strip_prefix("sha256:") {
        return hex.parse().map_err(|_| wrong(key, "`sha256:` is followed by 64 lower-case hexadecimal digits"));
    }
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || token.contains(char::is_whitespace) {
        return Err(wrong(key, format!("a token has 1 to {TOKEN_BYTES_MAX} bytes and no white space")));
    }
    Ok(Digest::of(token.as_bytes()))
}

fn principals(auth: &AuthTable) -> Result<Principals, ConfigError> {
    let key = "server.auth.principals";
    at_most(key, auth.principals.len(), ENTRIES_MAX)?;
    let mut principals = Principals::new();
    for table in &auth.principals {
        let subject = subject(&table.subject)?;
        at_most(&format!("{key}.roles"), table.roles.len(), NAMES_MAX)?;
        let roles = table.roles.iter().map(assignment).collect::<Result<_, _>>()?;
        let principal = Principal { policy_class: table.policy_class.clone(), roles };
        if principals.insert(subject, principal).is_some() {
            return Err(wrong(key, format!("the subject `{}` comes twice", table.subject)));
        }
    }
    Ok(principals)
}

/// The subject as callers have it: of a token its digest, also where the config
/// only says in which variable or file the token is.
fn subject(written: &str) -> Result<String, ConfigError> {
    let key = "server.auth.principals.subject";
    let token = if let Some(name) = written.strip_prefix("token:env:") {
        let unset = || wrong(key, format!("the variable `{name}` is not set, or is not text"));
        std::env::var(name).map_err(|_| unset())?
    } else if let Some(path) = written.strip_prefix("token:file:") {
        let text = token_file(Path::new(path))?;
        let first = text.lines().map(str::trim).find(|line| !line.is_empty());
        first.ok_or_else(|| wrong(key, format!("there is no token in `{path}`")))?.to_owned()
    } else {
        return Ok(written.to_owned());
    };
    Ok(format!("token:{}", digest(key, &token)?))
}

fn assignment(role: &RoleTable) -> Result<Assignment, ConfigError> {
    let zero = |what: &str| wrong("server.auth.principals.roles", format!("a {what} is at least 1"));
    let tenant = role.tenant_id.map(|id| TenantId::new(id).ok_or_else(|| zero("tenant"))).transpose()?;
    let namespace = role.namespace_id.map(|id| NamespaceId::new(id).ok_or_else(|| zero("namespace"))).transpose()?;
    Ok(Assignment { role: role.name, tenant, namespace })
}

fn registry(table: &AclTable) -> Result<RegistryAcl, ConfigError> {
    let key = "schema_registry.acl.rules";
    at_most(key, table.rules.len(), RULES_MAX)?;
    if table.mode == AclMode::Builtin && !table.rules.is_empty() {
        return Err(wrong(key, "the built-in rules are not changed\nhint: set mode = \"custom\""));
    }
    let rules = table.rules.iter().map(rule).collect::<Result<_, _>>()?;
    let custom = (table.mode == AclMode::Custom).then_some(CustomAcl { rules, default: table.default });
    Ok(RegistryAcl { allow_local_only: table.allow_local_only, require_signing: table.require_signing, custom })
}

fn rule(table: &RuleTable) -> Result<AclRule, ConfigError> {
    let zero = |what: &str| wrong("schema_registry.acl.rules", format!("a {what} is at least 1"));
    let tenants = table.tenants.iter().map(|&id| TenantId::new(id)).collect::<Option<_>>();
    let namespaces = table.namespaces.iter().map(|&id| NamespaceId::new(id)).collect::<Option<_>>();
    Ok(AclRule {
        effect: table.effect,
        actions: table.actions.clone(),
        tenants: tenants.ok_or_else(|| zero("tenant"))?,
        namespaces: namespaces.ok_or_else(|| zero("namespace"))?,
        subjects: table.subjects.clone(),
        roles: table.roles.clone(),
        policy_classes: table.policy_classes.clone(),
    })
}

fn namespaces(table: &NamespaceTable) -> Result<Namespaces, ConfigError> {
    if table.allow_default && table.default_tenants.is_empty() {
        let problem = "namespace.allow_default requires namespace.default_tenants\nhint: name the tenants that may use namespace 1";
        return Err(wrong("namespace.default_tenants", problem));
    }
    let tenants = table.default_tenants.iter().map(|&id| TenantId::new(id)).collect::<Option<_>>();
    let default_tenants = tenants.ok_or_else(|| wrong("namespace.default_tenants", "a tenant is at least 1"))?;
    Ok(Namespaces { allow_default: table.allow_default, default_tenants })
}

fn feedback_policy(table: FeedbackTable) -> Result<FeedbackPolicy, ConfigError> {
    let usual = FeedbackPolicy::default();
    let policy = FeedbackPolicy {
        default: table.default.unwrap_or(usual.default),
        local_default: table.local_only_default.unwrap_or(usual.local_default),
        max: table.max.unwrap_or(usual.max),
        trace_subjects: table.trace_subjects.unwrap_or(usual.trace_subjects),
        trace_roles: table.trace_roles,
        evidence_subjects: table.evidence_subjects,
        evidence_roles: table.evidence_roles,
    };
    for (name, level) in [("default", policy.default), ("local_only_default", policy.local_default)] {
        if level > policy.max {
            let key = format!("server.feedback.scenario_next.{name}");
            return Err(wrong(key.clone(), format!("{key} exceeds max\nhint: {} is the most", policy.max)));
        }
    }
    Ok(policy)
}
