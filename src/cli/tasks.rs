//! `chancery tasks …` and `chancery runtime …`

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::ask::{At, Paging, reason, with};
use super::client::ClientArgs;
use super::wire::segment;
use super::{output, show};

/// Something about background tasks.
#[derive(Debug, Subcommand)]
pub enum Tasks {
    /// Lists background tasks, newest first
    List(Paging),
    /// Shows a task
    Get {
        /// The task
        id: String,
    },
    /// Prints what it wrote, as far as that is kept
    Output {
        /// The task
        id: String,
    },
    /// Asks it to stop
    Stop {
        /// The task
        id: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
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

impl ModeWord {
    fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Something about the configuration of the running daemon.
#[derive(Debug, Subcommand)]
pub enum Runtime {
    /// Shows it
    Get(At),
    /// Sets the mode of sessions that set none
    SetPermissionMode {
        /// The mode
        #[arg(value_enum)]
        mode: ModeWord,
    },
    /// Says that the wall clock is right again, after it jumped
    TrustClock,
}

/// Runs `tasks`.
pub fn tasks(args: &ClientArgs, verb: &Tasks) -> ExitCode {
    if let Tasks::Output { id } = verb {
        return task_output(args, id);
    }
    with(args, |client| match verb {
        Tasks::List(paging) => client.get(&paging.of("/v1/tasks")).map(|list| (show::TASKS, list)),
        Tasks::Get { id } | Tasks::Output { id } => {
            client.get(&format!("/v1/tasks/{}", segment(id))).map(|task| (show::TASK, task))
        }
        Tasks::Stop { id, reason: why } => {
            let path = format!("/v1/tasks/{}/stop", segment(id));
            client.post(&path, &reason(why.as_ref())).map(|task| (show::TASK, task))
        }
    })
}

/// What a task wrote, page by page; in JSON one page a line.
fn task_output(args: &ClientArgs, id: &str) -> ExitCode {
    let printed = args.client().and_then(|client| {
        let mut offset = 0;
        loop {
            let page = client.get(&format!("/v1/tasks/{}/output?offset={offset}", segment(id)))?;
            let text = page["text"].as_str().unwrap_or_default();
            if offset == 0 && page["dropped_bytes"].as_u64().unwrap_or(0) > 0 {
                output::talk(&format!("The first {} bytes are not kept any more.", page["dropped_bytes"]));
            }
            let read = match args.output {
                output::Format::Human => output::words(&output::escape_lines(text)),
                output::Format::Json => output::data(&page.to_string()),
            };
            let next = page["next_offset"].as_u64().unwrap_or(0);
            if !read || next <= offset || text.is_empty() {
                return Ok(());
            }
            offset = next;
        }
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => trouble.tell(args.output),
    }
}

/// Runs `runtime`.
pub fn runtime(args: &ClientArgs, verb: &Runtime) -> ExitCode {
    let answer = with(args, |client| match verb {
        Runtime::Get(at) => client.get(&at.of("/v1/runtime".to_owned())).map(|view| (show::RUNTIME, view)),
        Runtime::SetPermissionMode { mode } => {
            client.put("/v1/runtime/permission-mode", &json!({ "mode": mode.word() })).map(|view| (show::RUNTIME, view))
        }
        Runtime::TrustClock => client.post("/v1/runtime/trust-clock", &json!({})).map(|view| (show::RUNTIME, view)),
    });
    if matches!(verb, Runtime::SetPermissionMode { mode: ModeWord::BypassPermissions }) {
        output::talk("From now on calls run unasked wherever no rule denies them.");
    }
    answer
}
