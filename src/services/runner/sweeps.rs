//! Lapses: approvals and questions that nobody decided in time, and what a start of the daemon finds half done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::pen::{self, Pen};
use super::{House, Worker};
use crate::agent::stepper::{RunState, Stage};
use crate::agent::tools;
use crate::agent::workspace::Workspace;
use crate::domain::command::Command;
use crate::domain::ids::RunId;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::stream::Stream;
use crate::journal::line;
use crate::projections::Bodies as _;
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

/// Where each run stands that works, from one reading of the journal: it may be long, and there may be many such runs. What
/// could not be read is missing.
fn working(published: &Published) -> (BTreeMap<RunId, RunState>, std::io::Result<()>) {
    let mut states = BTreeMap::new();
    let mut from = u64::MAX;
    for facts in published.models().runs.working() {
        states.insert(facts.id, RunState::default());
        from = from.min(facts.row.started_seq.map_or(facts.row.created_seq, std::num::NonZeroU64::get));
    }
    let read = published.reader().scan(from, published.feed().next_seq(), |_, text| {
        let run = line::stream_text(text).and_then(Stream::parse).and_then(Stream::run);
        if let Some(state) = run.and_then(|run| states.get_mut(&run))
            && let Ok(record) = line::parse_record(text)
        {
            state.apply(&record);
        }
        true
    });
    (states, read)
}

/// Removes what calls left in the workspace that an earlier start did not live to end: the file that each wrote before it
/// took its place. Before they are settled, so that a start which does not come so far leaves it to the next. Blocks.
pub(super) fn half_written(published: &Published, workspace: &Workspace) {
    let (states, read) = working(published);
    if let Err(fault) = read {
        tracing::warn!(%fault, "what runs left half written was not looked for everywhere");
    }
    for (run, state) in states {
        for call in state.calls().iter().filter(|call| call.stage == Stage::Dispatched) {
            let input = published.text(&call.asked.input).unwrap_or_default();
            let path = tools::written_path(&call.asked.tool, &input, workspace);
            if path.is_some_and(|path| workspace.sweep(&path, call.asked.call_id)) {
                tracing::info!(%run, call = %call.asked.call_id, "what it left half written was removed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::run::RouteChoice;
    use crate::domain::{call, permission, run, turn};
    use crate::services::opening::Opened;
    use crate::services::testing::{Root, act, create_session, queue_run, stop};

    /// A run whose model wants a file read.
    fn answered(opened: &Opened) -> RunId {
        let run_id = queue_run(opened, create_session(opened, "s"), "Do it.");
        let [route, driver, model] = ["r"; 3].map(str::to_owned);
        let chosen_by = RouteChoice::Default;
        let chosen_under = (0, None);
        let start = run::Start { run_id, route, driver, model, chosen_by, rehearsal: true, chosen_under };
        act(opened, Command::StartRun(start)).unwrap();
        let body =
            turn::Requested { turn: 1, attempt: 1, route: "r".into(), model: "r".into(), ..turn::Requested::default() };
        act(opened, Command::RecordTurnRequested(turn::Request { run_id, body, quote: None })).unwrap();
        let wanted = turn::Wanted { provider_id: "c".into(), tool: "read_file".into(), input: "{}".into() };
        let answer = turn::Answer {
            run_id,
            turn: 1,
            text: None,
            reasoning: None,
            calls: vec![wanted],
            stop: turn::StopReason::ToolUse,
            usage: None,
            duration_ms: 1,
        };
        act(opened, Command::RecordTurnAnswered(answer)).unwrap();
        run_id
    }

    #[test]
    fn one_reading_says_of_every_run_that_works_how_far_its_calls_are() {
        let mut root = Root::new();
        let opened = root.start();
        let runs: Vec<RunId> = (0..4).map(|_| answered(&opened)).collect();
        let calls = |run: RunId| {
            let (states, read) = working(&opened.published);
            read.unwrap();
            states.get(&run).map(|state| state.calls().to_vec())
        };
        for run_id in [runs[3], runs[0]] {
            let call_id = calls(run_id).unwrap()[0].asked.call_id;
            act(&opened, Command::RecordPermission(permission::Judge { run_id, call_id })).unwrap();
            let dispatch = call::Dispatch { run_id, call_id, call_hash: "call".into(), sandbox: None };
            act(&opened, Command::DispatchCall(dispatch)).unwrap();
        }
        let (code, detail) = (Reason::InternalError, String::new());
        act(&opened, Command::FailRun(run::Fail { run_id: runs[2], code, detail })).unwrap();
        let stages = runs.iter().map(|run| calls(*run).map(|calls| calls[0].stage.clone()));
        let expected = [Some(Stage::Dispatched), Some(Stage::Asked), None, Some(Stage::Dispatched)];
        assert_eq!(stages.collect::<Vec<_>>(), expected);
        stop(opened);
    }
}
