//! What tools work on: runs, scenarios, providers, access, and where packs go.

use std::sync::Arc;
use std::time::Duration;

use runpack_core::model::ScenarioSpec;
use runpack_core::pack::SecurityContext;
use runpack_providers::Contracts;
use runpack_providers::strict::{self, StrictOptions};
use runpack_storage::packs::BucketStore;
use runpack_storage::runs::sqlite::SqliteRuns;
use runpack_storage::runs::{MemoryRuns, RunStore, ScenarioStore};

use crate::access::Access;
use crate::config::{Discovery, RunConfiguration, RunStoreConfig, ServiceConfiguration};
use crate::docs::{DocsConfig, Library};
use crate::gatekeeper::{Gatekeeper, Queues};
use crate::scenarios::Scenarios;
use crate::talk::talk;

/// How long one trigger waits for its evidence.
const GATHER_DEADLINE: Duration = Duration::from_secs(30);

/// One service, whatever doors lead to it.
pub struct Service {
    /// Asks, decides, records.
    pub gatekeeper: Gatekeeper,
    /// What runs are started from.
    pub scenarios: Scenarios,
    /// Who may do what.
    pub access: Access,
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
    /// Bytes of one artifact of a pack, made or verified.
    pub artifact_bytes_max: u64,
    /// What programs may read about us.
    pub docs: Library,
    /// How much of it.
    pub docs_config: DocsConfig,
}

impl Service {
    /// Opens what the config names.
    ///
    /// # Errors
    /// A sentence that says what could not be opened.
    pub fn open(configuration: ServiceConfiguration) -> Result<Self, String> {
        let Stores { runs, scenarios } = open_runs(&configuration.runs)?;
        let RunConfiguration {
            settings,
            policy,
            registry,
            contracts,
            validation,
            discovery,
            security,
            storage,
            artifact_bytes_max,
            warnings: _,
        } = configuration.run;
        let queues = Queues::default();
        let (docs, left_out) = Library::open(&configuration.docs)?;
        left_out.iter().for_each(|what| talk(&format!("warning: {what}")));
        Ok(Self {
            gatekeeper: Gatekeeper { runs, registry, settings, policy, gather_deadline: GATHER_DEADLINE, queues },
            scenarios: Scenarios::new(scenarios),
            access: configuration.access,
            contracts,
            validation,
            discovery,
            security,
            packs: storage,
            artifact_bytes_max,
            docs,
            docs_config: configuration.docs,
        })
    }

    /// Holds conditions against what providers promise, and against what the
    /// answers of such a type can be asked.
    ///
    /// # Errors
    /// A sentence about the first condition that nobody could answer.
    pub fn admit(&self, spec: &ScenarioSpec) -> Result<(), String> {
        for condition in &spec.conditions {
            self.contracts.admit_condition(condition).map_err(|error| error.to_string())?;
            let check = self
                .contracts
                .get(&condition.query.provider_id)
                .and_then(|contract| contract.check(&condition.query.check_id));
            if let (Some(options), Some(check)) = (&self.validation, check) {
                let schema = &check.spec().result_schema;
                strict::admit(schema, condition.comparator, condition.expected.as_ref(), options)
                    .map_err(|error| format!("condition `{}`: {error}", condition.condition_id))?;
            }
        }
        Ok(())
    }

    /// Whether calls can be answered. May wait for a disk.
    pub fn ready(&self) -> bool {
        self.gatekeeper.runs.ready().is_ok()
    }
}

/// Where runs and their scenarios are kept: one place, two views of it.
pub struct Stores {
    /// The runs.
    pub runs: Arc<dyn RunStore>,
    /// The scenarios.
    pub scenarios: Arc<dyn ScenarioStore>,
}

/// Opens the store of runs.
///
/// # Errors
/// A sentence that says why it cannot be had.
pub fn open_runs(config: &RunStoreConfig) -> Result<Stores, String> {
    match config {
        RunStoreConfig::Memory => Ok(both(MemoryRuns::default())),
        RunStoreConfig::Sqlite { path, sqlite } => {
            if let Some(warning) = sqlite.warning() {
                talk(&format!("warning: run_state_store: {warning}"));
            }
            // A first start must not fail for want of a directory.
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            parent.map_or(Ok(()), std::fs::create_dir_all).map_err(|error| {
                let shown = path.display();
                format!("run_state_store: cannot make the directory of `{shown}`: {error}\nhint: choose another run_state_store.path")
            })?;
            SqliteRuns::open(path, sqlite).map(both).map_err(|error| format!("run_state_store: {error}"))
        }
    }
}

fn both<S: RunStore + ScenarioStore + 'static>(store: S) -> Stores {
    let store = Arc::new(store);
    Stores { runs: Arc::clone(&store) as Arc<dyn RunStore>, scenarios: store }
}
