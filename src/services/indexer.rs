//! Keeps the index: opens it behind a start that does not wait for it, builds it anew where it is missing or not to be
//! trusted, and adds each segment when it is closed. An index that fails is dropped and reading goes on without it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::clerk::Clerk;
use super::desk::{Lane, WritePath as _};
use super::published::{IndexState, Published};
use crate::domain::command::Command;
use crate::domain::ids::RootId;
use crate::domain::journal::IndexRebuilt;
use crate::domain::record::{DEFAULT_ORG, Draft, Provenance};
use crate::domain::stream::Stream;
use crate::journal::layout;
use crate::platform::disk::{Disk, Open};
use crate::platform::files::Folder;
use crate::platform::scratch;
use crate::platform::tasks::Tasks;
use crate::projections::index::{self, Index, Unfit};

/// How often it is looked for closed segments and for the index's own files, milliseconds.
const TICK_MS: u64 = 1_000;
/// How long a start is left alone before the index is opened, milliseconds.
const START_MS: u64 = 2_000;
/// Failures after which this start of the daemon goes on without an index.
const FAILURES: u32 = 3;

/// Where an index lies, and over which journal.
pub(super) struct Place {
    folder: Arc<Folder>,
    root_id: RootId,
    path: PathBuf,
}

impl Place {
    pub(super) fn new(folder: Arc<Folder>, root_id: RootId) -> Self {
        let path = folder.anchored(index::FOLDER);
        Self { folder, root_id, path }
    }

    /// Whether there are files of an index.
    pub(super) fn exists(&self) -> bool {
        self.folder.open(index::FILE, Open::Read).is_ok()
    }

    pub(super) fn open(&self) -> Result<Index, Unfit> {
        let made = self.folder.create_dir(index::FOLDER);
        made.map_err(|error| Unfit::Unreadable(error.to_string()))?;
        Index::open(&self.path, self.root_id, self.folder.as_ref())
    }

    pub(super) fn remove(&self) -> std::io::Result<()> {
        scratch::remove(&self.path)
    }

    /// Adds the next of these closed segments; says whether there was one.
    pub(super) fn add(&self, index: &Index, closed: &[u64]) -> Result<bool, String> {
        let covered = index.covered();
        if !closed.contains(&covered) {
            return Ok(false);
        }
        let path = layout::segment_path(covered);
        let file = self.folder.open(&path, Open::Read).map_err(|error| format!("{path}: {error}"))?;
        index.add(file).map(|()| true).map_err(|error| format!("{path}: {error}"))
    }
}

/// What is done without waiting for anybody.
struct Keeper {
    place: Place,
    published: Published,
    failures: u32,
    /// Why the index is being built anew, from when that is known until it is written beside the index.
    cause: Option<&'static str>,
}

/// What a step of the keeper came to.
#[derive(Debug, PartialEq, Eq)]
enum Stepped {
    /// A segment was added; there may be more.
    Added,
    /// Everything is covered; this is to be recorded.
    Rebuilt(IndexRebuilt),
    /// Everything is covered.
    Idle,
}

impl Keeper {
    fn closed(&self) -> Vec<u64> {
        let mut segments = self.published.reader().segments();
        segments.pop();
        segments
    }

    fn step(&mut self) -> Stepped {
        let index = match self.published.index() {
            IndexState::Used(index, _) => index,
            IndexState::Unusable(_) if self.failures >= FAILURES => return Stepped::Idle,
            IndexState::None | IndexState::Unusable(_) => match self.open() {
                Ok(index) => index,
                Err(why) => return self.fail(&why, None),
            },
        };
        if let Some(why) = index.trouble() {
            return self.fail(&why, Some("unreadable"));
        }
        if !self.place.exists() {
            return self.fail("its files are gone", Some("missing"));
        }
        match self.place.add(&index, &self.closed()) {
            Err(why) => self.fail(&why, Some("unreadable")),
            Ok(true) => {
                self.published.reader().forget(index.covered());
                self.published.set_index(IndexState::Used(index, false));
                Stepped::Added
            }
            Ok(false) => {
                let mark = index.mark();
                if matches!(self.published.index(), IndexState::Used(_, false)) {
                    self.published.set_index(IndexState::Used(index, true));
                }
                match mark.rebuilt {
                    Some(cause) => Stepped::Rebuilt(IndexRebuilt { cause, records: mark.records }),
                    None => Stepped::Idle,
                }
            }
        }
    }

