//! A thousand subscribers on one event loop. Each counts the events that it gets, and checks that their ids rise
//! without a gap against what was published.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::answer_length;
use super::nchan::Nchan;
use super::{Daemon, client, support};

const SUBSCRIBERS: usize = 1_000;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(5);
/// Publishers of the saturated rounds.
const PUBLISHERS: usize = 16;
/// Events a second that are so far apart that each meets nobody: what one event takes to reach everybody.
const ALONE: usize = 10;
/// Size of a message at nchan: that of a record at ours.
const MESSAGE_BYTES: usize = 430;

/// What the subscribers of one round saw.
#[derive(Default)]
struct Seen {
    events: AtomicU64,
    open: AtomicU64,
    /// Microseconds from before the request to the arrival, of one subscriber in ten.
    delays: std::sync::Mutex<Vec<u64>>,
}

/// Where an event begins, and how a subscriber asks.
#[derive(Clone)]
struct Kind {
    address: String,
    request: Vec<u8>,
    mark: &'static [u8],
    stamped: bool,
}

/// Follows one stream until told to end; gives how many events it saw.
async fn follow(kind: Kind, seen: Arc<Seen>, epoch: Instant, measure: bool) -> u64 {
    let mut socket = TcpStream::connect(&kind.address).await.unwrap();
    socket.write_all(&kind.request).await.unwrap();
    let mark = memchr::memmem::Finder::new(kind.mark);
    let stamp = memchr::memmem::Finder::new(b"\"title\":\"t");
    let mut buffer = vec![0_u8; 64 << 10];
    let (mut held, mut events, mut opened) = (0, 0, false);
    loop {
        let read = match tokio::time::timeout(Duration::from_secs(3), socket.read(&mut buffer[held..])).await {
            Ok(Ok(read)) if read > 0 => read,
            _ => return events,
        };
        if !opened {
            opened = true;
            assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..read]));
            seen.open.fetch_add(1, Ordering::Relaxed);
        }
        let all = held + read;
        let found = mark.find_iter(&buffer[..all]).count() as u64;
        if measure && kind.stamped {
            let now = u64::try_from(epoch.elapsed().as_micros()).unwrap();
            let mut delays = seen.delays.lock().unwrap();
            for at in stamp.find_iter(&buffer[..all]) {
                let text = &buffer[at + 10..all];
                let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
                if digits == 15 {
                    delays.push(now - std::str::from_utf8(&text[..digits]).unwrap().parse::<u64>().unwrap());
                }
            }
        }
        events += found;
        seen.events.fetch_add(found, Ordering::Relaxed);
        // What is kept may begin with a part of a mark, but never holds a whole one.
        let keep = (kind.mark.len() - 1).min(all);
        buffer.copy_within(all - keep..all, 0);
        held = keep;
    }
}

/// Publishes until told to end, at these times if there are any; gives how many were published.
async fn publish(
    address: String,
    make: Arc<dyn Fn() -> Vec<u8> + Send + Sync>,
    stop: Arc<AtomicBool>,
    mut ticks: Option<tokio::time::Interval>,
) -> u64 {
    let mut socket = TcpStream::connect(&address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 16 << 10];
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        socket.write_all(&make()).await.unwrap();
        let mut held = 0;
        while answer_length(&buffer[..held]).is_none() {
            let read = socket.read(&mut buffer[held..]).await.unwrap();
            assert!(read > 0, "the server hung up");
            held += read;
        }
        done += 1;
    }
    done
}

/// The outcome of a round: events delivered a second while publishing, published, and how many subscribers missed any.
struct Round {
    rate: f64,
    published: u64,
    short: usize,
    delays: Vec<u64>,
}

