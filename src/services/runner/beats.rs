//! When each worker last looked for work: one that is stuck shows in the metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::platform::clock::Clock;

/// The workers that look for work again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    /// Takes up runs.
    Roster,
    /// Keeps background tasks in step with the journal.
    Keeper,
    /// Lets what nobody decided lapse.
    Sweeps,
}

impl Worker {
    /// All of them.
    pub const ALL: [Worker; 3] = [Worker::Roster, Worker::Keeper, Worker::Sweeps];

    /// Its name in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Worker::Roster => "runs",
            Worker::Keeper => "tasks",
            Worker::Sweeps => "lapses",
        }
    }
}

/// The last beat of each worker. Clones share them.
#[derive(Clone)]
pub struct Beats {
    clock: Arc<dyn Clock>,
    last_boot_ms: Arc<[AtomicU64; 3]>,
}

impl Beats {
    /// Every worker begins now.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let now = clock.boot_ms();
        Self { clock, last_boot_ms: Arc::new([(); 3].map(|()| AtomicU64::new(now))) }
    }

    fn slot(&self, worker: Worker) -> &AtomicU64 {
        let [roster, keeper, sweeps] = &*self.last_boot_ms;
        match worker {
            Worker::Roster => roster,
            Worker::Keeper => keeper,
            Worker::Sweeps => sweeps,
        }
    }

    /// A worker looks for work now.
    pub(super) fn beat(&self, worker: Worker) {
        self.slot(worker).store(self.clock.boot_ms(), Ordering::Relaxed);
    }

    /// How long ago a worker last looked, milliseconds.
    pub fn age_ms(&self, worker: Worker) -> u64 {
        self.clock.boot_ms().saturating_sub(self.slot(worker).load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::clock::FakeClock;

    #[test]
    fn a_worker_that_does_not_look_for_work_grows_older_than_one_that_does() {
        let clock = Arc::new(FakeClock::at(1_000, 50));
        let beats = Beats::new(clock.clone());
        clock.advance(300);
        beats.beat(Worker::Keeper);
        clock.advance(7);
        assert_eq!(Worker::ALL.map(|worker| beats.age_ms(worker)), [307, 7, 307]);
    }
}
