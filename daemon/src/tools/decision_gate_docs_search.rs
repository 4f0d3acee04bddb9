use runpack_core::read::Admit;
use serde::Deserialize;

use super::{Context, ToolError};
use crate::docs::Answer;
use crate::service::Service;

super::tool!(
    "decision_gate_docs_search",
    "Search the documentation",
    READS,
    "Search the server's documentation: scenarios, conditions, comparators, evidence, tools, packs and findings. \
     Answers the sections that fit best; without words, an overview."
);

/// Sections of an answer, unless the call says otherwise.
const SECTIONS: i64 = 3;

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Arguments {
    query: String,
    max_sections: Option<i64>,
}

impl Admit for Arguments {}

async fn call(service: &Service, _context: &Context, arguments: Arguments) -> Result<Answer, ToolError> {
    let most = service.docs_config.sections_max;
    let wanted = arguments.max_sections.unwrap_or(SECTIONS).max(1);
    Ok(service.docs.search(&arguments.query, usize::try_from(wanted).unwrap_or(most).min(most)))
}
