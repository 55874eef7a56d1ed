//! The verbs as people and scripts meet them: what they print, where, and how they end, against a real daemon.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    reason = "a test may fail loudly and looks at the machine directly"
)]

#[path = "cli/looking.rs"]
mod looking;
#[path = "cli/naming.rs"]
mod naming;
#[path = "cli/terminal.rs"]
mod terminal;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_chancery");
const SCRIPT: &str = r#"version = 1
[[turns]]
steps = [{ text = "I look first." }, { call = "read_file", input = { path = "notes.txt" } }]
[[turns]]
steps = [{ text = "Now I count." }, { call = "bash", input = { command = "wc -w notes.txt" } }]
[[turns]]
steps = [{ text = "Two words, I believe." }]
"#;
const ASKING: &str = r#"version = 1
[[turns]]
steps = [{ call = "ask_user_question", input = { question = "Which colour?", options = [{ id = "red", label = "Red" }, { id = "blue", label = "Blue" }] } }]
[[turns]]
steps = [{ text = "So be it." }]
"#;
const CUT: &str = r#"version = 1
[[turns]]
steps = [{ text = "Half of" }, { stop = "max_tokens" }]
"#;
const ROUTES: &str = r#"version = 1
default_route = "working"
[routes.working]
driver = "rehearsal"
default_model = "rehearsal"
script = "script.toml"
[routes.asking]
driver = "rehearsal"
default_model = "rehearsal"
script = "asking.toml"
[routes.cut]
driver = "rehearsal"
default_model = "rehearsal"
script = "cut.toml"
"#;

/// What a command left.
struct Left {
    code: i32,
    out: String,
    err: String,
}

impl Left {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {} {}", self.out, self.err))
    }
}

