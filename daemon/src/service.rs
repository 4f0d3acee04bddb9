//! What tools work on: runs, scenarios, providers, access, and where packs go.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runpack_core::model::{NamespaceId, ScenarioSpec, TenantId};
use runpack_core::pack::SecurityContext;
use runpack_dispatch::Broker;
use runpack_providers::Contracts;
use runpack_providers::strict::{self, StrictOptions};
use runpack_storage::packs::BucketStore;
use runpack_storage::runs::sqlite::{SqliteOptions, SqliteRuns};
use runpack_storage::runs::{MemoryRuns, Outbox, RunStore, ScenarioStore, ShapeStore};
use tracing::warn;

use crate::access::{Access, Action, Authority, Caller, Refused};
use crate::audit::{AuditLog, AuditOptions, SecurityKind};
use crate::config::{Discovery, RunConfiguration, RunStoreConfig, SchemaStoreConfig, ServiceConfiguration};
use crate::dispatch::DispatchConfiguration;
use crate::docs::{DocsConfig, Library};
use crate::gatekeeper::{Answer, Gatekeeper, Queues};
use crate::roots::Roots;
use crate::scenarios::Scenarios;
use crate::signing::Signing;
use crate::tools::{Context, ToolError};
use crate::watch::{Watch, now_ms};

/// How long one trigger waits for its evidence.
const GATHER_DEADLINE: Duration = Duration::from_secs(30);

/// One service, whatever doors lead to it.
pub struct Service {
    /// Asks, decides, records.
    pub gatekeeper: Gatekeeper,
    /// What runs are started from.
    pub scenarios: Arc<Scenarios>,
    /// What is to be delivered.
    pub outbox: Arc<dyn Outbox>,
    /// What data looks like.
    pub shapes: Arc<dyn ShapeStore>,
    /// How much of that is kept.
    pub shape_limits: ShapeLimits,
    /// Who may do what.
    pub access: Access,
    /// Who else decides about namespaces.
    pub authority: Option<Authority>,
    /// What providers promise.
    pub contracts: Contracts,
    /// How strictly conditions are held against that; not at all without it.
    pub validation: Option<StrictOptions>,
    /// Whose promises are shown.
    pub discovery: Discovery,
    /// The posture that packs state.
    pub security: SecurityContext,
    /// Where packs go, if not where the caller says.
    pub packs: Option<BucketStore>,
    /// Who signs them, if anybody does.
    pub signing: Option<Signing>,
    /// Where else they may go, and where they are verified.
    pub roots: Roots,
    /// Bytes of one artifact of a pack, made or verified.
    pub artifact_bytes_max: u64,
    /// What programs may read about us.
    pub docs: Library,
    /// How much of it.
    pub docs_config: DocsConfig,
    /// Whether the audit log has the payloads of prechecks, or their digests only.
    pub log_precheck_payloads: bool,
    /// Notes what happens.
    pub watch: Arc<Watch>,
}

/// What a service holds open, whatever its config says next.
struct Held {
    runs: Arc<dyn RunStore>,
    scenarios: Arc<Scenarios>,
    shapes: Arc<dyn ShapeStore>,
    outbox: Arc<dyn Outbox>,
    queues: Arc<Queues>,
    watch: Arc<Watch>,
}

/// Why a namespace is closed to a caller. The reason is for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotSeen {
    /// It is.
    Denied(String),
    /// Nobody can say whether it is.
    Unknown(String),
}

impl NotSeen {
    fn reason(&self) -> &str {
        match self {
            Self::Denied(reason) | Self::Unknown(reason) => reason,
        }
    }
}

/// How much is kept of data shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShapeLimits {
    /// Bytes of one schema in canonical form.
    pub schema_bytes_max: u64,
    /// Records of a tenant in a namespace; any number without it.
    pub entries_max: Option<u64>,
}

impl Service {
    /// Opens what the config names.
    ///
    /// # Errors
    /// A sentence that says what could not be opened.
    pub fn open(configuration: ServiceConfiguration) -> Result<Self, String> {
        let deliver = configuration.dispatch.is_some();
        let Stores { runs, scenarios, shapes, outbox } =
            open_stores(&configuration.runs, &configuration.schemas, deliver)?;
        let scenarios = Arc::new(Scenarios::new(scenarios));
        let watch = Arc::new(watch(configuration.audit.as_ref())?);
        Self::with(Held { runs, scenarios, shapes, outbox, queues: Arc::default(), watch }, configuration)
    }

    /// The same service under another config. Stores and the log stay as they
    /// are open: see [`crate::config::Fixed`].
    ///
    /// # Errors
    /// A sentence that says what could not be opened.
    pub fn under(&self, configuration: ServiceConfiguration) -> Result<Self, String> {
        let held = Held {
            runs: Arc::clone(&self.gatekeeper.runs),
            scenarios: Arc::clone(&self.scenarios),
            shapes: Arc::clone(&self.shapes),
            outbox: Arc::clone(&self.outbox),
            queues: Arc::clone(&self.gatekeeper.queues),
            watch: Arc::clone(&self.watch),
        };
        Self::with(held, configuration)
    }

