//! `chancery runs …`

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::ask::{At, PartOfSessions, reason, with};
use super::client::{Client, ClientArgs, Trouble};
use super::wire::segment;
use super::{events, follow, show};

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
        Runs::Cancel { id, reason: why } => with(args, |client| {
            let path = format!("/v1/runs/{}/cancel", segment(id));
            client.post(&path, &reason(why.as_ref())).map(|run| (show::RUN, run))
        }),
    }
}
