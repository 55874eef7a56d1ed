//! Pages of records: what a session or a run has been through, oldest first, each record as the journal holds it.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::command::invalid;
use crate::domain::ids::{RunId, SessionId};
use crate::domain::limits::{PAGE_DEFAULT, PAGE_MAX};
use crate::domain::reason::{Reason, Refusal};
use crate::http::app::App;
use crate::http::cursor;
use crate::http::extract::{On, Query};
use crate::http::limits::PAGE_LINES;
use crate::http::reply::{Reply, ok};
use crate::http::routes::Route;
use crate::projections::feed::{Filter, Scope};
use crate::services::authority::{Action, Caller};
use crate::services::sight::{Seen, Sight};

/// What the query of a page may name.
const ASKS: super::Asks = &[("after", "string"), ("cursor", "string"), ("limit", "integer")];

pub(super) fn routes() -> Vec<Route<App>> {
    vec![
        Route::get("/v1/sessions/{session_id}/events", Action::EventsRead, "Shows a session's records.", of_session)
            .asks(ASKS)
            .gives::<EventPage>(200),
        Route::get("/v1/runs/{run_id}/events", Action::EventsRead, "Shows a run's records.", of_run)
            .asks(ASKS)
            .gives::<EventPage>(200),
    ]
}

/// One page of records.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct EventPage {
    /// Oldest first, each exactly as the journal holds it; read-only callers see neither requests nor credentials.
    #[schemars(with = "Vec<serde_json::Value>")]
    items: Vec<Box<RawValue>>,
    /// Where the next page begins: `?after=`; absent at the end.
    next_cursor: Option<String>,
}

/// A page that a query asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventQuery {
    /// The last record that the caller has.
    after: Option<String>,
    /// The same, under the name that other lists have for it.
    cursor: Option<String>,
    limit: Option<usize>,
}

impl EventQuery {
    fn after(&self) -> Result<Option<u64>, Refusal> {
        match (&self.after, &self.cursor) {
            (Some(_), Some(_)) => Err(Reason::CursorMalformed.into()),
            (Some(text), None) | (None, Some(text)) => cursor::parse(text.as_bytes()).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn limit(&self) -> Result<usize, Refusal> {
        match self.limit.unwrap_or(PAGE_DEFAULT) {
            limit if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
            _ => Err(invalid("/limit", format!("A page has 1 to {PAGE_MAX} entries."))),
        }
    }
}

async fn of_session(State(app): State<App>, ask: On<SessionId>, Query(query): Query<EventQuery>) -> Reply {
    app.published.models().session(ask.org(Action::EventsRead)?, ask.on)?;
    page(&app, ask.right.caller(), Scope::Session(ask.on), &query).await
}

async fn of_run(State(app): State<App>, ask: On<RunId>, Query(query): Query<EventQuery>) -> Reply {
    app.published.models().run(ask.org(Action::EventsRead)?, ask.on)?;
    page(&app, ask.right.caller(), Scope::Run(ask.on), &query).await
}

async fn page(app: &App, caller: &Caller, scope: Scope, query: &EventQuery) -> Reply {
    let filter = Arc::new(Filter { org: caller.organisation().to_owned(), scope });
    let (after, limit) = (query.after()?, query.limit()?);
    let end = app.published.feed().next_seq();
    if after.is_some_and(|after| after >= end) {
        return Err(Refusal::from(Reason::CursorAhead).into());
    }
    let from = after.map_or(0, |after| after + 1).max(app.published.beginning(&filter));
    let to = end.min(from.saturating_add(PAGE_LINES));
    let (items, next) = app.published.replay(&filter, (from, to), limit).await?;
    let sight = Sight::of(caller.role());
    let raw = |line: &[u8]| serde_json::from_slice(line).map_err(|_| Refusal::from(Reason::InternalError));
    let shown = items.iter().filter_map(|item| match sight.line(&item.line)? {
        Seen::Whole => Some(raw(&item.line)),
        Seen::Part(line) => Some(raw(&line)),
    });
    let items = shown.collect::<Result<_, Refusal>>()?;
    let next_cursor = (next < end).then(|| next.saturating_sub(1).to_string());
    ok(&EventPage { items, next_cursor })
}
