use runpack_core::canon::Digest;
use runpack_core::model::{ScenarioId, ScenarioSpec};
use runpack_core::read::{Admit, Refusal, below};
use serde::{Deserialize, Serialize};

use super::{Context, ToolError};
use crate::service::Service;

super::tool!(
    "scenario_define",
    "Define a scenario",
    WRITES,
    "Define a scenario: its stages, the gates that guard them and the conditions the gates ask for. Answers the \
     digest that runs of it are bound to. A scenario cannot be changed; give a changed one another id."
);

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Arguments {
    spec: ScenarioSpec,
}

impl Admit for Arguments {
    fn admit(&mut self) -> Result<(), Refusal> {
        self.spec.admit().map_err(|refusal| below("/spec", refusal))
    }
}

#[derive(Debug, Serialize)]
struct Defined {
    scenario_id: ScenarioId,
    spec_hash: Digest,
}

async fn call(service: &Service, context: &Context, Arguments { spec }: Arguments) -> Result<Defined, ToolError> {
    service.enter(context, spec.default_tenant_id, spec.namespace_id).await?;
    service.admit(&spec).map_err(ToolError::Arguments)?;
    let scenario_id = spec.scenario_id.clone();
    Ok(Defined { scenario_id, spec_hash: service.scenarios.define(spec)? })
}
