//! Runtime configuration and the control plane's tokens.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::command::{Answer, Decided, invalid};
use super::permission::{Mode, Rule, RuleScope, check_rules};
use super::reason::{Reason, Refusal};
use super::record::Draft;
use super::stream::Stream;
use super::world::World;

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

/// The runtime configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Rises by one with each change; 0 is what the daemon was born with.
    pub revision: u64,
    /// Mode for sessions that set none.
    pub permission_mode: Mode,
    /// Rules of scope `user`.
    pub user_rules: Vec<Rule>,
    /// Rules of scope `project`.
    pub project_rules: Vec<Rule>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self { revision: 0, permission_mode: Mode::Default, user_rules: Vec::new(), project_rules: Vec::new() }
    }
}

/// Asks for another mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetMode {
    /// The caller's organisation.
    pub org: String,
    /// The mode.
    pub mode: Mode,
    /// The revision that the caller saw, where it must not have changed since.
    pub expected_revision: Option<u64>,
}

/// Asks for other rules of one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRules {
    /// The caller's organisation.
    pub org: String,
    /// `user` or `project`.
    pub scope: RuleScope,
    /// All rules of that scope, in order.
    pub rules: Vec<Rule>,
    /// The revision that the caller saw, where it must not have changed since.
    pub expected_revision: Option<u64>,
}

impl Configuration {
    /// Digest of the permission policy: mode and rules, hex.
    pub fn policy_digest(&self) -> String {
        let policy = serde_json::json!([self.permission_mode, self.user_rules, self.project_rules]);
        data_encoding::HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(policy.to_string().as_bytes()))
    }

    fn check_revision(&self, expected: Option<u64>) -> Result<(), Refusal> {
        match expected {
            Some(expected) if expected != self.revision => {
                let detail = format!("The revision is {}, not {expected}.", self.revision);
                Err(Refusal::new(Reason::RuntimeRevisionConflict, detail))
            }
            Some(_) | None => Ok(()),
        }
    }
}

pub(super) fn set_mode(world: &World, ask: &SetMode) -> Result<Decided, Refusal> {
    world.runtime.check_revision(ask.expected_revision)?;
    if world.runtime.permission_mode == ask.mode {
        return Ok(Decided::nothing(Answer::Revision(world.runtime.revision)));
    }
    let revision = world.runtime.revision.saturating_add(1);
    let event = PermissionModeSet { revision, mode: ask.mode };
    Ok(Decided::one(Draft::new(&ask.org, Stream::Runtime, event.into()), Answer::Revision(revision)))
}

pub(super) fn set_rules(world: &World, ask: &SetRules) -> Result<Decided, Refusal> {
    let present = match ask.scope {
        RuleScope::User => &world.runtime.user_rules,
        RuleScope::Project => &world.runtime.project_rules,
        RuleScope::Session => {
            return Err(invalid("/scope", "Rules of a session are set when it is created."));
        }
    };
    check_rules("/rules", &ask.rules)?;
    world.runtime.check_revision(ask.expected_revision)?;
    if *present == ask.rules {
        return Ok(Decided::nothing(Answer::Revision(world.runtime.revision)));
    }
    let revision = world.runtime.revision.saturating_add(1);
    let event = PermissionRulesSet { revision, scope: ask.scope, rules: ask.rules.clone() };
    Ok(Decided::one(Draft::new(&ask.org, Stream::Runtime, event.into()), Answer::Revision(revision)))
}

impl World {
    pub(super) fn fold_permission_mode_set(&mut self, body: &PermissionModeSet) {
        self.runtime.apply_mode(body);
    }

    pub(super) fn fold_permission_rules_set(&mut self, body: &PermissionRulesSet) {
        self.runtime.apply_rules(body);
    }
}

impl Configuration {
    /// Digest of the permission policy in force, hex: SHA-256 over the JSON of mode and rules.
    pub fn policy_sha256(&self) -> String {
        let policy = serde_json::json!({
            "permission_mode": self.permission_mode,
            "project_rules": self.project_rules,
            "user_rules": self.user_rules,
        });
        data_encoding::HEXLOWER.encode(&Sha256::digest(policy.to_string().as_bytes()))
    }

    /// Folds `runtime.permission_mode_set`.
    pub fn apply_mode(&mut self, body: &PermissionModeSet) {
        self.revision = body.revision;
        self.permission_mode = body.mode;
    }

    /// Folds `runtime.permission_rules_set`.
    pub fn apply_rules(&mut self, body: &PermissionRulesSet) {
        self.revision = body.revision;
        match body.scope {
            RuleScope::User => self.user_rules.clone_from(&body.rules),
            RuleScope::Project => self.project_rules.clone_from(&body.rules),
            // Such a record is never decided; a session's rules stand in its own first record.
            RuleScope::Session => {}
        }
    }
}
