//! A door with a tiny table of its own, and a client that speaks in bytes.
#![allow(clippy::disallowed_methods, reason = "tests read and replace files plainly")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
#![allow(missing_docs, reason = "read by the tests beside it only")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use bytes::Bytes;
use chancery::config::addresses::Bind;
use chancery::domain::reason::{Reason, Refusal};
use chancery::http::at_work::KeysAtWork;
use chancery::http::audit::AuditSink;
use chancery::http::auth::{Authentication, ProxySecret};
use chancery::http::canonical::Hosts;
use chancery::http::connection::accept::{Listener, serve};
use chancery::http::cursor::StreamRequest;
use chancery::http::edge::{Edge, EdgeParts};
use chancery::http::extract::{Mutation, OnPassage, Order, Right};
use chancery::http::limits::Limits;
use chancery::http::metrics::EdgeMetrics;
use chancery::http::problem::Problem;
use chancery::http::reply::{Reply, created, detached, ok};
use chancery::http::routes::Route;
use chancery::http::{audit, health, metrics, sse};
use chancery::platform::clock::SystemClock;
use chancery::platform::entropy::SystemEntropy;
use chancery::platform::keyed::FingerprintKey;
use chancery::platform::private_file;
use chancery::platform::tasks::Tasks;
use chancery::services::authority::Action;
use chancery::services::tokens::{TokenFiles, Tokens};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

pub const ADMIN: &str = "admins-own-string-0123456789-abcdef";
pub const READONLY: &str = "readers-own-string-0123456789-abcdef";
pub const PROXY_SECRET: &str = "proxys-own-string-0123456789-abcdef";

/// Length of the large answer: more than the buffers of a connection hold.
pub const LARGE: usize = 12 << 20;

#[derive(Clone)]
struct App {
    notes: Arc<AtomicUsize>,
    tasks: Tasks,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewNote {
    #[serde(default)]
    text: Option<String>,
}

fn table(readiness: health::Readiness, registry: Arc<prometheus_client::registry::Registry>) -> Vec<Route<App>> {
    let mut routes = health::routes(readiness, registry);
    routes.extend([
        Route::post("/v1/notes", Action::SessionCreate, "Write a note", create).takes::<NewNote>(),
        Route::get("/v1/notes", Action::SessionRead, "List", |_: Right| async { ok(&serde_json::json!({})) }),
        Route::get("/v1/notes/{name}", Action::SessionRead, "One", |_: Right| async { ok(&serde_json::json!({})) }),
        Route::post("/v1/notes/slowly", Action::SessionInput, "Take a while", slowly),
        Route::get("/v1/secrets", Action::SecretRead, "Secrets", |_: Right| async { ok(&serde_json::json!({})) }),
        Route::get("/v1/slow", Action::StatusRead, "Slow", |_: Right| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            ok(&serde_json::json!({}))
        }),
        Route::get("/v1/panic", Action::StatusRead, "Panic", |_: Right| async {
            assert!(std::env::args().count() == 0, "on purpose");
            ok(&serde_json::json!({}))
        }),
        Route::get("/v1/stream", Action::EventsRead, "Events", stream)
            .asks(&[("after", "integer"), ("cursor_errors", "string")]),
        Route::get("/v1/large", Action::EventsRead, "A large answer", |_: Right| async { ok(&"x".repeat(LARGE)) }),
        Route::get("/v1/flood", Action::EventsRead, "Endless events", flood),
    ]);
    routes
}

async fn create(State(app): State<App>, new: Mutation<NewNote>) -> Reply {
    let caller = new.right.demand(Action::SessionCreate)?.clone();
    let answer = serde_json::json!({
        "principal": caller.principal(),
        "via": caller.actor().via,
        "request": new.request,
        "text": new.body.text,
    });
    app.notes.fetch_add(1, Ordering::SeqCst);
    created(&answer)
}

