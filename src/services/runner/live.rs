//! Words of a model while they arrive, for whoever watches a run. They are a courtesy: bounded, never waited for, and
//! replaced by the answer in the journal.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use super::limits;
use crate::domain::ids::RunId;

/// Some words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The turn that they belong to.
    pub turn: u32,
    /// The attempt; words of an earlier one are void.
    pub attempt: u32,
    /// The words.
    pub text: Arc<str>,
}

/// Who watches which run. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct LiveDeltas {
    watched: Arc<Mutex<BTreeMap<RunId, broadcast::Sender<Delta>>>>,
}

impl LiveDeltas {
    fn watched(&self) -> MutexGuard<'_, BTreeMap<RunId, broadcast::Sender<Delta>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Words of a run from now on. A receiver that is too slow misses some and is told so; the channel closes when
    /// the run ends.
    pub fn subscribe(&self, run: RunId) -> broadcast::Receiver<Delta> {
        let mut watched = self.watched();
        watched.retain(|_, sender| sender.receiver_count() > 0);
        watched.entry(run).or_insert_with(|| broadcast::channel(limits::LIVE_DELTAS).0).subscribe()
    }

    /// Passes words on, if anyone watches.
    pub(super) fn publish(&self, run: RunId, delta: Delta) {
        if let Some(sender) = self.watched().get(&run) {
            // Nobody listens any more: then nobody misses it.
            let _ = sender.send(delta);
        }
    }

    /// The run says no more.
    pub(super) fn close(&self, run: RunId) {
        self.watched().remove(&run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_watcher_misses_words_and_holds_up_nobody() {
        let live = LiveDeltas::default();
        let run = RunId::from_ulid(ulid::Ulid(1));
        let say = |number: usize| Delta { turn: 1, attempt: 1, text: number.to_string().into() };
        live.publish(run, say(0));
        let mut slow = live.subscribe(run);
        for number in 0..=limits::LIVE_DELTAS {
            live.publish(run, say(number));
        }
        assert_eq!(slow.recv().await, Err(broadcast::error::RecvError::Lagged(1)));
        assert_eq!(slow.recv().await.unwrap(), say(1));
        live.close(run);
        drop(slow);
        let mut next = live.subscribe(run);
        live.close(run);
        assert_eq!(next.recv().await, Err(broadcast::error::RecvError::Closed));
    }
}
