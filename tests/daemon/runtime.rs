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

const TWO_ROUTES: &str = "version = 1\ndefault_route = \"one\"\n[routes.one]\ndriver = \"rehearsal\"\n\
                          default_model = \"m1\"\n[routes.two]\ndriver = \"rehearsal\"\ndefault_model = \"m2\"\n";

#[test]
fn a_model_that_is_set_holds_for_sessions_that_choose_none_until_it_is_gone_back_on() {
    let house = House::new();
    std::fs::write(house.path("routes.toml"), TWO_ROUTES).unwrap();
    let daemon = house.start();
    let (free, bound) = (daemon.create().unwrap(), daemon.create().unwrap());
    let chosen = |session: &str| {
        let run = daemon.ended_run(session, &json!({ "content": "a" }));
        [&run["route"], &run["model"], &run["chosen_by"]].map(|part| part.as_str().unwrap().to_owned())
    };
    assert_eq!(chosen(&free), ["one", "m1", "default"]);
    let view = daemon.set("model", &json!({ "model": "two/x" }));
    assert_eq!((&view["revision"], &view["model"]), (&json!(1), &json!({ "route": "two", "model": "x" })));
    assert_eq!(chosen(&free), ["two", "x", "runtime"]);
    // A session's own policy goes before it, until it is removed.
    let policy = format!("/v1/sessions/{bound}/route-policy");
    let (status, view) = daemon.post(&policy, r#"{"route":"one"}"#).unwrap();
    assert_eq!((status, &view["route"], &view["model"]), (200, &json!("one"), &Value::Null));
    assert_eq!(chosen(&bound), ["one", "m1", "session"]);
    let (status, _) = daemon.request(&daemon.token, "DELETE", &policy, "", "").unwrap();
    assert_eq!((status, chosen(&bound)), (200, ["two", "x", "runtime"].map(str::to_owned)));
    let stale = json!({ "model": "m1", "expected_revision": 0 }).to_string();
    let (status, problem) = daemon.post("/v1/runtime/model", &stale).unwrap();
    assert_eq!((status, &problem["code"]), (409, &json!("runtime.revision_conflict")));
    for (path, body, pointer) in [
        ("model", json!({ "route": "three" }), "/route"),
        ("model", json!({ "model": "../x" }), "/model"),
        ("system-prompt", json!({ "mode": "replace", "text": " " }), "/text"),
        ("system-prompt", json!({ "mode": "append", "text": "x".repeat(40_000) }), "/text"),
        ("tool-limits", json!({ "command_ms": 600_001 }), "/command_ms"),
        ("tool-limits", json!({ "result_bytes": 0 }), "/result_bytes"),
    ] {
        let (status, problem) = daemon.post(&format!("/v1/runtime/{path}"), &body.to_string()).unwrap();
        assert_eq!((status, &problem["pointer"]), (422, &json!(pointer)), "{path} {problem}");
    }
    daemon.set("tool-limits", &json!({ "task_ms": 5_000 }));
    daemon.set("system-prompt", &json!({ "mode": "append", "text": "Be kind." }));
    let limits = daemon.get("/v1/runtime/tool-limits").1;
    assert_eq!((&limits["task_ms"], &limits["command_ms"]), (&json!(5_000), &json!(600_000)));
    let before = daemon.get("/v1/runtime").1;
    let back = daemon.set("rollback", &json!({ "revision": 0 }));
    assert_eq!((&back["revision"], &back["model"], &back["tool_limits"]), (&json!(4), &json!({}), &json!({})));
    assert_eq!(chosen(&free), ["one", "m1", "default"]);
    let again = daemon.set("rollback", &json!({ "revision": 3 }));
    assert_eq!(values(&again), values(&before));
    assert!(daemon.stop().success());
    let daemon = house.start();
    assert_eq!(daemon.get("/v1/runtime").1, again);
    assert!(daemon.stop().success());
    assert_eq!(house.verify(&house.state()).0, 0);
}

#[test]
fn runs_that_begin_while_the_model_changes_have_one_side_of_each_change() {
    let house = House::new();
    std::fs::write(house.path("routes.toml"), TWO_ROUTES).unwrap();
    let daemon = house.start();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let mut changes = 0;
            while !done.load(std::sync::atomic::Ordering::SeqCst) || changes < 20 {
                daemon.set("model", &json!({ "model": (["one/a", "two/b"][changes % 2]) }));
                changes += 1;
            }
        });
        let sessions: Vec<String> = (0..4).map(|_| daemon.create().unwrap()).collect();
        let each = |session: &String| (0..10).for_each(|_| drop(daemon.ended_run(session, &json!({ "content": "a" }))));
        std::thread::scope(|starting| sessions.iter().for_each(|session| drop(starting.spawn(|| each(session)))));
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        changing.join().unwrap();
    });
    let set = daemon.records("runtime.model_set");
    let started = daemon.records("run.started");
    assert_eq!(started.len(), 40);
    for run in started {
        let (seq, body) = (run["seq"].as_u64().unwrap(), &run["data"]);
        // What it says it was chosen under is what was in force at its place in the journal, and it was chosen by that.
        let before = set.iter().rev().find(|change| change["seq"].as_u64().unwrap() < seq);
        let (revision, choice) = before.map_or((json!(0), json!({ "route": "one", "model": "m1" })), |change| {
            (change["data"]["revision"].clone(), change["data"]["choice"].clone())
        });
        let pinned = json!({ "route": body["route"], "model": body["model"] });
        assert_eq!((&body["runtime_revision"], pinned), (&revision, choice), "{run}");
    }
    assert!(daemon.stop().success());
}
