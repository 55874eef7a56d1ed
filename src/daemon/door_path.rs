//! The write path of the door: the clerk's, until the daemon winds down. What works inside goes on to write.

use futures_util::future::{BoxFuture, ready};

use crate::domain::command::Command;
use crate::domain::personal::Personal;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Provenance;
use crate::platform::tasks::Tasks;
use crate::services::clerk::Clerk;
use crate::services::desk::{Committed, Lane, WritePath};

/// What requests write through.
pub(super) struct DoorPath {
    /// Writes.
    pub(super) clerk: Clerk,
    /// Knows when nothing more is taken in.
    pub(super) tasks: Tasks,
}

impl DoorPath {
    fn refusal(&self) -> Option<Refusal> {
        let refuse = || Refusal::new(Reason::RequestOverloaded, "the daemon is stopping").retry_after_ms(5_000);
        self.tasks.is_closing().then(refuse)
    }
}

impl WritePath for DoorPath {
    fn submit(
        &self,
        command: Command,
        provenance: Provenance,
        lane: Lane,
    ) -> BoxFuture<'_, Result<Committed, Refusal>> {
        match self.refusal() {
            Some(refusal) => Box::pin(ready(Err(refusal))),
            None => self.clerk.submit(command, provenance, lane),
        }
    }

    fn keep(&self, text: String) -> BoxFuture<'_, Result<Personal, Refusal>> {
        match self.refusal() {
            Some(refusal) => Box::pin(ready(Err(refusal))),
            None => self.clerk.keep(text),
        }
    }
}
