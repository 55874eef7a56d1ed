//! What one can ask of the runtime configuration.

use serde::{Deserialize, Serialize};

use super::desk::{By, Desk, Done, Lane};
use super::past::{At, Shown};
use crate::domain::command::Command;
use crate::domain::permission::{Mode, Rule, RuleScope};
use crate::domain::reason::Refusal;
use crate::domain::runtime::{self, DebugLevel};
use crate::projections::runtime::{RevisionView, RuntimeView};
use crate::projections::{Models, Page, Paging};

/// Another mode for sessions that set none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetMode {
    /// The mode.
    pub mode: Mode,
    /// The revision that the caller saw, where it must not have changed since.
    #[serde(default)]
    pub expected_revision: Option<u64>,
}

/// Other rules of one scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRules {
    /// `user` or `project`.
    pub scope: RuleScope,
    /// All rules of that scope, in order.
    pub rules: Vec<Rule>,
    /// The revision that the caller saw, where it must not have changed since.
    #[serde(default)]
    pub expected_revision: Option<u64>,
}

/// Another level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetDebugLevel {
    /// `off`, `redacted` or `full`.
    pub level: DebugLevel,
    /// The revision that the caller saw, where it must not have changed since.
    #[serde(default)]
    pub expected_revision: Option<u64>,
}

/// An earlier revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    /// The revision whose values are to be in force again; 0 is what the daemon was born with.
    pub revision: u64,
    /// The revision that the caller saw, where it must not have changed since.
    #[serde(default)]
    pub expected_revision: Option<u64>,
}

/// The use cases.
#[derive(Clone)]
pub struct Runtime {
    desk: Desk,
}

impl Runtime {
    /// Use cases at a desk.
    pub fn new(desk: Desk) -> Self {
        Self { desk }
    }

    /// Sets the mode.
    pub async fn set_mode(&self, by: By, input: SetMode) -> Result<Done<RuntimeView>, Refusal> {
        let ask =
            runtime::SetMode { org: by.org.clone(), mode: input.mode, expected_revision: input.expected_revision };
        self.submit(Command::SetPermissionMode(ask), by).await
    }

    /// Sets the rules of one scope.
    pub async fn set_rules(&self, by: By, input: SetRules) -> Result<Done<RuntimeView>, Refusal> {
        let ask = runtime::SetRules {
            org: by.org.clone(),
            scope: input.scope,
            rules: input.rules,
            expected_revision: input.expected_revision,
        };
        self.submit(Command::SetPermissionRules(ask), by).await
    }

    /// Sets how much the daemon says in its log.
    pub async fn set_debug_level(&self, by: By, input: SetDebugLevel) -> Result<Done<RuntimeView>, Refusal> {
        let SetDebugLevel { level, expected_revision } = input;
        let ask = runtime::SetDebugLevel { org: by.org.clone(), level, expected_revision };
        self.submit(Command::SetDebugLevel(ask), by).await
    }

    /// Goes back to an earlier revision, which makes a new one with its values.
    pub async fn roll_back(&self, by: By, input: RollBack) -> Result<Done<RuntimeView>, Refusal> {
        let RollBack { revision, expected_revision } = input;
        let find = move |models: &Models| models.runtime.sources(revision);
        let to = self.desk.recall(find, |sources, bodies| sources.read(bodies)).await?;
        let ask = runtime::RollBack { org: by.org.clone(), to, expected_revision };
        self.submit(Command::RollBackRuntime(ask), by).await
    }

    /// One page of the revisions, newest first.
    pub async fn revisions(&self, paging: Paging) -> Result<Page<RevisionView>, Refusal> {
        self.desk.page(move |models| models.revision_page(&paging)).await
    }

    /// Trusts the machine's clock again.
    pub async fn trust_clock(&self, by: By) -> Result<Done<RuntimeView>, Refusal> {
        self.submit(Command::TrustClock, by).await
    }

    /// The configuration in force, now or then.
    pub async fn get(&self, at: Option<At>) -> Result<Shown<RuntimeView>, Refusal> {
        self.desk.look_at(at, |models| models.runtime.view()).await
    }

    async fn submit(&self, command: Command, by: By) -> Result<Done<RuntimeView>, Refusal> {
        self.desk.submit_plain(command, by, Lane::Ordinary, |models| models.runtime.view()).await
    }
}