/// A state root, a daemon on it, and a user's own folders.
struct House {
    folder: tempfile::TempDir,
    daemon: Mutex<Option<Child>>,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in ["work", "user"] {
            std::fs::create_dir(path.join(name)).unwrap();
        }
        std::fs::write(path.join("work/notes.txt"), "two words\n").unwrap();
        std::fs::write(path.join("script.toml"), SCRIPT).unwrap();
        std::fs::write(path.join("asking.toml"), ASKING).unwrap();
        std::fs::write(path.join("cut.toml"), CUT).unwrap();
        std::fs::write(path.join("routes.toml"), ROUTES).unwrap();
        let house = Self { folder, daemon: Mutex::new(None) };
        house.start();
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self) {
        self.start_with(&[]);
    }

    fn start_with(&self, flags: &[&str]) {
        let mut command = Command::new(BINARY);
        command.args(["serve", "--bind", "127.0.0.1:0"]);
        command.args(["--http-cors-allow-origin", "http://localhost:5173"]);
        command.arg("--state-root").arg(self.path("state")).arg("--workspace-root").arg(self.path("work"));
        command.arg("--routes-file").arg(self.path("routes.toml")).args(flags);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(child.try_wait().unwrap().is_none(), "the daemon ended instead of serving");
            assert!(Instant::now() < deadline, "the daemon does not serve");
            let text = std::fs::read_to_string(self.path("state/daemon.json")).unwrap_or_default();
            let said: Value = serde_json::from_str(&text).unwrap_or_default();
            if said["pid"] == child.id() {
                *self.daemon.lock().unwrap() = Some(child);
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(&self) {
        if let Some(mut child) = self.daemon.lock().unwrap().take() {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            child.wait().unwrap();
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("XDG_STATE_HOME", self.path("user")).env("CHANCERY_STATE_ROOT", self.path("state"));
        command.env("TMPDIR", self.folder.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Left {
        left(&mut self.command(arguments))
    }

    /// Runs a verb that must succeed and gives its answer.
    fn ask(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.extend(["--output", "json"]);
        let left = self.run(&all);
        assert_eq!(left.code, 0, "{arguments:?}: {}", left.err);
        left.json()
    }

    fn session(&self, title: &str) -> String {
        self.ask(&["sessions", "create", "--title", title])["session_id"].as_str().unwrap().to_owned()
    }

    fn wait_for(&self, run: &str, status: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let view = self.ask(&["runs", "get", run]);
            if view["status"] == status {
                return view;
            }
            assert!(Instant::now() < deadline, "the run does not become {status}: {view}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn start_run(&self, session: &str, more: &[&str]) -> String {
        let mut arguments = vec!["runs", "start", session, "please"];
        arguments.extend(more);
        self.ask(&arguments)["run_id"].as_str().unwrap().to_owned()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop();
    }
}

fn left(command: &mut Command) -> Left {
    let out = command.output().unwrap();
    Left {
        code: out.status.code().unwrap_or(-1),
        out: String::from_utf8(out.stdout).unwrap(),
        err: String::from_utf8(out.stderr).unwrap(),
    }
}

/// The daemon that tests share; it ends with the last of them.
fn shared() -> Arc<House> {
    static SHARED: Mutex<Weak<House>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let house = Arc::new(House::new());
        *shared = Arc::downgrade(&house);
        house
    })
}

#[test]
fn sessions_are_cards_and_tables_for_people_and_answers_as_they_came_for_scripts() {
    let house = shared();
    let made = house.run(&["sessions", "create", "--title", "a \u{1b}[31mred\u{202e} title"]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(made.out.contains("title") && made.out.contains("a \\u{1b}[31mred\\u{202e} title"), "{}", made.out);
    assert!(!made.out.contains('\u{1b}'), "nothing reaches the terminal as it came");
    let id = made.out.lines().find_map(|line| line.strip_prefix("session ")).unwrap().trim().to_owned();
    let view = house.ask(&["sessions", "get", &id]);
    assert_eq!(
        (view["session_id"].as_str(), view["title"].as_str()),
        (Some(id.as_str()), Some("a \u{1b}[31mred\u{202e} title"))
    );
    let list = house.run(&["sessions", "list"]);
    assert!(list.code == 0 && list.out.starts_with("SESSION") && list.out.contains(&id), "{}", list.out);
    let one = house.ask(&["sessions", "list", "--limit", "1"]);
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
    assert_eq!(house.ask(&["sessions", "interrupt", &id, "--reason", "a pause"])["status"], "idle");
    assert_eq!(house.ask(&["sessions", "end", &id])["status"], "ended");
    let missing = house.run(&["sessions", "get", "../status"]);
    assert_eq!((missing.code, missing.out.as_str()), (1, ""));
    assert!(missing.err.contains("request.malformed: ") && missing.err.contains("\nnext: "), "{}", missing.err);
}

#[test]
fn a_run_is_followed_by_its_words_decided_elsewhere_and_ends_the_command_with_its_outcome() {
    let house = shared();
    let session = house.session("followed");
    let mut follow = house.command(&["runs", "start", &session, "count", "--follow"]);
    let mut child = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(command) = line.strip_prefix("To decide: chancery ") {
            let id = command.split_whitespace().nth(2).unwrap().to_owned();
            let pending = house.run(&["approvals", "list", "--pending"]);
            assert!(pending.out.contains(&id) && pending.out.contains("bash"), "{}", pending.out);
            let allowed = house.run(&["approvals", "allow", &id, "--reason", "harmless"]);
            assert_eq!(allowed.code, 0, "{}", allowed.err);
            assert!(allowed.err.contains("wc -w notes.txt"), "the card is shown: {}", allowed.err);
        }
        said.push(line);
    }
    let out = child.wait_with_output().unwrap();
    let said = said.join("\n");
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert_eq!(
        String::from_utf8(out.stdout).unwrap(),
        "[rehearsal] I look first.\n[rehearsal] Now I count.\n[rehearsal] Two words, I believe.\n"
    );
    for part in
        ["-> read_file {", "-> bash {", "The run asks to make this call:", "exit code 0", "approval.decided by "]
    {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    let run = house.ask(&["runs", "list", "--limit", "100"])["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|run| run["session_id"] == session.as_str())
        .unwrap()["run_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let again = house.run(&["runs", "follow", &run, "--output", "json"]);
    assert_eq!(again.code, 0, "a run that ended is followed from its beginning: {}", again.err);
    let kinds: Vec<String> = again
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds.first().map(String::as_str), Some("run.queued"));
    assert_eq!(kinds.last().map(String::as_str), Some("run.completed"));
    let events = house.run(&["runs", "events", &run]);
    assert!(events.out.contains("approval.decided") && events.out.contains(&format!("run/{run}")), "{}", events.out);
    let of_session = house.ask(&["sessions", "events", &session]);
    assert_eq!(of_session["items"][0]["kind"], "session.created");
    let receipts = [&session, &run].map(|id| house.run(&["receipt", id]).json());
    let kinds = receipts
        .map(|receipt| serde_json::from_str::<Value>(receipt["line"].as_str().unwrap()).unwrap()["kind"].clone());
    assert_eq!(kinds, ["session.created", "run.completed"]);
}

#[test]
fn an_answer_that_was_cut_says_so() {
    let house = shared();
    let session = house.session("cut");
    let run = house.start_run(&session, &["--route", "cut"]);
    assert_eq!(house.wait_for(&run, "completed")["stop"], "max_tokens");
    let why = "the model reached its limit of tokens, so its answer is cut";
    let shown = house.run(&["runs", "get", &run]);
    assert!(shown.out.contains(&format!("ended early      {why}")), "{}", shown.out);
    let followed = house.run(&["runs", "follow", &run]);
    assert!(followed.code == 0 && followed.err.ends_with(&format!("completed\n{why}\n")), "{}", followed.err);
}

#[test]
fn following_a_cancelled_run_fails_and_ctrl_c_leaves_a_run_running() {
    let house = shared();
    let session = house.session("cancelled");
    let run = house.start_run(&session, &[]);
    house.wait_for(&run, "waiting_for_approval");
    let mut child =
        house.command(&["runs", "follow", &run]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().starts_with("To decide") {}
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(rest.join("\n").contains("The run goes on."), "{rest:?}");
    assert_eq!(house.ask(&["runs", "get", &run])["status"], "waiting_for_approval");
    assert_eq!(house.run(&["runs", "cancel", &run, "--reason", "enough"]).code, 0);
    house.wait_for(&run, "cancelled");
    let followed = house.run(&["runs", "follow", &run]);
    assert_eq!(followed.code, 1, "{}", followed.err);
    assert!(followed.err.contains("cancelled"), "{}", followed.err);
    let nobody = house.run(&["runs", "follow", "run_01ARZ3NDEKTSV4RRFFQ69G5FAV"]);
    assert!(nobody.code == 1 && nobody.err.contains("run.not_found"), "{}", nobody.err);
}

#[test]
fn questions_are_listed_answered_and_declined() {
    let house = shared();
    let session = house.session("asking");
    let run = house.start_run(&session, &["--route", "asking"]);
    let id = house.wait_for(&run, "waiting_for_user_question")["question_id"].as_str().unwrap().to_owned();
    let list = house.run(&["questions", "list", "--pending"]);
    assert!(list.out.contains(&id) && list.out.contains("Which colour?"), "{}", list.out);
    assert!(house.run(&["questions", "get", &id]).out.contains("red: Red"));
    assert_eq!(house.run(&["questions", "answer", &id]).code, 2, "an answer without words is no answer");
    let wrong = house.run(&["questions", "answer", &id, "--option", "green"]);
    assert_eq!(wrong.code, 1, "{}", wrong.err);
    assert_eq!(house.ask(&["questions", "answer", &id, "--option", "blue"])["status"], "answered");
    house.wait_for(&run, "completed");
    let run = house.start_run(&session, &["--route", "asking"]);
    let id = house.wait_for(&run, "waiting_for_user_question")["question_id"].as_str().unwrap().to_owned();
    assert_eq!(house.ask(&["questions", "decline", &id, "--reason", "no opinion"])["status"], "declined");
    assert!(house.ask(&["receipt", &id])["line"].as_str().unwrap().contains("question.declined"));
}

#[test]
fn the_configuration_is_shown_and_set_and_tasks_are_listed() {
    let house = House::new();
    assert!(house.run(&["runtime", "get"]).out.contains("permission mode  default"));
    assert_eq!(house.ask(&["runtime", "set-permission-mode", "accept-edits"])["permission_mode"], "accept-edits");
    assert_eq!(house.run(&["runtime", "set-permission-mode", "anything"]).code, 2);
    assert_eq!(house.ask(&["runtime", "set-debug-level", "redacted"])["debug_level"], "redacted");
    assert_eq!(house.run(&["runtime", "set-debug-level", "loud"]).code, 2);
    assert_eq!(house.run(&["runtime", "permission-rules", "list"]).out, "none\n");
    let rules = |arguments: &[&str]| {
        let list = house.ask(&[&["runtime", "permission-rules"], arguments].concat());
        let each = |rule: &Value| format!("{} {} {}", rule["scope"], rule["tool"], rule["behavior"]).replace('"', "");
        list["items"].as_array().unwrap().iter().map(each).collect::<Vec<_>>()
    };
    assert_eq!(rules(&["add", "bash", "deny"]), ["user bash deny"]);
    assert_eq!(rules(&["add", "mcp__*", "ask", "--scope", "project"]), ["user bash deny", "project mcp__* ask"]);
    assert_eq!(rules(&["add", "bash", "ask"]), ["user bash ask", "project mcp__* ask"], "one rule a tool");
    let missing = house.run(&["runtime", "permission-rules", "remove", "mcp__*"]);
    assert!(missing.code == 1 && missing.err.contains("no rule of this scope"), "{}", missing.err);
    assert_eq!(rules(&["remove", "mcp__*", "--scope", "project"]), ["user bash ask"]);
    assert_eq!(rules(&["list"]), ["user bash ask"]);
    let told = house.run(&["runtime", "permission-rules", "list"]).out;
    assert!(told.starts_with("SCOPE") && told.contains("bash"), "{told}");
    let history = house.run(&["runtime", "revisions"]).out;
    assert!(history.lines().count() == 7 && history.contains("accept-edits") && history.contains("admin"), "{history}");
    let back = house.ask(&["runtime", "rollback", "1"]);
    assert_eq!(
        (&back["revision"], &back["permission_mode"], &back["user_rules"]),
        (&7.into(), &"accept-edits".into(), &Value::Array(vec![]))
    );
    let never = house.run(&["runtime", "rollback", "70"]);
    assert!(never.code == 1 && never.err.contains("the newest is 7"), "{}", never.err);
    assert_eq!(house.run(&["tasks", "list"]).out, "none\n");
    for verb in ["get", "output", "stop"] {
        let left = house.run(&["tasks", verb, "task_01ARZ3NDEKTSV4RRFFQ69G5FAV"]);
        assert!(left.code == 1 && left.err.contains("task.not_found"), "{verb}: {}", left.err);
    }
}

#[test]
fn what_was_is_shown_with_at_and_the_record_is_named() {
    let house = House::new();
    let session = house.session("brief");
    let then = house.ask(&["journal", "head"])["seq"].to_string();
    assert_eq!(house.ask(&["sessions", "end", &session])["status"], "ended");
    assert_eq!(house.ask(&["runtime", "set-permission-mode", "plan"])["permission_mode"], "plan");
    let other = house.session("later");
    let of = |arguments: &[&str]| {
        let left = house.run(&[arguments, &["--output", "json", "--at", &then]].concat());
        assert_eq!((left.code, left.err.as_str()), (0, format!("As of record {then}.\n").as_str()), "{arguments:?}");
        left.json()
    };
    assert_eq!(of(&["sessions", "get", &session])["status"], "idle");
    assert_eq!(house.ask(&["sessions", "get", &session])["status"], "ended", "the control: now it is not so");
    assert_eq!(of(&["sessions", "list", "--limit", "5"])["items"].as_array().unwrap().len(), 1);
    assert_eq!(of(&["runs", "list"])["items"].as_array().unwrap().len(), 0);
    assert_eq!(of(&["runtime", "get"])["permission_mode"], "default");
    assert_eq!(of(&["status"])["runtime"]["revision"], 0);
    let absent = house.run(&["sessions", "get", &other, "--at", &then]);
    assert!(absent.code == 1 && absent.err.contains("session.not_found"), "{}", absent.err);
    let moment = "2001-09-10T00:00:00.5+01:00";
    for (at, code) in [("99999", "cursor.ahead"), ("soon", "request.malformed"), (moment, "request.invalid")] {
        let left = house.run(&["status", "--at", at]);
        assert!(left.code == 1 && left.err.contains(code), "{at}: {}", left.err);
    }
}

#[test]
fn status_head_and_records_are_shown_and_a_receipt_verifies_from_standard_input() {
    let house = shared();
    assert!(house.run(&["status"]).out.contains("healthy"));
    assert!(house.ask(&["status"])["journal"]["size"].as_u64().unwrap() > 0);
    let head = house.ask(&["journal", "head"]);
    assert!(house.run(&["journal", "head"]).out.contains(head["epoch"].as_str().unwrap()));
    let key = head["verifier_key"].as_str().unwrap().to_owned();
    let records = house.run(&["journal", "records", "--limit", "3"]);
    assert_eq!(records.out.lines().count(), 3);
    assert!(records.out.lines().next().unwrap().contains("context.set"), "{}", records.out);
    let raw = house.run(&["journal", "records", "--from", "1", "--limit", "1", "--output", "json"]);
    assert!(raw.out.starts_with("{\"seq\":1,"), "{}", raw.out);
    let receipt = house.run(&["receipt", "1"]);
    let judge_by = |command: &mut Command, text: &str| {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
    };
    let judge = |arguments: &[&str], text: &str| judge_by(&mut house.command(arguments), text);
    let (code, said) = judge(&["verify", "-", "--key", &key], &receipt.out);
    assert!(code == 0 && said.starts_with("valid: line 1 is in the tree of "), "{said}");
    let (code, said) = judge(&["verify", "-", "--key", &key, "--output", "json"], &receipt.out);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["verdict"], &said["seq"]), (0, &"valid".into(), &1.into()));
    assert_eq!(judge(&["verify", "-", "--key", &key], &receipt.out.replace("\"seq\": 1,", "\"seq\": 2,")).0, 1);
    assert_eq!(judge(&["verify", "-"], &receipt.out).0, 0, "the state root that is named says who signed");
    let stranger = judge_by(house.command(&["verify", "-"]).env_remove("CHANCERY_STATE_ROOT"), &receipt.out);
    assert_eq!(stranger.0, 3, "without a key nobody says who signed");
    assert_eq!(judge(&["verify", "-", "--key", &key], "nonsense").0, 3);
    assert_eq!(house.run(&["receipt", "99999999"]).code, 1);
    assert_eq!(house.run(&["receipt", "nothing"]).code, 2);
    let whole = house.run(&["verify", "--output", "json"]);
    assert_eq!((whole.code, &whole.json()["verdict"]), (0, &"valid".into()), "{}", whole.out);
}

#[test]
fn wrong_usage_is_two_a_foreign_token_is_one_and_no_daemon_is_three() {
    let house = shared();
    let wrong: [&[&str]; 9] = [
        &[],
        &["sessions"],
        &["sessions", "get"],
        &["runs", "start", "session_x"],
        &["approvals", "allow"],
        &["status", "--output", "yaml"],
        &["status", "--url", "https://localhost:4000"],
        &["status", "--token", "a\nX-Forged: 1"],
        &["status", "--token-file", "/does/not/exist"],
    ];
    for arguments in wrong {
        let left = house.run(arguments);
        assert_eq!((left.code, left.out.as_str()), (2, ""), "{arguments:?}: {}", left.err);
        assert!(!left.err.is_empty(), "{arguments:?}");
    }
    let foreign = "chy_000000000000_00000000000000000000000000000000000000";
    let verbs: [&[&str]; 12] = [
        &["status"],
        &["sessions", "list"],
        &["sessions", "create"],
        &["sessions", "events", "x"],
        &["runs", "list"],
        &["runs", "start", "x", "y"],
        &["runs", "follow", "x"],
        &["approvals", "list"],
        &["questions", "list"],
        &["tasks", "list"],
        &["journal", "head"],
        &["receipt", "1"],
    ];
    for verb in verbs {
        let mut arguments = verb.to_vec();
        arguments.extend(["--token", foreign]);
        let left = house.run(&arguments);
        assert_eq!((left.code, left.out.as_str()), (1, ""), "{verb:?}: {}", left.err);
        assert!(left.err.contains("auth.invalid: ") && left.err.contains("\nnext: "), "{verb:?}: {}", left.err);
        if verb[..2.min(verb.len())] == ["runs", "follow"] {
            continue; // It waits a minute for the daemon to come back.
        }
        let mut arguments = verb.to_vec();
        arguments.extend(["--url", "http://127.0.0.1:1"]);
        let left = house.run(&arguments);
        assert_eq!((left.code, left.out.as_str()), (3, ""), "{verb:?}: {}", left.err);
        assert!(left.err.contains("no daemon can be reached") && left.err.contains("\nnext: "), "{}", left.err);
    }
    let mut elsewhere = house.command(&["status"]);
    let left = left(elsewhere.env("CHANCERY_STATE_ROOT", house.path("work")));
    assert_eq!(left.code, 3, "{}", left.err);
}

#[test]
fn a_reader_who_leaves_early_is_no_crash() {
    let house = shared();
    house.session("one");
    for arguments in
        [&["sessions", "list"][..], &["journal", "records", "--limit", "1000"], &["completions", "bash"], &["--help"]]
    {
        let mut child = house.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let out = child.wait_with_output().unwrap();
        let err = String::from_utf8(out.stderr).unwrap();
        assert_eq!((out.status.code(), err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn tokens_are_shown_and_rotated_by_whoever_reads_the_state_root() {
    let house = House::new();
    let file = house.path("state/tokens/admin.token");
    let old = std::fs::read_to_string(&file).unwrap();
    let shown = house.run(&["token", "show"]);
    assert_eq!((shown.code, &shown.out), (0, &old));
    assert_ne!(house.run(&["token", "show", "--readonly"]).out, old);
    let rotated = house.run(&["token", "rotate"]);
    let new = std::fs::read_to_string(&file).unwrap();
    assert_eq!((rotated.code, rotated.out.as_str()), (0, ""), "nothing secret is printed");
    assert!(rotated.err.contains("admin.token") && !rotated.err.contains(new.trim()), "{}", rotated.err);
    assert!(new != old && new.starts_with("chy_"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let deadline = Instant::now() + Duration::from_secs(10);
    while house.run(&["status"]).code != 0 {
        assert!(Instant::now() < deadline, "the daemon does not take the new token up");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(house.run(&["status", "--token", old.trim()]).code, 1, "the old one is void");
    assert_eq!(house.run(&["token", "show", "--state-root", "/does/not/exist"]).code, 2);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let loose = house.run(&["token", "show"]);
    assert!(loose.code == 1 && loose.out.is_empty() && loose.err.contains("chmod 600"), "{}", loose.err);
}

/// The head of the first request that comes to a listener of somebody else, which is answered by nothing.
fn overheard(listener: std::net::TcpListener) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join("\n").to_ascii_lowercase()
    })
}

#[test]
fn the_token_of_a_state_root_is_shown_to_its_own_daemon_and_to_nobody_else() {
    let house = shared();
    let text = std::fs::read_to_string(house.path("state/daemon.json")).unwrap();
    let address = serde_json::from_str::<Value>(&text).unwrap()["address"].as_str().unwrap().to_owned();
    assert_eq!(house.run(&["status", "--url", &format!("http://{address}")]).code, 0);
    let heard = |arguments: &[&str]| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = overheard(listener);
        house.run(&[arguments, &["--url", &url]].concat());
        thread.join().unwrap()
    };
    let request = heard(&["status"]);
    assert!(request.starts_with("get /v1/status ") && !request.contains("authorization"), "{request}");
    let token = house.path("state/tokens/admin.token");
    let request = heard(&["status", "--token-file", token.to_str().unwrap()]);
    assert!(request.contains("authorization: bearer chy_"), "a token that is named is shown: {request}");
    let unnamed = house.run(&["status", "--url", &format!("localhost:{}", address.rsplit_once(':').unwrap().1)]);
    assert!(unnamed.code == 1 && unnamed.err.contains("--token-file"), "{}", unnamed.err);
}

#[test]
fn a_script_gets_every_refusal_as_a_document_and_a_person_the_request_to_name() {
    let house = shared();
    let wrong = ["sessions", "get", "session_01ARZ3NDEKTSV4RRFFQ69G5FAV"];
    let left = house.run(&[&wrong[..], &["--output", "json"]].concat());
    let problem = left.json();
    assert_eq!((left.code, &problem["code"], &problem["status"]), (1, &"session.not_found".into(), &404.into()));
    let request = problem["request_id"].as_str().unwrap();
    assert!(request.starts_with("req_"), "{request}");
    let person = house.run(&wrong);
    assert!(person.out.is_empty() && person.err.contains("\nrequest: req_"), "{}", person.err);
    let lost = house.run(&["status", "--url", "http://127.0.0.1:1", "--output", "json"]);
    assert_eq!((lost.code, &lost.json()["code"]), (3, &Value::Null));
    assert!(lost.json()["detail"].as_str().unwrap().contains("127.0.0.1:1"), "{}", lost.out);
}

#[test]
fn variables_that_are_set_to_nothing_count_as_not_set() {
    let house = shared();
    let mut command = house.command(&["status"]);
    for name in ["CHANCERY_URL", "CHANCERY_TOKEN", "CHANCERY_TOKEN_FILE"] {
        command.env(name, "");
    }
    let left = left(&mut command);
    assert_eq!(left.code, 0, "{}", left.err);
}

#[test]
fn the_index_that_is_looked_at_is_that_of_the_state_root_that_was_named() {
    let house = House::new();
    house.stop();
    // By the user's folders alone there is no state root at all.
    let left = house.run(&["index", "verify"]);
    assert_eq!(left.code, 0, "{}", left.err);
    let elsewhere = house.path("elsewhere");
    let left = house.run(&["index", "verify", "--state-root", elsewhere.to_str().unwrap()]);
    assert_ne!(left.code, 0, "the flag goes before the variable: {}", left.out);
}

#[test]
fn a_token_file_that_was_lost_or_emptied_is_broken_and_the_printed_command_mends_it() {
    let house = House::new();
    let file = house.path("state/tokens/admin.token");
    let doctor = || house.run(&["doctor", "--output", "json"]);
    let advice = |report: &Value| {
        let findings = report["findings"].as_array().unwrap();
        findings.iter().find(|one| one["check"] == "tokens").unwrap()["advice"].as_str().unwrap().to_owned()
    };
    for lose in [|file: &Path| std::fs::remove_file(file).unwrap(), |file: &Path| std::fs::write(file, "").unwrap()] {
        lose(&file);
        let left = doctor();
        let found = outcomes(&left.json());
        let seen = (left.code, found["tokens"].as_str(), found["ready"].as_str());
        assert_eq!(seen, (2, "broken", "ok"), "{}", left.out);
        assert!(advice(&left.json()).contains("chancery token rotate"), "{}", left.out);
        let rotated = house.run(&["token", "rotate", "--output", "json"]);
        assert_eq!((rotated.code, &rotated.json()["role"]), (0, &"admin".into()), "{}", rotated.err);
        let deadline = Instant::now() + Duration::from_secs(10);
        while house.run(&["status"]).code != 0 {
            assert!(Instant::now() < deadline, "the daemon does not take the new token up");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let foreign = house.run(&["token", "rotate", "--state-root", house.path("work").to_str().unwrap()]);
    assert!(foreign.code == 1 && foreign.err.contains("no state root"), "{}", foreign.err);
    assert!(!house.path("work/tokens").exists());
}

#[test]
fn token_files_of_ones_own_are_found_and_bearer_makes_none() {
    let house = House::new();
    house.stop();
    let (admin, readonly) = (house.path("own.admin"), house.path("own.readonly"));
    let flags = ["--http-admin-token-file", admin.to_str().unwrap(), "--http-readonly-token-file"];
    let flags = [&flags[..], &[readonly.to_str().unwrap()]].concat();
    let (state, work) = (house.path("state"), house.path("work"));
    let roots = ["--state-root", state.to_str().unwrap(), "--workspace-root", work.to_str().unwrap()];
    let serve = [&["serve", "--bind", "127.0.0.1:0"], &roots[..], &flags].concat();
    let mut command = Command::new("timeout");
    command.args(["20", BINARY]).args(&serve).args(["--http-auth-mode", "bearer"]).stdin(Stdio::null());
    let bearer = left(&mut command);
    assert!(bearer.code == 1 && bearer.err.contains("--http-admin-token-file"), "{} {}", bearer.code, bearer.err);
    assert!(!admin.exists() && !readonly.exists());
    house.start_with(&flags);
    assert_eq!(house.run(&["status"]).code, 0);
    assert_eq!(house.run(&["token", "show"]).out, std::fs::read_to_string(&admin).unwrap());
    assert_eq!(outcomes(&house.run(&["doctor", "--output", "json"]).json())["tokens"], "ok");
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_journal_that_does_not_continue_the_one_seen_before_is_cried_out() {
    let house = House::new();
    house.stop();
    copy(&house.path("state"), &house.path("older"));
    house.start();
    let first = house.run(&["sessions", "create", "--title", "first"]);
    assert!(first.code == 0 && first.err.contains("First sight of the journal"), "{}", first.err);
    let kept = std::fs::read_to_string(house.path("user/chancery-cli/heads.json")).unwrap();
    assert!(kept.contains("root_") && kept.contains("epoch_"), "{kept}");
    let second = house.run(&["sessions", "create", "--title", "second"]);
    assert_eq!((second.code, second.err.as_str()), (0, ""), "a journal that goes on is not worth a word");
    let whole = house.run(&["verify"]);
    assert!(whole.code == 0 && whole.out.contains("kept head: the journal continues"), "{}", whole.out);
    house.stop();
    std::fs::rename(house.path("state"), house.path("newer")).unwrap();
    copy(&house.path("older"), &house.path("state"));
    let back = house.run(&["verify"]);
    assert!(back.code == 1 && back.out.contains("it was rolled back"), "{}", back.out);
    house.start();
    let forked = house.run(&["sessions", "create", "--title", "another second"]);
    assert_eq!(forked.code, 1, "{}", forked.err);
    assert!(forked.out.contains("another second"), "the answer is shown all the same");
    assert!(
        forked.err.contains("DOES NOT CONTINUE") && forked.err.matches("chancery/root_").count() >= 2,
        "{}",
        forked.err
    );
    let after = std::fs::read_to_string(house.path("user/chancery-cli/heads.json")).unwrap();
    assert!(after.contains("root_"), "what was kept stays");
    for _ in 0..8 {
        house.run(&["sessions", "create"]);
    }
    let longer = house.run(&["sessions", "create"]);
    assert_eq!(longer.code, 1, "a longer journal with another past is found out as well: {}", longer.err);
}

#[test]
fn what_was_seen_before_a_repair_and_is_gone_is_named() {
    let house = House::new();
    for number in 0..6 {
        house.session(&format!("number {number}"));
    }
    house.stop();
    let segment = house.path("state/journal/00000000000000000000.jsonl");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(8).position(|window| window == b"number 3").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let would = house.run(&["journal", "repair", "--output", "json"]).json();
    let lost = would["lost"].to_string();
    assert_eq!(house.run(&["journal", "repair", "--accept-loss", &lost]).code, 0);
    house.start();
    let again = house.run(&["sessions", "create", "--title", "after it"]);
    assert!(again.code == 0 && again.err.contains("are not in this journal"), "{}", again.err);
    assert!(!again.err.contains("First sight"), "it was seen before: {}", again.err);
    let verified = house.run(&["verify", "--output", "json"]);
    let facts = verified.json();
    assert_eq!((verified.code, &facts["verdict"]), (0, &"valid".into()), "{facts}");
    assert!(
        facts["lost_since_seen"][0]["to_seq"].as_u64() > facts["lost_since_seen"][0]["from_seq"].as_u64(),
        "{facts}"
    );
    let told = house.run(&["verify"]).out;
    assert!(told.contains("are not in this journal; a repair has recorded the loss"), "{told}");
    // A repair in a folder that is no state root leaves nothing there.
    let foreign = house.path("work");
    let left = house.run(&["--state-root", foreign.to_str().unwrap(), "journal", "repair"]);
    assert!(left.code == 2 && !foreign.join("LOCK").exists(), "{} {}", left.code, left.err);
}

#[test]
fn commands_at_the_same_time_keep_one_head_and_a_folder_that_cannot_be_written_is_forgiven() {
    let house = House::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let left = house.run(&["sessions", "create"]);
                assert!(left.code == 0 && !left.err.contains("CONTINUE"), "{}", left.err);
            });
        }
    });
    assert_eq!(house.run(&["verify"]).code, 0);
    let file = house.path("a-file");
    std::fs::write(&file, "x").unwrap();
    let mut command = house.command(&["sessions", "create"]);
    let left = left(command.env("XDG_STATE_HOME", &file));
    assert_eq!(left.code, 0, "{}", left.err);
    assert!(left.err.contains("warning: the journal's head is not kept"), "{}", left.err);
}

#[test]
fn a_command_that_keeps_a_newer_head_while_a_state_root_is_verified_is_no_rollback() {
    let house = House::new();
    assert_eq!(house.run(&["sessions", "create"]).code, 0);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                house.run(&["sessions", "create"]);
            }
        });
        let verified: Vec<Left> = (0..10).map(|_| house.run(&["verify"])).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for left in verified {
            assert!(left.code == 0 && left.out.contains("kept head: the journal continues"), "{}", left.out);
        }
    });
}

