use runpack_core::canon;
use runpack_core::model::DataShapeRecord;
use runpack_core::read::{Admit, Refusal, below};
use runpack_providers::Schema;
use runpack_storage::runs::Registered;
use serde::{Deserialize, Serialize};

use super::{Context, ToolError};
use crate::access::Action;
use crate::service::Service;

super::tool!(
    "schemas_register",
    "Register a data shape",
    WRITES,
    "Register a data shape, a JSON Schema (draft 2020-12) under an id and a version, for prechecks. It never changes; \
     give a changed one another version."
);

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Arguments {
    record: DataShapeRecord,
}

impl Admit for Arguments {
    fn admit(&mut self) -> Result<(), Refusal> {
        self.record.admit().map_err(|refusal| below("/record", refusal))
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Recorded {
    pub(super) record: DataShapeRecord,
}

async fn call(service: &Service, context: &Context, arguments: Arguments) -> Result<Recorded, ToolError> {
    let Arguments { record } = arguments;
    service.may(context, Action::Register, record.tenant_id, record.namespace_id).await?;
    let signed = record.signing.as_ref();
    let signed = signed.is_some_and(|by| !by.key_id.trim().is_empty() && !by.signature.trim().is_empty());
    if service.access.registry.require_signing && !signed {
        let subject = &context.caller.subject;
        return Err(ToolError::Denied(format!(
            "{subject} registers without a signature: schema_registry.acl.require_signing"
        )));
    }
    let invalid = |error: &dyn std::fmt::Display| ToolError::Arguments(format!("invalid schema: {error}"));
    let limit = service.shape_limits.schema_bytes_max;
    let bytes = canon::to_vec(&record.schema).map_err(|error| invalid(&error))?.len() as u64;
    if bytes > limit {
        return Err(ToolError::Arguments(format!(
            "schema exceeds size limit: {bytes} bytes (max {limit})\nhint: raise schema_registry.max_schema_bytes"
        )));
    }
    Schema::compile(&record.schema).map_err(|error| invalid(&error))?;
    match service.shapes.register(&record, service.shape_limits.entries_max) {
        Ok(Registered::New) => Ok(Recorded { record }),
        Ok(Registered::Conflict) => Err(ToolError::Conflict("schema already registered".to_owned())),
        Ok(Registered::Full) => Err(ToolError::Conflict("schema registry max entries exceeded".to_owned())),
        Err(error) => Err(ToolError::Internal(error.to_string())),
    }
}
