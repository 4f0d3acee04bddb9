use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use runpack_core::canon::Digest;
use runpack_core::engine::{Policy, PolicyTable};
use runpack_core::model::{AnchorPolicy, Lane, NamespaceId, RunId, ScenarioId, TenantId};
use runpack_core::pack::{Checks, Expectations, VerifyOptions};

use runpack_storage::packs::{in_object_storage, is_web, shown};

use super::trust::TrustArgs;
use super::{
    COULD_NOT, INPUT_BYTES_MAX, Limit, Outcome, ReadArgs, one_standard_input, packs_below, read_input, read_json,
};
use crate::batch::{self, Answer, Job};
use crate::formats;
use crate::out::{self, Paint};
use crate::progress::ProgressArgs;

/// Say whether packs agree with themselves, whether their decisions come out again, and who signed them
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all do, 1 one is refused, 2 none is refused, but one could not be checked.\n\nExample:\n  runpack verify ./pack\n  runpack verify --recursive ./packs --format sarif > findings.sarif\n  runpack verify ./pack --trusted-key release=release.pub"
)]
pub(crate) struct VerifyArgs {
    /// Packs: directories, manifests or sealed archives, here, in object storage or at https://; `-` is an archive on standard input
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
    /// Also every pack below a directory, or below a prefix of a bucket
    #[arg(long, value_name = "ROOT")]
    recursive: Vec<String>,
    /// Also every path in a file, one a line; `-` is standard input
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Packs verified at a time [default: one for each processor]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// How deep to look
    #[arg(long, value_enum, default_value_t = Depth::Replay)]
    checks: Depth,
    /// How to answer
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    expect: ExpectArgs,
    #[command(flatten)]
    trust: TrustArgs,
}

/// What is known of a pack from elsewhere.
#[derive(Debug, Args)]
struct ExpectArgs {
    /// The root digest it must have
    #[arg(long, value_name = "SHA256", value_parser = digest)]
    expect_root: Option<Digest>,
    /// The pack digest it must have: of its manifest's bytes
    #[arg(long, value_name = "SHA256", value_parser = digest)]
    expect_digest: Option<Digest>,
    /// Pack digests by path, as `runpack pin` writes them
    #[arg(long, value_name = "FILE")]
    expect_file: Option<PathBuf>,
    /// The anchor policy it must state
    #[arg(long, value_name = "FILE")]
    expect_anchor_policy: Option<PathBuf>,
    /// Whose run it must be
    #[arg(long, value_name = "ID", value_parser = tenant)]
    expect_tenant: Option<TenantId>,
    /// The namespace it must be in
    #[arg(long, value_name = "ID", value_parser = namespace)]
    expect_namespace: Option<NamespaceId>,
    /// The scenario it must follow
    #[arg(long, value_name = "ID")]
    expect_scenario: Option<String>,
    /// The run it must be
    #[arg(long, value_name = "ID")]
    expect_run: Option<String>,
    /// The least lane that may have counted
    #[arg(long, value_enum, value_name = "LANE")]
    expect_min_lane: Option<LaneName>,
    /// Who must have been asked about disclosures: the `policy` table of the daemon's config, as JSON
    #[arg(long, value_name = "FILE")]
    expect_policy: Option<PathBuf>,
}

/// 64 hexadecimal digits, with or without the name of the hash before them.
pub(super) fn digest(text: &str) -> Result<Digest, String> {
    text.strip_prefix("sha256:").unwrap_or(text).parse().map_err(|error| format!("{error}"))
}

pub(super) fn tenant(text: &str) -> Result<TenantId, String> {
    text.parse().ok().and_then(TenantId::new).ok_or_else(|| "a tenant is a number from 1".to_owned())
}

pub(super) fn namespace(text: &str) -> Result<NamespaceId, String> {
    text.parse().ok().and_then(NamespaceId::new).ok_or_else(|| "a namespace is a number from 1".to_owned())
}

