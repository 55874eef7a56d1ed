//! The model gateway in front of a scripted provider on the same machine, against calls of that provider itself: latency
//! and first byte with one client and with 32, answers in one document and streamed, and the daemon's memory over 10,000
//! streams. The provider, the clients and the daemon share the processors.

use std::convert::Infallible;
use std::io::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Daemon, ROUNDS, support};

const ROUND: Duration = Duration::from_secs(3);
/// Events of a streamed answer.
const EVENTS: usize = 16;
const STREAMS: usize = 10_000;
const KEY: &str = "sk-benchmark-4fTq8ZrW2nLx6VbK9mDs";
const DOCUMENT: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1767225600,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Forty-two, as far as anybody knows."},"finish_reason":"stop"}],"usage":{"prompt_tokens":24,"completion_tokens":9,"total_tokens":33}}"#;

fn event(delta: &str, rest: &str) -> Bytes {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\"model\":\"m\",\
         \"choices\":[{{\"index\":0,\"delta\":{{{delta}}}{rest}}}]}}\n\n"
    )
    .into()
}

/// What the provider streams: words, the end, the usage.
fn events() -> Vec<Bytes> {
    let mut all = vec![event("\"content\":\"forty-two \"", ",\"finish_reason\":null"); EVENTS - 3];
    all.push(event("", ",\"finish_reason\":\"stop\""));
    all.push(
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":24,\"completion_tokens\":13,\"total_tokens\":37}}\n\n"
            .into(),
    );
    all.push("data: [DONE]\n\n".into());
    all
}

type Body = BoxBody<Bytes, Infallible>;

async fn answer(request: hyper::Request<Incoming>) -> Result<hyper::Response<Body>, Infallible> {
    let asked = request.into_body().collect().await.unwrap().to_bytes();
    let is_stream = memchr::memmem::find(&asked, b"\"stream\":true").is_some();
    let (media, body) = if is_stream {
        let frames = events().into_iter().map(|event| Ok(Frame::data(event)));
        ("text/event-stream", StreamBody::new(futures_util::stream::iter(frames)).boxed())
    } else {
        ("application/json", http_body_util::Full::new(Bytes::from_static(DOCUMENT.as_bytes())).boxed())
    };
    Ok(hyper::Response::builder().header("content-type", media).body(body).unwrap())
}

/// A provider on a thread of its own; it ends with the benchmark.
fn provider() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                let io = hyper_util::rt::TokioIo::new(socket);
                let service = hyper::service::service_fn(answer);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
    });
    address
}

/// A daemon with one route to this provider, whose key lies in the vault, and a price.
fn daemon(provider: &str) -> Daemon {
    let daemon = Daemon::start_in(|folder| {
        let routes = format!(
            "version = 1\n[routes.far]\ndriver = \"openai\"\ndefault_model = \"m\"\nauth_ref = \"far.key\"\n\
             base_url = \"http://{provider}/v1\"\n"
        );
        std::fs::write(folder.join("routes.toml"), routes).unwrap();
        let prices =
            "version = \"bench\"\n[models.m]\ninput = 1_000_000\noutput = 2_000_000\nmax_output_tokens = 1_000\n";
        std::fs::write(folder.join("prices.toml"), prices).unwrap();
    });
    daemon.store("far.key", KEY);
    daemon
}

/// Where calls go and how they read.
#[derive(Clone)]
struct Target {
    address: String,
    request: Vec<u8>,
}

impl Target {
    fn new(address: &str, token: &str, is_stream: bool) -> Self {
        let stream = if is_stream { ",\"stream\":true,\"stream_options\":{\"include_usage\":true}" } else { "" };
        let body = format!(
            "{{\"model\":\"m\",\"max_tokens\":64,\"messages\":[{{\"role\":\"user\",\"content\":\"What is the answer to all of it?\"}}]{stream}}}"
        );
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Self { address: address.to_owned(), request: format!("{head}{body}").into_bytes() }
    }
}

/// Microseconds until the first byte of the body and until the end.
type Sample = (u64, u64);

/// Where the body of an answer begins, and whether all of it has come.
fn seen(buffer: &[u8]) -> (Option<usize>, bool) {
    let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") else { return (None, false) };
    let head = std::str::from_utf8(&buffer[..end]).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{}", String::from_utf8_lossy(buffer));
    let body = &buffer[end + 4..];
    let field =
        |name: &str| head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix(name).map(str::to_owned));
    let is_whole = match field("content-length: ") {
        Some(length) => body.len() >= length.parse().unwrap(),
        None => body.ends_with(b"0\r\n\r\n"),
    };
    (Some(end + 4), is_whole)
}

