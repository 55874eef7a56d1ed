//! The model gateway before a scripted provider: what passes, what is recorded, what is kept back, and what is told.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::canary::store;
use crate::models::{Answer, Server, streamed, words};
use crate::support::{Daemon, House, eventually};

pub const CHAT: &str = "/v1/chat/completions";
pub const KEY: &str = "sk-gateway-7Qx2Lw9ZpR4tVb8NmK3sD6fH";
pub const MASTER: &str = "CHANCERY_AUTH_STORE_MASTER_KEY";

/// An answer: status, head, body without its framing.
pub struct Told {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Told {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }
}

/// Sends a request and leaves the answer in the socket.
pub fn send(daemon: &Daemon, path: &str, headers: &str, body: &str) -> TcpStream {
    let mut socket = TcpStream::connect(&daemon.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (address, length, method) = (&daemon.address, body.len(), if body.is_empty() { "GET" } else { "POST" });
    let bearer = if headers.contains("Authorization:") || headers.contains("x-api-key:") {
        String::new()
    } else {
        format!("Authorization: Bearer {}\r\n", daemon.token)
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{bearer}Connection: close\r\nContent-Type: application/json\r\n\
         {headers}Content-Length: {length}\r\n\r\n"
    );
    socket.write_all(format!("{head}{body}").as_bytes()).unwrap();
    socket
}

/// The bytes of a chunked body.
fn joined(mut chunks: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = chunks.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&rest[..size]);
        chunks = rest[size..].trim_start_matches("\r\n");
    }
    body
}

pub fn read(mut socket: TcpStream) -> Told {
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    told(&text)
}

/// What an answer says whose connection was closed.
pub fn told(text: &str) -> Told {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { joined(body) } else { body.to_owned() };
    Told { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head: head.to_owned(), body }
}

pub fn ask(daemon: &Daemon, path: &str, headers: &str, body: &Value) -> Told {
    read(send(daemon, path, headers, &body.to_string()))
}

/// Bodies of the journal's records of one kind.
pub fn records(daemon: &Daemon, kind: &str) -> Vec<Value> {
    let (_, lines) = daemon.request(&daemon.token, "GET", "/v1/journal/records?from=0&limit=1000", "");
    let lines = lines.as_str().unwrap().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["kind"] == kind).map(|line| line["data"].clone()).collect()
}

/// The n-th end of a call, from 0.
pub fn settled(daemon: &Daemon, at: usize) -> Value {
    eventually("end of the call", || records(daemon, "model_call.settled").get(at).cloned())
}

/// The words of a streamed answer.
pub fn spoken(body: &str) -> String {
    let events = body.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let words = |event: &Value| {
        Some(event.pointer("/choices/0/delta/content").or(event.pointer("/delta/text"))?.as_str()?.to_owned())
    };
    events.filter_map(|event| words(&event)).collect()
}

/// A message that says these pieces, each in an event of its own.
pub fn message<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Answer {
    let said = pieces.into_iter().map(|text| {
        let delta = json!({ "type": "text_delta", "text": text });
        json!({ "type": "content_block_delta", "index": 0, "delta": delta })
    });
    let ends = [json!({ "type": "content_block_stop", "index": 0 }), json!({ "type": "message_stop" })];
    let events = said.chain(ends).map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()));
    streamed(&events.collect::<String>(), false)
}

pub fn document(media: &str, body: &str) -> Answer {
    let length = body.len();
    Answer::Says(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nConnection: close\r\nX-Secret: no\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

pub fn hi(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }] })
}

/// A house with a route of each interface to this server.
pub fn both(server: &Server) -> House {
    let house = server.house(20_000);
    let path = house.folder.path().join("routes.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let other = format!(
        "[routes.claude]\ndriver = \"anthropic\"\ndefault_model = \"c\"\nbase_url = \"http://127.0.0.1:{}\"\n",
        server.port
    );
    std::fs::write(path, text + &other).unwrap();
    house
}

