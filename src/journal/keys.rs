//! Who signs, from which sequence number on: `state-root.json`, the signing key, and the walk from the pinned key.

use data_encoding::BASE64;
use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::note::{Note, Origin, key_id_hex, verifier_key};
use crate::domain::ids::{EpochId, RootId};

/// Version of the state root as a whole.
pub const STATE_ROOT_FORMAT: u32 = 1;

/// `state-root.json`: which root this is and whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateRoot {
    /// The root's id, for life.
    pub id: RootId,
    /// Version of the state root's format.
    pub format: u32,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: u64,
    /// The keys in order; the first is the pin.
    pub keys: Vec<KeyEntry>,
}

/// One key or epoch of a state root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// The epoch it signs in.
    pub epoch: EpochId,
    /// Sequence number of the first seal that it must sign.
    pub from_seq: u64,
    /// Ed25519 public key, base64.
    pub public_key: String,
    /// What introduces it; absent on the pin. Within an epoch: the note that both keys signed. For a new epoch: the
    /// last note of the epoch before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Why the keys of a state root can't be walked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The file does not parse.
    #[error("state-root.json does not parse: {0}")]
    Shape(String),
    /// The file's format is newer than this program.
    #[error("state-root.json has format {0}, this program reads {STATE_ROOT_FORMAT}")]
    TooNew(u32),
    /// An entry is not introduced by the key before it.
    #[error("key {0} of state-root.json is not introduced by the key before it")]
    Chain(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    origin: Origin,
    from_seq: u64,
    key: VerifyingKey,
    /// The seal at `from_seq`, where two keys signed it to hand over.
    handover: Option<Note>,
    /// The last note of the epoch before, where this begins an epoch.
    ended: Option<Note>,
}

/// The walked keys: every link was introduced by the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRing {
    links: Vec<Link>,
}

/// A key that a verifier came to, from the pin on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WalkedKey {
    /// The epoch it signs in.
    pub epoch: EpochId,
    /// Sequence number of the first seal that it must sign.
    pub from_seq: u64,
    /// Its C2SP key id, hex.
    pub key_id: String,
    /// It as a C2SP verifier key.
    pub verifier_key: String,
    /// Seals of the journal that were found under its signature.
    pub seals: u64,
}

impl StateRoot {
    /// Reads the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeysError> {
        if let Some(format) = format_of(bytes).filter(|format| *format > STATE_ROOT_FORMAT) {
            return Err(KeysError::TooNew(format));
        }
        let root: Self = serde_json::from_slice(bytes).map_err(|error| KeysError::Shape(error.to_string()))?;
        match root.format {
            STATE_ROOT_FORMAT => Ok(root),
            other => Err(KeysError::Shape(format!("there is no format {other}"))),
        }
    }

    /// The file's content.
    pub fn render(&self) -> Vec<u8> {
        pretty(self)
    }

    /// Walks the keys from the pin.
    pub fn ring(&self) -> Result<KeyRing, KeysError> {
        let mut links: Vec<Link> = Vec::new();
        for (index, entry) in self.keys.iter().enumerate() {
            let chain = || KeysError::Chain(index);
            let key = decode_key(&entry.public_key).ok_or_else(chain)?;
            let origin = Origin { root_id: self.id, epoch: entry.epoch };
            let (handover, ended) = match (links.last(), &entry.note) {
                (None, None) if entry.from_seq == 0 => (None, None),
                (Some(before), Some(note)) => {
                    let note = Note::parse(note).ok_or_else(chain)?;
                    let handed_over = introduced(before, &note, entry, origin, &key).ok_or_else(chain)?;
                    if handed_over { (Some(note), None) } else { (None, Some(note)) }
                }
                (None, Some(_) | None) | (Some(_), None) => return Err(chain()),
            };
            links.push(Link { origin, from_seq: entry.from_seq, key, handover, ended });
        }
        if links.is_empty() { Err(KeysError::Chain(0)) } else { Ok(KeyRing { links }) }
    }
}

/// The number by which a file of the state root names its format, whatever else it holds.
pub(super) fn format_of(bytes: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Probe {
        format: u32,
    }
    serde_json::from_slice::<Probe>(bytes).ok().map(|probe| probe.format)
}

/// The content of a file of the state root: JSON for people, with a newline.
pub(super) fn pretty(file: &impl Serialize) -> Vec<u8> {
    let mut out = serde_json::to_vec_pretty(file).unwrap_or_default();
    out.push(b'\n');
    out
}

/// Whether `note` introduces an entry behind `before`; says whether it is a handover, signed by both keys.
fn introduced(before: &Link, note: &Note, entry: &KeyEntry, origin: Origin, key: &VerifyingKey) -> Option<bool> {
    let by_old = note.origin == before.origin && note.signed_by(&before.key) && entry.from_seq >= before.from_seq;
    if origin.epoch == before.origin.epoch {
        let both = note.signed_by(key) && *key != before.key && note.signatures.len() == 2;
        (by_old && both && note.size == entry.from_seq).then_some(true)
    } else {
        (by_old && note.size < entry.from_seq).then_some(false)
    }
}

/// Reads a public key as the file spells it.
pub fn decode_key(text: &str) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(&BASE64.decode(text.as_bytes()).ok()?.try_into().ok()?).ok()
}

/// A public key as the file spells it.
pub fn encode_key(key: &VerifyingKey) -> String {
    BASE64.encode(key.as_bytes())
}

