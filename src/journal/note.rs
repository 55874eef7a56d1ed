//! Signed notes: the checkpoint of a tree in the form that transparency-log tools read.
//!
//! Format: C2SP `signed-note` around a C2SP `tlog-checkpoint` (origin, size, root), Ed25519 signatures with the C2SP key
//! id. A journal's notes bear one signature, a key handover's two; each has exactly one valid spelling.

use data_encoding::BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::merkle::Hash;
use crate::domain::ids::{EpochId, RootId};

/// Algorithm byte of Ed25519 in C2SP key ids and verifier keys.
const ED25519: u8 = 0x01;
/// What a signature line begins with: an em dash and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// The name of a log: `chancery/<root id>/<epoch>`; also the name of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The state root.
    pub root_id: RootId,
    /// Its incarnation.
    pub epoch: EpochId,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "chancery/{}/{}", self.root_id, self.epoch)
    }
}

impl Origin {
    /// Parses the written form.
    pub fn parse(text: &str) -> Option<Self> {
        let (root_id, epoch) = text.strip_prefix("chancery/")?.split_once('/')?;
        Some(Self { root_id: RootId::parse(root_id).ok()?, epoch: EpochId::parse(epoch).ok()? })
    }
}

/// C2SP key id: the first four bytes of SHA-256(name ‖ newline ‖ algorithm ‖ public key).
pub fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update([b'\n', ED25519]);
    hasher.update(key.as_bytes());
    let digest: Hash = hasher.finalize().into();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// The key id in hex.
pub fn key_id_hex(name: &str, key: &VerifyingKey) -> String {
    data_encoding::HEXLOWER.encode(&key_id(name, key))
}

/// C2SP verifier key: `<name>+<key id hex>+<base64 of algorithm and public key>`.
pub fn verifier_key(name: &str, key: &VerifyingKey) -> String {
    let mut body = vec![ED25519];
    body.extend_from_slice(key.as_bytes());
    format!("{name}+{}+{}", key_id_hex(name, key), BASE64.encode(&body))
}

/// Reads a C2SP verifier key; its key id must be right.
pub fn parse_verifier_key(text: &str) -> Option<(String, VerifyingKey)> {
    let mut parts = text.trim().splitn(3, '+');
    let (name, id, body) = (parts.next()?, parts.next()?, parts.next()?);
    let body = BASE64.decode(body.as_bytes()).ok()?;
    let (algorithm, key) = body.split_first()?;
    let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
    (*algorithm == ED25519 && key_id_hex(name, &key) == id).then(|| (name.to_owned(), key))
}

/// One signature of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// Which key made it.
    pub key_id: [u8; 4],
    /// The Ed25519 signature over the note's text.
    pub signature: [u8; 64],
}

/// A signed checkpoint of the journal's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The log.
    pub origin: Origin,
    /// Leaves in the tree.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
    /// One signature; two at a key handover, the old key's first.
    pub signatures: Vec<NoteSignature>,
}

fn checkpoint_text(origin: &Origin, size: u64, root: &Hash) -> String {
    format!("{origin}\n{size}\n{}\n", BASE64.encode(root))
}

impl Note {
    /// Signs a checkpoint with each key in turn.
    pub fn sign(origin: Origin, size: u64, root: Hash, keys: &[&SigningKey]) -> Self {
        let text = checkpoint_text(&origin, size, &root);
        let name = origin.to_string();
        let signatures = keys
            .iter()
            .map(|key| NoteSignature {
                key_id: key_id(&name, &key.verifying_key()),
                signature: key.sign(text.as_bytes()).to_bytes(),
            })
            .collect();
        Self { origin, size, root, signatures }
    }

    /// The one spelling of this note.
    pub fn render(&self) -> String {
        let mut out = checkpoint_text(&self.origin, self.size, &self.root);
        out.push('\n');
        let name = self.origin.to_string();
        for signature in &self.signatures {
            let mut blob = signature.key_id.to_vec();
            blob.extend_from_slice(&signature.signature);
            out.push_str(SIGNATURE_PREFIX);
            out.push_str(&name);
            out.push(' ');
            out.push_str(&BASE64.encode(&blob));
            out.push('\n');
        }
        out
    }

    /// Reads a note; any other spelling than the one that [`Note::render`] gives is refused.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, tail) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let origin = Origin::parse(lines.next()?)?;
        let size = lines.next()?.parse().ok()?;
        let root = BASE64.decode(lines.next()?.as_bytes()).ok()?.try_into().ok()?;
        let mut signatures = Vec::new();
        for line in tail.strip_suffix('\n')?.split('\n') {
            let (_, blob) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
            let blob = BASE64.decode(blob.as_bytes()).ok()?;
            let (id, signature) = blob.split_first_chunk::<4>()?;
            signatures.push(NoteSignature { key_id: *id, signature: signature.try_into().ok()? });
        }
        let note = Self { origin, size, root, signatures };
        (lines.next().is_none() && note.render() == text).then_some(note)
    }

    /// Whether this key signed the note: it holds a signature with the key's id, and that one is valid.
    pub fn signed_by(&self, key: &VerifyingKey) -> bool {
        let id = key_id(&self.origin.to_string(), key);
        let text = checkpoint_text(&self.origin, self.size, &self.root);
        self.signatures
            .iter()
            .any(|s| s.key_id == id && key.verify_strict(text.as_bytes(), &Signature::from_bytes(&s.signature)).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            root_id: RootId::parse("root_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap(),
            epoch: EpochId::parse("epoch_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap(),
        }
    }

    #[test]
    fn a_note_has_exactly_one_spelling() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let note = Note::sign(origin(), 12, [3; 32], &[&key]);
        let text = note.render();
        assert_eq!(Note::parse(&text), Some(note));
        assert_eq!(Note::parse(&text.replace("\n12\n", "\n012\n")), None);
        assert_eq!(Note::parse(&text.replace("\n12\n", "\n+12\n")), None);
        assert_eq!(Note::parse(&format!("{text}\n")), None);
        assert_eq!(Note::parse(text.trim_end()), None);
    }

    #[test]
    fn only_the_key_that_signed_verifies_and_only_the_same_text() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let other = SigningKey::from_bytes(&[8; 32]);
        let mut note = Note::sign(origin(), 12, [3; 32], &[&key]);
        assert!(note.signed_by(&key.verifying_key()));
        assert!(!note.signed_by(&other.verifying_key()));
        note.size = 13;
        assert!(!note.signed_by(&key.verifying_key()));
    }

    #[test]
    fn a_handover_note_is_signed_by_both_keys() {
        let (old, new) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
        let note = Note::sign(origin(), 12, [3; 32], &[&old, &new]);
        let read = Note::parse(&note.render()).unwrap();
        assert!(read.signed_by(&old.verifying_key()) && read.signed_by(&new.verifying_key()));
    }

    #[test]
    fn a_verifier_key_reads_back_and_a_wrong_id_is_refused() {
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
        let text = verifier_key("chancery/x", &key);
        assert_eq!(parse_verifier_key(&text), Some(("chancery/x".to_owned(), key)));
        assert_eq!(parse_verifier_key(&text.replacen("chancery/x", "chancery/y", 1)), None);
    }
}
