//! What the clerk's thread owns: the journal, the world, and the step from a command to sealed records.

use std::sync::Arc;

use ulid::Ulid;

use super::clerk::Job;
use super::clock_watch::{Reading, Watch};
use super::desk::Committed;
use super::published::Published;
use crate::domain::command::{Answer, Context, Decided, decide};
use crate::domain::context;
use crate::domain::event::Event;
use crate::domain::ids::{BootId, IdSource};
use crate::domain::limits;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::{DEFAULT_ORG, Draft, Provenance, Record};
use crate::domain::stream::Stream;
use crate::domain::world::World;
use crate::journal::batch::Batch;
use crate::journal::error::WriteError;
use crate::journal::handover::NextKey;
use crate::journal::merkle::Frontier;
use crate::journal::writer::Journal;
use crate::platform::entropy::Entropy;
use crate::projections::Models;
use crate::vault::redaction::Redactor;

/// The journal's writer together with the world that its records make.
pub struct Scribe {
    journal: Journal,
    world: World,
    published: Published,
    entropy: Arc<dyn Entropy>,
    ids: IdSource,
    boot_id: BootId,
    watch: Watch,
}

/// A batch being built, with its records.
struct Build {
    batch: Batch,
    records: Vec<Record>,
    /// Records that the journal itself put first.
    opening: usize,
    /// Records that the world has folded: none until something is decided.
    applied: usize,
    /// Knows what no record may hold.
    redactor: Redactor,
}

/// Why a decision did not go into the batch.
enum Unfit {
    /// The batch is full; close it and decide again.
    BatchFull,
    /// The decision itself cannot be.
    Refused(Refusal),
}

impl Scribe {
    /// A scribe for an open journal and the world folded from it.
    pub fn new(
        journal: Journal,
        world: World,
        published: Published,
        entropy: Arc<dyn Entropy>,
        boot_id: BootId,
    ) -> Self {
        // Behind every id of the past, also where the clock has gone back since.
        let newest_ms = world.newest_at_ms.max(world.newest_id().timestamp_ms());
        let last = Ulid::from_parts(newest_ms + 1, entropy.u128() >> 64).max(boot_id.ulid());
        let watch = Watch::anchored(Reading::of(published.clock().as_ref()));
        Self { journal, world, published, entropy, ids: IdSource::after(last), boot_id, watch }
    }

    /// The read side.
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// The journal, when no more is written.
    pub fn into_journal(self) -> Journal {
        self.journal
    }

    /// The journal, between two batches.
    pub fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    /// A copy of all state at the same sequence number, for a snapshot.
    pub fn copy(&self) -> (World, Models, Frontier) {
        (self.world.clone(), self.published.models().clone(), self.journal.tree().clone())
    }