#[test]
fn a_plain_call_passes_as_it_is_and_is_recorded_before_and_after() {
    let answer =
        r#"{"id":"x",  "choices":[{"message":{"content":"here"}}],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#;
    let server = Server::start(vec![document("application/json; charset=utf-8", answer)]);
    let house = server.house(20_000);
    let daemon = &house.start();
    let body = json!({ "temperature": 0.5, "model": "far/m", "messages": [], "extra": { "b": 1, "a": 2 } });
    let told = ask(daemon, CHAT, "", &body);
    assert_eq!((told.status, told.body.as_str()), (200, answer));
    let head = told.head.to_lowercase();
    assert!(head.contains("chancery-model-call: ") && !head.contains("x-secret"), "{head}");
    let heard: Value = serde_json::from_str(&server.heard.lock().unwrap()[0]).unwrap();
    let mut expected = body.clone();
    expected["model"] = json!("m");
    assert_eq!(heard, expected);
    let end = settled(daemon, 0);
    assert_eq!((&end["outcome"], &end["tokens"]), (&json!("answered"), &json!({ "input": 7, "output": 2 })), "{end}");
    let asked = &records(daemon, "model_call.requested")[0];
    assert_eq!((&asked["route"], &asked["dialect"]), (&json!("far"), &json!("chat_completions")), "{asked}");
    assert_eq!(asked["reservation"]["principal"], "admin");
    let models = daemon.get("/v1/models");
    assert_eq!((&models["data"][0]["id"], models["data"].as_array().unwrap().len()), (&json!("far/m"), 1), "{models}");
    // A picture fits into the body of a call, and of no other request.
    let mut large = hi("m");
    large["messages"][0]["content"] = json!("w".repeat(1 << 20));
    assert_eq!(ask(daemon, CHAT, "", &large).status, 200);
    assert_eq!(ask(daemon, "/v1/sessions", "", &large).status, 413);
}

#[test]
fn a_stream_passes_byte_for_byte_and_its_usage_only_to_who_asked_for_it() {
    let usage = "data: {\"choices\":[], \"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\r\n\r\n";
    let events = format!(": hello\n\n{}{}{usage}", words("he"), words("re"));
    let server = Server::start(vec![streamed(&events, true)]);
    let house = server.house(20_000);
    let daemon = &house.start();
    let Answer::Says(sent) = streamed(&events, true) else { panic!() };
    let (_, sent) = sent.split_once("\r\n\r\n").unwrap();
    let mut body = hi("m");
    body["stream"] = json!(true);
    body["stream_options"] = json!({ "include_usage": true });
    let told = ask(daemon, CHAT, "", &body);
    assert_eq!((told.status, told.body.as_str()), (200, sent));
    assert!(told.head.to_lowercase().contains("content-type: text/event-stream"), "{}", told.head);
    body.as_object_mut().unwrap().remove("stream_options");
    let told = ask(daemon, CHAT, "", &body);
    assert_eq!(told.body, sent.replace(usage, ""));
    let heard: Value = serde_json::from_str(&server.heard.lock().unwrap()[1]).unwrap();
    assert_eq!(heard["stream_options"], json!({ "include_usage": true }));
    for at in 0..2 {
        let end = settled(daemon, at);
        assert_eq!((&end["cost"]["basis"], &end["tokens"]["output"]), (&json!("reported"), &json!(2)), "{end}");
    }
}

