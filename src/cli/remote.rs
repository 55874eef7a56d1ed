//! Verbs that ask a daemon and print what it says.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, ClientArgs, Trouble};
use super::output;

/// Something about sessions.
#[derive(Debug, Subcommand)]
pub enum Sessions {
    /// Creates a session.
    Create {
        /// A name for people.
        #[arg(long)]
        title: Option<String>,
    },
    /// Lists sessions, newest first.
    List,
    /// Shows a session.
    Get {
        /// The session.
        id: String,
    },
    /// Stops what runs, waits or is queued in it.
    Interrupt {
        /// The session.
        id: String,
    },
    /// Ends it.
    End {
        /// The session.
        id: String,
    },
}

/// Something about runs.
#[derive(Debug, Subcommand)]
pub enum Runs {
    /// Queues a run.
    Start {
        /// The session.
        session_id: String,
        /// What is asked.
        content: String,
    },
    /// Lists runs, newest first.
    List,
    /// Shows a run.
    Get {
        /// The run.
        id: String,
    },
    /// Asks it to stop.
    Cancel {
        /// The run.
        id: String,
    },
}

/// Something about approvals.
#[derive(Debug, Subcommand)]
pub enum Approvals {
    /// Lists approvals, newest first.
    List,
    /// Shows an approval.
    Get {
        /// The approval.
        id: String,
    },
    /// Allows exactly the call that is shown.
    Allow(Decide),
    /// Denies it.
    Deny(Decide),
}

/// A decision about an approval.
#[derive(Debug, Args)]
pub struct Decide {
    /// The approval.
    id: String,
    /// Why.
    #[arg(long)]
    reason: Option<String>,
}

/// Something about the journal.
#[derive(Debug, Subcommand)]
pub enum Journal {
    /// The newest sealed tree.
    Head,
}

/// Prints an answer, or tells the trouble.
pub fn print(answer: Result<Value, Trouble>) -> ExitCode {
    match answer {
        Ok(value) => {
            output::data(&serde_json::to_string_pretty(&value).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Err(trouble) => trouble.tell(),
    }
}

fn with(args: &ClientArgs, ask: impl FnOnce(&Client) -> Result<Value, Trouble>) -> ExitCode {
    print(args.client().and_then(|client| ask(&client)))
}

/// A part of a path, with whatever is no plain character of an id taken out.
fn id(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// `status`.
pub fn status(args: &ClientArgs) -> ExitCode {
    with(args, |client| client.get("/v1/status"))
}

/// `receipt`.
pub fn receipt(args: &ClientArgs, seq: u64) -> ExitCode {
    with(args, |client| client.get(&format!("/v1/journal/proof?seq={seq}")))
}

/// `sessions …`.
pub fn sessions(args: &ClientArgs, verb: &Sessions) -> ExitCode {
    with(args, |client| match verb {
        Sessions::Create { title: Some(title) } => client.post("/v1/sessions", &json!({ "title": title })),
        Sessions::Create { title: None } => client.post("/v1/sessions", &json!({})),
        Sessions::List => client.get("/v1/sessions"),
        Sessions::Get { id: session } => client.get(&format!("/v1/sessions/{}", id(session))),
        Sessions::Interrupt { id: session } => {
            client.post(&format!("/v1/sessions/{}/interrupt", id(session)), &json!({}))
        }
        Sessions::End { id: session } => client.post(&format!("/v1/sessions/{}/end", id(session)), &json!({})),
    })
}

/// `runs …`.
pub fn runs(args: &ClientArgs, verb: &Runs) -> ExitCode {
    with(args, |client| match verb {
        Runs::Start { session_id, content } => {
            client.post(&format!("/v1/sessions/{}/runs", id(session_id)), &json!({ "content": content }))
        }
        Runs::List => client.get("/v1/runs"),
        Runs::Get { id: run } => client.get(&format!("/v1/runs/{}", id(run))),
        Runs::Cancel { id: run } => client.post(&format!("/v1/runs/{}/cancel", id(run)), &json!({})),
    })
}

/// `approvals …`. A decision sends the hashes of what was just shown.
pub fn approvals(args: &ClientArgs, verb: &Approvals) -> ExitCode {
    with(args, |client| match verb {
        Approvals::List => client.get("/v1/approvals"),
        Approvals::Get { id: approval } => client.get(&format!("/v1/approvals/{}", id(approval))),
        Approvals::Allow(ask) => decide(client, ask, "allow"),
        Approvals::Deny(ask) => decide(client, ask, "deny"),
    })
}

fn decide(client: &Client, ask: &Decide, decision: &str) -> Result<Value, Trouble> {
    let path = format!("/v1/approvals/{}", id(&ask.id));
    let approval = client.get(&path)?;
    let card = approval["card"].as_str().unwrap_or_default();
    card.lines().for_each(|line| output::talk(&output::escape(line)));
    let mut body = json!({
        "decision": decision, "call_hash": approval["call_hash"], "card_hash": approval["card_hash"],
    });
    if let Some(reason) = &ask.reason {
        body["reason"] = json!(reason);
    }
    client.post(&format!("{path}/decision"), &body)
}

/// `journal …`.
pub fn journal(args: &ClientArgs, verb: &Journal) -> ExitCode {
    with(args, |client| match verb {
        Journal::Head => client.get("/v1/journal/head"),
    })
}
