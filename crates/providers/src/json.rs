use std::io::{self, Read};
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use runpack_beneath::{Fault, Links, Root};
use runpack_core::canon::{self, size_within};
use runpack_core::engine::EVIDENCE_BYTES_MAX;
use runpack_core::model::{
    EvidenceContext, EvidenceError, EvidenceQuery, EvidenceRef, EvidenceResult, EvidenceValue, Lane,
};
use runpack_core::read::{self, Profile, Refusal};
use serde_json::{Value, json};
use serde_json_path::JsonPath;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::query::{self, BadQuery};
use crate::{AbsentPath, JsonConfig, Provider};

mod yaml;

/// Files read and searched at the same time. A search cannot be interrupted,
/// so this is also how many threads slow ones can hold.
const READERS_MAX: usize = 4;

/// Answers `path` from JSON and YAML files beneath one directory.
///
/// Links are not followed, and nothing of a file's content shows in an error:
/// errors are recorded and disclosed where values are not.
pub struct JsonProvider {
    files: Arc<Files>,
    readers: Arc<Semaphore>,
}

struct Files {
    root: Root,
    root_id: String,
    bytes_max: u64,
    allow_yaml: bool,
    absent_path: AbsentPath,
}

impl Provider for JsonProvider {
    fn query<'a>(&'a self, query: &'a EvidenceQuery, _: &'a EvidenceContext) -> BoxFuture<'a, EvidenceResult> {
        async move {
            if query.check_id.as_str() != "path" {
                return query::failed(BadQuery::Check(query.check_id.clone()));
            }
            let asked = match Asked::read(query.params.as_ref()) {
                Ok(asked) => asked,
                Err(error) => return EvidenceResult::failed(error),
            };
            let Ok(permit) = self.readers.clone().acquire_owned().await else {
                return query::failed("reading stopped");
            };
            let files = self.files.clone();
            let reading = spawn_blocking(move || {
                let _permit = permit;
                files.answer(&asked).unwrap_or_else(EvidenceResult::failed)
            });
            reading.await.unwrap_or_else(|_| query::failed("reading stopped"))
        }
        .boxed()
    }
}

impl JsonProvider {
    pub(crate) fn open(config: &JsonConfig) -> io::Result<Self> {
        let files = Files {
            root: Root::open(&config.root)?,
            root_id: config.root_id.clone(),
            bytes_max: config.max_bytes,
            allow_yaml: config.allow_yaml,
            absent_path: config.absent_path,
        };
        Ok(Self { files: Arc::new(files), readers: Arc::new(Semaphore::new(READERS_MAX)) })
    }
}

/// What a query asks for.
struct Asked {
    /// As the caller wrote it, for errors.
    file: String,
    /// Names joined by `/`, none of them empty, `.` or `..`.
    relative: String,
    is_yaml: bool,
    jsonpath: Option<(String, JsonPath)>,
}

impl Asked {
    fn read(params: Option<&Value>) -> Result<Self, EvidenceError> {
        let params = params.ok_or_else(|| error("params_missing", "params are missing", Value::Null))?;
        let invalid = |what: &str| error("params_invalid", what, Value::Null);
        let members = params.as_object().ok_or_else(|| invalid("params must be an object"))?;
        if members.keys().any(|name| name != "file" && name != "jsonpath") {
            return Err(invalid("params must be `file` and `jsonpath`"));
        }
        let file = match members.get("file") {
            Some(Value::String(file)) if !file.is_empty() => file,
            None | Some(Value::String(_)) => return Err(error("path_missing", "file is missing", Value::Null)),
            Some(_) => return Err(invalid("file must be a string")),
        };
        let jsonpath = match members.get("jsonpath") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some((text.clone(), search(text)?)),
            Some(_) => return Err(invalid("jsonpath must be a string")),
        };
        let relative = relative(file)?;
        let extension = relative.rsplit_once('.').map_or("", |(_, extension)| extension);
        let is_yaml = ["yaml", "yml"].iter().any(|yaml| extension.eq_ignore_ascii_case(yaml));
        Ok(Self { file: file.clone(), relative, is_yaml, jsonpath })
    }

    fn content_type(&self) -> &'static str {
        if self.is_yaml { "application/yaml" } else { "application/json" }
    }
}

