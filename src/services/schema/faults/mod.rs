//! One broken journal a fault, and what a verifier must say of it.

mod lines;
mod places;

use serde_json::{Value, json};

use super::Files;
use super::vectors::{Edits, FIRST_FILE, HANDOVER, Made, SECOND, SECOND_FILE, make};
use crate::journal::note::Note;

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
    fn record(
        &mut self,
        name: &'static str,
        about: &'static str,
        seq: u64,
        from: &str,
        to: &str,
    ) -> Result<(), String> {
        let change = |at: u64, line: String| if at == seq { line.replacen(from, to, 1) } else { line };
        let made = make(&Edits { record: &change, ..Edits::default() })?;
        let file = if seq < SECOND { FIRST_FILE } else { SECOND_FILE };
        self.put(name, about, (1, Some((file, seq))), made.files);
        Ok(())
    }

    /// A seal's line is changed, and the tree goes on over the changed line.
    fn seal(
        &mut self,
        name: &'static str,
        about: &'static str,
        change: &dyn Fn(String) -> String,
    ) -> Result<(), String> {
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
    lines::records(&mut book)?;
    lines::seals(&mut book)?;
    places::headers(&mut book)?;
    places::files(&mut book)?;
    places::acked(&mut book)?;
    Ok(book.0)
}

pub(super) fn swap(files: &mut Files, path: &str, from: &str, to: &str) {
    if let Some(bytes) = files.get_mut(path) {
        *bytes = String::from_utf8_lossy(bytes).replacen(from, to, 1).into_bytes();
    }
}
