//! Following a stream of events: read on a thread of its own, taken up again behind the last event after every cut, and
//! mixed with what the person types and with Ctrl-C.

use std::io::{BufRead as _, BufReader, Read as _};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use super::client::{ClientArgs, Door, Trouble, problem};
use super::output;
use super::prompt::now_ms;
use super::wire::{Answer, Ask};
use crate::platform::clock::{Clock as _, SystemClock};

/// A stream that says nothing for so long is taken for dead; the daemon's beats come more often.
const SILENCE: Duration = Duration::from_secs(45);
/// How long a daemon may be away before following ends, milliseconds.
const AWAY_MS: u64 = 60_000;
/// How often it is said that a connection is still lost, milliseconds.
const STILL_MS: u64 = 10_000;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// Longest line of a stream, bytes; an event holds one record, and a record's parts are bounded.
const LINE_BYTES: u64 = 16 << 20;
const QUEUE: usize = 64;
const PROBLEM_BYTES: u64 = 64 << 10;

/// What comes next.
#[derive(Debug)]
pub enum Sight {
    /// An event; one without a number cannot be had again.
    Event {
        /// Its sequence number.
        id: Option<u64>,
        /// Its kind.
        event: String,
        /// Its text.
        data: String,
    },
    /// A line that the person typed.
    Line {
        /// What; `None` where there will be no more.
        text: Option<String>,
        /// When it was there, in the time of [`now_ms`].
        typed_ms: u64,
    },
    /// The person pressed Ctrl-C.
    Interrupted,
    /// The daemon of the state root has another address, or another token, than before.
    Moved(Door),
    /// The stream cannot be followed any more.
    Lost(Trouble),
}

/// A stream that is being followed.
pub struct Stream {
    sights: Receiver<Sight>,
    sender: SyncSender<Sight>,
    reads_lines: std::cell::Cell<bool>,
}

impl Stream {
    /// Follows the events at this path, from behind a sequence number on. A daemon that was found in its state root is
    /// looked for there again when it is lost: after a restart it may have another port.
    pub fn open(args: &ClientArgs, door: Door, path: String, after: u64) -> Self {
        let (sender, sights) = sync_channel(QUEUE);
        let (events, signals) = (sender.clone(), sender.clone());
        // Both threads end with the process, or when nobody listens any more.
        let found_again = (!args.is_remote()).then(|| args.clone());
        std::thread::spawn(move || read(door, found_again.as_ref(), &path, after, &events));
        std::thread::spawn(move || wait_for_interrupt(&signals));
        Self { sights, sender, reads_lines: std::cell::Cell::new(false) }
    }

    /// What comes next.
    pub fn next(&self) -> Sight {
        // The stream itself holds a sender, so there is always one.
        self.sights.recv().unwrap_or(Sight::Interrupted)
    }

    /// From now on lines that the person types come as well.
    pub fn read_lines(&self) {
        if self.reads_lines.replace(true) {
            return;
        }
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { break };
                if sender.send(Sight::Line { text: Some(line), typed_ms: now_ms() }).is_err() {
                    return;
                }
            }
            let _ = sender.send(Sight::Line { text: None, typed_ms: now_ms() });
        });
    }
}

fn wait_for_interrupt(sender: &SyncSender<Sight>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    while runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
        if sender.send(Sight::Interrupted).is_err() {
            return;
        }
    }
}

