//! Written-ahead space: newlines, synced, in front of the data, so that a batch's sync has no length to write. Runs in
//! the background and guarantees room for the largest batch before anything is decided.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::platform::disk::DiskFile;

/// Newlines written at a time.
const STEP_BYTES: u64 = 1 << 20;

/// Whether an error says that nothing was changed, and may pass: no room, or a file system that takes no writes now.
fn leaves_all(error: &io::Error) -> bool {
    is_full(error) || error.kind() == io::ErrorKind::ReadOnlyFilesystem
}

/// Whether an error says that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// The written space of the active segment.
pub struct Space {
    /// A descriptor of its own: the kernel reports a lost write once to each descriptor, so that one which the batches
    /// shared could take the report that their own sync must see.
    file: Arc<dyn DiskFile>,
    written: AtomicU64,
    /// One extension at a time.
    extending: Mutex<()>,
    running: AtomicBool,
    finished: AtomicBool,
    /// A write or sync failed for another reason than a full or read-only disk: nothing of the file can be trusted.
    failure: Mutex<Option<String>>,
}

impl Space {
    /// Space of a file that is written up to `written` bytes; `file` must not be the descriptor that batches use.
    pub fn new(file: Arc<dyn DiskFile>, written: u64) -> Self {
        Self {
            file,
            written: AtomicU64::new(written),
            extending: Mutex::new(()),
            running: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    /// Bytes written and synced, data and newlines together.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Refuses a file that was removed or cut behind the journal's back: what is written into it would be lost, and
    /// writing on would only hide that.
    pub fn check(&self) -> io::Result<()> {
        let written = self.written();
        match self.file.named_bytes()? {
            None => Err(io::Error::other("the file was removed while it is written to")),
            Some(bytes) if bytes < written => Err(io::Error::other("the file was cut while it is written to")),
            Some(_) => Ok(()),
        }
    }

    /// From now on the file ends here: the journal has cut it itself.
    pub fn cut(&self, bytes: u64) {
        self.written.store(bytes, Ordering::Release);
    }

    /// Extends the written space to at least `target` bytes. What fails leaves the space that there was.
    pub fn extend(&self, target: u64) -> io::Result<()> {
        let _one = self.extending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut written = self.written();
        while written < target && !self.finished.load(Ordering::Acquire) {
            self.check().inspect_err(|error| self.fail("look", error))?;
            let step = (target - written).min(STEP_BYTES);
            let newlines = vec![b'\n'; usize::try_from(step).unwrap_or(0)];
            self.file.write_at(written, &newlines).inspect_err(|error| {
                if !leaves_all(error) {
                    self.fail("write", error);
                }
            })?;
            self.file.sync().inspect_err(|error| self.fail("sync", error))?;
            written += step;
            self.written.store(written, Ordering::Release);
        }
        Ok(())
    }

    fn fail(&self, what: &str, error: &io::Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert_with(|| format!("a {what} at written-ahead space failed: {error}"));
    }

    /// What went wrong, on whatever thread, if it was more than a full disk.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends all extending and waits for what runs; the file may then be cut.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
        drop(self.extending.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Starts an extension on a thread of its own, unless one runs. Its failure shows when room is demanded.
    pub fn extend_in_background(self: &Arc<Self>, target: u64) {
        if self.written() >= target || self.running.swap(true, Ordering::AcqRel) {
            return;
        }
        let space = Arc::clone(self);
        let work = move || {
            // A full disk is not an error here: the clerk finds out before it decides. Any other failure is kept, and
            // stops the next batch.
            let _ = space.extend(target);
            space.running.store(false, Ordering::Release);
        };
        if std::thread::Builder::new().name("journal-space".to_owned()).spawn(work).is_err() {
            self.running.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken;

    impl DiskFile for Broken {
        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }

        fn write_at(&self, offset: u64, _: &[u8]) -> io::Result<()> {
            if offset == 0 { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
        }

        fn sync(&self) -> io::Result<()> {
            Err(io::Error::other("the medium"))
        }

        fn truncate(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn bytes(&self) -> io::Result<u64> {
            Ok(STEP_BYTES)
        }
    }

    #[test]
    fn a_failed_sync_is_kept_and_a_full_disk_is_not() {
        let full = Space::new(Arc::new(Broken), STEP_BYTES);
        assert!(full.extend(2 * STEP_BYTES).is_err());
        assert_eq!((full.written(), full.failure()), (STEP_BYTES, None));
        let lost = Arc::new(Space::new(Arc::new(Broken), 0));
        lost.extend_in_background(STEP_BYTES);
        while lost.running.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        assert_eq!(lost.failure().as_deref(), Some("a sync at written-ahead space failed: the medium"));
    }
}
