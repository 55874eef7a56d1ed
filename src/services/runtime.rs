//! What one can ask of the runtime configuration.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::desk::{By, Desk, Done, Lane, parse_filter};
use super::past::{At, Shown};
use super::route_references::{self, RouteReferences};
use crate::agent::tools;
use crate::domain::command::{Command, invalid};
use crate::domain::event::Event;
use crate::domain::ids::SessionId;
use crate::domain::limits::NAME_BYTES;
use crate::domain::permission::{self, Behavior, Judgement, MatchedRule, Mode, Modes, Rule, RuleScope, Rules};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::runtime::{
    self, Configuration, DebugLevel, ModelChoice, Part, PromptMode, SetPart, SystemPrompt, ToolLimits,
};
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

/// Another model for sessions that choose none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetModel {
    /// Route id; without it and without a selector, the routes file's default.
    #[serde(default)]
    pub route: Option<String>,
    /// Model, or a selector `<route_id>/<model>`; without it, the route's default.
    #[serde(default)]
    pub model: Option<String>,
    /// The revision that the caller saw, where it must not have changed since.
    #[serde(default)]
    pub expected_revision: Option<u64>,
}

/// Another system prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSystemPrompt {
    /// `append` or `replace`.
    pub mode: PromptMode,
    /// The text; appending an empty one leaves the daemon's own.
    pub text: String,
    /// The revision that the caller saw, where it must not have changed since.
    #[serde(default)]
    pub expected_revision: Option<u64>,
}

/// Other limits of tools; what is absent is bounded by the tools' own limits alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetToolLimits {
    /// How long a command in the foreground may run, milliseconds.
    #[serde(default)]
    pub command_ms: Option<u64>,
    /// How long a command in the background may run, milliseconds.
    #[serde(default)]
    pub task_ms: Option<u64>,
    /// Most text of a result that the model is shown, bytes.
    #[serde(default)]
    pub result_bytes: Option<u64>,
    /// The revision that the caller saw, where it must not have changed since.
    #[serde(default)]
    pub expected_revision: Option<u64>,
}

/// Whether words of new sessions can be erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetErasure {
    /// Whether they can.
    pub on: bool,
    /// The revision that the caller saw, where it must not have changed since.
    #[serde(default)]
    pub expected_revision: Option<u64>,
}

/// What bounds tools, and what nobody can raise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ToolLimitsView {
    /// Revision of the runtime configuration.
    pub revision: u64,
    /// What an operator set.
    pub set: ToolLimits,
    /// How long a command in the foreground may run, milliseconds.
    pub command_ms: u64,
    /// How long a command in the background may run, milliseconds.
    pub task_ms: u64,
    /// Most text of a result that the model is shown, bytes.
    pub result_bytes: u64,
}

impl ToolLimitsView {
    fn of(configuration: &Configuration) -> Self {
        let set = configuration.tool_limits;
        Self {
            revision: configuration.revision,
            set,
            command_ms: set.command_ms.unwrap_or(tools::limits::COMMAND_MS_MAX),
            task_ms: set.task_ms.unwrap_or(tools::limits::TASK_MS_MAX),
            result_bytes: set.result_bytes.unwrap_or(tools::limits::RESULT_BYTES as u64),
        }
    }
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

    /// Sets route and model for sessions that choose none.
    pub async fn set_model(&self, by: By, input: SetModel) -> Result<Done<RuntimeView>, Refusal> {
        let (route, model) = self.desk.check_route(input.route.as_deref(), input.model.as_deref())?;
        self.set_part(by, Part::Model(ModelChoice { route, model }), input.expected_revision).await
    }

    /// Sets what models are told before conversations.
    pub async fn set_system_prompt(&self, by: By, input: SetSystemPrompt) -> Result<Done<RuntimeView>, Refusal> {
        let prompt = SystemPrompt { mode: input.mode, text: input.text };
        self.set_part(by, Part::SystemPrompt(prompt), input.expected_revision).await
    }

    /// Sets what bounds tools.
    pub async fn set_tool_limits(&self, by: By, input: SetToolLimits) -> Result<Done<RuntimeView>, Refusal> {
        let SetToolLimits { command_ms, task_ms, result_bytes, expected_revision } = input;
        let bounds = [
            ("/command_ms", command_ms, tools::limits::COMMAND_MS_MAX),
            ("/task_ms", task_ms, tools::limits::TASK_MS_MAX),
            ("/result_bytes", result_bytes, tools::limits::RESULT_BYTES as u64),
        ];
        for (pointer, asked, most) in bounds {
            if asked.is_some_and(|asked| asked > most) {
                return Err(invalid(pointer, format!("The tools' own limit is {most}, and cannot be raised.")));
            }
        }
        let limits = ToolLimits { command_ms, task_ms, result_bytes };
        self.set_part(by, Part::ToolLimits(limits), expected_revision).await
    }

    /// Sets whether words of new sessions are encrypted, so that they can be erased; that needs a master key.
    pub async fn set_erasure(&self, by: By, input: SetErasure) -> Result<Done<RuntimeView>, Refusal> {
        self.check_erasure(input.on)?;
        self.set_part(by, Part::Erasure(input.on), input.expected_revision).await
    }

    fn check_erasure(&self, on: bool) -> Result<(), Refusal> {
        if on { self.desk.subjects().ready() } else { Ok(()) }
    }

    /// What names a route that is not in force.
    pub async fn route_references(&self, org: &str) -> Result<RouteReferences, Refusal> {
        let (routes, org) = (self.desk.routes(), org.to_owned());
        let looked = Arc::clone(&routes);
        let find = move |models: &Models| Ok(route_references::find(models, &org, &looked));
        self.desk.recall(find, move |places, bodies| Ok(places.read(bodies, &routes))).await
    }

    /// What bounds tools.
    pub fn tool_limits(&self) -> ToolLimitsView {
        self.desk.look(|models| ToolLimitsView::of(&models.runtime.configuration))
    }

    async fn set_part(&self, by: By, part: Part, expected: Option<u64>) -> Result<Done<RuntimeView>, Refusal> {
        let ask = SetPart { org: by.org.clone(), part, expected_revision: expected };
        self.submit(Command::SetRuntimePart(ask), by).await
    }

    /// Goes back to an earlier revision, which makes a new one with its values.
    pub async fn roll_back(&self, by: By, input: RollBack) -> Result<Done<RuntimeView>, Refusal> {
        let RollBack { revision, expected_revision } = input;
        let find = move |models: &Models| models.runtime.sources(revision);
        let to = self.desk.recall(find, |sources, bodies| sources.read(bodies)).await?;
        self.check_erasure(to.erasure)?;
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
