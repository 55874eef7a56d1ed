//! Repair of a journal that refuses to open: everything up to the last batch that verifies is kept, the rest is moved
//! into the quarantine, and a new epoch begins behind it. Nothing is deleted.
//!
//! What will be done is written into `repair.json` first. Each step then looks at what is there, so that a repair that
//! was broken off anywhere is done again and ends the same. No start takes a state root in which that file lies.

use std::io;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::acked::{self, Acked};
use super::create::read_key;
use super::error::OpenError;
use super::keys::{KeyEntry, encode_key, format_of, pretty};
use super::layout;
use super::line::Header;
use super::merkle::Frontier;
use super::note::Note;
use super::open::recover_tail;
use super::recovery::{self, Recovered, read_root};
use super::segments;
use super::survey::{self, Survey};
use super::verify::{Verdict, look};
use crate::domain::ids::EpochId;
use crate::domain::journal as events;
use crate::platform::disk::{Disk, Open, join, read_bounded, replace_atomically};

/// What a repair does, while it is not done.
const PLAN: &str = layout::REPAIR;
const PLAN_FORMAT: u32 = 1;
/// Largest file that is moved or read whole, bytes.
pub(super) const FILE_BYTES: u64 = 1 << 30;

/// `repair.json`: what a repair will do, or is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this file.
    format: u32,
    /// The epoch that begins.
    epoch: EpochId,
    /// The last good seal's note.
    checkpoint: String,
    /// Perfect subtrees of the tree that it signs, base64.
    frontier: Vec<String>,
    /// The segment that is kept last, and where its data ends.
    cut: (String, u64),
    /// Entries of `state-root.json` that are kept.
    keys: usize,
    /// What the first record will say.
    repaired: events::Repaired,
}

impl Plan {
    /// Reads the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, OpenError> {
        if format_of(bytes).is_some_and(|format| format > PLAN_FORMAT) {
            return Err(OpenError::TooNew(format!("{PLAN} is of a newer format")));
        }
        serde_json::from_slice(bytes).map_err(|error| OpenError::file(PLAN, error.to_string()))
    }

    /// The file's content.
    pub fn render(&self) -> Vec<u8> {
        pretty(self)
    }

    /// How many sequence numbers are lost.
    pub fn lost(&self) -> u64 {
        (self.repaired.lost_to_seq + 1).saturating_sub(self.repaired.lost_from_seq)
    }

    /// What the first record of the new epoch says.
    pub fn repaired(&self) -> &events::Repaired {
        &self.repaired
    }

    fn note(&self) -> Result<Note, OpenError> {
        Note::parse(&self.checkpoint).ok_or_else(|| OpenError::file(PLAN, "the note is not canonical"))
    }
}

/// Reads the plan of a repair that was broken off.
pub fn begun(disk: &dyn Disk) -> Result<Option<Plan>, OpenError> {
    match read_bounded(disk, PLAN, 16 << 20) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::io(PLAN)(error)),
        Ok(bytes) => Plan::parse(&bytes).map(Some),
    }
}

/// Refuses a start where a repair is not done.
pub fn refuse_begun(disk: &dyn Disk) -> Result<(), OpenError> {
    match begun(disk)? {
        None => Ok(()),
        Some(_) => Err(OpenError::file(PLAN, "a repair was broken off: run `chancery journal repair` again")),
    }
}

/// Says what a repair would do, without doing it. Fails where nothing can be kept.
pub fn plan(disk: &dyn Disk, epoch: EpochId) -> Result<Plan, OpenError> {
    // The new epoch is signed by the key that is here, whatever else was lost.
    read_key(disk, layout::SIGNING_KEY)?;
    let (root, _) = read_root(disk)?;
    let Survey { good, cut, moved, lost_to } = survey::survey(disk)?;
    let lost_from_seq = good.size() + 1;
    let keys = root.keys.iter().filter(|entry| entry.from_seq <= good.size()).count();
    Ok(Plan {
        format: PLAN_FORMAT,
        epoch,
        checkpoint: good.note.render(),
        frontier: good.sealed.roots().iter().map(|root| BASE64.encode(root)).collect(),
        cut,
        keys,
        repaired: events::Repaired { epoch, lost_from_seq, lost_to_seq: lost_to.max(lost_from_seq - 1), files: moved },
    })
}

/// Does what a plan says, up to the empty new segment; the next opening records it and ends the repair.
pub fn execute(disk: &dyn Disk, plan: &Plan) -> Result<(), OpenError> {
    replace_atomically(disk, "", PLAN, &plan.render()).map_err(OpenError::io(PLAN))?;
    disk.create_dir(layout::QUARANTINE).map_err(OpenError::io(layout::QUARANTINE))?;
    for file in &plan.repaired.files {
        quarantine(disk, file).map_err(OpenError::io(file.file.clone()))?;
    }
    let sync = [layout::QUARANTINE, layout::FOLDER].iter().try_for_each(|folder| disk.sync_dir(folder));
    sync.map_err(OpenError::io("syncing the quarantine"))?;
    let (path, end) = &plan.cut;
    let cut = disk.open(path, Open::Write).and_then(|file| recover_tail(file.as_ref(), *end));
    cut.map_err(OpenError::io(path.clone()))?;
    let note = plan.note()?;
    begin_segment(disk, plan, &note)?;
    name_epoch(disk, plan)?;
    let acked = Acked::create(disk, &note).and_then(|_| disk.sync_dir(layout::FOLDER));
    acked.map_err(OpenError::io(acked::PATH))?;
    match disk.remove(layout::DAMAGE).and_then(|()| disk.sync_dir("")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(OpenError::io(layout::DAMAGE)(error)),
        _ => Ok(()),
    }
}

