//! The file system of the state root: its free space, and whether its kind keeps what the journal builds on.

use super::Finding;
use crate::platform::files::Folder;

/// Less than this is broken: not even a segment and the written-ahead space fit.
const NEEDED_BYTES: u64 = 128 << 20;
/// Less than this is worth a word.
const COMFORT_BYTES: u64 = 1 << 30;
const NEEDED_INODES: u64 = 1_000;

pub(super) fn space(folder: &Folder) -> Finding {
    match folder.space() {
        Ok((free, total, inodes)) => judge(free, total, inodes),
        Err(error) => Finding::unknown("space", error.to_string(), "look at `df` for the state root"),
    }
}

fn judge(free: u64, total: u64, inodes: u64) -> Finding {
    let detail = format!("{} of {} MiB are free", free >> 20, total >> 20);
    let advice = "free space on this file system, or move the state root to a larger one";
    // File systems that count no inodes report none at all.
    if free < NEEDED_BYTES || (1..NEEDED_INODES).contains(&inodes) {
        Finding::broken("space", format!("{detail}, {inodes} inodes"), advice)
    } else if free < COMFORT_BYTES {
        Finding::advice("space", detail, advice)
    } else {
        Finding::ok("space", detail)
    }
}

/// Whether the kind of file system keeps what the journal builds on.
pub(super) fn kind(folder: &Folder) -> Finding {
    match rustix::fs::statfs(folder.path()) {
        // The width of the field differs between machines; the numbers fit 32 bits.
        Ok(facts) => judge_kind(u32::try_from(facts.f_type & 0xffff_ffff).unwrap_or(0)),
        Err(error) => Finding::unknown("file system", error.to_string(), "look at `df -T` for the state root"),
    }
}

fn judge_kind(magic: u32) -> Finding {
    let check = "file system";
    match magic {
        0xef53 => Finding::ok(check, "ext4 or one of its elders"),
        0x5846_5342 => Finding::ok(check, "xfs"),
        0x9123_683e | 0x2fc1_2fc1 | 0xca45_1a4e => Finding::advice(
            check,
            "copy-on-write (btrfs, zfs or bcachefs): space that was written ahead is no promise there",
            "keep a generous reserve of free space, or put the state root on ext4 or xfs",
        ),
        0x794c_7630 => Finding::advice(
            check,
            "an overlay, as in a container: what is written vanishes with the container",
            "mount a volume for the state root",
        ),
        0x0102_1994 | 0x8584_58f6 => Finding::broken(
            check,
            "memory (tmpfs or ramfs): nothing survives a restart of the machine",
            "put the state root on a disk",
        ),
        0x6969 | 0xff53_4d42 | 0xfe53_4d42 | 0x517b | 0x0102_1997 | 0x00c3_6400 | 0x6573_5546 => Finding::advice(
            check,
            "a network or user-space file system: locks and syncs may promise less than they say",
            "put the state root on a local disk",
        ),
        other => {
            Finding::unknown(check, format!("of a kind this program does not know: {other:#x}"), "prefer ext4 or xfs")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::doctor::Outcome;

    #[test]
    fn little_space_is_advice_and_too_little_is_broken() {
        let outcome = |free: u64, inodes: u64| judge(free, 10 << 30, inodes).outcome;
        assert_eq!(outcome(2 << 30, 1 << 20), Outcome::Ok);
        assert_eq!(outcome(2 << 30, 0), Outcome::Ok);
        assert_eq!(outcome(2 << 30, 10), Outcome::Broken);
        assert_eq!(outcome(512 << 20, 1 << 20), Outcome::Advice);
        assert_eq!(outcome(1 << 20, 1 << 20), Outcome::Broken);
    }

    #[test]
    fn kinds_that_promise_less_are_named_and_unknown_ones_are_unknown() {
        let outcome = |magic| judge_kind(magic).outcome;
        assert_eq!([0xef53, 0x5846_5342].map(outcome), [Outcome::Ok; 2]);
        assert_eq!([0x9123_683e, 0x794c_7630, 0x6969].map(outcome), [Outcome::Advice; 3]);
        assert_eq!((outcome(0x0102_1994), outcome(0x1234)), (Outcome::Broken, Outcome::Unknown));
    }
}