#[test]
fn a_budget_refuses_a_call_before_anything_is_sent_and_limits_those_that_it_covers() {
    let server = Server::start(vec![streamed(&words(&"w".repeat(4_000)), true)]);
    let house = server.house(20_000);
    let daemon = house.start_priced();
    let put = |micros: u64| {
        let body = json!({ "limit_micros": micros }).to_string();
        assert_eq!(daemon.request(&daemon.token, "PUT", "/v1/budgets/route:far:day", &body).0, 200);
    };
    put(100);
    let told = ask(&daemon, CHAT, "X-Request-Id: the-request\r\n", &hi("m"));
    let error = &told.json()["error"];
    assert_eq!((told.status, &error["code"]), (402, &json!("budget.exceeded")), "{error}");
    assert!(error["message"].as_str().unwrap().contains("the-request") && error["type"] == "insufficient_quota");
    assert_eq!((server.asked.load(Ordering::SeqCst), records(&daemon, "model_call.requested").len()), (0, 0));
    put(2_100);
    let mut body = hi("m");
    body["stream"] = json!(true);
    body["max_tokens"] = json!(900);
    let told = ask(&daemon, CHAT, "", &body);
    let heard: Value = serde_json::from_str(&server.heard.lock().unwrap()[0]).unwrap();
    let limit = heard["max_tokens"].as_u64().unwrap();
    assert!((18..=20).contains(&limit), "{heard}");
    // The provider does not keep to it: the answer is cut, and says so.
    assert!(told.body.contains("budget.exceeded") && !told.body.contains("[DONE]"), "{}", told.body);
    let end = settled(&daemon, 0);
    assert_eq!((&end["outcome"], &end["tokens"]["output"]), (&json!("cut"), &json!(limit)), "{end}");
    assert_eq!(end["cost"]["basis"], "estimated");
    daemon.stop();
}

#[test]
fn the_provider_is_shown_the_vaults_key_and_the_client_never_sees_it() {
    let server = Server::start(vec![Answer::Repeats]);
    let house = server.house(20_000);
    let routes = house.folder.path().join("routes.toml");
    let text = std::fs::read_to_string(&routes).unwrap();
    std::fs::write(&routes, text.replace("timeout_ms", "auth_ref = \"far.key\"\ntimeout_ms")).unwrap();
    let daemon = house.start_with(&[], &[(MASTER, &"0123456789abcdef".repeat(4))]);
    let missing = ask(&daemon, CHAT, "", &hi("m"));
    assert_eq!((missing.status, &missing.json()["error"]["code"]), (409, &json!("route.credential_missing")));
    store(&house, "far.key", KEY);
    let mut body = hi("m");
    body["stream"] = json!(true);
    let told = ask(&daemon, CHAT, "", &body);
    assert!(told.body.contains("You said: Bearer [redacted:far.key]"), "{}", told.body);
    assert!(!told.body.contains(KEY));
    let asked = &records(&daemon, "model_call.requested")[0]["credential"];
    assert_eq!((&asked["ref"], &asked["version"]), (&json!("far.key"), &json!(1)), "{asked}");
    settled(&daemon, 0);
    daemon.stop();
}

#[test]
fn messages_are_spoken_over_routes_that_do_and_refusals_are_what_their_clients_read() {
    let start = json!({ "type": "message_start", "message": { "usage": { "input_tokens": 5, "output_tokens": 1 } } });
    let delta =
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 3 } });
    let stream = format!(
        "event: message_start\ndata: {start}\n\nevent: message_delta\ndata: {delta}\n\n\
         event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n"
    );
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"later"}}"#;
    let refused = format!(
        "HTTP/1.1 529 No\r\nContent-Type: application/json\r\nRetry-After: 7\r\nContent-Length: {}\r\n\r\n{overloaded}",
        overloaded.len()
    );
    let server = Server::start(vec![Answer::Says(format!("{head}{stream}")), Answer::Says(refused)]);
    let house = both(&server);
    let daemon = house.start();
    let key = format!("x-api-key: {}\r\nanthropic-version: 2023-06-01\r\n", daemon.token);
    let body = json!({ "model": "c", "max_tokens": 9, "stream": true, "messages": [] });
    let told = ask(&daemon, "/v1/messages?beta=true", &key, &body);
    assert_eq!((told.status, told.body.as_str()), (200, stream.as_str()));
    assert_eq!(settled(&daemon, 0)["tokens"], json!({ "input": 5, "output": 3 }));
    // The provider's own refusal.
    let told = ask(&daemon, "/v1/messages", &key, &body);
    assert_eq!((told.status, told.body.as_str()), (529, overloaded));
    assert!(told.head.to_lowercase().contains("retry-after: 7"), "{}", told.head);
    let end = settled(&daemon, 1);
    assert_eq!((&end["outcome"], &end["status"]), (&json!("refused"), &json!(529)), "{end}");
    // A route that speaks something else.
    let told = ask(&daemon, "/v1/messages", &key, &json!({ "model": "far/m", "max_tokens": 9, "messages": [] }));
    let error = told.json();
    assert_eq!((told.status, &error["type"]), (422, &json!("error")), "{error}");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("does not speak Messages") && message.contains("claude"), "{message}");
    // A stranger.
    let told = ask(&daemon, "/v1/messages", "x-api-key: nobody\r\n", &body);
    assert_eq!((told.status, &told.json()["error"]["type"]), (401, &json!("authentication_error")));
    let told = ask(&daemon, CHAT, "Authorization: Bearer nobody\r\n", &hi("m"));
    assert_eq!((told.status, &told.json()["error"]["code"]), (401, &json!("auth.invalid")));
    assert!(told.head.to_lowercase().contains("x-should-retry: false"), "{}", told.head);
    // Elsewhere the other header is no token, and who may only read calls no model.
    assert_eq!(ask(&daemon, "/v1/sessions", &key, &json!({})).json()["code"], "auth.missing");
    let readonly = format!("Authorization: Bearer {}\r\n", daemon.readonly);
    assert_eq!(ask(&daemon, CHAT, &readonly, &hi("m")).status, 403);
    assert_eq!(server.asked.load(Ordering::SeqCst), 2);
    daemon.stop();
}

