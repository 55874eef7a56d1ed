//! Standard error as a place for log lines that never makes anybody wait: lines go through a bounded queue to a thread of
//! their own, which takes out of them what nobody may see. What does not fit is counted and told later; a closed pipe is no
//! error.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Lines that may wait.
const QUEUE_LINES: usize = 4_096;
/// How often the number of dropped lines is told, where there are any, milliseconds.
const TELL_MS: u64 = 1_000;
/// How often a full queue is tried again while settling.
const SETTLE_STEP: Duration = Duration::from_millis(5);

enum Item {
    Line(Vec<u8>),
    /// Everything before this is written.
    Mark(Arc<Mark>),
}

#[derive(Default)]
struct Mark {
    reached: Mutex<bool>,
    changed: Condvar,
}

/// Takes log lines. Clones share one queue.
#[derive(Clone)]
pub struct LogPipe {
    queue: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

impl LogPipe {
    /// Begins to write lines to this place, each as `clean` gives it.
    pub fn start(
        out: impl std::io::Write + Send + 'static,
        clean: impl Fn(&[u8]) -> Cow<'_, [u8]> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write(out, clean, &lines, &counted))?;
        Ok(Self { queue, dropped })
    }

    /// Begins to write lines to standard error.
    pub fn stderr(clean: impl Fn(&[u8]) -> Cow<'_, [u8]> + Send + 'static) -> std::io::Result<Self> {
        Self::start(std::io::stderr(), clean)
    }

    /// Puts whole lines into the queue, or counts them as dropped.
    pub fn put(&self, lines: &[u8]) {
        if self.queue.try_send(Item::Line(lines.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was put is written, but no longer than this: nobody may be reading.
    pub fn settle(&self, deadline: Duration) {
        let mark = Arc::new(Mark::default());
        let mut left = deadline;
        while self.queue.try_send(Item::Mark(Arc::clone(&mark))).is_err() {
            if left.is_zero() {
                return;
            }
            let step = left.min(SETTLE_STEP);
            std::thread::sleep(step);
            left -= step;
        }
        let reached = mark.reached.lock().unwrap_or_else(PoisonError::into_inner);
        drop(mark.changed.wait_timeout_while(reached, left, |reached| !*reached));
    }
}

impl std::io::Write for LogPipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn write(
    mut out: impl std::io::Write,
    clean: impl Fn(&[u8]) -> Cow<'_, [u8]>,
    lines: &Receiver<Item>,
    dropped: &AtomicU64,
) {
    loop {
        // A pipe that nobody reads, or that is closed, takes the line away from its reader only.
        match lines.recv_timeout(Duration::from_millis(TELL_MS)) {
            Ok(Item::Line(line)) => drop(out.write_all(&clean(&line))),
            Ok(Item::Mark(mark)) => {
                let _ = out.flush();
                *mark.reached.lock().unwrap_or_else(PoisonError::into_inner) = true;
                mark.changed.notify_all();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let count = dropped.swap(0, Ordering::Relaxed);
        if count > 0 {
            let _ = writeln!(
                out,
                "{{\"level\":\"WARN\",\"fields\":{{\"message\":\"log lines were dropped\",\"count\":{count}}}}}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe that is full until it is opened.
    #[derive(Clone, Default)]
    struct Full {
        open: Arc<(Mutex<bool>, Condvar)>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let open = self.open.0.lock().unwrap();
            drop(self.open.1.wait_while(open, |open| !*open).unwrap());
            self.taken.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_pipe_makes_nobody_wait_and_what_was_dropped_is_told() {
        let full = Full::default();
        let pipe = LogPipe::start(full.clone(), |line| line.into()).unwrap();
        for _ in 0..QUEUE_LINES + 100 {
            pipe.put(b"line\n");
        }
        pipe.settle(Duration::from_millis(20));
        *full.open.0.lock().unwrap() = true;
        full.open.1.notify_all();
        pipe.settle(Duration::from_secs(20));
        let text = String::from_utf8(full.taken.lock().unwrap().clone()).unwrap();
        let written = text.lines().filter(|line| *line == "line").count();
        assert!((QUEUE_LINES..=QUEUE_LINES + 1).contains(&written), "{written}");
        assert!(
            text.contains(&format!("\"count\":{}", QUEUE_LINES + 100 - written)),
            "{}",
            text.lines().nth(1).unwrap()
        );
    }

    #[test]
    fn each_line_is_written_as_it_is_cleaned() {
        let taken = Full::default();
        taken.open.0.lock().map(|mut open| *open = true).unwrap();
        let hide =
            |line: &[u8]| -> Vec<u8> { line.iter().map(|byte| if *byte == b'7' { b'*' } else { *byte }).collect() };
        let pipe = LogPipe::start(taken.clone(), move |line| hide(line).into()).unwrap();
        pipe.put(b"1 7 1\n");
        pipe.settle(Duration::from_secs(20));
        assert_eq!(*taken.taken.lock().unwrap(), b"1 * 1\n");
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let (reading, writing) = std::io::pipe().unwrap();
        drop(reading);
        let mut pipe = LogPipe::start(writing, |line| line.into()).unwrap();
        for _ in 0..3 {
            std::io::Write::write_all(&mut pipe, b"line\n").unwrap();
        }
        pipe.settle(Duration::from_secs(20));
    }
}
