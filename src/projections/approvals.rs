//! Approvals as people see them.

use serde::{Deserialize, Serialize};

use super::page::{Page, Paging};
use super::waits::{Filter, Row, Waits};
use super::{Bodies, Models};
use crate::domain::actor::ActorKind;
use crate::domain::approval::{self, WithdrawnCause};
use crate::domain::event::Event;
use crate::domain::ids::{ApprovalId, CallId, RunId, SessionId};
use crate::domain::names::Name;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Record;

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits for a decision.
    Pending,
    /// The call may be made.
    Allowed,
    /// It may not.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// It was taken back.
    Withdrawn,
}

/// All approvals.
pub type Approvals = Waits<ApprovalId, Status>;

/// An approval's places, taken out of the models; its words are read afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The approval.
    pub id: ApprovalId,
    /// What is kept of it.
    pub row: Row<Status>,
    /// Whether its run is a rehearsal.
    pub rehearsal: bool,
}

/// Who decided or answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct DeciderView {
    /// What kind of actor.
    pub kind: ActorKind,
    /// Its id.
    pub id: String,
}

impl DeciderView {
    /// The actor of a record.
    pub(super) fn of(record: &Record) -> Self {
        Self { kind: record.actor.kind, id: record.actor.id.clone() }
    }
}

impl Models {
    pub(super) fn fold_approval(&mut self, record: &Record, org: Name) {
        let Some(run) = record.stream.run() else { return };
        let (id, status) = match &record.event {
            Event::ApprovalRequested(body) => {
                let Some(session) = self.runs.session_of(run) else { return };
                let status = Status::Pending;
                let row = Row { run, session, opened_seq: record.seq, closed_seq: None, org, status };
                self.approvals.open(body.approval_id, row);
                self.runs.waits(run, Some(body.approval_id), None);
                return;
            }
            Event::ApprovalDecided(body) => match body.decision {
                approval::Decision::Allow => (body.approval_id, Status::Allowed),
                approval::Decision::Deny => (body.approval_id, Status::Denied),
            },
            Event::ApprovalExpired(body) => (body.approval_id, Status::Expired),
            Event::ApprovalWithdrawn(body) => (body.approval_id, Status::Withdrawn),
            // Only the kinds above are given to this fold.
            _ => return,
        };
        self.approvals.close(id, record.seq, status);
        self.runs.resumes(run);
    }

    fn approval_facts(&self, id: ApprovalId, row: Row<Status>) -> Facts {
        Facts { id, row, rehearsal: self.runs.get(row.run).is_some_and(|run| run.row.rehearsal == Some(true)) }
    }

    /// An approval of an organisation.
    pub fn approval(&self, org: &str, id: ApprovalId) -> Result<Facts, Refusal> {
        let row = self.approvals.get(id).filter(|row| self.names.is(row.org, org));
        row.map(|row| self.approval_facts(id, *row)).ok_or_else(|| Reason::ApprovalNotFound.into())
    }

    /// One page of an organisation's approvals, newest first.
    pub fn approval_page(&self, org: &str, filter: &Filter<Status>, paging: &Paging) -> Result<Page<Facts>, Refusal> {
        let filter = self.narrowed(org, filter)?;
        let page = self.approvals.page(|of| self.names.is(of, org), &filter, Status::Pending, paging)?;
        Ok(page.map(|(id, row)| self.approval_facts(id, row)))
    }

    /// The filter with the session of its run; a session or run of another organisation is absent.
    pub(super) fn narrowed<S: Copy>(&self, org: &str, filter: &Filter<S>) -> Result<Filter<S>, Refusal> {
        let mut narrowed = Filter { session: filter.session, run: filter.run, status: filter.status };
        if let Some(session) = filter.session {
            self.session(org, session)?;
        }
        if let Some(run) = filter.run {
            narrowed.session = Some(self.run(org, run)?.row.session);
        }
        Ok(narrowed)
    }
}

/// An approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ApprovalView {
    /// The approval.
    pub approval_id: ApprovalId,
    /// Its run.
    pub run_id: RunId,
    /// Its session.
    pub session_id: SessionId,
    /// Where it stands.
    pub status: Status,
    /// Whether a script answers instead of a model.
    pub rehearsal: bool,
    /// The call.
    pub call_id: Option<CallId>,
    /// Name of the tool.
    pub tool: Option<String>,
    /// The canonical call; null where it is no longer readable.
    pub call: Option<String>,
    /// Its SHA-256, hex; to be sent with the decision.
    pub call_hash: Option<String>,
    /// What to decide on.
    pub card: Option<String>,
    /// Its SHA-256, hex; to be sent with the decision.
    pub card_hash: Option<String>,
    /// When it was asked for, Unix milliseconds.
    pub created_at_ms: Option<u64>,
    /// When it lapses.
    pub expires_at_ms: Option<u64>,
    /// When it was decided, lapsed or was taken back.
    pub ended_at_ms: Option<u64>,
    /// Who decided.
    pub decided_by: Option<DeciderView>,
    /// The decider's words.
    pub reason: Option<String>,
    /// Why it was taken back.
    pub withdrawn_because: Option<WithdrawnCause>,
    /// The record of its end; `receipt` proves it.
    pub ended_seq: Option<u64>,
}

impl Facts {
    /// The view, with the words read from the records.
    pub fn view(&self, bodies: &dyn Bodies) -> ApprovalView {
        let mut view = ApprovalView {
            approval_id: self.id,
            run_id: self.row.run,
            session_id: self.row.session,
            status: self.row.status,
            rehearsal: self.rehearsal,
            call_id: None,
            tool: None,
            call: None,
            call_hash: None,
            card: None,
            card_hash: None,
            created_at_ms: None,
            expires_at_ms: None,
            ended_at_ms: None,
            decided_by: None,
            reason: None,
            withdrawn_because: None,
            ended_seq: self.row.closed_seq.map(std::num::NonZeroU64::get),
        };
        if let Some(record) = bodies.record(self.row.opened_seq) {
            view.created_at_ms = Some(record.at_ms);
            if let Event::ApprovalRequested(body) = record.event {
                view.call_id = Some(body.call_id);
                view.tool = Some(body.tool);
                view.call = bodies.text(&body.call);
                view.call_hash = Some(body.call_hash);
                view.card = bodies.text(&body.card);
                view.card_hash = Some(body.card_hash);
                view.expires_at_ms = Some(body.expires_at_ms);
            }
        }
        if let Some(record) = view.ended_seq.and_then(|seq| bodies.record(seq)) {
            view.ended_at_ms = Some(record.at_ms);
            if let Event::ApprovalDecided(body) = &record.event {
                view.decided_by = Some(DeciderView::of(&record));
                view.reason.clone_from(&body.note);
            } else if let Event::ApprovalWithdrawn(body) = &record.event {
                view.withdrawn_because = Some(body.cause);
            }
        }
        view
    }
}