    /// Decides, writes, syncs and publishes these commands in as few batches as they fit, and answers each.
    /// Gives why a batch could not be written, if one could not.
    pub(super) fn write(&mut self, jobs: Vec<Job>) -> Option<Refusal> {
        let mut trouble = None;
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            let mut build = match self.begin() {
                Ok(build) => build,
                Err(error) => {
                    let refusal = Refusal::from(error);
                    jobs.for_each(|job| drop(job.reply.send(Err(refusal.clone()))));
                    return Some(refusal);
                }
            };
            let mut decisions = Vec::with_capacity(jobs.len());
            while let Some(job) = jobs.peek() {
                let outcome = match self.decide(job, &mut build) {
                    Err(Unfit::BatchFull) => break,
                    Err(Unfit::Refused(refusal)) => Err(refusal),
                    Ok(committed) => Ok(committed),
                };
                decisions.extend(jobs.next().map(|job| (job.reply, outcome)));
            }
            let outcome = if build.applied > 0 { self.commit(build) } else { Ok(()) };
            trouble = outcome.as_ref().err().cloned().map(Refusal::from);
            for (reply, decided) in decisions {
                let answer = outcome.clone().map_err(Refusal::from).and(decided);
                // Whoever asked may have gone; what was decided stands.
                let _ = reply.send(answer);
            }
        }
        trouble
    }

    fn begin(&mut self) -> Result<Build, WriteError> {
        let batch = self.journal.begin()?;
        let mut records = Vec::new();
        if !batch.is_empty() {
            // The context record that the journal itself put first.
            let (seq, context) = (batch.ctx(), self.journal.context().clone());
            records.push(Record::by_system(seq, seq, context.wall_ms, Stream::Daemon, context.into()));
        }
        Ok(Build { opening: records.len(), batch, records, applied: 0, redactor: self.published.redactor().clone() })
    }

    fn decide(&mut self, job: &Job, build: &mut Build) -> Result<Committed, Unfit> {
        if self.world.runtime.revision != self.journal.context().config_revision && build.applied > build.opening {
            // What follows is decided under another configuration, and its records must name that one.
            return Err(Unfit::BatchFull);
        }
        if !job.command.goes_on()
            && let Some(done) = self.repeated(&job.provenance)
        {
            return done.map_err(Unfit::Refused);
        }
        let clock = Arc::clone(self.published.clock());
        let now = Reading::of(clock.as_ref());
        self.note_clock(build, now)?;
        let Reading { wall_ms: now_ms, boot_ms } = now;
        let entropy = Arc::clone(&self.entropy);
        let mut context = Context {
            now_ms,
            boot_id: self.boot_id,
            ids: &mut self.ids,
            entropy: &mut || entropy.u128(),
            actor: &job.provenance.actor,
        };
        let decided = decide(&self.world, &job.command, &mut context);
        if let Err(refusal) = &decided {
            let refusals = self.published.budget_refusals();
            refusals.note(&self.world, job, refusal, (build.batch.next_seq(), now_ms));
        }
        let Decided { drafts, answer } = decided.map_err(Unfit::Refused)?;
        if drafts.is_empty() {
            return Ok(Committed { answer, seq: None, replayed: false });
        }
        let first = build.batch.next_seq();
        build.add(drafts, &job.provenance, now_ms, boot_ms)?;
        self.apply(build);
        Ok(Committed { answer, seq: Some(first), replayed: false })
    }

    /// Folds what the build holds since the last time.
    fn apply(&mut self, build: &mut Build) {
        for record in build.records.get(build.applied..).unwrap_or_default() {
            self.world.apply(record);
        }
        build.applied = build.records.len();
    }

    /// Puts what the clocks say before the decision that follows.
    fn note_clock(&mut self, build: &mut Build, now: Reading) -> Result<(), Unfit> {
        match self.watch.observe(self.world.clock, now) {
            Some(event) => self.add_clock(build, event, now),
            None => Ok(()),
        }
    }

    fn add_clock(&mut self, build: &mut Build, event: Event, now: Reading) -> Result<(), Unfit> {
        let draft = Draft::new(DEFAULT_ORG, Stream::Daemon, event);
        build.add(vec![draft], &Provenance::system("clock"), now.wall_ms, now.boot_ms)?;
        self.apply(build);
        Ok(())
    }

    /// Compares the clocks where nothing is being decided.
    pub(super) fn look_at_clock(&mut self) -> Result<(), WriteError> {
        let now = Reading::of(self.published.clock().as_ref());
        let Some(event) = self.watch.observe(self.world.clock, now) else { return Ok(()) };
        let mut build = self.begin()?;
        // Nothing else is in the build, so this fits.
        let _ = self.add_clock(&mut build, event, now);
        if build.applied > 0 { self.commit(build) } else { Ok(()) }
    }

    /// The answer to a request that was done before, where this is one.
    fn repeated(&self, by: &Provenance) -> Option<Result<Committed, Refusal>> {
        let request = by.request.as_ref()?;
        let receipt = self.world.receipt(&by.org, &request.scope, request.key.as_ref()?)?;
        if request.body_mac.as_deref() != Some(receipt.body_mac.as_str()) {
            return Some(Err(Reason::RequestIdempotencyMismatch.into()));
        }
        Some(Ok(Committed { answer: receipt.answer, seq: Some(receipt.seq), replayed: true }))
    }

    /// Hands the signing key over in a batch of its own, on behalf of whoever asked.
    pub(super) fn rotate_key(&mut self, by: &Provenance) -> Result<Committed, Refusal> {
        if let Some(done) = self.repeated(by) {
            return done;
        }
        let next = self.journal.next_key(self.entropy.as_ref())?;
        let (seq, build) = match self.announce(&next, by) {
            Ok(announced) => announced,
            Err(refusal) => {
                self.journal.drop_next_key(next);
                return Err(refusal);
            }
        };
        build.records.iter().for_each(|record| self.world.apply(record));
        let handed = self.commit_by(build, |journal, batch| journal.hand_over(batch, next))?;
        self.journal.finish_handover(handed)?;
        Ok(Committed { answer: Answer::Nothing, seq: Some(seq), replayed: false })
    }

    /// The batch that announces a key, and the sequence number of the record that does.
    fn announce(&mut self, next: &NextKey, by: &Provenance) -> Result<(u64, Build), Refusal> {
        let mut build = self.begin()?;
        let (now_ms, boot_ms) = (self.published.clock().wall_ms(), self.published.clock().boot_ms());
        let seq = build.batch.next_seq();
        let draft = Draft::new(&by.org, Stream::Journal, next.announcement().into());
        match build.add(vec![draft], by, now_ms, boot_ms) {
            Ok(()) => Ok((seq, build)),
            Err(Unfit::Refused(refusal)) => Err(refusal),
            Err(Unfit::BatchFull) => Err(Reason::InternalError.into()),
        }
    }

    fn commit(&mut self, build: Build) -> Result<(), WriteError> {
        self.commit_by(build, Journal::commit)
    }

    /// Commits a batch in the given way and publishes its records.
    fn commit_by<T>(
        &mut self,
        build: Build,
        commit: impl FnOnce(&mut Journal, Batch) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let frames = self.published.encode(&build.records, build.batch.lines());
        let before = self.published.clock().since_boot();
        let committed = commit(&mut self.journal, build.batch)?;
        let took = self.published.clock().since_boot().saturating_sub(before);
        let runtime = &self.world.runtime;
        if self.journal.context().config_revision != runtime.revision {
            let context = self.journal.context().clone();
            let (config_revision, policy_sha256) = (runtime.revision, runtime.policy_digest());
            self.journal.set_context(context::Set { config_revision, policy_sha256, ..context });
        }
        self.published.publish(&build.records, frames, took);
        Ok(committed)
    }
}

