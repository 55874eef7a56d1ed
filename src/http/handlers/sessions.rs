//! Sessions: create, list, get, interrupt, end, erase.

use axum::extract::State;
use hyper::StatusCode;

use super::{AT, AtQuery, BY_STATUS_AT, ListQuery};
use crate::domain::ids::SessionId;
use crate::http::app::App;
use crate::http::extract::{Deletion, Mutation, On, Query, Right};
use crate::http::reply::{Reply, shown};
use crate::http::routes::Route;
use crate::projections::Page;
use crate::projections::sessions::{SessionView, Status};
use crate::services::authority::Action;
use crate::services::sessions::{Create, RoutePolicy, Stop};

const POLICY: &str = "/v1/sessions/{session_id}/route-policy";
const POLICY_SUMMARY: &str = "Sets route and model of its later runs.";

pub(super) fn routes() -> Vec<Route<App>> {
    vec![
        Route::post("/v1/sessions", Action::SessionCreate, "Creates a session.", create)
            .takes::<Create>()
            .gives::<SessionView>(201),
        Route::get("/v1/sessions", Action::SessionRead, "Lists sessions, newest first.", list)
            .asks(BY_STATUS_AT)
            .gives::<Page<SessionView>>(200),
        Route::get("/v1/sessions/{session_id}", Action::SessionRead, "Shows a session.", get)
            .asks(AT)
            .gives::<SessionView>(200),
        Route::post(POLICY, Action::SessionRoutePolicy, POLICY_SUMMARY, set_policy)
            .takes::<RoutePolicy>()
            .gives::<SessionView>(200),
        Route::put(POLICY, Action::SessionRoutePolicy, POLICY_SUMMARY, set_policy)
            .takes::<RoutePolicy>()
            .gives::<SessionView>(200),
        Route::delete(POLICY, Action::SessionRoutePolicy, "Leaves route and model to the runtime.", no_policy)
            .gives::<SessionView>(200),
        Route::post("/v1/sessions/{session_id}/interrupt", Action::SessionInterrupt, "Stops its runs.", interrupt)
            .takes::<Stop>()
            .gives::<SessionView>(200),
        Route::post("/v1/sessions/{session_id}/end", Action::SessionEnd, "Ends a session.", end)
            .takes::<Stop>()
            .gives::<SessionView>(200),
        Route::post("/v1/sessions/{session_id}/erase", Action::SessionErase, "Erases its words.", erase)
            .takes::<Stop>()
            .gives::<SessionView>(200),
    ]
}

async fn create(State(app): State<App>, ask: Mutation<Create>) -> Reply {
    let sessions = app.sessions.clone();
    let work = |by, (), body| async move { sessions.create(by, body).await };
    Box::pin(app.carry_out(Action::SessionCreate, StatusCode::CREATED, ask, work)).await
}

async fn list(State(app): State<App>, Right(right): Right, Query(query): Query<ListQuery<Status>>) -> Reply {
    let caller = right.demand(Action::SessionRead)?;
    query.narrowed_by_status_only()?;
    shown(&app.sessions.list(caller.organisation(), query.status, (query.paging(), query.at)).await?)
}

async fn get(State(app): State<App>, ask: On<SessionId>, Query(query): Query<AtQuery>) -> Reply {
    shown(&app.sessions.get(ask.org(Action::SessionRead)?, ask.on, query.at).await?)
}

async fn set_policy(State(app): State<App>, ask: Mutation<RoutePolicy, SessionId>) -> Reply {
    let sessions = app.sessions.clone();
    let work = |by, id, body| async move { sessions.set_route_policy(by, id, body).await };
    app.carry_out(Action::SessionRoutePolicy, StatusCode::OK, ask, work).await
}

async fn no_policy(State(app): State<App>, Deletion(ask): Deletion<SessionId>) -> Reply {
    let sessions = app.sessions.clone();
    let work = |by, id, ()| async move { sessions.set_route_policy(by, id, RoutePolicy::default()).await };
    app.carry_out(Action::SessionRoutePolicy, StatusCode::OK, ask, work).await
}

async fn interrupt(State(app): State<App>, ask: Mutation<Stop, SessionId>) -> Reply {
    let sessions = app.sessions.clone();
    let work = |by, id, body| async move { sessions.interrupt(by, id, body).await };
    app.carry_out(Action::SessionInterrupt, StatusCode::OK, ask, work).await
}

async fn end(State(app): State<App>, ask: Mutation<Stop, SessionId>) -> Reply {
    let sessions = app.sessions.clone();
    let work = |by, id, body| async move { sessions.end(by, id, body).await };
    app.carry_out(Action::SessionEnd, StatusCode::OK, ask, work).await
}

async fn erase(State(app): State<App>, ask: Mutation<Stop, SessionId>) -> Reply {
    let sessions = app.sessions.clone();
    let work = |by, id, body| async move { sessions.erase(by, id, body).await };
    app.carry_out(Action::SessionErase, StatusCode::OK, ask, work).await
}
