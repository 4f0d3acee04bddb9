use runpack_core::canon::Digest;
use runpack_core::model::{CheckId, ProviderId};
use runpack_core::read::Admit;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::provider_contract_get::{contract, within};
use super::{Context, ToolError};
use crate::service::Service;

super::tool!(
    "provider_check_schema_get",
    "A check's schemas",
    READS,
    "Show one check of a provider: its params and its result as JSON Schemas, and the comparators that make sense."
);

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Arguments {
    provider_id: ProviderId,
    check_id: CheckId,
}

impl Admit for Arguments {}

#[derive(Debug, Serialize)]
struct Shown {
    provider_id: ProviderId,
    contract_hash: Digest,
    /// The check as the contract has it, without its description.
    #[serde(flatten)]
    check: Map<String, Value>,
}

async fn call(service: &Service, context: &Context, arguments: Arguments) -> Result<Shown, ToolError> {
    let contract = contract(service, context, &arguments.provider_id)?;
    let missing = || {
        let Arguments { provider_id, check_id } = &arguments;
        ToolError::Arguments(format!("check_missing: {provider_id} has no check {check_id}"))
    };
    let check = contract.check(&arguments.check_id).ok_or_else(missing)?;
    let Ok(Value::Object(mut check)) = serde_json::to_value(check.spec()) else {
        return Err(ToolError::Serialization);
    };
    check.remove("description");
    let shown = Shown { provider_id: arguments.provider_id, contract_hash: contract.digest(), check };
    within(service, &shown)?;
    Ok(shown)
}
