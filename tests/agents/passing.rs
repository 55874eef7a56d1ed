//! What passes the gateway in part or not at all: headers, limits, answers that end oddly, and secrets.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::canary::store;
use crate::gateway::{CHAT, KEY, MASTER, ask, both, document, hi, message, read, send, settled, spoken};
use crate::models::{Answer, Server, request, streamed, words};
use crate::support::{Daemon, House, eventually};

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// Adds lines to the route that leads to the server.
fn with(house: &House, lines: &str) {
    let path = house.folder.path().join("routes.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("timeout_ms", &format!("{lines}\ntimeout_ms"))).unwrap();
}

fn streaming() -> Value {
    let mut body = hi("m");
    body["stream"] = json!(true);
    body
}

#[test]
fn a_provider_is_told_what_it_knows_and_no_more_than_the_route_takes() {
    let server = Server::start(vec![document("application/json", "{}")]);
    let house = server.house(20_000);
    with(&house, "max_input_tokens = 100\nmax_output_tokens = 7");
    let daemon = house.start();
    assert_eq!(ask(&daemon, CHAT, "OpenAI-Beta: new\r\nX-Other: no\r\n", &hi("m")).status, 200);
    let head = server.heads.lock().unwrap()[0].to_lowercase();
    assert!(head.contains("openai-beta: new") && !head.contains("x-other"), "{head}");
    let heard: Value = serde_json::from_str(&server.heard.lock().unwrap()[0]).unwrap();
    assert_eq!(heard["max_tokens"], 7);
    let mut large = hi("m");
    large["user"] = json!("u".repeat(1_000));
    let told = ask(&daemon, CHAT, "", &large);
    assert_eq!((told.status, &told.json()["error"]["code"]), (413, &json!("request.too_large")));
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    daemon.stop();
}

#[test]
fn answers_that_end_oddly_are_passed_as_far_as_they_go_or_said_to_be_none() {
    let unended =
        format!("{}data: {}", words("here"), json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] }));
    let promised = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"id\":";
    let problem = r#"{"error":{"message":"bad key of the operator's"}}"#;
    let refused = format!("HTTP/1.1 401 No\r\nContent-Length: {}\r\n\r\n{problem}", problem.len());
    let server = Server::start(vec![
        Answer::Says(format!("{STREAM}{unended}")),
        Answer::Says(promised.to_owned()),
        document("text/html", "<p>"),
        Answer::Says(refused),
        Answer::Says(String::new()),
        Answer::Says(format!("{STREAM}data: {}", "x".repeat(5 << 20))),
    ]);
    let house = server.house(20_000);
    let daemon = &house.start();
    assert_eq!(ask(daemon, CHAT, "", &streaming()).body, unended, "an event that lacks only its end is one");
    let mut text = String::new();
    let _ = send(daemon, CHAT, "", &hi("m").to_string()).read_to_string(&mut text);
    assert!(text.contains("{\"id\":") && !text.ends_with("\r\n0\r\n\r\n"), "it is not said to be whole: {text}");
    assert_eq!(settled(daemon, 1)["outcome"], "broken");
    for _ in ["a page", "a refusal of the key"] {
        let told = ask(daemon, CHAT, "", &hi("m"));
        assert_eq!(told.json()["error"]["code"], "provider.rejected", "{}", told.body);
        assert!(!told.body.contains("operator") && !told.body.contains("<p>"), "{}", told.body);
    }
    assert_eq!(ask(daemon, CHAT, "", &hi("m")).json()["error"]["code"], "provider.stream_broken");
    assert_eq!(settled(daemon, 4)["outcome"], "unanswered");
    let told = ask(daemon, CHAT, "", &streaming()).body;
    assert!(told.contains("An event of the provider's answer is too large") && told.len() < 1_000, "{}", told.len());
}

