//! `bash`: a shell command in the sandbox, waited for or in the background.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::text::HeadAndTail;
use super::{Prepared, Tool, ToolClass, ToolContext, ToolOutcome, arguments, invalid, limits, parse, prepared, within};
use crate::agent::sandbox::{Child, Command, Exit, How, Profile};
use crate::agent::workspace::Workspace;
use crate::domain::reason::{Reason, Refusal};

pub(super) struct Bash;

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Arguments {
    /// The command, for `bash -c`.
    command: String,
    /// Milliseconds after which it is stopped; two minutes where absent, an hour in the background.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    /// Whether to go on without waiting; look at it later with `task_output`.
    #[serde(default)]
    background: bool,
    /// What it is for, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

impl Tool for Bash {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn class(&self) -> ToolClass {
        ToolClass::Command
    }

    fn description(&self) -> &'static str {
        "Runs a shell command in the workspace and shows what it writes. It is confined: it can read the system's \
         programs, and write the workspace and $TMPDIR, which is removed afterwards; usually there is no network. \
         Everything it starts ends with it, unless it runs in the background as a task."
    }

    fn schema(&self) -> serde_json::Value {
        super::schema_of::<Arguments>()
    }

    fn prepare(&self, input: &str, _: &Workspace) -> Result<Prepared, Refusal> {
        let mut arguments: Arguments = parse(input)?;
        within("The command", &arguments.command, limits::COMMAND_BYTES)?;
        within("The description", arguments.description.as_deref().unwrap_or(""), limits::DESCRIPTION_BYTES)?;
        if arguments.command.trim().is_empty() || arguments.command.contains('\0') {
            return Err(invalid("The command is empty or holds a NUL byte."));
        }
        let (fallback, most) = if arguments.background {
            (limits::TASK_MS_DEFAULT, limits::TASK_MS_MAX)
        } else {
            (limits::COMMAND_MS_DEFAULT, limits::COMMAND_MS_MAX)
        };
        let timeout = *arguments.timeout_ms.get_or_insert(fallback);
        if !(1..=most).contains(&timeout) {
            return Err(invalid(format!("`timeout_ms` is between 1 and {most} here.")));
        }
        prepared(self, &arguments, Vec::new())
    }

    fn perform<'a>(&'a self, prepared: &'a Prepared, context: &'a ToolContext) -> BoxFuture<'a, ToolOutcome> {
        Box::pin(async move { run(arguments(self, prepared), context).await.into() })
    }
}

async fn run(arguments: Result<Arguments, Refusal>, context: &ToolContext) -> Result<ToolOutcome, Refusal> {
    let arguments = arguments?;
    let most = if arguments.background { context.limits.task_ms } else { context.limits.command_ms };
    let command = Command {
        program: shell(),
        args: vec!["-c".to_owned(), arguments.command.clone()],
        cwd: context.workspace.path().to_owned(),
        workspace: context.workspace.path().to_owned(),
        profile: Profile::Tool,
        time_limit: arguments.timeout_ms.map(|asked| Duration::from_millis(asked.min(most.unwrap_or(asked)))),
        environment: BTreeMap::new(),
    };
    if arguments.background && context.erasable {
        let detail =
            "Nothing works in the background of a session whose words can be erased; run it in the foreground.";
        return Err(Refusal::new(Reason::ToolFailed, detail));
    }
    if arguments.background {
        let task = context.background.start(context.fresh_task_id, context.session_id, command).await?;
        let output = format!("Started {} in the background; look at it with `task_output`.\n", task.task_id);
        return Ok(ToolOutcome { task: Some(task), ..ToolOutcome::done(output, false) });
    }
    let child = context.launcher.start(command).await?;
    Ok(follow(child, context).await)
}

fn shell() -> PathBuf {
    let found = ["/bin/bash", "/usr/bin/bash"].into_iter().map(Path::new).find(|path| path.exists());
    found.unwrap_or(Path::new("/bin/sh")).to_owned()
}

/// Takes the output until the end. A flood, or the wish to stop, ends the command; what it wrote is kept.
async fn follow(mut child: Child, context: &ToolContext) -> ToolOutcome {
    let mut kept = HeadAndTail::new(limits::RESULT_BYTES);
    // Before anything is cut, so that no half of a secret is left at a cut.
    let mut clean = context.background.redactor().stream();
    let mut flood = false;
    let mut buffer = vec![0; 64 << 10];
    let mut stopping = false;
    loop {
        let count = tokio::select! {
            count = child.read(&mut buffer) => count,
            () = context.stop.cancelled(), if !stopping => {
                stopping = true;
                child.stop();
                continue;
            }
        };
        if count == 0 {
            break;
        }
        kept.push(&clean.push(&buffer[..count]));
        if kept.total() > limits::COMMAND_OUTPUT_BYTES && !flood {
            flood = true;
            child.stop();
        }
    }
    kept.push(&clean.finish());
    let exit = child.wait().await;
    let (output, truncated) = kept.into_text();
    outcome(output, truncated, &exit, flood)
}

fn outcome(mut output: String, truncated: bool, exit: &Exit, flood: bool) -> ToolOutcome {
    let (code, remark) = match (exit.how, exit.code, exit.signal) {
        (How::Exited, Some(0), _) => (None, None),
        (How::Exited, Some(code), _) => (Some(Reason::ToolFailed), Some(format!("exit code {code}"))),
        (How::Exited, None, signal) => {
            (Some(Reason::ToolFailed), Some(format!("ended by signal {}", signal.unwrap_or(0))))
        }
        (How::TimeLimit, ..) => (Some(Reason::ToolTimeout), Some("stopped at its time limit".to_owned())),
        (How::Processes, ..) => {
            let most = crate::agent::sandbox::limits::COMMAND_PROCESSES;
            (Some(Reason::ToolLimitExceeded), Some(format!("killed because it had more than {most} processes")))
        }
        (How::Stopped, ..) if flood => {
            (Some(Reason::ToolLimitExceeded), Some("stopped because it wrote too much".to_owned()))
        }
        (How::Stopped | How::DaemonGone, ..) => (Some(Reason::ToolFailed), Some("stopped on request".to_owned())),
        (How::Lost, ..) => {
            (Some(Reason::RunOutcomeUnknown), Some("its supervisor was lost; how it ended is not known".to_owned()))
        }
    };
    if let Some(remark) = remark {
        if !output.is_empty() && !output.ends_with('\n') {
            output.push('\n');
        }
        let _ = writeln!(output, "[{remark}]");
    }
    ToolOutcome { ok: code.is_none(), code, output, truncated, exit_code: exit.code, task: None }
}
