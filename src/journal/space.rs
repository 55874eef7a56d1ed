//! Written-ahead space: newlines, synced, in front of the data, so that a batch's sync has no length to write. Runs in
//! the background and guarantees room for the largest batch before anything is decided.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::platform::disk::DiskFile;

/// Newlines written at a time.
const STEP_BYTES: u64 = 1 << 20;

/// The written space of the active segment.
pub struct Space {
    file: Arc<dyn DiskFile>,
    written: AtomicU64,
    /// One extension at a time.
    extending: Mutex<()>,
    running: AtomicBool,
    finished: AtomicBool,
}

impl Space {
    /// Space of a file that is written up to `written` bytes.
    pub fn new(file: Arc<dyn DiskFile>, written: u64) -> Self {
        Self {
            file,
            written: AtomicU64::new(written),
            extending: Mutex::new(()),
            running: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        }
    }

    /// Bytes written and synced, data and newlines together.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Extends the written space to at least `target` bytes. What fails leaves the space that there was.
    pub fn extend(&self, target: u64) -> io::Result<()> {
        let _one = self.extending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut written = self.written();
        while written < target && !self.finished.load(Ordering::Acquire) {
            let step = (target - written).min(STEP_BYTES);
            self.file.write_at(written, &vec![b'\n'; usize::try_from(step).unwrap_or(0)])?;
            self.file.sync()?;
            written += step;
            self.written.store(written, Ordering::Release);
        }
        Ok(())
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
            // A full disk is not an error here: the clerk finds out before it decides, and says so to its callers.
            let _ = space.extend(target);
            space.running.store(false, Ordering::Release);
        };
        if std::thread::Builder::new().name("journal-space".to_owned()).spawn(work).is_err() {
            self.running.store(false, Ordering::Release);
        }
    }
}
