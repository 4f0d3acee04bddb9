use super::packet::{self, IssueError};
use super::policy::Policy;
use super::{Scenario, plan};
use crate::canon::Digest;
use crate::model::{
    DecisionId, DecisionOutcome, DecisionRecord, DispatchTarget, GateEvalRecord, NamespaceId, PacketRecord, RunConfig,
    RunId, RunState, RunStatus, ScenarioId, SourceId, StageId, SubmissionRecord, TenantId, Timestamp, ToolCallRecord,
    TriggerEvent, TriggerId, TriggerKind, TriggerRecord,
};

/// What deciding needs to know of a run, without its logs: small, and the same
/// size whatever happened before.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Whose run.
    pub tenant_id: TenantId,
    /// In which namespace.
    pub namespace_id: NamespaceId,
    /// Which run.
    pub run_id: RunId,
    /// Of which scenario.
    pub scenario_id: ScenarioId,
    /// Of exactly which version: a run is bound to it.
    pub spec_hash: Digest,
    /// To whom packets go.
    pub dispatch_targets: Vec<DispatchTarget>,
    /// Where the run is.
    pub current_stage_id: StageId,
    /// Since when.
    pub stage_entered_at: Timestamp,
    /// How it stands.
    pub status: RunStatus,
    /// How many entries each log has; the next one is numbered one more.
    pub counts: Counts,
}

/// Lengths of the logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the length of the log of that name")]
pub struct Counts {
    pub triggers: u64,
    pub gate_evals: u64,
    pub decisions: u64,
    pub packets: u64,
    pub submissions: u64,
    pub tool_calls: u64,
}

impl Counts {
    /// Entries of all logs: the sequence number a store compares on append.
    pub fn total(&self) -> u64 {
        self.triggers + self.gate_evals + self.decisions + self.packets + self.submissions + self.tool_calls
    }
}

/// One entry of one log.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each holds an entry of the log of that name")]
pub enum Entry {
    Trigger(TriggerRecord),
    GateEval(GateEvalRecord),
    Decision(DecisionRecord),
    Packet(PacketRecord),
    Submission(SubmissionRecord),
    ToolCall(ToolCallRecord),
}

impl Entry {
    /// Puts the entry at the end of its log.
    pub fn log(self, state: &mut RunState) {
        match self {
            Self::Trigger(record) => state.triggers.push(record),
            Self::GateEval(record) => state.gate_evals.push(record),
            Self::Decision(record) => state.decisions.push(record),
            Self::Packet(record) => state.packets.push(record),
            Self::Submission(record) => state.submissions.push(record),
            Self::ToolCall(record) => state.tool_calls.push(record),
        }
    }
}

/// What an entry means for the head: only decisions have to be read.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "each is an entry of the log of that name")]
pub enum Followed<'a> {
    Trigger,
    GateEval,
    Decision(&'a DecisionRecord),
    Packet,
    Submission,
    ToolCall,
}

impl<'a> From<&'a Entry> for Followed<'a> {
    fn from(entry: &'a Entry) -> Self {
        match entry {
            Entry::Trigger(_) => Self::Trigger,
            Entry::GateEval(_) => Self::GateEval,
            Entry::Decision(decision) => Self::Decision(decision),
            Entry::Packet(_) => Self::Packet,
            Entry::Submission(_) => Self::Submission,
            Entry::ToolCall(_) => Self::ToolCall,
        }
    }
}

impl Head {
    /// The head that a whole recorded state has.
    pub fn of(state: &RunState) -> Self {
        Self {
            tenant_id: state.tenant_id,
            namespace_id: state.namespace_id,
            run_id: state.run_id.clone(),
            scenario_id: state.scenario_id.clone(),
            spec_hash: state.spec_hash,
            dispatch_targets: state.dispatch_targets.clone(),
            current_stage_id: state.current_stage_id.clone(),
            stage_entered_at: state.stage_entered_at,
            status: state.status,
            counts: Counts {
                triggers: state.triggers.len() as u64,
                gate_evals: state.gate_evals.len() as u64,
                decisions: state.decisions.len() as u64,
                packets: state.packets.len() as u64,
                submissions: state.submissions.len() as u64,
                tool_calls: state.tool_calls.len() as u64,
            },
        }
    }

    /// Goes on to where the run stands after `entry`: what any store can work
    /// out again from a log.
    pub fn follow(&mut self, entry: Followed<'_>) {
        let counts = &mut self.counts;
        match entry {
            Followed::Trigger => counts.triggers += 1,
            Followed::GateEval => counts.gate_evals += 1,
            Followed::Packet => counts.packets += 1,
            Followed::Submission => counts.submissions += 1,
            Followed::ToolCall => counts.tool_calls += 1,
            Followed::Decision(decision) => {
                counts.decisions += 1;
                match &decision.outcome {
                    DecisionOutcome::Advance { to_stage, .. } => {
                        self.current_stage_id = to_stage.clone();
                        self.stage_entered_at = decision.decided_at;
                    }
                    DecisionOutcome::Complete { .. } => self.status = RunStatus::Completed,
                    DecisionOutcome::Fail { .. } => self.status = RunStatus::Failed,
                    DecisionOutcome::Start { .. } | DecisionOutcome::Hold { .. } => {}
                }
            }
        }
    }

