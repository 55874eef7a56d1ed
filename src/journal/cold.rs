//! Verification of one closed segment while the journal lives, and what is kept of the rot that it finds.

use std::io;

use serde::{Deserialize, Serialize};

use super::error::OpenError;
use super::keys::{self, KeyRing, StateRoot};
use super::layout;
use super::line::{self, Header};
use super::recovery::read_root;
use super::segments::{self, SegmentFile};
use super::walk::{self, SealedBatch, Step};
use crate::domain::event::Event;
use crate::domain::limits;
use crate::platform::disk::{Disk, Open, read_bounded, replace_atomically};

/// Version of `damage.json`.
const DAMAGE_FORMAT: u32 = 1;
/// Largest `damage.json` that is read, bytes.
const DAMAGE_BYTES: u64 = 16 << 20;

/// A range of a closed segment that does not verify any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The segment, below the state root.
    pub file: String,
    /// Offset of the first byte concerned.
    pub from_byte: u64,
    /// Offset behind the last byte concerned.
    pub to_byte: u64,
    /// First sequence number concerned.
    pub from_seq: u64,
    /// Last sequence number concerned.
    pub to_seq: u64,
    /// What is wrong.
    pub why: String,
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, from_byte, to_byte, from_seq, to_seq, why } = self;
        write!(f, "{file}: bytes {from_byte}..{to_byte}, sequence numbers {from_seq} to {to_seq}: {why}")
    }
}

/// `damage.json`: what a background check found rotten. The next start checks these ranges before anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Damage {
    /// Version of this file.
    pub format: u32,
    /// When the newest of it was found, Unix milliseconds.
    pub found_at_ms: u64,
    /// The ranges, in order.
    pub ranges: Vec<Range>,
}

impl Damage {
    /// Reads the file. One of a newer program is refused; `None` where it does not parse.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, OpenError> {
        if keys::format_of(bytes).is_some_and(|format| format > DAMAGE_FORMAT) {
            return Err(OpenError::TooNew(format!("{} is of a newer format", layout::DAMAGE)));
        }
        Ok(serde_json::from_slice(bytes).ok())
    }

    /// The file's content.
    pub fn render(&self) -> Vec<u8> {
        keys::pretty(self)
    }
}

/// What the checking of one segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Every byte is right.
    Sound,
    /// Something is not.
    Rot(Range),
    /// It was told to stop.
    Stopped,
}

/// Checks a closed segment, byte by byte, up to the seal that the segment after it names. `pause` is called between two
/// batches and says whether to go on.
pub fn check(
    disk: &dyn Disk,
    (root, ring): (&StateRoot, &KeyRing),
    file: &SegmentFile,
    next: &SegmentFile,
    pause: &mut dyn FnMut() -> bool,
) -> io::Result<Found> {
    let rot = |from_byte: u64, from_seq: u64, why: &str| {
        let (to_byte, to_seq) = (file.bytes, next.first_seq.saturating_sub(1));
        Ok(Found::Rot(Range { file: file.path.clone(), from_byte, to_byte, from_seq, to_seq, why: why.to_owned() }))
    };
    let opened = match disk.open(&file.path, Open::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return rot(0, file.first_seq, "the file is gone"),
        other => other?,
    };
    let Some(ends_in) = header(disk, next)?.and_then(|header| header.checkpoint) else {
        // The segment after it is the rotten one. It may be the active one, which has no turn of its own.
        return Ok(Found::Rot(Range {
            file: next.path.clone(),
            from_byte: 0,
            to_byte: next.bytes,
            from_seq: next.first_seq,
            to_seq: next.first_seq,
            why: "the segment's header is wrong".to_owned(),
        }));
    };
    let Ok((header, mut walker)) = walk::open(opened.clone())? else {
        return rot(0, file.first_seq, "the segment's header is wrong");
    };
    let belongs = header.first_seq == file.first_seq
        && header.root_id == root.id
        && Some(header.epoch) == ring.epoch_at(header.first_seq)
        && header.checkpoint.as_ref().is_none_or(|note| ring.accepts(note));
    if !belongs {
        return rot(0, file.first_seq, "the header does not belong to this file or this state root");
    }
    let (mut last, mut in_force) = (None, None);
    loop {
        let (offset, seq) = (walker.offset(), walker.tree().size());
        match walker.step()? {
            Step::End => break,
            Step::Broken(broken) => return rot(broken.offset, broken.seq, broken.why),
            Step::Batch(batch) => {
                if let Err(why) = check_records(&batch, &mut in_force) {
                    return rot(offset, seq, why);
                }
                if !ring.accepts(&batch.note) {
                    return rot(offset, seq, "the seal's signature is not valid");
                }
                last = Some(batch.note);
            }
        }
        if !pause() {
            return Ok(Found::Stopped);
        }
    }
    let (end, seq) = (walker.offset(), walker.tree().size());
    if segments::rest(opened.as_ref(), end)?.iter().any(|byte| *byte != b'\n') {
        return rot(end, seq, "padding holds other bytes than newlines");
    }
    if last.as_ref() != Some(&ends_in) {
        return rot(end, seq, "it does not end in the seal that the next segment names");
    }
    Ok(Found::Sound)
}

