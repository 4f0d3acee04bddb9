use runpack_core::model::{ScenarioId, ScenarioStatus, StatusRequest};
use runpack_core::read::Admit;
use serde::Deserialize;

use super::{Context, ToolError, scenario};
use crate::service::Service;

super::tool!(
    "scenario_status",
    "Status of a run",
    WRITES,
    "Say where a run stands: its stage, its last decision and the packets issued so far. No gate is asked, but that \
     the status was asked for is recorded in the run."
);

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Arguments {
    scenario_id: ScenarioId,
    request: StatusRequest,
}

impl Admit for Arguments {}

async fn call(service: &Service, context: &Context, arguments: Arguments) -> Result<ScenarioStatus, ToolError> {
    let request = &arguments.request;
    let scenario = scenario(service, context, request.tenant_id, request.namespace_id, &arguments.scenario_id).await?;
    Ok(service.gatekeeper.status(&scenario, request).await?)
}