fn error(code: &str, message: &str, details: Value) -> EvidenceError {
    EvidenceError { details: Some(details).filter(|it| !it.is_null()), ..EvidenceError::new(code, message) }
}

fn about(file: &str, code: &str, message: &str) -> EvidenceError {
    error(code, message, json!({"file": file}))
}

fn relative(file: &str) -> Result<String, EvidenceError> {
    let drive = matches!(file.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    if file.starts_with(['/', '\\']) || drive {
        return Err(about(file, "absolute_path_forbidden", "file must be relative to the root"));
    }
    let names: Vec<_> = file.split('/').filter(|name| !["", "."].contains(name)).collect();
    if names.contains(&"..") {
        return Err(about(file, "path_outside_root", "file must not leave the root"));
    }
    if names.is_empty() || file.ends_with('/') {
        return Err(about(file, "path_invalid", "file is not a path"));
    }
    Ok(names.join("/"))
}

/// Bytes of a JSONPath.
const JSONPATH_BYTES_MAX: usize = 1_024;

/// Reads a JSONPath (RFC 9535 without `match` and `search`, which would compile
/// a pattern for every node), if it is short and does not ask for too much.
fn search(text: &str) -> Result<JsonPath, EvidenceError> {
    if text.len() > JSONPATH_BYTES_MAX {
        let details = json!({"max_bytes": JSONPATH_BYTES_MAX});
        return Err(error("invalid_jsonpath", "jsonpath is too long", details));
    }
    let invalid = |reason: &str| error("invalid_jsonpath", reason, json!({"jsonpath": text}));
    if asks_too_much(text) {
        return Err(invalid("jsonpath asks for too much at once"));
    }
    JsonPath::parse(text).map_err(|_| invalid("jsonpath is not as in rfc 9535"))
}

/// Whether a search could take time and memory out of proportion to the file.
/// Each descent, and each selector beyond the first of a segment, multiplies
/// both. So does a filter that searches the document again for every node it
/// looks at; within filters `$` may only name single places.
fn asks_too_much(text: &str) -> bool {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut descents, mut filters, mut commas) = (0, 0, 0);
    let mut quote = None;
    // The depth at which a filter began to name a place in the document.
    let mut absolute: Option<usize> = None;
    let mut previous = ' ';
    let mut characters = text.chars().skip(1);
    while let Some(character) = characters.next() {
        if let Some(open) = quote {
            match character {
                '\\' => drop(characters.next()),
                _ if character == open => quote = None,
                _ => {}
            }
            continue;
        }
        let descends = character == '.' && previous == '.';
        match character {
            '\'' | '"' => quote = Some(character),
            '$' => absolute = Some(depth),
            '(' | '[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            ')' | ']' => {
                depth = depth.saturating_sub(1);
                absolute = absolute.filter(|&began| depth >= began);
            }
            '=' | '<' | '>' | '!' | '&' | '|' => absolute = None,
            _ => {}
        }
        if absolute.is_some() && (descends || "*:?".contains(character)) {
            return true;
        }
        descents += usize::from(descends);
        filters += usize::from(character == '?');
        commas += usize::from(character == ',');
        previous = character;
    }
    deepest > 8 || descents > 2 || filters > 4 || commas > 16
}

impl Files {
    fn answer(&self, asked: &Asked) -> Result<EvidenceResult, EvidenceError> {
        if asked.is_yaml && !self.allow_yaml {
            return Err(about(&asked.file, "yaml_disabled", "yaml files are not allowed"));
        }
        let bytes = self.bytes(asked)?;
        let document = if asked.is_yaml { self.yaml(asked, &bytes)? } else { self.json(asked, &bytes)? };
        let anchor = canon::to_vec(&json!({"path": asked.relative, "root_id": self.root_id}));
        let anchor = anchor.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let result = EvidenceResult {
            evidence_anchor: query::anchor("file_path_rooted", anchor),
            evidence_ref: Some(EvidenceRef { uri: format!("dg+file://{}/{}", self.root_id, asked.relative).into() }),
            ..EvidenceResult::empty(Lane::Verified)
        };
        let Some((text, path)) = &asked.jsonpath else {
            return Ok(with(result, document, asked));
        };
        match &path.query(&document).all()[..] {
            [] if self.absent_path == AbsentPath::NoValue => Ok(result),
            [] => {
                let details = json!({"file": asked.file, "jsonpath": text});
                let error = error("jsonpath_not_found", "jsonpath selects nothing", details);
                Ok(EvidenceResult { error: Some(error), ..result })
            }
            [one] => Ok(with(result, (*one).clone(), asked)),
            several => Ok(with(result, copied(several, asked)?, asked)),
        }
    }

