//! Erasure: where it is on, a session's words stand in no file in clear, are shown for as long as their key is kept, and
//! are gone with it, while the journal verifies as before.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{BINARY, Daemon, House, calls, eventually, says, turn};

/// What everybody says.
const WORD: &str = "xylophonist-7351";

impl House {
    /// A house with a master key, in which everybody says the word.
    fn discreet() -> Self {
        let (call, question) =
            (json!({ "command": format!("echo {WORD}") }), json!({ "question": format!("{WORD}?") }));
        let thinks = format!("{{ reasoning = \"{WORD} hm\" }}, {{ text = \"I run {WORD}\" }}");
        let thinks = turn(&format!("{thinks}, {{ call = \"bash\", input = '''{call}''' }}"));
        let house = Self::playing(&[thinks, calls(&[("ask_user_question", question)]), says(&format!("{WORD} it is"))]);
        let key = house.folder.path().join("master.key");
        std::fs::write(&key, "0123456789abcdef".repeat(4)).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        house
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn with_key(&self) -> Daemon {
        let key = self.folder.path().join("master.key");
        self.start_with(&[], &[("CHANCERY_AUTH_STORE_MASTER_KEY_FILE", key.to_str().unwrap())])
    }

    fn keys(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.state().join("auth/subjects")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Exit code of the verifier.
    fn verify(&self) -> Option<i32> {
        let mut command = Command::new(BINARY);
        command.arg("verify").arg(self.state()).env_clear().env("HOME", self.folder.path());
        command.stdout(Stdio::null()).status().unwrap().code()
    }

    /// The files of the state root, also unpacked ones, that hold the word.
    fn files_with_the_word(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    walk(&path, found);
                } else if let Ok(bytes) = std::fs::read(&path) {
                    let open = zstd::decode_all(&bytes[..]).unwrap_or_default();
                    let holds = |bytes: &[u8]| bytes.windows(WORD.len()).any(|part| part == WORD.as_bytes());
                    if holds(&bytes) || holds(&open) {
                        found.push(path);
                    }
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.state(), &mut found);
        found
    }
}

fn session(daemon: &Daemon) -> String {
    let target = json!({ "kind": "slack", "name": "ops", "address": WORD });
    daemon.session(&json!({ "title": format!("about {WORD}"), "reply_targets": [target] }))
}

/// A run in which everybody says the word: the person in a long text, the model in all ways, a command, the answer.
fn talk(daemon: &Daemon, session: &str) -> String {
    let content = format!("{WORD} {}", "x".repeat(80 << 10));
    let (status, run) = daemon.post(&format!("/v1/sessions/{session}/runs"), &json!({ "content": content }));
    assert_eq!(status, 202, "{run}");
    let run = run["run_id"].as_str().unwrap().to_owned();
    let approval = daemon.pending(&run);
    let (call, card) = (approval["call"].as_str().unwrap(), approval["card"].as_str().unwrap());
    assert!(call.contains(WORD) && card.contains(WORD), "{approval}");
    // What was shown is what was hashed.
    let digest = |text: &str| data_encoding::HEXLOWER.encode(&Sha256::digest(text));
    assert_eq!((&approval["call_hash"], &approval["card_hash"]), (&json!(digest(call)), &json!(digest(card))));
    daemon.decide(&approval, "allow");
    let question = daemon.question(&run);
    assert!(question["question"].as_str().unwrap().contains(WORD), "{question}");
    let path = format!("/v1/questions/{}/answer", question["question_id"].as_str().unwrap());
    assert_eq!(daemon.post(&path, &json!({ "freeform": format!("yes, {WORD}") })).0, 200);
    let view = daemon.when(&run, "completed");
    assert_eq!(view["output"], format!("[rehearsal] {WORD} it is"));
    run
}

fn erasure(daemon: &Daemon, on: bool) -> (u16, Value) {
    daemon.post("/v1/runtime/erasure", &json!({ "on": on }))
}

fn erase(daemon: &Daemon, session: &str) -> (u16, Value) {
    daemon.post(&format!("/v1/sessions/{session}/erase"), &json!({ "reason": "she asked for it" }))
}

#[test]
fn where_erasure_is_on_no_file_of_the_state_root_holds_a_word_in_clear() {
    let house = House::discreet();
    let daemon = house.with_key();
    daemon.request(&daemon.token, "PUT", "/v1/runtime/debug-level", r#"{"level":"full"}"#);
    assert_eq!(erasure(&daemon, true).1["erasure"], true);
    let session = session(&daemon);
    let run = talk(&daemon, &session);
    let view = daemon.get(&format!("/v1/sessions/{session}"));
    assert_eq!((&view["title"], &view["erasure"]), (&json!(format!("about {WORD}")), &json!("possible")));
    assert_eq!(view["reply_targets"][0]["address"], WORD);
    // Another run is told of the first: also a model reads the words.
    talk(&daemon, &session);
    let salted = &daemon.records(&run, "call.dispatched")[0]["data"]["call_hash"];
    assert_eq!(salted, &daemon.records(&run, "approval.requested")[0]["data"]["call_hash"]);
    assert_eq!(house.files_with_the_word(), Vec::<PathBuf>::new());
    daemon.stop();
    assert_eq!(house.files_with_the_word(), Vec::<PathBuf>::new());
    let mode = std::fs::metadata(&house.keys()[0]).unwrap().permissions().mode();
    assert_eq!((house.keys().len(), mode & 0o777, house.verify()), (1, 0o600, Some(0)));

    // The negative control.
    let daemon = house.with_key();
    assert_eq!(erasure(&daemon, false).1["erasure"], false);
    let clear = self::session(&daemon);
    talk(&daemon, &clear);
    let (status, problem) = erase(&daemon, &clear);
    assert_eq!((status, &problem["code"]), (422, &json!("request.invalid")), "{problem}");
    daemon.stop();
    let found = house.files_with_the_word();
    for place in ["journal", "artifacts", "debug"] {
        assert!(found.iter().any(|path| path.starts_with(house.state().join(place))), "{place}: {found:?}");
    }
}

#[test]
fn an_erased_session_is_unavailable_and_verifies_also_where_the_end_of_its_key_was_cut_short() {
    let house = House::discreet();
    let daemon = house.with_key();
    erasure(&daemon, true);
    let (gone, kept) = (session(&daemon), session(&daemon));
    let (run, other) = (talk(&daemon, &gone), talk(&daemon, &kept));
    let waiting = daemon.run_in(&gone);
    daemon.pending(&waiting);
    assert_eq!(erase(&daemon, &gone).1["code"], "run.step_out_of_order");
    daemon.post(&format!("/v1/runs/{waiting}/cancel"), &json!({}));
    daemon.when(&waiting, "cancelled");
    let path = format!("/v1/sessions/{gone}/erase");
    assert_eq!(daemon.request(&daemon.readonly, "POST", &path, "{}").0, 403);
    let copies: Vec<(PathBuf, Vec<u8>)> =
        house.keys().into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    assert_eq!(copies.len(), 2);

    let unavailable = |daemon: &Daemon| {
        let (session, view) = (daemon.get(&format!("/v1/sessions/{gone}")), daemon.view(&run));
        assert_eq!(
            (&session["title"], &session["erasure"], &session["status"]),
            (&Value::Null, &json!("done"), &json!("ended"))
        );
        assert_eq!((&view["status"], &view["output"]), (&json!("completed"), &Value::Null), "{view}");
        assert!(!view.to_string().contains(WORD) && !session.to_string().contains(WORD));
        assert_eq!(daemon.view(&other)["output"], format!("[rehearsal] {WORD} it is"));
    };
    let (status, view) = erase(&daemon, &gone);
    assert_eq!((status, &view["erasure"], &view["title"]), (200, &json!("done"), &Value::Null), "{view}");
    unavailable(&daemon);
    assert_eq!(house.keys().len(), 1);
    assert_eq!(erase(&daemon, &gone).0, 200, "again");
    let (status, problem) = daemon.post(&format!("/v1/sessions/{gone}/runs"), &json!({ "content": "go on" }));
    assert_eq!((status, &problem["code"]), (409, &json!("session.ended")));

    // As where the daemon was killed between the record and the file, or an older copy of the folder was put back.
    daemon.kill();
    for (path, bytes) in &copies {
        std::fs::write(path, bytes).unwrap();
    }
    let daemon = house.with_key();
    assert_eq!(house.keys().len(), 1, "the start ends what was begun");
    unavailable(&daemon);
    daemon.stop();
    assert_eq!(house.verify(), Some(0));
}

#[test]
fn without_a_master_key_erasure_is_not_switched_on_and_keys_are_not_left_behind() {
    let house = House::discreet();
    let daemon = house.start();
    let (status, problem) = erasure(&daemon, true);
    assert_eq!((status, &problem["code"]), (503, &json!("vault.locked")));
    daemon.stop();
    let daemon = house.with_key();
    erasure(&daemon, true);
    // Without a session there is no key to be lost, and a start without the master key makes no session.
    daemon.stop();
    let daemon = house.start();
    assert_eq!(daemon.post("/v1/sessions", &json!({})).1["code"], "vault.locked");
    daemon.stop();
    let daemon = house.with_key();
    daemon.session(&json!({}));
    daemon.stop();
    let mut command = Command::new(BINARY);
    command.args(["serve", "--bind", "127.0.0.1:0", "--state-root"]).arg(house.state());
    command.arg("--workspace-root").arg(house.folder.path().join("work")).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let code = eventually("a refused start", || child.try_wait().unwrap());
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert!(code.code() == Some(1) && said.contains("state_root.master_key_mismatch"), "{said}");
}
