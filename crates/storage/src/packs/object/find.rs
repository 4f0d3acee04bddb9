//! Packs in a bucket, and what exports that were cut off left there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStoreExt};
use runpack_core::pack::layout::{ARTIFACT_DIRECTORY, MANIFEST_NAME};

use super::bucket::{Bucket, ObjectFault, wait};
use super::reader::relative;

/// Objects below one prefix that are looked through.
const OBJECTS_MAX: usize = 10_000_000;

/// A pack, or artifacts without a manifest.
#[derive(Debug, Clone)]
pub struct FoundPack {
    /// The prefix that is its directory.
    pub directory: Path,
    /// Everything below it.
    pub objects: Vec<ObjectMeta>,
    /// Whether a manifest is there.
    pub manifest: bool,
}

/// Every pack below `prefix`, by key; also artifacts that have no manifest, of
/// which nothing can be told. One list, whatever their number.
///
/// # Errors
/// The store cannot be asked.
pub fn packs(bucket: &Bucket, prefix: &Path) -> Result<Vec<FoundPack>, ObjectFault> {
    let listed = wait(bucket.list(Some(prefix), OBJECTS_MAX)).map_err(|error| bucket.fault(prefix, error))?;
    if listed.len() > OBJECTS_MAX {
        let source = format!("more than {OBJECTS_MAX} objects; name a longer prefix").into();
        return Err(bucket.fault(prefix, Error::NotSupported { source }));
    }
    // The outermost directory with a manifest or with artifacts is the pack.
    let mut roots = BTreeSet::new();
    for meta in &listed {
        let Some(path) = relative(prefix, &meta.location) else { continue };
        if path.starts_with(".runpack/") {
            continue;
        }
        let mut parts: Vec<_> = path.split('/').collect();
        if parts.pop() == Some(MANIFEST_NAME) {
            roots.insert(parts.join("/"));
        }
        if let Some(at) = path.split('/').position(|part| part == ARTIFACT_DIRECTORY) {
            roots.insert(path.split('/').take(at).collect::<Vec<_>>().join("/"));
        }
    }
    let mut found: BTreeMap<String, FoundPack> = BTreeMap::new();
    for meta in listed {
        let Some(path) = relative(prefix, &meta.location) else { continue };
        let parts: Vec<_> = path.split('/').collect();
        let outermost = (0..parts.len()).map(|count| parts[..count].join("/")).find(|root| roots.contains(root));
        let Some(root) = outermost else { continue };
        let directory =
            root.split('/').filter(|part| !part.is_empty()).fold(prefix.clone(), |key, part| key.join(part));
        let pack = found.entry(root).or_insert_with(|| FoundPack { directory, objects: Vec::new(), manifest: false });
        pack.manifest |= relative(&pack.directory, &meta.location).as_deref() == Some(MANIFEST_NAME);
        pack.objects.push(meta);
    }
    Ok(found.into_values().collect())
}

/// Content without a manifest that nobody touched for a while.
#[derive(Debug, Clone)]
pub struct Orphan {
    /// The prefix.
    pub directory: Path,
    /// What lies there.
    pub objects: Vec<ObjectMeta>,
    /// Bytes of it.
    pub bytes: u64,
}

/// What exports that were cut off left below `prefix`, if its newest object is
/// older than `age` at `now`. An export that goes on is younger.
///
/// # Errors
/// The store cannot be asked.
pub fn orphans(bucket: &Bucket, prefix: &Path, age: Duration, now: SystemTime) -> Result<Vec<Orphan>, ObjectFault> {
    let left = packs(bucket, prefix)?.into_iter().filter(|pack| !pack.manifest);
    let old = left.filter(|pack| {
        let newest = pack.objects.iter().map(|meta| SystemTime::from(meta.last_modified)).max();
        newest.is_some_and(|newest| now.duration_since(newest).is_ok_and(|since| since >= age))
    });
    Ok(old
        .map(|pack| {
            let bytes = pack.objects.iter().map(|meta| meta.size).sum();
            Orphan { directory: pack.directory, objects: pack.objects, bytes }
        })
        .collect())
}

/// What became of an orphan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Collected {
    /// All of it is gone.
    Removed,
    /// It has become a pack meanwhile, and was left alone.
    Published,
    /// The store keeps these objects, by a lock or for want of a right.
    Retained(Vec<String>),
}

/// Removes an orphan, unless a manifest has appeared.
///
/// # Errors
/// The store cannot be asked.
pub fn collect(bucket: &Bucket, orphan: &Orphan) -> Result<Collected, ObjectFault> {
    let manifest = orphan.directory.clone().join(MANIFEST_NAME);
    if wait(bucket.head(&manifest)).map_err(|error| bucket.fault(&manifest, error))?.is_some() {
        return Ok(Collected::Published);
    }
    let mut retained = Vec::new();
    for meta in &orphan.objects {
        let key = &meta.location;
        match wait(bucket.patiently(|| bucket.store().delete(key))) {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) => retained.push(key.to_string()),
            // An answer may be lost after the work was done.
            Err(error) => match wait(bucket.head(key)) {
                Ok(None) => {}
                _ => return Err(bucket.fault(key, error)),
            },
        }
    }
    Ok(if retained.is_empty() { Collected::Removed } else { Collected::Retained(retained) })
}
