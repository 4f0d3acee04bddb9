use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use runpack_core::engine::Head;
use runpack_core::model::{NamespaceId, RunId, ScenarioId, TenantId, Timestamp};
use runpack_core::pack::layout::{ARTIFACT_BYTES_MAX, Log, MANIFEST_NAME};
use runpack_core::pack::{BuildOptions, LogWriter, RunLogs};
use runpack_core::read;
use runpack_storage::packs::{Destination, ExportRequest, Published, Replace, export};
use runpack_storage::runs::sqlite::{SqliteOptions, SqliteRuns, import};
use runpack_storage::runs::{Defined, Outbox as _, RunKey, RunStore, ScenarioStore, StoredRun, WriteError};
use serde_json::{Value, json};

use super::{INPUT_BYTES_MAX, Limit, read_scenario};
use crate::config::RunConfiguration;

/// Runs read from the store at a time.
const LISTED_AT_ONCE: usize = 500;

/// Look at a run store, and look after it
///
/// list, get, export, verify and backup make and change no file of the store,
/// whether or not a daemon has it open.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done, 1 the store is damaged, 2 it could not be done.\n\nExample:\n  runpackd store list --store decision-gate.db"
)]
pub struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// List runs: one JSON object a line
    #[command(
        after_help = "Exit codes: 0 done, 2 it could not be done.\n\nExample:\n  runpackd store list --store decision-gate.db --tenant 1"
    )]
    List(ListArgs),
    /// Print a run as `scenario_start` gives it, canonical JSON
    #[command(
        after_help = "Exit codes: 0 done, 2 it could not be done.\n\nExample:\n  runpackd store get --store decision-gate.db --run run-1"
    )]
    Get(GetArgs),
    /// Export a run as a pack
    #[command(
        after_help = "Exit codes: 0 done, 2 it could not be done.\n\nExample:\n  runpackd store export --store decision-gate.db --run run-1 --generated-at logical:1 --out run-1"
    )]
    Export(Box<ExportArgs>),
    /// Check every run: each entry against its digest and the entry before, each head against its entries
    #[command(
        after_help = "Exit codes: 0 done, 1 the store is damaged, 2 it could not be done.\n\nExample:\n  runpackd store verify --store decision-gate.db"
    )]
    Verify(FileArgs),
    /// Remove closed runs, whole; a tombstone stays
    #[command(
        after_help = "Exit codes: 0 done, 2 it could not be done.\n\nExample:\n  runpackd store prune --store decision-gate.db --closed --remove"
    )]
    Prune(PruneArgs),
    /// Copy the store as it is at one moment, also while a daemon writes
    #[command(
        after_help = "Exit codes: 0 done, 2 it could not be done.\n\nExample:\n  runpackd store backup --store decision-gate.db --to copy.db"
    )]
    Backup(BackupArgs),
    /// Take in the runs and data shapes of a Decision Gate store (schema version 4), which stays as it is
    #[command(
        after_help = "Exit codes: 0 done, 2 it could not be done.\n\nExample:\n  runpackd store import --store decision-gate.db old.db"
    )]
    Import(ImportArgs),
    /// The scenarios that are kept
    Scenario(ScenarioArgs),
}

#[derive(Debug, Args)]
struct FileArgs {
    /// The store, as `path` of [run_state_store]
    #[arg(long, value_name = "FILE")]
    store: PathBuf,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Only runs of this tenant
    #[arg(long, value_name = "ID", value_parser = tenant)]
    tenant: Option<TenantId>,
    /// Only runs in this namespace
    #[arg(long, value_name = "ID", value_parser = namespace)]
    namespace: Option<NamespaceId>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The run
    #[arg(long, value_name = "ID")]
    run: String,
    /// Whose
    #[arg(long, value_name = "ID", value_parser = tenant, default_value = "1")]
    tenant: TenantId,
    /// In which namespace
    #[arg(long, value_name = "ID", value_parser = namespace, default_value = "1")]
    namespace: NamespaceId,
}

