//! Parts of the runtime configuration that have a shape of their own: the model, the system prompt, limits of tools.

use serde::{Deserialize, Serialize};

use super::{Answer, Configuration, Decided, Draft, Event, Refusal, Stream, World};
use crate::domain::command::invalid;
use crate::domain::limits::SYSTEM_PROMPT_BYTES;
use crate::domain::session::check_name;

/// A route and a model, as far as they are chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelChoice {
    /// Route id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl ModelChoice {
    /// Checks the names.
    pub fn check(&self) -> Result<(), Refusal> {
        check_name("/route", self.route.as_deref())?;
        check_name("/model", self.model.as_deref())
    }
}

/// What becomes of the system prompt that the daemon brings along.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PromptMode {
    /// It stays, and the text follows.
    #[default]
    Append,
    /// The text stands in its place.
    Replace,
}

/// What a model is told before the conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemPrompt {
    /// What becomes of the daemon's own.
    pub mode: PromptMode,
    /// The text; none where it is empty.
    pub text: String,
}

impl SystemPrompt {
    /// What a model is told, where this is the daemon's own.
    pub fn over(&self, own: &str) -> String {
        match (self.text.is_empty(), self.mode) {
            (true, _) => own.to_owned(),
            (false, PromptMode::Append) => format!("{own}\n{}", self.text),
            (false, PromptMode::Replace) => self.text.clone(),
        }
    }
}

/// What bounds tools besides their own limits, none of which it can raise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolLimits {
    /// How long a command in the foreground may run, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_ms: Option<u64>,
    /// How long a command in the background may run, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_ms: Option<u64>,
    /// Most text of a result that the model is shown, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_bytes: Option<u64>,
}

/// `runtime.model_set`: route and model for sessions that choose none; what is absent is as the routes file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSet {
    /// Revision of the runtime configuration that this makes.
    pub revision: u64,
    /// Route and model.
    pub choice: ModelChoice,
}

/// `runtime.system_prompt_set`: what models are told before conversations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemPromptSet {
    /// Revision of the runtime configuration that this makes.
    pub revision: u64,
    /// The prompt.
    pub prompt: SystemPrompt,
}

/// `runtime.tool_limits_set`: what bounds tools, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolLimitsSet {
    /// Revision of the runtime configuration that this makes.
    pub revision: u64,
    /// The limits.
    pub limits: ToolLimits,
}

/// `runtime.erasure_set`: whether words of new sessions are encrypted, so that they can be erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErasureSet {
    /// Revision of the runtime configuration that this makes.
    pub revision: u64,
    /// Whether they are.
    pub on: bool,
}

/// Another value of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Route and model.
    Model(ModelChoice),
    /// The system prompt.
    SystemPrompt(SystemPrompt),
    /// Limits of tools.
    ToolLimits(ToolLimits),
    /// Whether words of new sessions can be erased.
    Erasure(bool),
}

/// Asks for another value of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetPart {
    /// The caller's organisation.
    pub org: String,
    /// The value.
    pub part: Part,
    /// The revision that the caller saw, where it must not have changed since.
    pub expected_revision: Option<u64>,
}

fn check(part: &Part) -> Result<(), Refusal> {
    match part {
        Part::Model(choice) => choice.check(),
        Part::SystemPrompt(prompt) if prompt.text.len() > SYSTEM_PROMPT_BYTES => {
            Err(invalid("/text", format!("A system prompt has at most {SYSTEM_PROMPT_BYTES} bytes.")))
        }
        Part::SystemPrompt(prompt) if prompt.mode == PromptMode::Replace && prompt.text.trim().is_empty() => {
            Err(invalid("/text", "A text that stands in place of the system prompt says something."))
        }
        Part::SystemPrompt(_) | Part::Erasure(_) => Ok(()),
        Part::ToolLimits(limits) => {
            let all = [
                ("/command_ms", limits.command_ms),
                ("/task_ms", limits.task_ms),
                ("/result_bytes", limits.result_bytes),
            ];
            match all.into_iter().find(|(_, limit)| *limit == Some(0)) {
                Some((pointer, _)) => Err(invalid(pointer, "A limit of tools is above 0.")),
                None => Ok(()),
            }
        }
    }
}

pub(in crate::domain) fn set(world: &World, ask: &SetPart) -> Result<Decided, Refusal> {
    let now: &Configuration = &world.runtime;
    now.check_revision(ask.expected_revision)?;
    check(&ask.part)?;
    let revision = now.revision.saturating_add(1);
    let (present, event): (bool, Event) = match ask.part.clone() {
        Part::Model(choice) => (choice == now.model, ModelSet { revision, choice }.into()),
        Part::SystemPrompt(prompt) => (prompt == now.system_prompt, SystemPromptSet { revision, prompt }.into()),
        Part::ToolLimits(limits) => (limits == now.tool_limits, ToolLimitsSet { revision, limits }.into()),
        Part::Erasure(on) => (on == now.erasure, ErasureSet { revision, on }.into()),
    };
    if present {
        return Ok(Decided::nothing(Answer::Revision(now.revision)));
    }
    Ok(Decided::one(Draft::new(&ask.org, Stream::Runtime, event), Answer::Revision(revision)))
}
