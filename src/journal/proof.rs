//! Receipts and consistency proofs: what a stranger checks alone, offline, with nothing but a public key.

use std::io;

use data_encoding::BASE64;
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use super::line::{self, Shape};
use super::merkle::{self, Hash, leaf_hash};
use super::note::Note;
use super::reader::Reader;

/// Version of the receipt format.
const RECEIPT_FORMAT: u32 = 1;

/// A line, its inclusion proof and a signed note over the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Version of this format: 1.
    pub format: u32,
    /// Index of the line's leaf.
    pub seq: u64,
    /// The exact line, without its newline.
    pub line: String,
    /// Leaves in the tree that the note signs.
    pub tree_size: u64,
    /// Sibling hashes in RFC 6962 order, base64.
    pub hashes: Vec<String>,
    /// The signed note.
    pub note: String,
}

/// A proof that one tree is a prefix of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consistency {
    /// Leaves in the older tree.
    pub old: u64,
    /// Leaves in the newer tree.
    pub new: u64,
    /// Hashes in RFC 6962 order, base64.
    pub hashes: Vec<String>,
    /// The signed note over the newer tree.
    pub note: String,
}

/// Why a proof can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// Nothing is published under this number.
    #[error("there is no line {0}")]
    NoLine(u64),
    /// No seal signs a tree of this size.
    #[error("no seal signs a tree of {0} lines")]
    NotSealed(u64),
    /// The older tree of a consistency proof is larger than the newer one, or empty.
    #[error("`old` is {old}: it must be at least 1 and not larger than `new`, which is {new}")]
    NotOlder {
        /// Lines of the older tree.
        old: u64,
        /// Lines of the newer tree.
        new: u64,
    },
    /// The journal could not be read, or its hashes do not lead to the signed root.
    #[error("the proof could not be made: {0}")]
    Unreadable(#[from] io::Error),
}

/// Why a receipt or proof does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    /// The document is not of the format.
    #[error("it is not of the documented form: {0}")]
    Shape(&'static str),
    /// The hashes do not lead from the line to the signed root.
    #[error("the hashes do not lead to the root that the note signs")]
    Root,
    /// The key did not sign the note.
    #[error("the note is not signed by the key")]
    Signature,
}

fn encode(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(|hash| BASE64.encode(hash)).collect()
}

fn decode(hashes: &[String]) -> Option<Vec<Hash>> {
    hashes.iter().map(|text| BASE64.decode(text.as_bytes()).ok()?.try_into().ok()).collect()
}

impl Receipt {
    /// The receipt of a published line, over the newest tree or a given sealed size.
    pub fn make(reader: &Reader, seq: u64, size: Option<u64>) -> Result<Self, ProofError> {
        let note = note_of(reader, size)?;
        if seq >= note.size {
            return Err(ProofError::NoLine(seq));
        }
        let text = reader.line(seq)?.ok_or(ProofError::NoLine(seq))?;
        let receipt = Self {
            format: RECEIPT_FORMAT,
            seq,
            line: String::from_utf8_lossy(&text).into_owned(),
            tree_size: note.size,
            hashes: encode(&reader.inclusion(seq, note.size)?),
            note: note.render(),
        };
        // What leaves has been checked against what was signed: a rotten cold line must not get a receipt.
        match receipt.lead() {
            Ok(_) => Ok(receipt),
            Err(fault) => Err(io::Error::other(fault.to_string()).into()),
        }
    }

    /// Follows the hashes to the note's root; the signature is not looked at.
    fn lead(&self) -> Result<Note, ProofFault> {
        let note = Note::parse(&self.note).ok_or(ProofFault::Shape("the note is not canonical"))?;
        let hashes = decode(&self.hashes).ok_or(ProofFault::Shape("a hash is not 32 bytes of base64"))?;
        let named = matches!(line::shape(self.line.as_bytes()),
            Some(Shape::Record(seq) | Shape::Seal(seq)) if seq == self.seq);
        if self.format != RECEIPT_FORMAT || note.size != self.tree_size || !named || self.line.contains('\n') {
            return Err(ProofFault::Shape("its numbers do not agree with its line and its note"));
        }
        let root = merkle::root_from_inclusion(self.seq, self.tree_size, leaf_hash(self.line.as_bytes()), &hashes);
        if root == Some(note.root) { Ok(note) } else { Err(ProofFault::Root) }
    }

    /// Checks the receipt against a key; gives the note.
    pub fn verify(&self, key: &VerifyingKey) -> Result<Note, ProofFault> {
        let note = self.lead()?;
        if note.signed_by(key) { Ok(note) } else { Err(ProofFault::Signature) }
    }

    /// Checks everything but who signed; gives the note.
    pub fn verify_unsigned(&self) -> Result<Note, ProofFault> {
        self.lead()
    }
}

impl Consistency {
    /// The proof that the sealed tree of `old` lines is a prefix of the sealed tree of `new` lines.
    pub fn make(reader: &Reader, old: u64, new: Option<u64>) -> Result<Self, ProofError> {
        let note = note_of(reader, new)?;
        if old == 0 || old > note.size {
            return Err(ProofError::NotOlder { old, new: note.size });
        }
        let old_note = note_of(reader, Some(old))?;
        let hashes = reader.consistency(old, note.size)?;
        if !merkle::consistent(old, note.size, &old_note.root, &note.root, &hashes) {
            return Err(io::Error::other(ProofFault::Root.to_string()).into());
        }
        Ok(Self { old, new: note.size, hashes: encode(&hashes), note: note.render() })
    }

    /// Checks the proof against the older note and a key; gives the newer note.
    pub fn verify(&self, old: &Note, key: &VerifyingKey) -> Result<Note, ProofFault> {
        let note = Note::parse(&self.note).ok_or(ProofFault::Shape("the note is not canonical"))?;
        let hashes = decode(&self.hashes).ok_or(ProofFault::Shape("a hash is not 32 bytes of base64"))?;
        if self.old != old.size || self.new != note.size {
            return Err(ProofFault::Shape("its sizes do not agree with the notes"));
        }
        if !merkle::consistent(self.old, self.new, &old.root, &note.root, &hashes) {
            return Err(ProofFault::Root);
        }
        if note.signed_by(key) { Ok(note) } else { Err(ProofFault::Signature) }
    }
}

/// The note over a sealed size; the newest where none is given.
fn note_of(reader: &Reader, size: Option<u64>) -> Result<Note, ProofError> {
    let head = reader.head();
    let Some(size) = size.filter(|size| *size != head.note.size) else { return Ok(head.note) };
    let text = reader.line(size)?.ok_or(ProofError::NotSealed(size))?;
    line::parse_seal(&text).map(|(_, note)| note).ok_or(ProofError::NotSealed(size))
}
