//! `task_output`: where a background task stands, and the end of what it wrote.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

use super::text;
use super::{Prepared, Tool, ToolClass, ToolContext, ToolOutcome, arguments, invalid, limits, parse, prepared};
use crate::agent::workspace::Workspace;
use crate::domain::ids::TaskId;
use crate::domain::reason::{Reason, Refusal};

pub(super) struct TaskOutput;

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Arguments {
    /// The task.
    task_id: TaskId,
    /// Most bytes to show, counted from the end.
    #[serde(default = "default_bytes")]
    limit_bytes: u64,
}

fn default_bytes() -> u64 {
    limits::RESULT_BYTES as u64
}

impl Tool for TaskOutput {
    fn name(&self) -> &'static str {
        "task_output"
    }

    fn class(&self) -> ToolClass {
        ToolClass::TaskRead
    }

    fn description(&self) -> &'static str {
        "Shows the state of a background task of this session and the newest part of its output."
    }

    fn schema(&self) -> serde_json::Value {
        super::schema_of::<Arguments>()
    }

    fn prepare(&self, input: &str, _: &Workspace) -> Result<Prepared, Refusal> {
        let arguments: Arguments = parse(input)?;
        if !(1..=limits::RESULT_BYTES as u64).contains(&arguments.limit_bytes) {
            return Err(invalid(format!("`limit_bytes` is between 1 and {}.", limits::RESULT_BYTES)));
        }
        prepared(self, &arguments, Vec::new())
    }

    fn perform<'a>(&'a self, prepared: &'a Prepared, context: &'a ToolContext) -> BoxFuture<'a, ToolOutcome> {
        Box::pin(async move { show(arguments(self, prepared), context).await.into() })
    }
}

async fn show(arguments: Result<Arguments, Refusal>, context: &ToolContext) -> Result<ToolOutcome, Refusal> {
    let arguments = arguments?;
    let task_id = arguments.task_id;
    let known = context.background.view_in(task_id, context.session_id);
    let (status, exit_code, written) = if let Ok(view) = known {
        (view.status, view.exit_code, Some(view.output_bytes))
    } else {
        let task = context.recorded.of(context.session_id, task_id).await?;
        (task.status, task.exit_code, task.output_bytes)
    };
    let output = match context.background.output(task_id, arguments.limit_bytes).await {
        Err(refusal) if refusal.reason == Reason::TaskNotFound => None,
        output => Some(output?),
    };
    let state = match (status, exit_code) {
        (crate::domain::task::Status::InProgress, _) => "in progress".to_owned(),
        (crate::domain::task::Status::Completed, Some(code)) => format!("completed with exit code {code}"),
        (crate::domain::task::Status::Completed, None) => "completed".to_owned(),
        (crate::domain::task::Status::Failed, _) => "failed".to_owned(),
        (crate::domain::task::Status::Cancelled, _) => "stopped".to_owned(),
    };
    let wrote = written.map_or("how much it wrote is not known".to_owned(), |bytes| format!("it wrote {bytes} bytes"));
    let mut shown = format!("[{task_id} is {state}; {wrote}]\n");
    let before = output.as_ref().map_or(0, |output| output.bytes_before);
    if before > 0 {
        let _ = writeln!(shown, "[{before} kept bytes before this are not shown]");
    }
    shown.push_str(&output.map_or("[its output is no longer kept]\n".to_owned(), |output| text::lossy(&output.bytes)));
    Ok(ToolOutcome { exit_code, ..ToolOutcome::done(shown, before > 0) })
}
