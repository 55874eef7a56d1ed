//! Models behind real sockets that answer late, badly, in part, or not at all, and what becomes of the runs.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::{BINARY, Daemon, House, eventually, says, turn};

/// What a server does about a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Says this, and closes.
    Says(String),
    /// Says this, and holds on.
    Begins(String),
    /// Holds on and says nothing.
    Silence,
    /// Says what it was shown as a credential.
    Repeats,
}

pub struct Server {
    pub port: u16,
    pub asked: Arc<AtomicUsize>,
    /// The bodies of the requests.
    pub heard: Arc<Mutex<Vec<String>>>,
    pub heads: Arc<Mutex<Vec<String>>>,
}

/// Head and body of a request.
pub fn request(socket: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length: Option<usize> =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        match socket.read(&mut piece) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
}

impl Server {
    /// The n-th request gets the n-th answer; later ones the last.
    pub fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (count, bodies, shared) = (asked.clone(), heard.clone(), heads.clone());
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let Ok(mut socket) = socket else { return };
                let (answers, count, bodies) = (answers.clone(), count.clone(), bodies.clone());
                let heads = shared.clone();
                std::thread::spawn(move || {
                    let Some((head, body)) = request(&mut socket) else { return };
                    heads.lock().unwrap().push(head.clone());
                    bodies.lock().unwrap().push(body);
                    let at = count.fetch_add(1, Ordering::SeqCst);
                    match answers.get(at).or(answers.last()) {
                        Some(Answer::Says(words)) => drop(socket.write_all(words.as_bytes())),
                        Some(Answer::Begins(words)) => {
                            drop(socket.write_all(words.as_bytes()));
                            drop(socket.read_exact(&mut [0]));
                        }
                        Some(Answer::Repeats) => drop(socket.write_all(repeating(&head).as_bytes())),
                        Some(Answer::Silence) | None => drop(socket.read_exact(&mut [0])),
                    }
                });
            }
        });
        Self { port, asked, heard, heads }
    }

    /// A house whose default route leads here, and whose route `practice` plays.
    pub fn house(&self, timeout_ms: u64) -> House {
        let house = House::playing(&[says("done")]);
        let routes = format!(
            "version = 1\ndefault_route = \"far\"\n\
             [routes.practice]\ndriver = \"rehearsal\"\ndefault_model = \"rehearsal\"\nscript = \"script.toml\"\n\
             [routes.far]\ndriver = \"openai\"\ndefault_model = \"m\"\ntimeout_ms = {timeout_ms}\n\
             base_url = \"http://127.0.0.1:{}/v1\"\n",
            self.port
        );
        std::fs::write(house.folder.path().join("routes.toml"), routes).unwrap();
        house
    }
}

fn refused(status: &str) -> Answer {
    Answer::Says(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
}

/// An answer that repeats the credential of a request.
fn repeating(head: &str) -> String {
    let shown = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then_some(value)
    });
    match streamed(&words(&format!("You said: {}", shown.unwrap_or("nothing"))), true) {
        Answer::Says(text) => text,
        Answer::Begins(_) | Answer::Silence | Answer::Repeats => String::new(),
    }
}

/// An answer that streams these events, and says that it is over or breaks off.
pub fn streamed(events: &str, whole: bool) -> Answer {
    let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    Answer::Says(format!("{head}{events}{}", if whole { end } else { "" }))
}

pub fn words(text: &str) -> String {
    format!("data: {}\n\n", json!({ "choices": [{ "delta": { "content": text } }] }))
}

/// What a turn that failed cost beside what was sent, in the prices of `start_priced`.
fn cost_of_heard(daemon: &Daemon, run: &str) -> u64 {
    let sent = &daemon.records(run, "turn.requested")[0]["data"]["reservation"]["input_tokens"];
    let failed = &daemon.records(run, "turn.failed")[0]["data"];
    failed["cost"]["micros"].as_u64().unwrap() - sent.as_u64().unwrap()
}

