//! Sessions as people see them.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::page::{Page, Paging};
use super::replies::ReplyTo;
use super::runs::Runs;
use super::{Bodies, Models};
use crate::domain::erasure::SubjectKey;
use crate::domain::event::Event;
use crate::domain::ids::{RunId, SessionId};
use crate::domain::names::Name;
use crate::domain::permission::{Mode, Rule};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Record;
use crate::domain::run;
use crate::domain::runtime::ModelChoice;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It takes runs; none works, waits or is queued.
    Idle,
    /// A run works, waits or is queued.
    Active,
    /// It takes no further run.
    Ended,
}

/// What is kept of every session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    created_seq: u64,
    created_at_ms: u64,
    changed_at_ms: u64,
    ended_seq: Option<NonZeroU64>,
    policy_seq: Option<NonZeroU64>,
    /// The route that it chooses for its later runs.
    route: Option<Name>,
    runs: Vec<RunId>,
    org: Name,
}

/// What is kept of a session only while something goes on in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Busy {
    active: Option<RunId>,
    queue: VecDeque<RunId>,
}

/// All sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    rows: BTreeMap<SessionId, Row>,
    busy: BTreeMap<SessionId, Busy>,
    ended: u64,
}

/// A session's places, taken out of the models; its words are read afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The session.
    pub id: SessionId,
    /// Where it stands.
    pub status: Status,
    /// `session.created`.
    pub created_seq: u64,
    /// `session.ended`.
    pub ended_seq: Option<u64>,
    /// `session.route_policy_set` in force.
    pub policy_seq: Option<u64>,
    /// When it was created, Unix milliseconds.
    pub created_at_ms: u64,
    /// Time of the last record of it or its runs.
    pub changed_at_ms: u64,
    /// How many runs it has had.
    pub runs: usize,
    /// The run that works or waits.
    pub active: Option<RunId>,
    /// How many runs are queued.
    pub queued: usize,
    /// The key of its words, where they are encrypted.
    pub subject_key: Option<SubjectKey>,
}

impl Sessions {
    /// The run of a session that works or waits.
    pub fn active(&self, id: SessionId) -> Option<RunId> {
        self.busy.get(&id).and_then(|busy| busy.active)
    }

    /// How many sessions there are.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// How many have ended.
    pub fn ended_count(&self) -> u64 {
        self.ended
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&SessionId, impl Serialize)> {
        self.rows.iter()
    }

    pub(super) fn touch(&mut self, id: SessionId, at_ms: u64) {
        if let Some(row) = self.rows.get_mut(&id) {
            row.changed_at_ms = at_ms;
        }
    }

    pub(super) fn created(&mut self, record: &Record, org: Name, route: Option<Name>) {
        let Some(id) = record.stream.session() else { return };
        let row = Row {
            created_seq: record.seq,
            created_at_ms: record.at_ms,
            changed_at_ms: record.at_ms,
            ended_seq: None,
            policy_seq: None,
            route,
            runs: Vec::new(),
            org,
        };
        self.rows.insert(id, row);
    }

    pub(super) fn policy_set(&mut self, record: &Record, route: Option<Name>) {
        if let Some(row) = record.stream.session().and_then(|id| self.rows.get_mut(&id)) {
            row.policy_seq = NonZeroU64::new(record.seq);
            row.route = route;
        }
    }

    pub(super) fn ended(&mut self, record: &Record) {
        if let Some(row) = record.stream.session().and_then(|id| self.rows.get_mut(&id)) {
            row.ended_seq = NonZeroU64::new(record.seq);
            row.runs.shrink_to_fit();
            self.ended += 1;
        }
    }

    pub(super) fn queued(&mut self, record: &Record, body: &run::Queued) {
        let Some(run) = record.stream.run() else { return };
        let Some(row) = self.rows.get_mut(&body.session_id) else { return };
        row.runs.push(run);
        self.busy.entry(body.session_id).or_default().queue.push_back(run);
    }

