use serde::de::DeserializeOwned;

use super::layout::{ARTIFACTS, Content, Log, MANIFEST_BYTES_MAX};
use super::manifest::Manifest;
use super::source::{PackReader, ReadFault};
use super::verify::read_all;
use crate::model::{
    DecisionRecord, GateEvalRecord, PacketRecord, ScenarioSpec, SubmissionRecord, ToolCallRecord, TriggerRecord,
};
use crate::read::{Refusal, recorded};

/// The records of a pack, for showing. Reading says nothing about their truth:
/// verify first, and believe them as far as the report goes.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each member is the artifact of that name")]
pub struct Pack {
    pub manifest: Manifest,
    pub scenario: ScenarioSpec,
    pub triggers: Vec<TriggerRecord>,
    pub gate_evals: Vec<GateEvalRecord>,
    pub decisions: Vec<DecisionRecord>,
    pub packets: Vec<PacketRecord>,
    pub submissions: Vec<SubmissionRecord>,
    pub tool_calls: Vec<ToolCallRecord>,
}

/// Why the records of a pack cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum PackFault {
    /// A file cannot be read.
    #[error("{path}: {fault}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        fault: ReadFault,
    },
    /// A file is not what its place says.
    #[error("{path}: {refusal}")]
    Shape {
        /// Which.
        path: String,
        /// Why.
        refusal: Refusal,
    },
}

impl Pack {
    /// Reads a whole pack into memory, each file up to `bytes_max`.
    ///
    /// # Errors
    /// See [`PackFault`].
    pub fn read(reader: &dyn PackReader, manifest_name: &str, bytes_max: u64) -> Result<Self, PackFault> {
        let log = |log| {
            let artifact = ARTIFACTS.iter().find(|artifact| artifact.content == Content::Log(log));
            artifact.map_or("", |artifact| artifact.path)
        };
        Ok(Self {
            manifest: document(reader, manifest_name, MANIFEST_BYTES_MAX)?,
            scenario: document(reader, ARTIFACTS[0].path, bytes_max)?,
            triggers: document(reader, log(Log::Triggers), bytes_max)?,
            gate_evals: document(reader, log(Log::GateEvals), bytes_max)?,
            decisions: document(reader, log(Log::Decisions), bytes_max)?,
            packets: document(reader, log(Log::Packets), bytes_max)?,
            submissions: document(reader, log(Log::Submissions), bytes_max)?,
            tool_calls: document(reader, log(Log::ToolCalls), bytes_max)?,
        })
    }
}

fn document<T: DeserializeOwned>(reader: &dyn PackReader, path: &str, bytes_max: u64) -> Result<T, PackFault> {
    let bytes = read_all(reader, path, bytes_max).map_err(|fault| PackFault::Read { path: path.to_owned(), fault })?;
    recorded(&bytes).map_err(|refusal| PackFault::Shape { path: path.to_owned(), refusal })
}
