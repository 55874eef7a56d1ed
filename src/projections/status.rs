//! Counts for `status` and the metrics.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Models;
use crate::domain::run::Status;

/// How the runs stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RunCounts {
    /// Runs that work.
    pub running: u64,
    /// Runs in queues.
    pub queued: u64,
    /// Runs that wait for a decision.
    pub waiting_for_approval: u64,
    /// Runs that wait for an answer.
    pub waiting_for_user_question: u64,
    /// Runs that ended with an answer.
    pub completed: u64,
    /// Runs that ended with a reason.
    pub failed: u64,
    /// Runs that were interrupted.
    pub interrupted: u64,
    /// Runs that were cancelled.
    pub cancelled: u64,
    /// Age of the oldest queued run, milliseconds; 0 where none is queued.
    pub oldest_queued_run_age_ms: u64,
    /// How long the quietest run that has not ended has had no record, milliseconds; 0 where there is none.
    pub oldest_non_terminal_run_idle_ms: u64,
}

impl Models {
    /// How the runs stand at a time.
    pub fn run_counts(&self, now_ms: u64) -> RunCounts {
        let queued =
            self.runs.queued_ids().filter_map(|id| self.runs.get(id)).map(|facts| facts.row.created_at_ms).min();
        let quietest = self.runs.open().filter_map(|facts| facts.open).map(|open| open.changed_at_ms).min();
        RunCounts {
            running: self.runs.count(Status::Running),
            queued: self.runs.count(Status::Queued),
            waiting_for_approval: self.runs.count(Status::WaitingForApproval),
            waiting_for_user_question: self.runs.count(Status::WaitingForUserQuestion),
            completed: self.runs.count(Status::Completed),
            failed: self.runs.count(Status::Failed),
            interrupted: self.runs.count(Status::Interrupted),
            cancelled: self.runs.count(Status::Cancelled),
            oldest_queued_run_age_ms: queued.map_or(0, |at_ms| now_ms.saturating_sub(at_ms)),
            oldest_non_terminal_run_idle_ms: quietest.map_or(0, |at_ms| now_ms.saturating_sub(at_ms)),
        }
    }

    /// Age of the oldest queued run that nothing holds up, milliseconds; 0 where there is none.
    pub fn startable_age_ms(&self, now_ms: u64) -> u64 {
        let oldest = self.startable().map(|facts| facts.row.created_at_ms).min();
        oldest.map_or(0, |at_ms| now_ms.saturating_sub(at_ms))
    }

    /// How long the quietest run that works has had no record, milliseconds; 0 where none works.
    pub fn running_idle_ms(&self, now_ms: u64) -> u64 {
        let quietest = self.runs.working().filter_map(|facts| facts.open).map(|open| open.changed_at_ms).min();
        quietest.map_or(0, |at_ms| now_ms.saturating_sub(at_ms))
    }

    /// What waits for a person, by kind.
    pub fn wait_counts(&self) -> BTreeMap<&'static str, usize> {
        [("approval", self.approvals.open_count()), ("question", self.questions.open_count())].into()
    }
}
