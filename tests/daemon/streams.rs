//! Streams of records and pages of them, as clients use them: words as they come, cursors, readers that never read.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Daemon, House};

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: Option<u64>,
    kind: String,
    data: Value,
}

/// A client of a stream, which reads as the living standard says.
struct Client {
    reader: BufReader<TcpStream>,
    status: u16,
    left: String,
}

impl Client {
    fn open(daemon: &Daemon, path: &str, headers: &str) -> Self {
        Self::open_as(daemon, &daemon.token, path, headers)
    }

    fn open_as(daemon: &Daemon, token: &str, path: &str, headers: &str) -> Self {
        let mut socket = TcpStream::connect(&daemon.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n{headers}\r\n",
            daemon.address, token
        );
        socket.write_all(head.as_bytes()).unwrap();
        let mut reader = BufReader::new(socket);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        Self { reader, status, left: String::new() }
    }

    /// One chunk of the body; none at its end.
    fn chunk(&mut self) -> Option<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut bytes = vec![0; size + 2];
        self.reader.read_exact(&mut bytes).unwrap();
        bytes.truncate(size);
        (size > 0).then(|| String::from_utf8(bytes).unwrap())
    }

    /// The next event; none at the end of the stream. Comments are passed over.
    fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.left.find("\n\n") {
                let frame: String = self.left.drain(..end + 2).collect();
                let mut event = Event { id: None, kind: String::new(), data: Value::Null };
                let mut data = Vec::new();
                for line in frame.lines() {
                    match line.split_once(": ") {
                        Some(("id", id)) => event.id = Some(id.parse().unwrap()),
                        Some(("event", kind)) => kind.clone_into(&mut event.kind),
                        Some(("data", text)) => data.push(text),
                        _ => {}
                    }
                }
                if !data.is_empty() {
                    event.data = serde_json::from_str(&data.join("\n")).unwrap();
                    return Some(event);
                }
            }
            let chunk = self.chunk()?;
            self.left.push_str(&chunk);
        }
    }

    fn until(&mut self, kind: &str) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next() {
            events.push(event);
            if events.last().unwrap().kind == kind {
                return events;
            }
        }
        panic!("the stream ended before {kind}: {events:?}");
    }
}

fn words(events: &[Event], run: &str) -> String {
    let of_run = events.iter().filter(|event| event.kind == "delta" && event.data["run_id"] == run);
    of_run.map(|event| event.data["text"].as_str().unwrap()).collect()
}

fn ids(events: &[Event]) -> Vec<u64> {
    events.iter().filter_map(|event| event.id).collect()
}

/// Every record of a session or a run, page by page.
fn pages(daemon: &Daemon, path: &str, limit: usize) -> Vec<Value> {
    let (mut records, mut after) = (Vec::new(), String::new());
    loop {
        let (status, page) = daemon.get(&format!("{path}?limit={limit}{after}"));
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit);
        records.extend(items.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(cursor) => after = format!("&after={cursor}"),
            None => return records,
        }
    }
}

const TALKATIVE: &str = r#"version = 1
[[turns]]
steps = [
  { wait_ms = 700 },
  { chunks = ["one\n\nid: 999999\nevent: forged\ndata: {}\n\n", "two ", "three "] },
  { wait_ms = 200 },
  { text = "and the end" },
]
"#;

#[test]
fn a_run_stream_shows_the_words_as_they_come_then_the_answer_and_ends_by_itself() {
    let house = House::new();
    let daemon = house.rehearse_script(TALKATIVE);
    let session = daemon.create().unwrap();
    let mut of_session = Client::open(&daemon, &format!("/v1/sessions/{session}/stream?after=0"), "");
    let run = daemon.start_run_in(&session, "please");
    let mut of_run = Client::open(&daemon, &format!("/v1/runs/{run}/stream?after=0"), "");
    let mut events = Vec::new();
    while let Some(event) = of_run.next() {
        events.push(event);
    }
    let view = daemon.wait_for(&run, "completed");
    let output = view["output"].as_str().unwrap();
    assert!(output.contains("event: forged") && output.ends_with("and the end"), "{output}");
    assert_eq!(words(&events, &run), output, "the words that came are those of the answer");
    let place = |kind: &str| events.iter().position(|event| event.kind == kind).unwrap();
    let last_word = events.iter().rposition(|event| event.kind == "delta").unwrap();
    assert!(place("delta") > place("turn.requested") && last_word < place("turn.answered"), "{events:?}");
    assert!(events.iter().all(|event| event.id.is_none() == ["delta", "end"].contains(&event.kind.as_str())));
    assert!(events.iter().all(|event| event.kind != "forged" && event.id != Some(999_999)));
    let end = events.last().unwrap();
    assert_eq!((end.kind.as_str(), &end.data), ("end", &json!({ "status": "completed" })));
    let records = pages(&daemon, &format!("/v1/runs/{run}/events"), 2);
    let sent: Vec<&Value> = events.iter().filter(|event| event.id.is_some()).map(|event| &event.data).collect();
    assert_eq!(sent, records.iter().collect::<Vec<_>>(), "the stream and the pages show the same records");
    let in_session = of_session.until("run.completed");
    assert_eq!(words(&in_session, &run), output);
    assert_eq!(in_session[0].kind, "session.created");
    assert!(daemon.stop().success());
}

