//! The write path of the door: the clerk's, from when the start is recorded until the daemon winds down. What works inside
//! goes on to write.

use futures_util::future::{BoxFuture, ready};

use crate::domain::command::Command;
use crate::domain::ids::SubjectKeyId;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Provenance;
use crate::platform::tasks::{Milestone, Tasks};
use crate::services::blobs::Kept;
use crate::services::clerk::Clerk;
use crate::services::desk::{Committed, Lane, WritePath};
use crate::services::status::not_begun;

/// What requests write through.
pub(super) struct DoorPath {
    /// Writes.
    pub(super) clerk: Clerk,
    /// The start is recorded.
    pub(super) begun: Milestone,
    /// Knows when nothing more is taken in.
    pub(super) tasks: Tasks,
}

impl DoorPath {
    fn refusal(&self) -> Option<Refusal> {
        if self.tasks.is_closing() {
            return Some(Refusal::new(Reason::RequestOverloaded, "the daemon is stopping").retry_after_ms(5_000));
        }
        not_begun(&self.clerk, &self.begun)
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

    fn keep(
        &self,
        text: String,
        inline_bytes: usize,
        key: Option<SubjectKeyId>,
    ) -> BoxFuture<'_, Result<Kept, Refusal>> {
        match self.refusal() {
            Some(refusal) => Box::pin(ready(Err(refusal))),
            None => self.clerk.keep(text, inline_bytes, key),
        }
    }
}
