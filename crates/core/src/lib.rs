//! What is true about a run: the scenario, the decision, and the pack.
//!
//! A run is an append-only log. A decision is a function of (scenario, log so
//! far, trigger, evidence). A pack is that log, its scenario, and digests.
//! This crate holds those three ideas and nothing that can reach the world:
//! no files, sockets, clock, environment, threads or async. Readers and sinks
//! are handed in; time and ids are arguments.
//!
//! Inside, the arrows point one way: [`canon`], [`read`], [`model`], [`text`] and [`trust`] know
//! nothing of [`engine`], and [`engine`] nothing of [`pack`].

pub mod canon;
pub mod engine;
pub mod model;
pub mod pack;
pub mod read;
pub mod text;
pub mod trust;