#[test]
fn a_provider_s_refusal_shows_no_key_and_a_revoked_one_ends_the_calls_that_use_it() {
    let problem = format!("{{\"error\":{{\"message\":\"{KEY}\"}}}}");
    let length = problem.len();
    let head = format!("HTTP/1.1 429 No\r\nX-RateLimit-Limit-Tokens: {KEY}\r\nX-RateLimit-Reset-Tokens: 6s");
    let server = Server::start(vec![
        Answer::Says(format!("{head}\r\nContent-Length: {length}\r\n\r\n{problem}")),
        Answer::Begins(format!("{STREAM}{}", words("begun"))),
        Answer::Silence,
    ]);
    let house = server.house(20_000);
    with(&house, "auth_ref = \"far.key\"");
    let daemon = house.start_with(&[], &[(MASTER, &"0123456789abcdef".repeat(4))]);
    store(&house, "far.key", KEY);
    let told = ask(&daemon, CHAT, "", &hi("m"));
    assert_eq!(told.status, 429);
    assert!(told.head.to_lowercase().contains("reset-tokens: 6s"), "{}", told.head);
    assert!(!told.head.contains(KEY) && !told.body.contains(KEY), "{} {}", told.head, told.body);
    let revoked = |daemon: &Daemon, asked: usize| {
        let socket = send(daemon, CHAT, "", &streaming().to_string());
        eventually("request", || (server.asked.load(Ordering::SeqCst) == asked).then_some(()));
        assert_eq!(daemon.post("/v1/runtime/auth/slots/far.key/revoke", &json!({})).0, 200);
        read(socket).body
    };
    let cut = revoked(&daemon, 2);
    assert!(cut.contains("vault.lease_revoked"), "{cut}");
    store(&house, "far.key", KEY);
    let unanswered = revoked(&daemon, 3);
    assert!(unanswered.contains("vault.lease_revoked"), "{unanswered}");
    // So does the end of the daemon, and nobody knows what the provider took.
    store(&house, "far.key", KEY);
    let socket = send(&daemon, CHAT, "", &streaming().to_string());
    eventually("request", || (server.asked.load(Ordering::SeqCst) == 4).then_some(()));
    let waiting = std::thread::spawn(move || read(socket));
    daemon.stop();
    assert_eq!(waiting.join().unwrap().json()["error"]["code"], "provider.stream_broken");
}

#[test]
fn a_key_that_is_spelled_letter_by_letter_does_not_reach_a_client() {
    let letters: Vec<String> = KEY.chars().map(String::from).collect();
    let letters = || letters.iter().map(String::as_str);
    let pieces = |after: &str| [words("So: "), letters().map(words).collect(), words(after)].concat();
    let server = Server::start(vec![
        streamed(&pieces(" it is."), true),
        // Cut before its end, in the middle of the key.
        streamed(&[words("So: "), letters().take(9).map(words).collect()].concat(), false),
        message(["So: "].into_iter().chain(letters()).chain([" it is."])),
    ]);
    let house = both(&server);
    let daemon = &house.start_with(&[], &[(MASTER, &"0123456789abcdef".repeat(4))]);
    store(&house, "far.key", KEY);
    let told = ask(daemon, CHAT, "", &streaming()).body;
    assert_eq!(spoken(&told), "So: [redacted:far.key] it is.", "{told}");
    assert!(told.contains(&words(" it is.")) && told.ends_with("data: [DONE]\n\n"), "{told}");
    let told = ask(daemon, CHAT, "", &streaming()).body;
    assert_eq!(spoken(&told), format!("So: {}", &KEY[..9]), "what is no secret comes before the end is told: {told}");
    assert!(told.trim_end().lines().last().unwrap().contains("provider.stream_broken"), "{told}");
    let body = json!({ "model": "c", "max_tokens": 99, "stream": true, "messages": [] });
    let told = ask(daemon, "/v1/messages", "", &body).body;
    assert_eq!(spoken(&told), "So: [redacted:far.key] it is.", "{told}");
}

/// A provider that says so many events of a mebibyte, and how many of them it could hand on.
fn flooding(events: usize) -> (Server, Arc<AtomicUsize>) {
    let (listener, taken) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(AtomicUsize::new(0)));
    let (port, count) = (listener.local_addr().unwrap().port(), taken.clone());
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        request(&mut socket).unwrap();
        socket.write_all(STREAM.as_bytes()).unwrap();
        for _ in 0..events {
            socket.write_all(format!(":{}\n\n", "x".repeat((1 << 20) - 3)).as_bytes()).unwrap();
            count.fetch_add(1, Ordering::SeqCst);
        }
        let Answer::Says(end) = streamed("", true) else { return };
        socket.write_all(&end.as_bytes()[STREAM.len()..]).unwrap();
    });
    (Server { port, asked: Arc::default(), heard: Arc::default(), heads: Arc::default() }, taken)
}

#[test]
fn a_client_that_does_not_read_holds_its_provider_back_and_misses_nothing() {
    const EVENTS: usize = 60;
    let (server, taken) = flooding(EVENTS);
    let house = server.house(60_000);
    let daemon = &house.start();
    let socket = send(daemon, CHAT, "", &streaming().to_string());
    let mut before = 0;
    eventually("stall", || {
        std::thread::sleep(Duration::from_millis(700));
        let now = taken.load(Ordering::SeqCst);
        (now > 0 && std::mem::replace(&mut before, now) == now).then_some(())
    });
    // What waits lies in the buffers of four sockets; the daemon has a piece in its hands.
    assert!(before < EVENTS / 2, "{before} MiB were taken for nobody");
    let told = read(socket).body;
    assert!(told.ends_with("data: [DONE]\n\n"), "{}", &told[told.len() - 100..]);
    assert_eq!(told.matches(":x").count(), EVENTS);
    assert!(told.len() > EVENTS << 20);
    assert_eq!(settled(daemon, 0)["outcome"], "answered");
}
