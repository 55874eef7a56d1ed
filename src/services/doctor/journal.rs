//! The journal, verified up to its newest seal for as long as a person waits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Finding;
use crate::journal::layout;
use crate::journal::verify::{Verdict, verify};
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
        let advice = "stop the daemon and run `chancery verify` on the state root; then restore a backup";
        return Finding::broken(CHECK, "a background check found rotten bytes; damage.json names them", advice);
    }
    match report.verdict {
        Verdict::Valid if report.quarantined > 0 => Finding::advice(
            CHECK,
            format!("{} lines verified; {} files are in the quarantine", report.lines, report.quarantined),
            "look at journal/quarantine once: a crash explains them, and a record names each",
        ),
        Verdict::Valid => Finding::ok(CHECK, format!("{} lines under {} seals verified", report.lines, report.seals)),
        Verdict::Invalid { file, offset, seq, why } => Finding::broken(
            CHECK,
            format!("{file}, byte {offset}, sequence number {seq}: {why}"),
            "keep a copy of the state root, and restore a backup",
        ),
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
        Verdict::Unverifiable { why } => {
            Finding::unknown(CHECK, why, "run doctor as the user that the daemon runs as, on its state root")
        }
    }
}

#[cfg(test)]
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
}
