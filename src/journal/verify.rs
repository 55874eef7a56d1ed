//! Verification of a whole journal by whoever has it, running or not: every byte, every seal, every signature. Never
//! writes, and never says "ok" of what it did not look at.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::acked::{self, SLOT_BYTES};
use super::error::OpenError;
use super::keys::KeyRing;
use super::layout;
use super::line;
use super::note::{Note, verifier_key};
use super::recovery::read_root;
use super::repair;
use super::segments::{self, SegmentFile};
use super::tail::{self, Tail};
use super::walk::{self, Step};
use crate::domain::event::Event;
use crate::domain::limits;
use crate::domain::record::Record;
use crate::platform::disk::{Disk, DiskFile, Open, join, read_bounded};

pub use super::report::{Doubt, Report, Verdict};

struct Verifier<'a> {
    disk: &'a dyn Disk,
    ring: KeyRing,
    held: bool,
    report: Report,
    /// What the valid slots of `acked` hold, read before anything else.
    slots: Vec<Note>,
    /// The seals at the sizes that the slots name.
    met: Vec<Note>,
    /// Digests that records give of quarantined files.
    quarantined: BTreeMap<String, String>,
    /// The context in force in the segment that is walked.
    in_force: Option<u64>,
    visit: &'a mut Visit<'a>,
}

/// Where the walk of a segment ended.
struct Walked {
    /// Where and why it stopped, if not at the end of the data.
    broken: Option<(u64, u64, &'static str)>,
    /// What stands behind.
    tail: Tail,
    /// Of a running daemon: how many bytes of it are on their way.
    in_flight: Option<u64>,
}

/// Is shown a record and its line.
pub type Visit<'a> = dyn FnMut(&Record, &[u8]) + 'a;

/// How often a running journal that looks broken is read again: a batch may have been half written at that moment.
const ATTEMPTS: usize = 3;
/// How often the walk of a running journal is taken up again where its daemon has written on meanwhile.
const ROUNDS: usize = 8;

fn invalid(file: &str, offset: u64, seq: u64, why: impl Into<String>) -> Verdict {
    Verdict::Invalid { file: file.to_owned(), offset, seq, why: why.into() }
}

/// Verifies a state root. `held` says whether a daemon holds its lock: then one unfinished batch behind the newest seal
/// is in flight. Everything that `acked` names was on disk before it was named, so it must verify, held or not.
pub fn verify(disk: &dyn Disk, held: bool) -> Report {
    verify_visiting(disk, held, &mut |_, _| {})
}

/// The same, and shows each record that holds, in order; all of them again where it had to look again.
pub fn verify_visiting(disk: &dyn Disk, held: bool, visit: &mut Visit<'_>) -> Report {
    let mut report = look(disk, held, visit);
    for _ in 1..ATTEMPTS {
        if !held || report.verdict == Verdict::Valid {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(limits::ACKED_DELAY_MS));
        report = look(disk, held, visit);
    }
    report
}

/// Looks once, as [`verify`] does: a batch that is being written at this very moment may look broken.
pub fn look(disk: &dyn Disk, held: bool, visit: &mut Visit<'_>) -> Report {
    let mut report = Report {
        verdict: Verdict::Valid,
        lines: 0,
        seals: 0,
        segments: 0,
        key: String::new(),
        keys: Vec::new(),
        note: String::new(),
        quarantined: 0,
        in_flight_bytes: 0,
        doubt: None,
    };
    let (root, ring) = match read_root(disk) {
        Ok(found) => found,
        Err(error) => {
            report.doubt = matches!(error, OpenError::TooNew(_)).then_some(Doubt::TooNew);
            report.verdict = verdict_of(error);
            return report;
        }
    };
    if let Some((origin, key)) = ring.pin() {
        report.key = verifier_key(&origin.to_string(), &key);
    }
    report.keys = ring.walked();
    let (slots, met, quarantined) = (Vec::new(), Vec::new(), BTreeMap::new());
    let mut verifier = Verifier { disk, ring, held, report, slots, met, quarantined, in_force: None, visit };
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
        self.slots = self.read_slots()?;
        let files = segments::list(self.disk).map_err(verdict_of)?;
        let mut last: Option<Note> = None;
        let count = files.len();
        let mut open_end = None;
        let mut in_flight = None;
        for (index, file) in files.iter().enumerate() {
            let opened = self.disk.open(&file.path, Open::Read).map_err(|error| unreadable(&file.path, &error))?;
            let found = walk::open(opened.clone()).map_err(|error| unreadable(&file.path, &error))?;
            let (header, mut walker) = found.map_err(|error| verdict_of(segments::header_fault(file, &error)))?;
            let chained = header.first_seq == file.first_seq
                && header.root_id == root_id
                && Some(header.epoch) == self.ring.epoch_at(header.first_seq)
                && header.checkpoint == last;
            if !chained {
                return Err(invalid(&file.path, 0, file.first_seq, "the header does not continue the segment before"));
            }
            self.in_force = None;
            let live = self.held && index + 1 == count;
            let Walked { broken, tail, in_flight: flying } =
                self.walk(file, opened.as_ref(), &mut walker, &mut last, live)?;
            let seq = walker.tree().size();
            self.report.lines = seq;
            self.report.segments = index + 1;
            let (at, wrong, why) = broken.unwrap_or((walker.offset(), seq, "padding holds other bytes than newlines"));
            let fault = invalid(&file.path, at, wrong, why);
            match (tail, flying) {
                (Tail::Padding, _) => {}
                (Tail::Crash { .. } | Tail::Rot { .. }, Some(bytes)) => {
                    self.report.in_flight_bytes = bytes;
                    in_flight = Some(fault);
                }
                (Tail::Crash { .. }, None) if index + 1 == count => open_end = Some(fault),
                (Tail::Crash { .. } | Tail::Rot { .. }, None) => return Err(fault),
            }
        }
        // What stops short of `acked` is no torn end but damage, and that is where it is.
        self.check_slots().map_err(|fault| in_flight.or_else(|| open_end.clone()).unwrap_or(fault))?;
        self.check_quarantine()?;
        self.check_next()?;
        self.report.note = last.map(|note| note.render()).unwrap_or_default();
        if open_end.is_none() {
            return Ok(());
        }
        self.report.doubt = Some(Doubt::TornEnd);
        let why = "bytes stand after the newest seal: the next start will decide".into();
        Err(Verdict::Unverifiable { why })
    }

