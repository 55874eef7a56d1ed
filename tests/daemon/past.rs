//! `?at=`: how things stood, from the binary, beside how they stand.

use serde_json::Value;

use super::{Daemon, House};

const SCRIPT: &str = "version = 1\n[[turns]]\nsteps = [{ text = \"done\" }]\n";

impl Daemon {
    /// An answer, and the record as of which it is.
    fn as_of(&self, path: &str) -> (Option<u64>, Value) {
        let answer = self.answer(&self.token, "GET", path, "", "").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let seq = head.lines().find_map(|line| line.strip_prefix("chancery-as-of: ")).map(|seq| seq.parse().unwrap());
        (seq, serde_json::from_str(body).unwrap())
    }

    /// Sequence number of the newest line, and the tree that is sealed there.
    fn here(&self) -> (u64, Value) {
        let head = self.get("/v1/journal/head").1;
        (head["seq"].as_u64().unwrap(), head)
    }

    fn refused(&self, path: &str) -> (u16, String) {
        let (status, problem) = self.get(path);
        (status, problem["code"].as_str().unwrap_or_else(|| panic!("{path}: {problem}")).to_owned())
    }
}

#[test]
fn views_lists_runtime_and_status_are_shown_as_they_were() {
    let house = House::new();
    let daemon = house.rehearse_script(SCRIPT);
    let (before, _) = daemon.here();
    let session = daemon.create().unwrap();
    let (then, sealed) = daemon.here();
    let fresh = daemon.get(&format!("/v1/sessions/{session}")).1;
    let run = daemon.start_run_in(&session, "please");
    daemon.wait_for(&run, "completed");
    let queued = daemon.get(&format!("/v1/runs/{run}/events")).1["items"][0].clone();
    let (queued, queued_ms) = (queued["seq"].as_u64().unwrap(), queued["at_ms"].as_u64().unwrap());
    assert_eq!(daemon.post("/v1/runtime/permission-mode", r#"{"mode":"plan"}"#).unwrap().0, 200);
    let other = daemon.create().unwrap();

    assert_eq!(daemon.as_of(&format!("/v1/sessions/{session}?at={then}")), (Some(then), fresh.clone()));
    assert_ne!(
        daemon.as_of(&format!("/v1/sessions/{session}")),
        (None, fresh.clone()),
        "the control: now it is not so"
    );
    assert_eq!(daemon.as_of(&format!("/v1/sessions?at={then}")).1["items"], Value::from(vec![fresh]));
    assert_eq!(daemon.as_of(&format!("/v1/runs?at={then}")).1["items"], Value::from(Vec::<Value>::new()));
    assert_eq!(daemon.as_of(&format!("/v1/sessions/{session}/runs?at={then}")).1["items"].as_array().unwrap().len(), 0);
    assert_eq!(daemon.refused(&format!("/v1/sessions/{session}?at={before}")), (404, "session.not_found".to_owned()));
    assert_eq!(daemon.refused(&format!("/v1/runs/{run}?at={then}")), (404, "run.not_found".to_owned()));
    let (seq, view) = daemon.as_of(&format!("/v1/runs/{run}?at={queued}"));
    assert_eq!((seq, view["status"].as_str(), view["output"].as_str()), (Some(queued), Some("queued"), None));
    assert_eq!(view["input_items"][0]["text"], "please");
    let (seq, view) = daemon.as_of(&format!("/v1/runs/{run}?at={queued_ms}"));
    assert!(seq >= Some(queued) && view["run_id"] == run.as_str(), "{seq:?} {view}");
    let (_, runtime) = daemon.as_of(&format!("/v1/runtime?at={then}"));
    assert_eq!((runtime["revision"].as_u64(), runtime["permission_mode"].as_str()), (Some(0), Some("default")));

    let (seq, status) = daemon.as_of(&format!("/v1/status?at={then}"));
    assert_eq!((seq, status["runs"]["completed"].as_u64()), (Some(then), Some(0)));
    assert_eq!(status["runtime"]["permission_mode"], "default");
    for name in ["size", "root", "key_id"] {
        assert_eq!(status["journal"][name], sealed[name], "{name}");
    }
    let parts: Vec<&String> = status.as_object().unwrap().keys().collect();
    assert_eq!(parts, ["journal", "runs", "runtime"], "what is not folded is not pretended");

    let (now, _) = daemon.here();
    for path in
        ["/v1/sessions".to_owned(), "/v1/runs".to_owned(), format!("/v1/sessions/{other}"), "/v1/runtime".to_owned()]
    {
        assert_eq!(daemon.as_of(&format!("{path}?at={now}")), (Some(now), daemon.get(&path).1), "{path}");
    }
    assert!(daemon.stop().success());
    let daemon = house.start();
    assert_eq!(daemon.as_of(&format!("/v1/sessions?at={then}&limit=1")).0, Some(then), "also after a restart");
    assert!(daemon.stop().success());
}

#[test]
fn a_moment_that_has_not_come_or_is_none_is_refused_on_every_route_and_elsewhere_at_is_unknown() {
    let house = House::new();
    let daemon = house.start();
    let session = daemon.create().unwrap();
    let (head, _) = daemon.here();
    for path in [
        "/v1/status".to_owned(),
        "/v1/runs".to_owned(),
        "/v1/runs/run_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
        "/v1/sessions".to_owned(),
        format!("/v1/sessions/{session}"),
        format!("/v1/sessions/{session}/runs"),
        "/v1/runtime".to_owned(),
    ] {
        let far = head + 1_000;
        for ahead in [far.to_string(), "9999-01-01T00:00:00Z".to_owned(), "99999999999999".to_owned()] {
            let found = daemon.refused(&format!("{path}?at={ahead}"));
            assert_eq!(found, (409, "cursor.ahead".to_owned()), "{path}?at={ahead}");
        }
        for nonsense in ["", "now", "-1", "1.5", "2026-02-30T00:00:00Z", "2026-01-01", "18446744073709551616"] {
            let found = daemon.refused(&format!("{path}?at={nonsense}"));
            assert_eq!(found, (400, "request.malformed".to_owned()), "{path}?at={nonsense}");
        }
        let ancient = daemon.refused(&format!("{path}?at=2001-09-10T00:00:00Z"));
        assert_eq!(ancient, (422, "request.invalid".to_owned()), "{path}");
    }
    for path in ["/v1/approvals", "/v1/questions", "/v1/tasks", "/v1/journal/head"] {
        assert_eq!(daemon.refused(&format!("{path}?at=1")), (400, "request.malformed".to_owned()), "{path}");
    }
    let readonly = house.readonly();
    let (status, _) = daemon.request(&readonly, "GET", &format!("/v1/status?at={head}"), "", "").unwrap();
    assert_eq!(status, 200);
    assert!(daemon.stop().success());
}
