//! What a start of the daemon finds half done. Queued and waiting runs stay; a run that only waited for a model call
//! goes on under a new claim; a call between intent and outcome has no known outcome and its run ends; background
//! tasks did not survive the daemon.

use super::call::Stage;
use super::command::{Answer, Context, Decided};
use super::ids::BootId;
use super::limits::SWEEP_ITEMS;
use super::record::Draft;
use super::run::{self, InterruptCause, Interrupted, Status};
use super::stream::Stream;
use super::task::{self, Finished, TerminalReason};
use super::world::World;
use super::{model_call, turn};

/// Settles up to [`SWEEP_ITEMS`] tasks, model calls and runs of earlier starts.
pub(super) fn settle(world: &World, context: &Context<'_>) -> Decided {
    let mut drafts: Vec<Draft> = lost_tasks(world, context.boot_id)
        .chain(model_call::lost(world, context.boot_id))
        .chain(lost_turns(world, context.boot_id))
        .take(SWEEP_ITEMS)
        .collect();
    if drafts.is_empty() {
        for (id, run) in world.runs.iter().filter(|(_, run)| half_done(run, context.boot_id)).take(SWEEP_ITEMS) {
            let end = match &run.stop {
                Some(stop) => run::stop::stopped(stop),
                None => Interrupted { cause: InterruptCause::Restart, note: None }.into(),
            };
            drafts.extend(run::stop::close(world, *id, run, end));
        }
    }
    Decided { drafts, answer: Answer::Nothing }
}

/// What is set aside for turns that an earlier start asked for: their runs go on, and ask again.
fn lost_turns(world: &World, boot_id: BootId) -> impl Iterator<Item = Draft> {
    world.runs.iter().filter_map(move |(id, run)| {
        let of_this_boot = run.claim.as_ref().is_some_and(|claim| claim.boot_id == boot_id);
        if of_this_boot { None } else { turn::unsettled(world, *id, run) }
    })
}

fn lost_tasks(world: &World, boot_id: BootId) -> impl Iterator<Item = Draft> {
    world.tasks.iter().filter(move |(_, task)| task.boot_id != boot_id).map(|(id, task)| {
        let event = Finished {
            task_id: *id,
            status: task::Status::Failed,
            terminal_reason: TerminalReason::DaemonRestarted,
            exit_code: None,
            // Whoever counted is gone, and what it left of the output says less than it wrote.
            output_bytes: None,
            output_sha256: None,
            rotations: None,
        };
        Draft::new(world.names.text(task.org), Stream::Run(task.run), event.into())
    })
}

/// Whether nobody will bring this run to its end: its worker is gone, and a call is open or it was asked to stop.
fn half_done(run: &run::Live, boot_id: BootId) -> bool {
    let of_this_boot = run.claim.as_ref().is_some_and(|claim| claim.boot_id == boot_id);
    if of_this_boot || run.status != Status::Running {
        return false;
    }
    run.stop.is_some() || run.calls.values().any(|call| call.stage == Stage::Dispatched)
}
