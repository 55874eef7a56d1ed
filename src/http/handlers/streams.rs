//! Streams of records: everything an organisation's callers may see, one session's, or one run's, with the words of
//! models in the last two while they arrive.

mod follower;
mod words;

use axum::extract::State;
use axum::response::Response;

use self::follower::Follower;
use self::words::Words;
use crate::domain::ids::{RunId, SessionId};
use crate::domain::reason::Reason;
use crate::http::app::{App, gate_of};
use crate::http::cursor::StreamRequest;
use crate::http::extract::{On, OnPassage, Right};
use crate::http::passage::Passage;
use crate::http::problem::Problem;
use crate::http::routes::Route;
use crate::http::sse;
use crate::projections::feed::{Filter, Scope};
use crate::services::authority::{Action, Authorized};
use crate::services::sight::Sight;

/// What the query of a stream may name.
const ASKS: super::Asks = &[("after", "integer"), ("cursor_errors", "string")];

pub(super) fn routes() -> Vec<Route<App>> {
    let read = Action::EventsRead;
    vec![
        Route::get("/v1/events/stream", read, "Follows all records.", all).asks(ASKS).gives_text(sse::MEDIA),
        Route::get("/v1/sessions/{session_id}/stream", read, "Follows a session's records.", of_session)
            .asks(ASKS)
            .gives_text(sse::MEDIA),
        Route::get("/v1/runs/{run_id}/stream", read, "Follows a run's records to its end.", of_run)
            .asks(ASKS)
            .gives_text(sse::MEDIA),
    ]
}

async fn all(
    State(app): State<App>,
    OnPassage(passage): OnPassage,
    Right(right): Right,
    request: StreamRequest,
) -> Result<Response, Problem> {
    follow(&app, &passage, &right, &request, Scope::All)
}

async fn of_session(
    State(app): State<App>,
    OnPassage(passage): OnPassage,
    ask: On<SessionId>,
    request: StreamRequest,
) -> Result<Response, Problem> {
    app.published.models().session(ask.org(Action::EventsRead)?, ask.on)?;
    follow(&app, &passage, &ask.right, &request, Scope::Session(ask.on))
}

async fn of_run(
    State(app): State<App>,
    OnPassage(passage): OnPassage,
    ask: On<RunId>,
    request: StreamRequest,
) -> Result<Response, Problem> {
    app.published.models().run(ask.org(Action::EventsRead)?, ask.on)?;
    follow(&app, &passage, &ask.right, &request, Scope::Run(ask.on))
}

fn follow(
    app: &App,
    passage: &Passage,
    right: &Authorized,
    request: &StreamRequest,
    scope: Scope,
) -> Result<Response, Problem> {
    let caller = right.demand(Action::EventsRead)?;
    let next_seq = app.published.feed().next_seq();
    let from = match &request.after {
        Ok(None) => next_seq,
        Ok(Some(after)) if *after < next_seq => after + 1,
        Ok(Some(_)) => return sse::refuse(request, Reason::CursorAhead.into()),
        Err(refusal) => return sse::refuse(request, refusal.clone()),
    };
    let filter = Filter { org: caller.organisation().to_owned(), scope };
    let seen = (filter, Sight::of(caller.role()));
    let follower = Follower::new(app.published.clone(), seen, from, Words::new(app.live.clone()));
    Ok(sse::reply(&gate_of(passage), right, request, follower.frames()))
}
