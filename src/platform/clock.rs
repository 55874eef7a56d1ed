//! Clocks: wall time for people, boot time for measuring. Both are arguments of whatever needs them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A source of time.
pub trait Clock: Send + Sync {
    /// Wall clock, Unix milliseconds UTC. May jump.
    fn wall_ms(&self) -> u64;
    /// Time since the machine booted, suspend included. Never goes back.
    fn since_boot(&self) -> Duration;
    /// The same in milliseconds.
    fn boot_ms(&self) -> u64 {
        u64::try_from(self.since_boot().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

fn read(id: rustix::time::ClockId) -> Duration {
    let now = rustix::time::clock_gettime(id);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        u64::try_from(read(rustix::time::ClockId::Realtime).as_millis()).unwrap_or(u64::MAX)
    }

    fn since_boot(&self) -> Duration {
        read(rustix::time::ClockId::Boottime)
    }
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct FakeClock {
    wall: AtomicU64,
    boot: AtomicU64,
}

impl FakeClock {
    /// A clock that starts at these times.
    pub fn at(wall_ms: u64, boot_ms: u64) -> Self {
        Self { wall: AtomicU64::new(wall_ms), boot: AtomicU64::new(boot_ms) }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, ms: u64) {
        self.wall.fetch_add(ms, Ordering::SeqCst);
        self.boot.fetch_add(ms, Ordering::SeqCst);
    }

    /// Makes the wall clock jump.
    pub fn jump_to(&self, wall_ms: u64) {
        self.wall.store(wall_ms, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn wall_ms(&self) -> u64 {
        self.wall.load(Ordering::SeqCst)
    }

    fn since_boot(&self) -> Duration {
        Duration::from_millis(self.boot.load(Ordering::SeqCst))
    }
}
