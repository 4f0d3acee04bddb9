use runpack_core::model::{ScenarioId, SubmitRequest, SubmitResult};
use runpack_core::read::{Admit, Refusal, below};
use serde::Deserialize;

use super::{Context, ToolError, scenario};
use crate::service::Service;

super::tool!(
    "scenario_submit",
    "Hand something in",
    WRITES_ONCE,
    "Hand something in during a run, to be kept with it. It decides no gate. The payload is recorded as it is and \
     everybody who audits the run can read it: hand in no secrets."
);

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Arguments {
    scenario_id: ScenarioId,
    request: SubmitRequest,
}

impl Admit for Arguments {
    fn admit(&mut self) -> Result<(), Refusal> {
        self.request.admit().map_err(|refusal| below("/request", refusal))
    }
}

async fn call(service: &Service, context: &Context, arguments: Arguments) -> Result<SubmitResult, ToolError> {
    let request = &arguments.request;
    let scenario = scenario(service, context, request.tenant_id, request.namespace_id, &arguments.scenario_id).await?;
    Ok(service.gatekeeper.submit(&scenario, request).await?)
}
