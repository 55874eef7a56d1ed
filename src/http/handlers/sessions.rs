//! Sessions: create, list, get, interrupt, end.

use axum::extract::{Path, State};
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};

use super::{AT, AtQuery, BY_STATUS_AT, ListQuery};
use crate::domain::ids::SessionId;
use crate::domain::reason::{Reason, Refusal};
use crate::http::app::App;
use crate::http::extract::{Mutation, OnPassage, Query, Right};
use crate::http::reply::{Reply, detached, json, shown};
use crate::http::routes::Route;
use crate::projections::Page;
use crate::projections::sessions::{SessionView, Status};
use crate::services::authority::{Action, Authorized, Role};
use crate::services::desk::{Done, parse_id};
use crate::services::published::Published;
use crate::services::sessions::{Create, Stop};

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const HEAD: HeaderName = HeaderName::from_static("chancery-head");

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
        Route::post("/v1/sessions/{session_id}/interrupt", Action::SessionInterrupt, "Stops its runs.", interrupt)
            .takes::<Stop>()
            .gives::<SessionView>(200),
        Route::post("/v1/sessions/{session_id}/end", Action::SessionEnd, "Ends a session.", end)
            .takes::<Stop>()
            .gives::<SessionView>(200),
    ]
}

/// The answer to a mutation, with the headers that mutations have.
pub(super) fn done<T: serde::Serialize>(
    status: StatusCode,
    done: &Done<T>,
    right: &Authorized,
    published: &Published,
) -> Reply {
    let mut reply = json(status, &done.view)?;
    if done.replayed {
        reply.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    if right.caller().role() != Role::ReadOnly {
        let note = data_encoding::BASE64.encode(published.head().note.render().as_bytes());
        if let Ok(value) = HeaderValue::from_str(&note) {
            reply.headers_mut().insert(HEAD, value);
        }
    }
    Ok(reply)
}

async fn create(State(app): State<App>, OnPassage(passage): OnPassage, ask: Mutation<Create>) -> Reply {
    let by = App::by(&ask.right, Action::SessionCreate, ask.request)?;
    let (sessions, body) = (app.sessions.clone(), ask.body);
    let made = detached(&passage.gate().tasks, async move { sessions.create(by, body).await }).await?;
    done(StatusCode::CREATED, &made, &ask.right, &app.published)
}

async fn list(State(app): State<App>, Right(right): Right, Query(query): Query<ListQuery<Status>>) -> Reply {
    let caller = right.demand(Action::SessionRead)?;
    query.narrowed_by_status_only()?;
    shown(&app.sessions.list(caller.organisation(), query.status, (query.paging(), query.at)).await?)
}

async fn get(
    State(app): State<App>,
    Right(right): Right,
    Path(id): Path<String>,
    Query(query): Query<AtQuery>,
) -> Reply {
    let caller = right.demand(Action::SessionRead)?;
    shown(&app.sessions.get(caller.organisation(), session(&id)?, query.at).await?)
}

async fn interrupt(
    State(app): State<App>,
    OnPassage(passage): OnPassage,
    Path(id): Path<String>,
    ask: Mutation<Stop>,
) -> Reply {
    let by = App::by(&ask.right, Action::SessionInterrupt, ask.request)?;
    let (sessions, body, id) = (app.sessions.clone(), ask.body, session(&id)?);
    let stopped = detached(&passage.gate().tasks, async move { sessions.interrupt(by, id, body).await }).await?;
    done(StatusCode::OK, &stopped, &ask.right, &app.published)
}

async fn end(
    State(app): State<App>,
    OnPassage(passage): OnPassage,
    Path(id): Path<String>,
    ask: Mutation<Stop>,
) -> Reply {
    let by = App::by(&ask.right, Action::SessionEnd, ask.request)?;
    let (sessions, body, id) = (app.sessions.clone(), ask.body, session(&id)?);
    let ended = detached(&passage.gate().tasks, async move { sessions.end(by, id, body).await }).await?;
    done(StatusCode::OK, &ended, &ask.right, &app.published)
}

pub(super) fn session(text: &str) -> Result<SessionId, Refusal> {
    parse_id(text, Reason::SessionNotFound)
}
