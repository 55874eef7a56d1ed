//! The clerk: the one write path. One thread decides, writes, syncs and publishes; callers wait for their answer.
//!
//! Each batch: take what waits (reserved lane first) → decide each against the world → one write, one sync → publish
//! to the read models and the feed → answer everyone. Refusals wait too, for they may rest on facts of the same batch.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::blobs::Kept;
use super::desk::{Committed, Lane, WritePath};
use super::published::Published;
use super::scribe::Scribe;
use crate::domain::command::Command;
use crate::domain::ids::SubjectKeyId;
use crate::domain::limits;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Provenance;
use crate::journal::error::WriteError;
use crate::journal::writer::Journal;

/// Longest wait for others who asked together last time.
const GATHER: Duration = Duration::from_millis(1);
/// That wait as a share of the time that their batch took: it may cost little beside what it saves.
const GATHER_SHARE: u32 = 2;

/// How long what is unhurried waits for a batch that others ask for.
const UNHURRIED: Duration = Duration::from_millis(5);

/// A command on its way.
pub(super) struct Job {
    pub(super) command: Command,
    pub(super) provenance: Provenance,
    pub(super) reply: oneshot::Sender<Result<Committed, Refusal>>,
    queued_boot_ms: u64,
}

/// What the clerk is asked beside commands.
pub(super) type Errand = Box<dyn FnOnce(&mut Scribe) + Send>;

/// Commands that wait in one lane.
#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    bytes: usize,
}

impl Queue {
    fn is_full(&self) -> bool {
        self.jobs.len() >= limits::QUEUED_COMMANDS || self.bytes >= limits::QUEUED_BYTES
    }

    fn push(&mut self, job: Job) {
        self.bytes += job.command.weight_bytes();
        self.jobs.push_back(job);
    }

    /// Takes the first ones out, at most so many.
    fn take(&mut self, most: usize) -> Vec<Job> {
        let jobs: Vec<Job> = self.jobs.drain(..most.min(self.jobs.len())).collect();
        self.bytes -= jobs.iter().map(|job| job.command.weight_bytes()).sum::<usize>();
        jobs
    }
}

#[derive(Default)]
struct Queues {
    reserved: Queue,
    ordinary: Queue,
    unhurried: Queue,
    /// What is unhurried has waited long enough.
    due: bool,
    errands: VecDeque<Errand>,
    /// The clerk sleeps, and is to be woken when so many commands wait.
    wake_at: Option<usize>,
    closing: bool,
    /// Why nothing is taken yet: the journal is not open.
    barred: Option<Refusal>,
    /// The clerk's thread has ended.
    gone: bool,
}

/// Answers everybody when the clerk's thread ends, however it ends. After a panic world and journal may differ, so that
/// nothing more is decided.
struct Watch(Arc<Desk>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(gone);
        let mut queues = self.0.lock();
        queues.gone = true;
        let Queues { reserved, ordinary, unhurried, .. } = &mut *queues;
        let jobs: Vec<Job> =
            [reserved, ordinary, unhurried].into_iter().flat_map(|queue| queue.take(usize::MAX)).collect();
        let errands = std::mem::take(&mut queues.errands);
        drop(queues);
        for job in jobs {
            drop(job.reply.send(Err(gone())));
        }
        drop(errands);
    }
}

fn gone() -> Refusal {
    Refusal::new(Reason::StorageJournalUnavailable, "The clerk's thread has ended.").retry_after_ms(10_000)
}

struct Desk {
    queues: Mutex<Queues>,
    wake: Condvar,
    published: Published,
    /// Why the last batch could not be written.
    trouble: Mutex<Option<Refusal>>,
}

/// A handle to the clerk's thread. Clones reach the same clerk.
#[derive(Clone)]
pub struct Clerk {
    desk: Arc<Desk>,
}

/// The clerk's thread, to be waited for at the drain.
pub struct ClerkThread {
    clerk: Clerk,
    thread: std::thread::JoinHandle<Option<Journal>>,
}

/// How often a journal that the disk did not let open is tried again.
const REOPEN: Duration = Duration::from_secs(1);

/// Tries to open the journal once more.
pub(super) type Reopen = Box<dyn FnMut() -> Result<Scribe, Refusal> + Send>;

impl Clerk {
    /// Starts the clerk on a thread of its own.
    pub(super) fn start(scribe: Scribe) -> std::io::Result<(Self, ClerkThread)> {
        let published = scribe.published().clone();
        Self::start_with(published, None, |_| Some(scribe))
    }

