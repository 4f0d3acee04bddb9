use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgGroup, Args};
use runpack_core::engine::Scenario;
use runpack_core::model::{
    DecisionOutcome, GateEvalRecord, NextRequest, RunConfig, RunStatus, StatusRequest, SubmitRequest, Timestamp,
    TriState, TriggerEvent,
};
use runpack_core::pack::BuildOptions;
use runpack_core::pack::layout::MANIFEST_NAME;
use runpack_core::read::{self, Profile, Unknown};
use runpack_storage::packs::object::PublishOptions;
use runpack_storage::packs::{
    BucketStore, Destination, ExportRequest, Replace, Stores, directory, export, in_object_storage,
};
use runpack_storage::runs::sqlite::{SqliteOptions, SqliteRuns};
use runpack_storage::runs::{Defined, MemoryRuns, RunKey, RunStore, ScenarioStore, WriteError};
use serde_json::Value;

use super::{INPUT_BYTES_MAX, Limit, read_input, read_scenario};
use crate::access::Authority;
use crate::config::RunConfiguration;
use crate::gatekeeper::{Answer, GateError, Gatekeeper, Queues};
use crate::service::admit;

/// Run a scenario once and export the run as a pack: no server, no database
///
/// Times are `logical:1`, `unix_millis:1710000000000` or RFC 3339; no clock is
/// ever read.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("played").required(true).args(["triggers", "calls"]),
    after_help = "Exit codes: 0 the run completed, 1 it was held or failed, 2 it could not run.\n\nExample:\n  runpackd run --scenario scenario.json --run-config run.json --triggers triggers.jsonl --out pack"
)]
pub struct RunArgs {
    /// The scenario, JSON or (by extension) RON
    #[arg(long, value_name = "FILE")]
    pub scenario: PathBuf,
    /// Tenant, namespace, run and targets
    #[arg(long, value_name = "FILE")]
    pub run_config: PathBuf,
    /// One trigger event per line
    #[arg(long, value_name = "FILE.jsonl")]
    pub triggers: Option<PathBuf>,
    /// One call per line: {"call":"next|trigger|submit|status","request":{…}}
    #[arg(long, value_name = "FILE.jsonl")]
    pub calls: Option<PathBuf>,
    /// Where the pack goes: a directory that is absent, empty, or holds the same pack; or s3://BUCKET/PREFIX, az://,
    /// gs:// [default: `[runpack_storage]` of the config]
    #[arg(long, value_name = "LOCATION")]
    pub out: Option<PathBuf>,
    /// Replace another pack in the directory
    #[arg(long)]
    pub replace: bool,
    /// Issue the first stage's packets under an `init` trigger
    #[arg(long)]
    pub issue_entry_packets: bool,
    /// When the run starts [default: the first call's time]
    #[arg(long, value_name = "TIME")]
    pub started_at: Option<Timestamp>,
    /// When the pack is made [default: the last call's time]
    #[arg(long, value_name = "TIME")]
    pub generated_at: Option<Timestamp>,
    /// Enclose the report of the builder's own verification
    #[arg(long)]
    pub include_verification: bool,
    /// Providers, policy, trust and anchors [default: the time provider alone]
    #[arg(long, value_name = "decision-gate.toml")]
    pub config: Option<PathBuf>,
    /// Keep the run and its scenario in this run store too [default: in memory, for this run only]
    #[arg(long, value_name = "FILE")]
    pub store: Option<PathBuf>,
    /// The manifest's name
    #[arg(long, value_name = "NAME", default_value = MANIFEST_NAME)]
    pub manifest_name: String,
    /// How long one trigger waits for its evidence
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 30_000)]
    pub gather_timeout_ms: u64,
    /// Bytes of the scenario, the run config, and each line of calls
    #[arg(long, value_name = "BYTES", value_parser = read::byte_count, default_value_t = INPUT_BYTES_MAX)]
    pub max_input_bytes: u64,
    /// Bytes of one artifact of the pack [default: max_artifact_bytes under `[runpack]` of the config, else 16777216]
    #[arg(long, value_name = "BYTES", value_parser = read::byte_count)]
    pub max_artifact_bytes: Option<u64>,
}

