//! The service: the trigger loop, its config, its doors, and the commands of
//! `runpackd`.

pub mod access;
pub mod audit;
pub mod client;
pub mod commands;
pub mod config;
pub mod correlation;
pub mod dispatch;
pub mod docs;
pub mod gatekeeper;
pub mod http;
pub mod limits;
pub mod mcp;
pub mod roots;
pub mod rpc;
pub mod scenarios;
pub mod scheduler;
pub mod service;
pub mod signing;
pub mod stdio;
pub mod talk;
pub mod tools;
pub mod watch;
