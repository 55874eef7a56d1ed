//! The signing key is handed over while others write; then the daemon is killed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{Daemon, House};

/// What the verifier in plain Python says: its exit code and its words. Where Python lacks what it needs, nothing, aloud;
/// in continuous integration that is a failure.
fn python(arguments: &[&str]) -> Option<(i32, String)> {
    let able =
        Command::new("python3").args(["-c", "import cryptography"]).output().is_ok_and(|out| out.status.success());
    if !able {
        assert!(std::env::var_os("CI").is_none(), "python3 with the package cryptography is needed");
        let words = "skipped: the second verifier needs python3 with the package cryptography";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), words.as_bytes());
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/verify_journal.py");
    let out = Command::new("python3").arg(script).args(arguments).output().unwrap();
    let words = [out.stdout, out.stderr].concat();
    Some((out.status.code().unwrap(), String::from_utf8_lossy(&words).into_owned()))
}

impl House {
    /// Both verifiers must say the same of the state root.
    pub(super) fn assert_verdict(&self, wanted: i32) {
        let root = self.state();
        let (code, words) = self.verify(&root);
        assert_eq!(code, wanted, "{words}");
        if let Some((code, words)) = python(&[root.to_str().unwrap()]) {
            assert_eq!(code, wanted, "{words}");
        }
    }
}

impl Daemon {
    pub(super) fn rotate(&self) -> Option<Value> {
        let (status, view) = self.post("/v1/journal/rotate-key", "")?;
        assert_eq!(status, 200, "{view}");
        Some(view)
    }
}

#[test]
fn a_key_handed_over_under_load_survives_a_kill_and_the_journal_verifies_from_the_pin() {
    let house = House::new();
    let (mut acknowledged, mut handed) = (Vec::new(), Vec::new());
    let mut key = String::new();
    for round in 0..4 {
        let daemon = house.start();
        if round == 0 {
            key = daemon.get("/v1/journal/head").1["verifier_key"].as_str().unwrap().to_owned();
        }
        let made = std::sync::Mutex::new((Vec::new(), Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while let Some(id) = daemon.create() {
                        made.lock().unwrap().0.push(id);
                    }
                });
            }
            scope.spawn(|| {
                while let Some(view) = daemon.rotate() {
                    made.lock().unwrap().1.push(view);
                }
            });
            std::thread::sleep(Duration::from_millis(150 + 31 * round));
            let pid = rustix::process::Pid::from_child(&daemon.child);
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        });
        daemon.kill();
        let (ids, views) = made.into_inner().unwrap();
        assert!(!ids.is_empty() && !views.is_empty(), "round {round}: {} {}", ids.len(), views.len());
        acknowledged.extend(ids);
        handed.extend(views);
    }
    let daemon = house.start();
    for id in &acknowledged {
        assert_eq!(daemon.get(&format!("/v1/sessions/{id}")).0, 200, "{id} was acknowledged and is gone");
    }
    let (_, head) = daemon.get("/v1/journal/head");
    assert_ne!(head["verifier_key"], key.as_str());
    let first = &handed[0];
    let receipt =
        daemon.get(&format!("/v1/journal/proof?seq={}&size={}", first["seq"], first["seq"].as_u64().unwrap() + 1)).1;
    let record: Value = serde_json::from_str(receipt["line"].as_str().unwrap()).unwrap();
    assert_eq!((&record["kind"], &record["actor"]["id"]), (&"journal.key_changed".into(), &"admin".into()), "{record}");
    assert_eq!(record["data"]["new_key_id"], first["new_key_id"]);
    assert!(!house.state().join("audit-signing.key.next").exists());
    assert!(daemon.stop().success());
    house.assert_verdict(0);
    let file = house.folder.path().join("receipt.json");
    std::fs::write(&file, receipt.to_string()).unwrap();
    let (file, next) = (file.to_str().unwrap(), first["verifier_key"].as_str().unwrap());
    for key in [&key, next] {
        assert_ne!(
            python(&[file, "--key", key]).map(|said| said.0 == 0),
            Some(false),
            "the seal bears both signatures"
        );
        let out = Command::new(super::BINARY).args(["verify", "--key", key, file]).output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stdout));
    }
    let path = house.state().join("state-root.json");
    let good = std::fs::read(&path).unwrap();
    let mut root: Value = serde_json::from_slice(&good).unwrap();
    let keys = root["keys"].as_array().unwrap().len();
    assert!(keys > handed.len(), "{keys} keys after {} handovers", handed.len());
    root["keys"][1]["public_key"] = root["keys"][0]["public_key"].clone();
    std::fs::write(&path, root.to_string()).unwrap();
    house.assert_verdict(1);
    assert!(String::from_utf8_lossy(&house.command().output().unwrap().stderr).contains("state_root.journal_corrupt"));
    std::fs::write(&path, good).unwrap();
    assert!(house.start().stop().success());
}

