//! Runtime configuration as people see it.

use serde::{Deserialize, Serialize};

use crate::domain::permission::{Mode, Rule};
use crate::domain::record::Record;
use crate::domain::runtime::{Configuration, PermissionModeSet, PermissionRulesSet};

/// The runtime configuration in force, and when it last changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// What is in force.
    pub configuration: Configuration,
    /// When it last changed, Unix milliseconds.
    pub changed_at_ms: Option<u64>,
}

impl Runtime {
    pub(super) fn mode_set(&mut self, record: &Record, body: &PermissionModeSet) {
        self.configuration.apply_mode(body);
        self.changed_at_ms = Some(record.at_ms);
    }

    pub(super) fn rules_set(&mut self, record: &Record, body: &PermissionRulesSet) {
        self.configuration.apply_rules(body);
        self.changed_at_ms = Some(record.at_ms);
    }

    /// The view.
    pub fn view(&self) -> RuntimeView {
        RuntimeView {
            revision: self.configuration.revision,
            permission_mode: self.configuration.permission_mode,
            user_rules: self.configuration.user_rules.clone(),
            project_rules: self.configuration.project_rules.clone(),
            changed_at_ms: self.changed_at_ms,
        }
    }
}

/// The runtime configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RuntimeView {
    /// Rises by one with each change.
    pub revision: u64,
    /// Mode for sessions that set none.
    pub permission_mode: Mode,
    /// Rules of scope `user`.
    pub user_rules: Vec<Rule>,
    /// Rules of scope `project`.
    pub project_rules: Vec<Rule>,
    /// When it last changed, Unix milliseconds.
    pub changed_at_ms: Option<u64>,
}
