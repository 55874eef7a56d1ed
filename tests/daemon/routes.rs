//! The routes file while the daemon runs: what changes in it comes into force whole or not at all, and is recorded.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Daemon, House};

fn file(models: &[(&str, &str)]) -> String {
    let mut text = format!("version = 1\ndefault_route = \"{}\"\n", models[0].0);
    for (id, model) in models {
        text.extend([format!("[routes.{id}]\ndriver = \"rehearsal\"\ndefault_model = \"{model}\"\n")]);
    }
    text
}

impl House {
    fn write_routes(&self, text: &str) {
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path("routes.toml")).unwrap();
    }
}

impl Daemon {
    pub(super) fn readiness(&self) -> Value {
        self.get("/v1/status").1["provider_readiness"].clone()
    }

    fn until(&self, what: &str, reached: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let status = self.get("/v1/status").1;
            if reached(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{what}: {status}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn records(&self, kind: &str) -> Vec<Value> {
        let (_, lines) = self.request(&self.token, "GET", "/v1/journal/records?from=0&limit=10000", "", "").unwrap();
        let parsed = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.filter(|record| record["kind"] == kind).collect()
    }

    pub(super) fn ended_run(&self, session: &str, body: &Value) -> Value {
        let (status, view) = self.post(&format!("/v1/sessions/{session}/input"), &body.to_string()).unwrap();
        assert_eq!(status, 200, "{view}");
        view
    }
}

#[test]
fn a_changed_routes_file_is_in_force_without_a_restart_and_the_journal_names_it() {
    let house = House::new();
    house.write_routes(&file(&[("one", "m1")]));
    let daemon = house.start();
    let first = daemon.readiness();
    let loaded = daemon.records("routes.loaded");
    assert_eq!((loaded.len(), &loaded[0]["data"]["routes"]), (1, &json!(["one"])));
    assert_eq!(loaded[0]["data"]["sha256"], first["file_sha256"]);
    let session = daemon.create().unwrap();
    assert_eq!(daemon.ended_run(&session, &json!({ "content": "a" }))["model"], "m1");
    house.write_routes(&file(&[("two", "m2"), ("three", "m3")]));
    daemon.until("the other routes", |status| status["provider_readiness"]["file_sha256"] != first["file_sha256"]);
    assert_eq!(daemon.ended_run(&session, &json!({ "content": "b" }))["model"], "m2");
    let gone = daemon.post(&format!("/v1/sessions/{session}/runs"), r#"{"content":"c","route":"one"}"#).unwrap();
    assert_eq!((gone.0, &gone.1["code"]), (422, &json!("route.not_found")));
    // What a broken file says counts for nothing, and the last good one stays.
    house.write_routes("version = 1\n[routes.two]\ndriver = \"nobody\"\n");
    let status = daemon.until("the fault", |status| status["provider_readiness"]["file_problem"].is_string());
    assert_eq!(status["health"]["ok"], false);
    assert!(status["health"]["warnings"].as_array().unwrap().iter().any(|one| one["code"] == "routes_file_broken"));
    assert!(status["provider_readiness"]["file_problem"].as_str().unwrap().contains("no driver"), "{status}");
    assert_eq!(daemon.ended_run(&session, &json!({ "content": "d" }))["model"], "m2");
    house.write_routes(&file(&[("two", "m2"), ("three", "m3")]));
    daemon.until("good again", |status| status["health"]["ok"] == true);
    assert_eq!(daemon.records("routes.loaded").len(), 2, "the same file again is no news");
    assert!(daemon.stop().success());
    let daemon = house.start();
    assert_eq!(daemon.records("routes.loaded").len(), 2, "nor is it at the next start");
    assert!(daemon.stop().success());
    assert_eq!(house.verify(&house.state()).0, 0);
}

#[test]
fn a_model_may_name_its_route_and_names_that_are_none_are_refused_at_once() {
    let house = House::new();
    house.write_routes(&file(&[("one", "m1"), ("two", "m2")]));
    let daemon = house.start();
    let session = daemon.create().unwrap();
    let run = daemon.ended_run(&session, &json!({ "content": "a", "model": "two/vendor/x" }));
    assert_eq!((&run["route"], &run["model"]), (&json!("two"), &json!("vendor/x")));
    let run = daemon.ended_run(&session, &json!({ "content": "a", "model": "vendor/x" }));
    assert_eq!((&run["route"], &run["model"]), (&json!("one"), &json!("vendor/x")));
    for model in ["../x", "two/", "two/../x", "a?b", "a@b", "a\r\nb"] {
        let body = json!({ "content": "a", "model": model }).to_string();
        let (status, problem) = daemon.post(&format!("/v1/sessions/{session}/runs"), &body).unwrap();
        assert_eq!((status, &problem["pointer"]), (422, &json!("/model")), "{model:?}: {problem}");
        assert_eq!(daemon.post("/v1/sessions", &json!({ "model": model }).to_string()).unwrap().0, 422);
    }
    assert!(daemon.stop().success());
}

/// What `doctor routes` says, with its exit code.
fn doctor(daemon: &Daemon, flags: &[&str]) -> (i32, Vec<Value>) {
    let out = std::process::Command::new(super::BINARY)
        .args(["--url", &format!("http://{}", daemon.address), "--token", &daemon.token, "--output", "json"])
        .args(["doctor", "routes"])
        .args(flags)
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    let findings = said["findings"].as_array().cloned();
    (out.status.code().unwrap(), findings.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&out.stderr))))
}

