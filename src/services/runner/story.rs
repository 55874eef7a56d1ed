//! All that a worker knows of a run: folded from the run's own records and those of the session's earlier runs, and
//! brought up to date after each step. Nothing is remembered that the records do not say.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::limits;
use crate::agent::stepper::RunState;
use crate::agent::transcript::{Bounds, Transcript};
use crate::domain::event::Event;
use crate::domain::ids::{ApprovalId, CallId, QuestionId, RunId, SessionId, SubjectKeyId};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Record;
use crate::domain::runtime::{Configuration, ModelChoice};
use crate::domain::{approval, permission, run};
use crate::journal::line;
use crate::projections::feed::{Filter, Found, Scope};
use crate::projections::runs::Facts;
use crate::projections::{Bodies as _, Models};
use crate::services::published::Published;

/// A run as its records tell it.
pub(super) struct Story {
    pub(super) run: RunId,
    pub(super) session: SessionId,
    pub(super) org: String,
    /// Where it stands.
    pub(super) state: RunState,
    /// The conversation.
    pub(super) transcript: Transcript,
    /// The key of the session's words, where they are encrypted.
    pub(super) key: Option<SubjectKeyId>,
    /// What its creator asked for.
    pub(super) queued: Option<run::Queued>,
    /// Who asked for the run.
    pub(super) principal: String,
    /// What the first claim pinned.
    pub(super) claim: Option<run::Started>,
    /// The configuration that was in force at that claim.
    pub(super) configuration: Configuration,
    /// How questions ended.
    answers: BTreeMap<QuestionId, Event>,
    /// What mode and rules said.
    judged: BTreeMap<CallId, permission::Decided>,
    /// Which call an approval is about.
    asked_about: BTreeMap<ApprovalId, CallId>,
    /// Denials, with the approver's words.
    denied: BTreeMap<CallId, approval::Decided>,
    /// Why the configuration could not be read.
    unreadable: Option<Refusal>,
    /// All records before this one are folded.
    next_seq: u64,
    published: Published,
}

/// The places of records to be read at the beginning, taken out of the models.
struct Places {
    org: String,
    key: Option<SubjectKeyId>,
    own: Facts,
    /// `run.queued` of each earlier run, and the records from its start to its end.
    earlier: Vec<(RunId, u64, u64, u64)>,
    /// How many there were before these, with those that never began.
    unread: usize,
}

fn places(models: &Models, id: RunId) -> Result<Places, Refusal> {
    let own = models.runs.get(id).ok_or(Reason::RunNotFound)?;
    let org = models.names.text(own.row.org).to_owned();
    // Newest first, and no further than is told.
    let mut others = models.runs_of_session(&org, own.row.session).iter().rev().filter(|other| **other != id);
    let told = |other: &RunId| {
        let row = models.runs.get(*other)?.row;
        Some((*other, row.created_seq, row.started_seq?.get(), row.ended_seq?.get()))
    };
    let mut earlier: Vec<(RunId, u64, u64, u64)> =
        others.by_ref().filter_map(told).take(limits::CONVERSATION_RUNS).collect();
    earlier.sort_by_key(|(_, _, started, _)| *started);
    let unread = others.count();
    let key = models.subjects.of(own.row.session).map(|key| key.id);
    Ok(Places { org, key, own, earlier, unread })
}

/// What a run that is not claimed yet is chosen by, as it stands now.
pub(super) struct Wishes {
    /// The session's own.
    pub(super) session: ModelChoice,
    /// The runtime's.
    pub(super) runtime: ModelChoice,
    /// Its revision, and the session's route policy.
    pub(super) under: (u64, Option<u64>),
}

impl Wishes {
    /// Reads them. Blocks on the disk.
    pub(super) fn read(published: &Published, org: &str, session: SessionId) -> Result<Self, Refusal> {
        let models = published.models();
        let (runtime, facts) = (models.runtime.configuration.clone(), models.session(org, session)?);
        drop(models);
        let session = facts.choice(published).ok_or(Reason::StorageJournalUnavailable)?;
        Ok(Self { session, runtime: runtime.model, under: (runtime.revision, facts.policy_seq) })
    }
}

fn unreadable(fault: &std::io::Error) -> Refusal {
    Refusal::new(Reason::StorageJournalUnavailable, format!("The run's records cannot be read: {fault}."))
}

/// Shows the records that a filter passes, in order, from one sequence number on to before another. Blocks on the disk.
fn each_record(
    published: &Published,
    filter: &Filter,
    (mut from, end): (u64, u64),
    mut show: impl FnMut(&Record),
) -> std::io::Result<()> {
    while from < end {
        let (items, next) = published.read(filter, from, end, limits::RECORDS_AT_A_TIME)?;
        items.iter().filter_map(|item| line::parse_record(&item.line).ok()).for_each(|record| show(&record));
        if next == from {
            break;
        }
        from = next;
    }
    Ok(())
}

impl Story {
    /// Reads a run's story. Blocks on the disk.
    pub(super) fn read(published: Published, id: RunId, bounds: Bounds) -> Result<Self, Refusal> {
        let places = places(&published.models(), id)?;
        let mut story = Self {
            run: id,
            session: places.own.row.session,
            org: places.org,
            state: RunState::default(),
            transcript: Transcript::within(bounds),
            key: places.key,
            queued: None,
            principal: String::new(),
            claim: None,
            configuration: Configuration::default(),
            answers: BTreeMap::new(),
            judged: BTreeMap::new(),
            asked_about: BTreeMap::new(),
            denied: BTreeMap::new(),
            unreadable: None,
            next_seq: places.own.row.started_seq.map_or(places.own.row.created_seq + 1, std::num::NonZeroU64::get),
            published,
        };
        story.transcript.leave_out(places.unread);
        for (other, created, from, to) in places.earlier {
            story.take_earlier(other, created, from, to)?;
        }
        let queued = story.published.record(places.own.row.created_seq).ok_or(Reason::RunNotFound)?;
        story.take(&queued);
        story.catch_up()?;
        Ok(story)
    }

