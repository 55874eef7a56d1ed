//! What a kill of the daemon leaves, and what the next start makes of it.

use serde_json::json;

use crate::support::{House, bash, calls, eventually, lives, says, turn};

#[test]
fn a_command_that_a_kill_cut_off_has_an_unknown_outcome_and_is_never_repeated() {
    let house = House::playing(&[bash("echo began >> began.txt; echo $$ > pid.txt; sleep 300"), says("done")]);
    let daemon = house.start();
    let session = daemon.session(&json!({ "permission_mode": "bypass-permissions" }));
    let run = daemon.run_in(&session);
    let pid = house.written("pid.txt");
    daemon.kill();
    eventually("end of the command", || (!lives(&pid)).then_some(()));
    let daemon = house.start();
    let view = daemon.when(&run, "interrupted");
    assert_eq!(view["interrupted_by"], "restart", "{view}");
    let unknown = daemon.records(&run, "call.outcome_unknown");
    assert_eq!(unknown.len(), 1);
    assert_eq!(view["unknown_calls"], json!([unknown[0]["data"]["call_id"]]), "{view}");
    daemon.kill();
    let daemon = house.start();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(daemon.records(&run, "call.outcome_unknown").len(), 1, "it is said once");
    assert_eq!(daemon.records(&run, "call.dispatched").len(), 1);
    assert_eq!(house.written("began.txt"), "began\n");
    // The session goes on with its next run.
    let next = daemon.run_in(&session);
    daemon.when(&next, "running");
    daemon.post(&format!("/v1/runs/{next}/cancel"), &json!({}));
    daemon.when(&next, "cancelled");
    daemon.stop();
}

#[test]
fn what_a_kill_cut_off_in_the_middle_of_a_write_is_gone_after_the_next_start_and_the_file_is_what_it_was() {
    let house =
        House::playing(&[calls(&[("write_file", json!({ "path": "deep/large", "content": "new" }))]), says("done")]);
    std::fs::create_dir(house.work("deep")).unwrap();
    // So large that comparing it takes a while: meanwhile the new one lies beside it.
    std::fs::File::create(house.work("deep/large")).unwrap().set_len(200 << 20).unwrap();
    let stranger = format!(".chancery-{:032x}.tmp", 7);
    std::fs::write(house.work("deep").join(&stranger), "another daemon's").unwrap();
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(house.work("deep")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| *name != stranger)
            .collect();
        names.sort();
        names
    };
    let daemon = house.start();
    let run = daemon.run(&json!({ "permission_mode": "accept-edits" }));
    eventually("file beside the other", || (names().len() == 2).then_some(()));
    daemon.kill();
    assert_eq!(names().len(), 2, "the kill came in the middle");
    let daemon = house.start();
    assert_eq!(names(), ["large"]);
    assert_eq!(daemon.when(&run, "interrupted")["unknown_calls"].as_array().unwrap().len(), 1);
    assert_eq!(std::fs::metadata(house.work("deep/large")).unwrap().len(), 200 << 20);
    assert!(house.work("deep").join(&stranger).exists(), "what is not ours stays");
    daemon.stop();
}

#[test]
fn a_run_that_waited_for_its_model_goes_on_after_a_kill() {
    let house = House::playing(&[
        calls(&[("write_file", json!({ "path": "once.txt", "content": "x" }))]),
        turn("{ wait_ms = 1500 }, { text = \"late\" }"),
    ]);
    let daemon = house.start();
    let run = daemon.run(&json!({ "permission_mode": "accept-edits" }));
    eventually("second turn", || (daemon.records(&run, "turn.requested").len() == 2).then_some(()));
    daemon.kill();
    let daemon = house.start();
    assert_eq!(daemon.when(&run, "completed")["output"], "[rehearsal] late");
    let asked = daemon.records(&run, "turn.requested");
    let attempts: Vec<_> =
        asked.iter().map(|one| (one["data"]["turn"].clone(), one["data"]["attempt"].clone())).collect();
    assert_eq!(attempts, [(json!(1), json!(1)), (json!(2), json!(1)), (json!(2), json!(2))]);
    assert_eq!(daemon.records(&run, "call.dispatched").len(), 1, "what was done is not done again");
    daemon.stop();
}

#[test]
fn a_background_task_does_not_outlive_a_killed_daemon_and_the_next_start_says_so() {
    let house = House::playing(&[
        calls(&[(
            "bash",
            json!({ "background": true,
            "command": "echo $$ > pid.txt; setsid sh -c 'echo $$ > below.txt; exec sleep 300' & sleep 300" }),
        )]),
        says("done"),
    ]);
    let daemon = house.start();
    let run = daemon.run(&json!({ "permission_mode": "bypass-permissions" }));
    daemon.when(&run, "completed");
    let (pid, below) = (house.written("pid.txt"), house.written("below.txt"));
    daemon.kill();
    eventually("end of the task", || (!lives(&pid) && !lives(&below)).then_some(()));
    let daemon = house.start();
    let records = daemon.get("/v1/journal/records?from=0&limit=1000");
    let finished: Vec<&str> =
        records.as_str().unwrap().lines().filter(|line| line.contains("\"kind\":\"task.finished\"")).collect();
    assert_eq!(finished.len(), 1, "{finished:?}");
    assert!(finished[0].contains("daemon_restarted"), "{}", finished[0]);
    assert!(!finished[0].contains("output_bytes"), "nobody knows how much it wrote: {}", finished[0]);
    daemon.stop();
}

#[test]
fn a_command_that_was_allowed_cannot_loosen_the_daemons_secrets() {
    use std::os::unix::fs::MetadataExt as _;
    let house = House::playing(&[
        bash(
            "for f in ../state ../state/tokens ../state/tokens/admin.token ../state/audit-signing.key; do \
              chmod 777 $f; chown 12345 $f; done; echo tried > tried.txt",
        ),
        says("done"),
    ]);
    let daemon = house.start();
    if !daemon.sandbox.contains("landlock") {
        assert!(std::env::var_os("CHANCERY_TEST_NO_SANDBOX").is_some(), "this machine has no Landlock");
        eprintln!("skipped: modes of the state root");
        return;
    }
    let facts = |name: &str| {
        let metadata = std::fs::metadata(house.folder.path().join("state").join(name)).unwrap();
        (metadata.mode() & 0o777, metadata.uid())
    };
    let names = ["", "tokens", "tokens/admin.token", "audit-signing.key"];
    let before = names.map(facts);
    let run = daemon.run(&json!({}));
    let approval = daemon.pending(&run);
    assert_eq!(daemon.decide(&approval, "allow").0, 200);
    daemon.when(&run, "completed");
    assert_eq!(house.written("tried.txt"), "tried\n");
    assert_eq!(names.map(facts), before);
    daemon.stop();
}
