//! What tools work on: runs, scenarios, providers, access, and where packs go.

use std::sync::Arc;
use std::time::Duration;

use runpack_core::pack::SecurityContext;
use runpack_storage::packs::BucketStore;
use runpack_storage::runs::sqlite::SqliteRuns;
use runpack_storage::runs::{MemoryRuns, RunStore, ScenarioStore};

use crate::access::Access;
use crate::config::{RunConfiguration, RunStoreConfig, ServiceConfiguration};
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
        let RunConfiguration { settings, policy, registry, security, storage, artifact_bytes_max, warnings: _ } =
            configuration.run;
        let queues = Queues::default();
        let (docs, left_out) = Library::open(&configuration.docs)?;
        left_out.iter().for_each(|what| talk(&format!("warning: {what}")));
        Ok(Self {
            gatekeeper: Gatekeeper { runs, registry, settings, policy, gather_deadline: GATHER_DEADLINE, queues },
            scenarios: Scenarios::new(scenarios),
            access: configuration.access,
            security,
            packs: storage,
            artifact_bytes_max,
            docs,
            docs_config: configuration.docs,
        })
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
