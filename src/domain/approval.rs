//! An approval: a person's decision about one exact call, bound to the hashes of the call and of the card that was shown.

use serde::{Deserialize, Serialize};

use super::ids::{ApprovalId, CallId};
use super::personal::Personal;

/// `approval.requested`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requested {
    /// The approval.
    pub approval_id: ApprovalId,
    /// The call.
    pub call_id: CallId,
    /// Name of the tool.
    pub tool: String,
    /// The canonical call: RFC 8785 JSON text.
    pub call: Personal,
    /// SHA-256 of the canonical call, hex.
    pub call_hash: String,
    /// What the approver is shown.
    pub card: Personal,
    /// SHA-256 of the card, hex.
    pub card_hash: String,
    /// When it lapses, Unix milliseconds.
    pub expires_at_ms: u64,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The call may be made.
    Allow,
    /// It may not.
    Deny,
}

/// `approval.decided`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// The approval.
    pub approval_id: ApprovalId,
    /// Allow or deny.
    pub decision: Decision,
    /// What the approver sent; equals the stored one.
    pub call_hash: String,
    /// What the approver sent; equals the stored one.
    pub card_hash: String,
    /// The approver's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// `approval.expired`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expired {
    /// The approval.
    pub approval_id: ApprovalId,
}

/// Why an approval or a question was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WithdrawnCause {
    /// Its run ended.
    RunEnded,
    /// The call is no longer the one shown.
    CallChanged,
}

/// `approval.withdrawn`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Withdrawn {
    /// The approval.
    pub approval_id: ApprovalId,
    /// Why.
    pub cause: WithdrawnCause,
}
