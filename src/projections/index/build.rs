//! The entries of one closed segment, made by walking it. The same segment always gives the same entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::keys;
use super::mark::Closed;
use super::store::{Entry, Unusable};
use crate::domain::stream::Stream;
use crate::journal::line;
use crate::journal::merkle::Hash;
use crate::journal::reader::{STRIDE, Tile};
use crate::journal::walk::{self, Step};
use crate::platform::disk::DiskFile;

/// Lines whose entries are gathered before they are handed on: bounds the memory of a build.
const PIECE_LINES: u64 = 16_384;

/// Some entries.
pub(super) type Entries = Vec<Entry>;

/// Why a segment cannot be indexed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The segment is not what it should be.
    #[error("the segment cannot be indexed: {0}")]
    Journal(String),
    /// The store is not.
    #[error(transparent)]
    Store(#[from] Unusable),
}

/// What a piece of a segment gives.
#[derive(Default)]
struct Piece {
    first_block: u64,
    offsets: Vec<u64>,
    tiles: Vec<Tile>,
    streams: BTreeMap<Stream, Vec<u64>>,
}

impl Piece {
    fn entries(self, first_seq: u64) -> Entries {
        let mut entries = Vec::with_capacity(self.streams.len() + 2);
        if !self.offsets.is_empty() {
            entries.push((keys::offsets(first_seq, self.first_block), keys::pack(&self.offsets, true)));
        }
        if let Some((index, _)) = self.tiles.first() {
            let hashes: Vec<Hash> = self.tiles.iter().map(|(_, hash)| *hash).collect();
            entries.push((keys::tiles(*index), hashes.concat()));
        }
        for (stream, seqs) in self.streams {
            let key = seqs.first().and_then(|first| keys::postings(stream, *first));
            entries.extend(key.map(|key| (key, keys::pack(&seqs, false))));
        }
        entries
    }
}

/// Walks a closed segment and hands its entries on, piece by piece. Gives the segment and how many records it has.
pub(super) fn entries(
    file: Arc<dyn DiskFile>,
    hand_on: &mut dyn FnMut(Entries) -> Result<(), Unusable>,
) -> Result<(Closed, u64), Fault> {
    let fault = |why: String| Fault::Journal(why);
    let opened = walk::open(file).map_err(|error| fault(error.to_string()))?;
    let (header, mut walker) = opened.map_err(|error| fault(error.to_string()))?;
    let (first_seq, mut records, mut root) = (header.first_seq, 0, None);
    let mut piece = Piece::default();
    let mut piece_end = first_seq + PIECE_LINES;
    loop {
        let batch = match walker.step().map_err(|error| fault(error.to_string()))? {
            Step::Batch(batch) => batch,
            Step::Broken(broken) => return Err(fault(format!("byte {}: {}", broken.offset, broken.why))),
            Step::End => break,
        };
        if batch.first_seq >= piece_end {
            let done = std::mem::take(&mut piece);
            hand_on(done.entries(first_seq))?;
            piece.first_block = (batch.first_seq - first_seq).div_ceil(STRIDE);
            piece_end = batch.first_seq + PIECE_LINES;
        }
        for (seq, start) in (batch.first_seq..).zip(batch.starts()) {
            if (seq - first_seq).is_multiple_of(STRIDE) {
                piece.offsets.push(batch.offset + start as u64);
            }
        }
        for (seq, text) in (batch.first_seq..).zip(batch.record_lines()) {
            records += 1;
            let stream = line::stream_text(text).and_then(Stream::parse);
            if let Some(stream @ (Stream::Session(_) | Stream::Run(_))) = stream {
                piece.streams.entry(stream).or_default().push(seq);
            }
        }
        piece.tiles.extend_from_slice(&batch.tiles);
        root = Some(batch.note.root);
    }
    hand_on(piece.entries(first_seq))?;
    let root = root.ok_or_else(|| fault("it holds no batch".to_owned()))?;
    Ok((Closed { first_seq, next_seq: walker.tree().size(), root }, records))
}
