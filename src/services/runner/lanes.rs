//! How many runs wait for the same route at a time: fewer than work in all, so that a route whose server does not answer
//! leaves room for the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Calls of models under way, by route. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    each: usize,
    taken: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// A call of a model that may be made; its place is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Lane {
    lanes: Lanes,
    route: String,
}

impl Lanes {
    /// Lanes for so many runs at a time: a quarter of them, at least one where there are two, is out of any one route's reach.
    pub(super) fn new(runs_at_a_time: usize) -> Self {
        let others = (runs_at_a_time / 4).max(1);
        Self { each: runs_at_a_time.saturating_sub(others).max(1), taken: Arc::default() }
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no further call of the route may be made now.
    pub(super) fn full(&self, route: &str) -> bool {
        self.taken().get(route).is_some_and(|taken| *taken >= self.each)
    }

    /// A place for a call of the route, if there is one.
    pub(super) fn enter(&self, route: &str) -> Option<Lane> {
        let mut all = self.taken();
        let taken = all.entry(route.to_owned()).or_default();
        if *taken >= self.each {
            return None;
        }
        *taken += 1;
        Some(Lane { lanes: self.clone(), route: route.to_owned() })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(taken) = self.lanes.taken().get_mut(&self.route) {
            *taken = taken.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_never_has_all_places_where_there_are_two_and_gets_its_own_back() {
        for (all, each) in [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (100, 75)] {
            let lanes = Lanes::new(all);
            let mut held: Vec<Lane> = std::iter::from_fn(|| lanes.enter("dead")).collect();
            assert_eq!((held.len(), lanes.full("dead"), lanes.full("other")), (each, true, false), "{all}");
            assert!(lanes.enter("other").is_some());
            held.pop();
            assert!(!lanes.full("dead") && lanes.enter("dead").is_some());
        }
    }
}
