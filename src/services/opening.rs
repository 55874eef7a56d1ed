//! Opening a state root: read the journal, fold it from the newest trusted snapshot, write what recovery has to say, and
//! start the clerk.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::blobs::Blobs;
use super::clerk::{Clerk, ClerkThread, Reopen};
use super::published::{Encode, Observe, Published};
use super::scribe::Scribe;
use super::snapshots::{self, Candidate, Snapshot, Unusable};
use super::vault;
use crate::domain::context;
use crate::domain::event::Event;
use crate::domain::ids::{BootId, SubjectKeyId};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Record;
use crate::domain::world::World;
use crate::journal::error::OpenError;
use crate::journal::layout;
use crate::journal::open::Unopened;
use crate::journal::recovery::{self, Recovered};
use crate::journal::writer::Options;
use crate::journal::{cold, create, repair, segments};
use crate::platform::clock::Clock;
use crate::platform::disk::Disk;
use crate::platform::entropy::Entropy;
use crate::projections::Models;
use crate::vault::redaction::Redactor;
use crate::vault::store::Store;
use crate::vault::subject::Subjects;

/// After which time it makes sense to try again what the disk did not take, milliseconds.
const RETRY_MS: u64 = 1_000;

/// What opening needs from outside.
pub struct Opening {
    /// The state root.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// Sizes of the journal.
    pub options: Options,
    /// This start.
    pub boot_id: BootId,
    /// Version of the program and digest of its binary.
    pub build: String,
    /// Version of the price table in force.
    pub price_table: Option<String>,
    /// Makes events of lines.
    pub encode: Encode,
    /// Told of each batch.
    pub observe: Observe,
    /// Knows the secrets that no record may hold.
    pub redactor: Redactor,
    /// Keys of sessions' words.
    pub subjects: Subjects,
}

/// An open state root.
pub struct Opened {
    /// The write path.
    pub clerk: Clerk,
    /// Its thread, to be finished at the drain.
    pub thread: ClerkThread,
    /// The read side.
    pub published: Published,
    /// What the start found.
    pub found: Found,
}

/// What a start found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Whether the last record before this start says that the daemon drained.
    pub clean: bool,
    /// Time of the last record before this start, Unix milliseconds.
    pub last_at_ms: Option<u64>,
    /// The snapshot that the fold began from.
    pub snapshot_seq: Option<u64>,
    /// That snapshot.
    pub snapshot: Option<Candidate>,
    /// Records folded at this start.
    pub folded: u64,
}

/// The state that records make, and what to remember of the last one.
struct Fold {
    world: World,
    models: Models,
    /// Digest that a record must name for the snapshot to be trusted.
    awaits: Option<Candidate>,
    found: Found,
}

impl Fold {
    fn add(&mut self, record: &Record) {
        if let (Event::JournalSnapshotTaken(taken), Some(wanted)) = (&record.event, &self.awaits)
            && taken.seq == wanted.seq
            && taken.sha256 == wanted.sha256
        {
            self.awaits = None;
        }
        self.found.clean = matches!(record.event, Event::DaemonStopped(_));
        self.found.last_at_ms = Some(record.at_ms);
        self.found.folded += 1;
        self.world.apply(record);
        self.models.apply(record);
    }
}

/// Opens a state root, making it where there is none, and starts the clerk. Blocks. Where the disk is full or read-only,
/// what verifies can be read, and the clerk refuses until the journal opens; a state root without records is refused.
pub fn open(opening: Opening) -> Result<Opened, Refusal> {
    open_beside(opening, None)
}

/// The same, beside a vault: one that does not belong to what the journal knows refuses before anything is written.
pub fn open_beside(opening: Opening, vault: Option<&Store>) -> Result<Opened, Refusal> {
    let disk = opening.disk.as_ref();
    if !create::exists(disk)? {
        create::create(disk, opening.clock.as_ref(), opening.entropy.as_ref())?;
    }
    // Needed later: what is wrong with it refuses the start before the journal is written.
    create::read_key(disk, layout::FINGERPRINT_KEY)?;
    repair::refuse_begun(disk)?;
    cold::check_damage(disk)?;
    let (recovered, mut fold) = read(disk)?;
    vault::compare(&fold.models, vault)?;
    let context = context::Set {
        boot_id: opening.boot_id,
        wall_ms: 0,
        boot_ms: 0,
        build: opening.build,
        config_revision: fold.world.runtime.revision,
        policy_sha256: fold.world.runtime.policy_digest(),
        price_table: opening.price_table,
    };
    let (disk, clock) = (Arc::clone(&opening.disk), Arc::clone(&opening.clock));
    let mut unopened = Unopened::new(recovered, disk, clock, opening.options, context);
    let found = fold.found.clone();
    let first = unopened.open().map_err(Refusal::from);
    if let Ok((_, records)) = &first {
        for record in records {
            fold.add(record);
        }
    }
    let first = match first {
        Err(refusal) if !(refusal.waits_for_disk() && unopened.may_wait()) => return Err(refusal),
        first => first,
    };
    finish_erasures(&opening.subjects, &fold.models)?;
    let blobs = Blobs::new(Arc::clone(&opening.disk), opening.subjects)
        .map_err(OpenError::io("making the folder of artifacts"))?;
    match blobs.sweep() {
        Ok(0) => {}
        Ok(files) => tracing::info!(files, "what an earlier start left half written was removed"),
        Err(error) => tracing::warn!(%error, "half written artifacts could not be removed"),
    }
    let sides = (opening.encode, opening.observe);
    let around = (opening.clock, opening.redactor);
    let published = Published::new(fold.models, unopened.reader().clone(), blobs, around, sides);
    let (entropy, boot_id) = (opening.entropy, opening.boot_id);
    let started = match first {
        Ok((journal, _)) => Clerk::start(Scribe::new(journal, fold.world, published.clone(), entropy, boot_id)),
        Err(refusal) => {
            let late = Late { unopened, world: fold.world, published: published.clone(), entropy, boot_id };
            let reopen = late.reopen();
            Clerk::start_barred(published.clone(), refusal.retry_after_ms(RETRY_MS), reopen)
        }
    };
    let (clerk, thread) = started.map_err(OpenError::io("starting the clerk's thread"))?;
    Ok(Opened { clerk, thread, published, found })
}

