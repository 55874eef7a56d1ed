//! What people are asked, and what holds without asking: approvals, questions, modes and rules.

use serde_json::{Value, json};

use crate::support::{Daemon, House, bash, calls, says};

fn asks(question: Value) -> String {
    calls(&[("ask_user_question", question)])
}

fn answer(daemon: &Daemon, question: &Value, verb: &str, body: &Value) -> (u16, Value) {
    let id = question["question_id"].as_str().unwrap();
    daemon.post(&format!("/v1/questions/{id}/{verb}"), body)
}

#[test]
fn a_question_is_answered_with_an_option_in_own_words_or_declined_and_the_model_is_told() {
    let colours = json!({ "question": "Which?", "options": [{ "id": "r", "label": "red" }, { "label": "blue" }] });
    let open = json!({ "question": "Why?" });
    let house = House::playing(&[asks(colours), asks(open.clone()), asks(open), says("done")]);
    let daemon = house.start();
    let run = daemon.run(&json!({}));

    let question = daemon.question(&run);
    assert_eq!((&question["status"], &question["options"][1]["id"]), (&json!("pending"), &json!("2")));
    for odd in [
        json!({}),
        json!({ "selected": ["nothing"] }),
        json!({ "selected": ["r", "2"] }),
        json!({ "freeform": "mauve" }),
        json!({ "selected": ["r"], "colour": 1 }),
    ] {
        let (status, problem) = answer(&daemon, &question, "answer", &odd);
        assert!(status == 422 || status == 400, "{odd}: {status} {problem}");
    }
    let (status, _) = daemon.request(
        &daemon.readonly,
        "POST",
        &format!("/v1/questions/{}/answer", question["question_id"].as_str().unwrap()),
        r#"{"selected":["r"]}"#,
    );
    assert_eq!(status, 403);
    assert_eq!(answer(&daemon, &question, "answer", &json!({ "selected": ["2"] })).0, 200);
    assert_eq!(answer(&daemon, &question, "answer", &json!({ "selected": ["r"] })).0, 409);
    assert_eq!(answer(&daemon, &question, "decline", &json!({})).0, 409);

    let first = question["question_id"].clone();
    let question = crate::support::eventually("second question", || {
        Some(daemon.question(&run)).filter(|question| question["question_id"] != first)
    });
    assert_eq!(answer(&daemon, &question, "answer", &json!({ "freeform": "because \"so\"" })).0, 200);
    let second = question["question_id"].clone();
    let question = crate::support::eventually("third question", || {
        Some(daemon.question(&run))
            .filter(|question| question["question_id"] != second && question["question_id"] != first)
    });
    assert_eq!(answer(&daemon, &question, "decline", &json!({ "reason": "none of your business" })).0, 200);

    daemon.when(&run, "completed");
    let outputs = daemon.outputs(&run);
    assert!(outputs[0].contains("blue"), "{outputs:?}");
    assert!(outputs[1].contains("because \"so\""), "{outputs:?}");
    assert!(outputs[2].contains("declined"), "{outputs:?}");
    let ok: Vec<Value> = daemon.records(&run, "call.finished").iter().map(|one| one["data"]["ok"].clone()).collect();
    assert_eq!(ok, [json!(true), json!(true), json!(false)]);
    daemon.stop();
}

#[test]
fn a_denied_call_is_not_made_the_model_is_told_and_the_run_goes_on() {
    let house = House::playing(&[bash("echo ran > ran.txt"), says("understood")]);
    let daemon = house.start();
    let run = daemon.run(&json!({}));
    let approval = daemon.pending(&run);
    assert_eq!(daemon.decide_as(&daemon.readonly, &approval, "allow").0, 403, "a reader decides nothing");
    for field in ["call_hash", "card_hash"] {
        let mut forged = approval.clone();
        forged[field] = "0".repeat(64).into();
        let (status, problem) = daemon.decide(&forged, "allow");
        assert_eq!((status, &problem["code"]), (409, &json!("approval.call_changed")), "{field}");
    }
    assert_eq!(daemon.decide(&approval, "deny").0, 200);
    assert_eq!(daemon.when(&run, "completed")["output"], "[rehearsal] understood");
    let refused = daemon.records(&run, "call.refused");
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0]["data"]["code"], "permission.denied");
    assert!(!house.work("ran.txt").exists());
    let (status, problem) = daemon.decide(&approval, "allow");
    assert_eq!((status, &problem["code"]), (409, &json!("approval.already_decided")));
    daemon.stop();
}

