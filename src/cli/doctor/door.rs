//! The checks that need a daemon's door: it answers, it is ready, it says what is in force, its streams come at once,
//! and pages may call it.

use std::io::Read as _;
use std::time::Duration;

use serde_json::Value;

use crate::cli::client::{ClientArgs, Door, Trouble};
use crate::cli::wire::Ask;
use crate::platform::clock::{Clock as _, SystemClock};
use crate::services::doctor::Finding;

const PATIENCE: Duration = Duration::from_secs(5);
/// How soon the first bytes of a stream must come.
const FIRST_BYTES: Duration = Duration::from_secs(2);

/// Everything that the door shows. `held` says whether a daemon holds the state root, if that is known.
pub fn check(args: &ClientArgs, held: Option<bool>, origin: Option<&str>) -> Vec<Finding> {
    // Without a token that can be shown the door is there all the same.
    let (door, unshown) = match args.door() {
        Ok(door) => (Ok(door), None),
        Err(trouble) => (args.open_door(), Some(trouble)),
    };
    let door = match door {
        Ok(door) => door,
        Err(trouble) => {
            let mut findings = vec![closed(&trouble, held), own_sandbox()];
            findings.push(Finding::unknown("cors", "there is no daemon to ask", "start one, or name it with --url"));
            return findings;
        }
    };
    let ready = ready(&door);
    let status = door.get("/v1/status");
    let mut findings = vec![ready, lock(args, held), health(&status), sandbox(&status), stream(&door)];
    findings
        .extend(unshown.map(|trouble| {
            Finding::unknown("token", trouble.sentence(), "name the file of a token with --token-file")
        }));
    findings.push(cors(&door, origin));
    findings
}

fn closed(trouble: &Trouble, held: Option<bool>) -> Finding {
    let why = trouble.sentence();
    if held == Some(true) {
        let advice = "a daemon holds the state root and says no address yet: look at its log";
        return Finding::broken("ready", why, advice);
    }
    if why.contains("Permission denied") {
        return Finding::unknown("ready", why, "run doctor as the user that the daemon runs as");
    }
    Finding::unknown("ready", why, "start one with `chancery serve`, or name it with --url")
}

fn ready(door: &Door) -> Finding {
    let ask = Ask { method: "GET", path: "/readyz", ..Ask::default() };
    match door.send(ask, PATIENCE) {
        Ok(answer) if answer.status == 200 => Finding::ok("ready", format!("{} is ready", door.address)),
        Ok(answer) => {
            let detail = format!("{} answers {}", door.address, answer.status);
            Finding::broken("ready", detail, "look at the daemon's log: it drains, starts, or cannot write its journal")
        }
        Err(error) => {
            let detail = format!("{}: {error}", door.address);
            Finding::broken("ready", detail, "look whether the daemon, and the proxy before it, run")
        }
    }
}

fn lock(args: &ClientArgs, held: Option<bool>) -> Finding {
    let root = args.root().map(|root| root.display().to_string()).unwrap_or_default();
    match held {
        Some(true) => Finding::ok("lock", format!("a daemon holds {root}")),
        Some(false) if args.is_remote() => Finding::unknown(
            "lock",
            format!("nobody holds {root}; the daemon's is elsewhere"),
            "name it with --state-root",
        ),
        Some(false) => Finding::broken("lock", format!("nobody holds {root}"), "start a daemon with `chancery serve`"),
        None => Finding::unknown("lock", "the state root cannot be opened here", "run doctor on the daemon's machine"),
    }
}

fn untold(check: &'static str, trouble: &Trouble) -> Finding {
    Finding::unknown(check, trouble.sentence(), "give a token that may read the status, with --token-file")
}

/// What the daemon itself warns of.
fn health(status: &Result<Value, Trouble>) -> Finding {
    let status = match status {
        Ok(status) => status,
        Err(trouble) => return untold("health", trouble),
    };
    let warnings: Vec<String> = status["health"]["warnings"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|warning| {
            let part = |name: &str| warning[name].as_str().unwrap_or("-");
            format!("{}: {}", part("code"), part("detail"))
        })
        .collect();
    match (status["health"]["ok"].as_bool(), warnings.is_empty()) {
        (Some(true), true) => Finding::ok("health", "the daemon warns of nothing"),
        // The status would only say the same again.
        (Some(true), false) if warnings.iter().all(|warning| warning.starts_with("rehearsal_only:")) => {
            let advice = "serve with --routes-file; routes.example.toml shows how to name a model's server";
            Finding::advice("health", warnings.join("; "), advice)
        }
        (Some(true), false) => Finding::advice("health", warnings.join("; "), "chancery status"),
        (Some(false), _) => Finding::broken("health", warnings.join("; "), "chancery status"),
        (None, _) => Finding::unknown("health", "the status says nothing of it", "update the daemon"),
    }
}

/// What confines the commands of agents.
fn sandbox(status: &Result<Value, Trouble>) -> Finding {
    let status = match status {
        Ok(status) => status,
        Err(trouble) => return untold("sandbox", trouble),
    };
    let said = &status["sandbox"];
    let label = match said {
        Value::String(label) => label.clone(),
        Value::Null => return Finding::unknown("sandbox", "the status says nothing of it", "update the daemon"),
        other => ["label", "in_force", "state"]
            .iter()
            .find_map(|name| other[*name].as_str().map(str::to_owned))
            .unwrap_or_else(|| other.to_string()),
    };
    judge_sandbox(&label)
}

