use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use runpack_core::engine::Scenario;
use runpack_core::model::{AnchorPolicy, NamespaceId, RunState, TenantId, Timestamp};
use runpack_core::pack::layout::{ARTIFACT_BYTES_MAX, MANIFEST_NAME};
use runpack_core::pack::{BuildOptions, RunLogs, SecurityContext};
use runpack_core::read;
#[cfg(not(feature = "object-store"))]
use runpack_storage::packs::Stores;
use runpack_storage::packs::{
    Destination, ExportRequest, PackStore, Published, Replace, directory, export, in_object_storage,
};

use super::verify::{namespace, tenant};
use super::{INPUT_BYTES_MAX, Limit, Outcome, StoreArgs, read_json, read_scenario};
use crate::out;

/// Build a pack from a scenario and a recorded run state, or from a run store
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 built, or the same pack was there; 2 could not be built.\n\nExample:\n  runpack build --scenario scenario.json --state state.json --generated-at logical:10 --out pack\n  runpack build --store decision-gate.db --run release-1.4.0 --generated-at logical:10 --out pack"
)]
pub(crate) struct BuildArgs {
    /// The scenario, JSON or (by extension) RON [default: the run's own, with --store]
    #[arg(long, value_name = "FILE", required_unless_present = "store")]
    scenario: Option<PathBuf>,
    /// The recorded state, as `scenario_start` and the store give it
    #[arg(long, value_name = "FILE", required_unless_present = "store", conflicts_with = "store")]
    state: Option<PathBuf>,
    /// A run store of runpackd, which is only read, also while a daemon writes it
    #[arg(long, value_name = "FILE", requires = "run")]
    store: Option<PathBuf>,
    /// The run in the store
    #[arg(long, value_name = "ID", requires = "store")]
    run: Option<String>,
    /// Whose run in the store
    #[arg(long, value_name = "ID", value_parser = tenant, default_value = "1", requires = "store")]
    tenant: TenantId,
    /// In which namespace of the store
    #[arg(long, value_name = "ID", value_parser = namespace, default_value = "1", requires = "store")]
    namespace: NamespaceId,
    /// Where the pack goes: a directory that is absent, empty, or holds the same pack; or s3://BUCKET/PREFIX, az://, gs://
    #[arg(long, value_name = "LOCATION")]
    out: String,
    /// Replace another pack in the directory
    #[arg(long)]
    replace: bool,
    /// When the pack is made: `logical:1`, `unix_millis:…` or RFC 3339
    #[arg(long, value_name = "TIME")]
    generated_at: Timestamp,
    /// Enclose the report of the builder's own verification
    #[arg(long)]
    include_verification: bool,
    /// The manifest's name
    #[arg(long, value_name = "NAME", default_value = MANIFEST_NAME)]
    manifest_name: String,
    /// The anchor policy of the run: {"providers":[…]}
    #[arg(long, value_name = "FILE")]
    anchor_policy: Option<PathBuf>,
    /// The exporter's posture: {"dev_permissive":…,"namespace_authority":…}
    #[arg(long, value_name = "FILE")]
    security: Option<PathBuf>,
    /// Bytes of one artifact
    #[arg(long, value_name = "BYTES", value_parser = read::byte_count, default_value_t = ARTIFACT_BYTES_MAX)]
    max_artifact_bytes: u64,
    /// Bytes of one input file
    #[arg(long, value_name = "BYTES", value_parser = read::byte_count, default_value_t = INPUT_BYTES_MAX)]
    max_input_bytes: u64,
    #[cfg(feature = "object-store")]
    #[command(flatten)]
    publish: super::push::PublishArgs,
    #[command(flatten)]
    stores: StoreArgs,
}

#[cfg(feature = "object-store")]
fn bucket_store(args: &BuildArgs) -> Result<Option<Box<dyn PackStore>>, String> {
    if !in_object_storage(&args.out) {
        return Ok(None);
    }
    let (bucket, url) = args.stores.stores()?.bucket(&args.out).map_err(|error| error.to_string())?;
    let store = runpack_storage::packs::BucketStore::new(bucket, url.prefix, args.publish.options());
    Ok(Some(Box::new(store)))
}