#[test]
fn doctor_names_what_names_a_missing_route_and_a_canary_is_a_recorded_call() {
    let house = House::new();
    house.write_routes(&file(&[("one", "m1"), ("two", "m2")]));
    let daemon = house.start();
    assert_eq!(doctor(&daemon, &[]).0, 0);
    let made = |body: Value| daemon.post("/v1/sessions", &body.to_string()).unwrap().1["session_id"].clone();
    let (created, policy, over) = (made(json!({ "route": "two" })), made(json!({})), made(json!({ "route": "two" })));
    let path = |session: &Value, rest: &str| format!("/v1/sessions/{}/{rest}", session.as_str().unwrap());
    assert_eq!(daemon.post(&path(&policy, "route-policy"), r#"{"model":"two/x"}"#).unwrap().0, 200);
    assert_eq!(daemon.post(&path(&over, "end"), "{}").unwrap().0, 200);
    assert_eq!(daemon.post("/v1/runtime/model", r#"{"route":"two"}"#).unwrap().0, 200);
    let limit = r#"{"limit_micros":1}"#;
    assert_eq!(daemon.request(&daemon.token, "PUT", "/v1/budgets/route:two:day", "", limit).unwrap().0, 200);
    assert_eq!(daemon.post("/v1/runtime/auth/subjects/revoke", r#"{"subject":"route/two"}"#).unwrap().0, 200);
    assert_eq!(doctor(&daemon, &["--check-references"]).0, 0);
    house.write_routes(&file(&[("one", "m1")]));
    daemon.until("one route", |status| status["provider_readiness"]["routes"].as_array().unwrap().len() == 1);
    let missing = daemon.get("/v1/runtime/routes/references").1["missing"].clone();
    let named = |by: &str, id: &Value| json!({ "named_by": by, "id": id, "route": "two" });
    let [budget, subject] = [named("budget", &json!("route:two:day")), named("subject", &json!("route/two"))];
    let [created_by, policy_by] = [&created, &policy].map(|session| named("session", session));
    assert_eq!(missing, json!([named("runtime", &Value::Null), created_by, policy_by, budget, subject]));
    let (code, findings) = doctor(&daemon, &["--check-references"]);
    assert_eq!((code, &findings[1]["outcome"]), (2, &json!("broken")), "{findings:?}");
    assert!(findings[1]["detail"].as_str().unwrap().contains(created.as_str().unwrap()), "{findings:?}");
    let (code, findings) = doctor(&daemon, &["--canary"]);
    assert_eq!((code, &findings[1]["detail"]), (0, &json!("route one answered")), "{findings:?}");
    let asked = daemon.records("turn.requested");
    assert_eq!((asked.len(), &asked[0]["data"]["route"]), (1, &json!("one")));
    assert_eq!(daemon.records("run.queued")[0]["data"]["max_output_tokens"], 16);
    let made = daemon.records("session.created");
    let denied = json!([{ "tool": "*", "behavior": "deny" }]);
    assert_eq!(made.last().unwrap()["data"]["permission_rules"], denied, "a canary does nothing");
    assert_eq!(daemon.records("session.ended").len(), 2, "and leaves nothing");
    let (code, _) = doctor(&daemon, &["--canary", "--route", "two"]);
    assert_eq!(code, 2);
    assert!(daemon.stop().success());
}

#[test]
fn a_canary_that_wants_to_go_on_has_answered_and_one_that_fails_has_not() {
    let house = House::new();
    let mut text = String::from("version = 1\ndefault_route = \"calls\"\n");
    for (id, step) in [
        ("calls", "{ call = \"bash\", input = { command = \"true\" } }"),
        ("fails", "{ error = \"provider.rejected\", detail = \"no\" }"),
    ] {
        let script = format!("version = 1\n[[turns]]\nsteps = [{step}]\n");
        std::fs::write(house.path(&format!("{id}.toml")), script).unwrap();
        let route = format!("[routes.{id}]\ndriver = \"rehearsal\"\ndefault_model = \"m\"\nscript = \"{id}.toml\"\n");
        text.push_str(&route);
    }
    house.write_routes(&text);
    let daemon = house.start();
    let (code, findings) = doctor(&daemon, &["--canary", "--every-route"]);
    let outcomes: Vec<&Value> = findings[1..].iter().map(|finding| &finding["outcome"]).collect();
    assert_eq!((code, outcomes), (2, vec![&json!("ok"), &json!("broken")]), "{findings:?}");
    assert_eq!(daemon.records("turn.requested").len(), 2, "one request each");
    // A run that goes on may name a route that is gone.
    let session = daemon.create().unwrap();
    let run = daemon.post(&format!("/v1/sessions/{session}/runs"), r#"{"content":"a"}"#).unwrap().1["run_id"].clone();
    daemon.wait_for(run.as_str().unwrap(), "waiting_for_approval");
    house.write_routes(&file(&[("one", "m1")]));
    daemon.until("one route", |status| status["provider_readiness"]["routes"].as_array().unwrap().len() == 1);
    let missing = daemon.get("/v1/runtime/routes/references").1["missing"].clone();
    assert_eq!(missing, json!([{ "named_by": "run", "id": run, "route": "calls" }]));
    assert!(daemon.stop().success());
}