    /// Walks a segment to the end of its data, and reads what stands behind. A daemon that runs has written on between
    /// the two; then the walk is taken up again, for as long as it comes further and the daemon lets it catch up.
    fn walk(
        &mut self,
        file: &SegmentFile,
        opened: &dyn DiskFile,
        walker: &mut walk::Walker,
        last: &mut Option<Note>,
        live: bool,
    ) -> Result<Walked, Verdict> {
        let mut rounds = 0;
        loop {
            let before = walker.offset();
            let broken = self.segment(file, walker, last)?;
            let rest = segments::rest(opened, walker.offset()).map_err(|error| unreadable(&file.path, &error))?;
            let tail = tail::judge(&rest, walker.offset(), walker.tree().size());
            let rot = matches!(tail, Tail::Rot { .. });
            let further = rounds == 0 || walker.offset() > before;
            rounds += 1;
            if !live || !rot || !further || rounds == ROUNDS {
                let bytes = rest.iter().rposition(|byte| *byte != b'\n').map_or(0, |last| last as u64 + 1);
                return Ok(Walked { broken, tail, in_flight: (live && (!rot || further)).then_some(bytes) });
            }
            walker.read_anew();
        }
    }

    /// Checks the batches of a segment; gives where and why it stopped, if not at the end of the data.
    fn segment(
        &mut self,
        file: &SegmentFile,
        walker: &mut walk::Walker,
        last: &mut Option<Note>,
    ) -> Result<Option<(u64, u64, &'static str)>, Verdict> {
        loop {
            let batch = match walker.step().map_err(|error| unreadable(&file.path, &error))? {
                Step::End => return Ok(None),
                Step::Broken(broken) => return Ok(Some((broken.offset, broken.seq, broken.why))),
                Step::Batch(batch) => batch,
            };
            let mut records = Vec::new();
            let mut due = (batch.offset, batch.first_seq);
            for text in batch.record_lines() {
                let (offset, seq) = due;
                let record =
                    line::check_record(text).map_err(|error| invalid(&file.path, offset, seq, error.to_string()))?;
                if let Event::ContextSet(_) = record.event {
                    self.in_force = Some(seq);
                }
                if text.len() > limits::RECORD_BYTES || self.in_force != Some(record.ctx) {
                    let why = "the record passes a limit or does not name the context in force in its segment";
                    return Err(invalid(&file.path, offset, seq, why));
                }
                if let Event::JournalTailQuarantined(body) = &record.event {
                    self.quarantined.insert(body.file.clone(), body.sha256.clone());
                } else if let Event::JournalRepaired(body) = &record.event {
                    let files = body.files.iter().map(|file| (file.file.clone(), file.sha256.clone()));
                    self.quarantined.extend(files);
                }
                due = (offset + text.len() as u64 + 1, seq + 1);
                records.push(record);
            }
            if records.is_empty() {
                return Err(invalid(&file.path, batch.offset, batch.first_seq, "the batch holds no record"));
            }
            if !self.ring.accepts(&batch.note) {
                return Err(invalid(&file.path, batch.offset, batch.note.size, "the seal's signature is not valid"));
            }
            batch.record_lines().zip(&records).for_each(|(text, record)| (self.visit)(record, text));
            self.report.seals += 1;
            if let Some(key) = self.report.keys.iter_mut().rfind(|key| key.from_seq <= batch.note.size) {
                key.seals += 1;
            }
            if self.slots.iter().any(|slot| slot.size == batch.note.size) {
                self.met.push(batch.note.clone());
            }
            *last = Some(batch.note);
        }
    }

