//! How much the daemon says in its log, as its runtime configuration has it.

use std::sync::Arc;

use crate::domain::runtime::DebugLevel;
use crate::platform::tasks::Tasks;
use crate::services::published::Published;

/// Makes the log of this process say so much from now on.
pub type SetLevel = Arc<dyn Fn(DebugLevel) + Send + Sync>;

/// Sets the level that is in force, and then each other one as soon as it is.
pub(super) fn follow(tasks: &Tasks, published: Published, set: SetLevel) {
    let level = move |published: &Published| published.models().runtime.configuration.debug_level;
    let mut changes = published.feed().changes();
    let mut now = level(&published);
    set(now);
    let stopping = tasks.stopping();
    tasks.spawn(async move {
        let work = async {
            while changes.changed().await.is_ok() {
                changes.borrow_and_update();
                let next = level(&published);
                if next != now {
                    now = next;
                    set(now);
                    tracing::info!(level = ?now, "the log says so much from now on");
                }
            }
        };
        tokio::select! {
            () = stopping => {}
            () = work => {}
        }
    });
}
