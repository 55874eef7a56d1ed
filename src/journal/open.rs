//! From what reading found to a journal that can be written: finish what was half done, keep what recovery removes,
//! write again what may have been lost from the cache, and record it all.

use std::io;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::acked::Acked;
use super::acker::Acker;
use super::error::{OpenError, WriteError};
use super::handover;
use super::layout;
use super::note::Origin;
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

/// Opens a journal that was read, and writes what recovery has to say. The records of that first batch come back for
/// the fold.
#[expect(clippy::needless_pass_by_value, reason = "the journal takes over the disk and the clock")]
pub fn open(
    mut recovered: Recovered,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    options: Options,
    context: context::Set,
) -> Result<(Journal, Vec<Record>), OpenError> {
    // The seal of a handover must be on disk before anything outside the journal rests on it.
    rewrite_kept(&recovered).map_err(OpenError::io("writing the kept bytes again"))?;
    disk.sync_dir(layout::FOLDER).map_err(OpenError::io("syncing the journal's folder"))?;
    finish_handover(disk.as_ref(), &mut recovered)?;
    if let Some(leavings) = recovered.leavings.take() {
        quarantine(disk.as_ref(), recovered.first_seq, &leavings).map_err(OpenError::io("writing the quarantine"))?;
        recover_tail(recovered.file.as_ref(), leavings.offset).map_err(OpenError::io("cutting the torn tail"))?;
    }
    match disk.remove(layout::NEXT) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(OpenError::io(layout::NEXT)(error)),
        _ => {}
    }
    let repaired = repair::unrecorded(disk.as_ref(), &recovered)?;
    let bad_slot = recovered.slots.bad();
    let mut acked = Acked::open(disk.as_ref(), &recovered.slots).map_err(OpenError::io(super::acked::PATH))?;
    acked.settle(&recovered.note).map_err(OpenError::io(super::acked::PATH))?;
    let acked = Acker::new(acked, recovered.note.clone(), options.background).map_err(OpenError::io("a thread"))?;
    let written = recovered.file.bytes().map_err(OpenError::io("the active segment"))?;
    let path = layout::segment_path(recovered.first_seq);
    let ahead = disk.open(&path, Open::Write).map_err(OpenError::io(path))?;
    let epoch = recovered.root.keys.last().map(|entry| entry.epoch);
    let Some(epoch) = epoch else { return Err(OpenError::Keys("state-root.json names no key".to_owned())) };
    let mut journal = Journal {
        disk: Arc::clone(&disk),
        clock,
        options,
        origin: Origin { root_id: recovered.root.id, epoch },
        key: recovered.key,
        tree: recovered.tree,
        sealed: recovered.sealed,
        active: Active {
            space: Arc::new(Space::new(ahead, written.max(recovered.data_end))),
            file: recovered.file,
            first_seq: recovered.first_seq,
            data_end: recovered.data_end,
        },
        context,
        ctx: None,
        note: recovered.note,
        acked,
        poison: None,
        reader: recovered.reader,
        next: None,
    };
    let pending = pending(disk.as_ref())?;
    let records = record_recovery(&mut journal, repaired, bad_slot, &pending)
        .map_err(|error| OpenError::io("the first batch")(error.into()))?;
    repair::end(disk.as_ref())?;
    for (name, _) in pending {
        let final_name = name.strip_suffix(layout::PENDING).unwrap_or(&name).to_owned();
        let moved = disk.rename(&join(layout::QUARANTINE, &name), &join(layout::QUARANTINE, &final_name));
        moved.and_then(|()| disk.sync_dir(layout::QUARANTINE)).map_err(OpenError::io("naming the quarantine"))?;
    }
    Ok((journal, records))
}

/// Finishes a key handover whose seal is in the journal; removes a next key that was never handed to.
fn finish_handover(disk: &dyn Disk, recovered: &mut Recovered) -> Result<(), OpenError> {
    if let Some(note) = recovered.handover.take() {
        let key = recovered.key.verifying_key();
        handover::name_in_root(disk, &mut recovered.root, &note, &key).map_err(OpenError::io(layout::STATE_ROOT))?;
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

/// Cuts a torn tail off the active segment; its bytes are in the quarantine. One of two functions that shorten a file.
pub(super) fn recover_tail(file: &dyn DiskFile, data_end: u64) -> io::Result<()> {
    file.truncate(data_end)?;
    file.sync()
}

/// Writes the bytes behind the acknowledged note again and syncs them: the cache may show what the disk has lost.
fn rewrite_kept(recovered: &Recovered) -> io::Result<()> {
    if recovered.acked_end < recovered.data_end {
        let mut kept = segments::rest(recovered.file.as_ref(), recovered.acked_end)?;
        kept.truncate(usize::try_from(recovered.data_end - recovered.acked_end).unwrap_or(0));
        recovered.file.write_at(recovered.acked_end, &kept)?;
    }
    recovered.file.sync()
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
    repaired: Option<events::Repaired>,
    bad_slot: Option<u8>,
    pending: &[(String, events::TailQuarantined)],
) -> Result<Vec<Record>, WriteError> {
    let now = journal.clock.wall_ms();
    let first = journal.next_seq();
    let mut batch = journal.begin()?;
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
