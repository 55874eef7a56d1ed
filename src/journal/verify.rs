//! Verification of a whole journal by whoever has it, running or not: every byte, every seal, every signature. Never
//! writes, and never says "ok" of what it did not look at.

use super::acked::{self, SLOT_BYTES};
use super::error::OpenError;
use super::keys::KeyRing;
use super::layout;
use super::line;
use super::note::{Note, verifier_key};
use super::recovery::read_root;
use super::segments::{self, SegmentFile};
use super::tail::{self, Tail};
use super::walk::{self, Step};
use crate::domain::limits;
use crate::platform::disk::{Disk, Open, read_bounded};

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Everything holds.
    Valid,
    /// Something was changed.
    Invalid {
        /// The file.
        file: String,
        /// Offset of the first wrong byte.
        offset: u64,
        /// Sequence number due there.
        seq: u64,
        /// What is wrong.
        why: String,
    },
    /// Something can't be judged from here.
    Unverifiable {
        /// Why not.
        why: String,
    },
}

/// The report on a state root.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Lines under valid seals.
    pub lines: u64,
    /// Seals whose root and signature were checked.
    pub seals: u64,
    /// Segments looked at.
    pub segments: usize,
    /// The pinned key, as a C2SP verifier key.
    pub key: String,
    /// The newest note.
    pub note: String,
    /// Files in the quarantine.
    pub quarantined: usize,
    /// Bytes behind the newest seal of a running daemon.
    pub in_flight_bytes: u64,
}

struct Verifier<'a> {
    disk: &'a dyn Disk,
    ring: KeyRing,
    held: bool,
    report: Report,
    notes: Vec<(u64, [u8; 32])>,
}

fn invalid(file: &str, offset: u64, seq: u64, why: impl Into<String>) -> Verdict {
    Verdict::Invalid { file: file.to_owned(), offset, seq, why: why.into() }
}

/// Verifies a state root. `held` says whether a daemon holds its lock: then bytes behind the newest seal are in flight.
pub fn verify(disk: &dyn Disk, held: bool) -> Report {
    let mut report = Report {
        verdict: Verdict::Valid,
        lines: 0,
        seals: 0,
        segments: 0,
        key: String::new(),
        note: String::new(),
        quarantined: 0,
        in_flight_bytes: 0,
    };
    let (root, ring) = match read_root(disk) {
        Ok(found) => found,
        Err(error) => {
            report.verdict = verdict_of(error);
            return report;
        }
    };
    if let Some((origin, key)) = ring.pin() {
        report.key = verifier_key(&origin.to_string(), &key);
    }
    report.quarantined = disk.list(layout::QUARANTINE).map_or(0, |entries| entries.len());
    let mut verifier = Verifier { disk, ring, held, report, notes: Vec::new() };
    let outcome = verifier.run(root.id);
    verifier.report.verdict = outcome.err().unwrap_or(Verdict::Valid);
    verifier.report
}

fn verdict_of(error: OpenError) -> Verdict {
    match error {
        OpenError::Corrupt { file, from, seq, why, .. } => Verdict::Invalid { file, offset: from, seq, why },
        OpenError::Rollback { file, from_seq, why, .. } => Verdict::Invalid { file, offset: 0, seq: from_seq, why },
        OpenError::Keys(why) => invalid(layout::STATE_ROOT, 0, 0, why),
        OpenError::Absent(why) | OpenError::TooNew(why) => Verdict::Unverifiable { why },
        OpenError::Loose { .. } | OpenError::Io { .. } => Verdict::Unverifiable { why: error.to_string() },
    }
}