    fn take_earlier(&mut self, run: RunId, created: u64, from: u64, to: u64) -> Result<(), Refusal> {
        let filter = Filter { org: self.org.clone(), scope: Scope::Run(run) };
        let queued = self.published.record(created);
        let published = self.published.clone();
        if let Some(record) = &queued {
            self.tell(record);
        }
        each_record(&published, &filter, (from, to + 1), |record| self.tell(record)).map_err(|fault| unreadable(&fault))
    }

    /// Folds what was published since. Blocks where that is no longer in memory.
    pub(super) fn catch_up(&mut self) -> Result<(), Refusal> {
        let filter = Filter { org: self.org.clone(), scope: Scope::Run(self.run) };
        let published = self.published.clone();
        let end = published.feed().next_seq();
        while self.next_seq < end {
            let (items, next) = match published.feed().after(self.next_seq, &filter, limits::RECORDS_AT_A_TIME) {
                Found::Items(items, next) => (items, next),
                Found::ReadUntil(to) => {
                    let read = published.read(&filter, self.next_seq, to, limits::RECORDS_AT_A_TIME);
                    let (items, next) = read.map_err(|fault| unreadable(&fault))?;
                    (items.into_iter().map(Arc::new).collect(), next)
                }
            };
            for record in items.iter().filter_map(|item| line::parse_record(&item.line).ok()) {
                self.take(&record);
            }
            // Seals at the end of what is published have no item of their own.
            self.next_seq = if next > self.next_seq { next } else { end };
        }
        self.unreadable.take().map_or(Ok(()), Err)
    }

    /// Folds a record of the run itself.
    fn take(&mut self, record: &Record) {
        self.state.apply(record);
        self.tell(record);
        match &record.event {
            Event::RunQueued(body) => {
                self.queued = Some(body.clone());
                self.principal.clone_from(&record.actor.id);
            }
            Event::RunStarted(body) => self.claimed(body),
            Event::TurnRequested(_) => self.forget_calls(),
            Event::PermissionDecided(body) => {
                self.judged.insert(body.call_id, body.clone());
            }
            Event::ApprovalRequested(body) => {
                self.asked_about.insert(body.approval_id, body.call_id);
            }
            Event::ApprovalDecided(body) if body.decision == approval::Decision::Deny => {
                if let Some(call) = self.asked_about.get(&body.approval_id) {
                    self.denied.insert(*call, body.clone());
                }
            }
            Event::QuestionAnswered(body) => {
                self.answers.insert(body.question_id, record.event.clone());
            }
            Event::QuestionDeclined(body) => {
                self.answers.insert(body.question_id, record.event.clone());
            }
            _ => {}
        }
    }

    /// What the first claim pinned stays. Blocks on the disk.
    fn claimed(&mut self, body: &run::Started) {
        if self.claim.is_none() {
            let sources = self.published.models().runtime.sources(body.runtime_revision);
            let read = sources.and_then(|sources| sources.read(&self.published));
            match read {
                Ok(configuration) => self.configuration = configuration,
                Err(refusal) => self.unreadable = Some(refusal),
            }
        }
        self.claim = Some(body.clone());
    }

    /// What is kept of calls is of the current turn's.
    fn forget_calls(&mut self) {
        self.answers.clear();
        self.judged.clear();
        self.asked_about.clear();
        self.denied.clear();
    }

    /// Tells the conversation of a record.
    fn tell(&mut self, record: &Record) {
        let published = &self.published;
        self.transcript.apply(record, &|part| published.text(part));
    }

    /// How a question ended.
    pub(super) fn answer(&self, id: QuestionId) -> Option<&Event> {
        self.answers.get(&id)
    }

    /// Why a call may not be made, in words for the model.
    pub(super) fn denial(&self, id: CallId) -> String {
        if let Some(denied) = self.denied.get(&id) {
            let note = denied.note.as_ref().map_or_else(String::new, |note| format!(" They say: {note}"));
            return format!("A person denied it.{note}");
        }
        self.judged.get(&id).map_or_else(|| Reason::PermissionDenied.title().to_owned(), permission::Decided::why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::command::Command;
    use crate::services::testing::{Root, act, create_session, queue_run, stop};

    #[test]
    fn the_newest_earlier_runs_that_began_are_told_in_order_and_the_others_counted() {
        let mut root = Root::new();
        let opened = root.start();
        let session = create_session(&opened, "s");
        let end = |run_id: RunId| {
            let [route, driver, model] = ["r"; 3].map(str::to_owned);
            let chosen_by = run::RouteChoice::Default;
            let chosen_under = (0, None);
            let start = run::Start { run_id, route, driver, model, chosen_by, rehearsal: true, chosen_under };
            act(&opened, Command::StartRun(start)).unwrap();
            let (code, detail) = (Reason::InternalError, String::new());
            act(&opened, Command::FailRun(run::Fail { run_id, code, detail })).unwrap();
        };
        let ended: Vec<RunId> = (0..limits::CONVERSATION_RUNS + 2)
            .map(|_| {
                let run = queue_run(&opened, session, "Do it.");
                end(run);
                run
            })
            .collect();
        let own = queue_run(&opened, session, "Do it.");
        queue_run(&opened, session, "Later.");
        let places = places(&opened.published.models(), own).unwrap();
        let told: Vec<RunId> = places.earlier.iter().map(|(run, ..)| *run).collect();
        assert_eq!((told.as_slice(), places.unread), (&ended[2..], 2));
        stop(opened);
    }
}
