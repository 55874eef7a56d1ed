//! `chancery runs …`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::ask::{At, PartOfSessions, reason, with};
use super::client::{Client, ClientArgs, Trouble};
use super::wire::segment;
use super::{events, follow, output, show};
use crate::platform::private_file;

/// Something about runs.
#[derive(Debug, Subcommand)]
pub enum Runs {
    /// Queues a run
    Start {
        /// The session
        session_id: String,
        /// What is asked
        text: String,
        /// The route
        #[arg(long)]
        route: Option<String>,
        /// The model
        #[arg(long)]
        model: Option<String>,
        /// Shows the words as they come, and asks here where the run needs a decision
        #[arg(long)]
        follow: bool,
    },
    /// Follows a run to its end; the exit code says whether it completed
    Follow {
        /// The run
        id: String,
    },
    /// Lists runs, newest first
    List {
        #[command(flatten)]
        part: PartOfSessions,
        #[command(flatten)]
        at: At,
    },
    /// Shows a run
    Get {
        /// The run
        id: String,
        #[command(flatten)]
        at: At,
    },
    /// Shows a run's records
    Events {
        /// The run
        id: String,
        #[command(flatten)]
        which: events::Which,
    },
    /// Lists what is kept of it for a day while the debug level is `redacted` or `full`, or prints one of these artefacts
    Debug {
        /// The run
        id: String,
        /// Prints the text of this artefact
        #[arg(long, value_name = "ID")]
        artifact: Option<String>,
    },
    /// Lists what it did outside of the daemon: calls of providers, commands; oldest first
    ExternalActions {
        /// The run
        id: String,
        /// Writes the receipt of each record to a file of its own in this folder; `chancery verify` takes each alone
        #[arg(long, value_name = "DIR")]
        receipts: Option<PathBuf>,
    },
    /// Asks it to stop
    Cancel {
        /// The run
        id: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
}

fn start(client: &Client, verb: &Runs) -> Result<Value, Trouble> {
    let Runs::Start { session_id, text, route, model, .. } = verb else {
        return Err(Trouble::Usage("this is no start".to_owned()));
    };
    let mut body = json!({ "content": text });
    for (name, value) in [("route", route), ("model", model)] {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    client.post(&format!("/v1/sessions/{}/runs", segment(session_id)), &body)
}

/// All actions of a list whose path has a query, page after page.
pub(super) fn all_actions(client: &Client, path: &str) -> Result<Value, Trouble> {
    let (mut items, mut next) = (Vec::new(), path.to_owned());
    loop {
        let mut page = client.get(&next)?;
        items.append(page["items"].as_array_mut().unwrap_or(&mut Vec::new()));
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("{path}&cursor={}", segment(cursor)),
            None => return Ok(json!({ "items": items, "next_cursor": null })),
        }
    }
}

/// Writes the receipts of the intents and of the outcomes. A receipt that is there stays: one record may have several.
pub(super) fn write_receipts(client: &Client, list: &Value, folder: &Path) -> Result<(), Trouble> {
    let of = |action: &Value| [action["intent_seq"].as_u64(), action["outcome_seq"].as_u64()];
    let mut written = 0;
    for seq in list["items"].as_array().into_iter().flatten().flat_map(of).flatten() {
        let path = folder.join(format!("receipt-{seq}.json"));
        if path.exists() {
            continue;
        }
        let receipt = client.get(&format!("/v1/journal/proof?seq={seq}"))?;
        private_file::create(&path, format!("{receipt}\n").as_bytes())
            .map_err(|fault| Trouble::Refused(format!("{}: {fault}", path.display())))?;
        written += 1;
    }
    output::talk(&format!("{written} receipts written to {}", folder.display()));
    Ok(())
}

/// Runs the verb.
pub fn run(args: &ClientArgs, verb: &Runs) -> ExitCode {
    match verb {
        Runs::Events { id, which } => events::run(args, &format!("/v1/runs/{}", segment(id)), which),
        Runs::Follow { id } => match args.client() {
            Ok(client) => follow::follow(args, client, id),
            Err(trouble) => trouble.tell(args.output),
        },
        Runs::Start { follow: true, .. } => {
            let started = args.client().and_then(|client| start(&client, verb).map(|run| (client, run)));
            match started {
                Ok((client, run)) => follow::follow(args, client, run["run_id"].as_str().unwrap_or_default()),
                Err(trouble) => trouble.tell(args.output),
            }
        }
        Runs::Start { .. } => with(args, |client| start(client, verb).map(|run| (show::RUN, run))),
        Runs::List { part, at } => {
            with(args, |client| client.get(&at.of(part.of("/v1/runs"))).map(|list| (show::RUNS, list)))
        }
        Runs::Get { id, at } => {
            let path = at.of(format!("/v1/runs/{}", segment(id)));
            with(args, |client| client.get(&path).map(|run| (show::RUN, run)))
        }
        Runs::Debug { id, artifact: None } => with(args, |client| {
            client.get(&format!("/v1/runs/{}/debug", segment(id))).map(|list| (show::ARTIFACTS, list))
        }),
        Runs::Debug { id, artifact: Some(artifact) } => {
            let path = format!("/v1/runs/{}/debug/artifacts/{}", segment(id), segment(artifact));
            match args.client().and_then(|client| client.text(&path)) {
                Ok(text) => {
                    output::document(&text);
                    ExitCode::SUCCESS
                }
                Err(trouble) => trouble.tell(args.output),
            }
        }
        Runs::ExternalActions { id, receipts } => with(args, |client| {
            let list = all_actions(client, &format!("/v1/runs/{}/external-actions?limit=500", segment(id)))?;
            if let Some(folder) = receipts {
                write_receipts(client, &list, folder)?;
            }
            Ok((show::EXTERNAL_ACTIONS, list))
        }),
        Runs::Cancel { id, reason: why } => with(args, |client| {
            let path = format!("/v1/runs/{}/cancel", segment(id));
            client.post(&path, &reason(why.as_ref())).map(|run| (show::RUN, run))
        }),
    }
}
