//! What budgets refused since the daemon started: a refusal is no event, and so lives in memory only.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::budgets::{BudgetEntriesView, ENTRIES_TOLD};
use super::clerk::Job;
use crate::domain::ids::{RunId, SessionId};
use crate::domain::ledger::refused::{InTheWay, Refused, refused};
use crate::domain::limits::BUDGET_REFUSALS;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::world::World;
use crate::projections::Models;
use crate::projections::ledger::{BudgetView, Entry};

/// A call that a budget refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RefusedCallView {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// The run that asked for it.
    pub run_id: Option<RunId>,
    /// The session that was to pay as well.
    pub session_id: Option<SessionId>,
    /// Whose token was to pay.
    pub token: String,
    /// Route id.
    pub route: String,
    /// Model.
    pub model: String,
    /// The code.
    pub code: Reason,
    /// What is particular about it.
    pub detail: String,
    /// Tokens sent, as estimated.
    pub input_tokens: u64,
    /// Most tokens of an answer that anyone asked for.
    pub output_tokens: Option<u64>,
    /// The least that must be left of every budget, micro-units; null where the model has no price.
    pub needed_micros: Option<u64>,
    /// The budgets that did not cover it, as they stood, each with the newest calls that it had been charged for.
    pub budgets: Vec<BudgetEntriesView>,
}

struct Noted {
    at_ms: u64,
    /// The record that would have been next.
    next_seq: u64,
    request_id: Option<String>,
    code: Reason,
    detail: String,
    call: Refused,
}

/// What is a budget's refusal.
const CODES: [Reason; 3] = [Reason::BudgetExceeded, Reason::BudgetReserved, Reason::BudgetModelUnpriced];

/// The newest refusals, and how many there were.
#[derive(Default)]
pub struct BudgetRefusals {
    newest: Mutex<VecDeque<Noted>>,
    counts: [AtomicU64; CODES.len()],
}

impl BudgetRefusals {
    fn list(&self) -> MutexGuard<'_, VecDeque<Noted>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a refusal where it is a budget's. The world must be the one that the job was decided against.
    pub(super) fn note(&self, world: &World, job: &Job, refusal: &Refusal, (next_seq, at_ms): (u64, u64)) {
        let Some(count) = CODES.iter().zip(&self.counts).find(|(code, _)| **code == refusal.reason) else { return };
        count.1.fetch_add(1, Ordering::Relaxed);
        let by = &job.provenance;
        let Some(call) = refused(world, &job.command, &by.actor.id, at_ms) else { return };
        let request_id = by.request.as_ref().map(|request| request.id.clone());
        let (code, detail) = (refusal.reason, refusal.detail.clone());
        let mut list = self.list();
        if list.len() >= BUDGET_REFUSALS {
            list.pop_front();
        }
        list.push_back(Noted { at_ms, next_seq, request_id, code, detail, call });
    }

    /// How many calls were refused, by code.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CODES.iter().zip(&self.counts).map(|(code, count)| (code.code(), count.load(Ordering::Relaxed)))
    }

    /// An organisation's refusals of a request or a run, newest first.
    pub(super) fn explain(
        &self,
        models: &Models,
        org: &str,
        is_it: impl Fn(Option<&str>, Option<RunId>) -> bool,
    ) -> Vec<RefusedCallView> {
        let list = self.list();
        let found = list
            .iter()
            .rev()
            .filter(|noted| noted.call.org == org && is_it(noted.request_id.as_deref(), noted.call.run_id));
        found.map(|noted| noted.view(models)).collect()
    }
}

impl Noted {
    fn view(&self, models: &Models) -> RefusedCallView {
        let call = &self.call;
        RefusedCallView {
            at_ms: self.at_ms,
            request_id: self.request_id.clone(),
            run_id: call.run_id,
            session_id: call.session_id,
            token: call.token.clone(),
            route: call.route.clone(),
            model: call.model.clone(),
            code: self.code,
            detail: self.detail.clone(),
            input_tokens: call.input_tokens,
            output_tokens: call.output_tokens,
            needed_micros: call.needed_micros,
            budgets: call.budgets.iter().map(|budget| self.budget(models, budget)).collect(),
        }
    }

    fn budget(&self, models: &Models, way: &InTheWay) -> BudgetEntriesView {
        let before = models.ledger.entries().filter(|entry| {
            entry.org == self.call.org && entry.seq < self.next_seq && entry.is_of(&way.budget.subject)
        });
        BudgetEntriesView {
            budget: BudgetView::of(&way.budget, way.limit_micros, way.spent_micros, way.reserved_micros),
            entries: before.take(ENTRIES_TOLD).map(Entry::view).collect(),
        }
    }
}
