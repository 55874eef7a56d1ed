//! Receipts and a consistency proof over the vectors' journal, good ones and one broken one a fault.

use std::convert::Infallible;

use serde_json::{Value, json};

use super::Files;
use super::vectors::{Made, base64, foreign_key, loose_base64, new_key, origin};
use crate::journal::merkle::{Hash, RangeHashes, consistency_proof, inclusion_proof, leaf_hash, node_hash};
use crate::journal::note::{Note, verifier_key};
use crate::journal::proof::{Consistency, Receipt};

/// Hashes of the lines, from which every tree hash follows.
struct Leaves(Vec<Hash>);

impl RangeHashes for Leaves {
    type Error = Infallible;

    fn range_hash(&mut self, from: u64, to: u64) -> Result<Hash, Infallible> {
        let length = to - from;
        if length < 2 {
            let index = usize::try_from(from).unwrap_or(usize::MAX);
            return Ok(self.0.get(index).copied().unwrap_or_default());
        }
        let middle = from + (1 << (length - 1).ilog2());
        Ok(node_hash(&self.range_hash(from, middle)?, &self.range_hash(middle, to)?))
    }
}

/// Index of the note that the receipts carry: the newest.
const NEWEST: u64 = 14;
/// Size of the older tree of the consistency proof.
const OLDER: u64 = 6;

fn leaves(made: &Made) -> Leaves {
    Leaves(made.lines.iter().map(|line| leaf_hash(line.as_bytes())).collect())
}

fn note(made: &Made, size: u64) -> Result<&Note, String> {
    made.notes.iter().find(|note| note.size == size).ok_or(format!("no seal {size}"))
}

fn receipt(made: &Made, seq: u64) -> Result<Receipt, String> {
    let Ok(hashes) = inclusion_proof(&mut leaves(made), seq, NEWEST);
    let line = usize::try_from(seq).ok().and_then(|seq| made.lines.get(seq)).ok_or("no such line")?;
    let hashes = hashes.iter().map(base64).collect();
    Ok(Receipt { format: 1, seq, line: line.clone(), tree_size: NEWEST, hashes, note: note(made, NEWEST)?.render() })
}

/// The key that the vectors' receipts are checked with.
pub(super) fn key() -> String {
    verifier_key(&origin().to_string(), &new_key().verifying_key())
}

/// A name, what it shows, the exit code with the key, and the document.
type Vector = (&'static str, &'static str, u8, Value);

/// Every receipt.
fn vectors(made: &Made) -> Result<Vec<Vector>, String> {
    let record = receipt(made, 4)?;
    let good = serde_json::to_value(&record).map_err(|error| error.to_string())?;
    let seal = serde_json::to_value(receipt(made, 3)?).map_err(|error| error.to_string())?;
    let newest = note(made, NEWEST)?;
    let foreign = Note::sign(origin(), NEWEST, newest.root, &[&foreign_key()]).render();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut document = good.clone();
        change(&mut document);
        document
    };
    let push = |document: &mut Value, hash: String| {
        if let Some(hashes) = document["hashes"].as_array_mut() {
            hashes.push(json!(hash));
        }
    };
    let drop_last = |document: &mut Value| {
        if let Some(hashes) = document["hashes"].as_array_mut() {
            hashes.pop();
        }
    };
    let first = record.hashes.first().cloned().unwrap_or_default();
    let mut all = vec![
        ("good-record", "A record's receipt.", 0, good.clone()),
        ("good-seal", "A seal is a leaf too and has a receipt.", 0, seal),
        ("hash-wrong", "One sibling is another hash.", 1, changed(&|r| r["hashes"][0] = json!(base64(&[1; 32])))),
        ("hash-extra", "One sibling too many.", 1, changed(&|r| push(r, base64(&[1; 32])))),
        ("hash-missing", "One sibling too few.", 1, changed(&drop_last)),
        (
            "hash-base64-loose",
            "Base64 with unused bits set.",
            1,
            changed(&|r| r["hashes"][0] = json!(loose_base64(&first))),
        ),
        ("tree-size-wrong", "Another size than the note's.", 1, changed(&|r| r["tree_size"] = json!(13))),
        ("seq-wrong", "Another place than the line's own.", 1, changed(&|r| r["seq"] = json!(5))),
        (
            "line-changed",
            "A letter of the line is another.",
            1,
            changed(&|r| r["line"] = json!(record.line.replacen("42", "43", 1))),
        ),
        ("note-foreign", "Another key signed the note.", 1, changed(&|r| r["note"] = json!(foreign))),
        (
            "note-root-loose",
            "The note's base64 has unused bits set.",
            1,
            changed(&|r| {
                let root = base64(&newest.root);
                r["note"] = json!(newest.render().replacen(&root, &loose_base64(&root), 1));
            }),
        ),
    ];
    all.extend(shapes(&good));
    Ok(all)
}

/// Documents of another shape than a receipt's.
fn shapes(good: &Value) -> [Vector; 6] {
    let changed = |name: &str, value: Value| {
        let mut document = good.clone();
        document[name] = value;
        document
    };
    let hash = json!([&base64(&[1; 32])[4..]]);
    [
        ("hash-short", "One sibling is shorter than a hash.", 1, changed("hashes", hash)),
        ("format-newer", "A receipt of a format that is not known yet.", 1, changed("format", json!(2))),
        ("format-boolean", "A format that is no number: this is no receipt.", 3, changed("format", json!(true))),
        ("seq-fraction", "A number that is no whole one: this is no receipt.", 3, changed("seq", json!(4.0))),
        ("hashes-no-list", "Hashes that are no list: this is no receipt.", 3, changed("hashes", json!("none"))),
        ("field-unknown", "A key that no receipt has: this is no receipt.", 3, changed("mood", json!(1))),
    ]
}

/// Adds receipts, the consistency proof, and the key to check them with.
pub(super) fn add(files: &mut Files, made: &Made) -> Result<(), String> {
    let root = "state-schema/vectors/receipts";
    for (name, about, exit, document) in vectors(made)? {
        let verdict = ["valid", "invalid", "", "unverifiable"].get(usize::from(exit)).copied().unwrap_or_default();
        let expected = json!({ "about": about, "verdict": verdict, "exit": exit });
        super::put_json(files, &format!("{root}/{name}/receipt.json"), &document);
        super::put_json(files, &format!("{root}/{name}/expected.json"), &expected);
    }
    let Ok(hashes) = consistency_proof(&mut leaves(made), OLDER, NEWEST);
    let hashes = hashes.iter().map(base64).collect();
    let proof = Consistency { old: OLDER, new: NEWEST, hashes, note: note(made, NEWEST)?.render() };
    let proof = serde_json::to_value(proof).map_err(|error| error.to_string())?;
    super::put_json(files, "state-schema/vectors/consistency/good/proof.json", &proof);
    files.insert("state-schema/vectors/consistency/good/old.note".to_owned(), note(made, OLDER)?.render().into_bytes());
    files.insert("state-schema/vectors/verifier.key".to_owned(), format!("{}\n", key()).into_bytes());
    Ok(())
}