#[test]
fn a_file_that_changes_after_its_card_was_shown_makes_the_decision_a_conflict_and_the_run_asks_anew() {
    let edit = json!({ "path": "f.txt", "old_text": "one", "new_text": "two" });
    let house = House::playing(&[calls(&[("edit_file", edit)]), says("done")]);
    std::fs::write(house.work("f.txt"), "one\n").unwrap();
    let daemon = house.start();
    let run = daemon.run(&json!({}));
    let first = daemon.pending(&run);
    std::fs::write(house.work("f.txt"), "one, and more\n").unwrap();
    let (status, problem) = daemon.decide(&first, "allow");
    assert_eq!((status, &problem["code"]), (409, &json!("approval.call_changed")), "{problem}");
    let view = daemon.get(&format!("/v1/approvals/{}", first["approval_id"].as_str().unwrap()));
    assert_eq!((&view["status"], &view["withdrawn_because"]), (&json!("withdrawn"), &json!("call_changed")));
    assert_eq!(view["decided_by"], Value::Null);

    let second = crate::support::eventually("second approval", || {
        Some(daemon.pending(&run)).filter(|one| one["approval_id"] != first["approval_id"])
    });
    assert_ne!(second["call_hash"], first["call_hash"]);
    assert_eq!(std::fs::read_to_string(house.work("f.txt")).unwrap(), "one, and more\n", "nothing was made yet");
    let (status, problem) = daemon.decide(&first, "allow");
    assert_eq!((status, &problem["code"]), (409, &json!("approval.call_changed")), "{problem}");
    assert_eq!(daemon.decide(&second, "allow").0, 200);
    daemon.when(&run, "completed");
    assert_eq!(std::fs::read_to_string(house.work("f.txt")).unwrap(), "two, and more\n");
    assert_eq!(daemon.records(&run, "approval.decided").len(), 1);
    assert_eq!(daemon.records(&run, "approval.withdrawn").len(), 1);

    // Who denies needs no other card, and a file that a call does not edit is none of its business.
    let house = House::playing(&[calls(&[("write_file", json!({ "path": "new.txt", "content": "x" }))]), says("done")]);
    let daemon = house.start();
    let run = daemon.run(&json!({}));
    let approval = daemon.pending(&run);
    std::fs::write(house.work("new.txt"), "a person's\n").unwrap();
    assert_eq!(daemon.decide(&approval, "deny").0, 200);
    daemon.when(&run, "completed");
    assert_eq!(std::fs::read_to_string(house.work("new.txt")).unwrap(), "a person's\n");
}

#[test]
fn cancelling_a_run_withdraws_what_it_waits_for() {
    let house = House::playing(&[bash("echo ran > ran.txt"), says("done")]);
    let daemon = house.start();
    let run = daemon.run(&json!({}));
    let approval = daemon.pending(&run);
    assert_eq!(daemon.post(&format!("/v1/runs/{run}/cancel"), &json!({})).0, 200);
    daemon.when(&run, "cancelled");
    let view = daemon.get(&format!("/v1/approvals/{}", approval["approval_id"].as_str().unwrap()));
    assert_eq!(view["status"], "withdrawn");
    let (status, problem) = daemon.decide(&approval, "allow");
    assert_eq!(status, 409, "{problem}");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!house.work("ran.txt").exists(), "what was withdrawn is not made");
    assert_eq!(daemon.post(&format!("/v1/runs/{run}/cancel"), &json!({})).0, 409, "it has ended");
    daemon.stop();
}

