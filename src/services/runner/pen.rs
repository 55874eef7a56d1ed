//! The runner's way to the write path: what is refused only for now is asked again, for a run whose step was taken
//! must not lose it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::limits;
use crate::domain::actor::{Actor, ActorKind};
use crate::domain::command::Command;
use crate::domain::ids::{RunId, SubjectKeyId};
use crate::domain::personal::Personal;
use crate::domain::reason::Refusal;
use crate::domain::record::Provenance;
use crate::services::desk::{Committed, Lane, WritePath};
use crate::vault::redaction::Redactor;

/// Submits commands until they are decided.
#[derive(Clone)]
pub(super) struct Pen {
    write: Arc<dyn WritePath>,
    /// When this resolves, what is refused for now counts as refused.
    given_up: CancellationToken,
    redactor: Redactor,
}

/// On whose behalf a run's own steps are recorded.
pub(super) fn agent(org: &str, run: RunId) -> Provenance {
    let actor = Actor {
        kind: ActorKind::Agent,
        id: run.to_string(),
        via: "worker".to_owned(),
        credential: None,
        verified: true,
    };
    Provenance { org: org.to_owned(), actor, on_behalf_of: Vec::new(), request: None }
}

/// On whose behalf the runner itself acts.
pub(super) fn runner() -> Provenance {
    Provenance::system("runner")
}

impl Pen {
    pub(super) fn new(write: Arc<dyn WritePath>, given_up: CancellationToken, redactor: Redactor) -> Self {
        Self { write, given_up, redactor }
    }

    /// Words of a provider or a tool that stand in a record themselves, without known secrets. What is kept has none either.
    pub(super) fn clean(&self, text: String) -> String {
        self.redactor.owned(text)
    }

    /// Records what is about to be done.
    pub(super) async fn intent(&self, command: Command, by: Provenance) -> Result<Committed, Refusal> {
        self.submit(command, by, Lane::Ordinary).await
    }

    /// Records what was done; goes before other work.
    pub(super) async fn outcome(&self, command: Command, by: Provenance) -> Result<Committed, Refusal> {
        self.submit(command, by, Lane::Reserved).await
    }

    /// Submits once.
    pub(super) async fn once(&self, command: Command) -> Result<Committed, Refusal> {
        self.write.submit(command, runner(), Lane::Reserved).await
    }

    async fn submit(&self, command: Command, by: Provenance, lane: Lane) -> Result<Committed, Refusal> {
        let mut tries = 0;
        loop {
            match self.write.submit(command.clone(), by.clone(), lane).await {
                Err(refusal) if refusal.reason.retry() => self.pause(&mut tries, refusal).await?,
                decided => return decided,
            }
        }
    }

    /// A text as a record may hold it that has room for so many bytes of it, under the key of its session.
    pub(super) async fn keep(
        &self,
        text: String,
        inline_bytes: usize,
        key: Option<SubjectKeyId>,
    ) -> Result<Personal, Refusal> {
        let mut tries = 0;
        loop {
            match self.write.keep(text.clone(), inline_bytes, key).await {
                Err(refusal) if refusal.reason.retry() => self.pause(&mut tries, refusal).await?,
                // What is refused of a run's own steps is rare: it stays.
                kept => return kept.map(|kept| kept.part),
            }
        }
    }

    /// Waits before the next try, or gives the refusal back where there is none.
    async fn pause(&self, tries: &mut u32, refusal: Refusal) -> Result<(), Refusal> {
        let pause = doubled(limits::COMMIT_RETRY_MS, *tries, limits::COMMIT_RETRY_MS_MAX);
        let pause = pause.max(refusal.retry_after_ms.unwrap_or(0).min(limits::COMMIT_RETRY_MS_MAX));
        *tries = tries.saturating_add(1);
        tokio::select! {
            () = self.given_up.cancelled() => Err(refusal),
            () = tokio::time::sleep(Duration::from_millis(pause)) => Ok(()),
        }
    }
}

/// `first`, doubled so often, at most `most`.
pub(super) fn doubled(first: u64, times: u32, most: u64) -> u64 {
    first.saturating_mul(1_u64.checked_shl(times).unwrap_or(u64::MAX)).min(most)
}

#[cfg(test)]
mod tests {
    use super::doubled;

    #[test]
    fn pauses_double_up_to_their_limit() {
        let pauses: Vec<u64> = [0, 1, 2, 9, 63, 64, u32::MAX].map(|times| doubled(20, times, 5_000)).into();
        assert_eq!(pauses, [20, 40, 80, 5_000, 5_000, 5_000, 5_000]);
    }
}
