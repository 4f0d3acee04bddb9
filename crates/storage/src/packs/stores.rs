//! Object stores that packs are read from and written to.

#[cfg(feature = "object-store")]
use std::collections::BTreeMap;
#[cfg(feature = "object-store")]
use std::sync::{Mutex, PoisonError};

use super::LocationError;
#[cfg(feature = "object-store")]
use super::export::{Kept, PackStore};
#[cfg(feature = "object-store")]
use super::manifest_bytes;
#[cfg(feature = "object-store")]
use super::object::{Bucket, BucketUrl, FoundPack, ObjectReader, OptionFault, StoreOptions, packs};
use runpack_core::pack::PackReader;
#[cfg(feature = "object-store")]
use runpack_core::pack::layout::MANIFEST_NAME;

/// How object stores are reached, and the clients that reach them: one for each
/// bucket, however many packs are in it.
///
/// A build without object storage has this type, too, and refuses.
#[derive(Debug, Default)]
pub struct Stores {
    #[cfg(feature = "object-store")]
    options: StoreOptions,
    #[cfg(feature = "object-store")]
    buckets: Mutex<BTreeMap<String, Bucket>>,
    /// Packs that were found, with what lies in them, until they are opened.
    #[cfg(feature = "object-store")]
    found: Mutex<BTreeMap<String, FoundPack>>,
}

impl Stores {
    /// Fetches the sealed archive at a web address.
    #[cfg(feature = "https")]
    pub(super) fn fetch(&self, url: &str, artifact_bytes_max: u64) -> Result<Box<dyn PackReader>, LocationError> {
        Ok(super::web::open(url, artifact_bytes_max, &self.options)?)
    }

    /// Refuses to: this build has no way to.
    #[cfg(not(feature = "https"))]
    #[allow(clippy::unused_self, reason = "the other build has options in it")]
    pub(super) fn fetch(&self, url: &str, _: u64) -> Result<Box<dyn PackReader>, LocationError> {
        let problem = "this build of runpack fetches nothing\nhint: use the full build (cargo feature https), or \
                       download the archive and give its path";
        Err(LocationError::Web { location: super::shown(url).into_owned(), problem: problem.to_owned() })
    }
}

/// Whether `location` is in object storage.
pub fn in_object_storage(location: &str) -> bool {
    let scheme = location.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    scheme.is_some_and(|scheme| matches!(scheme.as_str(), "s3" | "az" | "gs"))
}

#[cfg(not(feature = "object-store"))]
impl Stores {
    /// What is said of a place that this build does not reach.
    pub fn not_built(url: &str) -> LocationError {
        LocationError::Store(format!(
            "`{url}`: this build of runpack has no object storage\nhint: use the full build (cargo features s3, azure, gcs)"
        ))
    }

    /// What can be said of object storage: nothing, in this build.
    pub fn help() -> String {
        "  this build has no object storage".to_owned()
    }

    /// Sets an option: this build has none.
    ///
    /// # Errors
    /// Always.
    pub fn set(&mut self, key: &str, _: &str) -> Result<(), LocationError> {
        Err(Self::not_built(key))
    }

    /// Every pack below a prefix, by its URL.
    ///
    /// # Errors
    /// Always: this build has no object storage.
    pub fn packs_below(&self, url: &str) -> Result<Vec<String>, LocationError> {
        Err(Self::not_built(url))
    }

    pub(super) fn open(&self, url: &str, _: &str) -> Result<Box<dyn PackReader>, LocationError> {
        Err(Self::not_built(url))
    }
}

#[cfg(feature = "object-store")]
impl Stores {
    /// With these options.
    pub fn new(options: StoreOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// What can be said of object storage, as lines of help.
    pub fn help() -> String {
        StoreOptions::help()
    }

    /// Sets an option.
    ///
    /// # Errors
    /// No option has that name, or it cannot have that value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), LocationError> {
        self.options.set(key, value).map_err(store)
    }

