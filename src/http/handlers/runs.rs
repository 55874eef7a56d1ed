//! Runs: start, list, get, cancel, follow.

use std::time::Duration;

use axum::extract::{Path, State};
use hyper::StatusCode;

use super::sessions::{done, session};
use super::{AT, AtQuery, BY_STATUS_AT, ListQuery, OF_RUNS};
use crate::domain::ids::RunId;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::run::Status;
use crate::http::app::App;
use crate::http::extract::{Mutation, OnPassage, Query, Right};
use crate::http::reply::{Reply, detached, shown};
use crate::http::routes::Route;
use crate::projections::Page;
use crate::projections::runs::{Filter, RunView};
use crate::services::authority::Action;
use crate::services::desk::parse_id;
use crate::services::runs::Start;
use crate::services::sessions::Stop;

/// How long `…/input` waits for the answer before it shows the run as it is.
const INPUT_WAIT_MS: u64 = 25_000;

pub(super) fn routes() -> Vec<Route<App>> {
    vec![
        Route::post("/v1/sessions/{session_id}/runs", Action::RunStart, "Queues a run.", start)
            .takes::<Start>()
            .gives::<RunView>(202),
        Route::post("/v1/sessions/{session_id}/input", Action::SessionInput, "Queues a run and waits for it.", input)
            .takes::<Start>()
            .gives::<RunView>(200),
        Route::get("/v1/sessions/{session_id}/runs", Action::RunRead, "Lists a session's runs.", of_session)
            .asks(BY_STATUS_AT)
            .gives::<Page<RunView>>(200),
        Route::get("/v1/runs", Action::RunRead, "Lists runs, newest first.", list)
            .asks(OF_RUNS)
            .gives::<Page<RunView>>(200),
        Route::get("/v1/runs/{run_id}", Action::RunRead, "Shows a run.", get).asks(AT).gives::<RunView>(200),
        Route::post("/v1/runs/{run_id}/cancel", Action::RunCancel, "Asks a run to stop.", cancel)
            .takes::<Stop>()
            .gives::<RunView>(200),
    ]
}

pub(super) fn run(text: &str) -> Result<RunId, Refusal> {
    parse_id(text, Reason::RunNotFound)
}

async fn start(
    State(app): State<App>,
    OnPassage(passage): OnPassage,
    Path(id): Path<String>,
    ask: Mutation<Start>,
) -> Reply {
    let by = App::by(&ask.right, Action::RunStart, ask.request)?;
    let (runs, body, id) = (app.runs.clone(), ask.body, session(&id)?);
    let queued = detached(&passage.gate().tasks, async move { runs.start(by, id, body).await }).await?;
    done(StatusCode::ACCEPTED, &queued, &ask.right, &app.published)
}

async fn input(
    State(app): State<App>,
    OnPassage(passage): OnPassage,
    Path(id): Path<String>,
    ask: Mutation<Start>,
) -> Reply {
    let by = App::by(&ask.right, Action::SessionInput, ask.request)?;
    let (runs, body, id, org) = (app.runs.clone(), ask.body, session(&id)?, by.org.clone());
    let mut queued = detached(&passage.gate().tasks, async move { runs.start(by, id, body).await }).await?;
    queued.view = app.runs.settled(&org, queued.view.run_id, Duration::from_millis(INPUT_WAIT_MS)).await?;
    done(StatusCode::OK, &queued, &ask.right, &app.published)
}

async fn of_session(
    State(app): State<App>,
    Right(right): Right,
    Path(id): Path<String>,
    Query(query): Query<ListQuery<Status>>,
) -> Reply {
    let org = right.demand(Action::RunRead)?.organisation();
    query.narrowed_by_status_only()?;
    let filter = Filter { session: Some(session(&id)?), status: query.status };
    shown(&app.runs.list(org, filter, (query.paging(), query.at)).await?)
}

async fn list(State(app): State<App>, Right(right): Right, Query(query): Query<ListQuery<Status>>) -> Reply {
    let org = right.demand(Action::RunRead)?.organisation();
    let narrowed = query.filter()?;
    if narrowed.run.is_some() {
        return Err(Refusal::new(Reason::RequestMalformed, "This list has no such filter.").into());
    }
    let filter = Filter { session: narrowed.session, status: narrowed.status };
    shown(&app.runs.list(org, filter, (query.paging(), query.at)).await?)
}

async fn get(
    State(app): State<App>,
    Right(right): Right,
    Path(id): Path<String>,
    Query(query): Query<AtQuery>,
) -> Reply {
    shown(&app.runs.get_at(right.demand(Action::RunRead)?.organisation(), run(&id)?, query.at).await?)
}

async fn cancel(
    State(app): State<App>,
    OnPassage(passage): OnPassage,
    Path(id): Path<String>,
    ask: Mutation<Stop>,
) -> Reply {
    let by = App::by(&ask.right, Action::RunCancel, ask.request)?;
    let (runs, body, id) = (app.runs.clone(), ask.body, run(&id)?);
    let stopped = detached(&passage.gate().tasks, async move { runs.cancel(by, id, body).await }).await?;
    done(StatusCode::OK, &stopped, &ask.right, &app.published)
}
