use runpack_core::canon::Digest;
use runpack_core::model::{NamespaceId, ScenarioId, TenantId};
use runpack_core::read::Admit;
use serde::{Deserialize, Serialize};

use super::{Context, ToolError, page_limit};
use crate::service::Service;

super::tool!(
    "scenarios_list",
    "List scenarios",
    READS,
    "List the scenarios of a namespace that belong to a tenant or to nobody, in the order of their ids, page by page."
);

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Arguments {
    tenant_id: TenantId,
    namespace_id: NamespaceId,
    cursor: Option<String>,
    limit: Option<i64>,
}

impl Admit for Arguments {}

#[derive(Debug, Serialize)]
struct Page {
    items: Vec<Item>,
    next_token: Option<ScenarioId>,
}

#[derive(Debug, Serialize)]
struct Item {
    scenario_id: ScenarioId,
    namespace_id: NamespaceId,
    spec_hash: Digest,
}

async fn call(service: &Service, context: &Context, arguments: Arguments) -> Result<Page, ToolError> {
    let limit = page_limit(arguments.limit)?;
    service.enter(context, Some(arguments.tenant_id), arguments.namespace_id).await?;
    let seen = service.scenarios.list(arguments.namespace_id, arguments.tenant_id);
    let seen = seen.map_err(|error| ToolError::Internal(error.to_string()))?;
    let from = match &arguments.cursor {
        None => 0,
        // A list only grows, so where a page ended is still there.
        Some(cursor) => match seen.iter().position(|scenario| scenario.scenario_id.as_str() == cursor) {
            Some(at) => at + 1,
            None => return Err(ToolError::cursor()),
        },
    };
    let next_token = (seen.len() > from + limit).then(|| seen[from + limit - 1].scenario_id.clone());
    let items = seen.into_iter().skip(from).take(limit).map(|scenario| Item {
        scenario_id: scenario.scenario_id,
        namespace_id: scenario.namespace_id,
        spec_hash: scenario.spec_hash,
    });
    Ok(Page { items: items.collect(), next_token })
}
