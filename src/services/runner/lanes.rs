//! How many runs wait for the same route at a time: as many as may work, each without a place. However many routes do not
//! answer, there is room for the others.

use std::sync::Arc;

use crate::services::lanes::{Bounds, Lane, Lanes as Shared, Side};

/// How many calls of a route may be under way, where its terms say so.
pub(super) type OfTerms = Arc<dyn Fn(&str) -> Option<usize> + Send + Sync>;

/// The runs' side of the calls of models under way.
#[derive(Clone)]
pub(super) struct Lanes {
    each: usize,
    of_terms: OfTerms,
    shared: Shared,
}

impl Lanes {
    /// Lanes for so many calls of a route at a time, or fewer where its terms say so and others make calls of it.
    pub(super) fn new(each: usize, of_terms: OfTerms, shared: Shared) -> Self {
        Self { each, of_terms, shared }
    }

    fn bounds(&self, route: &str) -> Bounds {
        Bounds { own: self.each, all: (self.of_terms)(route).unwrap_or(usize::MAX) }
    }

    /// Whether no further call of the route may be made now.
    pub(super) fn full(&self, route: &str) -> bool {
        self.shared.full(route, Side::Run, self.bounds(route))
    }

    /// A place for a call of the route, if there is one.
    pub(super) fn enter(&self, route: &str) -> Option<Lane> {
        self.shared.enter(route, Side::Run, self.bounds(route))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_its_own_lanes_and_gets_them_back() {
        let lanes = Lanes::new(3, Arc::new(|route| (route == "narrow").then_some(1)), Shared::default());
        let narrow = lanes.enter("narrow");
        assert!(narrow.is_some() && lanes.full("narrow") && lanes.enter("narrow").is_none());
        let mut held: Vec<Lane> = std::iter::from_fn(|| lanes.enter("dead")).collect();
        assert_eq!((held.len(), lanes.full("dead"), lanes.full("other")), (3, true, false));
        assert!(lanes.enter("other").is_some());
        held.pop();
        assert!(!lanes.full("dead") && lanes.enter("dead").is_some());
    }
}
