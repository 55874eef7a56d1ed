//! What is shown of a run: its places, filled with the words of the records they name.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use serde::Serialize;

use super::Facts;
use crate::domain::event::Event;
use crate::domain::ids::{ApprovalId, CallId, QuestionId, RunId, SessionId};
use crate::domain::permission::Mode;
use crate::domain::reason::Reason;
use crate::domain::record::Record;
use crate::domain::reply::ReplyTarget;
use crate::domain::run::{InputItem, InterruptCause, RouteChoice, Status, Stop};
use crate::domain::turn::StopReason;
use crate::projections::Bodies;
use crate::projections::replies::ReplyTo;

/// One part of a run's input, with its words where they can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum InputView {
    /// Words.
    Text {
        /// The words; null where they are no longer readable.
        text: Option<String>,
    },
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct FailureView {
    /// The code.
    pub code: Reason,
    /// Its sentence.
    pub title: String,
    /// What is particular about it.
    pub detail: String,
    /// The next step.
    pub next: String,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RunView {
    /// The run.
    pub run_id: RunId,
    /// Its session.
    pub session_id: SessionId,
    /// Where it stands.
    pub status: Status,
    /// Whether a script answers instead of a model; null until the run is claimed, for only then its route is chosen.
    pub rehearsal: Option<bool>,
    /// What was asked, in order.
    pub input_items: Vec<InputView>,
    /// Route id: the one in use, or before that the one asked for.
    pub route: Option<String>,
    /// Model: the one in use, or before that the one asked for.
    pub model: Option<String>,
    /// Driver of the route.
    pub driver: Option<String>,
    /// Which level chose the route.
    pub chosen_by: Option<RouteChoice>,
    /// Mode in force.
    pub permission_mode: Option<Mode>,
    /// Model turns begun.
    pub turns: u32,
    /// Why the model stopped in the last turn: `max_tokens` says that its answer is cut. Null until that turn is answered.
    pub stop: Option<StopReason>,
    /// Model turns after which it fails.
    pub max_turns: Option<u32>,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// The creator's own notes.
    pub metadata: BTreeMap<String, String>,
    /// Where its answer goes; to the session's targets where null.
    pub reply_targets: Option<Vec<ReplyTo>>,
    /// When it was queued, Unix milliseconds.
    pub created_at_ms: u64,
    /// When it was first claimed.
    pub started_at_ms: Option<u64>,
    /// Time of its last record.
    pub changed_at_ms: u64,
    /// When it ended.
    pub ended_at_ms: Option<u64>,
    /// How it was asked to stop, while it has not.
    pub stop_requested: Option<Stop>,
    /// The approval it waits for.
    pub approval_id: Option<ApprovalId>,
    /// The question it waits for.
    pub question_id: Option<QuestionId>,
    /// The answer of a completed run.
    pub output: Option<String>,
    /// Why it failed.
    pub error: Option<FailureView>,
    /// What interrupted it.
    pub interrupted_by: Option<InterruptCause>,
    /// Calls that were under way at its end, so that it is not known whether they took effect.
    pub unknown_calls: Vec<CallId>,
    /// An operator's words about its end.
    pub reason: Option<String>,
}

impl Facts {
    /// The view, with the words read from the records.
    pub fn view(&self, bodies: &dyn Bodies) -> RunView {
        let row = &self.row;
        let mut view = RunView {
            run_id: self.id,
            session_id: row.session,
            status: row.status,
            rehearsal: row.rehearsal,
            input_items: Vec::new(),
            route: None,
            model: None,
            driver: None,
            chosen_by: None,
            permission_mode: None,
            turns: row.turns,
            stop: row.stop,
            max_turns: None,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            metadata: BTreeMap::new(),
            reply_targets: None,
            created_at_ms: row.created_at_ms,
            started_at_ms: None,
            changed_at_ms: self.open.map_or(row.created_at_ms, |open| open.changed_at_ms),
            ended_at_ms: None,
            stop_requested: self.open.and_then(|open| open.stop),
            approval_id: self.open.and_then(|open| open.approval),
            question_id: self.open.and_then(|open| open.question),
            output: None,
            error: None,
            interrupted_by: None,
            unknown_calls: Vec::new(),
            reason: None,
        };
        let end = row.ended_seq.map(NonZeroU64::get);
        // One decision records them right before the run's end.
        let unknown = end.into_iter().flat_map(|end| end.saturating_sub(u64::from(row.unknown_calls))..end);
        let places = [Some(row.created_seq), row.started_seq.map(NonZeroU64::get)].into_iter().flatten();
        for record in places.chain(unknown).chain(end).filter_map(|seq| bodies.record(seq)) {
            view.fill(&record, bodies);
        }
        view
    }
}

impl RunView {
    fn fill(&mut self, record: &Record, bodies: &dyn Bodies) {
        match &record.event {
            Event::RunQueued(body) => {
                let words = |item: &InputItem| match item {
                    InputItem::Text { text } => InputView::Text { text: bodies.text(text) },
                };
                self.input_items = body.input.iter().map(words).collect();
                self.route.clone_from(&body.route);
                self.model.clone_from(&body.model);
                self.max_turns = Some(body.max_turns);
                self.metadata.clone_from(&body.metadata);
                let shown = |targets: &Vec<ReplyTarget>| targets.iter().map(|each| ReplyTo::of(each, bodies)).collect();
                self.reply_targets = body.reply_targets.as_ref().map(shown);
            }
            Event::RunStarted(body) => {
                self.route = Some(body.route.clone());
                self.model = Some(body.model.clone());
                self.driver = Some(body.driver.clone());
                self.chosen_by = Some(body.chosen_by);
                self.permission_mode = Some(body.permission_mode);
                self.started_at_ms = Some(record.at_ms);
            }
            Event::RunCompleted(body) => self.output = bodies.text(&body.output),
            Event::RunFailed(body) => {
                self.error = Some(FailureView {
                    code: body.code,
                    title: body.code.title().to_owned(),
                    detail: body.detail.clone(),
                    next: body.code.next().to_owned(),
                });
            }
            Event::RunInterrupted(body) => {
                self.interrupted_by = Some(body.cause);
                self.reason.clone_from(&body.note);
            }
            Event::RunCancelled(body) => self.reason.clone_from(&body.note),
            Event::CallOutcomeUnknown(body) => return self.unknown_calls.push(body.call_id),
            // The places of a run name only the records above.
            _ => return,
        }
        if self.status.terminal() && !matches!(record.event, Event::RunQueued(_) | Event::RunStarted(_)) {
            self.ended_at_ms = Some(record.at_ms);
            self.changed_at_ms = record.at_ms;
        }
    }
}
