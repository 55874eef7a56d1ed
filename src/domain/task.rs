//! A background shell task: a command that goes on while its run does other things.

use serde::{Deserialize, Serialize};

use super::call::{self, Stage};
use super::command::{Answer, Context, Decided, check_note};
use super::ids::{BootId, CallId, RunId, SessionId, TaskId};
use super::names::Name;
use super::personal::Personal;
use super::reason::{Reason, Refusal};
use super::record::{Draft, Record};
use super::run::{self, out_of_order};
use super::stream::Stream;
use super::world::World;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Works.
    InProgress,
    /// Its command ended; look at the exit code.
    Completed,
    /// It could not go on: a limit, or the daemon restarted.
    Failed,
    /// It was stopped.
    Cancelled,
}

/// `task.started`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// The task.
    pub task_id: TaskId,
    /// The session.
    pub session_id: SessionId,
    /// The call that started it.
    pub call_id: CallId,
    /// The command.
    pub command: Personal,
}

/// `task.stop_requested`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopRequested {
    /// The task.
    pub task_id: TaskId,
    /// An operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Why a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TerminalReason {
    /// Its command ended.
    Exited,
    /// Someone stopped it.
    Stopped,
    /// It ran too long.
    TimeLimit,
    /// It had too many processes.
    ProcessLimit,
    /// The daemon stopped before it ended.
    DaemonRestarted,
    /// What watched over it was killed; how it ended is not known.
    Lost,
    /// Its run or session was stopped.
    RunStopped,
}

/// `task.finished`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finished {
    /// The task.
    pub task_id: TaskId,
    /// How it ended.
    pub status: Status,
    /// Why.
    pub terminal_reason: TerminalReason,
    /// Exit code, where the command ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Bytes it wrote in all, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// Digest of the kept output, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_sha256: Option<String>,
    /// How often its output was rotated, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotations: Option<u32>,
}

/// A background task that works, as far as rules need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// Organisation.
    pub org: Name,
    /// Its run.
    pub run: RunId,
    /// Its session.
    pub session: SessionId,
    /// The start of the daemon that it works under.
    pub boot_id: BootId,
    /// Whether it was asked to stop.
    pub stop_requested: bool,
}

/// A call started a background task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The task; its id is made before its command is started.
    pub task_id: TaskId,
    /// The run.
    pub run_id: RunId,
    /// The call.
    pub call_id: CallId,
    /// The command.
    pub command: Personal,
}

/// Asks for a task to stop. Repeating it changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The caller's organisation.
    pub org: String,
    /// The task.
    pub task_id: TaskId,
    /// The caller's words.
    pub note: Option<String>,
}

/// A worker reports a task's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// The end.
    pub body: Finished,
}

pub(super) fn start(world: &World, ask: &Start, context: &Context<'_>) -> Result<Decided, Refusal> {
    let run = run::claimed(world, ask.run_id, context)?;
    if call::of_run(run, ask.call_id)?.stage != Stage::Dispatched {
        return Err(out_of_order("The call was not made."));
    }
    let id = ask.task_id;
    if world.tasks.contains_key(&id) || world.tasks_ended.contains_key(&id) {
        return Err(out_of_order("There is a task with this id."));
    }
    let event = Started { task_id: id, session_id: run.session, call_id: ask.call_id, command: ask.command.clone() };
    Ok(Decided::one(Draft::new(world.names.text(run.org), Stream::Run(ask.run_id), event.into()), Answer::Task(id)))
}

/// The request to stop a task.
pub(super) fn stop_draft(world: &World, id: TaskId, task: &Live, note: Option<&str>) -> Draft {
    let event = StopRequested { task_id: id, note: note.map(str::to_owned) };
    Draft::new(world.names.text(task.org), Stream::Run(task.run), event.into())
}

pub(super) fn stop(world: &World, ask: &Stop) -> Result<Decided, Refusal> {
    check_note("/reason", ask.note.as_deref())?;
    if world.tasks_ended.get(&ask.task_id).is_some_and(|org| world.names.is(*org, &ask.org)) {
        return Err(Reason::TaskTerminal.into());
    }
    let task = world.tasks.get(&ask.task_id).filter(|task| world.names.is(task.org, &ask.org));
    let task = task.ok_or(Reason::TaskNotFound)?;
    let answer = Answer::Task(ask.task_id);
    if task.stop_requested {
        return Ok(Decided::nothing(answer));
    }
    Ok(Decided::one(stop_draft(world, ask.task_id, task, ask.note.as_deref()), answer))
}

pub(super) fn finish(world: &World, ask: &Finish) -> Result<Decided, Refusal> {
    let id = ask.body.task_id;
    if world.tasks_ended.contains_key(&id) {
        return Err(Reason::TaskTerminal.into());
    }
    let task = world.tasks.get(&id).ok_or(Reason::TaskNotFound)?;
    if ask.body.status == Status::InProgress {
        return Err(out_of_order("A task does not end in progress."));
    }
    let draft = Draft::new(world.names.text(task.org), Stream::Run(task.run), ask.body.clone().into());
    Ok(Decided::one(draft, Answer::Task(id)))
}

impl World {
    pub(super) fn fold_task_started(&mut self, record: &Record, body: &Started) {
        let Some(run_id) = record.stream.run() else { return };
        let Some(run) = self.runs.get(&run_id) else { return };
        let Some(claim) = &run.claim else { return };
        let task =
            Live { org: run.org, run: run_id, session: body.session_id, boot_id: claim.boot_id, stop_requested: false };
        self.tasks.insert(body.task_id, task);
    }

    pub(super) fn fold_task_stop_requested(&mut self, body: &StopRequested) {
        if let Some(task) = self.tasks.get_mut(&body.task_id) {
            task.stop_requested = true;
        }
    }

    pub(super) fn fold_task_finished(&mut self, body: &Finished) {
        if let Some(task) = self.tasks.remove(&body.task_id) {
            self.tasks_ended.insert(body.task_id, task.org);
        }
    }
}