fn outcomes(report: &Value) -> std::collections::BTreeMap<String, String> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .map(|one| (one["check"].as_str().unwrap().to_owned(), one["outcome"].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn doctor_says_what_is_in_order_what_is_broken_and_what_it_could_not_measure() {
    let house = House::new();
    let left = house.run(&["doctor", "--output", "json", "--cors-origin", "http://localhost:5173"]);
    let found = outcomes(&left.json());
    for check in ["ready", "lock", "modes", "write probe", "journal", "tokens", "stream", "cors", "clock"] {
        assert_eq!(found.get(check).map(String::as_str), Some("ok"), "{check}: {}", left.out);
    }
    for check in ["health", "sandbox", "space", "file system"] {
        assert!(found.contains_key(check), "{check}: {}", left.out);
    }
    let screen = house.run(&["doctor"]);
    assert!(screen.out.lines().count() <= 7 && screen.out.contains("chancery doctor --all"), "{}", screen.out);
    assert!(house.run(&["doctor", "--all"]).out.contains("ok: journal: "));
    let foreign = house.run(&["doctor", "--cors-origin", "http://elsewhere.example", "--output", "json"]);
    assert_eq!((foreign.code, outcomes(&foreign.json())["cors"].as_str()), (2, "broken"));
    let token = house.path("state/tokens/readonly.token");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let loose = house.run(&["doctor", "--output", "json"]);
    let found = outcomes(&loose.json());
    assert_eq!((loose.code, found["tokens"].as_str(), found["modes"].as_str()), (2, "broken", "broken"));
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    house.stop();
    let alone = house.run(&["doctor", "--output", "json"]);
    let found = outcomes(&alone.json());
    assert_eq!((found["ready"].as_str(), found["journal"].as_str()), ("unknown", "ok"), "{}", alone.out);
    assert_ne!(alone.code, 0, "unknown is never in order");
    let segment = house.path("state/journal/00000000000000000000.jsonl");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(11).position(|window| window == b"context.set").unwrap();
    bytes[at] = b'C';
    std::fs::write(&segment, bytes).unwrap();
    let rotten = house.run(&["doctor", "--output", "json"]);
    assert_eq!((rotten.code, outcomes(&rotten.json())["journal"].as_str()), (2, "broken"), "{}", rotten.out);
    assert!(
        !house
            .path("state")
            .read_dir()
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with("doctor-probe") })
    );
}

