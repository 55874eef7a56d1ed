//! Permissions: modes, rules and the audit of every decision.

use serde::{Deserialize, Serialize};

use super::ids::CallId;

/// The five modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Sensitive calls ask.
    Default,
    /// Edits of files are allowed, commands ask.
    AcceptEdits,
    /// Everything is allowed but what a rule denies.
    BypassPermissions,
    /// Nothing may change.
    Plan,
    /// What would ask is denied.
    DontAsk,
}

/// Whose rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleScope {
    /// The operator's, for everything.
    User,
    /// The workspace's.
    Project,
    /// One session's.
    Session,
}

/// What a rule or a decision says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Behavior {
    /// The call is made.
    Allow,
    /// A person decides.
    Ask,
    /// The call is refused.
    Deny,
}

/// One rule: a tool's name, a prefix ending in `*`, or `*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Exact name, `prefix*`, or `*`.
    pub tool: String,
    /// What it says.
    pub behavior: Behavior,
}

/// The rule that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchedRule {
    /// Whose.
    pub scope: RuleScope,
    /// The rule's pattern.
    pub tool: String,
    /// What it says.
    pub behavior: Behavior,
}

/// `permission.decided`: the audit of one decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// The call.
    pub call_id: CallId,
    /// Name of the tool.
    pub tool: String,
    /// Mode in force.
    pub mode: Mode,
    /// What rules or the tool's class say before the mode.
    pub base: Behavior,
    /// What holds.
    pub decision: Behavior,
    /// The rule that decided, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<MatchedRule>,
}
