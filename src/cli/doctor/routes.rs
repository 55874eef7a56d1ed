//! `doctor routes`: whether the routes to models can be used, and whether what names them names one that is there.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::client::{Client, ClientArgs, Trouble};
use crate::cli::wire::segment;
use crate::platform::clock::{Clock as _, SystemClock};
use crate::services::doctor::Finding;

/// How long a canary may take.
const PATIENCE_MS: u64 = 60_000;
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Tokens that it may be answered with.
const TOKENS: u32 = 16;
/// Most canaries of one call of doctor.
const CANARIES: usize = 10;

/// Which checks; without any, all that call nobody.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct RoutesArgs {
    /// Looks whether each route's key can be used
    #[arg(long)]
    check_auth: bool,
    /// Looks for sessions, runs and settings that name a route that is not there
    #[arg(long)]
    check_references: bool,
    /// Makes one small call of a model, which is recorded like any other and may cost money
    #[arg(long)]
    canary: bool,
    /// The route of the canary, instead of the default route
    #[arg(long, value_name = "ROUTE", requires = "canary", conflicts_with = "every_route")]
    route: Option<String>,
    /// A canary for each route, at most ten
    #[arg(long, requires = "canary")]
    every_route: bool,
}

/// Examines the routes.
pub fn check(args: &ClientArgs, which: &RoutesArgs) -> Vec<Finding> {
    match args.client().and_then(|client| look(&client, which)) {
        Ok(findings) => findings,
        Err(trouble) => {
            vec![Finding::unknown(
                "routes",
                trouble.sentence(),
                "start a daemon, or name it with --url and --token-file",
            )]
        }
    }
}

fn look(client: &Client, which: &RoutesArgs) -> Result<Vec<Finding>, Trouble> {
    let all = !which.check_auth && !which.check_references && !which.canary;
    let readiness = client.get("/v1/status")?["provider_readiness"].clone();
    let mut findings = vec![file(&readiness)];
    if which.check_auth || all {
        findings.extend(routes_of(&readiness).iter().map(auth));
    }
    if which.check_references || all {
        findings.push(references(&client.get("/v1/runtime/routes/references")?));
    }
    if which.canary {
        let id = |route: &Value| route["route_id"].as_str().unwrap_or_default().to_owned();
        let routes = routes_of(&readiness);
        let chosen: Vec<String> = match &which.route {
            Some(route) => vec![route.clone()],
            None if which.every_route => routes.iter().map(id).take(CANARIES).collect(),
            None => routes.iter().filter(|route| route["active"] == true).map(id).collect(),
        };
        findings.extend(chosen.iter().map(|route| canary(client, route)));
    }
    Ok(findings)
}

fn routes_of(readiness: &Value) -> Vec<Value> {
    readiness["routes"].as_array().cloned().unwrap_or_default()
}

fn file(readiness: &Value) -> Finding {
    match (readiness["file_problem"].as_str(), readiness["file_sha256"].as_str()) {
        (Some(problem), _) => {
            let detail = format!("the last good routes are in force, for the file is broken: {problem}");
            Finding::broken("routes file", detail, "put the file right; it is read again by itself")
        }
        (None, Some(sha256)) => Finding::ok("routes file", format!("in force, sha256 {sha256}")),
        (None, None) => Finding::ok("routes file", "there is none; the only route is a rehearsal"),
    }
}

fn auth(route: &Value) -> Finding {
    let id = route["route_id"].as_str().unwrap_or("-");
    let Some(slot) = route["auth_ref"].as_str() else {
        return Finding::ok("auth", format!("route {id} needs no key"));
    };
    match route["credential_ready"].as_bool() {
        Some(true) => Finding::ok("auth", format!("route {id}: the slot {slot} holds a key")),
        Some(false) => {
            let detail = format!("route {id}: the slot {slot} holds no key that can be used");
            Finding::broken("auth", detail, "chancery secrets set")
        }
        None => Finding::unknown(
            "auth",
            format!("route {id}: this daemon has no vault to ask for {slot}"),
            "open the vault with its master key",
        ),
    }
}

