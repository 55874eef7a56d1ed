//! Segments that vanish under a running daemon.

use super::House;

#[test]
fn a_daemon_whose_segment_was_removed_or_emptied_acknowledges_nothing_more_and_says_so() {
    for emptied in [false, true] {
        let house = House::new();
        let daemon = house.start();
        daemon.create().unwrap();
        let segment = house.state().join("journal/00000000000000000000.jsonl");
        if emptied {
            std::fs::File::options().write(true).open(&segment).unwrap().set_len(0).unwrap();
        } else {
            std::fs::remove_file(&segment).unwrap();
        }
        for _ in 0..2 {
            let (status, problem) = daemon.post("/v1/sessions", r#"{"title":"into nothing"}"#).unwrap();
            assert_eq!((status, &problem["code"]), (503, &"storage.journal_unavailable".into()), "{problem}");
        }
        let (status, ready) = daemon.request("", "GET", "/readyz", "", "").unwrap();
        assert_eq!(status, 503, "{ready}");
        let (_, status) = daemon.get("/v1/status");
        let why = if emptied { "the file was cut" } else { "the file was removed" };
        assert!(status.to_string().contains(why), "{status}");
        daemon.kill();
    }
}