async fn client(target: Target, until: impl Fn(usize) -> bool) -> Vec<Sample> {
    let mut socket = tokio::net::TcpStream::connect(&target.address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut samples = Vec::new();
    while !until(samples.len()) {
        let began = Instant::now();
        let micros = || u64::try_from(began.elapsed().as_micros()).unwrap();
        socket.write_all(&target.request).await.unwrap();
        let (mut held, mut first) = (0, None);
        loop {
            let read = socket.read(&mut buffer[held..]).await.unwrap();
            assert!(read > 0, "hung up after {}", String::from_utf8_lossy(&buffer[..held]));
            held += read;
            let (body, is_whole) = seen(&buffer[..held]);
            if first.is_none() && body.is_some_and(|at| held > at) {
                first = Some(micros());
            }
            if is_whole {
                break;
            }
        }
        samples.push((first.unwrap(), micros()));
    }
    samples
}

/// What so many clients see in a round: answers a second, and each answer's times.
fn round(target: &Target, clients: usize) -> (f64, Vec<Sample>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let began = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..clients {
            tasks.spawn(client(target.clone(), move |_| began.elapsed() >= ROUND));
        }
        let samples = tasks.join_all().await.concat();
        (samples.len() as f64 / began.elapsed().as_secs_f64(), samples)
    })
}

/// Microseconds that a write of a record's size and its sync take on the disk of the state root: the median.
fn raw_sync() -> f64 {
    let mut file = tempfile::tempfile().unwrap();
    let mut took: Vec<f64> = (0..300)
        .map(|_| {
            let began = Instant::now();
            file.write_all(&[b'x'; 1_200]).unwrap();
            file.sync_data().unwrap();
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    took.sort_by(f64::total_cmp);
    took[took.len() / 2]
}

/// Everything seen of one contender.
#[derive(Default)]
struct Seen {
    rates: Vec<f64>,
    samples: Vec<Sample>,
}

impl Seen {
    fn add(&mut self, (rate, samples): (f64, Vec<Sample>)) {
        self.rates.push(rate);
        self.samples.extend(samples);
    }

    /// The sample below which so much of all lies, of one of both times.
    fn at(&self, part: f64, of: impl Fn(&Sample) -> u64) -> f64 {
        let mut values: Vec<u64> = self.samples.iter().map(of).collect();
        values.sort_unstable();
        values[((values.len() - 1) as f64 * part) as usize] as f64
    }
}

fn compare(daemon: &Daemon, provider: &str, clients: usize, is_stream: bool) {
    let through = Target::new(&daemon.address, &daemon.token, is_stream);
    let direct = Target::new(provider, "none", is_stream);
    let (mut ours, mut theirs) = (Seen::default(), Seen::default());
    let (mut syncs, mut foreign) = (Vec::new(), 0.0_f64);
    round(&through, clients);
    let busy = daemon.busy();
    for _ in 0..ROUNDS {
        foreign = foreign.max(support::foreign_load());
        syncs.push(raw_sync());
        theirs.add(round(&direct, clients));
        ours.add(round(&through, clients));
    }
    let busy = (daemon.busy() - busy) * 1e6 / ours.samples.len() as f64;
    let sync = support::spread(syncs).median;
    println!(
        "gateway, {clients} clients, {} (others used at most {foreign:.0} %, raw sync {sync:.0} us; {busy:.0} us of the daemon's processor time a call)",
        if is_stream { "streamed" } else { "one document" }
    );
    let whole = |sample: &Sample| sample.1;
    for (what, part) in [("p50", 0.5), ("p99", 0.99)] {
        let (direct, through) = (theirs.at(part, whole), ours.at(part, whole));
        let (first, first_direct) = (ours.at(part, |sample| sample.0), theirs.at(part, |sample| sample.0));
        println!(
            "  {what}: {through:.0} us, direct {direct:.0} us, added {:.0} us; first byte of the body {first:.0} us, added {:.0} us",
            through - direct,
            first - first_direct
        );
    }
    support::compare("  rate", "answers/s", ours.rates, ("direct", theirs.rates));
}

fn memory(daemon: &Daemon) {
    let target = Target::new(&daemon.address, &daemon.token, true);
    let (clients, parts) = (32, 4);
    let mut resident = vec![format!("{:.1}", daemon.resident_mib())];
    for _ in 0..parts {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..clients {
                tasks.spawn(client(target.clone(), move |done| done >= STREAMS.div_ceil(clients * parts)));
            }
            tasks.join_all().await;
        });
        resident.push(format!("{:.1}", daemon.resident_mib()));
    }
    println!("gateway, resident MiB before and after each quarter of {STREAMS} more streams: {}", resident.join(", "));
}

pub fn run() {
    let provider = provider();
    let daemon = daemon(&provider);
    for is_stream in [false, true] {
        for clients in [1, 32] {
            compare(&daemon, &provider, clients, is_stream);
        }
    }
    memory(&daemon);
}