impl RunArgs {
    fn key(&self) -> RunKey {
        RunKey { tenant_id: self.tenant, namespace_id: self.namespace, run_id: RunId::from(self.run.as_str()) }
    }
}

#[derive(Debug, Args)]
struct GetArgs {
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
struct ExportArgs {
    #[command(flatten)]
    run: RunArgs,
    /// A directory that is absent, empty, or holds the same pack
    #[arg(long, value_name = "DIRECTORY")]
    out: PathBuf,
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
    /// The service's config: its anchors and posture go into the manifest
    #[arg(long, value_name = "decision-gate.toml")]
    config: Option<PathBuf>,
    /// Bytes of one artifact
    #[arg(long, value_name = "BYTES", value_parser = read::byte_count, default_value_t = ARTIFACT_BYTES_MAX)]
    max_artifact_bytes: u64,
}

#[derive(Debug, Args)]
struct PruneArgs {
    #[command(flatten)]
    file: FileArgs,
    /// A closed run to remove; may be given several times
    #[arg(long = "run", value_name = "ID")]
    runs: Vec<String>,
    /// All closed runs
    #[arg(long, conflicts_with = "runs", required_unless_present = "runs")]
    closed: bool,
    /// Whose
    #[arg(long, value_name = "ID", value_parser = tenant, default_value = "1")]
    tenant: TenantId,
    /// In which namespace
    #[arg(long, value_name = "ID", value_parser = namespace, default_value = "1")]
    namespace: NamespaceId,
    /// Give up deliveries that are open; without, runs that have some stay
    #[arg(long, requires = "remove")]
    give_up_deliveries: bool,
    /// Really remove them; without, only say which
    #[arg(long)]
    remove: bool,
}

#[derive(Debug, Args)]
struct BackupArgs {
    #[command(flatten)]
    file: FileArgs,
    /// A file that is not there yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

#[derive(Debug, Args)]
struct ImportArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The store of Decision Gate
    #[arg(value_name = "FILE")]
    from: PathBuf,
}

#[derive(Debug, Args)]
struct ScenarioArgs {
    #[command(subcommand)]
    command: ScenarioCommand,
}

#[derive(Debug, Subcommand)]
enum ScenarioCommand {
    /// List scenarios: one JSON object a line
    #[command(
        after_help = "Exit codes: 0 done, 2 it could not be done.\n\nExample:\n  runpackd store scenario list --store decision-gate.db"
    )]
    List(FileArgs),
    /// Keep a scenario, as `scenario_define` does
    #[command(
        after_help = "Exit codes: 0 done, 2 it could not be done.\n\nExample:\n  runpackd store scenario define --store decision-gate.db scenario.json"
    )]
    Define(DefineArgs),
    /// Free an id for another scenario; runs of this one take no more calls
    #[command(
        after_help = "Exit codes: 0 done, 2 it could not be done.\n\nExample:\n  runpackd store scenario retire --store decision-gate.db release"
    )]
    Retire(RetireArgs),
}

#[derive(Debug, Args)]
struct DefineArgs {
    #[command(flatten)]
    file: FileArgs,
    /// JSON or (by extension) RON
    #[arg(value_name = "FILE")]
    scenario: PathBuf,
}

#[derive(Debug, Args)]
struct RetireArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The scenario
    #[arg(value_name = "ID")]
    scenario: String,
    /// In which namespace
    #[arg(long, value_name = "ID", value_parser = namespace, default_value = "1")]
    namespace: NamespaceId,
}

fn tenant(text: &str) -> Result<TenantId, String> {
    text.parse().ok().and_then(TenantId::new).ok_or_else(|| "a tenant is a whole number from 1".to_owned())
}

fn namespace(text: &str) -> Result<NamespaceId, String> {
    text.parse().ok().and_then(NamespaceId::new).ok_or_else(|| "a namespace is a whole number from 1".to_owned())
}

