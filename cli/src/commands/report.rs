use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use runpack_core::canon::Digest;
use runpack_core::pack::{Expectations, Pack, VerifyOptions, verify};
use runpack_storage::packs::{Location, in_object_storage, is_web, shown};

use super::trust::TrustArgs;
use super::{COULD_NOT, Outcome, ReadArgs, exit_code, one_standard_input, packs_below, same_kind};
use crate::batch::{self, Job};
use crate::out;
use crate::page::{self, Fleet};
use crate::progress::ProgressArgs;

/// Make a page of HTML about a pack, or about many, to look at instead of reading
///
/// The page is one file that needs nothing else: verdict, identity, digests, a
/// drawing of the run, every gate with its evidence, every finding with its
/// place. Several packs make one page about all of them.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all passed, 1 one is refused, 2 could not tell or not be written; the page is made also for 1.\n\nExample:\n  runpack report ./pack --output report.html\n  runpack report --recursive ./packs --output fleet.html"
)]
pub(crate) struct ReportArgs {
    /// Packs: directories, manifests or sealed archives, here, in object storage or at https://; `-` is an archive on standard input
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
    /// Also every pack below a directory, or below a prefix of a bucket
    #[arg(long, value_name = "ROOT")]
    recursive: Vec<String>,
    /// Where to write [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The pack digest that one pack must have: of its manifest's bytes
    #[arg(long, value_name = "SHA256", value_parser = super::verify::digest)]
    expect_digest: Option<Digest>,
    #[command(flatten)]
    trust: TrustArgs,
    /// Decisions, gates or packs shown in full; what is wrong always is
    #[arg(long, value_name = "N", default_value_t = 500)]
    max_details: usize,
    /// Packs verified at a time [default: one for each processor]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    read: ReadArgs,
}

pub(crate) fn report(args: &ReportArgs) -> Outcome {
    args.progress.begin();
    one_standard_input(args.paths.iter().map(String::as_str))?;
    match (args.paths.as_slice(), args.recursive.as_slice()) {
        ([], []) => Err("there is no pack to report on\nhint: name one, or pass --recursive".to_owned()),
        ([path], []) => one(args, path),
        _ if args.expect_digest.is_some() => {
            Err("one digest cannot be expected of several packs\nhint: name one pack alone".to_owned())
        }
        _ => many(args),
    }
}

fn one(args: &ReportArgs, path: &str) -> Outcome {
    if let Some(output) = &args.output {
        outside(path, args.read.manifest.as_deref(), output)?;
    }
    let (reader, manifest_name) = args.read.open(path)?;
    let options = options(args)?;
    let report = verify(&*reader, &manifest_name, &options);
    let pack = Pack::read(&*reader, &manifest_name, args.read.max_artifact_bytes).map_err(|fault| fault.to_string());
    write(args.output.as_deref(), |to| {
        page::run(to, &report, pack.as_ref().map_err(String::as_str), args.max_details)
    })?;
    if let Some(output) = &args.output {
        let verdict = out::word(report.verdict);
        out::talk(format_args!("{}: written; {}: {verdict}", output.display(), out::printable(&shown(path))));
    }
    Ok(exit_code(report.verdict))
}

fn options(args: &ReportArgs) -> Result<VerifyOptions, String> {
    let expect = Expectations { digest: args.expect_digest, ..Expectations::default() };
    let expect = match args.trust.read()? {
        Some(trust) => expect.trusting(trust),
        None => expect,
    };
    Ok(VerifyOptions { expect, ..args.read.verify_options() })
}

fn many(args: &ReportArgs) -> Outcome {
    if args.trust.attaches() {
        return Err("an attestation of one pack is not one of several\nhint: name one pack alone".to_owned());
    }
    let options = options(args)?;
    let mut paths = args.paths.clone();
    for root in &args.recursive {
        paths.extend(packs_below(&args.read, root)?);
    }
    if let Some(output) = &args.output {
        for path in &paths {
            outside(path, args.read.manifest.as_deref(), output)?;
        }
    }
    let jobs: Vec<_> =
        paths.iter().map(|path| Job { path: path.clone(), options: options.clone(), pinned: true }).collect();
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let remote = paths.iter().any(|path| in_object_storage(path) || is_web(path));
    let workers = args.jobs.unwrap_or_else(|| if remote { super::verify::REMOTE_JOBS } else { processors() });
    // Below one root, packs are called by their way from there: the page is the same wherever the root is.
    let root = match (args.paths.as_slice(), args.recursive.as_slice()) {
        ([], [root]) => Some(shown(root).trim_end_matches('/').to_owned()),
        _ => None,
    };
    let called = |path: &str| {
        let below = root.as_deref().and_then(|root| path.strip_prefix(root));
        match below.map(|below| below.trim_start_matches('/')) {
            Some("") => ".".to_owned(),
            Some(below) => below.to_owned(),
            None => path.to_owned(),
        }
    };
    let mut fleet = Fleet::new(args.max_details);
    let summary = batch::run(&jobs, &args.read, workers, args.progress, |answer| {
        fleet.add(&called(&answer.path), &answer.report);
    });
    fleet.left = summary.left as u64;
    write(args.output.as_deref(), |to| fleet.write(to))?;
    if let Some(output) = &args.output {
        let (packs, refused) = (out::counted(jobs.len(), "pack"), summary.refused);
        out::talk(format_args!("{}: written; {packs}, {refused} refused", output.display()));
    }
    Ok(if summary.refused > 0 {
        ExitCode::FAILURE
    } else if summary.could_not_tell + summary.left > 0 || jobs.is_empty() {
        ExitCode::from(COULD_NOT)
    } else {
        ExitCode::SUCCESS
    })
}

/// A page inside the pack it is about would be a file that no manifest lists.
fn outside(path: &str, manifest: Option<&str>, output: &Path) -> Result<(), String> {
    let Ok(Location::Directory { directory, .. }) = Location::parse(path, manifest) else { return Ok(()) };
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (Ok(pack), Ok(parent)) = (fs::canonicalize(directory), fs::canonicalize(parent)) else { return Ok(()) };
    if parent.starts_with(&pack) {
        let (output, pack) = (output.display(), shown(path));
        return Err(format!(
            "`{output}` would be a file of the pack `{pack}` that its manifest does not list\nhint: write it elsewhere"
        ));
    }
    Ok(())
}

/// Writes a page beside its place and puts it there when it is whole.
fn write(output: Option<&Path>, page: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), String> {
    let Some(output) = output else {
        let stdout = io::stdout().lock();
        return match page(&mut BufWriter::new(stdout)) {
            // A reader that went away is no failure.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot write the page: {error}")),
            _ => Ok(()),
        };
    };
    same_kind(output, "page of this command", |beginning| beginning.starts_with(b"<!DOCTYPE html>"))?;
    let failed = |error: io::Error| format!("cannot write `{}`: {error}", output.display());
    // What is there and is no file (a pipe, a terminal) is written to as it is.
    if fs::metadata(output).is_ok_and(|there| !there.is_file()) {
        let file = fs::OpenOptions::new().write(true).open(output).map_err(failed)?;
        return page(&mut BufWriter::new(file)).map_err(failed);
    }
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut beside = tempfile::Builder::new();
    beside.prefix(".runpack-report-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // As any new file: what the umask leaves of it.
        beside.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = beside.tempfile_in(parent).map_err(failed)?;
    page(&mut BufWriter::new(file.as_file_mut())).map_err(failed)?;
    file.persist(output).map_err(|error| failed(error.error))?;
    Ok(())
}
