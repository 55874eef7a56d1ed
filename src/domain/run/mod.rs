//! A run: one execution request inside a session, from the queue to its end.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::call;
use super::command::Context;
use super::ids::{ApprovalId, BootId, CallId, QuestionId, RunId, SessionId};
use super::names::Name;
use super::permission::Mode;
use super::personal::Personal;
use super::reason::{Reason, Refusal};
use super::record::Record;
use super::reply::ReplyTarget;
use super::world::World;

pub(super) mod queue;
mod stage;
pub(super) mod stop;

pub use queue::{Queue, Start};
pub use stage::TurnStage;
pub use stop::{Cancel, Complete, Confirm, Confirmed, Fail};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for its turn.
    Queued,
    /// Works.
    Running,
    /// Waits for a person to allow or deny a call.
    WaitingForApproval,
    /// Waits for a person's answer.
    WaitingForUserQuestion,
    /// Ended with an answer.
    Completed,
    /// Ended with a reason.
    Failed,
    /// Ended by an interrupt or a restart.
    Interrupted,
    /// Ended by a cancel.
    Cancelled,
}

impl Status {
    /// Every status, in the order of a run's life.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Running,
        Self::WaitingForApproval,
        Self::WaitingForUserQuestion,
        Self::Completed,
        Self::Failed,
        Self::Interrupted,
        Self::Cancelled,
    ];

    /// Whether a run with this status has ended.
    pub fn terminal(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::WaitingForApproval | Self::WaitingForUserQuestion => false,
            Self::Completed | Self::Failed | Self::Interrupted | Self::Cancelled => true,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::WaitingForApproval => "waiting_for_approval",
            Self::WaitingForUserQuestion => "waiting_for_user_question",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One ordered part of a run's input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum InputItem {
    /// Words.
    Text {
        /// The words.
        text: Personal,
    },
}

/// `run.queued`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Queued {
    /// The session.
    pub session_id: SessionId,
    /// What is asked, in order; never empty.
    pub input: Vec<InputItem>,
    /// Route id asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Model asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Model turns after which the run fails.
    pub max_turns: u32,
    /// Tokens after which a model shall stop, where the route does not say fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<NonZeroU32>,
    /// The creator's own notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Where its answer goes instead of to the session's targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_targets: Option<Vec<ReplyTarget>>,
}

/// Which level chose the route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteChoice {
    /// The run asked for it.
    Run,
    /// The session's default.
    Session,
    /// The runtime configuration's.
    Runtime,
    /// The routes file's default.
    Default,
}

/// `run.started`: a worker of this boot claimed the run, and route and mode are pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// The claim.
    pub boot_id: BootId,
    /// Route id.
    pub route: String,
    /// Driver of the route.
    pub driver: String,
    /// Model.
    pub model: String,
    /// Which level chose the route.
    pub chosen_by: RouteChoice,
    /// Whether the answers come from a script instead of a model.
    pub rehearsal: bool,
    /// Mode in force.
    pub permission_mode: Mode,
    /// The revision of the runtime configuration that it was claimed under: its system prompt and its limits of tools
    /// are the run's to its end.
    pub runtime_revision: u64,
}

/// How a run is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// By an interrupt of its session.
    Interrupt,
    /// By a cancel of the run.
    Cancel,
}

/// `run.stop_requested`: the run works; it ends as soon as its open call has been stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopRequested {
    /// Interrupt or cancel.
    pub how: Stop,
    /// An operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// `run.completed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Completed {
    /// The last answer's text.
    pub output: Personal,
    /// Model turns used.
    pub turns: u32,
}

/// `run.failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// Why.
    pub code: Reason,
    /// What is particular about it; no secret, no personal text.
    pub detail: String,
    /// Model turns used.
    pub turns: u32,
}

/// What interrupted a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InterruptCause {
    /// An interrupt of the session, or its end.
    Operator,
    /// The daemon stopped while a call's outcome was open.
    Restart,
    /// The daemon drained and the run did not end in time.
    Shutdown,
}

/// `run.interrupted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interrupted {
    /// What interrupted it.
    pub cause: InterruptCause,
    /// An operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// `run.cancelled`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancelled {
    /// An operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A run that has not ended, as far as rules need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// Organisation.
    pub org: Name,
    /// Its session.
    pub session: SessionId,
    /// Who asked for it, and pays.
    pub principal: Name,
    /// Its place among all runs.
    pub queued_seq: u64,
    /// Where it stands.
    pub status: Status,
    /// How it was asked to stop, if it was.
    pub stop: Option<StopRequested>,
    /// The claim in force, and what is pinned with it.
    pub claim: Option<Started>,
    /// Model turns after which it fails.
    pub max_turns: u32,
    /// The current turn; 0 before the first.
    pub turn: u32,
    /// Attempts of the current turn.
    pub attempt: u32,
    /// How far the current turn is.
    pub turn_stage: TurnStage,
    /// Calls of the current turn.
    pub calls: BTreeMap<CallId, call::Live>,
    /// The approval it waits for.
    pub approval: Option<ApprovalId>,
    /// The question it waits for.
    pub question: Option<QuestionId>,
}

