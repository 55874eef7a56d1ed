//! What modes and rules decide about a tool: the matrix of modes, the precedence of rules, and the stricter of two modes.

use super::{Behavior, Decided, MatchedRule, Mode, Rule, RuleScope};

/// What kind of effect a tool has; its name alone decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Runs commands.
    Shell,
    /// Changes files of the workspace.
    Edit,
    /// Calls a tool of an MCP server.
    McpCall,
    /// Lists or reads what an MCP server offers.
    McpResource,
    /// Reads files of the workspace or the output of a task.
    Read,
    /// Talks to the person it works for.
    Coordination,
    /// Leaves the mode `plan`.
    PlanExit,
    /// Anything else.
    Other,
}

impl Class {
    /// The class of the tool with this name.
    pub fn of(tool: &str) -> Self {
        match tool {
            "bash" => Self::Shell,
            "write_file" | "edit_file" | "apply_patch" => Self::Edit,
            "list_mcp_resources" | "list_mcp_resource_templates" | "read_mcp_resource" => Self::McpResource,
            "read_file" | "list_files" | "search_files" | "task_output" => Self::Read,
            "ask_user_question" => Self::Coordination,
            "exit_plan_mode" => Self::PlanExit,
            mcp if mcp.starts_with("mcp__") => Self::McpCall,
            _ => Self::Other,
        }
    }

    /// What holds where no rule matches, before the mode.
    fn base(self) -> Behavior {
        match self {
            Self::Shell | Self::Edit | Self::McpCall | Self::McpResource | Self::PlanExit => Behavior::Ask,
            Self::Read | Self::Coordination | Self::Other => Behavior::Allow,
        }
    }

    /// Whether it may change something, so that `plan` denies it whatever the rules say.
    fn may_change(self) -> bool {
        match self {
            Self::Shell | Self::Edit | Self::McpCall | Self::Other => true,
            Self::McpResource | Self::Read | Self::Coordination | Self::PlanExit => false,
        }
    }
}

impl Mode {
    /// Whether the runtime's mode contains what works: these two bind also the runs of sessions with a mode of their own. The
    /// other three are no more than what sessions get that set none.
    fn contains(self) -> bool {
        match self {
            Self::Plan | Self::DontAsk => true,
            Self::Default | Self::AcceptEdits | Self::BypassPermissions => false,
        }
    }

    /// What the mode makes of what rules or the tool's class say. A denial stays one.
    fn apply(self, class: Class, base: Behavior) -> Behavior {
        match base {
            Behavior::Deny => Behavior::Deny,
            Behavior::Allow | Behavior::Ask if self == Self::Plan && class.may_change() => Behavior::Deny,
            Behavior::Allow => Behavior::Allow,
            Behavior::Ask => match self {
                Self::BypassPermissions => Behavior::Allow,
                Self::AcceptEdits if class == Class::Edit => Behavior::Allow,
                Self::DontAsk => Behavior::Deny,
                Self::Default | Self::AcceptEdits | Self::Plan => Behavior::Ask,
            },
        }
    }
}

impl Rule {
    /// How closely the rule fits a tool: `None` where it does not, else more is closer.
    fn fit(&self, tool: &str) -> Option<usize> {
        match self.tool.strip_suffix('*') {
            Some(prefix) if tool.starts_with(prefix) => Some(prefix.len()),
            None if self.tool == tool => Some(usize::MAX),
            Some(_) | None => None,
        }
    }
}

/// The rules in force for a session, by scope.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The session's.
    pub session: &'a [Rule],
    /// The workspace's.
    pub project: &'a [Rule],
    /// The operator's.
    pub user: &'a [Rule],
}

impl Rules<'_> {
    /// The rule that decides about a tool: the nearest scope that has one that fits, in it the closest, of equals the first.
    fn matching(&self, tool: &str) -> Option<MatchedRule> {
        let scopes =
            [(RuleScope::Session, self.session), (RuleScope::Project, self.project), (RuleScope::User, self.user)];
        scopes.into_iter().find_map(|(scope, rules)| {
            let mut best: Option<(usize, &Rule)> = None;
            for rule in rules {
                if let Some(fit) = rule.fit(tool)
                    && best.is_none_or(|(closest, _)| fit > closest)
                {
                    best = Some((fit, rule));
                }
            }
            best.map(|(_, rule)| MatchedRule { scope, tool: rule.tool.clone(), behavior: rule.behavior })
        })
    }
}