#[test]
fn an_answer_that_ends_early_costs_all_that_was_heard_of_it_thoughts_and_calls_too() {
    let thoughts = json!({ "choices": [{ "delta": { "reasoning_content": "r".repeat(40) } }] });
    let call = json!({ "index": 0, "id": "c1", "function": { "name": "bash", "arguments": "a".repeat(36) } });
    let call = json!({ "choices": [{ "delta": { "tool_calls": [call] } }] });
    let heard = format!("data: {thoughts}\n\ndata: {call}\n\n");
    let Answer::Says(begun) = streamed(&format!("{heard}{}", words("four")), false) else { panic!() };
    let server = Server::start(vec![streamed(&heard, false), Answer::Begins(begun)]);
    let house = server.house(20_000);
    let daemon = house.start_priced();
    let run = daemon.run(&json!({}));
    daemon.when(&run, "failed");
    assert_eq!(cost_of_heard(&daemon, &run), 27 * 100);
    // Stopped by hand, once its words have come.
    let session = daemon.session(&json!({}));
    let mut watcher = TcpStream::connect(&daemon.address).unwrap();
    let (address, token) = (&daemon.address, &daemon.token);
    let head = format!("Host: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
    watcher.write_all(format!("GET /v1/sessions/{session}/stream HTTP/1.1\r\n{head}").as_bytes()).unwrap();
    let mut told = String::new();
    let mut until = |word: &str| {
        while !told.contains(word) {
            let mut piece = [0; 4_096];
            let count = watcher.read(&mut piece).unwrap();
            told.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    };
    until(": open");
    let run = daemon.run_in(&session);
    until("four");
    let (status, _) = daemon.request(&daemon.token, "POST", &format!("/v1/runs/{run}/cancel"), "{}");
    assert_eq!(status, 200);
    daemon.when(&run, "cancelled");
    assert_eq!(cost_of_heard(&daemon, &run), 28 * 100);
    daemon.stop();
}

#[test]
fn each_request_to_a_model_has_its_record() {
    let server = Server::start(vec![refused("503 Later"), refused("503 Later"), streamed(&words("here"), true)]);
    let house = server.house(20_000);
    let daemon = house.start();
    let run = daemon.run(&json!({}));
    assert_eq!(daemon.when(&run, "completed")["output"], "here");
    let attempts: Vec<Value> =
        daemon.records(&run, "turn.requested").iter().map(|record| record["data"]["attempt"].clone()).collect();
    assert_eq!((server.asked.load(Ordering::SeqCst), attempts), (3, vec![json!(1), json!(2), json!(3)]));
    daemon.stop();
}

/// The messages of a request.
fn messages(body: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(body).unwrap()["messages"].as_array().unwrap().clone()
}

fn said_by(message: &Value, role: &str) -> bool {
    message["role"] == role
}

#[test]
fn a_run_that_talks_much_stays_within_one_request_and_its_model_is_told_what_is_left_out() {
    let call = |at: usize| {
        let wanted = json!([{ "index": 0, "id": format!("c{at}"),
            "function": { "name": "read_file", "arguments": json!({ "path": "n" }).to_string() } }]);
        let event = json!({ "choices": [{ "delta": { "content": "w".repeat(300_000), "tool_calls": wanted } }] });
        streamed(&format!("data: {event}\n\n"), true)
    };
    let server = Server::start((0..12).map(call).chain([streamed(&words("enough"), true)]).collect());
    let house = server.house(20_000);
    std::fs::write(house.work("n"), "n").unwrap();
    let daemon = house.start();
    let run = daemon.run(&json!({}));
    assert_eq!(daemon.when(&run, "completed")["output"], "enough");
    let heard = server.heard.lock().unwrap().clone();
    let longest = heard.iter().map(String::len).max().unwrap();
    assert!((900_000..(1 << 20) + 20_000).contains(&longest), "{longest}");
    let told = messages(heard.last().unwrap());
    let system = told[0]["content"].as_str().unwrap();
    assert!(system.ends_with("because it is too long: the ends of long texts, which say so (9)."), "{system}");
    assert_eq!(told.iter().filter(|one| said_by(one, "assistant")).count(), 12);
    assert!(told[2]["content"].as_str().unwrap().ends_with("w\n(left out: the conversation is too long)"));
    let records = daemon.records(&run, "turn.requested");
    let shortened: Vec<&Value> = records.iter().map(|record| &record["data"]["parts_shortened"]).collect();
    assert_eq!((shortened[3], shortened[12]), (&Value::Null, &json!(9)));
    daemon.stop();
}

#[test]
fn a_model_is_told_that_earlier_messages_are_left_out() {
    let server = Server::start(vec![streamed(&words("here"), true)]);
    let house = server.house(20_000);
    let daemon = house.start();
    let session = daemon.session(&json!({}));
    let mut last = String::new();
    for letter in ["a", "b", "c"] {
        let body = json!({ "content": letter.repeat(500_000) });
        let (status, view) = daemon.post(&format!("/v1/sessions/{session}/runs"), &body);
        assert_eq!(status, 202, "{view}");
        last = view["run_id"].as_str().unwrap().to_owned();
        daemon.when(&last, "completed");
    }
    let told = messages(server.heard.lock().unwrap().last().unwrap());
    let line = "because it is too long: earlier messages of the session with what came of them (1).";
    assert!(told[0]["content"].as_str().unwrap().ends_with(line), "{}", told[0]["content"]);
    assert_eq!(told.iter().filter(|one| said_by(one, "user")).count(), 2);
    assert_eq!(daemon.records(&last, "turn.requested")[0]["data"]["runs_left_out"], 1);
    daemon.stop();
}

#[test]
fn runs_beyond_those_that_are_read_count_as_left_out_and_a_script_goes_on_in_step() {
    let later = "[[turns]]\nmessage = 66\nsteps = [{ text = \"the sixty-sixth\" }]\n";
    let house = House::playing(&[says("one of many"), later.to_owned()]);
    let daemon = house.start();
    let session = daemon.session(&json!({}));
    let runs: Vec<String> = (0..66).map(|_| daemon.run_in(&session)).collect();
    assert_eq!(daemon.when(&runs[65], "completed")["output"], "[rehearsal] the sixty-sixth");
    let left_out = |at: usize| daemon.records(&runs[at], "turn.requested")[0]["data"]["runs_left_out"].clone();
    assert_eq!((left_out(64), left_out(65)), (Value::Null, json!(1)));
    daemon.stop();
}

#[test]
fn an_answer_that_broke_off_is_told_between_the_messages() {
    let server = Server::start(vec![streamed(&words("half of"), false), streamed(&words("here"), true)]);
    let house = server.house(20_000);
    let daemon = house.start();
    let session = daemon.session(&json!({}));
    let broken = daemon.run_in(&session);
    daemon.when(&broken, "failed");
    let next = daemon.run_in(&session);
    daemon.when(&next, "completed");
    let told = messages(server.heard.lock().unwrap().last().unwrap());
    let roles: Vec<&str> = told.iter().map(|one| one["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    assert!(told[2]["content"].as_str().unwrap().starts_with("half of\n(The answer broke off here: "), "{}", told[2]);
    daemon.stop();
}

#[test]
fn what_a_model_may_have_been_paid_for_is_not_asked_again() {
    for answer in [Answer::Silence, Answer::Says(String::new()), refused("504 Gateway Timeout")] {
        let server = Server::start(vec![answer.clone()]);
        let house = server.house(500);
        let daemon = house.start();
        let run = daemon.run(&json!({}));
        assert_eq!(daemon.when(&run, "failed")["error"]["code"], "provider.stream_broken", "{answer:?}");
        let requested = daemon.records(&run, "turn.requested").len();
        assert_eq!((server.asked.load(Ordering::SeqCst), requested), (1, 1), "{answer:?}");
        daemon.stop();
    }
}

#[test]
fn every_word_of_an_answer_that_broke_off_is_kept_however_fast_they_came() {
    let numbered: Vec<String> = (0..2_000).map(|at| format!("{at:04} ")).collect();
    let events: String = numbered.iter().map(|word| words(word)).collect();
    let server = Server::start(vec![streamed(&events, false)]);
    let house = server.house(20_000);
    let daemon = house.start();
    let run = daemon.run(&json!({}));
    assert_eq!(daemon.when(&run, "failed")["error"]["code"], "provider.stream_broken");
    assert_eq!(daemon.records(&run, "turn.failed")[0]["data"]["partial"], numbered.concat());
    daemon.stop();
}

#[test]
fn an_answer_of_many_calls_that_pass_a_record_together_is_taken() {
    let call = |at: usize| {
        let arguments = json!({ "path": format!("{at}.txt"), "content": "\u{1}".repeat(9_000) + &"y".repeat(5_000) });
        json!({ "index": at, "id": format!("c{at}"), "function": { "name": "write_file", "arguments": arguments.to_string() } })
    };
    let wanted: Vec<Value> = (0..20).map(call).collect();
    let events = format!("data: {}\n\n", json!({ "choices": [{ "delta": { "tool_calls": wanted } }] }));
    let server = Server::start(vec![streamed(&events, true), streamed(&words("written"), true)]);
    let house = server.house(20_000);
    let daemon = house.start();
    let run = daemon.run(&json!({ "permission_mode": "bypass-permissions" }));
    assert_eq!(daemon.when(&run, "completed")["output"], "written");
    assert_eq!(std::fs::read_to_string(house.work("19.txt")).unwrap().len(), 14_000);
    daemon.stop();
}

#[test]
fn a_route_that_does_not_answer_leaves_room_for_the_others() {
    let server = Server::start(vec![Answer::Silence]);
    let house = server.house(60_000);
    let daemon = house.start();
    // More than may wait at a time.
    let hung: Vec<String> = (0..10).map(|_| daemon.run(&json!({}))).collect();
    eventually("calls of the route that does not answer", || (server.asked.load(Ordering::SeqCst) == 8).then_some(()));
    let other = daemon.run(&json!({ "route": "practice" }));
    daemon.when(&other, "completed");
    assert_eq!(server.asked.load(Ordering::SeqCst), 8, "no more of them at a time");
    let queued = hung.iter().filter(|run| daemon.view(run)["status"] == "queued").count();
    assert_eq!(queued, 2, "a run of a full route stays in its queue");
    for run in hung {
        assert_eq!(daemon.post(&format!("/v1/runs/{run}/cancel"), &json!({})).0, 200);
        daemon.when(&run, "cancelled");
    }
    daemon.stop();
}

#[test]
fn however_many_routes_do_not_answer_there_is_room_for_the_others_and_one_works_at_a_time() {
    let servers: Vec<Server> = (0..3).map(|_| Server::start(vec![Answer::Silence])).collect();
    let house = House::playing(&[
        turn(
            "{ wait_ms = 500 }, { call = \"bash\", input = '''{\"command\":\"echo x >> began; until [ -e go ]; do sleep 0.05; done\"}''' }",
        ),
        says("done"),
    ]);
    let playing =
        |id: &str| format!("[routes.{id}]\ndriver = \"rehearsal\"\ndefault_model = \"r\"\nscript = \"script.toml\"\n");
    let dead = |(id, server): (usize, &Server)| {
        let url = format!("http://127.0.0.1:{}/v1", server.port);
        format!("[routes.dead{id}]\ndriver = \"openai\"\ndefault_model = \"m\"\nbase_url = \"{url}\"\n")
    };
    let routes = [playing("practice"), playing("other")].into_iter().chain(servers.iter().enumerate().map(dead));
    let routes = format!("version = 1\ndefault_route = \"practice\"\n{}", routes.collect::<String>());
    std::fs::write(house.folder.path().join("routes.toml"), routes).unwrap();
    let daemon = house.start_with(&["--runs-at-a-time", "1"], &[]);
    let on = |route: &str| daemon.run(&json!({ "route": route, "permission_mode": "bypass-permissions" }));
    let hung: Vec<String> = (0..6).map(|number| on(&format!("dead{}", number % 3))).collect();
    eventually("calls of all routes that do not answer", || {
        servers.iter().all(|server| server.asked.load(Ordering::SeqCst) == 1).then_some(())
    });
    // Both models answer at about the same time, and both want a command.
    let working = [on("practice"), on("other")];
    let answered = |run: &String| daemon.records(run, "turn.answered").len() == 1;
    eventually("answers", || working.iter().all(answered).then_some(()));
    assert_eq!(house.written("began"), "x\n");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(house.written("began"), "x\n", "the other's command waits for its place");
    std::fs::write(house.work("go"), "").unwrap();
    for run in &working {
        daemon.when(run, "completed");
    }
    assert_eq!(house.written("began"), "x\nx\n");
    for run in hung {
        assert_eq!(daemon.post(&format!("/v1/runs/{run}/cancel"), &json!({})).0, 200);
        daemon.when(&run, "cancelled");
    }
    daemon.stop();
}

#[test]
fn a_run_that_pauses_before_it_asks_again_holds_no_place_and_is_cancelled_at_once() {
    let later = "HTTP/1.1 429 Later\r\nRetry-After: 60\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let server = Server::start(vec![Answer::Says(later.to_owned())]);
    let house = server.house(20_000);
    let daemon = house.start_with(&["--runs-at-a-time", "1"], &[]);
    let pausing = daemon.run(&json!({}));
    eventually("failed attempt", || (!daemon.records(&pausing, "turn.failed").is_empty()).then_some(()));
    let other = daemon.run(&json!({ "route": "practice" }));
    daemon.when(&other, "completed");
    assert_eq!(daemon.view(&pausing)["status"], "running");
    assert_eq!(daemon.post(&format!("/v1/runs/{pausing}/cancel"), &json!({})).0, 200);
    daemon.when(&pausing, "cancelled");
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    daemon.stop();
}

#[test]
fn a_run_keeps_the_system_prompt_of_its_claim_and_the_next_one_has_the_new_one() {
    let server = Server::start(vec![refused("503 Later"), streamed(&words("here"), true)]);
    let house = server.house(20_000);
    let daemon = house.start();
    let set = |body: Value| {
        let (status, view) = daemon.post("/v1/runtime/system-prompt", &body);
        assert_eq!(status, 200, "{view}");
        view["revision"].clone()
    };
    let own = set(json!({ "mode": "append", "text": "Be brief." }));
    let run = daemon.run(&json!({}));
    eventually("first request", || (server.asked.load(Ordering::SeqCst) == 1).then_some(()));
    set(json!({ "mode": "replace", "text": "Be long." }));
    daemon.when(&run, "completed");
    let systems = || -> Vec<String> {
        let heard = server.heard.lock().unwrap().clone();
        heard.iter().map(|body| messages(body)[0]["content"].as_str().unwrap().to_owned()).collect()
    };
    let told = systems();
    assert!(told.len() == 2 && told[0] == told[1] && told[1].ends_with("\nBe brief."), "{told:?}");
    assert!(told[0].starts_with("You work in one folder"), "{told:?}");
    assert_eq!(daemon.records(&run, "run.started")[0]["data"]["runtime_revision"], own);
    let run = daemon.run(&json!({}));
    daemon.when(&run, "completed");
    assert_eq!(systems()[2], "Be long.");
    daemon.stop();
}

#[test]
fn tools_are_bounded_by_what_the_operator_set_when_the_run_began() {
    let wait = crate::support::bash("echo yes > begun; until [ -e go ]; do sleep 0.05; done");
    let read = crate::support::calls(&[("read_file", json!({ "path": "long" }))]);
    let house = House::playing(&[wait, read, says("done")]);
    std::fs::write(house.work("long"), "line of the file\n".repeat(200)).unwrap();
    let daemon = house.start();
    let free = json!({ "permission_mode": "bypass-permissions" });
    let before = daemon.run(&free);
    house.written("begun");
    let (status, view) = daemon.post("/v1/runtime/tool-limits", &json!({ "result_bytes": 100 }));
    assert_eq!((status, &view["tool_limits"]), (200, &json!({ "result_bytes": 100 })));
    std::fs::write(house.work("go"), "").unwrap();
    daemon.when(&before, "completed");
    assert!(daemon.outputs(&before)[1].len() > 1_000, "it keeps what was in force when it began");
    let run = daemon.run(&free);
    daemon.when(&run, "completed");
    assert_eq!(daemon.outputs(&run)[1].len(), 100);
    assert_eq!(daemon.records(&run, "call.finished")[1]["data"]["truncated"], true);
    daemon.stop();
}

/// Routes of which each but the last falls back to the next.
fn chain(house: &House, servers: &[&Server]) {
    let mut text = "version = 1\ndefault_route = \"r0\"\n".to_owned();
    for (at, server) in servers.iter().enumerate() {
        let next = if at + 1 < servers.len() { format!("[\"r{}\"]", at + 1) } else { "[]".to_owned() };
        let (head, port) = (format!("[routes.r{at}]\ndriver = \"openai\"\ndefault_model = \"m{at}\"\n"), server.port);
        let rest = format!("fallbacks = {next}\nbase_url = \"http://127.0.0.1:{port}/v1\"\n");
        text.extend([head, rest]);
    }
    std::fs::write(house.folder.path().join("routes.toml"), text).unwrap();
}

#[test]
fn a_route_that_cannot_be_had_is_stood_in_for_by_a_recorded_request_or_given_up_where_nobody_can() {
    let (first, second) =
        (Server::start(vec![refused("503 Later")]), Server::start(vec![streamed(&words("here"), true)]));
    let third = Server::start(vec![streamed(&words("there"), true)]);
    let house = first.house(20_000);
    chain(&house, &[&first, &second, &third]);
    let path = house.folder.path().join("routes.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let alone = "[routes.alone]\ndriver = \"openai\"\ndefault_model = \"m\"\n";
    std::fs::write(path, format!("{text}{alone}base_url = \"http://127.0.0.1:{}/v1\"\n", first.port)).unwrap();
    let daemon = house.start();
    let given_up = daemon.run(&json!({ "route": "alone" }));
    let run = daemon.run(&json!({}));
    let view = daemon.when(&run, "completed");
    assert_eq!((&view["output"], &view["route"]), (&json!("here"), &json!("r0")), "what is pinned stays");
    let requests = daemon.records(&run, "turn.requested");
    let told = |at: usize, part: &str| requests[at]["data"][part].clone();
    assert_eq!((requests.len(), third.asked.load(Ordering::SeqCst)), (6, 0), "the nearest comes first");
    assert_eq!((told(0, "route_decision"), told(4, "route")), (Value::Null, json!("r0")));
    assert_eq!((told(5, "route"), told(5, "model"), told(5, "attempt")), (json!("r1"), json!("m1"), json!(6)));
    let decision =
        json!({ "why": "fallback", "payer": "operator", "in_place_of": "r0", "after": "provider.unavailable" });
    assert_eq!(told(5, "route_decision"), decision);
    assert_eq!(daemon.when(&given_up, "failed")["error"]["code"], "provider.unavailable");
    assert_eq!(daemon.records(&given_up, "turn.failed").len(), 5, "so many attempts a route has");
    assert_eq!(first.asked.load(Ordering::SeqCst), 10);
    daemon.stop();
}

#[test]
fn nobody_stands_in_where_an_answer_began_or_the_request_was_refused() {
    for (answer, code) in
        [(streamed(&words("half of"), false), "provider.stream_broken"), (refused("400 No"), "provider.rejected")]
    {
        let (first, second) = (Server::start(vec![answer]), Server::start(vec![streamed(&words("here"), true)]));
        let house = first.house(20_000);
        chain(&house, &[&first, &second]);
        let daemon = house.start();
        let run = daemon.run(&json!({}));
        assert_eq!(daemon.when(&run, "failed")["error"]["code"], code);
        assert_eq!(second.asked.load(Ordering::SeqCst), 0);
        daemon.stop();
    }
}

#[test]
fn a_budget_limits_what_a_model_may_answer_and_refuses_the_run_that_it_does_not_cover() {
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": 1_000, "completion_tokens": 20 } });
    let server = Server::start(vec![streamed(&format!("{}data: {usage}\n\n", words("here")), true)]);
    let house = server.house(20_000);
    let daemon = house.start_priced();
    let put = |micros: u64| {
        let body = json!({ "limit_micros": micros }).to_string();
        daemon.request(&daemon.token, "PUT", "/v1/budgets/route:far:day", &body)
    };
    // What the request is estimated at is known only once one was made; then the budget covers it and 50 tokens.
    assert_eq!(put(1_000_000).0, 200);
    let first = daemon.run(&json!({}));
    daemon.when(&first, "completed");
    let reservation = &daemon.records(&first, "turn.requested")[0]["data"]["reservation"];
    assert_eq!((&reservation["price"]["table"], &reservation["principal"]), (&json!("test"), &json!("admin")));
    let cost = daemon.records(&first, "turn.answered")[0]["data"]["cost"].clone();
    assert_eq!(cost, json!({ "micros": 3_000, "basis": "reported" }));
    let estimated = reservation["input_tokens"].as_u64().unwrap();
    assert_eq!(put(3_000 + estimated + 5_099).0, 200);
    let second = daemon.run(&json!({}));
    daemon.when(&second, "completed");
    let told: Value = serde_json::from_str(&server.heard.lock().unwrap()[1]).unwrap();
    let limit = told.get("max_tokens").or(told.get("max_completion_tokens")).and_then(Value::as_u64).unwrap();
    assert!((40..=50).contains(&limit), "{limit} of 50 tokens, for the second request may be a little longer");
    let shown = daemon.get("/v1/budgets");
    assert_eq!(shown["budgets"][0]["spent_micros"], 6_000, "{shown}");
    assert_eq!(put(6_001).0, 200);
    let third = daemon.run(&json!({}));
    assert_eq!(daemon.when(&third, "failed")["error"]["code"], "budget.exceeded");
    let numbers = daemon.get("/metrics");
    let refused = "chancery_quota_rejections_total{code=\"budget.exceeded\"} 1\n";
    assert!(numbers.as_str().unwrap().contains(refused), "{numbers}");
    assert_eq!(server.asked.load(Ordering::SeqCst), 2, "nothing was sent");
    let explained = daemon.get(&format!("/v1/budgets/explain?run_id={third}"));
    let [refusal] = explained["refusals"].as_array().unwrap().as_slice() else { panic!("{explained}") };
    let way = &refusal["budgets"][0]["budget"];
    assert_eq!((&refusal["code"], &refusal["token"]), (&json!("budget.exceeded"), &json!("admin")));
    assert_eq!((&refusal["run_id"], &refusal["model"]), (&json!(third), &json!("m")));
    assert_eq!(way["budget"], "route:far:day", "{explained}");
    assert_eq!(
        (&way["limit_micros"], &way["spent_micros"], &way["left_micros"]),
        (&json!(6_001), &json!(6_000), &json!(1))
    );
    assert!(refusal["needed_micros"].as_u64().unwrap() > 1, "{explained}");
    let causes: Vec<&str> = refusal["budgets"][0]["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["run_id"].as_str().unwrap())
        .collect();
    assert_eq!((causes, &explained["calls"]), (vec![second.as_str(), first.as_str()], &json!([])));
    let cli = |words: &[&str]| {
        let mut command = std::process::Command::new(BINARY);
        command.arg("budget").args(words).arg("--state-root").arg(house.folder.path().join("state"));
        let out = command.env("HOME", house.folder.path()).env_remove("XDG_STATE_HOME").output().unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap() + &String::from_utf8_lossy(&out.stderr))
    };
    let (code, told) = cli(&["explain", &third]);
    assert_eq!(code, 0, "{told}");
    for part in ["budget.exceeded", "route:far:day", "6001", "6000", first.as_str(), second.as_str(), third.as_str()] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let cost = daemon.get(&format!("/v1/budgets/explain?run_id={first}"));
    assert_eq!((&cost["refusals"], &cost["calls"][0]["cost_micros"]), (&json!([]), &json!(3_000)));
    for (query, code) in [("", "request.invalid"), ("?run_id=run_01ARZ3NDEKTSV4RRFFQ69G5FAV", "run.not_found")] {
        assert_eq!(daemon.get(&format!("/v1/budgets/explain{query}"))["code"], code);
    }
    let unknown = daemon.get("/v1/budgets/explain?request_id=req_unknown");
    assert_eq!(unknown, json!({ "refusals": [], "error": null, "calls": [] }));
    let one = daemon.get("/v1/budgets/route:far:day");
    assert_eq!(one["entries"].as_array().unwrap().len(), 2, "{one}");
    assert!(cli(&["set", "token:admin:month", "77"]).1.contains("token:admin:month"));
    assert_eq!(daemon.get("/v1/budgets/token:admin:month")["budget"]["limit_micros"], 77);
    assert!(!cli(&["remove", "token:admin:month"]).1.contains("token:admin:month"));
    assert!(cli(&["list"]).1.contains("route:far:day"));
    assert!(cli(&["set", "far", "1"]).0 > 0);
    let removed = daemon.request(&daemon.token, "DELETE", "/v1/budgets/route:far:day", "{}");
    assert_eq!((removed.0, &removed.1["budgets"]), (200, &json!([])));
    assert_eq!(daemon.request(&daemon.token, "GET", "/v1/budgets/route:far:day", "").1["code"], "budget.not_found");
    assert_eq!(daemon.request(&daemon.token, "PUT", "/v1/budgets/far:day", "{\"limit_micros\":1}").0, 422);
    daemon.stop();
    let daemon = house.start();
    // Refusals are gone with the start; the run still says why it failed, and its calls what they cost.
    let explained = daemon.get(&format!("/v1/budgets/explain?run_id={third}"));
    assert_eq!((&explained["refusals"], &explained["error"]["code"]), (&json!([]), &json!("budget.exceeded")));
    let cost = daemon.get(&format!("/v1/budgets/explain?run_id={first}"));
    assert_eq!(cost["calls"][0]["cost_micros"], 3_000);
    daemon.stop();
}

#[test]
fn each_start_records_the_price_table_in_force() {
    let house = House::playing(&[says("done")]);
    let prices = house.folder.path().join("prices.toml");
    std::fs::write(&prices, "version = \"of-2027\"\n[models]\n").unwrap();
    let last = |daemon: &Daemon| -> Value {
        let Value::String(lines) = daemon.get("/v1/journal/records?from=0&limit=1000") else { panic!("no lines") };
        let mut records = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.rfind(|record| record["kind"] == "context.set").unwrap()["data"]["price_table"].clone()
    };
    let daemon = house.start_with(&["--price-table-file", prices.to_str().unwrap()], &[]);
    assert_eq!(last(&daemon), "of-2027");
    daemon.stop();
    let daemon = house.start();
    assert_eq!(last(&daemon), "2025-10-01");
    daemon.stop();
}
