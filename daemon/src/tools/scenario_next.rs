use runpack_core::model::{GateEvalRecord, GateEvaluation, NextRequest, ScenarioId, TriggerResult};
use runpack_core::read::Admit;
use serde::{Deserialize, Serialize};

use super::{Context, ToolError, scenario};
use crate::access::FeedbackLevel;
use crate::service::Service;

super::tool!(
    "scenario_next",
    "May the run go on?",
    ASKS,
    "Ask, on behalf of an agent, whether a run may go on: the gates of its stage are decided on fresh evidence. The \
     same trigger_id again answers the same decision. Feedback says which conditions a gate came out by, as far as \
     the server permits."
);

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Arguments {
    scenario_id: ScenarioId,
    request: NextRequest,
    feedback: Option<FeedbackLevel>,
}

impl Admit for Arguments {}

#[derive(Debug, Serialize)]
struct Told {
    #[serde(flatten)]
    result: TriggerResult,
    #[serde(skip_serializing_if = "Option::is_none")]
    feedback: Option<Feedback>,
}

/// What is said of the gates behind the decision.
#[derive(Debug, Serialize)]
struct Feedback {
    level: FeedbackLevel,
    #[serde(skip_serializing_if = "Option::is_none")]
    denied_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gate_evaluations: Option<Vec<GateEvaluation>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gate_records: Option<Vec<GateEvalRecord>>,
}

async fn call(service: &Service, context: &Context, arguments: Arguments) -> Result<Told, ToolError> {
    let request = &arguments.request;
    let scenario = scenario(service, context, request.tenant_id, request.namespace_id, &arguments.scenario_id).await?;
    let answer = service.gatekeeper.next(&scenario, request).await?;
    service.decided(&answer);

    let granted = service.access.feedback.grant(&context.caller, arguments.feedback);
    let silent = granted.level == FeedbackLevel::Summary && arguments.feedback.is_none() && granted.denied.is_none();
    let mut feedback =
        Feedback { level: granted.level, denied_reason: granted.denied, gate_evaluations: None, gate_records: None };
    let mut records = answer.gate_evals;
    match granted.level {
        FeedbackLevel::Summary => {}
        FeedbackLevel::Trace => {
            feedback.gate_evaluations = Some(records.into_iter().map(|record| record.evaluation).collect());
        }
        FeedbackLevel::Evidence => {
            service.access.evidence.redact(scenario.spec(), &mut records);
            feedback.gate_records = Some(records);
        }
    }
    Ok(Told { result: answer.result, feedback: (!silent).then_some(feedback) })
}
