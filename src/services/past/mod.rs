//! How things stood: the read models as of an earlier record, folded anew for one answer. The models in force are not
//! touched, and those that are folded hold no more than those do.

mod at;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::IgnoredAny;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::published::Published;
use super::snapshots::{self, Candidate, Snapshot};
use super::snapshotter::Snapshotter;
use crate::domain::event::Event;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::stream::Stream;
use crate::journal::line::{self, Shape};
use crate::journal::merkle::leaf_hash;
use crate::platform::disk::Disk;
use crate::projections::Models;

pub use at::At;

/// Folds that go on at a time: each holds a copy of the read models and occupies a core.
const FOLDS: usize = 2;
/// How long someone who came when all were busy should wait, milliseconds.
const BUSY_MS: u64 = 2_000;

/// What is shown, and as of which record where it is not the present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown<T> {
    /// The answer.
    pub view: T,
    /// Sequence number up to which everything is folded into it; none for the present.
    pub as_of: Option<u64>,
}

/// How everything stood.
#[derive(Debug)]
pub struct Moment {
    /// Sequence number up to which everything is folded.
    pub seq: u64,
    /// The time that was asked for, or else that of the last record, Unix milliseconds.
    pub at_ms: u64,
    /// The read models.
    pub models: Models,
}

/// Who folds. Clones share their turns.
#[derive(Clone)]
pub struct Past {
    published: Published,
    disk: Arc<dyn Disk>,
    snapshots: Snapshotter,
    turns: Arc<Semaphore>,
}

