//! Reading a journal at start, without writing: everything up to the newest `acked` note must be right, what a crash
//! left behind it is told apart from rot, and every record goes to the fold.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use ed25519_dalek::SigningKey;

use super::acked::Slots;
use super::create;
use super::error::OpenError;
use super::fold::walk_and_fold;
use super::keys::{KeyRing, StateRoot};
use super::layout;
use super::line::Header;
use super::merkle::Frontier;
use super::note::Note;
use super::reader::{Head, Reader};
use super::segments::{self, Padded, SegmentFile};
use super::tail::{self, Tail};
use super::walk::{self, Broken, SealedBatch, Step};
use crate::domain::record::Record;
use crate::platform::disk::{Disk, DiskFile, Open, read_bounded};

/// What a crash left behind the last good batch.
#[derive(Debug, Clone)]
pub(super) struct Leavings {
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

/// All that reading found out; [`super::open`] turns it into a writer.
pub struct Recovered {
    pub(super) root: StateRoot,
    pub(super) key: SigningKey,
    /// Whether `key` still lies in the file of the next key.
    pub(super) finish_handover: bool,
    /// A next key whose handover is sealed in the journal.
    pub(super) handover: Option<Note>,
    pub(super) slots: Slots,
    pub(super) reader: Reader,
    pub(super) first_seq: u64,
    pub(super) data_end: u64,
    /// Offset in the active segment behind which nothing was acknowledged for sure.
    pub(super) acked_end: u64,
    pub(super) tree: Frontier,
    pub(super) sealed: Frontier,
    pub(super) note: Note,
    pub(super) leavings: Option<Leavings>,
    /// Whether the tree that reading began from is the journal's own at that place.
    pub fits: bool,
    /// Closed segments that are still to be cut behind their last seal.
    pub(super) padded: Vec<Padded>,
}

impl Recovered {
    /// Sequence number of the next line.
    pub fn next_seq(&self) -> u64 {
        self.tree.size()
    }

    /// The newest note.
    pub fn note(&self) -> &Note {
        &self.note
    }
}

/// Reads `state-root.json` and walks its keys.
pub fn read_root(disk: &dyn Disk) -> Result<(StateRoot, KeyRing), OpenError> {
    let bytes = read_bounded(disk, layout::STATE_ROOT, 1 << 20).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            OpenError::Absent("state-root.json is missing".to_owned())
        } else {
            OpenError::io(layout::STATE_ROOT)(error)
        }
    })?;
    let fault = |error: super::keys::KeysError| match error {
        super::keys::KeysError::TooNew(_) => OpenError::TooNew(error.to_string()),
        super::keys::KeysError::Shape(_) | super::keys::KeysError::Chain(_) => OpenError::Keys(error.to_string()),
    };
    let root = StateRoot::parse(&bytes).map_err(fault)?;
    let ring = root.ring().map_err(fault)?;
    Ok((root, ring))
}