impl Verifier<'_> {
    fn run(&mut self, root_id: crate::domain::ids::RootId) -> Result<(), Verdict> {
        let slots = self.slots()?;
        let files = segments::list(self.disk).map_err(verdict_of)?;
        let mut last: Option<Note> = None;
        let count = files.len();
        let mut open_end = None;
        for (index, file) in files.iter().enumerate() {
            let opened = self.disk.open(&file.path, Open::Read).map_err(|error| unreadable(&file.path, &error))?;
            let found = walk::open(opened.clone()).map_err(|error| unreadable(&file.path, &error))?;
            let (header, mut walker) = found.map_err(|error| match segments::header_fault(&file.path, &error) {
                OpenError::Corrupt { file: path, why, .. } => invalid(&path, 0, file.first_seq, why),
                other => verdict_of(other),
            })?;
            let chained = header.first_seq == file.first_seq
                && header.root_id == root_id
                && Some(header.epoch) == self.ring.epoch_at(header.first_seq)
                && header.checkpoint == last;
            if !chained {
                return Err(invalid(&file.path, 0, file.first_seq, "the header does not continue the segment before"));
            }
            let broken = self.segment(file, &mut walker, &mut last)?;
            let rest = segments::rest(opened.as_ref(), walker.offset()).map_err(|e| unreadable(&file.path, &e))?;
            let seq = walker.tree().size();
            self.report.lines = seq;
            self.report.segments = index + 1;
            match tail::judge(&rest, walker.offset(), seq) {
                Tail::Padding => {}
                _ if index + 1 == count && self.held => self.report.in_flight_bytes = rest.len() as u64,
                Tail::Crash { .. } if index + 1 == count => open_end = Some(()),
                Tail::Crash { .. } | Tail::Rot { .. } => {
                    let (at, seq, why) =
                        broken.unwrap_or((walker.offset(), seq, "padding holds other bytes than newlines"));
                    return Err(invalid(&file.path, at, seq, why));
                }
            }
        }
        self.check_slots(&slots)?;
        self.check_next()?;
        self.report.note = last.map(|note| note.render()).unwrap_or_default();
        match open_end {
            None => Ok(()),
            Some(()) => Err(Verdict::Unverifiable {
                why: "bytes stand behind the newest seal: the next start will decide".into(),
            }),
        }
    }

    /// Checks the batches of a segment; gives where and why it stopped, if not at the end of the data.
    fn segment(
        &mut self,
        file: &SegmentFile,
        walker: &mut walk::Walker,
        last: &mut Option<Note>,
    ) -> Result<Option<(u64, u64, &'static str)>, Verdict> {
        let mut in_force = None;
        loop {
            let batch = match walker.step().map_err(|error| unreadable(&file.path, &error))? {
                Step::End => return Ok(None),
                Step::Broken(broken) => return Ok(Some((broken.offset, broken.seq, broken.why))),
                Step::Batch(batch) => batch,
            };
            let mut due = (batch.offset, batch.first_seq);
            for text in batch.record_lines() {
                let (offset, seq) = due;
                let record =
                    line::check_record(text).map_err(|error| invalid(&file.path, offset, seq, error.to_string()))?;
                if matches!(record.event, crate::domain::event::Event::ContextSet(_)) {
                    in_force = Some(seq);
                }
                if text.len() > limits::RECORD_BYTES || in_force != Some(record.ctx) {
                    let why = "the record passes a limit or names another context than the one in force";
                    return Err(invalid(&file.path, offset, seq, why));
                }
                due = (offset + text.len() as u64 + 1, seq + 1);
            }
            if due.1 == batch.first_seq {
                return Err(invalid(&file.path, batch.offset, batch.first_seq, "the batch holds no record"));
            }
            if !self.ring.accepts(&batch.note) {
                return Err(invalid(&file.path, batch.offset, batch.note.size, "the seal's signature is not valid"));
            }
            self.report.seals += 1;
            self.notes.push((batch.note.size, batch.note.root));
            *last = Some(batch.note);
        }
    }

    fn slots(&self) -> Result<Vec<Note>, Verdict> {
        let bytes = read_bounded(self.disk, acked::PATH, 1 << 20).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                invalid(acked::PATH, 0, 0, "the file is missing")
            } else {
                unreadable(acked::PATH, &error)
            }
        })?;
        if bytes.len() != 2 * SLOT_BYTES {
            return Err(invalid(acked::PATH, 0, 0, "the file has another length than two slots"));
        }
        let mut notes = Vec::new();
        for (index, slot) in bytes.chunks(SLOT_BYTES).enumerate() {
            match acked::parse_slot(slot).filter(|note| self.ring.accepts(note)) {
                Some(note) => notes.push(note),
                // A running daemon may be writing this very slot.
                None if self.held => {}
                None => {
                    let why = "the slot is no canonical signed note";
                    return Err(invalid(acked::PATH, (index * SLOT_BYTES) as u64, 0, why));
                }
            }
        }
        Ok(notes)
    }

    fn check_slots(&self, slots: &[Note]) -> Result<(), Verdict> {
        for note in slots {
            let sealed = self.notes.binary_search_by_key(&note.size, |(size, _)| *size);
            let same = sealed.ok().and_then(|index| self.notes.get(index)).is_some_and(|(_, root)| *root == note.root);
            // While a daemon writes, a slot may be newer than what was read of the segments.
            if !same && note.size != 0 && !(self.held && note.size > self.report.lines) {
                return Err(invalid(acked::PATH, 0, note.size, "the note is not over a prefix of the journal"));
            }
        }
        Ok(())
    }

    fn check_next(&self) -> Result<(), Verdict> {
        if self.held {
            return Ok(());
        }
        let bytes = match read_bounded(self.disk, layout::NEXT, 1 << 30) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|error| unreadable(layout::NEXT, &error))?,
        };
        let header = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let begins = header.is_empty() || line::Header::parse(header).is_ok();
        let filled = bytes.get(header.len()..).unwrap_or_default().iter().all(|byte| *byte == b'\n');
        if begins && filled {
            Ok(())
        } else {
            Err(invalid(layout::NEXT, 0, 0, "the prepared segment holds other bytes than a header and newlines"))
        }
    }
}

fn unreadable(file: &str, error: &std::io::Error) -> Verdict {
    Verdict::Unverifiable { why: format!("{file}: {error}") }
}
