use runpack_core::model::{RunConfig, RunState, ScenarioId, Timestamp};
use runpack_core::read::Admit;
use serde::Deserialize;

use super::{Context, ToolError, scenario};
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
    let scenario = scenario(service, context, config.tenant_id, config.namespace_id, &arguments.scenario_id).await?;
    let gatekeeper = &service.gatekeeper;
    Ok(gatekeeper.start(&scenario, config, arguments.started_at, arguments.issue_entry_packets)?)
}
