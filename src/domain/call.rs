//! A tool call: intent before dispatch, outcome after.

use serde::{Deserialize, Serialize};

use super::command::{Answer, Context, Decided};
use super::ids::{ApprovalId, CallId, QuestionId, RunId, TaskId};
use super::permission::{self, Behavior};
use super::personal::Personal;
use super::reason::{Reason, Refusal};
use super::record::{Draft, Record};
use super::run::{self, out_of_order};
use super::stream::Stream;
use super::world::World;

/// `call.dispatched`: the intent, sealed before the tool runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dispatched {
    /// The call.
    pub call_id: CallId,
    /// Name of the tool.
    pub tool: String,
    /// SHA-256 of the canonical call, hex.
    pub call_hash: String,
    /// The approval that allows it, if one was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_id: Option<ApprovalId>,
    /// What confines it: `landlock-abi-7+seccomp`, `off`; absent where no process is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
}

/// `call.finished`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finished {
    /// The call.
    pub call_id: CallId,
    /// Whether it did what it says.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Reason>,
    /// What the model is shown.
    pub output: Personal,
    /// Whether output was cut at a limit.
    pub truncated: bool,
    /// Exit code of a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The background task it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// Milliseconds it took.
    pub duration_ms: u64,
}

/// `call.refused`: the call was not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The call.
    pub call_id: CallId,
    /// Why.
    pub code: Reason,
    /// What the model is told.
    pub detail: String,
}

/// `call.outcome_unknown`: a crash fell between intent and outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomeUnknown {
    /// The call.
    pub call_id: CallId,
}

/// How far a call is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The model asked for it.
    Asked,
    /// Mode and rules have spoken.
    Judged(Behavior),
    /// A person is asked to allow it.
    AwaitsApproval(ApprovalId),
    /// A person allowed exactly the call with this hash.
    Approved {
        /// The approval.
        approval_id: ApprovalId,
        /// Hash of the canonical call, hex.
        call_hash: String,
    },
    /// Nobody allowed or answered it; it will not be made.
    Dropped,
    /// A person is asked its question.
    AwaitsAnswer(QuestionId),
    /// A person answered, or declined to.
    Answered,
    /// The intent is recorded and the outcome is not.
    Dispatched,
    /// It has its result.
    Done,
}

/// A call of the current turn, as far as rules need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// Name of the tool.
    pub tool: String,
    /// How far it is.
    pub stage: Stage,
}

/// A worker is about to make a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// The run.
    pub run_id: RunId,
    /// The call.
    pub call_id: CallId,
    /// SHA-256 of the canonical call as it is now, hex.
    pub call_hash: String,
    /// What confines it.
    pub sandbox: Option<String>,
}

/// A worker reports a call's outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// The run.
    pub run_id: RunId,
    /// The outcome.
    pub body: Finished,
}

/// A worker does not make a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refuse {
    /// The run.
    pub run_id: RunId,
    /// Which call, and why not.
    pub body: Refused,
}

/// The call of a run.
pub(super) fn of_run(run: &run::Live, id: CallId) -> Result<&Live, Refusal> {
    run.calls.get(&id).ok_or_else(|| out_of_order("The call is not one of the current turn."))
}

pub(super) fn dispatch(world: &World, ask: &Dispatch, context: &Context<'_>) -> Result<Decided, Refusal> {
    let run = run::working(world, ask.run_id, context)?;
    let call = of_run(run, ask.call_id)?;
    let approval_id = match &call.stage {
        Stage::Judged(Behavior::Allow) => None,
        Stage::Approved { approval_id, call_hash } if *call_hash == ask.call_hash => Some(*approval_id),
        Stage::Approved { .. } => {
            return Err(Refusal::new(Reason::ApprovalCallChanged, "The call is no longer the one that was approved."));
        }
        Stage::Judged(Behavior::Deny) | Stage::Dropped => return Err(Reason::PermissionDenied.into()),
        Stage::Judged(Behavior::Ask)
        | Stage::Asked
        | Stage::AwaitsApproval(_)
        | Stage::AwaitsAnswer(_)
        | Stage::Answered
        | Stage::Dispatched
        | Stage::Done => return Err(out_of_order("The call may not be made now.")),
    };
    permission::check_still(world, run, &call.tool, approval_id.is_some())?;
    let event = Dispatched {
        call_id: ask.call_id,
        tool: call.tool.clone(),
        call_hash: ask.call_hash.clone(),
        approval_id,
        sandbox: ask.sandbox.clone(),
    };
    Ok(Decided::one(
        Draft::new(world.names.text(run.org), Stream::Run(ask.run_id), event.into()),
        Answer::Run(ask.run_id),
    ))
}

pub(super) fn finish(world: &World, ask: &Finish, context: &Context<'_>) -> Result<Decided, Refusal> {
    let run = run::claimed(world, ask.run_id, context)?;
    match of_run(run, ask.body.call_id)?.stage {
        Stage::Dispatched | Stage::Answered => {}
        Stage::Asked
        | Stage::Judged(_)
        | Stage::AwaitsApproval(_)
        | Stage::Approved { .. }
        | Stage::Dropped
        | Stage::AwaitsAnswer(_)
        | Stage::Done => return Err(out_of_order("The call was not made.")),
    }
    let draft = Draft::new(world.names.text(run.org), Stream::Run(ask.run_id), ask.body.clone().into());
    Ok(Decided::one(draft, Answer::Run(ask.run_id)))
}

pub(super) fn refuse(world: &World, ask: &Refuse, context: &Context<'_>) -> Result<Decided, Refusal> {
    let run = run::working(world, ask.run_id, context)?;
    match of_run(run, ask.body.call_id)?.stage {
        Stage::Asked | Stage::Judged(_) | Stage::Approved { .. } | Stage::Dropped => {}
        Stage::AwaitsApproval(_) | Stage::AwaitsAnswer(_) | Stage::Answered | Stage::Dispatched | Stage::Done => {
            return Err(out_of_order("The call can no longer be refused."));
        }
    }
    let draft = Draft::new(world.names.text(run.org), Stream::Run(ask.run_id), ask.body.clone().into());
    Ok(Decided::one(draft, Answer::Run(ask.run_id)))
}

impl World {
    /// Moves a call of the run of a record's stream.
    pub(super) fn set_stage(&mut self, record: &Record, id: CallId, stage: Stage) {
        if let Some(run) = record.stream.run() {
            self.set_stage_of(run, id, stage);
        }
    }

    /// Moves a call of a run.
    pub(super) fn set_stage_of(&mut self, run: RunId, id: CallId, stage: Stage) {
        if let Some(call) = self.runs.get_mut(&run).and_then(|run| run.calls.get_mut(&id)) {
            call.stage = stage;
        }
    }

    pub(super) fn fold_call_dispatched(&mut self, record: &Record, body: &Dispatched) {
        self.set_stage(record, body.call_id, Stage::Dispatched);
    }

    pub(super) fn fold_call_end(&mut self, record: &Record, id: CallId) {
        self.set_stage(record, id, Stage::Done);
    }
}