async fn slowly(State(app): State<App>, order: Order) -> Reply {
    order.right.demand(Action::SessionInput)?;
    let notes = app.notes.clone();
    let done = detached(
        &app.tasks,
        (KeysAtWork::default().enter("default", &order.request), Duration::from_secs(30)),
        async move {
            tokio::time::sleep(Duration::from_millis(400)).await;
            Ok(notes.fetch_add(1, Ordering::SeqCst))
        },
    );
    ok(&done.await?)
}

async fn stream(
    OnPassage(passage): OnPassage,
    Right(right): Right,
    request: StreamRequest,
) -> Result<axum::response::Response, Problem> {
    let after = match &request.after {
        Ok(Some(after)) if *after > 5 => return sse::refuse(&request, Reason::CursorAhead.into()),
        Ok(after) => after.unwrap_or(0),
        Err(refusal) => return sse::refuse(&request, refusal.clone()),
    };
    let frames: Vec<Bytes> =
        (after + 1..=5).map(|n| sse::encode(Some(n), "note", format!("{{\"n\":{n}}}").as_bytes())).collect();
    let frames = futures_util::StreamExt::chain(futures_util::stream::iter(frames), futures_util::stream::pending());
    Ok(sse::reply(passage.gate(), &right, &request, frames))
}

async fn flood(OnPassage(passage): OnPassage, Right(right): Right, request: StreamRequest) -> axum::response::Response {
    let frame = sse::encode(None, "noise", &[b'x'; 2_000]);
    sse::reply(passage.gate(), &right, &request, futures_util::stream::repeat(frame))
}

