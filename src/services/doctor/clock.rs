//! The wall clock: whether it stands in the present, and not before anything that the journal's files were written at.

use super::Finding;
use crate::journal::layout;
use crate::platform::clock::Clock;
use crate::platform::disk::Disk as _;
use crate::platform::files::Folder;

const CHECK: &str = "clock";
/// The first of January 2026: no clock that is right shows an earlier time.
const EARLIEST_MS: u64 = 1_767_225_600_000;
/// How far a file may lie in the future before the clock is doubted.
const SLACK_MS: u64 = 60_000;

pub(super) fn check(folder: &Folder, clock: &dyn Clock) -> Finding {
    let newest = folder.list(layout::FOLDER).ok().and_then(|entries| {
        let times = entries.iter().filter(|entry| entry.plain).filter_map(|entry| {
            let facts = rustix::fs::lstat(folder.path().join(layout::FOLDER).join(&entry.name)).ok()?;
            u64::try_from(facts.st_mtime).ok().map(|seconds| seconds * 1_000)
        });
        times.max()
    });
    judge(clock.wall_ms(), newest)
}

fn judge(now_ms: u64, newest_ms: Option<u64>) -> Finding {
    let advice = "set the clock (for instance with chrony); if expiries were paused, `chancery runtime trust-clock`";
    if now_ms < EARLIEST_MS {
        return Finding::broken(CHECK, "the wall clock stands years in the past", advice);
    }
    match newest_ms {
        Some(newest) if newest > now_ms + SLACK_MS => {
            let ahead = (newest - now_ms) / 1_000;
            Finding::broken(CHECK, format!("the journal was written {ahead} s in this clock's future"), advice)
        }
        Some(_) => Finding::ok(CHECK, "the wall clock is not before what was written"),
        None => Finding::ok(CHECK, "the wall clock stands in the present; nothing was written yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::doctor::Outcome;

    #[test]
    fn a_clock_in_the_past_is_broken() {
        assert_eq!(judge(0, None).outcome, Outcome::Broken);
        assert_eq!(judge(EARLIEST_MS, None).outcome, Outcome::Ok);
        assert_eq!(judge(EARLIEST_MS, Some(EARLIEST_MS + SLACK_MS)).outcome, Outcome::Ok);
        assert_eq!(judge(EARLIEST_MS, Some(EARLIEST_MS + SLACK_MS + 1)).outcome, Outcome::Broken);
    }
}
