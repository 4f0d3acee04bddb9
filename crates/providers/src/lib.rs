//! Where evidence comes from.
//!
//! A [`Provider`] answers one question with one [`EvidenceResult`]; when it
//! cannot, the result carries an error, so that the condition is Unknown and
//! the run holds. [`gather`] asks everything one trigger needs at once, under
//! one deadline. Nothing here knows what a decision is, or where runs are kept.
//!
//! Each provider is made from its `config` table: see [`TimeConfig`],
//! [`EnvConfig`], [`JsonConfig`] and [`HttpConfig`]. One outside this process
//! is reached by [`McpConfig`].
//!
//! A [`Contract`] says what a provider promises. [`Contracts`] admits the
//! conditions and queries that keep to it; [`strict`] says which comparators
//! make sense for an answer. [`signature`] says whose evidence is believed.

#![forbid(unsafe_code)]

mod address;
mod capability;
mod config;
mod contract;
mod env;
mod expected;
mod gather;
mod http;
#[cfg(test)]
#[path = "../../../testdata/inputs.rs"]
mod inputs;
mod json;
mod mcp;
mod query;
mod schema;
pub mod signature;
pub mod strict;
mod time;

pub use address::{Reach, reach};
pub use capability::{CapabilityCode, CapabilityError, Contracts};
pub use config::{AbsentPath, BodyHashForm, ConfigError, EnvConfig, HttpConfig, JsonConfig, TimeConfig};
pub use contract::{
    CONTRACT_BYTES_MAX, Check, CheckExample, CheckSpec, Contract, ContractError, Determinism, Transport,
};
pub use env::EnvProvider;
pub use gather::{CONCURRENT_MAX, Provider, Registry, gather};
pub use http::{GuardedClient, GuardedError, GuardedOptions, HttpProvider, Lookup, host, read_body, system_lookup};
pub use json::JsonProvider;
pub use mcp::{McpConfig, McpDialect, McpProvider, McpTarget};
pub use schema::{Mismatch, Schema, SchemaError};
pub use time::TimeProvider;

#[doc(no_inline)]
pub use runpack_core::model::EvidenceResult;
