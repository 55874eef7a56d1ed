//! The key-value store under the index: the only file that knows which one it is. The store may be damaged, and then
//! panics as readily as it answers an error; both are the same to whoever asks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory for pages, bytes. What the index holds is small and read in passing.
const CACHE_BYTES: u64 = 2 << 20;

/// The store cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the index cannot be used: {0}")]
pub struct Unusable(pub String);

/// A key and its value.
pub(super) type Entry = (Vec<u8>, Vec<u8>);

/// An open store.
pub(super) struct Store {
    db: sled::Db,
    asked: AtomicU64,
    /// The kind of reading that fails next.
    #[cfg(test)]
    pub(super) failing: std::sync::Mutex<&'static str>,
}

fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, Unusable> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Unusable(error.to_string())),
        Err(_) => Err(Unusable("the store broke off".to_owned())),
    }
}

impl Store {
    /// Opens or makes the store in a folder.
    pub(super) fn open(path: &Path) -> Result<Self, Unusable> {
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::LowSpace)
            // What is written counts when a flush says so, and no thread wakes in between.
            .flush_every_ms(None);
        guarded(|| config.open()).map(|db| Self {
            db,
            asked: AtomicU64::new(0),
            #[cfg(test)]
            failing: std::sync::Mutex::default(),
        })
    }

    /// How often it was asked for a place among its keys.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Unusable> {
        guarded(|| self.db.get(key).map(|found| found.map(|value| value.to_vec())))
    }

    /// The last entry from `from` to `to`, both included.
    pub(super) fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Entry>, Unusable> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        #[cfg(test)]
        self.fail("last")?;
        let owned = |(key, value): (sled::IVec, sled::IVec)| (key.to_vec(), value.to_vec());
        guarded(|| self.db.range(from..=to).next_back().transpose().map(|found| found.map(owned)))
    }

    /// Visits the entries from `from` to `to`, both included, until the visitor returns false.
    pub(super) fn range(
        &self,
        from: &[u8],
        to: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Unusable> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        #[cfg(test)]
        self.fail("range")?;
        guarded(|| {
            for entry in self.db.range(from..=to) {
                let (key, value) = entry?;
                if !visit(&key, &value) {
                    break;
                }
            }
            Ok(())
        })
    }

    #[cfg(test)]
    fn fail(&self, reading: &str) -> Result<(), Unusable> {
        let mut failing = self.failing.lock().unwrap();
        if *failing != reading {
            return Ok(());
        }
        *failing = "";
        Err(Unusable("a test".to_owned()))
    }

    /// Writes entries, all or none. They survive after [`Store::flush`].
    pub(super) fn write(&self, entries: Vec<Entry>) -> Result<(), Unusable> {
        guarded(|| {
            let mut batch = sled::Batch::default();
            for (key, value) in entries {
                batch.insert(key, value);
            }
            self.db.apply_batch(batch)
        })
    }

    /// Makes what was written survive.
    pub(super) fn flush(&self) -> Result<(), Unusable> {
        guarded(|| self.db.flush()).map(drop)
    }

    /// Room that the store takes, bytes.
    pub(super) fn bytes(&self) -> Result<u64, Unusable> {
        guarded(|| self.db.size_on_disk())
    }
}
