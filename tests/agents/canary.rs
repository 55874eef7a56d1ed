//! Canaries: two secrets that a daemon knows are said by models, tools and people, and asked for in every place of a
//! request; then everything that the daemon shows or writes is searched for them, in any disguise. The negative control
//! does the same to a daemon that does not know them, and must find them where they were put.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::disguises;
use crate::gateway::{CHAT, both, document, message, spoken, told};
use crate::models::{Answer, Server, streamed, words};
use crate::support::{BINARY, Daemon, House, turn};

/// Looks like a key, and can stand in a header.
const KEY: &str = "sk-canary-7Qx2Lw9ZpR4tVb8NmK3sD6fH";
/// Is written otherwise by every encoder.
const ODD: &str = "odd/Canary+7f3e?21&d4 x=é\"q'<z>";

/// A place where something was shown or written, and what.
type Surface = (String, Vec<u8>);

/// A daemon in whose house everybody says the canaries.
struct Aviary {
    house: House,
    daemon: Daemon,
    seen: Vec<Surface>,
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn steps(calls: &[(&str, Value)]) -> String {
    let one = |(tool, input): &(&str, Value)| {
        format!("{{ call = {}, input = {} }}", quoted(tool), quoted(&input.to_string()))
    };
    calls.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The first turns of a rehearsal: thinks, says, calls, asks; then the second message's, which breaks off.
fn script() -> Vec<String> {
    let (first, second) = ODD.split_at(9);
    let said = format!(
        "{{ reasoning = {0} }}, {{ chunks = [\"So: \", {1}, {2}, \" and \", {0}] }}",
        quoted(KEY),
        quoted(first),
        quoted(second)
    );
    let both = format!("{KEY} {ODD}");
    let asked = steps(&[
        ("bash", json!({ "command": "cat notes; base64 notes; od -An -tx1 notes | tr -d ' \\n'" })),
        ("bash", json!({ "command": "cat notes", "background": true, "description": both })),
        ("read_file", json!({ "path": "notes" })),
        ("search_files", json!({ "pattern": "anary" })),
        ("write_file", json!({ "path": "copy", "content": both })),
        ("read_file", json!({ "path": both })),
        (KEY, json!({ KEY: ODD })),
    ]);
    let question = json!({ "question": both });
    let breaks = format!(
        "[[turns]]\nmessage = 2\nsteps = [{{ text = {0} }}, {{ error = \"provider.rejected\", detail = {0} }}]\n",
        quoted(&both)
    );
    let asks = turn(&steps(&[("ask_user_question", question)]));
    vec![turn(&format!("{said}, {asked}")), asks, turn(&said), breaks]
}

/// A provider that repeats the canaries in an error, and then in words that are split in the middle of each.
fn provider() -> Server {
    let problem =
        json!({ "error": { "message": format!("Incorrect API key provided: {KEY} {ODD}"), "code": ODD } }).to_string();
    let length = problem.len();
    let head = format!("HTTP/1.1 401 No {KEY}\r\nX-Echo: {KEY}\r\nContent-Type: application/json\r\nConnection: close");
    let refused = Answer::Says(format!("{head}\r\nContent-Length: {length}\r\n\r\n{problem}"));
    let letters: Vec<String> = [KEY, " ", ODD].concat().chars().map(String::from).collect();
    let letters = || letters.iter().map(String::as_str);
    let spelled = streamed(&letters().map(words).collect::<String>(), true);
    let both = format!("{KEY} {ODD}");
    let chat = json!({ "choices": [{ "message": { "content": both } }] }).to_string();
    let content = json!({ "content": [{ "type": "text", "text": both }] }).to_string();
    Server::start(vec![
        spelled.clone(),
        refused,
        Answer::Repeats,
        document("application/json", &chat),
        spelled,
        document("application/json", &content),
        message(letters()),
        Answer::Repeats,
    ])
}

impl Aviary {
    fn new(house: impl FnOnce(House) -> (House, Daemon)) -> Self {
        let provider = provider();
        let plan = both(&provider);
        std::fs::write(plan.folder.path().join("script.toml"), format!("version = 1\n{}", script().concat())).unwrap();
        std::fs::write(plan.work("notes"), format!("{KEY}\n{ODD}\n")).unwrap();
        let (house, daemon) = house(plan);
        let mut aviary = Self { house, daemon, seen: Vec::new() };
        let told = aviary.send("PUT", "/v1/runtime/debug-level", "", &json!({ "level": "full" }).to_string());
        assert_eq!(body(&told)["debug_level"], "full", "{}", String::from_utf8_lossy(&told));
        aviary.sing();
        aviary.provoke();
        aviary.crawl();
        aviary.past();
        aviary.artefacts();
        aviary.commands();
        aviary.files(&aviary.house.folder.path().join("state"));
        aviary.seen.push(("the log".to_owned(), aviary.house.log().into_bytes()));
        aviary
    }

    fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
        let token = self.daemon.token.clone();
        self.send_as(&token, method, path, headers, body)
    }

    /// Sends a request and keeps the whole answer; of a stream, what comes while something comes.
    fn send_as(&mut self, token: &str, method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
        let mut socket = TcpStream::connect(&self.daemon.address).unwrap();
        let patience = if path.contains("/stream") { 250 } else { 10_000 };
        socket.set_read_timeout(Some(Duration::from_millis(patience))).unwrap();
        let host =
            if headers.contains("Host: ") { String::new() } else { format!("Host: {}\r\n", self.daemon.address) };
        let bearer = if headers.contains("Authorization: ") {
            String::new()
        } else {
            format!("Authorization: Bearer {token}\r\n")
        };
        let kind = if headers.contains("Content-Type: ") || body.is_empty() {
            ""
        } else {
            "Content-Type: application/json\r\n"
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{host}{bearer}{kind}Connection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        let mut answer = Vec::new();
        let _ = socket.write_all(format!("{head}{body}").as_bytes());
        let mut piece = vec![0; 64 << 10];
        while !is_whole(&answer) {
            let Ok(count @ 1..) = socket.read(&mut piece) else { break };
            answer.extend_from_slice(&piece[..count]);
        }
        self.seen.push((format!("{method} {path} with {headers:?} {body:?}"), answer.clone()));
        answer
    }

    /// Everybody says the canaries.
    fn sing(&mut self) {
        let session = self.daemon.session(&json!({ "permission_mode": "bypass-permissions", "route": "practice" }));
        let both = format!("{KEY} {ODD}");
        let say = |aviary: &Self, session: &str| {
            let path = format!("/v1/sessions/{session}/runs");
            aviary.daemon.post(&path, &json!({ "content": both.as_str() })).1["run_id"].as_str().unwrap().to_owned()
        };
        let run = say(self, &session);
        let question = self.daemon.question(&run);
        let path = format!("/v1/questions/{}/answer", question["question_id"].as_str().unwrap());
        // A daemon that knows the secrets does not let a person record them.
        if self.daemon.post(&path, &json!({ "freeform": both.as_str() })).0 == 422 {
            assert_eq!(self.daemon.post(&path, &json!({ "freeform": "yes" })).0, 200);
        }
        self.daemon.when(&run, "completed");
        let broken = say(self, &session);
        self.daemon.when(&broken, "failed");
        let careful = self.daemon.session(&json!({ "permission_mode": "default", "route": "practice" }));
        let run = say(self, &careful);
        let approval = self.daemon.pending(&run);
        self.daemon.decide(&approval, "deny");
        let far = self.daemon.session(&json!({ "route": "far" }));
        let run = say(self, &far);
        // The words are heard while they come: they are split in the middle of each canary.
        self.send("GET", &format!("/v1/runs/{run}/stream?after=0"), "", "");
        self.daemon.when(&run, "completed");
        for end in ["failed", "completed"] {
            let run = say(self, &far);
            self.daemon.when(&run, end);
        }
        for (path, model) in [(CHAT, "far/m"), ("/v1/messages", "claude/c")] {
            for stream in [false, true] {
                let said = [json!({ "role": "user", "content": both })];
                let body = json!({ "model": model, "max_tokens": 99, "stream": stream, "messages": said });
                let answer = self.send("POST", path, "", &body.to_string());
                let told = told(&String::from_utf8(answer).unwrap());
                assert_eq!(told.status, 200, "{}", told.body);
                let place = format!("the words of {path}");
                self.seen.extend(stream.then(|| (place, spoken(&told.body).into_bytes())));
            }
        }
    }

    /// The routes: method and path of each.
    fn routes(&mut self) -> Vec<(String, String)> {
        let answer = self.send("GET", "/v1/openapi.json", "", "");
        let document = body(&answer);
        let paths = document["paths"].as_object().unwrap().clone();
        let methods = |(path, item): (&String, &Value)| {
            let methods: Vec<(String, String)> =
                item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())).collect();
            methods
        };
        let routes: Vec<(String, String)> = paths.iter().flat_map(methods).collect();
        assert!(routes.len() > 40, "{routes:?}");
        routes
    }

