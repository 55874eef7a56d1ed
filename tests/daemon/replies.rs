//! Reply targets: taken, checked, journaled and shown.

use serde_json::{Value, json};

use super::House;

#[test]
fn reply_targets_are_journaled_and_shown_and_a_runs_own_stand_beside_the_sessions() {
    let house = House::new();
    let daemon = house.rehearse_script("version = 1\n[[turns]]\nsteps = [{ text = \"done\" }]\n");
    let (ops, hook) =
        (json!({ "kind": "slack", "name": "ops", "address": "C0123" }), json!({ "kind": "http", "name": "hook" }));
    let (status, session) = daemon.post("/v1/sessions", &json!({ "reply_targets": [ops, hook] }).to_string()).unwrap();
    let shown = json!([ops, { "kind": "http", "name": "hook", "address": null }]);
    assert_eq!((status, &session["reply_targets"]), (201, &shown), "{session}");
    let id = session["session_id"].as_str().unwrap();
    let runs = format!("/v1/sessions/{id}/runs");
    let start = |targets: Option<Value>| {
        let mut body = json!({ "content": "please" });
        if let Some(targets) = targets {
            body["reply_targets"] = targets;
        }
        let (status, run) = daemon.post(&runs, &body.to_string()).unwrap();
        assert_eq!(status, 202, "{run}");
        run
    };
    let (plain, own, silent) = (start(None), start(Some(json!([hook]))), start(Some(json!([]))));
    assert_eq!(plain["reply_targets"], Value::Null, "the session's hold");
    assert_eq!(own["reply_targets"], json!([shown[1]]));
    assert_eq!(silent["reply_targets"], json!([]));
    let page = daemon.get(&format!("/v1/sessions/{id}/events")).1;
    let bodies: Vec<&Value> = page["items"].as_array().unwrap().iter().map(|record| &record["data"]).collect();
    assert_eq!(bodies[0]["reply_targets"], json!([ops, hook]));
    assert_eq!(daemon.get("/v1/sessions").1["items"][0]["reply_targets"], shown);
    assert_eq!(
        daemon.create().map(|other| daemon.get(&format!("/v1/sessions/{other}")).1["reply_targets"].clone()),
        Some(json!([]))
    );
    for (targets, status, code, pointer) in [
        (json!("slack"), 400, "request.malformed", "/reply_targets"),
        (json!([{ "kind": "pigeon", "name": "a" }]), 400, "request.malformed", "/reply_targets/0/kind"),
        (json!([{ "kind": "http" }]), 400, "request.malformed", "/reply_targets/0"),
        (json!([{ "kind": "http", "name": "a", "url": "x" }]), 400, "request.malformed", "/reply_targets/0/url"),
        (json!([{ "kind": "http", "name": "a/b" }]), 422, "request.invalid", "/reply_targets/0/name"),
        (
            json!([hook, { "kind": "http", "name": "a", "address": "" }]),
            422,
            "request.invalid",
            "/reply_targets/1/address",
        ),
        (json!([hook, hook]), 422, "request.invalid", "/reply_targets/1"),
    ] {
        for (path, mut body) in [("/v1/sessions", json!({})), (runs.as_str(), json!({ "content": "please" }))] {
            body["reply_targets"] = targets.clone();
            let (found, problem) = daemon.post(path, &body.to_string()).unwrap();
            let found = (found, problem["code"].as_str().unwrap(), problem["pointer"].as_str().unwrap_or_default());
            assert_eq!(found, (status, code, pointer), "{path} {body}: {problem}");
        }
    }
    daemon.wait_for(silent["run_id"].as_str().unwrap(), "completed");
    assert!(daemon.stop().success());
    let daemon = house.start();
    let again = daemon.get(&format!("/v1/runs/{}", own["run_id"].as_str().unwrap())).1;
    assert_eq!((&again["reply_targets"], again["status"].as_str()), (&own["reply_targets"], Some("completed")));
    assert!(daemon.stop().success());
}
