//! `chancery runtime …`

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::ask::{At, Paging, with};
use super::client::{Client, ClientArgs, Trouble};
use super::{auth, output, show};
use crate::domain::limits::SYSTEM_PROMPT_BYTES;
use crate::platform::bounded_read::bounded_read_text;

/// A word of the command line as the interface spells it.
fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Permission modes as they are spelt on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeWord {
    /// Reads run; the rest asks.
    Default,
    /// Edits of files run as well.
    AcceptEdits,
    /// Everything runs that no rule denies.
    BypassPermissions,
    /// Nothing that changes anything runs.
    Plan,
    /// What would ask is denied.
    DontAsk,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// How much the daemon says in its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LevelWord {
    /// What it was started to say.
    Off,
    /// Each request as well; ids and codes, never words.
    Redacted,
    /// Each batch of records as well.
    Full,
}

/// Whose rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ScopeWord {
    /// The operator's, for everything.
    #[default]
    User,
    /// The workspace's.
    Project,
}

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BehaviorWord {
    /// The call is made.
    Allow,
    /// A person decides.
    Ask,
    /// The call is refused.
    Deny,
}

/// Something about the configuration of the running daemon.
#[derive(Debug, Subcommand)]
pub enum Runtime {
    /// Shows it
    Get(At),
    /// Sets the mode of sessions that set none; `plan` and `dont-ask` bind every run, also those that work
    SetPermissionMode {
        /// The mode
        #[arg(value_enum)]
        mode: ModeWord,
    },
    /// Sets how much the daemon says in its log, and what `runs debug` keeps, now and after a restart
    SetDebugLevel {
        /// The level
        #[arg(value_enum)]
        level: LevelWord,
    },
    /// Sets route and model for sessions that choose none; runs that began keep theirs
    SetModel {
        /// A model, `<route_id>/<model>`, or nothing for what the routes file says
        selector: Option<String>,
        /// The route; the selector is a model of it then
        #[arg(long, value_name = "ROUTE")]
        route: Option<String>,
        #[command(flatten)]
        seen: Seen,
    },
    /// Sets what models are told before conversations; appending an empty text goes back to the daemon's own
    SetSystemPrompt {
        /// Whether the daemon's own text stays before it
        #[arg(long, value_enum)]
        mode: PromptWord,
        /// The text; read from standard input where neither it nor a file is named
        text: Option<String>,
        /// The file that holds the text
        #[arg(long, value_name = "FILE", conflicts_with = "text")]
        from_file: Option<PathBuf>,
        #[command(flatten)]
        seen: Seen,
    },
    /// Sets whether the words of new sessions are encrypted, so that `sessions erase` can erase them
    SetErasure {
        /// Whether they are
        #[arg(value_enum)]
        switch: Switch,
        #[command(flatten)]
        seen: Seen,
    },
    /// What bounds tools besides their own limits
    #[command(subcommand)]
    ToolLimits(ToolLimits),
    /// Rules that allow, ask or deny calls of tools
    #[command(subcommand)]
    PermissionRules(Rules),
    /// Says what would be decided about a call of a tool; nothing is called
    CheckPermission {
        /// The tool
        tool: String,
        /// The session whose mode and rules count as well
        #[arg(long, value_name = "SESSION")]
        session: Option<String>,
    },
    /// Who changed what, newest first
    Revisions(Paging),
    /// Goes back to an earlier revision, which makes a new one with its values
    Rollback {
        /// The revision; 0 is what the daemon was born with
        revision: u64,
    },
    /// Who uses secrets, and taking that back
    #[command(subcommand)]
    Auth(auth::Auth),
    /// Says that the wall clock is right again, after it jumped
    TrustClock,
}

/// What becomes of the daemon's own system prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PromptWord {
    /// It stays, and the text follows.
    Append,
    /// The text stands in its place.
    Replace,
}

/// What the caller has seen of the configuration.
#[derive(Debug, Args)]
pub struct Seen {
    /// Changes it only where it is still at this revision
    #[arg(long, value_name = "REVISION")]
    expected_revision: Option<u64>,
}

/// Something about limits of tools.
#[derive(Debug, Subcommand)]
pub enum ToolLimits {
    /// Shows them
    Get,
    /// Sets all of them; one that is not named is the tools' own
    Set {
        /// How long a command in the foreground may run, milliseconds
        #[arg(long, value_name = "MS")]
        command_ms: Option<u64>,
        /// How long a command in the background may run, milliseconds
        #[arg(long, value_name = "MS")]
        task_ms: Option<u64>,
        /// Most text of a result that a model is shown, bytes
        #[arg(long, value_name = "BYTES")]
        result_bytes: Option<u64>,
        #[command(flatten)]
        seen: Seen,
    },
}

/// Something about permission rules.
#[derive(Debug, Subcommand)]
pub enum Rules {
    /// Lists them
    List,
    /// Adds a rule, or changes what the rule for the same tool says
    Add {
        /// A tool, a prefix that ends in `*`, or `*`
        tool: String,
        /// What it says
        #[arg(value_enum)]
        behavior: BehaviorWord,
        #[command(flatten)]
        whose: Whose,
    },
    /// Removes the rule for a tool
    Remove {
        /// The tool, as the rule names it
        tool: String,
        #[command(flatten)]
        whose: Whose,
    },
}

/// Whose rules are meant.
#[derive(Debug, Args)]
pub struct Whose {
    /// Whose rules
    #[arg(long, value_enum, default_value_t)]
    scope: ScopeWord,
}

