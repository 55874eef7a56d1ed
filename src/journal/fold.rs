//! Walking and folding at the same time: the records of a batch are read and folded while the next one is walked.

use std::sync::mpsc::{SyncSender, sync_channel};

use super::error::OpenError;
use super::layout;
use super::line::{self, LineError};
use super::walk::SealedBatch;
use crate::domain::event::DecodeError;
use crate::domain::record::Record;

/// Batches that may wait for the fold, each of a few megabytes at most: they are all in memory.
const WAITING_BATCHES: usize = 32;

/// Walks on this thread and folds on another; what the fold could not read comes before what the walk found.
pub(super) fn walk_and_fold<W>(
    walk: impl FnOnce(SyncSender<SealedBatch>) -> Result<W, OpenError>,
    from_seq: u64,
    fold: &mut (dyn FnMut(Record) + Send),
) -> Result<W, OpenError> {
    let (sender, receiver) = sync_channel::<SealedBatch>(WAITING_BATCHES);
    let (walked, folded) = std::thread::scope(|scope| {
        let folding = scope.spawn(move || {
            for batch in receiver {
                for text in batch.record_lines() {
                    match line::parse_record(text) {
                        Ok(record) if record.seq >= from_seq => fold(record),
                        Ok(_) => {}
                        Err(error) => return Err((batch.first_seq, batch.offset, error)),
                    }
                }
            }
            Ok(())
        });
        (walk(sender), folding.join())
    });
    match folded {
        Ok(Ok(())) => walked,
        Ok(Err((seq, offset, error))) => Err(unreadable(seq, offset, &error)),
        Err(_) => Err(OpenError::file(layout::FOLDER, "folding the records failed")),
    }
}

/// A record that is sealed but can't be read: of a newer program, or not in the format.
fn unreadable(seq: u64, offset: u64, error: &LineError) -> OpenError {
    match error {
        LineError::Event(DecodeError::UnknownKind(_) | DecodeError::UnknownVersion { .. }) => {
            OpenError::TooNew(format!("a record behind sequence number {seq}: {error}"))
        }
        LineError::Event(_) | LineError::Shape(_) | LineError::Spelling | LineError::TooNew(_) => OpenError::Corrupt {
            file: layout::FOLDER.to_owned(),
            from: offset,
            to: offset,
            seq,
            why: error.to_string(),
        },
    }
}
