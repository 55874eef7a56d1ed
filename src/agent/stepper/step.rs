//! The steps that a run can take next.

use crate::domain::ids::{CallId, QuestionId};
use crate::domain::personal::Personal;
use crate::domain::reason::Reason;

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Claim the run: it is queued, or the claim is of an earlier start of the daemon.
    Claim,
    /// Call the model.
    CallModel {
        /// The turn.
        turn: u32,
        /// The attempt.
        attempt: u32,
        /// How many attempts at this turn have failed; says how long to wait before.
        failures: u32,
    },
    /// Have the call judged by mode and rules.
    DecidePermission {
        /// The call.
        call: CallId,
    },
    /// Ask a person to allow the call.
    RequestApproval {
        /// The call.
        call: CallId,
    },
    /// Ask a person the call's question.
    AskQuestion {
        /// The call.
        call: CallId,
    },
    /// Give the answer to a question to the model as the call's result.
    FinishQuestion {
        /// The call.
        call: CallId,
        /// The question.
        question: QuestionId,
    },
    /// Make the call.
    Dispatch {
        /// The call.
        call: CallId,
        /// Hash of the call that a person allowed, hex. If the call has another hash now, ask again.
        approved: Option<String>,
    },
    /// Do not make the call and tell the model why.
    Refuse {
        /// The call.
        call: CallId,
        /// Why.
        code: Reason,
    },
    /// A person's move.
    Wait,
    /// The last answer is the run's output.
    Complete {
        /// Its text.
        output: Personal,
    },
    /// The run cannot go on.
    Fail {
        /// Why.
        code: Reason,
        /// What is particular about it.
        detail: String,
    },
    /// Stop what works and confirm.
    Stop,
    /// A call of an earlier start of the daemon is open; settling the boot ends the run.
    Settle,
    /// It has ended.
    Ended,
}
