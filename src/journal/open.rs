//! From what reading found to a journal that can be written: finish what was half done, keep what recovery removes,
//! write again what may have been lost from the cache, and record it all.

use std::io;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::acked::{Acked, Slots};
use super::acker::Acker;
use super::batch::Batch;
use super::error::{OpenError, WriteError};
use super::handover;
use super::layout;
use super::note::Origin;
use super::reader::Reader;
use super::recovery::{Leavings, Recovered};
use super::repair;
use super::segments;
use super::space::Space;
use super::writer::{Active, Journal, Options};
use crate::domain::context;
use crate::domain::event::Event;
use crate::domain::journal as events;
use crate::domain::record::Record;
use crate::domain::stream::Stream;
use crate::platform::clock::Clock;
use crate::platform::disk::{Disk, DiskFile, Open, join, read_bounded};

/// A journal that was read: everything is known, nothing is written yet. It is opened at once, or as soon as the disk
/// takes writes again.
pub struct Unopened {
    recovered: Recovered,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    options: Options,
    context: context::Set,
    /// The slot of `acked` that reading found bad.
    bad_slot: Option<u8>,
    /// The first batch was begun: what was read is not how the journal stands any more.
    begun: bool,
}

/// Opens a journal that was read, and writes what recovery has to say. The records of that first batch come back for
/// the fold.
pub fn open(
    recovered: Recovered,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    options: Options,
    context: context::Set,
) -> Result<(Journal, Vec<Record>), OpenError> {
    Unopened::new(recovered, disk, clock, options, context).open()
}

impl Unopened {
    /// What is needed to open a journal that was read.
    pub fn new(
        recovered: Recovered,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        options: Options,
        context: context::Set,
    ) -> Self {
        let bad_slot = recovered.slots.bad();
        Self { recovered, disk, clock, options, context, bad_slot, begun: false }
    }

    /// What was read.
    pub fn reader(&self) -> &Reader {
        &self.recovered.reader
    }

    /// Whether what was read may be shown, and opening tried again, after a failure that passes: the journal holds
    /// something, all of it is on disk for sure, and nothing of this start is in it.
    pub fn may_wait(&self) -> bool {
        let Recovered { acked_end, data_end, .. } = self.recovered;
        self.recovered.next_seq() > 0 && acked_end >= data_end && !self.begun
    }

    /// Opens the journal and writes what recovery has to say. The records of that first batch come back for the fold.
    pub fn open(&mut self) -> Result<(Journal, Vec<Record>), OpenError> {
        if self.begun {
            return Err(OpenError::io("opening the journal again")(io::ErrorKind::Other.into()));
        }
        let disk = Arc::clone(&self.disk);
        let path = layout::segment_path(self.recovered.first_seq);
        let file = disk.open(&path, Open::Write).map_err(OpenError::io(path.clone()))?;
        self.settle(file.as_ref())?;
        let repaired = repair::unrecorded(disk.as_ref(), &self.recovered)?;
        let mut journal = self.journal(&path, file)?;
        let pending = pending(disk.as_ref())?;
        let full = |error: WriteError| OpenError::io("the first batch")(error.into());
        let batch = journal.begin().map_err(full)?;
        self.begun = true;
        let records = record_recovery(&mut journal, batch, repaired, self.bad_slot, &pending).map_err(full)?;
        repair::end(disk.as_ref())?;
        for (name, _) in pending {
            let final_name = name.strip_suffix(layout::PENDING).unwrap_or(&name).to_owned();
            let moved = disk.rename(&join(layout::QUARANTINE, &name), &join(layout::QUARANTINE, &final_name));
            moved.and_then(|()| disk.sync_dir(layout::QUARANTINE)).map_err(OpenError::io("naming the quarantine"))?;
        }
        Ok((journal, records))
    }

