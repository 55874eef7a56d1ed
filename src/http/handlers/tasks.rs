//! Background tasks: list, get, output, stop.

use axum::extract::State;
use hyper::StatusCode;

use super::{BY_STATUS, ListQuery, OF_ALL, Within};
use crate::domain::ids::{SessionId, TaskId};
use crate::domain::task::Status;
use crate::http::app::App;
use crate::http::extract::{Mutation, On, Query};
use crate::http::reply::{Reply, ok};
use crate::http::routes::Route;
use crate::projections::Page;
use crate::projections::tasks::TaskView;
use crate::services::authority::Action;
use crate::services::sessions::Stop;
use crate::services::tasks::OutputView;

pub(super) fn routes() -> Vec<Route<App>> {
    vec![
        Route::get("/v1/tasks", Action::TaskRead, "Lists background tasks, newest first.", list::<()>)
            .asks(OF_ALL)
            .gives::<Page<TaskView>>(200),
        Route::get("/v1/sessions/{session_id}/tasks", Action::TaskRead, "Lists a session's tasks.", list::<SessionId>)
            .asks(BY_STATUS)
            .gives::<Page<TaskView>>(200),
        Route::get("/v1/tasks/{task_id}", Action::TaskRead, "Shows a task.", get).gives::<TaskView>(200),
        Route::get("/v1/tasks/{task_id}/output", Action::TaskRead, "Shows a page of its output.", output)
            .asks(&[("offset", "integer"), ("limit", "integer")])
            .gives::<OutputView>(200),
        Route::post("/v1/tasks/{task_id}/stop", Action::TaskStop, "Asks a task to stop.", stop)
            .takes::<Stop>()
            .gives::<TaskView>(200),
    ]
}

/// A page of output that a query asks for.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputQuery {
    offset: Option<u64>,
    limit: Option<u64>,
}

async fn list<P: Within>(State(app): State<App>, ask: On<P>, Query(query): Query<ListQuery<Status>>) -> Reply {
    let org = ask.org(Action::TaskRead)?.to_owned();
    ok(&app.tasks.list(&org, ask.on.filter(&query)?, query.paging()).await?)
}

async fn get(State(app): State<App>, ask: On<TaskId>) -> Reply {
    ok(&app.tasks.get(ask.org(Action::TaskRead)?, ask.on).await?)
}

async fn output(State(app): State<App>, ask: On<TaskId>, Query(query): Query<OutputQuery>) -> Reply {
    ok(&app.outputs.page(ask.org(Action::TaskRead)?, ask.on, query.offset, query.limit).await?)
}

async fn stop(State(app): State<App>, ask: Mutation<Stop, TaskId>) -> Reply {
    let tasks = app.tasks.clone();
    let work = |by, id, body| async move { tasks.stop(by, id, body).await };
    app.carry_out(Action::TaskStop, StatusCode::OK, ask, work).await
}
