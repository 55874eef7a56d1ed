//! What all client verbs share: ask, print the answer, and end with the right code.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, ClientArgs, Trouble};
use super::output::{self, Format};
use super::show::{Shape, render};

/// Which part of a list.
#[derive(Debug, Clone, Default, Args)]
pub struct Paging {
    /// Most items
    #[arg(long, value_name = "N")]
    limit: Option<u16>,
    /// Where to go on, as the answer before said
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

impl Paging {
    /// The path with the query that asks for this part.
    pub fn of(&self, path: &str) -> String {
        let limit = self.limit.map(|limit| limit.to_string());
        asking(asking(path.to_owned(), "limit", limit.as_deref()), "cursor", self.cursor.as_deref())
    }
}

/// The path with one more part of its query, where there is one.
pub fn asking(path: String, name: &str, value: Option<&str>) -> String {
    let Some(value) = value else { return path };
    let joint = if path.contains('?') { '&' } else { '?' };
    format!("{path}{joint}{name}={}", super::wire::segment(value))
}

/// Which part of a list.
#[derive(Debug, Clone, Default, Args)]
pub struct Part {
    #[command(flatten)]
    paging: Paging,
    /// Only those with this status
    #[arg(long)]
    status: Option<String>,
}

impl Part {
    /// The path with the query that asks for this part.
    pub fn of(&self, path: &str) -> String {
        asking(self.paging.of(path), "status", self.status.as_deref())
    }
}

/// Which part of a list over all sessions.
#[derive(Debug, Clone, Default, Args)]
pub struct PartOfSessions {
    #[command(flatten)]
    part: Part,
    /// Only those of this session
    #[arg(long, alias = "session", value_name = "SESSION")]
    session_id: Option<String>,
}

impl PartOfSessions {
    /// The path with the query that asks for this part.
    pub fn of(&self, path: &str) -> String {
        asking(self.part.of(path), "session_id", self.session_id.as_deref())
    }
}

/// Which part of a list over all sessions and runs.
#[derive(Debug, Clone, Default, Args)]
pub struct PartOfRuns {
    #[command(flatten)]
    part: PartOfSessions,
    /// Only those of this run
    #[arg(long, alias = "run", value_name = "RUN")]
    run_id: Option<String>,
}

impl PartOfRuns {
    /// The path with the query that asks for this part.
    pub fn of(&self, path: &str) -> String {
        asking(self.part.of(path), "run_id", self.run_id.as_deref())
    }

    /// The same of what still waits, where no status was named.
    pub fn pending(&self, path: &str) -> String {
        asking(self.of(path), "status", Some("pending"))
    }
}

/// As of when.
#[derive(Debug, Clone, Default, Args)]
pub struct At {
    /// As it was then: a sequence number, Unix milliseconds, or a time such as 2026-11-27T04:00:00Z
    #[arg(long, value_name = "SEQ|TIME")]
    at: Option<String>,
}

impl At {
    /// The path with the query that asks for this moment.
    pub fn of(&self, path: String) -> String {
        asking(path, "at", self.at.as_deref())
    }
}

/// Finds the daemon, asks, prints, and gives the exit code.
pub fn with(args: &ClientArgs, ask: impl FnOnce(&Client) -> Result<(Shape, Value), Trouble>) -> ExitCode {
    let client = match args.client() {
        Ok(client) => client,
        Err(trouble) => return trouble.tell(args.output),
    };
    match ask(&client) {
        Ok((shape, value)) => {
            print(args.output, shape, &value);
            client.verdict()
        }
        Err(trouble) => trouble.tell(args.output),
    }
}

/// Prints an answer.
pub fn print(format: Format, shape: Shape, value: &Value) {
    match format {
        Format::Json => output::json(value),
        Format::Human => output::data(&render(shape, value)),
    };
    if let (Format::Human, Some(cursor)) = (format, value["next_cursor"].as_str()) {
        output::talk(&format!("There is more: --cursor {}", output::escape(cursor)));
    }
}

/// A body with the reason, where there is one.
pub fn reason(given: Option<&String>) -> Value {
    given.map_or_else(|| json!({}), |reason| json!({ "reason": reason }))
}
