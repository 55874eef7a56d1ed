//! What an operator does with the index of a state root that no daemon serves: build it anew, or compare it with the
//! journal.

use std::path::Path;
use std::sync::Arc;

use super::indexer::Place;
use crate::domain::reason::{Reason, Refusal};
use crate::journal::error::OpenError;
use crate::journal::{layout, recovery, segments};
use crate::platform::disk::{Disk as _, Open};
use crate::platform::files::Folder;

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Closed segments covered.
    pub segments: u64,
    /// Records covered.
    pub records: u64,
}

/// How an index compares with its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// Everything that it holds is right.
    Same {
        /// Closed segments covered.
        segments: u64,
        /// Entries compared.
        entries: u64,
        /// Closed segments that it does not cover yet.
        missing: u64,
    },
    /// It is wrong, and how.
    Differs(String),
    /// There is none.
    Absent,
}

/// A state root that nobody else has while this lives.
struct Held {
    place: Place,
    folder: Arc<Folder>,
    closed: Vec<u64>,
    _lock: std::fs::File,
}

fn hold(path: &Path) -> Result<Held, Refusal> {
    let absent = |error: std::io::Error| OpenError::Absent(format!("{}: {error}", path.display()));
    let folder = Arc::new(Folder::open(path).map_err(absent)?);
    let (root, _) = recovery::read_root(folder.as_ref())?;
    let lock = folder.try_lock(layout::LOCK).map_err(OpenError::io("taking the lock"))?;
    let Some(lock) = lock else {
        let detail = "A daemon serves this state root; it keeps the index itself. Stop it first.";
        return Err(Refusal::new(Reason::StateRootLocked, detail));
    };
    let mut closed: Vec<u64> = segments::list(folder.as_ref())?.iter().map(|file| file.first_seq).collect();
    closed.pop();
    Ok(Held { place: Place::new(Arc::clone(&folder), root.id), folder, closed, _lock: lock })
}

fn failed(why: String) -> Refusal {
    Refusal::new(Reason::StorageJournalUnavailable, why)
}

/// Removes the index and builds it from the closed segments. The next start of the daemon records it.
pub fn rebuild(path: &Path) -> Result<Built, Refusal> {
    let held = hold(path)?;
    held.place.remove().map_err(OpenError::io("removing the index"))?;
    let index = held.place.open().map_err(|unfit| failed(format!("{unfit:?}")))?;
    index.set_cause(Some("operator".to_owned())).map_err(|error| failed(error.to_string()))?;
    while held.place.add(&index, &held.closed).map_err(failed)? {}
    let mark = index.mark();
    Ok(Built { segments: mark.segments, records: mark.records })
}

/// Compares the index with the journal, entry by entry. Changes nothing that the index says.
pub fn verify(path: &Path) -> Result<Compared, Refusal> {
    let held = hold(path)?;
    if !held.place.exists() {
        return Ok(Compared::Absent);
    }
    let index = match held.place.open() {
        Ok(index) => index,
        Err(unfit) => return Ok(Compared::Differs(format!("it is not used: {}", unfit.cause()))),
    };
    let (covered, mut entries) = (index.covered(), 0);
    let (within, beyond): (Vec<u64>, Vec<u64>) = held.closed.iter().partition(|first| **first < covered);
    for first_seq in &within {
        let path = layout::segment_path(*first_seq);
        let file = held.folder.open(&path, Open::Read).map_err(OpenError::io(path.clone()))?;
        let (compared, differs) = index.compare(file).map_err(|fault| failed(format!("{path}: {fault}")))?;
        if let Some(what) = differs {
            return Ok(Compared::Differs(format!("{path}: {what}")));
        }
        entries += compared;
    }
    let held_entries = index.entries().map_err(|error| failed(error.to_string()))?;
    if held_entries != entries {
        return Ok(Compared::Differs(format!("it holds {held_entries} entries, the journal gives {entries}")));
    }
    Ok(Compared::Same { segments: within.len() as u64, entries, missing: beyond.len() as u64 })
}
