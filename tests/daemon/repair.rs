//! A state root that refuses to start is repaired by hand.

use std::process::Command;

use serde_json::Value;

use super::{BINARY, House};

impl House {
    fn repair(&self, further: &[&str]) -> (i32, Value) {
        let mut command = Command::new(BINARY);
        command.arg("--state-root").arg(self.state()).args(["--output", "json", "journal", "repair"]).args(further);
        let out = command.output().unwrap();
        (out.status.code().unwrap(), serde_json::from_slice(&out.stdout).unwrap_or_default())
    }
}

#[test]
fn a_repair_of_hundreds_of_files_needs_few_descriptors() {
    let house = House::new();
    assert!(house.start().stop().success());
    for number in 0..300 {
        std::fs::write(house.state().join(format!("journal/stray-{number}")), "stray").unwrap();
    }
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", BINARY, "--output", "json", "--state-root"]);
    let out = command.arg(house.state()).args(["journal", "repair", "--accept-loss", "0"]).output().unwrap();
    let done: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    assert_eq!((out.status.code(), &done["outcome"]), (Some(0), &"repaired".into()), "{done}");
    house.assert_verdict(0);
}

#[test]
fn a_state_root_that_refuses_to_start_serves_again_after_a_repair_and_both_verifiers_agree() {
    let house = House::new();
    let daemon = house.start();
    let kept = daemon.create().unwrap();
    daemon.rotate().unwrap();
    let lost = daemon.create().unwrap();
    daemon.create().unwrap();
    assert_eq!(house.repair(&[]).0, 1, "a daemon holds the state root");
    assert!(daemon.stop().success());
    assert_eq!(house.repair(&["--accept-loss", "0"]), (0, serde_json::json!({ "outcome": "not_needed" })));
    let segment = house.state().join("journal/00000000000000000000.jsonl");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(lost.len()).position(|window| window == lost.as_bytes()).unwrap();
    bytes[at + 20] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    assert!(!house.command().output().unwrap().status.success());
    house.assert_verdict(1);
    let (code, would) = house.repair(&[]);
    let count = would["lost"].as_u64().unwrap();
    assert!(code == 1 && would["outcome"] == "would_lose" && count > 4, "{would}");
    assert_eq!(std::fs::read(&segment).unwrap(), bytes, "nothing was done");
    let (code, again) = house.repair(&["--accept-loss", &(count - 1).to_string()]);
    assert_eq!(
        (code, &again["outcome"], &again["repaired"]["files"]),
        (1, &would["outcome"], &would["repaired"]["files"])
    );
    let (code, done) = house.repair(&["--accept-loss", &count.to_string()]);
    assert_eq!((code, &done["outcome"], done["lost"].as_u64()), (0, &"repaired".into(), Some(count)), "{done}");
    house.assert_verdict(0);
    let daemon = house.start();
    assert_eq!(daemon.get(&format!("/v1/sessions/{kept}")).0, 200);
    assert_eq!(daemon.get(&format!("/v1/sessions/{lost}")).0, 404);
    assert!(daemon.create().is_some() && daemon.rotate().is_some());
    let record = daemon.journal().lines().find(|line| line.contains("journal.repaired")).unwrap().to_owned();
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["data"], done["repaired"]);
    assert_eq!(
        record["data"]["lost_to_seq"].as_u64().unwrap() + 1,
        record["data"]["lost_from_seq"].as_u64().unwrap() + count
    );
    assert!(daemon.stop().success());
    house.assert_verdict(0);
    let (_, words) = house.verify(&house.state());
    let walk: Vec<_> = words.lines().map(|line| line.split([' ', '_']).find(|word| !word.is_empty())).collect();
    let walk: Vec<_> = walk.into_iter().flatten().skip_while(|word| *word != "epoch").collect();
    assert_eq!(walk, ["epoch", "key", "key", "epoch", "key", "key"], "a handover in each epoch: {words}");
}
