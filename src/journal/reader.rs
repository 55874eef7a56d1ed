//! Reads lines by sequence number and hashes of ranges of the tree, from published bytes only. Clones share what they
//! know; readers never wait for the writer.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use self::segment::{Known, LineCursor, Segment};
use super::line::{self, Header, Shape};
use super::merkle::{self, Frontier, Hash, RangeHashes, leaf_hash};
use super::note::Note;
use crate::platform::disk::DiskFile;

/// Every so many lines, the offset of a line is kept.
pub const STRIDE: u64 = 64;
/// Lines that are rather skipped than looked up anew.
const GAP: u64 = 4 * STRIDE;
/// Leaves under the lowest kept hashes of the tree: 256.
pub(super) const TILE_HEIGHT: u32 = 8;
const TILE: u64 = 1 << TILE_HEIGHT;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Where a perfect subtree stands: its height, and its index among those of that height.
pub type Place = (u32, u64);
/// A perfect subtree of 256 leaves or more, and its root. All of them are kept, so that no proof gathers many.
pub type Tile = (Place, Hash);

/// Someone who may know where lines of closed segments begin and what their hashes are. What it says of places is
/// checked before it is used; a wrong hash makes a proof that does not hold and is not given out.
pub trait Hints: Send + Sync {
    /// Offset of the line `block` × [`STRIDE`] of the segment that begins with this sequence number.
    fn offset(&self, first_seq: u64, block: u64) -> Option<u64>;
    /// Root of the perfect subtree of 256 leaves or more that stands there.
    fn tile(&self, place: Place) -> Option<Hash>;
}

/// The newest published state.
#[derive(Debug, Clone)]
pub struct Head {
    /// Sequence number of the next line.
    pub next_seq: u64,
    /// The newest seal's note.
    pub note: Note,
}

struct Shared {
    segments: RwLock<Vec<Arc<Segment>>>,
    head: RwLock<Head>,
    tiles: RwLock<BTreeMap<Place, Hash>>,
    hints: RwLock<Option<Arc<dyn Hints>>>,
}