    pub(super) fn started(&mut self, record: &Record, runs: &Runs) {
        let Some(run) = record.stream.run() else { return };
        let Some(busy) = runs.session_of(run).and_then(|id| self.busy.get_mut(&id)) else { return };
        busy.queue.retain(|queued| *queued != run);
        busy.active = Some(run);
    }

    pub(super) fn run_ended(&mut self, record: &Record, runs: &Runs) {
        let Some(run) = record.stream.run() else { return };
        let Some(id) = runs.session_of(run) else { return };
        let Some(busy) = self.busy.get_mut(&id) else { return };
        busy.queue.retain(|queued| *queued != run);
        busy.active = busy.active.filter(|active| *active != run);
        if busy.active.is_none() && busy.queue.is_empty() {
            self.busy.remove(&id);
        }
    }

    fn facts(&self, id: SessionId) -> Option<Facts> {
        let row = self.rows.get(&id)?;
        let busy = self.busy.get(&id);
        let status = match (row.ended_seq, busy) {
            (Some(_), _) => Status::Ended,
            (None, Some(_)) => Status::Active,
            (None, None) => Status::Idle,
        };
        Some(Facts {
            id,
            status,
            created_seq: row.created_seq,
            ended_seq: row.ended_seq.map(NonZeroU64::get),
            policy_seq: row.policy_seq.map(NonZeroU64::get),
            created_at_ms: row.created_at_ms,
            changed_at_ms: row.changed_at_ms,
            runs: row.runs.len(),
            active: busy.and_then(|busy| busy.active),
            queued: busy.map_or(0, |busy| busy.queue.len()),
            subject_key: None,
        })
    }
}

impl Models {
    fn own_session(&self, org: &str, id: SessionId) -> Option<Facts> {
        let row = self.sessions.rows.get(&id)?;
        let facts = self.sessions.facts(id).filter(|_| self.names.is(row.org, org))?;
        Some(Facts { subject_key: self.subjects.of(id), ..facts })
    }

    /// A session of an organisation.
    pub fn session(&self, org: &str, id: SessionId) -> Result<Facts, Refusal> {
        self.own_session(org, id).ok_or_else(|| Reason::SessionNotFound.into())
    }

    /// The organisation's sessions that have not ended and choose a route, with that route.
    pub fn session_routes(&self, org: &str) -> impl Iterator<Item = (SessionId, &str)> {
        let own =
            self.sessions.rows.iter().filter(move |(_, row)| row.ended_seq.is_none() && self.names.is(row.org, org));
        own.filter_map(|(id, row)| Some((*id, self.names.text(row.route?))))
    }

    /// One page of an organisation's sessions, newest first.
    pub fn session_page(&self, org: &str, status: Option<Status>, paging: &Paging) -> Result<Page<Facts>, Refusal> {
        let before: Bound<SessionId> = paging.before()?;
        let keep = |id: &SessionId| {
            self.own_session(org, *id).filter(|facts| status.is_none_or(|status| facts.status == status))
        };
        if status == Some(Status::Active) {
            return paging.take(self.sessions.busy.range((Bound::Unbounded, before)).rev().map(|(id, _)| *id), keep);
        }
        paging.take(self.sessions.rows.range((Bound::Unbounded, before)).rev().map(|(id, _)| *id), keep)
    }
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct SessionView {
    /// The session.
    pub session_id: SessionId,
    /// Where it stands.
    pub status: Status,
    /// A name for people.
    pub title: Option<String>,
    /// Route id for its runs.
    pub route: Option<String>,
    /// Model for its runs.
    pub model: Option<String>,
    /// Mode for its runs; the runtime's where null.
    pub permission_mode: Option<Mode>,
    /// Rules of scope `session`.
    pub permission_rules: Vec<Rule>,
    /// The creator's own notes.
    pub metadata: BTreeMap<String, String>,
    /// Where the answers of its runs go.
    pub reply_targets: Vec<ReplyTo>,
    /// When it was created, Unix milliseconds.
    pub created_at_ms: u64,
    /// Time of the last record of it or its runs.
    pub changed_at_ms: u64,
    /// When it ended.
    pub ended_at_ms: Option<u64>,
    /// The run that works or waits.
    pub active_run_id: Option<RunId>,
    /// How many runs are queued.
    pub queued_runs: usize,
    /// How many runs it has had.
    pub runs: usize,
    /// An operator's words about its end.
    pub reason: Option<String>,
    /// Whether its words can be erased, or are.
    pub erasure: Erasure,
}

/// What can become of a session's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Erasure {
    /// They stand in clear and stay.
    Impossible,
    /// They are encrypted, and destroying their key erases them.
    Possible,
    /// They are erased.
    Done,
}

