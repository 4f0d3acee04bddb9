//! Where packets go.
//!
//! A [`Parcel`] is a packet on its way to one target. The [`Broker`] gets its
//! content, from the packet itself or from where the packet says it is kept,
//! compares it with its digest, and hands it to the sink for the target: a
//! callback over HTTP, a queue in this process, or a log. It tries once; whether
//! and when it is tried again is for whoever asked, and [`DispatchError::again`]
//! says whether there is a point. Nothing here knows what a run is, or where
//! deliveries are kept.

#![forbid(unsafe_code)]

mod broker;
mod content;
mod hosts;
mod sink;
mod source;

pub use broker::{Addressee, Broker, BrokerOptions, CallbackOptions, SetupError};
pub use content::{Content, Message, Parcel};
pub use sink::{Channels, SinkError, Subscription};
pub use source::{SourceError, SourceOptions};

use std::time::Duration;

use runpack_core::canon::Digest;

/// Why a parcel was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// Nothing is configured for such targets.
    #[error("no sink for {0}")]
    NoSink(String),
    /// A JSON payload needs a JSON content type, and bytes need another.
    #[error("payload kind {kind} does not match content type {content_type}")]
    Kind {
        /// `json` or `bytes`.
        kind: &'static str,
        /// What the envelope says.
        content_type: String,
    },
    /// The envelope and the reference state different digests.
    #[error("the envelope states digest {envelope}, its reference {reference}")]
    Reference {
        /// Of the envelope.
        envelope: Digest,
        /// Of the reference.
        reference: Digest,
    },
    /// What was got is not what the packet says it is.
    #[error("payload hash mismatch (expected {expected}, got {found})")]
    Mismatch {
        /// What the packet says.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The source says that it is something else.
    #[error("source content type mismatch (expected {expected}, got {found})")]
    ContentType {
        /// What the envelope says.
        expected: String,
        /// What the source says.
        found: String,
    },
    /// The content type says JSON, and it is not.
    #[error("json parse failure: {0}")]
    NotJson(String),
    /// The content could not be got.
    #[error("source failure: {0}")]
    Source(#[from] SourceError),
    /// The content was got, and not handed over.
    #[error("sink failure: {0}")]
    Sink(#[from] SinkError),
}

/// Whether trying again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It is refused for good: the packet, the config or whoever was asked says so.
    Never,
    /// Perhaps.
    Later,
    /// Perhaps, and whoever was asked wants to be left alone for so long.
    After(Duration),
}

impl DispatchError {
    /// Whether trying again may help.
    pub fn again(&self) -> Again {
        match self {
            Self::NoSink(_) | Self::Kind { .. } | Self::Reference { .. } | Self::NotJson(_) => Again::Never,
            // Somebody may put the right file in its place.
            Self::Mismatch { .. } | Self::ContentType { .. } => Again::Later,
            Self::Source(error) => error.again(),
            Self::Sink(error) => error.again(),
        }
    }
}
