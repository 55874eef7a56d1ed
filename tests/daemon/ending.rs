//! Ends and long answers: what waits when the daemon ends, and what is printed where an answer is cut short.

use std::process::Command;
use std::time::{Duration, Instant};

use super::stand::{BINARY, House};

#[test]
fn a_daemon_that_ends_answers_whoever_waits_for_a_queued_run() {
    let house = House::new();
    let mut daemon = house.rehearse("cat notes.txt");
    let session = daemon.create().unwrap();
    let (_, first) = daemon.post(&format!("/v1/sessions/{session}/runs"), r#"{"content":"one"}"#).unwrap();
    daemon.wait_for(first["run_id"].as_str().unwrap(), "waiting_for_approval");
    let path = format!("/v1/sessions/{session}/input");
    let (began, answer) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| daemon.post(&path, r#"{"content":"two"}"#));
        std::thread::sleep(Duration::from_millis(500));
        let began = Instant::now();
        let pid = rustix::process::Pid::from_child(&daemon.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        (began, asking.join().unwrap())
    });
    let ended = daemon.child.wait().unwrap();
    let took = began.elapsed();
    let (status, run) = answer.expect("whoever waits is answered");
    assert_eq!((status, &run["status"]), (200, &"queued".into()), "{run}");
    assert!(ended.success() && took < Duration::from_secs(2), "{ended} {took:?}");
}

#[test]
fn records_are_printed_to_the_last_one_asked_for_however_long_their_lines() {
    let house = House::new();
    let daemon = house.start();
    let pad: std::collections::BTreeMap<String, String> =
        (0..30).map(|number| (format!("pad{number}"), "p".repeat(900))).collect();
    let body = serde_json::json!({ "metadata": pad }).to_string();
    for _ in 0..170 {
        assert_eq!(daemon.post("/v1/sessions", &body).unwrap().0, 201);
    }
    let records = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(["journal", "records", "--output", "json", "--state-root"]).arg(house.state());
        let out = command.args(arguments).env("XDG_STATE_HOME", house.path("user")).output().unwrap();
        let (out, err) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
        let seqs: Vec<u64> = out
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap())
            .collect();
        (seqs, out.len(), err)
    };
    let size = daemon.get("/v1/journal/head").1["size"].as_u64().unwrap();
    let (all, bytes, err) = records(&["--limit", "100000"]);
    assert!(bytes > 4 << 20, "more than one answer holds: {bytes}");
    assert!(all.iter().copied().eq(0..all.len() as u64) && all.len() as u64 >= size, "{size}: {}", all.len());
    assert_eq!(err, "");
    let (some, _, err) = records(&["--from", "3", "--limit", "4"]);
    assert_eq!((some, err.as_str()), (vec![3, 4, 5, 6], "There is more: --from 7\n"));
}