impl Build {
    /// Adds one decision's records, all or none.
    fn add(&mut self, drafts: Vec<Draft>, by: &Provenance, now_ms: u64, boot_ms: u64) -> Result<(), Unfit> {
        let (mark, before) = (self.batch.mark(), self.records.len());
        let added = self.push_all(drafts, by, now_ms, boot_ms).map_err(|error| Unfit::Refused(error.into()));
        let added = added.and_then(|()| {
            let full = self.batch.len() > limits::BATCH_BYTES || self.batch.records() > limits::BATCH_RECORDS;
            // Whoever makes records takes secrets out of them; what was overlooked is not recorded at all.
            if let Some(name) = self.redactor.found(self.batch.since(&mark)) {
                let detail = format!("What would be recorded holds the secret `{name}`.");
                Err(Unfit::Refused(Refusal::new(Reason::RequestInvalid, detail)))
            } else if self.batch.since(&mark).len() > limits::DECISION_BYTES {
                let detail = format!("The request makes more than {} bytes of records.", limits::DECISION_BYTES);
                Err(Unfit::Refused(Refusal::new(Reason::RequestTooLarge, detail)))
            } else if full && before > self.opening {
                Err(Unfit::BatchFull)
            } else {
                Ok(())
            }
        });
        if added.is_err() {
            self.batch.undo(&mark);
            self.records.truncate(before);
        }
        added
    }

    fn push_all(&mut self, drafts: Vec<Draft>, by: &Provenance, now_ms: u64, boot_ms: u64) -> Result<(), WriteError> {
        for (index, draft) in drafts.into_iter().enumerate() {
            let record = Record {
                seq: self.batch.next_seq(),
                at_ms: now_ms,
                mono_ms: self.batch.mono_ms(boot_ms),
                org: draft.org,
                stream: draft.stream,
                project: None,
                subject: None,
                actor: by.actor.clone(),
                on_behalf_of: by.on_behalf_of.clone(),
                ctx: self.batch.ctx(),
                request: by.request.clone().filter(|_| index == 0),
                cause: draft.cause,
                reason: draft.reason,
                event: draft.event,
            };
            self.batch.push(&record)?;
            self.records.push(record);
        }
        Ok(())
    }
}
