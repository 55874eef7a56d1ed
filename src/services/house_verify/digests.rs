//! Digests of the read models: the records are folded on the way, and what they make is compared with what the records of
//! snapshots say.

use std::collections::BTreeMap;

use crate::domain::event::Event;
use crate::domain::record::Record;
use crate::journal::{line, segments};
use crate::platform::disk::{Disk, Open};
use crate::projections::Models;
use crate::services::snapshots::VERSION;

/// How many of the newest snapshots are compared: each costs a pass over everything that there is.
const COMPARED: usize = 8;

/// The fold, and what it was compared with.
#[derive(Default)]
pub(super) struct Digests {
    /// Sequence numbers behind which digests are due, falling.
    due: Vec<u64>,
    models: Models,
    made: BTreeMap<u64, BTreeMap<String, String>>,
    /// Digests that are what the records make.
    pub(super) equal: usize,
    /// Digests of other versions, or of older snapshots than are compared.
    pub(super) passed_over: usize,
    /// The first record whose digests are others, and the first that is.
    pub(super) differs: Option<(u64, String)>,
}

impl Digests {
    /// For a journal whose records are about to be shown. Nothing that is read here is believed: it only says what to
    /// look for.
    pub(super) fn of(disk: &dyn Disk) -> Self {
        let mut due: Vec<u64> = named(disk).unwrap_or_default();
        due.sort_unstable_by_key(|seq| std::cmp::Reverse(*seq));
        due.truncate(COMPARED);
        Self { due, ..Self::default() }
    }

    /// The next record.
    pub(super) fn add(&mut self, record: &Record) {
        while let Some(seq) = self.due.pop_if(|seq| *seq < record.seq) {
            self.made.insert(seq, self.models.digests());
        }
        if let Event::JournalSnapshotTaken(body) = &record.event {
            match self.made.get(&body.seq).filter(|_| body.version == VERSION) {
                Some(made) if *made == body.digests => self.equal += made.len(),
                Some(made) => {
                    let other = body.digests.iter().find(|(name, digest)| made.get(*name) != Some(*digest));
                    let what = other.map_or("missing", |(name, _)| name.as_str()).to_owned();
                    self.differs.get_or_insert((record.seq, what));
                }
                None => self.passed_over += body.digests.len(),
            }
        }
        if !self.due.is_empty() {
            self.models.apply(record);
        }
    }
}

/// Up to where the snapshots go that records of this version seem to name.
fn named(disk: &dyn Disk) -> Option<Vec<u64>> {
    const KIND: &[u8] = b"\"kind\":\"journal.snapshot_taken\"";
    let mut found = Vec::new();
    for file in segments::list(disk).ok()? {
        let bytes = segments::rest(disk.open(&file.path, Open::Read).ok()?.as_ref(), 0).ok()?;
        for at in memchr::memmem::find_iter(&bytes, KIND) {
            let (before, behind) = bytes.split_at(at);
            let start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
            let end = memchr::memchr(b'\n', behind).map_or(bytes.len(), |newline| at + newline);
            if let Ok(record) = line::parse_record(bytes.get(start..end)?)
                && let Event::JournalSnapshotTaken(body) = record.event
                && body.version == VERSION
            {
                found.push(body.seq);
            }
        }
    }
    Some(found)
}
