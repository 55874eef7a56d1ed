//! Looks over a journal that may be broken anywhere: how far it verifies from its beginning, and what stands behind.

use std::io;

use super::acked::Slots;
use super::cold::check_records;
use super::error::OpenError;
use super::keys::KeyRing;
use super::layout;
use super::line;
use super::merkle::Frontier;
use super::note::Note;
use super::recovery::read_root;
use super::repair::{FILE_BYTES, sha256};
use super::segments;
use super::walk::{self, Step};
use crate::domain::ids::RootId;
use crate::domain::journal::QuarantinedFile;
use crate::platform::disk::{Disk, Open, join, read_bounded};

/// Where the last good batch ends.
pub(super) struct Good {
    pub(super) note: Note,
    /// The tree that the note signs.
    pub(super) sealed: Frontier,
    segment: String,
    end: u64,
}

impl Good {
    /// Leaves in the tree that the last good note signs: the seal's own sequence number.
    pub(super) fn size(&self) -> u64 {
        self.note.size
    }
}

/// What looking over found.
pub(super) struct Survey {
    pub(super) good: Good,
    /// The segment that is kept last, and where its data ends.
    pub(super) cut: (String, u64),
    /// What must go into the quarantine.
    pub(super) moved: Vec<QuarantinedFile>,
    /// The newest sequence number that a valid signature says was there.
    pub(super) lost_to: u64,
}

/// Looks over the journal. Fails where not even the first batch verifies.
pub(super) fn survey(disk: &dyn Disk) -> Result<Survey, OpenError> {
    let (root, ring) = read_root(disk)?;
    let mut names = Vec::new();
    for entry in disk.list(layout::FOLDER).map_err(OpenError::io("listing the journal"))? {
        let path = join(layout::FOLDER, &entry.name);
        let known = path == super::acked::PATH || path == layout::NEXT || path == layout::QUARANTINE;
        if !entry.plain && !known {
            return Err(OpenError::file(&path, "it is no plain file: move it away first"));
        }
        if !known {
            names.push(entry.name);
        }
    }
    let mut good = None;
    let segments = names.iter().filter_map(|name| Some((layout::parse_segment_name(name)?, name)));
    for (first_seq, name) in segments {
        let whole = walk_segment(disk, (root.id, &ring), (first_seq, name), &mut good);
        if !whole.map_err(OpenError::io(name.clone()))? {
            break;
        }
    }
    let Some(good) = good else {
        return Err(OpenError::file(layout::FOLDER, "not even the first batch verifies: only a backup can help"));
    };
    let slots = Slots::read(disk, &ring).map_err(OpenError::io(super::acked::PATH))?;
    let mut lost_to = slots.as_ref().and_then(Slots::newest).map_or(0, |note| note.size).max(good.note.size);
    let mut moved = Vec::new();
    for name in &names {
        let behind = match layout::parse_segment_name(name) {
            Some(first_seq) => first_seq > good.note.size,
            None => true,
        };
        if !behind && *name != good.segment {
            continue;
        }
        let offset = if behind { 0 } else { good.end };
        let mut bytes = rest(disk, name, offset).map_err(OpenError::io(name.clone()))?;
        if !behind {
            // Written-ahead space is nobody's words; a copy needs it no more than the segment.
            let Some(last) = bytes.iter().rposition(|byte| *byte != b'\n') else { continue };
            bytes.truncate(last + 1);
        }
        lost_to = lost_to.max(newest(&bytes, &ring));
        moved.push(named(name, offset, &bytes));
    }
    let cut = (join(layout::FOLDER, &good.segment), good.end);
    Ok(Survey { good, cut, moved, lost_to })
}

/// Walks one segment; says whether it is right to its end, so that the next one may continue it.
fn walk_segment(
    disk: &dyn Disk,
    (root_id, ring): (RootId, &KeyRing),
    (first_seq, name): (u64, &str),
    good: &mut Option<Good>,
) -> io::Result<bool> {
    let file = disk.open(&join(layout::FOLDER, name), Open::Read)?;
    let Ok((header, mut walker)) = walk::open(file.clone())? else { return Ok(false) };
    let continues = header.first_seq == first_seq
        && header.root_id == root_id
        && Some(header.epoch) == ring.epoch_at(first_seq)
        && header.checkpoint.as_ref() == good.as_ref().map(|good| &good.note);
    if !continues {
        return Ok(false);
    }
    let mut in_force = None;
    loop {
        match walker.step()? {
            Step::Broken(_) => return Ok(false),
            Step::End => return Ok(segments::rest(file.as_ref(), walker.offset())?.iter().all(|byte| *byte == b'\n')),
            Step::Batch(batch) => {
                if check_records(&batch, &mut in_force).is_err() || batch.ends.is_empty() || !ring.accepts(&batch.note)
                {
                    return Ok(false);
                }
                let (end, segment) = (batch.end(), name.to_owned());
                *good = Some(Good { note: batch.note, sealed: batch.sealed_tree, segment, end });
            }
        }
    }
}

fn rest(disk: &dyn Disk, name: &str, offset: u64) -> io::Result<Vec<u8>> {
    let path = join(layout::FOLDER, name);
    if offset == 0 {
        return read_bounded(disk, &path, FILE_BYTES);
    }
    segments::rest(disk.open(&path, Open::Read)?.as_ref(), offset)
}

/// The newest seal among some bytes that bears a valid signature.
fn newest(bytes: &[u8], ring: &KeyRing) -> u64 {
    let seals = bytes.split(|byte| *byte == b'\n').filter_map(line::parse_seal);
    seals.filter(|(_, note)| ring.accepts(note)).map(|(seq, _)| seq).max().unwrap_or(0)
}

/// The name in the quarantine says where the bytes stood; it never ends like one that awaits its record.
fn named(name: &str, offset: u64, bytes: &[u8]) -> QuarantinedFile {
    let sha256 = sha256(bytes);
    let stem = name.strip_suffix(".jsonl").unwrap_or(name);
    let file = format!("{stem}-{offset:012}-{}.lost", sha256.get(..16).unwrap_or_default());
    QuarantinedFile { segment: name.to_owned(), offset, bytes: bytes.len() as u64, sha256, file }
}
