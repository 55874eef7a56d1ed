//! What lists, doctor and those who follow see.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{House, Working, outcomes, shared, told};

#[test]
fn lists_are_narrowed_by_the_daemon_and_have_pages_however_they_are_narrowed() {
    let house = House::new();
    let sessions = ["one", "two"].map(|title| house.session(title));
    let runs = [&sessions[0], &sessions[1]].map(|session| house.start_run(session, &[]));
    let waits = [&runs[0], &runs[1]].map(|run| house.wait_for(run, "waiting_for_approval")["approval_id"].clone());
    let page = house.ask(&["approvals", "list", "--pending", "--limit", "1"]);
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
    let cursor = page["next_cursor"].as_str().expect("there is more").to_owned();
    let rest = house.ask(&["approvals", "list", "--pending", "--cursor", &cursor]);
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null), "{rest}");
    let ids = |verb: &[&str], name: &str| {
        let list = house.ask(verb);
        list["items"].as_array().unwrap().iter().map(|item| item[name].clone()).collect::<Vec<_>>()
    };
    for verb in [["approvals", "list", "--session-id", &sessions[0]], ["approvals", "list", "--run-id", &runs[0]]] {
        assert_eq!(ids(&verb, "approval_id"), [waits[0].clone()], "{verb:?}");
    }
    assert_eq!(ids(&["runs", "list", "--session-id", &sessions[1]], "run_id"), [runs[1].as_str()]);
    assert_eq!(ids(&["runs", "list", "--status", "completed"], "run_id"), Vec::<Value>::new());
    assert_eq!(ids(&["sessions", "list", "--status", "ended"], "session_id"), Vec::<Value>::new());
    assert_eq!(house.run(&["approvals", "allow", waits[0].as_str().unwrap()]).code, 0);
    assert_eq!(ids(&["approvals", "list", "--pending"], "approval_id"), [waits[1].clone()]);
    assert_eq!(ids(&["approvals", "list", "--status", "allowed"], "approval_id"), [waits[0].clone()]);
    let both = house.run(&["approvals", "list", "--pending", "--status", "allowed"]);
    assert_eq!(both.code, 2, "{}", both.err);
    let passed_over = house.run(&["sessions", "events", &sessions[0], "--follow", "--limit", "3"]);
    assert_eq!(passed_over.code, 2, "{}", passed_over.err);
}

/// A door that answers everything, and allows these pages to requests whose head holds these words.
fn door(words: &'static str, pages: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let lines = BufReader::new(client.try_clone().unwrap()).lines();
            let head: Vec<_> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let allowed = head.join("\n").to_ascii_lowercase().contains(words);
            let allows = if allowed { format!("Access-Control-Allow-Origin: {pages}\r\n") } else { String::new() };
            let _ = client.write_all(format!("HTTP/1.1 200 OK\r\n{allows}Content-Length: 2\r\n\r\n{{}}").as_bytes());
        }
    });
    address
}

#[test]
fn doctor_finds_a_door_that_is_open_to_every_page_without_being_asked() {
    let house = shared();
    let report = house.run(&["doctor", "--all", "--output", "json"]).json();
    assert_eq!(outcomes(&report)["cors"], "ok", "{report}");
    let doctor = |address: &str, more: &[&str]| {
        let left = house.run(&[&["doctor", "--url", address, "--output", "json"], more].concat());
        let report = left.json();
        let cors = report["findings"].as_array().unwrap().iter().find(|one| one["check"] == "cors").unwrap().clone();
        assert_eq!((left.code, &cors["outcome"]), (2, &"broken".into()), "{cors}");
        cors["detail"].as_str().unwrap().to_owned()
    };
    // To everything, to what a page asks first, and to plain reads.
    for words in ["http/1.1", "options ", "get /healthz"] {
        let detail = doctor(&door(words, "*"), &[]);
        assert!(detail.contains("any origin"), "{words}: {detail}");
    }
    let named = ["--cors-origin", "http://localhost:5173"];
    assert!(doctor(&door("http/1.1", "*"), &named).contains("any origin"));
    let detail = doctor(&door("http://localhost:5173", "http://localhost:5174"), &named);
    assert!(detail.contains("may not call the daemon"), "{detail}");
}

#[test]
fn advice_names_the_state_root_that_was_named() {
    let house = House::new();
    let root = house.path("state");
    let advice = |flags: &[&str]| {
        let report = house.run(&[&["doctor", "--output", "json"], flags].concat()).json();
        let findings = report["findings"].as_array().unwrap();
        findings.iter().find(|one| one["check"] == "tokens").unwrap()["advice"].as_str().unwrap().to_owned()
    };
    std::fs::remove_file(root.join("tokens/admin.token")).unwrap();
    let root = root.to_str().unwrap();
    assert_eq!(advice(&["--state-root", root]), format!("chancery --state-root {root} token rotate"));
    assert_eq!(advice(&[]), "chancery token rotate", "the variable says it to the next command as well");
}

#[test]
fn whoever_follows_goes_on_with_the_new_token_of_the_state_root() {
    let house = House::new();
    let session = house.session("rotated");
    let (mut follow, mut lines) = Working::start(house.command(&["runs", "start", &session, "count", "--follow"]));
    let command = told(&mut lines, "To decide: chancery approvals allow ");
    let id = command.split_whitespace().next().unwrap();
    assert_eq!(house.run(&["token", "rotate"]).code, 0);
    // The stream of the old token ends within five seconds of the new one's coming into force.
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(house.run(&["approvals", "allow", id]).code, 0);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(follow.end().0, Some(0), "{rest:?}");
}

#[test]
fn the_daemon_of_quickstart_ends_with_it_also_where_it_is_killed() {
    let house = shared();
    let folder = tempfile::tempdir().unwrap();
    let mut command = house.command(&["quickstart"]);
    command.env("TMPDIR", folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut story = Working(command.spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(20);
    let daemon = loop {
        let mut homes = std::fs::read_dir(folder.path()).unwrap().map(|home| home.unwrap().path());
        let said = homes.find_map(|home| std::fs::read_to_string(home.join("state/daemon.json")).ok());
        if let Some(said) = said {
            break serde_json::from_str::<Value>(&said).unwrap()["pid"].as_i64().unwrap();
        }
        assert!(Instant::now() < deadline, "there is no daemon");
        std::thread::sleep(Duration::from_millis(2));
    };
    story.0.kill().unwrap();
    let killed = story.0.wait().unwrap();
    assert!(killed.code().is_none(), "it was killed in the midst of its story");
    let lives = || {
        let stat = std::fs::read_to_string(format!("/proc/{daemon}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while lives() {
        if Instant::now() >= deadline {
            let pid = rustix::process::Pid::from_raw(daemon.try_into().unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            panic!("the daemon lives on without its story");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
