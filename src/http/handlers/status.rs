//! What the daemon says of itself.

use axum::extract::State;

use super::{AT, AtQuery};
use crate::http::app::App;
use crate::http::extract::{Query, Right};
use crate::http::reply::{Reply, ok, shown};
use crate::http::routes::Route;
use crate::services::authority::Action;
use crate::services::status::{PastStatus, Status};

pub(super) fn routes() -> Vec<Route<App>> {
    vec![
        Route::get("/v1/status", Action::StatusRead, "How the daemon stands.", status)
            .asks(AT)
            .gives::<StatusAnswer>(200),
    ]
}

/// How the daemon stands, or with `at` what the journal says of how it stood.
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is needed")]
enum StatusAnswer {
    /// Now.
    Now(Box<Status>),
    /// Then.
    Then(PastStatus),
}

async fn status(State(app): State<App>, Right(right): Right, Query(query): Query<AtQuery>) -> Reply {
    right.demand(Action::StatusRead)?;
    match query.at {
        None => ok(&app.status.look()),
        Some(at) => shown(&app.status.past(at).await?),
    }
}
