//! Where evidence comes from.
//!
//! A [`Provider`] answers one question with one [`EvidenceResult`]; when it
//! cannot, the result carries an error, so that the condition is Unknown and
//! the run holds. [`gather`] asks everything one trigger needs at once, under
//! one deadline. Nothing here knows what a decision is, or where runs are kept.
//!
//! Each provider is made from its `config` table: see [`TimeConfig`],
//! [`EnvConfig`], [`JsonConfig`] and [`HttpConfig`].

#![forbid(unsafe_code)]

mod address;
mod config;
mod env;
mod gather;
mod http;
mod json;
mod query;
mod time;

pub use address::{Reach, reach};
pub use config::{AbsentPath, BodyHashForm, ConfigError, EnvConfig, HttpConfig, JsonConfig, TimeConfig};
pub use env::EnvProvider;
pub use gather::{CONCURRENT_MAX, Provider, Registry, gather};
pub use http::HttpProvider;
pub use json::JsonProvider;
pub use time::TimeProvider;

#[doc(no_inline)]
pub use runpack_core::model::EvidenceResult;