#[test]
fn a_client_that_comes_back_gets_each_record_exactly_once() {
    let house = House::new();
    let daemon = house.start();
    let session = daemon.create().unwrap();
    for _ in 0..3 {
        let run = daemon.start_run_in(&session, "again");
        daemon.wait_for(&run, "completed");
    }
    let path = format!("/v1/sessions/{session}");
    let records = pages(&daemon, &format!("{path}/events"), 3);
    let wanted: Vec<u64> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert!(wanted.len() > 12 && wanted.is_sorted_by(|one, next| one < next), "{wanted:?}");
    let (mut got, mut back) = (Vec::new(), String::new());
    while got.len() < wanted.len() {
        let first = if back.is_empty() { "?after=0" } else { "" };
        let mut client = Client::open(&daemon, &format!("{path}/stream{first}"), &back);
        // Breaks off after one, two, three… events, wherever that is.
        for _ in 0..=got.len() % 4 {
            if got.len() < wanted.len() {
                got.extend(client.next().unwrap().id);
            }
        }
        back = format!("Last-Event-ID: {}\r\n", got.last().unwrap());
    }
    assert_eq!(got, wanted);
    assert!(daemon.stop().success());
}

#[test]
fn wrong_cursors_have_their_codes_on_every_stream_and_page() {
    let house = House::new();
    let daemon = house.start();
    let session = daemon.create().unwrap();
    let run = daemon.start_run_in(&session, "hello");
    daemon.wait_for(&run, "completed");
    let streams =
        ["/v1/events/stream".to_owned(), format!("/v1/sessions/{session}/stream"), format!("/v1/runs/{run}/stream")];
    let pages = [format!("/v1/sessions/{session}/events"), format!("/v1/runs/{run}/events")];
    for path in streams.iter().chain(&pages) {
        for (cursor, status, code) in [("9999999", 409, "cursor.ahead"), ("x", 400, "cursor.malformed")] {
            let (found, problem) = daemon.get(&format!("{path}?after={cursor}"));
            assert_eq!((found, problem["code"].as_str()), (status, Some(code)), "{path}");
        }
    }
    for path in &streams {
        let mut told = Client::open(&daemon, &format!("{path}?after=9999999&cursor_errors=in_stream"), "");
        assert_eq!(told.status, 200);
        let event = told.reset();
        assert_eq!((event.kind.as_str(), event.data["code"].as_str()), ("reset", Some("cursor.ahead")), "{path}");
    }
    for path in &pages {
        assert_eq!(daemon.get(&format!("{path}?limit=0")).1["code"], "request.invalid");
        assert_eq!(daemon.get(&format!("{path}?after=1&cursor=1")).1["code"], "cursor.malformed");
        assert_eq!(daemon.get(&format!("{path}?colour=red")).1["code"], "request.malformed");
    }
    let absent = daemon.get("/v1/runs/run_01ARZ3NDEKTSV4RRFFQ69G5FAV/stream");
    assert_eq!((absent.0, absent.1["code"].as_str()), (404, Some("run.not_found")));
    assert!(daemon.stop().success());
}

impl Client {
    /// The event of an answer that is not chunked.
    fn reset(&mut self) -> Event {
        let mut text = String::new();
        while !text.ends_with("\n\n") {
            assert!(self.reader.read_line(&mut text).unwrap() > 0);
        }
        let kind = text.lines().find_map(|line| line.strip_prefix("event: ")).unwrap().to_owned();
        let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        assert!(!text.contains("id:"), "{text}");
        Event { id: None, kind, data: serde_json::from_str(data).unwrap() }
    }
}

#[test]
fn a_reader_that_never_reads_is_dropped_and_holds_up_nobody() {
    let house = House::new();
    let daemon = house.start();
    let deaf = Client::open(&daemon, "/v1/events/stream?after=0", "");
    let open = |wanted: u64| daemon.metric("chancery_sse_connections") == Some(wanted);
    assert!(open(1));
    let mut reader = Client::open(&daemon, "/v1/events/stream?after=0", "");
    let big: serde_json::Map<String, Value> =
        (0..32).map(|number| (format!("{number:0>900}"), "v".repeat(900).into())).collect();
    let body = json!({ "metadata": big }).to_string();
    let began = Instant::now();
    let mut made = 0;
    while began.elapsed() < Duration::from_secs(3) || made < 400 {
        let (status, view) = daemon.post("/v1/sessions", &body).unwrap();
        assert_eq!(status, 201, "{view}");
        made += 1;
        // The one who reads is never behind for long.
        while reader.next().unwrap().data["data"]["metadata"].as_object().is_none_or(serde_json::Map::is_empty) {}
    }
    let deadline = Instant::now() + Duration::from_secs(40);
    while !open(1) {
        assert!(Instant::now() < deadline, "the one who never reads is still served");
        std::thread::sleep(Duration::from_millis(250));
    }
    daemon.create().unwrap();
    assert_eq!(reader.until("session.created").len(), 1, "the one who reads is served on");
    drop(deaf);
    assert!(daemon.stop().success());
}

