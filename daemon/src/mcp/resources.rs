//! What clients may read besides calling tools. Reading records nothing.

use std::collections::HashMap;
use std::path::Path;

use rmcp::model::{
    ArgumentInfo, CacheScope, ErrorData, ReadResourceResult, Resource, ResourceContents, ResourceTemplate,
};
use runpack_core::model::{NamespaceId, RunId, TenantId};
use runpack_core::pack::Manifest;
use runpack_core::pack::layout::MANIFEST_NAME;
use runpack_core::read;
use runpack_storage::packs::{DirectoryReader, manifest_bytes};
use runpack_storage::runs::{RunKey, RunStore};
use serde_json::json;
use tokio::runtime::Handle;

use crate::access::Caller;
use crate::docs::Doc;
use crate::gatekeeper::GateError;
use crate::service::{NotSeen, Service};
use crate::tools::ToolError;

const JSON: &str = "application/json";
const MARKDOWN: &str = "text/markdown";
const RUN: &str = "run://{tenant_id}/{namespace_id}/{run_id}/";
const RUN_MANIFEST: &str = "run://{tenant_id}/{namespace_id}/{run_id}/manifest";
const PACK: &str = "pack://";
const PACK_MANIFEST: &str = "pack://{+directory}";
const RUN_STATE: &str = "run://{tenant_id}/{namespace_id}/{run_id}/state";
/// Values a completion may offer.
const COMPLETIONS_MAX: usize = 100;
/// How long clients may keep what comes with the program.
const TTL_MS: u64 = 3_600_000;

/// What comes with the program: its name below `decision-gate://contract/`,
/// what it is, and its text.
const SCHEMAS: &[(&str, &str, &str, &str)] = &[
    (
        "decision-gate://contract/schemas/tools.json",
        "tools.json",
        "JSON Schemas of what tools have in common: scenario, run, decision, evidence and the rest.",
        include_str!("../../../schemas/tools/types.json"),
    ),
    (
        "decision-gate://contract/schemas/report.schema.json",
        "report.schema.json",
        "JSON Schema of the report that `runpack verify --format json` writes.",
        include_str!("../../../schemas/report.schema.json"),
    ),
];

pub(super) fn list(service: &Service) -> Vec<Resource> {
    let listed = |(uri, name, description, text): &(&str, &str, &str, &str)| {
        let size = u64::try_from(text.len()).unwrap_or(u64::MAX);
        Resource::new(*uri, *name).with_description(*description).with_mime_type(JSON).with_size(size)
    };
    let document = |doc: &Doc| {
        let size = u64::try_from(doc.text.len()).unwrap_or(u64::MAX);
        Resource::new(&doc.uri, &doc.id).with_title(&doc.title).with_mime_type(MARKDOWN).with_size(size)
    };
    docs(service).iter().map(document).chain(SCHEMAS.iter().map(listed)).collect()
}

fn docs(service: &Service) -> &[Doc] {
    if service.docs_config.resources { service.docs.docs() } else { &[] }
}

pub(super) fn templates() -> Vec<ResourceTemplate> {
    let state = ResourceTemplate::new(RUN_STATE, "run-state")
        .with_title("State of a run")
        .with_description("Where a run stands and what was decided last. Unlike scenario_status it records nothing.")
        .with_mime_type(JSON);
    let manifest = ResourceTemplate::new(RUN_MANIFEST, "run-manifest")
        .with_title("Manifest of a run's pack")
        .with_description("What the run's pack in object storage holds: digests of all its files, and their root.")
        .with_mime_type(JSON);
    let pack = ResourceTemplate::new(PACK_MANIFEST, "pack-manifest")
        .with_title("Manifest of a pack")
        .with_description("The same of a pack in a directory that runpack_verify may read, by its absolute path.")
        .with_mime_type(JSON);
    vec![state, manifest, pack]
}

/// Whether the caller may look there. Waits, so it is for threads that may.
fn sees(service: &Service, caller: &Caller, key: &RunKey) -> Result<(), NotSeen> {
    Handle::current().block_on(service.sees(caller, Some(key.tenant_id), key.namespace_id, None))
}

/// What is not for the caller is told as what is not there.
fn told(not_seen: NotSeen, missing: impl Fn() -> ErrorData) -> ErrorData {
    match not_seen {
        NotSeen::Denied(_) => missing(),
        not_seen @ NotSeen::Unknown(_) => ErrorData::internal_error(ToolError::from(not_seen).to_string(), None),
    }
}