#[test]
fn responses_pass_and_are_metered() {
    let usage = json!({ "input_tokens": 4, "output_tokens": 6 });
    let whole = json!({ "type": "response.completed", "response": { "id": "r", "usage": usage } });
    let stream = format!("event: response.completed\ndata: {whole}\n\n");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    let server = Server::start(vec![
        Answer::Says(format!("{head}{stream}")),
        document("application/json", &json!({ "id": "r", "usage": usage }).to_string()),
    ]);
    let house = server.house(20_000);
    let daemon = &house.start();
    for streams in [true, false] {
        let body = json!({ "model": "m", "input": "hi", "stream": streams });
        let told = ask(daemon, "/v1/responses", "", &body);
        assert_eq!(told.status, 200, "{}", told.body);
        assert!(!streams || told.body == stream);
    }
    let told = ask(daemon, "/v1/responses", "", &json!({ "model": "m", "input": "hi", "background": true }));
    assert_eq!((told.status, &told.json()["error"]["param"]), (422, &json!("/background")), "{}", told.body);
    assert_eq!(server.asked.load(Ordering::SeqCst), 2);
    for at in 0..2 {
        assert_eq!(settled(daemon, at)["tokens"], json!({ "input": 4, "output": 6 }));
    }
}

#[test]
fn who_hangs_up_pays_for_what_came_and_a_provider_that_breaks_off_is_told_of() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    let begun = format!("{head}{}", words(&"w".repeat(30)));
    let server = Server::start(vec![
        Answer::Begins(begun.clone()),
        Answer::Silence,
        Answer::Says(begun),
        Answer::Begins("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{".to_owned()),
    ]);
    let house = server.house(20_000);
    let daemon = &house.start();
    let mut body = hi("m");
    body["stream"] = json!(true);
    let mut socket = send(daemon, CHAT, "", &body.to_string());
    let mut seen = String::new();
    while !seen.contains("wwww") {
        let mut piece = [0; 4_096];
        let count = socket.read(&mut piece).unwrap();
        seen.push_str(std::str::from_utf8(&piece[..count]).unwrap());
    }
    drop(socket);
    let end = settled(daemon, 0);
    assert_eq!((&end["outcome"], &end["tokens"]["output"]), (&json!("left"), &json!(10)), "{end}");
    assert_eq!(end["cost"]["basis"], "estimated");
    // Before anything came, nobody knows what it took.
    let socket = send(daemon, CHAT, "", &body.to_string());
    eventually("request", || (server.asked.load(Ordering::SeqCst) == 2).then_some(()));
    drop(socket);
    let end = settled(daemon, 1);
    assert_eq!((&end["outcome"], &end["tokens"]), (&json!("left"), &Value::Null), "{end}");
    let told = ask(daemon, CHAT, "", &body);
    assert!(told.body.contains("wwww") && told.body.contains("provider.stream_broken"), "{}", told.body);
    assert_eq!(settled(daemon, 2)["outcome"], "broken");
    // Nor does anybody where a whole answer was on its way.
    let mut socket = send(daemon, CHAT, "", &hi("m").to_string());
    assert!(socket.read(&mut [0; 16]).unwrap() > 0);
    drop(socket);
    let end = settled(daemon, 3);
    assert_eq!((&end["outcome"], &end["tokens"]), (&json!("left"), &Value::Null), "{end}");
}

