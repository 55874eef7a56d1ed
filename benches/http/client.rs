//! Clients that keep their connection and wait for each answer. One client is one blocking thread; many share one
//! event loop, as `pgbench`'s do.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Daemon;

/// The bytes of one creation.
pub fn creation(daemon: &Daemon, title: &str) -> Vec<u8> {
    let body = format!("{{\"title\":\"{title}\"}}");
    format!(
        "POST /v1/sessions HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        daemon.address,
        daemon.token,
        body.len()
    )
    .into_bytes()
}

/// Length of the answer at the beginning of the buffer, if it is whole; it must be a success.
pub fn answer_length(buffer: &[u8]) -> Option<usize> {
    let end = memchr::memmem::find(buffer, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&buffer[..end]).unwrap();
    assert!(head.starts_with("HTTP/1.1 20"), "{head}");
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(|text| text.parse().unwrap()))
        .unwrap_or(0);
    (buffer.len() >= end + length).then_some(end + length)
}

fn one(daemon: &Daemon, round: Duration) -> usize {
    let mut socket = std::net::TcpStream::connect(&daemon.address).unwrap();
    socket.set_nodelay(true).unwrap();
    let request = creation(daemon, "a session like any other");
    let mut buffer = vec![0; 16 << 10];
    let (mut done, began) = (0, Instant::now());
    while began.elapsed() < round {
        socket.write_all(&request).unwrap();
        let mut held = 0;
        while answer_length(&buffer[..held]).is_none() {
            let read = socket.read(&mut buffer[held..]).unwrap();
            assert!(read > 0, "the daemon hung up");
            held += read;
        }
        done += 1;
    }
    done
}

async fn one_of_many(address: String, request: Vec<u8>, until: Instant) -> usize {
    let mut socket = tokio::net::TcpStream::connect(&address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 16 << 10];
    let mut done = 0;
    while Instant::now() < until {
        socket.write_all(&request).await.unwrap();
        let mut held = 0;
        while answer_length(&buffer[..held]).is_none() {
            let read = socket.read(&mut buffer[held..]).await.unwrap();
            assert!(read > 0, "the daemon hung up");
            held += read;
        }
        done += 1;
    }
    done
}

/// Answers a second that so many clients get.
pub fn create_sessions(daemon: &Daemon, clients: usize, round: Duration) -> f64 {
    let began = Instant::now();
    let done = if clients == 1 {
        one(daemon, round)
    } else {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..clients {
                let request = creation(daemon, "a session like any other");
                tasks.spawn(one_of_many(daemon.address.clone(), request, began + round));
            }
            let mut all = 0;
            while let Some(done) = tasks.join_next().await {
                all += done.unwrap();
            }
            all
        })
    };
    done as f64 / began.elapsed().as_secs_f64()
}
