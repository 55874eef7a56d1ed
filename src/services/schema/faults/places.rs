//! Faults of headers, of files as a whole, and of `acked`.

use super::super::vectors::{
    Edits, FIRST_FILE, SECOND, SECOND_FILE, base64, foreign_key, loose_base64, make, origin, sign, ulid,
};
use super::{Book, STATE_ROOT, swap};
use crate::domain::ids::{EpochId, RootId};
use crate::journal::acked::render_slot;
use crate::journal::note::{Note, Origin};
use crate::services::schema::Files;

const ACKED: &str = "journal/acked";

pub(super) fn headers(book: &mut Book) -> Result<(), String> {
    let other_root = RootId::from_ulid(ulid(99)).to_string();
    let other_epoch = EpochId::from_ulid(ulid(99)).to_string();
    let Origin { root_id, epoch } = origin();
    book.header(
        "header-root-id-foreign",
        "A segment belongs to another state root.",
        &root_id.to_string(),
        &other_root,
    )?;
    book.header("header-epoch-wrong", "A segment belongs to another epoch.", &epoch.to_string(), &other_epoch)?;
    book.header(
        "header-first-seq-wrong",
        "A header begins elsewhere than its name says.",
        "\"first_seq\":9",
        "\"first_seq\":10",
    )?;
    let good = make(&Edits::default())?;
    let header =
        good.files.get(SECOND_FILE).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    let root = header.split("\"frontier\":[\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    book.header(
        "header-frontier-wrong",
        "A frontier does not hash to its checkpoint's root.",
        root,
        &base64(&[3; 32]),
    )?;
    book.header(
        "header-base64-loose",
        "A frontier's base64 has bits set that carry nothing.",
        root,
        &loose_base64(root),
    )?;
    book.header("header-field-unknown", "A header has an unknown key.", ",\"first_seq\"", ",\"mood\":1,\"first_seq\"")?;
    book.header("header-format-zero", "A segment is of no format that ever was.", "\"format\":1", "\"format\":0")?;
    book.header("header-format-boolean", "A header's format is no number.", "\"format\":1", "\"format\":true")?;
    book.header(
        "header-first-seq-fraction",
        "A header's number is no whole one.",
        "\"first_seq\":9",
        "\"first_seq\":9.0",
    )?;
    let newer =
        |at: u64, line: String| if at == SECOND { line.replacen("\"format\":1", "\"format\":2", 1) } else { line };
    let made = make(&Edits { header: &newer, ..Edits::default() })?;
    book.put("header-format-newer", "A segment is of a format that is not known yet.", (3, None), made.files);
    Ok(())
}

pub(super) fn files(book: &mut Book) -> Result<(), String> {
    book.file(("segments-swapped", "Two segments bear one another's name."), (1, Some((FIRST_FILE, 0))), |files| {
        let (first, second) = (files.remove(FIRST_FILE), files.remove(SECOND_FILE));
        files.extend(second.map(|bytes| (FIRST_FILE.to_owned(), bytes)));
        files.extend(first.map(|bytes| (SECOND_FILE.to_owned(), bytes)));
    })?;
    book.file(("segment-missing", "The first segment is gone."), (1, Some((SECOND_FILE, 0))), |files| {
        files.remove(FIRST_FILE);
    })?;
    book.file(
        ("last-segment-missing", "The last segment is gone, though acked names it."),
        (1, Some((ACKED, 14))),
        |files| {
            files.remove(SECOND_FILE);
        },
    )?;
    book.file(
        ("last-newline-missing", "The file ends before the last seal's newline."),
        (1, Some((SECOND_FILE, 14))),
        |files| {
            if let Some(bytes) = files.get_mut(SECOND_FILE) {
                let end = bytes.iter().rposition(|byte| *byte != b'\n').map_or(0, |at| at + 1);
                bytes.truncate(end);
            }
        },
    )?;
    book.file(("padding-other-bytes", "A space stands in the padding."), (1, Some((SECOND_FILE, 15))), |files| {
        if let Some(byte) = files.get_mut(SECOND_FILE).and_then(|bytes| bytes.iter_mut().rev().nth(9)) {
            *byte = b' ';
        }
    })?;
    torn(book)?;
    strangers(book)
}