/// Packs read from object storage at a time.
pub(super) const REMOTE_JOBS: usize = 16;

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Depth {
    /// Only that every file is there and has its digest
    Digests,
    /// Also form, records, and what records say of each other
    All,
    /// Also that every decision comes out again
    Replay,
}

impl Depth {
    pub(crate) fn checks(self) -> Checks {
        match self {
            Self::Digests => Checks::Digests,
            Self::All => Checks::All,
            Self::Replay => Checks::Replay,
        }
    }
}

/// How to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Human,
    /// Canonical JSON, one line for each pack
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// JUnit XML
    Junit,
    /// Annotations of GitHub Actions
    Github,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LaneName {
    Verified,
    Asserted,
}

pub(crate) fn verify(args: &VerifyArgs) -> Outcome {
    args.progress.begin();
    let mut jobs = Vec::new();
    let lock = args.expect.expect_file.as_deref().map(read_lock).transpose()?;
    let paths = all_paths(args)?;
    if paths.is_empty() {
        return Err(match args.recursive.first() {
            Some(root) => format!("there is no pack below `{}`", shown(root)),
            None => "there is no pack to verify\nhint: name one, or pass --recursive or --from-file".to_owned(),
        });
    }
    if paths.len() > 1 && (args.expect.expect_digest.is_some() || args.expect.expect_root.is_some()) {
        return Err("one digest cannot be expected of several packs\nhint: use --expect-file".to_owned());
    }
    if paths.len() > 1 && args.trust.attaches() {
        return Err(
            "one attestation cannot speak of several packs\nhint: put each beside its pack's manifest".to_owned()
        );
    }
    let from_file = args.from_file.as_deref().and_then(Path::to_str);
    one_standard_input(paths.iter().map(String::as_str).chain(from_file))?;
    let options = options(args)?;
    for path in &paths {
        let mut options = options.clone();
        let mut pinned = true;
        if let Some(lock) = &lock {
            options.expect.digest = lock.get(&*shown(path)).copied();
            pinned = options.expect.digest.is_some();
        }
        jobs.push(Job { path: path.clone(), options, pinned });
    }
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    // Whoever reads a bucket waits more than it works.
    let remote = paths.iter().any(|path| in_object_storage(path) || is_web(path));
    let workers = args.jobs.unwrap_or_else(|| if remote { REMOTE_JOBS } else { processors() });
    let paint = Paint::for_stdout();
    let one = jobs.len() == 1;
    let mut answers = Vec::new();
    let interrupted = batch::run(&jobs, &args.read, workers, args.progress, |answer| match args.format {
        Format::Human => out::say(&human(&paint, &answer)),
        Format::Json => out::say(&formats::json_line(&answer, !one)),
        Format::Github => out::say(&formats::github(&answer)),
        Format::Sarif | Format::Junit => answers.push(answer.clone()),
    });
    match args.format {
        Format::Sarif => out::say(&formats::sarif(&answers)),
        Format::Junit => out::say(&formats::junit(&answers)),
        Format::Human | Format::Json | Format::Github => {}
    }
    let mut summary = interrupted;
    if let Some(lock) = &lock {
        for path in lock.keys().filter(|key| !paths.iter().any(|path| shown(path) == **key)) {
            out::talk(format_args!("`{path}` is expected and was not verified"));
            summary.could_not_tell += 1;
        }
    }
    if !one || summary.left > 0 {
        let text = summary.to_string();
        if args.format == Format::Human { out::say(&(text + "\n")) } else { out::talk(text) }
    }
    Ok(if summary.refused > 0 {
        ExitCode::FAILURE
    } else if summary.could_not_tell + summary.left > 0 {
        ExitCode::from(COULD_NOT)
    } else {
        ExitCode::SUCCESS
    })
}

fn human(paint: &Paint, answer: &Answer) -> String {
    match &answer.report {
        Ok(report) => out::report(paint, &answer.path, report),
        Err(error) => out::cannot(paint, &answer.path, error),
    }
}

