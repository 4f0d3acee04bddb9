//! Tools that become tasks: who asks gets a ticket, and looks in again.

use std::time::Duration;

use rmcp::model::{
    CallToolResult, ContentBlock, CreateTaskResult, ErrorData, InputRequest, InputResponses, JsonObject,
};
use rmcp::task_manager::{TaskContext, TaskExit, TaskManager, TaskOptions};
use serde_json::{Value, json};

/// How long a tool that takes its time may take.
const SECONDS_MAX: u64 = 60;
/// How often clients are told to look in.
const POLL_MS: u64 = 100;

/// What goes on under a ticket.
pub enum Job {
    /// Waits, and says so.
    Slow { seconds: u64 },
    /// Answers with a failure.
    Failing,
    /// Has no answer.
    Broken,
    /// Asks so many questions at once, and waits for the answers.
    Asking { questions: usize },
    /// Repeats what was found out before.
    Knowing { known: InputResponses },
}

impl Job {
    /// What a tool of this name does, if it can become a task.
    pub fn named(name: &str, arguments: &JsonObject) -> Option<Self> {
        Some(match name {
            "slow_compute" => {
                let seconds = arguments.get("seconds").and_then(Value::as_u64).unwrap_or(0);
                Self::Slow { seconds: seconds.min(SECONDS_MAX) }
            }
            "failing_job" => Self::Failing,
            "protocol_error_job" => Self::Broken,
            "confirm_delete" => Self::Asking { questions: 1 },
            "multi_input" => Self::Asking { questions: 2 },
            _ => return None,
        })
    }

    /// Begins it.
    pub fn begin(self, tasks: &TaskManager) -> CreateTaskResult {
        let options = TaskOptions::new().with_poll_interval_ms(POLL_MS);
        CreateTaskResult::new(tasks.spawn(options, |context| Box::pin(self.run(context))))
    }

    async fn run(self, context: TaskContext) -> Result<CallToolResult, TaskExit> {
        match self {
            Self::Slow { seconds } => tokio::select! {
                () = context.cancelled() => Err(TaskExit::Cancelled),
                result = slow(seconds) => Ok(result),
            },
            Self::Failing => Ok(CallToolResult::error(vec![ContentBlock::text("this job fails, always")])),
            Self::Broken => Err(ErrorData::internal_error("this job has no answer, ever", None).into()),
            Self::Asking { questions } => {
                let asked = (0..questions).map(|index| {
                    let context = &context;
                    async move { context.request_input(format!("question-{index}"), question()?).await }
                });
                let answers = futures_util::future::try_join_all(asked).await?;
                Ok(CallToolResult::success(vec![ContentBlock::text(json!(answers).to_string())]))
            }
            Self::Knowing { known } => Ok(CallToolResult::success(vec![ContentBlock::text(json!(known).to_string())])),
        }
    }
}

/// Takes so many seconds.
pub async fn slow(seconds: u64) -> CallToolResult {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    CallToolResult::success(vec![ContentBlock::text(format!("it took {seconds} s"))])
}

fn question() -> Result<InputRequest, ErrorData> {
    let question = json!({"method": "elicitation/create", "params": {"mode": "form", "message": "Really?",
        "requestedSchema": {"type": "object", "properties": {"confirm": {"type": "boolean"}}}}});
    serde_json::from_value(question).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}