/// Runs `runtime`.
pub fn runtime(args: &ClientArgs, verb: &Runtime) -> ExitCode {
    let answer = with(args, |client| match verb {
        Runtime::Get(at) => client.get(&at.of("/v1/runtime".to_owned())).map(|view| (show::RUNTIME, view)),
        Runtime::SetPermissionMode { mode } => {
            let body = json!({ "mode": word(mode) });
            client.put("/v1/runtime/permission-mode", &body).map(|view| (show::RUNTIME, view))
        }
        Runtime::SetDebugLevel { level } => {
            let body = json!({ "level": word(level) });
            client.put("/v1/runtime/debug-level", &body).map(|view| (show::RUNTIME, view))
        }
        Runtime::SetModel { selector, route, seen } => {
            let body = json!({ "model": selector, "route": route, "expected_revision": seen.expected_revision });
            client.put("/v1/runtime/model", &body).map(|view| (show::RUNTIME, view))
        }
        Runtime::SetSystemPrompt { mode, text, from_file, seen } => {
            let text = match text {
                Some(text) => text.clone(),
                None => text_of(from_file.as_deref())?,
            };
            let body = json!({ "mode": word(mode), "text": text, "expected_revision": seen.expected_revision });
            client.put("/v1/runtime/system-prompt", &body).map(|view| (show::RUNTIME, view))
        }
        Runtime::SetErasure { switch, seen } => {
            let body = json!({ "on": *switch == Switch::On, "expected_revision": seen.expected_revision });
            client.put("/v1/runtime/erasure", &body).map(|view| (show::RUNTIME, view))
        }
        Runtime::ToolLimits(ToolLimits::Get) => {
            client.get("/v1/runtime/tool-limits").map(|view| (show::TOOL_LIMITS, view))
        }
        Runtime::ToolLimits(ToolLimits::Set { command_ms, task_ms, result_bytes, seen }) => {
            let body = json!({
                "command_ms": command_ms,
                "task_ms": task_ms,
                "result_bytes": result_bytes,
                "expected_revision": seen.expected_revision,
            });
            client.put("/v1/runtime/tool-limits", &body).map(|view| (show::RUNTIME, view))
        }
        Runtime::PermissionRules(verb) => rules(client, verb).map(|list| (show::RULES, list)),
        Runtime::CheckPermission { tool, session } => {
            let body = json!({ "tool": tool, "session_id": session });
            client.post("/v1/runtime/permissions/check", &body).map(|view| (show::PERMISSION, view))
        }
        Runtime::Revisions(paging) => {
            client.get(&paging.of("/v1/runtime/revisions")).map(|list| (show::REVISIONS, list))
        }
        Runtime::Rollback { revision } => {
            client.post("/v1/runtime/rollback", &json!({ "revision": revision })).map(|view| (show::RUNTIME, view))
        }
        Runtime::Auth(verb) => auth::ask(client, verb),
        Runtime::TrustClock => client.post("/v1/runtime/trust-clock", &json!({})).map(|view| (show::RUNTIME, view)),
    });
    if matches!(verb, Runtime::SetPermissionMode { mode: ModeWord::BypassPermissions }) {
        output::talk("From now on calls run unasked wherever no rule denies them.");
    }
    answer
}

/// A text out of a file, or out of standard input.
fn text_of(file: Option<&Path>) -> Result<String, Trouble> {
    let bytes = match file {
        Some(path) => bounded_read_text(path, SYSTEM_PROMPT_BYTES).map_err(|fault| fault.to_string()),
        None => std::io::read_to_string(std::io::stdin().take(SYSTEM_PROMPT_BYTES as u64 + 1))
            .map_err(|fault| format!("standard input: {fault}")),
    };
    bytes.map_err(Trouble::Usage)
}

/// The daemon takes all rules of a scope at once; that nobody else changed them meanwhile is told by the revision.
fn rules(client: &Client, verb: &Rules) -> Result<Value, Trouble> {
    let view = client.get("/v1/runtime")?;
    let (scope, changed) = match verb {
        Rules::List => return Ok(list(&view)),
        Rules::Add { tool, behavior, whose } => (whose.scope, added(of(&view, whose.scope), tool, &word(behavior))),
        Rules::Remove { tool, whose } => (whose.scope, removed(of(&view, whose.scope), tool)?),
    };
    let body = json!({ "scope": word(&scope), "rules": changed, "expected_revision": view["revision"] });
    client.put("/v1/runtime/permission-rules", &body).map(|view| list(&view))
}

fn of(view: &Value, scope: ScopeWord) -> Vec<Value> {
    view[format!("{}_rules", word(&scope))].as_array().cloned().unwrap_or_default()
}

fn added(mut rules: Vec<Value>, tool: &str, behavior: &str) -> Vec<Value> {
    match rules.iter_mut().find(|rule| rule["tool"] == tool) {
        Some(rule) => rule["behavior"] = json!(behavior),
        None => rules.push(json!({ "tool": tool, "behavior": behavior })),
    }
    rules
}

fn removed(mut rules: Vec<Value>, tool: &str) -> Result<Vec<Value>, Trouble> {
    let before = rules.len();
    rules.retain(|rule| rule["tool"] != tool);
    if rules.len() == before {
        return Err(Trouble::Refused(format!("no rule of this scope names {tool}")));
    }
    Ok(rules)
}

/// The rules of both scopes as one list.
fn list(view: &Value) -> Value {
    let scopes = [ScopeWord::User, ScopeWord::Project];
    let rules = scopes.into_iter().flat_map(|scope| {
        of(view, scope)
            .into_iter()
            .map(move |rule| json!({ "scope": word(&scope), "tool": rule["tool"], "behavior": rule["behavior"] }))
    });
    json!({ "revision": view["revision"], "items": rules.collect::<Vec<_>>() })
}
