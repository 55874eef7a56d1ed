//! Signals: the first one that ends a daemon begins the drain, a further one cuts it short; others must not end it.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::domain::reason::{Reason, Refusal};

/// Signals that end a daemon, and one that is only told of.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

fn listen(kind: SignalKind) -> Result<Signal, Refusal> {
    signal(kind).map_err(|error| Refusal::new(Reason::InternalError, format!("listening for signals: {error}")))
}

/// From now on neither a terminal that goes away nor a write beyond the limit of file sizes ends the process: such a write
/// fails instead, like one on a full disk. A signal that was listened for once stays so until the process ends.
pub(super) fn outlive() -> Result<(), Refusal> {
    listen(SignalKind::hangup()).map(drop)?;
    listen(SignalKind::from_raw(libc::SIGXFSZ)).map(drop)
}

impl Signals {
    /// From now on these signals no longer end the process by themselves.
    pub(super) fn listen() -> Result<Self, Refusal> {
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal that ends a daemon.
    pub(super) async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => tracing::info!("SIGHUP is ignored; SIGTERM ends the daemon"),
            }
        }
    }
}
