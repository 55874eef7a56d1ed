//! The run as a stepper: folded from the run's own records, it says what comes next and does nothing itself. A worker
//! commits the intent, carries the step out, commits the outcome, and asks again; after a restart the same records
//! lead to the same next step.

mod step;

use std::collections::BTreeSet;

use crate::domain::approval::{Decision, WithdrawnCause};
use crate::domain::call;
use crate::domain::event::Event;
use crate::domain::ids::{ApprovalId, BootId, CallId, QuestionId};
use crate::domain::permission::Behavior;
use crate::domain::personal::Personal;
use crate::domain::question;
use crate::domain::reason::Reason;
use crate::domain::record::Record;
use crate::domain::run::{Status, TurnStage};
use crate::domain::turn::{self, StopReason};

pub use step::Step;

/// Name of the tool that asks a person.
pub const QUESTION_TOOL: &str = "ask_user_question";

/// How far a call is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The model asked for it.
    Asked,
    /// Mode and rules have spoken.
    Judged(Behavior),
    /// A person is asked to allow it.
    AwaitsApproval(ApprovalId),
    /// A person allowed exactly the call with this hash.
    Approved(String),
    /// It will not be made, for this reason.
    Dropped(Reason),
    /// A person is asked its question.
    AwaitsAnswer(QuestionId),
    /// A person answered, or declined to.
    Answered(QuestionId),
    /// The intent is recorded and the outcome is not.
    Dispatched,
    /// It has its result.
    Done,
}

/// A call of the current turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// As the model asked for it.
    pub asked: turn::ToolCall,
    /// How far it is.
    pub stage: Stage,
}

/// Where a run stands, as far as the next step needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunState {
    status: Status,
    claim: Option<BootId>,
    stopping: bool,
    max_turns: u32,
    turn: u32,
    attempt: u32,
    stage: TurnStage,
    failures: u32,
    failure: Option<(Reason, String)>,
    stop: StopReason,
    text: Option<Personal>,
    calls: Vec<Call>,
    /// Routes and models that were asked in the current turn, in order.
    ways: Vec<(String, String)>,
}

/// What bounds a run besides its own limit of turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This start of the daemon.
    pub boot_id: BootId,
    /// Tools that there are; a call of any other is refused.
    pub tools: BTreeSet<String>,
    /// Most failed attempts at one turn.
    pub failures_per_turn: u32,
    /// Most attempts at one turn, those that a restart cut off included.
    pub attempts_per_turn: u32,
}

impl Default for RunState {
    fn default() -> Self {
        Self {
            status: Status::Queued,
            claim: None,
            stopping: false,
            max_turns: 0,
            turn: 0,
            attempt: 0,
            stage: TurnStage::None,
            failures: 0,
            failure: None,
            stop: StopReason::EndTurn,
            text: None,
            calls: Vec::new(),
            ways: Vec::new(),
        }
    }
}

