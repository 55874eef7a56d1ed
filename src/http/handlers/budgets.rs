//! Budgets: what may be spent, and what was.

use axum::extract::State;
use hyper::StatusCode;

use crate::domain::ledger::Name;
use crate::domain::reason::{Reason, Refusal};
use crate::http::app::App;
use crate::http::extract::{Mutation, On, Place, Query, Right};
use crate::http::reply::{Reply, ok};
use crate::http::routes::Route;
use crate::services::authority::Action;
use crate::services::budgets::{self, BudgetEntriesView, BudgetsView, ExplainView, SetBudget};

const ONE: &str = "/v1/budgets/{budget}";
const EXPLAIN: &str = "/v1/budgets/explain";

pub(super) fn routes() -> Vec<Route<App>> {
    vec![
        Route::get("/v1/budgets", Action::BudgetRead, "Every budget, and what was spent.", list)
            .gives::<BudgetsView>(200),
        Route::get(EXPLAIN, Action::BudgetRead, "Why a call was refused, or what it cost.", explain)
            .asks(&[("request_id", "string"), ("run_id", "string")])
            .gives::<ExplainView>(200),
        Route::get(ONE, Action::BudgetRead, "A budget, and the newest calls that it was charged for.", get)
            .gives::<BudgetEntriesView>(200),
        Route::put(ONE, Action::BudgetWrite, "Sets a budget.", set).takes::<SetBudget>().gives::<BudgetsView>(200),
        Route::delete(ONE, Action::BudgetWrite, "Removes a budget.", remove)
            .takes::<Nothing>()
            .gives::<BudgetsView>(200),
    ]
}

/// A budget that is named to be looked at or removed: what is no name is absent like any other.
struct Named(Name);

impl Place for Named {
    fn read(name: &str) -> Result<Self, Refusal> {
        budgets::name(name).map(Self).map_err(|_| Reason::BudgetNotFound.into())
    }
}

impl Place for Name {
    fn read(name: &str) -> Result<Self, Refusal> {
        budgets::name(name)
    }
}

async fn list(State(app): State<App>, Right(right): Right) -> Reply {
    ok(&app.budgets.list(right.demand(Action::BudgetRead)?.organisation()))
}

/// About what.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    request_id: Option<String>,
    run_id: Option<String>,
}

async fn explain(State(app): State<App>, Right(right): Right, Query(about): Query<About>) -> Reply {
    let caller = right.demand(Action::BudgetRead)?;
    let (request, run) = (about.request_id.as_deref(), about.run_id.as_deref());
    ok(&app.budgets.explain(caller.organisation(), request, run).await?)
}

async fn get(State(app): State<App>, ask: On<Named>) -> Reply {
    ok(&app.budgets.get(ask.org(Action::BudgetRead)?, &ask.on.0)?)
}

async fn set(State(app): State<App>, ask: Mutation<SetBudget, Name>) -> Reply {
    let budgets = app.budgets.clone();
    let work = |by, name, body| async move { budgets.set(by, name, body).await };
    app.carry_out(Action::BudgetWrite, StatusCode::OK, ask, work).await
}

/// No words.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn remove(State(app): State<App>, ask: Mutation<Nothing, Named>) -> Reply {
    let budgets = app.budgets.clone();
    let work = |by, Named(name), Nothing {}| async move { budgets.remove(by, name).await };
    app.carry_out(Action::BudgetWrite, StatusCode::OK, ask, work).await
}