/// The store, with the scenario in it: without, nobody could export the run.
fn kept(path: &Path, scenario: &Scenario) -> Result<SqliteRuns, String> {
    let store = SqliteRuns::open(path, &SqliteOptions::default()).map_err(|error| error.to_string())?;
    match store.define(&Arc::new(scenario.clone())).map_err(|error| error.to_string())? {
        Defined::New | Defined::Same => Ok(store),
        Defined::Other(digest) => Err(format!(
            "the store has another scenario {}, with spec hash {digest}\n\
             hint: `runpackd store scenario retire` frees an id",
            scenario.spec().scenario_id
        )),
    }
}

/// Where the pack goes.
enum KeptBy {
    Directory(PathBuf),
    Store(BucketStore),
}

fn destination(args: &RunArgs, storage: Option<BucketStore>) -> Result<KeptBy, String> {
    match (&args.out, storage) {
        (Some(out), _) => match out.to_str().filter(|out| in_object_storage(out)) {
            Some(url) => {
                let (bucket, url) = Stores::default().bucket(url).map_err(|error| error.to_string())?;
                Ok(KeptBy::Store(BucketStore::new(bucket, url.prefix, PublishOptions::default())))
            }
            None => match out.to_str() {
                Some(out) => Ok(KeptBy::Directory(directory(out).map_err(|error| error.to_string())?)),
                None => Ok(KeptBy::Directory(out.clone())),
            },
        },
        (None, Some(store)) => Ok(KeptBy::Store(store)),
        (None, None) => {
            Err("nothing says where the pack goes\nhint: pass --out, or configure [runpack_storage]".to_owned())
        }
    }
}

/// What a run came to.
pub struct Outcome {
    /// What to print.
    pub text: String,
    /// Things to say beside it.
    pub warnings: Vec<String>,
    /// How the run stands.
    pub status: RunStatus,
}