fn round(kind: &Kind, make: &Arc<dyn Fn() -> Vec<u8> + Send + Sync>, epoch: Instant, pause: Option<Duration>) -> Round {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let seen = Arc::new(Seen::default());
        let mut followers = tokio::task::JoinSet::new();
        for number in 0..SUBSCRIBERS {
            followers.spawn(follow(kind.clone(), seen.clone(), epoch, number % 10 == 0));
            if number % 50 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        // nchan answers nothing until there is a first message, so its opening is only given time.
        let patience = Instant::now();
        while seen.open.load(Ordering::Relaxed) < SUBSCRIBERS as u64 && patience.elapsed() < Duration::from_secs(2) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut publishers = tokio::task::JoinSet::new();
        let now = tokio::time::Instant::now();
        for number in 0..PUBLISHERS as u32 {
            // One after the other, as strangers to one another do: all at once would be another load than the rate says.
            let ticks = pause.map(|pause| tokio::time::interval_at(now + pause / PUBLISHERS as u32 * number, pause));
            publishers.spawn(publish(kind.address.clone(), make.clone(), stop.clone(), ticks));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (before, began) = (seen.events.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(ROUND).await;
        let rate = (seen.events.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let mut published = 0;
        while let Some(done) = publishers.join_next().await {
            published += done.unwrap();
        }
        let mut short = 0;
        while let Some(events) = followers.join_next().await {
            short += usize::from(events.unwrap() < published);
        }
        let delays = std::mem::take(&mut *seen.delays.lock().unwrap());
        Round { rate, published, short, delays }
    })
}

fn ours(daemon: &Daemon, epoch: Instant) -> (Kind, Arc<dyn Fn() -> Vec<u8> + Send + Sync>) {
    let request = format!(
        "GET /v1/events/stream HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nAccept: text/event-stream\r\n\r\n",
        daemon.address, daemon.token
    );
    let kind = Kind { address: daemon.address.clone(), request: request.into_bytes(), mark: b"\nid: ", stamped: true };
    let head = client::creation(daemon, &format!("t{:015}", 0));
    let at = memchr::memmem::find(&head, b"\"t00").unwrap() + 2;
    let make = move || {
        let mut request = head.clone();
        let stamp = format!("{:015}", epoch.elapsed().as_micros());
        request[at..at + 15].copy_from_slice(stamp.as_bytes());
        request
    };
    (kind, Arc::new(make))
}

fn theirs(nchan: &Nchan) -> (Kind, Arc<dyn Fn() -> Vec<u8> + Send + Sync>) {
    let request = format!("GET /sub HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n\r\n", nchan.address);
    let kind =
        Kind { address: nchan.address.clone(), request: request.into_bytes(), mark: b"\ndata: ", stamped: false };
    let message = nchan.publication(MESSAGE_BYTES);
    (kind, Arc::new(move || message.clone()))
}

pub fn run() {
    let epoch = Instant::now();
    let daemon = Daemon::start();
    let nchan = Nchan::start();
    let (kind, make) = ours(&daemon, epoch);
    let (mut rates, mut baseline) = (Vec::new(), Vec::new());
    let mut foreign = 0.0_f64;
    for _ in 0..ROUNDS {
        foreign = foreign.max(support::foreign_load());
        if let Some(nchan) = &nchan {
            let (kind, make) = theirs(nchan);
            let round = round(&kind, &make, epoch, None);
            println!(
                "  nchan: {:.0} delivered/s of {} published, {} subscribers short",
                round.rate, round.published, round.short
            );
            baseline.push(round.rate);
        }
        let round = round(&kind, &make, epoch, None);
        println!(
            "  ours: {:.0} delivered/s of {} published, {} subscribers short, {:.0} MiB resident",
            round.rate,
            round.published,
            round.short,
            daemon.resident_mib()
        );
        assert_eq!(round.short, 0, "a subscriber missed an event");
        rates.push(round.rate);
    }
    let saturated = support::spread(rates.clone()).median;
    let what = format!("{SUBSCRIBERS} subscribers, {PUBLISHERS} publishers (others used at most {foreign:.0} %)");
    if baseline.is_empty() {
        println!("streams: no nginx with nchan here, so there is no baseline; ours: {saturated:.0} delivered/s");
    } else {
        support::compare(&what, "delivered/s", rates, ("nchan", baseline));
    }
    let paced = |what: &str, rate: f64| {
        let pause = Duration::from_secs_f64((PUBLISHERS * SUBSCRIBERS) as f64 / rate.max(1.0));
        let mut round = round(&kind, &make, epoch, Some(pause));
        round.delays.sort_unstable();
        let at = |share: f64| round.delays[((round.delays.len() - 1) as f64 * share) as usize] as f64 / 1e3;
        println!(
            "{what}: {:.0} delivered/s, from request to subscriber p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms, {} short",
            round.rate,
            at(0.5),
            at(0.99),
            at(1.0),
            round.short
        );
    };
    paced("at half of that", saturated / 2.0);
    paced("one event at a time", (ALONE * SUBSCRIBERS) as f64);
}
