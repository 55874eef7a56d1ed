//! Who works when: queues, slots, stops, limits of turns, background tasks.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{House, bash, calls, eventually, lives, says, turn};

/// Everything is allowed.
fn free() -> Value {
    json!({ "permission_mode": "bypass-permissions" })
}

#[test]
fn runs_of_a_session_wait_their_turn_across_a_restart_and_run_in_order() {
    let house = House::playing(&[bash("echo go >> order.txt"), says("done")]);
    let daemon = house.start();
    let session = daemon.session(&json!({}));
    let runs: Vec<String> = (0..4).map(|_| daemon.run_in(&session)).collect();
    daemon.pending(&runs[0]);
    assert!(runs[1..].iter().all(|run| daemon.view(run)["status"] == "queued"));
    daemon.kill();
    let daemon = house.start();
    for (at, run) in runs.iter().enumerate() {
        let approval = daemon.pending(run);
        assert!(runs[at + 1..].iter().all(|later| daemon.view(later)["status"] == "queued"), "one at a time");
        assert_eq!(daemon.decide(&approval, "allow").0, 200);
        daemon.when(run, "completed");
    }
    assert_eq!(house.written("order.txt"), "go\n".repeat(4));
    daemon.stop();
}

#[test]
fn no_more_runs_work_at_a_time_than_were_asked_for() {
    let house = House::playing(&[bash("echo at work >> ran.txt; until test -e go; do sleep 0.1; done"), says("done")]);
    let daemon = house.start_with(&["--runs-at-a-time", "2"], &[]);
    let runs: Vec<String> = (0..3).map(|_| daemon.run(&free())).collect();
    let at_work = || std::fs::read_to_string(house.work("ran.txt")).unwrap_or_default().lines().count();
    eventually("two at work", || (at_work() >= 2).then_some(()));
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(at_work(), 2, "the third waits, at the latest with what its model asked for");
    std::fs::write(house.work("go"), "").unwrap();
    for run in &runs {
        daemon.when(run, "completed");
    }
    assert_eq!(at_work(), 3);
    daemon.stop();
}

#[test]
fn while_a_command_holds_the_only_place_others_end_whose_model_has_answered_or_who_are_cancelled() {
    let house = House::playing(&[bash("touch held; until test -e go; do sleep 0.1; done"), says("done")]);
    let scripts = [
        ("answers", turn("{ wait_ms = 4000 }, { text = \"done\" }")),
        ("wants", turn("{ wait_ms = 4000 }, { call = \"bash\", input = '{\"command\":\"echo ran >> ran.txt\"}' }")),
        ("allowed", bash("echo ran >> ran.txt")),
    ];
    let route = |id: &str, script: &str| {
        format!("[routes.{id}]\ndriver = \"rehearsal\"\ndefault_model = \"r\"\nscript = \"{script}.toml\"\n")
    };
    let mut routes = format!("version = 1\ndefault_route = \"holds\"\n{}", route("holds", "script"));
    for (id, turns) in scripts {
        let script = format!("version = 1\n{turns}{}", says("done"));
        std::fs::write(house.folder.path().join(format!("{id}.toml")), script).unwrap();
        routes.push_str(&route(id, id));
    }
    std::fs::write(house.folder.path().join("routes.toml"), routes).unwrap();
    let daemon = house.start_with(&["--runs-at-a-time", "1"], &[]);
    let on = |route: &str| daemon.run(&json!({ "route": route, "permission_mode": "bypass-permissions" }));
    let cancel = |run: &str| assert_eq!(daemon.post(&format!("/v1/runs/{run}/cancel"), &json!({})).0, 200);
    let allowed = daemon.run(&json!({ "route": "allowed" }));
    let approval = daemon.pending(&allowed);
    let [answers, wants] = ["answers", "wants"].map(on);
    let asked = |run: &&String| daemon.records(run, "turn.requested").len() == 1;
    eventually("both requests", || [&answers, &wants].iter().all(asked).then_some(()));
    let holds = on("holds");
    eventually("the place is taken", || house.work("held").exists().then_some(()));
    daemon.when(&answers, "completed");
    // It waits for its place without its worker.
    assert_eq!(daemon.decide(&approval, "allow").0, 200);
    cancel(&allowed);
    daemon.when(&allowed, "cancelled");
    // And this one with it.
    eventually("the other's answer", || (daemon.records(&wants, "turn.answered").len() == 1).then_some(()));
    cancel(&wants);
    daemon.when(&wants, "cancelled");
    assert_eq!(daemon.view(&holds)["status"], "running");
    std::fs::write(house.work("go"), "").unwrap();
    daemon.when(&holds, "completed");
    assert!(!house.work("ran.txt").exists(), "what was cancelled was not made");
    daemon.stop();
}

#[test]
fn runs_that_wait_for_people_hold_no_slot() {
    let house = House::playing(&[bash("true"), says("done")]);
    let daemon = house.start();
    // Twice as many as may work at a time.
    let waiting: Vec<String> = (0..16).map(|_| daemon.run(&json!({}))).collect();
    for run in &waiting {
        daemon.pending(run);
    }
    let another = daemon.run(&free());
    daemon.when(&another, "completed");
    daemon.stop();
}

#[test]
fn a_run_ends_at_its_limit_of_turns_and_says_why() {
    let house = House::playing(&vec![calls(&[("list_files", json!({}))]); 10]);
    let daemon = house.start();
    let session = daemon.session(&json!({}));
    let path = format!("/v1/sessions/{session}/runs");
    let (_, run) = daemon.post(&path, &json!({ "content": "x", "max_turns": 3 }));
    let view = daemon.when(run["run_id"].as_str().unwrap(), "failed");
    assert_eq!((&view["turns"], &view["error"]["code"]), (&json!(3), &json!("run.turn_limit")));
    daemon.stop();
}

