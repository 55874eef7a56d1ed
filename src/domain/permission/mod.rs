//! Permissions: modes, rules and the audit of every decision. What they decide is in `policy`; `calls` judges the calls of
//! runs by it.

use serde::{Deserialize, Serialize};

use super::command::invalid;
use super::ids::CallId;
use super::limits::{NAME_BYTES, PERMISSION_RULES};
use super::reason::Refusal;

mod calls;
mod policy;

pub use calls::Judge;
pub(in crate::domain) use calls::{check_still, judge};
pub use policy::{Class, Judgement, Modes, Rules, assess};

/// The five modes. No single order says which of two is stricter: `plan` denies what may change something also where a
/// rule allows it, `dont-ask` denies what would ask, reads too. What has an order is what they decide about one call
/// ([`Behavior`]); so where two modes bind a run ([`Modes`]), both decide about the call and the stricter decision holds.
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

/// What a rule or a decision says, from the loosest to the strictest.
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

impl Mode {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::AcceptEdits => "accept-edits",
            Self::BypassPermissions => "bypass-permissions",
            Self::Plan => "plan",
            Self::DontAsk => "dont-ask",
        }
    }
}

impl RuleScope {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Project => "project",
            Self::Session => "session",
        }
    }
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
    /// The mode that decided: the one pinned with the run, or the runtime's where that is stricter about this call.
    pub mode: Mode,
    /// What rules or the tool's class say before the mode.
    pub base: Behavior,
    /// What holds.
    pub decision: Behavior,
    /// The rule that decided, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<MatchedRule>,
}

/// Checks rules before they are taken.
pub(super) fn check_rules(pointer: &str, rules: &[Rule]) -> Result<(), Refusal> {
    if rules.len() > PERMISSION_RULES {
        return Err(invalid(pointer, format!("A scope has at most {PERMISSION_RULES} rules.")));
    }
    for (at, rule) in rules.iter().enumerate() {
        let name = rule.tool.strip_suffix('*').unwrap_or(&rule.tool);
        let odd = |letter: char| !(letter.is_ascii_alphanumeric() || "_-.:/".contains(letter));
        if rule.tool.is_empty() || rule.tool.len() > NAME_BYTES || name.contains(odd) {
            let detail = "A rule names a tool, a prefix that ends in `*`, or `*`.";
            return Err(invalid(format!("{pointer}/{at}/tool"), detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(tool: &str, behavior: Behavior) -> Rule {
        Rule { tool: tool.to_owned(), behavior }
    }

    #[test]
    fn a_rule_names_a_tool_a_prefix_or_everything() {
        for good in ["bash", "mcp__*", "*", "mcp__a-b.c/d:e"] {
            assert_eq!(check_rules("/rules", &[rule(good, Behavior::Allow)]), Ok(()));
        }
        for bad in ["", "a*b", "**", "two words", "b\u{0}"] {
            let refusal =
                check_rules("/rules", &[rule("bash", Behavior::Ask), rule(bad, Behavior::Allow)]).unwrap_err();
            assert_eq!(refusal.pointer.as_deref(), Some("/rules/1/tool"), "{bad:?}");
        }
    }
}
