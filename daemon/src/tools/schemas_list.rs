use runpack_core::model::{DataShapeRecord, NamespaceId, SchemaId, TenantId};
use runpack_core::read::Admit;
use runpack_storage::runs::ShapeKey;
use serde::{Deserialize, Serialize};

use super::{Context, ToolError, page_limit};
use crate::access::Action;
use crate::service::Service;

super::tool!(
    "schemas_list",
    "List data shapes",
    READS,
    "List the data shapes of a tenant in a namespace, in the order of their ids and versions, page by page."
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
    items: Vec<DataShapeRecord>,
    next_token: Option<String>,
}

/// Where a page ended; JSON in a text on the wire.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    schema_id: SchemaId,
    version: String,
}

async fn call(service: &Service, context: &Context, arguments: Arguments) -> Result<Page, ToolError> {
    let limit = page_limit(arguments.limit)?;
    let Arguments { tenant_id, namespace_id, cursor, .. } = arguments;
    service.may(context, Action::List, tenant_id, namespace_id).await?;
    let internal = |error: &dyn std::fmt::Display| ToolError::Internal(error.to_string());
    let after: Option<Cursor> = match cursor {
        None => None,
        Some(text) => Some(serde_json::from_str(&text).map_err(|_| ToolError::cursor())?),
    };
    if let Some(Cursor { schema_id, version }) = &after {
        let key = ShapeKey { tenant_id, namespace_id, schema_id: schema_id.clone(), version: version.clone() };
        // Nothing is ever removed, so where a page ended is still there.
        if service.shapes.shape(&key).map_err(|error| internal(&error))?.is_none() {
            return Err(ToolError::cursor());
        }
    }
    let after = after.as_ref().map(|cursor| (&cursor.schema_id, cursor.version.as_str()));
    let page = service.shapes.shapes(tenant_id, namespace_id, after, limit).map_err(|error| internal(&error))?;
    let last = page.records.last().filter(|_| page.more);
    let token = |record: &DataShapeRecord| {
        let cursor = Cursor { schema_id: record.schema_id.clone(), version: record.version.clone() };
        serde_json::to_string(&cursor).map_err(|_| ToolError::Serialization)
    };
    let next_token = last.map(token).transpose()?;
    Ok(Page { items: page.records, next_token })
}
