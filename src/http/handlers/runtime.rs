//! Runtime configuration: what is in force, and other permissions.

use axum::extract::State;
use hyper::StatusCode;

use super::sessions::done;
use super::{AT, AtQuery};
use crate::http::app::App;
use crate::http::extract::{Mutation, OnPassage, Query, Right};
use crate::http::reply::{Reply, detached, shown};
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
        Route::get("/v1/runtime", Action::RuntimeRead, "The configuration in force.", get)
            .asks(AT)
            .gives::<RuntimeView>(200),
        Route::put(MODE, write, MODE_SUMMARY, set_mode).takes::<SetMode>().gives::<RuntimeView>(200),
        Route::post(MODE, write, MODE_SUMMARY, set_mode).takes::<SetMode>().gives::<RuntimeView>(200),
        Route::put(RULES, write, RULES_SUMMARY, set_rules).takes::<SetRules>().gives::<RuntimeView>(200),
        Route::post(RULES, write, RULES_SUMMARY, set_rules).takes::<SetRules>().gives::<RuntimeView>(200),
    ]
}

async fn get(State(app): State<App>, Right(right): Right, Query(query): Query<AtQuery>) -> Reply {
    right.demand(Action::RuntimeRead)?;
    shown(&app.runtime.get(query.at).await?)
}

async fn set_mode(State(app): State<App>, OnPassage(passage): OnPassage, ask: Mutation<SetMode>) -> Reply {
    let by = App::by(&ask.right, Action::RuntimeWrite, ask.request)?;
    let (runtime, body) = (app.runtime.clone(), ask.body);
    let set = detached(&passage.gate().tasks, async move { runtime.set_mode(by, body).await }).await?;
    done(StatusCode::OK, &set, &ask.right, &app.published)
}

async fn set_rules(State(app): State<App>, OnPassage(passage): OnPassage, ask: Mutation<SetRules>) -> Reply {
    let by = App::by(&ask.right, Action::RuntimeWrite, ask.request)?;
    let (runtime, body) = (app.runtime.clone(), ask.body);
    let set = detached(&passage.gate().tasks, async move { runtime.set_rules(by, body).await }).await?;
    done(StatusCode::OK, &set, &ask.right, &app.published)
}