    fn read_slots(&self) -> Result<Vec<Note>, Verdict> {
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
        if notes.is_empty() {
            return Err(invalid(acked::PATH, 0, 0, "no slot is a canonical signed note"));
        }
        Ok(notes)
    }

    fn check_slots(&self) -> Result<(), Verdict> {
        for slot in &self.slots {
            if slot.size != 0 && !self.met.iter().any(|note| note.size == slot.size && note.root == slot.root) {
                return Err(invalid(acked::PATH, 0, slot.size, "the note is not over a prefix of the journal"));
            }
        }
        Ok(())
    }

    /// Compares quarantined files with the digests that records give of them. One that an operator removed is no fault;
    /// of one that nothing names nobody can say what it is.
    fn check_quarantine(&mut self) -> Result<(), Verdict> {
        let entries = match self.disk.list(layout::QUARANTINE) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            other => other.map_err(|error| unreadable(layout::QUARANTINE, &error))?,
        };
        // A repair that was broken off has not written its record yet.
        let plan = repair::begun(self.disk).map_err(verdict_of)?;
        let planned = |name: &str| plan.iter().flat_map(|plan| &plan.repaired().files).any(|file| file.file == name);
        let mut unnamed = None;
        for entry in entries {
            let path = join(layout::QUARANTINE, &entry.name);
            let Some(sha256) = self.quarantined.get(&entry.name) else {
                if !entry.name.ends_with(layout::PENDING) && !planned(&entry.name) {
                    unnamed = unnamed.or(Some(path));
                }
                continue;
            };
            let bytes = read_bounded(self.disk, &path, 1 << 30).map_err(|error| unreadable(&path, &error))?;
            if HEXLOWER.encode(&Sha256::digest(&bytes)) != *sha256 {
                return Err(invalid(&path, 0, 0, "the file is not the one that its record names"));
            }
            self.report.quarantined += 1;
        }
        let Some(path) = unnamed else { return Ok(()) };
        self.report.doubt = Some(Doubt::UnnamedFile);
        Err(Verdict::Unverifiable { why: format!("{path}: no record names this file") })
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