pub(super) fn read(service: &Service, caller: &Caller, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    if let Some((_, _, _, text)) = SCHEMAS.iter().find(|(known, ..)| *known == uri) {
        let contents = ResourceContents::text(*text, uri).with_mime_type(JSON);
        let result = ReadResourceResult::new(vec![contents]);
        return Ok(result.with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Public));
    }
    if let Some(doc) = docs(service).iter().find(|doc| doc.uri == uri) {
        let contents = ResourceContents::text(&doc.text, uri).with_mime_type(MARKDOWN);
        let result = ReadResourceResult::new(vec![contents]);
        return Ok(result.with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Private));
    }
    let missing = |why: String| ErrorData::resource_not_found(why, Some(json!({"uri": uri})));
    if let Some(directory) = uri.strip_prefix(PACK).and_then(decoded) {
        let text = pack_manifest(service, caller, Path::new(&directory))?;
        return Ok(changing(text, uri));
    }
    let (key, what) = run_key(uri).ok_or_else(|| missing(format!("unknown resource uri: {uri}")))?;
    // Somebody else's run is not told from one that is not there.
    let unknown = || missing(format!("run not found: {}", key.run_id));
    sees(service, caller, &key).map_err(|not_seen| told(not_seen, unknown))?;
    let text = match what {
        OfRun::State => {
            let status = service.gatekeeper.standing(&key).map_err(|error| match error {
                GateError::RunNotFound(_) => unknown(),
                error => ErrorData::internal_error(error.to_string(), None),
            })?;
            serde_json::to_string(&status).map_err(|error| ErrorData::internal_error(error.to_string(), None))?
        }
        OfRun::Manifest => {
            let head = service.gatekeeper.runs.head(&key);
            let head = head.map_err(|error| ErrorData::internal_error(error.to_string(), None))?.ok_or_else(unknown)?;
            let hint = "packs go to directories here\nhint: read pack:// and the absolute path of one";
            let store = service.packs.as_ref().ok_or_else(|| missing(hint.to_owned()))?;
            let found = store.manifest(&(&head).into()).map_err(|error| ErrorData::internal_error(error, None))?;
            let bytes = found.ok_or_else(|| missing(format!("no pack of the run: {}", key.run_id)))?;
            read::recorded::<Manifest>(&bytes).map_err(|error| missing(error.to_string()))?;
            String::from_utf8(bytes).map_err(|error| missing(error.to_string()))?
        }
    };
    Ok(changing(text, uri))
}

/// JSON that may be different the next time: a run goes on.
fn changing(text: String, uri: &str) -> ReadResourceResult {
    let contents = ResourceContents::text(text, uri).with_mime_type(JSON);
    ReadResourceResult::new(vec![contents]).with_ttl_ms(0).with_cache_scope(CacheScope::Private)
}

/// The manifest of the pack in a directory, if the caller may read there and
/// act for the tenant whose run it is.
fn pack_manifest(service: &Service, caller: &Caller, directory: &Path) -> Result<String, ErrorData> {
    let missing = |why: String| {
        let uri = format!("{PACK}{}", directory.display());
        ErrorData::resource_not_found(why, Some(json!({"uri": uri})))
    };
    service.roots.admit(caller, directory).map_err(|error| missing(error.to_string()))?;
    let none = || missing(format!("no pack in `{}`", directory.display()));
    let reader = DirectoryReader::open(directory).map_err(|_| none())?;
    let bytes = manifest_bytes(&reader, MANIFEST_NAME).map_err(|fault| missing(fault.to_string()))?.ok_or_else(none)?;
    let manifest: Manifest = read::recorded(&bytes).map_err(|_| none())?;
    let of = RunKey { tenant_id: manifest.tenant_id, namespace_id: manifest.namespace_id, run_id: manifest.run_id };
    sees(service, caller, &of).map_err(|not_seen| told(not_seen, none))?;
    String::from_utf8(bytes).map_err(|_| none())
}

/// What is asked of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OfRun {
    State,
    Manifest,
}

