use runpack_core::canon::Digest;
use runpack_core::model::ProviderId;
use runpack_core::read::Admit;
use runpack_providers::{Contract, Transport};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Answer, Context, ToolError};
use crate::service::Service;

super::tool!(
    "provider_contract_get",
    "A provider's contract",
    READS,
    "Show what a provider promises: its checks, their params and results as JSON Schemas, and the comparators that \
     make sense."
);

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Arguments {
    provider_id: ProviderId,
}

impl Admit for Arguments {}

#[derive(Debug, Serialize)]
struct Shown {
    provider_id: ProviderId,
    contract: Value,
    contract_hash: Digest,
    source: &'static str,
    version: Option<String>,
}

async fn call(service: &Service, context: &Context, arguments: Arguments) -> Result<Shown, ToolError> {
    let contract = contract(service, context, &arguments.provider_id)?;
    let shown = Shown {
        provider_id: arguments.provider_id,
        contract: serde_json::from_slice(contract.document()).map_err(|_| ToolError::Serialization)?,
        contract_hash: contract.digest(),
        source: match contract.transport() {
            Transport::Builtin => "builtin",
            Transport::Mcp => "file",
        },
        version: None,
    };
    within(service, &shown)?;
    Ok(shown)
}

/// The contract of a provider, if it is shown to callers.
pub(super) fn contract<'s>(
    service: &'s Service,
    context: &Context,
    provider: &ProviderId,
) -> Result<&'s Contract, ToolError> {
    if !service.discovery.shows(provider) {
        let subject = &context.caller.subject;
        return Err(ToolError::Denied(format!(
            "{subject} may not see {provider}: provider contract disclosure denied by provider_discovery"
        )));
    }
    let missing = || ToolError::Arguments(format!("provider_missing: there is no provider {provider}"));
    service.contracts.get(provider).ok_or_else(missing)
}

/// Whether an answer about a provider is short enough to be given.
pub(super) fn within(service: &Service, shown: &impl Serialize) -> Result<(), ToolError> {
    let limit = service.discovery.response_bytes_max;
    let found = Answer::of(shown)?.json().len() as u64;
    if found <= limit {
        return Ok(());
    }
    Err(ToolError::TooLarge(format!(
        "provider discovery response exceeds size limit ({found} > {limit})\n\
         hint: raise provider_discovery.max_response_bytes"
    )))
}