    /// The bucket that `url` is in, and where in it. No request is made.
    ///
    /// # Errors
    /// It names none, or there is no way to reach it.
    pub fn bucket(&self, url: &str) -> Result<(Bucket, BucketUrl), LocationError> {
        let parsed = BucketUrl::parse(url).map_err(store)?;
        let parsed = parsed.ok_or_else(|| {
            LocationError::Store(format!(
                "`{}` is not in object storage\nhint: write s3://BUCKET/PREFIX, az:// or gs://",
                super::shown(url)
            ))
        })?;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = match buckets.get(&parsed.root()) {
            Some(known) => known.clone(),
            None => {
                let opened = self.options.open(&parsed).map_err(store)?;
                buckets.insert(parsed.root(), opened.clone());
                opened
            }
        };
        Ok((bucket.at_home(&parsed.prefix), parsed))
    }

    /// Every pack below a prefix, by its URL: also artifacts without a manifest,
    /// of which nothing can be told.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub fn packs_below(&self, url: &str) -> Result<Vec<String>, LocationError> {
        let (bucket, parsed) = self.bucket(url)?;
        let found = packs(&bucket, &parsed.prefix).map_err(|fault| LocationError::Store(fault.to_string()))?;
        let mut all = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |pack: &FoundPack| format!("{}/{}", parsed.root(), pack.directory);
        let urls = found.iter().map(name).collect();
        all.extend(found.into_iter().map(|pack| (name(&pack), pack)));
        Ok(urls)
    }

    pub(super) fn open(&self, url: &str, manifest_name: &str) -> Result<Box<dyn PackReader>, LocationError> {
        let (bucket, parsed) = self.bucket(url)?;
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).remove(url);
        let reader = match found {
            Some(pack) => ObjectReader::of(&bucket, &pack.directory, pack.objects),
            None => {
                let prefix = parsed.prefix.as_ref();
                let directory = match prefix.strip_suffix(manifest_name) {
                    Some(directory) if directory.is_empty() || directory.ends_with('/') => directory,
                    _ => prefix,
                };
                let directory = object_store::path::Path::parse(directory);
                let directory = directory.map_err(|error| LocationError::Store(error.to_string()))?;
                ObjectReader::open(&bucket, &directory).map_err(|fault| LocationError::Store(fault.to_string()))?
            }
        };
        Ok(Box::new(reader))
    }
}

/// Below a prefix of a bucket, under the key of its run.
#[cfg(feature = "object-store")]
#[derive(Debug, Clone)]
pub struct BucketStore {
    bucket: Bucket,
    prefix: super::object::Key,
    options: super::object::PublishOptions,
}

#[cfg(feature = "object-store")]
impl BucketStore {
    /// Below `prefix`.
    pub fn new(bucket: Bucket, prefix: super::object::Key, options: super::object::PublishOptions) -> Self {
        Self { bucket, prefix, options }
    }

    /// The manifest of the run's pack as it is there; `None` if there is none.
    ///
    /// # Errors
    /// A sentence: the run's ids make no key, or the store cannot be read.
    pub fn manifest(&self, run: &runpack_core::pack::RunIdentity) -> Result<Option<Vec<u8>>, String> {
        let directory = super::object::pack_key(&self.prefix, run).map_err(|fault| fault.to_string())?;
        let reader = ObjectReader::open(&self.bucket, &directory).map_err(|fault| fault.to_string())?;
        manifest_bytes(&reader, MANIFEST_NAME).map_err(|fault| fault.to_string())
    }
}

#[cfg(feature = "object-store")]
impl PackStore for BucketStore {
    fn keep(&self, pack: &dyn PackReader, manifest_name: &str) -> Result<Kept, String> {
        let receipt = super::object::publish(&self.bucket, &self.prefix, pack, manifest_name, &self.options);
        let receipt = receipt.map_err(|error| error.to_string())?;
        let already = receipt.pushed == super::object::Pushed::AlreadyThere;
        Ok(Kept { storage_uri: receipt.storage_uri, already })
    }
}

#[cfg(feature = "object-store")]
#[allow(clippy::needless_pass_by_value, reason = "handed to map_err")]
fn store(fault: OptionFault) -> LocationError {
    LocationError::Store(fault.to_string())
}
