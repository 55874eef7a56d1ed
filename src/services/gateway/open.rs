//! A call from the record of its intent to that of its end. Whatever becomes of it, and of whoever asked, its end is recorded:
//! by a task of the daemon, which holds up nobody.

use std::sync::Arc;
use std::time::Duration;

use super::Parts;
use super::meter::Meter;
use crate::domain::command::{Answer, Command};
use crate::domain::ids::ModelCallId;
use crate::domain::ledger::Reservation;
use crate::domain::model_call::{Outcome, Settle, Taken};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Provenance;
use crate::domain::stream::Stream;
use crate::services::desk::{Committed, Lane};
use crate::services::lanes;
use crate::services::numbers::LastCall;

/// How long an end that the journal does not take now waits, milliseconds.
const RETRY_MS: u64 = 250;

/// A call that goes on. Dropped, it is settled with what is known then.
pub(super) struct Open {
    parts: Arc<Parts>,
    by: Provenance,
    began: Duration,
    route: String,
    _lane: Option<lanes::Lane>,
    /// The call.
    pub(super) id: ModelCallId,
    /// What is set aside for it.
    pub(super) reservation: Reservation,
    /// What becomes of it, as far as is known.
    pub(super) outcome: Outcome,
    /// Why it does not end well.
    pub(super) code: Option<Reason>,
    /// Status of the provider's answer.
    pub(super) status: Option<u16>,
    /// Whether another route would be asked after it.
    pub(super) has_next: bool,
    /// What has passed of the answer.
    pub(super) meter: Meter,
}

impl Open {
    /// The call that a record has just made. Refuses what another request under the same key made before.
    pub(super) fn new(
        parts: Arc<Parts>,
        committed: Committed,
        (by, route, lane): (Provenance, String, Option<lanes::Lane>),
        meter: Meter,
    ) -> Result<Self, Refusal> {
        let Answer::ModelCall(id) = committed.answer else { return Err(Reason::InternalError.into()) };
        let open = parts.published.models().ledger.books.open(Stream::ModelCall(id)).cloned();
        if committed.replayed {
            let reason = if open.is_some() { Reason::RequestInProgress } else { Reason::RequestAlreadyDone };
            let detail = format!("{} It is the model call {id}; answers are not kept.", reason.title());
            return Err(Refusal::new(reason, detail));
        }
        let reservation = open.ok_or(Reason::InternalError)?.reservation;
        Ok(Self {
            began: parts.published.clock().since_boot(),
            by,
            parts,
            route,
            _lane: lane,
            id,
            reservation,
            outcome: Outcome::NotSent,
            code: None,
            status: None,
            has_next: false,
            meter,
        })
    }

    /// Notes that it does not end well, and why.
    pub(super) fn fails(&mut self, outcome: Outcome, code: Reason) {
        (self.outcome, self.code) = (outcome, Some(code));
    }

    /// Notes that the answer says that it is over, and what became of the call thereby.
    pub(super) fn ends(&mut self) {
        (self.outcome, self.code) = self.meter.verdict();
    }

    /// Whether more of the answer has come than is set aside.
    pub(super) fn is_beyond(&self) -> bool {
        self.meter.is_beyond(&self.reservation)
    }

    fn taken(&self) -> Taken {
        match self.outcome {
            Outcome::NotSent | Outcome::Refused => Taken::Nothing,
            Outcome::Unanswered | Outcome::Lost => Taken::Unknown,
            // Who left before the answer's head knows as little of what it took as we do.
            _ if self.status.is_none() => Taken::Unknown,
            _ => self.meter.taken(&self.reservation),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let parts = Arc::clone(&self.parts);
        let took = parts.published.clock().since_boot().saturating_sub(self.began);
        // What we or the client gave up says nothing about the provider.
        let is_theirs = |code: Reason| ["provider.", "outbound."].iter().any(|kind| code.code().starts_with(kind));
        if self.outcome == Outcome::Answered || self.code.is_some_and(is_theirs) {
            let call = LastCall { code: self.code, at_ms: parts.published.clock().wall_ms() };
            parts.routing.numbers().observe(&self.route, call, took, self.status);
        }
        let settle = Settle {
            model_call_id: self.id,
            outcome: self.outcome,
            taken: self.taken(),
            status: self.status,
            code: self.code,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        let mut by = self.by.clone();
        // The record of the end names the request only to free its key, which the call after it still needs.
        let is_last = !self.has_next || !self.code.is_some_and(super::leads_on);
        by.request = by.request.filter(|_| self.outcome.frees_key() && is_last);
        let tasks = parts.tasks.clone();
        tasks.spawn(async move { record(&parts, settle, by).await });
    }
}

/// Records the end, at once where a client may wait for its key. Where the journal takes nothing until the daemon ends, the next start settles the call in full.
async fn record(parts: &Parts, settle: Settle, by: Provenance) {
    let lane = if by.request.is_some() { Lane::Reserved } else { Lane::Unhurried };
    loop {
        let command = Command::SettleModelCall(settle.clone());
        let Err(refusal) = parts.clerk.submit(command, by.clone(), lane).await else { return };
        if !refusal.reason.retry() || parts.tasks.is_stopping() {
            let (id, code) = (settle.model_call_id, refusal.reason.code());
            tracing::warn!(%id, code, "the end of a model call was not recorded; the next start does");
            return;
        }
        tokio::time::sleep(Duration::from_millis(refusal.retry_after_ms.unwrap_or(RETRY_MS))).await;
    }
}
