//! Packs in directories and archives: where they are, how they are read, how
//! they get there.

use std::io::Read as _;

use runpack_core::pack::layout::MANIFEST_BYTES_MAX;
use runpack_core::pack::{PackReader, ReadFault};

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

/// The bytes of a pack's manifest, of the given name; `None` if there is none.
///
/// # Errors
/// It cannot be read, or is too long.
pub fn manifest_bytes(pack: &dyn PackReader, name: &str) -> Result<Option<Vec<u8>>, ReadFault> {
    let mut bytes = Vec::new();
    match pack.open(name, MANIFEST_BYTES_MAX) {
        Ok(mut file) => file.read_to_end(&mut bytes).map(|_| Some(bytes)).map_err(ReadFault::from),
        Err(ReadFault::NotFound) => Ok(None),
        Err(fault) => Err(fault),
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