fn read(mut door: Door, state_root: Option<&ClientArgs>, path: &str, after: u64, sender: &SyncSender<Sight>) {
    let (mut last, mut pause, mut seen_ms, mut said_ms) = (after, FIRST_PAUSE, SystemClock.boot_ms(), None);
    loop {
        let headers = vec![("Accept", "text/event-stream".to_owned()), ("Last-Event-ID", last.to_string())];
        let ask = Ask { method: "GET", path, headers, ..Ask::default() };
        match door.send(ask, SILENCE) {
            Ok(answer) if answer.status == 200 => {
                if said_ms.take().is_some() {
                    output::talk("The connection is back.");
                }
                if !pass_on(answer, &mut last, sender) {
                    return;
                }
                (pause, seen_ms) = (FIRST_PAUSE, SystemClock.boot_ms());
            }
            Ok(mut answer) => {
                let mut bytes = Vec::new();
                let _ = answer.body.by_ref().take(PROBLEM_BYTES).read_to_end(&mut bytes);
                // The token may have been replaced: the state root has the new one.
                if let Some(found) = elsewhere(&door, state_root).filter(|_| answer.status == 401) {
                    door = found.clone();
                    if sender.send(Sight::Moved(found)).is_err() {
                        return;
                    }
                    continue;
                }
                let passing = matches!(answer.status, 429 | 503);
                if !passing || SystemClock.boot_ms() > seen_ms + AWAY_MS {
                    let _ = sender.send(Sight::Lost(problem(answer.status, &bytes)));
                    return;
                }
            }
            Err(error) if SystemClock.boot_ms() > seen_ms + AWAY_MS => {
                let why = format!("{}: {error}", door.address);
                let _ = sender.send(Sight::Lost(Trouble::Unreachable(why)));
                return;
            }
            Err(error) => {
                still_trying(&mut said_ms, &error);
                if let Some(found) = elsewhere(&door, state_root) {
                    door = found.clone();
                    if sender.send(Sight::Moved(found)).is_err() {
                        return;
                    }
                }
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// What the state root says now, where that is something else.
fn elsewhere(door: &Door, state_root: Option<&ClientArgs>) -> Option<Door> {
    state_root.and_then(|args| args.door().ok()).filter(|found| !found.is(door))
}

/// Says that the connection is lost: at once, and then every now and then.
fn still_trying(said_ms: &mut Option<u64>, error: &std::io::Error) {
    let now = SystemClock.boot_ms();
    let words = match *said_ms {
        None => "The connection is lost",
        Some(before) if now >= before + STILL_MS => "The connection is still lost",
        Some(_) => return,
    };
    *said_ms = Some(now);
    output::talk(&format!("{words} ({}); trying again.", output::escape(&error.to_string())));
}

/// Passes the events of one connection on; false where nobody listens any more.
fn pass_on(answer: Answer, last: &mut u64, sender: &SyncSender<Sight>) -> bool {
    let mut lines = BufReader::new(answer.body);
    let mut parser = Parser::default();
    loop {
        let mut line = Vec::new();
        match lines.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(read) if read > 0 && line.ends_with(b"\n") => {}
            Ok(_) | Err(_) => return true,
        }
        let Some(sight) = parser.line(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n'])) else { continue };
        if let Sight::Event { id: Some(id), .. } = &sight {
            *last = *id;
        }
        if sender.send(sight).is_err() {
            return false;
        }
    }
}

/// Puts the lines of a stream together to events.
#[derive(Debug, Default)]
pub struct Parser {
    id: Option<u64>,
    event: String,
    data: Option<String>,
}

impl Parser {
    /// Takes a line; gives the event that it completes.
    pub fn line(&mut self, line: &str) -> Option<Sight> {
        if line.is_empty() {
            let done = std::mem::take(self);
            return done.data.map(|data| Sight::Event { id: done.id, event: done.event, data });
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => self.id = value.parse().ok(),
            "event" => value.clone_into(&mut self.event),
            "data" => match &mut self.data {
                None => self.data = Some(value.to_owned()),
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
            },
            // Comments keep the connection alive; other fields mean nothing here.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_events_and_comments_nothing() {
        let mut parser = Parser::default();
        let mut seen = Vec::new();
        for line in
            ": open\n\nid: 7\nevent: run.started\ndata: {}\n\nevent: delta\ndata: a\ndata:  b\n\n: beat\n\n".lines()
        {
            if let Some(Sight::Event { id, event, data }) = parser.line(line) {
                seen.push((id, event, data));
            }
        }
        let wanted =
            [(Some(7), "run.started".to_owned(), "{}".to_owned()), (None, "delta".to_owned(), "a\n b".to_owned())];
        assert_eq!(seen, wanted);
    }
}
