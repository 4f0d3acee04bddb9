//! The service: the trigger loop, its config, and the commands of `runpackd`.

pub mod commands;
pub mod config;
pub mod gatekeeper;
