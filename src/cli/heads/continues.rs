//! Whether a note continues the one that is kept: the proof is demanded from the daemon and checked here, across
//! handovers of the signing key.

use super::store::Kept;
use crate::cli::client::{Door, Trouble};
use crate::domain::event::Event;
use crate::journal::line;
use crate::journal::note::{Note, key_id_hex, parse_verifier_key, verifier_key};
use crate::journal::proof::{Consistency, Receipt};

/// Handovers that are followed in one go.
const HANDOVERS: u32 = 16;
/// Pages of records that are searched for a handover.
const PAGES: u32 = 64;

/// What a note is, beside the one that is kept.
pub enum Judgement {
    /// The kept note already covers it.
    Known,
    /// It continues the kept one, and is to be kept.
    Newer(Kept),
    /// It does not.
    Forked(String),
}

/// Judges a note. An error says that it could not be judged.
pub fn judge(door: &Door, kept: &Kept, note: &Note) -> Result<Judgement, String> {
    let mut kept = kept.clone();
    for _ in 0..HANDOVERS {
        let (Some(old), Some((_, key))) = (kept.note(), parse_verifier_key(&kept.key)) else {
            return Err("the kept head does not parse".to_owned());
        };
        if old == *note {
            return Ok(Judgement::Known);
        }
        if note.size > 0 && note.size <= old.size && !note.signed_by(&key) {
            // A note from before a handover; what counts is that the kept tree continues it.
            return ordered(door, note, &old, &key, Judgement::Known);
        }
        if note.signed_by(&key) {
            if note.size == old.size {
                let same = note.root == old.root;
                let why = "two signed notes of the same size have different roots";
                return Ok(if same { Judgement::Known } else { Judgement::Forked(why.to_owned()) });
            }
            if note.size < old.size {
                return ordered(door, note, &old, &key, Judgement::Known);
            }
            let newer = Kept { note: note.render(), ..kept };
            return ordered(door, &old, note, &key, Judgement::Newer(newer));
        }
        match handover(door, &kept, &old)? {
            Some(next) => kept = next,
            None => return Ok(Judgement::Forked("the note is not signed by the pinned key".to_owned())),
        }
    }
    Err("the signing key was handed over too often to follow".to_owned())
}

/// Demands the proof that the newer tree continues the older one.
fn ordered(
    door: &Door,
    older: &Note,
    newer: &Note,
    key: &ed25519_dalek::VerifyingKey,
    fine: Judgement,
) -> Result<Judgement, String> {
    if older.size == 0 || older == newer {
        return Ok(fine);
    }
    let (old, new) = (older.size, newer.size);
    let answer = match door.get(&format!("/v1/journal/proof?old={old}&new={new}")) {
        Ok(answer) => answer,
        Err(trouble @ Trouble::Problem(_)) if trouble.code() == Some("request.invalid") => {
            let why = format!("the daemon knows no trees of both {old} and {new} lines: {}", trouble.sentence());
            return Ok(Judgement::Forked(why));
        }
        Err(trouble) => return Err(format!("no proof can be had: {}", trouble.sentence())),
    };
    let Ok(proof) = serde_json::from_value::<Consistency>(answer) else {
        return Ok(Judgement::Forked("the daemon's proof is not of the documented form".to_owned()));
    };
    match proof.verify(older, key) {
        Ok(proven) if proven.root == newer.root && proven.size == newer.size => Ok(fine),
        Ok(_) => Ok(Judgement::Forked(format!("the daemon now shows another tree of {new} lines"))),
        Err(fault) => Ok(Judgement::Forked(format!("the proof from {old} to {new} lines does not hold: {fault}"))),
    }
}

/// The next key, if the kept one handed over: the record is proven under a note that the kept key signed, and the new
/// key signed that note as well.
fn handover(door: &Door, kept: &Kept, old: &Note) -> Result<Option<Kept>, String> {
    let said = |trouble: Trouble| format!("the records cannot be read: {}", trouble.sentence());
    let Some((name, key)) = parse_verifier_key(&kept.key) else { return Ok(None) };
    let id = key_id_hex(&name, &key);
    // The kept note may be the very seal that handed over: then the record that says so is the line before it.
    let mut from = if old.signatures.len() == 2 { old.size.saturating_sub(1) } else { old.size };
    let mut found: Option<(u64, String)> = None;
    for _ in 0..PAGES {
        let ask = crate::cli::wire::Ask {
            method: "GET",
            path: &format!("/v1/journal/records?from={from}"),
            ..Default::default()
        };
        let page = door.exchange(ask).map_err(said)?.bytes;
        let before = from;
        for text in page.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            from += 1;
            match &found {
                None => found = changed(text, &id),
                Some((seq, public)) => {
                    if let Some((size, _)) = line::parse_seal(text) {
                        return Ok(taken(door, kept, (*seq, size), (&name, public)));
                    }
                }
            }
        }
        if from == before {
            return Ok(None);
        }
    }
    Err("no handover of the signing key was found among the newest records".to_owned())
}

/// Sequence number and new public key of a record that hands this key over.
fn changed(text: &[u8], id: &str) -> Option<(u64, String)> {
    let record = line::parse_record(text).ok()?;
    let Event::JournalKeyChanged(body) = record.event else { return None };
    (body.old_key_id == id).then_some((record.seq, body.new_public_key))
}

fn taken(door: &Door, kept: &Kept, (seq, size): (u64, u64), (name, public): (&str, &str)) -> Option<Kept> {
    let (_, old_key) = parse_verifier_key(&kept.key)?;
    let bytes: [u8; 32] = data_encoding::BASE64.decode(public.as_bytes()).ok()?.try_into().ok()?;
    let new_key = ed25519_dalek::VerifyingKey::from_bytes(&bytes).ok()?;
    let receipt = door.get(&format!("/v1/journal/proof?seq={seq}&size={size}")).ok()?;
    let receipt: Receipt = serde_json::from_value(receipt).ok()?;
    let note = receipt.verify(&old_key).ok()?;
    let body = changed(receipt.line.as_bytes(), &key_id_hex(name, &old_key))?;
    let both = note.signed_by(&new_key) && body == (seq, public.to_owned());
    let continues = matches!(ordered(door, &kept.note()?, &note, &old_key, Judgement::Known), Ok(Judgement::Known));
    let next = Kept { key: verifier_key(name, &new_key), note: note.render(), first_seen_at_ms: kept.first_seen_at_ms };
    (both && continues).then_some(next)
}
