//! Hot reload of files that operators change while the daemon runs: a watch on their folders for speed, a poll as the
//! net, and the comparison of contents as the only judge; modification times are never looked at.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::Watcher as _;
use tokio::sync::mpsc;

use crate::platform::tasks::Tasks;

/// How often the files are read where no watch reports a change, milliseconds.
const POLL_MS: u64 = 1_000;
/// How long a reported change may settle before the files are read, milliseconds.
const SETTLE_MS: u64 = 30;
/// How long changed contents must stay as they are before they count, milliseconds: a file that is written in pieces
/// must not come into force by half. With a poll before it, a change is in force within two seconds.
const STEADY_MS: u64 = 500;

/// Files of one purpose, and what is in force of them.
pub(super) trait Followed: Send + Sync + 'static {
    /// What they hold at one moment, faults included.
    type Contents: PartialEq + Send + 'static;
    /// What a change of what is in force is told as.
    type Change: Send + 'static;

    /// Where they lie.
    fn paths(&self) -> Vec<&Path>;

    /// Reads them.
    fn contents(&self) -> Self::Contents;

    /// Whether these contents are what is in force.
    fn is_present(&self, contents: &Self::Contents) -> bool;

    /// Puts what is good into force. Returns what changed.
    fn put(&self, contents: &Self::Contents) -> Vec<Self::Change>;
}

/// Follows the files until the drain. Each change goes to `changes` after it is in force.
pub(super) fn follow<F: Followed>(followed: &Arc<F>, tasks: &Tasks, changes: mpsc::Sender<F::Change>) {
    let (followed, stopping) = (Arc::clone(followed), tasks.stopping());
    let (hint, hints) = mpsc::channel(1);
    let watcher = watcher(&followed.paths(), hint);
    tasks.spawn(async move {
        // Kept alive for as long as the loop runs; without it the poll alone does the work.
        let _watcher = watcher;
        tokio::select! {
            () = stopping => {}
            () = look_again_and_again(followed, hints, changes) => {}
        }
    });
}

/// Reads the files whenever a hint comes, and else from time to time.
pub(super) async fn look_again_and_again<F: Followed>(
    followed: Arc<F>,
    mut hints: mpsc::Receiver<()>,
    changes: mpsc::Sender<F::Change>,
) {
    // Contents that were read once and are not in force.
    let mut seen = None;
    loop {
        if seen.is_some() {
            tokio::time::sleep(Duration::from_millis(STEADY_MS)).await;
        } else {
            tokio::select! {
                Some(()) = hints.recv() => tokio::time::sleep(Duration::from_millis(SETTLE_MS)).await,
                () = tokio::time::sleep(Duration::from_millis(POLL_MS)) => {}
            }
        }
        let reader = Arc::clone(&followed);
        let changed;
        (seen, changed) =
            tokio::task::spawn_blocking(move || look(&*reader, seen)).await.unwrap_or_else(|_| (None, Vec::new()));
        for change in changed {
            if changes.send(change).await.is_err() {
                return;
            }
        }
    }
}

/// Reads the files. What differs from what is in force counts only where it was seen the same before; else it is to be
/// looked at again.
fn look<F: Followed>(followed: &F, seen: Option<F::Contents>) -> (Option<F::Contents>, Vec<F::Change>) {
    let contents = followed.contents();
    if followed.is_present(&contents) || seen.is_some_and(|seen| seen == contents) {
        return (None, followed.put(&contents));
    }
    (Some(contents), Vec::new())
}

fn watcher(paths: &[&Path], hint: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let report = move |_: notify::Result<notify::Event>| {
        // A hint that waits already says the same.
        let _ = hint.try_send(());
    };
    let mut watcher = notify::recommended_watcher(report)
        .inspect_err(|fault| tracing::warn!(%fault, "no watch on configured files; they are polled"))
        .ok()?;
    for path in paths {
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Err(fault) = watcher.watch(folder, notify::RecursiveMode::NonRecursive) {
            tracing::warn!(%fault, "no watch on a folder of configured files; it is polled");
        }
    }
    Some(watcher)
}
