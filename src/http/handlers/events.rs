//! Streams of records: everything an organisation's callers may see, or one session's. A stream reads the journal up to
//! what the feed keeps in memory, then follows the feed, and goes back to reading when it lags.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::watch;

use crate::domain::ids::SessionId;
use crate::domain::reason::{Reason, Refusal};
use crate::http::app::{App, gate_of};
use crate::http::cursor::StreamRequest;
use crate::http::extract::{OnPassage, Right};
use crate::http::passage::Passage;
use crate::http::problem::Problem;
use crate::http::routes::Route;
use crate::http::sse;
use crate::projections::feed::{Filter, Found, Scope};
use crate::services::authority::{Action, Authorized};
use crate::services::desk::parse_id;
use crate::services::published::Published;

/// Most events gathered at a time.
const PAGE: usize = 256;

pub(super) fn routes() -> Vec<Route<App>> {
    vec![
        Route::get("/v1/events/stream", Action::EventsRead, "Follows all records.", all),
        Route::get("/v1/sessions/{session_id}/stream", Action::EventsRead, "Follows a session's records.", session),
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

async fn session(
    State(app): State<App>,
    OnPassage(passage): OnPassage,
    Right(right): Right,
    Path(id): Path<String>,
    request: StreamRequest,
) -> Result<Response, Problem> {
    let id: SessionId = parse_id(&id, Reason::SessionNotFound)?;
    app.sessions.get(right.demand(Action::EventsRead)?.organisation(), id)?;
    follow(&app, &passage, &right, &request, Scope::Session(id))
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
    let follower = Follower {
        changes: app.published.feed().changes(),
        published: app.published.clone(),
        filter: Arc::new(filter),
        from,
        ready: VecDeque::new(),
    };
    Ok(sse::reply(&gate_of(passage), right, request, frames(follower)))
}

struct Follower {
    published: Published,
    changes: watch::Receiver<u64>,
    filter: Arc<Filter>,
    from: u64,
    ready: VecDeque<Bytes>,
}

fn frames(follower: Follower) -> impl Stream<Item = Bytes> + Send + 'static {
    stream::unfold(follower, |mut follower| async move {
        loop {
            if let Some(frame) = follower.ready.pop_front() {
                return Some((frame, follower));
            }
            if let Err(refusal) = follower.gather().await {
                tracing::warn!(code = refusal.reason.code(), detail = refusal.detail, "a stream ends early");
                return None;
            }
        }
    })
}

impl Follower {
    /// Waits for the next events and puts them in line.
    async fn gather(&mut self) -> Result<(), Refusal> {
        self.changes.borrow_and_update();
        match self.published.feed().after(self.from, &self.filter, PAGE) {
            Found::Items(items, seen) => {
                self.from = seen;
                self.ready.extend(items.iter().map(|item| item.frame.clone()));
                if items.is_empty() {
                    // The sender lives as long as the daemon; its end ends the stream.
                    self.changes.changed().await.map_err(|_| Refusal::from(Reason::RequestOverloaded))?;
                }
            }
            Found::ReadUntil(kept) => {
                let (published, filter, from) = (self.published.clone(), Arc::clone(&self.filter), self.from);
                let read = tokio::task::spawn_blocking(move || published.read(&filter, from, kept, PAGE)).await;
                let (items, next) = match read {
                    Ok(Ok(found)) => found,
                    Ok(Err(error)) => {
                        return Err(Refusal::new(Reason::StorageJournalUnavailable, error.to_string()));
                    }
                    Err(_) => return Err(Reason::InternalError.into()),
                };
                self.from = next;
                self.ready.extend(items.into_iter().map(|item| item.frame));
            }
        }
        Ok(())
    }
}
