//! `chancery sessions …`

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::ask::{At, Part, print, reason, with};
use super::client::ClientArgs;
use super::wire::segment;
use super::{events, follow, show};

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
    List {
        #[command(flatten)]
        part: Part,
        #[command(flatten)]
        at: At,
    },
    /// Shows a session
    Get {
        /// The session
        id: String,
        #[command(flatten)]
        at: At,
    },
    /// Shows a session's records
    Events {
        /// The session
        id: String,
        #[command(flatten)]
        which: events::Which,
    },
    /// Asks something, waits until the run has ended, and shows it; the exit code says whether it completed
    Input {
        /// The session
        id: String,
        /// What is asked
        text: String,
    },
    /// Sets route and model of its later runs; with neither, the runtime's hold
    RoutePolicy {
        /// The session
        id: String,
        /// A model, or `<route_id>/<model>`
        selector: Option<String>,
        /// The route; the selector is a model of it then
        #[arg(long, value_name = "ROUTE")]
        route: Option<String>,
    },
    /// Stops what runs, waits or is queued in it
    Interrupt {
        /// The session
        id: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Destroys the key of its words, and ends it: nobody reads them again
    Erase {
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
    if let Sessions::Input { id, text } = verb {
        return input(args, id, text);
    }
    with(args, |client| match verb {
        Sessions::Create { title, route, model } => {
            let given = [("title", title), ("route", route), ("model", model)];
            let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))));
            client.post("/v1/sessions", &Value::Object(given.collect())).map(|made| (show::SESSION, made))
        }
        Sessions::List { part, at } => client.get(&at.of(part.of("/v1/sessions"))).map(|list| (show::SESSIONS, list)),
        Sessions::Get { id, at } => {
            client.get(&at.of(format!("/v1/sessions/{}", segment(id)))).map(|session| (show::SESSION, session))
        }
        Sessions::Events { id, .. } | Sessions::Input { id, .. } => {
            client.get(&format!("/v1/sessions/{}", segment(id))).map(|session| (show::SESSION, session))
        }
        Sessions::RoutePolicy { id, selector, route } => {
            let path = format!("/v1/sessions/{}/route-policy", segment(id));
            client.put(&path, &json!({ "model": selector, "route": route })).map(|session| (show::SESSION, session))
        }
        Sessions::Interrupt { id, reason: why } => {
            let path = format!("/v1/sessions/{}/interrupt", segment(id));
            client.post(&path, &reason(why.as_ref())).map(|session| (show::SESSION, session))
        }
        Sessions::Erase { id, reason: why } => {
            let path = format!("/v1/sessions/{}/erase", segment(id));
            client.post(&path, &reason(why.as_ref())).map(|session| (show::SESSION, session))
        }
        Sessions::End { id, reason: why } => {
            let path = format!("/v1/sessions/{}/end", segment(id));
            client.post(&path, &reason(why.as_ref())).map(|session| (show::SESSION, session))
        }
    })
}

/// Asks and waits. The daemon's answer comes when the run ended, waits for a person, or takes its time; in the last two
/// cases the run is followed on.
fn input(args: &ClientArgs, id: &str, text: &str) -> ExitCode {
    let path = format!("/v1/sessions/{}/input", segment(id));
    let asked =
        args.client().and_then(|client| client.post(&path, &json!({ "content": text })).map(|run| (client, run)));
    let (client, run) = match asked {
        Ok(asked) => asked,
        Err(trouble) => return trouble.tell(args.output),
    };
    if let Some(code) = outcome(&run) {
        print(args.output, show::RUN, &run);
        return if code == ExitCode::SUCCESS { client.verdict() } else { code };
    }
    let run_id = run["run_id"].as_str().unwrap_or_default();
    let (client, code) = follow::wait(args, client, run_id);
    match client.get(&format!("/v1/runs/{}", segment(run_id))) {
        // After Ctrl-C, or with the connection lost, it has not ended: that is no answer.
        Ok(run) if outcome(&run).is_some() => print(args.output, show::RUN, &run),
        Ok(_) | Err(_) => {}
    }
    code
}

/// The exit code for a run that has ended.
fn outcome(run: &Value) -> Option<ExitCode> {
    match run["status"].as_str() {
        Some("completed") => Some(ExitCode::SUCCESS),
        Some("failed" | "interrupted" | "cancelled") => Some(ExitCode::FAILURE),
        _ => None,
    }
}