#[test]
fn a_reservation_that_a_kill_left_is_settled_in_full_by_the_next_start() {
    let server = Server::start(vec![Answer::Silence; 3]);
    let house = server.house(20_000);
    let daemon = house.start();
    let socket = send(&daemon, CHAT, "", &hi("m").to_string());
    eventually("request", || (server.asked.load(Ordering::SeqCst) == 1).then_some(()));
    assert_eq!(records(&daemon, "model_call.requested").len(), 1, "the record came first");
    let run = daemon.run(&json!({}));
    eventually("request of a run", || (server.asked.load(Ordering::SeqCst) == 2).then_some(()));
    daemon.kill();
    drop(socket);
    let daemon = house.start();
    let end = settled(&daemon, 0);
    assert_eq!((&end["outcome"], &end["cost"]["basis"]), (&json!("lost"), &json!("crash")), "{end}");
    let action = || daemon.get(&format!("/v1/runs/{run}/external-actions"))["items"][0].take();
    let action = eventually("end of the attempt", || Some(action()).filter(|action| action["outcome"] == "unknown"));
    assert_eq!(action["cost"]["basis"], "crash", "{action}");
    daemon.kill();
}

#[test]
fn a_call_is_made_once_under_one_key() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    let server = Server::start(vec![Answer::Begins(format!("{head}{}", words("begun")))]);
    let house = server.house(20_000);
    let daemon = &house.start();
    let key = "Idempotency-Key: one\r\n";
    let socket = send(daemon, CHAT, key, &hi("m").to_string());
    eventually("request", || (server.asked.load(Ordering::SeqCst) == 1).then_some(()));
    let code = |body: &Value| {
        let told = ask(daemon, CHAT, key, body);
        assert_eq!(told.status, 409, "{}", told.body);
        told.json()["error"]["code"].clone()
    };
    assert_eq!(code(&hi("m")), "request.in_progress");
    assert_eq!(code(&hi("far/m")), "request.idempotency_mismatch");
    drop(socket);
    settled(daemon, 0);
    assert_eq!(code(&hi("m")), "request.already_done");
    assert_eq!((server.asked.load(Ordering::SeqCst), records(daemon, "model_call.settled").len()), (1, 1));
}

#[test]
fn a_daemon_that_stops_tells_its_streams_and_settles_their_calls() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    let server = Server::start(vec![Answer::Begins(format!("{head}{}", words("begun"))), Answer::Silence]);
    let house = server.house(20_000);
    let daemon = house.start();
    let mut body = hi("m");
    body["stream"] = json!(true);
    let socket = send(&daemon, CHAT, "", &body.to_string());
    eventually("request", || (server.asked.load(Ordering::SeqCst) == 1).then_some(()));
    let reader = std::thread::spawn(move || read(socket));
    let socket = send(&daemon, CHAT, "", &hi("m").to_string());
    eventually("another", || (server.asked.load(Ordering::SeqCst) == 2).then_some(()));
    let waiting = std::thread::spawn(move || read(socket));
    daemon.stop();
    let told = waiting.join().unwrap();
    let is_final = told.head.to_lowercase().contains("x-should-retry: false");
    assert!(told.status == 502 && is_final && told.body.contains("may have taken"), "{} {}", told.head, told.body);
    let told = reader.join().unwrap();
    assert!(told.body.contains("begun") && told.body.contains("The daemon is stopping"), "{}", told.body);
    let daemon = house.start();
    let mut outcomes = [0, 1].map(|at| settled(&daemon, at)["outcome"].take().to_string());
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["\"broken\"", "\"cut\""], "it was no crash");
    daemon.stop();
}
