use runpack_core::model::{CheckId, ProviderId};
use runpack_core::read::Admit;
use runpack_providers::Transport;
use serde::{Deserialize, Serialize};

use super::{Context, ToolError};
use crate::service::Service;

super::tool!(
    "providers_list",
    "List providers",
    READS,
    "List the providers that can be asked for evidence, and what each can be asked."
);

/// Takes nothing.
#[derive(Debug, Deserialize)]
struct Arguments {}

impl Admit for Arguments {}

#[derive(Debug, Serialize)]
struct List {
    providers: Vec<Item>,
}

#[derive(Debug, Serialize)]
struct Item {
    provider_id: ProviderId,
    transport: Transport,
    checks: Vec<CheckId>,
}

async fn call(service: &Service, _context: &Context, _: Arguments) -> Result<List, ToolError> {
    let shown = service.contracts.iter().filter(|contract| service.discovery.shows(contract.id()));
    let providers = shown.map(|contract| {
        let mut checks: Vec<_> = contract.checks().map(|check| check.spec().check_id.clone()).collect();
        checks.sort();
        Item { provider_id: contract.id().clone(), transport: contract.transport(), checks }
    });
    Ok(List { providers: providers.collect() })
}
