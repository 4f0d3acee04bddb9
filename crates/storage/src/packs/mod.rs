//! Packs in directories and archives: where they are, how they are read, how
//! they get there.

mod archive;
mod directory;
mod export;
mod location;
mod publish;
mod rename;
mod staging;

pub use archive::{
    ARCHIVE_ENDING, ArchiveReader, CopyError, SealError, Sealed, UnsealError, Unsealed, Verified, seal, seal_to, unseal,
};
pub use directory::{DirectoryReader, OpenFault};
pub use export::{ExportError, ExportRequest, Exported, export};
pub use location::{Location, LocationError, ReadOptions};
pub use publish::{PublishError, Published, Replace, StagedPack};
pub use runpack_beneath::Links;

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