#[test]
fn of_two_who_decide_at_once_exactly_one_wins_a_hundred_times() {
    let turns: Vec<String> = (0..100).map(|at| bash(&format!("echo {at} >> ran.txt"))).collect();
    let house = House::playing(&[turns, vec![says("done")]].concat());
    let daemon = house.start();
    let session = daemon.session(&json!({}));
    let (status, run) =
        daemon.post(&format!("/v1/sessions/{session}/runs"), &json!({ "content": "x", "max_turns": 200 }));
    assert_eq!(status, 202);
    let run = run["run_id"].as_str().unwrap();
    let (mut allowed, mut last) = (Vec::new(), Value::Null);
    for at in 0..100 {
        let approval = crate::support::eventually("next approval", || {
            Some(daemon.pending(run)).filter(|approval| approval["approval_id"] != last)
        });
        last = approval["approval_id"].clone();
        let (allow, deny) = std::thread::scope(|scope| {
            let allow = scope.spawn(|| daemon.decide(&approval, "allow"));
            let deny = scope.spawn(|| daemon.decide(&approval, "deny"));
            (allow.join().unwrap(), deny.join().unwrap())
        });
        let (won, lost) = if allow.0 == 200 { (&allow, &deny) } else { (&deny, &allow) };
        assert_eq!((won.0, lost.0, &lost.1["code"]), (200, 409, &json!("approval.already_decided")), "{at}");
        assert!(lost.1["detail"].as_str().unwrap().contains("admin"), "the winner is named: {}", lost.1);
        if allow.0 == 200 {
            allowed.push(at.to_string());
        }
    }
    daemon.when(run, "completed");
    let ran = std::fs::read_to_string(house.work("ran.txt")).unwrap_or_default();
    assert_eq!(ran.lines().collect::<Vec<_>>(), allowed, "what was allowed ran, once, and nothing else");
    assert_eq!(daemon.records(run, "approval.decided").len() + daemon.records(run, "call.refused").len(), {
        let refused = 100 - allowed.len();
        100 + refused
    });
    daemon.stop();
}

#[test]
fn each_mode_allows_asks_or_denies_as_the_matrix_says_in_a_real_run() {
    let write = calls(&[("write_file", json!({ "path": "w.txt", "content": "w" }))]);
    let read = calls(&[("list_files", json!({}))]);
    let house = House::playing(&[read, write, bash("true"), says("done")]);
    let daemon = house.start();
    for (mode, expected) in [
        ("default", ["allow", "ask", "ask"]),
        ("accept-edits", ["allow", "allow", "ask"]),
        ("bypass-permissions", ["allow", "allow", "allow"]),
        ("plan", ["allow", "deny", "deny"]),
        ("dont-ask", ["allow", "deny", "deny"]),
    ] {
        let run = daemon.run(&json!({ "permission_mode": mode }));
        for _ in expected.iter().filter(|decision| **decision == "ask") {
            let approval = daemon.pending(&run);
            assert_eq!(daemon.decide(&approval, "deny").0, 200);
            crate::support::eventually("next step", || {
                let view = daemon.view(&run);
                (view["approval_id"] != approval["approval_id"]).then_some(())
            });
        }
        let view = daemon.when(&run, "completed");
        assert_eq!(view["permission_mode"], mode);
        let audit = daemon.records(&run, "permission.decided");
        let decisions: Vec<&str> = audit.iter().map(|record| record["data"]["decision"].as_str().unwrap()).collect();
        assert_eq!(decisions, expected, "{mode}");
        assert!(audit.iter().all(|record| record["data"]["mode"] == mode), "{mode}: {audit:?}");
    }
    daemon.stop();
}

#[test]
fn the_closest_rule_decides_and_the_audit_names_it() {
    let house = House::playing(&[bash("echo ran > ran.txt"), calls(&[("list_files", json!({}))]), says("done")]);
    let daemon = house.start();
    let rules = json!([
        { "tool": "*", "behavior": "deny" }, { "tool": "ba*", "behavior": "ask" }, { "tool": "bash", "behavior": "allow" },
    ]);
    let run = daemon.run(&json!({ "permission_rules": rules }));
    daemon.when(&run, "completed");
    let audit = daemon.records(&run, "permission.decided");
    let rule = |at: usize| (audit[at]["data"]["decision"].clone(), audit[at]["data"]["rule"].clone());
    assert_eq!(rule(0), (json!("allow"), json!({ "scope": "session", "tool": "bash", "behavior": "allow" })));
    assert_eq!(rule(1), (json!("deny"), json!({ "scope": "session", "tool": "*", "behavior": "deny" })));
    assert_eq!(house.written("ran.txt"), "ran\n");
    // A denial stays one where everything else is bypassed.
    let denied = json!({ "permission_mode": "bypass-permissions", "permission_rules": [{ "tool": "bash", "behavior": "deny" }] });
    std::fs::remove_file(house.work("ran.txt")).unwrap();
    let run = daemon.run(&denied);
    daemon.when(&run, "completed");
    assert_eq!(daemon.records(&run, "call.refused").len(), 1);
    assert!(!house.work("ran.txt").exists());
    daemon.stop();
}

