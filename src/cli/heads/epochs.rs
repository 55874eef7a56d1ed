//! Heads that were kept under earlier epochs of a state root: a repair or a restore begins a new one, and what a user saw
//! before must be in it, or be named.

use super::store::Kept;
use crate::domain::ids::EpochId;
use crate::journal::keys::KeyRing;
use crate::journal::note::{Note, Origin, parse_verifier_key};

/// Lines that were seen under a signature and are not in the journal any more.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Lost {
    /// The epoch under which they were seen.
    pub epoch: EpochId,
    /// The first of them.
    pub from_seq: u64,
    /// The last of them.
    pub to_seq: u64,
}

impl Lost {
    /// It in words.
    pub fn told(&self) -> String {
        let Self { epoch, from_seq, to_seq } = self;
        format!("lines {from_seq} to {to_seq}, which a command of this user saw under {epoch}, are not in this journal")
    }
}

/// What is to be thought of a head that was kept under an earlier epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Earlier {
    /// The epoch ended behind it: its seal must be in the journal.
    Within(Note),
    /// The epoch ended before it.
    Beyond(Lost),
    /// The keys do not lead from the one that was trusted then to the present one.
    Strange,
}

/// Compares a head of an earlier epoch with the keys of its state root.
pub fn earlier(ring: &KeyRing, origin: &Origin, kept: &Kept) -> Earlier {
    let trusted = parse_verifier_key(&kept.key).is_some_and(|(_, key)| ring.contains(&key));
    let Some(note) = kept.note().filter(|_| trusted) else { return Earlier::Strange };
    // An epoch that nothing names any more was given up whole by a later repair, which ended one before it.
    let end = ring.end_of(origin).or_else(|| ring.last_end().filter(|_| !ring.knows(origin)));
    match end {
        Some(end) if note.size > end.size => {
            Earlier::Beyond(Lost { epoch: origin.epoch, from_seq: end.size + 1, to_seq: note.size })
        }
        Some(_) => Earlier::Within(note),
        None => Earlier::Strange,
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::domain::ids::RootId;
    use crate::journal::keys::{KeyEntry, STATE_ROOT_FORMAT, StateRoot, encode_key, pin_entry};
    use crate::journal::note::verifier_key;

    #[test]
    fn a_head_of_an_earlier_epoch_is_within_it_beyond_its_end_or_of_a_strange_key() {
        let (old, new) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let id = RootId::from_ulid(ulid::Ulid(7));
        let [first, second] = [1, 2].map(|n| Origin { root_id: id, epoch: EpochId::from_ulid(ulid::Ulid(n)) });
        let end = Note::sign(first, 9, [5; 32], &[&old]);
        let next = KeyEntry {
            epoch: second.epoch,
            from_seq: 12,
            public_key: encode_key(&new.verifying_key()),
            note: Some(end.render()),
        };
        let keys = vec![pin_entry(first.epoch, &old), next];
        let ring = StateRoot { id, format: STATE_ROOT_FORMAT, created_at_ms: 0, keys }.ring().unwrap();
        let kept = |size, by: &SigningKey| Kept {
            key: verifier_key(&first.to_string(), &by.verifying_key()),
            note: Note::sign(first, size, [5; 32], &[by]).render(),
            first_seen_at_ms: 1,
        };
        assert!(matches!(earlier(&ring, &first, &kept(9, &old)), Earlier::Within(note) if note.size == 9));
        let lost = Lost { epoch: first.epoch, from_seq: 10, to_seq: 30 };
        assert_eq!(earlier(&ring, &first, &kept(30, &old)), Earlier::Beyond(lost));
        assert_eq!(earlier(&ring, &first, &kept(9, &SigningKey::from_bytes(&[3; 32]))), Earlier::Strange);
        assert_eq!(earlier(&ring, &second, &kept(9, &old)), Earlier::Strange, "the present epoch has not ended");
        // An epoch between the two that a second repair gave up.
        let between = Origin { root_id: id, epoch: EpochId::from_ulid(ulid::Ulid(3)) };
        let gone = Lost { epoch: between.epoch, from_seq: 10, to_seq: 20 };
        assert_eq!(earlier(&ring, &between, &kept(20, &old)), Earlier::Beyond(gone));
    }
}
