//! What clients of the model gateway meet beside whole answers: errors within them, tokens that are taken back, routes that
//! are full or cannot do it, keys that are used again, lists of what they did.

use std::io::Read as _;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::{CHAT, ask, both, document, hi, read, records, send, settled};
use crate::models::{Answer, Server, streamed, words};
use crate::support::{BINARY, Daemon, House, eventually};

/// Changes the routes file of a house.
fn routes(house: &House, change: impl FnOnce(String) -> String) {
    let path = house.folder.path().join("routes.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, change(text)).unwrap();
}

fn refused(status: &str) -> Answer {
    let body = r#"{"error":{"message":"later"}}"#;
    Answer::Says(format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn streaming(model: &str) -> Value {
    let mut body = hi(model);
    body["stream"] = json!(true);
    body
}

/// An answer that begins and goes on.
fn begun() -> Answer {
    let Answer::Says(text) = streamed(&words("begun"), false) else { panic!() };
    Answer::Begins(text)
}

fn asked(server: &Server, times: usize) {
    eventually("request", || (server.asked.load(Ordering::SeqCst) == times).then_some(()));
}

#[test]
fn an_error_within_a_stream_is_no_answer_and_costs_what_was_heard_thoughts_and_calls_too() {
    let thoughts = json!({ "choices": [{ "delta": { "reasoning_content": "r".repeat(40) } }] });
    let call = json!({ "index": 0, "id": "c1", "function": { "name": "bash", "arguments": "a".repeat(36) } });
    let call = json!({ "choices": [{ "delta": { "tool_calls": [call] } }] });
    let heard = format!("data: {thoughts}\n\ndata: {call}\n\n");
    let error = |kind: &str| format!("data: {}\n\n", json!({ "error": { "message": "no", "type": kind } }));
    let (fails, limits) = (error("server_error"), error("rate_limit_error"));
    let Answer::Says(whole) = document("application/json", "{}") else { panic!() };
    let server = Server::start(vec![
        streamed(&format!("{heard}{fails}"), false),
        streamed(&limits, false),
        document("application/json", r#"{"error":{"message":"no","code":503}}"#),
        refused("504 No"),
        refused("502 No"),
        Answer::Says(whole.replace("200 OK", "502 No")),
        Answer::Says(whole.replace("200 OK", "200 OK\r\nContent-Encoding: gzip")),
    ]);
    let house = server.house(20_000);
    let daemon = &house.start_priced();
    let told = ask(daemon, CHAT, "", &streaming("m"));
    assert_eq!((told.status, told.body), (200, format!("{heard}{fails}")));
    let end = settled(daemon, 0);
    assert_eq!((&end["outcome"], &end["code"]), (&json!("broken"), &json!("provider.unavailable")), "{end}");
    assert_eq!((&end["cost"]["basis"], &end["tokens"]["output"]), (&json!("estimated"), &json!(27)), "{end}");
    for (at, code) in [(1, "provider.rate_limited"), (2, "provider.unavailable")] {
        assert_eq!(ask(daemon, CHAT, "", &streaming("m")).status, 200);
        let end = settled(daemon, at);
        assert_eq!((&end["outcome"], &end["code"]), (&json!("refused"), &json!(code)), "{end}");
        assert_eq!(end["cost"], json!({ "micros": 0, "basis": "reported" }), "nothing came before it");
    }
    // Whoever stopped waiting there does not know what the model did.
    for (at, status) in [(3, 504), (4, 502), (5, 502), (6, 502)] {
        let key = format!("Idempotency-Key: {at}\r\n");
        let told = ask(daemon, CHAT, &key, &streaming("m"));
        let head = told.head.to_lowercase();
        assert!(told.status == status && head.contains("x-should-retry: false"), "{at} {head}");
        let end = settled(daemon, at);
        assert_eq!((&end["outcome"], &end["cost"]["basis"]), (&json!("unanswered"), &json!("estimated")), "{end}");
        assert_eq!(ask(daemon, CHAT, &key, &streaming("m")).json()["error"]["code"], "request.already_done");
    }
}

#[test]
fn a_token_that_is_taken_back_ends_the_streams_that_it_asked_for() {
    let server = Server::start(vec![begun(), Answer::Silence]);
    let house = server.house(20_000);
    let mut daemon = house.start();
    let mut stream = send(&daemon, CHAT, "", &streaming("m").to_string());
    let mut seen = String::new();
    while !seen.contains("begun") {
        let mut piece = [0; 4_096];
        let count = stream.read(&mut piece).unwrap();
        seen.push_str(std::str::from_utf8(&piece[..count]).unwrap());
    }
    let waits = send(&daemon, CHAT, "", &hi("m").to_string());
    asked(&server, 2);
    let token = "another-token-of-the-admin-0123456789";
    std::fs::write(house.folder.path().join("state/tokens/admin.token"), token).unwrap();
    stream.read_to_string(&mut seen).unwrap();
    assert!(seen.contains("auth.invalid") && seen.contains("no longer in force"), "{seen}");
    assert_eq!(read(waits).status, 401);
    token.clone_into(&mut daemon.token);
    let mut ends = [settled(&daemon, 0), settled(&daemon, 1)];
    ends.sort_by_key(|end| end["outcome"].to_string());
    let outcomes = ends.each_ref().map(|end| (end["outcome"].as_str().unwrap(), end["code"].as_str().unwrap()));
    assert_eq!(outcomes, [("broken", "auth.invalid"), ("cut", "auth.invalid")]);
    daemon.stop();
}

#[test]
fn a_route_takes_so_many_calls_of_runs_and_clients_at_a_time() {
    let server = Server::start(vec![begun(), streamed(&words("here"), true)]);
    let house = server.house(20_000);
    routes(&house, |text| text.replace("timeout_ms", "requests_at_a_time = 1\ntimeout_ms"));
    let daemon = &house.start();
    let first = send(daemon, CHAT, "", &streaming("m").to_string());
    asked(&server, 1);
    let told = ask(daemon, CHAT, "", &hi("m"));
    assert_eq!((told.status, &told.json()["error"]["code"]), (503, &json!("request.overloaded")));
    let head = told.head.to_lowercase();
    assert!(head.contains("retry-after: 1") && head.contains("x-should-retry: true"), "{head}");
    assert_eq!(records(daemon, "model_call.requested").len(), 1);
    let run = daemon.run(&json!({}));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(server.asked.load(Ordering::SeqCst), 1, "the client has the place");
    drop(first);
    daemon.when(&run, "completed");
    settled(daemon, 0);
    assert_eq!(ask(daemon, CHAT, "", &hi("m")).status, 200);
}

#[test]
fn a_route_that_cannot_do_what_a_call_needs_refuses_it_and_names_one_that_may() {
    let server = Server::start(vec![streamed(&words("here"), true)]);
    let house = server.house(20_000);
    let other = format!(
        "[routes.able]\ndriver = \"openai\"\ndefault_model = \"m\"\nbase_url = \"http://127.0.0.1:{}/v1\"\n",
        server.port
    );
    routes(&house, |text| format!("{text}[routes.far.capabilities]\ntools = false\nimages = false\n{other}"));
    let daemon = &house.start();
    let mut tools = hi("far/m");
    tools["tools"] = json!([{ "type": "function", "function": { "name": "f" } }]);
    let mut shows = hi("far/m");
    shows["messages"][0]["content"] = json!([{ "type": "image_url", "image_url": { "url": "data:," } }]);
    for (body, what) in [(&tools, "tools"), (&shows, "images")] {
        let error = ask(daemon, CHAT, "", body).json()["error"].clone();
        let message = error["message"].as_str().unwrap();
        assert_eq!(error["code"], "request.invalid", "{error}");
        assert!(message.contains(what) && message.contains("Routes that may: able."), "{message}");
    }
    assert_eq!((server.asked.load(Ordering::SeqCst), records(daemon, "model_call.requested").len()), (0, 0));
    tools["model"] = json!("able/m");
    assert_eq!(ask(daemon, CHAT, "", &tools).status, 200);
    let mut none = hi("far/m");
    none["tools"] = json!([]);
    assert_eq!(ask(daemon, CHAT, "", &none).status, 200);
}

#[test]
fn tokens_are_estimated_as_they_are_set_aside_and_too_many_are_refused_alike_everywhere() {
    let server = Server::start(vec![]);
    let house = both(&server);
    routes(&house, |text| text.replace("default_model = \"c\"", "default_model = \"c\"\nmax_input_tokens = 100"));
    let daemon = &house.start();
    let path = "/v1/messages/count_tokens";
    let body = json!({ "model": "c", "messages": [{ "role": "user", "content": "w".repeat(401) }] });
    let told = ask(daemon, path, "", &body);
    let tokens = body.to_string().len().div_ceil(3);
    assert_eq!((told.status, told.json()), (200, json!({ "input_tokens": tokens })));
    let told = ask(daemon, path, "", &json!({ "model": "far/m", "messages": [] }));
    assert_eq!((told.status, &told.json()["type"]), (422, &json!("error")), "its shape is the client's");
    let readonly = format!("Authorization: Bearer {}\r\n", daemon.readonly);
    assert_eq!(ask(daemon, path, &readonly, &body).status, 403);
    let told = ask(daemon, "/v1/messages", "", &body);
    assert_eq!((told.status, &told.json()["error"]["type"]), (413, &json!("request_too_large")));
    assert!(told.body.contains("request.too_large"), "{}", told.body);
    assert_eq!((server.asked.load(Ordering::SeqCst), records(daemon, "model_call.requested").len()), (0, 0));
}

#[test]
fn a_key_may_be_used_again_for_a_call_that_the_provider_did_not_take() {
    let server = Server::start(vec![refused("429 Later"), refused("503 No"), streamed(&words("here"), true)]);
    let house = server.house(20_000);
    let daemon = house.start();
    let (one, two) = ("Idempotency-Key: one\r\n", "Idempotency-Key: two\r\n");
    assert_eq!(ask(&daemon, CHAT, one, &hi("m")).status, 429);
    assert_eq!(ask(&daemon, CHAT, two, &hi("m")).status, 503);
    settled(&daemon, 1);
    assert_eq!(ask(&daemon, CHAT, one, &hi("m")).status, 200);
    settled(&daemon, 2);
    assert_eq!(ask(&daemon, CHAT, one, &hi("m")).status, 409);
    daemon.stop();
    let daemon = &house.start();
    assert_eq!(ask(daemon, CHAT, one, &hi("m")).json()["error"]["code"], "request.already_done");
    assert_eq!(ask(daemon, CHAT, two, &hi("m")).status, 200);
}

fn listed(daemon: &Daemon, query: &str) -> (Vec<Value>, Value) {
    let mut page = daemon.get(&format!("/v1/model-calls{query}"));
    (page["items"].as_array().unwrap_or_else(|| panic!("{page}")).clone(), page["next_cursor"].take())
}

#[test]
fn calls_of_clients_are_listed_each_with_the_records_of_its_intent_and_its_end() {
    let message = r#"{"content":[],"usage":{"input_tokens":5,"output_tokens":3}}"#;
    let server =
        Server::start(vec![streamed(&words("here"), true), refused("400 No"), document("application/json", message)]);
    let house = both(&server);
    let daemon = house.start();
    let session = daemon.session(&json!({}));
    let paid = format!("Chancery-Session: {session}\r\n");
    ask(&daemon, CHAT, "", &hi("m"));
    settled(&daemon, 0);
    ask(&daemon, CHAT, &paid, &hi("m"));
    settled(&daemon, 1);
    ask(&daemon, "/v1/messages", "", &json!({ "model": "c", "max_tokens": 9, "messages": [] }));
    settled(&daemon, 2);
    let (all, next) = listed(&daemon, "");
    let told: Vec<String> = all
        .iter()
        .map(|call| format!("{} {} {}", call["what"], call["ended_as"], call["outcome"]).replace('"', ""))
        .collect();
    assert_eq!(told, ["far/m answered done", "far/m refused failed", "claude/c answered done"]);
    assert_eq!((&all[1]["code"], &all[1]["session_id"]), (&json!("provider.rejected"), &json!(session)));
    assert_eq!((&all[2]["cost"]["basis"], next), (&json!("reported"), Value::Null));
    let ready = daemon.get("/v1/status")["provider_readiness"]["active_route_ready"].take();
    assert_eq!(ready, json!(true), "a request that the provider finds wrong says nothing about the route");
    for call in &all {
        assert!(call["outcome_seq"].as_u64() > call["intent_seq"].as_u64(), "{call}");
        assert_eq!(daemon.get(&format!("/v1/model-calls/{}", call["model_call_id"].as_str().unwrap())), *call);
    }
    assert_eq!(listed(&daemon, "?route=claude").0, all[2..]);
    assert_eq!(listed(&daemon, &format!("?session_id={session}")).0, all[1..2]);
    let (first, cursor) = listed(&daemon, "?limit=2");
    let rest = listed(&daemon, &format!("?limit=2&cursor={}", cursor.as_str().unwrap()));
    assert_eq!(([first, rest.0].concat(), rest.1), (all.clone(), Value::Null));
    let (status, absent) = daemon.request(&daemon.token, "GET", "/v1/model-calls/mcall_01JADWW8GG0000000000000000", "");
    assert_eq!((status, &absent["code"]), (404, &json!("model_call.not_found")));
    let folder = house.folder.path().join("receipts");
    let at = ["--url", &format!("http://{}", daemon.address), "--token", &daemon.token];
    let list = Command::new(BINARY).args(at).args(["model-calls", "list", "--receipts"]).arg(&folder).output().unwrap();
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.status.success() && text.contains("claude/c") && text.contains("refused"), "{text}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 6);
    let key = daemon.get("/v1/journal/head")["verifier_key"].as_str().unwrap().to_owned();
    for receipt in std::fs::read_dir(&folder).unwrap() {
        let receipt = receipt.unwrap().path();
        assert!(Command::new(BINARY).arg("verify").arg(receipt).args(["--key", &key]).status().unwrap().success());
    }
    let show = ["model-calls", "show", all[0]["model_call_id"].as_str().unwrap()];
    let shown = Command::new(BINARY).args(at).args(show).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("answered"), "{shown:?}");
    daemon.stop();
    let daemon = house.start();
    assert_eq!(listed(&daemon, "").0, all, "and so they are after a restart");
    daemon.stop();
}

#[test]
fn a_refused_call_is_explained_by_its_request_until_the_daemon_ends_and_one_that_was_made_after_that_too() {
    let server = Server::start(vec![streamed(&words("here"), true)]);
    let house = server.house(20_000);
    let daemon = house.start_priced();
    let put = |daemon: &Daemon, micros: u64| {
        let body = json!({ "limit_micros": micros }).to_string();
        assert_eq!(daemon.request(&daemon.token, "PUT", "/v1/budgets/route:far:day", &body).0, 200);
    };
    let explained = |daemon: &Daemon, request: &str| daemon.get(&format!("/v1/budgets/explain?request_id={request}"));
    put(&daemon, 100);
    assert_eq!(ask(&daemon, CHAT, "X-Request-Id: the-refused\r\n", &hi("m")).status, 402);
    let view = explained(&daemon, "the-refused");
    let refusal = &view["refusals"][0];
    assert_eq!((&refusal["code"], &refusal["route"]), (&json!("budget.exceeded"), &json!("far")), "{view}");
    assert_eq!((&refusal["token"], &refusal["run_id"]), (&json!("admin"), &Value::Null));
    let way = &refusal["budgets"][0]["budget"];
    assert_eq!((&way["budget"], &way["left_micros"]), (&json!("route:far:day"), &json!(100)), "{view}");
    assert_eq!(view["calls"], json!([]));
    put(&daemon, 1_000_000);
    assert_eq!(ask(&daemon, CHAT, "X-Request-Id: the-made\r\n", &hi("m")).status, 200);
    settled(&daemon, 0);
    let made = explained(&daemon, "the-made");
    assert_eq!((&made["calls"][0]["route"], made["calls"].as_array().unwrap().len()), (&json!("far"), 1), "{made}");
    daemon.stop();
    let daemon = house.start_priced();
    assert_eq!(explained(&daemon, "the-made"), made);
    let none = json!({ "refusals": [], "error": null, "calls": [] });
    assert_eq!(explained(&daemon, "the-refused"), none, "refusals are no records");
    daemon.stop();
}

#[test]
fn the_next_fallback_that_speaks_the_dialect_answers_and_says_so() {
    let server = Server::start(vec![refused("503 No"), streamed(&words("here"), true)]);
    let house = both(&server);
    let port = server.port;
    let able = format!(
        "[routes.able]\ndriver = \"openai\"\ndefault_model = \"other\"\nbase_url = \"http://127.0.0.1:{port}/v1\"\n\
         [routes.gone]\ndriver = \"openai\"\ndefault_model = \"m\"\nbase_url = \"http://127.0.0.1:1/v1\"\n\
         fallbacks = [\"far\"]\n"
    );
    let stands = "fallbacks = [\"claude\", \"able\"]\ntimeout_ms";
    routes(&house, |text| text.replace("timeout_ms", stands) + &able);
    let daemon = &house.start();
    let key = "Idempotency-Key: one\r\nX-Request-Id: the-request\r\n";
    let told = ask(daemon, CHAT, key, &streaming("gone/m"));
    assert!(told.status == 200 && told.body.contains("here"), "{}", told.body);
    assert!(told.head.to_lowercase().contains("chancery-route: able/other"), "{}", told.head);
    settled(daemon, 2);
    let asked = records(daemon, "model_call.requested");
    let decisions: Vec<&Value> = asked.iter().map(|body| &body["route_decision"]).collect();
    let stands =
        json!({ "why": "fallback", "payer": "operator", "in_place_of": "gone", "after": "provider.unavailable" });
    assert_eq!(decisions, [&Value::Null, &stands, &stands]);
    let heard: Value = serde_json::from_str(&server.heard.lock().unwrap()[1]).unwrap();
    assert_eq!((&asked[2]["route"], &heard["model"]), (&json!("able"), &json!("other")));
    let ends = records(daemon, "model_call.settled");
    let mut ends: Vec<&str> = ends.iter().map(|end| end["outcome"].as_str().unwrap()).collect();
    ends.sort_unstable();
    assert_eq!(ends, ["answered", "not_sent", "refused"]);
    assert_eq!(ask(daemon, CHAT, key, &streaming("gone/m")).json()["error"]["code"], "request.already_done");
    let calls = &daemon.get("/v1/budgets/explain?request_id=the-request")["calls"];
    assert_eq!(calls.as_array().unwrap().len(), 3, "{calls}");
}