impl RunState {
    /// Folds all records of a run.
    pub fn of<'r>(records: impl IntoIterator<Item = &'r Record>) -> Self {
        let mut state = Self::default();
        for record in records {
            state.apply(record);
        }
        state
    }

    /// Calls of the current turn, in the model's order.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// The call of the current turn with this id.
    pub fn call(&self, id: CallId) -> Option<&Call> {
        self.calls.iter().find(|call| call.asked.call_id == id)
    }

    /// Routes and models that were asked in the current turn and did not answer, in order; the last is asked again.
    pub fn unanswered(&self) -> &[(String, String)] {
        match self.stage {
            TurnStage::Requested | TurnStage::Failed => &self.ways,
            TurnStage::None | TurnStage::Answered => &[],
        }
    }

    /// Why the last call of the model was not answered, if it was not.
    pub fn unanswered_because(&self) -> Option<Reason> {
        self.failure.as_ref().filter(|_| self.stage == TurnStage::Failed).map(|(code, _)| *code)
    }

    /// The turn and the attempt at it that could be made over another route, where the provider of the last one could not
    /// be had: nothing of an answer came.
    pub fn elsewhere(&self, settings: &Settings) -> Option<(u32, u32)> {
        let had = self.unanswered_because().is_none_or(|code| !code.retry() || code == Reason::ProviderStreamBroken);
        let attempt = self.attempt.saturating_add(1);
        (!had && attempt <= settings.attempts_per_turn).then_some((self.turn, attempt))
    }

    /// Folds one record of the run.
    pub fn apply(&mut self, record: &Record) {
        match &record.event {
            Event::RunQueued(body) => self.max_turns = body.max_turns,
            Event::RunStarted(body) => {
                self.claim = Some(body.boot_id);
                if self.status == Status::Queued {
                    self.status = Status::Running;
                }
            }
            Event::RunStopRequested(_) => self.stopping = true,
            Event::RunCompleted(_) => self.status = Status::Completed,
            Event::RunFailed(_) => self.status = Status::Failed,
            Event::RunInterrupted(_) => self.status = Status::Interrupted,
            Event::RunCancelled(_) => self.status = Status::Cancelled,
            Event::TurnRequested(_) | Event::TurnAnswered(_) | Event::TurnFailed(_) => self.apply_turn(&record.event),
            event => self.apply_call(event),
        }
    }

    fn apply_turn(&mut self, event: &Event) {
        match event {
            Event::TurnRequested(body) => {
                if body.turn != self.turn {
                    self.failures = 0;
                    self.ways.clear();
                }
                let way = (body.route.clone(), body.model.clone());
                if self.ways.last() != Some(&way) {
                    // Another route has its own attempts.
                    self.failures = 0;
                    self.ways.push(way);
                }
                self.turn = body.turn;
                self.attempt = body.attempt;
                self.stage = TurnStage::Requested;
                self.calls.clear();
            }
            Event::TurnAnswered(body) => {
                self.stage = TurnStage::Answered;
                self.stop = body.stop;
                self.text.clone_from(&body.text);
                let asked = |asked: &turn::ToolCall| Call { asked: asked.clone(), stage: Stage::Asked };
                self.calls = body.tool_calls.iter().map(asked).collect();
            }
            Event::TurnFailed(body) => {
                self.stage = TurnStage::Failed;
                self.failures = self.failures.saturating_add(1);
                self.failure = Some((body.code, body.detail.clone()));
            }
            _ => {}
        }
    }

    fn apply_call(&mut self, event: &Event) {
        let (call, stage) = match event {
            Event::PermissionDecided(body) => (body.call_id, Stage::Judged(body.decision)),
            Event::ApprovalRequested(body) => {
                self.status = Status::WaitingForApproval;
                (body.call_id, Stage::AwaitsApproval(body.approval_id))
            }
            Event::QuestionAsked(body) => {
                self.status = Status::WaitingForUserQuestion;
                (body.call_id, Stage::AwaitsAnswer(body.question_id))
            }
            Event::CallDispatched(body) => (body.call_id, Stage::Dispatched),
            Event::CallFinished(call::Finished { call_id, .. })
            | Event::CallRefused(call::Refused { call_id, .. })
            | Event::CallOutcomeUnknown(call::OutcomeUnknown { call_id }) => (*call_id, Stage::Done),
            event => return self.apply_end_of_wait(event),
        };
        if let Some(call) = self.calls.iter_mut().find(|one| one.asked.call_id == call) {
            call.stage = stage;
        }
    }

    fn apply_end_of_wait(&mut self, event: &Event) {
        let (waited, stage) = match event {
            Event::ApprovalDecided(body) => {
                let stage = match body.decision {
                    Decision::Allow => Stage::Approved(body.call_hash.clone()),
                    Decision::Deny => Stage::Dropped(Reason::PermissionDenied),
                };
                (Stage::AwaitsApproval(body.approval_id), stage)
            }
            Event::ApprovalExpired(body) => {
                (Stage::AwaitsApproval(body.approval_id), Stage::Dropped(Reason::ApprovalExpired))
            }
            Event::ApprovalWithdrawn(body) => {
                let stage = match body.cause {
                    WithdrawnCause::CallChanged => Stage::Judged(Behavior::Ask),
                    WithdrawnCause::RunEnded => Stage::Dropped(Reason::RunTerminal),
                };
                (Stage::AwaitsApproval(body.approval_id), stage)
            }
            Event::QuestionAnswered(question::Answered { question_id, .. })
            | Event::QuestionDeclined(question::Declined { question_id, .. }) => {
                (Stage::AwaitsAnswer(*question_id), Stage::Answered(*question_id))
            }
            Event::QuestionExpired(body) => {
                (Stage::AwaitsAnswer(body.question_id), Stage::Dropped(Reason::QuestionExpired))
            }
            Event::QuestionWithdrawn(body) => {
                (Stage::AwaitsAnswer(body.question_id), Stage::Dropped(Reason::RunTerminal))
            }
            // Nothing else ends a wait.
            _ => return,
        };
        self.resume(&waited, stage);
    }

    /// The run no longer waits; the call that did goes on.
    fn resume(&mut self, waited: &Stage, stage: Stage) {
        if let Some(call) = self.calls.iter_mut().find(|one| one.stage == *waited) {
            call.stage = stage;
            self.status = Status::Running;
        }
    }
}

