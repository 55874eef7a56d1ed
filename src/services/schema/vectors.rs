//! A small sealed journal with fixed keys and times, made line by line, so that each fault can be put where it belongs:
//! before the line is hashed, before the tree is signed, or into the finished file.

use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use ulid::Ulid;

use super::Files;
use super::events::event_of;
use crate::domain::ids::{EpochId, RootId};
use crate::domain::journal;
use crate::domain::record::Record;
use crate::domain::stream::Stream;
use crate::journal::acked::render_slot;
use crate::journal::keys::{KeyEntry, STATE_ROOT_FORMAT, StateRoot, encode_key, pin_entry};
use crate::journal::layout;
use crate::journal::line::{Header, render_record, render_seal};
use crate::journal::merkle::{Frontier, Hash, leaf_hash};
use crate::journal::note::{Note, Origin, key_id_hex};

/// Wall clock of the vectors, Unix milliseconds.
const AT_MS: u64 = 1_700_000_000_000;
/// Sequence number of the seal that hands the key over.
pub(super) const HANDOVER: u64 = 8;
/// Sequence number of the second segment's first record.
pub(super) const SECOND: u64 = 9;

/// The first segment's path.
pub(super) const FIRST_FILE: &str = "journal/00000000000000000000.jsonl";
/// The second segment's path.
pub(super) const SECOND_FILE: &str = "journal/00000000000000000009.jsonl";

/// A record that the daemon makes about itself, at the vectors' time.
pub(super) fn system_record(seq: u64, ctx: u64, stream: Stream, event: crate::domain::event::Event) -> Record {
    Record::by_system(seq, ctx, AT_MS + seq, stream, event)
}

/// Changes that are made while the journal is made. Each gets the line's sequence number.
pub(super) struct Edits<'a> {
    /// A record's line before it is hashed.
    pub(super) record: &'a dyn Fn(u64, String) -> String,
    /// A seal's line before it is hashed; the note stays what it is.
    pub(super) seal: &'a dyn Fn(u64, String) -> String,
    /// A note before it becomes a seal.
    pub(super) note: &'a dyn Fn(Note) -> Note,
    /// A header's line.
    pub(super) header: &'a dyn Fn(u64, String) -> String,
}

impl Default for Edits<'_> {
    fn default() -> Self {
        Self { record: &|_, line| line, seal: &|_, line| line, note: &|note| note, header: &|_, line| line }
    }
}

/// The journal that was made.
pub(super) struct Made {
    /// Its files by path below the state root.
    pub(super) files: Files,
    /// Every line, by sequence number.
    pub(super) lines: Vec<String>,
    /// The notes of its seals.
    pub(super) notes: Vec<Note>,
}

/// The key before the handover.
pub(super) fn old_key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

/// The key after it.
pub(super) fn new_key() -> SigningKey {
    SigningKey::from_bytes(&[2; 32])
}

/// A key that has no say.
pub(super) fn foreign_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

/// The vectors' log.
pub(super) fn origin() -> Origin {
    Origin { root_id: RootId::from_ulid(ulid(1)), epoch: EpochId::from_ulid(ulid(2)) }
}

/// A ULID of the vectors' time.
pub(super) fn ulid(number: u128) -> Ulid {
    Ulid::from_parts(AT_MS, number)
}

/// The keys that sign the seal with this number.
pub(super) fn keys_at(seq: u64) -> Vec<SigningKey> {
    match seq.cmp(&HANDOVER) {
        std::cmp::Ordering::Less => vec![old_key()],
        std::cmp::Ordering::Equal => vec![old_key(), new_key()],
        std::cmp::Ordering::Greater => vec![new_key()],
    }
}

/// Signs as the journal would.
pub(super) fn sign(size: u64, root: Hash) -> Note {
    let keys = keys_at(size);
    Note::sign(origin(), size, root, &keys.iter().collect::<Vec<_>>())
}

/// What stands in the two segments: batches of kinds.
const FIRST: &[&[&str]] = &[
    &["context.set", "journal.created", "daemon.started"],
    &["session.created", "run.queued"],
    &["journal.key_changed"],
];
const REST: &[&[&str]] = &[&["context.set", "run.started", "run.cancelled"], &["daemon.stopped"]];

struct Maker<'a> {
    edits: &'a Edits<'a>,
    made: Made,
    tree: Frontier,
    sealed: Frontier,
}