#[test]
fn a_repeated_order_to_rotate_is_done_once_and_a_read_only_token_may_not_give_it() {
    let house = House::new();
    let daemon = house.start();
    let readonly = std::fs::read_to_string(house.state().join("tokens/readonly.token")).unwrap();
    let ask = |token: &str| {
        let (status, body) =
            daemon.request(token, "POST", "/v1/journal/rotate-key", "Idempotency-Key: once\r\n", "").unwrap();
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    let refused = ask(readonly.trim());
    assert_eq!((refused.0, &refused.1["code"]), (403, &"auth.read_only".into()));
    let (first, again) = (ask(&daemon.token), ask(&daemon.token));
    assert_eq!(first.0, 200, "{}", first.1);
    assert_eq!(first, again);
    let root = std::fs::read_to_string(house.state().join("state-root.json")).unwrap();
    let root: Value = serde_json::from_str(&root).unwrap();
    assert_eq!(root["keys"].as_array().unwrap().len(), 2);
    assert!(daemon.stop().success());
    house.assert_verdict(0);
}

#[test]
fn a_receipt_verifies_with_the_key_of_its_time_by_the_walk_from_the_pin_and_verify_tells_the_walk() {
    let house = House::new();
    let state = house.state();
    let state = state.to_str().unwrap();
    let daemon = house.start();
    let id = daemon.create().unwrap();
    let ask = |arguments: &[&str]| {
        let home = house.folder.path();
        let out = Command::new(super::BINARY).args(arguments).env("HOME", home).env_remove("XDG_STATE_HOME").output();
        let out = out.unwrap();
        (out.status.code().unwrap(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let files: Vec<String> =
        ["old.json", "new.json"].iter().map(|name| house.folder.path().join(name).display().to_string()).collect();
    let mut heads = Vec::new();
    for (round, file) in files.iter().enumerate() {
        if round > 0 {
            heads.push(daemon.rotate().unwrap());
            // The seal of the handover bears both signatures; the one behind it only the new key's.
            daemon.create().unwrap();
        }
        let (code, receipt) = ask(&["--state-root", state, "receipt", &id]);
        assert_eq!(code, 0, "{receipt}");
        std::fs::write(file, receipt).unwrap();
    }
    let (pin, new) = {
        let root: Value =
            serde_json::from_slice(&std::fs::read(house.state().join("state-root.json")).unwrap()).unwrap();
        let (_, told) = ask(&["--output", "json", "verify", state]);
        let told: Value = serde_json::from_str(&told).unwrap();
        let keys = told["keys"].as_array().unwrap();
        let froms: Vec<_> = keys.iter().map(|key| (&key["epoch"], &key["from_seq"])).collect();
        let wanted: Vec<_> =
            root["keys"].as_array().unwrap().iter().map(|key| (&key["epoch"], &key["from_seq"])).collect();
        assert_eq!(froms, wanted, "{told}");
        let seals: Vec<u64> = keys.iter().map(|key| key["seals"].as_u64().unwrap()).collect();
        assert!(seals[0] > 0 && seals[1] == 2 && seals.iter().sum::<u64>() == told["seals"], "{told}");
        assert_eq!((&keys[0]["verifier_key"], &keys[1]["key_id"]), (&told["key"], &heads[0]["new_key_id"]), "{told}");
        (keys[0]["verifier_key"].as_str().unwrap().to_owned(), keys[1]["verifier_key"].as_str().unwrap().to_owned())
    };
    assert!(daemon.stop().success());
    let (_, words) = ask(&["verify", state]);
    let walk: Vec<&str> = words.lines().skip_while(|line| !line.starts_with("epoch_")).collect();
    assert!(walk.len() == 3 && walk[0].ends_with(", from sequence number 0"), "{words}");
    assert!(walk[1].ends_with(&pin) && walk[2].ends_with(&new), "{words}");
    let other = House::new();
    let stranger = other.start();
    let (old, next, elsewhere) = (files[0].as_str(), files[1].as_str(), other.state().display().to_string());
    for (arguments, wanted) in [
        (&[old][..], 3),
        (&[old, "--key", &pin], 0),
        (&[old, "--key", &new], 1),
        (&[next, "--key", &pin], 1),
        (&[old, "--state-root", state], 0),
        (&[next, "--state-root", state], 0),
        (&[next, "--key", &pin, "--state-root", state], 0),
        // The key that is given is not that state root's pin, so that the state root has no say.
        (&[old, "--key", &new, "--state-root", state], 1),
        (&[old, "--state-root", &elsewhere], 3),
    ] {
        let (code, words) = ask(&[&["verify"], arguments].concat());
        assert_eq!(code, wanted, "{arguments:?}: {words}");
        if let Some((code, words)) = python(arguments) {
            assert_eq!(code, wanted, "python {arguments:?}: {words}");
        }
    }
    // Nobody but the key of its time signs: not even the newest key signs an older tree.
    let path = house.state().join("state-root.json");
    let mut root: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    root["keys"].as_array_mut().unwrap().pop();
    std::fs::write(&path, root.to_string()).unwrap();
    assert_eq!(ask(&["verify", old, "--state-root", state]).0, 0);
    assert_eq!(ask(&["verify", next, "--state-root", state]).0, 1, "a key that the state root does not name");
    assert!(stranger.stop().success());
}
