//! Asks, decides, records.
//!
//! Load → plan → gather → decide → append with the expected sequence. A lost
//! race loads and decides again. An error writes nothing and leaves the run as
//! it was.

use std::time::Duration;

use runpack_core::canon::CanonError;
use runpack_core::engine::{
    self, DecideError, Entry, Head, IssueError, Plan, Policy, Scenario, Settings, StartError, SubmitOutcome,
};
use runpack_core::model::{
    CorrelationId, EvidenceContext, GateEvalRecord, NextRequest, RunConfig, RunId, RunState, ScenarioId,
    ScenarioStatus, StatusRequest, SubmissionId, SubmitRequest, SubmitResult, Timestamp, ToolCallError, ToolMethod,
    TriggerEvent, TriggerId, TriggerResult,
};
use runpack_providers::{Registry, gather};
use runpack_storage::runs::{MemoryRuns, RunKey, WriteError};
use serde::Serialize;

/// Times a lost race is decided again before the caller is told.
const RACES_MAX: usize = 16;

/// Everything a decision needs besides the scenario and the request.
pub struct Gatekeeper {
    /// Where run logs are kept.
    pub runs: MemoryRuns,
    /// Who is asked for evidence.
    pub registry: Registry,
    /// What is decided by.
    pub settings: Settings,
    /// Who may be shown packets.
    pub policy: Policy,
    /// How long one trigger waits for its evidence.
    pub gather_deadline: Duration,
}

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The run did not begin.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There is no such run.
    #[error("run not found: {0}")]
    RunNotFound(RunId),
    /// The run belongs to another scenario.
    #[error("scenario mismatch for run: {0}")]
    Scenario(ScenarioId),
    /// The trigger cannot be decided.
    #[error(transparent)]
    Decide(#[from] DecideError),
    /// The scenario asks providers that are not configured. The failed call is
    /// recorded.
    #[error("provider validation failed: {0}")]
    Providers(String),
    /// A submission's id was used for something else. The failed call is recorded.
    #[error("submission_id conflict: {0}")]
    SubmissionConflict(SubmissionId),
    /// A payload cannot be taken.
    #[error(transparent)]
    Payload(#[from] IssueError),
    /// A run that is over has no decision to repeat.
    #[error("run is not active: {0}")]
    NotActive(RunId),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] WriteError),
    /// A record has no canonical form.
    #[error(transparent)]
    Canon(#[from] CanonError),
}

/// The answer to a trigger, and the gates behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What goes over the wire.
    pub result: TriggerResult,
    /// The evaluations of the answered decision; empty when time decided.
    pub gate_evals: Vec<GateEvalRecord>,
}

impl Gatekeeper {
    /// Begins a run.
    ///
    /// # Errors
    /// [`GateError::Start`], or a run of that name is there already.
    pub fn start(
        &self,
        scenario: &Scenario,
        config: &RunConfig,
        started_at: Timestamp,
        issue_entry_packets: bool,
    ) -> Result<(), GateError> {
        let opening = engine::start(scenario, config, started_at, issue_entry_packets, &self.policy)?;
        Ok(self.runs.create(opening.head, opening.entries)?)
    }

    /// Decides on behalf of an agent.
    ///
    /// # Errors
    /// See [`GateError`].
    pub async fn next(&self, scenario: &Scenario, request: &NextRequest) -> Result<Answer, GateError> {
        self.decide(scenario, &request.event(), ToolMethod::Next, request).await
    }

    /// Decides a trigger.
    ///
    /// # Errors
    /// See [`GateError`].
    pub async fn trigger(&self, scenario: &Scenario, event: &TriggerEvent) -> Result<Answer, GateError> {
        self.decide(scenario, event, ToolMethod::Trigger, event).await
    }

    async fn decide(
        &self,
        scenario: &Scenario,
        event: &TriggerEvent,
        method: ToolMethod,
        request: &impl Serialize,
    ) -> Result<Answer, GateError> {
        let key = key(event.tenant_id, event.namespace_id, &event.run_id);
        let call = Call { method, request, at: event.time, correlation_id: &event.correlation_id };
        let mut races = 0;
        loop {
            match self.decide_once(scenario, &key, event, &call).await {
                Err(GateError::Store(WriteError::Conflict { .. })) if races < RACES_MAX => races += 1,
                outcome => return outcome,
            }
        }
    }

    async fn decide_once<R: Serialize>(
        &self,
        scenario: &Scenario,
        key: &RunKey,
        event: &TriggerEvent,
        call: &Call<'_, R>,
    ) -> Result<Answer, GateError> {
        let head = self.load(scenario, key)?;
        let expected = head.counts.total();
        if let Some(error) = engine::provider_missing(scenario, |id| self.registry.contains(&id.into())) {
            let message = error.message.clone();
            self.append_call(expected, head, Vec::new(), call, Err::<&TriggerResult, _>(error))?;
            return Err(GateError::Providers(message));
        }
        let earlier = self.runs.decision(key, &event.trigger_id);
        let (head, entries, answer) = match engine::plan(scenario, &head, event, earlier.is_some())? {
            Plan::Closed => {
                let last = self.runs.last_decision(key).ok_or_else(|| GateError::NotActive(key.run_id.clone()))?;
                let answer = self.recall(key, last, &head);
                (head, Vec::new(), answer)
            }
            Plan::Repeat => {
                let earlier = earlier.ok_or_else(|| GateError::NotActive(key.run_id.clone()))?;
                let answer = self.recall(key, earlier, &head);
                (head, Vec::new(), answer)
            }
            plan @ (Plan::Expired | Plan::Gather(_)) => {
                let conditions = if let Plan::Gather(conditions) = plan { conditions } else { Vec::new() };
                let context = context(&head, event);
                let evidence = gather(&self.registry, &conditions, &context, self.gather_deadline).await;
                let step = engine::decide(scenario, &self.settings, &head, event, &evidence, &self.policy)?;
                let result = TriggerResult {
                    decision: step.decision.clone(),
                    packets: step.packets.clone(),
                    status: step.head.status,
                };
                let gate_evals = step.gate_evals.clone();
                let (head, entries) = step.into_entries();
                (head, entries, Answer { result, gate_evals })
            }
        };
        self.append_call(expected, head, entries, call, Ok(&answer.result))?;
        Ok(answer)
    }

