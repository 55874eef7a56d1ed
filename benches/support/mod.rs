//! What the benchmarks share: medians, ratios, and how busy the machine was with other things.

use std::time::Duration;

/// Median, smallest and largest of the rounds.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

/// Sorts out the rounds of one contender.
pub fn spread(mut values: Vec<f64>) -> Spread {
    values.sort_by(f64::total_cmp);
    Spread { median: values[values.len() / 2], low: values[0], high: values[values.len() - 1] }
}

/// Prints one line: ours, theirs, and the ratio of the medians.
pub fn compare(what: &str, unit: &str, ours: Vec<f64>, (baseline, theirs): (&str, Vec<f64>)) {
    let (ours, theirs) = (spread(ours), spread(theirs));
    println!(
        "{what}: {:.0} {unit} ({:.0} to {:.0}); {baseline}: {:.0} {unit} ({:.0} to {:.0}); ratio {:.2}",
        ours.median,
        ours.low,
        ours.high,
        theirs.median,
        theirs.low,
        theirs.high,
        ours.median / theirs.median
    );
}

fn busy() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap();
    let first = text.lines().next().unwrap();
    let numbers: Vec<f64> = first.split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
    let total: f64 = numbers.iter().sum();
    (total - numbers[3] - numbers[4], total)
}

/// Share of the processors that others use while the benchmark itself rests, in percent.
pub fn foreign_load() -> f64 {
    let before = busy();
    std::thread::sleep(Duration::from_millis(400));
    let after = busy();
    (after.0 - before.0) / (after.1 - before.1).max(1.0) * 100.0
}

/// A part of a run's arguments that chooses benchmarks: all, if none is named.
pub fn chosen(name: &str) -> bool {
    let mut named = std::env::args().skip(1).filter(|word| !word.starts_with('-')).peekable();
    named.peek().is_none() || named.any(|word| word == name)
}
