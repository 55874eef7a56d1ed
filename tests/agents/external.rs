//! What a run did outside of the daemon: listed completely, and each record with a receipt that verifies alone.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Daemon, House, bash, calls, eventually, says};

const BINARY: &str = env!("CARGO_BIN_EXE_chancery");

fn actions(daemon: &Daemon, run: &str) -> Vec<Value> {
    let list = daemon.get(&format!("/v1/runs/{run}/external-actions"));
    assert!(list["next_cursor"].is_null(), "{list}");
    list["items"].as_array().unwrap().clone()
}

fn verify(receipt: &Path, how: &[&str]) -> i32 {
    let mut command = Command::new(BINARY);
    // Nothing of the house is in the environment: the receipt is all there is.
    command.arg("verify").arg(receipt).args(how).env_clear().current_dir("/");
    command.output().unwrap().status.code().unwrap()
}

#[test]
fn every_action_of_a_run_has_receipts_that_verify_alone_also_when_the_state_root_was_moved() {
    let background = calls(&[("bash", json!({ "command": "echo later", "background": true }))]);
    let read = calls(&[("read_file", json!({ "path": "n" }))]);
    let house = House::playing(&[bash("echo now; exit 3"), background, read, says("done")]);
    std::fs::write(house.work("n"), "n").unwrap();
    let daemon = house.start();
    let run = daemon.run(&json!({ "permission_mode": "bypass-permissions" }));
    daemon.when(&run, "completed");
    let listed = eventually("end of the task", || {
        let listed = actions(&daemon, &run);
        listed.iter().all(|action| action["outcome"] != "pending").then_some(listed)
    });
    let told: Vec<String> = listed
        .iter()
        .map(|action| format!("{} {} {}", action["kind"], action["what"], action["outcome"]).replace('"', ""))
        .collect();
    let provider = "provider practice/rehearsal done";
    let expected =
        [provider, "shell bash failed", provider, "shell bash done", "background_task bash done", provider, provider];
    assert_eq!(told, expected);
    for action in &listed {
        assert!(action["outcome_seq"].as_u64() > action["intent_seq"].as_u64(), "{action}");
    }
    assert_eq!((&listed[0]["rehearsal"], &listed[1]["code"]), (&json!(true), &json!("tool.failed")));
    // Pages together are the list.
    let first = daemon.get(&format!("/v1/runs/{run}/external-actions?limit=4"));
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = daemon.get(&format!("/v1/runs/{run}/external-actions?limit=4&cursor={cursor}"));
    assert_eq!(
        [first["items"].as_array().unwrap().clone(), rest["items"].as_array().unwrap().clone()].concat(),
        listed
    );
    let folder = house.folder.path().join("receipts");
    let output = Command::new(BINARY)
        .args(["--url", &format!("http://{}", daemon.address), "--token", &daemon.token, "--output", "json"])
        .args(["runs", "external-actions", &run, "--receipts"])
        .arg(&folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let key = daemon.get("/v1/journal/head")["verifier_key"].as_str().unwrap().to_owned();
    daemon.stop();
    // The journal is gone from its place; its copy is another one's.
    let (state, moved) = (house.folder.path().join("state"), house.folder.path().join("moved"));
    assert!(Command::new("cp").arg("-a").arg(&state).arg(&moved).status().unwrap().success());
    std::fs::rename(&state, house.folder.path().join("gone")).unwrap();
    let receipts: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut seqs: Vec<&Value> =
        listed.iter().flat_map(|action| [&action["intent_seq"], &action["outcome_seq"]]).collect();
    seqs.sort_by_key(|seq| seq.as_u64());
    seqs.dedup();
    assert_eq!(receipts.len(), seqs.len());
    for receipt in &receipts {
        assert_eq!(verify(receipt, &["--key", &key]), 0, "{}", receipt.display());
        assert_eq!(verify(receipt, &["--state-root", moved.to_str().unwrap()]), 0, "{}", receipt.display());
        assert_eq!(verify(receipt, &[]), 3, "without a key it is only self-signed");
    }
    // One word of the line changed: found.
    let text = std::fs::read_to_string(&receipts[0]).unwrap();
    let forged = house.folder.path().join("forged.json");
    std::fs::write(&forged, text.replacen('2', "3", 1).replacen("run_", "ran_", 1)).unwrap();
    assert_ne!(verify(&forged, &["--key", &key]), 0);
    std::fs::rename(&moved, &state).unwrap();
    let daemon = house.start();
    assert_eq!(actions(&daemon, &run), listed, "the copy tells the same");
    daemon.stop();
}

#[test]
fn a_call_that_a_stop_of_the_daemon_cut_is_unknown() {
    let house = House::playing(&[crate::support::turn("{ wait_ms = 60000 }, { text = \"never\" }")]);
    let daemon = house.start();
    let run = daemon.run(&json!({}));
    let pending = eventually("request to the model", || actions(&daemon, &run).first().cloned());
    assert_eq!((&pending["outcome"], &pending["outcome_seq"]), (&json!("pending"), &Value::Null));
    daemon.kill();
    let daemon = house.start();
    let listed = eventually("second attempt", || Some(actions(&daemon, &run)).filter(|listed| listed.len() == 2));
    assert_eq!((&listed[0]["outcome"], &listed[1]["outcome"]), (&json!("unknown"), &json!("pending")));
    let (status, problem) =
        daemon.request(&daemon.token, "GET", "/v1/runs/run_01HF7YAT00000000000000R0N1/external-actions", "");
    assert_eq!((status, &problem["code"]), (404, &json!("run.not_found")));
    daemon.kill();
}

#[test]
fn debug_artefacts_are_kept_as_the_level_says_for_admins_only_and_expire() {
    let read = calls(&[("read_file", json!({ "path": "n" }))]);
    let house = House::playing(&[read, says("done")]);
    std::fs::write(house.work("n"), "the launch code is swordfish\n").unwrap();
    let daemon = house.start();
    let level = |level: &str| {
        let (status, view) = daemon.post("/v1/runtime/debug-level", &json!({ "level": level }));
        assert_eq!(status, 200, "{view}");
    };
    let warned = || {
        let status = daemon.get("/v1/status");
        status["health"]["warnings"].as_array().unwrap().iter().any(|one| one["code"] == "debug_full")
    };
    let ended = || {
        let run = daemon.run(&json!({}));
        daemon.when(&run, "completed");
        run
    };
    let artefacts = |run: &str| daemon.get(&format!("/v1/runs/{run}/debug"))["items"].as_array().unwrap().clone();
    let texts = |run: &str| -> Vec<String> {
        let path = |one: &Value| format!("/v1/runs/{run}/debug/artifacts/{}", one["artifact_id"].as_str().unwrap());
        artefacts(run).iter().map(|one| daemon.get(&path(one)).to_string()).collect()
    };
    assert!(artefacts(&ended()).is_empty());
    level("redacted");
    let redacted = ended();
    let kinds: Vec<String> = artefacts(&redacted).iter().map(|one| one["kind"].as_str().unwrap().to_owned()).collect();
    let turn = ["model_request", "model_answer"];
    assert_eq!(kinds, [&turn[..], &["tool_input", "tool_output"], &turn[..]].concat());
    for text in texts(&redacted) {
        assert!(!text.contains("swordfish") && !text.contains("please"), "{text}");
        assert!(text.contains("sha256"), "{text}");
    }
    assert!(!warned());
    level("full");
    let full = ended();
    assert!(warned() && texts(&full)[3].contains("swordfish") && texts(&full)[0].contains("please"));
    let path = format!("/v1/runs/{full}/debug");
    for path in [path.clone(), format!("{path}/artifacts/{}", artefacts(&full)[0]["artifact_id"].as_str().unwrap())] {
        assert_eq!(daemon.request(&daemon.readonly, "GET", &path, "").0, 403);
    }
    let (status, problem) = daemon.request(&daemon.token, "GET", &format!("{path}/artifacts/1-2-full-tool_input"), "");
    assert_eq!((status, &problem["code"]), (404, &json!("artifact.not_found")));
    level("off");
    assert!(artefacts(&ended()).is_empty() && !warned());
    assert_eq!(artefacts(&full).len(), 6, "what is kept stays until it expires");
    let folder = house.folder.path().join("state/debug");
    for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if let Some(rest) = name.strip_prefix(&format!("{full}-")) {
            let (at, rest) = rest.split_once('-').unwrap();
            let old = at.parse::<u64>().unwrap() - 24 * 60 * 60 * 1_000;
            std::fs::rename(entry.path(), folder.join(format!("{full}-{old}-{rest}"))).unwrap();
        }
    }
    assert!(artefacts(&full).is_empty(), "what has expired is not shown");
    let left = || std::fs::read_dir(&folder).unwrap().count();
    eventually("sweep", || (left() == 6).then_some(()));
    assert_eq!(artefacts(&redacted).len(), 6);
    daemon.stop();
}
