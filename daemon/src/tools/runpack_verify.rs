use std::io::{self, Read};
use std::path::PathBuf;

use runpack_core::pack::{Listed, PackReader, ReadFault, VerifyOptions, WireReport, WireStatus, verify};
use runpack_core::read::Admit;
use runpack_storage::packs::DirectoryReader;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Context, ToolError};
use crate::service::Service;

super::tool!(
    "runpack_verify",
    "Verify a pack",
    READS,
    "Verify a pack in a directory of the server's machine: its files against their digests, its records against each \
     other, and every decision by deciding again. Answers pass or fail, and what was found."
);

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Arguments {
    runpack_dir: PathBuf,
    manifest_path: String,
}

impl Admit for Arguments {}

#[derive(Debug, Serialize)]
struct Verified {
    report: WireReport,
    status: WireStatus,
}

/// A pack that cannot be read any further once nobody waits for the answer.
struct Stopping<'a> {
    pack: &'a DirectoryReader,
    stop: &'a CancellationToken,
}

impl PackReader for Stopping<'_> {
    fn list(&self) -> Result<Vec<Listed>, ReadFault> {
        self.pack.list()
    }

    fn open(&self, path: &str, bytes_max: u64) -> Result<Box<dyn Read + '_>, ReadFault> {
        let file = self.pack.open(path, bytes_max)?;
        Ok(Box::new(StoppingFile { file, stop: self.stop }))
    }
}

struct StoppingFile<'a> {
    file: Box<dyn Read + 'a>,
    stop: &'a CancellationToken,
}

impl Read for StoppingFile<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        self.file.read(into)
    }
}

async fn call(service: &Service, context: &Context, arguments: Arguments) -> Result<Verified, ToolError> {
    service.roots.admit(&context.caller, &arguments.runpack_dir)?;
    let reader = DirectoryReader::open(&arguments.runpack_dir)
        .map_err(|fault| ToolError::Runpack(format!("artifact error: unable to resolve runpack root: {fault}")))?;
    let options = VerifyOptions { artifact_bytes_max: service.artifact_bytes_max, ..VerifyOptions::default() };
    let reader = Stopping { pack: &reader, stop: &context.stop };
    let report = verify(&reader, &arguments.manifest_path, &options).wire();
    if context.stop.is_cancelled() {
        return Err(ToolError::Cancelled);
    }
    Ok(Verified { status: report.status, report })
}
