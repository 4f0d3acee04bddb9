//! The runpack format, version v1: its layout, how a pack is built, and how it
//! is verified. One table of artifacts ([`layout`]) serves both.

mod source;

pub use source::{Listed, ListedKind, PackReader, PackSink, ReadFault};
