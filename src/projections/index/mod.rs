//! The index: where the lines of closed segments begin, the hashes of their tiles, and which lines each session and
//! run has. It holds nothing that the journal does not, so it may be lost, deleted or wrong at any time: then whoever
//! asks reads the journal instead, and it is built anew.
//!
//! It covers whole closed segments from the first on. What is written for a segment counts only once the mark that
//! covers it is written behind it, so an interrupted build is simply done again. The mark names the tree up to there,
//! so that the index of another history is recognised.

mod build;
mod keys;
mod mark;
mod store;

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use ulid::Ulid;

use crate::domain::ids::{RootId, RunId, SessionId};
use crate::domain::stream::Stream;
use crate::journal::layout;
use crate::journal::merkle::Hash;
use crate::journal::reader::{Hints, Place};
use crate::journal::walk;
use crate::platform::disk::{Disk, DiskFile, Open};

pub use self::build::Fault;
pub use self::mark::Mark;
use self::store::Store;
pub use self::store::Unusable;

/// Folder of the index below the state root.
pub const FOLDER: &str = "index";
/// The store's one file that is always there.
pub const FILE: &str = "index/db";
/// Size of an index that covers nothing beyond which it is built anew, bytes, and how much a covered line adds.
const BYTES_MAX: u64 = 64 << 20;
const BYTES_MAX_A_LINE: u64 = 128;

/// Why an index that could be opened is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It cannot be read.
    Unreadable(String),
    /// It was built by another version.
    OtherVersion,
    /// It was built over another journal than the one that is here.
    OtherHistory,
    /// It takes far more room than what it holds.
    TooLarge,
}

impl Unfit {
    /// The cause, as the record of the rebuild names it.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::OtherVersion => "other_version",
            Self::OtherHistory => "other_history",
            Self::TooLarge => "too_large",
        }
    }
}

impl From<Unusable> for Unfit {
    fn from(error: Unusable) -> Self {
        Self::Unreadable(error.0)
    }
}

/// An open index.
pub struct Index {
    store: Store,
    mark: RwLock<Mark>,
    /// What the store said when it last failed to read.
    trouble: RwLock<Option<String>>,
}

impl Index {
    /// Opens the index of a journal, or makes an empty one where there is none. Blocks, and starts threads.
    pub fn open(path: &Path, root_id: RootId, disk: &dyn Disk) -> Result<Self, Unfit> {
        let found = path.join("db").exists();
        let store = Store::open(path)?;
        let mark = match store.get(keys::MARK)? {
            None if found => return Err(Unfit::Unreadable("it has no mark".to_owned())),
            None => {
                let mark = Mark::empty(root_id);
                store.write(vec![(keys::MARK.to_vec(), mark.render())])?;
                store.flush()?;
                mark
            }
            Some(bytes) => Mark::parse(&bytes).ok_or(Unfit::OtherVersion)?,
        };
        if mark.root_id != root_id || !fits(&mark, disk) {
            return Err(Unfit::OtherHistory);
        }
        if store.bytes()? > BYTES_MAX + BYTES_MAX_A_LINE * mark.covered {
            return Err(Unfit::TooLarge);
        }
        Ok(Self { store, mark: RwLock::new(mark), trouble: RwLock::default() })
    }

