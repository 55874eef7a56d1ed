//! Read models: what people ask for, folded from the records. They hold places and states, never words: a view reads
//! the words of its object from the records named by their sequence numbers, after the models have been let go.

pub mod access_log;
pub mod approvals;
pub mod clock;
pub mod digest;
pub mod feed;
pub mod index;
pub mod ledger;
pub mod page;
pub mod questions;
pub mod replies;
pub mod runs;
pub mod runtime;
pub mod sessions;
pub mod status;
pub mod tasks;
pub mod tokens;
pub mod topics;
pub mod vault;
pub mod waits;

use serde::{Deserialize, Serialize};

use crate::domain::erasure::SubjectKeys;
use crate::domain::event::Event;
use crate::domain::names::{Name, Names};
use crate::domain::personal::Personal;
use crate::domain::record::Record;
use crate::domain::routes;
use crate::domain::run::{Queued, Started, Status};

pub use page::{Page, Paging};
pub use topics::Topics;

/// Where views find the words: records by sequence number, and large parts kept beside the journal.
pub trait Bodies {
    /// The record with this sequence number, if it is kept.
    fn record(&self, seq: u64) -> Option<Record>;

    /// The words of a part; `None` where they are sealed or no longer kept.
    fn text(&self, part: &Personal) -> Option<String> {
        part.clear().map(str::to_owned)
    }
}

/// All read models.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// Organisations.
    pub names: Names,
    /// Sessions.
    pub sessions: sessions::Sessions,
    /// Runs.
    pub runs: runs::Runs,
    /// Approvals.
    pub approvals: approvals::Approvals,
    /// Questions.
    pub questions: questions::Questions,
    /// Background tasks.
    pub tasks: tasks::Tasks,
    /// What calls may cost, and did.
    pub ledger: ledger::Ledger,
    /// Runtime configuration.
    pub runtime: runtime::Runtime,
    /// Whether the machine's clock is trusted.
    pub clock: clock::Clock,
    /// Closed chunks of the access log.
    pub access_log: access_log::AccessLog,
    /// Bearer tokens as last recorded.
    pub tokens: tokens::Tokens,
    /// Secrets and leases.
    pub vault: vault::Vault,
    /// Keys of sessions' words.
    pub subjects: SubjectKeys,
    /// The routes that were recorded last.
    pub routes: Option<routes::Loaded>,
    /// The last record folded.
    pub last_seq: Option<u64>,
    /// Its time, Unix milliseconds.
    pub last_at_ms: u64,
}