fn all_paths(args: &VerifyArgs) -> Result<Vec<String>, String> {
    let mut paths = args.paths.clone();
    if let Some(file) = &args.from_file {
        let bytes = if file.as_os_str() == "-" {
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes);
            read.map_err(|error| format!("cannot read standard input: {error}"))?;
            if bytes.len() as u64 > INPUT_BYTES_MAX {
                return Err(format!(
                    "standard input has more than {INPUT_BYTES_MAX} bytes of paths; verify them in parts"
                ));
            }
            bytes
        } else {
            read_input(file, Limit::Fixed(INPUT_BYTES_MAX))?
        };
        let text = String::from_utf8(bytes).map_err(|_| format!("`{}` is not UTF-8", file.display()))?;
        paths.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned));
    }
    for root in &args.recursive {
        paths.extend(packs_below(&args.read, root)?);
    }
    Ok(paths)
}

fn options(args: &VerifyArgs) -> Result<VerifyOptions, String> {
    let expect = &args.expect;
    if args.checks != Depth::Replay {
        let unseen = [
            ("--expect-min-lane", expect.expect_min_lane.is_some()),
            ("--expect-policy", expect.expect_policy.is_some()),
        ];
        if let Some((flag, _)) = unseen.iter().find(|(_, given)| *given) {
            return Err(format!("{flag} is only seen by deciding again\nhint: leave out --checks"));
        }
    }
    let policy = |path: &PathBuf| {
        let table: PolicyTable = read_json(path, Limit::Fixed(INPUT_BYTES_MAX))?;
        Policy::try_from(table).map_err(|fault| format!("`{}`: {fault}", path.display()))
    };
    let anchors = expect.expect_anchor_policy.as_deref();
    let anchor_policy =
        anchors.map(|path| read_json::<AnchorPolicy>(path, Limit::Fixed(INPUT_BYTES_MAX))).transpose()?;
    let trust = args.trust.read()?;
    if let Some(trust) = trust.as_ref().filter(|_| args.checks != Depth::Replay)
        && trust.policy.require.min_lane.is_some()
    {
        return Err("the policy's min_lane is only seen by deciding again\nhint: leave out --checks".to_owned());
    }
    if args.checks == Depth::Digests && trust.as_ref().is_some_and(|trust| trust.policy.asks_for_evidence()) {
        return Err(
            "the policy's rules for evidence are only seen by reading it\nhint: pass --checks all, or leave it out"
                .to_owned(),
        );
    }
    let expect = Expectations {
        root: expect.expect_root,
        digest: expect.expect_digest,
        tenant: expect.expect_tenant,
        namespace: expect.expect_namespace,
        scenario: expect.expect_scenario.as_deref().map(ScenarioId::from),
        run: expect.expect_run.as_deref().map(RunId::from),
        anchor_policy,
        min_lane: expect.expect_min_lane.map(|lane| match lane {
            LaneName::Verified => Lane::Verified,
            LaneName::Asserted => Lane::Asserted,
        }),
        policy: expect.expect_policy.as_ref().map(policy).transpose()?,
        ..Expectations::default()
    };
    Ok(VerifyOptions {
        artifact_bytes_max: args.read.max_artifact_bytes,
        checks: args.checks.checks(),
        expect: match trust {
            Some(trust) => expect.trusting(trust),
            None => expect,
        },
    })
}

/// Reads what `runpack pin` wrote.
fn read_lock(file: &Path) -> Result<BTreeMap<String, Digest>, String> {
    let place = |line: usize, problem: &str| format!("`{}`: line {line}: {problem}", file.display());
    let bytes = read_input(file, Limit::Fixed(INPUT_BYTES_MAX))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("`{}` is not UTF-8", file.display()))?;
    let mut lock = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let (hex, path) =
            line.split_once("  ").ok_or_else(|| place(index + 1, "expected a digest, two spaces and a path"))?;
        let digest = digest(hex).map_err(|problem| place(index + 1, &problem))?;
        if lock.insert(path.to_owned(), digest).is_some_and(|other| other != digest) {
            return Err(place(index + 1, "two digests for one path"));
        }
    }
    Ok(lock)
}