impl Live {
    /// Whether every call of the current turn has its result.
    pub fn calls_settled(&self) -> bool {
        self.calls.values().all(|call| call.stage == call::Stage::Done)
    }
}

/// What is kept of a run that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// Organisation.
    pub org: Name,
    /// How it ended.
    pub status: Status,
}

/// A run that has not ended, whoever asks; an ended and an absent one are refused.
pub(super) fn live(world: &World, id: RunId) -> Result<&Live, Refusal> {
    if let Some(run) = world.runs.get(&id) {
        return Ok(run);
    }
    match world.runs_ended.get(&id) {
        Some(past) => Err(ended(past.status)),
        None => Err(Reason::RunNotFound.into()),
    }
}

/// The caller's run that has not ended.
pub(super) fn live_of<'w>(world: &'w World, org: &str, id: RunId) -> Result<&'w Live, Refusal> {
    let past = world.runs_ended.get(&id).map(|past| past.org);
    match world.runs.get(&id).map(|run| run.org).or(past) {
        Some(of) if world.names.is(of, org) => live(world, id),
        Some(_) | None => Err(Reason::RunNotFound.into()),
    }
}

/// A run that works under a claim of this start of the daemon.
pub(super) fn claimed<'w>(world: &'w World, id: RunId, context: &Context<'_>) -> Result<&'w Live, Refusal> {
    let run = live(world, id)?;
    match &run.claim {
        Some(claim) if claim.boot_id == context.boot_id => Ok(run),
        Some(_) | None => Err(out_of_order("The run is not claimed by this start of the daemon.")),
    }
}

/// A claimed run that may take its next step: it works and was not asked to stop.
pub(super) fn working<'w>(world: &'w World, id: RunId, context: &Context<'_>) -> Result<&'w Live, Refusal> {
    let run = claimed(world, id, context)?;
    if run.stop.is_some() {
        return Err(Reason::RunStopping.into());
    }
    if run.status != Status::Running {
        return Err(out_of_order(format!("The run is {}.", run.status.word())));
    }
    Ok(run)
}

/// A step that does not fit.
pub(super) fn out_of_order(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::RunStepOutOfOrder, detail)
}

fn ended(status: Status) -> Refusal {
    Refusal::new(Reason::RunTerminal, format!("The run is {}.", status.word()))
}

impl World {
    /// The run of a record's stream, while it has not ended.
    pub(super) fn run_of(&mut self, record: &Record) -> Option<&mut Live> {
        self.runs.get_mut(&record.stream.run()?)
    }

    pub(super) fn fold_run_queued(&mut self, record: &Record, body: &Queued) {
        let Some(id) = record.stream.run() else { return };
        let org = self.names.intern(&record.org);
        let principal = self.names.intern(&record.actor.id);
        let run = Live {
            org,
            session: body.session_id,
            principal,
            queued_seq: record.seq,
            status: Status::Queued,
            stop: None,
            claim: None,
            max_turns: body.max_turns,
            turn: 0,
            attempt: 0,
            turn_stage: TurnStage::None,
            calls: BTreeMap::new(),
            approval: None,
            question: None,
        };
        self.runs.insert(id, run);
        if let Some(session) = self.sessions.get_mut(&body.session_id) {
            session.queue.push_back(id);
        }
    }

    pub(super) fn fold_run_started(&mut self, record: &Record, body: &Started) {
        let Some(id) = record.stream.run() else { return };
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.claim = Some(body.clone());
        if run.status == Status::Queued {
            run.status = Status::Running;
        }
        if let Some(session) = self.sessions.get_mut(&run.session) {
            session.queue.retain(|queued| *queued != id);
            session.active = Some(id);
        }
    }

    pub(super) fn fold_run_end(&mut self, record: &Record, status: Status) {
        let Some(id) = record.stream.run() else { return };
        let Some(run) = self.runs.remove(&id) else { return };
        self.vault.give_back(record.stream);
        self.runs_ended.insert(id, Past { org: run.org, status });
        if let Some(session) = self.sessions.get_mut(&run.session) {
            session.queue.retain(|queued| *queued != id);
            session.active = session.active.filter(|active| *active != id);
        }
        self.settle_session(run.session);
    }
}
