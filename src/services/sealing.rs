//! Words on their way into records: in clear, or under the key of the session that they belong to.

use super::blobs::Kept;
use super::desk::Desk;
use crate::domain::ids::SubjectKeyId;
use crate::domain::limits::INLINE_PART_BYTES;
use crate::domain::personal::Personal;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::reply::{ReplyTarget, check_targets};
use crate::projections::replies::ReplyTo;
use crate::vault::subject::Subjects;

impl Desk {
    /// A text as a record may hold it.
    pub(super) async fn keep(&self, text: String, key: Option<SubjectKeyId>) -> Result<Kept, Refusal> {
        self.write().keep(text, INLINE_PART_BYTES, key).await
    }

    /// A short text, which stands in the record itself.
    pub(super) async fn keep_short(
        &self,
        text: Option<String>,
        key: Option<SubjectKeyId>,
    ) -> Result<Option<Personal>, Refusal> {
        match (text, key) {
            (Some(text), Some(_)) => Ok(Some(self.write().keep(text, usize::MAX, key).await?.part)),
            (text, _) => Ok(text.map(Into::into)),
        }
    }

    /// Reply targets, of which the addresses are somebody's.
    pub(super) async fn keep_targets(
        &self,
        targets: Vec<ReplyTo>,
        key: Option<SubjectKeyId>,
    ) -> Result<Vec<ReplyTarget>, Refusal> {
        let mut targets: Vec<ReplyTarget> = targets.into_iter().map(Into::into).collect();
        // While they can be read.
        check_targets(&targets)?;
        for target in &mut targets {
            let address = target.address.as_ref().and_then(Personal::clear).map(str::to_owned);
            target.address = self.keep_short(address, key).await?;
        }
        Ok(targets)
    }

    /// Does something with the keys of sessions' words where waiting for the disk holds up nobody.
    pub(super) async fn with_keys<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Subjects) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let subjects = self.subjects();
        tokio::task::spawn_blocking(move || work(&subjects)).await.map_err(|_| Reason::InternalError)?
    }

    /// A key for the words of a session that is about to be created, if the organisation wants them to be erasable.
    pub(super) async fn fresh_key(&self, org: &str) -> Result<Option<SubjectKeyId>, Refusal> {
        if !self.look(|models| models.runtime.configuration.erasure) {
            return Ok(None);
        }
        let org = org.to_owned();
        self.with_keys(move |subjects| subjects.make(&org)).await.map(Some)
    }
}
