//! Faults of records and of seals.

use super::super::vectors::{
    Edits, FIRST_FILE, HANDOVER, SECOND, SECOND_FILE, base64, foreign_key, loose_base64, make, new_key, old_key,
    origin, sign, ulid,
};
use super::{Book, Broken, FILL, swap};
use crate::domain::ids::EpochId;
use crate::domain::limits::RECORD_BYTES;
use crate::journal::note::{Note, Origin};

pub(super) fn records(book: &mut Book) -> Result<(), String> {
    book.file(
        ("record-byte-changed", "One letter of a sealed record is another."),
        (1, Some((FIRST_FILE, 6))),
        |files| {
            swap(files, FIRST_FILE, "Höhe", "Hühe");
        },
    )?;
    book.file(("record-missing", "A record's line is gone."), (1, Some((FIRST_FILE, 5))), |files| {
        if let Some(bytes) = files.get_mut(FIRST_FILE) {
            let text = String::from_utf8_lossy(bytes);
            *bytes =
                text.split_inclusive('\n').filter(|line| !line.starts_with("{\"seq\":5,")).collect::<String>().into();
        }
    })?;
    book.record("record-seq-wrong", "A record bears another sequence number.", 5, "\"seq\":5,", "\"seq\":50,")?;
    book.record(
        "record-field-unknown",
        "A body has a key that its schema does not know.",
        4,
        "\"data\":{",
        "\"data\":{\"mood\":1,",
    )?;
    book.record(
        "record-head-field-unknown",
        "The envelope has an unknown key.",
        4,
        ",\"data\":",
        ",\"mood\":1,\"data\":",
    )?;
    book.record("record-key-repeated", "A key stands twice.", 4, ",\"data\":", ",\"ctx\":0,\"data\":")?;
    book.record("record-null", "A key is null instead of absent.", 4, ",\"data\":", ",\"reason\":null,\"data\":")?;
    book.record(
        "record-keys-swapped",
        "Two keys stand in another order.",
        4,
        "\"kind\":\"session.created\",\"v\":1",
        "\"v\":1,\"kind\":\"session.created\"",
    )?;
    book.record("record-not-compact", "A space stands where none may.", 4, ",\"data\":", ", \"data\":")?;
    book.record("record-text-escaped", "A letter is escaped that stands as itself.", 4, "ö", "\\u00f6")?;
    meanings(book)
}

/// Records that are well spelled and mean what may not be.
fn meanings(book: &mut Book) -> Result<(), String> {
    book.record("kind-unknown", "The kind is on no list.", 4, "session.created", "session.dreamed")?;
    book.record("version-unknown", "The kind has no such version.", 4, "\"v\":1", "\"v\":9")?;
    book.record(
        "stream-wrong",
        "The kind does not occur on such a stream.",
        2,
        "\"stream\":\"daemon\"",
        "\"stream\":\"journal\"",
    )?;
    book.record(
        "ctx-in-another-segment",
        "A record names the context of the segment before.",
        10,
        "\"ctx\":9",
        "\"ctx\":0",
    )?;
    book.record("ctx-not-in-force", "A record names a context that stands behind it.", 10, "\"ctx\":9", "\"ctx\":11")?;
    let first = |seq: u64, line: String| {
        if seq == SECOND {
            line.replace("context.set", "daemon.stopped")
                .replace("\"ctx\":9", "\"ctx\":10")
                .split(",\"wall_ms\"")
                .next()
                .map_or(String::new(), |head| format!("{head}}}}}"))
        } else {
            line
        }
    };
    let made = make(&Edits { record: &first, ..Edits::default() })?;
    book.put(
        "first-record-no-context",
        "A segment begins with another record than a context.",
        (1, Some((SECOND_FILE, SECOND))),
        made.files,
    );
    over_limit(book)
}