/// Reads the journal. Records behind `base`, the tree over all lines that a snapshot holds, go to `fold` in order, on a
/// thread of their own.
pub fn read(
    disk: &dyn Disk,
    base: Option<&Frontier>,
    fold: &mut (dyn FnMut(Record) + Send),
) -> Result<Recovered, OpenError> {
    let (root, ring) = read_root(disk)?;
    let slots = Slots::read(disk, &ring).map_err(OpenError::io(super::acked::PATH))?;
    let slots =
        slots.ok_or_else(|| OpenError::file(super::acked::PATH, "the file is missing or has another length"))?;
    let Some(acked) = slots.newest().cloned() else {
        return Err(OpenError::file(super::acked::PATH, "neither slot holds a valid note"));
    };
    let key = SigningKey::from_bytes(&create::read_key(disk, layout::SIGNING_KEY)?);
    let next_key = create::read_key(disk, layout::SIGNING_KEY_NEXT).map(|seed| SigningKey::from_bytes(&seed));
    let files = segments::list(disk)?;
    // The walk must pass the acknowledged note, wherever the snapshot is.
    let next_seq = base.map_or(0, Frontier::size);
    let from = next_seq.saturating_sub(1).min(acked.size);
    let start = files.partition_point(|file| file.first_seq <= from).saturating_sub(1);
    let padded = segments::check_skipped(disk, &files, start, (&root, &ring))?;
    let walk = |sender| {
        let next_key = next_key.as_ref().map_err(ToString::to_string).cloned();
        Walk { disk, root: &root, ring, next_key, acked: &acked, base, sender, reached: None, handover: None }
            .run(&files, start)
    };
    let walked = walk_and_fold(walk, next_seq, fold)?;
    let newest = walked.ring.newest().map(|(_, key)| key);
    let is_newest = |key: &SigningKey| newest == Some(key.verifying_key());
    let next_key = next_key.ok().filter(|next| walked.handover.is_some() || is_newest(next));
    if !is_newest(&key) && next_key.is_none() {
        return Err(OpenError::Keys(format!("{} is not the key that state-root.json names", layout::SIGNING_KEY)));
    }
    Ok(Recovered {
        root,
        key: next_key.clone().unwrap_or(key),
        finish_handover: next_key.is_some(),
        handover: walked.handover,
        slots,
        reader: walked.reader,
        first_seq: walked.first_seq,
        data_end: walked.data_end,
        acked_end: walked.acked_end,
        tree: walked.tree,
        sealed: walked.sealed,
        note: walked.note,
        leavings: walked.leavings,
        fits: walked.fits,
        padded: [padded, walked.padded].concat(),
    })
}

struct Walk<'a> {
    disk: &'a dyn Disk,
    root: &'a StateRoot,
    ring: KeyRing,
    /// The next key, or why there is none to read.
    next_key: Result<SigningKey, String>,
    acked: &'a Note,
    /// The tree that is still to be met.
    base: Option<&'a Frontier>,
    sender: SyncSender<SealedBatch>,
    /// Where the acknowledged note was met: first sequence number of the segment, and offset behind it.
    reached: Option<(u64, u64)>,
    handover: Option<Note>,
}

struct Walked {
    ring: KeyRing,
    handover: Option<Note>,
    reader: Reader,
    first_seq: u64,
    data_end: u64,
    acked_end: u64,
    tree: Frontier,
    sealed: Frontier,
    note: Note,
    leavings: Option<Leavings>,
    fits: bool,
    padded: Vec<Padded>,
}

