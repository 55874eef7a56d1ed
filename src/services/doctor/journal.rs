//! The journal, verified up to its newest seal for as long as a person waits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Finding;
use crate::journal::layout;
use crate::journal::verify::{Doubt, Verdict, verify};
use crate::platform::clock::Clock;
use crate::platform::disk::{Disk, DiskFile, Entry, Open};
use crate::platform::files::Folder;

const CHECK: &str = "journal";
/// How long verification may take.
const PATIENCE_MS: u64 = 10_000;

/// A disk that refuses to be read after a while.
struct Impatient<'a> {
    folder: &'a Folder,
    watch: Arc<Watch>,
}

struct Watch {
    clock: Arc<dyn Clock>,
    until_ms: u64,
    read_bytes: AtomicU64,
    late: AtomicBool,
}

struct Watched {
    file: Arc<dyn DiskFile>,
    watch: Arc<Watch>,
}

fn denied() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "doctor only reads")
}

impl Disk for Impatient<'_> {
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        if how != Open::Read {
            return Err(denied());
        }
        Ok(Arc::new(Watched { file: self.folder.open(path, how)?, watch: Arc::clone(&self.watch) }))
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(denied())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(denied())
    }

    fn create_dir(&self, _: &str) -> io::Result<()> {
        Err(denied())
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        self.folder.list(path)
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        Err(denied())
    }
}

impl DiskFile for Watched {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        if self.watch.clock.boot_ms() > self.watch.until_ms {
            self.watch.late.store(true, Ordering::Relaxed);
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it takes too long"));
        }
        let read = self.file.read_at(offset, out)?;
        self.watch.read_bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(denied())
    }

    fn sync(&self) -> io::Result<()> {
        Err(denied())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(denied())
    }

    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }
}

pub(super) fn check(folder: &Folder, held: bool, clock: &Arc<dyn Clock>) -> Finding {
    within(folder, held, clock, PATIENCE_MS)
}

fn within(folder: &Folder, held: bool, clock: &Arc<dyn Clock>, patience_ms: u64) -> Finding {
    let watch = Arc::new(Watch {
        clock: Arc::clone(clock),
        until_ms: clock.boot_ms() + patience_ms,
        read_bytes: AtomicU64::new(0),
        late: AtomicBool::new(false),
    });
    let disk = Impatient { folder, watch: Arc::clone(&watch) };
    let report = verify(&disk, held);
    if folder.mode(layout::DAMAGE).is_ok() {
        let advice = "stop the daemon, copy the state root, and put the segments that `chancery verify` names back from a \
                      backup; without one, `chancery journal repair`";
        return Finding::broken(CHECK, "a background check found rotten bytes; damage.json names them", advice);
    }
    if folder.mode(layout::REPAIR).is_ok() {
        let advice = "run `chancery journal repair` again: it goes on with what was accepted";
        return Finding::broken(CHECK, "a repair was broken off; no start takes this state root", advice);
    }
    match report.verdict {
        Verdict::Valid if report.quarantined > 0 => Finding::advice(
            CHECK,
            format!("{} lines verified; {} files are in the quarantine", report.lines, report.quarantined),
            "look at journal/quarantine once: a crash explains them, and a record names each",
        ),
        Verdict::Valid => Finding::ok(CHECK, format!("{} lines under {} seals verified", report.lines, report.seals)),
        Verdict::Invalid { file, offset, seq, why } => {
            Finding::broken(CHECK, format!("{file}, byte {offset}, sequence number {seq}: {why}"), cure(&file))
        }
        Verdict::Unverifiable { .. } if watch.late.load(Ordering::Relaxed) => {
            let bytes = folder.list(layout::FOLDER).map_or(0, |entries| entries.iter().map(|entry| entry.bytes).sum());
            let read = watch.read_bytes.load(Ordering::Relaxed);
            let detail = format!(
                "{} lines verified in {} s, {} of {} MiB read; the rest was not looked at",
                report.lines,
                patience_ms / 1_000,
                read >> 20,
                std::cmp::max(bytes, read) >> 20
            );
            Finding::unknown(CHECK, detail, "run `chancery verify`, which takes the time it needs")
        }
        Verdict::Unverifiable { why } => Finding::unknown(CHECK, why, way_out(report.doubt)),
    }
}