/// A record of one byte more than may be; the run of letters is kept as a marker.
fn over_limit(book: &mut Book) -> Result<(), String> {
    let lengthen = |letters: usize| {
        move |seq: u64, line: String| {
            if seq == 4 { line.replacen("Höhe", &"x".repeat(letters), 1) } else { line }
        }
    };
    let plain = make(&Edits::default())?;
    let rest = plain.lines.get(4).map_or(0, String::len) - "Höhe".len();
    let count = RECORD_BYTES + 1 - rest;
    let made = make(&Edits { record: &lengthen(count), ..Edits::default() })?;
    let mut files = made.files;
    swap(&mut files, FIRST_FILE, &"x".repeat(count), FILL);
    let about = "A record has one byte more than 1 MiB; `fill` says what stands for the marker.";
    let at = Some((FIRST_FILE, 4));
    book.0.push(Broken { name: "record-over-limit", about, exit: 1, at, files, fill: Some(count) });
    Ok(())
}

pub(super) fn seals(book: &mut Book) -> Result<(), String> {
    book.note(
        ("seal-root-wrong", "A seal signs another root than the lines before it have."),
        (6, &|note| sign(note.size, [7; 32])),
    )?;
    book.note(
        ("seal-size-wrong", "A seal signs another size than its place."),
        (6, &|note| sign(note.size - 1, note.root)),
    )?;
    book.note(
        ("seal-signature-wrong", "One bit of a signature is another."),
        (6, &|mut note| {
            if let Some(signature) = note.signatures.first_mut() {
                signature.signature[10] ^= 1;
            }
            note
        }),
    )?;
    book.note(
        ("seal-of-a-foreign-key", "A key signs that nothing introduced."),
        (6, &|note| Note::sign(origin(), note.size, note.root, &[&foreign_key()])),
    )?;
    book.note(
        ("seal-of-the-next-key", "The new key signs before the handover."),
        (6, &|note| Note::sign(origin(), note.size, note.root, &[&new_key()])),
    )?;
    book.note(
        ("seal-signed-twice", "A seal bears a second signature outside a handover."),
        (6, &|note| Note::sign(origin(), note.size, note.root, &[&old_key(), &foreign_key()])),
    )?;
    book.note(
        ("seal-of-another-epoch", "A seal bears the name of another epoch."),
        (6, &|note| {
            let epoch = EpochId::from_ulid(ulid(77));
            Note::sign(Origin { epoch, ..origin() }, note.size, note.root, &[&old_key()])
        }),
    )?;
    book.note(
        ("handover-by-the-new-key-only", "The old key did not sign the handover."),
        (HANDOVER, &|note| Note::sign(origin(), note.size, note.root, &[&new_key()])),
    )?;
    seal_lines(book)
}

/// Seals whose line is spelled otherwise.
fn seal_lines(book: &mut Book) -> Result<(), String> {
    let root = make(&Edits::default())?.notes.get(1).map(|note| base64(&note.root)).unwrap_or_default();
    book.seal("seal-base64-loose", "The root's base64 has bits set that carry nothing.", &|line| {
        line.replacen(&root, &loose_base64(&root), 1)
    })?;
    book.seal("seal-keys-swapped", "A seal's keys stand in another order.", &|line| {
        let note = line.trim_start_matches("{\"seq\":6,").trim_end_matches('}').to_owned();
        format!("{{{note},\"seq\":6}}")
    })?;
    book.seal("seal-field-unknown", "A seal has a third key.", &|line| line.replacen("\"}", "\",\"more\":1}", 1))?;
    book.seal("seal-dash-escaped", "A seal's text is escaped where it stands as itself.", &|line| {
        line.replacen('\u{2014}', "\\u2014", 1)
    })?;
    book.file(
        ("seal-byte-changed", "One letter of a seal's signature is another."),
        (1, Some((FIRST_FILE, 6))),
        |files| {
            if let Some(bytes) = files.get_mut(FIRST_FILE) {
                let text = String::from_utf8_lossy(bytes).into_owned();
                let at = text.find("{\"seq\":6,").and_then(|from| Some(from + text.get(from..)?.find("\\n\"}")? - 20));
                if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
                    *byte = if *byte == b'A' { b'B' } else { b'A' };
                }
            }
        },
    )
}