fn run_key(uri: &str) -> Option<(RunKey, OfRun)> {
    let (tenant, rest) = uri.strip_prefix("run://")?.split_once('/')?;
    let (namespace, rest) = rest.split_once('/')?;
    let (run_id, what) = rest.rsplit_once('/')?;
    let what = match what {
        "state" => OfRun::State,
        "manifest" => OfRun::Manifest,
        _ => return None,
    };
    let key = RunKey {
        tenant_id: TenantId::new(tenant.parse().ok()?)?,
        namespace_id: NamespaceId::new(namespace.parse().ok()?)?,
        run_id: RunId::from(decoded(run_id)?.as_str()),
    };
    Some((key, what))
}

/// Undoes percent-encoding, which clients put into templates (RFC 6570).
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let pair = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(pair, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Values that begin as the argument does, of runs the caller may see.
pub(super) fn complete(
    service: &Service,
    caller: &Caller,
    template: &str,
    argument: &ArgumentInfo,
    known: &HashMap<String, String>,
) -> Vec<String> {
    // The authority is asked about one place that somebody names, not about all
    // there are.
    if !template.starts_with(RUN) || (service.authority.is_some() && argument.name != "run_id") {
        return Vec::new();
    }
    let number = |name: &str| known.get(name).and_then(|value| value.parse::<u64>().ok());
    let runs = service.gatekeeper.runs.as_ref();
    let begins = argument.value.as_str();
    let sees = |key: &RunKey| sees(service, caller, key).is_ok();
    let mut values = Vec::new();
    match argument.name.as_str() {
        "tenant_id" => {
            let mut at = from(1, 1, "");
            while let Some(key) = at.and_then(|at| next(runs, &at)).filter(|_| values.len() < COMPLETIONS_MAX) {
                let text = key.tenant_id.to_string();
                if text.starts_with(begins) && sees(&key) {
                    values.push(text);
                }
                at = key.tenant_id.get().checked_add(1).and_then(|tenant| from(tenant, 1, ""));
            }
        }
        "namespace_id" => {
            let Some(tenant) = number("tenant_id") else { return values };
            let mut at = from(tenant, 1, "");
            let same = |key: &RunKey| key.tenant_id.get() == tenant;
            while let Some(key) =
                at.and_then(|at| next(runs, &at)).filter(same).filter(|_| values.len() < COMPLETIONS_MAX)
            {
                let text = key.namespace_id.to_string();
                if text.starts_with(begins) && sees(&key) {
                    values.push(text);
                }
                at = key.namespace_id.get().checked_add(1).and_then(|namespace| from(tenant, namespace, ""));
            }
        }
        "run_id" => {
            let at = number("tenant_id").zip(number("namespace_id"));
            let Some(at) = at.and_then(|(tenant, namespace)| from(tenant, namespace, begins)) else { return values };
            if !sees(&at) {
                return values;
            }
            values.extend(matches!(runs.head(&at), Ok(Some(_))).then(|| begins.to_owned()));
            let more = runs.list(Some(&at), COMPLETIONS_MAX - values.len()).unwrap_or_default();
            let same =
                more.iter().filter(|head| head.tenant_id == at.tenant_id && head.namespace_id == at.namespace_id);
            let ids = same.map(|head| head.run_id.as_str()).take_while(|id| id.starts_with(begins));
            values.extend(ids.map(str::to_owned));
        }
        _ => {}
    }
    values
}

fn from(tenant: u64, namespace: u64, run_id: &str) -> Option<RunKey> {
    let tenant_id = TenantId::new(tenant)?;
    Some(RunKey { tenant_id, namespace_id: NamespaceId::new(namespace)?, run_id: RunId::from(run_id) })
}

/// The first run after `at`. A store that cannot be read has no suggestions.
fn next(runs: &dyn RunStore, at: &RunKey) -> Option<RunKey> {
    runs.list(Some(at), 1).ok()?.first().map(RunKey::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_found_by_its_uri_and_nothing_else_is() {
        let (key, what) = run_key("run://2/7/r%2F%201/state").unwrap();
        assert_eq!(what, OfRun::State);
        assert_eq!(run_key("run://2/7/r/manifest").unwrap().1, OfRun::Manifest);
        assert_eq!((key.tenant_id.get(), key.namespace_id.get(), key.run_id.as_str()), (2, 7, "r/ 1"));
        for other in ["run://0/7/r/state", "run://2/7/r", "run://2/r/state", "run://2/7/%f/state", "runs://2/7/r/state"]
        {
            assert!(run_key(other).is_none(), "{other}");
        }
    }
}
