//! What one can ask of budgets, and of the ledger that they bound.

use serde::{Deserialize, Serialize};

use super::budget_refusals::RefusedCallView;
use super::desk::{By, Desk, Done, Lane, parse_filter};
use super::published::Published;
use crate::domain::command::{Command, invalid};
use crate::domain::ids::RunId;
use crate::domain::ledger::{Name, budget};
use crate::domain::reason::{Reason, Refusal};
use crate::projections::Models;
use crate::projections::ledger::{AccountView, BudgetView, Entry, EntryView};
use crate::projections::runs::FailureView;

/// Most entries of the ledger that are told of a budget, or of a run.
pub(super) const ENTRIES_TOLD: usize = 50;

/// Another limit of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetBudget {
    /// Most that may be spent in a period, micro-units.
    pub limit_micros: u64,
}

/// Every budget and every account as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct BudgetsView {
    /// Budgets.
    pub budgets: Vec<BudgetView>,
    /// What each payer spent.
    pub accounts: Vec<AccountView>,
}

/// One budget with the newest calls that it was charged for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct BudgetEntriesView {
    /// The budget as it stands; as it stood where a refusal is explained.
    pub budget: BudgetView,
    /// Calls, newest first.
    pub entries: Vec<EntryView>,
}

/// Why calls were refused, and what those that were made cost. It is empty where nothing is known any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ExplainView {
    /// Calls that budgets refused since the daemon started, newest first.
    pub refusals: Vec<RefusedCallView>,
    /// Why the run failed, where that is what was asked.
    pub error: Option<FailureView>,
    /// Calls of the ledger that were made, newest first.
    pub calls: Vec<EntryView>,
}

/// The use cases.
#[derive(Clone)]
pub struct Budgets {
    desk: Desk,
    published: Published,
}

/// Reads a budget's name out of a path.
pub fn name(text: &str) -> Result<Name, Refusal> {
    Name::parse(text).ok_or_else(|| {
        let detail =
            "A budget is organisation, token:<name>, route:<id> or session:<id>, and then :day, :month or :total.";
        invalid("/budget", detail)
    })
}

impl Budgets {
    /// Use cases at a desk.
    pub fn new(desk: Desk, published: Published) -> Self {
        Self { desk, published }
    }

    /// Everything as it stands.
    pub fn list(&self, org: &str) -> BudgetsView {
        let now_ms = self.published.clock().wall_ms();
        self.desk.look(|models| view(models, org, now_ms))
    }

    /// One budget and what it was charged for.
    pub fn get(&self, org: &str, name: &Name) -> Result<BudgetEntriesView, Refusal> {
        let now_ms = self.published.clock().wall_ms();
        self.desk.look(|models| {
            let budget = models.ledger.budget(org, name, now_ms).ok_or(Reason::BudgetNotFound)?;
            let of = models.ledger.entries().filter(|entry| entry.org == org && entry.is_of(&name.subject));
            Ok(BudgetEntriesView { budget, entries: of.take(ENTRIES_TOLD).map(Entry::view).collect() })
        })
    }

    /// Why what a request or a run asked for was refused, or what it cost.
    pub async fn explain(
        &self,
        org: &str,
        request_id: Option<&str>,
        run_id: Option<&str>,
    ) -> Result<ExplainView, Refusal> {
        let run_id = run_id.map(|id| parse_filter::<RunId>("/run_id", id)).transpose()?;
        let error = match (request_id, run_id) {
            (Some(_), None) => None,
            (None, Some(id)) => {
                let org = org.to_owned();
                self.desk.show(move |models| models.run(&org, id)).await?.error
            }
            _ => return Err(invalid("/request_id", "Name a request or a run, and not both.")),
        };
        let is_it = |request: Option<&str>, run: Option<RunId>| {
            if run_id.is_some() { run == run_id } else { request == request_id }
        };
        Ok(self.desk.look(|models| {
            let entries = models
                .ledger
                .entries()
                .filter(|entry| entry.org == org && is_it(entry.request_id.as_deref(), entry.stream.run()));
            ExplainView {
                refusals: self.published.budget_refusals().explain(models, org, is_it),
                error,
                calls: entries.take(ENTRIES_TOLD).map(Entry::view).collect(),
            }
        }))
    }

    /// Sets a budget.
    pub async fn set(&self, by: By, budget: Name, input: SetBudget) -> Result<Done<BudgetsView>, Refusal> {
        let ask = budget::Set { org: by.org.clone(), budget, limit_micros: input.limit_micros };
        self.submit(Command::SetBudget(ask), by).await
    }

    /// Removes a budget.
    pub async fn remove(&self, by: By, budget: Name) -> Result<Done<BudgetsView>, Refusal> {
        let ask = budget::Remove { org: by.org.clone(), budget };
        self.submit(Command::RemoveBudget(ask), by).await
    }

    async fn submit(&self, command: Command, by: By) -> Result<Done<BudgetsView>, Refusal> {
        let (org, now_ms) = (by.org.clone(), self.published.clock().wall_ms());
        self.desk.submit_plain(command, by, Lane::Ordinary, |models| view(models, &org, now_ms)).await
    }
}

fn view(models: &Models, org: &str, now_ms: u64) -> BudgetsView {
    BudgetsView { budgets: models.ledger.budgets(org, now_ms), accounts: models.ledger.accounts(org, now_ms) }
}
