//! A batch being built: lines with their places in the tree, until a seal ends it.

use super::error::WriteError;
use super::line;
use super::merkle::{Frontier, Hash, leaf_hash};
use super::reader::{TILE_HEIGHT, Tile};
use crate::domain::limits;
use crate::domain::record::Record;

/// Lines that will be written and sealed together.
#[derive(Debug)]
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) tree: Frontier,
    /// The tree before the first line.
    pub(super) base: Frontier,
    pub(super) first_seq: u64,
    /// Offset of each line in `bytes`.
    pub(super) starts: Vec<usize>,
    /// Perfect subtrees of 256 leaves or more that the batch completes.
    pub(super) tiles: Vec<Tile>,
    pub(super) ctx: Option<u64>,
    /// Boot-time clock of the context in force, milliseconds.
    pub(super) ctx_boot_ms: u64,
}

/// Appends a leaf to a tree and keeps the tiles that it completes.
pub(super) fn push_leaf(tree: &mut Frontier, tiles: &mut Vec<Tile>, leaf: Hash) {
    let index = tree.size();
    tree.push_reporting(leaf, |height, root| {
        if height >= TILE_HEIGHT {
            tiles.push(((height, index >> height), *root));
        }
    });
}

/// Lines that begin at these offsets and end before a newline.
fn lines_at<'a>(bytes: &'a [u8], starts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let ends = starts.iter().skip(1).copied().chain(std::iter::once(bytes.len()));
    starts.iter().zip(ends).map(|(start, end)| bytes.get(*start..end.saturating_sub(1)).unwrap_or_default())
}

/// A place in a batch to which it can be taken back.
#[derive(Debug, Clone)]
pub struct Mark {
    bytes: usize,
    lines: usize,
    tiles: usize,
}

impl Batch {
    /// Sequence number of the next record.
    pub fn next_seq(&self) -> u64 {
        self.tree.size()
    }

    /// Sequence number of the context in force. The first record of a segment is a context and names itself.
    pub fn ctx(&self) -> u64 {
        self.ctx.unwrap_or(self.first_seq)
    }

    /// Milliseconds of boot time since the context in force.
    pub fn mono_ms(&self, boot_ms: u64) -> u64 {
        boot_ms.saturating_sub(self.ctx_boot_ms)
    }

    /// Records in the batch.
    pub fn records(&self) -> usize {
        self.starts.len()
    }

    /// Bytes in the batch.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The records' lines, without their newlines.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        lines_at(&self.bytes, &self.starts)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The present place.
    pub fn mark(&self) -> Mark {
        Mark { bytes: self.bytes.len(), lines: self.starts.len(), tiles: self.tiles.len() }
    }

    /// Takes the batch back to a place, as if what came after had never been pushed. Rare, so that the tree is grown
    /// again instead of being kept at each place.
    pub fn undo(&mut self, mark: &Mark) {
        self.bytes.truncate(mark.bytes);
        self.starts.truncate(mark.lines);
        self.tiles.truncate(mark.tiles);
        self.tree.clone_from(&self.base);
        for line in lines_at(&self.bytes, &self.starts) {
            self.tree.push(leaf_hash(line));
        }
    }

    /// Lines pushed since a place, each with its newline.
    pub fn since(&self, mark: &Mark) -> &[u8] {
        self.bytes.get(mark.bytes..).unwrap_or_default()
    }

    /// Adds a record; its `seq` must be [`Batch::next_seq`].
    pub fn push(&mut self, record: &Record) -> Result<(), WriteError> {
        let start = self.bytes.len();
        let rendered = line::render_record(record, &mut self.bytes);
        let length = self.bytes.len() - start;
        if rendered.is_err() || length > limits::RECORD_BYTES || record.seq != self.next_seq() {
            self.bytes.truncate(start);
            return Err(WriteError::TooLarge(format!(
                "a {} record would have {length} bytes, the limit is {}",
                record.event.kind(),
                limits::RECORD_BYTES
            )));
        }
        let leaf = leaf_hash(self.bytes.get(start..).unwrap_or_default());
        push_leaf(&mut self.tree, &mut self.tiles, leaf);
        self.bytes.push(b'\n');
        self.starts.push(start);
        Ok(())
    }
}
