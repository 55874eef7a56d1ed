//! The world: only what rules need to decide the next command. Folding a record is total; it never fails, and the same
//! records always give the same world.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::event::Event;
use super::ids::{ApprovalId, BootId, ModelCallId, QuestionId, RunId, SessionId, TaskId};
use super::ledger::Ledger;
use super::names::{Name, Names};
use super::receipts::{Receipt, Receipts};
use super::record::Record;
use super::stream::Stream;
use super::{approval, context, credential, erasure, question, run, runtime, session, task};

/// Everything that rules may look at. What has ended is kept as a few bytes, so that "it has ended" can be told from
/// "there is no such thing".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// Organisations and deciders.
    pub names: Names,
    /// Sessions that live, or whose last run has not ended.
    pub sessions: BTreeMap<SessionId, session::Live>,
    /// Sessions that ended, with their organisation.
    pub sessions_ended: BTreeMap<SessionId, Name>,
    /// Runs that have not ended.
    pub runs: BTreeMap<RunId, run::Live>,
    /// Runs that have.
    pub runs_ended: BTreeMap<RunId, run::Past>,
    /// Approvals that wait.
    pub approvals: BTreeMap<ApprovalId, approval::Pending>,
    /// Approvals that no longer do.
    pub approvals_ended: BTreeMap<ApprovalId, approval::Past>,
    /// Questions that wait.
    pub questions: BTreeMap<QuestionId, question::Pending>,
    /// Questions that no longer do.
    pub questions_ended: BTreeMap<QuestionId, question::Past>,
    /// Background tasks that work.
    pub tasks: BTreeMap<TaskId, task::Live>,
    /// Background tasks that ended, with their organisation.
    pub tasks_ended: BTreeMap<TaskId, Name>,
    /// Clients' model calls that have not ended, with the start of the daemon that makes them.
    pub model_calls: BTreeMap<ModelCallId, BootId>,
    /// What calls may cost, and did.
    pub ledger: Ledger,
    /// Runtime configuration.
    pub runtime: runtime::Configuration,
    /// Secrets, and who uses them.
    pub vault: credential::Vault,
    /// Keys of sessions' words.
    pub subjects: erasure::SubjectKeys,
    /// Requests that were done.
    pub receipts: Receipts,
    /// Whether the machine's clock is trusted.
    pub clock: context::ClockTrust,
    /// The last record folded.
    pub last_seq: Option<u64>,
    /// Its time, Unix milliseconds.
    pub last_at_ms: u64,
    /// The latest time of any record, Unix milliseconds: no id is from later.
    pub newest_at_ms: u64,
}

impl World {
    /// The receipt of a request that was done, if it is in force.
    pub fn receipt(&self, org: &str, scope: &str, key: &str) -> Option<&Receipt> {
        self.receipts.get(org, scope, key)
    }

    /// The newest id of any object.
    pub fn newest_id(&self) -> Ulid {
        fn last<Id: Copy + Ord, T>(map: &BTreeMap<Id, T>, ulid: impl Fn(Id) -> Ulid) -> Ulid {
            map.last_key_value().map_or(Ulid::nil(), |(id, _)| ulid(*id))
        }
        let sessions = last(&self.sessions, SessionId::ulid).max(last(&self.sessions_ended, SessionId::ulid));
        let runs = last(&self.runs, RunId::ulid).max(last(&self.runs_ended, RunId::ulid));
        let approvals = last(&self.approvals, ApprovalId::ulid).max(last(&self.approvals_ended, ApprovalId::ulid));
        let questions = last(&self.questions, QuestionId::ulid).max(last(&self.questions_ended, QuestionId::ulid));
        let tasks = last(&self.tasks, TaskId::ulid).max(last(&self.tasks_ended, TaskId::ulid));
        let calls = last(&self.model_calls, ModelCallId::ulid);
        sessions.max(runs).max(approvals).max(questions).max(tasks).max(calls)
    }

    /// What every record says, whatever its kind.
    fn fold_envelope(&mut self, record: &Record) {
        // A clock that jumped must not make requests forgotten, and the first records of a start are written before
        // anyone has looked at the clock.
        let own = matches!(record.stream, Stream::Daemon | Stream::Journal);
        self.receipts.fold(record, self.clock == context::ClockTrust::Trusted && !own);
        self.last_seq = Some(record.seq);
        self.last_at_ms = record.at_ms;
        self.newest_at_ms = self.newest_at_ms.max(record.at_ms);
        self.ledger.apply(record);
        self.subjects.apply(record, &mut self.names);
    }

