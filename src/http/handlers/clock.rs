//! The machine's clock: an operator says that it is right.

use axum::extract::State;
use hyper::StatusCode;

use crate::http::app::App;
use crate::http::extract::Mutation;
use crate::http::reply::Reply;
use crate::http::routes::Route;
use crate::projections::runtime::RuntimeView;
use crate::services::authority::Action;

pub(super) fn routes() -> Vec<Route<App>> {
    vec![
        Route::post("/v1/runtime/trust-clock", Action::RuntimeWrite, "Trusts the machine's clock again.", trust)
            .takes::<Trust>()
            .gives::<RuntimeView>(200),
    ]
}

/// Nothing needs to be said.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Trust {}

async fn trust(State(app): State<App>, ask: Mutation<Trust>) -> Reply {
    let runtime = app.runtime.clone();
    let work = |by, (), _| async move { runtime.trust_clock(by).await };
    app.carry_out(Action::RuntimeWrite, StatusCode::OK, ask, work).await
}
