use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use runpack_beneath::private;
use runpack_core::canon::{Digest, to_vec};
use runpack_core::model::{
    DecisionId, DispatchTarget, NamespaceId, PacketId, RunId, ScenarioId, StageId, TenantId, Timestamp,
};
use serde::Serialize;

use super::SinkError;
use crate::content::Message;

/// A file with one line for each delivery: what it is and to whom, without the
/// content, which may be for that target alone.
#[derive(Clone)]
pub(crate) struct LogFile(Arc<Mutex<Lines>>);

struct Lines {
    file: File,
    /// The last line may have no end.
    torn: bool,
}

/// One line, canonical JSON. Members in canonical order.
#[derive(Serialize)]
struct Line<'a> {
    content_hash: Digest,
    content_type: &'a str,
    decision_id: &'a DecisionId,
    delivery_id: &'a str,
    issued_at: Timestamp,
    namespace_id: NamespaceId,
    packet_id: &'a PacketId,
    run_id: &'a RunId,
    scenario_id: &'a ScenarioId,
    stage_id: &'a StageId,
    target: &'a DispatchTarget,
    tenant_id: TenantId,
}

impl LogFile {
    /// Opens the file to write at its end, and makes it if there is none.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = private(OpenOptions::new().create(true).read(true).append(true)).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no ordinary file"));
        }
        let mut last = [b'\n'];
        if metadata.len() > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        Ok(Self(Arc::new(Mutex::new(Lines { file, torn: last != *b"\n" }))))
    }

    /// Writes a line, which is on disk when this returns.
    pub(crate) async fn write(&self, message: &Message) -> Result<(), SinkError> {
        let envelope = &message.envelope;
        let mut line = to_vec(&Line {
            content_hash: envelope.content_hash,
            content_type: &envelope.content_type,
            decision_id: &message.decision_id,
            delivery_id: &message.id,
            issued_at: envelope.issued_at,
            namespace_id: message.namespace_id,
            packet_id: &envelope.packet_id,
            run_id: &envelope.run_id,
            scenario_id: &envelope.scenario_id,
            stage_id: &envelope.stage_id,
            target: &message.target,
            tenant_id: message.tenant_id,
        })?;
        line.push(b'\n');
        let lines = self.0.clone();
        let written = tokio::task::spawn_blocking(move || {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.write(&line)
        });
        let written = written.await.unwrap_or_else(|_| Err(io::Error::other("it was not written to its end")));
        written.map_err(SinkError::Log)
    }
}

impl Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let text = if self.torn { [b"\n", line].concat() } else { line.to_vec() };
        self.torn = true;
        self.file.write_all(&text)?;
        self.torn = false;
        self.file.sync_data()
    }
}