/// Checks the records of a batch by themselves; `in_force` is the context that the segment's records name.
pub(super) fn check_records(batch: &SealedBatch, in_force: &mut Option<u64>) -> Result<(), &'static str> {
    for text in batch.record_lines() {
        let Ok(record) = line::check_record(text) else {
            return Err("a record is not in its one permitted spelling");
        };
        if let Event::ContextSet(_) = record.event {
            *in_force = Some(record.seq);
        }
        if text.len() > limits::RECORD_BYTES || *in_force != Some(record.ctx) {
            return Err("a record passes a limit or does not name the context in force in its segment");
        }
    }
    Ok(())
}

fn header(disk: &dyn Disk, file: &SegmentFile) -> io::Result<Option<Header>> {
    Ok(walk::open(disk.open(&file.path, Open::Read)?)?.ok().map(|(header, _)| header))
}

/// Writes `damage.json` so that it survives.
pub fn write_damage(disk: &dyn Disk, found_at_ms: u64, ranges: &[Range]) -> io::Result<()> {
    let damage = Damage { format: DAMAGE_FORMAT, found_at_ms, ranges: ranges.to_vec() };
    replace_atomically(disk, "", layout::DAMAGE, &damage.render())
}

/// Reads `damage.json` before a start and checks what it names. Refuses while any of it is bad, and removes the file
/// when all of it verifies again. One that does not parse names every closed segment.
pub fn check_damage(disk: &dyn Disk) -> Result<(), OpenError> {
    let bytes = match read_bounded(disk, layout::DAMAGE, DAMAGE_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(OpenError::io(layout::DAMAGE))?,
    };
    let named = Damage::parse(&bytes)?.map(|damage| damage.ranges);
    let (root, ring) = read_root(disk)?;
    let files = segments::list(disk)?;
    let is_named = |path: &str| named.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.file == path));
    for range in named.iter().flatten() {
        if !files.iter().any(|file| file.path == range.file) {
            let Range { file, from_seq, to_seq, .. } = range.clone();
            return Err(OpenError::Rollback { file, from_seq, to_seq, why: "the file is gone".to_owned() });
        }
    }
    for pair in files.windows(2) {
        let [file, next] = pair else { continue };
        if !is_named(&file.path) {
            continue;
        }
        let found = check(disk, (&root, &ring), file, next, &mut || true).map_err(OpenError::io(file.path.clone()))?;
        if let Found::Rot(Range { file, from_byte: from, to_byte: to, from_seq: seq, why, .. }) = found {
            return Err(OpenError::Corrupt { file, from, to, seq, why });
        }
    }
    let removed = disk.remove(layout::DAMAGE).and_then(|()| disk.sync_dir(""));
    removed.map_err(OpenError::io(layout::DAMAGE))
}