/// Does what was asked; what to print, and whether the store is as it should be.
///
/// # Errors
/// A sentence that says what could not be done.
pub fn store(args: &StoreArgs) -> Result<(String, bool), String> {
    let text = match &args.command {
        StoreCommand::List(args) => list(args)?,
        StoreCommand::Get(args) => get(args)?,
        StoreCommand::Export(args) => export_run(args)?,
        StoreCommand::Verify(args) => return verify(args),
        StoreCommand::Prune(args) => prune(args)?,
        StoreCommand::Backup(args) => backup(args)?,
        StoreCommand::Import(args) => import_runs(args)?,
        StoreCommand::Scenario(args) => match &args.command {
            ScenarioCommand::List(args) => scenarios(args)?,
            ScenarioCommand::Define(args) => define(args)?,
            ScenarioCommand::Retire(args) => retire(args)?,
        },
    };
    Ok((text, true))
}

fn reading(path: &Path) -> Result<SqliteRuns, String> {
    SqliteRuns::open_reading(path).map_err(told)
}

/// To write, the store must be there: a mistyped path must not make one.
fn writing(path: &Path) -> Result<SqliteRuns, String> {
    drop(reading(path)?);
    SqliteRuns::open(path, &SqliteOptions::default()).map_err(told)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn heads(store: &dyn RunStore, mut each: impl FnMut(&Head) -> Result<(), String>) -> Result<(), String> {
    let mut after = None;
    loop {
        let page = store.list(after.as_ref(), LISTED_AT_ONCE).map_err(told)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(RunKey::of(last));
        page.iter().try_for_each(&mut each)?;
    }
}

fn list(args: &ListArgs) -> Result<String, String> {
    let store = reading(&args.file.store)?;
    let mut text = String::new();
    heads(&store, |head| {
        let wanted = args.tenant.is_none_or(|tenant| tenant == head.tenant_id)
            && args.namespace.is_none_or(|namespace| namespace == head.namespace_id);
        if wanted {
            let _ = writeln!(text, "{}", line(head));
        }
        Ok(())
    })?;
    Ok(text)
}

fn line(head: &Head) -> Value {
    let counts = &head.counts;
    json!({
        "tenant_id": head.tenant_id, "namespace_id": head.namespace_id, "run_id": head.run_id,
        "scenario_id": head.scenario_id, "spec_hash": head.spec_hash, "status": head.status,
        "current_stage_id": head.current_stage_id, "stage_entered_at": head.stage_entered_at,
        "triggers": counts.triggers, "gate_evals": counts.gate_evals, "decisions": counts.decisions,
        "packets": counts.packets, "submissions": counts.submissions, "tool_calls": counts.tool_calls,
    })
}

fn stored<'s>(store: &'s SqliteRuns, key: &RunKey) -> Result<StoredRun<'s>, String> {
    let missing =
        || format!("there is no run {} of tenant {} in namespace {}", key.run_id, key.tenant_id, key.namespace_id);
    StoredRun::open(store, key).map_err(told)?.ok_or_else(missing)
}

/// The wire's run state, member by member: a run may be larger than memory.
fn get(args: &GetArgs) -> Result<String, String> {
    let store = reading(&args.run.file.store)?;
    let run = stored(&store, &args.run.key())?;
    let head = run.head();
    let empty = serde_json::to_value(head.empty_state()).map_err(told)?;
    let Value::Object(members) = empty else { return Err("a run state is an object".to_owned()) };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut first = true;
    for (name, value) in &members {
        let log = match name.as_str() {
            "triggers" => Some(Log::Triggers),
            "gate_evals" => Some(Log::GateEvals),
            "decisions" => Some(Log::Decisions),
            "packets" => Some(Log::Packets),
            "submissions" => Some(Log::Submissions),
            "tool_calls" => Some(Log::ToolCalls),
            _ => None,
        };
        let before = if first { '{' } else { ',' };
        first = false;
        write!(out, "{before}\"{name}\":").map_err(told)?;
        match log {
            Some(log) => LogWriter::array(&mut out, |writer| run.write(log, writer)).map_err(told)?,
            None => {
                let text = runpack_core::canon::to_vec(value).map_err(told)?;
                out.write_all(&text).map_err(told)?;
            }
        }
    }
    writeln!(out, "}}").and_then(|()| out.flush()).map_err(told)?;
    Ok(String::new())
}

