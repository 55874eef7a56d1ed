//! What was spent in which day or month, by the calendar of the clock that the records name. A clock that was wrong costs
//! no other period anything: what was spent under it belongs to the period that it said.

use serde::{Deserialize, Serialize};

/// How many periods are kept.
const KEPT: usize = 8;

/// What was spent in the newest periods in which anything was, by their numbers: ascending, places without one first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Spent([(u64, u64); KEPT]);

impl Spent {
    /// The period that a moment's spending belongs to: its own, or the oldest that is kept where it is older, so that no
    /// clock gives again what was forgotten.
    fn counted(&self, period: u64) -> u64 {
        self.0.first().map_or(period, |(oldest, _)| period.max(*oldest))
    }

    /// Spent in this period, micro-units.
    pub(super) fn of(&self, period: u64) -> u64 {
        let period = self.counted(period);
        self.0.iter().find(|(kept, _)| *kept == period).map_or(0, |(_, micros)| *micros)
    }

    pub(super) fn add(&mut self, period: u64, micros: u64) {
        let period = self.counted(period);
        if let Some((_, spent)) = self.0.iter_mut().find(|(kept, _)| *kept == period) {
            *spent = spent.saturating_add(micros);
        } else if let Some(oldest) = self.0.first_mut() {
            *oldest = (period, micros);
            self.0.sort_unstable();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_period_has_its_own_sum_in_whatever_order_they_come() {
        let mut spent = Spent::default();
        for (period, micros) in [(20, 1), (21, 2), (9_000, 4), (20, 8), (22, 16)] {
            spent.add(period, micros);
        }
        assert_eq!([19, 20, 21, 22, 23, 9_000].map(|period| spent.of(period)), [0, 9, 2, 16, 0, 4]);
    }

    #[test]
    fn what_is_older_than_what_is_kept_counts_in_the_oldest_that_is() {
        let mut spent = Spent::default();
        (1..=10).for_each(|period| spent.add(period, period));
        assert_eq!([2, 3, 4, 10, 11].map(|period| spent.of(period)), [3, 3, 4, 10, 0], "1 and 2 are forgotten");
        spent.add(1, 100);
        assert_eq!((spent.of(1), spent.of(3), spent.of(4)), (103, 103, 4));
    }
}
