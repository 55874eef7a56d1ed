//! A run's ends: completed, failed, cancelled, interrupted; and the request to stop that comes before where it works.

use super::{
    Cancelled, Completed, Failed, InterruptCause, Interrupted, Live, Status, Stop, StopRequested, TurnStage, claimed,
    live, live_of, out_of_order,
};
use crate::domain::approval::{self, WithdrawnCause};
use crate::domain::call::{OutcomeUnknown, Stage};
use crate::domain::command::{Answer, Context, Decided, check_note};
use crate::domain::event::Event;
use crate::domain::ids::{RunId, TaskId};
use crate::domain::personal::Personal;
use crate::domain::question;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::{Draft, Record};
use crate::domain::stream::Stream;
use crate::domain::task::stop_draft;
use crate::domain::turn;
use crate::domain::world::World;

/// Asks for a run to be cancelled. Repeating it changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// The caller's organisation.
    pub org: String,
    /// The run.
    pub run_id: RunId,
    /// The caller's words.
    pub note: Option<String>,
}

/// Why a worker lets go of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// It was asked to stop and has.
    Requested,
    /// The daemon drains.
    Shutdown,
}

/// A worker confirms that nothing of the run works any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirm {
    /// The run.
    pub run_id: RunId,
    /// Why it lets go.
    pub why: Confirmed,
}

/// A worker takes the last answer as the run's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complete {
    /// The run.
    pub run_id: RunId,
    /// The last answer's text.
    pub output: Personal,
}

/// A worker gives a run up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fail {
    /// The run.
    pub run_id: RunId,
    /// Why.
    pub code: Reason,
    /// What is particular about it; no secret, no personal text.
    pub detail: String,
}

/// The end that a request to stop leads to.
pub(in crate::domain) fn stopped(stop: &StopRequested) -> Event {
    match stop.how {
        Stop::Cancel => Cancelled { note: stop.note.clone() }.into(),
        Stop::Interrupt => Interrupted { cause: InterruptCause::Operator, note: stop.note.clone() }.into(),
    }
}

/// All that belongs to a run's end: what waits is withdrawn, an open call has no known outcome, then the end itself;
/// where the run was stopped rather than done, its background tasks are asked to stop as well.
pub(in crate::domain) fn close(world: &World, id: RunId, run: &Live, end: Event) -> Vec<Draft> {
    let tasks =
        if matches!(end, Event::RunCancelled(_) | Event::RunInterrupted(_)) { tasks_of(world, id) } else { vec![] };
    let mut events: Vec<Event> = Vec::new();
    if let Some(approval_id) = run.approval {
        events.push(approval::Withdrawn { approval_id, cause: WithdrawnCause::RunEnded }.into());
    }
    if let Some(question_id) = run.question {
        events.push(question::Withdrawn { question_id, cause: WithdrawnCause::RunEnded }.into());
    }
    let open = run.calls.iter().filter(|(_, call)| call.stage == Stage::Dispatched);
    events.extend(open.map(|(call_id, _)| OutcomeUnknown { call_id: *call_id }.into()));
    let org = world.names.text(run.org);
    let mut drafts: Vec<Draft> = turn::unsettled(world, id, run).into_iter().collect();
    events.push(end);
    drafts.extend(events.into_iter().map(|event| Draft::new(org, Stream::Run(id), event)));
    for task_id in tasks {
        if let Some(task) = world.tasks.get(&task_id) {
            drafts.push(stop_draft(world, task_id, task, None));
        }
    }
    drafts
}

fn tasks_of(world: &World, id: RunId) -> Vec<TaskId> {
    let of_run = world.tasks.iter().filter(|(_, task)| task.run == id && !task.stop_requested);
    of_run.map(|(task_id, _)| *task_id).collect()
}

/// Stops a run: one that works is asked to, any other ends at once. Names the tasks that are thereby asked to stop.
pub(in crate::domain) fn ask(
    world: &World,
    id: RunId,
    run: &Live,
    how: Stop,
    note: Option<&str>,
) -> (Vec<Draft>, Vec<TaskId>) {
    let request = StopRequested { how, note: note.map(str::to_owned) };
    match run.status {
        Status::Running if run.stop.is_some() => (Vec::new(), Vec::new()),
        Status::Running => {
            let org = world.names.text(run.org);
            (vec![Draft::new(org, Stream::Run(id), request.into())], Vec::new())
        }
        Status::Queued
        | Status::WaitingForApproval
        | Status::WaitingForUserQuestion
        | Status::Completed
        | Status::Failed
        | Status::Interrupted
        | Status::Cancelled => (close(world, id, run, stopped(&request)), tasks_of(world, id)),
    }
}

pub(in crate::domain) fn cancel(world: &World, ask_for: &Cancel) -> Result<Decided, Refusal> {
    check_note("/reason", ask_for.note.as_deref())?;
    let run = live_of(world, &ask_for.org, ask_for.run_id)?;
    let (drafts, _) = ask(world, ask_for.run_id, run, Stop::Cancel, ask_for.note.as_deref());
    Ok(Decided { drafts, answer: Answer::Run(ask_for.run_id) })
}

pub(in crate::domain) fn confirm(world: &World, ask: &Confirm) -> Result<Decided, Refusal> {
    let run = live(world, ask.run_id)?;
    if run.status != Status::Running {
        return Err(out_of_order("Only a run that works has a worker that could let go of it."));
    }
    let end = match (&run.stop, ask.why) {
        (Some(stop), Confirmed::Requested | Confirmed::Shutdown) => stopped(stop),
        (None, Confirmed::Shutdown) => Interrupted { cause: InterruptCause::Shutdown, note: None }.into(),
        (None, Confirmed::Requested) => return Err(out_of_order("Nobody asked the run to stop.")),
    };
    Ok(Decided { drafts: close(world, ask.run_id, run, end), answer: Answer::Run(ask.run_id) })
}

pub(in crate::domain) fn complete(world: &World, ask: &Complete, context: &Context<'_>) -> Result<Decided, Refusal> {
    let run = claimed(world, ask.run_id, context)?;
    if run.turn_stage != TurnStage::Answered || !run.calls_settled() {
        return Err(out_of_order("The last turn is not settled."));
    }
    // Who asked for the stop was told that the run will end by it; the last answer stays readable in its turn.
    let end = match &run.stop {
        Some(stop) => stopped(stop),
        None => Completed { output: ask.output.clone(), turns: run.turn }.into(),
    };
    Ok(Decided { drafts: close(world, ask.run_id, run, end), answer: Answer::Run(ask.run_id) })
}

pub(in crate::domain) fn fail(world: &World, ask: &Fail, context: &Context<'_>) -> Result<Decided, Refusal> {
    let run = live(world, ask.run_id)?;
    // A queued run may fail before its claim: its route may be gone.
    if run.status != Status::Queued {
        claimed(world, ask.run_id, context)?;
    }
    let end = match &run.stop {
        Some(stop) => stopped(stop),
        None => Failed { code: ask.code, detail: ask.detail.clone(), turns: run.turn }.into(),
    };
    Ok(Decided { drafts: close(world, ask.run_id, run, end), answer: Answer::Run(ask.run_id) })
}

impl World {
    pub(in crate::domain) fn fold_run_stop_requested(&mut self, record: &Record, body: &StopRequested) {
        if let Some(run) = self.run_of(record) {
            run.stop = Some(body.clone());
        }
    }
}
