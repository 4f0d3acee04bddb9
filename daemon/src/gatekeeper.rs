//! Asks, decides, records.
//!
//! Load → plan → gather → decide → append with the expected sequence. Calls on
//! one run wait for each other here; a race is lost only to another process,
//! and then it is loaded and decided again. An error writes nothing and leaves
//! the run as it was.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runpack_core::canon::CanonError;
use runpack_core::engine::{
    self, DecideError, Entry, Evidence, Head, IssueError, Plan, Policy, Scenario, Settings, StartError, SubmitOutcome,
};
use runpack_core::model::{
    Comparator, ConditionSpec, CorrelationId, EvidenceContext, EvidenceError, EvidenceQuery, EvidenceResult,
    GateEvalRecord, NextRequest, RunConfig, RunId, RunState, ScenarioId, ScenarioStatus, StatusRequest, SubmissionId,
    SubmitRequest, SubmitResult, Timestamp, ToolCallError, ToolMethod, TriggerEvent, TriggerId, TriggerResult,
};
use runpack_providers::{Registry, gather};
use runpack_storage::runs::{Decided, ReadError, RunKey, RunStore, StoredRun, Which, WriteError};
use serde::Serialize;

/// Times a lost race is decided again before the caller is told.
const RACES_MAX: usize = 16;

/// Everything a decision needs besides the scenario and the request.
pub struct Gatekeeper {
    /// Where run logs are kept.
    pub runs: Arc<dyn RunStore>,
    /// Who is asked for evidence.
    pub registry: Registry,
    /// What is decided by.
    pub settings: Settings,
    /// Who may be shown packets.
    pub policy: Policy,
    /// How long one trigger waits for its evidence.
    pub gather_deadline: Duration,
    /// Who waits for whom.
    pub queues: Arc<Queues>,
}

/// One queue for each run that somebody is at.
#[derive(Debug, Default)]
pub struct Queues(Mutex<BTreeMap<RunKey, Arc<tokio::sync::Mutex<()>>>>);

