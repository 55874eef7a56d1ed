//! `chancery status`, `chancery receipt` and `chancery journal …`

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::ask::{At, with};
use super::client::{Client, ClientArgs, Trouble};
use super::output::{self, Format};
use super::repair::{self, RepairArgs};
use super::stream::{Sight, Stream};
use super::wire::segment;
use super::{events, show};

/// Most lines that are asked for at once.
const RECORDS_LINES: u64 = 10_000;

/// Something about the journal.
#[derive(Debug, Subcommand)]
pub enum Journal {
    /// The newest sealed tree
    Head,
    /// Its lines
    Records(Records),
    /// Hands the signing key over to a new one
    RotateKey,
    /// Repairs the journal of a state root that refuses to start, offline
    Repair(RepairArgs),
}

/// Which lines.
#[derive(Debug, Args)]
pub struct Records {
    /// The first sequence number
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    from: u64,
    /// Most lines
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u64,
}

/// Runs `status`.
pub fn status(args: &ClientArgs, at: &At) -> ExitCode {
    with(args, |client| client.get(&at.of("/v1/status".to_owned())).map(|status| (show::STATUS, status)))
}

/// Runs `journal`.
pub fn journal(args: &ClientArgs, verb: &Journal) -> ExitCode {
    match verb {
        Journal::Head => with(args, |client| client.get("/v1/journal/head").map(|head| (show::HEAD, head))),
        Journal::Records(which) => records(args, which),
        Journal::Repair(wanted) => repair::run(args, wanted),
        Journal::RotateKey => {
            let rotate = |client: &Client| client.post("/v1/journal/rotate-key", &serde_json::json!({}));
            with(args, |client| rotate(client).map(|rotated| (show::ROTATED_KEY, rotated)))
        }
    }
}

fn records(args: &ClientArgs, which: &Records) -> ExitCode {
    match args.client().and_then(|client| print_records(args.output, &client, which)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => trouble.tell(args.output),
    }
}

/// Asks until all lines are there that were asked for: the daemon cuts an answer short where lines are long. Says where
/// it goes on, so that nobody takes a part for the whole.
fn print_records(format: Format, client: &Client, which: &Records) -> Result<(), Trouble> {
    let page = |from: u64, limit: u64| client.text(&format!("/v1/journal/records?from={from}&limit={limit}"));
    let (mut from, mut left) = (which.from, which.limit);
    loop {
        let lines = page(from, left.min(RECORDS_LINES))?;
        if lines.is_empty() {
            return Ok(());
        }
        for line in lines.lines() {
            let shown = match format {
                Format::Json => output::document(line),
                Format::Human => output::data(&events::record(&serde_json::from_str(line).unwrap_or_default())),
            };
            if !shown {
                return Ok(());
            }
            (from, left) = (from + 1, left.saturating_sub(1));
        }
        if left == 0 {
            if !page(from, 1)?.is_empty() {
                output::talk(&format!("There is more: --from {from}"));
            }
            return Ok(());
        }
    }
}

/// Runs `receipt`. A receipt is a document, so it is printed as one whatever the format.
pub fn receipt(args: &ClientArgs, what: &str) -> ExitCode {
    with(args, |client| {
        let seq = seq_of(args, client, what)?;
        let receipt = client.get(&format!("/v1/journal/proof?seq={seq}"))?;
        Ok((show::Shape::Document, receipt))
    })
}

/// The record that an id stands for: a number itself, a decision or an answer by its end, a run by its end or else its
/// beginning, a session by its beginning.
fn seq_of(args: &ClientArgs, client: &Client, what: &str) -> Result<u64, Trouble> {
    if !what.is_empty() && what.bytes().all(|byte| byte.is_ascii_digit()) {
        return what.parse().map_err(|_| Trouble::Usage(format!("{what} is no sequence number")));
    }
    let id = segment(what);
    let noun = what.split('_').next().unwrap_or_default();
    match noun {
        "approval" => ended(&client.get(&format!("/v1/approvals/{id}"))?),
        "question" => ended(&client.get(&format!("/v1/questions/{id}"))?),
        "session" => {
            client.get(&format!("/v1/sessions/{id}"))?;
            first(args, client, &format!("/v1/sessions/{id}/stream"), |kind| kind == "session.created")
        }
        "run" => {
            let run = client.get(&format!("/v1/runs/{id}"))?;
            let ends = ["completed", "failed", "interrupted", "cancelled"];
            let end = ends.iter().find(|end| run["status"] == **end).map(|end| format!("run.{end}"));
            let wanted = end.unwrap_or_else(|| "run.queued".to_owned());
            let session = run["session_id"].as_str().unwrap_or_default();
            // The session's stream holds its runs' records; those of other runs are passed over.
            let stream = format!("run/{what}");
            let path = format!("/v1/sessions/{}/stream", segment(session));
            first_of(args, client, &path, |record| {
                record["kind"] == wanted.as_str() && record["stream"] == stream.as_str()
            })
        }
        _ => Err(Trouble::Usage(format!(
            "{what} is neither a sequence number nor the id of a session, run, approval or question"
        ))),
    }
}

fn ended(view: &serde_json::Value) -> Result<u64, Trouble> {
    view["ended_seq"].as_u64().ok_or_else(|| {
        Trouble::Refused("it still waits, so there is no decision to give a receipt of; decide it first".to_owned())
    })
}

fn first(args: &ClientArgs, client: &Client, path: &str, wanted: impl Fn(&str) -> bool) -> Result<u64, Trouble> {
    first_of(args, client, path, |record| record["kind"].as_str().is_some_and(&wanted))
}

/// Sequence number of the first record on a stream that is wanted; it is known to exist.
fn first_of(
    args: &ClientArgs,
    client: &Client,
    path: &str,
    wanted: impl Fn(&serde_json::Value) -> bool,
) -> Result<u64, Trouble> {
    let stream = Stream::open(args, client.door.clone(), path.to_owned(), 0);
    loop {
        match stream.next() {
            Sight::Event { id: Some(seq), data, .. } => {
                let record: serde_json::Value = serde_json::from_str(&data).unwrap_or_default();
                if wanted(&record) {
                    return Ok(seq);
                }
            }
            Sight::Event { id: None, .. } | Sight::Line { .. } | Sight::Moved(_) => {}
            Sight::Interrupted => return Err(Trouble::Refused("interrupted".to_owned())),
            Sight::Lost(trouble) => return Err(trouble),
        }
    }
}