    /// Asks every route for, with and about the canaries.
    fn provoke(&mut self) {
        let escaped = ODD.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
        let bodies = [
            json!({ KEY: 1 }),
            json!({ "content": { ODD: KEY } }),
            json!([ODD]),
            json!({ "title": ODD, "route": KEY, "model": ODD, "metadata": { KEY: ODD }, "note": KEY, "reason": KEY }),
            json!({ "title": KEY }),
            json!({ "metadata": { KEY: "1" } }),
            json!({ "content": "x", "route": KEY }),
            json!({ "expected_revision": ODD, "set": { KEY: ODD } }),
        ];
        for (method, pattern) in self.routes() {
            let mut parts = pattern.split('{');
            let first = parts.next().unwrap().to_owned();
            let named = |value: &str| {
                parts.clone().fold(first.clone(), |path, part| path + value + part.split_once('}').unwrap().1)
            };
            let (path, wrong) = (named("run_01ARZ3NDEKTSV4RRFFQ69G5FAV"), named(KEY));
            self.send(&method, &wrong, "", "");
            self.send(&method, &format!("{path}?{KEY}=1"), "", "");
            self.send(&method, &format!("{path}?limit={KEY}&after={escaped}&cursor={KEY}&at={escaped}"), "", "");
            for header in ["X-Request-Id", "Idempotency-Key", "Last-Event-ID", "X-Api-Key", "Content-Type", "Accept"] {
                self.send(&method, &path, &format!("{header}: {KEY}\r\n"), "{}");
            }
            if method == "GET" {
                continue;
            }
            self.send(&method, &path, "", &format!("{{\"{KEY}"));
            for body in &bodies {
                self.send(&method, &path, "", &body.to_string());
            }
        }
        // Last, because these count against whoever asks.
        self.send("GET", "/v1/status", &format!("Authorization: Bearer {KEY}\r\n"), "");
        self.send("GET", "/v1/status", &format!("Host: {KEY}\r\n"), "");
        self.send("POST", "/v1/sessions", &format!("Origin: http://{KEY}\r\n"), "{}");
        self.send(KEY, "/v1/status", "", "");
        self.send("GET", &format!("/{KEY}"), "", "");
    }