    /// A decision made before, with its packets and the run's status of today.
    fn recall(&self, key: &RunKey, decision: runpack_core::model::DecisionRecord, head: &Head) -> Answer {
        let packets = self.runs.packets(key, &decision.decision_id);
        let gate_evals = self.runs.gate_evals(key, &decision.trigger_id);
        Answer { result: TriggerResult { decision, packets, status: head.status }, gate_evals }
    }

    /// Takes a submission.
    ///
    /// # Errors
    /// See [`GateError`].
    pub fn submit(&self, scenario: &Scenario, request: &SubmitRequest) -> Result<SubmitResult, GateError> {
        let key = key(request.tenant_id, request.namespace_id, &request.run_id);
        let mut head = self.load(scenario, &key)?;
        let expected = head.counts.total();
        let call = Call {
            method: ToolMethod::Submit,
            request,
            at: request.submitted_at,
            correlation_id: &request.correlation_id,
        };
        let earlier = self.runs.submission(&key, &request.submission_id);
        let (entries, record) = match engine::submit(&mut head, request, earlier.as_ref())? {
            SubmitOutcome::New(record) => (vec![Entry::Submission(record.clone())], record),
            SubmitOutcome::Same(record) => (Vec::new(), record),
            SubmitOutcome::Conflict(error) => {
                self.append_call(expected, head, Vec::new(), &call, Err::<&SubmitResult, _>(error))?;
                return Err(GateError::SubmissionConflict(request.submission_id.clone()));
            }
        };
        let result = SubmitResult { record };
        self.append_call(expected, head, entries, &call, Ok(&result))?;
        Ok(result)
    }

    /// Says where a run stands, and records that it was asked.
    ///
    /// # Errors
    /// See [`GateError`].
    pub fn status(&self, scenario: &Scenario, request: &StatusRequest) -> Result<ScenarioStatus, GateError> {
        let key = key(request.tenant_id, request.namespace_id, &request.run_id);
        let head = self.load(scenario, &key)?;
        let expected = head.counts.total();
        let last = self.runs.last_decision(&key);
        let status = engine::status(&head, last.as_ref(), self.runs.packet_ids(&key));
        let call = Call {
            method: ToolMethod::Status,
            request,
            at: request.requested_at,
            correlation_id: &request.correlation_id,
        };
        self.append_call(expected, head, Vec::new(), &call, Ok(&status))?;
        Ok(status)
    }

    /// Everything about a run.
    pub fn state(&self, config: &RunConfig) -> Option<RunState> {
        self.runs.state(&key(config.tenant_id, config.namespace_id, &config.run_id))
    }

    /// A run is bound to its scenario: a call under another is refused.
    fn load(&self, scenario: &Scenario, key: &RunKey) -> Result<Head, GateError> {
        let head = self.runs.head(key).ok_or_else(|| GateError::RunNotFound(key.run_id.clone()))?;
        if head.scenario_id == scenario.spec().scenario_id && head.spec_hash == scenario.digest() {
            Ok(head)
        } else {
            Err(GateError::Scenario(head.scenario_id))
        }
    }

    fn append_call<R: Serialize, A: Serialize>(
        &self,
        expected: u64,
        mut head: Head,
        mut entries: Vec<Entry>,
        call: &Call<'_, R>,
        answer: Result<&A, ToolCallError>,
    ) -> Result<(), GateError> {
        let correlation = call.correlation_id.clone();
        let record = engine::record_call(&mut head, call.method, call.request, answer, call.at, correlation)?;
        entries.push(Entry::ToolCall(record));
        Ok(self.runs.append(expected, head, entries)?)
    }
}

/// A call as it will be recorded.
struct Call<'a, R> {
    method: ToolMethod,
    request: &'a R,
    at: Timestamp,
    correlation_id: &'a Option<CorrelationId>,
}

fn key(
    tenant_id: runpack_core::model::TenantId,
    namespace_id: runpack_core::model::NamespaceId,
    run_id: &RunId,
) -> RunKey {
    RunKey { tenant_id, namespace_id, run_id: run_id.clone() }
}

fn context(head: &Head, event: &TriggerEvent) -> EvidenceContext {
    EvidenceContext {
        tenant_id: head.tenant_id,
        namespace_id: head.namespace_id,
        run_id: head.run_id.clone(),
        scenario_id: head.scenario_id.clone(),
        stage_id: head.current_stage_id.clone(),
        trigger_id: TriggerId::clone(&event.trigger_id),
        trigger_time: event.time,
        correlation_id: event.correlation_id.clone(),
    }
}
