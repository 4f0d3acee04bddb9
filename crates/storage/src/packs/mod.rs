//! Packs in directories and archives: where they are, how they are read, how
//! they get there.

mod archive;
mod attach;
mod copy;
mod directory;
mod export;
mod location;
#[cfg(feature = "object-store")]
pub mod object;
mod publish;
mod rename;
mod staging;
mod stores;
#[cfg(feature = "https")]
mod web;

pub use archive::{ARCHIVE_ENDING, ArchiveReader, SealError, Sealed, Verified, seal, seal_to};
pub use attach::{AttachError, attach};
pub use copy::{CopyError, copy};
pub use directory::{DirectoryReader, OpenFault};
pub use export::{Attest, Destination, ExportError, ExportRequest, Exported, Kept, PackStore, export};
pub use location::{Location, LocationError, ReadOptions, directory, is_web, shown};
pub use publish::{PublishError, Published, Replace, StagedPack};
pub use runpack_beneath::Links;
#[cfg(feature = "object-store")]
pub use stores::BucketStore;
pub use stores::{Stores, in_object_storage};

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
