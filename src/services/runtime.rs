//! What one can ask of the runtime configuration.

use serde::{Deserialize, Serialize};

use super::desk::{By, Desk, Done, Lane, parse_filter};
use super::past::{At, Shown};
use crate::domain::command::Command;
use crate::domain::event::Event;
use crate::domain::ids::SessionId;
use crate::domain::limits::NAME_BYTES;
use crate::domain::permission::{self, Behavior, Judgement, MatchedRule, Mode, Modes, Rule, RuleScope, Rules};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::runtime::{self, Configuration, DebugLevel};
use crate::projections::runtime::{RevisionView, RuntimeView};
use crate::projections::sessions::Facts;
use crate::projections::{Bodies, Models, Page, Paging};

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

/// A call that nobody makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckPermission {
    /// Name of the tool.
    pub tool: String,
    /// The session whose mode and rules count as well; without it only those of the runtime do.
    #[serde(default)]
    pub session_id: Option<String>,
}

/// What would be decided about a call, were it made now in a run that begins now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct PermissionExplanation {
    /// Name of the tool.
    pub tool: String,
    /// The session.
    pub session_id: Option<SessionId>,
    /// The mode that decides: the session's, or the runtime's.
    pub mode: Mode,
    /// What the rules, or without one that fits the kind of the tool, say before the mode.
    pub base_decision: Behavior,
    /// What would hold.
    pub decision: Behavior,
    /// Whether the mode makes something else of what the rules say.
    pub mode_applied: bool,
    /// Whether a person would be asked.
    pub approval_required: bool,
    /// The rule that decides, if one does.
    pub matched_rule: Option<MatchedRule>,
    /// Why it is not allowed, in words; null where it is.
    pub reason: Option<String>,
}

impl PermissionExplanation {
    fn of(tool: String, session_id: Option<SessionId>, judgement: Judgement) -> Self {
        let allowed = judgement.decision == Behavior::Allow;
        let reason = (!allowed).then(|| judgement.why());
        let Judgement { mode, base, decision, rule } = judgement;
        Self {
            tool,
            session_id,
            mode,
            base_decision: base,
            decision,
            mode_applied: base != decision,
            approval_required: decision == Behavior::Ask,
            matched_rule: rule,
            reason,
        }
    }
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

    /// Says what mode and rules would decide about a call. Changes nothing and is no record.
    pub async fn check_permission(&self, org: &str, input: CheckPermission) -> Result<PermissionExplanation, Refusal> {
        let CheckPermission { tool, session_id } = input;
        if tool.is_empty() || tool.len() > NAME_BYTES {
            let detail = format!("A tool's name has 1 to {NAME_BYTES} bytes.");
            return Err(Refusal::new(Reason::RequestInvalid, detail).at("/tool"));
        }
        let session_id = session_id.map(|id| parse_filter::<SessionId>("/session_id", &id)).transpose()?;
        let org = org.to_owned();
        let find = move |models: &Models| {
            let session = session_id.map(|id| models.session(&org, id)).transpose()?;
            Ok((models.runtime.configuration.clone(), session))
        };
        let judge = move |(runtime, session): (Configuration, Option<Facts>), bodies: &dyn Bodies| {
            let record = session.map(|facts| bodies.record(facts.created_seq).ok_or(Reason::StorageJournalUnavailable));
            let (own_mode, own_rules) = match record.transpose()?.map(|record| record.event) {
                Some(Event::SessionCreated(body)) => (body.permission_mode, body.permission_rules),
                Some(_) | None => (None, Vec::new()),
            };
            let modes = Modes::of(own_mode.unwrap_or(runtime.permission_mode), own_mode, runtime.permission_mode);
            let rules = Rules { session: &own_rules, project: &runtime.project_rules, user: &runtime.user_rules };
            let judgement = permission::assess(&tool, modes, rules);
            Ok(PermissionExplanation::of(tool, session_id, judgement))
        };
        self.desk.recall(find, judge).await
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