pub struct Door {
    pub host: String,
    pub tasks: Tasks,
    bind: Bind,
    notes: Arc<AtomicUsize>,
    ready: Arc<AtomicBool>,
    folder: tempfile::TempDir,
    registry: Arc<prometheus_client::registry::Registry>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Door {
    pub async fn open() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Limits)) -> Self {
        Self::start(&Bind::Tcp(([127, 0, 0, 1], 0).into()), change, true).await
    }

    pub async fn anonymous() -> Self {
        Self::start(&Bind::Tcp(([127, 0, 0, 1], 0).into()), |_| {}, false).await
    }

    pub async fn on_unix_socket() -> Self {
        let path = std::env::temp_dir().join(format!("chancery-edge-{}.sock", std::process::id()));
        Self::start(&Bind::Unix(path), |_| {}, true).await
    }

    async fn start(bind: &Bind, change: impl FnOnce(&mut Limits), bearer: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (tasks, notes, ready) = (Tasks::new(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
        let mut limits = Limits::default();
        change(&mut limits);
        let listener = Listener::bind(bind).await.unwrap();
        let bound = listener.bound().unwrap();
        let further = ["box.example".to_owned()];
        let (host, hosts, via) = match &bound {
            Bind::Tcp(address) => (address.to_string(), Hosts::of_tcp(*address, &further), "http"),
            Bind::Unix(_) => ("localhost".to_owned(), Hosts::of_unix(&further), "unix"),
        };
        let fingerprint = FingerprintKey::new(&[3; 32]);
        let authentication = if bearer {
            let files = TokenFiles::below(folder.path());
            private_file::create(&files.admin, ADMIN.as_bytes()).unwrap();
            private_file::create(&files.readonly, READONLY.as_bytes()).unwrap();
            let tokens = Tokens::open(files, fingerprint.clone(), via).unwrap();
            let (changes, mut received) = tokio::sync::mpsc::channel(8);
            tokens.follow(&tasks, changes);
            tasks.spawn(async move { while received.recv().await.is_some() {} });
            Authentication::Bearer(tokens)
        } else {
            Authentication::none(via)
        };
        let mut registry = metrics::registry();
        let edge_metrics = EdgeMetrics::register(&mut registry);
        let registry = Arc::new(registry);
        let audit: AuditSink = audit::start(&folder.path().join("audit.jsonl"), Arc::new(SystemClock), None).unwrap().0;
        let parts = EdgeParts {
            limits,
            authentication,
            hosts,
            proxy_secret: ProxySecret::parse(PROXY_SECRET.as_bytes()).ok(),
            cors_origins: vec!["http://localhost:5173".to_owned()],
            fingerprint,
            metrics: edge_metrics,
            redactor: chancery::vault::redaction::Redactor::default(),
            audit,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy::default()),
            tasks: tasks.clone(),
        };
        let asked = ready.clone();
        let readiness: health::Readiness = Arc::new(move || {
            if asked.load(Ordering::SeqCst) { Ok(()) } else { Err(Refusal::from(Reason::StorageJournalUnavailable)) }
        });
        let app = App { notes: notes.clone(), tasks: tasks.clone() };
        let edge = Edge::new(parts, table(readiness, registry.clone()), app);
        tasks.spawn(serve(listener, edge));
        Self { host, tasks, bind: bound, notes, ready, folder, registry }
    }

    pub fn notes(&self) -> usize {
        self.notes.load(Ordering::SeqCst)
    }

    pub fn make_unready(&self) {
        self.ready.store(false, Ordering::SeqCst);
    }

    pub fn replace_token(&self, which: impl Fn(&TokenFiles) -> &PathBuf, text: &str) {
        let beside = self.folder.path().join("tokens/new");
        private_file::create(&beside, text.as_bytes()).unwrap();
        std::fs::rename(beside, which(&TokenFiles::below(self.folder.path()))).unwrap();
    }

    pub fn socket_mode(&self) -> u32 {
        use std::os::unix::fs::PermissionsExt as _;
        let Bind::Unix(path) = &self.bind else { panic!("not a unix socket") };
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    pub async fn bind_again(&self) -> std::io::Result<Listener> {
        Listener::bind(&self.bind).await
    }

    pub async fn connect(&self) -> Client {
        let socket: Box<dyn Socket> = match &self.bind {
            Bind::Tcp(address) => Box::new(tokio::net::TcpStream::connect(address).await.unwrap()),
            Bind::Unix(path) => Box::new(tokio::net::UnixStream::connect(path).await.unwrap()),
        };
        Client { socket, buffer: Vec::new() }
    }

    /// Sends a request and reads its one answer.
    pub async fn one(&self, bytes: &[u8]) -> Answer {
        let mut client = self.connect().await;
        let text = String::from_utf8_lossy(bytes);
        client.is_head(text.starts_with("HEAD "));
        client.send(text.replace("Host: HOST\r\n", &format!("Host: {}\r\n", self.host)).as_bytes()).await;
        client.answer().await
    }

    /// Sends bytes and reads until the other side closes, which it must do by itself.
    pub async fn exchange(&self, bytes: &[u8]) -> Vec<Answer> {
        let mut client = self.connect().await;
        client.send(bytes).await;
        let rest = client.rest(Duration::from_secs(5)).await;
        assert!(!client.is_open().await, "the connection stayed open: {}", String::from_utf8_lossy(bytes));
        Answer::all(&rest)
    }

    /// Sends bytes and reads what comes soon.
    pub async fn exchange_closing(&self, bytes: &[u8]) -> Vec<Answer> {
        let mut client = self.connect().await;
        client.send(bytes).await;
        vec![client.answer().await]
    }

    pub fn chunked(&self, target: &str, chunks: &str) -> Vec<u8> {
        let headers = format!(
            "Authorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        );
        raw("POST", target, &self.host, &headers, chunks)
    }

    pub fn metrics(&self) -> String {
        metrics::text(&self.registry).unwrap()
    }

    pub async fn until(&self, done: impl Fn(&str) -> bool, most: Duration) {
        let start = tokio::time::Instant::now();
        while !done(&self.metrics()) {
            assert!(start.elapsed() < most, "{}", self.metrics());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn close_and_read_audit(&self) -> String {
        self.tasks.stop();
        assert!(self.tasks.drained(Duration::from_secs(3)).await);
        let path: PathBuf = self.folder.path().join("audit.jsonl");
        tokio::time::sleep(Duration::from_millis(300)).await;
        std::fs::read_to_string(path).unwrap()
    }
}

pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

pub struct Client {
    pub socket: Box<dyn Socket>,
    buffer: Vec<u8>,
}

impl Client {
    pub fn is_head(&mut self, head: bool) {
        if head {
            self.buffer.extend(b"HEAD");
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // A refusal may come before all was sent.
        let _ = self.socket.write_all(bytes).await;
    }

    /// A writer beside the reader.
    pub fn split_off(&mut self) -> tokio::io::WriteHalf<Box<dyn Socket>> {
        let (ours, theirs) = tokio::io::duplex(1);
        drop(theirs);
        let socket = std::mem::replace(&mut self.socket, Box::new(ours));
        let (reader, writer) = tokio::io::split(socket);
        self.socket = Box::new(tokio::io::join(reader, tokio::io::sink()));
        writer
    }

    /// Reads one answer with a length.
    pub async fn answer(&mut self) -> Answer {
        let head_only = self.buffer.starts_with(b"HEAD");
        if head_only {
            self.buffer.clear();
        }
        let read = async {
            loop {
                if let Some((answer, used)) = Answer::parse(&self.buffer, head_only) {
                    self.buffer.drain(..used);
                    return answer;
                }
                let mut part = vec![0; 65_536];
                let count = self.socket.read(&mut part).await.unwrap_or(0);
                assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&self.buffer));
                self.buffer.extend(&part[..count]);
            }
        };
        tokio::time::timeout(Duration::from_secs(10), read).await.unwrap()
    }

    /// Reads to the end, or for this long.
    pub async fn rest(&mut self, most: Duration) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.buffer);
        let _ = tokio::time::timeout(most, self.socket.read_to_end(&mut out)).await;
        out
    }

    pub async fn is_open(&mut self) -> bool {
        let mut byte = [0];
        tokio::time::timeout(Duration::from_millis(20), self.socket.read(&mut byte)).await.is_err()
    }

    /// Reads up to the text and returns what came by then.
    pub async fn until(&mut self, text: &str) -> String {
        let read = async {
            loop {
                let all = String::from_utf8_lossy(&self.buffer).into_owned();
                if let Some(at) = self.buffer.windows(text.len()).position(|part| part == text.as_bytes()) {
                    self.buffer.drain(..at + text.len());
                    return all;
                }
                let mut part = [0; 4_096];
                let count = self.socket.read(&mut part).await.unwrap_or(0);
                assert!(count > 0, "closed before {text:?}: {all}");
                self.buffer.extend(&part[..count]);
            }
        };
        tokio::time::timeout(Duration::from_secs(6), read).await.unwrap_or_else(|_| panic!("{text:?} did not come"))
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8], head_only: bool) -> Option<(Self, usize)> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length =
            headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
        let length = if head_only { 0 } else { length };
        let body = bytes.get(end..end + length)?.to_vec();
        Some((Self { status, headers, body }, end + length))
    }

    pub fn all(bytes: &[u8]) -> Vec<Self> {
        let (mut out, mut at) = (Vec::new(), 0);
        while let Some((answer, used)) = Self::parse(&bytes[at..], false) {
            out.push(answer);
            at += used;
        }
        assert_eq!(at, bytes.len(), "more than whole answers: {:?}", String::from_utf8_lossy(&bytes[at..]));
        out
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

pub fn raw(method: &str, target: &str, host: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n{body}").into_bytes()
}

/// A post to the door that it is sent through.
pub fn post(target: &str, token: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let more = format!(
        "Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}"
    );
    raw("POST", target, "HOST", &more, body)
}
