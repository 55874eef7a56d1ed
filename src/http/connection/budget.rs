//! What the bodies of all requests may hold in memory together, and what those of all answers may. Each body is bounded by
//! itself; the sum needs a bound of its own, because many can be on their way at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes that are left for bodies.
#[derive(Debug, Clone)]
pub struct BodyBudget(Arc<AtomicU64>);

impl BodyBudget {
    /// A budget of this many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// A share of nothing yet, for one request.
    pub fn share(&self) -> BodyShare {
        BodyShare { budget: self.clone(), bytes: AtomicU64::new(0) }
    }
}

/// What one request took of the budget; given back when dropped.
#[derive(Debug)]
pub struct BodyShare {
    budget: BodyBudget,
    bytes: AtomicU64,
}

impl BodyShare {
    /// Takes this much more. False, and nothing taken, where that much is not left.
    pub fn take(&self, bytes: u64) -> bool {
        let taken =
            self.budget.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok();
        if taken {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.budget.0.fetch_add(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_took_is_left_again_when_it_is_over() {
        let budget = BodyBudget::new(10);
        let (one, two) = (budget.share(), budget.share());
        assert!(one.take(4) && one.take(3) && two.take(3));
        assert!(!two.take(1), "nothing is left");
        drop(one);
        assert!(two.take(7) && !two.take(1));
        drop(two);
        assert!(budget.share().take(10));
    }
}
