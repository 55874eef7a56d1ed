//! Runtime configuration and the control plane's tokens.

mod parts;

use serde::{Deserialize, Serialize};

use super::command::{Answer, Decided, invalid};
use super::event::Event;
use super::permission::{Mode, Rule, RuleScope, check_rules};
use super::reason::{Reason, Refusal};
use super::record::Draft;
use super::stream::Stream;
use super::world::World;

pub(super) use parts::set as set_part;
pub use parts::{
    ErasureSet, ModelChoice, ModelSet, Part, PromptMode, SetPart, SystemPrompt, SystemPromptSet, ToolLimits,
    ToolLimitsSet,
};

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

/// How much the daemon says in its log, and what is kept of what models and tools are told and say.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DebugLevel {
    /// What it was started to say; nothing is kept.
    #[default]
    Off,
    /// Each request and what workers come across besides; ids and codes, never words. Lengths and digests of texts are kept.
    Redacted,
    /// Each batch of records as well; no words either. The texts themselves are kept, secrets included.
    Full,
}

/// `runtime.debug_level_set`: how much the daemon says in its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DebugLevelSet {
    /// Revision of the runtime configuration that this makes.
    pub revision: u64,
    /// The level.
    pub level: DebugLevel,
}

/// `runtime.rolled_back`: everything is again as it was at an earlier revision. What had not changed since is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolledBack {
    /// Revision of the runtime configuration that this makes.
    pub revision: u64,
    /// The earlier revision.
    pub to_revision: u64,
    /// The mode, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission_mode: Option<Mode>,
    /// All rules of scope `user`, where they are others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_rules: Option<Vec<Rule>>,
    /// All rules of scope `project`, where they are others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_rules: Option<Vec<Rule>>,
    /// The level, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug_level: Option<DebugLevel>,
    /// Route and model, where they are others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelChoice>,
    /// The system prompt, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<SystemPrompt>,
    /// Limits of tools, where they are others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_limits: Option<ToolLimits>,
    /// Whether words of new sessions can be erased, where that is otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erasure: Option<bool>,
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
    /// How much the daemon says in its log.
    pub debug_level: DebugLevel,
    /// Route and model for sessions that choose none.
    pub model: ModelChoice,
    /// What models are told before conversations.
    pub system_prompt: SystemPrompt,
    /// What bounds tools besides their own limits.
    pub tool_limits: ToolLimits,
    /// Whether words of new sessions are encrypted, so that they can be erased.
    pub erasure: bool,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            revision: 0,
            permission_mode: Mode::Default,
            user_rules: Vec::new(),
            project_rules: Vec::new(),
            debug_level: DebugLevel::Off,
            model: ModelChoice::default(),
            system_prompt: SystemPrompt::default(),
            tool_limits: ToolLimits::default(),
            erasure: false,
        }
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

/// Asks for another level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetDebugLevel {
    /// The caller's organisation.
    pub org: String,
    /// The level.
    pub level: DebugLevel,
    /// The revision that the caller saw, where it must not have changed since.
    pub expected_revision: Option<u64>,
}

/// Asks for everything as it was at an earlier revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollBack {
    /// The caller's organisation.
    pub org: String,
    /// The configuration of that revision.
    pub to: Configuration,
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

pub(super) fn set_debug_level(world: &World, ask: &SetDebugLevel) -> Result<Decided, Refusal> {
    world.runtime.check_revision(ask.expected_revision)?;
    if world.runtime.debug_level == ask.level {
        return Ok(Decided::nothing(Answer::Revision(world.runtime.revision)));
    }
    let revision = world.runtime.revision.saturating_add(1);
    let event = DebugLevelSet { revision, level: ask.level };
    Ok(Decided::one(Draft::new(&ask.org, Stream::Runtime, event.into()), Answer::Revision(revision)))
}

