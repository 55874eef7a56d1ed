//! The one writer: batches in, seals out. One write, one sync and one signature a batch; after a failed write or sync
//! nothing more is acknowledged until a restart.

use std::io;
use std::sync::Arc;

use ed25519_dalek::SigningKey;

use super::acker::Acker;
use super::batch::{Batch, push_leaf};
use super::error::WriteError;
use super::layout;
use super::line::{self, Header};
use super::merkle::{Frontier, leaf_hash};
use super::note::{Note, Origin};
use super::reader::Reader;
use super::space::{Space, is_full};
use crate::domain::context;
use crate::domain::limits;
use crate::domain::record::Record;
use crate::domain::stream::Stream;
use crate::platform::clock::Clock;
use crate::platform::disk::{Disk, DiskFile, Open};

/// Sizes and ways of a journal. Tests make them small; the daemon takes the default.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// A segment closes when it reaches this many bytes.
    pub segment_bytes: u64,
    /// Written-ahead space in bytes.
    pub ahead_bytes: u64,
    /// Room that must exist before anything is decided, bytes.
    pub reserve_bytes: u64,
    /// Whether space is prepared on threads of its own.
    pub background: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: limits::SEGMENT_BYTES,
            ahead_bytes: limits::WRITTEN_AHEAD_BYTES,
            reserve_bytes: (limits::DECISION_BYTES + limits::BATCH_BYTES + (64 << 10)) as u64,
            background: true,
        }
    }
}

/// The active segment.
pub(super) struct Active {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) first_seq: u64,
    pub(super) data_end: u64,
    pub(super) space: Arc<Space>,
}

/// A journal open for writing. Owned by one thread.
pub struct Journal {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: Options,
    pub(super) origin: Origin,
    pub(super) key: SigningKey,
    pub(super) tree: Frontier,
    /// The tree that `note` signs: without the seal's own line.
    pub(super) sealed: Frontier,
    pub(super) active: Active,
    pub(super) context: context::Set,
    /// The context record in force; `None` where the next batch must begin with one.
    pub(super) ctx: Option<u64>,
    pub(super) note: Note,
    pub(super) acked: Acker,
    pub(super) poison: Option<String>,
    pub(super) reader: Reader,
    /// Prepares the next segment.
    pub(super) next: Option<std::thread::JoinHandle<io::Result<Next>>>,
}

/// The next segment: newlines only, synced; and the space ahead of its data, on a descriptor of its own.
pub(super) struct Next {
    file: Arc<dyn DiskFile>,
    space: Arc<Space>,
}

