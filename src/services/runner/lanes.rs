//! How many runs wait for the same route at a time: as many as may work, each without a place. However many routes do not
//! answer, there is room for the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many calls of a route may be under way, where that is bounded by more than the number of runs.
pub(super) type Bounds = Arc<dyn Fn(&str) -> Option<usize> + Send + Sync>;

/// Calls of models under way, by route. Clones share it.
#[derive(Clone)]
pub(super) struct Lanes {
    each: usize,
    bounds: Bounds,
    taken: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// A call of a model that may be made; its place is free again when this is dropped.
pub(super) struct Lane {
    lanes: Lanes,
    route: String,
}

impl Lanes {
    /// Lanes for so many calls of a route at a time, or fewer where its terms say so.
    pub(super) fn new(each: usize, bounds: Bounds) -> Self {
        Self { each, bounds, taken: Arc::default() }
    }

    fn most(&self, route: &str) -> usize {
        (self.bounds)(route).unwrap_or(self.each).min(self.each)
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no further call of the route may be made now.
    pub(super) fn full(&self, route: &str) -> bool {
        let most = self.most(route);
        self.taken().get(route).is_some_and(|taken| *taken >= most)
    }

    /// A place for a call of the route, if there is one.
    pub(super) fn enter(&self, route: &str) -> Option<Lane> {
        let most = self.most(route);
        let mut all = self.taken();
        let taken = all.entry(route.to_owned()).or_default();
        if *taken >= most {
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
    fn a_route_has_its_own_lanes_and_gets_them_back() {
        let lanes = Lanes::new(3, Arc::new(|route| (route == "narrow").then_some(1)));
        let narrow = lanes.enter("narrow");
        assert!(narrow.is_some() && lanes.full("narrow") && lanes.enter("narrow").is_none());
        let mut held: Vec<Lane> = std::iter::from_fn(|| lanes.enter("dead")).collect();
        assert_eq!((held.len(), lanes.full("dead"), lanes.full("other")), (3, true, false));
        assert!(lanes.enter("other").is_some());
        held.pop();
        assert!(!lanes.full("dead") && lanes.enter("dead").is_some());
    }
}
