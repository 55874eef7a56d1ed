//! Walks a segment batch by batch: reads lines, rebuilds the tree, and compares each seal with it. Never writes.

use std::io;
use std::sync::Arc;

use super::batch::push_leaf;
use super::line::{self, Header, LineError, Shape};
use super::merkle::{Frontier, leaf_hash};
use super::note::Note;
use super::reader::Tile;
use crate::domain::limits;
use crate::platform::disk::DiskFile;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// Most bytes between two seals: the largest decision and what a batch may hold beside it.
const BATCH_BYTES_MAX: usize = limits::DECISION_BYTES + limits::BATCH_BYTES + (64 << 10);

/// A batch whose seal is right.
#[derive(Debug)]
pub struct SealedBatch {
    /// The lines with their newlines, the seal's included.
    pub bytes: Vec<u8>,
    /// Where each record's line ends in `bytes`, its newline excluded.
    pub ends: Vec<usize>,
    /// Offset of the batch in the segment.
    pub offset: u64,
    /// Sequence number of the first line.
    pub first_seq: u64,
    /// Perfect subtrees of 256 leaves or more that the batch completes.
    pub tiles: Vec<Tile>,
    /// The tree that the note signs.
    pub sealed_tree: Frontier,
    /// The seal's note; its size is the seal's sequence number.
    pub note: Note,
}

impl SealedBatch {
    /// The lines of the records, without newlines and without the seal's.
    pub fn record_lines(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|end| end + 1));
        starts.zip(&self.ends).filter_map(|(start, end)| self.bytes.get(start..*end))
    }

    /// Offsets of all lines in `bytes`, the seal's included.
    pub fn starts(&self) -> Vec<usize> {
        std::iter::once(0).chain(self.ends.iter().map(|end| end + 1)).collect()
    }

    /// Offset behind the seal's newline.
    pub fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// What a step over a segment meets.
#[derive(Debug)]
pub enum Step {
    /// A batch whose lines and seal agree.
    Batch(SealedBatch),
    /// The first empty line behind a seal, or the end of the file behind one.
    End,
    /// Something that is neither.
    Broken(Broken),
}

/// Where and why a walk can't go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Offset of the line that is wrong.
    pub offset: u64,
    /// Sequence number that was due there.
    pub seq: u64,
    /// What is wrong.
    pub why: &'static str,
}

/// A position in a segment between two batches.
pub struct Walker {
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    /// Where the unread part of `buffer` begins.
    start: usize,
    /// Offset in the file of the first unread byte.
    offset: u64,
    at_end: bool,
    tree: Frontier,
}

/// Reads a segment's header line and gives a walker that stands behind it.
pub fn open(file: Arc<dyn DiskFile>) -> io::Result<Result<(Header, Walker), LineError>> {
    let tree = Frontier::default();
    let mut walker = Walker { file, buffer: Vec::new(), start: 0, offset: 0, at_end: false, tree };
    let Some(length) = walker.line_length(0)? else { return Ok(Err(LineError::Spelling)) };
    let header = match Header::parse(walker.unread().get(..length).unwrap_or_default()) {
        Ok(header) => header,
        Err(error) => return Ok(Err(error)),
    };
    walker.tree = header.tree();
    walker.consume(length + 1);
    Ok(Ok((header, walker)))
}

impl Walker {
    /// Forgets what was read ahead, so that what has been written behind it meanwhile is seen.
    pub fn read_anew(&mut self) {
        self.buffer.clear();
        self.start = 0;
        self.at_end = false;
    }

    /// Offset of the next unread byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The tree over everything walked so far.
    pub fn tree(&self) -> &Frontier {
        &self.tree
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let held = self.buffer.len();
        self.buffer.resize(held + CHUNK_BYTES, 0);
        let read = self.file.read_at(self.offset + held as u64, self.buffer.get_mut(held..).unwrap_or_default())?;
        self.buffer.truncate(held + read);
        self.at_end = read < CHUNK_BYTES;
        Ok(())
    }

    /// Length of the line that begins `skip` bytes into the unread part; `None` where no newline ends it.
    fn line_length(&mut self, skip: usize) -> io::Result<Option<usize>> {
        let mut searched = skip;
        loop {
            let unread = self.unread();
            if let Some(found) = unread.get(searched..).and_then(|rest| memchr::memchr(b'\n', rest)) {
                return Ok(Some(searched + found - skip));
            }
            if self.at_end || unread.len() > BATCH_BYTES_MAX + limits::RECORD_BYTES {
                return Ok(None);
            }
            searched = unread.len().max(skip);
            self.fill()?;
        }
    }

    /// Takes the next batch. After anything but [`Step::Batch`] the walker stands where the batch would begin.
    pub fn step(&mut self) -> io::Result<Step> {
        if self.start >= self.buffer.len() && !self.at_end {
            self.fill()?;
        }
        if matches!(self.unread().first(), None | Some(b'\n')) {
            return Ok(Step::End);
        }
        let first_seq = self.tree.size();
        let mut tree = self.tree.clone();
        let mut ends = Vec::new();
        let mut tiles = Vec::new();
        let mut length = 0;
        loop {
            let seq = tree.size();
            let offset = self.offset + length as u64;
            let broken = |why| Ok(Step::Broken(Broken { offset, seq, why }));
            let Some(line_length) = self.line_length(length)? else { return broken("the line has no end") };
            let end = length + line_length;
            let Some(text) = self.unread().get(length..end) else { return broken("the line has no end") };
            match line::shape(text) {
                Some(Shape::Record(found)) if found == seq => {
                    push_leaf(&mut tree, &mut tiles, leaf_hash(text));
                    ends.push(end);
                }
                Some(Shape::Seal(found)) if found == seq => {
                    let Some((_, note)) = line::parse_seal(text) else { return broken("the seal is not canonical") };
                    if note.size != seq || note.root != tree.root() {
                        return broken("the seal does not match the lines before it");
                    }
                    let sealed_tree = tree.clone();
                    push_leaf(&mut tree, &mut tiles, leaf_hash(text));
                    let bytes = self.unread().get(..=end).unwrap_or_default().to_vec();
                    let batch = SealedBatch { bytes, ends, offset: self.offset, first_seq, tiles, sealed_tree, note };
                    self.consume(end + 1);
                    self.tree = tree;
                    return Ok(Step::Batch(batch));
                }
                Some(Shape::Record(_) | Shape::Seal(_)) => return broken("the sequence number is not the one due"),
                None => return broken("the line is neither a record nor a seal"),
            }
            length = end + 1;
            if length > BATCH_BYTES_MAX {
                return Ok(Step::Broken(Broken { offset: self.offset, seq: first_seq, why: "no seal ends the batch" }));
            }
        }
    }
}
