use runpack_core::model::{EvidenceContext, EvidenceQuery, EvidenceResult};
use runpack_core::read::{Admit, Refusal, admit_value};
use serde::{Deserialize, Serialize};

use super::{Context, ToolError};
use crate::service::Service;

super::tool!(
    "evidence_query",
    "Ask a provider",
    QUESTION,
    "Ask a provider a question as a condition would, and answer the evidence. Nothing is recorded. The context is \
     taken as it is: the run need not exist. Values are shown as far as the server permits; a provider that fails is \
     an answer with an error."
);

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Arguments {
    query: EvidenceQuery,
    context: EvidenceContext,
}

impl Admit for Arguments {
    fn admit(&mut self) -> Result<(), Refusal> {
        self.query.params.as_mut().map_or(Ok(()), |params| admit_value(params, "/query/params"))
    }
}

#[derive(Debug, Serialize)]
struct Answered {
    result: EvidenceResult,
}

async fn call(service: &Service, context: &Context, arguments: Arguments) -> Result<Answered, ToolError> {
    let Arguments { query, context: about } = arguments;
    service.enter(context, Some(about.tenant_id), about.namespace_id).await?;
    service.contracts.admit_query(&query).map_err(|error| ToolError::Arguments(error.to_string()))?;
    let mut result = service.gatekeeper.ask(&query, &about).await?;
    service.access.evidence.redact_result(&query.provider_id, &mut result);
    Ok(Answered { result })
}