    fn with(held: Held, configuration: ServiceConfiguration) -> Result<Self, String> {
        let Held { runs, scenarios, shapes, outbox, queues, watch } = held;
        let RunConfiguration {
            settings,
            policy,
            registry,
            contracts,
            validation,
            discovery,
            authority,
            security,
            storage,
            signing,
            artifact_bytes_max,
            warnings: _,
        } = configuration.run;
        if security.dev_permissive {
            let message = "dev-permissive mode enabled: asserted evidence counts".to_owned();
            watch.security(SecurityKind::DevPermissiveEnabled, message, true, &security.namespace_authority);
        }
        let (docs, left_out) = Library::open(&configuration.docs)?;
        left_out.iter().for_each(|what| warn!("{what}"));
        Ok(Self {
            gatekeeper: Gatekeeper { runs, registry, settings, policy, gather_deadline: GATHER_DEADLINE, queues },
            scenarios,
            outbox,
            shapes,
            shape_limits: ShapeLimits {
                schema_bytes_max: configuration.schemas.schema_bytes_max,
                entries_max: configuration.schemas.entries_max,
            },
            access: configuration.access,
            authority: authority.map(Authority::new).transpose()?,
            contracts,
            validation,
            discovery,
            security,
            packs: storage,
            signing,
            roots: configuration.roots,
            artifact_bytes_max,
            docs,
            docs_config: configuration.docs,
            log_precheck_payloads: configuration.log_precheck_payloads,
            watch,
        })
    }

    /// Whether [`Self::open`] would open what the config names. Makes nothing.
    ///
    /// # Errors
    /// A sentence that says what could not be opened.
    pub fn could_open(configuration: &ServiceConfiguration) -> Result<(), String> {
        let runs = match &configuration.runs {
            RunStoreConfig::Memory => None,
            RunStoreConfig::Sqlite { path, .. } => Some(("run_state_store", path)),
        };
        let shapes = configuration.schemas.sqlite.as_ref().map(|(path, _)| ("schema_registry", path));
        for (section, path) in runs.into_iter().chain(shapes) {
            if path.exists() {
                SqliteRuns::open_reading(path).map_err(|error| format!("{section}: {error}"))?;
            } else {
                could_hold(path, section)?;
            }
        }
        if let Some(path) = configuration.audit.as_ref().and_then(|audit| audit.path.as_ref()) {
            match std::fs::metadata(path) {
                Ok(there) if !there.is_file() => {
                    return Err(format!("server.audit.path: `{}` is no file", path.display()));
                }
                Ok(_) => {}
                Err(_) => could_hold(path, "server.audit")?,
            }
        }
        if let Some(dispatch) = &configuration.dispatch {
            broker(dispatch)?;
        }
        Library::open(&configuration.docs).map(|_| ())
    }

    /// Holds conditions against what providers promise, and against what the
    /// answers of such a type can be asked.
    ///
    /// # Errors
    /// A sentence about the first condition that nobody could answer.
    pub fn admit(&self, spec: &ScenarioSpec) -> Result<(), String> {
        admit(&self.contracts, self.validation.as_ref(), spec)
    }

    /// Counts a decision, also one that was made before.
    pub fn decided(&self, answer: &Answer) {
        let gates = answer.gate_evals.iter().map(|record| record.evaluation.status);
        self.watch.metrics.decided(&answer.result.decision.outcome, gates);
    }

    /// Whether a caller may act for a tenant in a namespace.
    ///
    /// # Errors
    /// [`ToolError::Denied`], and [`ToolError::Unavailable`] if the authority for
    /// namespaces says neither yes nor no.
    pub async fn enter(
        &self,
        context: &Context,
        tenant: Option<TenantId>,
        namespace: NamespaceId,
    ) -> Result<(), ToolError> {
        let correlation = &context.trace.correlation;
        let id = correlation.server_correlation_id.as_deref().or(correlation.unsafe_client_correlation_id.as_deref());
        let may = self.sees(&context.caller, tenant, namespace, id).await;
        self.watch.entered(context, tenant, namespace, may.as_ref().err().map(|refused| refused.reason()));
        may.map_err(Into::into)
    }

    /// The same without a note of it, for what is read beside the tools.
    ///
    /// # Errors
    /// [`NotSeen`].
    pub async fn sees(
        &self,
        caller: &Caller,
        tenant: Option<TenantId>,
        namespace: NamespaceId,
        correlation: Option<&str>,
    ) -> Result<(), NotSeen> {
        self.access.may_enter(caller, tenant, namespace).map_err(|denied| NotSeen::Denied(denied.0))?;
        let Some(authority) = &self.authority else { return Ok(()) };
        authority.admits(namespace, correlation).await.map_err(|refused| match refused {
            Refused::Denied(..) => NotSeen::Denied(refused.to_string()),
            Refused::Unavailable(_) => NotSeen::Unknown(refused.to_string()),
        })
    }

