//! The end of a daemon, in order and within one deadline: nothing more is taken in, runs end or are cut, the door closes,
//! a snapshot is taken where it pays, the end is recorded, the journal is closed.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::beginning::note;
use super::scratch_place::ScratchPlace;
use crate::agent::sandbox;
use crate::domain::context::DaemonStopped;
use crate::domain::ids::BootId;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::stream::Stream;
use crate::journal::writer::Journal;
use crate::platform::tasks::Tasks;
use crate::services::clerk::{Clerk, ClerkThread};
use crate::services::runner::Runner;
use crate::services::snapshotter::Snapshotter;

/// How long everything before the last record may take, milliseconds.
const DRAIN_MS: u64 = 8_000;
/// How long runs may go on as if nothing were, milliseconds.
const RUNS_MS: u64 = 3_000;
/// How long background tasks that were told to end may take beyond the runs, milliseconds.
const COMMANDS_MS: u64 = 1_000;
/// What is left of the drain for connections, at least, milliseconds.
const DOOR_MS: u64 = 1_500;
/// How long the last record may take, and then the end of the journal, milliseconds each.
const LAST_MS: u64 = 1_000;
/// Records since the last snapshot from which a drain takes one.
const SNAPSHOT_RECORDS: u64 = 1_000;

/// What is to be ended.
pub(super) struct Drain<'a> {
    /// The runs.
    pub(super) runner: &'a Runner,
    /// Background tasks of agents.
    pub(super) commands: &'a Tasks,
    /// Temporary files of commands.
    pub(super) scratch: &'a ScratchPlace,
    /// The door and the workers.
    pub(super) tasks: &'a Tasks,
    /// Takes snapshots.
    pub(super) snapshots: &'a Snapshotter,
    /// Writes the last record.
    pub(super) clerk: &'a Clerk,
    /// This start.
    pub(super) boot_id: BootId,
}

fn after(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

impl Drain<'_> {
    /// Ends everything. It may be cut at any moment: what was acknowledged is on disk, and the next start settles the
    /// rest.
    pub(super) async fn run(self, thread: ClerkThread) -> Result<(), Refusal> {
        let deadline = after(DRAIN_MS);
        self.tasks.close();
        tracing::info!("draining");
        let cut = deadline.checked_sub(Duration::from_millis(DOOR_MS)).unwrap_or(deadline);
        if !self.runner.stop(Duration::from_millis(RUNS_MS), cut).await {
            tracing::warn!("some runs were cut");
        }
        self.end_commands(cut, deadline).await;
        self.tasks.stop();
        if !self.tasks.drained(deadline.saturating_duration_since(Instant::now())).await {
            tracing::warn!("some tasks did not end in time");
        }
        self.snapshot(deadline).await;
        let last = note(self.clerk, Stream::Daemon, DaemonStopped { boot_id: self.boot_id }.into());
        let late = |what: &str| Refusal::new(Reason::StorageJournalUnavailable, format!("{what} did not end in time"));
        let noted = timeout_at(after(LAST_MS), last).await.unwrap_or_else(|_| Err(late("the last record")));
        // Also where the end could not be recorded: what was acknowledged before must be so in both places.
        let closed = timeout_at(after(LAST_MS), close(self.clerk, thread)).await;
        closed.unwrap_or_else(|_| Err(late("the journal's end")))?;
        noted
    }

    /// Waits for commands until `cut`, then kills what is left of them.
    async fn end_commands(&self, cut: Instant, deadline: Instant) {
        self.commands.stop();
        let wait = cut.saturating_duration_since(Instant::now()).min(Duration::from_millis(COMMANDS_MS));
        if !self.commands.drained(wait).await {
            let tasks: Vec<String> = self.runner.background().running().iter().map(ToString::to_string).collect();
            tracing::warn!(?tasks, "background tasks did not end in time; they are killed");
        }
        let scratch = self.scratch.clone();
        let killing = tokio::task::spawn_blocking(move || {
            let ended = sandbox::end_all();
            scratch.remove();
            ended
        });
        match timeout_at(deadline, killing).await {
            Ok(Ok((0, _))) => {}
            Ok(Ok((killed, left))) => {
                tracing::warn!(killed, left, "processes of commands did not end in time and were killed");
            }
            Ok(Err(_)) | Err(_) => tracing::warn!("what is left of commands could not be removed in time"),
        }
    }

    async fn snapshot(&self, deadline: Instant) {
        if self.snapshots.behind() <= SNAPSHOT_RECORDS {
            return;
        }
        match timeout_at(deadline, self.snapshots.take()).await {
            Ok(Ok(_)) => {}
            Ok(Err(refusal)) => {
                tracing::warn!(code = refusal.reason.code(), detail = refusal.detail, "no snapshot was taken");
            }
            Err(_) => tracing::warn!("there was no time for a snapshot"),
        }
    }
}

/// Ends the clerk and closes the journal, where it was opened.
async fn close(clerk: &Clerk, thread: ClerkThread) -> Result<(), Refusal> {
    let closed = tokio::task::spawn_blocking(move || thread.finish().map(Journal::close));
    match closed.await.map_err(|_| Refusal::from(Reason::InternalError))? {
        Some(closed) => Ok(closed?),
        None => Err(clerk.trouble().unwrap_or_else(|| Reason::StorageJournalUnavailable.into())),
    }
}