impl Models {
    /// Folds one record. Total: never fails, and the same records always give the same models.
    pub fn apply(&mut self, record: &Record) {
        let org = self.names.intern(&record.org);
        self.last_seq = Some(record.seq);
        self.last_at_ms = record.at_ms;
        self.ledger.apply(record);
        self.subjects.apply(record, &mut self.names);
        self.runs.touch(record);
        self.fold(record, org);
        if let Some(session) = self.topics(record).session {
            self.sessions.touch(session, record.at_ms);
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm a kind of event: the list is the function")]
    fn fold(&mut self, record: &Record, org: Name) {
        match &record.event {
            Event::ContextSet(_)
            | Event::DaemonStarted(_)
            | Event::DaemonStopped(_)
            | Event::JournalCreated(_)
            | Event::JournalTailQuarantined(_)
            | Event::JournalAckedRewritten(_)
            | Event::JournalKeyChanged(_)
            | Event::JournalSnapshotTaken(_)
            | Event::JournalRepaired(_)
            | Event::IndexRebuilt(_)
            | Event::SessionInterrupted(_)
            | Event::SessionErased(_)
            | Event::TurnReservationSettled(_)
            | Event::BudgetSet(_)
            | Event::BudgetRemoved(_)
            | Event::PermissionDecided(_)
            | Event::CallDispatched(_)
            | Event::CallFinished(_)
            | Event::CallRefused(_) => {}
            Event::TimeUntrusted(body) => self.clock.untrusted(record, body),
            Event::TimeTrusted(_) => self.clock.trusted(),
            Event::AccessLogClosed(body) => self.access_log.closed(body),
            Event::TokenChanged(body) => self.tokens.changed(body),
            Event::RoutesLoaded(body) => self.routes = Some(body.clone()),
            Event::PermissionModeSet(_)
            | Event::PermissionRulesSet(_)
            | Event::DebugLevelSet(_)
            | Event::RuntimeModelSet(_)
            | Event::SystemPromptSet(_)
            | Event::ToolLimitsSet(_)
            | Event::ErasureSet(_)
            | Event::RuntimeRolledBack(_) => self.runtime.changed(record),
            Event::VaultKeyed(body) => self.vault.keyed(body),
            Event::SecretActivated(body) => self.vault.activated(record, org, body),
            Event::SecretRevoked(body) => self.vault.revoked(record, org, body),
            Event::SecretDeleted(body) => self.vault.deleted(record, org, body),
            Event::SubjectRevoked(body) => self.vault.subject_revoked(record, org, body),
            Event::SubjectReinstated(body) => self.vault.subject_reinstated(org, body),
            Event::LeaseRevoked(body) => self.vault.lease_revoked(record, body),
            Event::SessionCreated(body) => {
                let route = body.route.as_deref().map(|route| self.names.intern(route));
                self.sessions.created(record, org, route);
            }
            Event::SessionRoutePolicySet(body) => {
                let route = body.choice.route.as_deref().map(|route| self.names.intern(route));
                self.sessions.policy_set(record, route);
            }
            Event::SessionEnded(_) => self.sessions.ended(record),
            Event::RunQueued(body) => self.run_queued(record, org, body),
            Event::RunStarted(body) => self.run_started(record, body),
            Event::RunStopRequested(body) => self.runs.stop_requested(record, body),
            Event::RunCompleted(_) => self.run_ended(record, Status::Completed),
            Event::RunFailed(_) => self.run_ended(record, Status::Failed),
            Event::RunInterrupted(_) => self.run_ended(record, Status::Interrupted),
            Event::RunCancelled(_) => self.run_ended(record, Status::Cancelled),
            Event::TurnRequested(body) => {
                self.vault.lend(record, org, &body.route, body.credential.as_ref());
                self.runs.turn_requested(record, body);
            }
            Event::TurnAnswered(body) => {
                self.vault.give_back(record);
                self.runs.turn_answered(record, body);
            }
            Event::ModelCallRequested(body) => self.vault.lend(record, org, &body.route, body.credential.as_deref()),
            Event::TurnFailed(_) | Event::ModelCallSettled(_) => self.vault.give_back(record),
            Event::CallOutcomeUnknown(_) => self.runs.outcome_unknown(record),
            Event::ApprovalRequested(_)
            | Event::ApprovalDecided(_)
            | Event::ApprovalExpired(_)
            | Event::ApprovalWithdrawn(_) => self.fold_approval(record, org),
            Event::QuestionAsked(_)
            | Event::QuestionAnswered(_)
            | Event::QuestionDeclined(_)
            | Event::QuestionExpired(_)
            | Event::QuestionWithdrawn(_) => self.fold_question(record, org),
            Event::TaskStarted(body) => self.tasks.started(record, org, body),
            Event::TaskStopRequested(body) => self.tasks.stop_requested(record, body),
            Event::TaskFinished(body) => self.tasks.finished(record, body),
        }
    }

    fn run_queued(&mut self, record: &Record, org: Name, body: &Queued) {
        self.runs.queued(record, org, body);
        self.sessions.queued(record, body);
    }

    fn run_started(&mut self, record: &Record, body: &Started) {
        self.runs.started(record, body);
        self.sessions.started(record, &self.runs);
    }

    fn run_ended(&mut self, record: &Record, status: Status) {
        self.vault.give_back(record);
        self.sessions.run_ended(record, &self.runs);
        self.runs.ended(record, status);
    }
}

#[cfg(test)]
mod laws;
