//! A background shell task: a command that goes on while its run does other things.

use serde::{Deserialize, Serialize};

use super::ids::{CallId, SessionId, TaskId};
use super::personal::Personal;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Works.
    InProgress,
    /// Its command ended; look at the exit code.
    Completed,
    /// It could not go on: a limit, or the daemon restarted.
    Failed,
    /// It was stopped.
    Cancelled,
}

/// `task.started`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// The task.
    pub task_id: TaskId,
    /// The session.
    pub session_id: SessionId,
    /// The call that started it.
    pub call_id: CallId,
    /// The command.
    pub command: Personal,
}

/// `task.stop_requested`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopRequested {
    /// The task.
    pub task_id: TaskId,
    /// An operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Why a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TerminalReason {
    /// Its command ended.
    Exited,
    /// Someone stopped it.
    Stopped,
    /// It ran too long.
    TimeLimit,
    /// The daemon stopped before it ended.
    DaemonRestarted,
    /// Its run or session was stopped.
    RunStopped,
}

/// `task.finished`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finished {
    /// The task.
    pub task_id: TaskId,
    /// How it ended.
    pub status: Status,
    /// Why.
    pub terminal_reason: TerminalReason,
    /// Exit code, where the command ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Bytes it wrote in all.
    pub output_bytes: u64,
    /// Digest of the kept output, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_sha256: Option<String>,
    /// How often its output was rotated.
    pub rotations: u32,
}