/// Makes the journal with these changes.
pub(super) fn make(edits: &Edits<'_>) -> Result<Made, String> {
    let made = Made { files: Files::new(), lines: Vec::new(), notes: Vec::new() };
    let mut maker = Maker { edits, made, tree: Frontier::default(), sealed: Frontier::default() };
    maker.segment(FIRST)?;
    maker.segment(REST)?;
    let Made { files, notes, .. } = &mut maker.made;
    if let Some(padded) = files.get_mut(SECOND_FILE) {
        padded.extend_from_slice(&[b'\n'; 32]);
    }
    let newest = notes.last().ok_or("no note")?;
    files.insert("journal/acked".to_owned(), [render_slot(newest), render_slot(newest)].concat());
    files.insert(layout::STATE_ROOT.to_owned(), state_root(notes).render());
    Ok(maker.made)
}

/// The pin, and the key that the handover's note introduces.
fn state_root(notes: &[Note]) -> StateRoot {
    let origin = origin();
    let mut keys = vec![pin_entry(origin.epoch, &old_key())];
    if let Some(note) = notes.iter().find(|note| note.size == HANDOVER) {
        let public_key = encode_key(&new_key().verifying_key());
        keys.push(KeyEntry { epoch: origin.epoch, from_seq: HANDOVER, public_key, note: Some(note.render()) });
    }
    StateRoot { id: origin.root_id, format: STATE_ROOT_FORMAT, created_at_ms: AT_MS, keys }
}

impl Maker<'_> {
    fn segment(&mut self, batches: &[&[&str]]) -> Result<(), String> {
        let first_seq = self.tree.size();
        let Origin { root_id, epoch } = origin();
        let checkpoint = self.made.notes.last().cloned();
        let header = Header { root_id, epoch, first_seq, checkpoint, frontier: self.sealed.clone() };
        let text = String::from_utf8(header.render()).map_err(|error| error.to_string())?;
        let mut file = (self.edits.header)(first_seq, text).into_bytes();
        file.push(b'\n');
        for batch in batches {
            for kind in *batch {
                let seq = self.tree.size();
                let mut line = Vec::new();
                render_record(&record(kind, seq, first_seq)?, &mut line).map_err(|error| error.to_string())?;
                let line = String::from_utf8(line).map_err(|error| error.to_string())?;
                self.push((self.edits.record)(seq, line), &mut file);
            }
            let seq = self.tree.size();
            let note = (self.edits.note)(sign(seq, self.tree.root()));
            let line = String::from_utf8(render_seal(seq, &note)).map_err(|error| error.to_string())?;
            self.sealed = self.tree.clone();
            self.made.notes.push(note);
            self.push((self.edits.seal)(seq, line), &mut file);
        }
        self.made.files.insert(layout::segment_path(first_seq), file);
        Ok(())
    }

    fn push(&mut self, line: String, file: &mut Vec<u8>) {
        self.tree.push(leaf_hash(line.as_bytes()));
        file.extend_from_slice(line.as_bytes());
        file.push(b'\n');
        self.made.lines.push(line);
    }
}

fn record(kind: &str, seq: u64, ctx: u64) -> Result<Record, String> {
    let (stream, mut event) = event_of(kind)?;
    let Origin { root_id, epoch } = origin();
    let name = origin().to_string();
    let (old, new) = (old_key().verifying_key(), new_key().verifying_key());
    if kind == "journal.created" {
        event = journal::Created { root_id, epoch, key_id: key_id_hex(&name, &old) }.into();
    }
    if kind == "journal.key_changed" {
        let (old_key_id, new_key_id) = (key_id_hex(&name, &old), key_id_hex(&name, &new));
        event = journal::KeyChanged { old_key_id, new_key_id, new_public_key: encode_key(&new) }.into();
    }
    Ok(system_record(seq, ctx, stream, event))
}

/// The same base64 with its unused bits set: a decoder that is not strict reads the same bytes.
pub(super) fn loose_base64(text: &str) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = text.as_bytes().to_vec();
    if let Some(last) = bytes.iter().rposition(|byte| *byte != b'=')
        && let Some(at) = alphabet.iter().position(|byte| Some(byte) == bytes.get(last))
        && let (Some(to), Some(place)) = (alphabet.get(at ^ 1), bytes.get_mut(last))
    {
        *place = *to;
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// A hash as the formats write it.
pub(super) fn base64(hash: &Hash) -> String {
    BASE64.encode(hash)
}