impl KeyRing {
    /// Whether a seal's or slot's note is signed as the keys demand: by the key in force at its place, under that
    /// key's origin, with exactly the signatures that belong there. The tree without leaves belongs to the pin.
    pub fn accepts(&self, note: &Note) -> bool {
        let Some(index) = self.links.iter().rposition(|link| link.from_seq <= note.size) else { return false };
        let Some(link) = self.links.get(index) else { return false };
        match &link.handover {
            Some(handover) if link.from_seq == note.size => note == handover,
            Some(_) | None => note.origin == link.origin && note.signatures.len() == 1 && note.signed_by(&link.key),
        }
    }

    /// The keys in order, as a report on a walk names them; no seal has been counted yet.
    pub fn walked(&self) -> Vec<WalkedKey> {
        let walked = |link: &Link| {
            let name = link.origin.to_string();
            WalkedKey {
                epoch: link.origin.epoch,
                from_seq: link.from_seq,
                key_id: key_id_hex(&name, &link.key),
                verifier_key: verifier_key(&name, &link.key),
                seals: 0,
            }
        };
        self.links.iter().map(walked).collect()
    }

    /// Origin and key in force for the seal with this sequence number.
    pub fn in_force(&self, seq: u64) -> Option<(Origin, VerifyingKey)> {
        self.links.iter().rev().find(|link| link.from_seq <= seq).map(|link| (link.origin, link.key))
    }

    /// Origin and key of the newest entry.
    pub fn newest(&self) -> Option<(Origin, VerifyingKey)> {
        self.links.last().map(|link| (link.origin, link.key))
    }

    /// Origin and key of the pin.
    pub fn pin(&self) -> Option<(Origin, VerifyingKey)> {
        self.links.first().map(|link| (link.origin, link.key))
    }

    /// Whether this is the name of the journal in one of its epochs.
    pub fn knows(&self, origin: &Origin) -> bool {
        self.links.iter().any(|link| link.origin == *origin)
    }

    /// The note with which an epoch ended; none where it is the present one, or none of these.
    pub fn end_of(&self, epoch: &Origin) -> Option<&Note> {
        self.links.iter().filter_map(|link| link.ended.as_ref()).find(|note| note.origin == *epoch)
    }

    /// The note with which the newest epoch that ended did.
    pub fn last_end(&self) -> Option<&Note> {
        self.links.iter().rev().find_map(|link| link.ended.as_ref())
    }

    /// Whether this key is one of the ring's.
    pub fn contains(&self, key: &VerifyingKey) -> bool {
        self.links.iter().any(|link| link.key == *key)
    }

    /// Whether a segment with this first sequence number may bear this epoch.
    pub fn epoch_at(&self, first_seq: u64) -> Option<EpochId> {
        self.in_force(first_seq).map(|(origin, _)| origin.epoch)
    }
}

/// Entry for the pin of a new root.
pub fn pin_entry(epoch: EpochId, key: &SigningKey) -> KeyEntry {
    KeyEntry { epoch, from_seq: 0, public_key: encode_key(&key.verifying_key()), note: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(keys: Vec<KeyEntry>) -> StateRoot {
        let id = RootId::parse("root_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
        StateRoot { id, format: STATE_ROOT_FORMAT, created_at_ms: 0, keys }
    }

    fn epoch(n: u128) -> EpochId {
        EpochId::from_ulid(ulid::Ulid(n))
    }

    #[test]
    fn a_handover_moves_the_right_to_sign_at_its_seal() {
        let (old, new) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let pin = pin_entry(epoch(1), &old);
        let origin = Origin { root_id: root(vec![]).id, epoch: epoch(1) };
        let both = Note::sign(origin, 9, [5; 32], &[&old, &new]);
        let next = KeyEntry {
            epoch: epoch(1),
            from_seq: 9,
            public_key: encode_key(&new.verifying_key()),
            note: Some(both.render()),
        };
        let ring = root(vec![pin.clone(), next.clone()]).ring().unwrap();
        assert!(ring.accepts(&Note::sign(origin, 8, [5; 32], &[&old])));
        assert!(ring.accepts(&both));
        assert!(ring.accepts(&Note::sign(origin, 10, [5; 32], &[&new])));
        for refused in [
            Note::sign(origin, 8, [5; 32], &[&new]),
            Note::sign(origin, 9, [5; 32], &[&new]),
            Note::sign(origin, 10, [5; 32], &[&old]),
            Note::sign(origin, 10, [5; 32], &[&old, &new]),
            Note::sign(Origin { epoch: epoch(2), ..origin }, 10, [5; 32], &[&new]),
        ] {
            assert!(!ring.accepts(&refused), "{}", refused.render());
        }
        let forged = KeyEntry { note: Some(Note::sign(origin, 9, [5; 32], &[&new]).render()), ..next };
        assert_eq!(root(vec![pin, forged]).ring(), Err(KeysError::Chain(1)));
    }

    #[test]
    fn a_root_file_reads_back_and_a_newer_one_is_named_as_such() {
        let file = root(vec![pin_entry(epoch(1), &SigningKey::from_bytes(&[1; 32]))]);
        assert_eq!(StateRoot::parse(&file.render()), Ok(file.clone()));
        let newer = StateRoot { format: 2, ..file }.render();
        assert_eq!(StateRoot::parse(&newer), Err(KeysError::TooNew(2)));
    }
}