#[test]
fn quickstart_shows_the_whole_story_whatever_the_environment_says() {
    let house = shared();
    let temporary = house.path("quick");
    std::fs::create_dir(&temporary).unwrap();
    let began = Instant::now();
    let mut command = house.command(&["quickstart"]);
    command.env("TMPDIR", &temporary).env("CHANCERY_BIND", "127.0.0.1:4000").env("CHANCERY_URL", "http://127.0.0.1:1");
    command.env("CHANCERY_TOKEN", "nonsense").env("CHANCERY_ROUTES_FILE", "/does/not/exist");
    let left = left(&mut command);
    assert_eq!(left.code, 0, "{}", left.err);
    assert!(began.elapsed() < Duration::from_mins(1));
    let said = left.out;
    for word in ["approved", "receipt", "verified", "copy", "127.0.0.1:", "There is no terminal"] {
        assert!(said.contains(word), "{word} is missing: {said}");
    }
    assert!(!said.contains("127.0.0.1:4000"), "{said}");
    let homes: Vec<PathBuf> = temporary.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(homes.len(), 1, "everything lies in one folder");
    assert!(homes[0].join("state").is_dir() && homes[0].join("work").is_dir());
    assert!(!house.path("user/chancery").exists(), "nothing is written elsewhere");
    let mut command = house.command(&["quickstart"]);
    let nowhere = self::left(command.env("TMPDIR", house.path("nowhere")));
    assert_eq!(nowhere.code, 1);
    assert!(nowhere.err.contains("TMPDIR") && !house.path("nowhere").exists(), "{}", nowhere.err);
    for flag in [["--state-root", "elsewhere"], ["--url", "http://127.0.0.1:1"], ["--output", "json"]] {
        let refused = house.run(&["quickstart", flag[0], flag[1]]);
        assert_eq!((refused.code, refused.out.as_str()), (2, ""), "{flag:?}");
        assert!(refused.err.contains(flag[0]), "{}", refused.err);
    }
}

