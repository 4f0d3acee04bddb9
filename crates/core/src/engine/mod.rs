//! Deciding: **plan → gather → decide**.
//!
//! [`plan`] says which evidence a trigger needs, the caller gathers it,
//! [`decide`] is pure. Live runs, [`precheck`], replay and property tests are
//! the same call. Nothing here fetches, waits, or asks the time.

mod call;
mod condition;
mod decide;
mod gate;
mod packet;
mod plan;
mod policy;
mod scenario;
mod state;

use std::collections::BTreeMap;

use crate::model::{AnchorPolicy, Lane, ProviderId};

pub use call::{SubmitOutcome, provider_missing, record_call, status, submission_conflict, submit};
pub use condition::{AnchorFault, Evidence, anchor_fault, judge};
pub use decide::{Step, decide, precheck};
pub use gate::{GROUP_DEPTH_MAX, Judged, working};
pub use packet::{IssueError, content_hash};
pub use plan::{DecideError, Plan, plan};
pub use policy::{
    Answer, DefaultEffect, Effect as PolicyEffect, Policy, PolicyFault, PolicyRule, PolicyTable, StaticPolicy, Target,
};
pub use scenario::{Scenario, ScenarioFault};
pub use state::{Counts, Entry, Followed, Head, Opening, StartError, start};

/// Bytes of the canonical form of one evidence value.
pub const EVIDENCE_BYTES_MAX: u64 = 1_048_576;

/// Bytes of the canonical form of one packet or submission payload.
pub const PAYLOAD_BYTES_MAX: u64 = 2_097_152;

/// How three-valued operands combine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Logic {
    /// Strong Kleene: False decides an And whatever the rest is.
    #[default]
    Kleene,
    /// Bochvar: any Unknown operand makes And and Or Unknown.
    Bochvar,
}

/// What a deployment decides by, besides the scenario. A v1 pack records only
/// the anchors.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The least trusted lane that counts anywhere.
    pub min_lane: Lane,
    /// Stricter lanes for single providers; they can only tighten.
    pub provider_lanes: BTreeMap<ProviderId, Lane>,
    /// How operands combine.
    pub logic: Logic,
    /// Anchors that providers must give.
    pub anchors: AnchorPolicy,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            min_lane: Lane::Verified,
            provider_lanes: BTreeMap::new(),
            logic: Logic::default(),
            anchors: AnchorPolicy::default(),
        }
    }
}