/// Runs and exports.
///
/// # Errors
/// A sentence that says what could not be done; nothing was exported.
pub async fn run(args: &RunArgs) -> Result<Outcome, String> {
    let scenario = read_scenario(&args.scenario, Limit::Flag(args.max_input_bytes))?;
    let run_config: RunConfig = read_json(&args.run_config, Limit::Flag(args.max_input_bytes))?;
    let configuration = match &args.config {
        Some(path) => RunConfiguration::read(path),
        None => RunConfiguration::embedded(),
    }
    .map_err(|error| error.to_string())?;
    check_providers(&scenario, &configuration)?;
    if let Some(authority) = &configuration.authority {
        let admitted = Authority::new(authority.clone())?.admits(run_config.namespace_id, None).await;
        admitted.map_err(|refused| format!("the run cannot start: {refused}"))?;
    }
    let RunConfiguration {
        settings, policy, registry, security, storage, signing, artifact_bytes_max, warnings, ..
    } = configuration;
    let kept_by = destination(args, storage)?;
    let anchor_policy = settings.anchors.clone();
    let gather_deadline = Duration::from_millis(args.gather_timeout_ms);
    let runs: Arc<dyn RunStore> = match &args.store {
        Some(path) => Arc::new(kept(path, &scenario)?),
        None => Arc::new(MemoryRuns::default()),
    };
    if args.store.is_some() {
        Calls::check(args)?;
    }
    let queues = Arc::new(Queues::default());
    let gatekeeper = Gatekeeper { runs, registry, settings, policy, gather_deadline, queues };

    let mut lines = Calls::open(args)?;
    let mut pending = lines.next_call()?;
    let first = pending.as_ref().map(|(_, call)| call.time());
    let started_at =
        args.started_at.or(first).ok_or("there are no calls, so --started-at must say when the run starts")?;
    gatekeeper.start(&scenario, &run_config, started_at, args.issue_entry_packets).map_err(|error| {
        let known = matches!(&error, GateError::Store(WriteError::Exists(_)));
        let hint = if known {
            "\nhint: the store has it from before: `runpackd store export` makes its pack, another run_id begins anew"
        } else {
            ""
        };
        format!("the run cannot start: {error}{hint}")
    })?;

    let mut story = Story::default();
    let mut last_time = started_at;
    while let Some((line, call)) = pending {
        last_time = call.time();
        let told = play(&gatekeeper, &scenario, &call).await;
        story.add(line, &call, told.map_err(|error| format!("{}: line {line}: {error}", lines.shown))?);
        pending = lines.next_call()?;
    }

    let key = RunKey {
        tenant_id: run_config.tenant_id,
        namespace_id: run_config.namespace_id,
        run_id: run_config.run_id.clone(),
    };
    let logs = gatekeeper.run(&key).map_err(|error| error.to_string())?;
    let head = logs.head();
    let options = BuildOptions {
        generated_at: args.generated_at.unwrap_or(last_time),
        anchor_policy,
        security: Some(security),
        artifact_bytes_max: args.max_artifact_bytes.unwrap_or(artifact_bytes_max),
    };
    let replace = if args.replace { Replace::Yes } else { Replace::No };
    let destination = match &kept_by {
        KeptBy::Directory(target) => Destination::Directory { target, replace },
        KeptBy::Store(store) => Destination::Store(store),
    };
    let request = ExportRequest {
        destination,
        manifest_name: &args.manifest_name,
        scenario: &scenario,
        run: &logs,
        options: &options,
        include_verification: args.include_verification,
        attest: signing.as_ref().map(|signing| signing as _),
    };
    // Exporting waits for disks and networks, which an async thread must not.
    let exported = std::thread::scope(|scope| scope.spawn(|| export(&request)).join());
    let exported = exported.map_err(|_| "the export came to an unforeseen end".to_owned())?;
    let exported = exported.map_err(|error| format!("the pack was not exported: {error}"))?;

    let mut text = story.tell();
    let _ = writeln!(text, "run {} is {} in stage {}", head.run_id, head.status, head.current_stage_id);
    let place = exported.storage_uri.map_or_else(|| args.out.clone().unwrap_or_default(), PathBuf::from);
    let _ = writeln!(text, "pack {}", place.display());
    let _ = writeln!(text, "  root digest  {}", exported.manifest.integrity.root_hash);
    let _ = writeln!(text, "  pack digest  {}", exported.pack_digest);
    Ok(Outcome { text, warnings, status: head.status })
}

fn read_json<T: serde::de::DeserializeOwned + read::Admit>(path: &Path, limit: Limit) -> Result<T, String> {
    let bytes = read_input(path, limit)?;
    read::ingest(&bytes, Unknown::Refuse).map_err(|refusal| format!("`{}`: {refusal}", path.display()))
}

/// A one-shot run can say at once what a service only finds at the first call.
fn check_providers(scenario: &Scenario, configuration: &RunConfiguration) -> Result<(), String> {
    let missing = scenario
        .spec()
        .conditions
        .iter()
        .find(|condition| !configuration.registry.contains(&condition.query.provider_id));
    match missing {
        None => admit(&configuration.contracts, configuration.validation.as_ref(), scenario.spec()),
        Some(condition) => Err(format!(
            "condition `{}` asks provider `{}`, which is not configured\n\
             hint: name it under [[providers]] in a config and pass --config",
            condition.condition_id, condition.query.provider_id
        )),
    }
}

enum Call {
    Next(NextRequest),
    Trigger(TriggerEvent),
    Submit(SubmitRequest),
    Status(StatusRequest),
}