fn references(found: &Value) -> Finding {
    let part = |item: &Value, name: &str| item[name].as_str().map(str::to_owned);
    let missing: Vec<String> = found["missing"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| {
            let by = part(item, "named_by").unwrap_or_default();
            let id = part(item, "id").map_or_else(String::new, |id| format!(" {id}"));
            format!("{by}{id} names {:?}", part(item, "route").unwrap_or_default())
        })
        .collect();
    let advice = "name another route with `chancery sessions route-policy` or `chancery runtime set-model`, remove the budget or reinstate the subject, or put it back into the file";
    match (missing.is_empty(), found["complete"].as_bool()) {
        (false, _) => {
            Finding::broken("references", format!("routes that are not there: {}", missing.join("; ")), advice)
        }
        (true, Some(true)) => Finding::ok("references", "every route that is named is there"),
        (true, _) => Finding::unknown("references", "there is too much to look at all of it", "cancel what is queued"),
    }
}

/// One bounded call: a session of its own in which every tool is denied, one turn, few tokens.
fn canary(client: &Client, route: &str) -> Finding {
    match called(client, route) {
        Ok(Ok(())) => Finding::ok("canary", format!("route {route} answered")),
        Ok(Err(why)) => Finding::broken("canary", format!("route {route}: {why}"), "chancery status"),
        Err(trouble) => Finding::broken("canary", format!("route {route}: {}", trouble.sentence()), "chancery status"),
    }
}

fn called(client: &Client, route: &str) -> Result<Result<(), String>, Trouble> {
    let rules = json!([{ "tool": "*", "behavior": "deny" }]);
    let session = json!({ "title": format!("canary of {route}"), "route": route, "permission_rules": rules });
    let session = client.post("/v1/sessions", &session)?["session_id"].as_str().unwrap_or_default().to_owned();
    let path = format!("/v1/sessions/{}", segment(&session));
    let ask = json!({ "content": "Answer with the word ok.", "max_turns": 1, "max_output_tokens": TOKENS });
    let run = client.post(&format!("{path}/runs"), &ask)?["run_id"].as_str().unwrap_or_default().to_owned();
    let ended = watched(client, &run);
    let tidied = client.post(&format!("{path}/end"), &json!({ "reason": "the canary is over" }));
    let ended = ended?;
    tidied?;
    Ok(ended)
}

/// Waits until the run has ended. One that may not go on after its answer has answered.
fn watched(client: &Client, run: &str) -> Result<Result<(), String>, Trouble> {
    let clock = SystemClock;
    let began = clock.boot_ms();
    loop {
        let view = client.get(&format!("/v1/runs/{}", segment(run)))?;
        let code = view["error"]["code"].as_str();
        match view["status"].as_str() {
            Some("completed") => return Ok(Ok(())),
            Some("failed") if code == Some("run.turn_limit") => return Ok(Ok(())),
            Some("failed" | "cancelled" | "interrupted") => {
                let detail = view["error"]["detail"].as_str().unwrap_or_default();
                return Ok(Err(format!("{} {detail}", code.unwrap_or("it was stopped"))));
            }
            _ if clock.boot_ms().saturating_sub(began) > PATIENCE_MS => {
                return Ok(Err(format!("it did not answer within {} s", PATIENCE_MS / 1_000)));
            }
            _ => std::thread::sleep(LOOK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::doctor::Outcome;

    #[test]
    fn what_cannot_be_used_or_not_be_known_is_not_in_order() {
        let of =
            |ready: Value| auth(&json!({ "route_id": "r", "auth_ref": "slot", "credential_ready": ready })).outcome;
        let found = [of(json!(true)), of(json!(false)), of(Value::Null)];
        assert_eq!(found, [Outcome::Ok, Outcome::Broken, Outcome::Unknown]);
        assert_eq!(auth(&json!({ "route_id": "r" })).outcome, Outcome::Ok);
        let read = file(&json!({ "file_problem": "line 3", "file_sha256": "00" }));
        assert!(read.outcome == Outcome::Broken && read.detail.contains("line 3"), "{read:?}");
        assert_eq!(file(&json!({ "file_sha256": "00" })).outcome, Outcome::Ok);
        let named = json!([{ "named_by": "run", "id": "run_1", "route": "gone" }]);
        let missing = |missing: Value, complete| references(&json!({ "missing": missing, "complete": complete }));
        assert_eq!(missing(json!([]), true).outcome, Outcome::Ok);
        assert_eq!(missing(json!([]), false).outcome, Outcome::Unknown);
        assert!(missing(named, true).detail.contains("run run_1 names \"gone\""));
    }
}
