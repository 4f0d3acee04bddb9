use std::path::{Path, PathBuf};

use runpack_core::engine::Scenario;
use runpack_core::model::{NamespaceId, RunId, ScenarioId, TenantId, Timestamp};
use runpack_core::pack::layout::MANIFEST_NAME;
use runpack_core::pack::{BuildOptions, Manifest, RunIdentity, RunLogs, WireReport};
use runpack_core::read::{self, Admit};
use runpack_storage::packs::{
    Destination, DirectoryReader, ExportError, ExportRequest, Exported, PublishError, Published, Replace, export,
    manifest_bytes,
};
use runpack_storage::runs::RunKey;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Context, ToolError, scenario};
use crate::service::Service;

super::tool!(
    "runpack_export",
    "Export a pack",
    WRITES_ONCE,
    "Export a run as a pack that anybody can verify: manifest, scenario and logs, whole or not at all. It goes to the \
     server's pack storage if one is configured, else to output_dir, which must be absent, empty, or hold a pack of \
     the same run, which is then replaced. A run may be exported while it goes on."
);

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Arguments {
    scenario_id: ScenarioId,
    tenant_id: TenantId,
    namespace_id: NamespaceId,
    run_id: RunId,
    output_dir: Option<PathBuf>,
    manifest_name: Option<String>,
    generated_at: Timestamp,
    include_verification: bool,
}

impl Admit for Arguments {}

#[derive(Debug, Serialize)]
struct Packed {
    manifest: Manifest,
    report: Option<WireReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_uri: Option<String>,
}

async fn call(service: &Service, context: &Context, arguments: Arguments) -> Result<Packed, ToolError> {
    let scenario =
        scenario(service, context, arguments.tenant_id, arguments.namespace_id, &arguments.scenario_id).await?;
    if let (None, Some(target)) = (&service.packs, &arguments.output_dir) {
        service.roots.admit(&context.caller, target)?;
    }
    // Storage waits for disks and networks on a runtime of its own, which it
    // cannot enter from a thread that drives this one.
    let exported =
        std::thread::scope(|scope| scope.spawn(|| pack(service, &scenario, &arguments, &context.stop)).join());
    let exported = exported.map_err(|_| ToolError::Internal("the export came to an unforeseen end".to_owned()))??;
    if let Published::Replaced { leftover: Some(leftover) } = &exported.published {
        warn!("what is left of a replaced pack could not be removed: {}", leftover.display());
    }
    service.watch.metrics.exported();
    Ok(Packed { manifest: exported.manifest, report: exported.report, storage_uri: exported.storage_uri })
}

fn pack(
    service: &Service,
    scenario: &Scenario,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> Result<Exported, ToolError> {
    let key = RunKey {
        tenant_id: arguments.tenant_id,
        namespace_id: arguments.namespace_id,
        run_id: arguments.run_id.clone(),
    };
    let stopped = || stop.is_cancelled();
    let run = service.gatekeeper.run(&key)?.until(&stopped);
    let options = BuildOptions {
        generated_at: arguments.generated_at,
        anchor_policy: service.gatekeeper.settings.anchors.clone(),
        security: Some(service.security.clone()),
        artifact_bytes_max: service.artifact_bytes_max,
    };
    let manifest_name = arguments.manifest_name.as_deref().unwrap_or(MANIFEST_NAME);
    let export_to = |destination| {
        export(&ExportRequest {
            destination,
            manifest_name,
            scenario,
            run: &run,
            options: &options,
            include_verification: arguments.include_verification,
            attest: service.signing.as_ref().map(|signing| signing as _),
        })
    };
    let failed = |error: ExportError| match stop.is_cancelled() {
        true => ToolError::Cancelled,
        false => ToolError::Runpack(error.to_string()),
    };
    if let Some(store) = &service.packs {
        return export_to(Destination::Store(store)).map_err(failed);
    }
    let Some(target) = arguments.output_dir.as_deref() else {
        let problem = "output_dir is required when runpack storage is not configured";
        return Err(ToolError::Runpack(problem.to_owned()));
    };
    match export_to(Destination::Directory { target, replace: Replace::No }) {
        Err(ExportError::Publish(PublishError::Exists { .. })) if holds(target, manifest_name, &run.identity()) => {
            export_to(Destination::Directory { target, replace: Replace::Yes }).map_err(failed)
        }
        Err(ExportError::Publish(PublishError::Exists { .. })) => Err(ToolError::Runpack(format!(
            "`{}` exists and holds something other than a pack of this run\nhint: choose another output_dir",
            target.display()
        ))),
        outcome => outcome.map_err(failed),
    }
}

/// Whether the directory has a pack of this very run, which went on since: a
/// run's logs only grow, so the pack that replaces it says all that it said.
fn holds(target: &Path, manifest_name: &str, run: &RunIdentity) -> bool {
    let manifest = || -> Option<Manifest> {
        let reader = DirectoryReader::open(target).ok()?;
        let bytes = manifest_bytes(&reader, manifest_name).ok()??;
        read::recorded(&bytes).ok()
    };
    manifest().is_some_and(|there| RunIdentity::from(&there) == *run)
}
