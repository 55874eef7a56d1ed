//! Runs as people see them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::Models;
use super::page::{Page, Paging};
use crate::domain::ids::{ApprovalId, BootId, QuestionId, RunId, SessionId};
use crate::domain::names::Name;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Record;
use crate::domain::run::{self, Status, Stop};
use crate::domain::turn::{self, StopReason};

mod view;

pub use view::{FailureView, InputView, RunView};

/// What is kept of every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its session.
    pub session: SessionId,
    /// `run.queued`.
    pub created_seq: u64,
    /// When, Unix milliseconds.
    pub created_at_ms: u64,
    /// The last `run.started`.
    pub started_seq: Option<NonZeroU64>,
    /// The end.
    pub ended_seq: Option<NonZeroU64>,
    /// Tokens sent in all its turns.
    pub input_tokens: u64,
    /// Tokens received in all its turns.
    pub output_tokens: u64,
    /// Model turns begun.
    pub turns: u32,
    /// Calls whose outcome its end left open.
    pub unknown_calls: u32,
    /// Organisation.
    pub org: Name,
    /// Where it stands.
    pub status: Status,
    /// Whether a script answers instead of a model; unknown until the run is claimed, for only then its route is chosen.
    pub rehearsal: Option<bool>,
    /// Why the model stopped in the last turn; nothing until that is answered.
    pub stop: Option<StopReason>,
}

/// What is kept of a run only until it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// Time of its last record, Unix milliseconds.
    pub changed_at_ms: u64,
    /// The start of the daemon that claimed it.
    pub boot_id: Option<BootId>,
    /// How it was asked to stop.
    pub stop: Option<Stop>,
    /// The approval it waits for.
    pub approval: Option<ApprovalId>,
    /// The question it waits for.
    pub question: Option<QuestionId>,
}

/// All runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runs {
    rows: BTreeMap<RunId, Row>,
    open: BTreeMap<RunId, Open>,
    queued: BTreeSet<RunId>,
    counts: BTreeMap<Status, u64>,
}

impl Models {
    /// The organisation's runs that have not ended, each with the record that says its route.
    pub fn open_run_places(&self, org: &str) -> impl Iterator<Item = (RunId, u64)> {
        let rows = self.runs.open.keys().filter_map(|id| Some((*id, self.runs.rows.get(id)?)));
        let own = rows.filter(move |(_, row)| self.names.is(row.org, org));
        own.map(|(id, row)| (id, row.started_seq.map_or(row.created_seq, NonZeroU64::get)))
    }
}

/// What a list of runs is narrowed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of one session.
    pub session: Option<SessionId>,
    /// With one status.
    pub status: Option<Status>,
}

/// A run's places, taken out of the models; its words are read afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The run.
    pub id: RunId,
    /// What is kept of it.
    pub row: Row,
    /// What is kept until it ends.
    pub open: Option<Open>,
}

impl Runs {
    /// The session of a run.
    pub fn session_of(&self, id: RunId) -> Option<SessionId> {
        self.rows.get(&id).map(|row| row.session)
    }

    /// What is kept of a run.
    pub fn get(&self, id: RunId) -> Option<Facts> {
        let row = *self.rows.get(&id)?;
        Some(Facts { id, row, open: self.open.get(&id).copied() })
    }

    /// How many runs have this status.
    pub fn count(&self, status: Status) -> u64 {
        self.counts.get(&status).copied().unwrap_or(0)
    }

    /// Runs in queues, oldest first.
    pub fn queued_ids(&self) -> impl Iterator<Item = RunId> {
        self.queued.iter().copied()
    }

    /// Runs that have not ended.
    pub fn open(&self) -> impl Iterator<Item = Facts> {
        self.open.iter().filter_map(|(id, open)| {
            let row = *self.rows.get(id)?;
            Some(Facts { id: *id, row, open: Some(*open) })
        })
    }

    /// Runs that work, or should: a worker owes each of them its next step.
    pub fn working(&self) -> impl Iterator<Item = Facts> {
        self.open().filter(|facts| facts.row.status == Status::Running)
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&RunId, &Row)> {
        self.rows.iter()
    }

    pub(super) fn touch(&mut self, record: &Record) {
        if let Some(open) = record.stream.run().and_then(|id| self.open.get_mut(&id)) {
            open.changed_at_ms = record.at_ms;
        }
    }

    fn set_status(&mut self, id: RunId, status: Status) {
        let Some(row) = self.rows.get_mut(&id) else { return };
        if let Some(count) = self.counts.get_mut(&row.status) {
            *count = count.saturating_sub(1);
        }
        row.status = status;
        *self.counts.entry(status).or_default() += 1;
        if status != Status::Queued {
            self.queued.remove(&id);
        }
    }

    pub(super) fn queued(&mut self, record: &Record, org: Name, body: &run::Queued) {
        let Some(id) = record.stream.run() else { return };
        let row = Row {
            session: body.session_id,
            created_seq: record.seq,
            created_at_ms: record.at_ms,
            started_seq: None,
            ended_seq: None,
            input_tokens: 0,
            output_tokens: 0,
            turns: 0,
            unknown_calls: 0,
            org,
            status: Status::Queued,
            rehearsal: None,
            stop: None,
        };
        let open = Open { changed_at_ms: record.at_ms, boot_id: None, stop: None, approval: None, question: None };
        self.rows.insert(id, row);
        self.open.insert(id, open);
        self.queued.insert(id);
        *self.counts.entry(Status::Queued).or_default() += 1;
    }

