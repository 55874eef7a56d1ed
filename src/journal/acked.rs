//! `journal/acked`: two slots of 4,096 bytes with the newest note whose sync returned. It tells a torn tail from rot:
//! everything up to this note was acknowledged.

use std::io;
use std::sync::Arc;

use super::keys::KeyRing;
use super::note::Note;
use crate::platform::disk::{Disk, DiskFile, Open};

/// Where the slots are.
pub const PATH: &str = "journal/acked";
/// Bytes of a slot: a note filled up with newlines.
pub const SLOT_BYTES: usize = 4_096;

/// A slot's content: the note, filled up with newlines.
pub fn render_slot(note: &Note) -> Vec<u8> {
    let mut slot = note.render().into_bytes();
    slot.resize(SLOT_BYTES, b'\n');
    slot
}

/// Reads a slot; anything but a canonical note and its filling is refused.
pub fn parse_slot(slot: &[u8]) -> Option<Note> {
    let end = slot.iter().rposition(|byte| *byte != b'\n')? + 2;
    let note = Note::parse(std::str::from_utf8(slot.get(..end)?).ok()?)?;
    (render_slot(&note) == slot).then_some(note)
}

/// The two slots as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots(pub [Option<Note>; 2]);

impl Slots {
    /// Reads both slots. A slot is valid if it is canonical and its signature counts. `None` if the file is absent or
    /// has another length.
    pub fn read(disk: &dyn Disk, ring: &KeyRing) -> io::Result<Option<Self>> {
        let file = match disk.open(PATH, Open::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        if file.bytes()? != bytes.len() as u64 || file.read_at(0, &mut bytes)? != bytes.len() {
            return Ok(None);
        }
        let (first, second) = bytes.split_at(SLOT_BYTES);
        let valid = |slot| parse_slot(slot).filter(|note| ring.accepts(note));
        Ok(Some(Self([valid(first), valid(second)])))
    }

    /// The valid slot with the larger tree.
    pub fn newest(&self) -> Option<&Note> {
        self.0.iter().flatten().max_by_key(|note| note.size)
    }

    /// The slot that is bad beside a valid one.
    pub fn bad(&self) -> Option<u8> {
        match &self.0 {
            [None, Some(_)] => Some(0),
            [Some(_), None] => Some(1),
            [Some(_), Some(_)] | [None, None] => None,
        }
    }
}

/// Writes the slots, one after the other.
pub struct Acked {
    file: Arc<dyn DiskFile>,
    next_slot: usize,
    in_both: u64,
    newest: u64,
}

impl Acked {
    /// Makes the file with the note in both slots. The name survives after the folder's sync.
    pub fn create(disk: &dyn Disk, note: &Note) -> io::Result<Self> {
        let file = disk.open(PATH, Open::Replace)?;
        file.write_at(0, &[render_slot(note), render_slot(note)].concat())?;
        file.sync()?;
        Ok(Self { file, next_slot: 0, in_both: note.size, newest: note.size })
    }

    /// Opens the file; the next write goes to the slot that does not hold the newest note.
    pub fn open(disk: &dyn Disk, slots: &Slots) -> io::Result<Self> {
        let size = |slot: &Option<Note>| slot.as_ref().map_or(0, |note| note.size);
        let [first, second] = &slots.0;
        let next_slot = usize::from(size(first) > size(second) || second.is_none());
        let in_both = if first.is_some() && second.is_some() { size(first).min(size(second)) } else { 0 };
        let newest = size(first).max(size(second));
        Ok(Self { file: disk.open(PATH, Open::Write)?, next_slot, in_both, newest })
    }

    /// Writes the note into the older slot and syncs; call only after the sync of the batch that it seals. A note that is
    /// older than what stands there says nothing new, and is not written.
    pub fn write(&mut self, note: &Note) -> io::Result<()> {
        if note.size < self.newest {
            return Ok(());
        }
        self.file.write_at((self.next_slot * SLOT_BYTES) as u64, &render_slot(note))?;
        self.file.sync()?;
        self.next_slot = 1 - self.next_slot;
        self.in_both = self.newest;
        self.newest = note.size;
        Ok(())
    }

    /// Brings the note into both slots, one after the other.
    pub fn settle(&mut self, note: &Note) -> io::Result<()> {
        while self.newest <= note.size && (self.in_both != note.size || self.newest != note.size) {
            self.write(note)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{EpochId, RootId};
    use crate::journal::note::Origin;
    use ed25519_dalek::SigningKey;

    #[test]
    fn a_note_that_another_has_overtaken_is_not_written_over_it() {
        let origin = Origin {
            root_id: RootId::parse("root_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap(),
            epoch: EpochId::parse("epoch_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap(),
        };
        let key = SigningKey::from_bytes(&[1; 32]);
        let note = |size| Note::sign(origin, size, [9; 32], &[&key]);
        let disk = crate::platform::sim_disk::SimDisk::new(1);
        let mut acked = Acked::create(&disk, &note(0)).unwrap();
        acked.write(&note(4)).unwrap();
        acked.settle(&note(9)).unwrap();
        let settled = disk.content(PATH);
        acked.write(&note(7)).unwrap();
        acked.settle(&note(7)).unwrap();
        assert_eq!(disk.content(PATH), settled);
        acked.write(&note(12)).unwrap();
        assert_ne!(disk.content(PATH), settled);
    }

    #[test]
    fn every_changed_byte_of_a_slot_is_noticed() {
        let origin = Origin {
            root_id: RootId::parse("root_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap(),
            epoch: EpochId::parse("epoch_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap(),
        };
        let key = SigningKey::from_bytes(&[1; 32]);
        let note = Note::sign(origin, 4, [9; 32], &[&key]);
        let slot = render_slot(&note);
        assert_eq!(parse_slot(&slot), Some(note.clone()));
        for index in 0..slot.len() {
            let mut changed = slot.clone();
            changed[index] ^= 1;
            let read = parse_slot(&changed).filter(|note| note.signed_by(&key.verifying_key()));
            assert_eq!(read, None, "byte {index}");
        }
    }
}