#[test]
fn a_cancelled_command_is_gone_with_all_it_started_and_its_outcome_is_recorded() {
    let house = House::playing(&[
        bash(
            "setsid sh -c 'echo $$ > below.txt; exec sleep 300' & echo $$ > pid.txt; trap '' TERM; while :; do sleep 1; done",
        ),
        says("done"),
    ]);
    let daemon = house.start();
    let run = daemon.run(&free());
    let (pid, below) = (house.written("pid.txt"), house.written("below.txt"));
    assert!(lives(&pid) && lives(&below));
    assert_eq!(daemon.post(&format!("/v1/runs/{run}/cancel"), &json!({ "reason": "enough" })).0, 200);
    daemon.when(&run, "cancelled");
    assert!(!lives(&pid) && !lives(&below), "when the run has ended, nothing of it works");
    let finished = daemon.records(&run, "call.finished");
    assert_eq!((finished.len(), &finished[0]["data"]["ok"]), (1, &json!(false)));
    daemon.stop();
}

#[test]
fn an_interrupt_stops_a_sessions_runs_and_an_end_takes_no_more() {
    let house = House::playing(&[bash("echo $$ > pid.txt; sleep 300"), says("done")]);
    let daemon = house.start();
    let session = daemon.session(&free());
    let runs: Vec<String> = (0..3).map(|_| daemon.run_in(&session)).collect();
    let pid = house.written("pid.txt");
    let path = format!("/v1/sessions/{session}");
    assert_eq!(daemon.post(&format!("{path}/interrupt"), &json!({})).0, 200);
    for run in &runs {
        let view =
            eventually("end of the run", || Some(daemon.view(run)).filter(|view| !view["ended_at_ms"].is_null()));
        assert!(view["status"] == "interrupted" || view["status"] == "cancelled", "{view}");
    }
    assert!(!lives(&pid));
    assert_eq!(daemon.post(&format!("{path}/end"), &json!({})).0, 200);
    let (status, problem) = daemon.post(&format!("{path}/runs"), &json!({ "content": "more" }));
    assert_eq!((status, &problem["code"]), (409, &json!("session.ended")));
    daemon.stop();
}

#[test]
fn a_background_task_outlives_its_call_is_watched_and_ends_with_its_session() {
    let house = House::playing(&[
        calls(&[(
            "bash",
            json!({ "background": true,
            "command": "echo $$ > pid.txt; setsid sh -c 'echo $$ > below.txt; exec sleep 300' & while :; do echo tick; sleep 0.1; done" }),
        )]),
        bash("sleep 1"),
        says("done"),
    ]);
    let daemon = house.start();
    let session = daemon.session(&free());
    let run = daemon.run_in(&session);
    daemon.when(&run, "completed");
    let (pid, below) = (house.written("pid.txt"), house.written("below.txt"));
    assert!(lives(&pid) && lives(&below), "the task goes on after its run");
    let started = daemon.records(&run, "call.finished");
    assert!(started[0]["data"]["task_id"].is_string(), "{started:?}");
    assert_eq!(daemon.post(&format!("/v1/sessions/{session}/end"), &json!({})).0, 200);
    eventually("end of the task", || (!lives(&pid) && !lives(&below)).then_some(()));
    daemon.stop();
}

#[test]
fn a_run_fails_with_the_providers_cause_and_keeps_what_was_said_before_it() {
    for (code, begun, kept) in [
        ("provider.rejected", "{ text = \"half\" },", "provider.rejected"),
        // What broke off within its answer is not asked again, whatever the cause.
        ("provider.stream_broken", "{ text = \"half\" },", "provider.stream_broken"),
        ("provider.unavailable", "{ text = \"half\" },", "provider.stream_broken"),
        ("provider.rejected", "", "provider.rejected"),
    ] {
        let house = House::playing(&[turn(&format!("{begun} {{ error = \"{code}\", detail = \"the cause\" }}"))]);
        let daemon = house.start();
        let run = daemon.run(&json!({}));
        let view = daemon.when(&run, "failed");
        assert_eq!(view["error"]["code"], kept, "{code} {begun}");
        assert!(view["error"]["detail"].as_str().unwrap().contains("the cause"), "{view}");
        let failed = daemon.records(&run, "turn.failed");
        let partial = if begun.is_empty() { Value::Null } else { json!("[rehearsal] half") };
        assert_eq!((failed.len(), &failed[0]["data"]["partial"]), (1, &partial), "{code} {begun}");
        daemon.stop();
    }
}

#[test]
fn arguments_that_no_tool_understands_reach_the_journal_and_the_model_and_nothing_else() {
    let odd = [
        turn("{ call = \"bash\", input = '{oops' }"),
        turn("{ call = \"bash\", input = '{\"command\":7}' }"),
        turn("{ call = \"bash\", input = '{\"command\":\"true\",\"route\":\"other\",\"approved\":true}' }"),
        turn("{ call = \"no_such_tool\", input = '{}' }"),
        turn("{ call = \"write_file\", input = '{\"path\":\"../out.txt\",\"content\":\"x\"}' }"),
        says("done"),
    ];
    let house = House::playing(&odd);
    let daemon = house.start();
    let run = daemon.run(&free());
    daemon.when(&run, "completed");
    assert_eq!(daemon.records(&run, "call.refused").len(), 5);
    assert_eq!(daemon.records(&run, "call.dispatched").len(), 0);
    let answered = daemon.records(&run, "turn.answered");
    assert_eq!(answered[0]["data"]["tool_calls"][0]["input"], "{oops");
    assert!(!house.folder.path().join("out.txt").exists());
    daemon.stop();
}