    /// Reads everything that there is to read, as either token's holder.
    fn crawl(&mut self) {
        let routes = self.routes();
        let mut ids = Vec::new();
        for (_, path) in routes.iter().filter(|(method, path)| method == "GET" && !path.contains('{')) {
            let answer = self.send("GET", path, "", "");
            collect(&body(&answer), &mut ids);
        }
        ids.sort();
        ids.dedup();
        assert!(
            ["session_id", "run_id", "task_id", "approval_id", "question_id"]
                .iter()
                .all(|wanted| ids.iter().any(|(name, _)| name == wanted)),
            "{ids:?}"
        );
        let tokens = [self.daemon.token.clone(), self.daemon.readonly.clone()];
        for (_, path) in routes.iter().filter(|(method, _)| method == "GET") {
            let named = path.split_once('{').map(|(_, rest)| rest.split_once('}').unwrap().0);
            let paths: Vec<String> = match named {
                None => vec![path.clone()],
                Some(name) if !name.ends_with("_id") => vec![path.replace(&format!("{{{name}}}"), "canary.key")],
                Some(name) => {
                    let values = ids.iter().filter(|(id, _)| id == name).take(6);
                    values.map(|(_, value)| path.replace(&format!("{{{name}}}"), value)).collect()
                }
            };
            for path in paths {
                for token in &tokens {
                    if path.ends_with("/stream") {
                        self.send_as(token, "GET", &format!("{path}?after=0"), "", "");
                    } else {
                        self.send_as(token, "GET", &path, "", "");
                        self.send_as(token, "GET", &format!("{path}?from=0&limit=1000"), "", "");
                    }
                }
            }
        }
        for path in ["/healthz", "/readyz", "/metrics"] {
            self.send("GET", path, "", "");
        }
    }