    /// Starts the clerk over a journal that the disk does not let open yet. Until it does, everything is refused with
    /// `why`, or with what the last attempt found.
    pub(super) fn start_barred(
        published: Published,
        why: Refusal,
        reopen: Reopen,
    ) -> std::io::Result<(Self, ClerkThread)> {
        Self::start_with(published, Some(why), |desk| desk.reopened(reopen))
    }

    fn start_with(
        published: Published,
        barred: Option<Refusal>,
        scribe: impl FnOnce(&Desk) -> Option<Scribe> + Send + 'static,
    ) -> std::io::Result<(Self, ClerkThread)> {
        let trouble = Mutex::new(barred.clone());
        let queues = Mutex::new(Queues { barred, ..Queues::default() });
        let desk = Arc::new(Desk { queues, wake: Condvar::new(), published, trouble });
        let clerk = Self { desk: Arc::clone(&desk) };
        let run = move || {
            let _watch = Watch(Arc::clone(&desk));
            scribe(&desk).map(|scribe| desk.run(scribe))
        };
        let thread = std::thread::Builder::new().name("clerk".to_owned()).spawn(run)?;
        Ok((clerk.clone(), ClerkThread { clerk, thread }))
    }

    fn enqueue(&self, job: Job, lane: Lane) -> Result<(), Refusal> {
        let mut queues = self.desk.lock();
        if queues.gone {
            return Err(gone());
        }
        if let Some(why) = &queues.barred {
            return Err(why.clone());
        }
        if queues.closing {
            return Err(Refusal::new(Reason::RequestOverloaded, "The daemon is stopping.").retry_after_ms(5_000));
        }
        let queue = match lane {
            Lane::Reserved => &mut queues.reserved,
            Lane::Ordinary => &mut queues.ordinary,
            Lane::Unhurried => &mut queues.unhurried,
        };
        if queue.is_full() {
            return Err(Refusal::from(Reason::RequestOverloaded).retry_after_ms(1_000));
        }
        queue.push(job);
        let wake = queues.wake_at.is_some_and(|at| queues.waiting() >= at);
        if wake {
            queues.wake_at = None;
        }
        drop(queues);
        if wake {
            self.desk.wake.notify_one();
        }
        Ok(())
    }

    /// Lets the clerk's thread do something between two batches; dropped where the thread has ended, or has no journal yet.
    pub(super) fn errand(&self, errand: Errand) {
        let mut queues = self.desk.lock();
        if queues.gone || queues.barred.is_some() {
            return;
        }
        queues.errands.push_back(errand);
        drop(queues);
        self.desk.rouse();
    }

    /// Has the clerk compare the clocks now, as it does before each decision.
    pub(super) fn look_at_clock(&self) {
        self.errand(Box::new(|scribe| {
            if let Err(error) = scribe.look_at_clock() {
                // The next look finds the same.
                tracing::debug!(%error, "what the clocks say is not recorded yet");
            }
        }));
    }

    /// Why nothing can be written now, as far as the last attempt told.
    pub fn trouble(&self) -> Option<Refusal> {
        self.desk.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Commands that wait, and the age of the oldest in milliseconds.
    pub fn queue(&self) -> (usize, u64) {
        let queues = self.desk.lock();
        let all = [&queues.reserved, &queues.ordinary, &queues.unhurried];
        let oldest = all.iter().filter_map(|queue| queue.jobs.front()).map(|job| job.queued_boot_ms).min();
        let now = self.desk.published.clock().boot_ms();
        (all.iter().map(|queue| queue.jobs.len()).sum(), oldest.map_or(0, |at| now.saturating_sub(at)))
    }
}

impl WritePath for Clerk {
    fn submit(
        &self,
        command: Command,
        provenance: Provenance,
        lane: Lane,
    ) -> BoxFuture<'_, Result<Committed, Refusal>> {
        let (reply, mut answer) = oneshot::channel();
        let queued_boot_ms = self.desk.published.clock().boot_ms();
        let queued = self.enqueue(Job { command, provenance, reply, queued_boot_ms }, lane);
        Box::pin(async move {
            queued?;
            if lane == Lane::Unhurried {
                match tokio::time::timeout(UNHURRIED, &mut answer).await {
                    Ok(answer) => return answer.unwrap_or_else(|_| Err(Reason::StorageJournalUnavailable.into())),
                    Err(_) => self.desk.now_due(),
                }
            }
            answer.await.unwrap_or_else(|_| Err(Reason::StorageJournalUnavailable.into()))
        })
    }

    fn keep(
        &self,
        text: String,
        inline_bytes: usize,
        key: Option<SubjectKeyId>,
    ) -> BoxFuture<'_, Result<Kept, Refusal>> {
        let published = &self.desk.published;
        Box::pin(published.blobs().keep(published.redactor().owned(text), inline_bytes, key))
    }
}

