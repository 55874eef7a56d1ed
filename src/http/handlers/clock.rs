//! The machine's clock: an operator says that it is right.

use axum::extract::State;
use hyper::StatusCode;

use super::sessions::done;
use crate::http::app::App;
use crate::http::extract::{Mutation, OnPassage};
use crate::http::reply::{Reply, detached};
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

async fn trust(State(app): State<App>, OnPassage(passage): OnPassage, ask: Mutation<Trust>) -> Reply {
    let by = App::by(&ask.right, Action::RuntimeWrite, ask.request)?;
    let runtime = app.runtime.clone();
    let trusted = detached(&passage.gate().tasks, async move { runtime.trust_clock(by).await }).await?;
    done(StatusCode::OK, &trusted, &ask.right, &app.published)
}