/// Moves a whole file, or copies the end of one, into the quarantine. What is there already is left.
fn quarantine(disk: &dyn Disk, file: &events::QuarantinedFile) -> io::Result<()> {
    let (from, to) = (join(layout::FOLDER, &file.segment), join(layout::QUARANTINE, &file.file));
    let there = match read_bounded(disk, &to, FILE_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        other => Some(other?),
    };
    if there.is_some_and(|bytes| sha256(&bytes) == file.sha256) {
        return Ok(());
    }
    if file.offset == 0 {
        return disk.rename(&from, &to);
    }
    let mut bytes = segments::rest(disk.open(&from, Open::Read)?.as_ref(), file.offset)?;
    bytes.truncate(usize::try_from(file.bytes).unwrap_or(usize::MAX));
    if sha256(&bytes) != file.sha256 {
        return Err(io::Error::other(format!("{from} has changed since the repair began")));
    }
    let copy = disk.open(&to, Open::Replace)?;
    copy.write_at(0, &bytes)?;
    copy.sync()
}

/// Digest of some bytes, hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// Makes the first segment of the new epoch: a header that carries the last good note.
fn begin_segment(disk: &dyn Disk, plan: &Plan, note: &Note) -> Result<(), OpenError> {
    let roots = plan.frontier.iter().map(|text| BASE64.decode(text.as_bytes()).ok()?.try_into().ok());
    let frontier = roots.collect::<Option<Vec<_>>>().and_then(|roots| Frontier::new(note.size, roots));
    let frontier = frontier.filter(|frontier| frontier.root() == note.root);
    let frontier = frontier.ok_or_else(|| OpenError::file(PLAN, "the frontier does not hash to the note's root"))?;
    let first_seq = note.size + 1;
    let header =
        Header { root_id: note.origin.root_id, epoch: plan.epoch, first_seq, checkpoint: Some(note.clone()), frontier };
    let (path, line) = (layout::segment_path(first_seq), [header.render(), b"\n".to_vec()].concat());
    // Whatever bore this name has been moved; what bears it now, an earlier attempt has made.
    let made = match disk.open(&path, Open::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(OpenError::io(path)(error)),
        Ok(_) => true,
    };
    if made {
        return disk.sync_dir(layout::FOLDER).map_err(OpenError::io(layout::FOLDER));
    }
    let make = || -> io::Result<()> {
        let file = disk.open(layout::NEXT, Open::Replace)?;
        file.write_at(0, &line)?;
        file.sync()?;
        disk.rename(layout::NEXT, &path)?;
        disk.sync_dir(layout::FOLDER)
    };
    make().map_err(OpenError::io(path.clone()))
}

/// Names the new epoch in `state-root.json`, introduced by the last good note of the one before.
fn name_epoch(disk: &dyn Disk, plan: &Plan) -> Result<(), OpenError> {
    let (mut root, _) = read_root(disk)?;
    if root.keys.last().is_some_and(|entry| entry.epoch == plan.epoch) {
        return Ok(());
    }
    let key = SigningKey::from_bytes(&read_key(disk, layout::SIGNING_KEY)?);
    root.keys.truncate(plan.keys);
    root.keys.push(KeyEntry {
        epoch: plan.epoch,
        from_seq: plan.repaired.lost_from_seq,
        public_key: encode_key(&key.verifying_key()),
        note: Some(plan.checkpoint.clone()),
    });
    root.ring().map_err(|error| OpenError::Keys(error.to_string()))?;
    replace_atomically(disk, "", layout::STATE_ROOT, &root.render()).map_err(OpenError::io(layout::STATE_ROOT))
}

/// What the first batch of an opening must say of a repair; nothing where it has been said.
pub(super) fn unrecorded(disk: &dyn Disk, recovered: &Recovered) -> Result<Option<events::Repaired>, OpenError> {
    let plan = begun(disk)?;
    Ok(plan.filter(|plan| recovered.next_seq() == plan.repaired.lost_from_seq).map(|plan| plan.repaired))
}

/// Ends a repair: it is recorded, and a start may take the state root.
pub(super) fn end(disk: &dyn Disk) -> Result<(), OpenError> {
    match disk.remove(PLAN).and_then(|()| disk.sync_dir("")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(OpenError::io(PLAN)(error)),
        _ => Ok(()),
    }
}

/// Whether a state root needs a repair: it does not open, or not all of it verifies. Fails where no repair can help,
/// above all where a newer program has written what this one can't read.
pub fn is_needed(disk: &dyn Disk) -> Result<bool, OpenError> {
    match recovery::read(disk, None, &mut |_| {}) {
        Ok(_) => Ok(matches!(look(disk, false, &mut |_, _| {}).verdict, Verdict::Invalid { .. })),
        Err(OpenError::Corrupt { .. } | OpenError::Rollback { .. }) => Ok(true),
        Err(
            error @ (OpenError::Absent(_)
            | OpenError::TooNew(_)
            | OpenError::Keys(_)
            | OpenError::Loose { .. }
            | OpenError::Io { .. }),
        ) => Err(error),
    }
}
