use std::sync::Arc;

use runpack_core::canon::Digest;
use runpack_core::engine::Scenario;
use runpack_core::model::{NamespaceId, ScenarioId};

use super::{ReadError, WriteError};

/// Keeps scenarios, by namespace and id.
///
/// A scenario never changes: what is defined under its id stays, and other
/// words under the same id are a conflict, until the id is retired. What runs
/// are bound to is the digest, and that is kept for ever.
pub trait ScenarioStore: Send + Sync {
    /// Keeps `scenario` under its namespace and id.
    ///
    /// # Errors
    /// See [`WriteError`].
    fn define(&self, scenario: &Arc<Scenario>) -> Result<Defined, WriteError>;

    /// The scenario that is called so now.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn scenario(&self, namespace: NamespaceId, id: &ScenarioId) -> Result<Option<Arc<Scenario>>, ReadError>;

    /// The scenario with this digest, retired or not.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn scenario_of(&self, digest: &Digest) -> Result<Option<Arc<Scenario>>, ReadError>;

    /// Everything defined after `after`, ordered by namespace and id; of one id
    /// the retired come first, oldest first.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn scenarios(&self) -> Result<Vec<StoredScenario>, ReadError>;

    /// Frees an id for another scenario. Runs of this one can still be read and
    /// exported, and take no more calls. Answers whether there was one.
    ///
    /// # Errors
    /// See [`WriteError`].
    fn retire(&self, namespace: NamespaceId, id: &ScenarioId) -> Result<bool, WriteError>;
}

/// What became of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defined {
    /// It is kept now.
    New,
    /// The same words were there already.
    Same,
    /// Other words are there under the same id; nothing changed.
    Other(Digest),
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the members are the scenario's")]
pub struct StoredScenario {
    pub namespace_id: NamespaceId,
    pub scenario_id: ScenarioId,
    pub spec_hash: Digest,
    pub retired: bool,
}
