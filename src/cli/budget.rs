//! `chancery budget …`: what may be spent, what was, and why a call was refused.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::ask::asking;
use super::client::{Client, ClientArgs, Trouble};
use super::output::{self, Format};
use super::show::Kind::{Time, Word};
use super::show::{Shape, render};
use super::wire::segment;

/// Something about budgets. All amounts are micro-units, a millionth of the price table's currency.
#[derive(Debug, Subcommand)]
pub enum Budget {
    /// Lists budgets, and what every payer spent
    List,
    /// Sets how much may be spent
    Set {
        /// organisation, token:<name>, route:<id> or session:<id>, and then :day, :month or :total
        budget: String,
        /// Most that may be spent in a period, micro-units
        limit_micros: u64,
    },
    /// Removes a budget
    Remove {
        /// The budget
        budget: String,
    },
    /// Says why a request or a run was refused, or what its calls cost
    Explain {
        /// A run, or a request's id as the refusal named it
        what: String,
    },
}

const BUDGETS: Shape = Shape::Table(&[
    ("BUDGET", "budget", Word),
    ("LIMIT", "limit_micros", Word),
    ("SPENT", "spent_micros", Word),
    ("RESERVED", "reserved_micros", Word),
    ("LEFT", "left_micros", Word),
]);
const ACCOUNTS: Shape = Shape::Table(&[
    ("PAYER", "subject", Word),
    ("TODAY", "day_micros", Word),
    ("THIS MONTH", "month_micros", Word),
    ("IN ALL", "total_micros", Word),
    ("RESERVED", "reserved_micros", Word),
    ("CALLS WITHOUT PRICE", "unpriced_calls", Word),
]);
const CALLS: Shape = Shape::Table(&[
    ("RECORD", "seq", Word),
    ("WHEN", "at_ms", Time),
    ("RUN", "run_id", Word),
    ("CALL", "model_call_id", Word),
    ("TOKEN", "token", Word),
    ("ROUTE", "route", Word),
    ("MODEL", "model", Word),
    ("RESERVED", "reserved_micros", Word),
    ("COST", "cost_micros", Word),
    ("BASIS", "basis", Word),
]);
const REFUSAL: Shape = Shape::Card(&[
    ("refused", "at_ms", Time),
    ("code", "code", Word),
    ("why", "detail", Word),
    ("request", "request_id", Word),
    ("run", "run_id", Word),
    ("session", "session_id", Word),
    ("token", "token", Word),
    ("route", "route", Word),
    ("model", "model", Word),
    ("input tokens", "input_tokens", Word),
    ("output tokens", "output_tokens", Word),
    ("needed", "needed_micros", Word),
]);
const FAILURE: Shape = Shape::Card(&[("failed with", "code", Word), ("why", "detail", Word), ("next", "next", Word)]);

/// Runs `budget`.
pub fn run(args: &ClientArgs, verb: &Budget) -> ExitCode {
    let client = match args.client() {
        Ok(client) => client,
        Err(trouble) => return trouble.tell(args.output),
    };
    match ask(&client, verb) {
        Ok(view) => {
            match args.output {
                Format::Json => output::json(&view),
                Format::Human => output::data(&told(verb, &view)),
            };
            client.verdict()
        }
        Err(trouble) => trouble.tell(args.output),
    }
}

fn ask(client: &Client, verb: &Budget) -> Result<Value, Trouble> {
    // A path has one spelling, and in that a colon stands as it is.
    let one = |budget: &String| format!("/v1/budgets/{}", segment(budget).replace("%3A", ":"));
    match verb {
        Budget::List => client.get("/v1/budgets"),
        Budget::Set { budget, limit_micros } => client.put(&one(budget), &json!({ "limit_micros": limit_micros })),
        Budget::Remove { budget } => client.change("DELETE", &one(budget), &json!({})),
        Budget::Explain { what } => {
            let name = if what.starts_with("run_") { "run_id" } else { "request_id" };
            client.get(&asking("/v1/budgets/explain".to_owned(), name, Some(what)))
        }
    }
}

fn told(verb: &Budget, view: &Value) -> String {
    let listed = |shape, items: &Value| render(shape, &json!({ "items": items }));
    if !matches!(verb, Budget::Explain { .. }) {
        return format!("{}\n\n{}", listed(BUDGETS, &view["budgets"]), listed(ACCOUNTS, &view["accounts"]));
    }
    let mut parts = Vec::new();
    for refusal in view["refusals"].as_array().into_iter().flatten() {
        parts.push(render(REFUSAL, refusal));
        for way in refusal["budgets"].as_array().into_iter().flatten() {
            parts.push(listed(BUDGETS, &json!([way["budget"]])));
            parts.push(listed(CALLS, &way["entries"]));
        }
    }
    if parts.is_empty() && !view["error"].is_null() {
        parts.push(render(FAILURE, &view["error"]));
    }
    if view["calls"].as_array().is_some_and(|calls| !calls.is_empty()) {
        parts.push(format!("Calls that were made:\n{}", listed(CALLS, &view["calls"])));
    }
    if parts.is_empty() {
        let why = "refusals are kept until the daemon ends, calls while they are among the newest 2,000";
        return format!("No call or refusal of it is known: {why}.");
    }
    parts.join("\n\n")
}
