//! Failures counted by source, in a map of bounded size. Only failures count: a caller with a valid token never waits
//! because of a stranger.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;

use super::passage::Source;

struct Window {
    since_ms: u64,
    failures: u32,
}

/// How often each source failed of late.
pub struct Failures {
    windows: Mutex<HashMap<Source, Window>>,
    allowed: u32,
    window_ms: u64,
    most_sources: usize,
}

impl Failures {
    /// Lets a source fail this often in a window; remembers at most `most_sources`.
    pub fn new(allowed: u32, window_ms: u64, most_sources: usize) -> Self {
        Self { windows: Mutex::default(), allowed, window_ms, most_sources }
    }

    /// Counts a failure to the source's network. Says how long the source must wait, milliseconds, if it failed too often.
    pub fn count(&self, source: Source, now_ms: u64) -> Option<u64> {
        let source = network(source);
        let mut windows = self.windows.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if windows.len() >= self.most_sources && !windows.contains_key(&source) {
            self.make_room(&mut windows, now_ms);
        }
        let window = windows.entry(source).or_insert(Window { since_ms: now_ms, failures: 0 });
        if now_ms.saturating_sub(window.since_ms) >= self.window_ms {
            *window = Window { since_ms: now_ms, failures: 0 };
        }
        window.failures = window.failures.saturating_add(1);
        (window.failures > self.allowed).then(|| (window.since_ms + self.window_ms).saturating_sub(now_ms).max(1))
    }

    /// Forgets what is over; where nothing is, the source that failed least.
    fn make_room(&self, windows: &mut HashMap<Source, Window>, now_ms: u64) {
        windows.retain(|_, window| now_ms.saturating_sub(window.since_ms) < self.window_ms);
        if windows.len() >= self.most_sources
            && let Some(least) = windows.iter().min_by_key(|(_, window)| window.failures).map(|(source, _)| *source)
        {
            windows.remove(&least);
        }
    }
}

/// What failures are counted to: in version 6 whoever has one address has the 2^64 of its network.
fn network(source: Source) -> Source {
    match source {
        Source::Address(IpAddr::V6(address)) => {
            Source::Address(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn source(number: u32) -> Source {
        Source::Address(Ipv4Addr::from_bits(number).into())
    }

    #[test]
    fn a_source_waits_for_the_rest_of_its_window_and_others_do_not() {
        let failures = Failures::new(2, 1_000, 8);
        assert_eq!([failures.count(source(1), 0), failures.count(source(1), 10)], [None, None]);
        assert_eq!(failures.count(source(1), 400), Some(600));
        assert_eq!(failures.count(source(2), 400), None);
        assert_eq!(failures.count(source(1), 1_000), None);
    }

    #[test]
    fn addresses_of_one_network_of_version_6_are_one_source_and_other_networks_are_not() {
        let failures = Failures::new(2, 1_000, 8);
        let source = |text: &str| Source::Address(text.parse().unwrap());
        assert_eq!(failures.count(source("2001:db8::1"), 0), None);
        assert_eq!(failures.count(source("2001:db8::2:1"), 0), None);
        assert_eq!(failures.count(source("2001:db8::ffff:0:0:3"), 0), Some(1_000));
        assert_eq!(failures.count(source("2001:db8:0:1::1"), 0), None);
    }

    #[test]
    fn the_map_stays_bounded_and_keeps_the_worst_source() {
        let failures = Failures::new(2, 1_000, 8);
        for _ in 0..5 {
            failures.count(source(0), 0);
        }
        for number in 1..1_000 {
            failures.count(source(number), 1);
        }
        assert!(failures.windows.lock().unwrap().len() <= 8);
        assert!(failures.count(source(0), 2).is_some());
    }
}
