//! Which daemon, which token and which file are meant, and what is said where an answer was lost.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::{House, left, shared};

fn address(house: &House) -> String {
    let text = std::fs::read_to_string(house.path("state/daemon.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["address"].as_str().unwrap().to_owned()
}

#[test]
fn what_the_command_line_names_goes_before_what_the_environment_names() {
    let house = shared();
    let token = |name: &str| house.path(&format!("state/tokens/{name}.token")).to_str().unwrap().to_owned();
    let admin = std::fs::read_to_string(token("admin")).unwrap().trim().to_owned();
    let create = |flags: &[&str], variables: &[(&str, &str)]| {
        let mut command = house.command(&[&["sessions", "create"], flags].concat());
        let left = left(command.envs(variables.iter().copied()));
        (left.code, left.err)
    };
    let weak = create(&["--token-file", &token("readonly")], &[("CHANCERY_TOKEN", &admin)]);
    assert!(weak.0 == 1 && weak.1.contains("auth.read_only"), "{weak:?}");
    let strong = create(&["--token", &admin], &[("CHANCERY_TOKEN_FILE", &token("readonly"))]);
    assert_eq!(strong.0, 0, "{strong:?}");
    let twice = create(&["--token", &admin, "--token-file", &token("readonly")], &[]);
    assert!(twice.0 == 2 && twice.1.contains("--token-file"), "{twice:?}");
    let both = create(&[], &[("CHANCERY_TOKEN", &admin), ("CHANCERY_TOKEN_FILE", &token("readonly"))]);
    assert!(both.0 == 2 && both.1.contains("CHANCERY_TOKEN_FILE"), "{both:?}");
    let root = house.path("state");
    let elsewhere = [("CHANCERY_URL", "http://127.0.0.1:1")];
    assert_eq!(create(&["--state-root", root.to_str().unwrap()], &elsewhere).0, 0, "the daemon of the state root");
    assert_eq!(create(&[], &elsewhere).0, 3, "the control: the variable alone");
}

#[test]
fn a_rotation_says_that_the_old_token_is_void_only_where_it_is() {
    let house = House::new();
    house.stop();
    let own = house.path("own.admin");
    let tokens = house.path("state/tokens");
    std::fs::remove_dir_all(&tokens).unwrap();
    house.start_with(&["--http-admin-token-file", own.to_str().unwrap()]);
    let wrong = house.run(&["token", "rotate", "--file", tokens.join("admin.token").to_str().unwrap()]);
    assert!(wrong.code == 1 && wrong.err.contains("own.admin"), "{}", wrong.err);
    assert!(house.run(&["token", "rotate"]).err.contains("the old one is void"));
    house.stop();
    let before = std::fs::read_to_string(&own).unwrap();
    let unknown = house.run(&["token", "rotate"]);
    assert!(unknown.code == 1 && unknown.err.contains("--file") && !unknown.err.contains("void"), "{}", unknown.err);
    assert!(!tokens.join("admin.token").exists());
    assert_eq!(std::fs::read_to_string(&own).unwrap(), before);
    let named = house.run(&["token", "rotate", "--file", own.to_str().unwrap()]);
    assert!(named.code == 0 && !named.err.contains("void"), "{}", named.err);
    assert_ne!(std::fs::read_to_string(&own).unwrap(), before);
}

/// A proxy that passes each request on and loses the answers to as many changes as it is told.
fn losing(daemon: String, answers: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().to_string();
    let (front, seen) = (own.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&seen);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut request = String::new();
            let mut part = [0; 4_096];
            while !request.contains("\r\n\r\n") || (request.starts_with("POST") && !request.ends_with('}')) {
                let read = client.read(&mut part).unwrap();
                request.push_str(std::str::from_utf8(&part[..read]).unwrap());
            }
            let mut server = TcpStream::connect(&daemon).unwrap();
            server.write_all(request.replace(&front, &daemon).as_bytes()).unwrap();
            let mut answer = Vec::new();
            server.read_to_end(&mut answer).unwrap();
            if !request.starts_with("POST") || counted.fetch_add(1, Ordering::SeqCst) >= answers {
                client.write_all(&answer).unwrap();
            }
            let _ = client.shutdown(Shutdown::Both);
        }
    });
    (own, seen)
}

#[test]
fn a_change_whose_answer_was_lost_is_made_once_and_nobody_says_that_there_is_no_daemon() {
    let house = House::new();
    let token = house.path("state/tokens/admin.token");
    let create = |losses: usize| {
        let (proxy, seen) = losing(address(&house), losses);
        let title = format!("lost {losses}");
        let verb = ["sessions", "create", "--title", &title, "--url", &proxy, "--token-file", token.to_str().unwrap()];
        let left = house.run(&verb);
        let made = house.ask(&["sessions", "list"]);
        let made = made["items"].as_array().unwrap().iter().filter(|item| item["title"] == title.as_str()).count();
        (left.code, seen.load(Ordering::SeqCst), made, left.err)
    };
    let once = create(1);
    assert_eq!((once.0, once.1, once.2), (0, 2, 1), "asked twice, made once: {}", once.3);
    let never = create(9);
    assert_eq!((never.0, never.1, never.2), (1, 2, 1), "{}", never.3);
    assert!(never.3.contains("it may have happened") && !never.3.contains("chancery serve"), "{}", never.3);
    let none = create(0);
    assert_eq!((none.0, none.1, none.2), (0, 1, 1), "the control: {}", none.3);
}
