//! The ledger as people see it: accounts and budgets, folded by the same code that rules decide with, and the newest calls
//! that they are sums of.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::ids::{ModelCallId, RunId, SessionId};
use crate::domain::ledger::{Basis, Cost, Ledger as Books, Name, Period, Reservation, Subject};
use crate::domain::limits::LEDGER_ENTRIES;
use crate::domain::record::Record;
use crate::domain::stream::Stream;

/// One call that the ledger was charged for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Organisation.
    pub org: String,
    /// The call, or the run that made it.
    pub stream: Stream,
    /// Record of its intent.
    pub seq: u64,
    /// Its time, Unix milliseconds.
    pub at_ms: u64,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// Whose token paid.
    pub principal: String,
    /// Route id.
    pub route: String,
    /// Model.
    pub model: String,
    /// The session that paid as well.
    pub session_id: Option<SessionId>,
    /// What was set aside, micro-units.
    pub reserved_micros: u64,
    /// Record of its end and what it cost, once it ended.
    pub settled: Option<(u64, Cost)>,
}

impl Entry {
    fn of(record: &Record, route: &str, model: &str, reservation: &Reservation) -> Self {
        Self {
            org: record.org.clone(),
            stream: record.stream,
            seq: record.seq,
            at_ms: record.at_ms,
            request_id: record.request.as_ref().map(|request| request.id.clone()),
            principal: reservation.principal.clone(),
            route: route.to_owned(),
            model: model.to_owned(),
            session_id: reservation.session_id,
            reserved_micros: reservation.micros,
            settled: None,
        }
    }

    /// Whether this payer paid.
    pub fn is_of(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Organisation => true,
            Subject::Token(id) => *id == self.principal,
            Subject::Route(id) => *id == self.route,
            Subject::Session(id) => Some(*id) == self.session_id,
        }
    }

    /// The view.
    pub fn view(&self) -> EntryView {
        EntryView {
            model_call_id: self.stream.model_call(),
            run_id: self.stream.run(),
            session_id: self.session_id,
            request_id: self.request_id.clone(),
            seq: self.seq,
            at_ms: self.at_ms,
            token: self.principal.clone(),
            route: self.route.clone(),
            model: self.model.clone(),
            reserved_micros: self.reserved_micros,
            settled_seq: self.settled.map(|(seq, _)| seq),
            cost_micros: self.settled.and_then(|(_, cost)| cost.micros),
            basis: self.settled.map(|(_, cost)| cost.basis),
        }
    }
}

/// Books and newest entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Accounts, budgets and open calls.
    pub books: Books,
    entries: VecDeque<Entry>,
}

impl Ledger {
    pub(super) fn apply(&mut self, record: &Record) {
        let open = self.books.open(record.stream).is_some();
        self.books.apply(record);
        if open {
            self.settled(record);
        }
        match &record.event {
            Event::ModelCallRequested(body) => {
                self.requested(Entry::of(record, &body.route, &body.model, &body.reservation));
            }
            Event::TurnRequested(body) => {
                if let Some(reservation) = &body.reservation {
                    self.requested(Entry::of(record, &body.route, &body.model, reservation));
                }
            }
            _ => {}
        }
    }

    fn requested(&mut self, entry: Entry) {
        if self.entries.len() >= LEDGER_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// Notes what an open call cost, where the record says so.
    fn settled(&mut self, record: &Record) {
        let cost = match &record.event {
            Event::ModelCallSettled(body) => Some(body.cost),
            Event::TurnReservationSettled(body) => Some(body.cost),
            Event::TurnAnswered(body) => body.cost,
            Event::TurnFailed(body) => body.cost,
            _ => None,
        };
        let open = |entry: &&mut Entry| entry.settled.is_none() && entry.stream == record.stream;
        if let (Some(cost), Some(entry)) = (cost, self.entries.iter_mut().rev().find(open)) {
            entry.settled = Some((record.seq, cost));
        }
    }

    /// The newest entries, newest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().rev()
    }

    /// One of an organisation's budgets as it stands at this moment.
    pub fn budget(&self, org: &str, name: &Name, now_ms: u64) -> Option<BudgetView> {
        let (name, limit_micros) = self.books.budgets(org).find(|(one, _)| *one == name)?;
        Some(self.standing(org, name, limit_micros, now_ms))
    }

    /// An organisation's budgets as they stand at this moment.
    pub fn budgets(&self, org: &str, now_ms: u64) -> Vec<BudgetView> {
        self.books.budgets(org).map(|(name, limit)| self.standing(org, name, limit, now_ms)).collect()
    }

    fn standing(&self, org: &str, name: &Name, limit_micros: u64, now_ms: u64) -> BudgetView {
        let account = self.books.account(org, &name.subject);
        BudgetView::of(name, limit_micros, account.spent(name.period, now_ms), account.reserved_micros)
    }

    /// What an organisation's payers spent, as it stands at this moment.
    pub fn accounts(&self, org: &str, now_ms: u64) -> Vec<AccountView> {
        let view = |(subject, account): (&Subject, &crate::domain::ledger::Account)| AccountView {
            subject: subject.clone(),
            day_micros: account.spent(Period::Day, now_ms),
            month_micros: account.spent(Period::Month, now_ms),
            total_micros: account.total_micros,
            reserved_micros: account.reserved_micros,
            unpriced_calls: account.unpriced_calls,
        };
        self.books.accounts(org).map(view).collect()
    }
}

/// A budget as it stands. All amounts are micro-units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct BudgetView {
    /// Its name.
    pub budget: Name,
    /// Most that may be spent in a period.
    pub limit_micros: u64,
    /// Spent in this period.
    pub spent_micros: u64,
    /// Set aside for calls that have not ended.
    pub reserved_micros: u64,
    /// What is left.
    pub left_micros: u64,
}

impl BudgetView {
    /// The view of these figures.
    pub fn of(name: &Name, limit_micros: u64, spent_micros: u64, reserved_micros: u64) -> Self {
        let left_micros = limit_micros.saturating_sub(spent_micros).saturating_sub(reserved_micros);
        Self { budget: name.clone(), limit_micros, spent_micros, reserved_micros, left_micros }
    }
}

/// What one payer spent. All amounts are micro-units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct AccountView {
    /// Who.
    pub subject: Subject,
    /// Spent today, by the calendar of UTC.
    pub day_micros: u64,
    /// Spent this month, by the calendar of UTC.
    pub month_micros: u64,
    /// Spent in all.
    pub total_micros: u64,
    /// Set aside for calls that have not ended.
    pub reserved_micros: u64,
    /// Calls that ended and whose cost is not known.
    pub unpriced_calls: u64,
}

/// An entry of the ledger: one call, and what it cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct EntryView {
    /// The call, where a client made it.
    pub model_call_id: Option<ModelCallId>,
    /// The run, where a run made it.
    pub run_id: Option<RunId>,
    /// The session that paid as well.
    pub session_id: Option<SessionId>,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// Record of its intent.
    pub seq: u64,
    /// Its time, Unix milliseconds.
    pub at_ms: u64,
    /// Whose token paid.
    pub token: String,
    /// Route id.
    pub route: String,
    /// Model.
    pub model: String,
    /// What was set aside, micro-units.
    pub reserved_micros: u64,
    /// Record of its end; null while it has not ended.
    pub settled_seq: Option<u64>,
    /// What it cost, micro-units; null where that is not known.
    pub cost_micros: Option<u64>,
    /// What the cost rests on.
    pub basis: Option<Basis>,
}
