use std::collections::BTreeMap;
use std::sync::Arc;

use runpack_core::engine::{self, Evidence, Scenario};
use runpack_core::model::{
    ConditionId, EvidenceResult, EvidenceValue, Lane, NamespaceId, PrecheckResult, ScenarioId, ScenarioSpec, SchemaId,
    StageId, TenantId,
};
use runpack_core::read::{Admit, Refusal, admit_value, below};
use runpack_providers::{Schema, strict};
use runpack_storage::runs::ShapeKey;
use serde::Deserialize;
use serde_json::Value;

use super::{Context, ToolError};
use crate::access::{Action, Denied};
use crate::scenarios::DefineError;
use crate::service::Service;

super::tool!(
    "precheck",
    "Try a decision",
    READS,
    "Say what a stage would decide on a payload instead of fresh evidence. The payload has a member for each \
     condition and must be as a registered data shape says. Nothing is recorded, and what is asserted counts only as \
     far as the server trusts it."
);

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Arguments {
    tenant_id: TenantId,
    namespace_id: NamespaceId,
    scenario_id: Option<ScenarioId>,
    spec: Option<ScenarioSpec>,
    stage_id: Option<StageId>,
    data_shape: ShapeRef,
    payload: Value,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct ShapeRef {
    schema_id: SchemaId,
    version: String,
}

impl Admit for Arguments {
    fn admit(&mut self) -> Result<(), Refusal> {
        if let Some(spec) = &mut self.spec {
            spec.admit().map_err(|refusal| below("/spec", refusal))?;
        }
        admit_value(&mut self.payload, "/payload")
    }
}

async fn call(service: &Service, context: &Context, arguments: Arguments) -> Result<PrecheckResult, ToolError> {
    let Arguments { tenant_id, namespace_id, scenario_id, spec, stage_id, data_shape, payload } = arguments;
    // A precheck tells what the data shape says, so whoever may not get one may
    // not precheck with it.
    service.may(context, Action::Get, tenant_id, namespace_id).await?;
    let ShapeRef { schema_id, version } = data_shape;
    let key = ShapeKey { tenant_id, namespace_id, schema_id, version };
    let shape = service.shapes.shape(&key).map_err(|error| ToolError::Internal(error.to_string()))?;
    let shape = shape.ok_or_else(|| ToolError::NotFound("schema not found".to_owned()))?.schema;
    let schema = Schema::compile(&shape).map_err(|error| ToolError::Arguments(format!("invalid schema: {error}")))?;
    schema
        .check(&payload)
        .map_err(|mismatch| ToolError::Arguments(format!("payload does not match schema: {mismatch}")))?;
    let scenario = scenario(service, tenant_id, namespace_id, scenario_id, spec)?;
    let conditions = &scenario.spec().conditions;
    if let Some(options) = &service.validation {
        for condition in conditions {
            let invalid = |error: &dyn std::fmt::Display| ToolError::Arguments(error.to_string());
            let property = strict::property_schema(&shape, &condition.condition_id, conditions.len());
            let property = property.map_err(|error| invalid(&error))?;
            strict::admit(&property, condition.comparator, condition.expected.as_ref(), options)
                .map_err(|error| invalid(&format!("condition {}: {error}", condition.condition_id)))?;
        }
    }
    let evidence = evidence(&scenario, payload);
    let settings = &service.gatekeeper.settings;
    engine::precheck(&scenario, settings, stage_id.as_ref(), &evidence)
        .map_err(|error| ToolError::ControlPlane(error.to_string()))
}

fn scenario(
    service: &Service,
    tenant: TenantId,
    namespace: NamespaceId,
    id: Option<ScenarioId>,
    spec: Option<ScenarioSpec>,
) -> Result<Arc<Scenario>, ToolError> {
    let scenario = match (id, spec) {
        (None, None) => return Err(ToolError::Arguments("scenario_id or spec is required".to_owned())),
        (id, Some(spec)) => {
            if id.is_some_and(|id| id != spec.scenario_id) {
                return Err(ToolError::Arguments("scenario_id and spec.scenario_id differ".to_owned()));
            }
            if spec.namespace_id != namespace {
                return Err(ToolError::Arguments("namespace_id and spec.namespace_id differ".to_owned()));
            }
            service.admit(&spec).map_err(ToolError::Arguments)?;
            Arc::new(Scenario::new(spec).map_err(DefineError::from)?)
        }
        (Some(id), None) => {
            let found =
                service.scenarios.get(namespace, &id).map_err(|error| ToolError::Internal(error.to_string()))?;
            found.ok_or_else(|| ToolError::NotFound("scenario not in namespace".to_owned()))?
        }
    };
    match scenario.spec().default_tenant_id {
        Some(owner) if owner != tenant => {
            let id = &scenario.spec().scenario_id;
            Err(Denied(format!("scenario {id} belongs to tenant {owner}, not {tenant}")).into())
        }
        _ => Ok(scenario),
    }
}

/// What the payload asserts: of an object each member for the condition of its
/// name, of anything else the whole for the one condition there is.
fn evidence(scenario: &Scenario, payload: Value) -> BTreeMap<ConditionId, Evidence> {
    let asserted = |value: Value| {
        let value = Some(EvidenceValue::Json(value));
        Evidence::admit(EvidenceResult { value, ..EvidenceResult::empty(Lane::Asserted) })
    };
    let conditions = scenario.spec().conditions.iter().map(|condition| condition.condition_id.clone());
    match payload {
        Value::Object(mut members) => {
            conditions.filter_map(|id| members.remove(id.as_str()).map(|value| (id, asserted(value)))).collect()
        }
        whole => conditions.take(1).map(|id| (id, asserted(whole.clone()))).collect(),
    }
}