#[test]
fn a_denied_call_says_nothing_about_files_and_its_denial_is_recorded() {
    let edit = |guess: &str| calls(&[("edit_file", json!({ "path": "s.txt", "old_text": guess, "new_text": "x" }))]);
    let house = House::playing(&[edit("password=a"), edit("password=b"), says("done")]);
    std::fs::write(house.work("s.txt"), "password=b\n").unwrap();
    let daemon = house.start();
    let run = daemon.run(&json!({ "permission_rules": [{ "tool": "*", "behavior": "deny" }] }));
    daemon.when(&run, "completed");
    let said = |record: &Value| (record["data"]["code"].clone(), record["data"]["detail"].clone());
    let denied = (json!("permission.denied"), json!("The rule `*` of scope session denies it."));
    let refused: Vec<_> = daemon.records(&run, "call.refused").iter().map(said).collect();
    assert_eq!(refused, [denied.clone(), denied], "a right and a wrong guess are told the same");
    assert_eq!(daemon.records(&run, "permission.decided").len(), 2);
    daemon.stop();
}

#[test]
fn containment_reaches_runs_that_work_and_wait_and_says_so_in_the_audit() {
    let house = House::playing(&[bash("echo ran >> ran.txt; sleep 1"), bash("echo ran >> ran.txt"), says("done")]);
    let daemon = house.start();
    let waiting = daemon.run(&json!({}));
    let approval = daemon.pending(&waiting);
    let working = daemon.run(&json!({ "permission_mode": "bypass-permissions" }));
    house.written("ran.txt");
    let (status, _) =
        daemon.request(&daemon.token, "PUT", "/v1/runtime/permission-mode", &json!({ "mode": "dont-ask" }).to_string());
    assert_eq!(status, 200);
    daemon.when(&working, "completed");
    let audit = |run: &str| -> Vec<(Value, Value)> {
        let records = daemon.records(run, "permission.decided");
        records.iter().map(|record| (record["data"]["mode"].clone(), record["data"]["decision"].clone())).collect()
    };
    let pair = |mode: &str, decision: &str| (json!(mode), json!(decision));
    assert_eq!(audit(&working), [pair("bypass-permissions", "allow"), pair("dont-ask", "deny")]);
    let (status, problem) = daemon.decide(&approval, "allow");
    assert_eq!((status, &problem["code"]), (403, &json!("permission.denied")), "{problem}");
    assert_eq!(daemon.decide(&approval, "deny").0, 200);
    daemon.when(&waiting, "completed");
    assert_eq!(house.written("ran.txt"), "ran\n", "nothing ran after the containment");
    daemon.stop();
}

#[test]
fn a_containment_reaches_a_call_that_was_allowed_and_waits_for_its_place() {
    let house = House::playing(&[bash("echo ran >> ran.txt; until test -e go; do sleep 0.1; done"), says("done")]);
    let daemon = house.start_with(&["--runs-at-a-time", "1"], &[]);
    let allowed = daemon.run(&json!({}));
    let approval = daemon.pending(&allowed);
    let working = daemon.run(&json!({ "permission_mode": "bypass-permissions" }));
    house.written("ran.txt");
    assert_eq!(daemon.decide(&approval, "allow").0, 200);
    let contained = json!({ "mode": "dont-ask" }).to_string();
    assert_eq!(daemon.request(&daemon.token, "PUT", "/v1/runtime/permission-mode", &contained).0, 200);
    std::fs::write(house.work("go"), "").unwrap();
    daemon.when(&working, "completed");
    daemon.when(&allowed, "completed");
    let decided = daemon.records(&allowed, "permission.decided");
    let decisions: Vec<_> = decided.iter().map(|record| record["data"]["decision"].as_str().unwrap()).collect();
    assert_eq!(decisions, ["ask", "deny"]);
    assert_eq!(house.written("ran.txt"), "ran\n", "it was not made");
    daemon.stop();
}