/// The modes that bind a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// The one that the first claim pinned; nothing widens it.
    pub pinned: Mode,
    /// The runtime's at the moment, where it binds the run as well.
    pub present: Option<Mode>,
}

impl Modes {
    /// The runtime's mode binds a run whose session sets none, and any run where it is one that contains.
    pub fn of(pinned: Mode, session: Option<Mode>, runtime: Mode) -> Self {
        Self { pinned, present: Some(runtime).filter(|mode| session.is_none() || mode.contains()) }
    }

    /// The stricter decision, and the mode that makes it; the pinned one where both decide the same.
    fn apply(self, class: Class, base: Behavior) -> (Mode, Behavior) {
        let pinned = self.pinned.apply(class, base);
        match self.present.map(|mode| (mode, mode.apply(class, base))) {
            Some((mode, decision)) if decision > pinned => (mode, decision),
            Some(_) | None => (self.pinned, pinned),
        }
    }
}

/// What mode and rules say about a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The mode that decided.
    pub mode: Mode,
    /// What rules or the tool's class say before the mode.
    pub base: Behavior,
    /// What holds.
    pub decision: Behavior,
    /// The rule that decided, if one did.
    pub rule: Option<MatchedRule>,
}

impl Judgement {
    /// Why it does not allow a call, in words.
    pub fn why(&self) -> String {
        why(self.mode, (self.base, self.decision), self.rule.as_ref())
    }
}

impl Decided {
    /// Why it does not allow the call, in words.
    pub fn why(&self) -> String {
        why(self.mode, (self.base, self.decision), self.rule.as_ref())
    }
}

fn why(mode: Mode, (base, decision): (Behavior, Behavior), rule: Option<&MatchedRule>) -> String {
    match rule {
        Some(rule) if decision == base => {
            let does = if base == Behavior::Deny { "denies it" } else { "asks a person first" };
            format!("The rule `{}` of scope {} {does}.", rule.tool, rule.scope.word())
        }
        Some(_) | None if decision == Behavior::Ask => "A person is asked first.".to_owned(),
        Some(_) | None => format!("The permission mode `{}` does not allow it.", mode.word()),
    }
}

