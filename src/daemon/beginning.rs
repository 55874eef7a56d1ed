//! What a start records, and what begins behind it. A disk that takes no writes delays all of that and nothing else: what
//! was verified is shown, and each second it is tried again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::workers::Workers;
use crate::domain::command::Command;
use crate::domain::context::DaemonStarted;
use crate::domain::event::Event;
use crate::domain::ids::BootId;
use crate::domain::reason::Refusal;
use crate::domain::record::{DEFAULT_ORG, Draft, Provenance};
use crate::domain::stream::Stream;
use crate::journal::error::OpenError;
use crate::platform::clock::Clock;
use crate::platform::disk::{read_bounded, replace_atomically};
use crate::platform::files::Folder;
use crate::platform::tasks::{Milestone, Tasks};
use crate::services::clerk::Clerk;
use crate::services::clock_watch::{self, Reading};
use crate::services::daemon_file::DaemonFile;
use crate::services::desk::{Lane, WritePath as _};
use crate::services::opening::Found;

/// File that says where the daemon listens.
pub(super) const DAEMON_FILE: &str = "daemon.json";
/// Most bytes of that file.
const DAEMON_FILE_BYTES: u64 = 64 << 10;
/// How often it is tried again what the disk did not take.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// What is left to do before the daemon takes work.
pub(super) struct Beginning {
    clerk: Clerk,
    clock: Arc<dyn Clock>,
    found: Found,
    boot_id: BootId,
    folder: Arc<Folder>,
    file: DaemonFile,
    /// What the disk has not taken yet.
    clock_due: bool,
    start_due: bool,
    /// What is in force and not recorded: tokens, routes.
    facts_due: VecDeque<(Stream, Event)>,
    file_due: bool,
}

/// Records something that the daemon itself did.
pub(super) async fn note(clerk: &Clerk, stream: Stream, event: Event) -> Result<(), Refusal> {
    let draft = Draft::new(DEFAULT_ORG, stream, event);
    clerk.submit(Command::Note(draft), Provenance::system("daemon"), Lane::Reserved).await.map(drop)
}

impl Beginning {
    /// Nothing is recorded yet.
    pub(super) fn new(
        clerk: Clerk,
        clock: Arc<dyn Clock>,
        found: Found,
        folder: Arc<Folder>,
        file: DaemonFile,
        facts: Vec<(Stream, Event)>,
    ) -> Self {
        let (boot_id, facts_due) = (file.boot_id, facts.into());
        Self { clerk, clock, found, boot_id, folder, file, clock_due: true, start_due: true, facts_due, file_due: true }
    }

    /// Records the start, and settles what an earlier one left half done. Whether all of that is done: a disk that takes
    /// no writes is no reason to end.
    pub(super) async fn announced(&mut self) -> Result<bool, Refusal> {
        match self.announce().await {
            Ok(()) => Ok(true),
            Err(refusal) if refusal.waits_for_disk() => {
                let (code, detail) = (refusal.reason.code(), refusal.detail);
                tracing::warn!(code, detail, "nothing can be written yet; what is there is served");
                Ok(false)
            }
            Err(refusal) => Err(refusal),
        }
    }

    async fn announce(&mut self) -> Result<(), Refusal> {
        let now = Reading::of(self.clock.as_ref());
        // Before anything is decided by the time.
        if let Some(untrusted) = clock_watch::at_start(self.found.last_at_ms, now).filter(|_| self.clock_due) {
            tracing::warn!(
                drift_ms = untrusted.drift_ms,
                "the clock is not trusted until `chancery runtime trust-clock`"
            );
            note(&self.clerk, Stream::Daemon, untrusted.into()).await?;
        }
        self.clock_due = false;
        if self.start_due {
            let started = DaemonStarted {
                boot_id: self.boot_id,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                clean: self.found.clean || self.found.last_at_ms.is_none(),
                down_ms: self.found.last_at_ms.map(|at| now.wall_ms.saturating_sub(at)),
            };
            note(&self.clerk, Stream::Daemon, started.into()).await?;
        }
        self.start_due = false;
        while let Some((stream, fact)) = self.facts_due.front() {
            note(&self.clerk, *stream, fact.clone()).await?;
            self.facts_due.pop_front();
        }
        loop {
            let by = Provenance::system("recovery");
            let settled = self.clerk.submit(Command::SettleBoot, by, Lane::Reserved).await?;
            if settled.seq.is_none() {
                return Ok(());
            }
        }
    }

    /// Says where the daemon listens. A disk that takes no writes is told of it later, unless clients would be led elsewhere
    /// meanwhile.
    pub(super) fn write_file(&mut self) -> Result<(), Refusal> {
        let Err(error) = self.try_file() else { return Ok(()) };
        let refusal = Refusal::from(OpenError::io(DAEMON_FILE)(error));
        if !refusal.waits_for_disk() || self.misleads() {
            return Err(refusal);
        }
        let detail = refusal.detail;
        tracing::warn!(detail, "clients do not find this daemon by themselves yet: name its address to them");
        Ok(())
    }

    fn try_file(&mut self) -> std::io::Result<()> {
        let text = format!("{}\n", serde_json::json!(self.file));
        replace_atomically(self.folder.as_ref(), "", DAEMON_FILE, text.as_bytes())?;
        self.file_due = false;
        Ok(())
    }

    /// Whether a file of an earlier daemon stands there that leads callers, and their tokens, elsewhere.
    fn misleads(&self) -> bool {
        let Ok(bytes) = read_bounded(self.folder.as_ref(), DAEMON_FILE, DAEMON_FILE_BYTES) else { return false };
        let address = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        address.is_none_or(|said| said["address"].as_str() != Some(&self.file.address))
    }

    /// Lets the daemon take work, now or as soon as the start is recorded.
    pub(super) fn go_on(mut self, announced: bool, begun: Milestone, workers: Workers, tasks: &Tasks) {
        let mut waiting = if announced {
            begun.reach();
            workers.start(tasks);
            None
        } else {
            Some(workers)
        };
        let (stopping, set) = (tasks.stopping(), tasks.clone());
        let work = async move {
            while waiting.is_some() || self.file_due {
                tokio::time::sleep(AGAIN).await;
                if waiting.is_some() && self.announce().await.is_ok() {
                    tracing::info!("the start is recorded: the daemon takes work");
                    begun.reach();
                    waiting.take().into_iter().for_each(|workers| workers.start(&set));
                }
                if self.file_due {
                    let _ = self.try_file();
                }
            }
        };
        tasks.spawn(async move {
            tokio::select! {
                () = stopping => {}
                () = work => {}
            }
        });
    }
}
