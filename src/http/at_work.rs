//! Idempotency keys of requests that are at work: a repeat whose patience ends while the first goes on is told just that.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::edge::Gate;
use crate::domain::record::RequestFacts;
use crate::services::authority::Authorized;

/// Organisation, scope and key.
type Key = (String, String, String);

/// The keys at work.
#[derive(Debug, Clone, Default)]
pub struct KeysAtWork(Arc<Mutex<BTreeSet<Key>>>);

/// One request at work, until it is dropped.
#[derive(Debug)]
pub struct AtWork {
    keys: KeysAtWork,
    key: Option<Key>,
    repeat: bool,
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
        let key = request.key.as_ref().map(|key| (org.to_owned(), request.scope.clone(), key.clone()));
        let repeat = key.as_ref().is_some_and(|key| !self.lock().insert(key.clone()));
        AtWork { keys: self.clone(), key: key.filter(|_| !repeat), repeat }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AtWork {
    /// Whether the same request was at work already.
    pub fn is_repeat(&self) -> bool {
        self.repeat
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.keys.lock().remove(key);
        }
    }
}
