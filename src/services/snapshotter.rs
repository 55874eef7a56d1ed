//! Takes a snapshot every so many records, off the clerk's thread but for the copy, and has the journal name it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use super::clerk::Clerk;
use super::desk::{Lane, WritePath as _};
use super::published::Published;
use super::snapshots::{self, Snapshot, VERSION};
use crate::domain::command::Command;
use crate::domain::limits;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::{DEFAULT_ORG, Draft, Provenance};
use crate::domain::stream::Stream;
use crate::platform::disk::Disk;
use crate::platform::tasks::Tasks;

/// The worker that takes snapshots.
#[derive(Clone)]
pub struct Snapshotter {
    clerk: Clerk,
    published: Published,
    disk: Arc<dyn Disk>,
    /// One more than the sequence number of the newest snapshot; 0 where there is none.
    newest: Arc<AtomicU64>,
}

impl Snapshotter {
    /// A worker for this state root, which was opened from the snapshot at `found`, if from one.
    pub fn new(clerk: Clerk, published: Published, disk: Arc<dyn Disk>, found: Option<u64>) -> Self {
        let newest = Arc::new(AtomicU64::new(found.map_or(0, |seq| seq.saturating_add(1))));
        Self { clerk, published, disk, newest }
    }

    /// Sequence number of the newest snapshot.
    pub fn newest(&self) -> Option<u64> {
        self.newest.load(Ordering::Relaxed).checked_sub(1)
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
                    if let Err(refusal) = self.take().await {
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

    /// Takes a snapshot now and has the journal name it. Gives its sequence number.
    pub async fn take(&self) -> Result<u64, Refusal> {
        let (sender, copied) = oneshot::channel();
        self.clerk.errand(Box::new(move |scribe| {
            let _ = sender.send(scribe.copy());
        }));
        let (world, models, tree) = copied.await.map_err(|_| Refusal::from(Reason::StorageJournalUnavailable))?;
        let seq = tree.size().saturating_sub(1);
        let frontier = tree.roots().iter().map(|root| data_encoding::BASE64.encode(root)).collect();
        let snapshot = Snapshot { version: VERSION, seq, frontier, world, models };
        let disk = Arc::clone(&self.disk);
        let written = tokio::task::spawn_blocking(move || snapshots::write(disk.as_ref(), &snapshot)).await;
        let taken = match written {
            Ok(Ok(taken)) => taken,
            Ok(Err(error)) => return Err(Refusal::new(Reason::StorageFull, error.to_string())),
            Err(_) => return Err(Reason::InternalError.into()),
        };
        let draft = Draft::new(DEFAULT_ORG, Stream::Journal, taken.into());
        self.clerk.submit(Command::Note(draft), Provenance::system("snapshots"), Lane::Ordinary).await?;
        self.newest.store(seq.saturating_add(1), Ordering::Relaxed);
        let disk = Arc::clone(&self.disk);
        // An old snapshot that stays costs only space.
        let _ = tokio::task::spawn_blocking(move || snapshots::prune(disk.as_ref())).await;
        Ok(seq)
    }
}
