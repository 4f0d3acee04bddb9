use runpack_core::model::{ScenarioId, TriggerEvent, TriggerResult};
use runpack_core::read::{Admit, Refusal, below};
use serde::Deserialize;

use super::{Context, ToolError, scenario};
use crate::service::Service;

super::tool!(
    "scenario_trigger",
    "Trigger a run",
    ASKS,
    "Tell a run that something happened, and answer what was decided. Only a tick looks at stage timeouts. The same \
     trigger_id again answers the same decision. The payload is recorded as it is and everybody who audits the run \
     can read it: send no secrets."
);

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Arguments {
    scenario_id: ScenarioId,
    trigger: TriggerEvent,
}

impl Admit for Arguments {
    fn admit(&mut self) -> Result<(), Refusal> {
        self.trigger.admit().map_err(|refusal| below("/trigger", refusal))
    }
}

async fn call(service: &Service, context: &Context, arguments: Arguments) -> Result<TriggerResult, ToolError> {
    let event = &arguments.trigger;
    let scenario = scenario(service, context, event.tenant_id, event.namespace_id, &arguments.scenario_id).await?;
    let answer = service.gatekeeper.trigger(&scenario, event).await?;
    service.decided(&answer);
    Ok(answer.result)
}