/// What comes next.
pub fn next(state: &RunState, settings: &Settings) -> Step {
    match state.status {
        Status::Completed | Status::Failed | Status::Interrupted | Status::Cancelled => Step::Ended,
        Status::WaitingForApproval | Status::WaitingForUserQuestion => Step::Wait,
        Status::Queued => Step::Claim,
        Status::Running if state.stopping => Step::Stop,
        Status::Running if state.claim != Some(settings.boot_id) => {
            let open = state.calls.iter().any(|call| call.stage == Stage::Dispatched);
            if open { Step::Settle } else { Step::Claim }
        }
        Status::Running => next_of_turn(state, settings),
    }
}

fn next_of_turn(state: &RunState, settings: &Settings) -> Step {
    match state.stage {
        TurnStage::None => next_turn(state),
        TurnStage::Requested => next_attempt(state, settings),
        TurnStage::Failed => match &state.failure {
            // An answer that broke off may have been paid for; whether to ask again is a person's decision.
            Some((code, _))
                if code.retry()
                    && *code != Reason::ProviderStreamBroken
                    && state.failures < settings.failures_per_turn =>
            {
                next_attempt(state, settings)
            }
            Some((code, detail)) => Step::Fail { code: *code, detail: detail.clone() },
            None => Step::Fail { code: Reason::InternalError, detail: "A turn failed without a reason.".to_owned() },
        },
        TurnStage::Answered => match state.calls.iter().find(|call| call.stage != Stage::Done) {
            Some(call) => next_of_call(call, settings),
            None if state.calls.is_empty() => last_answer(state),
            None => next_turn(state),
        },
    }
}

fn next_turn(state: &RunState) -> Step {
    if state.turn >= state.max_turns {
        return Step::Fail { code: Reason::RunTurnLimit, detail: format!("The run has {} turns.", state.max_turns) };
    }
    Step::CallModel { turn: state.turn.saturating_add(1), attempt: 1, failures: 0 }
}

fn next_attempt(state: &RunState, settings: &Settings) -> Step {
    if state.attempt >= settings.attempts_per_turn {
        let detail = format!("Turn {} did not end in {} attempts.", state.turn, state.attempt);
        return Step::Fail { code: Reason::InternalError, detail };
    }
    Step::CallModel { turn: state.turn, attempt: state.attempt.saturating_add(1), failures: state.failures }
}

/// An answer without calls ends the run; one that broke off before it said anything is no answer.
fn last_answer(state: &RunState) -> Step {
    let cut = |why: &str| Step::Fail { code: Reason::ProviderRejected, detail: why.to_owned() };
    match (state.stop, &state.text) {
        (StopReason::ContentFilter, _) => cut("The provider held the answer back."),
        (StopReason::MaxTokens, None) => cut("The model reached its limit of tokens before it said anything."),
        (StopReason::EndTurn | StopReason::ToolUse | StopReason::MaxTokens | StopReason::Other, text) => {
            Step::Complete { output: text.clone().unwrap_or_else(|| Personal::from("")) }
        }
    }
}

fn next_of_call(call: &Call, settings: &Settings) -> Step {
    let id = call.asked.call_id;
    match &call.stage {
        Stage::Asked if !settings.tools.contains(&call.asked.tool) => {
            Step::Refuse { call: id, code: Reason::ToolUnknown }
        }
        Stage::Asked => Step::DecidePermission { call: id },
        Stage::Judged(Behavior::Allow) | Stage::Approved(_) if call.asked.tool == QUESTION_TOOL => {
            Step::AskQuestion { call: id }
        }
        Stage::Judged(Behavior::Allow) => Step::Dispatch { call: id, approved: None },
        Stage::Judged(Behavior::Ask) => Step::RequestApproval { call: id },
        Stage::Judged(Behavior::Deny) => Step::Refuse { call: id, code: Reason::PermissionDenied },
        Stage::Approved(hash) => Step::Dispatch { call: id, approved: Some(hash.clone()) },
        Stage::Dropped(code) => Step::Refuse { call: id, code: *code },
        Stage::Answered(question) => Step::FinishQuestion { call: id, question: *question },
        Stage::AwaitsApproval(_) | Stage::AwaitsAnswer(_) | Stage::Done => Step::Wait,
        // Steps are taken one after the other, so whoever carried this one out is gone.
        Stage::Dispatched => {
            Step::Fail { code: Reason::RunOutcomeUnknown, detail: format!("The outcome of {id} was never recorded.") }
        }
    }
}

#[cfg(test)]
mod tests;