/// Judges a tool.
pub fn assess(tool: &str, modes: Modes, rules: Rules<'_>) -> Judgement {
    let class = Class::of(tool);
    let rule = rules.matching(tool);
    let base = rule.as_ref().map_or(class.base(), |rule| rule.behavior);
    let (mode, decision) = modes.apply(class, base);
    Judgement { mode, base, decision, rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Rules<'static> = Rules { session: &[], project: &[], user: &[] };
    const MODES: [Mode; 5] = [Mode::Default, Mode::AcceptEdits, Mode::BypassPermissions, Mode::Plan, Mode::DontAsk];

    fn only(pinned: Mode) -> Modes {
        Modes { pinned, present: None }
    }

    fn rule(tool: &str, behavior: Behavior) -> Rule {
        Rule { tool: tool.to_owned(), behavior }
    }

    #[test]
    fn each_mode_decides_about_each_tool_as_the_matrix_says() {
        use Behavior::{Allow, Ask, Deny};
        let matrix: [(&[&str], [Behavior; 5]); 7] = [
            (&["bash"], [Ask, Ask, Allow, Deny, Deny]),
            (&["write_file", "edit_file", "apply_patch"], [Ask, Allow, Allow, Deny, Deny]),
            (&["mcp__linear__create", "mcp__x"], [Ask, Ask, Allow, Deny, Deny]),
            (&["list_mcp_resources", "list_mcp_resource_templates", "read_mcp_resource"], [Ask, Ask, Allow, Ask, Deny]),
            (&["read_file", "list_files", "search_files", "task_output", "ask_user_question"], [Allow; 5]),
            (&["exit_plan_mode"], [Ask, Ask, Allow, Ask, Deny]),
            (&["task_stop", "generate_image", "bash2", ""], [Allow, Allow, Allow, Deny, Allow]),
        ];
        let denied = [rule("*", Deny)];
        for (tools, decisions) in matrix {
            for tool in tools {
                for (mode, decision) in MODES.into_iter().zip(decisions) {
                    assert_eq!(assess(tool, only(mode), NONE).decision, decision, "{tool} in {mode:?}");
                    let judged = assess(tool, only(mode), Rules { user: &denied, ..NONE });
                    assert_eq!(judged.decision, Deny, "{tool} in {mode:?}, denied by a rule");
                }
            }
        }
    }

    #[test]
    fn modes_are_applied_to_what_rules_say() {
        use Behavior::{Allow, Ask, Deny};
        let cases = [
            ("bash", Allow, [Allow, Allow, Allow, Deny, Allow]),
            ("bash", Ask, [Ask, Ask, Allow, Deny, Deny]),
            ("edit_file", Ask, [Ask, Allow, Allow, Deny, Deny]),
            ("read_file", Ask, [Ask, Ask, Allow, Ask, Deny]),
            ("generate_image", Allow, [Allow, Allow, Allow, Deny, Allow]),
        ];
        for (tool, behavior, decisions) in cases {
            let rules = [rule(tool, behavior)];
            for (mode, decision) in MODES.into_iter().zip(decisions) {
                let judged = assess(tool, only(mode), Rules { session: &rules, ..NONE });
                assert_eq!((judged.base, judged.decision), (behavior, decision), "{tool} {behavior:?} in {mode:?}");
            }
        }
    }

    #[test]
    fn of_two_modes_the_stricter_decides_about_each_call_and_neither_widens_the_other() {
        let rules = [rule("read_file", Behavior::Ask), rule("write_file", Behavior::Allow)];
        let rules = Rules { session: &rules, ..NONE };
        for tool in ["bash", "read_file", "write_file", "edit_file", "list_files", "exit_plan_mode", "task_stop"] {
            for (pinned, present) in MODES.iter().flat_map(|one| MODES.map(|other| (*one, other))) {
                let judged = assess(tool, Modes { pinned, present: Some(present) }, rules);
                let [one, other] = [pinned, present].map(|mode| assess(tool, only(mode), rules).decision);
                let mode = if other > one { present } else { pinned };
                assert_eq!((judged.decision, judged.mode), (one.max(other), mode), "{tool}, {pinned:?}, {present:?}");
            }
        }
    }

    #[test]
    fn the_runtimes_mode_binds_sessions_without_their_own_and_contains_all_others() {
        let bound = |session, runtime| Modes::of(Mode::BypassPermissions, session, runtime).present;
        let own = Some(Mode::BypassPermissions);
        assert_eq!(MODES.map(|mode| bound(None, mode)), MODES.map(Some));
        assert_eq!(MODES.map(|mode| bound(own, mode)), [None, None, None, Some(Mode::Plan), Some(Mode::DontAsk)]);
    }

    #[test]
    fn the_nearest_scope_and_in_it_the_closest_and_first_rule_decides() {
        use Behavior::{Allow, Ask, Deny};
        let user = [rule("mcp__linear__get", Deny)];
        let project =
            [rule("*", Ask), rule("mcp__*", Deny), rule("mcp__linear__*", Allow), rule("mcp__linear__*", Deny)];
        let session = [rule("bash", Allow)];
        let rules = Rules { session: &session, project: &project, user: &user };
        let of = |tool: &str| {
            assess(tool, only(Mode::Default), rules).rule.map(|rule| (rule.scope, rule.tool, rule.behavior))
        };
        assert_eq!(of("bash"), Some((RuleScope::Session, "bash".into(), Allow)));
        assert_eq!(of("mcp__linear__get"), Some((RuleScope::Project, "mcp__linear__*".into(), Allow)));
        assert_eq!(of("mcp__other"), Some((RuleScope::Project, "mcp__*".into(), Deny)));
        assert_eq!(of("read_file"), Some((RuleScope::Project, "*".into(), Ask)));
        let user_only = Rules { session: &session, project: &[], user: &user };
        assert_eq!(assess("mcp__linear__get2", only(Mode::Default), user_only).rule, None);
        let exact = [rule("bash*", Allow), rule("bash", Deny)];
        assert_eq!(assess("bash", only(Mode::Default), Rules { user: &exact, ..NONE }).decision, Deny);
    }
}
