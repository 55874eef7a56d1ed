//! Runs: start, list, get, cancel, follow.

use std::time::Duration;

use axum::extract::{Path, State};
use hyper::StatusCode;

use super::{AT, AtQuery, BY_STATUS_AT, ListQuery, OF_RUNS};
use crate::domain::ids::{RunId, SessionId};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::run::Status;
use crate::http::app::{App, gate_of};
use crate::http::cursor;
use crate::http::extract::{Mutation, On, Place as _, Query, Right};
use crate::http::limits::INPUT_WAIT_MS;
use crate::http::reply::{Reply, ok, raw, shown};
use crate::http::routes::Route;
use crate::projections::Page;
use crate::projections::runs::{Filter, RunView};
use crate::services::authority::Action;
use crate::services::debug_capture::Artifacts;
use crate::services::external_actions::{self, ExternalActions};
use crate::services::runs::Start;
use crate::services::sessions::Stop;

const ARTIFACT: &str = "/v1/runs/{run_id}/debug/artifacts/{artifact_id}";

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
        Route::get("/v1/runs/{run_id}/external-actions", Action::RunRead, "What it did outside.", external_actions)
            .asks(&[("cursor", "string"), ("limit", "integer")])
            .gives::<ExternalActions>(200),
        Route::get("/v1/runs/{run_id}/debug", Action::RunDebugRead, "What is kept of it for a day.", artifacts)
            .gives::<Artifacts>(200),
        Route::get(ARTIFACT, Action::RunDebugRead, "One debug artefact.", artifact)
            .gives_text("text/plain; charset=utf-8"),
        Route::post("/v1/runs/{run_id}/cancel", Action::RunCancel, "Asks a run to stop.", cancel)
            .takes::<Stop>()
            .gives::<RunView>(200),
    ]
}

async fn start(State(app): State<App>, ask: Mutation<Start, SessionId>) -> Reply {
    let runs = app.runs.clone();
    let work = |by, id, body| async move { runs.start(by, id, body).await };
    app.carry_out(Action::RunStart, StatusCode::ACCEPTED, ask, work).await
}

async fn input(State(app): State<App>, ask: Mutation<Start, SessionId>) -> Reply {
    let (runs, right) = (app.runs.clone(), ask.right.clone());
    let stopping = gate_of(&ask.passage).tasks.stopping();
    let work = |by, id, body| async move { runs.start(by, id, body).await };
    let mut queued = App::perform(Action::SessionInput, ask, work).await?;
    let (org, wait) = (right.caller().organisation(), Duration::from_millis(INPUT_WAIT_MS));
    let run_id = queued.view.run_id;
    queued.view = tokio::select! {
        settled = app.runs.settled(org, run_id, wait) => settled?,
        // A daemon that ends waits for nobody: the run goes on with the next start.
        () = stopping => app.runs.get(org, run_id).await?,
    };
    app.done(StatusCode::OK, &queued, &right)
}

async fn of_session(State(app): State<App>, ask: On<SessionId>, Query(query): Query<ListQuery<Status>>) -> Reply {
    query.narrowed_by_status_only()?;
    let filter = Filter { session: Some(ask.on), status: query.status };
    shown(&app.runs.list(ask.org(Action::RunRead)?, filter, (query.paging(), query.at)).await?)
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

async fn get(State(app): State<App>, ask: On<RunId>, Query(query): Query<AtQuery>) -> Reply {
    shown(&app.runs.get_at(ask.org(Action::RunRead)?, ask.on, query.at).await?)
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionsQuery {
    cursor: Option<String>,
    limit: Option<usize>,
}

async fn external_actions(State(app): State<App>, ask: On<RunId>, Query(query): Query<ActionsQuery>) -> Reply {
    let after = query.cursor.map(|text| cursor::parse(text.as_bytes())).transpose()?;
    let org = ask.org(Action::RunRead)?;
    ok(&external_actions::of_run(&app.published, org, ask.on, (after, query.limit)).await?)
}

async fn artifacts(State(app): State<App>, ask: On<RunId>) -> Reply {
    ok(&app.debug.list(ask.org(Action::RunDebugRead)?, ask.on).await?)
}

async fn artifact(State(app): State<App>, Right(right): Right, Path((run, artifact)): Path<(String, String)>) -> Reply {
    let org = right.demand(Action::RunDebugRead)?.organisation();
    let text = app.debug.text(org, RunId::read(&run)?, &artifact).await?;
    Ok(raw(StatusCode::OK, "text/plain; charset=utf-8", text))
}

async fn cancel(State(app): State<App>, ask: Mutation<Stop, RunId>) -> Reply {
    let runs = app.runs.clone();
    let work = |by, id, body| async move { runs.cancel(by, id, body).await };
    app.carry_out(Action::RunCancel, StatusCode::OK, ask, work).await
}
