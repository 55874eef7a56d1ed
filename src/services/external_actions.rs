//! What a run did outside of the daemon: each call of a provider and each command, by the record that was sealed before it
//! was made, and the record of what came of it. Either has a receipt that verifies alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::published::Published;
use crate::domain::command::invalid;
use crate::domain::event::Event;
use crate::domain::ids::{CallId, ModelCallId, RunId, SessionId, TaskId};
use crate::domain::ledger::Cost;
use crate::domain::limits::{PAGE_DEFAULT, PAGE_MAX};
use crate::domain::model_call;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Record;
use crate::journal::line;
use crate::projections::feed::{Filter, Scope};

/// Records that are read at a time.
const AT_A_TIME: usize = 1_000;

/// What was acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A model provider was called.
    Provider,
    /// A command ran in the foreground, or was to start one in the background.
    Shell,
    /// A command ran in the background.
    BackgroundTask,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It goes on.
    Pending,
    /// It did what it was to do.
    Done,
    /// It did not; `code` says why.
    Failed,
    /// Nobody knows: the daemon stopped in between.
    Unknown,
}

/// One action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ExternalAction {
    /// What was acted on.
    pub kind: Kind,
    /// A tool's name, or the route and the model.
    pub what: String,
    /// Whether a script answered in place of the provider.
    pub rehearsal: bool,
    /// When it was about to be made, Unix milliseconds.
    pub at_ms: u64,
    /// The record that was sealed before it was made.
    pub intent_seq: u64,
    /// The record of what came of it.
    pub outcome_seq: Option<u64>,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it failed.
    pub code: Option<Reason>,
    /// Route id.
    pub route: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// The call of a tool.
    pub call_id: Option<CallId>,
    /// The background task.
    pub task_id: Option<TaskId>,
    /// The call of a client.
    pub model_call_id: Option<ModelCallId>,
    /// The session that pays for the call of a client as well.
    pub session_id: Option<SessionId>,
    /// What became of the call of a client, to the letter.
    pub ended_as: Option<model_call::Outcome>,
    /// What the call of a provider cost, where something was set aside for it.
    pub cost: Option<Cost>,
    /// Keyed fingerprint of the secret that was used.
    pub credential_fp: Option<String>,
    /// Digest of what was sent, or of the call that was made, hex.
    pub sha256: Option<String>,
    /// Where the receipt of the intent is had.
    pub receipt: String,
}

impl ExternalAction {
    /// One that goes on.
    pub(super) fn begun(record: &Record, kind: Kind, what: String) -> Self {
        Self {
            kind,
            what,
            rehearsal: false,
            at_ms: record.at_ms,
            intent_seq: record.seq,
            outcome_seq: None,
            outcome: Outcome::Pending,
            code: None,
            route: None,
            model: None,
            call_id: None,
            task_id: None,
            model_call_id: None,
            session_id: None,
            ended_as: None,
            cost: None,
            credential_fp: None,
            sha256: None,
            receipt: format!("/v1/journal/proof?seq={}", record.seq),
        }
    }

    /// Notes what came of it.
    pub(super) fn end(&mut self, record: &Record, outcome: Outcome, code: Option<Reason>) {
        (self.outcome_seq, self.outcome, self.code) = (Some(record.seq), outcome, code);
    }
}

/// How many entries a page has.
pub(super) fn page_limit(asked: Option<usize>) -> Result<usize, Refusal> {
    let limit = asked.unwrap_or(PAGE_DEFAULT);
    if (1..=PAGE_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(invalid("/limit", format!("A page has 1 to {PAGE_MAX} entries.")))
}

/// One page of actions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ExternalActions {
    /// Oldest first.
    pub items: Vec<ExternalAction>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}

/// The actions that records tell of.
#[derive(Debug, Default)]
struct Told {
    actions: Vec<ExternalAction>,
    rehearsal: bool,
    /// The call of a provider that goes on.
    asked: Option<usize>,
    calls: BTreeMap<CallId, usize>,
    tasks: BTreeMap<TaskId, usize>,
}

impl Told {
    fn begin(&mut self, record: &Record, kind: Kind, what: String) -> &mut ExternalAction {
        let at = self.actions.len();
        self.actions.push(ExternalAction::begun(record, kind, what));
        &mut self.actions[at]
    }

    fn end(&mut self, at: Option<usize>, record: &Record, outcome: Outcome, code: Option<Reason>) {
        if let Some(action) = at.and_then(|at| self.actions.get_mut(at)) {
            action.end(record, outcome, code);
        }
    }