    fn bytes(&self, asked: &Asked) -> Result<Vec<u8>, EvidenceError> {
        let fault = |code, message| about(&asked.file, code, message);
        let too_large = || {
            let details = json!({"file": asked.file, "max_bytes": self.bytes_max});
            error("size_limit_exceeded", "file exceeds size limit", details)
        };
        let (file, size) = self.root.file(&asked.relative, Links::Any).map_err(|cause| match cause {
            Fault::NotFound => fault("file_not_found", "file not found"),
            Fault::NotAFile(what) if what.contains("link") => {
                fault("path_outside_root", "file must be reached without links")
            }
            Fault::UnsafePath(_) => fault("path_invalid", "file is not a path"),
            Fault::NotAFile(_) => fault("path_invalid", "not a regular file"),
            _ => fault("file_open_failed", "file could not be opened"),
        })?;
        if size > self.bytes_max {
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(size as usize);
        // One byte more than allowed, since a file can grow while it is read.
        file.take(self.bytes_max.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|_| fault("file_read_failed", "file could not be read"))?;
        if bytes.len() as u64 > self.bytes_max { Err(too_large()) } else { Ok(bytes) }
    }

    fn json(&self, asked: &Asked, bytes: &[u8]) -> Result<Value, EvidenceError> {
        // A large integer elsewhere in the file is nobody's business; one that is
        // selected is refused when the evidence is admitted.
        read::value(bytes, Profile::Pack).map_err(|refusal| {
            let reason = match refusal {
                Refusal::NotUtf8 { .. }
                | Refusal::ByteOrderMark
                | Refusal::Syntax { .. }
                | Refusal::Trailing { .. } => refusal.to_string(),
                Refusal::Duplicate { .. } => "duplicate member".to_owned(),
                Refusal::TooDeep { limit, .. } => format!("more than {limit} levels of arrays and objects"),
                _ => "number out of range".to_owned(),
            };
            error("invalid_json", "file is not valid json", json!({"file": asked.file, "reason": reason}))
        })
    }

    fn yaml(&self, asked: &Asked, bytes: &[u8]) -> Result<Value, EvidenceError> {
        yaml::read(bytes).map_err(|place| {
            let mut details = json!({"file": asked.file});
            if let Some((line, column)) = place {
                details["line"] = line.into();
                details["column"] = column.into();
            }
            error("invalid_yaml", "file is not valid yaml", details)
        })
    }
}

fn with(result: EvidenceResult, value: Value, asked: &Asked) -> EvidenceResult {
    EvidenceResult {
        value: Some(EvidenceValue::Json(value)),
        content_type: Some(asked.content_type().into()),
        ..result
    }
}

/// The matches as an array, if they are not too much for evidence: a path can
/// select one subtree many times.
fn copied(matches: &[&Value], asked: &Asked) -> Result<Value, EvidenceError> {
    let mut left = EVIDENCE_BYTES_MAX;
    for value in matches {
        let size = size_within(value, left).ok().and_then(Result::ok);
        left = size.and_then(|size| left.checked_sub(size + 1)).ok_or_else(|| {
            let details = json!({"file": asked.file, "max_bytes": EVIDENCE_BYTES_MAX});
            error("size_limit_exceeded", "selected values exceed size limit", details)
        })?;
    }
    Ok(matches.iter().map(|value| (*value).clone()).collect())
}

#[cfg(test)]
mod tests;
