//! A server that says what a test tells it, byte by byte, and remembers what it was asked.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chancery::config::routes::{Asked, ResolvedRoute, Routes};
use chancery::domain::reason::Refusal;
use chancery::outbound::client::Deadlines;
use chancery::outbound::guard::{Resolve, SystemResolver};
use chancery::outbound::providers::{
    Delta, Message, ModelAnswer, ModelRequest, ProviderError, Providers, Surroundings,
};
use chancery::outbound::trust::Trust;
use chancery::platform::clock::SystemClock;
use tokio_util::sync::CancellationToken;

/// One thing that the server does on a connection; after the last it closes.
#[derive(Debug, Clone)]
pub enum Act {
    Send(Vec<u8>),
    /// The same bytes again and again, so many times or until nobody takes them.
    Repeat(Vec<u8>, usize),
    Wait(u64),
    /// Says nothing more until the other side closes.
    Hold,
}

/// What the server saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub requests: Vec<String>,
    pub sent_bytes: usize,
    /// Connections that the other side closed while they were held.
    pub hung_up: usize,
}

pub struct Server {
    pub port: u16,
    pub seen: Arc<Mutex<Seen>>,
}

/// One request, as it was sent.
pub fn head_and_body(socket: &mut impl std::io::Read) -> Option<String> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        match socket.read(&mut piece) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
}

fn play(socket: &mut TcpStream, acts: &[Act], seen: &Mutex<Seen>) {
    let send = |socket: &mut TcpStream, bytes: &[u8]| {
        let sent = socket.write_all(bytes).is_ok();
        seen.lock().unwrap().sent_bytes += if sent { bytes.len() } else { 0 };
        sent
    };
    for act in acts {
        let goes_on = match act {
            Act::Send(bytes) => send(socket, bytes),
            Act::Repeat(bytes, times) => (0..*times).all(|_| send(socket, bytes)),
            Act::Wait(milliseconds) => {
                std::thread::sleep(Duration::from_millis(*milliseconds));
                true
            }
            Act::Hold => {
                socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let closed = match socket.read(&mut [0]) {
                    Ok(0) => true,
                    Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
                    Ok(_) => false,
                };
                seen.lock().unwrap().hung_up += usize::from(closed);
                false
            }
        };
        if !goes_on {
            return;
        }
    }
}

impl Server {
    /// The n-th connection gets the n-th list; later ones the last.
    pub fn start(connections: Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = seen.clone();
        std::thread::spawn(move || {
            for (at, socket) in listener.incoming().enumerate() {
                let Ok(mut socket) = socket else { return };
                let acts = connections.get(at).or(connections.last()).cloned().unwrap_or_default();
                let seen = shared.clone();
                std::thread::spawn(move || {
                    socket.set_nodelay(true).unwrap();
                    let Some(request) = head_and_body(&mut socket) else { return };
                    seen.lock().unwrap().requests.push(request);
                    play(&mut socket, &acts, &seen);
                });
            }
        });
        Self { port, seen }
    }

    pub fn asked(&self) -> usize {
        self.seen.lock().unwrap().requests.len()
    }

    /// Calls the model at this server.
    pub async fn call(&self, timeout_ms: u64) -> Result<ModelAnswer, ProviderError> {
        self.call_until(timeout_ms, &CancellationToken::new()).await
    }

    pub async fn call_until(&self, timeout_ms: u64, stop: &CancellationToken) -> Result<ModelAnswer, ProviderError> {
        let (providers, route) = self.providers(timeout_ms);
        // Nobody listens; a driver waits for whoever does.
        let (deltas, _) = tokio::sync::mpsc::channel(1);
        providers.call(&route, &request(), None, deltas, stop.clone()).await
    }

    pub fn providers(&self, timeout_ms: u64) -> (Providers, ResolvedRoute) {
        self.providers_in(timeout_ms, &around(Arc::new(SystemResolver), Trust::of_machine(None).unwrap()))
    }

    pub fn providers_in(&self, timeout_ms: u64, around: &Surroundings) -> (Providers, ResolvedRoute) {
        let text = format!(
            "version = 1\n[routes.it]\ndriver = \"openai\"\ndefault_model = \"m\"\nbase_url = \"http://127.0.0.1:{}/v1\"\n\
             timeout_ms = {timeout_ms}\n",
            self.port
        );
        open_in(&text, std::path::Path::new("/"), around).unwrap()
    }
}

/// The drivers of a routes file, and its default route.
pub fn open(text: &str, folder: &std::path::Path) -> Result<(Providers, ResolvedRoute), Refusal> {
    open_in(text, folder, &around(Arc::new(SystemResolver), Trust::of_machine(None)?))
}

/// The drivers of a routes file in other surroundings.
pub fn open_in(
    text: &str,
    folder: &std::path::Path,
    around: &Surroundings,
) -> Result<(Providers, ResolvedRoute), Refusal> {
    let routes = Routes::parse(text, folder, "routes.toml")?;
    Ok((Providers::new(&routes, around)?, routes.choose(Asked::default(), Asked::default())?))
}

/// Surroundings with short deadlines.
pub fn around(resolver: Arc<dyn Resolve>, trust: Trust) -> Surroundings {
    Surroundings {
        clock: Arc::new(SystemClock),
        resolver,
        allowed: Vec::new(),
        proxy: None,
        trust,
        deadlines: Deadlines { first_byte: Duration::from_secs(10), idle: Duration::from_secs(10) },
    }
}

pub fn request() -> ModelRequest {
    ModelRequest {
        model: "m".into(),
        system: None,
        messages: vec![Message::user("please")],
        earlier_messages: 0,
        answered: 0,
        tools: Vec::new(),
        max_output_tokens: None,
    }
}

/// Calls with a watcher that keeps up, and gives what it heard.
pub async fn heard(
    providers: &Providers,
    route: &ResolvedRoute,
    request: &ModelRequest,
) -> (Result<ModelAnswer, ProviderError>, Vec<Delta>) {
    let (deltas, mut watcher) = tokio::sync::mpsc::channel(4_096);
    let answer = providers.call(route, request, None, deltas, CancellationToken::new()).await;
    let mut pieces = Vec::new();
    while let Ok(piece) = watcher.try_recv() {
        pieces.push(piece);
    }
    (answer, pieces)
}

/// The head of an answer that streams.
pub fn head(rest: &str) -> Act {
    Act::Send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{rest}Connection: close\r\n\r\n").into())
}

pub fn event(value: &serde_json::Value) -> String {
    format!("data: {value}\n\n")
}

/// An event with some words.
pub fn words(text: &str) -> String {
    event(&serde_json::json!({ "choices": [{ "delta": { "content": text } }] }))
}

/// An event that ends the answer, and the mark of the end.
pub fn end(reason: &str) -> String {
    event(&serde_json::json!({ "choices": [{ "delta": {}, "finish_reason": reason }] })) + "data: [DONE]\n\n"
}

pub async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    let outcome = tokio::time::timeout(limit, work).await;
    (outcome.unwrap_or_else(|_| panic!("{what} takes longer than {limit:?}")), began.elapsed())
}
