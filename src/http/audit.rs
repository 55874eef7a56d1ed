//! The access log `control-plane-auth/audit.jsonl`: who came in and who was turned away. It is off every answer's path:
//! lines go through a bounded queue to a thread of their own, what does not fit is counted, and equal lines are counted
//! instead of repeated.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc::Sender;

use super::limits::{AUDIT_COUNT_MS, AUDIT_COUNTED_LINES, AUDIT_FILE_BYTES, AUDIT_FILES, AUDIT_QUEUE};
use crate::platform::clock::Clock;
use crate::platform::rotated_log::{ClosedChunk, RotatedLog};

/// What makes two lines equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Line {
    /// `admitted`, or the code of the refusal.
    pub code: &'static str,
    /// The name that the reason had before, where it had another; dashboards and alerts may look for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed_code: Option<&'static str>,
    /// The method.
    pub method: String,
    /// The pattern of the route; `-` where none matched.
    pub route: &'static str,
    /// The address that the request is counted to.
    pub source: String,
    /// The other end of the socket.
    pub peer: String,
    /// The caller, where one was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Keyed fingerprint of the caller's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fp: Option<String>,
}

/// One entry on its way to the log.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What happened.
    pub line: Line,
    /// The request, or the first of them.
    pub request_id: String,
    /// How many times.
    pub count: u64,
}

#[derive(Serialize)]
struct Written<'a> {
    at_ms: u64,
    #[serde(flatten)]
    line: &'a Line,
    request_id: &'a str,
    count: u64,
}

#[derive(Serialize)]
struct Dropped {
    at_ms: u64,
    code: &'static str,
    count: u64,
}

/// Where the door puts its entries. Never waits.
#[derive(Debug, Clone)]
pub struct AuditSink {
    queue: Option<SyncSender<Entry>>,
    dropped: Arc<AtomicU64>,
}

impl AuditSink {
    /// A sink that keeps nothing, for doors without a state root.
    pub fn none() -> Self {
        Self { queue: None, dropped: Arc::default() }
    }

    /// Puts an entry into the queue, or counts it as dropped.
    pub fn put(&self, entry: Entry) {
        let Some(queue) = &self.queue else { return };
        let count = entry.count;
        if queue.try_send(entry).is_err() {
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// How many entries did not fit since the last line that said so.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Refuses what lies where the log is to be and is none. Writes nothing.
pub fn look(path: &Path) -> std::io::Result<()> {
    RotatedLog::look(path, AUDIT_FILE_BYTES)
}

/// Opens the log and starts its thread, which ends when the last sink is gone. Closed chunks go to `closed`, if given.
pub fn start(
    path: &Path,
    clock: Arc<dyn Clock>,
    closed: Option<Sender<ClosedChunk>>,
) -> std::io::Result<(AuditSink, std::thread::JoinHandle<()>)> {
    let log = RotatedLog::open(path, AUDIT_FILE_BYTES, AUDIT_FILES)?;
    let (queue, entries) = sync_channel(AUDIT_QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    let writer = Writer { log, clock, closed, dropped: dropped.clone(), counted: HashMap::new(), failing: false };
    let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run(&entries))?;
    Ok((AuditSink { queue: Some(queue), dropped }, thread))
}

struct Counted {
    since_ms: u64,
    request_id: String,
    count: u64,
}

struct Writer {
    log: RotatedLog,
    clock: Arc<dyn Clock>,
    closed: Option<Sender<ClosedChunk>>,
    dropped: Arc<AtomicU64>,
    counted: HashMap<Line, Counted>,
    failing: bool,
}

impl Writer {
    fn run(mut self, entries: &Receiver<Entry>) {
        let pause = Duration::from_millis(AUDIT_COUNT_MS / 4);
        loop {
            match entries.recv_timeout(pause) {
                Ok(entry) => self.take(entry),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.flush(0);
                    return;
                }
            }
            self.flush(AUDIT_COUNT_MS);
        }
    }

    /// Writes the first of equal lines at once and counts the rest.
    fn take(&mut self, entry: Entry) {
        if let Some(counted) = self.counted.get_mut(&entry.line) {
            if counted.count == 0 {
                counted.request_id = entry.request_id;
            }
            counted.count += entry.count;
            return;
        }
        let now = self.clock.boot_ms();
        self.write(&entry.line, &entry.request_id, entry.count);
        if self.counted.len() < AUDIT_COUNTED_LINES {
            let counted = Counted { since_ms: now, request_id: String::new(), count: 0 };
            self.counted.insert(entry.line, counted);
        }
    }

    /// Writes the counts that are at least this old.
    fn flush(&mut self, age_ms: u64) {
        let now = self.clock.boot_ms();
        let due = |counted: &Counted| now.saturating_sub(counted.since_ms) >= age_ms;
        let over: Vec<_> = self.counted.extract_if(|_, counted| due(counted)).collect();
        for (line, counted) in over {
            if counted.count > 0 {
                self.write(&line, &counted.request_id, counted.count);
            }
        }
        let count = self.dropped.swap(0, Ordering::Relaxed);
        if count > 0 {
            let dropped = Dropped { at_ms: self.clock.wall_ms(), code: "audit.dropped", count };
            self.append(&serde_json::to_vec(&dropped).unwrap_or_default());
        }
    }

    fn write(&mut self, line: &Line, request_id: &str, count: u64) {
        let written = Written { at_ms: self.clock.wall_ms(), line, request_id, count };
        self.append(&serde_json::to_vec(&written).unwrap_or_default());
    }

    fn append(&mut self, line: &[u8]) {
        match self.log.append(line) {
            Ok(chunk) => {
                self.failing = false;
                if let (Some(chunk), Some(closed)) = (chunk, &self.closed) {
                    // What is not taken now, or at a drain, is found at the next start.
                    let _ = closed.try_send(chunk);
                }
            }
            Err(fault) if !self.failing => {
                self.failing = true;
                tracing::error!(%fault, "the access log cannot be written");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests read what was written")]
mod tests {
    use super::*;
    use crate::platform::clock::FakeClock;

    fn entry(code: &'static str, id: &str) -> Entry {
        let line = Line {
            code,
            seed_code: None,
            method: "POST".into(),
            route: "/v1/x",
            source: "192.0.2.1".into(),
            peer: "127.0.0.1".into(),
            principal: None,
            fp: None,
        };
        Entry { line, request_id: id.into(), count: 1 }
    }

    #[test]
    fn equal_lines_are_written_once_and_counted_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control-plane-auth/audit.jsonl");
        let (sink, thread) = start(&path, Arc::new(FakeClock::at(5, 5)), None).unwrap();
        for number in 0..50 {
            sink.put(entry("auth.invalid", &format!("r{number}")));
        }
        sink.put(entry("auth.missing", "other\u{1b}\n"));
        drop(sink);
        thread.join().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let seen: Vec<_> = lines
            .iter()
            .map(|line| {
                (line["code"].as_str().unwrap(), line["count"].as_u64().unwrap(), line["request_id"].as_str().unwrap())
            })
            .collect();
        assert_eq!(seen, [("auth.invalid", 1, "r0"), ("auth.missing", 1, "other\u{1b}\n"), ("auth.invalid", 49, "r1")]);
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (queue, entries) = sync_channel(2);
        let sink = AuditSink { queue: Some(queue), dropped: Arc::default() };
        for _ in 0..5 {
            sink.put(entry("auth.invalid", "r"));
        }
        assert_eq!((sink.dropped(), entries.try_iter().count()), (3, 2));
    }
}