#[test]
fn quickstart_says_what_its_daemon_said_where_that_does_not_start() {
    let full = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    // A disk that has room for the few words of quickstart, but not for a journal.
    command.args(["-c", "ulimit -f 2; exec \"$0\" quickstart", BINARY]).env("TMPDIR", full.path());
    let left = left(&mut command);
    assert_eq!(left.code, 1, "{}", left.err);
    assert!(left.err.contains("does not serve; the daemon ended (exit status: 1)"), "{}", left.err);
    assert!(left.err.contains("| storage.journal_unavailable: ") && left.err.contains("| next: "), "{}", left.err);
}

/// Lines of a command's talk up to one that begins so; gives the rest of that line.
fn told(lines: &mut impl Iterator<Item = std::io::Result<String>>, beginning: &str) -> String {
    let mut seen = String::new();
    for line in lines {
        let line = line.unwrap();
        if let Some(rest) = line.strip_prefix(beginning) {
            return rest.to_owned();
        }
        seen.push_str(&line);
        seen.push('\n');
    }
    panic!("{beginning:?} is missing: {seen}");
}

/// A command with its output at hand, ended with the test however that goes.
struct Working(Child);

impl Working {
    fn start(mut command: Command) -> (Self, impl Iterator<Item = std::io::Result<String>>) {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        (Self(child), lines)
    }