impl Queues {
    /// Waits until nobody else in this process is at the run.
    async fn turn(&self, key: &RunKey) -> Turn<'_> {
        let queue = self.lock().entry(key.clone()).or_default().clone();
        let held = queue.lock_owned().await;
        Turn { queues: self, key: key.clone(), held: Some(held) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<RunKey, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Being at a run.
struct Turn<'q> {
    queues: &'q Queues,
    key: RunKey,
    held: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queues = self.queues.lock();
        self.held = None;
        // Whoever waits holds the queue too, so one that nobody waits in goes.
        if queues.get(&self.key).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            queues.remove(&self.key);
        }
    }
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
    /// The store did not write.
    #[error(transparent)]
    Store(#[from] WriteError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
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
    /// Begins a run, and answers it as it began.
    ///
    /// # Errors
    /// [`GateError::Start`], or a run of that name is there already.
    pub fn start(
        &self,
        scenario: &Scenario,
        config: &RunConfig,
        started_at: Timestamp,
        issue_entry_packets: bool,
    ) -> Result<RunState, GateError> {
        let opening = engine::start(scenario, config, started_at, issue_entry_packets, &self.policy)?;
        self.runs.create(&opening.head, &opening.entries)?;
        let mut state = opening.head.empty_state();
        opening.entries.into_iter().for_each(|entry| entry.log(&mut state));
        Ok(state)
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
        let _turn = self.queues.turn(&key).await;
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
        let earlier = self.runs.decided(key, Which::On(&event.trigger_id))?;
        let (head, entries, answer) = match engine::plan(scenario, &head, event, earlier.is_some())? {
            Plan::Closed => {
                let last = self.runs.decided(key, Which::Newest)?;
                let answer = recall(last.ok_or_else(|| GateError::NotActive(key.run_id.clone()))?, &head);
                (head, Vec::new(), answer)
            }
            Plan::Repeat => {
                let answer = recall(earlier.ok_or_else(|| GateError::NotActive(key.run_id.clone()))?, &head);
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

    /// Takes a submission.
    ///
    /// # Errors
    /// See [`GateError`].
    pub async fn submit(&self, scenario: &Scenario, request: &SubmitRequest) -> Result<SubmitResult, GateError> {
        let key = key(request.tenant_id, request.namespace_id, &request.run_id);
        let _turn = self.queues.turn(&key).await;
        again(|| self.submit_once(scenario, &key, request))
    }

    fn submit_once(
        &self,
        scenario: &Scenario,
        key: &RunKey,
        request: &SubmitRequest,
    ) -> Result<SubmitResult, GateError> {
        let mut head = self.load(scenario, key)?;
        let expected = head.counts.total();
        let call = Call {
            method: ToolMethod::Submit,
            request,
            at: request.submitted_at,
            correlation_id: &request.correlation_id,
        };
        let earlier = self.runs.submission(key, &request.submission_id)?;
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
    pub async fn status(&self, scenario: &Scenario, request: &StatusRequest) -> Result<ScenarioStatus, GateError> {
        let key = key(request.tenant_id, request.namespace_id, &request.run_id);
        let _turn = self.queues.turn(&key).await;
        again(|| self.status_once(scenario, &key, request))
    }

    fn status_once(
        &self,
        scenario: &Scenario,
        key: &RunKey,
        request: &StatusRequest,
    ) -> Result<ScenarioStatus, GateError> {
        let head = self.load(scenario, key)?;
        let expected = head.counts.total();
        let last = self.runs.decided(key, Which::Newest)?.map(|decided| decided.decision);
        let status = engine::status(&head, last.as_ref(), self.runs.packet_ids(key)?);
        let call = Call {
            method: ToolMethod::Status,
            request,
            at: request.requested_at,
            correlation_id: &request.correlation_id,
        };
        self.append_call(expected, head, Vec::new(), &call, Ok(&status))?;
        Ok(status)
    }

    /// Asks a provider outside of any run, and records nothing. The digest is
    /// worked out here and not believed.
    ///
    /// # Errors
    /// [`GateError::Canon`].
    pub async fn ask(&self, query: &EvidenceQuery, context: &EvidenceContext) -> Result<EvidenceResult, GateError> {
        let condition = ConditionSpec {
            condition_id: "query".into(),
            query: query.clone(),
            comparator: Comparator::Exists,
            expected: None,
            policy_tags: Vec::new(),
            trust: None,
        };
        let mut evidence = gather(&self.registry, &[&condition], context, self.gather_deadline).await;
        let absent = || Evidence::admit(EvidenceResult::failed(EvidenceError::provider("no evidence was gathered")));
        let evidence = evidence.remove(&condition.condition_id).unwrap_or_else(absent);
        Ok(engine::judge(&condition, &evidence, &self.settings)?.result)
    }

    /// Says where a run stands, and records nothing.
    ///
    /// # Errors
    /// [`GateError::RunNotFound`], [`GateError::Read`].
    pub fn standing(&self, key: &RunKey) -> Result<ScenarioStatus, GateError> {
        let head = self.runs.head(key)?.ok_or_else(|| GateError::RunNotFound(key.run_id.clone()))?;
        let last = self.runs.decided(key, Which::Newest)?.map(|decided| decided.decision);
        Ok(engine::status(&head, last.as_ref(), self.runs.packet_ids(key)?))
    }

    /// A run as it stands, checked whole, for a pack.
    ///
    /// # Errors
    /// [`GateError::RunNotFound`], [`GateError::Read`].
    pub fn run(&self, key: &RunKey) -> Result<StoredRun<'_>, GateError> {
        let run = StoredRun::open(self.runs.as_ref(), key)?;
        run.ok_or_else(|| GateError::RunNotFound(key.run_id.clone()))
    }

    /// A run is bound to its scenario: a call under another is refused.
    fn load(&self, scenario: &Scenario, key: &RunKey) -> Result<Head, GateError> {
        let head = self.runs.head(key)?.ok_or_else(|| GateError::RunNotFound(key.run_id.clone()))?;
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
        Ok(self.runs.append(expected, &head, &entries)?)
    }
}

/// A decision made before, with its packets and the run's status of today.
fn recall(decided: Decided, head: &Head) -> Answer {
    let Decided { decision, gate_evals, packets } = decided;
    Answer { result: TriggerResult { decision, packets, status: head.status }, gate_evals }
}

/// Does it again while another process gets in between.
fn again<T>(mut once: impl FnMut() -> Result<T, GateError>) -> Result<T, GateError> {
    let mut races = 0;
    loop {
        match once() {
            Err(GateError::Store(WriteError::Conflict { .. })) if races < RACES_MAX => races += 1,
            outcome => return outcome,
        }
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
