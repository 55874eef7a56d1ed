//! Calls of models under way, by route: those of runs, and those of clients behind the gateway.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who makes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A run.
    Run,
    /// A client.
    Client,
}

/// How many calls of a route may be under way.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Of this side.
    pub own: usize,
    /// Of both sides.
    pub all: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    runs: usize,
    clients: usize,
}

impl Taken {
    fn of(&mut self, side: Side) -> &mut usize {
        match side {
            Side::Run => &mut self.runs,
            Side::Client => &mut self.clients,
        }
    }

    fn is_full(mut self, side: Side, most: Bounds) -> bool {
        *self.of(side) >= most.own || self.runs + self.clients >= most.all
    }
}

/// The places. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Lanes(Arc<Mutex<BTreeMap<String, Taken>>>);

/// A call that may be made; its place is free again when this is dropped.
#[derive(Debug)]
pub struct Lane {
    lanes: Lanes,
    route: String,
    side: Side,
}

impl Lanes {
    fn taken(&self) -> MutexGuard<'_, BTreeMap<String, Taken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no further call of the route may be made now.
    pub fn full(&self, route: &str, side: Side, most: Bounds) -> bool {
        self.taken().get(route).copied().unwrap_or_default().is_full(side, most)
    }

    /// A place for a call of the route, if there is one.
    pub fn enter(&self, route: &str, side: Side, most: Bounds) -> Option<Lane> {
        let mut all = self.taken();
        let taken = all.entry(route.to_owned()).or_default();
        if taken.is_full(side, most) {
            return None;
        }
        *taken.of(side) += 1;
        Some(Lane { lanes: self.clone(), route: route.to_owned(), side })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(taken) = self.lanes.taken().get_mut(&self.route) {
            let taken = taken.of(self.side);
            *taken = taken.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_its_own_lanes_which_runs_and_clients_share_and_gets_them_back() {
        let lanes = Lanes::default();
        let most = Bounds { own: 2, all: 3 };
        let mut runs: Vec<Lane> = std::iter::from_fn(|| lanes.enter("r", Side::Run, most)).collect();
        assert_eq!(
            (runs.len(), lanes.full("r", Side::Run, most), lanes.full("r", Side::Client, most)),
            (2, true, false)
        );
        let client = lanes.enter("r", Side::Client, most);
        assert!(client.is_some() && lanes.enter("r", Side::Client, most).is_none());
        runs.pop();
        assert!(!lanes.full("r", Side::Run, most) && lanes.enter("other", Side::Run, most).is_some());
        let _second = lanes.enter("r", Side::Client, most);
        assert!(lanes.full("r", Side::Run, most), "the clients have taken the place");
        drop(client);
        assert!(lanes.enter("r", Side::Run, most).is_some());
    }
}