impl Erasure {
    fn of(key: Option<SubjectKey>) -> Self {
        match key {
            None => Self::Impossible,
            Some(key) if key.erased => Self::Done,
            Some(_) => Self::Possible,
        }
    }
}

/// The route policy that this record sets.
fn policy(bodies: &dyn Bodies, seq: u64) -> Option<ModelChoice> {
    match bodies.record(seq)?.event {
        Event::SessionRoutePolicySet(body) => Some(body.choice),
        _ => None,
    }
}

impl Facts {
    /// The route and the model that the session itself chooses for its later runs.
    pub fn choice(&self, bodies: &dyn Bodies) -> Option<ModelChoice> {
        if let Some(seq) = self.policy_seq {
            return policy(bodies, seq);
        }
        match bodies.record(self.created_seq)?.event {
            Event::SessionCreated(body) => Some(ModelChoice { route: body.route, model: body.model }),
            _ => None,
        }
    }

    /// The ids of the session's runs below a bound, oldest first.
    pub(super) fn runs_before<'m>(&self, models: &'m Models, before: Bound<RunId>) -> &'m [RunId] {
        let runs = models.sessions.rows.get(&self.id).map_or(&[][..], |row| row.runs.as_slice());
        let end = match before {
            Bound::Excluded(limit) => runs.partition_point(|id| *id < limit),
            Bound::Included(_) | Bound::Unbounded => runs.len(),
        };
        runs.get(..end).unwrap_or(runs)
    }

    /// The view, with the words read from the records.
    pub fn view(&self, bodies: &dyn Bodies) -> SessionView {
        let mut view = SessionView {
            session_id: self.id,
            status: self.status,
            title: None,
            route: None,
            model: None,
            permission_mode: None,
            permission_rules: Vec::new(),
            metadata: BTreeMap::new(),
            reply_targets: Vec::new(),
            created_at_ms: self.created_at_ms,
            changed_at_ms: self.changed_at_ms,
            ended_at_ms: None,
            active_run_id: self.active,
            queued_runs: self.queued,
            runs: self.runs,
            reason: None,
            erasure: Erasure::of(self.subject_key),
        };
        if let Some(Event::SessionCreated(body)) = bodies.record(self.created_seq).map(|record| record.event) {
            view.title = body.title.as_ref().and_then(|title| bodies.text(title));
            view.route = body.route;
            view.model = body.model;
            view.permission_mode = body.permission_mode;
            view.permission_rules = body.permission_rules;
            view.metadata = body.metadata;
            view.reply_targets = body.reply_targets.iter().map(|target| ReplyTo::of(target, bodies)).collect();
        }
        if let Some(choice) = self.policy_seq.and_then(|seq| policy(bodies, seq)) {
            view.route = choice.route;
            view.model = choice.model;
        }
        if let Some(record) = self.ended_seq.and_then(|seq| bodies.record(seq)) {
            view.ended_at_ms = Some(record.at_ms);
            if let Event::SessionEnded(body) = record.event {
                view.reason = body.note;
            }
        }
        view
    }
}