/// Whether an error says that the machine lacks something for the moment, before anything was changed.
pub(super) fn is_passing(error: &io::Error) -> bool {
    let passing = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOMEM];
    passing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl Journal {
    /// Sequence number of the next line.
    pub fn next_seq(&self) -> u64 {
        self.tree.size()
    }

    /// The tree over all lines, the newest seal's included.
    pub fn tree(&self) -> &Frontier {
        &self.tree
    }

    /// The newest note whose batch is on disk.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// The log's name in this epoch.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Reads what is on disk; clones share it.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Why nothing more is written, if so.
    pub fn poison(&self) -> Option<&str> {
        self.poison.as_deref()
    }

    /// Stops all writing until a restart, for a reason found elsewhere: rot in a cold segment.
    pub fn freeze(&mut self, why: &str) {
        self.poison.get_or_insert_with(|| why.to_owned());
    }

    /// The facts of the context in force.
    pub fn context(&self) -> &context::Set {
        &self.context
    }

    /// Changes the facts that hold for later records; the next batch begins by recording them.
    pub fn set_context(&mut self, context: context::Set) {
        if self.context != context {
            self.context = context;
            self.ctx = None;
        }
    }

    /// Begins a batch: closes a full segment, makes sure that the largest batch has room, and puts a context record
    /// first where one is due. Nothing has been written if this fails.
    pub fn begin(&mut self) -> Result<Batch, WriteError> {
        if let Some(why) = &self.poison {
            return Err(WriteError::Poisoned(why.clone()));
        }
        if let Some(why) = self.acked.failure().or_else(|| self.active.space.failure()) {
            return Err(self.poisoned(why));
        }
        if self.active.data_end >= self.options.segment_bytes {
            self.rotate()?;
        }
        self.reserve()?;
        let mut batch = Batch {
            bytes: Vec::with_capacity(16 << 10),
            tree: self.tree.clone(),
            base: self.tree.clone(),
            first_seq: self.tree.size(),
            starts: Vec::new(),
            tiles: Vec::new(),
            ctx: self.ctx,
            ctx_boot_ms: self.context.boot_ms,
        };
        if self.ctx.is_none() {
            let (wall_ms, boot_ms) = (self.clock.wall_ms(), self.clock.boot_ms());
            self.context.wall_ms = wall_ms;
            self.context.boot_ms = boot_ms;
            let record = Record::by_system(
                batch.first_seq,
                batch.first_seq,
                wall_ms,
                Stream::Daemon,
                self.context.clone().into(),
            );
            batch.push(&record)?;
            batch.ctx = Some(batch.first_seq);
            batch.ctx_boot_ms = boot_ms;
        }
        Ok(batch)
    }

    /// Seals, writes and syncs a batch. When this returns, all of it is on disk; if it fails, none of it counts and the
    /// journal takes no more.
    pub fn commit(&mut self, batch: Batch) -> Result<(), WriteError> {
        let key = self.key.clone();
        self.commit_signed(batch, &[&key])?;
        self.acked.offer(&self.note);
        Ok(())
    }

    /// Commits a batch whose seal these keys sign; the caller offers the note to `acked`.
    pub(super) fn commit_signed(&mut self, batch: Batch, keys: &[&SigningKey]) -> Result<(), WriteError> {
        if let Some(why) = &self.poison {
            return Err(WriteError::Poisoned(why.clone()));
        }
        let Batch { mut bytes, mut tree, first_seq, mut starts, mut tiles, ctx, .. } = batch;
        let note = Note::sign(self.origin, tree.size(), tree.root(), keys);
        starts.push(bytes.len());
        let seal = line::render_seal(tree.size(), &note);
        let sealed = tree.clone();
        push_leaf(&mut tree, &mut tiles, leaf_hash(&seal));
        bytes.extend_from_slice(&seal);
        bytes.push(b'\n');
        let offset = self.active.data_end;
        if offset + bytes.len() as u64 > self.active.space.written() {
            // Beyond it, written-ahead space that is extended at this moment would cover the batch.
            return Err(self.poisoned("a batch is larger than the room that was made for it".to_owned()));
        }
        let written = self.active.file.write_at(offset, &bytes).and_then(|()| self.active.file.sync());
        let written =
            written.and_then(|()| self.active.space.failure().map_or(Ok(()), |why| Err(io::Error::other(why))));
        if let Err(error) = written {
            let path = layout::segment_path(self.active.first_seq);
            return Err(self.poisoned(format!("a write or sync of {path} failed: {error}")));
        }
        self.look()?;
        self.active.data_end = offset + bytes.len() as u64;
        self.ctx = ctx;
        (self.tree, self.sealed) = (tree, sealed);
        self.note = note;
        self.reader.published(first_seq, &starts, offset, self.active.data_end, &self.note);
        self.reader.add_tiles(&tiles);
        if self.options.background {
            self.prepare_ahead();
        }
        Ok(())
    }

    /// Looks whether the active segment is still there, and whole; a batch counts only after that. Writing stops otherwise.
    pub fn look(&mut self) -> Result<(), WriteError> {
        self.active.space.check().map_err(|error| {
            let path = layout::segment_path(self.active.first_seq);
            self.poisoned(format!("{path}: {error}: acknowledged records are missing"))
        })
    }

    /// Demands room for the largest batch.
    fn reserve(&mut self) -> Result<(), WriteError> {
        let wanted = self.active.data_end + self.options.reserve_bytes;
        if self.active.space.written() >= wanted {
            return Ok(());
        }
        self.active.space.extend(wanted).map_err(|error| self.no_room(&error))
    }

    fn no_room(&mut self, error: &io::Error) -> WriteError {
        if let Some(why) = self.active.space.failure() {
            self.poisoned(why)
        } else if is_full(error) {
            WriteError::Full(error.to_string())
        } else if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
            WriteError::ReadOnly(error.to_string())
        } else {
            self.poisoned(format!("preparing space failed: {error}"))
        }
    }

    pub(super) fn poisoned(&mut self, why: String) -> WriteError {
        self.freeze(&why);
        WriteError::Poisoned(why)
    }

    fn prepare_ahead(&mut self) {
        let end = self.active.data_end;
        if self.active.space.written() < end + self.options.ahead_bytes / 2 + self.options.reserve_bytes {
            self.active.space.extend_in_background(end + self.options.ahead_bytes + self.options.reserve_bytes);
        }
        if self.next.is_none() && end > self.options.segment_bytes / 4 * 3 {
            let (disk, bytes) = (Arc::clone(&self.disk), self.options.ahead_bytes);
            // What fails there is done again, and reported, when the segment closes.
            let work = move || prepare_next(disk.as_ref(), bytes);
            self.next = std::thread::Builder::new().name("journal-next".to_owned()).spawn(work).ok();
        }
    }

    /// Closes the active segment and begins the next: cut and sync the old one, header into `next`, sync, rename, sync
    /// the folder.
    pub(super) fn rotate(&mut self) -> Result<(), WriteError> {
        let prepared = self.next.take().and_then(|thread| thread.join().ok()).and_then(Result::ok);
        let next = match prepared.map_or_else(|| prepare_next(self.disk.as_ref(), self.options.ahead_bytes), Ok) {
            Ok(next) => next,
            Err(error) if is_passing(&error) => return Err(WriteError::Exhausted(error.to_string())),
            Err(error) => return Err(self.no_room(&error)),
        };
        let header = Header {
            root_id: self.origin.root_id,
            epoch: self.origin.epoch,
            first_seq: self.tree.size(),
            checkpoint: Some(self.note.clone()),
            frontier: self.sealed.clone(),
        };
        match self.switch(&header, next) {
            Ok(active) => {
                self.active = active;
                self.ctx = None;
                let end = self.active.data_end;
                self.reader.began_segment(header.first_seq, Arc::clone(&self.active.file), end);
                Ok(())
            }
            Err(error) => Err(self.no_room(&error)),
        }
    }

    fn switch(&self, header: &Header, next: Next) -> io::Result<Active> {
        let line = [header.render(), b"\n".to_vec()].concat();
        next.space.extend(line.len() as u64)?;
        close_segment(&self.active)?;
        next.file.write_at(0, &line)?;
        next.file.sync()?;
        self.disk.rename(layout::NEXT, &layout::segment_path(header.first_seq))?;
        self.disk.sync_dir(layout::FOLDER)?;
        Ok(Active { file: next.file, first_seq: header.first_seq, data_end: line.len() as u64, space: next.space })
    }

    /// Writes the newest note into the older slot of `acked`.
    pub fn write_acked(&mut self) -> Result<(), WriteError> {
        self.acked.write().map_err(|error| self.poisoned_by_acked(&error))
    }

    /// Brings the newest note into both slots.
    pub fn settle_acked(&mut self) -> Result<(), WriteError> {
        self.acked.settle().map_err(|error| self.poisoned_by_acked(&error))
    }

    fn poisoned_by_acked(&mut self, error: &io::Error) -> WriteError {
        self.poisoned(format!("a write of {} failed: {error}", super::acked::PATH))
    }

    /// Ends writing at a drain: `acked` in both slots, no prepared segment left.
    pub fn close(mut self) -> Result<(), WriteError> {
        self.active.space.finish();
        drop(self.next.take().map(std::thread::JoinHandle::join));
        self.settle_acked()?;
        match self.disk.remove(layout::NEXT) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.no_room(&error)),
            _ => Ok(()),
        }
    }
}

/// Cuts the written-ahead space off a segment that takes no more batches. One of two functions that shorten a file.
fn close_segment(active: &Active) -> io::Result<()> {
    active.space.finish();
    // Cutting a file that is shorter would make it longer, and look whole.
    active.space.check()?;
    active.file.truncate(active.data_end)?;
    // Where the next segment cannot begin yet, this is looked at and closed once more.
    active.space.cut(active.data_end);
    active.file.sync()
}

/// Makes `next`: newlines only, synced. One that an earlier attempt left is made anew.
fn prepare_next(disk: &dyn Disk, bytes: u64) -> io::Result<Next> {
    let file = disk.open(layout::NEXT, Open::Replace)?;
    let space = Space::new(disk.open(layout::NEXT, Open::Write)?, 0);
    space.extend(bytes)?;
    Ok(Next { file, space: Arc::new(space) })
}
