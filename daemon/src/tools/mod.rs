//! What can be asked of the service: one file a tool, one table of them.
//!
//! A tool is a plain async function from arguments to an answer. It knows
//! neither the protocol that carried them nor the transport; the faces (`rpc`
//! and those to come) decode, call and render by this table.

mod runpack_export;
mod runpack_verify;
mod scenario_define;
mod scenario_next;
mod scenario_start;
mod scenario_status;
mod scenario_submit;
mod scenario_trigger;

use std::pin::Pin;
use std::sync::Arc;

use runpack_core::engine::Scenario;
use runpack_core::model::{NamespaceId, ScenarioId, TenantId};
use runpack_core::read::{self, Admit, Refusal, Unknown};
use runpack_storage::runs::WriteError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::access::{Caller, Denied};
use crate::gatekeeper::GateError;
use crate::scenarios::DefineError;
use crate::service::Service;

/// Every tool, in the order in which they are listed.
pub const TOOLS: &[Tool] = &[
    scenario_define::TOOL,
    scenario_start::TOOL,
    scenario_status::TOOL,
    scenario_next::TOOL,
    scenario_submit::TOOL,
    scenario_trigger::TOOL,
    runpack_export::TOOL,
    runpack_verify::TOOL,
];

/// One tool.
#[derive(Clone, Copy)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// What it does, for whoever chooses a tool.
    pub description: &'static str,
    /// The JSON Schema of its arguments, as text.
    pub input_schema: &'static str,
    /// Does it.
    pub run: for<'a> fn(&'a Service, &'a Caller, Value) -> Running<'a>,
}

/// A tool at work.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<Answer, ToolError>> + Send + 'a>>;

/// A tool's answer as JSON text: written once, and put as it is into whatever
/// carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer(Vec<u8>);

impl Answer {
    /// Writes `answer`.
    ///
    /// # Errors
    /// [`ToolError::Serialization`].
    pub fn of(answer: &impl Serialize) -> Result<Self, ToolError> {
        serde_json::to_vec(answer).map(Self).map_err(|_| ToolError::Serialization)
    }

    /// The text.
    pub fn json(&self) -> &[u8] {
        &self.0
    }
}

/// Why a tool has no answer: one variant for each thing a caller does next.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// Write the arguments differently.
    #[error("{0}")]
    Arguments(#[from] Refusal),
    /// Ask the operator. The reason is in the log; callers only hear the word.
    #[error("unauthorized")]
    Denied(String),
    /// Make it first, or name another.
    #[error("{0}")]
    NotFound(String),
    /// Something else has that name.
    #[error("{0}")]
    Conflict(String),
    /// Look at the scenario, the run or the request.
    #[error("{0}")]
    ControlPlane(String),
    /// Look at the pack or where it should go.
    #[error("{0}")]
    Runpack(String),
    /// Ask again: nothing was written.
    #[error("{0}")]
    Busy(String),
    /// Look at the server.
    #[error("{0}")]
    Internal(String),
    /// Look at the server.
    #[error("serialization failed")]
    Serialization,
}

impl From<Denied> for ToolError {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied.0)
    }
}

impl From<DefineError> for ToolError {
    fn from(error: DefineError) -> Self {
        match error {
            DefineError::Fault(_) => Self::ControlPlane(error.to_string()),
            DefineError::Defined => Self::Conflict(error.to_string()),
            DefineError::Store(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<GateError> for ToolError {
    fn from(error: GateError) -> Self {
        let message = error.to_string();
        match error {
            GateError::RunNotFound(_) | GateError::Store(WriteError::NotFound(_)) => Self::NotFound(message),
            GateError::SubmissionConflict(_) => Self::Conflict(message),
            GateError::Start(_)
            | GateError::Scenario(_)
            | GateError::Decide(_)
            | GateError::Providers(_)
            | GateError::Payload(_)
            | GateError::NotActive(_)
            | GateError::Store(WriteError::Exists(_) | WriteError::Active(_)) => Self::ControlPlane(message),
            GateError::Store(WriteError::Conflict { .. }) => {
                Self::Busy("others keep writing to the run, nothing was recorded\nhint: ask again".to_owned())
            }
            GateError::Store(WriteError::Damaged(_) | WriteError::Refused(_) | WriteError::Unknown(_))
            | GateError::Read(_)
            | GateError::Canon(_) => Self::Internal(message),
        }
    }
}

/// Reads arguments. Members nobody knows are dropped, as callers count on.
fn arguments<T: DeserializeOwned + Admit>(arguments: Value) -> Result<T, ToolError> {
    Ok(read::ingest_value(arguments, Unknown::Drop)?)
}

/// The scenario a call names, if the caller may act there for the tenant.
fn scenario(
    service: &Service,
    caller: &Caller,
    tenant: TenantId,
    namespace: NamespaceId,
    id: &ScenarioId,
) -> Result<Arc<Scenario>, ToolError> {
    service.access.may_enter(caller, Some(tenant), namespace)?;
    let found = service.scenarios.get(namespace, id).map_err(|error| ToolError::Internal(error.to_string()))?;
    found.ok_or_else(|| ToolError::NotFound("scenario not defined".to_owned()))
}

/// The row of a tool: its file's `call` between reading and writing, and the
/// schema of the same name.
macro_rules! tool {
    ($name:literal, $description:literal) => {
        /// The tool's row in the table.
        pub(super) const TOOL: $crate::tools::Tool = $crate::tools::Tool {
            name: $name,
            description: $description,
            input_schema: include_str!(concat!("../../../schemas/tools/", $name, ".json")),
            run: |service, caller, arguments| {
                Box::pin(async move {
                    let arguments = $crate::tools::arguments(arguments)?;
                    $crate::tools::Answer::of(&call(service, caller, arguments).await?)
                })
            },
        };
    };
}
use tool;
