//! Runtime configuration: what is in force, and other permissions.

use axum::extract::State;
use hyper::StatusCode;

use crate::http::app::App;
use crate::http::extract::{Mutation, Right};
use crate::http::reply::{Reply, ok};
use crate::http::routes::Route;
use crate::projections::runtime::RuntimeView;
use crate::services::authority::Action;
use crate::services::runtime::{SetMode, SetRules};

const MODE: &str = "/v1/runtime/permission-mode";
const MODE_SUMMARY: &str = "Sets the permission mode for sessions that set none.";
const RULES: &str = "/v1/runtime/permission-rules";
const RULES_SUMMARY: &str = "Sets all permission rules of one scope.";

pub(super) fn routes() -> Vec<Route<App>> {
    let write = Action::RuntimeWrite;
    vec![
        Route::get("/v1/runtime", Action::RuntimeRead, "The configuration in force.", get).gives::<RuntimeView>(200),
        Route::put(MODE, write, MODE_SUMMARY, set_mode).takes::<SetMode>().gives::<RuntimeView>(200),
        Route::post(MODE, write, MODE_SUMMARY, set_mode).takes::<SetMode>().gives::<RuntimeView>(200),
        Route::put(RULES, write, RULES_SUMMARY, set_rules).takes::<SetRules>().gives::<RuntimeView>(200),
        Route::post(RULES, write, RULES_SUMMARY, set_rules).takes::<SetRules>().gives::<RuntimeView>(200),
    ]
}

async fn get(State(app): State<App>, Right(right): Right) -> Reply {
    right.demand(Action::RuntimeRead)?;
    ok(&app.runtime.get())
}

async fn set_mode(State(app): State<App>, ask: Mutation<SetMode>) -> Reply {
    let runtime = app.runtime.clone();
    let work = |by, (), body| async move { runtime.set_mode(by, body).await };
    app.carry_out(Action::RuntimeWrite, StatusCode::OK, ask, work).await
}

async fn set_rules(State(app): State<App>, ask: Mutation<SetRules>) -> Reply {
    let runtime = app.runtime.clone();
    let work = |by, (), body| async move { runtime.set_rules(by, body).await };
    app.carry_out(Action::RuntimeWrite, StatusCode::OK, ask, work).await
}
