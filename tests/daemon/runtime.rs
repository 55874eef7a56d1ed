//! The runtime configuration: its history, the way back, and the level of the log.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{BINARY, Daemon, House};

impl Daemon {
    fn set(&self, what: &str, body: &Value) -> Value {
        let (status, view) = self.post(&format!("/v1/runtime/{what}"), &body.to_string()).unwrap();
        assert_eq!(status, 200, "{what} {body}: {view}");
        view
    }

    fn revisions(&self, query: &str) -> Value {
        let (status, page) = self.get(&format!("/v1/runtime/revisions{query}"));
        assert_eq!(status, 200, "{page}");
        page
    }
}

/// The values of a configuration, without what tells when and how often it changed.
fn values(view: &Value) -> Value {
    let mut view = view.clone();
    view.as_object_mut().unwrap().retain(|name, _| !matches!(name.as_str(), "revision" | "changed_at_ms"));
    view
}

#[test]
fn every_revision_is_listed_with_who_and_when_and_each_can_be_gone_back_to() {
    let house = House::new();
    let mut daemon = house.start();
    let rules = |behavior: &str| json!([{ "tool": "bash", "behavior": behavior }]);
    let mut seen = vec![daemon.get("/v1/runtime").1];
    seen.push(daemon.set("permission-mode", &json!({ "mode": "plan" })));
    seen.push(daemon.set("permission-rules", &json!({ "scope": "user", "rules": rules("deny") })));
    seen.push(daemon.set("permission-rules", &json!({ "scope": "project", "rules": rules("allow") })));
    seen.push(daemon.set("debug-level", &json!({ "level": "redacted" })));
    seen.push(daemon.set("permission-rules", &json!({ "scope": "user", "rules": [] })));
    assert_eq!(daemon.set("debug-level", &json!({ "level": "redacted" })), seen[5], "nothing changed, no revision");
    for (round, to) in [2, 5, 0, 4, 3, 1, 6, 3].into_iter().enumerate() {
        if round == 4 {
            assert!(daemon.stop().success());
            std::fs::remove_dir_all(house.state().join("snapshots")).ok();
            daemon = house.start();
        }
        let view = daemon.set("rollback", &json!({ "revision": to, "expected_revision": seen.len() - 1 }));
        assert_eq!((&view["revision"], values(&view)), (&json!(seen.len()), values(&seen[to])), "back to {to}");
        seen.push(view);
    }
    let items = daemon.revisions("")["items"].as_array().unwrap().clone();
    let numbers: Vec<u64> = items.iter().map(|item| item["revision"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..seen.len() as u64).rev().collect::<Vec<_>>());
    let of = |revision: usize| items[items.len() - revision].clone();
    let first = of(1);
    assert_eq!(
        (&first["permission_mode"], &first["user_rules"], &first["actor"]["id"]),
        (&json!("plan"), &Value::Null, &json!("admin"))
    );
    assert_eq!(
        (&of(5)["user_rules"], &of(6)["rolled_back_to"], &of(6)["debug_level"]),
        (&json!([]), &json!(2), &json!("off"))
    );
    assert!(of(5)["rolled_back_to"].is_null());
    for item in &items {
        let seq = item["seq"].as_u64().unwrap();
        let (_, line) =
            daemon.request(&daemon.token, "GET", &format!("/v1/journal/records?from={seq}&limit=1"), "", "").unwrap();
        let record: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&record["data"]["revision"], &record["at_ms"]), (&item["revision"], &item["at_ms"]), "{line}");
        let then = daemon.get(&format!("/v1/runtime?at={seq}")).1;
        assert_eq!(then, seen[item["revision"].as_u64().unwrap() as usize]);
    }
    let (mut paged, mut query) = (Vec::new(), "?limit=4".to_owned());
    while let page = daemon.revisions(&query)
        && let Some(cursor) = {
            paged.extend(page["items"].as_array().unwrap().clone());
            page["next_cursor"].as_str()
        }
    {
        query = format!("?limit=4&cursor={cursor}");
    }
    assert_eq!(paged, items);
    assert!(daemon.stop().success());
}

#[test]
fn a_way_back_that_is_none_is_refused_and_history_is_not_for_read_only_callers() {
    let house = House::new();
    let daemon = house.start();
    let before = daemon.set("permission-mode", &json!({ "mode": "plan" }));
    for (body, status, code) in [
        (json!({ "revision": 2 }), 422, "request.invalid"),
        (json!({ "revision": 0, "expected_revision": 0 }), 409, "runtime.revision_conflict"),
        (json!({}), 400, "request.malformed"),
        (json!({ "revision": -1 }), 400, "request.malformed"),
        (json!({ "revision": 0, "at": 1 }), 400, "request.malformed"),
    ] {
        let (found, problem) = daemon.post("/v1/runtime/rollback", &body.to_string()).unwrap();
        assert_eq!((found, problem["code"].as_str()), (status, Some(code)), "{body}");
    }
    let (_, problem) = daemon.post("/v1/runtime/debug-level", r#"{"level":"loud"}"#).unwrap();
    assert_eq!(problem["code"], "request.malformed");
    let same = daemon.set("rollback", &json!({ "revision": 1 }));
    assert_eq!(same, before, "what is in force is gone back to without a record");
    let once = "Idempotency-Key: back-once\r\n";
    let ask = || daemon.request(&daemon.token, "POST", "/v1/runtime/rollback", once, r#"{"revision":0}"#).unwrap();
    assert_eq!((ask(), ask().0), (ask(), 200));
    assert_eq!(daemon.get("/v1/runtime").1["revision"], 2, "a repeat goes back once");
    let (status, _) = daemon.request(&house.readonly(), "GET", "/v1/runtime/revisions", "", "").unwrap();
    assert_eq!(status, 403);
    assert!(daemon.stop().success());
}

/// Asks for something again and again until that leaves such a line in the log, or no more of them.
fn becomes(daemon: &Daemon, log: &Path, words: &str, told: bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let from = std::fs::read_to_string(log).unwrap().len();
        for _ in 0..10 {
            daemon.create().unwrap();
        }
        std::thread::sleep(Duration::from_millis(200));
        if std::fs::read_to_string(log).unwrap()[from..].contains(words) == told {
            return true;
        }
    }
    false
}

#[test]
fn the_debug_level_sets_the_log_at_once_and_stays_over_a_restart() {
    const REQUEST: &str = "\"message\":\"answered\"";
    const BATCH: &str = "\"message\":\"a batch is on disk and published\"";
    let house = House::new();
    let log = house.folder.path().join("log");
    let start = || {
        house.launch_saying(&mut Command::new(BINARY), File::options().append(true).create(true).open(&log).unwrap())
    };
    let daemon = start();
    assert!(becomes(&daemon, &log, REQUEST, false));
    assert_eq!(daemon.set("debug-level", &json!({ "level": "redacted" }))["debug_level"], "redacted");
    assert!(becomes(&daemon, &log, REQUEST, true) && becomes(&daemon, &log, BATCH, false));
    daemon.set("debug-level", &json!({ "level": "full" }));
    assert!(becomes(&daemon, &log, REQUEST, true) && becomes(&daemon, &log, BATCH, true));
    assert_eq!(daemon.get("/v1/status").1["runtime"]["debug_level"], "full");
    assert!(daemon.stop().success());
    let daemon = start();
    assert!(becomes(&daemon, &log, BATCH, true), "it stays over a restart");
    daemon.set("rollback", &json!({ "revision": 0 }));
    assert!(becomes(&daemon, &log, REQUEST, false), "going back sets it too");
    assert!(daemon.stop().success());
}
