//! Watches the machine's clock. The wall clock may be set, the boot-time clock can't: where the two drift apart by more
//! than an hour, or the wall clock is implausible at start, the clock is not trusted and nothing lapses by it.
//!
//! The clerk looks before each decision, so that no decision falls between a jump and its discovery; a task looks while
//! nothing is decided.

use std::time::Duration;

use super::clerk::Clerk;
use crate::domain::context::{ClockTrust, TimeTrusted, TimeUntrusted};
use crate::domain::event::Event;
use crate::platform::clock::Clock;
use crate::platform::tasks::Tasks;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Drift from which the clock is not trusted.
const JUMP_MS: u64 = HOUR_MS;
/// Drift within the quiet time from which that begins again.
const FURTHER_JUMP_MS: u64 = MINUTE_MS;
/// How long a clock that jumped must be quiet.
const QUIET_MS: u64 = 10 * MINUTE_MS;
/// How far behind the last record, and how far ahead of it, the wall clock may be at start.
const BEHIND_AT_START_MS: u64 = HOUR_MS;
const AHEAD_AT_START_MS: u64 = 30 * DAY_MS;
/// Before this nobody ran this program: the beginning of 2025.
const EARLIEST_MS: u64 = 1_735_689_600_000;
/// How often it is looked where nothing is decided, milliseconds.
const TICK_MS: u64 = 10_000;

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Wall clock, Unix milliseconds.
    pub wall_ms: u64,
    /// Boot-time clock, milliseconds.
    pub boot_ms: u64,
}

impl Reading {
    /// Both clocks now.
    pub fn of(clock: &dyn Clock) -> Self {
        Self { wall_ms: clock.wall_ms(), boot_ms: clock.boot_ms() }
    }

    /// How far the wall clock moved against the boot-time clock since.
    fn drift_ms(self, since: Self) -> i64 {
        signed(self.wall_ms, since.wall_ms).saturating_sub(signed(self.boot_ms, since.boot_ms))
    }
}

fn signed(later: u64, earlier: u64) -> i64 {
    let distance = i64::try_from(later.abs_diff(earlier)).unwrap_or(i64::MAX);
    if later < earlier { -distance } else { distance }
}

/// What the clerk knows of the clocks in this start of the daemon.
#[derive(Debug)]
pub struct Watch {
    anchor: Reading,
    /// Since when a clock that is not trusted has been quiet.
    quiet: Option<Reading>,
}

impl Watch {
    /// Anchors both clocks here.
    pub fn anchored(now: Reading) -> Self {
        Self { anchor: now, quiet: None }
    }

    /// Compares the clocks; gives what is to be recorded. Asked again while that is not folded, it says so again.
    pub fn observe(&mut self, trust: ClockTrust, now: Reading) -> Option<Event> {
        match trust {
            ClockTrust::Trusted => {
                // An operator trusts it as it is.
                if self.quiet.take().is_some() {
                    self.anchor = now;
                }
                let drift_ms = now.drift_ms(self.anchor);
                let Reading { wall_ms, boot_ms } = now;
                let jumped = drift_ms.unsigned_abs() > JUMP_MS;
                jumped.then(|| TimeUntrusted { wall_ms, boot_ms, drift_ms, at_start: false }.into())
            }
            ClockTrust::Jumped => match self.quiet {
                Some(since) if now.drift_ms(since).unsigned_abs() <= FURTHER_JUMP_MS => {
                    if now.boot_ms.saturating_sub(since.boot_ms) < QUIET_MS {
                        return None;
                    }
                    (self.anchor, self.quiet) = (now, None);
                    Some(TimeTrusted { wall_ms: now.wall_ms, by_operator: false }.into())
                }
                Some(_) | None => {
                    self.quiet = Some(now);
                    None
                }
            },
            ClockTrust::ImplausibleAtStart => {
                self.quiet = Some(now);
                None
            }
        }
    }
}

/// What is to be recorded at a start of the daemon whose last record has this time, if the wall clock is implausible.
pub fn at_start(last_at_ms: Option<u64>, now: Reading) -> Option<TimeUntrusted> {
    let Reading { wall_ms, boot_ms } = now;
    let expected = match last_at_ms {
        _ if wall_ms < EARLIEST_MS => last_at_ms.unwrap_or(EARLIEST_MS).max(EARLIEST_MS),
        Some(last) if wall_ms + BEHIND_AT_START_MS < last || wall_ms > last + AHEAD_AT_START_MS => last,
        Some(_) | None => return None,
    };
    Some(TimeUntrusted { wall_ms, boot_ms, drift_ms: signed(wall_ms, expected), at_start: true })
}

/// Looks at the clocks time after time until the drain begins.
pub fn follow(tasks: &Tasks, clerk: Clerk) {
    let stopping = tasks.stopping();
    tasks.spawn(async move {
        let work = async {
            loop {
                clerk.look_at_clock();
                tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
            }
        };
        tokio::select! {
            () = stopping => {}
            () = work => {}
        }
    });
}

#[cfg(test)]
mod tests;