    /// Whether a caller may do that with data shapes there.
    ///
    /// # Errors
    /// As [`Self::enter`].
    pub async fn may(
        &self,
        context: &Context,
        action: Action,
        tenant: TenantId,
        namespace: NamespaceId,
    ) -> Result<(), ToolError> {
        self.enter(context, Some(tenant), namespace).await?;
        let decided = self.access.registry.decide(&context.caller, action, tenant, namespace);
        self.watch.registry(context, action, tenant, namespace, decided);
        match decided {
            (true, _) => Ok(()),
            (false, rule) => {
                let subject = &context.caller.subject;
                Err(ToolError::Denied(format!("{subject} may not {action:?} data shapes of tenant {tenant}: {rule}")))
            }
        }
    }

    /// Whether calls can be answered. May wait for a disk.
    pub fn ready(&self) -> bool {
        self.gatekeeper.runs.ready().is_ok() && self.watch.ready().is_ok()
    }
}

/// The broker that delivers.
///
/// # Errors
/// A sentence that says what it cannot be made of.
pub fn broker(configuration: &DispatchConfiguration) -> Result<Broker, String> {
    Broker::new(&configuration.broker).map_err(|error| error.to_string())
}

/// Whether a file could be made there, directories included.
fn could_hold(path: &Path, section: &str) -> Result<(), String> {
    let parents = path.ancestors().skip(1);
    let nearest = parents.filter(|path| !path.as_os_str().is_empty()).find(|path| path.exists());
    match nearest {
        Some(nearest) if !nearest.is_dir() => Err(format!("{section}.path: `{}` is no directory", nearest.display())),
        _ => Ok(()),
    }
}

fn watch(audit: Option<&AuditOptions>) -> Result<Watch, String> {
    let audit = audit.map(|options| AuditLog::open(options, now_ms()).map_err(|error| error.to_string()));
    Ok(Watch { audit: audit.transpose()?, ..Watch::unlogged() })
}

/// What is kept, and where: often one place, seen in three ways.
pub struct Stores {
    /// The runs.
    pub runs: Arc<dyn RunStore>,
    /// The scenarios.
    pub scenarios: Arc<dyn ScenarioStore>,
    /// The data shapes.
    pub shapes: Arc<dyn ShapeStore>,
    /// The packets that are to be delivered.
    pub outbox: Arc<dyn Outbox>,
}

/// Opens what the config names. A file that both sections name is one store.
/// Packets are queued for delivery if somebody will `deliver` them.
///
/// # Errors
/// A sentence that says what cannot be had.
pub fn open_stores(runs: &RunStoreConfig, schemas: &SchemaStoreConfig, deliver: bool) -> Result<Stores, String> {
    let elsewhere = |path: &Path| !matches!(runs, RunStoreConfig::Sqlite { path: same, .. } if same == path);
    let own: Option<Arc<dyn ShapeStore>> = match &schemas.sqlite {
        Some((path, options)) if elsewhere(path) => Some(Arc::new(sqlite("schema_registry", path, options)?)),
        _ => None,
    };
    Ok(match runs {
        RunStoreConfig::Sqlite { path, sqlite: options } => {
            let store = sqlite("run_state_store", path, options)?;
            let store = Arc::new(if deliver { store.with_outbox() } else { store });
            let shapes = match own {
                Some(own) => own,
                None if schemas.sqlite.is_some() => Arc::clone(&store) as _,
                None => Arc::new(MemoryRuns::default()),
            };
            Stores { shapes, runs: Arc::clone(&store) as _, outbox: Arc::clone(&store) as _, scenarios: store }
        }
        RunStoreConfig::Memory => {
            let store = MemoryRuns::default();
            let store = Arc::new(if deliver { store.with_outbox() } else { store });
            let shapes = own.unwrap_or_else(|| Arc::clone(&store) as _);
            Stores { shapes, runs: Arc::clone(&store) as _, outbox: Arc::clone(&store) as _, scenarios: store }
        }
    })
}

fn sqlite(section: &str, path: &Path, options: &SqliteOptions) -> Result<SqliteRuns, String> {
    if let Some(warning) = options.warning() {
        warn!("{section}: {warning}");
    }
    // A first start must not fail for want of a directory.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or(Ok(()), std::fs::create_dir_all).map_err(|error| {
        let shown = path.display();
        format!("{section}: cannot make the directory of `{shown}`: {error}\nhint: choose another {section}.path")
    })?;
    SqliteRuns::open(path, options).map_err(|error| format!("{section}: {error}"))
}

/// Holds a scenario's conditions against what providers promise, and against
/// what the answers of such a type can be asked.
///
/// # Errors
/// A sentence about the first condition that nobody could answer.
pub fn admit(contracts: &Contracts, validation: Option<&StrictOptions>, spec: &ScenarioSpec) -> Result<(), String> {
    for condition in &spec.conditions {
        contracts.admit_condition(condition).map_err(|error| error.to_string())?;
        let query = &condition.query;
        let check = contracts.get(&query.provider_id).and_then(|contract| contract.check(&query.check_id));
        if let (Some(options), Some(check)) = (validation, check) {
            let schema = &check.spec().result_schema;
            strict::admit(schema, condition.comparator, condition.expected.as_ref(), options)
                .map_err(|error| format!("condition `{}`: {error}", condition.condition_id))?;
        }
    }
    Ok(())
}
