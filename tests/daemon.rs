//! The built binary as a stranger meets it: it starts from nothing, acknowledges only what is sealed, survives kill -9
//! under load, keeps others out, and what it wrote verifies offline until one byte is changed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    clippy::cast_possible_truncation,
    clippy::range_plus_one,
    clippy::case_sensitive_file_extension_comparisons,
    clippy::unused_self,
    reason = "a test may fail loudly and looks at the machine directly"
)]

#[path = "daemon/ending.rs"]
mod ending;
#[path = "daemon/handover.rs"]
mod handover;
#[path = "daemon/interface.rs"]
mod interface;
#[path = "daemon/lists.rs"]
mod lists;
#[path = "daemon/past.rs"]
mod past;
#[path = "daemon/repair.rs"]
mod repair;
#[path = "daemon/replies.rs"]
mod replies;
#[path = "daemon/routes.rs"]
mod routes;
#[path = "daemon/runtime.rs"]
mod runtime;
#[path = "daemon/secrets.rs"]
mod secrets;
#[path = "daemon/segments.rs"]
mod segments;
#[path = "daemon/streams.rs"]
mod streams;

mod stand;

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use stand::{BINARY, Daemon, House};

impl House {
    fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        self.serving(&mut command).stderr(Stdio::piped());
        command
    }

    fn start(&self) -> Daemon {
        self.launch(&mut Command::new(BINARY))
    }

    fn verify(&self, root: &Path) -> (i32, String) {
        let out = Command::new(BINARY).arg("verify").arg(root).output().unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
    }
}

impl Daemon {
    fn request(&self, token: &str, method: &str, path: &str, headers: &str, body: &str) -> Option<(u16, String)> {
        self.send(token, method, path, headers, body)
    }

    fn post(&self, path: &str, body: &str) -> Option<(u16, serde_json::Value)> {
        let (status, body) = self.request(&self.token, "POST", path, "", body)?;
        Some((status, serde_json::from_str(&body).ok()?))
    }

    fn get(&self, path: &str) -> (u16, serde_json::Value) {
        let (status, body) = self.request(&self.token, "GET", path, "", "").unwrap();
        (status, serde_json::from_str(&body).unwrap())
    }