/// What to do about a file that is not what was written.
fn cure(file: &str) -> &'static str {
    if file == layout::NEXT {
        return "remove it while no daemon runs: it holds no record yet, and a daemon makes it anew";
    }
    if file.starts_with(layout::QUARANTINE) {
        return "put it back from a copy, or remove it: it is no part of the journal";
    }
    "keep a copy of the state root, and restore a backup; without one, `chancery journal repair`"
}

/// What to do where nothing can be said from here.
fn way_out(doubt: Option<Doubt>) -> &'static str {
    match doubt {
        Some(Doubt::TornEnd) => {
            "start the daemon: it keeps what verifies, moves what a crash left to journal/quarantine, and refuses anything else"
        }
        Some(Doubt::UnnamedFile) => "look at the file and move it out of the state root: Chancery did not put it there",
        Some(Doubt::TooNew) => "use the program that wrote it, or a newer one",
        None => "run doctor as the user that the daemon runs as, on its state root",
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests break files the way machines do")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::platform::clock::{FakeClock, SystemClock};
    use crate::services::doctor::Outcome;

    /// A clock that has passed every deadline at its second look.
    struct Late(AtomicU64);

    impl Clock for Late {
        fn wall_ms(&self) -> u64 {
            0
        }

        fn since_boot(&self) -> Duration {
            Duration::from_millis(self.0.fetch_add(1 << 20, Ordering::SeqCst))
        }
    }

    fn root() -> (tempfile::TempDir, Folder) {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::create(&temporary.path().join("state")).unwrap();
        let entropy = crate::platform::entropy::SystemEntropy::default();
        crate::journal::create::create(&folder, &SystemClock, &entropy).unwrap();
        (temporary, folder)
    }

    #[test]
    fn what_was_not_looked_at_is_unknown_and_never_ok() {
        let (_keep, folder) = root();
        let clock: Arc<dyn Clock> = Arc::new(Late(AtomicU64::new(0)));
        let late = within(&folder, false, &clock, 10_000);
        assert_eq!(late.outcome, Outcome::Unknown, "{late:?}");
        assert!(late.detail.contains("verified in 10 s"), "{late:?}");
        let clock: Arc<dyn Clock> = Arc::new(FakeClock::at(0, 0));
        assert_eq!(check(&folder, false, &clock).outcome, Outcome::Ok);
    }

    #[test]
    fn each_finding_has_its_own_next_step() {
        type Break = fn(&std::path::Path);
        let torn: Break = |journal| {
            let path = journal.join(layout::segment_name(0));
            let mut bytes = std::fs::read(&path).unwrap();
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() - 1;
            bytes.extend(format!("{{\"seq\":{lines},\"at_ms\":17").bytes());
            std::fs::write(path, bytes).unwrap();
        };
        let unnamed: Break = |journal| {
            std::fs::create_dir_all(journal.join("quarantine")).unwrap();
            std::fs::write(journal.join("quarantine/stray"), "x").unwrap();
        };
        let next: Break = |journal| std::fs::write(journal.join("next"), "x").unwrap();
        let rot: Break = |journal| {
            let path = journal.join(layout::segment_name(0));
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[3] ^= 1;
            std::fs::write(path, bytes).unwrap();
        };
        let broken_off: Break = |journal| {
            std::fs::write(journal.join("..").join(layout::REPAIR), "{}").unwrap();
        };
        let clock: Arc<dyn Clock> = Arc::new(FakeClock::at(0, 0));
        for (how, outcome, step) in [
            (torn, Outcome::Unknown, "start the daemon"),
            (unnamed, Outcome::Unknown, "move it out of the state root"),
            (next, Outcome::Broken, "remove it while no daemon runs"),
            (broken_off, Outcome::Broken, "`chancery journal repair` again"),
            (rot, Outcome::Broken, "restore a backup; without one, `chancery journal repair`"),
        ] {
            let (keep, folder) = root();
            how(&keep.path().join("state/journal"));
            let found = check(&folder, false, &clock);
            assert_eq!(found.outcome, outcome, "{found:?}");
            assert!(found.advice.as_deref().unwrap_or_default().contains(step), "{found:?}");
        }
    }
}
