//! What the suite expects to find, by name: data, in a file of its own.

use std::collections::BTreeMap;

use rmcp::model::{
    ContentBlock, InputRequests, Prompt, PromptMessage, Resource, ResourceContents, ResourceTemplate, Tool,
};
use serde::Deserialize;
use serde_json::Value;

/// It, read.
#[derive(Deserialize)]
pub struct Catalogue {
    pub tools: Vec<Tool>,
    /// What tools answer that always answer the same.
    pub results: BTreeMap<String, Vec<ContentBlock>>,
    /// What tools ask clients of the old era, while they wait.
    pub asked: BTreeMap<String, Value>,
    /// What tools and prompts ask clients of the new era, before they are
    /// called again.
    pub rounds: BTreeMap<String, Asking>,
    pub resources: Vec<Resource>,
    pub templates: Vec<ResourceTemplate>,
    pub contents: BTreeMap<String, ResourceContents>,
    pub prompts: Vec<Prompt>,
    /// Their texts, with arguments in braces.
    pub messages: BTreeMap<String, Vec<PromptMessage>>,
}

/// What has to be known before there is an answer.
#[derive(Deserialize)]
pub struct Asking {
    pub rounds: Vec<InputRequests>,
    /// Whether the client carries what was asked already, under a seal.
    pub sealed: bool,
}

impl Catalogue {
    pub fn read() -> serde_json::Result<Self> {
        serde_json::from_str(include_str!("catalogue.json"))
    }
}