    /// Opens the index, or makes a new one where it is missing or does not fit. Reads the journal meanwhile.
    fn open(&mut self) -> Result<Arc<Index>, String> {
        if self.cause.is_none() && !self.place.exists() && !self.closed().is_empty() {
            self.cause = Some("missing");
        }
        let opened = match self.place.open() {
            Err(unfit) => {
                tracing::warn!(?unfit, "the index does not fit and is built anew");
                self.cause = Some(unfit.cause());
                self.place.remove().map_err(|error| error.to_string())?;
                self.place.open().map_err(|unfit| format!("{unfit:?}"))?
            }
            Ok(index) => index,
        };
        if let Some(cause) = self.cause {
            opened.set_cause(Some(cause.to_owned())).map_err(|error| error.to_string())?;
            self.cause = None;
        }
        let index = Arc::new(opened);
        self.published.reader().forget(index.covered());
        self.published.set_index(IndexState::Used(Arc::clone(&index), false));
        Ok(index)
    }

    /// Goes on without an index until the next look; what is left of it is removed then.
    fn fail(&mut self, why: &str, cause: Option<&'static str>) -> Stepped {
        self.failures += 1;
        tracing::warn!(why, failures = self.failures, "the index is dropped; the journal is read instead");
        self.published.set_index(IndexState::Unusable(why.to_owned()));
        if let Err(error) = self.place.remove() {
            tracing::warn!(%error, "the index cannot be removed");
        }
        self.cause = cause.or(self.cause).or(Some("unreadable"));
        Stepped::Idle
    }
}

/// Keeps the index until the drain begins.
pub fn follow(tasks: &Tasks, clerk: Clerk, published: Published, folder: Arc<Folder>) {
    let root_id = published.head().note.origin.root_id;
    let keeper = Keeper { place: Place::new(folder, root_id), published, failures: 0, cause: None };
    let stopping = tasks.stopping();
    let work = keep(keeper, clerk);
    tasks.spawn(async move {
        tokio::select! {
            () = stopping => {}
            () = work => {}
        }
    });
}

async fn keep(mut keeper: Keeper, clerk: Clerk) {
    tokio::time::sleep(Duration::from_millis(START_MS)).await;
    loop {
        let step = tokio::task::spawn_blocking(move || {
            let began = keeper.published.clock().boot_ms();
            let stepped = keeper.step();
            let took = keeper.published.clock().boot_ms().saturating_sub(began);
            (keeper, stepped, took)
        });
        // A keeper that broke off leaves an index that is used as it is; the next start opens it anew.
        let Ok((kept, stepped, took)) = step.await else { return };
        keeper = kept;
        let pause = match stepped {
            // Others need the machine as well.
            Stepped::Added => Duration::from_millis(took),
            Stepped::Rebuilt(event) => {
                if record(&clerk, event).await {
                    recorded(keeper.published.index()).await;
                }
                Duration::from_millis(TICK_MS)
            }
            Stepped::Idle => Duration::from_millis(TICK_MS),
        };
        tokio::time::sleep(pause).await;
    }
}

/// Records that the index was built anew. What cannot be recorded now is recorded after the next look.
async fn record(clerk: &Clerk, event: IndexRebuilt) -> bool {
    let draft = Draft::new(DEFAULT_ORG, Stream::Journal, event.into());
    match clerk.submit(Command::Note(draft), Provenance::system("index"), Lane::Ordinary).await {
        Ok(_) => true,
        Err(refusal) => {
            tracing::debug!(code = refusal.reason.code(), "the rebuild of the index is not recorded yet");
            false
        }
    }
}

/// Notes beside the index that its rebuild is recorded.
async fn recorded(index: IndexState) {
    let IndexState::Used(index, _) = index else { return };
    // Where this fails, the next step meets the same failure and drops the index.
    let _ = tokio::task::spawn_blocking(move || index.set_cause(None)).await;
}

#[cfg(test)]
mod tests;
