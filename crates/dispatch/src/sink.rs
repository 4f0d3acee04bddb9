mod callback;
mod channel;
mod log;

pub(crate) use callback::Callback;
pub use channel::{Channels, Subscription};
pub(crate) use log::LogFile;

use std::io;
use std::time::Duration;

use runpack_core::canon::CanonError;
use runpack_providers::GuardedError;

use crate::{Again, source};

/// Why a message was not handed over.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Nobody has subscribed to the target.
    #[error("nobody is subscribed to {0}")]
    NoSubscriber(String),
    /// A subscriber has as many waiting as it holds.
    #[error("a subscriber to {0} is full")]
    Full(String),
    /// The log cannot be written.
    #[error("cannot write the log: {0}")]
    Log(io::Error),
    /// Nobody was asked, or nobody answered.
    #[error("{0}")]
    Http(#[from] GuardedError),
    /// Whoever was asked did not take it.
    #[error("http status {status}")]
    Status {
        /// What was answered.
        status: u16,
        /// How long to wait, if that was said.
        wait: Option<Duration>,
    },
    /// It cannot be written down.
    #[error("{0}")]
    Unwritable(#[from] CanonError),
}

impl SinkError {
    pub(crate) fn again(&self) -> Again {
        match self {
            Self::NoSubscriber(_) | Self::Full(_) | Self::Log(_) => Again::Later,
            Self::Http(error) => source::again(*error),
            // Too slow, too early, too many: those pass. Any other refusal stands.
            Self::Status { status, .. } if (400..500).contains(status) && ![408, 425, 429].contains(status) => {
                Again::Never
            }
            Self::Status { wait, .. } => wait.map_or(Again::Later, Again::After),
            Self::Unwritable(_) => Again::Never,
        }
    }
}
