use std::path::PathBuf;

use runpack_core::pack::{VerifyOptions, WireReport, WireStatus, verify};
use runpack_core::read::Admit;
use runpack_storage::packs::DirectoryReader;
use serde::{Deserialize, Serialize};

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

async fn call(service: &Service, context: &Context, arguments: Arguments) -> Result<Verified, ToolError> {
    service.roots.admit(&context.caller, &arguments.runpack_dir)?;
    let reader = DirectoryReader::open(&arguments.runpack_dir)
        .map_err(|fault| ToolError::Runpack(format!("artifact error: unable to resolve runpack root: {fault}")))?;
    let options = VerifyOptions { artifact_bytes_max: service.artifact_bytes_max, ..VerifyOptions::default() };
    let report = verify(&reader, &arguments.manifest_path, &options).wire();
    Ok(Verified { status: report.status, report })
}