/// What a power cut leaves behind the newest seal: the beginning of a line, before the space that was written ahead, or
/// before a hole.
fn torn(book: &mut Book) -> Result<(), String> {
    let end_in = |filler: u8| {
        move |files: &mut Files| {
            if let Some(bytes) = files.get_mut(SECOND_FILE) {
                let end = bytes.iter().rposition(|byte| *byte != b'\n').map_or(0, |at| at + 2);
                bytes.truncate(end);
                bytes.extend_from_slice(b"{\"seq\":15,\"at_ms\":17000");
                bytes.resize((end + 64).next_multiple_of(512), filler);
                bytes.extend_from_slice(&[b'\n'; 512]);
            }
        }
    };
    book.file(
        ("torn-line", "Half a line stands behind the newest seal: the next start decides."),
        (3, None),
        end_in(b'\n'),
    )?;
    book.file(
        ("torn-zeros", "Half a line and a hole stand behind the newest seal: the next start decides."),
        (3, None),
        end_in(0),
    )
}

/// Files and lines that do not belong here, and `state-root.json`.
fn strangers(book: &mut Book) -> Result<(), String> {
    book.file(
        ("extra-file", "A file stands in journal/ that does not belong there."),
        (1, Some(("journal/notes.txt", 0))),
        |files| {
            files.insert("journal/notes.txt".to_owned(), b"x\n".to_vec());
        },
    )?;
    book.file(
        ("empty-segment", "A segment is empty."),
        (1, Some(("journal/00000000000000000015.jsonl", 0))),
        |files| {
            files.insert("journal/00000000000000000015.jsonl".to_owned(), Vec::new());
        },
    )?;
    book.file(
        ("next-other-bytes", "The prepared segment holds other bytes than a header and newlines."),
        (1, Some(("journal/next", 0))),
        |files| {
            files.insert("journal/next".to_owned(), b"\n\nx\n".to_vec());
        },
    )?;
    book.file(
        ("unsealed-tail", "A right record stands behind the newest seal: the next start decides."),
        (3, None),
        |files| {
            if let Some(bytes) = files.get_mut(SECOND_FILE) {
                let text = String::from_utf8_lossy(bytes).into_owned();
                let line =
                    text.lines().find(|line| line.starts_with("{\"seq\":13,")).map(|line| line.replacen("13", "15", 1));
                let end = bytes.iter().rposition(|byte| *byte != b'\n').map_or(0, |at| at + 2);
                bytes.truncate(end);
                bytes.extend_from_slice(line.unwrap_or_default().as_bytes());
                bytes.push(b'\n');
            }
        },
    )?;
    book.file(
        ("state-root-field-unknown", "state-root.json has an unknown key."),
        (1, Some((STATE_ROOT, 0))),
        |files| {
            swap(files, STATE_ROOT, "\"format\"", "\"mood\": 1,\n  \"format\"");
        },
    )?;
    book.file(
        ("state-root-format-newer", "state-root.json is of a format that is not known yet."),
        (3, None),
        |files| {
            swap(files, STATE_ROOT, "\"format\": 1", "\"format\": 2");
        },
    )?;
    for (name, about, from, to) in [
        ("state-root-format-zero", "state-root.json is of no format that ever was.", "\"format\": 1", "\"format\": 0"),
        ("state-root-format-boolean", "state-root.json's format is no number.", "\"format\": 1", "\"format\": true"),
        ("state-root-from-seq-boolean", "A key's place is no number.", "\"from_seq\": 0", "\"from_seq\": false"),
    ] {
        book.file((name, about), (1, Some((STATE_ROOT, 0))), |files| swap(files, STATE_ROOT, from, to))?;
    }
    book.file(("state-root-missing", "state-root.json is gone, so no key counts."), (3, None), |files| {
        files.remove(STATE_ROOT);
    })
}

pub(super) fn acked(book: &mut Book) -> Result<(), String> {
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
    book.file(
        ("acked-slot-foreign", "A slot's note is signed by a key that nothing introduced."),
        second_slot,
        with(render_slot(&foreign)),
    )?;
    let mut filled = render_slot(&newest);
    filled[4_000] = b' ';
    book.file(("acked-filling-other-bytes", "A slot is filled up with another byte."), second_slot, with(filled))?;
    book.file(
        ("acked-other-history", "A slot's note is well signed, over a tree that is not this journal's."),
        (1, Some((ACKED, 12))),
        with(render_slot(&sign(12, [5; 32]))),
    )?;
    book.file(
        ("acked-ahead", "A slot's note is well signed, over more lines than there are."),
        (1, Some((ACKED, 40))),
        with(render_slot(&sign(40, [5; 32]))),
    )?;
    book.file(("acked-missing", "acked is gone."), (1, Some((ACKED, 0))), |files| {
        files.remove(ACKED);
    })?;
    book.file(("acked-short", "acked has one slot."), (1, Some((ACKED, 0))), |files| {
        if let Some(bytes) = files.get_mut(ACKED) {
            bytes.truncate(4_096);
        }
    })
}
