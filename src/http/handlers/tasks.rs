//! Background tasks: list, get, output, stop.

use axum::extract::{Path, State};
use hyper::StatusCode;

use super::sessions::{done, session};
use super::{BY_STATUS, ListQuery, OF_ALL};
use crate::domain::ids::TaskId;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::task::Status;
use crate::http::app::App;
use crate::http::extract::{Mutation, OnPassage, Query, Right};
use crate::http::reply::{Reply, detached, ok};
use crate::http::routes::Route;
use crate::projections::Page;
use crate::projections::tasks::TaskView;
use crate::services::authority::Action;
use crate::services::desk::parse_id;
use crate::services::sessions::Stop;
use crate::services::tasks::OutputView;

pub(super) fn routes() -> Vec<Route<App>> {
    vec![
        Route::get("/v1/tasks", Action::TaskRead, "Lists background tasks, newest first.", list)
            .asks(OF_ALL)
            .gives::<Page<TaskView>>(200),
        Route::get("/v1/sessions/{session_id}/tasks", Action::TaskRead, "Lists a session's tasks.", of_session)
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

fn task(text: &str) -> Result<TaskId, Refusal> {
    parse_id(text, Reason::TaskNotFound)
}

async fn list(State(app): State<App>, Right(right): Right, Query(query): Query<ListQuery<Status>>) -> Reply {
    let org = right.demand(Action::TaskRead)?.organisation();
    ok(&app.tasks.list(org, query.filter()?, query.paging()).await?)
}

async fn of_session(
    State(app): State<App>,
    Right(right): Right,
    Path(id): Path<String>,
    Query(query): Query<ListQuery<Status>>,
) -> Reply {
    let org = right.demand(Action::TaskRead)?.organisation();
    ok(&app.tasks.list(org, query.of_session(session(&id)?)?, query.paging()).await?)
}

async fn get(State(app): State<App>, Right(right): Right, Path(id): Path<String>) -> Reply {
    ok(&app.tasks.get(right.demand(Action::TaskRead)?.organisation(), task(&id)?).await?)
}

async fn output(
    State(app): State<App>,
    Right(right): Right,
    Path(id): Path<String>,
    Query(query): Query<OutputQuery>,
) -> Reply {
    let org = right.demand(Action::TaskRead)?.organisation();
    ok(&app.outputs.page(org, task(&id)?, query.offset, query.limit).await?)
}

async fn stop(
    State(app): State<App>,
    OnPassage(passage): OnPassage,
    Path(id): Path<String>,
    ask: Mutation<Stop>,
) -> Reply {
    let by = App::by(&ask.right, Action::TaskStop, ask.request)?;
    let (tasks, body, id) = (app.tasks.clone(), ask.body, task(&id)?);
    let stopped = detached(&passage.gate().tasks, async move { tasks.stop(by, id, body).await }).await?;
    done(StatusCode::OK, &stopped, &ask.right, &app.published)
}
