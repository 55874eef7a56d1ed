//! Who works on what: looks at what the read models say is owed whenever something is published, takes up as many runs
//! as may work at a time, and passes on that a run was asked to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::drive::{Later, drive};
use super::pen::doubled;
use super::{House, Worker, limits};
use crate::domain::ids::RunId;
use crate::domain::reason::{Reason, Refusal};
use crate::projections::Models;
use crate::projections::runs::Facts;

/// A worker's end.
type Left = (RunId, Result<Option<Later>, Refusal>);

/// A run that is left alone for a while.
#[derive(Default)]
struct Rest {
    /// How often in a row its worker broke off.
    broken: u32,
    /// Not before this time.
    until_boot_ms: u64,
    /// Not while this route has no room.
    route: Option<String>,
    /// This is the pause before an attempt at a turn.
    pause: bool,
}

struct Roster {
    house: Arc<House>,
    /// What stops each run that has a worker.
    working: BTreeMap<RunId, CancellationToken>,
    workers: FuturesUnordered<BoxFuture<'static, Left>>,
    resting: BTreeMap<RunId, Rest>,
    /// Places for runs that have no worker and were asked to stop: they do not wait until others have worked.
    endings: Arc<Semaphore>,
}

/// Keeps the roster until the drain has begun and every worker has left.
pub(super) async fn keep(house: Arc<House>) {
    let mut roster = Roster {
        house: house.clone(),
        working: BTreeMap::new(),
        workers: FuturesUnordered::new(),
        resting: BTreeMap::new(),
        endings: Arc::new(Semaphore::new(house.settings.runs_at_a_time)),
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
        let pause = tick.min(roster.rest());
        tokio::select! {
            Some(left) = roster.workers.next(), if !roster.workers.is_empty() => roster.left(left),
            _ = changes.changed() => {}
            () = house.draining.cancelled(), if !house.draining.is_cancelled() => {}
            () = tokio::time::sleep(pause) => {}
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

    /// How long the next run of those that are left alone for a time is so.
    fn rest(&self) -> Duration {
        let now = self.house.published.clock().boot_ms();
        let later = self.resting.values().map(|rest| rest.until_boot_ms).filter(|until| *until > now);
        later.min().map_or(Duration::MAX, |until| Duration::from_millis(until - now))
    }

    /// Takes up owed runs while there are places: first those that have begun, then the oldest in the queues.
    fn take_up(&mut self) {
        let owed = self.owed(&self.house.published.models());
        for (run, places) in owed {
            // A run whose model has answered may have been quicker.
            let Ok(place) = places.try_acquire_owned() else { continue };
            let stop = self.house.hard.child_token();
            self.working.insert(run, stop.clone());
            let house = self.house.clone();
            let paused = self.resting.get(&run).is_some_and(|rest| rest.pause);
            let worker = self.house.drives.spawn(drive(house, run, (stop, place), paused));
            self.workers.push(Box::pin(async move {
                let broken = |_| Err(Refusal::new(Reason::InternalError, "The run's worker broke off."));
                (run, worker.await.unwrap_or_else(broken))
            }));
        }
    }

    /// Runs that are owed a step and have no worker, with where their places are.
    fn owed(&self, models: &Models) -> Vec<(RunId, Arc<Semaphore>)> {
        let stops = |facts: &Facts| facts.open.is_some_and(|open| open.stop.is_some());
        let now = self.house.published.clock().boot_ms();
        let rests = |facts: &Facts, rest: &Rest| {
            // Whoever is asked to stop waits for nothing else; only a journal that takes nothing is left alone.
            let stopping = stops(facts) && rest.broken == 0;
            let full = rest.route.as_ref().is_some_and(|route| self.house.lanes.full(route));
            !stopping && (rest.until_boot_ms > now || full)
        };
        let free = |facts: &Facts| {
            !self.working.contains_key(&facts.id) && !self.resting.get(&facts.id).is_some_and(|rest| rests(facts, rest))
        };
        let (endings, places) = (&self.endings, &self.house.places);
        let ending = models.runs.working().filter(stops).filter(free).take(endings.available_permits());
        let others = models.runs.working().filter(|facts| !stops(facts)).chain(models.startable()).filter(free);
        let others = others.take(places.available_permits()).map(|facts| (facts.id, Arc::clone(places)));
        ending.map(|facts| (facts.id, Arc::clone(endings))).chain(others).collect()
    }

    fn left(&mut self, (run, outcome): Left) {
        self.working.remove(&run);
        let broken = self.resting.remove(&run).map_or(0, |rest| rest.broken);
        let now = self.house.published.clock().boot_ms();
        let rest = match outcome {
            Ok(None) => return,
            Ok(Some(Later::Pause(pause_ms))) => {
                Rest { until_boot_ms: now.saturating_add(pause_ms), pause: true, ..Rest::default() }
            }
            // Its pause, if it had one, is over.
            Ok(Some(Later::Room(route))) => Rest { route: Some(route), pause: true, ..Rest::default() },
            Err(refusal) => {
                tracing::warn!(run = %run, reason = %refusal.reason, "a run's worker broke off: {}", refusal.detail);
                let pause_ms = doubled(limits::REST_MS, broken, limits::REST_MS_MAX);
                let broken = broken.saturating_add(1);
                Rest { broken, until_boot_ms: now.saturating_add(pause_ms), ..Rest::default() }
            }
        };
        self.resting.insert(run, rest);
        // Whoever ended has no worker that could leave again.
        let models = self.house.published.models();
        self.resting.retain(|run, _| models.runs.get(*run).is_some_and(|facts| facts.open.is_some()));
    }
}
