//! Background tasks between the machine and the journal: ends are recorded, requests to stop are passed on.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{House, Worker, limits, pen};
use crate::agent::background::TaskEnd;
use crate::domain::command::Command;
use crate::domain::ids::TaskId;
use crate::domain::reason::Reason;
use crate::domain::run::Status;
use crate::domain::task::{self, Finished, TerminalReason};
use crate::projections::{Models, sessions};

/// Keeps background tasks in step with the journal until the runner has stopped.
pub(super) async fn keep(house: Arc<House>, mut ended: mpsc::Receiver<TaskEnd>) {
    let mut changes = house.published.feed().changes();
    let tick = Duration::from_millis(house.settings.tick_ms);
    let mut told = BTreeSet::new();
    let mut waiting: VecDeque<TaskEnd> = VecDeque::new();
    loop {
        changes.borrow_and_update();
        house.beats.beat(Worker::Keeper);
        pass_stops_on(&house, &mut told);
        record_ends(&house, &mut waiting).await;
        tokio::select! {
            Some(end) = ended.recv() => waiting.push_back(end),
            _ = changes.changed() => {}
            () = house.over.cancelled() => return,
            () = tokio::time::sleep(tick) => {}
        }
        while waiting.len() > limits::ENDS_WAITING {
            // Its start was never recorded, so nobody knows of it.
            waiting.pop_front();
        }
    }
}

/// Stops tasks that were asked to; each is told once.
fn pass_stops_on(house: &House, told: &mut BTreeSet<TaskId>) {
    let stopping: Vec<(TaskId, TerminalReason)> = {
        let models = house.published.models();
        told.retain(|id| models.tasks.row(*id).is_some_and(|row| row.closed_seq.is_none()));
        models.tasks.stopping_ids().filter(|id| !told.contains(id)).map(|id| (id, why(&models, id))).collect()
    };
    for (id, why) in stopping {
        told.insert(id);
        if let Err(refusal) = house.background.stop(id, why) {
            tracing::debug!(task = %id, reason = %refusal.reason, "a task that was asked to stop has ended already");
        }
    }
}

/// Whether a task is stopped for its own sake, or because its run or session was.
fn why(models: &Models, id: TaskId) -> TerminalReason {
    let Some(row) = models.tasks.row(id) else { return TerminalReason::Stopped };
    let run_stopped = models
        .runs
        .get(row.run)
        .is_some_and(|facts| matches!(facts.row.status, Status::Cancelled | Status::Interrupted));
    let session = models.session(models.names.text(row.org), row.session);
    let session_ended = session.is_ok_and(|facts| facts.status == sessions::Status::Ended);
    if run_stopped || session_ended { TerminalReason::RunStopped } else { TerminalReason::Stopped }
}

/// Records the ends of tasks. One that was quicker than the record of its start waits for that.
async fn record_ends(house: &House, waiting: &mut VecDeque<TaskEnd>) {
    for _ in 0..waiting.len() {
        let Some(end) = waiting.pop_front() else { return };
        let ask = task::Finish { body: finished(&end) };
        match house.pen.outcome(Command::FinishTask(ask), pen::runner()).await {
            Ok(_) => {}
            Err(refusal) if refusal.reason == Reason::TaskNotFound || refusal.reason.retry() => waiting.push_back(end),
            Err(refusal) if refusal.reason == Reason::TaskTerminal => {}
            Err(refusal) => tracing::warn!(task = %end.task_id, "the end of a task was not recorded: {refusal}"),
        }
    }
}

fn finished(end: &TaskEnd) -> Finished {
    Finished {
        task_id: end.task_id,
        status: end.status,
        terminal_reason: end.terminal_reason,
        exit_code: end.exit_code,
        output_bytes: Some(end.output_bytes),
        output_sha256: end.output_sha256.clone(),
        rotations: Some(end.rotations),
    }
}