    /// Everything that can be asked of an earlier time, at each tenth of the journal.
    fn past(&mut self) {
        let description = body(&self.send("GET", "/v1/openapi.json", "", ""));
        let head = self.daemon.get("/v1/journal/head")["seq"].as_u64().unwrap();
        let view = self.daemon.get("/v1/runs?limit=100");
        let run = &view["items"][0];
        let mut asked = 0;
        for (path, item) in description["paths"].as_object().unwrap() {
            let named = item["get"]["parameters"].as_array().into_iter().flatten();
            if !named.map(|parameter| &parameter["name"]).any(|name| name == "at") {
                continue;
            }
            let path = ["run_id", "session_id"]
                .iter()
                .fold(path.clone(), |path, id| path.replace(&format!("{{{id}}}"), run[id].as_str().unwrap()));
            asked += 1;
            for tenth in 1..=10 {
                self.send("GET", &format!("{path}?at={}", head * tenth / 10), "", "");
            }
        }
        assert!(asked > 3, "{asked} routes tell of earlier times");
    }

    /// Every debug artefact, by its route and by the command line.
    fn artefacts(&mut self) {
        let runs = self.daemon.get("/v1/runs?limit=100")["items"].clone();
        let mut lines: Vec<[String; 3]> = Vec::new();
        for run in runs.as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap().to_owned()) {
            let list = body(&self.send("GET", &format!("/v1/runs/{run}/debug"), "", ""));
            for artefact in list["items"].as_array().unwrap() {
                let id = artefact["artifact_id"].as_str().unwrap().to_owned();
                self.send("GET", &format!("/v1/runs/{run}/debug/artifacts/{id}"), "", "");
                lines.push([run.clone(), "--artifact".to_owned(), id]);
            }
        }
        assert!(lines.len() > 10, "{lines:?}");
        for line in lines.iter().take(12) {
            let words: Vec<&str> = ["runs", "debug"].into_iter().chain(line.iter().map(String::as_str)).collect();
            self.command(&words);
        }
    }

    /// What the command line prints.
    fn commands(&mut self) {
        let view = self.daemon.get("/v1/runs?limit=100");
        let runs: Vec<String> =
            view["items"].as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap().to_owned()).collect();
        let session = view["items"][0]["session_id"].as_str().unwrap().to_owned();
        let mut lines: Vec<Vec<&str>> = vec![
            vec!["status"],
            vec!["doctor"],
            vec!["verify"],
            vec!["sessions", "list"],
            vec!["sessions", "get", &session],
            vec!["runs", "list"],
            vec!["tasks", "list"],
            vec!["approvals", "list"],
            vec!["questions", "list"],
            vec!["journal", "head"],
            vec!["runtime", "get"],
            vec!["index", "verify"],
            vec!["secrets", "list"],
            vec!["secrets", "get", "canary.key"],
            vec!["runtime", "auth", "leases"],
            vec!["runtime", "auth", "grants"],
            vec!["runs", "external-actions", &runs[0]],
            vec!["model-calls", "list"],
            vec!["budget", "list"],
            vec!["doctor", "routes"],
        ];
        for run in &runs {
            lines.extend([vec!["runs", "get", run], vec!["runs", "events", run], vec!["receipt", run]]);
            if ["completed", "failed"].iter().any(|ended| self.daemon.view(run)["status"] == *ended) {
                lines.push(vec!["runs", "follow", run]);
            }
        }
        // What is refused repeats what was asked for: the daemon knows the secrets, the command line itself only shapes.
        let asked = [
            vec!["runs", "get", ODD],
            vec!["sessions", "get", ODD],
            vec!["secrets", "get", ODD],
            vec!["questions", "answer", ODD, KEY],
            vec!["budget", "set", ODD, "1"],
            vec!["runtime", "set-model", KEY],
            vec!["runtime", "auth", "revoke-subject", ODD],
            vec!["secrets", "set", KEY, "--provider", "openai", "--from-env", "HOME"],
        ];
        for line in lines.iter().chain(&asked) {
            self.command(line);
        }
    }

    fn command(&mut self, line: &[&str]) {
        for output in ["human", "json"] {
            let state = self.house.folder.path().join("state");
            let mut command = Command::new(BINARY);
            command.args(line).args(["--output", output, "--state-root"]).arg(state);
            command.env("HOME", self.house.folder.path()).stdin(Stdio::null());
            let said = command.output().unwrap();
            self.seen.push((format!("{line:?}"), [said.stdout, said.stderr].concat()));
        }
    }

    /// Every file below a folder.
    fn files(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                self.files(&path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let name = path.display().to_string();
                if let Ok(open) = zstd::decode_all(&bytes[..]) {
                    self.seen.push((format!("{name}, unpacked"), open));
                }
                self.seen.push((name, bytes));
            }
        }
    }

    /// Where a canary was found, and how it was dressed. Neither has a line end, so that each line is looked at once.
    fn hits(&self) -> Vec<String> {
        let mut lines: BTreeMap<&[u8], BTreeSet<&str>> = BTreeMap::new();
        for (place, bytes) in &self.seen {
            for line in bytes.split(|byte| *byte == b'\n' || *byte == 0) {
                lines.entry(line).or_default().insert(place);
            }
        }
        let mut hits = Vec::new();
        for (line, places) in lines {
            for canary in [KEY, ODD] {
                if let Some(how) = disguises::find(line, canary) {
                    hits.extend(places.iter().map(|place| format!("{place}: {canary} {how}")));
                }
            }
        }
        hits
    }
}