#[test]
fn a_call_whose_file_changed_since_it_was_allowed_is_shown_again_and_made_as_it_was_shown_last() {
    let edit = json!({ "path": "s.txt", "old_text": "a", "new_text": "b" });
    let house = House::playing(&[calls(&[("edit_file", edit)]), says("done")]);
    std::fs::write(house.work("s.txt"), "a one\n").unwrap();
    let hold = [bash("touch held; until test -e go; do sleep 0.1; done"), says("done")].concat();
    std::fs::write(house.folder.path().join("hold.toml"), format!("version = 1\n{hold}")).unwrap();
    let route = |id: &str, script: &str| {
        format!("[routes.{id}]\ndriver = \"rehearsal\"\ndefault_model = \"r\"\nscript = \"{script}.toml\"\n")
    };
    let routes = format!("version = 1\ndefault_route = \"edit\"\n{}{}", route("edit", "script"), route("hold", "hold"));
    std::fs::write(house.folder.path().join("routes.toml"), routes).unwrap();
    let daemon = house.start_with(&["--runs-at-a-time", "1"], &[]);
    let run = daemon.run(&json!({}));
    let first = daemon.pending(&run);
    let holding = daemon.run(&json!({ "route": "hold", "permission_mode": "bypass-permissions" }));
    crate::support::eventually("the place is taken", || house.work("held").exists().then_some(()));
    assert_eq!(daemon.decide(&first, "allow").0, 200);
    // Allowed, and not made yet: the only place is taken.
    std::fs::write(house.work("s.txt"), "a two\n").unwrap();
    std::fs::write(house.work("go"), "").unwrap();
    daemon.when(&holding, "completed");
    let second = crate::support::eventually("second approval", || {
        Some(daemon.view(&run)["approval_id"].clone()).filter(|id| id.is_string() && *id != first["approval_id"])
    });
    let second = daemon.get(&format!("/v1/approvals/{}", second.as_str().unwrap()));
    assert_ne!(second["call_hash"], first["call_hash"]);
    assert_eq!(daemon.decide(&second, "allow").0, 200);
    daemon.when(&run, "completed");
    assert_eq!(house.written("s.txt"), "b two\n");
    daemon.stop();
}

#[test]
fn a_check_says_what_would_be_decided_and_leaves_no_trace() {
    let house = House::playing(&[says("done")]);
    let daemon = house.start();
    let session = daemon.session(&json!({
        "permission_mode": "accept-edits", "permission_rules": [{ "tool": "read*", "behavior": "ask" }],
    }));
    let size = || daemon.get("/v1/journal/head")["size"].clone();
    let before = size();
    let check =
        |body: Value| daemon.request(&daemon.readonly, "POST", "/v1/runtime/permissions/check", &body.to_string());
    let rule = json!({ "scope": "session", "tool": "read*", "behavior": "ask" });
    for (tool, session_id, told) in [
        (
            "bash",
            Value::Null,
            json!({
                "mode": "default", "base_decision": "ask", "decision": "ask", "mode_applied": false, "approval_required": true,
                "matched_rule": null, "reason": "A person is asked first.",
            }),
        ),
        (
            "write_file",
            json!(session),
            json!({
                "mode": "accept-edits", "base_decision": "ask", "decision": "allow", "mode_applied": true, "approval_required": false,
                "matched_rule": null, "reason": null,
            }),
        ),
        (
            "read_file",
            json!(session),
            json!({
                "mode": "accept-edits", "base_decision": "ask", "decision": "ask", "mode_applied": false, "approval_required": true,
                "matched_rule": rule, "reason": "The rule `read*` of scope session asks a person first.",
            }),
        ),
    ] {
        let mut expected = told;
        expected["tool"] = json!(tool);
        expected["session_id"] = session_id.clone();
        assert_eq!(check(json!({ "tool": tool, "session_id": session_id })), (200, expected));
    }
    let contained = json!({ "mode": "dont-ask" }).to_string();
    assert_eq!(size(), before, "a check is no record");
    assert_eq!(daemon.request(&daemon.token, "PUT", "/v1/runtime/permission-mode", &contained).0, 200);
    let (_, told) = check(json!({ "tool": "read_file", "session_id": session }));
    assert_eq!((&told["mode"], &told["decision"]), (&json!("dont-ask"), &json!("deny")));
    for (body, code) in [
        (json!({ "tool": "" }), "request.invalid"),
        (json!({ "tool": "bash", "session_id": "session_01ARZ3NDEKTSV4RRFFQ69G5FAV" }), "session.not_found"),
        (json!({ "tool": "bash", "session_id": "x" }), "request.invalid"),
    ] {
        assert_eq!(check(body).1["code"], code);
    }
    daemon.stop();
}
