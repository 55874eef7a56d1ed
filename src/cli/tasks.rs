//! `chancery tasks …`

use std::process::ExitCode;

use clap::Subcommand;

use super::ask::{PartOfRuns, reason, with};
use super::client::ClientArgs;
use super::wire::segment;
use super::{output, show};

/// Something about background tasks.
#[derive(Debug, Subcommand)]
pub enum Tasks {
    /// Lists background tasks, newest first
    List(PartOfRuns),
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

/// Runs `tasks`.
pub fn tasks(args: &ClientArgs, verb: &Tasks) -> ExitCode {
    if let Tasks::Output { id } = verb {
        return task_output(args, id);
    }
    with(args, |client| match verb {
        Tasks::List(part) => client.get(&part.of("/v1/tasks")).map(|list| (show::TASKS, list)),
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
                output::Format::Json => output::document(&page.to_string()),
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