impl Walk<'_> {
    fn run(mut self, files: &[SegmentFile], start: usize) -> Result<Walked, OpenError> {
        let reader = Reader::new(Head { next_seq: 0, note: self.acked.clone() });
        for file in files.get(..start).unwrap_or_default() {
            let opened = self.disk.open(&file.path, Open::Read).map_err(OpenError::io(file.path.clone()))?;
            reader.began_segment(file.first_seq, opened, 0);
        }
        let mut last: Option<(Note, Frontier)> = None;
        let mut padded = Vec::new();
        let mut rest = files.get(start..).unwrap_or_default().iter().peekable();
        while let Some(file) = rest.next() {
            let next = rest.peek().copied();
            let opened = self.disk.open(&file.path, Open::Read).map_err(OpenError::io(file.path.clone()))?;
            let found = walk::open(Arc::clone(&opened)).map_err(OpenError::io(file.path.clone()))?;
            let (header, mut walker) = found.map_err(|error| {
                let cut = segments::rest(opened.as_ref(), 0).is_ok_and(|bytes| tail::is_cut(&bytes));
                let missing = self.missing(file, file.first_seq, next).filter(|_| cut);
                missing.unwrap_or_else(|| segments::header_fault(file, &error))
            })?;
            self.check_header(file, &header, last.as_ref().map(|(note, _)| note))?;
            if last.is_none() {
                last = header.checkpoint.clone().map(|note| (note, header.frontier.clone()));
                // What is to the left of a new line is known from here on, without a look into older segments.
                reader.add_tree(&header.frontier);
            }
            self.note_reached(header.checkpoint.as_ref(), file.first_seq, walker.offset());
            reader.began_segment(file.first_seq, Arc::clone(&opened), walker.offset());
            let stopped = self.walk_segment(file, &mut walker, &reader, &mut last)?;
            let leavings = self.judge_end(file, &opened, &walker, stopped, next)?;
            if next.is_none() {
                let (note, sealed) = last.unwrap_or_else(|| (self.acked.clone(), Frontier::default()));
                let acked_end = self.reached.filter(|(seq, _)| *seq == file.first_seq).map(|(_, offset)| offset);
                return Ok(Walked {
                    ring: self.ring,
                    handover: self.handover,
                    first_seq: file.first_seq,
                    data_end: walker.offset(),
                    acked_end: acked_end.unwrap_or(0),
                    tree: walker.tree().clone(),
                    reader,
                    sealed,
                    note,
                    leavings,
                    fits: self.base.is_none(),
                    padded,
                });
            }
            if walker.offset() < file.bytes {
                padded.push((file.path.clone(), walker.offset()));
            }
        }
        Err(OpenError::file(layout::FOLDER, "there is no segment"))
    }

    fn check_header(&self, file: &SegmentFile, header: &Header, before: Option<&Note>) -> Result<(), OpenError> {
        let fault = |why: &str| Err(file.fault(why));
        if header.first_seq != file.first_seq {
            return fault("the header's first sequence number is not the one in the file's name");
        }
        if header.root_id != self.root.id || Some(header.epoch) != self.ring.epoch_at(header.first_seq) {
            return fault("the segment belongs to another state root or epoch");
        }
        match (before, &header.checkpoint) {
            (Some(before), Some(note)) if before == note => Ok(()),
            (Some(before), Some(note)) if note.size > before.size => Err(segments::missing_before(file, before, note)),
            (Some(_), _) => fault("the header's checkpoint is not the seal that ended the segment before"),
            (None, _) => Ok(()),
        }
    }

    /// Remembers where the acknowledged note was met.
    fn note_reached(&mut self, note: Option<&Note>, first_seq: u64, offset: u64) {
        let met = match note {
            Some(note) => note == self.acked,
            None => self.acked.size == 0,
        };
        if met && self.reached.is_none() {
            self.reached = Some((first_seq, offset));
        }
    }

    /// Walks batches to the end of the data; says what stopped it, if not the end.
    fn walk_segment(
        &mut self,
        file: &SegmentFile,
        walker: &mut walk::Walker,
        reader: &Reader,
        last: &mut Option<(Note, Frontier)>,
    ) -> Result<Option<Broken>, OpenError> {
        loop {
            let before = walker.offset();
            match walker.step().map_err(OpenError::io(file.path.clone()))? {
                Step::End => return Ok(None),
                Step::Broken(broken) => return Ok(Some(broken)),
                Step::Batch(batch) => {
                    if batch.note.size == self.acked.size && batch.note != *self.acked {
                        return Ok(Some(Broken {
                            offset: before,
                            seq: batch.first_seq,
                            why: "the seal is not the one that was acknowledged",
                        }));
                    }
                    if self.reached.is_some() && !self.accepts(&batch.note)? {
                        let why = "the seal's signature is not valid";
                        return Ok(Some(Broken { offset: before, seq: batch.first_seq, why }));
                    }
                    self.note_reached(Some(&batch.note), file.first_seq, batch.end());
                    reader.published(batch.first_seq, &batch.starts(), batch.offset, batch.end(), &batch.note);
                    reader.add_tiles(&batch.tiles);
                    self.base = self.base.filter(|base| *base != walker.tree());
                    *last = Some((batch.note.clone(), batch.sealed_tree.clone()));
                    // A fold that failed has hung up; its error is reported after the walk.
                    let _ = self.sender.send(batch);
                }
            }
        }
    }

    /// Whether a seal behind the acknowledged one is signed as it must be; an unfinished handover counts.
    fn accepts(&mut self, note: &Note) -> Result<bool, OpenError> {
        if self.handover.is_none() && self.ring.accepts(note) {
            return Ok(true);
        }
        let Some((origin, old)) = self.ring.newest().filter(|(origin, _)| *origin == note.origin) else {
            return Ok(false);
        };
        let by_next = |next: &SigningKey| note.signed_by(&next.verifying_key());
        if self.handover.is_some() {
            return Ok(note.signatures.len() == 1 && self.next_key.as_ref().is_ok_and(by_next));
        }
        if note.signatures.len() != 2 || !note.signed_by(&old) {
            return Ok(false);
        }
        // Whoever sealed this had the next key on disk. Without it the journal could not go on, and without this seal
        // it would lose a batch that may have been acknowledged.
        let next = self.next_key.as_ref().map_err(|why| {
            let seq = note.size;
            OpenError::Keys(format!("the seal {seq} of {origin} hands the signing key over to one that is gone: {why}"))
        })?;
        let signed = by_next(next);
        if signed {
            self.handover = Some(note.clone());
        }
        Ok(signed)
    }

    /// Judges what stands behind the last batch of a segment.
    fn judge_end(
        &self,
        file: &SegmentFile,
        opened: &Arc<dyn DiskFile>,
        walker: &walk::Walker,
        stopped: Option<Broken>,
        next: Option<&SegmentFile>,
    ) -> Result<Option<Leavings>, OpenError> {
        let rest = segments::rest(opened.as_ref(), walker.offset()).map_err(OpenError::io(file.path.clone()))?;
        let corrupt = |from: u64, seq: u64, why: String| OpenError::Corrupt {
            file: file.path.clone(),
            from,
            to: walker.offset() + rest.len() as u64,
            seq,
            why,
        };
        // The walker has passed a batch whose lines agree with its root; its seal does not count, and no crash makes one.
        if let Some(broken) = stopped.as_ref().filter(|broken| broken.offset < walker.offset()) {
            return Err(corrupt(broken.offset, broken.seq, broken.why.to_owned()));
        }
        let cut = stopped.as_ref().is_some_and(|broken| {
            let skip = usize::try_from(broken.offset - walker.offset()).unwrap_or(usize::MAX);
            tail::is_cut(rest.get(skip..).unwrap_or_default())
        });
        let (is_last, seq) = (next.is_none(), walker.tree().size());
        let short = is_last && self.reached.is_none();
        let empty = rest.iter().all(|byte| *byte == b'\n' || *byte == 0);
        if let Some(missing) = self.missing(file, seq, next).filter(|_| (cut && !is_last) || (short && (cut || empty)))
        {
            return Err(missing);
        }
        let padding = Broken { offset: walker.offset(), seq, why: "padding holds other bytes than newlines" };
        let Broken { offset, seq, why } = stopped.unwrap_or(padding);
        if short {
            return Err(corrupt(offset, seq, why.to_owned()));
        }
        match tail::judge(&rest, walker.offset(), walker.tree().size()) {
            Tail::Padding => Ok(None),
            Tail::Crash { bytes, .. } if is_last => {
                Ok(Some(Leavings { offset: walker.offset(), bytes: rest.get(..bytes).unwrap_or_default().to_vec() }))
            }
            Tail::Rot { at, seq, why } if is_last => Err(corrupt(walker.offset() + at as u64, seq, why.to_owned())),
            Tail::Crash { .. } | Tail::Rot { .. } => Err(corrupt(offset, seq, why.to_owned())),
        }
    }

    /// What is missing where a segment ends too early, behind the lines before `from_seq`.
    fn missing(&self, file: &SegmentFile, from_seq: u64, next: Option<&SegmentFile>) -> Option<OpenError> {
        let to_seq = next.map_or(self.acked.size, |next| next.first_seq.saturating_sub(1));
        let why = "the segment ends before what was acknowledged".to_owned();
        (from_seq <= to_seq).then(|| OpenError::Rollback { file: file.path.clone(), from_seq, to_seq, why })
    }
}