impl Call {
    fn time(&self) -> Timestamp {
        match self {
            Self::Next(request) => request.time,
            Self::Trigger(event) => event.time,
            Self::Submit(request) => request.submitted_at,
            Self::Status(request) => request.requested_at,
        }
    }
}

/// Reads calls line by line, so that a long file costs no memory.
struct Calls {
    lines: BufReader<std::fs::File>,
    shown: String,
    line: u64,
    limit: u64,
    triggers_only: bool,
}

impl Calls {
    fn open(args: &RunArgs) -> Result<Self, String> {
        let triggers_only = args.triggers.is_some();
        let path = args.triggers.as_ref().or(args.calls.as_ref()).ok_or("pass --triggers or --calls")?;
        let shown = format!("`{}`", path.display());
        let file = std::fs::File::open(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
        Ok(Self { lines: BufReader::new(file), shown, line: 0, limit: args.max_input_bytes, triggers_only })
    }

    /// Reads all lines, where they can be read twice: a store keeps what the
    /// calls before a wrong one left, and the run could not begin again.
    fn check(args: &RunArgs) -> Result<(), String> {
        let mut lines = Self::open(args)?;
        if lines.lines.get_ref().metadata().is_ok_and(|file| file.is_file()) {
            while lines.next_call()?.is_some() {}
        }
        Ok(())
    }

    fn next_call(&mut self) -> Result<Option<(u64, Call)>, String> {
        loop {
            let mut text = Vec::new();
            let read = (&mut self.lines).take(self.limit.saturating_add(1)).read_until(b'\n', &mut text);
            let count = read.map_err(|error| format!("cannot read {}: {error}", self.shown))?;
            if count == 0 {
                return Ok(None);
            }
            self.line += 1;
            let place = |problem: &dyn std::fmt::Display| {
                // Within a call there is one line only, and it has a number already.
                let problem = problem.to_string().replace(" at line 1 column ", " at column ");
                format!("{}: line {}: {problem}", self.shown, self.line)
            };
            if count as u64 > self.limit {
                let problem = format!("more than {} bytes\nhint: raise the limit with --max-input-bytes", self.limit);
                return Err(place(&problem));
            }
            if text.trim_ascii().is_empty() {
                continue;
            }
            let call = if self.triggers_only {
                read::ingest(&text, Unknown::Refuse).map(Call::Trigger).map_err(|refusal| place(&refusal))?
            } else {
                parse_call(&text).map_err(|problem| place(&problem))?
            };
            return Ok(Some((self.line, call)));
        }
    }
}

fn parse_call(text: &[u8]) -> Result<Call, String> {
    let tree = read::value(text, Profile::Ingest).map_err(|refusal| refusal.to_string())?;
    let Value::Object(mut members) = tree else { return Err("a call is an object".to_owned()) };
    let (Some(Value::String(call)), Some(request)) = (members.remove("call"), members.remove("request")) else {
        return Err("a call has the members `call` (a string) and `request`".to_owned());
    };
    if let Some(extra) = members.keys().next() {
        return Err(format!("unknown member `{extra}`"));
    }
    let refuse = |refusal: read::Refusal| format!("request of `{call}`: {refusal}");
    match call.as_str() {
        "next" => read::ingest_value(request, Unknown::Refuse).map(Call::Next).map_err(refuse),
        "trigger" => read::ingest_value(request, Unknown::Refuse).map(Call::Trigger).map_err(refuse),
        "submit" => read::ingest_value(request, Unknown::Refuse).map(Call::Submit).map_err(refuse),
        "status" => read::ingest_value(request, Unknown::Refuse).map(Call::Status).map_err(refuse),
        other => Err(format!("unknown call `{other}`, expected `next`, `trigger`, `submit` or `status`")),
    }
}

enum Told {
    Decided(Box<Answer>),
    Said(String),
}

async fn play(gatekeeper: &Gatekeeper, scenario: &Scenario, call: &Call) -> Result<Told, GateError> {
    match call {
        Call::Next(request) => gatekeeper.next(scenario, request).await.map(Box::new).map(Told::Decided),
        Call::Trigger(event) => gatekeeper.trigger(scenario, event).await.map(Box::new).map(Told::Decided),
        Call::Submit(request) => match gatekeeper.submit(scenario, request).await {
            Ok(_) => Ok(Told::Said(format!("submission {} taken", request.submission_id))),
            // The failed call is in the log, so the run goes on.
            Err(error @ GateError::SubmissionConflict(_)) => Ok(Told::Said(error.to_string())),
            Err(error) => Err(error),
        },
        Call::Status(request) => {
            gatekeeper.status(scenario, request).await.map(|status| Told::Said(format!("status {}", status.status)))
        }
    }
}

/// Calls told one by one; beyond these only counted.
const TOLD_MAX: u64 = 20;

/// What to print about the calls: each while they are few, and why the last
/// decision came out as it did, gate by gate.
#[derive(Default)]
struct Story {
    text: String,
    calls: u64,
    last: Option<Box<Answer>>,
}

impl Story {
    fn add(&mut self, line: u64, call: &Call, told: Told) {
        self.calls += 1;
        let text = match told {
            Told::Decided(answer) => {
                let decision = &answer.result.decision;
                let text = format!(
                    "{} decided {} at {} in stage {}: {}{}",
                    decision.decision_id,
                    decision.trigger_id,
                    decision.decided_at,
                    decision.stage_id,
                    outcome(&decision.outcome),
                    if decision.decided_at == call.time() { "" } else { " (before; this call repeats it)" }
                );
                self.last = Some(answer);
                text
            }
            Told::Said(text) => format!("{text} at {}", call.time()),
        };
        if self.calls <= TOLD_MAX {
            let _ = writeln!(self.text, "line {line}: {text}");
        }
    }