    /// The present mark.
    pub fn mark(&self) -> Mark {
        self.mark.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sequence number up to which everything is indexed.
    pub fn covered(&self) -> u64 {
        self.mark.read().unwrap_or_else(PoisonError::into_inner).covered
    }

    /// What the store said when it last failed to read, if it did.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Look-ups so far: what a reading costs, whatever the machine.
    pub fn lookups(&self) -> u64 {
        self.store.asked()
    }

    fn failed(&self, error: &Unusable) {
        *self.trouble.write().unwrap_or_else(PoisonError::into_inner) = Some(error.0.clone());
    }

    /// Sequence numbers of a session's or run's records from `from` on and before `to`, rising, at most `most`; a
    /// session's are those of its runs as well. Complete as far as the index covers.
    pub fn postings(&self, stream: Stream, from: u64, to: u64, most: usize) -> Result<Vec<u64>, Unusable> {
        let Some(first) = keys::postings(stream, 0) else { return Ok(Vec::new()) };
        let (Some(wanted), Some(end)) = (keys::postings(stream, from), keys::postings(stream, u64::MAX)) else {
            return Ok(Vec::new());
        };
        let to = to.min(self.covered());
        // The chunk that begins before `from` may reach beyond it.
        let last = self.store.last(&first, &wanted).inspect_err(|error| self.failed(error))?;
        let start = last.map_or(wanted, |(key, _)| key);
        let mut found = Vec::new();
        let mut broken = false;
        let walked = self.store.range(&start, &end, |key, value| {
            let Some(seqs) = keys::number(key).and_then(|first| keys::unpack(first, value)) else {
                broken = true;
                return false;
            };
            for seq in seqs {
                if seq >= to || found.len() == most {
                    return false;
                }
                if seq >= from {
                    found.push(seq);
                }
            }
            true
        });
        walked.inspect_err(|error| self.failed(error))?;
        if broken { Err(self.unreadable()) } else { Ok(found) }
    }

    /// The session of a run that was queued in a covered segment, or in one that is being added.
    fn session_of(&self, run: RunId) -> Result<Option<SessionId>, Unusable> {
        let Some((_, value)) = self.store.last(&keys::run(run, 0), &keys::run(run, u64::MAX))? else { return Ok(None) };
        let ulid = value.try_into().map_err(|_| self.unreadable())?;
        Ok(Some(SessionId::from_ulid(Ulid(u128::from_be_bytes(ulid)))))
    }

    fn unreadable(&self) -> Unusable {
        let error = Unusable("an entry does not read".to_owned());
        self.failed(&error);
        error
    }

    /// Has the next reading of a kind, `last` or `range`, fail.
    #[cfg(test)]
    pub(crate) fn fail(&self, reading: &'static str) {
        *self.store.failing.lock().unwrap() = reading;
    }

    /// Adds a closed segment; it must be the one that begins where the index ends.
    pub fn add(&self, file: Arc<dyn DiskFile>) -> Result<(), Fault> {
        let mut write = |entries| self.store.write(entries);
        let (segment, records) = build::entries(file, &|run| self.session_of(run), &mut write)?;
        let mut mark = self.mark();
        if segment.first_seq != mark.covered {
            return Err(Fault::Journal(format!("the segment begins at {}, not {}", segment.first_seq, mark.covered)));
        }
        mark.extend(&segment, records);
        self.store.write(vec![(keys::MARK.to_vec(), mark.render())])?;
        self.store.flush()?;
        *self.mark.write().unwrap_or_else(PoisonError::into_inner) = mark;
        Ok(())
    }

    /// Notes why the index is being built anew, until that is recorded; `None` once it is.
    pub fn set_cause(&self, cause: Option<String>) -> Result<(), Unusable> {
        let mut mark = self.mark();
        mark.rebuilt = cause;
        self.store.write(vec![(keys::MARK.to_vec(), mark.render())])?;
        self.store.flush()?;
        *self.mark.write().unwrap_or_else(PoisonError::into_inner) = mark;
        Ok(())
    }

    /// Compares what is held of a closed segment with the segment. Gives how many entries there must be, and the first
    /// that differs, if one does.
    pub fn compare(&self, file: Arc<dyn DiskFile>) -> Result<(u64, Option<String>), Fault> {
        let mut entries = 0;
        let mut differs = None;
        let mut compare = |wanted: build::Entries| {
            for (key, value) in wanted {
                entries += 1;
                if self.store.get(&key)?.as_ref() != Some(&value) && differs.is_none() {
                    differs = Some(keys::describe(&key));
                }
            }
            Ok(())
        };
        build::entries(file, &|run| self.session_of(run), &mut compare)?;
        Ok((entries, differs))
    }

    /// How many entries there are up to where the index covers, the mark not counted.
    pub fn entries(&self) -> Result<u64, Unusable> {
        let covered = self.covered();
        let mut count = 0;
        self.store.range(&[], &[u8::MAX], |key, _| {
            let counts = key != keys::MARK && keys::begins_before(key, covered);
            count += u64::from(counts);
            true
        })?;
        Ok(count)
    }
}

/// Whether the journal that is here has the tree that the mark names.
fn fits(mark: &Mark, disk: &dyn Disk) -> bool {
    if mark.covered == 0 {
        return true;
    }
    let Ok(file) = disk.open(&layout::segment_path(mark.covered), Open::Read) else { return false };
    let Ok(Ok((header, _))) = walk::open(file) else { return false };
    header.root_id == mark.root_id
        && header.checkpoint.is_some_and(|note| note.size + 1 == mark.covered && mark.root == note.root)
}

impl Hints for Index {
    fn offset(&self, first_seq: u64, block: u64) -> Option<u64> {
        let first = keys::offsets(first_seq, 0);
        let found = self.store.last(&first, &keys::offsets(first_seq, block)).inspect_err(|error| self.failed(error));
        let (key, value) = found.ok()??;
        let skipped = block.checked_sub(keys::number(&key)?)?;
        keys::unpack_one(&value, usize::try_from(skipped).ok()?)
    }

    fn tile(&self, (height, index): Place) -> Option<Hash> {
        let (first, wanted) = (keys::tiles((height, 0)), keys::tiles((height, index)));
        let found = self.store.last(&first, &wanted).inspect_err(|error| self.failed(error));
        let (key, value) = found.ok()??;
        let at = usize::try_from(index.checked_sub(keys::number(&key)?)?).ok()?.checked_mul(32)?;
        value.get(at..at + 32)?.try_into().ok()
    }
}
