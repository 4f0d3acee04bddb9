//! Ticks for stages that have timed out, where nobody else sends any.
//!
//! Only runs whose times are milliseconds since 1970 are looked at: the clock of
//! the others is not ours. The id of a tick says which stay in which stage it
//! ends, so of several servers at one store one decides, and the others are
//! answered what it decided.

use std::sync::Arc;
use std::time::Duration;

use runpack_core::engine::Head;
use runpack_core::model::{RunStatus, Timestamp, TriggerEvent, TriggerKind};
use runpack_storage::runs::RunKey;
use tokio::runtime::Handle;
use tracing::warn;

use crate::gatekeeper::GateError;
use crate::service::Service;
use crate::watch::now_ms;

/// `[scheduler]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// How often runs are looked at.
    pub interval: Duration,
}

/// Runs that are looked at together.
const PAGE: usize = 1_000;

/// Sends ticks until it is dropped.
pub async fn run(service: Arc<Service>, config: SchedulerConfig) {
    let mut beat = tokio::time::interval(config.interval);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let (service, runtime) = (Arc::clone(&service), Handle::current());
        // Stores wait for disks, which the threads that serve connections must not.
        let round = tokio::task::spawn_blocking(move || runtime.block_on(tick(&service, now_ms())));
        if let Ok(Err(error)) = round.await {
            warn!("scheduler: {error}");
        }
    }
}

/// Sends a tick to every run whose stage has timed out at `now_ms`. Answers how
/// many.
///
/// # Errors
/// The first run that could not be looked at or told; the others were.
pub async fn tick(service: &Service, now_ms: u64) -> Result<usize, String> {
    let mut after: Option<RunKey> = None;
    let mut sent = 0;
    let mut failed = None;
    loop {
        let heads = service.gatekeeper.runs.list(after.as_ref(), PAGE).map_err(|error| error.to_string())?;
        let Some(last) = heads.last() else { break };
        after = Some(RunKey::of(last));
        for head in &heads {
            match send(service, head, now_ms).await {
                Ok(true) => sent += 1,
                Ok(false) => {}
                Err(error) => {
                    failed.get_or_insert_with(|| format!("run {}: {error}", head.run_id));
                }
            }
        }
    }
    failed.map_or(Ok(sent), Err)
}

async fn send(service: &Service, head: &Head, now_ms: u64) -> Result<bool, String> {
    let (RunStatus::Active, Timestamp::UnixMillis(entered)) = (head.status, head.stage_entered_at) else {
        return Ok(false);
    };
    let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let scenario = service.scenarios.of(&head.spec_hash).map_err(|error| error.to_string())?;
    let Some(scenario) = scenario else { return Ok(false) };
    let timeout = scenario.stage(&head.current_stage_id).and_then(|stage| stage.timeout.as_ref());
    let due = timeout.and_then(|timeout| entered.checked_add(i64::try_from(timeout.timeout_ms).ok()?));
    if due.is_none_or(|due| now < due) {
        return Ok(false);
    }
    let event = TriggerEvent {
        trigger_id: format!("tick-{}-{entered}", head.current_stage_id).as_str().into(),
        tenant_id: head.tenant_id,
        namespace_id: head.namespace_id,
        run_id: head.run_id.clone(),
        kind: TriggerKind::Tick,
        time: Timestamp::UnixMillis(now),
        source_id: "scheduler".into(),
        payload: None,
        correlation_id: None,
    };
    match service.gatekeeper.trigger(&scenario, &event).await {
        Ok(answer) => {
            service.decided(&answer);
            Ok(true)
        }
        // Somebody was faster, and the run stands elsewhere.
        Err(GateError::NotActive(_) | GateError::RunNotFound(_)) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}