impl ClerkThread {
    /// Lets the clerk finish what waits and gives the journal back, if it was opened. Blocks.
    pub fn finish(self) -> Option<Journal> {
        self.clerk.desk.lock().closing = true;
        self.clerk.desk.rouse();
        self.thread.join().ok().flatten()
    }
}

impl Desk {
    /// Wakes the clerk whatever it waits for.
    fn rouse(&self) {
        self.lock().wake_at = None;
        self.wake.notify_one();
    }

    /// Has what is unhurried written, whether or not others ask for a batch.
    fn now_due(&self) {
        let mut queues = self.lock();
        queues.due = !queues.unhurried.jobs.is_empty();
        let is_due = queues.due;
        drop(queues);
        // What is being written needs no other batch.
        if is_due {
            self.rouse();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The scribe, once the disk lets the journal open; none if the daemon ends before.
    fn reopened(&self, mut reopen: Reopen) -> Option<Scribe> {
        let mut hopeless = false;
        loop {
            let waiting = |queues: &mut Queues| !queues.closing;
            let waited = self.wake.wait_timeout_while(self.lock(), REOPEN, waiting);
            if waited.unwrap_or_else(PoisonError::into_inner).0.closing {
                return None;
            }
            if hopeless {
                continue;
            }
            let (scribe, why) = match reopen() {
                Ok(scribe) => (Some(scribe), None),
                Err(refusal) => (None, Some(refusal)),
            };
            hopeless = why.as_ref().is_some_and(|why| !why.waits_for_disk());
            self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&why);
            self.lock().barred = why;
            if scribe.is_some() {
                return scribe;
            }
        }
    }

    fn run(&self, mut scribe: Scribe) -> Journal {
        // How many asked last time, and how long their batch took.
        let (mut asked, mut took) = (0, Duration::ZERO);
        loop {
            let Some(mut queues) = self.wait(asked, took) else { return scribe.into_journal() };
            let errands = std::mem::take(&mut queues.errands);
            // No batch waits for more than fit into it.
            asked = queues.waiting().min(limits::BATCH_RECORDS);
            let jobs = queues.take();
            drop(queues);
            for errand in errands {
                errand(&mut scribe);
            }
            if let Some(why) = scribe.journal().poison() {
                let stopped = WriteError::Poisoned(why.to_owned());
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(stopped.into());
            }
            if !jobs.is_empty() {
                let began = self.published.clock().since_boot();
                let trouble = scribe.write(jobs);
                took = self.published.clock().since_boot().saturating_sub(began);
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
            }
        }
    }

    /// Waits until there is something to do; `None` when there will be nothing more. Where several asked together last
    /// time, they are likely to ask again at once: then the batch waits a moment for as many, for otherwise the first of
    /// them would have a batch to itself and all the others would wait for it.
    fn wait(&self, asked: usize, took: Duration) -> Option<MutexGuard<'_, Queues>> {
        let mut queues = self.lock();
        if asked > 1 && !queues.closing && queues.errands.is_empty() && queues.waiting() < asked {
            queues.wake_at = Some(asked);
            let patience = (took / GATHER_SHARE).min(GATHER);
            let gathering = |queues: &mut Queues| queues.wake_at.is_some();
            queues = match self.wake.wait_timeout_while(queues, patience, gathering) {
                Ok((queues, _)) => queues,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        while queues.waiting() == 0 && queues.errands.is_empty() {
            if queues.closing {
                return None;
            }
            queues.wake_at = Some(1);
            queues = self.wake.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
        queues.wake_at = None;
        Some(queues)
    }
}

impl Queues {
    /// How many ask for a batch.
    fn waiting(&self) -> usize {
        let unhurried = if self.due || self.closing { self.unhurried.jobs.len() } else { 0 };
        self.reserved.jobs.len() + self.ordinary.jobs.len() + unhurried
    }

    /// The next batch's commands: reserved first, but at most three quarters while others wait.
    fn take(&mut self) -> Vec<Job> {
        let most = limits::BATCH_RECORDS;
        let others_wait = !(self.ordinary.jobs.is_empty() && self.unhurried.jobs.is_empty());
        let mut jobs = self.reserved.take(if others_wait { most / 4 * 3 } else { most });
        jobs.extend(self.unhurried.take((most - jobs.len()) / 2));
        jobs.extend(self.ordinary.take(most - jobs.len()));
        self.due &= !self.unhurried.jobs.is_empty();
        jobs
    }
}