fn judge_sandbox(label: &str) -> Finding {
    if label.contains("unavailable") {
        let advice = "a kernel with Landlock (ABI 3, Linux 6.2) is needed; until then agents cannot run commands";
        return Finding::broken("sandbox", format!("in force: {label}"), advice);
    }
    if label.starts_with("off") {
        let advice = "commands of agents run as this user; start the daemon with --tool-sandbox on";
        return Finding::advice("sandbox", format!("in force: {label}"), advice);
    }
    Finding::ok("sandbox", format!("in force: {label}"))
}

/// Without a daemon: what this machine could do.
fn own_sandbox() -> Finding {
    if crate::daemon::can_confine() {
        Finding::ok("sandbox", "this machine can confine the commands of agents")
    } else {
        judge_sandbox("unavailable")
    }
}

/// A stream must come at once: a proxy that gathers its bytes first holds back everything.
fn stream(door: &Door) -> Finding {
    let began = SystemClock.boot_ms();
    let headers = vec![("Accept", "text/event-stream".to_owned())];
    let ask = Ask { method: "GET", path: "/v1/events/stream", headers, ..Ask::default() };
    let opened = door.send(ask, FIRST_BYTES);
    let advice = "turn buffering off for the daemon's location in the proxy: `proxy_buffering off;` in nginx";
    match opened {
        Ok(mut answer) if answer.status == 200 => {
            let mut first = [0; 1];
            match answer.body.read(&mut first) {
                Ok(1) => {
                    let took = SystemClock.boot_ms().saturating_sub(began);
                    Finding::ok("stream", format!("the first bytes of a stream came after {took} ms"))
                }
                Ok(_) => Finding::broken("stream", "a stream ended before its first byte", "look at the daemon's log"),
                Err(_) => {
                    Finding::broken("stream", "no byte of a stream came within 2 s: something holds it back", advice)
                }
            }
        }
        Ok(answer) => {
            let detail = format!("a stream was answered with status {}", answer.status);
            Finding::unknown("stream", detail, "give a token that may read events, with --token-file")
        }
        Err(error)
            if error.kind() == std::io::ErrorKind::WouldBlock || error.kind() == std::io::ErrorKind::TimedOut =>
        {
            Finding::broken("stream", "a stream did not open within 2 s: something holds it back", advice)
        }
        Err(error) => Finding::unknown("stream", error.to_string(), "look whether the daemon runs"),
    }
}

/// An origin that nobody can have allowed: the name is reserved and never exists.
const NOBODY: &str = "https://doctor.invalid";

/// What the answer to a page of this origin allows.
fn allowed(door: &Door, origin: &str, (method, path): (&str, &str)) -> std::io::Result<(u16, Option<String>)> {
    let mut headers = vec![("Origin", origin.to_owned())];
    if method == "OPTIONS" {
        headers.push(("Access-Control-Request-Method", "POST".to_owned()));
        let wanted = "authorization, content-type, idempotency-key";
        headers.push(("Access-Control-Request-Headers", wanted.to_owned()));
    }
    let answer = door.send(Ask { method, path, headers, ..Ask::default() }, PATIENCE)?;
    Ok((answer.status, answer.header("access-control-allow-origin").map(str::to_owned)))
}

/// Whether pages of strangers are kept out, and whether one of this origin may call the daemon.
fn cors(door: &Door, origin: Option<&str>) -> Finding {
    for ask in [("OPTIONS", "/v1/sessions"), ("GET", "/healthz")] {
        match allowed(door, NOBODY, ask) {
            Err(error) => return Finding::unknown("cors", error.to_string(), "look whether the daemon runs"),
            Ok((_, None)) => {}
            Ok((_, Some(said))) => {
                let detail = format!("pages of any origin may call the daemon: {NOBODY} is answered with {said:?}");
                let advice = "take Access-Control-Allow-Origin out of the proxy; the daemon sends it by itself, where \
                              --http-cors-allow-origin names the origin";
                return Finding::broken("cors", detail, advice);
            }
        }
    }
    let Some(origin) = origin else {
        return Finding::ok("cors", "pages of an origin that nobody named may not call the daemon");
    };
    if !origin.bytes().all(|byte| byte.is_ascii_graphic()) || !origin.contains("://") {
        let advice = "write it as a browser does: http://localhost:5173";
        return Finding::unknown("cors", format!("{origin:?} is no origin"), advice);
    }
    match allowed(door, origin, ("OPTIONS", "/v1/sessions")) {
        Err(error) => Finding::unknown("cors", error.to_string(), "look whether the daemon runs"),
        Ok((_, Some(said))) if said == origin => {
            Finding::ok("cors", format!("pages of {origin} may call the daemon, and those of strangers may not"))
        }
        Ok((status, _)) => {
            let detail = format!("pages of {origin} may not call the daemon (status {status})");
            Finding::broken("cors", detail, format!("start the daemon with --http-cors-allow-origin {origin}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::doctor::Outcome;

    #[test]
    fn a_sandbox_that_is_missing_is_broken_and_one_that_is_off_is_advice() {
        let outcome = |label: &str| judge_sandbox(label).outcome;
        assert_eq!(outcome("landlock-abi-7+seccomp"), Outcome::Ok);
        assert_eq!(outcome("off"), Outcome::Advice);
        assert_eq!(outcome("unavailable"), Outcome::Broken);
    }
}
