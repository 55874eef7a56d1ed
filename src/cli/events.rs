//! Records of a session or a run: read up to the present, or followed.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::ask::Paging;
use super::client::{Client, ClientArgs, Trouble};
use super::output::{self, Format, escape};
use super::show;
use super::stream::{Sight, Stream};
use crate::platform::clock::{Clock as _, SystemClock};

/// Which records.
#[derive(Debug, Clone, Default, Args)]
pub struct Which {
    #[command(flatten)]
    paging: Paging,
    /// Goes on with what happens, until Ctrl-C
    #[arg(long, conflicts_with_all = ["limit", "cursor"])]
    follow: bool,
    /// With --follow: begin behind this sequence number
    #[arg(long, value_name = "SEQ", default_value_t = 0, requires = "follow")]
    after: u64,
}

/// Prints the records of what lies at `path`.
pub fn run(args: &ClientArgs, path: &str, which: &Which) -> ExitCode {
    let client = match args.client() {
        Ok(client) => client,
        Err(trouble) => return trouble.tell(args.output),
    };
    let printed = if which.follow {
        follow(args, client, path, which.after)
    } else {
        page(&client, args.output, &which.paging.of(&format!("{path}/events")))
    };
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => trouble.tell(args.output),
    }
}

fn page(client: &Client, format: Format, path: &str) -> Result<(), Trouble> {
    let answer = client.get(path)?;
    if format == Format::Json {
        output::json(&answer);
        return Ok(());
    }
    for item in answer["items"].as_array().into_iter().flatten() {
        if !output::data(&record(item)) {
            return Ok(());
        }
    }
    if let Some(cursor) = answer["next_cursor"].as_str() {
        output::talk(&format!("There is more: --cursor {}", escape(cursor)));
    }
    Ok(())
}

fn follow(args: &ClientArgs, client: Client, path: &str, after: u64) -> Result<(), Trouble> {
    let stream = Stream::open(args, client.door, format!("{path}/stream"), after);
    loop {
        match stream.next() {
            // The stream of a run ends behind the run.
            Sight::Event { id: None, event, .. } if event == "end" => return Ok(()),
            // What else has no number is words on their way; the records hold them as well.
            Sight::Event { id: None, .. } | Sight::Line { .. } | Sight::Moved(_) => {}
            Sight::Event { id: Some(_), data, .. } => {
                let shown = match args.output {
                    Format::Json => output::document(&data),
                    Format::Human => output::data(&record(&serde_json::from_str(&data).unwrap_or_default())),
                };
                if !shown {
                    return Ok(());
                }
            }
            Sight::Interrupted => return Ok(()),
            Sight::Lost(trouble) => return Err(trouble),
        }
    }
}

/// A record in one line: where, when, what, by whom.
pub fn record(record: &Value) -> String {
    let word = |value: &Value| escape(value.as_str().unwrap_or("-"));
    let seq = record["seq"].as_u64().unwrap_or(0);
    if record["seal"].is_string() {
        return format!("{seq:>8}  seal");
    }
    let at = record["at_ms"].as_u64().map_or_else(String::new, |at| show::time(at, SystemClock.wall_ms()));
    let (kind, stream, actor) = (word(&record["kind"]), word(&record["stream"]), word(&record["actor"]["id"]));
    format!("{seq:>8}  {at}  {kind:<26} {stream}  by {actor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_and_a_seal_says_so() {
        let line = serde_json::json!({
            "seq": 7, "at_ms": 0, "kind": "session.created", "stream": "session:x\u{1b}", "actor": { "id": "admin" },
        });
        let text = record(&line);
        assert!(text.starts_with("       7  1970-01-01 00:00:00Z"), "{text}");
        assert!(text.ends_with("session.created            session:x\\u{1b}  by admin"), "{text}");
        assert_eq!(record(&serde_json::json!({ "seq": 8, "seal": "…" })), "       8  seal");
    }
}
