//! The one ledger of what model calls cost: budgets, what is reserved for calls that have not ended, and what was spent.
//! Rules decide with it and screens show it; both fold the same records with the code of this file.
//!
//! A call is charged to its organisation, the token that caused it, its route and, where there is one, its session. It is
//! spent in the day and month, by the calendar of UTC, in which it is settled, whatever was settled before under another
//! clock; until then its reservation counts against every period.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event::Event;
use super::ids::SessionId;
use super::record::Record;
use super::stream::Stream;

pub mod budget;
pub mod price;
pub mod refused;
pub(super) mod reserve;
mod spent;

pub use budget::{Name, Period, Subject};
pub use price::{Price, Tokens};
pub use reserve::{Payer, Quote};
use spent::Spent;

/// What is set aside for a call before it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    /// Micro-units; 0 where the model has no price.
    pub micros: u64,
    /// Tokens sent, as estimated.
    pub input_tokens: u64,
    /// Tokens after which each answer ends: the provider is told, and what goes on is cut. None where nobody limits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// The price in force; the cost is not known where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// Whose token pays.
    pub principal: String,
    /// The session that pays as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
}

/// What a cost rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The provider said what the call took, or refused it.
    Reported,
    /// It was counted here.
    Estimated,
    /// Nobody knows, because the daemon ended before the call did: the whole reservation is spent.
    Crash,
}

/// What a call cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Micro-units; not known where the model had no price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micros: Option<u64>,
    /// What it rests on.
    pub basis: Basis,
}

impl Reservation {
    /// What the call cost, by the tokens that it took.
    pub fn cost(&self, tokens: Tokens, basis: Basis) -> Cost {
        Cost { micros: self.price.as_ref().map(|price| price.cost(tokens)), basis }
    }

    /// All of it.
    pub fn in_full(&self, basis: Basis) -> Cost {
        Cost { micros: self.price.as_ref().map(|_| self.micros), basis }
    }

    /// Nothing: the provider did not take the call.
    pub fn nothing(&self) -> Cost {
        Cost { micros: Some(0), basis: Basis::Reported }
    }
}

/// What was spent by one payer, and what is reserved for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    days: Spent,
    months: Spent,
    /// Spent in all.
    pub total_micros: u64,
    /// Set aside for calls that have not ended.
    pub reserved_micros: u64,
    /// Calls that ended and whose cost is not known.
    pub unpriced_calls: u64,
    /// Its session has ended: it is kept as long as something is reserved.
    over: bool,
}

impl Account {
    fn spend(&mut self, micros: u64, at_ms: u64) {
        let then = budget::Moment::of(at_ms);
        self.days.add(then.day, micros);
        self.months.add(then.month, micros);
        self.total_micros = self.total_micros.saturating_add(micros);
    }

    /// Spent in the period that holds this moment, micro-units.
    pub fn spent(&self, period: Period, at_ms: u64) -> u64 {
        let then = budget::Moment::of(at_ms);
        match period {
            Period::Day => self.days.of(then.day),
            Period::Month => self.months.of(then.month),
            Period::Total => self.total_micros,
        }
    }
}

/// A call that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// Organisation.
    pub org: String,
    /// Route id.
    pub route: String,
    /// What is set aside.
    pub reservation: Reservation,
}

impl Open {
    /// Everyone who pays.
    fn payers(&self) -> impl Iterator<Item = Subject> {
        let session = self.reservation.session_id.map(Subject::Session);
        let (token, route) = (self.reservation.principal.clone(), self.route.clone());
        [Subject::Organisation, Subject::Token(token), Subject::Route(route)].into_iter().chain(session)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    accounts: BTreeMap<Subject, Account>,
    /// Limits, micro-units.
    budgets: BTreeMap<Name, u64>,
}

/// The ledger, as far as rules and screens need it: what is in force and open, and a sum each for who may pay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    books: BTreeMap<String, Book>,
    open: BTreeMap<Stream, Open>,
}

impl Ledger {
    /// The call of this stream that has not ended.
    pub fn open(&self, stream: Stream) -> Option<&Open> {
        self.open.get(&stream)
    }

    /// Every call that has not ended.
    pub fn all_open(&self) -> impl Iterator<Item = (Stream, &Open)> {
        self.open.iter().map(|(stream, open)| (*stream, open))
    }