#[test]
fn a_hundred_replays_of_more_than_the_feed_keeps_take_bounded_memory_and_the_tail_goes_on() {
    let house = House::new();
    let daemon = house.start();
    let big: serde_json::Map<String, Value> =
        (0..32).map(|number| (format!("{number:0>900}"), "v".repeat(900).into())).collect();
    let body = json!({ "metadata": big }).to_string();
    for _ in 0..170 {
        assert_eq!(daemon.post("/v1/sessions", &body).unwrap().0, 201);
    }
    daemon.post("/v1/sessions", r#"{"title":"the last of them"}"#).unwrap();
    let size = std::fs::metadata(house.path("state/journal/00000000000000000000.jsonl")).unwrap().len();
    assert!(size > 8 << 20, "the feed keeps all {size} bytes");
    let before = daemon.mebibytes("VmRSS:");
    let mut tail = Client::open(&daemon, "/v1/events/stream", "");
    let replay = || {
        let mut client = Client::open(&daemon, "/v1/events/stream?after=0", "");
        let (mut events, mut line) = (0, String::new());
        while !line.contains("the last of them") {
            line.clear();
            assert!(client.reader.read_line(&mut line).unwrap() > 0);
            events += usize::from(line == "event: session.created\n");
        }
        events
    };
    std::thread::scope(|scope| {
        let replays: Vec<_> = (0..100).map(|_| scope.spawn(replay)).collect();
        for _ in 0..20 {
            let id = daemon.create().unwrap();
            assert_eq!(tail.next().unwrap().data["stream"], format!("session/{id}"), "the tail goes on");
        }
        for events in replays {
            assert_eq!(events.join().unwrap(), 171);
        }
    });
    let grown = daemon.mebibytes("VmHWM:") - before;
    assert!(grown < 48, "100 replays of 10 MiB take {grown} MiB");
    assert!(daemon.stop().success());
}

#[test]
fn streams_opened_with_a_cursor_are_counted_as_reconnects() {
    let house = House::new();
    let daemon = house.start();
    assert_eq!(daemon.metric("chancery_sse_reconnects_total"), Some(0));
    let fresh = Client::open(&daemon, "/v1/events/stream", "");
    let mut back = Client::open(&daemon, "/v1/events/stream", "Last-Event-ID: 0\r\n");
    assert!(ids(&[back.next().unwrap()])[0] > 0);
    assert_eq!(daemon.metric("chancery_sse_reconnects_total"), Some(1));
    drop(fresh);
    assert!(daemon.stop().success());
}

#[test]
fn a_read_only_caller_follows_sessions_and_sees_neither_the_house_nor_keys() {
    let house = House::new();
    let daemon = house.start();
    let ask = |path: &str, body: &str| {
        let (status, text) =
            daemon.request(&daemon.token, "POST", path, "Idempotency-Key: secretkey1\r\n", body).unwrap();
        assert!(status < 300, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let session = ask("/v1/sessions", r#"{"title":"seen"}"#)["session_id"].as_str().unwrap().to_owned();
    ask("/v1/runtime/permission-mode", r#"{"mode":"plan"}"#);
    ask(&format!("/v1/sessions/{session}/end"), "{}");
    let readonly = house.readonly();

    let mut admin = Client::open(&daemon, "/v1/events/stream?after=0", "");
    let whole = admin.until("session.ended");
    let journal = daemon.journal();
    let lines: Vec<Value> = journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for event in &whole {
        assert!(lines.contains(&event.data), "the admin's records are whole: {}", event.data);
    }
    let request = |event: &Event| event.data["request"]["key"] == "secretkey1";
    assert_eq!(whole.iter().filter(|event| request(event)).count(), 3);

    let mut reader = Client::open_as(&daemon, &readonly, "/v1/events/stream?after=0", "");
    let part = reader.until("session.ended");
    let kinds: Vec<&str> = part.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["session.created", "session.ended"]);
    let path = format!("/v1/sessions/{session}");
    let mut own = Client::open_as(&daemon, &readonly, &format!("{path}/stream?after=0"), "");
    assert_eq!(own.until("session.ended"), part);
    let (status, page) = daemon.request(&readonly, "GET", &format!("{path}/events"), "", "").unwrap();
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!((status, page["items"].as_array().unwrap()), (200, &part.iter().map(|e| e.data.clone()).collect()));
    for event in &part {
        let mut expected = whole.iter().find(|whole| whole.id == event.id).unwrap().data.clone();
        expected.as_object_mut().unwrap().remove("request").expect("a request");
        expected["actor"].as_object_mut().unwrap().remove("credential").expect("a credential");
        assert_eq!(event.data, expected);
    }
    assert!(daemon.stop().success());
}