    /// The end of the call of a provider that goes on.
    fn answered(&mut self, record: &Record, (outcome, code): (Outcome, Option<Reason>), cost: Option<Cost>) {
        if let Some(action) = self.asked.take().and_then(|at| self.actions.get_mut(at)) {
            action.end(record, outcome, code);
            action.cost = cost;
        }
    }

    fn take(&mut self, record: &Record) {
        let next = self.actions.len();
        match &record.event {
            Event::RunStarted(body) => self.rehearsal = body.rehearsal,
            Event::TurnRequested(body) => {
                self.lost(None);
                self.asked = Some(next);
                // A route that asks a model has a price, or none that is known, and reserves.
                let rehearsal = self.rehearsal && body.reservation.is_none();
                let action = self.begin(record, Kind::Provider, format!("{}/{}", body.route, body.model));
                action.rehearsal = rehearsal;
                (action.route, action.model) = (Some(body.route.clone()), Some(body.model.clone()));
                action.credential_fp = body.credential.as_ref().map(|used| used.fp.clone());
                action.sha256 = Some(body.request_sha256.clone());
            }
            Event::TurnReservationSettled(body) => self.lost(Some(body.cost)),
            Event::TurnAnswered(body) => self.answered(record, (Outcome::Done, None), body.cost),
            Event::TurnFailed(body) => self.answered(record, (Outcome::Failed, Some(body.code)), body.cost),
            // Where something confines it, or was to be confined, a process was started.
            Event::CallDispatched(body) if body.sandbox.is_some() => {
                self.calls.insert(body.call_id, next);
                let action = self.begin(record, Kind::Shell, body.tool.clone());
                action.call_id = Some(body.call_id);
                action.sha256 = Some(body.call_hash.clone());
            }
            Event::CallFinished(body) => {
                let outcome = if body.ok { Outcome::Done } else { Outcome::Failed };
                self.end(self.calls.get(&body.call_id).copied(), record, outcome, body.code);
            }
            Event::CallOutcomeUnknown(body) => {
                self.end(self.calls.get(&body.call_id).copied(), record, Outcome::Unknown, None);
            }
            Event::TaskStarted(body) => {
                self.tasks.insert(body.task_id, next);
                let action = self.begin(record, Kind::BackgroundTask, "bash".to_owned());
                (action.call_id, action.task_id) = (Some(body.call_id), Some(body.task_id));
            }
            Event::TaskFinished(body) => {
                let outcome = match body.status {
                    crate::domain::task::Status::Completed => Outcome::Done,
                    _ => Outcome::Failed,
                };
                self.end(self.tasks.get(&body.task_id).copied(), record, outcome, None);
            }
            Event::RunCompleted(_) | Event::RunFailed(_) | Event::RunInterrupted(_) | Event::RunCancelled(_) => {
                self.lost(None);
            }
            _ => {}
        }
    }

    /// A call of a provider that nobody waits for any more, and of whose end there is no record.
    fn lost(&mut self, cost: Option<Cost>) {
        if let Some(action) = self.asked.take().and_then(|at| self.actions.get_mut(at)) {
            (action.outcome, action.cost) = (Outcome::Unknown, cost);
        }
    }
}

/// One page of the actions of an organisation's run, oldest first; `after` is the intent of the last one seen.
pub async fn of_run(
    published: &Published,
    org: &str,
    run: RunId,
    (after, limit): (Option<u64>, Option<usize>),
) -> Result<ExternalActions, Refusal> {
    let limit = page_limit(limit)?;
    published.models().run(org, run)?;
    let filter = Arc::new(Filter { org: org.to_owned(), scope: Scope::Run(run) });
    let (mut told, end) = (Told::default(), published.feed().next_seq());
    let mut from = published.beginning(&filter);
    while from < end {
        let (items, next) = published.replay(&filter, (from, end), AT_A_TIME).await?;
        items.iter().filter_map(|item| line::parse_record(&item.line).ok()).for_each(|record| told.take(&record));
        if next <= from {
            break;
        }
        from = next;
    }
    let mut left = told.actions.into_iter().filter(|action| after.is_none_or(|after| action.intent_seq > after));
    let items: Vec<ExternalAction> = left.by_ref().take(limit).collect();
    let next_cursor = left.next().and_then(|_| Some(items.last()?.intent_seq.to_string()));
    Ok(ExternalActions { items, next_cursor })
}