    /// Folds one record.
    #[expect(clippy::too_many_lines, reason = "one arm a kind of event: the list is the function")]
    pub fn apply(&mut self, record: &Record) {
        self.fold_envelope(record);
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
            | Event::AccessLogClosed(_)
            | Event::TokenChanged(_)
            | Event::RoutesLoaded(_)
            | Event::BudgetSet(_)
            | Event::BudgetRemoved(_)
            | Event::TurnReservationSettled(_)
            | Event::SessionErased(_)
            | Event::SessionInterrupted(_) => {}
            Event::TimeUntrusted(body) => self.fold_time_untrusted(body),
            Event::TimeTrusted(_) => self.fold_time_trusted(),
            Event::PermissionModeSet(_)
            | Event::PermissionRulesSet(_)
            | Event::DebugLevelSet(_)
            | Event::RuntimeModelSet(_)
            | Event::SystemPromptSet(_)
            | Event::ToolLimitsSet(_)
            | Event::ErasureSet(_)
            | Event::RuntimeRolledBack(_) => self.runtime.apply(&record.event),
            Event::VaultKeyed(body) => self.fold_vault_keyed(body),
            Event::SecretActivated(body) => self.fold_secret_activated(record, body),
            Event::SecretRevoked(body) => self.fold_secret_revoked(record, body),
            Event::SecretDeleted(body) => self.fold_secret_deleted(record, body),
            Event::SubjectRevoked(body) => self.fold_subject_revoked(record, body),
            Event::SubjectReinstated(body) => self.fold_subject_reinstated(record, body),
            Event::LeaseRevoked(body) => self.fold_lease_revoked(body),
            Event::ModelCallRequested(body) => self.fold_model_call_requested(record, body),
            Event::ModelCallSettled(_) => self.fold_model_call_settled(record),
            Event::SessionCreated(body) => self.fold_session_created(record, body),
            Event::SessionRoutePolicySet(_) => self.fold_route_policy_set(record),
            Event::SessionEnded(_) => self.fold_session_ended(record),
            Event::RunQueued(body) => self.fold_run_queued(record, body),
            Event::RunStarted(body) => self.fold_run_started(record, body),
            Event::RunStopRequested(body) => self.fold_run_stop_requested(record, body),
            Event::RunCompleted(_) => self.fold_run_end(record, run::Status::Completed),
            Event::RunFailed(_) => self.fold_run_end(record, run::Status::Failed),
            Event::RunInterrupted(_) => self.fold_run_end(record, run::Status::Interrupted),
            Event::RunCancelled(_) => self.fold_run_end(record, run::Status::Cancelled),
            Event::TurnRequested(body) => self.fold_turn_requested(record, body),
            Event::TurnAnswered(body) => self.fold_turn_answered(record, body),
            Event::TurnFailed(_) => self.fold_turn_failed(record),
            Event::PermissionDecided(body) => self.fold_permission_decided(record, body),
            Event::ApprovalRequested(body) => self.fold_approval_requested(record, body),
            Event::ApprovalDecided(body) => self.fold_approval_decided(record, body),
            Event::ApprovalExpired(body) => self.fold_approval_expired(body),
            Event::ApprovalWithdrawn(body) => self.fold_approval_withdrawn(body),
            Event::CallDispatched(body) => self.fold_call_dispatched(record, body),
            Event::CallFinished(body) => self.fold_call_end(record, body.call_id),
            Event::CallRefused(body) => self.fold_call_end(record, body.call_id),
            Event::CallOutcomeUnknown(body) => self.fold_call_end(record, body.call_id),
            Event::QuestionAsked(body) => self.fold_question_asked(record, body),
            Event::QuestionAnswered(body) => self.fold_question_answered(record, body),
            Event::QuestionDeclined(body) => self.fold_question_declined(record, body),
            Event::QuestionExpired(body) => self.fold_question_expired(body),
            Event::QuestionWithdrawn(body) => self.fold_question_withdrawn(body),
            Event::TaskStarted(body) => self.fold_task_started(record, body),
            Event::TaskStopRequested(body) => self.fold_task_stop_requested(body),
            Event::TaskFinished(body) => self.fold_task_finished(body),
        }
    }
}
