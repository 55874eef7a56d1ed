//! Lists of large things: pages are bounded in bytes, and nothing is missed between them.

use serde_json::{Value, json};

use super::{Daemon, House};

fn page(daemon: &Daemon, path: &str) -> (usize, Value) {
    let (status, body) = daemon.request(&daemon.token, "GET", path, "", "").unwrap();
    assert_eq!(status, 200, "{body}");
    (body.len(), serde_json::from_str(&body).unwrap())
}

#[test]
fn a_page_of_runs_with_long_words_ends_at_four_mebibytes_and_the_next_goes_on_behind_it() {
    const RUNS: usize = 200;
    const BYTES: usize = 500_000;
    let house = House::new();
    // The first waits for a person and the others for it: one that worked would read the words of all before it, and leave a
    // busy machine no time to answer.
    let daemon = house.rehearse("true");
    let session = daemon.create().unwrap();
    let start = |number: usize| daemon.start_run_in(&session, &format!("{number:0>9}{}", "w".repeat(BYTES - 9)));
    let mut made = vec![start(0)];
    daemon.wait_for(&made[0], "waiting_for_approval");
    made.extend((1..RUNS).map(start));

    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let (bytes, page) = page(&daemon, &format!("/v1/runs?limit=500{cursor}"));
        assert!(bytes < (4 << 20) + 1_024, "a page of {bytes} bytes");
        let items = page["items"].as_array().unwrap();
        assert!(!items.is_empty());
        listed.extend(items.iter().map(|run| {
            assert_eq!(run["input_items"][0]["text"].as_str().map(str::len), Some(BYTES), "words are whole");
            run["run_id"].as_str().unwrap().to_owned()
        }));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    listed.reverse();
    assert_eq!(listed, made);
    assert!(daemon.stop().success());
}

#[test]
fn a_page_has_one_entry_however_large_it_is() {
    let house = House::new();
    let daemon = house.start();
    let session = daemon.create().unwrap();
    // A control character is six bytes in JSON.
    let words = "\u{1}".repeat(150_000);
    let body = json!({ "content": words }).to_string();
    let runs: Vec<Value> =
        (0..6).map(|_| daemon.post(&format!("/v1/sessions/{session}/runs"), &body).unwrap().1).collect();
    let (_, first) = page(&daemon, "/v1/runs");
    assert_eq!(first["items"].as_array().unwrap().len(), 4, "four of 900 KB, the fifth passes 4 MiB");
    let next = first["next_cursor"].as_str().unwrap();
    let (_, rest) = page(&daemon, &format!("/v1/runs?cursor={next}"));
    let ids: Vec<&Value> = rest["items"].as_array().unwrap().iter().map(|run| &run["run_id"]).collect();
    assert_eq!(ids, [&runs[1]["run_id"], &runs[0]["run_id"]]);
    assert!(daemon.stop().success());
}

#[test]
fn words_of_a_refused_request_leave_no_file_and_those_of_an_accepted_one_do() {
    let house = House::new();
    let daemon = house.start();
    let session = daemon.create().unwrap();
    let files = || -> usize {
        let folders = std::fs::read_dir(house.state().join("artifacts/sha256")).unwrap();
        folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
    };
    let ask = |turns: u32| {
        let items: Vec<Value> =
            ["a", "b"].map(|letter| json!({ "kind": "text", "text": letter.repeat(100_000) })).into();
        let body = json!({ "input_items": items, "max_turns": turns }).to_string();
        daemon.post(&format!("/v1/sessions/{session}/runs"), &body).unwrap().0
    };
    assert_eq!((ask(501), files()), (422, 0));
    assert_eq!((ask(1), files()), (202, 2));
    assert_eq!((ask(501), files()), (422, 2), "a record names them");
    assert!(daemon.stop().success());
    assert_eq!(house.verify(&house.state()).0, 0);
}
