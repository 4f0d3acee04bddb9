use super::state::expired;
use super::{Head, Scenario};
use crate::canon::CanonError;
use crate::model::{ConditionSpec, RunId, RunStatus, ScenarioId, StageId, TriggerEvent};

/// What a trigger needs before it can be decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan<'a> {
    /// The run is over: answer with its last decision. Only the call is logged.
    Closed,
    /// This trigger was decided before: answer with that decision. Only the
    /// call is logged.
    Repeat,
    /// The stage has expired: decide without evidence.
    Expired,
    /// Gather the evidence of these conditions, in this order, then decide.
    Gather(Vec<&'a ConditionSpec>),
}

/// Why a trigger cannot be decided. Nothing is written, and the run goes on.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// The trigger is for another run.
    #[error("trigger run mismatch: {0}")]
    Run(RunId),
    /// The run belongs to another scenario, or to another version of it.
    #[error("scenario mismatch for run: {0}")]
    Scenario(ScenarioId),
    /// The run stands in a stage the scenario does not have.
    #[error("unknown stage identifier: {0}")]
    UnknownStage(StageId),
    /// The stage was entered by one clock and the tick tells another.
    #[error("trigger time kind mismatch: timeout evaluation requires matching timestamp kinds")]
    MixedClocks,
    /// The deadline is no representable time.
    #[error("timeout calculation error: timeout deadline overflow")]
    TimeoutOverflow,
    /// The timeout is no representable time.
    #[error("timeout calculation error: timeout_ms exceeds i64 range")]
    TimeoutRange,
    /// No rule of a branch matches and it has no default. A scenario made with
    /// [`Scenario::new`] cannot come to this.
    #[error("gate resolution failed: no branch matched")]
    NoBranch,
    /// A record cannot be digested.
    #[error(transparent)]
    Canon(#[from] CanonError),
}

/// Says what `event` needs. `decided` tells whether the run has a decision for
/// its trigger id already; whoever keeps the log knows.
///
/// # Errors
/// See [`DecideError`].
pub fn plan<'a>(
    scenario: &'a Scenario,
    head: &Head,
    event: &TriggerEvent,
    decided: bool,
) -> Result<Plan<'a>, DecideError> {
    same_run(scenario, head, event)?;
    if head.status != RunStatus::Active {
        return Ok(Plan::Closed);
    }
    if decided {
        return Ok(Plan::Repeat);
    }
    if expired(scenario, head, event)? {
        return Ok(Plan::Expired);
    }
    Ok(Plan::Gather(scenario.asked(&head.current_stage_id).collect()))
}

pub(super) fn same_run(scenario: &Scenario, head: &Head, event: &TriggerEvent) -> Result<(), DecideError> {
    if head.scenario_id != scenario.spec().scenario_id || head.spec_hash != scenario.digest() {
        return Err(DecideError::Scenario(head.scenario_id.clone()));
    }
    let same =
        event.run_id == head.run_id && event.tenant_id == head.tenant_id && event.namespace_id == head.namespace_id;
    if same { Ok(()) } else { Err(DecideError::Run(event.run_id.clone())) }
}
