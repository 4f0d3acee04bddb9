use runpack_core::engine::StartError;
use runpack_core::model::{RunConfig, RunState, ScenarioId, Timestamp};
use runpack_core::read::Admit;
use serde::Deserialize;

use super::{Context, ToolError, scenario};
use crate::gatekeeper::GateError;
use crate::service::Service;

super::tool!(
    "scenario_start",
    "Start a run",
    WRITES,
    "Start a run of a scenario under an id of your choice, and answer the whole run. With issue_entry_packets the \
     first stage's packets are disclosed at once. Times are the caller's: no clock is read."
);

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Arguments {
    scenario_id: ScenarioId,
    run_config: RunConfig,
    started_at: Timestamp,
    issue_entry_packets: bool,
}

impl Admit for Arguments {}

async fn call(service: &Service, context: &Context, arguments: Arguments) -> Result<RunState, ToolError> {
    let config = &arguments.run_config;
    let scenario = match scenario(service, context, config.tenant_id, config.namespace_id, &arguments.scenario_id).await
    {
        Err(ToolError::NotFound(_)) if elsewhere(service, context, &arguments).await? => {
            return Err(GateError::from(StartError::Namespace(config.namespace_id)).into());
        }
        found => found?,
    };
    let gatekeeper = &service.gatekeeper;
    Ok(gatekeeper.start(&scenario, config, arguments.started_at, arguments.issue_entry_packets)?)
}

/// Whether the scenario is one of another namespace that the caller may see.
async fn elsewhere(service: &Service, context: &Context, arguments: &Arguments) -> Result<bool, ToolError> {
    let namespaces = service.scenarios.namespaces_of(&arguments.scenario_id);
    for namespace in namespaces.map_err(|error| ToolError::Internal(error.to_string()))? {
        if service.sees(&context.caller, Some(arguments.run_config.tenant_id), namespace, None).await.is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}
