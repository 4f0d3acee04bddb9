//! Packs in object storage: S3 and what speaks like it, Azure, Google Cloud.
//!
//! A bucket has no rename, so a pack becomes one when its manifest appears: all
//! content first, listed and compared, the manifest last and only if none is
//! there. A client's error says little about what the store did (an answer can
//! be lost after the work was done), so every outcome but success is settled by
//! reading back.
//!
//! Core reads packs without async. The requests run on two threads of this
//! module's own; whoever reads waits for bytes.

mod ahead;
mod body;
mod bucket;
mod find;
mod key;
mod parts;
mod publish;
mod reader;
mod settings;
mod silence;
#[cfg(test)]
mod tests;

#[cfg(feature = "https")]
pub(super) use bucket::wait;
pub use bucket::{Bucket, ObjectFault, Patience};
pub use find::{Collected, FoundPack, Orphan, collect, orphans, packs};
pub use key::{KeyFault, pack_key, snapshot_key};
pub use object_store::ObjectStore;
pub use object_store::path::Path as Key;
pub use publish::{
    Left, OnExisting, Place, PublishOptions, PushError, Pushed, Receipt, publish, publish_at, publish_verified,
};
pub use reader::ObjectReader;
pub use settings::{BucketUrl, OptionFault, StoreOptions};
pub use silence::on_waiting;
