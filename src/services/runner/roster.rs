//! Who works on what: looks at what the read models say is owed whenever something is published, takes up as many runs
//! as may work at a time, and passes on that a run was asked to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use super::drive::drive;
use super::pen::doubled;
use super::{House, Worker, limits};
use crate::domain::ids::RunId;
use crate::domain::reason::{Reason, Refusal};
use crate::projections::Models;

/// A worker's end.
type Left = (RunId, Result<(), Refusal>);

/// A run whose worker broke off.
struct Rest {
    times: u32,
    until_boot_ms: u64,
}

struct Roster {
    house: Arc<House>,
    /// What stops each run that has a worker.
    working: BTreeMap<RunId, CancellationToken>,
    workers: FuturesUnordered<BoxFuture<'static, Left>>,
    resting: BTreeMap<RunId, Rest>,
}

/// Keeps the roster until the drain has begun and every worker has left.
pub(super) async fn keep(house: Arc<House>) {
    let mut roster = Roster {
        house: house.clone(),
        working: BTreeMap::new(),
        workers: FuturesUnordered::new(),
        resting: BTreeMap::new(),
    };
    let mut changes = house.published.feed().changes();
    let tick = Duration::from_millis(house.settings.tick_ms);
    loop {
        changes.borrow_and_update();
        house.beats.beat(Worker::Roster);
        roster.pass_stops_on();
        if !house.draining.is_cancelled() {
            roster.take_up();
        } else if roster.working.is_empty() {
            return;
        }
        tokio::select! {
            Some(left) = roster.workers.next(), if !roster.workers.is_empty() => roster.left(left),
            _ = changes.changed() => {}
            () = house.draining.cancelled(), if !house.draining.is_cancelled() => {}
            () = tokio::time::sleep(tick) => {}
        }
    }
}

impl Roster {
    /// Stops the workers of runs that were asked to stop.
    fn pass_stops_on(&self) {
        let models = self.house.published.models();
        for (run, stop) in &self.working {
            let asked = models.runs.get(*run).is_some_and(|facts| facts.open.is_none_or(|open| open.stop.is_some()));
            if asked {
                stop.cancel();
            }
        }
    }

    /// Takes up owed runs while there is room: first those that have begun, then the oldest in the queues.
    fn take_up(&mut self) {
        let room = self.house.settings.runs_at_a_time.saturating_sub(self.working.len());
        if room == 0 {
            return;
        }
        let owed = self.owed(&self.house.published.models(), room);
        for run in owed {
            let stop = self.house.hard.child_token();
            self.working.insert(run, stop.clone());
            let house = self.house.clone();
            let worker = self.house.drives.spawn(drive(house, run, stop));
            self.workers.push(Box::pin(async move {
                let broken = |_| Err(Refusal::new(Reason::InternalError, "The run's worker broke off."));
                (run, worker.await.unwrap_or_else(broken))
            }));
        }
    }

    fn owed(&self, models: &Models, room: usize) -> Vec<RunId> {
        let now = self.house.published.clock().boot_ms();
        let free = |run: &RunId| {
            let rests = self.resting.get(run).is_some_and(|rest| rest.until_boot_ms > now);
            !rests && !self.working.contains_key(run)
        };
        let begun = models.runs.working().map(|facts| facts.id);
        begun.chain(models.startable().map(|facts| facts.id)).filter(free).take(room).collect()
    }

    fn left(&mut self, (run, outcome): Left) {
        self.working.remove(&run);
        let Err(refusal) = outcome else {
            self.resting.remove(&run);
            return;
        };
        tracing::warn!(run = %run, reason = %refusal.reason, "a run's worker broke off: {}", refusal.detail);
        let now = self.house.published.clock().boot_ms();
        let rest = self.resting.entry(run).or_insert(Rest { times: 0, until_boot_ms: 0 });
        rest.until_boot_ms = now.saturating_add(doubled(limits::REST_MS, rest.times, limits::REST_MS_MAX));
        rest.times = rest.times.saturating_add(1);
        // Whoever ended has no worker that could break off again.
        let models = self.house.published.models();
        self.resting.retain(|run, _| models.runs.get(*run).is_some_and(|facts| facts.open.is_some()));
    }
}
