//! The commands of `runpack`. One file each: its arguments, one call inward,
//! one rendering.

pub(crate) mod authoring;
pub(crate) mod build;
pub(crate) mod diff;
pub(crate) mod explain;
#[cfg(feature = "object-store")]
pub(crate) mod gc;
pub(crate) mod generate;
pub(crate) mod keygen;
#[cfg(feature = "object-store")]
pub(crate) mod ls;
#[cfg(feature = "object-store")]
pub(crate) mod mirror;
pub(crate) mod pin;
pub(crate) mod pull;
#[cfg(feature = "object-store")]
pub(crate) mod push;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod seal;
pub(crate) mod show;
pub(crate) mod sign;
pub(crate) mod trust;
pub(crate) mod verify;

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::builder::TypedValueParser;
use clap::{Arg, Args, Command};
use runpack_beneath::read_within;
use runpack_core::engine::Scenario;
use runpack_core::model::ScenarioSpec;
use runpack_core::pack::layout::ARTIFACT_BYTES_MAX;
use runpack_core::pack::{Pack, PackReader, Report, Verdict, VerifyOptions, verify};
use runpack_core::read::{self, Admit, Profile, Unknown};
use runpack_storage::packs::{
    Links, Location, LocationError, OpenFault, ReadOptions, Stores, directory, in_object_storage, is_web, shown,
};
use serde::de::DeserializeOwned;

use crate::batch;

/// Could not tell, or could not do.
pub(crate) const COULD_NOT: u8 = 2;

/// A command's own failure: a sentence for stderr, exit code 2.
pub(crate) type Outcome = Result<ExitCode, String>;

/// How packs are read.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReadArgs {
    /// The manifest's name, where a directory is named
    #[arg(long, value_name = "NAME")]
    pub(crate) manifest: Option<String>,
    /// Bytes of one artifact: a number, or one with KiB, MiB or GiB
    #[arg(long, value_name = "BYTES", value_parser = read::byte_count, default_value_t = ARTIFACT_BYTES_MAX)]
    pub(crate) max_artifact_bytes: u64,
    /// Accept files that have other names, as snapshot tools make them
    #[arg(long)]
    pub(crate) allow_hard_links: bool,
    #[command(flatten)]
    stores: StoreArgs,
}

/// How object storage is reached.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    /// How object storage is reached; `help=` lists what can be said
    #[arg(long, value_name = "KEY=VALUE", value_parser = StoreOption)]
    store_option: Vec<(String, String)>,
    #[arg(skip)]
    stores: OnceLock<Arc<Stores>>,
}

impl StoreArgs {
    /// The clients of object storage, made once.
    ///
    /// # Errors
    /// An option that is none.
    pub(crate) fn stores(&self) -> Result<&Stores, String> {
        if let Some(stores) = self.stores.get() {
            return Ok(stores);
        }
        let mut stores = Stores::default();
        for (key, value) in &self.store_option {
            stores.set(key, value).map_err(|error| error.to_string())?;
        }
        Ok(self.stores.get_or_init(|| Arc::new(stores)))
    }
}

/// `KEY=VALUE`; `help=` is answered as `--help` is.
#[derive(Clone)]
struct StoreOption;

impl TypedValueParser for StoreOption {
    type Value = (String, String);

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, text: &OsStr) -> Result<Self::Value, clap::Error> {
        let split = |text: &str| -> Result<(String, String), &'static str> {
            let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, or `help=`")?;
            Ok((key.to_owned(), value.to_owned()))
        };
        let option = split.parse_ref(command, arg, text)?;
        if option.0 == "help" {
            let help = Command::new("help").override_help(format!("These can be said:\n{}", Stores::help()));
            help.try_get_matches_from(["help", "--help"])?;
        }
        Ok(option)
    }
}

impl ReadArgs {
    /// A pack, opened, and its manifest's name.
    ///
    /// # Errors
    /// The place cannot be opened at all.
    pub(crate) fn open(&self, path: &str) -> Result<(Box<dyn PackReader>, String), String> {
        let location = Location::parse(path, self.manifest.as_deref()).map_err(|error| error.to_string())?;
        let links = if self.allow_hard_links { Links::Any } else { Links::Single };
        let options = ReadOptions { links, artifact_bytes_max: self.max_artifact_bytes, stores: self.stores()? };
        let reader = location.open(&options).map_err(|error| match error {
            LocationError::Open(OpenFault::NotFound { .. }) => format!("{error}\n{RELATIVE}"),
            error => error.to_string(),
        })?;
        Ok((reader, location.manifest_name().to_owned()))
    }

    /// The clients of object storage, made once.
    ///
    /// # Errors
    /// An option that is none.
    pub(crate) fn stores(&self) -> Result<&Stores, String> {
        self.stores.stores()
    }

    /// Everything is looked at, and nothing in particular expected.
    pub(crate) fn verify_options(&self) -> VerifyOptions {
        VerifyOptions { artifact_bytes_max: self.max_artifact_bytes, ..VerifyOptions::default() }
    }

    /// Verifies a pack with everything, and reads its records if they can be.
    ///
    /// # Errors
    /// The place cannot be opened at all.
    pub(crate) fn read(&self, path: &str) -> Result<(Report, Result<Pack, String>), String> {
        let (reader, manifest_name) = self.open(path)?;
        let report = verify(&*reader, &manifest_name, &self.verify_options());
        let pack = Pack::read(&*reader, &manifest_name, self.max_artifact_bytes).map_err(|fault| fault.to_string());
        Ok((report, pack))
    }
}