    fn create(&self) -> Option<String> {
        let (status, view) = self.post("/v1/sessions", r#"{"title":"a session"}"#)?;
        assert_eq!(status, 201, "{view}");
        Some(view["session_id"].as_str()?.to_owned())
    }

    fn stop(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_session_is_there_at_once_after_a_restart_and_after_its_end() {
    let house = House::new();
    let daemon = house.start();
    let id = daemon.create().unwrap();
    let path = format!("/v1/sessions/{id}");
    assert_eq!(daemon.get(&path).0, 200);
    let began = Instant::now();
    assert!(daemon.stop().success());
    assert!(began.elapsed() < Duration::from_secs(5), "a drain with nothing to do is quick");
    let daemon = house.start();
    assert_eq!(daemon.get(&path).1["title"], "a session");
    assert_eq!(daemon.post(&format!("{path}/end"), "{}").unwrap().0, 200);
    daemon.kill();
    let daemon = house.start();
    let (status, view) = daemon.get(&path);
    assert_eq!((status, &view["status"]), (200, &serde_json::json!("ended")));
    assert_eq!(daemon.get("/v1/status").1["health"]["ok"], true);
    assert!(daemon.stop().success());
}

#[test]
fn after_kills_under_load_every_acknowledged_session_is_there_and_the_journal_verifies() {
    let house = House::new();
    let mut acknowledged = Vec::new();
    for round in 0..8 {
        let daemon = house.start();
        let made = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(id) = daemon.create() {
                        made.lock().unwrap().push(id);
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(60 + 17 * round));
            let pid = rustix::process::Pid::from_child(&daemon.child);
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        });
        daemon.kill();
        let made = made.into_inner().unwrap();
        assert!(!made.is_empty(), "round {round} acknowledged nothing");
        acknowledged.extend(made);
    }
    let daemon = house.start();
    for id in &acknowledged {
        assert_eq!(daemon.get(&format!("/v1/sessions/{id}")).0, 200, "{id} was acknowledged and is gone");
    }
    assert_eq!(daemon.get("/v1/sessions/session_01ARZ3NDEKTSV4RRFFQ69G5FAV").0, 404, "the control must be absent");
    assert!(daemon.stop().success());
    let (code, out) = house.verify(&house.state());
    assert_eq!(code, 0, "{out}");
}

#[test]
fn a_receipt_and_a_state_root_verify_and_one_changed_byte_is_named() {
    let house = House::new();
    let daemon = house.start();
    daemon.create().unwrap();
    let (_, head) = daemon.get("/v1/journal/head");
    let (_, events) = daemon.request(&daemon.token, "GET", "/v1/journal/records", "", "").unwrap();
    let line = events.lines().find(|line| line.contains("session.created")).expect("the record").to_owned();
    let record: serde_json::Value = serde_json::from_str(&line).unwrap();
    let (status, receipt) = daemon.get(&format!("/v1/journal/proof?seq={}", record["seq"]));
    assert_eq!((status, receipt["line"].as_str()), (200, Some(line.as_str())));
    assert_eq!(receipt["note"], head["note"]);
    assert_eq!(house.verify(&house.state()).0, 0, "a running state root is judged up to its newest seal");
    assert!(daemon.stop().success());
    let (code, out) = house.verify(&house.state());
    assert_eq!(code, 0, "{out}");
    let key = out.lines().find_map(|line| line.strip_prefix("pinned key: ")).unwrap().to_owned();
    let file = house.folder.path().join("receipt.json");
    let judge = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Command::new(BINARY).args(["verify", "--key", &key]).arg(&file).output().unwrap().status.code()
    };
    assert_eq!(judge(&receipt.to_string()), Some(0));
    assert_eq!(judge(&receipt.to_string().replace("a session", "b session")), Some(1));
    let segment = house.state().join("journal/00000000000000000000.jsonl");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(9).position(|window| window == b"a session").unwrap();
    bytes[at] = b'b';
    std::fs::write(&segment, bytes).unwrap();
    let (code, out) = house.verify(&house.state());
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("00000000000000000000.jsonl"), "{out}");
    let refused = house.command().output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("state_root.journal_corrupt"));
}

#[test]
fn a_second_daemon_on_the_same_state_root_is_refused_quickly() {
    let house = House::new();
    let daemon = house.start();
    let began = Instant::now();
    let second = house.command().output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("state_root.locked"));
    assert!(began.elapsed() < Duration::from_secs(3));
    assert!(daemon.create().is_some());
    assert!(daemon.stop().success());
}

