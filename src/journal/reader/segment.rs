//! One segment as a reader sees it: where its lines begin, as far as that is known, and its lines one after the other.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::{CHUNK_BYTES, STRIDE, read, write};
use crate::domain::limits;
use crate::platform::disk::DiskFile;

/// What is known of one segment.
pub(super) struct Segment {
    pub(super) first_seq: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) known: RwLock<Known>,
    /// Whoever reads the segment through; who needs the same waits here, and nobody else does.
    learning: Mutex<()>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Offset of each 64th line, from the first.
    offsets: Vec<u64>,
    /// Lines whose offsets are covered.
    pub(super) lines: u64,
    /// Offset behind the last covered line.
    pub(super) end: u64,
}

impl Known {
    pub(super) fn add(&mut self, offset: u64) {
        if self.lines.is_multiple_of(STRIDE) {
            self.offsets.push(offset);
        }
        self.lines += 1;
    }
}

impl Segment {
    pub(super) fn new(first_seq: u64, file: Arc<dyn DiskFile>, data_start: u64) -> Self {
        let known = RwLock::new(Known { end: data_start, ..Known::default() });
        Self { first_seq, file, known, learning: Mutex::default() }
    }

    /// Offset of the line at which the block of `line` begins; reads a segment that was not walked at start up to there.
    pub(super) fn learn(&self, line: u64) -> io::Result<u64> {
        let block = usize::try_from(line / STRIDE).unwrap_or(usize::MAX);
        let of = |known: &Known| known.offsets.get(block).copied().ok_or_else(|| io::ErrorKind::NotFound.into());
        let known = read(&self.known);
        if known.lines > line {
            return of(&known);
        }
        drop(known);
        let _learning = self.learning.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = read(&self.known).clone();
        if known.lines > line {
            return of(&known);
        }
        let mut cursor = LineCursor::new(Arc::clone(&self.file), known.end);
        if known.lines == 0 && known.end == 0 {
            cursor.skip()?; // the header
        }
        while known.lines <= line {
            known.add(cursor.offset);
            cursor.skip()?;
        }
        known.end = cursor.offset;
        let found = of(&known);
        let mut present = write(&self.known);
        // What was published meanwhile may reach further.
        if present.lines < known.lines {
            *present = known;
        }
        found
    }
}

/// Reads lines one after the other from an offset.
pub(super) struct LineCursor {
    file: Arc<dyn DiskFile>,
    pub(super) buffer: Vec<u8>,
    pub(super) start: usize,
    offset: u64,
}

impl LineCursor {
    pub(super) fn new(file: Arc<dyn DiskFile>, offset: u64) -> Self {
        Self { file, buffer: Vec::new(), start: 0, offset }
    }

    /// Length of the next line without its newline; the line then begins at `self.start` in the buffer.
    pub(super) fn peek(&mut self) -> io::Result<usize> {
        let mut searched = 0;
        loop {
            let unread = self.buffer.get(self.start..).unwrap_or_default();
            if let Some(found) = unread.get(searched..).and_then(|rest| memchr::memchr(b'\n', rest)) {
                return Ok(searched + found);
            }
            searched = unread.len();
            if searched > limits::RECORD_BYTES + CHUNK_BYTES {
                return Err(io::Error::other("a line is longer than the limit"));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            let held = self.buffer.len();
            self.buffer.resize(held + CHUNK_BYTES, 0);
            let n = self.file.read_at(self.offset + held as u64, self.buffer.get_mut(held..).unwrap_or_default())?;
            self.buffer.truncate(held + n);
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    pub(super) fn next(&mut self) -> io::Result<&[u8]> {
        let length = self.peek()?;
        let start = self.start;
        self.start += length + 1;
        self.offset += length as u64 + 1;
        Ok(self.buffer.get(start..start + length).unwrap_or_default())
    }

    pub(super) fn skip(&mut self) -> io::Result<()> {
        self.next().map(drop)
    }
}
