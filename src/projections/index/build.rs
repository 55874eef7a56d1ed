//! The entries of one closed segment, made by walking it. The same segment behind the same ones always gives the same
//! entries.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::keys;
use super::mark::Closed;
use super::store::{self, Unusable};
use crate::domain::event::Event;
use crate::domain::ids::{RunId, SessionId};
use crate::domain::stream::Stream;
use crate::journal::line;
use crate::journal::merkle::Hash;
use crate::journal::reader::STRIDE;
use crate::journal::walk::{self, Step};
use crate::platform::disk::DiskFile;

/// Lines whose entries are gathered before they are handed on: bounds the memory of a build.
const PIECE_LINES: u64 = 16_384;

/// Some entries.
pub(super) type Entries = Vec<store::Entry>;

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
    /// Of each height, the index of the first, and all that follow.
    tiles: BTreeMap<u32, (u64, Vec<Hash>)>,
    streams: BTreeMap<Stream, Vec<u64>>,
    /// Runs that were queued, with where, and their sessions.
    runs: Vec<(RunId, u64, SessionId)>,
}

impl Piece {
    fn entries(self, first_seq: u64) -> Entries {
        let mut entries = Vec::with_capacity(self.streams.len() + self.runs.len() + self.tiles.len() + 1);
        if !self.offsets.is_empty() {
            entries.push((keys::offsets(first_seq, self.first_block), keys::pack(&self.offsets, true)));
        }
        for (height, (index, hashes)) in self.tiles {
            entries.push((keys::tiles((height, index)), hashes.concat()));
        }
        for (run, queued, session) in self.runs {
            entries.push((keys::run(run, queued), session.ulid().0.to_be_bytes().to_vec()));
        }
        for (stream, seqs) in self.streams {
            let key = seqs.first().and_then(|first| keys::postings(stream, *first));
            entries.extend(key.map(|key| (key, keys::pack(&seqs, false))));
        }
        entries
    }
}

/// Says to which session a run belongs that was queued in an earlier segment.
type SessionOf<'a> = &'a dyn Fn(RunId) -> Result<Option<SessionId>, Unusable>;

/// The session in the record that queues a run.
fn queued_in(text: &[u8]) -> Option<SessionId> {
    // The kind stands behind three numbers; most lines need no further look.
    memchr::memmem::find(text.get(..128).unwrap_or(text), b"\"kind\":\"run.queued\"")?;
    match line::parse_record(text).ok()?.event {
        Event::RunQueued(body) => Some(body.session_id),
        _ => None,
    }
}

/// Sessions of the runs that were met in a segment; none for a run that was never queued.
type Sessions = BTreeMap<RunId, Option<SessionId>>;

impl Piece {
    /// Adds a record's line to what belongs to its stream, and to its session.
    fn post(&mut self, seq: u64, text: &[u8], sessions: &mut Sessions, of: SessionOf<'_>) -> Result<(), Unusable> {
        let session = match line::stream_text(text).and_then(Stream::parse) {
            Some(Stream::Session(id)) => Some(id),
            Some(Stream::Run(run)) => {
                self.streams.entry(Stream::Run(run)).or_default().push(seq);
                if let Some(session) = queued_in(text) {
                    self.runs.push((run, seq, session));
                    sessions.insert(run, Some(session));
                }
                match sessions.entry(run) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(unknown) => *unknown.insert(of(run)?),
                }
            }
            Some(
                Stream::Journal
                | Stream::Daemon
                | Stream::Runtime
                | Stream::ControlPlane
                | Stream::Vault
                | Stream::Ledger
                | Stream::ModelCall(_),
            )
            | None => None,
        };
        if let Some(id) = session {
            self.streams.entry(Stream::Session(id)).or_default().push(seq);
        }
        Ok(())
    }
}

/// Walks a closed segment and hands its entries on, piece by piece. Gives the segment and how many records it has.
pub(super) fn entries(
    file: Arc<dyn DiskFile>,
    session_of: SessionOf<'_>,
    hand_on: &mut dyn FnMut(Entries) -> Result<(), Unusable>,
) -> Result<(Closed, u64), Fault> {
    let fault = |why: String| Fault::Journal(why);
    let opened = walk::open(file).map_err(|error| fault(error.to_string()))?;
    let (header, mut walker) = opened.map_err(|error| fault(error.to_string()))?;
    let (first_seq, mut records, mut root) = (header.first_seq, 0, None);
    let (mut piece, mut sessions) = (Piece::default(), Sessions::new());
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
            piece.post(seq, text, &mut sessions, session_of)?;
        }
        for ((height, index), hash) in batch.tiles {
            piece.tiles.entry(height).or_insert_with(|| (index, Vec::new())).1.push(hash);
        }
        root = Some(batch.note.root);
    }
    hand_on(piece.entries(first_seq))?;
    let root = root.ok_or_else(|| fault("it holds no batch".to_owned()))?;
    Ok((Closed { first_seq, next_seq: walker.tree().size(), root }, records))
}
