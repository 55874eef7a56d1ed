//! Async tasks with a name and an end: every background task is started here and drained at shutdown.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Something that comes once and stays; clones see it.
#[derive(Debug, Clone, Default)]
pub struct Milestone(CancellationToken);

impl Milestone {
    /// It is there.
    pub fn reach(&self) {
        self.0.cancel();
    }

    /// Whether it is there.
    pub fn is_reached(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Resolves when it is there.
    pub fn reached(&self) -> tokio_util::sync::WaitForCancellationFutureOwned {
        self.0.clone().cancelled_owned()
    }
}

/// The set of a daemon's background tasks, and the signal that tells them to end.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    closing: CancellationToken,
    stop: CancellationToken,
}

impl Tasks {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that is waited for at the drain. It should end soon after [`Tasks::stopping`] resolves.
    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(future)
    }

    /// Resolves when the daemon begins to drain.
    pub fn stopping(&self) -> tokio_util::sync::WaitForCancellationFutureOwned {
        self.stop.clone().cancelled_owned()
    }

    /// Nothing new is to be taken in from here on; what goes on may go on.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Whether nothing new is to be taken in.
    pub fn is_closing(&self) -> bool {
        self.closing.is_cancelled() || self.is_stopping()
    }

    /// Whether the drain has begun.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Tells every task to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for all tasks to end, at most this long. Says whether they did.
    pub async fn drained(&self, deadline: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }
}
