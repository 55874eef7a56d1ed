//! A run: one execution request inside a session, from the queue to its end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ids::{BootId, SessionId};
use super::permission::Mode;
use super::personal::Personal;
use super::reason::Reason;

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
    /// The creator's own notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// Which level chose the route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteChoice {
    /// The run asked for it.
    Run,
    /// The session's default.
    Session,
    /// The daemon's default.
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