    /// Finishes what was half done. What is done is not done again at a further attempt.
    fn settle(&mut self, file: &dyn DiskFile) -> Result<(), OpenError> {
        let (disk, recovered) = (self.disk.as_ref(), &mut self.recovered);
        // The seal of a handover must be on disk before anything outside the journal rests on it.
        rewrite_kept(recovered, file).map_err(OpenError::io("writing the kept bytes again"))?;
        disk.sync_dir(layout::FOLDER).map_err(OpenError::io("syncing the journal's folder"))?;
        recovered.acked_end = recovered.data_end;
        finish_handover(disk, recovered)?;
        for (path, end) in &recovered.padded {
            // What was read agrees with the seal that ends it; behind that are newlines only.
            let cut = disk.open(path, Open::Write).and_then(|file| recover_tail(file.as_ref(), *end));
            cut.map_err(OpenError::io(path.clone()))?;
        }
        recovered.padded.clear();
        if let Some(leavings) = &recovered.leavings {
            quarantine(disk, recovered.first_seq, leavings).map_err(OpenError::io("writing the quarantine"))?;
            recover_tail(file, leavings.offset).map_err(OpenError::io("cutting the torn tail"))?;
            recovered.leavings = None;
        }
        match disk.remove(layout::NEXT) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(OpenError::io(layout::NEXT)(error)),
            _ => Ok(()),
        }
    }

    fn journal(&mut self, path: &str, file: Arc<dyn DiskFile>) -> Result<Journal, OpenError> {
        let recovered = &mut self.recovered;
        let mut acked = Acked::open(self.disk.as_ref(), &recovered.slots).map_err(OpenError::io(super::acked::PATH))?;
        acked.settle(&recovered.note).map_err(OpenError::io(super::acked::PATH))?;
        recovered.slots = Slots([Some(recovered.note.clone()), Some(recovered.note.clone())]);
        let background = self.options.background;
        let acked = Acker::new(acked, recovered.note.clone(), background).map_err(OpenError::io("a thread"))?;
        let written = file.bytes().map_err(OpenError::io("the active segment"))?;
        let ahead = self.disk.open(path, Open::Write).map_err(OpenError::io(path))?;
        let epoch = recovered.root.keys.last().map(|entry| entry.epoch);
        let Some(epoch) = epoch else { return Err(OpenError::Keys("state-root.json names no key".to_owned())) };
        Ok(Journal {
            disk: Arc::clone(&self.disk),
            clock: Arc::clone(&self.clock),
            options: self.options,
            origin: Origin { root_id: recovered.root.id, epoch },
            key: recovered.key.clone(),
            tree: recovered.tree.clone(),
            sealed: recovered.sealed.clone(),
            active: Active {
                space: Arc::new(Space::new(ahead, written.max(recovered.data_end))),
                file,
                first_seq: recovered.first_seq,
                data_end: recovered.data_end,
            },
            context: self.context.clone(),
            ctx: None,
            note: recovered.note.clone(),
            acked,
            poison: None,
            reader: recovered.reader.clone(),
            next: None,
        })
    }
}

/// Finishes a key handover whose seal is in the journal; removes a next key that was never handed to.
fn finish_handover(disk: &dyn Disk, recovered: &mut Recovered) -> Result<(), OpenError> {
    if let Some(note) = &recovered.handover {
        let (key, mut root) = (recovered.key.verifying_key(), recovered.root.clone());
        handover::name_in_root(disk, &mut root, note, &key).map_err(OpenError::io(layout::STATE_ROOT))?;
        (recovered.root, recovered.handover) = (root, None);
    }
    let done = if recovered.finish_handover {
        handover::take_final_name(disk)
    } else {
        disk.remove(layout::SIGNING_KEY_NEXT).and_then(|()| disk.sync_dir(""))
    };
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(OpenError::io(layout::SIGNING_KEY_NEXT)(error)),
        _ => Ok(()),
    }
}