#[test]
fn strangers_readers_and_repeats_get_what_the_interface_says() {
    let house = House::new();
    let daemon = house.start();
    let readonly = std::fs::read_to_string(house.state().join("tokens/readonly.token")).unwrap();
    let readonly = readonly.trim();
    let size = || daemon.get("/v1/journal/head").1["size"].as_u64().unwrap();
    let before = size();
    let ask = |token: &str, headers: &str, body: &str| {
        let (status, body) = daemon.request(token, "POST", "/v1/sessions", headers, body).unwrap();
        (status, serde_json::from_str::<serde_json::Value>(&body).unwrap())
    };
    for (token, status, code) in [("chy_nobody", 401, "auth.invalid"), (readonly, 403, "auth.read_only")] {
        let (found, problem) = ask(token, "", "{}");
        assert_eq!((found, problem["code"].as_str()), (status, Some(code)), "{problem}");
        assert!(problem["next"].is_string() && problem["surely_no_effect"] == true);
    }
    let (status, problem) = ask(&daemon.token, "", r#"{"colour":"red"}"#);
    assert_eq!((status, problem["code"].as_str()), (400, Some("request.malformed")));
    assert_eq!(ask(&daemon.token, "", "{").1["code"], "request.bad_json");
    assert_eq!(size(), before, "refusals leave no record");
    let key = "Idempotency-Key: one\r\n";
    let (first, again) = (ask(&daemon.token, key, "{}"), ask(&daemon.token, key, "{}"));
    assert_eq!((first.0, again.0), (201, 201));
    assert_eq!(first.1["session_id"], again.1["session_id"]);
    let (status, problem) = ask(&daemon.token, key, r#"{"title":"other"}"#);
    assert_eq!((status, problem["code"].as_str()), (409, Some("request.idempotency_mismatch")));
    daemon.kill();
    let daemon = house.start();
    let (status, body) = daemon.request(&daemon.token, "POST", "/v1/sessions", key, "{}").unwrap();
    assert_eq!(status, 201);
    assert!(body.contains(first.1["session_id"].as_str().unwrap()), "the repeat is known after a restart");
    assert!(daemon.stop().success());
}

/// A script that reads a file, runs one command, and then says that it is done.
fn script(command: &str) -> String {
    let input = serde_json::json!({ "command": command }).to_string();
    format!(
        "version = 1\n[[turns]]\nsteps = [{{ call = \"read_file\", input = {{ path = \"notes.txt\" }} }}]\n\
         [[turns]]\nsteps = [{{ call = \"bash\", input = '{input}' }}]\n[[turns]]\nsteps = [{{ text = \"done\" }}]\n"
    )
}

impl House {
    fn rehearse(&self, command: &str) -> Daemon {
        let folder = self.folder.path();
        std::fs::write(folder.join("work/notes.txt"), "the notes").unwrap();
        std::fs::write(folder.join("script.toml"), script(command)).unwrap();
        let routes = "version = 1\n[routes.practice]\ndriver = \"rehearsal\"\ndefault_model = \"rehearsal\"\nscript = \"script.toml\"\n";
        std::fs::write(folder.join("routes.toml"), routes).unwrap();
        self.start()
    }
}

impl Daemon {
    /// Waits until the run stands as wanted.
    fn wait_for(&self, run: &str, status: &str) -> serde_json::Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let (_, view) = self.get(&format!("/v1/runs/{run}"));
            if view["status"] == status {
                return view;
            }
            assert!(Instant::now() < deadline, "the run does not become {status}: {view}");
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    fn start_run(&self) -> String {
        let session = self.create().unwrap();
        let (status, run) = self.post(&format!("/v1/sessions/{session}/runs"), r#"{"content":"please"}"#).unwrap();
        assert_eq!(status, 202, "{run}");
        run["run_id"].as_str().unwrap().to_owned()
    }

    fn decide(&self, approval: &serde_json::Value, decision: &str) -> (u16, serde_json::Value) {
        let body = serde_json::json!({
            "decision": decision, "call_hash": approval["call_hash"], "card_hash": approval["card_hash"],
        });
        let id = approval["approval_id"].as_str().unwrap();
        self.post(&format!("/v1/approvals/{id}/decision"), &body.to_string()).unwrap()
    }

    fn pending(&self, run: &str) -> serde_json::Value {
        let view = self.wait_for(run, "waiting_for_approval");
        self.get(&format!("/v1/approvals/{}", view["approval_id"].as_str().unwrap())).1
    }

    fn journal(&self) -> String {
        self.request(&self.token, "GET", "/v1/journal/records", "", "").unwrap().1
    }
}

#[test]
fn a_run_waits_for_its_approval_across_a_kill_runs_exactly_what_was_shown_and_leaves_a_receipt() {
    let house = House::new();
    let daemon = house.rehearse("echo ran >> ran.txt; cat notes.txt");
    let run = daemon.start_run();
    let approval = daemon.pending(&run);
    assert!(approval["card"].as_str().unwrap().contains("echo ran >> ran.txt"), "{approval}");
    assert!(!house.folder.path().join("work/ran.txt").exists(), "nothing runs before it is allowed");
    daemon.kill();
    let daemon = house.start();
    let approval = daemon.pending(&run);
    let mut forged = approval.clone();
    forged["call_hash"] = "00".repeat(32).into();
    assert_eq!(daemon.decide(&forged, "allow").1["code"], "approval.call_changed");
    assert_eq!(daemon.decide(&approval, "allow").0, 200);
    let (status, again) = daemon.decide(&approval, "deny");
    assert_eq!((status, again["code"].as_str()), (409, Some("approval.already_decided")));
    let view = daemon.wait_for(&run, "completed");
    assert_eq!((view["output"].as_str(), view["rehearsal"].as_bool()), (Some("[rehearsal] done"), Some(true)));
    assert_eq!(std::fs::read_to_string(house.folder.path().join("work/ran.txt")).unwrap(), "ran\n");
    let decided = daemon.journal().lines().find(|line| line.contains("\"approval.decided\"")).unwrap().to_owned();
    let seq = serde_json::from_str::<serde_json::Value>(&decided).unwrap()["seq"].clone();
    assert_eq!(daemon.get(&format!("/v1/journal/proof?seq={seq}")).1["line"].as_str(), Some(decided.as_str()));
    assert!(daemon.stop().success());
    assert_eq!(house.verify(&house.state()).0, 0);
}

#[test]
fn an_approved_command_cannot_read_the_admin_token_or_the_signing_key() {
    let house = House::new();
    let state = house.state();
    let command = format!("cat {0}/tokens/admin.token; cat {0}/audit-signing.key | od -c; echo tried", state.display());
    let daemon = house.rehearse(&command);
    if daemon.get("/v1/status").1["sandbox"].as_str().is_none_or(|label| !label.contains("landlock")) {
        let skip = std::env::var_os("CHANCERY_TEST_NO_SANDBOX").is_some();
        assert!(skip, "this machine has no Landlock; CHANCERY_TEST_NO_SANDBOX=1 skips this test");
        eprintln!("skipped: an approved command against the secrets");
        return;
    }
    let run = daemon.start_run();
    let approval = daemon.pending(&run);
    assert_eq!(daemon.decide(&approval, "allow").0, 200);
    daemon.wait_for(&run, "completed");
    let lines = daemon.journal();
    let finished: Vec<&str> = lines.lines().filter(|line| line.contains("\"call.finished\"")).collect();
    assert!(finished.iter().any(|line| line.contains("tried")), "the command must have run: {finished:?}");
    assert!(!lines.contains(&daemon.token), "the token must not be readable");
    assert!(finished.iter().any(|line| line.contains("ermission denied") || line.contains("No such file")));
    assert!(daemon.stop().success());
}

#[test]
fn quickstart_ends_with_an_approved_call_a_verified_receipt_and_a_copy_that_does_not_verify() {
    let temporary = tempfile::tempdir().unwrap();
    let out = Command::new(BINARY).arg("quickstart").env("TMPDIR", temporary.path()).stdin(Stdio::null()).output();
    let out = out.unwrap();
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{told}{}", String::from_utf8_lossy(&out.stderr));
    for words in ["approved", "The approved call ran", "receipt of the approval is verified", "it is invalid"] {
        assert!(told.contains(words), "{words:?} is missing in {told}");
    }
    let kept = std::fs::read_dir(temporary.path()).unwrap().next().unwrap().unwrap().path();
    let verdict = |root: &str| Command::new(BINARY).arg("verify").arg(kept.join(root)).output().unwrap().status.code();
    assert_eq!((verdict("state"), verdict("copy")), (Some(0), Some(1)));
}

#[test]
fn client_verbs_find_the_daemon_and_tell_codes_and_exit_codes() {
    let house = House::new();
    let client = |words: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(words).arg("--state-root").arg(house.state());
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    assert_eq!(client(&["status"]).0, Some(3), "without a daemon");
    let daemon = house.start();
    assert_eq!(client(&["status"]).0, Some(0));
    let (code, session, _) = client(&["sessions", "create", "--title", "by hand", "--output", "json"]);
    assert_eq!(code, Some(0));
    let session: serde_json::Value = serde_json::from_str(&session).unwrap();
    assert_eq!(client(&["sessions", "get", session["session_id"].as_str().unwrap()]).0, Some(0));
    let (code, _, told) = client(&["sessions", "get", "session_01ARZ3NDEKTSV4RRFFQ69G5FAV"]);
    assert!(code == Some(1) && told.contains("session.not_found") && told.contains("next:"), "{told}");
    assert_eq!(client(&["sessions", "dance"]).0, Some(2));
    assert!(daemon.stop().success());
}
