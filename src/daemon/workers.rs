//! The workers that follow what happens and record it. They begin once the daemon may write.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::beginning::{AGAIN, note};
use crate::domain::event::Event;
use crate::domain::routes::Loaded;
use crate::domain::stream::Stream;
use crate::platform::files::Folder;
use crate::platform::rotated_log::ClosedChunk;
use crate::platform::tasks::Tasks;
use crate::services::clerk::Clerk;
use crate::services::cold_check::ColdCheck;
use crate::services::published::Published;
use crate::services::routing::Routing;
use crate::services::snapshotter::Snapshotter;
use crate::services::tokens::{TokenChange, Tokens};
use crate::services::{access_log, clock_watch, indexer, segment_watch};

/// Changes of tokens that may wait to be recorded.
const WAITING_CHANGES: usize = 16;
/// The same while the disk takes nothing.
const MOST_DUE: usize = 1_024;

/// What the workers work with.
pub(super) struct Workers {
    pub(super) clerk: Clerk,
    pub(super) published: Published,
    pub(super) folder: Arc<Folder>,
    pub(super) snapshots: Snapshotter,
    /// The open file of the access log, and its chunks as they close.
    pub(super) access_log: (PathBuf, mpsc::Receiver<ClosedChunk>),
    /// Tokens as they change.
    pub(super) changes: Option<mpsc::Receiver<TokenChange>>,
    /// Routes as they change.
    pub(super) routes: mpsc::Receiver<Loaded>,
}

/// Follows the token files, from the first request on.
pub(super) fn follow_tokens(tokens: &Arc<Tokens>, tasks: &Tasks) -> mpsc::Receiver<TokenChange> {
    let (sender, changes) = mpsc::channel(WAITING_CHANGES);
    tokens.follow(tasks, sender);
    changes
}

impl Workers {
    /// Starts them all.
    pub(super) fn start(self, tasks: &Tasks) {
        let Self { clerk, published, folder, snapshots, access_log: (log, closed), changes, routes } = self;
        snapshots.follow(tasks);
        clock_watch::follow(tasks, clerk.clone());
        access_log::follow(tasks, clerk.clone(), published.clone(), log, closed);
        indexer::follow(tasks, clerk.clone(), published.clone(), folder.clone());
        let check = ColdCheck::new(clerk.clone(), published, folder);
        segment_watch::follow(tasks, check.clone());
        check.follow(tasks);
        let of_token = |change: &TokenChange| (Stream::ControlPlane, change.recorded().into());
        if let Some(changes) = changes {
            tasks.spawn(record_changes(changes, of_token, clerk.clone(), tasks.clone()));
        }
        let of_routes = |loaded: &Loaded| (Stream::Daemon, loaded.clone().into());
        tasks.spawn(record_changes(routes, of_routes, clerk, tasks.clone()));
    }
}

/// Follows the routes file, from the first request on.
pub(super) fn follow_routes(routing: &Arc<Routing>, tasks: &Tasks) -> mpsc::Receiver<Loaded> {
    let (sender, changes) = mpsc::channel(WAITING_CHANGES);
    routing.follow(tasks, sender);
    changes
}

/// Records each change of a file that is followed, in order. What a full disk does not take is tried again each second,
/// and meanwhile further changes are taken in: whoever replaces a token must not wait for the disk.
async fn record_changes<T>(
    mut changes: mpsc::Receiver<T>,
    recorded: impl Fn(&T) -> (Stream, Event),
    clerk: Clerk,
    tasks: Tasks,
) {
    let mut due: VecDeque<T> = VecDeque::new();
    loop {
        let change = if due.is_empty() {
            let Some(change) = changes.recv().await else { return };
            Some(change)
        } else {
            tokio::select! {
                () = tasks.stopping() => return unrecorded(due.len()),
                change = changes.recv() => change,
                () = tokio::time::sleep(AGAIN) => None,
            }
        };
        match change {
            Some(change) if due.len() < MOST_DUE => due.push_back(change),
            Some(_) => unrecorded(1),
            None => {}
        }
        while let Some(change) = due.front() {
            let (stream, event) = recorded(change);
            match note(&clerk, stream, event).await {
                Ok(()) => {}
                Err(refusal) if refusal.waits_for_disk() => break,
                Err(refusal) => {
                    tracing::error!(code = refusal.reason.code(), "a change of a followed file could not be recorded");
                }
            }
            due.pop_front();
        }
    }
}

fn unrecorded(changes: usize) {
    tracing::error!(changes, "changes of followed files could not be recorded");
}
