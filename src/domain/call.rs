//! A tool call: intent before dispatch, outcome after.

use serde::{Deserialize, Serialize};

use super::ids::{ApprovalId, CallId, TaskId};
use super::personal::Personal;
use super::reason::Reason;

/// `call.dispatched`: the intent, sealed before the tool runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dispatched {
    /// The call.
    pub call_id: CallId,
    /// Name of the tool.
    pub tool: String,
    /// SHA-256 of the canonical call, hex.
    pub call_hash: String,
    /// The approval that allows it, if one was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_id: Option<ApprovalId>,
    /// What confines it: `landlock-abi-7+seccomp`, `off`; absent where no process is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
}

/// `call.finished`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finished {
    /// The call.
    pub call_id: CallId,
    /// Whether it did what it says.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Reason>,
    /// What the model is shown.
    pub output: Personal,
    /// Whether output was cut at a limit.
    pub truncated: bool,
    /// Exit code of a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The background task it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// Milliseconds it took.
    pub duration_ms: u64,
}

/// `call.refused`: the call was not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The call.
    pub call_id: CallId,
    /// Why.
    pub code: Reason,
    /// What the model is told.
    pub detail: String,
}

/// `call.outcome_unknown`: a crash fell between intent and outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomeUnknown {
    /// The call.
    pub call_id: CallId,
}