/// Destroys keys whose end is recorded and whose files are there, be it that an earlier start did not live to do it or that
/// an older copy of them was put back.
fn finish_erasures(subjects: &Subjects, models: &Models) -> Result<(), Refusal> {
    let erased: BTreeSet<SubjectKeyId> = models.subjects.erased().collect();
    let files = subjects.finish(|key| erased.contains(&key))?;
    if files > 0 {
        tracing::warn!(files, "keys of erased sessions were still there and are destroyed now");
    }
    Ok(())
}

/// A journal that the disk does not let open yet, and what its records have made so far.
struct Late {
    unopened: Unopened,
    world: World,
    published: Published,
    entropy: Arc<dyn Entropy>,
    boot_id: BootId,
}

impl Late {
    /// Tries to open it once more, and publishes what that writes.
    fn reopen(mut self) -> Reopen {
        Box::new(move || {
            let (journal, records) = match self.unopened.open() {
                Ok(opened) => opened,
                Err(error) if self.unopened.may_wait() => return Err(Refusal::from(error).retry_after_ms(RETRY_MS)),
                // What was written meanwhile is for the next start to judge.
                Err(error) => return Err(Refusal::new(Reason::StorageJournalUnavailable, error.to_string())),
            };
            for record in &records {
                self.world.apply(record);
            }
            self.published.publish_opening(&records).map_err(OpenError::io("the first batch"))?;
            let (world, published) = (std::mem::take(&mut self.world), self.published.clone());
            Ok(Scribe::new(journal, world, published, Arc::clone(&self.entropy), self.boot_id))
        })
    }
}

/// Reads the journal over the newest snapshot that a verified record names and that has the journal's tree, or from the
/// beginning.
fn read(disk: &dyn Disk) -> Result<(Recovered, Fold), Refusal> {
    for candidate in snapshots::candidates(disk).map_err(OpenError::io("listing the snapshots"))? {
        match read_over(disk, &candidate)? {
            Ok(found) => return Ok(found),
            Err(why) => tracing::warn!(seq = candidate.seq, %why, "a snapshot is not used"),
        }
    }
    let mut fold = Fold { world: World::default(), models: Models::default(), awaits: None, found: Found::default() };
    let recovered = recovery::read(disk, None, &mut |record| fold.add(&record))?;
    Ok((recovered, fold))
}

/// Reads the journal over a snapshot, if that can be used.
fn read_over(disk: &dyn Disk, candidate: &Candidate) -> Result<Result<(Recovered, Fold), Unusable>, Refusal> {
    // Whether that record holds is seen further on, and so is what a journal that cannot be read means.
    if let Ok(false) = segments::mention(disk, candidate.seq, candidate.sha256.as_bytes()) {
        return Ok(Err(Unusable::Unnamed));
    }
    let (tree, snapshot) = match snapshots::read(disk, candidate).map(|snapshot: Snapshot| (snapshot.tree(), snapshot))
    {
        Ok((Some(tree), snapshot)) => (tree, snapshot),
        Ok((None, _)) => return Ok(Err(Unusable::OtherTree)),
        Err(why) => return Ok(Err(why)),
    };
    let Snapshot { seq, world, models, .. } = snapshot;
    let found = Found { snapshot_seq: Some(seq), last_at_ms: Some(world.last_at_ms), ..Found::default() };
    let mut fold = Fold { world, models, awaits: Some(candidate.clone()), found };
    let recovered = recovery::read(disk, Some(&tree), &mut |record| fold.add(&record))?;
    Ok(if fold.awaits.is_some() {
        Err(Unusable::Unnamed)
    } else if recovered.fits {
        fold.found.snapshot = Some(candidate.clone());
        Ok((recovered, fold))
    } else {
        Err(Unusable::OtherTree)
    })
}

#[cfg(test)]
mod snapshot_tests;
#[cfg(test)]
mod tests;
