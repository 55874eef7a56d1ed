//! `task_stop`: ends a background task.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{Prepared, Tool, ToolClass, ToolContext, ToolOutcome, arguments, parse, prepared};
use crate::agent::workspace::Workspace;
use crate::domain::ids::TaskId;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::task::TerminalReason;

pub(super) struct TaskStop;

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Arguments {
    /// The task.
    task_id: TaskId,
}

impl Tool for TaskStop {
    fn name(&self) -> &'static str {
        "task_stop"
    }

    fn class(&self) -> ToolClass {
        ToolClass::TaskStop
    }

    fn description(&self) -> &'static str {
        "Stops a background task of this session: it is asked to end, and killed with all it started if it does not."
    }

    fn schema(&self) -> serde_json::Value {
        super::schema_of::<Arguments>()
    }

    fn prepare(&self, input: &str, _: &Workspace) -> Result<Prepared, Refusal> {
        prepared(self, &parse::<Arguments>(input)?, Vec::new())
    }

    fn perform<'a>(&'a self, prepared: &'a Prepared, context: &'a ToolContext) -> BoxFuture<'a, ToolOutcome> {
        Box::pin(async move { stop(arguments(self, prepared), context).await.into() })
    }
}

async fn stop(arguments: Result<Arguments, Refusal>, context: &ToolContext) -> Result<ToolOutcome, Refusal> {
    let task_id = arguments?.task_id;
    if context.background.view_in(task_id, context.session_id).is_err() {
        // This daemon runs it no more, if it ever did: it has ended, or is about to be recorded so.
        context.recorded.of(context.session_id, task_id).await?;
        return Err(Reason::TaskTerminal.into());
    }
    context.background.stop(task_id, TerminalReason::Stopped)?;
    Ok(ToolOutcome::done(format!("{task_id} was asked to stop.\n"), false))
}