    /// An organisation's accounts.
    pub fn accounts<'l>(&'l self, org: &str) -> impl Iterator<Item = (&'l Subject, &'l Account)> {
        self.books.get(org).into_iter().flat_map(|book| &book.accounts)
    }

    /// What was spent by a payer, and what is reserved for it.
    pub fn account(&self, org: &str, subject: &Subject) -> Account {
        self.books.get(org).and_then(|book| book.accounts.get(subject)).copied().unwrap_or_default()
    }

    /// An organisation's budgets with their limits, micro-units.
    pub fn budgets<'l>(&'l self, org: &str) -> impl Iterator<Item = (&'l Name, u64)> {
        self.books.get(org).into_iter().flat_map(|book| &book.budgets).map(|(name, limit)| (name, *limit))
    }

    /// Folds a record; those of other nouns change nothing.
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "asked of every event; one of the ledger that is forgotten here fails in the laws"
    )]
    pub fn apply(&mut self, record: &Record) {
        match &record.event {
            Event::BudgetSet(body) => {
                let book = self.books.entry(record.org.clone()).or_default();
                book.budgets.insert(body.budget.clone(), body.limit_micros);
            }
            Event::BudgetRemoved(body) => {
                if let Some(book) = self.books.get_mut(&record.org) {
                    book.budgets.remove(&body.budget);
                }
            }
            Event::ModelCallRequested(body) => self.reserve(record, &body.route, &body.reservation),
            Event::ModelCallSettled(body) => self.settle(record, Some(body.cost)),
            Event::TurnRequested(body) => {
                self.settle(record, None);
                if let Some(reservation) = &body.reservation {
                    self.reserve(record, &body.route, reservation);
                }
            }
            Event::TurnAnswered(body) => self.settle(record, body.cost),
            Event::TurnFailed(body) => self.settle(record, body.cost),
            Event::TurnReservationSettled(body) => self.settle(record, Some(body.cost)),
            Event::RunCompleted(_) | Event::RunFailed(_) | Event::RunInterrupted(_) | Event::RunCancelled(_) => {
                self.settle(record, None);
            }
            Event::SessionEnded(_) => self.session_ended(record),
            _ => {}
        }
    }

    fn reserve(&mut self, record: &Record, route: &str, reservation: &Reservation) {
        let open = Open { org: record.org.clone(), route: route.to_owned(), reservation: reservation.clone() };
        let book = self.books.entry(record.org.clone()).or_default();
        for payer in open.payers() {
            let account = book.accounts.entry(payer).or_default();
            account.reserved_micros = account.reserved_micros.saturating_add(reservation.micros);
        }
        // A second reservation in the same place cannot be decided; the sums of such a journal would still be whole.
        if let Some(before) = self.open.insert(record.stream, open) {
            self.spend(record, &before, before.reservation.in_full(Basis::Crash));
        }
    }

    /// Ends the open call of the record's stream; without a cost all that was reserved is spent.
    fn settle(&mut self, record: &Record, cost: Option<Cost>) {
        if let Some(open) = self.open.remove(&record.stream) {
            let cost = cost.unwrap_or_else(|| open.reservation.in_full(Basis::Crash));
            self.spend(record, &open, cost);
        }
    }

    fn spend(&mut self, record: &Record, open: &Open, cost: Cost) {
        let Some(book) = self.books.get_mut(&open.org) else { return };
        for payer in open.payers() {
            let Some(account) = book.accounts.get_mut(&payer) else { continue };
            account.reserved_micros = account.reserved_micros.saturating_sub(open.reservation.micros);
            match cost.micros {
                Some(micros) => account.spend(micros, record.at_ms),
                None => account.unpriced_calls = account.unpriced_calls.saturating_add(1),
            }
            if account.over && account.reserved_micros == 0 {
                book.accounts.remove(&payer);
            }
        }
    }

    /// Keeps nothing of a session that ended but what is still reserved for it.
    fn session_ended(&mut self, record: &Record) {
        let Some(id) = record.stream.session() else { return };
        let Some(book) = self.books.get_mut(&record.org) else { return };
        let subject = Subject::Session(id);
        book.budgets.retain(|name, _| name.subject != subject);
        if let Some(account) = book.accounts.get_mut(&subject) {
            account.over = true;
            if account.reserved_micros == 0 {
                book.accounts.remove(&subject);
            }
        }
    }
}
