//! `chancery approvals …` and `chancery questions …`: what waits for a person.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ask::{PartOfRuns, reason, with};
use super::client::{Client, ClientArgs, Trouble};
use super::output;
use super::show;
use super::wire::segment;

/// Something about approvals.
#[derive(Debug, Subcommand)]
pub enum Approvals {
    /// Lists approvals, newest first
    List(List),
    /// Shows an approval
    Get {
        /// The approval
        id: String,
    },
    /// Allows exactly the call that is shown
    Allow(Decide),
    /// Denies it
    Deny(Decide),
}

/// A list, of everything or of what is open.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    part: PartOfRuns,
    /// Only those that still wait
    #[arg(long, conflicts_with = "status")]
    pending: bool,
}

/// A decision about an approval.
#[derive(Debug, Args)]
pub struct Decide {
    /// The approval
    id: String,
    /// Why
    #[arg(long)]
    reason: Option<String>,
}

/// Something about questions.
#[derive(Debug, Subcommand)]
pub enum Questions {
    /// Lists questions, newest first
    List(List),
    /// Shows a question
    Get {
        /// The question
        id: String,
    },
    /// Answers with options, with free text, or with both
    Answer {
        /// The question
        id: String,
        /// Free text
        text: Option<String>,
        /// Id of an option; may repeat
        #[arg(long = "option", value_name = "ID")]
        options: Vec<String>,
    },
    /// Declines to answer
    Decline {
        /// The question
        id: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Runs `approvals`.
pub fn approvals(args: &ClientArgs, verb: &Approvals) -> ExitCode {
    with(args, |client| match verb {
        Approvals::List(list) => items(client, "/v1/approvals", list).map(|found| (show::APPROVALS, found)),
        Approvals::Get { id } => {
            client.get(&format!("/v1/approvals/{}", segment(id))).map(|approval| (show::APPROVAL, approval))
        }
        Approvals::Allow(ask) => decide(client, ask, "allow").map(|approval| (show::APPROVAL, approval)),
        Approvals::Deny(ask) => decide(client, ask, "deny").map(|approval| (show::APPROVAL, approval)),
    })
}

/// Runs `questions`.
pub fn questions(args: &ClientArgs, verb: &Questions) -> ExitCode {
    with(args, |client| match verb {
        Questions::List(list) => items(client, "/v1/questions", list).map(|found| (show::QUESTIONS, found)),
        Questions::Get { id } => {
            client.get(&format!("/v1/questions/{}", segment(id))).map(|question| (show::QUESTION, question))
        }
        Questions::Answer { id, text, options } => {
            if text.is_none() && options.is_empty() {
                return Err(Trouble::Usage("an answer needs --option ID, a text, or both".to_owned()));
            }
            answer(client, id, options, text.as_ref()).map(|question| (show::QUESTION, question))
        }
        Questions::Decline { id, reason: why } => {
            let path = format!("/v1/questions/{}/decline", segment(id));
            client.post(&path, &reason(why.as_ref())).map(|question| (show::QUESTION, question))
        }
    })
}

fn items(client: &Client, path: &str, list: &List) -> Result<Value, Trouble> {
    client.get(&if list.pending { list.part.pending(path) } else { list.part.of(path) })
}

/// Shows the card and sends the decision with the hashes of what was shown.
fn decide(client: &Client, ask: &Decide, decision: &str) -> Result<Value, Trouble> {
    let approval = client.get(&format!("/v1/approvals/{}", segment(&ask.id)))?;
    card(&approval);
    decision_of(client, &approval, decision, ask.reason.as_ref())
}

/// Shows an approval's card.
pub fn card(approval: &Value) {
    let text = approval["card"].as_str().unwrap_or("the card is not kept any more");
    output::escape_lines(text).lines().for_each(|line| output::talk(&format!("  | {line}")));
}

/// Sends a decision about exactly this approval.
pub fn decision_of(
    client: &Client,
    approval: &Value,
    decision: &str,
    reason: Option<&String>,
) -> Result<Value, Trouble> {
    let mut body = json!({
        "decision": decision, "call_hash": approval["call_hash"], "card_hash": approval["card_hash"],
    });
    if let Some(reason) = reason {
        body["reason"] = json!(reason);
    }
    let id = approval["approval_id"].as_str().unwrap_or_default();
    client.post(&format!("/v1/approvals/{}/decision", segment(id)), &body)
}

/// Answers a question.
pub fn answer(client: &Client, id: &str, options: &[String], text: Option<&String>) -> Result<Value, Trouble> {
    let mut body = json!({ "selected": options });
    if let Some(text) = text {
        body["freeform"] = json!(text);
    }
    client.post(&format!("/v1/questions/{}/answer", segment(id)), &body)
}