    pub(super) fn started(&mut self, record: &Record, body: &run::Started) {
        let Some(id) = record.stream.run() else { return };
        let Some(row) = self.rows.get_mut(&id) else { return };
        row.started_seq = row.started_seq.or(NonZeroU64::new(record.seq));
        row.rehearsal = Some(body.rehearsal);
        if row.status == Status::Queued {
            self.set_status(id, Status::Running);
        }
        if let Some(open) = self.open.get_mut(&id) {
            open.boot_id = Some(body.boot_id);
        }
    }

    pub(super) fn stop_requested(&mut self, record: &Record, body: &run::StopRequested) {
        if let Some(open) = record.stream.run().and_then(|id| self.open.get_mut(&id)) {
            open.stop = Some(body.how);
        }
    }

    pub(super) fn turn_requested(&mut self, record: &Record, body: &turn::Requested) {
        if let Some(row) = record.stream.run().and_then(|id| self.rows.get_mut(&id)) {
            row.turns = body.turn;
            row.stop = None;
        }
    }

    pub(super) fn outcome_unknown(&mut self, record: &Record) {
        if let Some(row) = record.stream.run().and_then(|id| self.rows.get_mut(&id)) {
            row.unknown_calls += 1;
        }
    }

    pub(super) fn turn_answered(&mut self, record: &Record, body: &turn::Answered) {
        let Some(row) = record.stream.run().and_then(|id| self.rows.get_mut(&id)) else { return };
        row.stop = Some(body.stop);
        if let Some(usage) = &body.usage {
            row.input_tokens = row.input_tokens.saturating_add(usage.input_tokens);
            row.output_tokens = row.output_tokens.saturating_add(usage.output_tokens);
        }
    }

    /// The run waits for a person.
    pub(super) fn waits(&mut self, id: RunId, approval: Option<ApprovalId>, question: Option<QuestionId>) {
        let Some(open) = self.open.get_mut(&id) else { return };
        open.approval = approval;
        open.question = question;
        let status = if approval.is_some() { Status::WaitingForApproval } else { Status::WaitingForUserQuestion };
        self.set_status(id, status);
    }

    /// What the run waited for is over.
    pub(super) fn resumes(&mut self, id: RunId) {
        let Some(open) = self.open.get_mut(&id) else { return };
        open.approval = None;
        open.question = None;
        self.set_status(id, Status::Running);
    }

    pub(super) fn ended(&mut self, record: &Record, status: Status) {
        let Some(id) = record.stream.run() else { return };
        if self.open.remove(&id).is_none() {
            return;
        }
        self.set_status(id, status);
        if let Some(row) = self.rows.get_mut(&id) {
            row.ended_seq = NonZeroU64::new(record.seq);
        }
    }
}

impl Models {
    /// A run of an organisation.
    pub fn run(&self, org: &str, id: RunId) -> Result<Facts, Refusal> {
        let facts = self.runs.get(id).filter(|facts| self.names.is(facts.row.org, org));
        facts.ok_or_else(|| Reason::RunNotFound.into())
    }

    /// One page of an organisation's runs, newest first.
    pub fn run_page(&self, org: &str, filter: &Filter, paging: &Paging) -> Result<Page<Facts>, Refusal> {
        let before: Bound<RunId> = paging.before()?;
        let keep = |id: &RunId| {
            let facts = self.runs.get(*id)?;
            let wanted = self.names.is(facts.row.org, org)
                && filter.session.is_none_or(|session| facts.row.session == session)
                && filter.status.is_none_or(|status| facts.row.status == status);
            wanted.then_some(facts)
        };
        if let Some(session) = filter.session {
            let runs = self.session(org, session)?.runs_before(self, before);
            return paging.take(runs.iter().rev().copied(), keep);
        }
        if filter.status.is_some_and(|status| !status.terminal()) {
            return paging.take(self.runs.open.range((Bound::Unbounded, before)).rev().map(|(id, _)| *id), keep);
        }
        paging.take(self.runs.rows.range((Bound::Unbounded, before)).rev().map(|(id, _)| *id), keep)
    }

    /// The runs of a session, oldest first; none where the organisation has no such session.
    pub fn runs_of_session(&self, org: &str, id: SessionId) -> &[RunId] {
        self.session(org, id).map_or(&[], |facts| facts.runs_before(self, Bound::Unbounded))
    }

    /// Queued runs whose turn has come: the first of each session in which no other run works or waits.
    pub fn startable(&self) -> impl Iterator<Item = Facts> {
        let mut seen = BTreeSet::new();
        self.runs.queued_ids().filter_map(move |id| {
            let facts = self.runs.get(id)?;
            let first = seen.insert(facts.row.session);
            (first && self.sessions.active(facts.row.session).is_none()).then_some(facts)
        })
    }
}