/// Every pack below a place, by what names it.
pub(crate) fn packs_below(read: &ReadArgs, root: &str) -> Result<Vec<String>, String> {
    if in_object_storage(root) {
        return read.stores()?.packs_below(root).map_err(|error| error.to_string());
    }
    if is_web(root) {
        let shown = shown(root);
        return Err(format!(
            "`{shown}` is one archive, and nothing is below it\nhint: name it alone, to `verify` or `pull`"
        ));
    }
    let root = directory(root).map_err(|error| error.to_string())?;
    if !root.exists() {
        return Err(format!("`{}` not found\n{RELATIVE}", root.display()));
    }
    batch::packs_below(&root, read.manifest.as_deref())
}

/// Standard input can be read once.
pub(crate) fn one_standard_input<'a>(paths: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    match paths.into_iter().filter(|path| *path == "-").count() {
        0 | 1 => Ok(()),
        _ => Err("`-` is named twice, and standard input can be read once\nhint: a directory of that name is `./-`"
            .to_owned()),
    }
}

/// 0 yes, 1 no, 2 could not tell.
pub(crate) fn exit_code(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Consistent | Verdict::Pinned | Verdict::Signed => ExitCode::SUCCESS,
        Verdict::Refused => ExitCode::FAILURE,
        Verdict::CouldNotTell => ExitCode::from(COULD_NOT),
    }
}

/// How an authored file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// JSON
    Json,
    /// RON in the shape of JSON
    Ron,
}

impl Form {
    /// By extension; JSON unless it says `.ron`.
    pub(crate) fn of(path: &Path) -> Self {
        if path.extension().is_some_and(|extension| extension == "ron") { Self::Ron } else { Self::Json }
    }
}

/// Bytes of one input file, unless raised with `--max-input-bytes`. A recorded
/// state may be larger than a scenario.
pub(crate) const INPUT_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// What to do about a file that is not there.
const RELATIVE: &str = "hint: a path is taken from the working directory; `ls` says what is there";

/// Refuses to write over a file that is not of the kind that would be written,
/// as its first bytes tell; an empty one is nobody's.
pub(crate) fn same_kind(output: &Path, kind: &str, is: impl FnOnce(&[u8]) -> bool) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot write `{}`: {error}", output.display());
    // A pipe is not opened: that would wait for somebody who writes into it.
    match std::fs::metadata(output) {
        Ok(there) if there.is_file() => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    let mut beginning = Vec::new();
    std::fs::File::open(output).map_err(failed)?.take(100).read_to_end(&mut beginning).map_err(failed)?;
    if beginning.is_empty() || is(&beginning) {
        return Ok(());
    }
    let shown = output.display();
    Err(format!(
        "`{shown}` is there and is no {kind}, so it is not written over\nhint: choose another name, or remove it"
    ))
}

/// How much of an input file is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// So many bytes, and no argument says otherwise.
    Fixed(u64),
    /// What `--max-input-bytes` says.
    Flag(u64),
}

pub(crate) fn read_input(path: &Path, limit: Limit) -> Result<Vec<u8>, String> {
    let (Limit::Fixed(bytes) | Limit::Flag(bytes)) = limit;
    read_within(path, bytes).map_err(|error| {
        let hint = match (error.kind(), limit) {
            (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, _) => format!("\n{RELATIVE}"),
            (io::ErrorKind::PermissionDenied, _) => "\nhint: whoever runs this must be allowed to read it".to_owned(),
            (io::ErrorKind::IsADirectory, _) => "\nhint: name a file in it".to_owned(),
            (io::ErrorKind::FileTooLarge, Limit::Flag(_)) => {
                "\nhint: raise the limit with --max-input-bytes".to_owned()
            }
            _ => String::new(),
        };
        format!("cannot read `{}`: {error}{hint}", path.display())
    })
}

/// Reads a JSON document that will be recorded.
pub(crate) fn read_json<T: DeserializeOwned + Admit>(path: &Path, limit: Limit) -> Result<T, String> {
    let bytes = read_input(path, limit)?;
    read::ingest(&bytes, Unknown::Refuse).map_err(|refusal| format!("`{}`: {refusal}", path.display()))
}

/// Reads a scenario to be used.
pub(crate) fn read_scenario(path: &Path, limit: Limit) -> Result<Scenario, String> {
    let bytes = read_input(path, limit)?;
    parse_scenario(&bytes, Form::of(path)).map_err(|problem| format!("`{}`: {problem}", path.display()))
}

/// Checks a scenario; the error says what makes no sense, and where.
pub(crate) fn parse_scenario(bytes: &[u8], form: Form) -> Result<Scenario, String> {
    let spec: Result<ScenarioSpec, _> = match form {
        Form::Json => read::ingest(bytes, Unknown::Refuse),
        Form::Ron => read::ron_value(bytes, Profile::Ingest).and_then(|tree| read::ingest_value(tree, Unknown::Refuse)),
    };
    let spec = spec.map_err(|refusal| refusal.to_string())?;
    Scenario::new(spec).map_err(|fault| format!("invalid scenario spec: {fault}"))
}
