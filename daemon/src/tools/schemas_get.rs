use runpack_core::model::{NamespaceId, SchemaId, TenantId};
use runpack_core::read::Admit;
use runpack_storage::runs::ShapeKey;
use serde::Deserialize;

use super::schemas_register::Recorded;
use super::{Context, ToolError};
use crate::access::Action;
use crate::service::Service;

super::tool!("schemas_get", "A data shape", READS, "Show a data shape as it was registered.");

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Arguments {
    tenant_id: TenantId,
    namespace_id: NamespaceId,
    schema_id: SchemaId,
    version: String,
}

impl Admit for Arguments {}

async fn call(service: &Service, context: &Context, arguments: Arguments) -> Result<Recorded, ToolError> {
    let Arguments { tenant_id, namespace_id, schema_id, version } = arguments;
    service.may(context, Action::Get, tenant_id, namespace_id).await?;
    let key = ShapeKey { tenant_id, namespace_id, schema_id, version };
    let record = service.shapes.shape(&key).map_err(|error| ToolError::Internal(error.to_string()))?;
    let record = record.ok_or_else(|| ToolError::NotFound("schema not found".to_owned()))?;
    Ok(Recorded { record })
}