    fn end(&mut self) -> (Option<i32>, String) {
        let mut out = String::new();
        std::io::Read::read_to_string(&mut self.0.stdout.take().unwrap(), &mut out).unwrap();
        (self.0.wait().unwrap().code(), out)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_input_waits_for_the_person_and_then_for_the_end_of_its_run() {
    let house = shared();
    let session = house.session("input");
    for (decision, code, status) in [("allow", 0, "completed"), ("deny", 0, "completed")] {
        let (mut input, mut lines) =
            Working::start(house.command(&["sessions", "input", &session, "count", "--output", "json"]));
        let command = told(&mut lines, "To decide: chancery approvals allow ");
        let id = command.split_whitespace().next().unwrap();
        assert_eq!(house.run(&["approvals", decision, id]).code, 0);
        lines.for_each(drop);
        let (left, out) = input.end();
        let view: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((left, view["status"].as_str()), (Some(code), Some(status)), "{view}");
    }
    let (mut input, mut lines) = Working::start(house.command(&["sessions", "input", &session, "count"]));
    told(&mut lines, "To decide: chancery approvals allow ");
    assert_eq!(house.run(&["sessions", "interrupt", &session]).code, 0);
    lines.for_each(drop);
    let (left, out) = input.end();
    assert!(left == Some(1) && out.contains("interrupted"), "{out}");
}

#[test]
fn a_run_is_followed_to_the_new_address_of_a_daemon_that_was_restarted() {
    let house = House::new();
    let session = house.session("moved");
    let (mut follow, mut lines) = Working::start(house.command(&["runs", "start", &session, "count", "--follow"]));
    let command = told(&mut lines, "To decide: chancery approvals allow ");
    let id = command.split_whitespace().next().unwrap();
    let address = || std::fs::read_to_string(house.path("state/daemon.json")).unwrap();
    let before = address();
    {
        let mut daemon = house.daemon.lock().unwrap();
        let child = daemon.as_mut().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        *daemon = None;
    }
    told(&mut lines, "The connection is lost");
    house.start();
    assert_ne!(address(), before, "the daemon has another port");
    told(&mut lines, "The connection is back.");
    assert_eq!(house.run(&["approvals", "allow", id]).code, 0);
    lines.for_each(drop);
    assert_eq!(follow.end().0, Some(0));
}

#[test]
fn completions_know_the_verbs() {
    let house = shared();
    for shell in ["bash", "zsh", "fish"] {
        let left = house.run(&["completions", shell]);
        assert!(left.code == 0 && left.out.contains("approvals") && left.out.contains("doctor"), "{shell}");
    }
    assert_eq!(house.run(&["completions", "cmd"]).code, 2);
}

#[test]
fn the_bench_gives_rates_waits_and_a_ratio_and_leaves_nothing_behind() {
    let house = shared();
    let place = house.path("bench");
    std::fs::create_dir(&place).unwrap();
    let began = Instant::now();
    let found = house.ask(&["bench", "journal", "--dir", place.to_str().unwrap()]);
    assert!(began.elapsed() < Duration::from_secs(40));
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["producers"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 64]);
    for row in rows {
        assert!(row["ratio"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["p50_us"].as_u64().unwrap() <= row["p99_us"].as_u64().unwrap(), "{row}");
    }
    assert_eq!(place.read_dir().unwrap().count(), 0);
    assert_eq!(house.run(&["bench", "journal", "--dir", "/does/not/exist"]).code, 2);
}

#[test]
fn the_kept_head_follows_the_signing_key_over_handovers() {
    let house = House::new();
    house.session("first");
    let first = house.ask(&["journal", "rotate-key"]);
    house.session("second");
    let second = house.ask(&["journal", "rotate-key"]);
    let third = house.ask(&["journal", "rotate-key"]);
    assert_eq!((&second["old_key_id"], &third["old_key_id"]), (&first["new_key_id"], &second["new_key_id"]));
    let left = house.run(&["sessions", "create", "--title", "third"]);
    assert_eq!((left.code, left.err.as_str()), (0, ""), "{}", left.out);
    let kept = std::fs::read_to_string(house.path("user/chancery-cli/heads.json")).unwrap();
    assert!(kept.contains(third["verifier_key"].as_str().unwrap()), "{kept}");
}
