//! Takes a snapshot every so many records and has the journal name it.
//!
//! While the daemon serves, a snapshot is made without the clerk: the last one is read back and the records since are
//! folded over it from the journal, on another thread. At a drain nobody waits for the clerk, and it is asked for a
//! copy, which is quicker. Both give the same bytes.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::clerk::Clerk;
use super::desk::{Lane, WritePath as _};
use super::published::Published;
use super::snapshots::{self, Candidate, Snapshot, VERSION};
use crate::domain::command::Command;
use crate::domain::journal::SnapshotTaken;
use crate::domain::limits;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::{DEFAULT_ORG, Draft, Provenance};
use crate::domain::stream::Stream;
use crate::domain::world::World;
use crate::journal::line;
use crate::journal::merkle::{Frontier, leaf_hash};
use crate::journal::reader::Reader;
use crate::platform::disk::Disk;
use crate::platform::tasks::Tasks;
use crate::projections::Models;

/// The worker that takes snapshots.
#[derive(Clone)]
pub struct Snapshotter {
    clerk: Clerk,
    published: Published,
    disk: Arc<dyn Disk>,
    /// The newest snapshot that a record names: trusted at the start, or taken since.
    base: Arc<Mutex<Option<Candidate>>>,
}

impl Snapshotter {
    /// A worker for this state root, which was opened from the snapshot `found`, if from one.
    pub fn new(clerk: Clerk, published: Published, disk: Arc<dyn Disk>, found: Option<Candidate>) -> Self {
        Self { clerk, published, disk, base: Arc::new(Mutex::new(found)) }
    }

    /// Sequence number of the newest snapshot.
    pub fn newest(&self) -> Option<u64> {
        self.base().map(|base| base.seq)
    }

    /// The newest snapshot that a record names.
    pub(super) fn base(&self) -> Option<Candidate> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes snapshots until the drain begins.
    pub fn follow(self, tasks: &Tasks) {
        let stopping = tasks.stopping();
        tasks.spawn(async move {
            let mut changes = self.published.feed().changes();
            let work = async {
                let mut last = self.newest().unwrap_or(0);
                while changes.changed().await.is_ok() {
                    let next = *changes.borrow_and_update();
                    if next.saturating_sub(last) < limits::SNAPSHOT_RECORDS {
                        continue;
                    }
                    last = next;
                    if let Err(refusal) = self.take_beside().await {
                        // Without a snapshot the next start only takes longer.
                        tracing::warn!(code = refusal.reason.code(), detail = refusal.detail, "no snapshot was taken");
                    }
                }
            };
            tokio::select! {
                () = stopping => {}
                () = work => {}
            }
        });
    }

    /// Lines that the newest snapshot does not hold.
    pub fn behind(&self) -> u64 {
        self.published.feed().next_seq().saturating_sub(self.newest().unwrap_or(0))
    }

    /// Takes a snapshot without asking the clerk for its state, and has the journal name it. Gives its sequence number.
    pub async fn take_beside(&self) -> Result<u64, Refusal> {
        let (disk, reader) = (Arc::clone(&self.disk), self.published.reader().clone());
        let base = self.base();
        self.write(move || {
            let base = base.and_then(|base| snapshots::read(disk.as_ref(), &base).ok());
            snapshots::write(disk.as_ref(), &fold(base, &reader)?)
        })
        .await
    }

    /// Takes a snapshot of the clerk's own state, which waits for the copy, and has the journal name it. Gives its
    /// sequence number.
    pub async fn take(&self) -> Result<u64, Refusal> {
        let (sender, copied) = oneshot::channel();
        self.clerk.errand(Box::new(move |scribe| {
            let _ = sender.send(scribe.copy());
        }));
        let (world, models, tree) = copied.await.map_err(|_| Refusal::from(Reason::StorageJournalUnavailable))?;
        let snapshot = snapshot(world, models, &tree);
        let disk = Arc::clone(&self.disk);
        self.write(move || snapshots::write(disk.as_ref(), &snapshot)).await
    }

    /// Writes a snapshot on another thread and has the journal name it.
    async fn write(&self, work: impl FnOnce() -> io::Result<SnapshotTaken> + Send + 'static) -> Result<u64, Refusal> {
        let taken = match tokio::task::spawn_blocking(work).await {
            Ok(Ok(taken)) => taken,
            Ok(Err(error)) => return Err(Refusal::new(Reason::StorageFull, error.to_string())),
            Err(_) => return Err(Reason::InternalError.into()),
        };
        let (seq, base) = (taken.seq, Candidate { seq: taken.seq, sha256: taken.sha256.clone() });
        let draft = Draft::new(DEFAULT_ORG, Stream::Journal, taken.into());
        self.clerk.submit(Command::Note(draft), Provenance::system("snapshots"), Lane::Ordinary).await?;
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = Some(base.clone());
        let disk = Arc::clone(&self.disk);
        // An old snapshot that stays costs only space.
        let _ = tokio::task::spawn_blocking(move || snapshots::prune(disk.as_ref(), &base)).await;
        Ok(seq)
    }
}

fn snapshot(world: World, models: Models, tree: &Frontier) -> Snapshot {
    let frontier = tree.roots().iter().map(|root| data_encoding::BASE64.encode(root)).collect();
    Snapshot { version: VERSION, seq: tree.size().saturating_sub(1), frontier, world, models }
}

/// The state at the newest seal, folded from the journal over an earlier snapshot, or from the beginning. The lines are
/// hashed on the way and must lead to what that seal signs.
pub fn fold(base: Option<Snapshot>, reader: &Reader) -> io::Result<Snapshot> {
    let begun = base.and_then(|base| {
        let tree = base.tree()?;
        Some((base.world, base.models, tree))
    });
    let (mut world, mut models, mut tree) = begun.unwrap_or_default();
    let head = reader.head();
    let mut fault = None;
    reader.scan(tree.size(), head.next_seq, |seq, bytes| {
        if seq == head.note.size && tree.root() != head.note.root {
            fault = Some("the records do not lead to what the newest seal signs".to_owned());
        }
        tree.push(leaf_hash(bytes));
        if matches!(line::shape(bytes), Some(line::Shape::Record(_))) {
            match line::parse_record(bytes) {
                Ok(record) => {
                    world.apply(&record);
                    models.apply(&record);
                }
                Err(error) => fault = Some(error.to_string()),
            }
        }
        fault.is_none()
    })?;
    match fault {
        None if tree.size() == head.next_seq => Ok(snapshot(world, models, &tree)),
        why => Err(io::Error::other(why.unwrap_or_else(|| "the journal ends early".to_owned()))),
    }
}

#[cfg(test)]
mod tests;
