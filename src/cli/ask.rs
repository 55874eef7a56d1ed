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
        let limit = self.limit.map(|limit| format!("limit={limit}"));
        let cursor = self.cursor.as_ref().map(|cursor| format!("cursor={}", super::wire::segment(cursor)));
        let query: Vec<String> = [limit, cursor].into_iter().flatten().collect();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
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
        let Some(at) = &self.at else { return path };
        let joint = if path.contains('?') { '&' } else { '?' };
        format!("{path}{joint}at={}", super::wire::segment(at))
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
