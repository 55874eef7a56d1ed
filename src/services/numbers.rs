//! What the daemon counts while it works: batches of the journal, calls of model providers, and secrets that were not
//! given.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::reason::Reason;
use crate::platform::histogram::{Histogram, Reading};

/// The word for a call of a provider that was answered.
pub const ANSWERED: &str = "ok";

/// Numbers of the journal's batches. Clones count together.
#[derive(Debug, Clone)]
pub struct BatchNumbers {
    /// Records in each batch.
    pub records: Histogram,
    /// How long its write and sync took.
    pub sync: Histogram,
}

impl Default for BatchNumbers {
    fn default() -> Self {
        Self { records: Histogram::of_counts(), sync: Histogram::of_durations() }
    }
}

impl BatchNumbers {
    /// Counts a batch.
    pub fn observe(&self, records: usize, took: Duration) {
        self.records.count(records);
        self.sync.duration(took);
    }
}

/// How the last call over a route ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastCall {
    /// Why it was not answered, if it was not.
    pub code: Option<Reason>,
    /// When, Unix milliseconds.
    pub at_ms: u64,
}

#[derive(Debug)]
struct RouteNumbers {
    requests: BTreeMap<&'static str, u64>,
    seconds: Histogram,
    last: Option<LastCall>,
}

impl RouteNumbers {
    fn none() -> Self {
        Self { requests: BTreeMap::new(), seconds: Histogram::of_durations(), last: None }
    }
}

/// Calls over one route, as the metrics show them.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteReading {
    /// Route id, out of the routes file.
    pub route: String,
    /// How many calls ended so: [`ANSWERED`] or a code.
    pub requests: BTreeMap<&'static str, u64>,
    /// How long they took.
    pub seconds: Reading,
}

/// Calls of model providers, by route. Clones count together.
#[derive(Debug, Clone)]
pub struct ProviderNumbers(Arc<Mutex<BTreeMap<String, RouteNumbers>>>);

impl ProviderNumbers {
    /// No calls yet over these routes; calls over others are not counted.
    pub fn new(routes: impl Iterator<Item = String>) -> Self {
        Self(Arc::new(Mutex::new(routes.map(|id| (id, RouteNumbers::none())).collect())))
    }

    /// From now on calls over these routes are counted, and no others; of those that are said to have changed it is no
    /// longer known how their last call ended.
    pub fn now_of(&self, routes: impl Iterator<Item = (String, bool)>) {
        let mut counted = self.routes();
        let mut before = std::mem::take(&mut *counted);
        for (id, changed) in routes {
            let mut numbers = before.remove(&id).unwrap_or_else(RouteNumbers::none);
            numbers.last = numbers.last.filter(|_| !changed);
            counted.insert(id, numbers);
        }
    }

    fn routes(&self) -> MutexGuard<'_, BTreeMap<String, RouteNumbers>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call that ended, with this status where the provider said one. A request that the provider finds wrong says
    /// nothing about the route; its key, its account and its load do.
    pub fn observe(&self, route: &str, call: LastCall, took: Duration, status: Option<u16>) {
        if let Some(numbers) = self.routes().get_mut(route) {
            *numbers.requests.entry(call.code.map_or(ANSWERED, Reason::code)).or_default() += 1;
            numbers.seconds.duration(took);
            if !matches!(status, Some(400 | 404..=407 | 409..=428 | 430..=499)) {
                numbers.last = Some(call);
            }
        }
    }

    /// How the last call over a route ended; none where none was made since the start.
    pub fn last(&self, route: &str) -> Option<LastCall> {
        self.routes().get(route).and_then(|numbers| numbers.last)
    }

    /// Everything counted.
    pub fn read(&self) -> Vec<RouteReading> {
        let reading = |(route, numbers): (&String, &RouteNumbers)| RouteReading {
            route: route.clone(),
            requests: numbers.requests.clone(),
            seconds: numbers.seconds.read(),
        };
        self.routes().iter().map(reading).collect()
    }
}

/// Why a lease gave no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseFault {
    /// It was redeemed before, or its call has ended.
    Used,
    /// No record of this call names it.
    Unrecorded,
    /// It was not redeemed in time.
    Lapsed,
    /// It was taken back.
    Revoked,
}

impl LeaseFault {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Used, Self::Unrecorded, Self::Lapsed, Self::Revoked];

    /// Its word in numbers and in the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Unrecorded => "unrecorded",
            Self::Lapsed => "lapsed",
            Self::Revoked => "revoked",
        }
    }

    /// What the call is told.
    pub fn reason(self) -> Reason {
        match self {
            Self::Used | Self::Unrecorded | Self::Lapsed => Reason::VaultLeaseUsed,
            Self::Revoked => Reason::VaultLeaseRevoked,
        }
    }
}

/// Secrets that calls did not get. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct VaultNumbers(Arc<NotGiven>);

#[derive(Debug, Default)]
struct NotGiven {
    leases: [AtomicU64; LeaseFault::ALL.len()],
    unopened: AtomicU64,
}

impl VaultNumbers {
    /// Counts a lease that gave nothing.
    pub fn refused(&self, fault: LeaseFault) {
        self.0.leases[fault as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a secret that could not be opened for a call.
    pub fn unopened(&self) {
        self.0.unopened.fetch_add(1, Ordering::Relaxed);
    }

    /// How many leases gave nothing for this.
    pub fn leases_refused(&self, fault: LeaseFault) -> u64 {
        self.0.leases[fault as usize].load(Ordering::Relaxed)
    }

    /// How many times a secret could not be opened for a call.
    pub fn reveal_failures(&self) -> u64 {
        self.0.unopened.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_route_and_outcome_and_routes_that_nobody_configured_are_not() {
        let numbers = ProviderNumbers::new(["a".to_owned(), "b".to_owned()].into_iter());
        assert_eq!(numbers.last("a"), None);
        let failed = LastCall { code: Some(Reason::ProviderUnavailable), at_ms: 7 };
        numbers.observe("a", LastCall { code: None, at_ms: 5 }, Duration::from_millis(3), None);
        numbers.observe("a", failed, Duration::from_millis(3), Some(503));
        numbers.observe("stranger", failed, Duration::ZERO, None);
        let wrong = LastCall { code: Some(Reason::ProviderRejected), at_ms: 8 };
        numbers.observe("a", wrong, Duration::from_millis(3), Some(400));
        assert_eq!((numbers.last("a"), numbers.last("b"), numbers.last("stranger")), (Some(failed), None, None));
        let read = numbers.read();
        assert_eq!(read.iter().map(|route| route.route.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(read[0].requests, [("ok", 1), ("provider.rejected", 1), ("provider.unavailable", 1)].into());
        assert_eq!((read[0].seconds.count, read[1].seconds.count), (3, 0));
    }
}
