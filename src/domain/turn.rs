//! A turn: one call of the model and its answer.

use serde::{Deserialize, Serialize};

use super::ids::CallId;
use super::personal::Personal;
use super::reason::Reason;

/// `turn.requested`: the intent, sealed before the provider is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requested {
    /// Counts from 1.
    pub turn: u32,
    /// Counts from 1 within the turn; above 1 after a restart or a retry.
    pub attempt: u32,
    /// Route id.
    pub route: String,
    /// Model.
    pub model: String,
    /// Digest of the request as the driver was given it, hex.
    pub request_sha256: String,
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It was done.
    EndTurn,
    /// It wants calls made.
    ToolUse,
    /// It ran into its limit.
    MaxTokens,
    /// The provider held the rest back.
    ContentFilter,
    /// Something else; the provider's word is in the debug record.
    Other,
}

/// Where a usage figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider said so.
    Reported,
    /// Counted here.
    Estimated,
}

/// Tokens of a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// Where the figures come from.
    pub source: UsageSource,
}

/// A call that the model asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// Ours.
    pub call_id: CallId,
    /// The provider's name for it, needed to answer.
    pub provider_id: String,
    /// Name of the tool.
    pub tool: String,
    /// Arguments as the model wrote them: JSON text, possibly invalid.
    pub input: Personal,
}

/// `turn.answered`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The turn.
    pub turn: u32,
    /// What it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Personal>,
    /// What it thought aloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Personal>,
    /// In order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Why it stopped.
    pub stop: StopReason,
    /// What it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Milliseconds from request to end.
    pub duration_ms: u64,
}

/// `turn.failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// The turn.
    pub turn: u32,
    /// Why.
    pub code: Reason,
    /// What is particular about it.
    pub detail: String,
    /// Words received before it broke off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<Personal>,
    /// Milliseconds from request to end.
    pub duration_ms: u64,
}