fn export_run(args: &ExportArgs) -> Result<String, String> {
    let store = reading(&args.run.file.store)?;
    let run = stored(&store, &args.run.key())?;
    let scenario = store.scenario_of(&run.head().spec_hash).map_err(told)?.ok_or_else(|| {
        format!(
            "the store does not hold scenario {} of this run\nhint: `runpackd store scenario define` keeps it",
            run.head().scenario_id
        )
    })?;
    let (anchor_policy, security, signing) = match &args.config {
        Some(path) => {
            let configuration = RunConfiguration::read(path).map_err(told)?;
            (configuration.settings.anchors, Some(configuration.security), configuration.signing)
        }
        None => Default::default(),
    };
    let exported = export(&ExportRequest {
        destination: Destination::Directory {
            target: &args.out,
            replace: if args.replace { Replace::Yes } else { Replace::No },
        },
        manifest_name: &args.manifest_name,
        scenario: &scenario,
        run: &run,
        options: &BuildOptions {
            generated_at: args.generated_at,
            anchor_policy,
            security,
            artifact_bytes_max: args.max_artifact_bytes,
        },
        include_verification: args.include_verification,
        attest: signing.as_ref().map(|signing| signing as _),
    })
    .map_err(|error| format!("the pack was not exported: {error}"))?;
    let how = if exported.published == Published::Identical { "the same pack was there" } else { "exported" };
    Ok(format!(
        "{}: {how}\n  root digest  {}\n  pack digest  {}\n",
        args.out.display(),
        exported.manifest.integrity.root_hash,
        exported.pack_digest
    ))
}

fn verify(args: &FileArgs) -> Result<(String, bool), String> {
    let report = reading(&args.store)?.verify().map_err(told)?;
    let mut text = String::new();
    for damage in &report.damage {
        let _ = writeln!(text, "damaged: {}: {}", damage.place, damage.problem);
    }
    let verdict = if report.damage.is_empty() { "as it was written" } else { "damaged" };
    let _ = writeln!(
        text,
        "{}: {verdict}\n  runs {}, entries {}, tombstones {}, scenarios {}, data shapes {}, deliveries {} ({} open)",
        args.store.display(),
        report.runs,
        report.entries,
        report.tombstones,
        report.scenarios,
        report.shapes,
        report.deliveries,
        report.undelivered
    );
    if !report.damage.is_empty() {
        text.push_str(
            "hint: a damaged run is not exported, the others can be; go back to a copy that \
             `runpackd store backup` made, and look at the disk\n",
        );
    }
    Ok((text, report.damage.is_empty()))
}

