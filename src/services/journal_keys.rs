//! What one can ask of the journal's signing key: to be handed over to a new one.

use serde::Serialize;
use tokio::sync::oneshot;

use super::clerk::Clerk;
use super::desk::{By, Done};
use super::published::Published;
use crate::domain::event::Event;
use crate::domain::reason::{Reason, Refusal};
use crate::journal::keys::decode_key;
use crate::journal::note::verifier_key;
use crate::projections::Bodies as _;

/// A handover of the signing key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RotatedKey {
    /// Sequence number of the record that hands over; the seal behind it bears both signatures.
    pub seq: u64,
    /// C2SP id of the key that signed before, hex.
    pub old_key_id: String,
    /// C2SP id of the key that signs from there on, hex.
    pub new_key_id: String,
    /// That key, as a C2SP verifier key.
    pub verifier_key: String,
}

/// The use cases.
#[derive(Clone)]
pub struct JournalKeys {
    clerk: Clerk,
    published: Published,
}

impl JournalKeys {
    /// Use cases at the clerk's desk: it hands over between two batches.
    pub fn new(clerk: Clerk, published: Published) -> Self {
        Self { clerk, published }
    }

    /// Hands the signing key over to a new one.
    pub async fn rotate(&self, by: By) -> Result<Done<RotatedKey>, Refusal> {
        let (sender, answer) = oneshot::channel();
        let provenance = by.provenance;
        self.clerk.errand(Box::new(move |scribe| {
            // Whoever asked may have gone; what was handed over stands.
            let _ = sender.send(scribe.rotate_key(&provenance));
        }));
        let trouble = |_| self.clerk.trouble().unwrap_or_else(|| Reason::StorageJournalUnavailable.into());
        let committed = answer.await.map_err(trouble)??;
        let (published, seq) = (self.published.clone(), committed.seq.unwrap_or_default());
        let view = tokio::task::spawn_blocking(move || view(&published, seq)).await;
        let view = view.ok().flatten().ok_or_else(|| {
            Refusal::new(Reason::InternalError, format!("The record {seq} does not hand a signing key over."))
        })?;
        Ok(Done { view, seq: committed.seq, replayed: committed.replayed })
    }
}

/// A handover as its record tells it. Blocks on the disk.
fn view(published: &Published, seq: u64) -> Option<RotatedKey> {
    let Event::JournalKeyChanged(body) = published.record(seq)?.event else { return None };
    let key = decode_key(&body.new_public_key)?;
    let name = published.head().note.origin.to_string();
    Some(RotatedKey {
        seq,
        old_key_id: body.old_key_id,
        new_key_id: body.new_key_id,
        verifier_key: verifier_key(&name, &key),
    })
}
