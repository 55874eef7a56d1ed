//! One broken journal a fault, and what a verifier must say of it.

use serde_json::{Value, json};

use super::Files;
use super::vectors::{
    Edits, FIRST_FILE, HANDOVER, Made, SECOND, SECOND_FILE, base64, foreign_key, loose_base64, make, new_key, old_key,
    origin, sign, ulid,
};
use crate::domain::ids::{EpochId, RootId};
use crate::domain::limits::RECORD_BYTES;
use crate::journal::acked::render_slot;
use crate::journal::note::{Note, Origin};

const ACKED: &str = "journal/acked";
const STATE_ROOT: &str = "state-root.json";
/// Stands in a file for a run of one byte that would be too long to keep.
const FILL: &str = "@FILL@";

/// Where a verifier must point, and the journal that it is given.
pub(super) struct Broken {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Exit code: 1 invalid, 3 unverifiable.
    pub(super) exit: u8,
    /// The file and the sequence number that a verdict of "invalid" names.
    pub(super) at: Option<(&'static str, u64)>,
    pub(super) files: Files,
    /// A run of `x` that replaces the marker.
    pub(super) fill: Option<usize>,
}

impl Broken {
    /// What `expected.json` says, against the good journal's files.
    pub(super) fn expected(&self, good: &Files) -> Value {
        let verdict = if self.exit == 1 { "invalid" } else { "unverifiable" };
        let mut expected = json!({ "about": self.about, "verdict": verdict, "exit": self.exit });
        if let Some((file, seq)) = self.at {
            expected["file"] = json!(file);
            expected["seq"] = json!(seq);
        }
        let absent: Vec<&String> = good.keys().filter(|path| !self.files.contains_key(*path)).collect();
        if !absent.is_empty() {
            expected["absent"] = json!(absent);
        }
        if let Some(count) = self.fill {
            expected["fill"] = json!({ "file": FIRST_FILE, "marker": FILL, "byte": "x", "count": count });
        }
        expected
    }
}

type Place = Option<(&'static str, u64)>;

/// Collects the faults.
struct Book(Vec<Broken>);

impl Book {
    fn put(&mut self, name: &'static str, about: &'static str, (exit, at): (u8, Place), files: Files) {
        self.0.push(Broken { name, about, exit, at, files, fill: None });
    }

    /// A record's line is changed before it is hashed, so that the seal is right about it.
    fn record(&mut self, name: &'static str, about: &'static str, seq: u64, from: &str, to: &str) -> Result<(), String> {
        let change = |at: u64, line: String| if at == seq { line.replacen(from, to, 1) } else { line };
        let made = make(&Edits { record: &change, ..Edits::default() })?;
        let file = if seq < SECOND { FIRST_FILE } else { SECOND_FILE };
        self.put(name, about, (1, Some((file, seq))), made.files);
        Ok(())
    }

    /// A seal's line is changed, and the tree goes on over the changed line.
    fn seal(&mut self, name: &'static str, about: &'static str, change: &dyn Fn(String) -> String) -> Result<(), String> {
        let edit = |at: u64, line: String| if at == 6 { change(line) } else { line };
        let made = make(&Edits { seal: &edit, ..Edits::default() })?;
        self.put(name, about, (1, Some((FIRST_FILE, 6))), made.files);
        Ok(())
    }

    /// A note is changed before it becomes a seal.
    fn note(
        &mut self,
        (name, about): (&'static str, &'static str),
        (size, change): (u64, &dyn Fn(Note) -> Note),
    ) -> Result<(), String> {
        let edit = |note: Note| if note.size == size { change(note) } else { note };
        let made = make(&Edits { note: &edit, ..Edits::default() })?;
        let at = if size == HANDOVER { (STATE_ROOT, 0) } else { (FIRST_FILE, size) };
        self.put(name, about, (1, Some(at)), made.files);
        Ok(())
    }

    /// The second segment's header is changed.
    fn header(&mut self, name: &'static str, about: &'static str, from: &str, to: &str) -> Result<(), String> {
        let edit = |at: u64, line: String| if at == SECOND { line.replacen(from, to, 1) } else { line };
        let made = make(&Edits { header: &edit, ..Edits::default() })?;
        self.put(name, about, (1, Some((SECOND_FILE, SECOND))), made.files);
        Ok(())
    }

    /// A finished file is changed.
    fn file(
        &mut self,
        (name, about): (&'static str, &'static str),
        wanted: (u8, Place),
        change: impl FnOnce(&mut Files),
    ) -> Result<(), String> {
        let Made { mut files, .. } = make(&Edits::default())?;
        change(&mut files);
        self.put(name, about, wanted, files);
        Ok(())
    }
}

/// Every broken journal.
pub(super) fn all() -> Result<Vec<Broken>, String> {
    let mut book = Book(Vec::new());
    records(&mut book)?;
    seals(&mut book)?;
    headers(&mut book)?;
    files(&mut book)?;
    acked(&mut book)?;
    Ok(book.0)
}

fn swap(files: &mut Files, path: &str, from: &str, to: &str) {
    if let Some(bytes) = files.get_mut(path) {
        *bytes = String::from_utf8_lossy(bytes).replacen(from, to, 1).into_bytes();
    }
}

fn records(book: &mut Book) -> Result<(), String> {
    book.file(("record-byte-changed", "One letter of a sealed record is another."), (1, Some((FIRST_FILE, 6))), |files| {
        swap(files, FIRST_FILE, "Höhe", "Hühe");
    })?;
    book.file(("record-missing", "A record's line is gone."), (1, Some((FIRST_FILE, 5))), |files| {
        if let Some(bytes) = files.get_mut(FIRST_FILE) {
            let text = String::from_utf8_lossy(bytes);
            *bytes = text.split_inclusive('\n').filter(|line| !line.starts_with("{\"seq\":5,")).collect::<String>().into();
        }
    })?;
    book.record("record-seq-wrong", "A record bears another sequence number.", 5, "\"seq\":5,", "\"seq\":50,")?;
    book.record("record-field-unknown", "A body has a key that its schema does not know.", 4, "\"data\":{", "\"data\":{\"mood\":1,")?;
    book.record("record-head-field-unknown", "The envelope has an unknown key.", 4, ",\"data\":", ",\"mood\":1,\"data\":")?;
    book.record("record-key-repeated", "A key stands twice.", 4, ",\"data\":", ",\"ctx\":0,\"data\":")?;
    book.record("record-null", "A key is null instead of absent.", 4, ",\"data\":", ",\"reason\":null,\"data\":")?;
    book.record("record-keys-swapped", "Two keys stand in another order.", 4, "\"kind\":\"session.created\",\"v\":1", "\"v\":1,\"kind\":\"session.created\"")?;
    book.record("record-not-compact", "A space stands where none may.", 4, ",\"data\":", ", \"data\":")?;
    book.record("record-text-escaped", "A letter is escaped that stands as itself.", 4, "ö", "\\u00f6")?;
    book.record("kind-unknown", "The kind is on no list.", 4, "session.created", "session.dreamed")?;
    book.record("version-unknown", "The kind has no such version.", 4, "\"v\":1", "\"v\":9")?;
    book.record("stream-wrong", "The kind does not occur on such a stream.", 2, "\"stream\":\"daemon\"", "\"stream\":\"journal\"")?;
    book.record("ctx-in-another-segment", "A record names the context of the segment before.", 10, "\"ctx\":9", "\"ctx\":0")?;
    book.record("ctx-not-in-force", "A record names a context that stands behind it.", 10, "\"ctx\":9", "\"ctx\":11")?;
    let first = |seq: u64, line: String| {
        if seq == SECOND {
            line.replace("context.set", "daemon.stopped").replace("\"ctx\":9", "\"ctx\":10").split(",\"wall_ms\"").next().map_or(String::new(), |head| format!("{head}}}}}"))
        } else {
            line
        }
    };
    let made = make(&Edits { record: &first, ..Edits::default() })?;
    book.put("first-record-no-context", "A segment begins with another record than a context.", (1, Some((SECOND_FILE, SECOND))), made.files);
    over_limit(book)
}

/// A record of one byte more than may be; the run of letters is kept as a marker.
fn over_limit(book: &mut Book) -> Result<(), String> {
    let lengthen = |letters: usize| move |seq: u64, line: String| {
        if seq == 4 { line.replacen("Höhe", &"x".repeat(letters), 1) } else { line }
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

fn seals(book: &mut Book) -> Result<(), String> {
    book.note(("seal-root-wrong", "A seal signs another root than the lines before it have."), (6, &|note| {
        sign(note.size, [7; 32])
    }))?;
    book.note(("seal-size-wrong", "A seal signs another size than its place."), (6, &|note| sign(note.size - 1, note.root)))?;
    book.note(("seal-signature-wrong", "One bit of a signature is another."), (6, &|mut note| {
        if let Some(signature) = note.signatures.first_mut() {
            signature.signature[10] ^= 1;
        }
        note
    }))?;
    book.note(("seal-of-a-foreign-key", "A key signs that nothing introduced."), (6, &|note| {
        Note::sign(origin(), note.size, note.root, &[&foreign_key()])
    }))?;
    book.note(("seal-of-the-next-key", "The new key signs before the handover."), (6, &|note| {
        Note::sign(origin(), note.size, note.root, &[&new_key()])
    }))?;
    book.note(("seal-signed-twice", "A seal bears a second signature outside a handover."), (6, &|note| {
        Note::sign(origin(), note.size, note.root, &[&old_key(), &foreign_key()])
    }))?;
    book.note(("seal-of-another-epoch", "A seal bears the name of another epoch."), (6, &|note| {
        let epoch = EpochId::from_ulid(ulid(77));
        Note::sign(Origin { epoch, ..origin() }, note.size, note.root, &[&old_key()])
    }))?;
    book.note(("handover-by-the-new-key-only", "The old key did not sign the handover."), (HANDOVER, &|note| {
        Note::sign(origin(), note.size, note.root, &[&new_key()])
    }))?;
    let root = make(&Edits::default())?.notes.get(1).map(|note| base64(&note.root)).unwrap_or_default();
    book.seal("seal-base64-loose", "The root's base64 has bits set that carry nothing.", &|line| {
        line.replacen(&root, &loose_base64(&root), 1)
    })?;
    book.seal("seal-keys-swapped", "A seal's keys stand in another order.", &|line| {
        let note = line.trim_start_matches("{\"seq\":6,").trim_end_matches('}').to_owned();
        format!("{{{note},\"seq\":6}}")
    })?;
    book.seal("seal-field-unknown", "A seal has a third key.", &|line| line.replacen("\"}", "\",\"more\":1}", 1))?;
    book.seal("seal-dash-escaped", "A seal's text is escaped where it stands as itself.", &|line| line.replacen('\u{2014}', "\\u2014", 1))?;
    book.file(("seal-byte-changed", "One letter of a seal's signature is another."), (1, Some((FIRST_FILE, 6))), |files| {
        if let Some(bytes) = files.get_mut(FIRST_FILE) {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let at = text.find("{\"seq\":6,").and_then(|from| Some(from + text.get(from..)?.find("\\n\"}")? - 20));
            if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
                *byte = if *byte == b'A' { b'B' } else { b'A' };
            }
        }
    })
}

fn headers(book: &mut Book) -> Result<(), String> {
    let other_root = RootId::from_ulid(ulid(99)).to_string();
    let other_epoch = EpochId::from_ulid(ulid(99)).to_string();
    let Origin { root_id, epoch } = origin();
    book.header("header-root-id-foreign", "A segment belongs to another state root.", &root_id.to_string(), &other_root)?;
    book.header("header-epoch-wrong", "A segment belongs to another epoch.", &epoch.to_string(), &other_epoch)?;
    book.header("header-first-seq-wrong", "A header begins elsewhere than its name says.", "\"first_seq\":9", "\"first_seq\":10")?;
    let good = make(&Edits::default())?;
    let header = good.files.get(SECOND_FILE).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    let root = header.split("\"frontier\":[\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    book.header("header-frontier-wrong", "A frontier does not hash to its checkpoint's root.", root, &base64(&[3; 32]))?;
    book.header("header-base64-loose", "A frontier's base64 has bits set that carry nothing.", root, &loose_base64(root))?;
    book.header("header-field-unknown", "A header has an unknown key.", ",\"first_seq\"", ",\"mood\":1,\"first_seq\"")?;
    let newer = |at: u64, line: String| if at == SECOND { line.replacen("\"format\":1", "\"format\":2", 1) } else { line };
    let made = make(&Edits { header: &newer, ..Edits::default() })?;
    book.put("header-format-newer", "A segment is of a format that is not known yet.", (3, None), made.files);
    Ok(())
}

fn files(book: &mut Book) -> Result<(), String> {
    book.file(("segments-swapped", "Two segments bear one another's name."), (1, Some((FIRST_FILE, 0))), |files| {
        let (first, second) = (files.remove(FIRST_FILE), files.remove(SECOND_FILE));
        files.extend(second.map(|bytes| (FIRST_FILE.to_owned(), bytes)));
        files.extend(first.map(|bytes| (SECOND_FILE.to_owned(), bytes)));
    })?;
    book.file(("segment-missing", "The first segment is gone."), (1, Some((SECOND_FILE, 0))), |files| {
        files.remove(FIRST_FILE);
    })?;
    book.file(("last-segment-missing", "The last segment is gone, though acked names it."), (1, Some((ACKED, 14))), |files| {
        files.remove(SECOND_FILE);
    })?;
    book.file(("last-newline-missing", "The file ends before the last seal's newline."), (1, Some((ACKED, 14))), |files| {
        if let Some(bytes) = files.get_mut(SECOND_FILE) {
            let end = bytes.iter().rposition(|byte| *byte != b'\n').map_or(0, |at| at + 1);
            bytes.truncate(end);
        }
    })?;
    book.file(("padding-other-bytes", "A space stands in the padding."), (1, Some((SECOND_FILE, 15))), |files| {
        if let Some(byte) = files.get_mut(SECOND_FILE).and_then(|bytes| bytes.iter_mut().rev().nth(9)) {
            *byte = b' ';
        }
    })?;
    book.file(("extra-file", "A file stands in journal/ that does not belong there."), (1, Some(("journal/notes.txt", 0))), |files| {
        files.insert("journal/notes.txt".to_owned(), b"x\n".to_vec());
    })?;
    book.file(("empty-segment", "A segment is empty."), (1, Some(("journal/00000000000000000015.jsonl", 0))), |files| {
        files.insert("journal/00000000000000000015.jsonl".to_owned(), Vec::new());
    })?;
    book.file(("next-other-bytes", "The prepared segment holds other bytes than a header and newlines."), (1, Some(("journal/next", 0))), |files| {
        files.insert("journal/next".to_owned(), b"\n\nx\n".to_vec());
    })?;
    book.file(("unsealed-tail", "A right record stands behind the newest seal: the next start decides."), (3, None), |files| {
        if let Some(bytes) = files.get_mut(SECOND_FILE) {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let line = text.lines().find(|line| line.starts_with("{\"seq\":13,")).map(|line| line.replacen("13", "15", 1));
            let end = bytes.iter().rposition(|byte| *byte != b'\n').map_or(0, |at| at + 2);
            bytes.truncate(end);
            bytes.extend_from_slice(line.unwrap_or_default().as_bytes());
            bytes.push(b'\n');
        }
    })?;
    book.file(("state-root-field-unknown", "state-root.json has an unknown key."), (1, Some((STATE_ROOT, 0))), |files| {
        swap(files, STATE_ROOT, "\"format\"", "\"mood\": 1,\n  \"format\"");
    })?;
    book.file(("state-root-format-newer", "state-root.json is of a format that is not known yet."), (3, None), |files| {
        swap(files, STATE_ROOT, "\"format\": 1", "\"format\": 2");
    })?;
    book.file(("state-root-missing", "state-root.json is gone, so no key counts."), (3, None), |files| {
        files.remove(STATE_ROOT);
    })
}

fn acked(book: &mut Book) -> Result<(), String> {
    let newest = make(&Edits::default())?.notes.pop().ok_or("no note")?;
    let with = |second: Vec<u8>| {
        let first = render_slot(&newest);
        move |files: &mut Files| {
            files.insert(ACKED.to_owned(), [first, second].concat());
        }
    };
    let mut torn = render_slot(&newest);
    torn[30] ^= 1;
    let second_slot = (1, Some((ACKED, 0)));
    book.file(("acked-slot-broken", "One byte of a slot is another."), second_slot, with(torn))?;
    let foreign = Note::sign(origin(), newest.size, newest.root, &[&foreign_key()]);
    book.file(("acked-slot-foreign", "A slot's note is signed by a key that nothing introduced."), second_slot, with(render_slot(&foreign)))?;
    let mut filled = render_slot(&newest);
    filled[4_000] = b' ';
    book.file(("acked-filling-other-bytes", "A slot is filled up with another byte."), second_slot, with(filled))?;
    book.file(("acked-other-history", "A slot's note is well signed, over a tree that is not this journal's."), (1, Some((ACKED, 12))), with(render_slot(&sign(12, [5; 32]))))?;
    book.file(("acked-ahead", "A slot's note is well signed, over more lines than there are."), (1, Some((ACKED, 40))), with(render_slot(&sign(40, [5; 32]))))?;
    book.file(("acked-missing", "acked is gone."), (1, Some((ACKED, 0))), |files| {
        files.remove(ACKED);
    })?;
    book.file(("acked-short", "acked has one slot."), (1, Some((ACKED, 0))), |files| {
        if let Some(bytes) = files.get_mut(ACKED) {
            bytes.truncate(4_096);
        }
    })
}
