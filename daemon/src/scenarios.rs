//! The scenarios that runs are started from.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use runpack_core::canon::Digest;
use runpack_core::engine::{Scenario, ScenarioFault};
use runpack_core::model::{NamespaceId, ScenarioId, ScenarioSpec, TenantId};
use runpack_storage::runs::{Defined, ReadError, ScenarioStore, StoredScenario, WriteError};

/// Scenarios by namespace and id, kept by a store.
pub struct Scenarios {
    store: Arc<dyn ScenarioStore>,
    /// What was defined since the process began. Clients define what they need
    /// when they start, and must not mind that a store knows it already; twice
    /// in one process is a mistake they count on hearing of.
    defined: Mutex<BTreeSet<(NamespaceId, ScenarioId)>>,
}

/// Why a scenario was not defined.
#[derive(Debug, thiserror::Error)]
pub enum DefineError {
    /// It makes no sense.
    #[error("invalid scenario spec: {0}")]
    Fault(#[from] ScenarioFault),
    /// The id is taken in that namespace: by another scenario, or by this one
    /// since the process began.
    #[error("scenario already defined")]
    Defined,
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] WriteError),
}

impl Scenarios {
    /// What `store` keeps.
    pub fn new(store: Arc<dyn ScenarioStore>) -> Self {
        Self { store, defined: Mutex::default() }
    }

    /// Takes a scenario, whose digest names it from now on.
    ///
    /// # Errors
    /// See [`DefineError`]; the scenario that was there stays.
    pub fn define(&self, spec: ScenarioSpec) -> Result<Digest, DefineError> {
        let scenario = Arc::new(Scenario::new(spec)?);
        let key = (scenario.spec().namespace_id, scenario.spec().scenario_id.clone());
        // Held while the store is asked, so that of two at once one is the first.
        let mut defined = self.defined.lock().unwrap_or_else(PoisonError::into_inner);
        match self.store.define(&scenario)? {
            Defined::Other(_) => return Err(DefineError::Defined),
            Defined::Same if defined.contains(&key) => return Err(DefineError::Defined),
            Defined::New | Defined::Same => {}
        }
        defined.insert(key);
        Ok(scenario.digest())
    }

    /// Scenarios of a namespace that belong to a tenant or to nobody, in the
    /// order of their ids.
    ///
    /// # Errors
    /// The store's.
    pub fn list(&self, namespace: NamespaceId, tenant: TenantId) -> Result<Vec<StoredScenario>, ReadError> {
        let mut seen = Vec::new();
        for stored in self.store.scenarios()? {
            if stored.retired || stored.namespace_id != namespace {
                continue;
            }
            let scenario = self.get(namespace, &stored.scenario_id)?;
            if scenario.is_some_and(|scenario| scenario.spec().default_tenant_id.is_none_or(|owner| owner == tenant)) {
                seen.push(stored);
            }
        }
        Ok(seen)
    }

    /// The scenario with that digest, whatever it is called now.
    ///
    /// # Errors
    /// The store's.
    pub fn of(&self, digest: &Digest) -> Result<Option<Arc<Scenario>>, ReadError> {
        self.store.scenario_of(digest)
    }

    /// The scenario of that id in that namespace.
    ///
    /// # Errors
    /// The store's.
    pub fn get(&self, namespace: NamespaceId, id: &ScenarioId) -> Result<Option<Arc<Scenario>>, ReadError> {
        self.store.scenario(namespace, id)
    }

    /// The namespaces that have a scenario of that id.
    ///
    /// # Errors
    /// The store's.
    pub fn namespaces_of(&self, id: &ScenarioId) -> Result<Vec<NamespaceId>, ReadError> {
        let all = self.store.scenarios()?.into_iter();
        Ok(all
            .filter(|stored| !stored.retired && stored.scenario_id == *id)
            .map(|stored| stored.namespace_id)
            .collect())
    }
}