#[cfg(not(feature = "object-store"))]
fn bucket_store(args: &BuildArgs) -> Result<Option<Box<dyn PackStore>>, String> {
    args.stores.stores()?;
    if in_object_storage(&args.out) { Err(Stores::not_built(&args.out).to_string()) } else { Ok(None) }
}

pub(crate) fn build(args: &BuildArgs) -> Outcome {
    let limit = Limit::Flag(args.max_input_bytes);
    let scenario = args.scenario.as_deref().map(|path| read_scenario(path, limit)).transpose()?;
    match (&args.store, &args.state) {
        (Some(store), _) => from_store(args, store, scenario),
        (None, Some(state)) => {
            let state: RunState = read_json(state, limit)?;
            build_from(args, &scenario.ok_or("--scenario is needed with --state")?, &state)
        }
        (None, None) => Err("--state or --store is needed".to_owned()),
    }
}

#[cfg(feature = "store")]
fn from_store(args: &BuildArgs, store: &Path, scenario: Option<Scenario>) -> Outcome {
    use runpack_storage::runs::sqlite::SqliteRuns;
    use runpack_storage::runs::{RunKey, ScenarioStore, StoredRun};
    let id = args.run.as_deref().unwrap_or_default();
    let key = RunKey { tenant_id: args.tenant, namespace_id: args.namespace, run_id: id.into() };
    let store = SqliteRuns::open_reading(store).map_err(|error| error.to_string())?;
    let run = StoredRun::open(&store, &key).map_err(|error| error.to_string())?;
    let run =
        run.ok_or_else(|| format!("there is no run {id} of tenant {} in namespace {}", args.tenant, args.namespace))?;
    if let Some(scenario) = scenario {
        return build_from(args, &scenario, &run);
    }
    let kept = store.scenario_of(&run.head().spec_hash).map_err(|error| error.to_string())?;
    let kept = kept.ok_or_else(|| {
        format!("the store does not hold scenario {} of this run\nhint: pass --scenario", run.head().scenario_id)
    })?;
    build_from(args, &kept, &run)
}

#[cfg(not(feature = "store"))]
fn from_store(_: &BuildArgs, _: &Path, _: Option<Scenario>) -> Outcome {
    Err("this build does not read run stores\nhint: use one with the feature `store`, or --state".to_owned())
}

fn build_from(args: &BuildArgs, scenario: &Scenario, run: &dyn RunLogs) -> Outcome {
    let limit = Limit::Flag(args.max_input_bytes);
    let anchors: Option<AnchorPolicy> = args.anchor_policy.as_deref().map(|path| read_json(path, limit)).transpose()?;
    let security: Option<SecurityContext> = args.security.as_deref().map(|path| read_json(path, limit)).transpose()?;
    let store = bucket_store(args)?;
    let target =
        if store.is_none() { directory(&args.out).map_err(|error| error.to_string())? } else { PathBuf::new() };
    let replace = if args.replace { Replace::Yes } else { Replace::No };
    let destination = match &store {
        Some(store) => Destination::Store(&**store),
        None => Destination::Directory { target: &target, replace },
    };
    let exported = export(&ExportRequest {
        destination,
        manifest_name: &args.manifest_name,
        scenario,
        run,
        options: &BuildOptions {
            generated_at: args.generated_at,
            anchor_policy: anchors.unwrap_or_default(),
            security,
            artifact_bytes_max: args.max_artifact_bytes,
        },
        include_verification: args.include_verification,
        attest: None,
    })
    .map_err(|error| format!("the pack was not built: {error}"))?;
    let how = if exported.published == Published::Identical { "the same pack was there" } else { "built" };
    out::say(&format!(
        "{}: {how}\n  root digest    {}\n  pack digest    {}\n",
        out::printable(exported.storage_uri.as_ref().unwrap_or(&args.out)),
        exported.manifest.integrity.root_hash,
        exported.pack_digest
    ));
    Ok(ExitCode::SUCCESS)
}
