//! Lapses: approvals and questions that nobody decided in time, and what a start of the daemon finds half done.

use std::sync::Arc;
use std::time::Duration;

use super::pen::{self, Pen};
use super::story::each_record;
use super::{House, Worker};
use crate::agent::stepper::{RunState, Stage};
use crate::agent::tools;
use crate::agent::workspace::Workspace;
use crate::domain::command::Command;
use crate::domain::reason::{Reason, Refusal};
use crate::projections::Bodies as _;
use crate::projections::feed::{Filter, Scope};
use crate::projections::runs::Facts;
use crate::services::published::Published;

/// Lets approvals and questions lapse, time after time, until the runner has stopped.
pub(super) async fn keep(house: Arc<House>) {
    let pause = Duration::from_millis(house.settings.sweep_ms);
    loop {
        house.beats.beat(Worker::Sweeps);
        for command in [Command::ExpireApprovals, Command::ExpireQuestions] {
            sweep(&house.pen, &command).await;
        }
        tokio::select! {
            () = house.draining.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn sweep(pen: &Pen, command: &Command) {
    loop {
        match pen.once(command.clone()).await {
            Ok(committed) if committed.seq.is_some() => {}
            // Nothing is left. Or the clock is not trusted, or the journal not to be had: the next sweep sees.
            Ok(_) => return,
            Err(refusal) if refusal.reason == Reason::TimeUntrusted => return,
            Err(refusal) => return tracing::debug!(reason = %refusal.reason, "a sweep was refused"),
        }
    }
}

/// Settles what earlier starts left half done, in as many decisions as it takes. Says how many changed something.
pub(super) async fn settle(pen: &Pen) -> Result<u32, Refusal> {
    let mut changed = 0;
    while pen.outcome(Command::SettleBoot, pen::runner()).await?.seq.is_some() {
        changed += 1;
    }
    Ok(changed)
}

/// Removes what calls left in the workspace that an earlier start did not live to end: the file that each wrote before it
/// took its place. Before they are settled, so that a start which does not come so far leaves it to the next. Blocks.
pub(super) fn half_written(published: &Published, workspace: &Workspace) {
    let working: Vec<(Filter, Facts)> = {
        let models = published.models();
        let filter =
            |facts: &Facts| Filter { org: models.names.text(facts.row.org).to_owned(), scope: Scope::Run(facts.id) };
        models.runs.working().map(|facts| (filter(&facts), facts)).collect()
    };
    for (filter, facts) in working {
        let mut state = RunState::default();
        let from = facts.row.started_seq.map_or(facts.row.created_seq, std::num::NonZeroU64::get);
        let places = (from, published.feed().next_seq());
        if let Err(fault) = each_record(published, &filter, places, |record| state.apply(record)) {
            tracing::warn!(run = %facts.id, %fault, "what a run left half written was not looked for");
        }
        for call in state.calls().iter().filter(|call| call.stage == Stage::Dispatched) {
            let input = published.text(&call.asked.input).unwrap_or_default();
            let path = tools::written_path(&call.asked.tool, &input, workspace);
            if path.is_some_and(|path| workspace.sweep(&path, call.asked.call_id)) {
                tracing::info!(run = %facts.id, call = %call.asked.call_id, "what it left half written was removed");
            }
        }
    }
}
