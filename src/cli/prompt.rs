//! What a person types is taken for an answer only where they can have read what is asked: what was typed before is
//! forgotten, and so is what comes the moment after.

use std::io::IsTerminal as _;

use rustix::termios::{LocalModes, OptionalActions, QueueSelector, tcflush, tcgetattr, tcsetattr};

use crate::platform::clock::{Clock as _, SystemClock};

/// Nobody reads a card and answers it in less, milliseconds.
const GRACE_MS: u64 = 300;
/// The same where the question before was settled by others: a key may be on its way that was meant for that one.
const OVERTAKEN_GRACE_MS: u64 = 2_000;

/// A question on the screen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Prompt {
    answers_from_ms: u64,
}

/// A line that is typed and not shown, of at most so many bytes.
pub fn hidden_line(limit: usize) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    let mut line = Vec::new();
    let mut typed = [0];
    let read = loop {
        match stdin.lock().read(&mut typed) {
            Ok(0) => break Ok(()),
            Ok(_) if typed == [b'\n'] || line.len() >= limit => break Ok(()),
            Ok(_) => line.push(typed[0]),
            Err(error) => break Err(error),
        }
    };
    tcsetattr(&stdin, OptionalActions::Now, &before)?;
    read.map(|()| line)
}

/// The time by which lines and prompts are compared, milliseconds.
pub fn now_ms() -> u64 {
    SystemClock.boot_ms()
}

impl Prompt {
    /// A question that stands on the screen from now on. Keys that were pressed before it are forgotten.
    pub fn shown(overtaken: bool) -> Self {
        if std::io::stdin().is_terminal() {
            // Where it cannot be done, the time still tells.
            let _ = tcflush(std::io::stdin(), QueueSelector::IFlush);
        }
        let grace = if overtaken { OVERTAKEN_GRACE_MS } else { GRACE_MS };
        Self { answers_from_ms: now_ms() + grace }
    }

    /// Whether what was typed then can be meant for it.
    pub fn takes(self, typed_ms: u64) -> bool {
        typed_ms >= self.answers_from_ms
    }
}