/// Access to what the journal has published.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    /// A reader of a journal whose newest state is this.
    pub(super) fn new(head: Head) -> Self {
        let shared = Shared {
            segments: RwLock::default(),
            head: RwLock::new(head),
            tiles: RwLock::default(),
            hints: RwLock::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A segment exists whose lines begin at `data_start`.
    pub(super) fn began_segment(&self, first_seq: u64, file: Arc<dyn DiskFile>, data_start: u64) {
        write(&self.shared.segments).push(Arc::new(Segment::new(first_seq, file, data_start)));
    }

    /// A batch is on disk: offsets of its lines relative to `offset`, and where it ends.
    pub(super) fn published(&self, first_seq: u64, starts: &[usize], offset: u64, end: u64, note: &Note) {
        if let Some(segment) = self.segment(first_seq) {
            let mut known = write(&segment.known);
            // A segment that was skipped at start is learned from its beginning when it is first read.
            if known.lines == first_seq - segment.first_seq {
                for start in starts {
                    known.add(offset + *start as u64);
                }
                known.end = end;
            }
        }
        *write(&self.shared.head) = Head { next_seq: first_seq + starts.len() as u64, note: note.clone() };
    }

    /// Perfect subtrees became known.
    pub(super) fn add_tiles(&self, tiles: &[Tile]) {
        write(&self.shared.tiles).extend(tiles.iter().copied());
    }

    /// The perfect subtrees of this tree became known.
    pub(super) fn add_tree(&self, tree: &Frontier) {
        let all = tree.subtrees().filter(|(height, ..)| *height >= TILE_HEIGHT);
        write(&self.shared.tiles).extend(all.map(|(height, index, root)| ((height, index), root)));
    }

    /// From now on, asks here (or nowhere) before it reads a closed segment through.
    pub fn set_hints(&self, hints: Option<Arc<dyn Hints>>) {
        *write(&self.shared.hints) = hints;
    }

    /// Forgets places and hashes of the segments that end before `seq`; hints know them, or they are learned again.
    pub fn forget(&self, seq: u64) {
        let segments = read(&self.shared.segments).clone();
        for pair in segments.windows(2) {
            if let [segment, next] = pair
                && next.first_seq <= seq
            {
                *write(&segment.known) = Known::default();
            }
        }
        write(&self.shared.tiles).retain(|(height, index), _| (index + 1) << height > seq);
    }

    fn hints(&self) -> Option<Arc<dyn Hints>> {
        read(&self.shared.hints).clone()
    }

    /// The newest published state.
    pub fn head(&self) -> Head {
        read(&self.shared.head).clone()
    }

    /// First sequence number of each segment.
    pub fn segments(&self) -> Vec<u64> {
        read(&self.shared.segments).iter().map(|segment| segment.first_seq).collect()
    }

    fn segment(&self, seq: u64) -> Option<Arc<Segment>> {
        let segments = read(&self.shared.segments);
        let index = segments.partition_point(|segment| segment.first_seq <= seq).checked_sub(1)?;
        segments.get(index).map(Arc::clone)
    }

    fn cursor(&self, seq: u64) -> io::Result<LineCursor> {
        let segment = self.segment(seq).ok_or(io::ErrorKind::NotFound)?;
        let (line, block) = (seq - segment.first_seq, (seq - segment.first_seq) / STRIDE);
        let mut cursor = match self.hinted(&segment, line, block)? {
            Some(cursor) => cursor,
            None => LineCursor::new(Arc::clone(&segment.file), segment.learn(line)?),
        };
        for _ in 0..line % STRIDE {
            cursor.skip()?;
        }
        Ok(cursor)
    }

    /// A cursor at the first line of a block whose place is not in memory, if hints know it and are right.
    fn hinted(&self, segment: &Segment, line: u64, block: u64) -> io::Result<Option<LineCursor>> {
        if read(&segment.known).lines > line {
            return Ok(None);
        }
        let Some(offset) = self.hints().and_then(|hints| hints.offset(segment.first_seq, block)) else {
            return Ok(None);
        };
        if offset >= segment.file.bytes()? {
            return Ok(None);
        }
        let mut cursor = LineCursor::new(Arc::clone(&segment.file), offset);
        let due = segment.first_seq + block * STRIDE;
        let Ok(length) = cursor.peek() else { return Ok(None) };
        let text = cursor.buffer.get(cursor.start..cursor.start + length).unwrap_or_default();
        let right = matches!(line::shape(text), Some(Shape::Record(seq) | Shape::Seal(seq)) if seq == due);
        Ok(right.then_some(cursor))
    }

    /// The line with this sequence number, without its newline; `None` where nothing is published.
    pub fn line(&self, seq: u64) -> io::Result<Option<Vec<u8>>> {
        if seq >= self.head().next_seq {
            return Ok(None);
        }
        Ok(Some(self.cursor(seq)?.next()?.to_vec()))
    }

    /// Visits published lines from `from` on, until `to`, the newest, or until the visitor returns false.
    pub fn scan(&self, from: u64, to: u64, mut visit: impl FnMut(u64, &[u8]) -> bool) -> io::Result<()> {
        let to = to.min(self.head().next_seq);
        let mut seq = from;
        while seq < to {
            let mut cursor = self.cursor(seq)?;
            let until = self.segment_end(seq).min(to);
            while seq < until {
                if !visit(seq, cursor.next()?) {
                    return Ok(());
                }
                seq += 1;
            }
        }
        Ok(())
    }

    /// Visits these published lines, whose numbers rise, until the visitor returns false. Numbers of lines that are not
    /// published end it.
    pub fn pick(
        &self,
        seqs: impl IntoIterator<Item = u64>,
        mut visit: impl FnMut(u64, &[u8]) -> bool,
    ) -> io::Result<()> {
        let end = self.head().next_seq;
        let mut open: Option<(LineCursor, u64, u64)> = None;
        for seq in seqs {
            if seq >= end {
                return Ok(());
            }
            let near = open.take().filter(|(_, at, until)| (*at..(*at + GAP).min(*until)).contains(&seq));
            let (mut cursor, mut at, until) = match near {
                Some(near) => near,
                None => (self.cursor(seq)?, seq, self.segment_end(seq)),
            };
            while at < seq {
                cursor.skip()?;
                at += 1;
            }
            if !visit(seq, cursor.next()?) {
                return Ok(());
            }
            open = Some((cursor, at + 1, until));
        }
        Ok(())
    }

    /// The sequence number with which the segment behind the one of `seq` begins.
    fn segment_end(&self, seq: u64) -> u64 {
        let segments = read(&self.shared.segments);
        let next = segments.partition_point(|segment| segment.first_seq <= seq);
        segments.get(next).map_or(u64::MAX, |segment| segment.first_seq)
    }

    fn small_range(&self, from: u64, to: u64) -> io::Result<Hash> {
        let mut tree = Frontier::default();
        self.scan(from, to, |_, line| {
            tree.push(leaf_hash(line));
            true
        })?;
        if tree.size() == to - from { Ok(tree.root()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn tile(&self, place: Place) -> io::Result<Hash> {
        if let Some(hash) = read(&self.shared.tiles).get(&place) {
            return Ok(*hash);
        }
        if let Some(hash) = self.hints().and_then(|hints| hints.tile(place)) {
            return Ok(hash);
        }
        let (height, index) = place;
        let hash = if height == TILE_HEIGHT {
            self.small_range(index * TILE, (index + 1) * TILE)?
        } else {
            let (left, right) = ((height - 1, index * 2), (height - 1, index * 2 + 1));
            merkle::node_hash(&self.tile(left)?, &self.tile(right)?)
        };
        self.add_tiles(&[(place, hash)]);
        Ok(hash)
    }

    /// The tree before the segment that holds a line, as the segment's header says.
    pub fn tree_before_segment(&self, seq: u64) -> io::Result<Frontier> {
        let segment = self.segment(seq).ok_or(io::ErrorKind::NotFound)?;
        let mut cursor = LineCursor::new(Arc::clone(&segment.file), 0);
        Header::parse(cursor.next()?).map(|header| header.tree()).map_err(io::Error::other)
    }

    /// Inclusion proof of a line in the tree of `size` leaves, `seq < size`, all published.
    pub fn inclusion(&self, seq: u64, size: u64) -> io::Result<Vec<Hash>> {
        merkle::inclusion_proof(&mut self.clone(), seq, size)
    }

    /// Consistency proof between two sizes, `0 < old <= new`, all published.
    pub fn consistency(&self, old: u64, new: u64) -> io::Result<Vec<Hash>> {
        merkle::consistency_proof(&mut self.clone(), old, new)
    }
}

impl RangeHashes for Reader {
    type Error = io::Error;

    fn range_hash(&mut self, from: u64, to: u64) -> io::Result<Hash> {
        let leaves = to - from;
        if leaves < TILE {
            return self.small_range(from, to);
        }
        if leaves.is_power_of_two() && from.is_multiple_of(leaves) {
            return self.tile((leaves.ilog2(), from / leaves));
        }
        let middle = from + merkle::split(leaves);
        Ok(merkle::node_hash(&self.range_hash(from, middle)?, &self.range_hash(middle, to)?))
    }
}

mod segment;
#[cfg(test)]
mod tests;