/// Ends a fold whose answer nobody waits for any more.
struct Leaving(Arc<AtomicBool>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Past {
    /// Of the journal that is published, with the snapshots of this state root.
    pub fn new(published: Published, disk: Arc<dyn Disk>, snapshots: Snapshotter) -> Self {
        Self { published, disk, snapshots, turns: Arc::new(Semaphore::new(FOLDS)) }
    }

    /// Folds and shows, off the threads that serve. Who comes while all are busy is refused at once.
    pub async fn show<T: Send + 'static>(
        &self,
        at: At,
        show: impl FnOnce(&Moment) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<Shown<T>, Refusal> {
        let turn = self.turn()?;
        let gone = Arc::new(AtomicBool::new(false));
        let _leaving = Leaving(Arc::clone(&gone));
        let past = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let moment = past.moment(at, &gone)?;
            Ok(Shown { view: show(&moment)?, as_of: Some(moment.seq) })
        });
        work.await.unwrap_or_else(|_| Err(Reason::InternalError.into()))
    }

    fn turn(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.turns).try_acquire_owned().map_err(|_| {
            let detail = "As many answers about the past as may be are being made.";
            Refusal::new(Reason::RequestOverloaded, detail).retry_after_ms(BUSY_MS)
        })
    }

    /// How everything stood. Blocks on the disk.
    fn moment(&self, at: At, gone: &AtomicBool) -> Result<Moment, Refusal> {
        let seq = match at {
            At::Seq(seq) if seq < self.published.head().next_seq => seq,
            At::Seq(_) => return Err(ahead("The journal has no such record yet.")),
            At::Time(at_ms) => self.before(at_ms, gone)?,
        };
        let models = self.fold(seq, gone).map_err(|error| unreadable(&error))?;
        let at_ms = if let At::Time(at_ms) = at { at_ms } else { models.last_at_ms };
        Ok(Moment { seq, at_ms, models })
    }

    /// The last record at or before a time.
    fn before(&self, at_ms: u64, gone: &AtomicBool) -> Result<u64, Refusal> {
        // What the next record will say of a time that has not come is not known.
        let now_ms = self.published.clock().wall_ms().max(self.published.models().last_at_ms);
        if at_ms > now_ms {
            return Err(ahead("That time has not come."));
        }
        let found = self.last_before(at_ms, gone).map_err(|error| unreadable(&error))?;
        let detail = "The journal has no record from so long ago.";
        found.ok_or_else(|| Refusal::new(Reason::RequestInvalid, detail).at("/at"))
    }

    /// Looks in the newest segment that does not begin later.
    fn last_before(&self, at_ms: u64, gone: &AtomicBool) -> io::Result<Option<u64>> {
        let begins = self.published.reader().segments();
        for (index, first) in begins.iter().enumerate().rev() {
            let end = begins.get(index + 1).copied().unwrap_or(u64::MAX);
            let (mut last, mut fits) = (None, true);
            self.scan((*first, end), gone, |seq, bytes| {
                if let Ok(record) = line::parse_record(bytes) {
                    fits &= last.is_some() || record.at_ms <= at_ms;
                    last = if record.at_ms <= at_ms { Some(seq) } else { last };
                }
                fits
            })?;
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    /// The read models up to a record, from the newest snapshot at or below it that a record vouches for, or from the
    /// beginning.
    fn fold(&self, seq: u64, gone: &AtomicBool) -> io::Result<Models> {
        let (mut models, from) = match self.base(seq, gone)? {
            Some((models, base)) => (models, base + 1),
            None => (Models::default(), 0),
        };
        let mut fault = None;
        self.scan((from, seq + 1), gone, |_, bytes| {
            if matches!(line::shape(bytes), Some(Shape::Record(_))) {
                match line::parse_record(bytes) {
                    Ok(record) => models.apply(&record),
                    Err(error) => fault = Some(error.to_string()),
                }
            }
            fault.is_none()
        })?;
        match fault {
            None => Ok(models),
            Some(why) => Err(io::Error::other(why)),
        }
    }

    /// Visits lines for as long as somebody waits for the answer.
    fn scan(
        &self,
        (from, to): (u64, u64),
        gone: &AtomicBool,
        mut visit: impl FnMut(u64, &[u8]) -> bool,
    ) -> io::Result<()> {
        let mut left = false;
        self.published.reader().scan(from, to, |seq, bytes| {
            left = gone.load(Ordering::Relaxed);
            !left && visit(seq, bytes)
        })?;
        if left { Err(io::Error::other("nobody waits for the answer any more")) } else { Ok(()) }
    }

    fn base(&self, seq: u64, gone: &AtomicBool) -> io::Result<Option<(Models, u64)>> {
        for candidate in snapshots::candidates(self.disk.as_ref())? {
            let trusted = self.snapshots.base().as_ref() == Some(&candidate);
            if candidate.seq <= seq
                && (trusted || self.vouched(&candidate, gone)?)
                && let Ok(snapshot) = snapshots::read::<IgnoredAny>(self.disk.as_ref(), &candidate)
                && (trusted || self.fits(&snapshot, gone)?)
            {
                return Ok(Some((snapshot.models, candidate.seq)));
            }
        }
        Ok(None)
    }

    /// Whether a snapshot has the journal's tree, as a start demands it too.
    fn fits(&self, snapshot: &Snapshot<IgnoredAny>, gone: &AtomicBool) -> io::Result<bool> {
        let mut tree = self.published.reader().tree_before_segment(snapshot.seq)?;
        self.scan((tree.size(), snapshot.seq + 1), gone, |_, bytes| {
            tree.push(leaf_hash(bytes));
            true
        })?;
        Ok(snapshot.tree() == Some(tree))
    }

    /// Whether a record names this snapshot, as a start demands it too.
    fn vouched(&self, candidate: &Candidate, gone: &AtomicBool) -> io::Result<bool> {
        let (mut found, journal) = (false, Stream::Journal.to_string());
        self.scan((candidate.seq + 1, u64::MAX), gone, |_, bytes| {
            if line::stream_text(bytes) == Some(journal.as_str())
                && let Ok(record) = line::parse_record(bytes)
                && let Event::JournalSnapshotTaken(taken) = &record.event
            {
                found = taken.seq == candidate.seq && taken.sha256 == candidate.sha256;
            }
            !found
        })?;
        Ok(found)
    }
}

fn ahead(detail: &str) -> Refusal {
    Refusal::new(Reason::CursorAhead, detail).at("/at")
}

fn unreadable(error: &io::Error) -> Refusal {
    Refusal::new(Reason::StorageJournalUnavailable, error.to_string())
}

#[cfg(test)]
mod tests;
