//! Models behind real sockets that answer late, badly, in part, or not at all, and what becomes of the runs.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{House, says};

/// What a server says to a request, before it closes; without words it says nothing and holds on.
type Answer = Option<String>;

struct Server {
    port: u16,
    asked: Arc<AtomicUsize>,
}

fn request_is_read(socket: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length: Option<usize> =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return true;
            }
        }
        match socket.read(&mut piece) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
            _ => return false,
        }
    }
}

impl Server {
    /// The n-th request gets the n-th answer; later ones the last.
    fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let Ok(mut socket) = socket else { return };
                let (answers, count) = (answers.clone(), count.clone());
                std::thread::spawn(move || {
                    if !request_is_read(&mut socket) {
                        return;
                    }
                    let at = count.fetch_add(1, Ordering::SeqCst);
                    match answers.get(at).or(answers.last()) {
                        Some(Some(words)) => drop(socket.write_all(words.as_bytes())),
                        _ => drop(socket.read(&mut [0])),
                    }
                });
            }
        });
        Self { port, asked }
    }

    /// A house whose default route leads here, and whose route `practice` plays.
    fn house(&self, timeout_ms: u64) -> House {
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
    Some(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
}

/// An answer that streams these events, and says that it is over or breaks off.
fn streamed(events: &str, whole: bool) -> Answer {
    let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    Some(format!("{head}{events}{}", if whole { end } else { "" }))
}

fn words(text: &str) -> String {
    format!("data: {}\n\n", json!({ "choices": [{ "delta": { "content": text } }] }))
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

#[test]
fn what_a_model_may_have_been_paid_for_is_not_asked_again() {
    for answer in [None, Some(String::new()), refused("504 Gateway Timeout")] {
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