    fn tell(mut self) -> String {
        if self.calls > TOLD_MAX {
            let _ = writeln!(self.text, "and {} more calls", self.calls - TOLD_MAX);
        }
        if let Some(answer) = self.last {
            let decision = &answer.result.decision;
            let _ = writeln!(self.text, "\n{}: {}", decision.decision_id, outcome(&decision.outcome));
            if answer.gate_evals.is_empty() {
                let _ = writeln!(self.text, "  no gate was asked");
            }
            answer.gate_evals.iter().for_each(|record| explain(&mut self.text, record));
        }
        self.text
    }
}

fn outcome(outcome: &DecisionOutcome) -> String {
    match outcome {
        DecisionOutcome::Start { stage_id } => format!("start in {stage_id}"),
        DecisionOutcome::Complete { stage_id } => format!("complete in {stage_id}"),
        DecisionOutcome::Advance { from_stage, to_stage, timeout } => {
            format!("advance from {from_stage} to {to_stage}{}", if *timeout { " by timeout" } else { "" })
        }
        DecisionOutcome::Hold { summary } => {
            let gates: Vec<_> = summary.unmet_gates.iter().map(ToString::to_string).collect();
            format!("hold, unmet: {}", gates.join(", "))
        }
        DecisionOutcome::Fail { reason } => format!("fail: {reason}"),
    }
}

fn explain(text: &mut String, record: &GateEvalRecord) {
    let _ = writeln!(text, "  gate {} is {}", record.evaluation.gate_id, record.evaluation.status);
    for evidence in &record.evidence {
        let why = match (&evidence.result.error, &evidence.result.value) {
            (Some(error), _) => format!("{}: {}", error.code, error.message),
            (None, Some(value)) => shorten(&serde_json::to_string(value).unwrap_or_default()),
            (None, None) => "no value".to_owned(),
        };
        let mark = if evidence.status == TriState::True { "+" } else { "-" };
        let _ = writeln!(text, "    {mark} {} is {}: {why}", evidence.condition_id, evidence.status);
    }
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 100 {
        text.to_owned()
    } else {
        format!("{}…", text.chars().take(99).collect::<String>())
    }
}
