//! Idempotency keys of requests that are at work: a repeat whose patience ends while the first goes on is told just that.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::edge::Gate;
use crate::domain::record::RequestFacts;
use crate::platform::tasks::Milestone;
use crate::services::authority::Authorized;

/// Organisation, scope and key.
type Key = (String, String, String);

/// The keys at work, and when each will have ended.
#[derive(Debug, Clone, Default)]
pub struct KeysAtWork(Arc<Mutex<BTreeMap<Key, Milestone>>>);

/// One request at work, until it is dropped.
#[derive(Debug)]
pub struct AtWork {
    keys: KeysAtWork,
    /// The key and its end, where this is the first request under it.
    own: Option<(Key, Milestone)>,
    /// The end of the same request that was at work before.
    before: Option<Milestone>,
}

impl Gate {
    /// Takes note of a request for a change, and says how long whoever asks waits for it.
    pub fn patience(&self, right: &Authorized, request: &RequestFacts) -> (AtWork, Duration) {
        let at_work = self.keys.enter(right.caller().organisation(), request);
        (at_work, Duration::from_millis(self.limits.mutation_ms))
    }
}

impl KeysAtWork {
    /// Takes note of a request.
    pub fn enter(&self, org: &str, request: &RequestFacts) -> AtWork {
        let (mut own, mut before) = (None, None);
        if let Some(key) = &request.key {
            match self.lock().entry((org.to_owned(), request.scope.clone(), key.clone())) {
                Entry::Occupied(first) => before = Some(first.get().clone()),
                Entry::Vacant(place) => own = Some((place.key().clone(), place.insert(Milestone::default()).clone())),
            }
        }
        AtWork { keys: self.clone(), own, before }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Milestone>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AtWork {
    /// Waits for the same request that came before, if one is at work: its repeat does nothing meanwhile.
    pub async fn turn(&self) {
        if let Some(before) = &self.before {
            before.reached().await;
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        if let Some((key, ended)) = self.own.take() {
            self.keys.lock().remove(&key);
            ended.reach();
        }
    }
}