/// Whether an answer is as long as it says; the door may listen on after it.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= end + 4 + length)
}

fn body(answer: &[u8]) -> Value {
    let text = String::from_utf8_lossy(answer);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_default()
}

/// Every id in a document, with its field's name.
fn collect(value: &Value, ids: &mut Vec<(String, String)>) {
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                if let Some(id) = value.as_str().filter(|_| name.ends_with("_id")) {
                    ids.push((name.clone(), id.to_owned()));
                }
                collect(value, ids);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, ids)),
        _ => {}
    }
}

/// Stores a secret in the vault of a house's daemon.
pub fn store(house: &House, name: &str, secret: &str) {
    let mut command = Command::new(BINARY);
    command
        .args(["secrets", "set", name, "--provider", "openai", "--state-root"])
        .arg(house.folder.path().join("state"));
    command.env("HOME", house.folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(secret.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success(), "{said:?}");
    for said in [said.stdout, said.stderr] {
        assert_eq!(disguises::find(&said, secret), None, "{}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn a_crawl_finds_secrets_that_the_daemon_does_not_know() {
    let aviary = Aviary::new(|house| {
        let daemon = house.start();
        (house, daemon)
    });
    let hits = aviary.hits();
    let found = |place: &str| hits.iter().any(|hit| hit.contains(place));
    for place in [
        "/v1/runs",
        "/stream",
        "/v1/journal/records",
        "/output",
        "state/journal",
        "state/debug",
        "?at=",
        "/debug/artifacts/",
        "[\"runs\", \"debug\"",
        "[\"runtime\", \"set-model\"",
        "\"follow\"",
        "state/tasks",
        "the words of /v1/chat/completions",
        "the words of /v1/messages",
        "POST /v1/chat/completions with \"\"",
        "POST /v1/messages with \"\"",
    ] {
        assert!(found(place), "nothing in {place}: {hits:#?}");
    }
    aviary.daemon.stop();
}

#[test]
fn a_crawl_finds_no_secret_that_the_daemon_knows() {
    let aviary = Aviary::new(|house| {
        // The provider gets the key itself.
        let routes = house.folder.path().join("routes.toml");
        let text = std::fs::read_to_string(&routes).unwrap();
        std::fs::write(&routes, text.replace("timeout_ms", "auth_ref = \"canary.key\"\ntimeout_ms")).unwrap();
        let daemon = house.start_with(&[], &[("CHANCERY_AUTH_STORE_MASTER_KEY", &"0123456789abcdef".repeat(4))]);
        store(&house, "canary.key", KEY);
        // Replaced, but somebody may still repeat it.
        store(&house, "canary.odd", ODD);
        store(&house, "canary.odd", "the next one, which nobody says");
        (house, daemon)
    });
    let hits = aviary.hits();
    assert!(hits.is_empty(), "{} of {} surfaces: {hits:#?}", hits.len(), aviary.seen.len());
    let told = aviary.seen.iter().filter(|(_, bytes)| memchr::memmem::find(bytes, b"[redacted:").is_some()).count();
    assert!(told > 50, "the canaries were said, and replaced: {told} of {}", aviary.seen.len());
    let repeated = |bytes: &[u8]| memchr::memmem::find(bytes, b"You said: Bearer [redacted:canary.key]").is_some();
    assert!(aviary.seen.iter().any(|(_, bytes)| repeated(bytes)), "the provider got the key and repeated it");
    aviary.daemon.stop();
}
