//! What the daemon says of itself.

use axum::extract::State;

use crate::http::app::App;
use crate::http::extract::Right;
use crate::http::reply::{Reply, ok};
use crate::http::routes::Route;
use crate::services::authority::Action;
use crate::services::status::Status;

pub(super) fn routes() -> Vec<Route<App>> {
    vec![Route::get("/v1/status", Action::StatusRead, "How the daemon stands.", status).gives::<Status>(200)]
}

async fn status(State(app): State<App>, Right(right): Right) -> Reply {
    right.demand(Action::StatusRead)?;
    ok(&app.status.look())
}
