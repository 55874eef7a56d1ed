//! Counts how often a number fell into which range. Counting takes no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the ranges of a duration, microseconds.
const DURATION_US: &[u64] = &[
    50, 100, 250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 30_000, 60_000, 125_000, 250_000, 500_000, 1_000_000,
    4_000_000, 16_000_000, 60_000_000,
];
/// Upper bounds of the ranges of a count.
const COUNT: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

#[derive(Debug)]
struct Ranges {
    bounds: &'static [u64],
    /// Units of the bounds in one unit of what is shown.
    scale: u32,
    /// One a bound, and one for what passes them all.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A histogram. Clones count together.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<Ranges>);

/// What a histogram shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Upper bound of each range, the last without one, and how often a number fell into it.
    pub buckets: Vec<(f64, u64)>,
    /// All numbers together.
    pub sum: f64,
    /// How many numbers there were.
    pub count: u64,
}

impl Histogram {
    fn new(bounds: &'static [u64], scale: u32) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Ranges { bounds, scale, counts, sum: AtomicU64::new(0) }))
    }

    /// Of durations, shown in seconds.
    pub fn of_durations() -> Self {
        Self::new(DURATION_US, 1_000_000)
    }

    /// Of counts.
    pub fn of_counts() -> Self {
        Self::new(COUNT, 1)
    }

    fn add(&self, number: u64) {
        let range = self.0.bounds.partition_point(|bound| *bound < number);
        if let Some(count) = self.0.counts.get(range) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum.fetch_add(number, Ordering::Relaxed);
    }

    /// Counts a duration.
    pub fn duration(&self, duration: Duration) {
        self.add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts a count.
    pub fn count(&self, count: usize) {
        self.add(count as u64);
    }

    /// What it shows now.
    #[allow(clippy::cast_precision_loss, reason = "numbers for people")]
    pub fn read(&self) -> Reading {
        let scale = f64::from(self.0.scale);
        let bounds = self.0.bounds.iter().map(|bound| *bound as f64 / scale).chain([f64::INFINITY]);
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|bucket| bucket.1).sum();
        Reading { buckets, sum: self.0.sum.load(Ordering::Relaxed) as f64 / scale, count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_falls_into_the_first_range_whose_bound_it_does_not_pass() {
        let counts = Histogram::of_counts();
        for number in [1, 2, 3, 1_024, 1_025] {
            counts.count(number);
        }
        let reading = counts.read();
        let found: Vec<(f64, u64)> = reading.buckets.into_iter().filter(|bucket| bucket.1 > 0).collect();
        assert_eq!(found, [(1.0, 1), (2.0, 1), (4.0, 1), (1_024.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((reading.sum, reading.count), (2_055.0, 5));
    }

    #[test]
    fn durations_are_told_in_seconds_and_kept_to_the_microsecond() {
        let durations = Histogram::of_durations();
        durations.duration(Duration::from_micros(150));
        let reading = durations.read();
        assert_eq!(reading.buckets.iter().find(|bucket| bucket.1 > 0), Some(&(0.000_25, 1)));
        assert_eq!((reading.sum, reading.count), (0.000_15, 1));
    }
}
