//! The signals that end a daemon: the first one begins the drain, a further one cuts it short.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::domain::reason::{Reason, Refusal};

/// Signals that end a daemon: a terminal that goes away is one of them.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on these signals no longer end the process by themselves.
    pub(super) fn listen() -> Result<Self, Refusal> {
        let listen = |kind| {
            signal(kind).map_err(|error| Refusal::new(Reason::InternalError, format!("listening for signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next of them.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
