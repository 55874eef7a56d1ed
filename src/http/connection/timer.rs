//! A deadline that costs nothing while it is only moved back: the machine's timer is armed when someone waits, and armed
//! again only where the new deadline is nearer.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

#[derive(Default)]
pub(super) struct Deadline {
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Sets the deadline this far from now, if none is set.
    pub(super) fn start(&mut self, milliseconds: u64) {
        if self.at.is_none() {
            self.at = Some(Instant::now() + Duration::from_millis(milliseconds));
        }
    }

    /// Takes the deadline away.
    pub(super) fn clear(&mut self) {
        self.at = None;
    }

    /// Ready once the deadline passed; otherwise the task is woken when it does.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        loop {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if at < sleep.deadline() || sleep.is_elapsed() {
                sleep.as_mut().reset(at);
            }
            // An earlier alarm than the deadline: wait on.
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