    /// The state of a run with this head and nothing logged yet.
    pub fn empty_state(&self) -> RunState {
        RunState {
            tenant_id: self.tenant_id,
            namespace_id: self.namespace_id,
            run_id: self.run_id.clone(),
            scenario_id: self.scenario_id.clone(),
            spec_hash: self.spec_hash,
            current_stage_id: self.current_stage_id.clone(),
            stage_entered_at: self.stage_entered_at,
            status: self.status,
            dispatch_targets: self.dispatch_targets.clone(),
            triggers: Vec::new(),
            gate_evals: Vec::new(),
            decisions: Vec::new(),
            packets: Vec::new(),
            submissions: Vec::new(),
            tool_calls: Vec::new(),
        }
    }

    /// Numbers the next decision and answers it.
    pub(super) fn decision(
        &mut self,
        event: &TriggerEvent,
        stage_id: StageId,
        outcome: DecisionOutcome,
    ) -> DecisionRecord {
        self.counts.decisions += 1;
        let seq = self.counts.decisions;
        DecisionRecord {
            decision_id: DecisionId::from(format!("decision-{seq}")),
            seq,
            trigger_id: event.trigger_id.clone(),
            stage_id,
            decided_at: event.time,
            outcome,
            correlation_id: event.correlation_id.clone(),
        }
    }

    /// Numbers the next trigger and answers its record.
    pub(super) fn trigger(&mut self, event: TriggerEvent) -> TriggerRecord {
        self.counts.triggers += 1;
        TriggerRecord { seq: self.counts.triggers, event }
    }
}

/// A run as it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Opening {
    /// The head after `entries`.
    pub head: Head,
    /// What is logged at once: nothing, or the `init` trigger, packets and the
    /// `start` decision.
    pub entries: Vec<Entry>,
}

/// Why a run did not begin. Nothing is written.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The run config names another scenario.
    #[error("scenario mismatch for run: {0}")]
    Scenario(ScenarioId),
    /// The run config names another namespace.
    #[error("namespace mismatch for run: {0}")]
    Namespace(NamespaceId),
    /// The first stage's packets could not be issued.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// Begins a run. With `issue_entry_packets` the first stage's packets are
/// disclosed under an `init` trigger and a `start` decision; without it they
/// never are.
///
/// # Errors
/// See [`StartError`].
pub fn start(
    scenario: &Scenario,
    config: &RunConfig,
    started_at: Timestamp,
    issue_entry_packets: bool,
    policy: &Policy,
) -> Result<Opening, StartError> {
    let spec = scenario.spec();
    if config.scenario_id != spec.scenario_id {
        return Err(StartError::Scenario(config.scenario_id.clone()));
    }
    if config.namespace_id != spec.namespace_id {
        return Err(StartError::Namespace(config.namespace_id));
    }
    let stage = scenario.first_stage();
    let mut head = Head {
        tenant_id: config.tenant_id,
        namespace_id: config.namespace_id,
        run_id: config.run_id.clone(),
        scenario_id: config.scenario_id.clone(),
        spec_hash: scenario.digest(),
        dispatch_targets: config.dispatch_targets.clone(),
        current_stage_id: stage.stage_id.clone(),
        stage_entered_at: started_at,
        status: RunStatus::Active,
        counts: Counts::default(),
    };
    let mut entries = Vec::new();
    if issue_entry_packets {
        let event = TriggerEvent {
            trigger_id: TriggerId::from("init"),
            tenant_id: config.tenant_id,
            namespace_id: config.namespace_id,
            run_id: config.run_id.clone(),
            kind: TriggerKind::ExternalEvent,
            time: started_at,
            source_id: SourceId::from("system"),
            payload: None,
            correlation_id: None,
        };
        let outcome = DecisionOutcome::Start { stage_id: stage.stage_id.clone() };
        let decision = head.decision(&event, stage.stage_id.clone(), outcome);
        let packets = packet::issue(scenario, &head, stage, &decision, policy)?;
        head.counts.packets += packets.len() as u64;
        entries.push(Entry::Trigger(head.trigger(event)));
        entries.extend(packets.into_iter().map(Entry::Packet));
        entries.push(Entry::Decision(decision));
    }
    Ok(Opening { head, entries })
}

/// Whether the stage that `head` is in has expired for `event`.
///
/// # Errors
/// See [`plan::DecideError`]: mixed clocks and overflow write nothing.
pub(super) fn expired(scenario: &Scenario, head: &Head, event: &TriggerEvent) -> Result<bool, plan::DecideError> {
    use plan::DecideError;
    let stage = scenario
        .stage(&head.current_stage_id)
        .ok_or_else(|| DecideError::UnknownStage(head.current_stage_id.clone()))?;
    let (Some(timeout), TriggerKind::Tick) = (&stage.timeout, event.kind) else { return Ok(false) };
    match (head.stage_entered_at, event.time) {
        (Timestamp::UnixMillis(entered), Timestamp::UnixMillis(now)) => {
            let length = i64::try_from(timeout.timeout_ms).map_err(|_| DecideError::TimeoutRange)?;
            let deadline = entered.checked_add(length).ok_or(DecideError::TimeoutOverflow)?;
            Ok(now >= deadline)
        }
        (Timestamp::Logical(entered), Timestamp::Logical(now)) => {
            let deadline = entered.checked_add(timeout.timeout_ms).ok_or(DecideError::TimeoutOverflow)?;
            Ok(now >= deadline)
        }
        _ => Err(DecideError::MixedClocks),
    }
}