pub(super) fn roll_back(world: &World, ask: &RollBack) -> Result<Decided, Refusal> {
    let (now, to) = (&world.runtime, &ask.to);
    now.check_revision(ask.expected_revision)?;
    if to.revision > now.revision {
        return Err(no_revision(to.revision, now.revision));
    }
    let event = RolledBack {
        revision: now.revision.saturating_add(1),
        to_revision: to.revision,
        permission_mode: Some(to.permission_mode).filter(|mode| *mode != now.permission_mode),
        user_rules: Some(to.user_rules.clone()).filter(|rules| *rules != now.user_rules),
        project_rules: Some(to.project_rules.clone()).filter(|rules| *rules != now.project_rules),
        debug_level: Some(to.debug_level).filter(|level| *level != now.debug_level),
        model: Some(to.model.clone()).filter(|model| *model != now.model),
        system_prompt: Some(to.system_prompt.clone()).filter(|prompt| *prompt != now.system_prompt),
        tool_limits: Some(to.tool_limits).filter(|limits| *limits != now.tool_limits),
        erasure: Some(to.erasure).filter(|erasure| *erasure != now.erasure),
    };
    if (Configuration { revision: now.revision, ..to.clone() }) == *now {
        return Ok(Decided::nothing(Answer::Revision(now.revision)));
    }
    let answer = Answer::Revision(event.revision);
    Ok(Decided::one(Draft::new(&ask.org, Stream::Runtime, event.into()), answer))
}

/// There is no such revision.
pub fn no_revision(wanted: u64, newest: u64) -> Refusal {
    invalid("/revision", format!("There is no revision {wanted}; the newest is {newest}."))
}

impl Configuration {
    /// Folds an event of the runtime; others change nothing.
    pub fn apply(&mut self, event: &Event) {
        let Some(change) = change(event) else { return };
        self.revision = change.revision;
        self.permission_mode = change.permission_mode.unwrap_or(self.permission_mode);
        self.user_rules = change.user_rules.unwrap_or_else(|| std::mem::take(&mut self.user_rules));
        self.project_rules = change.project_rules.unwrap_or_else(|| std::mem::take(&mut self.project_rules));
        self.debug_level = change.debug_level.unwrap_or(self.debug_level);
        self.model = change.model.unwrap_or_else(|| std::mem::take(&mut self.model));
        self.system_prompt = change.system_prompt.unwrap_or_else(|| std::mem::take(&mut self.system_prompt));
        self.tool_limits = change.tool_limits.unwrap_or(self.tool_limits);
        self.erasure = change.erasure.unwrap_or(self.erasure);
    }
}

/// What an event makes of the configuration, told as a change of each part; none for events of other nouns. The
/// revision that a change goes back to is the one that it makes, unless it goes back.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "asked of every event; one of the runtime that is forgotten here fails in the tests"
)]
pub fn change(event: &Event) -> Option<RolledBack> {
    let none = |revision| RolledBack {
        revision,
        to_revision: revision,
        permission_mode: None,
        user_rules: None,
        project_rules: None,
        debug_level: None,
        model: None,
        system_prompt: None,
        tool_limits: None,
        erasure: None,
    };
    match event {
        Event::PermissionModeSet(body) => Some(RolledBack { permission_mode: Some(body.mode), ..none(body.revision) }),
        Event::PermissionRulesSet(body) => {
            let rules = Some(body.rules.clone());
            Some(match body.scope {
                RuleScope::User => RolledBack { user_rules: rules, ..none(body.revision) },
                RuleScope::Project => RolledBack { project_rules: rules, ..none(body.revision) },
                // Such a record is never decided; a session's rules stand in its own first record.
                RuleScope::Session => none(body.revision),
            })
        }
        Event::DebugLevelSet(body) => Some(RolledBack { debug_level: Some(body.level), ..none(body.revision) }),
        Event::RuntimeModelSet(body) => Some(RolledBack { model: Some(body.choice.clone()), ..none(body.revision) }),
        Event::SystemPromptSet(body) => {
            Some(RolledBack { system_prompt: Some(body.prompt.clone()), ..none(body.revision) })
        }
        Event::ToolLimitsSet(body) => Some(RolledBack { tool_limits: Some(body.limits), ..none(body.revision) }),
        Event::ErasureSet(body) => Some(RolledBack { erasure: Some(body.on), ..none(body.revision) }),
        Event::RuntimeRolledBack(body) => Some(body.clone()),
        other => {
            debug_assert!(!other.kind().starts_with("runtime."), "{} is told as a change", other.kind());
            None
        }
    }
}
