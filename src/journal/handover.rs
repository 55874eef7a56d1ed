//! The handover of the signing key, as the writer does it: the next key's file, a batch whose seal both keys sign, the
//! keys of `state-root.json`, and the key's final name. A start finishes a handover whose seal is in the journal and
//! drops any other.

use std::io;

use ed25519_dalek::{SigningKey, VerifyingKey};

use super::batch::Batch;
use super::create::KEY_BYTES;
use super::error::{OpenError, WriteError};
use super::keys::{KeyEntry, StateRoot, encode_key};
use super::layout;
use super::note::{Note, Origin, key_id_hex};
use super::recovery::read_root;
use super::space::is_full;
use super::writer::{Journal, is_passing};
use crate::domain::journal as events;
use crate::platform::disk::{Disk, Open, replace_atomically};
use crate::platform::entropy::Entropy;

/// A next key that lies on disk, and the state root that will name it.
pub struct NextKey {
    key: SigningKey,
    old: VerifyingKey,
    origin: Origin,
    root: StateRoot,
}

/// A handover whose seal is on disk: what is left is to say so outside the journal.
#[must_use = "a handover that is not finished leaves state-root.json behind the journal"]
pub struct HandedOver {
    key: VerifyingKey,
    root: StateRoot,
}

impl NextKey {
    /// The body of the record that announces the key; it must be the last of the batch that hands over.
    pub fn announcement(&self) -> events::KeyChanged {
        let (name, new) = (self.origin.to_string(), self.key.verifying_key());
        events::KeyChanged {
            old_key_id: key_id_hex(&name, &self.old),
            new_key_id: key_id_hex(&name, &new),
            new_public_key: encode_key(&new),
        }
    }
}

impl Journal {
    /// Draws the next key and writes it beside the present one. Nothing is handed over yet.
    pub fn next_key(&mut self, entropy: &dyn Entropy) -> Result<NextKey, WriteError> {
        if let Some(why) = self.poison() {
            return Err(WriteError::Poisoned(why.to_owned()));
        }
        let mut seed = [0; KEY_BYTES];
        entropy.fill(&mut seed);
        let key = SigningKey::from_bytes(&seed);
        let found = read_root(self.disk.as_ref()).and_then(|(root, ring)| match ring.newest() {
            Some((origin, newest)) if newest == self.key.verifying_key() && origin == self.origin => Ok(root),
            Some(_) | None => Err(OpenError::Keys(format!("{} names another key", layout::STATE_ROOT))),
        });
        let root = found.map_err(|error| {
            if let OpenError::Io { source, .. } = &error
                && is_passing(source)
            {
                // Nothing was found wrong: it could not be looked at.
                return WriteError::Exhausted(source.to_string());
            }
            self.poisoned(error.to_string())
        })?;
        write_next(self.disk.as_ref(), &seed).map_err(|error| self.unprepared(&error))?;
        Ok(NextKey { key, old: self.key.verifying_key(), origin: self.origin, root })
    }

    /// Takes back a next key that was not handed to. One that stays is removed at the next start.
    pub fn drop_next_key(&self, next: NextKey) {
        drop(next);
        let _ = self.disk.remove(layout::SIGNING_KEY_NEXT).and_then(|()| self.disk.sync_dir(""));
    }

    /// Commits the batch that announces the key, under a seal that both keys sign. `acked` is told of that seal only
    /// when [`Journal::finish_handover`] has made the key known: a start reads `acked` by the keys of `state-root.json`.
    pub fn hand_over(&mut self, batch: Batch, next: NextKey) -> Result<HandedOver, WriteError> {
        let old = self.key.clone();
        self.commit_signed(batch, &[&old, &next.key])?;
        let key = next.key.verifying_key();
        self.key = next.key;
        Ok(HandedOver { key, root: next.root })
    }

    /// Names the key in `state-root.json` and gives its file the final name. A failure poisons: the seal is written, and
    /// the next start finishes what it finds.
    pub fn finish_handover(&mut self, handed: HandedOver) -> Result<(), WriteError> {
        let HandedOver { key, mut root } = handed;
        let note = self.note().clone();
        let named = name_in_root(self.disk.as_ref(), &mut root, &note, &key);
        if let Err(error) = named.and_then(|()| take_final_name(self.disk.as_ref())) {
            return Err(self.poisoned(format!("the handover of the signing key broke off behind its seal: {error}")));
        }
        self.acked.offer(&note);
        Ok(())
    }

    fn unprepared(&mut self, error: &io::Error) -> WriteError {
        if is_full(error) {
            WriteError::Full(error.to_string())
        } else if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
            WriteError::ReadOnly(error.to_string())
        } else if is_passing(error) {
            WriteError::Exhausted(error.to_string())
        } else {
            self.poisoned(format!("a write or sync of {} failed: {error}", layout::SIGNING_KEY_NEXT))
        }
    }
}

/// Writes the next key's file so that it survives; a torn one stands only where no seal hands over to it.
fn write_next(disk: &dyn Disk, seed: &[u8; KEY_BYTES]) -> io::Result<()> {
    let file = disk.open(layout::SIGNING_KEY_NEXT, Open::Replace)?;
    file.write_at(0, seed)?;
    file.sync()?;
    disk.sync_dir("")
}

/// Adds the key to `state-root.json`, introduced by the note that both keys signed.
pub(super) fn name_in_root(disk: &dyn Disk, root: &mut StateRoot, note: &Note, key: &VerifyingKey) -> io::Result<()> {
    root.keys.push(KeyEntry {
        epoch: note.origin.epoch,
        from_seq: note.size,
        public_key: encode_key(key),
        note: Some(note.render()),
    });
    replace_atomically(disk, "", layout::STATE_ROOT, &root.render())
}

/// Gives the next key's file the name of the key in force.
pub(super) fn take_final_name(disk: &dyn Disk) -> io::Result<()> {
    disk.rename(layout::SIGNING_KEY_NEXT, layout::SIGNING_KEY)?;
    disk.sync_dir("")
}
