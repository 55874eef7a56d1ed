//! Runtime configuration and the control plane's tokens.

use serde::{Deserialize, Serialize};

use super::permission::{Mode, Rule, RuleScope};

/// Which of the two token files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenRole {
    /// May do everything.
    Admin,
    /// May read ordinary objects.
    ReadOnly,
}

/// `control_plane.token_changed`: another bearer token is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenChanged {
    /// Whose.
    pub role: TokenRole,
    /// Keyed fingerprint of the new token, hex.
    pub fp: String,
}

/// `runtime.permission_mode_set`: the mode for sessions that set none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PermissionModeSet {
    /// Revision of the runtime configuration that this makes.
    pub revision: u64,
    /// The mode.
    pub mode: Mode,
}

/// `runtime.permission_rules_set`: the rules of one scope, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PermissionRulesSet {
    /// Revision of the runtime configuration that this makes.
    pub revision: u64,
    /// `user` or `project`; session rules belong to the session.
    pub scope: RuleScope,
    /// In order; may be empty.
    pub rules: Vec<Rule>,
}