fn prune(args: &PruneArgs) -> Result<String, String> {
    use runpack_core::model::RunStatus;
    let store = if args.remove { writing(&args.file.store) } else { reading(&args.file.store) }?;
    let mut chosen = Vec::new();
    if args.closed {
        heads(&store, |head| {
            let here = head.tenant_id == args.tenant && head.namespace_id == args.namespace;
            if here && head.status != RunStatus::Active {
                chosen.push(head.clone());
            }
            Ok(())
        })?;
    }
    for run in &args.runs {
        let key = RunKey { tenant_id: args.tenant, namespace_id: args.namespace, run_id: run.as_str().into() };
        let head = store.head(&key).map_err(told)?.ok_or_else(|| format!("there is no run {run}"))?;
        if head.status == RunStatus::Active {
            return Err(format!("run {run} is still active, and only closed runs are pruned"));
        }
        chosen.push(head);
    }
    let mut text = String::new();
    for head in &chosen {
        let (run, entries) = (&head.run_id, head.counts.total());
        let key = RunKey::of(head);
        if args.remove {
            let given_up = if args.give_up_deliveries {
                store.abandon(&key, 0, "given up with `runpackd store prune`").map_err(told)?
            } else {
                0
            };
            match store.prune(&key) {
                Ok(_) if given_up > 0 => {
                    let _ = writeln!(text, "removed run {run}, {entries} entries, {given_up} deliveries given up");
                }
                Ok(_) => {
                    let _ = writeln!(text, "removed run {run}, {entries} entries");
                }
                // Of many, the others go all the same.
                Err(WriteError::Undelivered { open, .. }) if args.closed => {
                    let _ = writeln!(text, "run {run} stays: {open} deliveries are open");
                }
                Err(error) => return Err(told(error)),
            }
        } else {
            let _ = writeln!(text, "would remove run {run}, {entries} entries");
        }
    }
    if !args.remove && !chosen.is_empty() {
        let _ = writeln!(text, "nothing was removed\nhint: pass --remove, after a backup or an export");
    }
    Ok(text)
}

fn backup(args: &BackupArgs) -> Result<String, String> {
    reading(&args.file.store)?.backup(&args.to).map_err(told)?;
    let report = reading(&args.to)?.verify().map_err(told)?;
    let (runs, entries) = (report.runs, report.entries);
    if let Some(damage) = report.damage.first() {
        return Err(format!(
            "the copy was made, and the store it is of is damaged: {}: {}",
            damage.place, damage.problem
        ));
    }
    Ok(format!("{}: {runs} runs, {entries} entries, checked\n", args.to.display()))
}

fn import_runs(args: &ImportArgs) -> Result<String, String> {
    let store = SqliteRuns::open(&args.file.store, &SqliteOptions::default()).map_err(told)?;
    let imported = import(&args.from, &store).map_err(told)?;
    let mut text = String::new();
    for run in &imported.runs {
        let _ = writeln!(text, "imported run {run}");
    }
    for run in &imported.known {
        let _ = writeln!(text, "run {run} was here already");
    }
    for shape in &imported.shapes {
        let _ = writeln!(text, "imported data shape {shape}");
    }
    for shape in &imported.known_shapes {
        let _ = writeln!(text, "data shape {shape} was here already");
    }
    let _ =
        writeln!(text, "hint: a Decision Gate store holds no scenarios; `runpackd store scenario define` keeps them");
    Ok(text)
}

fn scenarios(args: &FileArgs) -> Result<String, String> {
    let mut text = String::new();
    for scenario in reading(&args.store)?.scenarios().map_err(told)? {
        let line = json!({
            "namespace_id": scenario.namespace_id, "scenario_id": scenario.scenario_id,
            "spec_hash": scenario.spec_hash, "retired": scenario.retired,
        });
        let _ = writeln!(text, "{line}");
    }
    Ok(text)
}

fn define(args: &DefineArgs) -> Result<String, String> {
    let scenario = Arc::new(read_scenario(&args.scenario, Limit::Fixed(INPUT_BYTES_MAX))?);
    let store = writing(&args.file.store)?;
    let id = &scenario.spec().scenario_id;
    match store.define(&scenario).map_err(told)? {
        Defined::New => Ok(format!("scenario {id} is kept, spec hash {}\n", scenario.digest())),
        Defined::Same => Ok(format!("scenario {id} was kept already\n")),
        Defined::Other(digest) => Err(format!(
            "scenario {id} is there with spec hash {digest}, and this one has {}\n\
             hint: `runpackd store scenario retire` frees an id",
            scenario.digest()
        )),
    }
}

fn retire(args: &RetireArgs) -> Result<String, String> {
    let id = ScenarioId::from(args.scenario.as_str());
    match writing(&args.file.store)?.retire(args.namespace, &id).map_err(told)? {
        true => Ok(format!("scenario {id} is retired; its id is free\n")),
        false => Err(format!("there is no scenario {id} in namespace {}", args.namespace)),
    }
}