/// Copies what a crash left into the quarantine, under a name that says that no record names it yet.
fn quarantine(disk: &dyn Disk, first_seq: u64, leavings: &Leavings) -> io::Result<()> {
    let digest = HEXLOWER.encode(&Sha256::digest(&leavings.bytes));
    let short = digest.get(..16).unwrap_or_default();
    let name = format!("{first_seq:020}-{:012}-{short}.bytes{}", leavings.offset, layout::PENDING);
    let file = disk.open(&join(layout::QUARANTINE, &name), Open::Replace)?;
    file.write_at(0, &leavings.bytes)?;
    file.sync()?;
    disk.sync_dir(layout::QUARANTINE)
}

/// Cuts a torn tail off the active segment, its bytes are in the quarantine, or newlines off a closed one. One of two functions that shorten a file.
pub(super) fn recover_tail(file: &dyn DiskFile, data_end: u64) -> io::Result<()> {
    file.truncate(data_end)?;
    file.sync()
}

/// Writes the bytes behind the acknowledged note again and syncs them: the cache may show what the disk has lost.
fn rewrite_kept(recovered: &Recovered, file: &dyn DiskFile) -> io::Result<()> {
    if recovered.acked_end < recovered.data_end {
        let mut kept = segments::rest(file, recovered.acked_end)?;
        kept.truncate(usize::try_from(recovered.data_end - recovered.acked_end).unwrap_or(0));
        file.write_at(recovered.acked_end, &kept)?;
    }
    file.sync()
}

/// Quarantined files that no record names yet, with what their record must say.
fn pending(disk: &dyn Disk) -> Result<Vec<(String, events::TailQuarantined)>, OpenError> {
    let mut found = Vec::new();
    for entry in disk.list(layout::QUARANTINE).map_err(OpenError::io(layout::QUARANTINE))? {
        let Some(file) = entry.name.strip_suffix(layout::PENDING) else { continue };
        let mut parts = file.splitn(3, '-');
        let number = |part: Option<&str>| part.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let (first_seq, offset) = (number(parts.next()), number(parts.next()));
        let path = join(layout::QUARANTINE, &entry.name);
        let bytes = read_bounded(disk, &path, 1 << 30).map_err(OpenError::io(path.clone()))?;
        let note = bytes
            .split(|byte| *byte == b'\n' || *byte == 0)
            .find_map(|text| Some(super::line::parse_seal(text)?.1.render()));
        let event = events::TailQuarantined {
            segment: layout::segment_name(first_seq),
            offset,
            bytes: bytes.len() as u64,
            sha256: HEXLOWER.encode(&Sha256::digest(&bytes)),
            file: file.to_owned(),
            discarded_note: note,
        };
        found.push((entry.name, event));
    }
    Ok(found)
}

/// Writes the first batch of this start: the context, the journal's creation where it is new, and what recovery did.
fn record_recovery(
    journal: &mut Journal,
    mut batch: Batch,
    repaired: Option<events::Repaired>,
    bad_slot: Option<u8>,
    pending: &[(String, events::TailQuarantined)],
) -> Result<Vec<Record>, WriteError> {
    let now = journal.clock.wall_ms();
    let first = journal.next_seq();
    let mut records = vec![Record::by_system(first, first, now, Stream::Daemon, journal.context.clone().into())];
    let mut happened: Vec<Event> = Vec::new();
    if first == 0 {
        let origin = journal.origin;
        let key_id = super::note::key_id_hex(&origin.to_string(), &journal.key.verifying_key());
        happened.push(events::Created { root_id: origin.root_id, epoch: origin.epoch, key_id }.into());
    }
    happened.extend(repaired.map(Event::from));
    happened.extend(pending.iter().map(|(_, event)| event.clone().into()));
    happened.extend(bad_slot.map(|slot| events::AckedRewritten { slot }.into()));
    for event in happened {
        let record = Record::by_system(batch.next_seq(), batch.ctx(), now, Stream::Journal, event);
        batch.push(&record)?;
        records.push(record);
    }
    journal.commit(batch)?;
    journal.settle_acked()?;
    Ok(records)
}
