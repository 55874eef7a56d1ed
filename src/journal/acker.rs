//! Keeps `acked` close behind the journal without standing in its way: a thread of its own writes the newest note,
//! at most 50 ms late, and brings it into both slots when nothing new comes.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::acked::Acked;
use super::note::Note;
use crate::domain::limits;

struct State {
    newest: Note,
    /// The thread has nothing to do and is to be woken; otherwise it looks again by itself.
    rests: bool,
    stop: bool,
    failure: Option<String>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    file: Mutex<Acked>,
}

/// The writer of `acked`.
pub(super) struct Acker {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Acker {
    /// Takes over `acked`, whose newest note is `newest`; with a thread, or written only when told.
    pub(super) fn new(file: Acked, newest: Note, background: bool) -> io::Result<Self> {
        let state = State { newest, rests: false, stop: false, failure: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new(), file: Mutex::new(file) });
        let thread = if background {
            let shared = Arc::clone(&shared);
            Some(std::thread::Builder::new().name("journal-acked".to_owned()).spawn(move || shared.run())?)
        } else {
            None
        };
        Ok(Self { shared, thread })
    }

    /// A batch with this note is on disk.
    pub(super) fn offer(&self, note: &Note) {
        let mut state = lock(&self.shared.state);
        state.newest = note.clone();
        if std::mem::take(&mut state.rests) {
            self.shared.wake.notify_one();
        }
    }

    /// What went wrong on the thread, if something did.
    pub(super) fn failure(&self) -> Option<String> {
        lock(&self.shared.state).failure.clone()
    }

    /// Writes the newest note into the older slot now.
    pub(super) fn write(&self) -> io::Result<()> {
        let (mut file, note) = self.shared.newest();
        file.write(&note)
    }

    /// Brings the newest note into both slots now.
    pub(super) fn settle(&self) -> io::Result<()> {
        let (mut file, note) = self.shared.newest();
        file.settle(&note)
    }
}

impl Drop for Acker {
    fn drop(&mut self) {
        lock(&self.shared.state).stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The file and the newest note. The note is looked at with the file in hand: whoever waited for the file must not
    /// come with a note that another one has overtaken meanwhile.
    fn newest(&self) -> (MutexGuard<'_, Acked>, Note) {
        let file = lock(&self.file);
        let note = lock(&self.state).newest.clone();
        (file, note)
    }

    fn run(&self) {
        let pause = Duration::from_millis(limits::ACKED_DELAY_MS / 2);
        let mut written = lock(&self.state).newest.size;
        let mut settled = false;
        loop {
            let mut state = lock(&self.state);
            let state = if settled {
                state.rests = state.newest.size == written;
                self.wake.wait_while(state, |s| !s.stop && s.rests).unwrap_or_else(PoisonError::into_inner)
            } else {
                // A short pause between writes leaves the disk to the batches.
                match self.wake.wait_timeout_while(state, pause, |s| !s.stop) {
                    Ok((state, _)) => state,
                    Err(poisoned) => poisoned.into_inner().0,
                }
            };
            if state.stop {
                return;
            }
            drop(state);
            let (mut file, note) = self.newest();
            settled = note.size == written;
            written = note.size;
            let result = if settled { file.settle(&note) } else { file.write(&note) };
            drop(file);
            if let Err(error) = result {
                lock(&self.state).failure = Some(format!("a write of {} failed: {error}", super::acked::PATH));
                return;
            }
        }
    }
}
