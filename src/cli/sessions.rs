//! `chancery sessions …`

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::ask::{Paging, reason, with};
use super::client::ClientArgs;
use super::wire::segment;
use super::{events, show};

/// Something about sessions.
#[derive(Debug, Subcommand)]
pub enum Sessions {
    /// Creates a session
    Create {
        /// A name for people
        #[arg(long)]
        title: Option<String>,
        /// The route of its runs
        #[arg(long)]
        route: Option<String>,
        /// The model of its runs
        #[arg(long)]
        model: Option<String>,
    },
    /// Lists sessions, newest first
    List(Paging),
    /// Shows a session
    Get {
        /// The session
        id: String,
    },
    /// Shows a session's records
    Events {
        /// The session
        id: String,
        #[command(flatten)]
        which: events::Which,
    },
    /// Asks something and waits for the answer
    Input {
        /// The session
        id: String,
        /// What is asked
        text: String,
    },
    /// Stops what runs, waits or is queued in it
    Interrupt {
        /// The session
        id: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Ends it
    End {
        /// The session
        id: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Runs the verb.
pub fn run(args: &ClientArgs, verb: &Sessions) -> ExitCode {
    if let Sessions::Events { id, which } = verb {
        return events::run(args, &format!("/v1/sessions/{}", segment(id)), which);
    }
    with(args, |client| match verb {
        Sessions::Create { title, route, model } => {
            let given = [("title", title), ("route", route), ("model", model)];
            let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))));
            client.post("/v1/sessions", &Value::Object(given.collect())).map(|made| (show::SESSION, made))
        }
        Sessions::List(paging) => client.get(&paging.of("/v1/sessions")).map(|list| (show::SESSIONS, list)),
        Sessions::Get { id } | Sessions::Events { id, .. } => {
            client.get(&format!("/v1/sessions/{}", segment(id))).map(|session| (show::SESSION, session))
        }
        Sessions::Input { id, text } => {
            let path = format!("/v1/sessions/{}/input", segment(id));
            client.post(&path, &json!({ "content": text })).map(|run| (show::RUN, run))
        }
        Sessions::Interrupt { id, reason: why } => {
            let path = format!("/v1/sessions/{}/interrupt", segment(id));
            client.post(&path, &reason(why.as_ref())).map(|session| (show::SESSION, session))
        }
        Sessions::End { id, reason: why } => {
            let path = format!("/v1/sessions/{}/end", segment(id));
            client.post(&path, &reason(why.as_ref())).map(|session| (show::SESSION, session))
        }
    })
}
