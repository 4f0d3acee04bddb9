//! Calls that are recorded: their digests, and the two that decide nothing.

use serde::Serialize;

use super::packet::{IssueError, content_hash};
use super::{Head, Scenario};
use crate::canon::{CanonError, Digest};
use crate::model::{
    CallId, CorrelationId, DecisionOutcome, DecisionRecord, PacketId, ScenarioStatus, SubmissionId, SubmissionRecord,
    SubmitRequest, Timestamp, ToolCallDetails, ToolCallError, ToolCallRecord, ToolMethod,
};

/// Numbers a call and digests its request and its answer. A failed call's
/// answer is its error.
///
/// # Errors
/// A request or answer that has no JSON form.
pub fn record_call<A: Serialize>(
    head: &mut Head,
    method: ToolMethod,
    request: &impl Serialize,
    answer: Result<&A, ToolCallError>,
    called_at: Timestamp,
    correlation_id: Option<CorrelationId>,
) -> Result<ToolCallRecord, CanonError> {
    let request_hash = Digest::of_canonical(request)?;
    let (response_hash, error) = match answer {
        Ok(answer) => (Digest::of_canonical(answer)?, None),
        Err(error) => (Digest::of_canonical(&error)?, Some(error)),
    };
    head.counts.tool_calls += 1;
    let call_id = CallId::from(format!("call-{}", head.counts.tool_calls));
    let method = method.as_str().into();
    Ok(ToolCallRecord { call_id, method, request_hash, response_hash, called_at, correlation_id, error })
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq)]
pub enum SubmitOutcome {
    /// It is new: log it and the call.
    New(SubmissionRecord),
    /// It was handed in before, just so: log the call.
    Same(SubmissionRecord),
    /// Its id was used for something else: log the failed call with this error.
    Conflict(ToolCallError),
}

/// Takes a submission; `earlier` is the one logged under the same id.
///
/// A run's status does not matter: a finished run still takes submissions.
///
/// # Errors
/// A payload that is too large. Nothing is logged.
pub fn submit(
    head: &mut Head,
    request: &SubmitRequest,
    earlier: Option<&SubmissionRecord>,
) -> Result<SubmitOutcome, IssueError> {
    if let Some(earlier) = earlier {
        let same = earlier.content_type == request.content_type && earlier.payload == request.payload;
        return Ok(if same {
            SubmitOutcome::Same(earlier.clone())
        } else {
            SubmitOutcome::Conflict(submission_conflict(&request.submission_id))
        });
    }
    let record = SubmissionRecord {
        submission_id: request.submission_id.clone(),
        run_id: request.run_id.clone(),
        payload: request.payload.clone(),
        content_type: request.content_type.clone(),
        content_hash: content_hash(&request.payload)?,
        submitted_at: request.submitted_at,
        correlation_id: request.correlation_id.clone(),
    };
    head.counts.submissions += 1;
    Ok(SubmitOutcome::New(record))
}

/// The error of a submission whose id was used for something else.
pub fn submission_conflict(id: &SubmissionId) -> ToolCallError {
    ToolCallError {
        code: "submission_conflict".to_owned(),
        message: "submission_id conflicts with existing record".to_owned(),
        details: Some(ToolCallDetails::Message { info: format!("submission_id={id}") }),
    }
}

/// Says where a run stands. The call itself is logged by the caller: a status
/// request is a write.
pub fn status(head: &Head, last: Option<&DecisionRecord>, issued_packet_ids: Vec<PacketId>) -> ScenarioStatus {
    let safe_summary = match last.map(|decision| &decision.outcome) {
        Some(DecisionOutcome::Hold { summary }) => Some(summary.clone()),
        _ => None,
    };
    ScenarioStatus {
        run_id: head.run_id.clone(),
        scenario_id: head.scenario_id.clone(),
        current_stage_id: head.current_stage_id.clone(),
        status: head.status,
        last_decision: last.cloned(),
        issued_packet_ids,
        safe_summary,
    }
}

/// The error of a call for a scenario that asks providers `registered` does not
/// know. `None` when it knows them all.
pub fn provider_missing(scenario: &Scenario, registered: impl Fn(&str) -> bool) -> Option<ToolCallError> {
    let missing: std::collections::BTreeSet<_> = scenario
        .spec()
        .conditions
        .iter()
        .map(|condition| &condition.query)
        .filter(|query| !registered(query.provider_id.as_str()))
        .map(|query| (query.provider_id.to_string(), query.check_id.to_string()))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let sorted = |pick: fn(&(String, String)) -> &String| {
        let mut names: Vec<_> = missing.iter().map(pick).cloned().collect();
        names.sort();
        names.dedup();
        names
    };
    Some(ToolCallError {
        code: "provider_missing".to_owned(),
        message: "required evidence providers are missing or blocked".to_owned(),
        details: Some(ToolCallDetails::ProviderMissing {
            missing_providers: sorted(|(provider, _)| provider),
            required_capabilities: sorted(|(_, check)| check),
            blocked_by_policy: false,
        }),
    })
}
